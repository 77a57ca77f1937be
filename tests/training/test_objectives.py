import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests import reference
from tests.tolerances import assert_close
from tracker.data.pairs import Pairs
from tracker.models.anchors import decode
from tracker.models.backbones import Features
from tracker.models.filter_neck import FilterNeck
from tracker.models.graphs import join
from tracker.models.heads import RPNHead, RPNWidths, SiamFCHead, TemplateCode
from tracker.models.siamese import SiameseNetwork
from tracker.training.filter_loss import FilterLoss
from tracker.training.objectives import FilterTraining, rpn_objective, siamfc_objective

STRIDE = 8
TEMPLATE, SEARCH = 24, 72  # 3x3 cells on 9x9: a response of 7x7


class Backbone(nn.Module):
    """Embed patches of 8x8 pixels, each alone, so that a few steps teach it all there is."""

    def __init__(self, channels: int = 16) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 16, STRIDE, STRIDE), nn.ReLU(), nn.Conv2d(16, channels, 1))

    def forward(self, images: Tensor) -> Tensor:
        """Return features (N, channels, H / 8, W / 8)."""
        features: Tensor = self.layers(images)
        return features

    def features(self, images: Tensor) -> Features:
        """Return the same map twice."""
        deep = self(images)
        return Features(deep, deep)


@pytest.fixture
def network() -> SiameseNetwork:
    torch.manual_seed(0)
    network = SiameseNetwork(Backbone(), SiamFCHead())
    nn.init.constant_(network.head.bias, -0.3)
    return network


