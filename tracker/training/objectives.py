"""What training minimises: a network and a batch of pairs in, one loss out."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from tracker.data.pairs import Pairs
from tracker.models.siamese import SiameseNetwork
from tracker.training.losses import balanced_logistic_loss
from tracker.training.targets import response_labels


def siamfc_objective(
    stride: int, label_radius: float, autocast_dtype: torch.dtype | None
) -> Callable[[nn.Module, Pairs], Tensor]:
    """Return the objective of SiamFC: the balanced logistic loss of the response map.

    stride: of the backbone, pixels. label_radius: pixels. autocast_dtype: for the backbone alone; the correlation and
    the loss stay in float32.
    """

    def objective(network: nn.Module, pairs: Pairs) -> Tensor:
        assert isinstance(network, SiameseNetwork)
        n, k = pairs.positive.shape
        device = next(network.parameters()).device
        with torch.autocast(device.type, autocast_dtype, enabled=autocast_dtype is not None):
            template = network.embed(pairs.template.to(device))
            search = network.embed(pairs.searches.to(device).flatten(0, 1))
        template = template.float().repeat_interleave(k, dim=0)  # (N * K, C, a, b)
        with torch.autocast(device.type, enabled=False):
            logits = network(template, search)
        labels = response_labels(
            pairs.centres.reshape(n * k, 2), pairs.positive.reshape(n * k), logits.shape[-1], stride, label_radius
        )
        return balanced_logistic_loss(logits, labels.to(device))

    return objective
