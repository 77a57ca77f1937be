import math

import pytest
import torch

from tests import reference
from tests.tolerances import Kind, assert_close
from tracker.models.anchors import anchor_sizes, cell_offsets, decode, encode

DTYPES: list[tuple[torch.dtype, Kind]] = [(torch.float64, "float64"), (torch.float32, "float32")]


def draw(*shape: int, dtype: torch.dtype, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def test_cells_lie_around_the_middle() -> None:
    assert cell_offsets(5, 8).tolist() == [-16, -8, 0, 8, 16]
    assert cell_offsets(2, 16).tolist() == [-8, 8]


@pytest.mark.parametrize(("dtype", "kind"), DTYPES)
@pytest.mark.parametrize("shape", [(5, 5), (4, 7), (1, 1)])
def test_boxes_are_those_of_the_loop(dtype: torch.dtype, kind: Kind, shape: tuple[int, int]) -> None:
    deltas = draw(3, 4, *shape, dtype=dtype)
    sizes = draw(3, 2, dtype=dtype, seed=1).abs() * 20 + 5
    assert_close(decode(deltas, sizes, 8), reference.decode_boxes(deltas.double().numpy(), sizes.numpy(), 8), kind)


def test_no_delta_is_the_object_as_it_was_in_every_cell() -> None:
    boxes = decode(torch.zeros(1, 4, 3, 3), torch.tensor([[40.0, 30.0]]), 8)[0]
    assert boxes[:, 0, 2].tolist() == [8, -8, 40, 30]
    assert boxes[2:].flatten(1).T.unique(dim=0).tolist() == [[40, 30]]


def test_a_size_never_runs_away() -> None:
    deltas = torch.tensor([0.0, 0.0, 1e4, -1e4]).view(1, 4, 1, 1)
    boxes = decode(deltas, torch.tensor([[40.0, 40.0]]), 8).flatten()
    assert boxes.tolist() == pytest.approx([0, 0, 160, 10], rel=1e-6)
    assert boxes[2] / 40 == pytest.approx(math.exp(math.log(4)))


def test_anchors_have_one_area_and_the_shapes_asked_for() -> None:
    sizes = anchor_sizes(64.0, (0.5, 1.0, 3.0))
    assert sizes.prod(1).tolist() == pytest.approx([4096] * 3)
    assert (sizes[:, 1] / sizes[:, 0]).tolist() == pytest.approx([0.5, 1, 3])


def test_deltas_of_a_box_lead_to_it_from_every_anchor_and_cell() -> None:
    boxes = torch.tensor([[10.0, -20.0, 50.0, 80.0], [0.0, 3.0, 70.0, 60.0]])
    sizes = anchor_sizes(64.0, (0.33, 1.0, 3.0))
    deltas = encode(boxes, sizes, 5, 8)
    assert deltas.shape == (2, 3, 4, 5, 5)
    for anchor in range(3):
        found = decode(deltas[:, anchor], sizes[anchor].expand(2, 2), 8)
        assert_close(found, boxes.view(2, 4, 1, 1).expand(2, 4, 5, 5), "float32")
