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


# Geometry and crops


def iou_by_counting(a_xywh: tuple[int, ...], b_xywh: tuple[int, ...], limit: int) -> float:
    """Count the unit squares of a limit x limit grid that lie in both boxes, and those that lie in either."""
    both = either = 0
    for i in range(limit):
        for j in range(limit):
            in_a, in_b = (x <= j < x + w and y <= i < y + h for x, y, w, h in (a_xywh, b_xywh))
            both += in_a and in_b
            either += in_a or in_b
    return both / either


def bilinear_crop(frame: Float64, middle_xy: tuple[float, float], side: float, size: int, fill: Float64) -> Float64:
    """Sample a square of the frame at the centres of size x size cells; each mixes its four nearest pixel centres."""
    height, width = frame.shape[:2]
    crop = np.empty((size, size, 3))
    for row in range(size):
        for column in range(size):
            x, y = (m - side / 2 + (k + 0.5) * side / size for m, k in zip(middle_xy, (column, row), strict=True))
            left, top = int(np.floor(x - 0.5)), int(np.floor(y - 0.5))  # the pixel whose centre is before (x, y)
            value = np.zeros(3)
            for i in (top, top + 1):
                for j in (left, left + 1):
                    share = (1 - abs(x - (j + 0.5))) * (1 - abs(y - (i + 0.5)))
                    value += share * (frame[i, j] if 0 <= i < height and 0 <= j < width else fill)
            crop[row, column] = value
    return crop


# Training


def response_labels(centres: Float64, positive: list[bool], cells: int, stride: int, radius_px: float) -> Float64:
    """Ask of every cell how far its centre lies from the object; the cells are laid around the crop's middle."""
    labels = np.zeros((len(positive), 1, cells, cells))
    for n, (u, v) in enumerate(centres):
        for i in range(cells):
            for j in range(cells):
                x, y = stride * (j + 0.5 - cells / 2), stride * (i + 0.5 - cells / 2)
                labels[n, 0, i, j] = positive[n] and np.sqrt((x - u) ** 2 + (y - v) ** 2) <= radius_px
    return labels


def balanced_logistic_loss(logits: Float64, labels: Float64) -> float:
    """Take log(1 + exp(-y v)) of each cell, y = +-1; mean over each kind of cell, over the kinds, over the maps."""
    total = 0.0
    for value_map, label_map in zip(logits, labels, strict=True):
        losses: dict[bool, list[float]] = {True: [], False: []}
        for value, label in zip(value_map.ravel(), label_map.ravel(), strict=True):
            losses[bool(label)].append(np.log1p(np.exp(-value if label else value)))
        kinds = [np.mean(each) for each in losses.values() if each]
        total += float(np.mean(kinds))
    return total / len(logits)


def neighbourhoods(features: Float64, kernel: int) -> Float64:
    """Copy each cell's k x k neighbourhood, zero outside the map: (d, h, w) -> (h w, d k k)."""
    channels, height, width = features.shape
    reach = kernel // 2
    rows = np.zeros((height * width, channels, kernel, kernel))
    for i in range(height):
        for j in range(width):
            for p in range(kernel):
                for q in range(kernel):
                    y, x = i + p - reach, j + q - reach
                    if 0 <= y < height and 0 <= x < width:
                        rows[i * width + j, :, p, q] = features[:, y, x]
    return rows.reshape(height * width, -1)


def conjugate_gradient(rows: Float64, labels: Float64, ridge: float) -> Float64:
    """Minimise |rows f - labels|^2 + ridge |f|^2 from the rows themselves, without forming their Gram matrix."""
    solution = np.zeros(rows.shape[1])
    residual = rows.T @ labels
    direction, energy = residual.copy(), float(residual @ residual)
    for _ in range(5 * len(solution)):
        image = rows.T @ (rows @ direction) + ridge * direction
        step = energy / float(direction @ image)
        solution += step * direction
        residual -= step * image
        before, energy = energy, float(residual @ residual)
        if energy < 1e-26 * float(labels @ labels):
            break
        direction = residual + energy / before * direction
    return solution
