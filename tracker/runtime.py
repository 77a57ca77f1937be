"""What the tracking loop wants of a network, whatever computes it: NumPy arrays in and out."""

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from tracker.interface import Frame
from tracker.pooling import pool_box

FINE_STRIDE = 8  # of the fine features and an anchor head's maps, pixels: that of `models.backbones`

KEPT = ("maps", "narrow", "outline")  # outputs of the backbone that are handed on; only the first all have

Array = NDArray[np.floating[Any]]
Code = tuple[Array, ...]  # what a head needs of a template, each with a leading 1; empty for a network without a head


class Seen(NamedTuple):
    """Hold what a network sees in N search crops, float32; it has the parts that its localiser reads."""

    maps: Array  # (N, C, h, w), fine and deep features together
    fine: Array | None = None  # (N, c, H, W), stride 8, for a model that corrects boxes on them
    scores: Array | None = None  # (N, a, a): SiamFC's logits, or the overlaps that an anchor head expects, in [0, 1]
    boxes: Array | None = None  # (N, 4, a, a): (u, v) less the crop's middle and (w, h), crop pixels
    narrow: Array | None = None  # (N, d, h, w), of the maps what the online filter was trained to read
    outline: Array | None = None  # (N, c, H, W), stride 8, what the refiner samples windows from

    @property
    def filtered(self) -> Array:
        """The maps for the online filter."""
        return self.maps if self.narrow is None else self.narrow

    def part(self, first: int, count: int) -> "Seen":
        """Return what was seen in some of the crops."""
        if count == len(self.maps):
            return self
        rest = (None if part is None else part[first : first + count] for part in self[1:])
        return Seen(self.maps[first : first + count], *rest)


class Runtime(Protocol):
    """Run the two branches of a Siamese network."""

    stride: int  # of the deep features, pixels
    embeds: bool  # whether `embed` is there to be called
    refines: bool  # whether `refine` is

    def encode(self, crop: Frame, size_wh: tuple[float, float]) -> Code:
        """Return the code of a template crop (T, T, 3), in whose middle lies an object of that size, crop pixels."""

    def see(self, crops: Sequence[Frame], codes: Sequence[Code]) -> Seen:
        """Return what is seen in search crops (S, S, 3); without codes, else one a crop, `scores` and `boxes` too."""

    def embed(self, pooled: Array) -> Array:
        """Return unit vectors (N, D) of features (N, C, n, n) pooled from the maps by `pooling.pool_box`."""

    def refine(self, template: Array, windows: Array) -> Array:
        """Return the moves (M, 4) that windows (M, c, n, n) ask for, each beside that of its template, (M, c, n, n)."""


def embed_box(runtime: Runtime, maps: Array, box_uvwh: tuple[float, float, float, float]) -> Array:
    """Return the unit vector (D,) of what a box marks in maps (C, h, w), see `pooling.pool_box`."""
    vector: Array = runtime.embed(pool_box(maps, box_uvwh, runtime.stride)[np.newaxis])[0]
    return vector


def stack(codes: Sequence[Code]) -> list[Array]:
    """Return the parts of the codes of several crops, each as one array; a code that all share stays as it is."""
    first = codes[0]
    if all(code is first for code in codes):
        return [*first]
    return [np.concatenate(parts) for parts in zip(*codes, strict=True)]
