"""Convolutions of each channel apart, with gradients that are quick on a CPU in half precision too."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import conv2d, pad

_HALF = (torch.bfloat16, torch.float16)


class DepthwiseConv2d(nn.Module):
    """Convolve each channel with a kernel of its own, padded by k // 2: (N, C, H, W) -> (N, C, ceil(H/s), ceil(W/s)).

    On a CPU, under autocast, the gradients take a way of their own: oneDNN has none in bfloat16 for the weights of 5x5
    kernels, and none for inputs at stride 2; what steps in takes up to ten times as long (benchmarks/experiments.md).
    """

    def __init__(self, channels: int, kernel: int, stride: int = 1) -> None:
        """Take the number of channels, the size of the kernels, odd and 3 or more, and the stride."""
        super().__init__()
        drawn = nn.Conv2d(channels, channels, kernel, groups=channels)
        assert drawn.bias is not None
        self.weight, self.bias = drawn.weight, drawn.bias
        self.kernel, self.stride = kernel, stride

    def forward(self, x: Tensor) -> Tensor:
        """Return the features of features (N, C, H, W)."""
        if x.device.type == "cpu" and torch.is_grad_enabled() and torch.is_autocast_enabled("cpu"):
            dtype = torch.get_autocast_dtype("cpu")
            parts = x.to(dtype), self.weight.to(dtype), self.bias.to(dtype)
            return _Depthwise.apply(*parts, self.stride)  # type: ignore[no-untyped-call, no-any-return]
        return conv2d(x, self.weight, self.bias, self.stride, self.kernel // 2, groups=len(self.weight))


class _Depthwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, stride: int) -> Tensor:  # noqa: ANN401
        ctx.save_for_backward(x, weight)
        ctx.stride = stride
        return conv2d(x, weight, bias, stride, weight.shape[-1] // 2, groups=len(weight))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:  # noqa: ANN401
        x, weight = ctx.saved_tensors
        grad = grad.contiguous(memory_format=torch.channels_last)
        of_x, of_weight, of_bias, _ = ctx.needs_input_grad
        return (
            _gradient_of_inputs(grad, x, weight, ctx.stride) if of_x else None,
            _gradient_of_weights(grad, x, weight, ctx.stride) if of_weight else None,
            grad.sum((0, 2, 3)) if of_bias else None,
            None,
        )


def _gradient_of_inputs(grad: Tensor, x: Tensor, weight: Tensor, stride: int) -> Tensor:
    able = torch.float32 if stride > 1 and x.dtype in _HALF else x.dtype
    reach = weight.shape[-1] // 2
    found = _gradients(grad.to(able), x.to(able), weight.to(able), stride, reach, of=(True, False, False))[0]
    return found.to(x.dtype)


def _gradient_of_weights(grad: Tensor, x: Tensor, weight: Tensor, stride: int) -> Tensor:
    """Return the gradient of kernels of any size by those of the 3x3 kernels that lie in them."""
    reach = weight.shape[-1] // 2
    padded = pad(x, (reach, reach, reach, reach))
    height, width = (stride * (cells - 1) + 3 for cells in grad.shape[2:])
    found = torch.empty_like(weight)
    starts = range(0, weight.shape[-1] - 2, 2)
    for top in starts:
        for left in starts:
            part = padded[:, :, top : top + height, left : left + width].contiguous(memory_format=torch.channels_last)
            taps = found[:, :, top : top + 3, left : left + 3]
            taps.copy_(_gradients(grad, part, taps, stride, 0, of=(False, True, False))[1])
    return found


def _gradients(
    grad: Tensor, x: Tensor, weight: Tensor, stride: int, padding: int, of: tuple[bool, bool, bool]
) -> list[Tensor]:
    """Return the gradients of inputs, weights and bias, those that are asked for, of a convolution of each channel."""
    found: list[Tensor] = torch.ops.aten.convolution_backward(
        grad, x, weight, None, [stride] * 2, [padding] * 2, [1, 1], False, [0, 0], len(weight), of
    )
    return found
