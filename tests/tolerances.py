"""How far a result may lie from its truth: the one table of all tests."""

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

Kind = Literal["float64", "float32", "cuda", "geometry_px", "crop_px", "half_centre_px", "half_size", "half_direction"]

TOLERANCES: dict[Kind, float] = {
    # Relative to the largest magnitude of the reference.
    "float64": 1e-10,  # against a plain loop
    "float32": 1e-5,  # on a CPU
    "cuda": 1e-4,  # float32 without TF32
    # bfloat16, float16 and int8 are held to the decisions they lead to, not to numbers.
    "half_size": 0.02,  # of a box
    "half_direction": 1e-3,  # of a gradient: 1 - its cosine with the truth
    "half_centre_px": 1.0,  # of a box
    # In pixels.
    "geometry_px": 1e-9,  # there and back again
    "crop_px": 0.05,  # an image whose value is its coordinate
}
_IN_PIXELS = ("half_centre_px", "geometry_px", "crop_px")


def assert_close(actual: ArrayLike, reference: ArrayLike, kind: Kind) -> None:
    """Fail unless the shapes agree and every value is within the table's tolerance of its reference."""
    values, truth = np.asarray(actual, dtype=np.float64), np.asarray(reference, dtype=np.float64)
    assert values.shape == truth.shape, f"shape {values.shape}, expected {truth.shape}"
    if truth.size == 0:
        return
    scale = 1.0 if kind in _IN_PIXELS else float(np.abs(truth).max())
    error = float(np.abs(values - truth).max())
    # Written so that a NaN fails.
    assert error <= TOLERANCES[kind] * scale, f"off by {error:.3g}, allowed {TOLERANCES[kind]:g} x {scale:.3g} ({kind})"
