"""How sure a tracker is: the chance that its box is on the object, from what answers and what the place looks like."""

import math
from dataclasses import dataclass, replace
from typing import NamedTuple

from tracker.config import ScoreConfig
from tracker.runtime import Array, Runtime, embed_box

_BoxUvwh = tuple[float, float, float, float]


class Evidence(NamedTuple):
    """Hold what the maps say of a place, each in [0, 1]."""

    alone: float  # the answer there, less the share that another place answers too
    head: float  # the overlap that the head expects, without the filter


@dataclass(frozen=True, slots=True)
class CertaintyState:
    """Hold what the target is known to look like, and how sure the last frames were."""

    mean: Array  # (D,), of the given box and the places that were trusted, norm 1
    recent: float  # mean of `Evidence.alone`, the older the less


class Judgement(NamedTuple):
    """Hold the verdict on a place."""

    score: float  # chance that the box overlaps the object by more than half
    similarity: float  # cosine of the place with the target's mean appearance
    embedding: Array  # (D,), of the place


class Certainty:
    """Judge places by logistic regression on the evidence; stateless beside its settings."""

    def __init__(self, runtime: Runtime, config: ScoreConfig) -> None:
        """Take the network, which must embed. Raises ValueError where it does not."""
        if not runtime.embeds:
            raise ValueError(
                "the table [score] needs a network with an embedding head: siamtrack train-verifier makes it"
            )
        self.runtime = runtime
        self.config = config

    def start(self, maps: Array, box_uvwh: _BoxUvwh) -> CertaintyState:
        """Return the state of an object in maps (C, h, w); box_uvwh: centre from the crop's middle and size, pixels."""
        return CertaintyState(embed_box(self.runtime, maps, box_uvwh), recent=1.0)

    def judge(self, state: CertaintyState, evidence: Evidence, maps: Array, box_uvwh: _BoxUvwh) -> Judgement:
        """Return how likely the place shows the object, the frames before it counting as they are known."""
        return self._judge(state, evidence, state.recent, (maps, box_uvwh))

    def judge_afresh(self, state: CertaintyState, evidence: Evidence, maps: Array, box_uvwh: _BoxUvwh) -> Judgement:
        """Return the same for a place elsewhere, of which the frames before say nothing."""
        return self._judge(state, evidence, evidence.alone, (maps, box_uvwh))

    def advanced(self, state: CertaintyState, evidence: Evidence, found: Judgement) -> CertaintyState:
        """Return the state after a frame; the appearance is learned where the place is trusted."""
        config = self.config
        recent = state.recent + config.rate * (evidence.alone - state.recent)
        if found.score < config.trust:
            return replace(state, recent=recent)
        mean = state.mean + config.appearance_rate * (found.embedding - state.mean)
        return replace(state, recent=recent, mean=mean / (mean @ mean) ** 0.5)

    def _judge(
        self, state: CertaintyState, evidence: Evidence, recent: float, place: tuple[Array, _BoxUvwh]
    ) -> Judgement:
        config = self.config
        embedding = embed_box(self.runtime, *place)
        similarity = float(state.mean @ embedding)
        logit = (
            config.bias
            + config.alone * evidence.alone
            + config.head * evidence.head
            + config.similarity * similarity
            + config.recent * recent
        )
        return Judgement((1 + math.tanh(logit / 2)) / 2, similarity, embedding)  # the logistic, without overflow
