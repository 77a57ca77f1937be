from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn.functional import conv2d

from tracker.models.depthwise import DepthwiseConv2d

CHANNELS = 6
SHAPES = ((1, 9, 9), (2, 15, 12), (3, 8, 17))


@pytest.fixture(params=[(3, 1), (3, 2), (5, 1), (5, 2), (7, 1), (7, 2)], ids=lambda param: f"{param[0]} by {param[1]}")
def layer(request: pytest.FixtureRequest) -> DepthwiseConv2d:
    torch.manual_seed(0)
    return DepthwiseConv2d(CHANNELS, *request.param)


def plain(layer: DepthwiseConv2d, x: Tensor) -> Tensor:
    return conv2d(x, layer.weight, layer.bias, layer.stride, layer.kernel // 2, groups=CHANNELS)


def gradients(
    layer: DepthwiseConv2d, compute: Callable[[Tensor], Tensor], x: Tensor, dtype: torch.dtype | None
) -> list[Tensor]:
    """Return what is computed, under autocast where there is a dtype, and the gradients of inputs, weights and bias."""
    layer.zero_grad()
    given = x.clone().requires_grad_()
    with torch.autocast("cpu", dtype, enabled=dtype is not None):
        out = compute(given)
    wanted = torch.randn(out.shape, generator=torch.Generator().manual_seed(1))
    out.float().backward(wanted)
    found = (given.grad, layer.weight.grad, layer.bias.grad)
    assert all(one is not None for one in found)
    return [out.detach().float(), *(one.clone() for one in found if one is not None)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_gradients_under_autocast_are_those_of_the_plain_convolution(
    layer: DepthwiseConv2d, shape: tuple[int, int, int], dtype: torch.dtype
) -> None:
    x = torch.randn(shape[0], CHANNELS, *shape[1:])
    exact = gradients(layer, lambda given: plain(layer, given), x, None)
    half = gradients(layer, layer, x, dtype)
    for found, true in zip(half, exact, strict=True):
        assert found.shape == true.shape
        assert float((found - true).norm() / true.norm()) < 0.01


@pytest.mark.parametrize("shape", SHAPES)
def test_without_autocast_it_is_the_plain_convolution(layer: DepthwiseConv2d, shape: tuple[int, int, int]) -> None:
    x = torch.randn(shape[0], CHANNELS, *shape[1:])
    exact = gradients(layer, lambda given: plain(layer, given), x, None)
    assert all(torch.equal(a, b) for a, b in zip(gradients(layer, layer, x, None), exact, strict=True))


def test_frozen_weights_get_no_gradient(layer: DepthwiseConv2d) -> None:
    layer.requires_grad_(requires_grad=False)
    x = torch.randn(1, CHANNELS, 9, 9, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        layer(x).float().sum().backward()
    assert x.grad is not None
    assert layer.weight.grad is None
    assert layer.bias.grad is None


def test_pictures_get_no_gradient(layer: DepthwiseConv2d) -> None:
    x = torch.randn(1, CHANNELS, 9, 9)
    with torch.autocast("cpu", torch.bfloat16):
        layer(x).float().sum().backward()
    assert x.grad is None
    assert layer.weight.grad is not None


def test_nothing_is_kept_for_gradients_that_nobody_wants(layer: DepthwiseConv2d) -> None:
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        out = layer(torch.randn(1, CHANNELS, 9, 9))
    assert out.dtype == torch.bfloat16
    assert not out.requires_grad
