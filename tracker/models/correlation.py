"""Cross-correlation of a template with a search map: the layer that finds one image in another.

response[n, 0, i, j] = sum over c, p, q of template[n, c, p, q] * search[n, c, i + p, j + q]: no kernel is flipped and
nothing is padded, so a template cut at (i, j) of its search map answers there.
"""

from typing import Literal

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor
from torch.autograd.function import BackwardCFunction, Function, once_differentiable

Backend = Literal["auto", "torch", "numba"]

_NUMBA_DTYPES = (torch.float32, torch.float64)


def cross_correlation(template: Tensor, search: Tensor, backend: Backend = "auto") -> Tensor:
    """Correlate over all channels: (N, C, h, w) on (N, C, H, W) gives (N, 1, H - h + 1, W - w + 1).

    The template's batch may be 1: one template for all search maps, such as the scales of one target. Both gradients
    are right for any memory format. Raises ValueError for maps that do not go together, and for what "numba" cannot
    take: other devices than the CPU, other types than float32 and float64.
    """
    _check_maps(template, search)
    if _through_numba(template, backend, depthwise=False):
        return _numba_correlation(template, search, depthwise=False)
    h, w = template.shape[2:]
    # The product holds h * w planes the size of a search plane. With few channels and a large template that is more
    # memory traffic than its speed makes up for: one and four samples of 1 to 128 channels, templates of 1 to 31 pixels
    # a side, had the convolution ahead where h * w was 15 to 30 times the channels or more.
    if h * w <= 8 * search.shape[1]:
        return _diagonal_sum(template, search)
    return _grouped_convolution(template, search)


def depthwise_cross_correlation(template: Tensor, search: Tensor, backend: Backend = "auto") -> Tensor:
    """Correlate channel by channel: (N, C, h, w) on (N, C, H, W) gives (N, C, H - h + 1, W - w + 1).

    The template's batch, the gradients and the errors are those of `cross_correlation`.
    """
    _check_maps(template, search)
    if _through_numba(template, backend, depthwise=True):
        return _numba_correlation(template, search, depthwise=True)
    return _depthwise_convolution(template, search)


def up_channel_cross_correlation(template: Tensor, search: Tensor) -> Tensor:
    """Correlate K templates of a sample: (N or 1, K, C, h, w) on (N, C, H, W) gives (N, K, H - h + 1, W - w + 1).

    Source: Li et al. 2018 (SiamRPN), section 3.1. It is one matrix product and h * w sums of shifted planes, which
    every runtime has, and gradients come from them.
    """
    batch, channels, height, width = search.shape
    kernels, (h, w) = template.shape[1], template.shape[3:]
    taps = template.permute(0, 3, 4, 1, 2).reshape(len(template), h * w * kernels, channels)
    planes = torch.matmul(taps, search.flatten(2)).view(batch, h * w, kernels, height, width)
    rows, columns = height - h + 1, width - w + 1
    response = planes[:, 0, :, :rows, :columns]
    for tap in range(1, h * w):
        p, q = divmod(tap, w)
        response = response + planes[:, tap, :, p : p + rows, q : q + columns]
    return response


def pixelwise_cross_correlation(template: Tensor, search: Tensor) -> Tensor:
    """Correlate each cell of the template apart: cells (N or 1, K, C) on (N, C, H, W) give (N, K, H, W).

    With vectors of norm 1 on both sides these are cosines. Source: Yan et al. 2021 (Alpha-Refine), section 3.2.
    """
    n, channels, height, width = search.shape
    return torch.bmm(template.expand(n, -1, channels), search.flatten(2)).view(n, -1, height, width)


def _check_maps(template: Tensor, search: Tensor) -> None:
    """Raise ValueError unless template (N or 1, C, h, w) and search (N, C, H, W) go together."""
    for name, maps in (("template", template), ("search", search)):
        if maps.ndim != 4 or maps.numel() == 0:
            raise ValueError(
                f"{name} must have 4 axes (N, C, height, width), none empty, got shape {tuple(maps.shape)}"
            )
        if not maps.is_floating_point():
            raise ValueError(f"{name} must be of a floating-point type, got {maps.dtype}; cast it")
    if template.shape[1] != search.shape[1]:
        raise ValueError(
            f"template and search must have the same channels, got {template.shape[1]} and {search.shape[1]}"
        )
    if template.shape[0] not in (1, search.shape[0]):
        raise ValueError(
            f"the batch of the template must be 1 or that of the search, got {template.shape[0]} and {search.shape[0]}"
        )
    (h, w), (height, width) = template.shape[2:], search.shape[2:]
    if h > height or w > width:
        raise ValueError(f"the template must fit in the search, got {h}x{w} (height x width) in {height}x{width}")
    if template.dtype != search.dtype:
        raise ValueError(
            f"template and search must have the same dtype, got {template.dtype} and {search.dtype}; cast one"
        )
    if template.device != search.device:
        raise ValueError(f"template and search must be on one device, got {template.device} and {search.device}")


