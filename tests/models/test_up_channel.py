import pytest
import torch

from tests import reference
from tests.tolerances import Kind, assert_close
from tracker.models.backbones import Features
from tracker.models.correlation import up_channel_cross_correlation
from tracker.models.up_channel import UpChannelCode, UpChannelHead

BOXES = torch.tensor([[0.0, 0.0, 40.0, 20.0], [3.0, -2.0, 10.0, 60.0]])


def draw(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


@pytest.fixture
def head() -> UpChannelHead:
    torch.manual_seed(0)
    head = UpChannelHead(6, width=4)
    for norm in (module for module in head.modules() if isinstance(module, torch.nn.BatchNorm2d)):
        norm.momentum = 1.0  # one batch sets the means
    head(head.encode(draw(2, 6, 6, 6), BOXES, 8), search())
    return head.eval()


def search(n: int = 2, cells: int = 12) -> Features:
    deep = draw(n, 6, cells, cells, seed=2)
    return Features(deep, deep)


@pytest.mark.parametrize(("dtype", "kind"), [(torch.float64, "float64"), (torch.float32, "float32")])
@pytest.mark.parametrize("templates", [1, 2])
def test_correlation_is_that_of_the_loop(dtype: torch.dtype, kind: Kind, templates: int) -> None:
    template, maps = draw(templates, 3, 4, 2, 3, dtype=dtype), draw(2, 4, 5, 6, dtype=dtype, seed=1)
    expected = reference.up_channel_cross_correlation(template.double().numpy(), maps.double().numpy())
    assert expected.shape == (2, 3, 4, 4)
    assert_close(up_channel_cross_correlation(template, maps), expected, kind)


def test_maps_have_five_anchors_a_cell(head: UpChannelHead) -> None:
    code = head.encode(draw(2, 6, 6, 6), BOXES, 8)
    assert code.cls_kernels.shape == (2, 5, 4, 4, 4) and code.box_kernels.shape == (2, 20, 4, 4, 4)
    output = head(code, search())
    assert output.cls_logits.shape == (2, 5, 7, 7)
    assert output.box_deltas.shape == (2, 5, 4, 7, 7)


def test_one_template_for_all_searches_is_the_same_as_its_copies(head: UpChannelHead) -> None:
    code = head.encode(draw(1, 6, 6, 6), BOXES[:1], 8)
    copies = UpChannelCode(*(part.expand(2, *part.shape[1:]) for part in code))
    for one, other in zip(head(code, search()), head(copies, search()), strict=True):
        assert_close(one.detach(), other.detach(), "float32")


def test_moved_search_moves_the_maps(head: UpChannelHead) -> None:
    code = head.encode(draw(1, 6, 6, 6), BOXES[:1], 8)
    large = search(1, 14)
    here, there = (Features(large.fine, large.deep[:, :, at : at + 12, at : at + 12]) for at in (0, 2))
    for maps, moved in zip(head(code, here), head(code, there), strict=True):
        assert_close(moved[..., :5, :5].detach(), maps[..., 2:, 2:].detach(), "float32")


def test_fresh_head_finds_nothing_and_keeps_the_anchors(head: UpChannelHead) -> None:
    output = head(head.encode(draw(2, 6, 6, 6), BOXES, 8), search())
    assert output.cls_logits.sigmoid().median() < 0.3
    assert output.box_deltas.abs().max() < 0.2


def test_proposals_are_each_cell_s_best_anchor(head: UpChannelHead) -> None:
    torch.nn.init.normal_(head.box.weight, generator=torch.Generator().manual_seed(3))
    code = head.encode(draw(2, 6, 6, 6), BOXES, 8)
    scores, boxes = head.propose(code, search())
    output = head(code, search())
    assert scores.shape == (2, 7, 7) and boxes.shape == (2, 4, 7, 7)
    chosen = set()
    for n, i, j in ((0, 0, 0), (0, 3, 5), (1, 6, 2), (1, 2, 4)):
        logits = output.cls_logits[n, :, i, j].detach()
        best = int(logits.argmax())
        chosen.add(best)
        deltas = output.box_deltas[n, best].detach().double().numpy()[None]
        expected = reference.decode_boxes(deltas, head.sizes[best : best + 1].numpy(), 8)[0]
        assert_close(scores[n, i, j].detach(), logits[best].sigmoid(), "float32")
        assert_close(boxes[n, :, i, j].detach(), expected[:, i, j], "float32")
    assert len(chosen) > 1
