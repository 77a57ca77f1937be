"""Clocks to put on the stages of a tracker, and the count of what its backbone computes."""

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any
from unittest.mock import patch

from torch import Tensor, nn

from tracker.interface import Frame
from tracker.models.backbones import Features
from tracker.models.depthwise import DepthwiseConv2d
from tracker.models.siamese import SiameseNetwork
from tracker.runtime_torch import TorchRuntime
from tracker.siamese_tracker import SiameseTracker

Span = tuple[float, float]  # seconds: by the wall, and for which the thread had a core


class StageClock:
    """Add up the time of each stage of an update, without that of the stages inside it."""

    def __init__(self) -> None:
        """Start with nothing timed."""
        self.spent: dict[str, Span] = {}
        self._open: list[str] = []
        self._since = _now()

    def wrap(self, stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function, timed as part of a stage. It takes its arguments by position, as `update` gives them."""

        def timed(*args: object) -> object:
            self._charge()
            self._open.append(stage)
            try:
                return function(*args)
            finally:
                self._charge()
                self._open.pop()

        return timed

    def switch(self, stage: str) -> None:
        """Go on as another stage within the innermost call that is timed."""
        self._charge()
        self._open[-1] = stage

    def _charge(self) -> None:
        wall, cpu = _now()
        if self._open:
            before = self.spent.get(self._open[-1], (0.0, 0.0))
            self.spent[self._open[-1]] = before[0] + wall - self._since[0], before[1] + cpu - self._since[1]
        self._since = wall, cpu


def _now() -> Span:
    return time.perf_counter(), time.thread_time()


def span(function: Callable[[], object]) -> Span:
    """Return how long a call takes."""
    begin = _now()
    function()
    end = _now()
    return end[0] - begin[0], end[1] - begin[1]


@dataclass(frozen=True)
class BackboneWork:
    """Say what the backbone computes in an update; and of each member the first module that works on fine features."""

    boundaries: tuple[nn.Module, ...]
    fine_macs: int
    deep_macs: int


def network_of(follower: SiameseTracker) -> SiameseNetwork:
    """Return the network of a tracker that runs in torch."""
    assert isinstance(follower.localiser.runtime, TorchRuntime)
    return follower.localiser.runtime.network


def backbone_work(follower: SiameseTracker, frame: Frame) -> BackboneWork:
    """Update once and count the multiply-adds of the convolutions, before and after the fine features."""
    calls: list[tuple[nn.Module, Tensor, Tensor]] = []
    passes: list[tuple[int, Tensor]] = []  # which call is a backbone's first one, and its fine features
    backbones = network_of(follower).backbones
    with ExitStack() as undo:
        for backbone in backbones:
            undo.enter_context(patch.object(backbone, "features", partial(_noted, backbone.features, calls, passes)))
            for module in backbone.modules():
                if not list(module.children()):
                    hook = module.register_forward_hook(
                        lambda module, given, out: calls.append((module, given[0], out))
                    )
                    undo.callback(hook.remove)
        follower.update(frame)
    boundaries, fine_macs, deep_macs = [], 0, 0
    ends = [first for first, _ in passes[1:]] + [len(calls)]
    for (first, fine), end in list(zip(passes, ends, strict=True))[: len(backbones)]:  # without a second look
        own = calls[first:end]
        # What leaves the fine map the same tensor, such as a ReLU in place, is still part of making it.
        first_deep = next(i for i, (_, given, out) in enumerate(own) if given is fine and out is not fine)
        macs = [_multiply_adds(module, out) for module, _, out in own]
        boundaries.append(own[first_deep][0])
        fine_macs, deep_macs = fine_macs + sum(macs[:first_deep]), deep_macs + sum(macs[first_deep:])
    return BackboneWork(tuple(boundaries), fine_macs, deep_macs)


def _noted(
    compute: Callable[[Tensor], Features], calls: Sequence[object], passes: list[tuple[int, Tensor]], images: Tensor
) -> Features:
    """Return what a backbone computes, and note how many calls came before it, and its fine features."""
    first = len(calls)
    found = compute(images)
    passes.append((first, found.fine))
    return found


def _multiply_adds(module: nn.Module, out: Tensor) -> int:
    if not isinstance(module, nn.Conv2d | DepthwiseConv2d):
        return 0
    return out.numel() * module.weight[0].numel()  # each output takes one product a weight of its filter
