"""The anchor head; that of SiamFC is held by tests of its correlation and its objective."""

import pytest
import torch

from tests import reference
from tests.tolerances import Kind, assert_close
from tracker.models.backbones import Features
from tracker.models.correlation import pixelwise_cross_correlation
from tracker.models.heads import RPNHead, RPNWidths, TemplateCode

STRIDE = 16


def draw(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


@pytest.fixture(params=["full", "separable"])
def head(request: pytest.FixtureRequest) -> RPNHead:
    torch.manual_seed(0)
    separable = request.param == "separable"
    head = RPNHead(6, 5, RPNWidths(cells=3, neck=16, fine_neck=8, tower=8, separable=separable))
    norms = [module for module in head.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0  # one batch sets the means: a head that has seen none answers with little but its biases
    head(head.encode(draw(2, 6, 5, 5), BOXES, STRIDE), search())
    return head.eval()


def search(n: int = 2, cells: int = 7) -> Features:
    return Features(draw(n, 5, 2 * cells - 1, 2 * cells - 1, seed=1), draw(n, 6, cells, cells, seed=2))


BOXES = torch.tensor([[0.0, 0.0, 40.0, 20.0], [3.0, -2.0, 10.0, 60.0]])


@pytest.mark.parametrize(("dtype", "kind"), [(torch.float64, "float64"), (torch.float32, "float32")])
@pytest.mark.parametrize("templates", [1, 3])
def test_pixelwise_correlation_is_that_of_the_loop(dtype: torch.dtype, kind: Kind, templates: int) -> None:
    cells, maps = draw(templates, 4, 5, dtype=dtype), draw(3, 5, 6, 7, dtype=dtype, seed=1)
    expected = reference.pixelwise_cross_correlation(cells.expand(3, -1, -1).double().numpy(), maps.double().numpy())
    assert_close(pixelwise_cross_correlation(cells, maps), expected, kind)


def test_maps_have_half_the_stride_of_the_deep_features(head: RPNHead) -> None:
    code = head.encode(draw(2, 6, 5, 5), BOXES, STRIDE)
    output = head(code, search())
    assert output.cls_logits.shape == (2, 1, 13, 13)
    assert output.box_deltas.shape == (2, 4, 13, 13)
    assert output.cls_logits.dtype == output.box_deltas.dtype == torch.float32


def test_code_holds_unit_vectors_of_the_inner_cells(head: RPNHead) -> None:
    deep = draw(2, 6, 5, 5)
    code = head.encode(deep, BOXES, STRIDE)
    assert code.kernels.shape == (2, 9, 16)
    assert_close(code.kernels.norm(dim=2).detach(), torch.ones(2, 9), "float32")
    rim = deep.clone()
    rim[:, :, 0], rim[:, :, -1], rim[:, :, :, 0], rim[:, :, :, -1] = 9, 9, 9, 9
    assert torch.equal(head.encode(rim, BOXES, STRIDE).kernels, code.kernels)


def test_shares_of_the_cells_are_those_of_areas(head: RPNHead) -> None:
    inside = head.encode(draw(2, 6, 5, 5), BOXES, STRIDE).inside.view(2, 3, 3)
    # Cells cover -24..-8, -8..8 and 8..24; the first box -20..20 by -10..10.
    across, down = torch.tensor([12 / 16, 1, 12 / 16]), torch.tensor([2 / 16, 1, 2 / 16])
    assert_close(inside[0], down.unsqueeze(1) * across, "float32")
    # The second is narrower than a cell: the cell that holds its centre counts in full all the same.
    assert_close(inside[1, 1], [0, 1, 0], "float32")


def test_one_template_for_all_searches_is_the_same_as_its_copies(head: RPNHead) -> None:
    code = head.encode(draw(1, 6, 5, 5), BOXES[:1], STRIDE)
    copies = TemplateCode(*(part.expand(2, *part.shape[1:]) for part in code))
    for one, other in zip(head(code, search()), head(copies, search()), strict=True):
        assert_close(one.detach(), other.detach(), "float32")


def test_batch_gives_what_each_pair_gives_alone(head: RPNHead) -> None:
    deep, both = draw(2, 6, 5, 5), search()
    together = head(head.encode(deep, BOXES, STRIDE), both)
    for i in range(2):
        alone = head(
            head.encode(deep[i : i + 1], BOXES[i : i + 1], STRIDE), Features(*(maps[i : i + 1] for maps in both))
        )
        assert_close(together.cls_logits[i].detach(), alone.cls_logits[0].detach(), "float32")
        assert_close(together.box_deltas[i].detach(), alone.box_deltas[0].detach(), "float32")


def test_fresh_head_finds_nothing_and_keeps_the_box(head: RPNHead) -> None:
    output = head(head.encode(draw(2, 6, 5, 5), BOXES, STRIDE), search())
    assert output.cls_logits.sigmoid().max() < 0.2
    assert output.box_deltas.abs().max() < 0.1


def test_moved_search_moves_the_maps(head: RPNHead) -> None:
    """Away from the borders, whose zeros move along with nothing, a cell of the deep map is two of the answer's."""
    code = head.encode(draw(1, 6, 5, 5), BOXES[:1], STRIDE)
    large = Features(draw(1, 5, 49, 49, seed=1), draw(1, 6, 25, 25, seed=2))
    there = Features(large.fine[:, :, 2:, 4:], large.deep[:, :, 1:, 2:])
    crop = Features(large.fine[:, :, :47, :45], large.deep[:, :, :24, :23])
    margin = slice(16, 28)
    moved, still = head(code, there).cls_logits, head(code, crop).cls_logits
    assert_close(moved[:, :, margin, margin].detach(), still[:, :, 18:30, 20:32].detach(), "float32")


def test_object_and_surroundings_are_told_apart(head: RPNHead) -> None:
    """What the template's cells lie on matters: another box, another answer."""
    deep = draw(1, 6, 5, 5)
    narrow, wide = (head.encode(deep, torch.tensor([[0.0, 0.0, side, side]]), STRIDE) for side in (12.0, 44.0))
    first, second = (head(code, search(1)).cls_logits for code in (narrow, wide))
    assert (first - second).abs().max() > 0.01 * (first.max() - first.min())
