"""Time the paths behind the two correlations on the shapes that trackers use.

    python -m benchmarks.correlation --threads 1 2

All paths of a case run in turn, call by call, after a warm-up, so that a machine's other work falls on all of them
alike. "to torch" is the ratio of the best times with as many threads: other work lengthens the median and p95 of long
calls more than those of short ones. "training" is forward and both gradients. Several threads say something on an idle
machine only: a core that somebody else uses makes each of them wait for the last.
"""

import argparse
import os
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from tracker.models.correlation import cross_correlation, depthwise_cross_correlation

Shape = tuple[int, int, int, int]
Correlate = Callable[[Tensor, Tensor], Tensor]

SIAMFC_SCALES = (1, 256, 6, 6), (3, 256, 22, 22)
INFERENCE: tuple[tuple[Shape, Shape], ...] = (
    ((1, 256, 6, 6), (1, 256, 22, 22)),
    SIAMFC_SCALES,
    ((3, 256, 6, 6), (3, 256, 22, 22)),
    ((1, 256, 1, 1), (1, 256, 1, 1)),
    ((1, 3, 31, 31), (1, 3, 63, 63)),
)
DEPTHWISE_INFERENCE: tuple[tuple[Shape, Shape], ...] = (
    ((1, 256, 5, 5), (1, 256, 25, 25)),
    ((1, 256, 5, 5), (1, 256, 29, 29)),
    ((1, 256, 8, 8), (1, 256, 31, 31)),
    ((1, 256, 5, 5), (3, 256, 29, 29)),
)
TRAINING: tuple[tuple[Shape, Shape], ...] = (((8, 256, 6, 6), (8, 256, 22, 22)), ((32, 256, 6, 6), (32, 256, 22, 22)))
DEPTHWISE_TRAINING: tuple[tuple[Shape, Shape], ...] = (
    ((8, 256, 5, 5), (8, 256, 29, 29)),
    ((32, 256, 5, 5), (32, 256, 29, 29)),
)


@dataclass(frozen=True)
class Case:
    """One operation on one pair of maps."""

    depthwise: bool
    template: Shape
    search: Shape
    dtype: torch.dtype
    channels_last: bool
    training: bool

    def maps(self) -> tuple[Tensor, Tensor]:
        """Return seeded maps that ask for gradients in training."""
        torch.manual_seed(0)
        layout = torch.channels_last if self.channels_last else torch.contiguous_format
        template, search = (
            torch.randn(shape).to(self.dtype).contiguous(memory_format=layout).requires_grad_(self.training)
            for shape in (self.template, self.search)
        )
        return template, search

    def paths(self) -> dict[str, Correlate]:
        """Return what competes for this case."""
        correlate = depthwise_cross_correlation if self.depthwise else cross_correlation
        half = self.dtype == torch.bfloat16
        paths: dict[str, Correlate] = {"torch": partial(correlate, backend="torch")}
        if not self.depthwise:
            paths["grouped convolution"] = grouped_convolution
        if not half:
            paths["numba"] = partial(correlate, backend="numba")
        elif self.depthwise and self.training:
            paths["auto (numba in float32)"] = correlate
        return paths

    def label(self) -> str:
        """Return the cells that say what is timed."""
        return " | ".join(
            (
                "depthwise" if self.depthwise else "full",
                "training" if self.training else "inference",
                f"{self.template} on {self.search}",
                str(self.dtype).removeprefix("torch."),
                "channels_last" if self.channels_last else "contiguous",
            )
        )


def grouped_convolution(template: Tensor, search: Tensor) -> Tensor:
    """Correlate over all channels as the SiamFC codes do: the rival that the matrix product has to beat."""
    if template.shape[0] == 1:
        return F.conv2d(search, template)
    samples = search.contiguous().flatten(0, 1).unsqueeze(0)
    return F.conv2d(samples, template, groups=search.shape[0]).transpose(0, 1)


def cases() -> Iterator[Case]:
    """Yield every operation, shape, type and memory format, inference before training."""
    for training, groups in ((False, (INFERENCE, DEPTHWISE_INFERENCE)), (True, (TRAINING, DEPTHWISE_TRAINING))):
        for depthwise, shapes in enumerate(groups):
            for template, search in shapes:
                for dtype, channels_last in ((torch.float32, False), (torch.float32, True), (torch.bfloat16, True)):
                    yield Case(bool(depthwise), template, search, dtype, channels_last, training)


def seconds(correlate: Correlate, template: Tensor, search: Tensor) -> float:
    """Return how long one call takes, with both gradients where the maps ask for them."""
    template.grad = search.grad = None
    with torch.set_grad_enabled(template.requires_grad):
        start = time.perf_counter()
        response = correlate(template, search)
        if response.requires_grad:
            response.sum().backward()
        return time.perf_counter() - start


def rows(case: Case, threads: Sequence[int], budget_s: float) -> Iterator[str]:
    """Yield one table row a path and thread count; their calls take turns until the budget is spent."""
    template, search = case.maps()
    runs = [(name, count, path, []) for count in threads for name, path in case.paths().items()]
    deadline: float | None = None
    rounds = 0
    while deadline is None or rounds < 6 or (time.perf_counter() < deadline and rounds < 500):
        for _, count, path, times in runs:
            torch.set_num_threads(count)
            seconds(path, template, search)  # unmeasured: wakes this path's threads, fills its caches
            times.append(seconds(path, template, search))
        rounds += 1
        if deadline is None:  # the first round compiles and allocates
            deadline = time.perf_counter() + budget_s
            for *_, times in runs:
                times.clear()
    torch_best = {count: min(times) for name, count, _, times in runs if name == "torch"}
    for name, count, _, times in runs:
        best, median, p95 = np.percentile(times, (0, 50, 95)) * 1e6
        ratio = best / 1e6 / torch_best[count]
        yield f"| {case.label()} | {name} | {count} | {best:.0f} | {median:.0f} | {p95:.0f} | {ratio:.2f} |"


def machine() -> str:
    """Return the processor, its cores and the versions that the figures hold for."""
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = info.read_text(encoding="utf-8").splitlines()
        model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), model)
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "numba", "numpy"))
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    return f"{model}, {os.cpu_count()} cores, load {load:.1f} at the start; {packages}."


def main() -> None:
    """Print the table; write it too where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, nargs="+", default=[1], help="torch thread counts to time (default: 1)")
    parser.add_argument("--seconds", type=float, default=3.0, help="time for each case (default: 3)")
    parser.add_argument("--out", type=Path, help="also write the table to this file")
    arguments = parser.parse_args()
    written = []

    def say(line: str) -> None:
        print(line, flush=True)
        written.append(line)

    say("# Cross-correlation\n")
    say("Written by `python -m benchmarks.correlation --out benchmarks/correlation.md`, which says how to read it.\n")
    say(f"{machine()}\n")
    words = "operation | use | template on search | dtype | layout | path"
    say(f"| {words} | threads | best us | median us | p95 us | to torch |")
    say("|" + "---|" * 6 + "---:|" * 5)
    for case in cases():
        for row in rows(case, arguments.threads, arguments.seconds):
            say(row)
    if arguments.out:
        arguments.out.write_text("\n".join(written) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
