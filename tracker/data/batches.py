"""Batches of an encoder's training: balanced classes, distorted pictures, padded sequences."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from tracker.data.distort import Distortion, distort
from tracker.data.labelled import LabelledSamples
from tracker.training.mining import BalancedBatches


class LabelledBatch(NamedTuple):
    """Hold N samples and their labels; what the data loader gives has a leading 1 on all of it."""

    values: Tensor  # (N, ...), sequences padded with 0 to the longest
    lengths: Tensor  # (N,), steps of a sequence; 1 for a picture
    labels: Tensor  # (N,)
    seed: Tensor  # (), for what the loss draws

    @property
    def samples(self) -> int:
        """Number of samples."""
        return self.labels.numel()


class BatchDataset(Dataset[LabelledBatch]):
    """Give whole batches: item i depends on the seed and i alone, so a resumed run sees what it would have seen."""

    def __init__(
        self, samples: LabelledSamples, batches: BalancedBatches, distortion: Distortion | None, steps: int
    ) -> None:
        """Distort pictures and the frames of clips; sequences take no distortion."""
        self.samples = samples
        self.batches = batches
        self.distortion = distortion
        self.steps = steps

    def __len__(self) -> int:
        """Return the number of batches."""
        return self.steps

    def __getitem__(self, step: int) -> LabelledBatch:
        """Return the batch of a step."""
        chosen = self.batches.batch(step)
        rng = np.random.default_rng((self.batches.seed, step, 1))  # other numbers than those that chose the samples
        values, lengths = stack([self._shown(self.samples.values[at], rng) for at in chosen])
        labels = torch.from_numpy(self.samples.labels[chosen])
        return LabelledBatch(values, lengths, labels, torch.tensor(int(rng.integers(2**31))))

    def _shown(self, value: NDArray[np.generic], rng: np.random.Generator) -> NDArray[np.generic]:
        if self.distortion is None or value.dtype != np.uint8:
            return value
        picture = np.asarray(value, np.uint8)
        if picture.ndim == 3:
            return distort(picture, self.distortion, rng)
        return np.stack([distort(frame, self.distortion, rng) for frame in picture])


def stack(values: Sequence[NDArray[np.generic]]) -> tuple[Tensor, Tensor]:
    """Return samples as one tensor, those of several steps padded with 0, and their lengths (N,), 1 for a picture."""
    if values[0].ndim == 3:
        return torch.from_numpy(np.stack(values)), torch.ones(len(values), dtype=torch.int64)
    lengths = [len(value) for value in values]
    padded = np.zeros((len(values), max(lengths), *values[0].shape[1:]), values[0].dtype)
    for row, value in zip(padded, values, strict=True):
        row[: len(value)] = value
    return torch.from_numpy(padded), torch.tensor(lengths)
