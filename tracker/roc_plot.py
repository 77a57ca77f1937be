"""Draw ROC curves."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from tracker.verification import RocCurve, area
from tracker.whole_file import check_folder

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_LEAST = 1e-4  # of the logarithmic axis: fewer false accepts than that are seldom measured


def check_plot(out: Path) -> None:
    """Raise ValueError where no plot can be written: said before hours are spent on what it is to show."""
    check_folder(out)
    known = _new_figure().canvas.get_supported_filetypes()
    if out.suffix and out.suffix[1:].lower() not in known:
        raise ValueError(f"cannot plot {out}: its ending must be one of {', '.join(known)}")


def write_roc(curves: Mapping[str, RocCurve], out: Path) -> None:
    """Write a picture of named curves, false accepts on a logarithmic axis.

    Raises ValueError where matplotlib is not installed or does not know the file's ending, and OSError where the file
    cannot be written.
    """
    figure = _new_figure()
    axes = figure.subplots()
    lines = [
        axes.plot(curve.false_accepts.clip(_LEAST), curve.true_accepts, drawstyle="steps-post")[0]
        for curve in curves.values()
    ]
    axes.set_xscale("log")
    axes.set_xlim(_LEAST, 1)
    axes.set_ylim(0, 1.01)
    axes.set_xlabel("different pairs accepted")
    axes.set_ylabel("same pairs accepted")
    axes.grid(alpha=0.3)
    labels = [f"{name}: AUC {area(curve):.4f}" for name, curve in curves.items()]
    legend = axes.legend(lines, labels, loc="lower right")  # of lines with labels it leaves out those that begin with _
    for text in legend.get_texts():
        text.set_parse_math(False)  # the $ of a file's name begins no formula
    figure.savefig(out, dpi=120)


def _new_figure() -> "Figure":
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ValueError("plots need matplotlib: pip install 'siamtrack[eval]'") from error
    return Figure(figsize=(6, 5), layout="constrained")  # no pyplot: it needs no display and leaves nothing behind
