import numpy as np
import pytest
import torch

from tests.tolerances import assert_close
from tracker.models.backbones import Features
from tracker.models.refiner import BoxRefiner, RefinerWidths, moved, windows
from tracker.models.windows import REFINER_CELLS, refiner_window


def test_boxes_move_by_shares_of_their_size() -> None:
    found = moved(torch.tensor([[4.0, -2.0, 20.0, 10.0]]), torch.tensor([[0.1, -0.2, 0.0, torch.tensor(2.0).log()]]))
    assert_close(found[0], [6.0, -4.0, 20.0, 20.0], "float32")


def test_windows_in_torch_are_those_of_the_loop() -> None:
    generator = torch.Generator().manual_seed(0)
    maps = torch.randn(2, 5, 13, 17, generator=generator)
    # Some reach out of the map, which looks at 136x104 pixels.
    boxes = torch.randn(2, 3, 4, generator=generator) * 25
    boxes[..., 2:] = boxes[..., 2:].abs() + 12
    found = windows(maps, boxes)
    assert found.shape == (6, 5, REFINER_CELLS, REFINER_CELLS)
    for at, (outline, own) in enumerate(zip(maps.numpy(), boxes.numpy(), strict=True)):
        wanted = np.stack([refiner_window(outline, tuple(box.tolist()), 8) for box in own])
        assert_close(found[3 * at : 3 * at + 3], wanted, "float32")


def test_fresh_refiner_leaves_boxes_nearly_where_they_are() -> None:
    torch.manual_seed(0)
    refiner = BoxRefiner(24, 40, 16, RefinerWidths()).eval()
    seen = torch.randn(3, refiner.channels, REFINER_CELLS, REFINER_CELLS)
    with torch.inference_mode():
        moves = refiner(seen.flip(0), seen)
    assert moves.shape == (3, 4) and float(moves.abs().max()) < 0.05


def test_outline_holds_both_maps_of_a_backbone_of_stride_16() -> None:
    torch.manual_seed(0)
    refiner = BoxRefiner(6, 10, 16, RefinerWidths())
    fine, deep = torch.randn(2, 6, 9, 9), torch.randn(2, 10, 5, 5)
    with torch.inference_mode():
        found = refiner.outline(Features(fine, deep))
        alone = refiner.fine(fine)
        assert refiner.deep is not None
        below = refiner.deep(deep)
    assert found.shape == (2, refiner.channels, 9, 9)
    assert torch.allclose((found - alone)[..., ::2, ::2], below, atol=1e-5)  # cell i looks where fine cell 2 i does


def test_outline_of_a_backbone_of_one_stride_is_that_of_its_fine_map() -> None:
    torch.manual_seed(0)
    refiner = BoxRefiner(6, 10, 8, RefinerWidths())
    fine = torch.randn(2, 6, 9, 9)
    with torch.inference_mode():
        found = refiner.outline(Features(fine, torch.full((2, 10, 4, 4), torch.nan)))
        assert torch.allclose(found, refiner.fine(fine), atol=1e-5)


@pytest.mark.parametrize("part", ["template", "window"])
def test_both_windows_count(part: str) -> None:
    torch.manual_seed(0)
    refiner = BoxRefiner(6, 10, 8, RefinerWidths()).eval()
    torch.nn.init.normal_(refiner.move[2].weight)  # type: ignore[arg-type]
    shown = torch.randn(2, 1, refiner.channels, REFINER_CELLS, REFINER_CELLS)
    other = shown.clone()
    other[0 if part == "template" else 1] += 1
    with torch.inference_mode():
        assert not torch.allclose(refiner(*shown), refiner(*other), atol=1e-3)
