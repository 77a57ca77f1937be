"""Encoders: anything in, one vector of norm 1 out; and what says of two vectors how much they are the same.

A Siamese pair is one encoder called on both sides. Similarities grow with likeness, whatever the metric.
"""

from collections.abc import Callable
from typing import Generic, NamedTuple, TypeVar

import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn
from torch.nn.functional import conv1d, normalize
from torch.nn.utils.rnn import pack_padded_sequence

Inputs = TypeVar("Inputs")
Metric = Callable[[Tensor, Tensor], Tensor]


class Sequences(NamedTuple):
    """Hold N sequences of up to T steps; what comes after the length of one is padding and without effect."""

    values: Tensor  # (N, T, C)
    lengths: Tensor  # (N,), from 1 to T


class SiameseEncoder(nn.Module, Generic[Inputs]):
    """Embed both sides with one encoder and compare the embeddings with one metric.

    The encoder may be any callable that takes a batch and gives N vectors, tensor or array, such as the `encode` of a
    sentence-transformers model, which takes a list of texts. The metric takes vectors (..., D) that broadcast.
    """

    def __init__(self, encoder: Callable[[Inputs], ArrayLike | Tensor], metric: Metric) -> None:
        super().__init__()
        self.encoder = encoder
        self.metric = metric

    def embed(self, inputs: Inputs) -> Tensor:
        """Return embeddings (N, D) of norm 1. Raises ValueError for an encoder that gives anything but N vectors."""
        found = torch.as_tensor(self.encoder(inputs))
        if found.ndim != 2 or not found.is_floating_point():
            raise ValueError(f"an encoder must give vectors (N, D) of floats, got {found.dtype} {tuple(found.shape)}")
        return _unit(found)

    def forward(self, a: Inputs, b: Inputs) -> Tensor:
        """Return the similarity (N,) of each of a to its partner in b."""
        return self.metric(self.embed(a), self.embed(b))


def l1_similarity(a: Tensor, b: Tensor) -> Tensor:
    """Return minus the sum of absolute differences (...,) of vectors (..., D)."""
    return -(a - b).abs().sum(-1)


def l2_similarity(a: Tensor, b: Tensor) -> Tensor:
    """Return minus the Euclidean distance (...,) of vectors (..., D)."""
    return -(a - b).square().sum(-1).clamp(min=1e-12).sqrt()  # equal vectors have a gradient of 0


def cosine_similarity(a: Tensor, b: Tensor) -> Tensor:
    """Return the product (...,) of vectors (..., D) of norm 1.

    It is the tracker's cross-correlation of the two as maps of 1x1 cells: telling whether two pictures show the same is
    tracking without a place to look for.
    """
    return (a * b).sum(-1)


class WeightedL1(nn.Module):
    """Return a logit (...,), linear in the absolute differences of two vectors (Koch et al. 2015, section 3.1)."""

    def __init__(self, dimensions: int) -> None:
        super().__init__()
        self.weigh = nn.Linear(dimensions, 1)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Compare vectors (..., D) that broadcast."""
        logits: Tensor = self.weigh((a - b).abs())
        return logits.squeeze(-1)


class RelationHead(nn.Module):
    """Return a learned similarity, a logit (...,), of two vectors (Sung et al. 2018, section 3.2).

    There the two are joined end to end. Here both orders are read and their mean is taken, so that a is to b what b is
    to a.
    """

    def __init__(self, dimensions: int, hidden: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(2 * dimensions, hidden), nn.ReLU(), nn.Linear(hidden, 1))

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Compare vectors (..., D) that broadcast."""
        a, b = torch.broadcast_tensors(a, b)  # type: ignore[no-untyped-call]
        both: Tensor = self.layers(torch.cat([a, b], dim=-1)) + self.layers(torch.cat([b, a], dim=-1))
        return both.squeeze(-1) / 2