def _through_numba(template: Tensor, backend: Backend, depthwise: bool) -> bool:
    """Choose the path; raise ValueError for an unknown backend and for what Numba cannot take.

    "auto" takes Numba for one thing: training the template of a depthwise correlation on the CPU. There torch's
    gradient of the template, a convolution with as many groups as channels, is slow: Numba needs 0.2 to 0.4 of its
    time for the whole step, also where maps in channels_last or half precision are copied first (rows "depthwise |
    training" of benchmarks/correlation.md). For all else that trackers do torch is faster in most rows, never much
    slower, and Numba's import and compilation are saved.
    """
    if backend == "auto":
        learns = torch.is_grad_enabled() and template.requires_grad
        return depthwise and learns and template.device.type == "cpu"
    if backend == "torch":
        return False
    if backend != "numba":
        raise ValueError(f'backend must be "auto", "torch" or "numba", got {backend!r}')
    if template.device.type != "cpu":
        raise ValueError(f'backend "numba" runs on the CPU, got tensors on {template.device}; use "torch"')
    if template.dtype not in _NUMBA_DTYPES:
        raise ValueError(f'backend "numba" takes float32 and float64, got {template.dtype}; use "torch" or cast')
    return True


def _diagonal_sum(template: Tensor, search: Tensor) -> Tensor:
    """Correlate over all channels as one matrix product and a sum along its diagonals.

    The product of each tap (p, q) with each search pixel (y, x) over the channels is more arithmetic than the response
    needs, but a matrix product runs near the machine's peak, in both memory formats and in both gradients: more
    than 5 times as fast as the grouped convolution in float32 (rows "full" of benchmarks/correlation.md).
    """
    batch, channels, height, width = search.shape
    h, w = template.shape[2:]
    taps = template.flatten(2).transpose(1, 2).expand(batch, h * w, channels)
    planes = torch.bmm(taps, search.flatten(2))  # (N, h*w, H*W)
    plane = height * width
    # response[n, i, j] = sum over p, q of planes[n, p * w + q, (i + p) * W + j + q]
    diagonals = planes.as_strided(
        (batch, h, w, height - h + 1, width - w + 1),
        (h * w * plane, w * plane + width, plane + 1, width, 1),
    )
    return diagonals.sum((1, 2)).unsqueeze(1)


def _grouped_convolution(template: Tensor, search: Tensor) -> Tensor:
    """Correlate over all channels as a convolution (torch flips no kernel) with one group a sample."""
    if template.shape[0] == 1:
        return F.conv2d(search, template)
    samples = search.contiguous().flatten(0, 1).unsqueeze(0)  # (1, N*C, H, W)
    return F.conv2d(samples, template, groups=search.shape[0]).transpose(0, 1)


def _depthwise_convolution(template: Tensor, search: Tensor) -> Tensor:
    """Correlate channel by channel as a convolution with one group a channel."""
    batch, channels = search.shape[:2]
    if template.shape[0] == 1:
        return F.conv2d(search, template.transpose(0, 1), groups=channels)
    # One copy to (N, C, H, W) order is far cheaper than what flatten alone does to a channels_last map.
    samples = search.contiguous().flatten(0, 1).unsqueeze(0)  # (1, N*C, H, W)
    weights = template.contiguous().flatten(0, 1).unsqueeze(1)  # (N*C, 1, h, w)
    response = F.conv2d(samples, weights, groups=batch * channels)
    return response.view(batch, channels, *response.shape[2:])


def _numba_correlation(template: Tensor, search: Tensor, depthwise: bool) -> Tensor:
    """Correlate through Numba; half-precision maps, which only "auto" sends here, are computed in float32."""
    dtype = search.dtype
    template, search = template.contiguous(), search.contiguous()
    if dtype not in _NUMBA_DTYPES:
        template, search = template.float(), search.float()
    response: Tensor = _NumbaCorrelation.apply(template, search, depthwise)  # type: ignore[no-untyped-call]
    return response.to(dtype)


class _NumbaCorrelation(Function):
    """Put the kernels of correlation_numba into torch's graph; they use no more threads than torch may.

    Numba is imported at the first use: it takes a third of a second, which nobody else should pay.
    """

    @staticmethod
    def forward(ctx: BackwardCFunction, template: Tensor, search: Tensor, depthwise: bool) -> Tensor:
        from tracker.models import correlation_numba as kernels

        ctx.save_for_backward(template, search)
        correlate = kernels.depthwise_cross_correlation if depthwise else kernels.cross_correlation
        response = correlate(template.detach().numpy(), search.detach().numpy(), torch.get_num_threads())
        return torch.from_numpy(response)

    @staticmethod
    @once_differentiable
    def backward(ctx: BackwardCFunction, grad_response: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        from tracker.models import correlation_numba as kernels

        saved: tuple[Tensor, ...] = ctx.saved_tensors
        template, search = saved
        needs: tuple[bool, ...] = ctx.needs_input_grad
        grad, threads = grad_response.numpy(), torch.get_num_threads()
        grad_template = grad_search = None
        if needs[0]:
            grad_template = torch.from_numpy(kernels.template_gradient(grad, search.numpy(), len(template), threads))
        if needs[1]:
            grad_search = torch.from_numpy(kernels.search_gradient(grad, template.numpy(), threads))
        return grad_template, grad_search, None
