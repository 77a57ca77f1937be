"""Cross-correlation on the CPU in NumPy arrays, forward and backward, compiled by Numba; needs no torch.

A plane is walked as one flat row. The response at pixel k = i * W + j is a sum over the taps (p, q) of the template of
template[p, q] * search[k + p * W + q], so each tap adds a shifted copy of one long contiguous row: loops that SIMD
units run near their peak, whatever the template's size. The w - 1 last values of each row of the response wrap round
the edge; they are computed and dropped.

The first call of each function compiles it, which takes seconds; the machine code is kept beside this file or, where
that folder is not writable, in the user's cache folder or in the one that NUMBA_CACHE_DIR names.
"""

import threading
from collections.abc import Callable
from typing import Any, TypeVar

import numba
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating[Any]]  # float32 or float64
Offsets = NDArray[np.int64]
_Kernel = TypeVar("_Kernel", bound=Callable[..., None])

# Sums may be reordered and fused, which SIMD needs; not-a-number and infinity keep their meaning.
_OPTIONS: dict[str, Any] = {
    "fastmath": {"reassoc", "contract", "nsz"},
    "error_model": "numpy",
    "nogil": True,
    "cache": True,
}
_serial: Callable[[_Kernel], _Kernel] = numba.njit(**_OPTIONS)
_parallel: Callable[[_Kernel], _Kernel] = numba.njit(parallel=True, **_OPTIONS)

# Channels that one task of the full correlation sums. A fixed number, so that the order of the additions, and with it
# the response to the last bit, does not depend on the number of threads.
_CHANNELS_PER_TASK = 32
# Multiply-adds below which one thread does the work, about four milliseconds. Numba's OpenMP pool is not torch's: while
# the threads of the one still spin, waiting for more, those of the other wait for a core, up to a time slice. On two
# cores that made 28 million multiply-adds three times as slow with two threads as with one, and sped up 150 million.
_PARALLEL_WORK = 1 << 26
# Numba's threading layer "workqueue", its fallback, stops the process when two threads enter it at once.
_PARALLEL_LOCK = threading.Lock()


def cross_correlation(template: Array, search: Array, threads: int | None = None) -> Array:
    """Correlate over all channels: (N, C, h, w) on (N, C, H, W) gives (N, 1, H - h + 1, W - w + 1).

    The template's batch may be 1: one template for all search maps. `threads` is an upper limit; None takes Numba's.
    Raises ValueError for shapes that do not go together and for types other than float32 and float64.
    """
    _check_maps(template, search)
    partial = _forward(template, search, _CHANNELS_PER_TASK, threads)
    response: Array = np.sum(partial, axis=1, keepdims=True)
    return response


def depthwise_cross_correlation(template: Array, search: Array, threads: int | None = None) -> Array:
    """Correlate channel by channel: (N, C, h, w) on (N, C, H, W) gives (N, C, H - h + 1, W - w + 1).

    The template's batch, `threads` and the errors are those of `cross_correlation`.
    """
    _check_maps(template, search)
    return _forward(template, search, 1, threads)


def search_gradient(grad_response: Array, template: Array, threads: int | None = None) -> Array:
    """Return the loss's gradient (N, C, H, W) at the search from that at the response, full (N, 1, ..) or depthwise."""
    batch, responses, rows, columns = grad_response.shape
    templates, channels, h, w = template.shape
    if templates not in (1, batch) or responses not in (1, channels):
        raise ValueError(f"no response of shape {grad_response.shape} comes from a template of shape {template.shape}")
    # A search pixel m takes grad[m - tap offset] of each tap: the forward pass with the offsets counted from the end.
    width = columns + w - 1
    reach = (h - 1) * width + w - 1
    source = _flat_rows(grad_response, width, front=reach, back=reach - (w - 1))
    gradient = np.empty((batch, channels, rows + h - 1, width), grad_response.dtype)
    weights = np.ascontiguousarray(template).reshape(templates, channels, h * w)
    kernels = _correlate_serial, _correlate_parallel
    _run(kernels, gradient.size * h * w, threads, weights, source, reach - _offsets(h, w, width), width, 1, gradient)
    return gradient


