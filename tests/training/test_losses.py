import math

import numpy as np
import pytest
import torch

from tests import reference
from tests.tolerances import Kind, assert_close
from tracker.training.losses import anchor_loss, balanced_logistic_loss, generalized_iou, overlap_focal_loss


def maps(shares: list[float], dtype: torch.dtype, cells: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    """Return logits and labels (N, 1, cells, cells); map n has about shares[n] of its cells positive."""
    generator = torch.Generator().manual_seed(0)
    shape = (len(shares), 1, cells, cells)
    labels = torch.rand(shape, generator=generator) < torch.tensor(shares).view(-1, 1, 1, 1)
    return 3 * torch.randn(shape, generator=generator, dtype=dtype), labels.to(dtype)


@pytest.mark.parametrize(("dtype", "kind"), [(torch.float64, "float64"), (torch.float32, "float32")])
@pytest.mark.parametrize(
    "shares", [[0.5], [0.1, 0.9, 0.4], [0.0], [1.0], [0.0, 0.3, 1.0]], ids=lambda shares: f"positive {shares}"
)
def test_loss_is_that_of_the_loop(shares: list[float], dtype: torch.dtype, kind: Kind) -> None:
    logits, labels = maps(shares, dtype)
    truth = reference.balanced_logistic_loss(logits.double().numpy(), labels.numpy())
    assert_close(balanced_logistic_loss(logits, labels), truth, kind)


def test_gradient_is_that_of_finite_differences() -> None:
    logits, labels = maps([0.2, 0.0, 1.0], torch.float64, cells=3)
    loss = balanced_logistic_loss(logits.requires_grad_(), labels)
    (gradient,) = torch.autograd.grad(loss, logits)
    step = 1e-6
    for at in np.ndindex(*logits.shape):
        moved = logits.detach().clone()
        moved[at] += step
        slope = (reference.balanced_logistic_loss(moved.numpy(), labels.numpy()) - loss.item()) / step
        assert abs(slope - gradient[at].item()) < 1e-5


def test_both_kinds_of_cells_weigh_the_same() -> None:
    logits = torch.zeros(1, 1, 5, 5, requires_grad=True)
    labels = torch.zeros(1, 1, 5, 5)
    labels[0, 0, 2, 2:4] = 1
    loss = balanced_logistic_loss(logits, labels)
    loss.backward()
    assert_close(loss.detach(), math.log(2), "float32")
    assert logits.grad is not None
    assert_close(logits.grad[labels == 1], [-0.125] * 2, "float32")  # half of the slope of 1/2, shared by two
    assert_close(logits.grad[labels == 0], [0.25 / 23] * 23, "float32")


def test_loss_does_not_overflow() -> None:
    logits = torch.full((2, 1, 3, 3), 1e4)
    labels = torch.zeros(2, 1, 3, 3)
    labels[0] = 1
    assert_close(balanced_logistic_loss(logits, labels), 5e3, "float32")  # the map that is right costs nothing
    assert_close(balanced_logistic_loss(-logits, labels), 5e3, "float32")


DTYPES: list[tuple[torch.dtype, Kind]] = [(torch.float64, "float64"), (torch.float32, "float32")]


def drawn_boxes(count: int, dtype: torch.dtype, seed: int) -> torch.Tensor:
    drawn = torch.rand(count, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.cat([drawn[:, :2] * 30, drawn[:, 2:] * 25 + 1], dim=1).to(dtype)


@pytest.mark.parametrize(("dtype", "kind"), DTYPES)
def test_overlaps_of_boxes_are_those_of_the_loop(dtype: torch.dtype, kind: Kind) -> None:
    a, b = drawn_boxes(40, dtype, 0), drawn_boxes(40, dtype, 1)
    truth = [reference.generalized_iou(x, y) for x, y in zip(a.double().numpy(), b.double().numpy(), strict=True)]
    iou, giou = generalized_iou(a, b)
    assert_close(torch.stack([iou, giou], dim=1), truth, kind)
    assert (iou == 0).any() and (iou > 0.2).any()  # the draw has both kinds


def test_generalized_iou_of_known_boxes() -> None:
    box = torch.tensor([5.0, 5.0, 4.0, 2.0])
    apart = torch.tensor([15.0, 5.0, 4.0, 2.0])  # the hull is 14 x 2, of which 12 are covered by neither
    assert_close(torch.stack(generalized_iou(box, box)), [1, 1], "float64")
    assert_close(torch.stack(generalized_iou(box, apart)), [0, -12 / 28], "float32")


@pytest.mark.parametrize(("dtype", "kind"), DTYPES)
@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_overlap_focal_loss_is_that_of_the_loop(dtype: torch.dtype, kind: Kind, share: float) -> None:
    logits, labels = maps([share, share / 2], dtype)
    overlaps = torch.rand(labels.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64).to(dtype)
    truth = reference.overlap_focal_loss(*(part.double().numpy() for part in (logits, overlaps, labels)))
    assert_close(overlap_focal_loss(logits, overlaps, labels > 0), truth, kind)


def test_overlap_focal_loss_is_least_at_the_overlap() -> None:
    overlaps, positive = torch.full((1, 1, 1, 1), 0.7), torch.ones(1, 1, 1, 1, dtype=torch.bool)
    logits = torch.logit(overlaps).requires_grad_()
    (gradient,) = torch.autograd.grad(overlap_focal_loss(logits, overlaps, positive), logits)
    assert abs(float(gradient)) < 1e-6
    for score in (0.6, 0.8):
        moved = overlap_focal_loss(torch.logit(torch.full((1, 1, 1, 1), score)), overlaps, positive)
        assert moved > overlap_focal_loss(logits.detach(), overlaps, positive)


@pytest.mark.parametrize(("dtype", "kind"), [(torch.float64, "float64"), (torch.float32, "float32")])
@pytest.mark.parametrize("hardest", [3, 40])
def test_anchor_loss_is_that_of_the_loop(dtype: torch.dtype, kind: Kind, hardest: int) -> None:
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(-1, 2, (3, 5, 4, 4), generator=generator).to(dtype)
    labels[1] = labels[1].clamp(max=0)  # a pair that does not match
    logits = 3 * torch.randn(labels.shape, generator=generator, dtype=dtype)
    truth = reference.anchor_loss(logits.double().numpy(), labels.numpy(), hardest)
    assert_close(anchor_loss(logits, labels, hardest), truth, kind)


def test_anchors_that_do_not_count_get_no_gradient() -> None:
    logits = torch.zeros(1, 5, 3, 3, requires_grad=True)
    labels = torch.full((1, 5, 3, 3), -1.0)
    labels[0, 0, 1, 1], labels[0, 1] = 1, 0
    anchor_loss(logits, labels, 9).backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None
    assert_close(logits.grad[0, 0, 1, 1], -0.25, "float32")
    assert_close(logits.grad[0, 1], [[0.25 / 9] * 3] * 3, "float32")
    assert float(logits.grad[labels < 0].abs().max()) == 0