def pairs(n: int = 3, k: int = 2) -> Pairs:
    """Return pairs in which the template lies in each of its searches at the centre; one does not match."""
    generator = torch.Generator().manual_seed(1)
    template = torch.randint(0, 256, (n, 3, TEMPLATE, TEMPLATE), generator=generator, dtype=torch.uint8)
    searches = torch.randint(0, 256, (n, k, 3, SEARCH, SEARCH), generator=generator, dtype=torch.uint8)
    cells = torch.randint(0, (SEARCH - TEMPLATE) // STRIDE + 1, (n, k, 2), generator=generator)
    positive = torch.ones(n, k, dtype=torch.bool)
    positive[-1, -1] = False
    for i in range(n):
        for j in range(k):
            u, v = (STRIDE * cells[i, j]).tolist()
            if positive[i, j]:
                searches[i, j, :, v : v + TEMPLATE, u : u + TEMPLATE] = template[i]
    centres = (STRIDE * cells + TEMPLATE / 2 - SEARCH / 2).float()
    sizes = torch.full((n, k, 2), TEMPLATE / 2)
    template_box = torch.tensor([0.0, 0.0, TEMPLATE / 2, TEMPLATE / 2]).expand(n, 4)
    return Pairs(template, searches, template_box, torch.cat([centres, sizes], dim=2), positive)


def test_loss_is_that_of_the_pairs_one_by_one(network: SiameseNetwork) -> None:
    batch = pairs()
    loss = siamfc_objective(STRIDE, 9.0, None)(network, batch)
    responses, labels = [], []
    for i in range(3):
        for j in range(2):
            with torch.no_grad():
                template, search = batch.template[i : i + 1], batch.searches[i, j : j + 1]
                response = network(network.embed(template), network.embed(search))
            responses.append(response[0])
            box, positive = batch.boxes[i, j : j + 1], [bool(batch.positive[i, j])]
            labels.append(reference.response_labels(box.double().numpy(), positive, 7, STRIDE, 9.0, 0.0)[0])
    stacked = torch.stack(responses).double().numpy()
    assert_close(loss.detach(), reference.balanced_logistic_loss(stacked, np.stack(labels)), "float32")


def test_order_of_the_pairs_does_not_matter(network: SiameseNetwork) -> None:
    objective, batch = siamfc_objective(STRIDE, 9.0, None), pairs()
    turned = Pairs(*(part.flip(0) for part in batch))
    mixed = batch._replace(template=batch.template.flip(0))  # templates with the searches of others
    assert_close(objective(network, turned).detach(), objective(network, batch).detach(), "float32")
    assert abs(float(objective(network, mixed).detach() - objective(network, batch).detach())) > 1e-4


def test_gradient_reaches_every_parameter(network: SiameseNetwork) -> None:
    siamfc_objective(STRIDE, 9.0, None)(network, pairs()).backward()  # type: ignore[no-untyped-call]
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


def test_half_precision_gives_nearly_the_same_loss_in_float32(network: SiameseNetwork) -> None:
    exact = siamfc_objective(STRIDE, 9.0, None)(network, pairs()).detach()
    half = siamfc_objective(STRIDE, 9.0, torch.bfloat16)(network, pairs()).detach()
    assert half.dtype == torch.float32
    assert half != exact
    assert abs(float(half - exact)) < 0.02 * float(exact)


def test_a_few_steps_teach_where_the_object_is(network: SiameseNetwork) -> None:
    objective, batch = siamfc_objective(STRIDE, 9.0, None), pairs()
    optimizer = torch.optim.SGD(network.parameters(), lr=1.0, momentum=0.9)
    history = []
    for _ in range(40):
        loss = objective(network, batch)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        history.append(float(loss.detach()))
    assert history[-1] < 0.3 * history[0]
    with torch.no_grad():
        response = network(network.embed(batch.template[:1]), network.embed(batch.searches[0, :1]))[0, 0]
    row, column = divmod(int(response.argmax()), 7)
    found = torch.tensor([column - 3, row - 3]) * STRIDE
    assert (found - batch.boxes[0, 0, :2]).norm() <= 9.0


class TwoLevels(nn.Module):
    """Embed patches of 8x8 pixels for the fine map, and of the four around every other one for the deep map."""

    stride = 16

    def __init__(self) -> None:
        super().__init__()
        self.fine = nn.Sequential(nn.Conv2d(3, 16, 9, 8, padding=4), nn.ReLU())
        self.deep = nn.Sequential(nn.Conv2d(16, 16, 3, 2, padding=1), nn.ReLU())

    def features(self, images: Tensor) -> Features:
        """Return maps of (H - 1) / 8 + 1 and (H - 1) / 16 + 1 cells."""
        fine = self.fine(images)
        return Features(fine, self.deep(fine))

    def forward(self, images: Tensor) -> Tensor:
        """Return the deep map."""
        return self.features(images).deep


def rpn_pairs(n: int = 3, k: int = 2) -> Pairs:
    """Return pairs of a template of 49 px whose object of 24 x 24 lies somewhere in searches of 97 px; one does not."""
    generator = torch.Generator().manual_seed(1)
    template = torch.randint(0, 256, (n, 3, 49, 49), generator=generator, dtype=torch.uint8)
    searches = torch.randint(0, 256, (n, k, 3, 97, 97), generator=generator, dtype=torch.uint8)
    places = torch.randint(0, 97 - 24, (n, k, 2), generator=generator)
    positive = torch.ones(n, k, dtype=torch.bool)
    positive[-1, -1] = False
    for i in range(n):
        for j in range(k):
            u, v = places[i, j].tolist()
            if positive[i, j]:
                searches[i, j, :, v : v + 24, u : u + 24] = template[i, :, 12:36, 12:36]
    template_box = torch.tensor([-0.5, -0.5, 24.0, 24.0]).expand(n, 4)
    boxes = torch.cat([places + 12 - 97 / 2, torch.full((n, k, 2), 24.0)], dim=2)
    return Pairs(template, searches, template_box, boxes, positive)


@pytest.fixture
def rpn_network() -> SiameseNetwork:
    torch.manual_seed(0)
    return SiameseNetwork(TwoLevels(), RPNHead(16, 16, RPNWidths(cells=3, neck=16, fine_neck=8, tower=16)))


def test_rpn_loss_is_that_of_the_cells_one_by_one(rpn_network: SiameseNetwork) -> None:
    batch = rpn_pairs()
    rpn_network.eval()  # BatchNorm would tie the pairs together
    nn.init.normal_(rpn_network.head.box.weight, std=0.1, generator=torch.Generator().manual_seed(0))
    loss = rpn_objective(16, 8.0, 0.3, None)(rpn_network, batch)
    labels = reference.response_labels(
        batch.boxes.flatten(0, 1).numpy(), batch.positive.flatten().tolist(), 13, 8, 8, 0.3
    )
    logits, overlaps, box_losses = [], np.zeros((6, 1, 13, 13)), []
    for i in range(3):
        for j in range(2):
            with torch.no_grad():
                code = rpn_network.head.encode(
                    rpn_network.embed(batch.template[i : i + 1]), batch.template_box[i : i + 1], 16
                )
                output = rpn_network.head(code, rpn_network.features(batch.searches[i, j : j + 1]))
            logits.append(output.cls_logits[0].double().numpy())
            boxes = reference.decode_boxes(output.box_deltas.double().numpy(), code.size_wh.numpy(), 8)[0]
            of_pair = []
            for row, column in np.argwhere(labels[2 * i + j, 0] > 0):
                truth = batch.boxes[i, j].double().numpy()
                overlaps[2 * i + j, 0, row, column], giou = reference.generalized_iou(boxes[:, row, column], truth)
                of_pair.append(1 - giou)
            box_losses += [np.mean(of_pair)] if of_pair else []
    assert len(box_losses) == 5
    cls_loss = reference.overlap_focal_loss(np.stack(logits), overlaps, labels) / labels.sum()
    expected = cls_loss + 2 * np.mean(box_losses)
    assert_close(loss.detach(), expected, "float32")


def test_rpn_gradient_reaches_every_parameter(rpn_network: SiameseNetwork) -> None:
    rpn_objective(16, 8.0, 0.3, None)(rpn_network, rpn_pairs()).backward()  # type: ignore[no-untyped-call]
    for name, parameter in rpn_network.named_parameters():
        assert parameter.grad is not None, name
        # A bias before BatchNorm has no say.
        if not (name.endswith("0.bias") or name.endswith("3.bias")):
            assert parameter.grad.abs().max() > 0, name


def test_rpn_half_precision_gives_nearly_the_same_loss_in_float32(rpn_network: SiameseNetwork) -> None:
    exact, half = (
        rpn_objective(16, 8.0, 0.3, dtype)(rpn_network, rpn_pairs()).detach() for dtype in (None, torch.bfloat16)
    )
    assert half.dtype == torch.float32
    assert half != exact
    assert abs(float(half - exact)) < 0.02 * float(exact)


def test_the_filters_loss_is_added_and_reaches_the_neck_alone(rpn_network: SiameseNetwork) -> None:
    batch, loss = rpn_pairs(), FilterLoss(16, 3, 0.01, 0.2, 8.0)
    rpn_network.filter_neck, rpn_network.fine_weight = FilterNeck(32, 6), 2.0
    rpn_network.eval()
    plain = rpn_objective(16, 8.0, 0.3, None)(rpn_network, batch)
    both = rpn_objective(16, 8.0, 0.3, None, [FilterTraining(loss, 0.5)])(rpn_network, batch)
    found = [rpn_network.features(searches) for searches in batch.searches]
    maps = torch.stack([rpn_network.filter_neck(join(deep, fine, 2.0)) for fine, deep in found])
    assert_close((both - plain).detach(), 0.5 * loss(maps, batch.boxes, batch.positive).detach(), "float32")
    gradients = torch.autograd.grad(both, list(rpn_network.parameters()), retain_graph=True)
    without = torch.autograd.grad(plain, list(rpn_network.parameters()), allow_unused=True)
    for (name, _), found, other in zip(rpn_network.named_parameters(), gradients, without, strict=True):
        if name.startswith("filter_neck."):
            assert other is None and found.abs().max() > 0
        else:
            assert other is not None and torch.equal(found, other)


def test_pairs_without_any_object_are_learned_from(rpn_network: SiameseNetwork) -> None:
    batch = rpn_pairs()._replace(positive=torch.zeros(3, 2, dtype=torch.bool))
    loss = rpn_objective(16, 8.0, 0.3, None)(rpn_network, batch)
    loss.backward()  # type: ignore[no-untyped-call]
    assert 0 < float(loss.detach()) < 1
    assert all(bool(p.grad.isfinite().all()) for p in rpn_network.parameters() if p.grad is not None)


def test_a_few_steps_teach_where_the_object_is_and_how_large(rpn_network: SiameseNetwork) -> None:
    objective, batch = rpn_objective(16, 8.0, 0.3, None), rpn_pairs()
    optimizer = torch.optim.AdamW(rpn_network.parameters(), lr=0.005)
    history = []
    for _ in range(80):
        loss = objective(rpn_network, batch)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        history.append(float(loss.detach()))
    assert history[-1] < 0.4 * history[0]
    with torch.no_grad():
        code = rpn_network.head.encode(rpn_network.embed(batch.template), batch.template_box, 16)
        output = rpn_network.head(TemplateCode(*(part for part in code)), rpn_network.features(batch.searches[:, 0]))
        boxes = decode(output.box_deltas, code.size_wh, 8).flatten(2)
        best = output.cls_logits.flatten(1).argmax(1)
    for i in range(3):
        found, truth = boxes[i, :, best[i]].numpy(), batch.boxes[i, 0].numpy()
        assert reference.generalized_iou(found, truth)[0] > 0.6
