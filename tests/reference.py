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


def response_labels(
    boxes: Float64, positive: list[bool], cells: int, stride: int, radius_px: float, share: float
) -> Float64:
    """Ask of every cell how far its centre lies from the object; the cells are laid around the crop's middle."""
    labels = np.zeros((len(positive), 1, cells, cells))
    for n, (u, v, w, h) in enumerate(boxes):
        across, down = max(radius_px, share * w), max(radius_px, share * h)
        for i in range(cells):
            for j in range(cells):
                x, y = stride * (j + 0.5 - cells / 2), stride * (i + 0.5 - cells / 2)
                labels[n, 0, i, j] = positive[n] and np.hypot((x - u) / across, (y - v) / down) <= 1
    return labels


def pixelwise_cross_correlation(template: Float64, search: Float64) -> Float64:
    """Take the inner product of every template cell (N, K, C) with every search cell (N, C, H, W)."""
    n, cells, _ = template.shape
    height, width = search.shape[2:]
    response = np.zeros((n, cells, height, width))
    for at in np.ndindex(*response.shape):
        response[at] = sum(a * b for a, b in zip(template[at[0], at[1]], search[at[0], :, at[2], at[3]], strict=True))
    return response


def decode_boxes(deltas: Float64, sizes: Float64, stride: int) -> Float64:
    """Lay an anchor of the object's size on every cell, move it by shares of its size and scale it."""
    boxes = np.zeros(deltas.shape)
    n, _, height, width = deltas.shape
    for k in range(n):
        for i in range(height):
            for j in range(width):
                dx, dy, dw, dh = deltas[k, :, i, j]
                x, y = stride * (j + 0.5 - width / 2), stride * (i + 0.5 - height / 2)
                w, h = sizes[k]
                factors = np.exp(np.clip([dw, dh], -np.log(4), np.log(4)))
                boxes[k, :, i, j] = x + dx * w, y + dy * h, w * factors[0], h * factors[1]
    return boxes


def generalized_iou(a: Float64, b: Float64) -> tuple[float, float]:
    """Measure two boxes (cx, cy, w, h): overlap over union, less the share of their hull that neither covers."""
    spans = [[(box[k] - box[k + 2] / 2, box[k] + box[k + 2] / 2) for k in (0, 1)] for box in (a, b)]
    inter = hull = 1.0
    for (low_a, high_a), (low_b, high_b) in zip(*spans, strict=True):
        inter *= max(0.0, min(high_a, high_b) - max(low_a, low_b))
        hull *= max(high_a, high_b) - min(low_a, low_b)
    union = a[2] * a[3] + b[2] * b[3] - inter
    return inter / union, inter / union - (hull - union) / hull


def overlap_focal_loss(logits: Float64, overlaps: Float64, positive: Float64) -> float:
    """Sum weighted cross-entropies over the cells: to the overlap where positive, to 0 elsewhere."""
    total = 0.0
    for x, q, is_positive in zip(logits.ravel(), overlaps.ravel(), positive.ravel(), strict=True):
        p = 1 / (1 + np.exp(-x))
        if is_positive:
            total -= q * (q * np.log(p) + (1 - q) * np.log(1 - p))
        else:
            total -= 0.75 * p**2 * np.log(1 - p)
    return total


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


def neighbourhoods(features: Float64, kernel: int, ring: int = 0) -> Float64:
    """Copy the k x k neighbourhood of each cell and of a ring around them, zero outside the map.

    features: (d, h, w); the result has a row of d k k numbers for each of the (h + 2 ring) (w + 2 ring) places.
    """
    features = np.pad(features, ((0, 0), (ring, ring), (ring, ring)))
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
