"""Run a network in torch, on the CPU or a GPU."""

from collections.abc import Sequence

import numpy as np
import torch

from tracker.interface import Frame
from tracker.models.graphs import BackboneGraph, CodeGraph, HeadGraph
from tracker.models.siamese import SiameseNetwork
from tracker.runtime import KEPT, Array, Code, Seen, stack


class TorchRuntime:
    """Run a network where its weights lie and in their number format."""

    def __init__(self, network: SiameseNetwork, hands_fine: bool = False) -> None:
        """Take the network, in evaluation mode.

        hands_fine: whether the fine features are handed on by themselves as well, as always without a head.
        """
        self.network = network
        self.stride = network.stride
        self.embeds = network.embedding is not None
        self.refines = network.refiner is not None
        self._kept = (*KEPT, "fine") if hands_fine or network.head is None else KEPT
        self._backbone = BackboneGraph(network)
        self._code = CodeGraph(network)
        self._head = HeadGraph(network)

    @torch.inference_mode()
    def encode(self, crop: Frame, size_wh: tuple[float, float]) -> Code:
        """Return the code of a template crop, see `runtime.Runtime`."""
        if self.network.head is None:
            return ()
        deep = self._backbone(self._images([crop]))[-2]
        return tuple(_array(part) for part in self._code(deep, torch.tensor([size_wh], device=deep.device)))

    @torch.inference_mode()
    def see(self, crops: Sequence[Frame], codes: Sequence[Code]) -> Seen:
        """Return what is seen in search crops, see `runtime.Runtime`."""
        found = dict(zip(self._backbone.outputs, self._backbone(self._images(crops)), strict=True))
        kept = {name: _array(found[name]) for name in self._kept if name in found}
        if self.network.head is None or not codes:
            return Seen(**kept)
        code = [torch.from_numpy(part).to(self.network.mean.device) for part in stack(codes)]
        answers = self._head(found["deep"], found["fine"], *code)
        return Seen(**kept, **{name: _array(part) for name, part in zip(self._head.outputs, answers, strict=True)})

    @torch.inference_mode()
    def embed(self, pooled: Array) -> Array:
        """Return the vectors of pooled features, see `runtime.Runtime`."""
        assert self.network.embedding is not None
        return _array(self.network.embedding(torch.from_numpy(pooled).to(self.network.mean.device)))

    @torch.inference_mode()
    def refine(self, template: Array, windows: Array) -> Array:
        """Return how the boxes of windows are to move, see `runtime.Runtime`."""
        assert self.network.refiner is not None
        device = self.network.mean.device
        return _array(self.network.refiner(*(torch.from_numpy(part).to(device) for part in (template, windows))))

    def _images(self, crops: Sequence[Frame]) -> torch.Tensor:
        return torch.from_numpy(np.stack(crops)).to(self.network.mean.device, non_blocking=True)


def _array(tensor: torch.Tensor) -> Array:
    # Channels come last in memory: what reads the array would turn it each time.
    array: Array = tensor.float().cpu().contiguous().numpy()
    return array
