import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests import reference
from tests.tolerances import assert_close
from tracker.data.pairs import Pairs
from tracker.models.backbones import Features
from tracker.models.siamese import SiameseNetwork
from tracker.models.up_channel import UpChannelHead
from tracker.training.objectives import up_channel_objective

SIDE, SEARCH, CELLS = 64, 136, 10


class Patches(nn.Module):
    """Embed patches of 8x8 pixels, each alone."""

    stride = 8

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 16, 8, 8), nn.ReLU())

    def features(self, images: Tensor) -> Features:
        """Return one map twice."""
        deep = self(images)
        return Features(deep, deep)

    def forward(self, images: Tensor) -> Tensor:
        """Return features (N, 16, H / 8, W / 8)."""
        features: Tensor = self.layers(images)
        return features


@pytest.fixture
def network() -> SiameseNetwork:
    torch.manual_seed(0)
    return SiameseNetwork(Patches(), UpChannelHead(16, width=8))


def pairs(n: int = 3, k: int = 2) -> Pairs:
    """Return pairs whose object fills the template and lies somewhere in each search; one does not match."""
    generator = torch.Generator().manual_seed(1)
    template = torch.randint(0, 256, (n, 3, SIDE, SIDE), generator=generator, dtype=torch.uint8)
    searches = torch.randint(0, 256, (n, k, 3, SEARCH, SEARCH), generator=generator, dtype=torch.uint8)
    places = torch.randint(0, (SEARCH - SIDE) // 8 + 1, (n, k, 2), generator=generator) * 8
    positive = torch.ones(n, k, dtype=torch.bool)
    positive[-1, -1] = False
    for i in range(n):
        for j in range(k):
            u, v = places[i, j].tolist()
            if positive[i, j]:
                searches[i, j, :, v : v + SIDE, u : u + SIDE] = template[i]
    template_box = torch.tensor([0.0, 0.0, SIDE, SIDE]).expand(n, 4)
    boxes = torch.cat([places + (SIDE - SEARCH) / 2, torch.full((n, k, 2), 1.0 * SIDE)], dim=2)
    return Pairs(template, searches, template_box, boxes, positive)


def labels_of(head: UpChannelHead, truth: np.ndarray, positive: bool) -> np.ndarray:
    plain = np.stack(
        [reference.decode_boxes(np.zeros((1, 4, CELLS, CELLS)), size[None], 8)[0] for size in head.sizes.numpy()]
    )
    overlaps = np.array(
        [
            [[reference.generalized_iou(boxes[:, i, j], truth)[0] for j in range(CELLS)] for i in range(CELLS)]
            for boxes in plain
        ]
    )
    labels = np.where(overlaps < 0.3, 0.0, -1.0)
    labels[(overlaps >= 0.6) | (overlaps >= 0.95 * overlaps.max())] = 1.0
    return labels if positive else np.zeros_like(labels)


def test_loss_is_that_of_the_anchors_one_by_one(network: SiameseNetwork) -> None:
    batch, head = pairs(), network.head
    assert isinstance(head, UpChannelHead)
    network.eval()  # BatchNorm would tie the pairs together
    nn.init.normal_(head.box.weight, std=0.3, generator=torch.Generator().manual_seed(0))
    loss = up_channel_objective(None)(network, batch)
    logits, labels, off = [], [], []
    for i, j in np.ndindex(3, 2):
        with torch.no_grad():
            code = head.encode(network.embed(batch.template[i : i + 1]), batch.template_box[i : i + 1], 8)
            output = head(code, network.features(batch.searches[i, j : j + 1]))
        truth = batch.boxes[i, j].double().numpy()
        labels.append(labels_of(head, truth, bool(batch.positive[i, j])))
        logits.append(output.cls_logits[0].double().numpy())
        for anchor, row, column in np.argwhere(labels[-1] > 0):
            w, h = head.sizes[anchor].double().tolist()
            x, y = 8 * (column - (CELLS - 1) / 2), 8 * (row - (CELLS - 1) / 2)
            wanted = ((truth[0] - x) / w, (truth[1] - y) / h, math.log(truth[2] / w), math.log(truth[3] / h))
            found = output.box_deltas[0, anchor, :, row, column].tolist()
            gaps = [abs(a - b) for a, b in zip(found, wanted, strict=True)]
            off.append(sum(gap**2 / 0.2 if gap < 0.1 else gap - 0.05 for gap in gaps))
    expected = reference.anchor_loss(np.stack(logits), np.stack(labels), 64) + 1.2 * np.mean(off)
    assert_close(loss.detach(), expected, "float32")


def test_gradient_reaches_every_parameter(network: SiameseNetwork) -> None:
    nn.init.normal_(network.head.box.weight, std=0.3)
    up_channel_objective(None)(network, pairs()).backward()  # type: ignore[no-untyped-call]
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None and bool(parameter.grad.isfinite().all()), name
        if not name.endswith(("template.0.bias", "search.0.bias")):  # a bias before BatchNorm has no say
            assert parameter.grad.abs().max() > 0, name


def test_half_precision_gives_nearly_the_same_loss_in_float32(network: SiameseNetwork) -> None:
    exact, half = (up_channel_objective(dtype)(network, pairs()).detach() for dtype in (None, torch.bfloat16))
    assert half.dtype == torch.float32 and half != exact
    assert abs(float(half - exact)) < 0.02 * float(exact)


def test_pairs_without_any_object_are_learned_from(network: SiameseNetwork) -> None:
    batch = pairs()._replace(positive=torch.zeros(3, 2, dtype=torch.bool))
    loss = up_channel_objective(None)(network, batch)
    loss.backward()  # type: ignore[no-untyped-call]
    assert 0 < float(loss.detach()) < 2
    assert all(bool(p.grad.isfinite().all()) for p in network.parameters() if p.grad is not None)


def test_a_few_steps_teach_where_the_object_is_and_how_large(network: SiameseNetwork) -> None:
    objective, batch = up_channel_objective(None), pairs()
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.01)
    history = []
    for _ in range(60):
        loss = objective(network, batch)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        history.append(float(loss.detach()))
    assert history[-1] < 0.3 * history[0]
    head = network.anchor_head
    assert head is not None
    with torch.no_grad():
        code = head.encode(network.embed(batch.template), batch.template_box, 8)
        scores, boxes = head.propose(code, network.features(batch.searches[:, 0]))
    for i in range(3):
        row, column = divmod(int(scores[i].argmax()), CELLS)
        assert reference.generalized_iou(boxes[i, :, row, column].numpy(), batch.boxes[i, 0].numpy())[0] > 0.7
