"""The independent slow truth of each operation: float64, plain loops, written from the definition."""

import math

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


def up_channel_cross_correlation(template: Float64, search: Float64) -> Float64:
    """Slide each of a sample's K templates over its search map; the template's batch may be 1."""
    n, kernels = len(search), template.shape[1]
    pairs = [
        [cross_correlation(template[i % len(template)][k : k + 1], search[i : i + 1]) for k in range(kernels)]
        for i in range(n)
    ]
    return np.stack([np.concatenate([one[0] for one in row]) for row in pairs])


def anchor_loss(logits: Float64, labels: Float64, hardest: int) -> float:
    """Mean over samples: half from positive anchors, half from the negative ones that cost the most."""
    of_samples = []
    for sample, wanted in zip(logits.reshape(len(logits), -1), labels.reshape(len(labels), -1), strict=True):
        costs = [(math.log1p(math.exp(-x if y > 0.5 else x)), y) for x, y in zip(sample, wanted, strict=True) if y >= 0]
        right = [cost for cost, y in costs if y > 0.5]
        wrong = sorted((cost for cost, y in costs if y <= 0.5), reverse=True)[:hardest]
        halves = [sum(part) / max(len(part), 1) for part in (right, wrong + [0.0] * (hardest - len(wrong)))]
        of_samples.append(sum(halves) / 2 if right else halves[1])
    return sum(of_samples) / len(of_samples)


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


def best_proposal(
    scores: Float64,
    boxes: Float64,
    moves: tuple[float, float, float, float],
    last_wh: tuple[float, float],
    settings: tuple[float, float, float],
) -> tuple[float, ...]:
    """Return centre, smoothed size and score of the cell that is best after window and penalty, cell by cell.

    scores (n, n), boxes (4, n, n), each moved by the calibration; settings: penalty_k, window influence, smoothing.
    """
    n, (dx, dy, dw, dh), (penalty_k, influence, smoothing) = len(scores), moves, settings
    hann = [math.sin(math.pi * (i + 1) / (n + 1)) ** 2 for i in range(n)]

    def side(w: float, h: float) -> float:
        return math.sqrt((w + (w + h) / 2) * (h + (w + h) / 2))

    best, answer = -math.inf, ()
    (last_w, last_h), top = last_wh, max(hann) ** 2
    for i in range(n):
        for j in range(n):
            u, v, w, h = (float(value) for value in boxes[:, i, j])
            u, v, w, h = u + dx * w, v + dy * h, w * math.exp(dw), h * math.exp(dh)
            grown, bent = side(w, h) / side(last_w, last_h), (w / h) / (last_w / last_h)
            penalty = math.exp(-penalty_k * (max(grown, 1 / grown) * max(bent, 1 / bent) - 1))
            score = float(scores[i, j])
            ranked = penalty * score * (1 - influence + influence * hann[i] * hann[j] / top)
            if ranked > best:
                step = smoothing * penalty * score
                best, answer = ranked, (u, v, last_w + step * (w - last_w), last_h + step * (h - last_h), score)
    return answer


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

    features: (d, h, w); the result has a row of k k d numbers for each of the (h + 2 ring) (w + 2 ring) places.
    """
    features = np.pad(features, ((0, 0), (ring, ring), (ring, ring)))
    channels, height, width = features.shape
    reach = kernel // 2
    rows = np.zeros((height * width, kernel, kernel, channels))
    for i in range(height):
        for j in range(width):
            for p in range(kernel):
                for q in range(kernel):
                    y, x = i + p - reach, j + q - reach
                    if 0 <= y < height and 0 <= x < width:
                        rows[i * width + j, p, q] = features[:, y, x]
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


# Similarity: embeddings are rows, a triplet is (anchor, positive, negative)

Triplet = tuple[int, int, int]


def distance(a: Float64, b: Float64) -> float:
    """Add up the squared differences, and take the root."""
    return math.sqrt(sum((x - y) ** 2 for x, y in zip(a, b, strict=True)))


def contrastive_loss(gaps: Float64, same: list[bool], margin: float) -> float:
    """Pull what is the same, push what is not and is nearer than the margin; half the square of either."""
    return sum(d**2 / 2 if s else max(0.0, margin - d) ** 2 / 2 for d, s in zip(gaps, same, strict=True)) / len(gaps)


def similarity_loss(logits: Float64, same: list[bool]) -> float:
    """Take minus the log of the chance that is given to what is true."""
    chances = [1 / (1 + math.exp(-x)) for x in logits]
    return -sum(math.log(p if s else 1 - p) for p, s in zip(chances, same, strict=True)) / len(chances)


def triplet_loss(rows: Float64, triplets: list[Triplet], margin: float) -> float:
    """Ask of each triplet that the positive is nearer than the negative by the margin."""
    losses = [max(0.0, distance(rows[a], rows[p]) - distance(rows[a], rows[n]) + margin) for a, p, n in triplets]
    return sum(losses) / len(losses)


def soft_triplet_loss(rows: Float64, triplets: list[Triplet]) -> float:
    """Ask the same without an end: the margin is a smooth step."""
    losses = [math.log(1 + math.exp(distance(rows[a], rows[p]) - distance(rows[a], rows[n]))) for a, p, n in triplets]
    return sum(losses) / len(losses)


def quadruplet_loss(rows: Float64, found: list[tuple[int, int, int, int]], margin: float, other_margin: float) -> float:
    """Ask that the positive pair is nearer than the anchor's negative and than two samples of other classes."""
    total = 0.0
    for a, p, n, o in found:
        near = distance(rows[a], rows[p]) ** 2
        total += max(0.0, near - distance(rows[a], rows[n]) ** 2 + margin)
        total += max(0.0, near - distance(rows[n], rows[o]) ** 2 + other_margin)
    return total / len(found)


