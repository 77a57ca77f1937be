"""Networks taken together: each member computes what it computes alone, and the answers are averaged."""

import pytest
import torch
from torch import nn

from tests.tolerances import assert_close
from tracker.models.anchors import decode
from tracker.models.backbones import FINE_STRIDE, Features, MobileNetV3Small, ResNet18, SiamFCAlexNet
from tracker.models.ensemble import EnsembleBackbone, EnsembleHead, EnsembleRefiner
from tracker.models.graphs import filter_maps, join
from tracker.models.heads import RPNHead, RPNWidths
from tracker.models.refiner import BoxRefiner, RefinerWidths
from tracker.models.siamese import SiameseNetwork
from tracker.models.windows import REFINER_CELLS

WIDTHS = ((5, 6), (3, 4))
STRIDE = 16
BOXES = torch.tensor([[0.0, 0.0, 40.0, 20.0], [3.0, -2.0, 10.0, 60.0]])


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def features(n: int = 2, cells: int = 7) -> Features:
    return Features(drawn(n, 8, 2 * cells - 1, 2 * cells - 1, seed=1), drawn(n, 10, cells, cells, seed=2))


def parts(whole: Features) -> list[Features]:
    return [Features(whole.fine[:, :5], whole.deep[:, :6]), Features(whole.fine[:, 5:], whole.deep[:, 6:])]


def heads() -> list[RPNHead]:
    torch.manual_seed(0)
    made = []
    for (fine, deep), separable in zip(WIDTHS, (False, True), strict=True):
        widths = RPNWidths(cells=3, neck=16, fine_neck=8, tower=8, separable=separable)
        head = RPNHead(deep, fine, widths)
        nn.init.normal_(head.box.weight)  # fresh ones leave the anchor as it is
        made.append(head.eval())
    return made


@torch.inference_mode()
def test_features_are_those_of_each_backbone() -> None:
    torch.manual_seed(0)
    members = [ResNet18().eval(), MobileNetV3Small().eval()]
    both = EnsembleBackbone(members).eval()
    assert (both.stride, both.channels, both.fine_channels) == (16, 256 + 288, 128 + 24)
    pictures = drawn(2, 3, 65, 65)
    network = SiameseNetwork(both, None, fine_weight=0.5)
    features = both.features(pictures)
    found = network.members(features)
    for member, one in zip(members, found, strict=True):
        alone = member.features(pictures)
        assert torch.equal(one.fine, alone.fine) and torch.equal(one.deep, alone.deep)
    assert torch.equal(both(pictures), torch.cat([one.deep for one in found], dim=1))
    maps = filter_maps(network, features)  # each member's have the norm that they have alone
    assert torch.equal(maps, torch.cat([join(one.deep, one.fine, 0.5) for one in found], dim=1))


def test_backbones_of_two_strides_are_refused() -> None:
    with pytest.raises(ValueError, match="must have one stride, got 16, 8"):
        EnsembleBackbone([ResNet18(), SiamFCAlexNet()])


@torch.inference_mode()
def test_head_answers_the_mean_of_its_members() -> None:
    members = heads()
    both = EnsembleHead(members, WIDTHS)
    deep = drawn(2, 10, 5, 5)
    code = both.encode(deep, BOXES, STRIDE)
    assert len(code) == len(both.code_fields) == len(set(both.code_fields)) == 8
    found = both(code, features())
    alone = [
        member(member.encode(part, BOXES, STRIDE), own)
        for member, part, own in zip(members, (deep[:, :6], deep[:, 6:]), parts(features()), strict=True)
    ]
    for at, maps in enumerate(found):
        assert_close(maps, (alone[0][at] + alone[1][at]) / 2, "float32")
    assert not torch.allclose(alone[0].box_deltas, alone[1].box_deltas, atol=0.1)
    scores, boxes = both.propose(code, features())
    assert torch.equal(scores, found.cls_logits[:, 0].sigmoid())
    assert torch.equal(boxes, decode(found.box_deltas, BOXES[:, 2:], FINE_STRIDE))


@torch.inference_mode()
def test_refiner_moves_by_the_mean_of_its_members() -> None:
    torch.manual_seed(0)
    members = [
        BoxRefiner(fine, deep, STRIDE, RefinerWidths(outline=outline)).eval()
        for (fine, deep), outline in zip(WIDTHS, (12, 8), strict=True)
    ]
    for member in members:
        nn.init.normal_(member.move[2].weight)  # type: ignore[arg-type]
    both = EnsembleRefiner(members, WIDTHS)
    assert both.channels == 20
    outline = both.outline(features())
    for member, own, maps in zip(members, parts(features()), outline.split([12, 8], dim=1), strict=True):
        assert torch.equal(maps, member.outline(own))
    template, window = drawn(2, 3, 20, REFINER_CELLS, REFINER_CELLS)
    alone = members[0](template[:, :12], window[:, :12]), members[1](template[:, 12:], window[:, 12:])
    assert_close(both(template, window), (alone[0] + alone[1]) / 2, "float32")
    assert not torch.allclose(*alone, atol=0.1)