class CharacterCNN(nn.Module):
    """Embed small pictures of characters or digits (N, C, S, S), 0..255, background 0.

    Three halvings, then all cells are read together: where a stroke lies says which character it is.
    """

    def __init__(self, size: int, channels: int, width: int, dimensions: int) -> None:
        """Build for pictures of size x size; `width` is the number of features at the finest scale."""
        super().__init__()
        if size < 8:
            raise ValueError(f"pictures must be at least 8 pixels a side to be halved three times, got {size}")
        self.size = size
        self.layers = nn.Sequential(
            *_block(channels, width),
            nn.MaxPool2d(2),
            *_block(width, 2 * width),
            nn.MaxPool2d(2),
            *_block(2 * width, 2 * width),
            *_block(2 * width, 4 * width),
            nn.MaxPool2d(2),
            *_block(4 * width, 4 * width),
            *_block(4 * width, 2 * width),
        )
        self.read = nn.Linear(2 * width * (size // 8) ** 2, dimensions)

    def forward(self, images: Tensor) -> Tensor:
        """Return embeddings (N, D) of images (N, C, S, S), uint8 or float."""
        if images.ndim != 4 or images.shape[2:] != (self.size, self.size):
            raise ValueError(f"pictures must be (N, C, {self.size}, {self.size}), got {tuple(images.shape)}")
        found: Tensor = self.read(self.layers(images.float() / 255).flatten(1))
        return _unit(found)


class LSTMEncoder(nn.Module):
    """Embed sequences by the last states of an LSTM in both directions (Hochreiter and Schmidhuber 1997)."""

    def __init__(self, channels: int, width: int, dimensions: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(channels, width, batch_first=True, bidirectional=True)
        self.read = nn.Linear(2 * width, dimensions)

    def forward(self, sequences: Sequences) -> Tensor:
        """Return embeddings (N, D)."""
        _check_lengths(sequences)
        packed = pack_padded_sequence(
            sequences.values.float(), sequences.lengths.cpu(), batch_first=True, enforce_sorted=False
        )
        _, (states, _) = self.lstm(packed)  # (2, N, width): forwards at the end, backwards at the start
        return _unit(self.read(states.transpose(0, 1).flatten(1)))


class TimeDelayEncoder(nn.Module):
    """Embed sequences by convolutions along time, each halving it, and the mean over what is left.

    Source: Bromley et al. 1993, who compared signatures with the first Siamese network; its layers subsample time so.
    """

    def __init__(self, channels: int, width: int, dimensions: int, kernel: int = 5) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Conv1d(before, width, kernel, stride=2, padding=kernel // 2) for before in (channels, width)
        )
        self.read = nn.Linear(width, dimensions)

    def forward(self, sequences: Sequences) -> Tensor:
        """Return embeddings (N, D)."""
        _check_lengths(sequences)
        lengths = sequences.lengths.to(sequences.values.device)
        features = _masked(sequences.values.float().transpose(1, 2), lengths)  # (N, C, T)
        for layer in self.layers:
            assert isinstance(layer, nn.Conv1d)
            lengths = torch.div(lengths + 1, 2, rounding_mode="floor")
            found = conv1d(features, layer.weight, layer.bias, layer.stride, layer.padding)
            features = _masked(torch.relu(found), lengths)
        mean = features.sum(2) / lengths.unsqueeze(1)
        return _unit(self.read(mean))


class ClipEncoder(nn.Module):
    """Embed short clips: each frame with an encoder of pictures, then their order with an LSTM."""

    def __init__(self, frames: nn.Module, frame_dimensions: int, width: int, dimensions: int) -> None:
        super().__init__()
        self.frames = frames
        self.order = LSTMEncoder(frame_dimensions, width, dimensions)

    def forward(self, clips: Sequences) -> Tensor:
        """Return embeddings (N, D) of clips whose values are (N, T, C, H, W)."""
        _check_lengths(clips)
        values, lengths = clips
        steps = torch.arange(values.shape[1], device=values.device)
        there = steps < lengths.to(values.device).unsqueeze(1)  # (N, T)
        found: Tensor = self.frames(values[there])  # of padding BatchNorm would take the statistics too
        padded = found.new_zeros(*there.shape, found.shape[1])
        padded[there] = found
        embedded: Tensor = self.order(Sequences(padded, lengths))
        return embedded


def _block(channels: int, out: int) -> list[nn.Module]:
    return [nn.Conv2d(channels, out, 3, padding=1, bias=False), nn.BatchNorm2d(out), nn.ReLU(inplace=True)]


def _unit(vectors: Tensor) -> Tensor:
    """Return vectors (N, D) with norm 1, a vector of 0 as it is; the norm is never taken in half precision."""
    half = vectors.dtype in (torch.bfloat16, torch.float16)
    return normalize(vectors.float() if half else vectors, dim=1)


def _check_lengths(sequences: Sequences) -> None:
    values, lengths = sequences
    if lengths.shape != values.shape[:1]:
        raise ValueError(f"{len(values)} sequences need as many lengths, got {tuple(lengths.shape)}")
    if len(lengths) and (int(lengths.min()) < 1 or int(lengths.max()) > values.shape[1]):
        raise ValueError(f"lengths must be 1 to {values.shape[1]}, got {int(lengths.min())} to {int(lengths.max())}")


def _masked(features: Tensor, lengths: Tensor) -> Tensor:
    """Return features (N, C, T) with 0 from the length of each sequence on."""
    steps = torch.arange(features.shape[2], device=features.device)
    return features * (steps < lengths.unsqueeze(1)).unsqueeze(1)
