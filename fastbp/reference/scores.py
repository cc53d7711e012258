"""What the outputs of a NumPy network mean: probabilities, predictions, and how right these are."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from fastbp.losses import Loss
from fastbp.reference.activations import sigmoid
from fastbp.types import Array


@dataclass
class NumpyHistory:
    """One entry an epoch; `val_*` stay empty without validation data. `loss` is measured before each update."""

    loss: list[float] = field(default_factory=list)
    val_loss: list[float] = field(default_factory=list)
    val_score: list[float] = field(default_factory=list)
    lr: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    score_name: str = ""


def probabilities(loss: Loss, z: Array) -> Array:
    """Softmax or sigmoid of the logits, in their place."""
    if loss.link.one_class:
        np.exp(z - z.max(axis=1, keepdims=True), out=z)
        np.divide(z, z.sum(axis=1, keepdims=True), out=z)
        return z
    sigmoid(z, z)
    return z[:, 0] if z.shape[1] == 1 else z


def predictions(loss: Loss, output: Array) -> Array:
    """Classes, 0/1 labels, rates of counts or values, newly made."""
    if loss.link.one_class:
        return np.asarray(output.argmax(axis=1), np.int64)
    if loss.target == "binary":
        p = np.asarray(output > 0, np.int64)
    else:
        p = np.exp(output) if loss.target == "counts" else output.copy()
    return p[:, 0] if p.shape[1] == 1 else p


def score(loss: Loss, predicted: Array, targets: Array, weights: Array | None) -> float:
    """Accuracy of classes and labels, r2 of values; `targets` is a matrix."""
    if loss.score_name == "r2":
        return _r2(predicted.reshape(targets.shape), targets, weights)
    if loss.link.one_class:
        right = (predicted == targets.argmax(axis=1))[:, None]
    else:
        right = predicted.reshape(targets.shape) == (targets > 0.5)
    return float(np.average(right.mean(axis=1), weights=weights))


def _r2(p: Array, y: Array, weights: Array | None) -> float:
    """Share of the variance explained, averaged over the targets; a constant target counts 1 if met exactly, else 0."""
    w = np.ones(len(y)) if weights is None else weights
    residual = w @ np.square(p - y, dtype=np.float64)
    total = w @ np.square(y - (y.mean(axis=0, dtype=np.float64) if weights is None else w @ y / w.sum()))
    varies = np.ptp(y[w > 0], axis=0) > 0  # told by the total, it would hang on the rounding of the mean
    return float(np.where(varies, 1 - residual / np.where(varies, total, 1), residual == 0).mean())
