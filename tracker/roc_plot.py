"""Draw ROC curves."""

from collections.abc import Mapping
from pathlib import Path

from tracker.verification import RocCurve, area

_LEAST = 1e-4  # of the logarithmic axis: fewer false accepts than that are seldom measured


def write_roc(curves: Mapping[str, RocCurve], out: Path) -> None:
    """Write a picture of named curves, false accepts on a logarithmic axis.

    Raises ValueError where matplotlib is not installed or does not know the file's ending, and OSError where the file
    cannot be written.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ValueError("plots need matplotlib: pip install 'siamtrack[eval]'") from error
    figure = Figure(figsize=(6, 5), layout="constrained")  # no pyplot: it needs no display and leaves nothing behind
    axes = figure.subplots()
    for name, curve in curves.items():
        shown = curve.false_accepts.clip(_LEAST)
        axes.plot(shown, curve.true_accepts, drawstyle="steps-post", label=f"{name}: AUC {area(curve):.4f}")
    axes.set_xscale("log")
    axes.set_xlim(_LEAST, 1)
    axes.set_ylim(0, 1.01)
    axes.set_xlabel("different pairs accepted")
    axes.set_ylabel("same pairs accepted")
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")
    figure.savefig(out, dpi=120)