def template_gradient(grad_response: Array, search: Array, template_batch: int, threads: int | None = None) -> Array:
    """Return the loss's gradient (template_batch, C, h, w) at the template from that at the response.

    With a template batch of 1 it is the sum over the search maps.
    """
    batch, responses, rows, columns = grad_response.shape
    _, channels, height, width = search.shape
    h, w = height - rows + 1, width - columns + 1
    if len(search) != batch or responses not in (1, channels) or h < 1 or w < 1 or template_batch not in (1, batch):
        raise ValueError(f"no response of shape {grad_response.shape} comes from a search of shape {search.shape}")
    values = _flat_rows(grad_response, width, front=0, back=0)
    planes = np.ascontiguousarray(search).reshape(batch, channels, height * width)
    gradient = np.zeros((template_batch, channels, h * w), grad_response.dtype)
    kernels = _gather_serial, _gather_parallel
    _run(kernels, planes.size * h * w, threads, values, planes, _offsets(h, w, width), gradient)
    return gradient.reshape(template_batch, channels, h, w)


def _check_maps(template: Array, search: Array) -> None:
    """Raise ValueError unless the kernels, which check no bounds, can take the two arrays."""
    fits = (
        template.ndim == search.ndim == 4
        and 0 not in template.shape + search.shape
        and template.shape[0] in (1, search.shape[0])
        and template.shape[1] == search.shape[1]
        and template.shape[2] <= search.shape[2]
        and template.shape[3] <= search.shape[3]
    )
    if not fits:
        raise ValueError(
            "template (N or 1, C, h, w) must go with search (N, C, H, W), h <= H and w <= W, none empty; "
            f"got shapes {template.shape} and {search.shape}"
        )
    if template.dtype != search.dtype or template.dtype not in (np.float32, np.float64):
        raise ValueError(
            f"template and search must both be float32 or float64, got {template.dtype} and {search.dtype}; cast them"
        )


