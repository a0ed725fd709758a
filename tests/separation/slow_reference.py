"""The systems' losses written out from the papers' formulas: loops over examples, sources, assignments and pixels.

Python floats (double precision) throughout, nothing of the package is used. What goes in are the outputs of the U-Net
and the warped magnitudes, as nested lists.
"""

from __future__ import annotations

import math
from itertools import permutations


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))


def logarithm(p: float) -> float:
    return max(math.log(p), -100.0) if p > 0 else -100.0


def cross_entropy(p: float, target: float) -> float:
    return -(target * logarithm(p) + (1 - target) * logarithm(1 - p))


def linear(weight, bias, vector):
    """Rows of `weight` times `vector`, plus `bias`."""
    return [sum(w * v for w, v in zip(row, vector, strict=True)) + b for row, b in zip(weight, bias, strict=True)]


def target(source: float, mixture: float) -> float:
    return 1.0 if source > 0.5 * mixture else 0.0


def pixel_weight(mixture: float, kind: str) -> float:
    return mixture if kind == "magnitude" else min(max(math.log(1 + mixture), 1e-3), 10.0)


def mask_pixel(features, h, w, query, scale, bias, fusion: str, activation: str) -> float:
    """The mask of one query at one pixel; `features` are the k pictures of one example."""
    terms = []
    for j in range(len(scale)):
        strength = sigmoid(query[j]) if activation == "sigmoid" else query[j]
        terms.append(scale[j] * strength * features[j][h][w])
    if fusion == "outside":
        return sigmoid(sum(terms) + bias)
    return sum(sigmoid(term + bias) for term in terms) / len(terms)


def mask(features, query, scale, bias, fusion="outside", activation="sigmoid"):
    height, width = len(features[0]), len(features[0][0])
    return [
        [mask_pixel(features, h, w, query, scale, bias, fusion, activation) for w in range(width)]
        for h in range(height)
    ]


def error_of(mask_, source, mixture, weight_kind) -> float:
    """Mean over the pixels of weight * cross entropy."""
    total = count = 0
    for h in range(len(mixture)):
        for w in range(len(mixture[0])):
            weight = pixel_weight(mixture[h][w], weight_kind)
            total += weight * cross_entropy(mask_[h][w], target(source[h][w], mixture[h][w]))
            count += 1
    return total / count


def united(mask_, noise):
    return [[min(1.0, a + b) for a, b in zip(r, s, strict=True)] for r, s in zip(mask_, noise, strict=True)]


def together(values, sources: str) -> float:
    return sum(values) if sources == "sum" else sum(values) / len(values)


def clipsep_loss(masks, magnitudes, mixtures, weight="clamped_log", sources="mean") -> float:
    """Queried systems without noise heads. `masks`, `magnitudes`: [B][N][H][W]; `mixtures`: [B][H][W]."""
    examples = []
    for b in range(len(masks)):
        errors = [error_of(masks[b][n], magnitudes[b][n], mixtures[b], weight) for n in range(len(masks[b]))]
        examples.append(together(errors, sources))
    return sum(examples) / len(examples)


def pit_loss(masks, magnitudes, mixtures, weight="clamped_log", sources="mean") -> float:
    """Each example's best assignment of heads to sources."""
    examples = []
    for b in range(len(masks)):
        candidates = []
        for assignment in permutations(range(len(masks[b]))):
            errors = [
                error_of(masks[b][head], magnitudes[b][n], mixtures[b], weight) for n, head in enumerate(assignment)
            ]
            candidates.append(together(errors, sources))
        examples.append(min(candidates))
    return sum(examples) / len(examples)


def nit_mask_loss(masks, noises, magnitudes, mixtures, weight="clamped_log", sources="mean") -> float:
    """Query masks united with noise masks, under each example's best assignment of noise heads."""
    examples = []
    for b in range(len(masks)):
        candidates = []
        for assignment in permutations(range(len(noises[b]))):
            errors = []
            for n, head in enumerate(assignment):
                both = united(masks[b][n], noises[b][head])
                errors.append(error_of(both, magnitudes[b][n], mixtures[b], weight))
            candidates.append(together(errors, sources))
        examples.append(min(candidates))
    return sum(examples) / len(examples)


def nit_regularised(masks, noises, magnitudes, mixtures, weight: float, margin: float) -> tuple[float, float]:
    """Mask loss and second regulariser of the published code, each under the assignments best for their sum."""
    mask_losses, penalties = [], []
    for b in range(len(masks)):
        candidates = []
        for assignment in permutations(range(len(noises[b]))):
            errors, costs = [], []
            for n, head in enumerate(assignment):
                both = united(masks[b][n], noises[b][head])
                errors.append(error_of(both, magnitudes[b][n], mixtures[b], "clamped_log"))
                alone = error_of(noises[b][head], magnitudes[b][n], mixtures[b], "clamped_log")
                costs.append(weight * max(0.0, errors[-1] - alone + margin))
            candidates.append((together(errors, "mean"), together(costs, "mean")))
        best = min(candidates, key=sum)
        mask_losses.append(best[0])
        penalties.append(best[1])
    return sum(mask_losses) / len(masks), sum(penalties) / len(masks)


def nit_activation(noises) -> float:
    """A: the mean over examples and pixels of the sum of the noise masks."""
    total = count = 0
    for example in noises:
        for h in range(len(example[0])):
            for w in range(len(example[0][0])):
                total += sum(head[h][w] for head in example)
                count += 1
    return total / count


def noise_vectors(heads, queries, pooling: str):
    """Noise query vectors of one example: each head's linear layer over the mean (or sum) of its query vectors."""
    pooled = [sum(column) for column in zip(*queries, strict=True)]
    if pooling == "mean":
        pooled = [value / len(queries) for value in pooled]
    return [linear(weight, bias, pooled) for weight, bias in heads]


def pit_masks(features, weight, bias):
    """1 x 1 convolution and sigmoid: weight [heads][k], bias [heads]."""
    height, width = len(features[0]), len(features[0][0])
    masks = []
    for row, b in zip(weight, bias, strict=True):
        masks.append(
            [
                [sigmoid(sum(row[j] * features[j][h][w] for j in range(len(row))) + b) for w in range(width)]
                for h in range(height)
            ]
        )
    return masks


def picture_vector(maps, weight, bias):
    """The original SOP's query vector of one source: 3 x 3 convolution of each picture's maps, maximum over all.

    maps: [pictures][channels][h][w]; weight: [k][channels][3][3].
    """
    vector = []
    for out, b in zip(weight, bias, strict=True):
        best = -math.inf
        for picture in maps:
            height, width = len(picture[0]), len(picture[0][0])
            for y in range(height):
                for x in range(width):
                    total = b
                    for c in range(len(picture)):
                        for dy in (-1, 0, 1):
                            for dx in (-1, 0, 1):
                                if 0 <= y + dy < height and 0 <= x + dx < width:
                                    total += out[c][dy + 1][dx + 1] * picture[c][y + dy][x + dx]
                    best = max(best, total)
        vector.append(best)
    return vector
