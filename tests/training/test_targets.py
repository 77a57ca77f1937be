import numpy as np
import pytest
import torch

from tests import reference
from tracker.training.targets import anchor_labels, response_labels


@pytest.mark.parametrize(("cells", "stride"), [(9, 8), (17, 8), (4, 16), (1, 8)])
@pytest.mark.parametrize("radius", [3.0, 16.0, 23.5])
@pytest.mark.parametrize("share", [0.0, 0.3])
def test_labels_are_those_of_the_loop(cells: int, stride: int, radius: float, share: float) -> None:
    rng = np.random.default_rng(0)
    boxes = np.hstack([rng.uniform(-48, 48, (6, 2)), rng.uniform(10, 90, (6, 2))])
    positive = [True, True, False, True, True, False]
    shown = torch.tensor(boxes, dtype=torch.float32)
    labels = response_labels(shown, torch.tensor(positive), cells, stride, radius, share)
    assert labels.shape == (6, 1, cells, cells)
    assert labels.dtype == torch.float32
    expected = reference.response_labels(shown.numpy(), positive, cells, stride, radius, share)
    assert np.array_equal(labels.numpy(), expected)


def test_object_in_the_middle_is_the_disc_of_the_paper() -> None:
    (((disc,),)) = response_labels(torch.zeros(1, 4), torch.tensor([True]), cells=7, stride=8, radius_px=16)
    # Two cells: |du|, |dv| in cells with du^2 + dv^2 <= 4.
    assert disc.int().tolist() == [
        [0, 0, 0, 0, 0, 0, 0],
        [0, 0, 0, 1, 0, 0, 0],
        [0, 0, 1, 1, 1, 0, 0],
        [0, 1, 1, 1, 1, 1, 0],
        [0, 0, 1, 1, 1, 0, 0],
        [0, 0, 0, 1, 0, 0, 0],
        [0, 0, 0, 0, 0, 0, 0],
    ]


def test_axes_are_those_of_images() -> None:
    labels = response_labels(
        torch.tensor([[16.0, -8.0, 10.0, 10.0]]), torch.tensor([True]), cells=9, stride=8, radius_px=1
    )
    assert labels.nonzero().tolist() == [[0, 0, 3, 6]]  # a row up, two columns to the right of (4, 4)


def test_pair_that_does_not_match_has_no_positive_cell() -> None:
    labels = response_labels(torch.zeros(3, 4), torch.tensor([False, True, False]), cells=5, stride=8, radius_px=16)
    assert labels.sum((1, 2, 3)).tolist() == [0, 13, 0]


def test_anchors_are_labelled_by_their_overlap() -> None:
    overlaps = torch.tensor([0.7, 0.6, 0.59, 0.3, 0.29, 0.0]).view(1, 2, 1, 3)
    assert anchor_labels(overlaps, torch.tensor([True])).flatten().tolist() == [1, 1, -1, -1, 0, 0]
    assert anchor_labels(overlaps, torch.tensor([False])).flatten().tolist() == [0] * 6


def test_best_anchors_hold_an_object_whose_size_none_has() -> None:
    overlaps = torch.tensor([[0.4, 0.39, 0.35, 0.1], [0.2, 0.0, 0.0, 0.1], [0.0] * 4]).view(3, 4, 1, 1)
    labels = anchor_labels(overlaps, torch.ones(3, dtype=torch.bool)).flatten(1)
    assert labels.tolist() == [[1, 1, -1, 0], [1, 0, 0, 0], [0, 0, 0, 0]]
