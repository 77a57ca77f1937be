import math
from dataclasses import replace

import numpy as np
import pytest

from tracker.certainty import Certainty, Evidence
from tracker.config import ScoreConfig
from tracker.runtime import Array

CONFIG = ScoreConfig(
    bias=-3.0, alone=4.0, head=1.0, similarity=2.0, recent=1.5, rate=0.25, trust=0.5, appearance_rate=0.2
)
BOX = (0.0, 0.0, 48.0, 48.0)
SURE = Evidence(alone=0.9, head=0.8)
DOUBTFUL = Evidence(alone=0.1, head=0.1)


class MeanRuntime:
    """Embed an object as the direction of its mean features."""

    stride = 16
    embeds = True

    def embed(self, pooled: Array) -> Array:
        means = pooled.mean(axis=(2, 3))
        return means / np.linalg.norm(means, axis=1, keepdims=True)


class BlindRuntime(MeanRuntime):
    embeds = False


def maps(*features: float) -> Array:
    return np.broadcast_to(np.array(features, np.float32)[:, None, None], (len(features), 9, 9)).copy()


def make(config: ScoreConfig = CONFIG) -> Certainty:
    return Certainty(MeanRuntime(), config)  # type: ignore[arg-type]


def test_score_is_the_logistic_of_the_weighed_evidence() -> None:
    certainty = make()
    state = certainty.start(maps(1, 0), BOX)._replace(recent=0.6)
    found = certainty.judge(state, Evidence(0.5, 0.7), maps(3, 4), BOX)
    assert found.similarity == pytest.approx(0.6)
    logit = -3.0 + 4.0 * 0.5 + 1.0 * 0.7 + 2.0 * 0.6 + 1.5 * 0.6
    assert found.score == pytest.approx(1 / (1 + math.exp(-logit)))
    assert found.embedding == pytest.approx([0.6, 0.8])


def test_elsewhere_the_frames_before_say_nothing() -> None:
    certainty = make()
    state = certainty.start(maps(1, 0), BOX)
    assert state.recent == 1.0
    here = certainty.judge(state, DOUBTFUL, maps(1, 0), BOX)
    afresh = certainty.judge_afresh(state, DOUBTFUL, maps(1, 0), BOX)
    logits = [math.log(one.score / (1 - one.score)) for one in (here, afresh)]
    assert logits[0] - logits[1] == pytest.approx(1.5 * (1.0 - 0.1))


def test_appearance_is_learned_where_the_place_is_trusted_alone() -> None:
    certainty = make()
    state = certainty.start(maps(1, 0), BOX)
    sure = certainty.judge(state, SURE, maps(0, 1), BOX)
    assert sure.score > CONFIG.trust
    after = certainty.advanced(state, SURE, sure)
    assert after.mean == pytest.approx(np.array([0.8, 0.2]) / math.hypot(0.8, 0.2))
    assert after.recent == pytest.approx(1.0 + 0.25 * (0.9 - 1.0))
    doubtful = certainty.judge(state, DOUBTFUL, maps(0, 1), BOX)
    assert doubtful.score < CONFIG.trust
    after = certainty.advanced(state, DOUBTFUL, doubtful)
    assert after.mean is state.mean
    assert after.recent == pytest.approx(1.0 + 0.25 * (0.1 - 1.0))


def test_a_place_is_embedded_every_third_frame_and_where_it_is_in_doubt() -> None:
    certainty = make(replace(CONFIG, embed_every=3, embed_below=0.8))
    state = certainty.start(maps(1, 0), BOX)
    embedded, similarities = [], []
    for evidence, shown in [(SURE, maps(3, 4))] * 5 + [(DOUBTFUL, maps(0, 1)), (DOUBTFUL, maps(0, 1))]:
        found = certainty.judge(state, evidence, shown, BOX)
        embedded.append(found.embedding is not None)
        similarities.append(found.similarity)
        state = certainty.advanced(state, evidence, found)
    # The first frame's own similarity holds for two frames, that of the third for two more; a doubt is looked into.
    assert embedded == [False, False, True, False, False, True, True]
    assert similarities[:2] == [1.0, 1.0] and similarities[2:5] == [pytest.approx(0.6)] * 3
    assert similarities[5] < 0.6


def test_a_place_that_was_found_again_is_embedded_at_once() -> None:
    certainty = make(replace(CONFIG, embed_every=3, embed_below=0.0))
    state = certainty.start(maps(1, 0), BOX)
    assert certainty.judge(state, SURE, maps(0, 1), BOX).embedding is None
    assert certainty.judge(certainty.elsewhere(state), SURE, maps(0, 1), BOX).embedding is not None


def test_elsewhere_every_place_is_embedded() -> None:
    certainty = make(replace(CONFIG, embed_every=3, embed_below=0.0))
    state = certainty.start(maps(1, 0), BOX)
    assert certainty.judge_afresh(state, SURE, maps(0, 1), BOX).embedding is not None


def test_scores_stay_in_range_for_any_evidence() -> None:
    certainty = make(replace(CONFIG, bias=-800.0, alone=1600.0))
    state = certainty.start(maps(1, 0), BOX)
    for alone in (0.0, 1.0):
        assert 0 <= certainty.judge(state, Evidence(alone, 0.0), maps(1, 0), BOX).score <= 1


def test_frames_between_two_embeddings_are_counted_from_one() -> None:
    with pytest.raises(ValueError, match="score.embed_every must be 1 frame or more, got 0"):
        make(replace(CONFIG, embed_every=0))


def test_a_network_that_does_not_embed_is_refused() -> None:
    with pytest.raises(ValueError, match="train-verifier"):
        Certainty(BlindRuntime(), CONFIG)  # type: ignore[arg-type]
