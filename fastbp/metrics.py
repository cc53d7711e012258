"""From the outputs of a network to what a user asks for: predictions, probabilities, scores, a summary."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fastbp.losses import Loss
from fastbp.numerics import quiet
from fastbp.types import Array

if TYPE_CHECKING:
    from fastbp.network import MLP
    from fastbp.spec import Scaling

_BLOCK = 1 << 14


@quiet
def moments(array: Array, name: str) -> tuple[Array, Array]:
    """Mean and standard deviation of each column in float64, by blocks of rows; deviation 1 where nothing varies.

    Computed in half-ranges from the middle of the column, where no finite number overflows or underflows. A column
    that varies by some units in the last place of float64, as one does that is computed in two ways, does not vary.

    Raises
    ------
    ValueError
        A column cannot be divided by its deviation, or its mean not be subtracted, in float64.
    """
    n = len(array)
    blocks = [slice(start, start + _BLOCK) for start in range(0, n, _BLOCK)]
    low = np.min([array[block].min(axis=0) for block in blocks], axis=0).astype(np.float64)
    high = np.max([array[block].max(axis=0) for block in blocks], axis=0).astype(np.float64)
    middle, half = low / 2 + high / 2, high / 2 - low / 2
    still = half <= 2 * np.spacing(np.maximum(np.abs(low), np.abs(high)))
    half[still] = 1.0
    mean, squares = np.zeros(array.shape[1]), np.zeros(array.shape[1])
    # In C order, whatever that of the array is: the order of a sum decides its last bits.
    for block in blocks:
        mean += (np.subtract(array[block], middle, order="C") / half).sum(axis=0) / n
    for block in blocks:
        squares += ((np.subtract(array[block], middle, order="C") / half - mean) ** 2).sum(axis=0)
    mean, scale = middle + mean * half, np.sqrt(squares / n) * half
    mean[still], scale[still] = middle[still], 1.0
    wrong = ~(np.isfinite(1.0 / scale) & np.isfinite(high - mean) & np.isfinite(mean - low))
    if wrong.any():
        column = int(np.argmax(wrong))
        raise ValueError(
            f"column {column} of {name} runs from {low[column]:g} to {high[column]:g}, which float64 cannot "
            "standardise: multiply it by a number first, such that its values are moderate"
        )
    return mean, scale


@quiet
def probabilities(loss: Loss, logits: Array) -> Array:
    """softmax, in the place of the logits, or sigmoid of them; one column of the latter as ``(n,)``."""
    if loss.target == "classes":
        logits -= np.maximum.reduce(logits, axis=1, keepdims=True)
        np.exp(logits, out=logits)
        logits /= np.add.reduce(logits, axis=1, keepdims=True)
        return logits
    e = np.exp(-np.abs(logits))
    p: Array = np.where(logits < 0, e, logits.dtype.type(1)) / (1 + e)
    return p[:, 0] if p.shape[1] == 1 else p


def predictions(loss: Loss, outputs: Array, scaling: Scaling | None) -> Array:
    """What `MLP.predict` returns, from the outputs after their activation."""
    if loss.target == "classes":
        classes: Array = outputs.argmax(axis=1)
        return classes
    if loss.target == "binary":
        outputs = (outputs > 0).astype(np.int64)
    elif loss.target == "counts":
        outputs = rates(outputs)
    elif scaling is not None and scaling.y_mean is not None:
        outputs = scaling.unscaled(outputs)
    return outputs[:, 0] if outputs.shape[1] == 1 else outputs


@quiet
def rates(outputs: Array) -> Array:
    """Of the logarithms that a network with loss poisson puts out."""
    found: Array = np.exp(outputs)
    return found


@quiet
def score(loss: Loss, outputs: Array, targets: Array, weights: Array | None = None) -> float:
    """Accuracy, or the coefficient of determination averaged over targets; each row by its weight, as scikit-learn."""
    if weights is not None:
        counted = weights > 0
        outputs, targets, weights = outputs[counted], targets[counted], weights[counted]
    if loss.target == "classes":
        wanted = targets if targets.ndim == 1 else targets.argmax(axis=1)
        return float(np.average(outputs.argmax(axis=1) == wanted, weights=weights))
    if loss.target == "binary":
        right = (outputs > 0) == (targets > 0.5)
        return float(right.mean() if weights is None else np.average(right.mean(axis=1), weights=weights))
    predicted = np.exp(outputs) if loss.target == "counts" else outputs
    if weights is None:
        error = ((predicted.astype(np.float64) - targets) ** 2).sum(axis=0)
        spread = ((targets - targets.mean(axis=0, dtype=np.float64)) ** 2).sum(axis=0)
    else:
        share = (weights / weights.sum())[:, None]
        error = ((predicted.astype(np.float64) - targets) ** 2 * share).sum(axis=0)
        spread = ((targets - (targets * share).sum(axis=0)) ** 2 * share).sum(axis=0)
    constant = (targets == targets[:1]).all(axis=0)  # as scikit-learn: 1 where a constant is met, 0 where it is missed
    r2 = np.where(constant, error == 0, 1.0 - error / np.where(constant, 1.0, spread))
    return float(r2.mean())


def summary(net: MLP) -> str:
    """A table of layers, parameters and flops, and the memory that training takes."""
    rows = [("layer", "shape", "activation", "parameters")]
    names = [*net.activations, net.output_activation or "identity"]
    for k, layer in enumerate(net._plan.layers):
        rows.append((str(k), f"{layer.n_in} x {layer.n_out}", names[k], f"{(layer.n_in + 1) * layer.n_out:,}"))
    widths = [max(len(row[c]) for row in rows) for c in range(4)]
    lines = ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    if held := str(net.regularization):
        lines.append(held)
    flops = sum(2 * layer.n_in * layer.n_out for layer in net._plan.layers)
    lines.append(
        f"{net.n_parameters:,} parameters, {flops:,} flops a row forward, {net._plan.flops_per_row:,} a training row"
    )
    plain, adam = (net._plan.memory(0, n_moments) for n_moments in (0, 2))
    row = net._plan.memory(1, 0) - plain
    lines.append(
        f"memory of fit: {plain / 1e6:,.3g} MB with SGD, {adam / 1e6:,.3g} MB with Adam, and {row / 1e3:,.3g} kB for "
        "each row of a batch"
    )
    return "\n".join(lines)
