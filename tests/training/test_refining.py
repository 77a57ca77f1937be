import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tracker.data.pairs import Pairs
from tracker.models.backbones import Features
from tracker.models.refiner import BoxRefiner, RefinerWidths
from tracker.models.siamese import SiameseNetwork
from tracker.training.losses import generalized_iou
from tracker.training.refining import RefinerTraining, moved, moves_of

SIDE = 97  # pixels of a search, 13 cells of stride 8


class Patches(nn.Module):
    """Embed the pixels under each cell of stride 8."""

    stride = 8

    def __init__(self) -> None:
        super().__init__()
        self.near = nn.Conv2d(3, 6, 9, 8, padding=4)

    def features(self, images: Tensor) -> Features:
        """Return the map twice."""
        return Features(*[self.near(images)] * 2)


def drawn(count: int, seed: int) -> Pairs:
    """Return a bright rectangle on noise a search; the template shows one in its middle."""
    rng = np.random.default_rng(seed)
    pictures = rng.integers(0, 80, (count, 3, 3, SIDE, SIDE), dtype=np.uint8)
    boxes = np.zeros((count, 3, 4), np.float32)
    for sample in range(count):
        for at in range(3):
            u, v = rng.uniform(-12, 12, 2) if at else (0.0, 0.0)
            w, h = rng.uniform(24, 44, 2)
            boxes[sample, at] = u, v, w, h
            x, y = SIDE / 2 + u - w / 2, SIDE / 2 + v - h / 2
            pictures[sample, at, :, round(y) : round(y + h), round(x) : round(x + w)] = 220
    shown, truth = torch.from_numpy(pictures), torch.from_numpy(boxes)
    there = torch.ones(count, 2, dtype=torch.bool)
    return Pairs(shown[:, 0], shown[:, 1:], truth[:, 0], truth[:, 1:], there)


@pytest.fixture
def network() -> SiameseNetwork:
    torch.manual_seed(0)
    return SiameseNetwork(Patches(), nn.Identity(), refiner=BoxRefiner(6, 6, 8, RefinerWidths()))


def loss_of(network: SiameseNetwork, pairs: Pairs, weight: float = 1.0) -> Tensor:
    template = network.features(pairs.template)
    return RefinerTraining(4, weight).of(network, template, network.features(pairs.searches.flatten(0, 1)), pairs)


def test_moves_depend_on_the_box_alone() -> None:
    boxes = drawn(2, seed=0).boxes.flatten(0, 1)
    together = moves_of(boxes, 4)
    assert together.shape == (4, 4, 4)
    assert torch.equal(together[2:], moves_of(boxes[2:].clone(), 4))
    assert not torch.equal(together[0], together[1])
    assert float(together.abs().max()) <= 0.35


def test_moves_are_of_the_spread_that_is_said() -> None:
    boxes = torch.rand(4000, 4, generator=torch.Generator().manual_seed(0)) + 1
    by = moves_of(boxes, 4)
    large, small = by[:, 0::2].flatten(0, 1), by[:, 1::2].flatten(0, 1)
    assert large.mean(0).numpy() == pytest.approx(np.zeros(4), abs=0.01)
    wanted = np.array([0.09, 0.09, 0.1 * 2**0.5, 0.1 * 2**0.5])
    assert large.std(0).numpy() == pytest.approx(wanted, rel=0.05)
    assert small.std(0).numpy() == pytest.approx(0.45 * wanted, rel=0.05)


def test_loss_of_a_refiner_that_moves_nothing_is_that_of_the_moved_boxes(network: SiameseNetwork) -> None:
    assert network.refiner is not None
    nn.init.zeros_(network.refiner.move[2].weight)  # type: ignore[arg-type]
    pairs = drawn(3, seed=1)
    boxes = pairs.boxes.flatten(0, 1)
    starts = moved(boxes.unsqueeze(1).expand(-1, 4, -1), moves_of(boxes, 4))
    wanted = 1 - generalized_iou(starts, boxes.unsqueeze(1).expand(-1, 4, -1))[1]
    assert float(loss_of(network, pairs, 2.0).detach()) == pytest.approx(2 * float(wanted.mean()), rel=1e-5)
    only = pairs._replace(positive=torch.tensor([[True, False], [False, False], [False, True]]))
    assert float(loss_of(network, only).detach()) == pytest.approx(float(wanted[[0, 5]].mean()), rel=1e-5)
    none = pairs._replace(positive=torch.zeros(3, 2, dtype=torch.bool))
    assert float(loss_of(network, none).detach()) == 0


def test_refiner_learns_to_move_boxes_back_and_the_features_do_not(network: SiameseNetwork) -> None:
    assert network.refiner is not None
    unseen = drawn(16, seed=99)
    with torch.no_grad():
        before = float(loss_of(network.eval(), unseen))
    network.train()
    optimizer = torch.optim.AdamW(network.refiner.parameters(), lr=2e-3)
    for step in range(60):
        optimizer.zero_grad()
        loss_of(network, drawn(8, seed=step)).backward()
        optimizer.step()
    assert all(parameter.grad is None for parameter in network.backbone.parameters())
    with torch.no_grad():
        after = float(loss_of(network.eval(), unseen))
    assert after < 0.6 * before
