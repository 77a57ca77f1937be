"""Run a network in torch, on the CPU or a GPU."""

from collections.abc import Sequence

import numpy as np
import torch

from tracker.interface import Frame
from tracker.models.graphs import SearchGraph, TemplateGraph
from tracker.models.siamese import SiameseNetwork
from tracker.runtime import Array, Code, Seen


class TorchRuntime:
    """Run the branches of a network where its weights lie and in their number format."""

    def __init__(self, network: SiameseNetwork, fine_weight: float) -> None:
        """Take the network, in evaluation mode, and the weight of the fine features in the filter's maps."""
        self.network = network
        self.fine_weight = fine_weight
        self.stride = network.stride
        self._template = TemplateGraph(network)
        self._search = SearchGraph(network, fine_weight)

    @torch.inference_mode()
    def encode(self, crop: Frame, size_wh: tuple[float, float]) -> Code:
        """Return the code of a template crop, see `runtime.Runtime`."""
        if self.network.head is None:
            return ()
        size = torch.tensor([size_wh], dtype=torch.float32, device=self.network.mean.device)
        return tuple(_array(part) for part in self._template(self._images([crop]), size))

    @torch.inference_mode()
    def see(self, crops: Sequence[Frame], codes: Sequence[Code]) -> Seen:
        """Return what is seen in search crops, see `runtime.Runtime`."""
        device = self.network.mean.device
        code = [torch.from_numpy(stacked).to(device) for stacked in stack(codes)]
        maps, *rest = (_array(part) for part in self._search(self._images(crops), *code))
        return Seen(maps, None, *rest) if code else Seen(maps, *rest)

    def _images(self, crops: Sequence[Frame]) -> torch.Tensor:
        return torch.from_numpy(np.stack(crops)).to(self.network.mean.device, non_blocking=True)


def stack(codes: Sequence[Code]) -> list[Array]:
    """Return the parts of the codes of several crops, each as one array; a code that all share is not copied."""
    if not codes or all(code is codes[0] for code in codes):
        return [*codes[0]] if codes else []
    return [np.concatenate(parts) for parts in zip(*codes, strict=True)]


def _array(tensor: torch.Tensor) -> Array:
    array: Array = tensor.float().cpu().numpy()
    return array