def n_pair_loss(rows: Float64, labels: list[int], scale: float) -> float:
    """Let the first sample of each class choose among the second ones of all classes."""
    pairs = [[i for i, label in enumerate(labels) if label == one][:2] for one in sorted(set(labels))]
    total = 0.0
    for i, (anchor, own) in enumerate(pairs):
        right = scale * float(rows[anchor] @ rows[own])
        wrong = [scale * float(rows[anchor] @ rows[other]) for j, (_, other) in enumerate(pairs) if j != i]
        total += math.log(1 + sum(math.exp(x - right) for x in wrong))
    return total / len(pairs)


def info_nce_loss(rows: Float64, labels: list[int], temperature: float) -> float:
    """Let each positive pair be chosen from itself and the anchor's negatives."""
    losses = []
    for i, own in enumerate(labels):
        wrong = [math.exp(float(rows[i] @ rows[j]) / temperature) for j, other in enumerate(labels) if other != own]
        for p, other in enumerate(labels):
            if p != i and other == own:
                right = math.exp(float(rows[i] @ rows[p]) / temperature)
                losses.append(-math.log(right / (right + sum(wrong))))
    return sum(losses) / len(losses)


def supervised_contrastive_loss(rows: Float64, labels: list[int], temperature: float) -> float:
    """Let each positive be chosen from all other samples; the mean over an anchor's positives, then over anchors."""
    losses = []
    for i, own in enumerate(labels):
        weights = {j: math.exp(float(rows[i] @ rows[j]) / temperature) for j in range(len(labels)) if j != i}
        logs = [-math.log(weights[p] / sum(weights.values())) for p in weights if labels[p] == own]
        if logs:
            losses.append(sum(logs) / len(logs))
    return sum(losses) / len(losses)


def positive_pairs(labels: list[int]) -> list[tuple[int, int]]:
    """Go through all ordered pairs of samples that share a label."""
    return [(a, p) for a in range(len(labels)) for p in range(len(labels)) if a != p and labels[a] == labels[p]]


def negatives(labels: list[int], anchor: int) -> list[int]:
    """Go through the samples with another label than the anchor's."""
    return [n for n, label in enumerate(labels) if label != labels[anchor]]


def batch_hard(rows: Float64, labels: list[int]) -> list[Triplet]:
    """Look for the farthest positive and the nearest negative of each sample that has both."""
    found = []
    for a in range(len(labels)):
        own, others = [p for i, p in positive_pairs(labels) if i == a], negatives(labels, a)
        if own and others:
            farthest = max(own, key=lambda p: distance(rows[a], rows[p]))
            found.append((a, farthest, min(others, key=lambda n: distance(rows[a], rows[n]))))
    return found


def semi_hard(rows: Float64, labels: list[int], margin: float) -> list[Triplet]:
    """Look, for each positive pair, for the nearest negative that is beyond the positive and within the margin."""
    found = []
    for a, p in positive_pairs(labels):
        near = distance(rows[a], rows[p])
        fits = [n for n in negatives(labels, a) if near < distance(rows[a], rows[n]) < near + margin]
        if fits:
            found.append((a, p, min(fits, key=lambda n: distance(rows[a], rows[n]))))
    return found


def negative_weights(rows: Float64, labels: list[int]) -> Float64:
    """Weigh each negative by the inverse of the density of its distance on a sphere; each row sums to 1, or to 0."""
    d = rows.shape[1]
    weights = np.zeros((len(labels), len(labels)))
    for a in range(len(labels)):
        for n in negatives(labels, a):
            gap = max(0.5, distance(rows[a], rows[n]))
            weights[a, n] = 1 / (gap ** (d - 2) * (1 - gap**2 / 4) ** ((d - 3) / 2))
        weights[a] /= weights[a].sum() or 1.0
    return weights
