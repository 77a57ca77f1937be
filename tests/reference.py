"""The independent slow truth of each operation: float64, plain loops, written from the definition."""

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]


def cross_correlation(template: Float64, search: Float64) -> Float64:
    """Sum template * window over channels, rows and columns, for each place (i, j) of the window."""
    return depthwise_cross_correlation(template, search).sum(axis=1, keepdims=True)


def depthwise_cross_correlation(template: Float64, search: Float64) -> Float64:
    """Sum template * window over rows and columns, for each place (i, j) of the window; a template may serve all."""
    (_, _, h, w), (batch, channels, height, width) = template.shape, search.shape
    response = np.zeros((batch, channels, height - h + 1, width - w + 1))
    for n in range(batch):
        for i in range(response.shape[2]):
            for j in range(response.shape[3]):
                window = search[n, :, i : i + h, j : j + w]
                response[n, :, i, j] = (template[n % len(template)] * window).sum(axis=(1, 2))
    return response


def correlation_gradients(template: Float64, search: Float64, grad_response: Float64) -> tuple[Float64, Float64]:
    """Return the gradients at template and search: each product that made a response hands its gradient back.

    The response has one channel (over all channels) or those of the maps (channel by channel).
    """
    h, w = template.shape[2:]
    grad_template, grad_search = np.zeros(template.shape), np.zeros(search.shape)
    for n in range(search.shape[0]):
        m = n % len(template)
        for i in range(grad_response.shape[2]):
            for j in range(grad_response.shape[3]):
                grad = grad_response[n, :, i, j].reshape(-1, 1, 1)
                grad_template[m] += grad * search[n, :, i : i + h, j : j + w]
                grad_search[n, :, i : i + h, j : j + w] += grad * template[m]
    return grad_template, grad_search
