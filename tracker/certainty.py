"""How sure a tracker is: the chance that its box is on the object, from what answers and what the place looks like."""

import math
from typing import NamedTuple

from tracker.config import ScoreConfig
from tracker.decode import BoxUVWH
from tracker.runtime import Array, Runtime, embed_box


class Evidence(NamedTuple):
    """Hold what the maps say of a place, each in [0, 1]."""

    alone: float  # the answer there, less the share that another place answers too
    head: float  # the overlap that the head expects, without the filter


class CertaintyState(NamedTuple):
    """Hold what the target is known to look like, and how sure the last frames were."""

    mean: Array  # (D,), of the given box and the places that were trusted, norm 1
    recent: float  # mean of `Evidence.alone`, the older the less
    similarity: float = 1.0  # of the place that was embedded last
    age: int = 0  # frames since then


class Judgement(NamedTuple):
    """Hold the verdict on a place."""

    score: float  # chance that the box overlaps the object by more than half
    similarity: float  # cosine of the place with the target's mean appearance
    embedding: Array | None  # (D,), of the place; None where it was not embedded


class Certainty:
    """Judge places by logistic regression on the evidence; stateless beside its settings."""

    def __init__(self, runtime: Runtime, config: ScoreConfig) -> None:
        """Take the network, which must embed. Raises ValueError where it does not, and for frames that are none."""
        if not runtime.embeds:
            raise ValueError(
                "the table [score] needs a network with an embedding head: siamtrack train-verifier makes it"
            )
        if config.embed_every < 1:
            raise ValueError(f"score.embed_every must be 1 frame or more, got {config.embed_every}")
        self.runtime = runtime
        self.config = config

    def start(self, maps: Array, box_uvwh: BoxUVWH) -> CertaintyState:
        """Return the state of an object in maps (C, h, w); box_uvwh: centre from the crop's middle and size, pixels."""
        return CertaintyState(embed_box(self.runtime, maps, box_uvwh), recent=1.0)

    def judge(self, state: CertaintyState, evidence: Evidence, maps: Array, box_uvwh: BoxUVWH) -> Judgement:
        """Return how likely the place shows the object, the frames before it counting as they are known.

        A place that is likely by the similarity of a frame shortly before is not embedded again.
        """
        if state.age + 1 < self.config.embed_every:
            kept = self._chance(evidence, state.recent, state.similarity)
            if kept >= self.config.embed_below:
                return Judgement(kept, state.similarity, None)
        return self._judge(state, evidence, state.recent, (maps, box_uvwh))

    def elsewhere(self, state: CertaintyState) -> CertaintyState:
        """Return the state for a place that was found again: it is embedded, whatever another place looked like."""
        return state._replace(age=self.config.embed_every)

    def judge_afresh(self, state: CertaintyState, evidence: Evidence, maps: Array, box_uvwh: BoxUVWH) -> Judgement:
        """Return the same for a place elsewhere, of which the frames before say nothing."""
        return self._judge(state, evidence, evidence.alone, (maps, box_uvwh))

    def advanced(self, state: CertaintyState, evidence: Evidence, found: Judgement) -> CertaintyState:
        """Return the state after a frame; the appearance is learned where the place is trusted."""
        config = self.config
        recent = state.recent + config.rate * (evidence.alone - state.recent)
        if found.embedding is None:
            return state._replace(recent=recent, age=state.age + 1)
        mean = state.mean
        if found.score >= config.trust:
            mean = mean + config.appearance_rate * (found.embedding - mean)
            mean = mean / (mean @ mean) ** 0.5
        return CertaintyState(mean, recent, found.similarity)

    def _judge(
        self, state: CertaintyState, evidence: Evidence, recent: float, place: tuple[Array, BoxUVWH]
    ) -> Judgement:
        embedding = embed_box(self.runtime, *place)
        similarity = float(state.mean @ embedding)
        return Judgement(self._chance(evidence, recent, similarity), similarity, embedding)

    def _chance(self, evidence: Evidence, recent: float, similarity: float) -> float:
        config = self.config
        logit = (
            config.bias
            + config.alone * evidence.alone
            + config.head * evidence.head
            + config.similarity * similarity
            + config.recent * recent
        )
        return (1 + math.tanh(logit / 2)) / 2  # the logistic, without overflow
