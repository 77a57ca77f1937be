"""Track the demo clip that comes with the package, as a user would, and score the boxes against the truth.

Writes demo/demo.mp4 and demo/boxes.csv. Exit status: 0, 1 if the mean IoU is below the floor, else that of
`siamtrack track`.
"""

import csv
import shlex
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import tracker
from tracker.cli import main as siamtrack
from tracker.metrics import score_track

ASSETS = Path(tracker.__file__).parent / "assets"
OUT = Path("demo")
FLOOR = 0.6  # mean IoU; OpenCV's MIL tracker, which keeps the first box's size, reaches 0.55 to 0.58


def read_boxes(path: Path) -> NDArray[np.float64]:
    """Return the columns x, y, w, h of a box file, shape (n, 4)."""
    with path.open(newline="", encoding="utf-8") as file:
        return np.array([[float(row[name]) for name in "xywh"] for row in csv.DictReader(file)])


def main() -> int:
    """Run the command, print it and its scores, and return the exit status."""
    truth = read_boxes(ASSETS / "demo_boxes.csv")
    OUT.mkdir(exist_ok=True)
    video, boxes = OUT / "demo.mp4", OUT / "boxes.csv"
    command = ["track", str(ASSETS / "demo.mp4"), "--init", ",".join(f"{value:g}" for value in truth[0])]
    command += ["--save", str(video), "--boxes", str(boxes)]
    print("$ siamtrack", shlex.join(command))
    status = siamtrack(command)
    if status != 0:
        return status
    score = score_track(read_boxes(boxes)[1:], truth[1:])  # the first box was given
    verdict = "as it should be" if score.ao >= FLOOR else f"below the floor of {FLOOR}: something is wrong"
    print(
        f"mean IoU {score.ao:.3f}, {verdict}; success AUC {score.success_auc:.3f}, precision@20px {score.precision:.3f}"
    )
    print(f"watch    {video}")
    return 0 if score.ao >= FLOOR else 1


if __name__ == "__main__":
    sys.exit(main())