def _forward(template: Array, search: Array, group: int, threads: int | None) -> Array:
    """Return the response of each group of channels: (N, groups, H - h + 1, W - w + 1)."""
    templates, channels, h, w = template.shape
    batch, _, height, width = search.shape
    weights = np.ascontiguousarray(template).reshape(templates, channels, h * w)
    source = np.ascontiguousarray(search).reshape(batch, channels, height * width)
    groups = -(-channels // group)
    response = np.empty((batch, groups, height - h + 1, width - w + 1), search.dtype)
    work = batch * channels * h * w * response.shape[2] * width
    kernels = _correlate_serial, _correlate_parallel
    _run(kernels, work, threads, weights, source, _offsets(h, w, width), width, group, response)
    return response


def _offsets(h: int, w: int, width: int) -> Offsets:
    """Return how far each tap of a template of h x w lies behind its first in a flat plane of the given width."""
    return np.add.outer(np.arange(h) * width, np.arange(w)).reshape(-1).astype(np.int64)


def _flat_rows(response: Array, width: int, front: int, back: int) -> Array:
    """Spread (N, R, rows, columns) over flat planes of the given width, zeros between the rows and at both ends."""
    batch, count, rows, columns = response.shape
    flat = np.zeros((batch, count, front + rows * width + back), response.dtype)
    flat[..., front : front + rows * width].reshape(batch, count, rows, width)[..., :columns] = response
    return flat


def _run(
    kernels: tuple[Callable[..., None], ...], work: int, threads: int | None, *arrays: Array | Offsets | int
) -> None:
    """Run the serial or the parallel kernel, with at most `threads` threads and at most as many as Numba may use.

    One thread takes the serial kernel: it starts no pool, and code that forks or has threads of its own may call it.
    """
    serial, parallel = kernels
    if work < _PARALLEL_WORK or threads == 1:
        serial(*arrays)
        return
    with _PARALLEL_LOCK:
        before = numba.get_num_threads()
        numba.set_num_threads(before if threads is None else min(threads, before))
        try:
            parallel(*arrays)
        finally:
            numba.set_num_threads(before)


@_serial
def _add_taps(sums: Array, weights: Array, source: Array, offsets: Offsets) -> None:
    """Add to sums[k] the sum over the taps t of weights[t] * source[offsets[t] + k].

    Eight taps at a time: one load and one store of the sums to eight multiply-adds.
    """
    size = sums.size
    grouped = offsets.size - offsets.size % 8
    for t in range(0, grouped, 8):
        a = source[offsets[t] : offsets[t] + size]
        b = source[offsets[t + 1] : offsets[t + 1] + size]
        c = source[offsets[t + 2] : offsets[t + 2] + size]
        d = source[offsets[t + 3] : offsets[t + 3] + size]
        e = source[offsets[t + 4] : offsets[t + 4] + size]
        f = source[offsets[t + 5] : offsets[t + 5] + size]
        g = source[offsets[t + 6] : offsets[t + 6] + size]
        h = source[offsets[t + 7] : offsets[t + 7] + size]
        wa, wb, wc, wd = weights[t], weights[t + 1], weights[t + 2], weights[t + 3]
        we, wf, wg, wh = weights[t + 4], weights[t + 5], weights[t + 6], weights[t + 7]
        for k in range(size):
            low = (wa * a[k] + wb * b[k]) + (wc * c[k] + wd * d[k])
            high = (we * e[k] + wf * f[k]) + (wg * g[k] + wh * h[k])
            sums[k] += low + high
    for t in range(grouped, offsets.size):
        a = source[offsets[t] : offsets[t] + size]
        wa = weights[t]
        for k in range(size):
            sums[k] += wa * a[k]


@_serial
def _add_dots(dots: Array, values: Array, source: Array, offsets: Offsets) -> None:
    """Add to dots[t] the sum over k of values[k] * source[offsets[t] + k]; eight taps share each load of the values."""
    size = values.size
    grouped = offsets.size - offsets.size % 8
    zero = dots.dtype.type(0)
    for t in range(0, grouped, 8):
        a = source[offsets[t] : offsets[t] + size]
        b = source[offsets[t + 1] : offsets[t + 1] + size]
        c = source[offsets[t + 2] : offsets[t + 2] + size]
        d = source[offsets[t + 3] : offsets[t + 3] + size]
        e = source[offsets[t + 4] : offsets[t + 4] + size]
        f = source[offsets[t + 5] : offsets[t + 5] + size]
        g = source[offsets[t + 6] : offsets[t + 6] + size]
        h = source[offsets[t + 7] : offsets[t + 7] + size]
        da = db = dc = dd = de = df = dg = dh = zero
        for k in range(size):
            value = values[k]
            da += value * a[k]
            db += value * b[k]
            dc += value * c[k]
            dd += value * d[k]
            de += value * e[k]
            df += value * f[k]
            dg += value * g[k]
            dh += value * h[k]
        for lane, dot in enumerate((da, db, dc, dd, de, df, dg, dh)):
            dots[t + lane] += dot
    for t in range(grouped, offsets.size):
        a = source[offsets[t] : offsets[t] + size]
        da = zero
        for k in range(size):
            da += values[k] * a[k]
        dots[t] += da


@_serial
def _correlate_task(
    task: int, weights: Array, source: Array, offsets: Offsets, width: int, group: int, response: Array
) -> None:
    """Write the response of one group of channels of one sample; a source of one channel serves all channels."""
    groups, rows, columns = response.shape[1:]
    sample, part = task // groups, task % groups
    template = sample if weights.shape[0] > 1 else 0
    sums = np.zeros((rows - 1) * width + columns, response.dtype)
    for channel in range(part * group, min((part + 1) * group, weights.shape[1])):
        plane = source[sample, channel if source.shape[1] > 1 else 0]
        _add_taps(sums, weights[template, channel], plane, offsets)
    for row in range(rows):
        response[sample, part, row] = sums[row * width : row * width + columns]


@_serial
def _correlate_serial(weights: Array, source: Array, offsets: Offsets, width: int, group: int, response: Array) -> None:
    for task in range(response.shape[0] * response.shape[1]):
        _correlate_task(task, weights, source, offsets, width, group, response)


@_parallel
def _correlate_parallel(
    weights: Array, source: Array, offsets: Offsets, width: int, group: int, response: Array
) -> None:
    for task in numba.prange(response.shape[0] * response.shape[1]):
        _correlate_task(task, weights, source, offsets, width, group, response)


@_serial
def _gather_task(task: int, values: Array, planes: Array, offsets: Offsets, gradient: Array) -> None:
    """Write the template gradient of one channel of one template, summed over the samples that share it."""
    template, channel = task // gradient.shape[1], task % gradient.shape[1]
    first, last = (template, template + 1) if gradient.shape[0] > 1 else (0, planes.shape[0])
    size = planes.shape[2] - offsets[-1]  # the response's pixels up to its last, without the zeros behind it
    for sample in range(first, last):
        response = values[sample, channel if values.shape[1] > 1 else 0, :size]
        _add_dots(gradient[template, channel], response, planes[sample, channel], offsets)


@_serial
def _gather_serial(values: Array, planes: Array, offsets: Offsets, gradient: Array) -> None:
    for task in range(gradient.shape[0] * gradient.shape[1]):
        _gather_task(task, values, planes, offsets, gradient)


@_parallel
def _gather_parallel(values: Array, planes: Array, offsets: Offsets, gradient: Array) -> None:
    for task in numba.prange(gradient.shape[0] * gradient.shape[1]):
        _gather_task(task, values, planes, offsets, gradient)
