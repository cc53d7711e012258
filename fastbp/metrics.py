"""From the outputs of a network to what a user asks for: predictions, probabilities, scores."""

from __future__ import annotations

import numpy as np

from fastbp.losses import Loss
from fastbp.numerics import quiet
from fastbp.spec import Scaling
from fastbp.types import Array


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
