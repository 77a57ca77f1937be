"""What the training of an encoder minimises: a Siamese encoder and a batch of labelled samples in, one loss out."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tracker.data.batches import LabelledBatch
from tracker.models.encoders import Metric, Sequences, SiameseEncoder, l2_similarity
from tracker.training.metric_losses import contrastive_loss, similarity_loss
from tracker.training.mining import draw_pairs

Loss = Callable[[Tensor, Tensor, int], Tensor]  # of embeddings (N, D), labels (N,) and a seed for what it draws


def metric_objective(
    loss: Loss, sequential: bool, autocast_dtype: torch.dtype | None
) -> Callable[[nn.Module, LabelledBatch], Tensor]:
    """Return the objective of a loss; the encoder runs in `autocast_dtype`, None for float32, the loss in float32."""

    def objective(network: nn.Module, found: LabelledBatch) -> Tensor:
        assert isinstance(network, SiameseEncoder)
        device = next(network.parameters()).device
        values, lengths, labels = (part[0].to(device) for part in found[:3])  # the loader's leading 1
        with torch.autocast(device.type, autocast_dtype, enabled=autocast_dtype is not None):
            embeddings = embed(network, values, lengths, sequential)
        return loss(embeddings, labels, int(found.seed[0]))

    return objective


def embed(network: SiameseEncoder[Any], values: Tensor, lengths: Tensor, sequential: bool) -> Tensor:
    """Return float32 embeddings (N, D) of pictures (N, C, S, S), or of sequences and clips (N, T, ...)."""
    return network.embed(Sequences(values, lengths) if sequential else values).float()


def contrastive_of_pairs(pairs: int, margin: float) -> Loss:
    """Return the contrastive loss of pairs drawn of each batch, half of them the same."""

    def loss(embeddings: Tensor, labels: Tensor, seed: int) -> Tensor:
        first, second, same = draw_pairs(labels.cpu(), pairs, np.random.default_rng(seed))
        gaps = -l2_similarity(embeddings[first], embeddings[second])
        return contrastive_loss(gaps, same.to(gaps), margin, one_means="same")

    return loss


def cross_entropy_of_pairs(pairs: int, metric: Metric) -> Loss:
    """Return the cross-entropy of a learned similarity of pairs drawn of each batch, half of them the same."""

    def loss(embeddings: Tensor, labels: Tensor, seed: int) -> Tensor:
        first, second, same = draw_pairs(labels.cpu(), pairs, np.random.default_rng(seed))
        return similarity_loss(metric(embeddings[first], embeddings[second]), same.to(embeddings.device))

    return loss
