import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from tests import reference
from tests.tolerances import assert_close
from tracker.training.filter_loss import FilterLoss, filter_answers

LOSS = FilterLoss(stride=16, kernel=3, ridge=0.01, label_sigma=0.2, min_sigma=8.0)
CELLS = 7


def drawn_maps(n: int, k: int, channels: int = 4) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    maps = torch.rand(n, k, channels, CELLS, CELLS, generator=generator, dtype=torch.float64)
    return normalize(maps.flatten(2), dim=2).view_as(maps)


def boxes_at(*places: tuple[float, float]) -> Tensor:
    return torch.tensor([[[u, v, 60.0, 40.0] for u, v in places]])


def wanted(box: Tensor) -> np.ndarray:
    """Return the answers (9, 9) that a filter should give at all places of a map of 7x7 cells."""
    u, v, w, h = box.double().tolist()
    sigma = max(0.2 * (w * h) ** 0.5, 8.0) / 16
    at = np.arange(CELLS + 2) - (CELLS + 1) / 2
    across, down = (np.exp(-((at - middle / 16) ** 2) / (2 * sigma**2)) for middle in (u, v))
    return np.outer(down, across)


def answers_of(learned: Tensor, label: np.ndarray, shown: Tensor) -> np.ndarray:
    """Return what a filter learned on one map answers on another, from its equations written out."""
    own, other = (reference.neighbourhoods(m.double().numpy(), 3, ring=1) for m in (learned, shown))
    solved = reference.conjugate_gradient(own, label.reshape(-1), 0.01)
    return other @ solved / max(float((own @ solved).max()), 0.1)


def test_answers_are_those_of_the_filter_in_the_tracker() -> None:
    maps = drawn_maps(1, 3)[0]
    labels = torch.rand(3, 81, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    before = torch.tensor([2, 0, 1])
    found = filter_answers(maps, labels, before, 3, 0.01)
    for at, learned in enumerate(before.tolist()):
        assert_close(found[at], answers_of(maps[learned], labels[learned].numpy(), maps[at]), "float64")


def test_loss_is_that_of_the_places_one_by_one() -> None:
    maps = drawn_maps(1, 3).float()
    boxes, positive = boxes_at((0, 0), (20, -30), (-8, 4)), torch.tensor([[True, False, True]])
    found = LOSS(maps, boxes, positive)
    off, place = [], []
    for at, learned in ((0, 2), (1, 0), (2, 1)):
        if not positive[0, learned]:
            continue
        answers = answers_of(maps[0, learned], wanted(boxes[0, learned]), maps[0, at])
        labels = wanted(boxes[0, at]).reshape(-1) * float(positive[0, at])
        gaps = [
            2 * (a - y) ** 2 if y >= 0.05 else max(a, 0.0) ** 2 for a, y in zip(answers.tolist(), labels, strict=True)
        ]
        off.append(sum(gaps))
        if positive[0, at]:
            chances = np.exp(9 * answers) / np.exp(9 * answers).sum()
            place.append(-(labels * np.log(chances)).sum() / labels.sum())
    assert (len(off), len(place)) == (2, 1)
    assert float(found) == pytest.approx(np.mean(off) + np.mean(place), rel=1e-4)


def test_features_that_show_the_object_alone_cost_less_than_those_that_show_another_as_well() -> None:
    boxes, positive = boxes_at((0, 0), (16, 16)), torch.tensor([[True, True]])
    bump = torch.tensor([[0.5, 1.0, 0.5]])
    spot = bump.T @ bump

    def shown(*rivals: tuple[int, int]) -> Tensor:
        """Return maps in which the object lies in cell (3, 3), then in (4, 4), and rivals like it in others."""
        maps = torch.full((1, 2, 2, CELLS, CELLS), 0.05)
        for at, place in enumerate((3, 4)):
            maps[0, at, 0, place - 1 : place + 2, place - 1 : place + 2] += spot
            for row, column in rivals:
                maps[0, at, 0, row : row + 3, column : column + 3] += spot
        return normalize(maps.flatten(2), dim=2).view_as(maps)

    alone, beside = LOSS(shown(), boxes, positive), LOSS(shown((0, 0)), boxes, positive)
    assert float(beside) > float(alone) + 0.1


def test_nothing_is_learned_from_searches_without_the_object() -> None:
    maps = drawn_maps(2, 2).float().requires_grad_()
    loss = LOSS(maps, boxes_at((0, 0), (0, 0)).expand(2, 2, 4), torch.zeros(2, 2, dtype=torch.bool))
    loss.backward()  # type: ignore[no-untyped-call]
    assert float(loss.detach()) == 0
    assert maps.grad is not None and not maps.grad.any()


def test_gradient_is_the_slope_of_the_loss() -> None:
    boxes, positive = boxes_at((10, 0), (20, -30)), torch.tensor([[True, True]])
    maps = drawn_maps(1, 2).requires_grad_()

    def double(maps: Tensor) -> Tensor:  # the loss itself is in float32, too coarse for differences
        labels = torch.stack([torch.from_numpy(wanted(box).reshape(-1)) for box in boxes[0]])
        return filter_answers(maps[0], labels, torch.tensor([1, 0]), 3, 0.01)

    assert torch.autograd.gradcheck(double, (maps,))  # type: ignore[no-untyped-call]
    LOSS(maps, boxes, positive).backward()  # type: ignore[no-untyped-call]
    assert maps.grad is not None and (maps.grad.flatten(2).abs().amax(2) > 0).all()
