import math

import numpy as np
import pytest
import torch

from tests import reference
from tests.tolerances import Kind, assert_close
from tracker.training.losses import balanced_logistic_loss


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
