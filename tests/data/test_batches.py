import numpy as np
import pytest
import torch

from tracker.data.batches import BatchDataset, stack
from tracker.data.distort import Distortion, distort
from tracker.data.labelled import LabelledSamples, gather
from tracker.training.mining import BalancedBatches

STILL = Distortion(rotate=0.0, shear=0.0, scale=0.0, shift=0.0, bend=0.0, stroke_chance=0.0)
STRONG = Distortion(rotate=20.0, shear=0.3, scale=0.2, shift=0.1, bend=0.03, stroke_chance=0.5)


def pictures(shape: tuple[int, ...] = (1, 12, 12)) -> LabelledSamples:
    rng = np.random.default_rng(0)
    return gather([(name, list(rng.integers(0, 256, (4, *shape), dtype=np.uint8))) for name in "abc"])


def dataset(samples: LabelledSamples, distortion: Distortion | None, seed: int = 0) -> BatchDataset:
    return BatchDataset(samples, BalancedBatches(samples.labels, samples.names, 2, 3, seed), distortion, steps=5)


@pytest.mark.parametrize("shape", [(1, 12, 12), (3, 12, 12), (4, 1, 12, 12)], ids=["grey", "RGB", "clip"])
def test_item_is_the_batch_of_its_step(shape: tuple[int, ...]) -> None:
    samples = pictures(shape)
    plain, distorted = dataset(samples, None), dataset(samples, STRONG)
    assert len(plain) == 5
    for step in range(5):
        chosen = plain.batches.batch(step)
        found = plain[step]
        assert found.labels.tolist() == samples.labels[chosen].tolist()
        assert found.samples == 6
        assert found.lengths.tolist() == [4 if len(shape) == 4 else 1] * 6
        assert torch.equal(found.values, torch.from_numpy(np.stack([samples.values[at] for at in chosen])))
        moved = distorted[step]
        assert (moved.values.shape, moved.values.dtype) == (found.values.shape, torch.uint8)
        assert not torch.equal(moved.values, found.values)
        assert torch.equal(moved.values, distorted[step].values)
    assert not torch.equal(distorted[0].seed, distorted[1].seed)
    assert not torch.equal(dataset(samples, STRONG, seed=1)[0].values, distorted[0].values)


def test_sequences_are_padded_and_never_distorted() -> None:
    rng = np.random.default_rng(0)
    members = [[rng.standard_normal((length, 2)).astype(np.float32) for length in (3, 7, 2)] for _ in "ab"]
    found = dataset(gather(list(zip("ab", members, strict=True))), STRONG)[0]
    assert found.values.shape == (6, 7, 2)
    for value, length in zip(found.values, found.lengths, strict=True):
        assert (value[length:] == 0).all() and (value[:length] != 0).all()


def test_stacked_sequences_are_what_they_were() -> None:
    rows = [np.ones((2, 3), np.float32), np.full((4, 3), 2, np.float32)]
    values, lengths = stack(rows)
    assert lengths.tolist() == [2, 4]
    for value, length, row in zip(values, lengths, rows, strict=True):
        assert np.array_equal(value[:length], row)


@pytest.mark.parametrize("channels", [1, 3])
def test_distortion_of_nothing_changes_nothing(channels: int) -> None:
    image = np.random.default_rng(0).integers(0, 256, (channels, 9, 9), dtype=np.uint8)
    assert np.array_equal(distort(image, STILL, np.random.default_rng(1)), image)


def test_shift_moves_the_picture_by_its_share_of_the_side() -> None:
    image = np.zeros((1, 41, 41), np.uint8)
    image[0, 18:23, 18:23] = 200
    reach = []
    for seed in range(50):
        moved = distort(image, Distortion(0.0, 0.0, 0.0, 0.1, 0.0, 0.0), np.random.default_rng(seed))[0].astype(float)
        rows, columns = np.indices(moved.shape)
        reach.append([float((moved * at).sum() / moved.sum()) - 20 for at in (rows, columns)])
    assert np.abs(reach).max() <= 4.1 + 0.05  # a tenth of 41, and what bilinear weights of 1/32 lose
    assert np.abs(reach).max() > 3.3
    assert np.abs(np.mean(reach)) < 0.9


def test_picture_of_one_pixel_bears_distortion() -> None:
    found = distort(np.full((1, 1, 1), 9, np.uint8), STRONG, np.random.default_rng(0))
    assert found.shape == (1, 1, 1)
