"""Losses with their gradients in NumPy, each into the buffers of a workspace.

    loss(ws, description)

returns the mean loss of `ws.output` (p, or z where the link is part of the loss) at `ws.targets`, and leaves its
gradient in the last of `ws.deltas`; it destroys `ws.targets`, `ws.scratch` and `ws.column`. A loss is one function and
one line of LOSSES.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from fastbp.reference.activations import sigmoid, softplus
from fastbp.reference.buffers import Workspace
from fastbp.types import Array


def cross_entropy(ws: Workspace, description: Any) -> float:
    z, y, delta, column = ws.output, ws.targets, ws.deltas[-1], ws.column
    if description.label_smoothing:
        np.multiply(y, 1 - description.label_smoothing, out=y)
        np.add(y, description.label_smoothing / y.shape[1], out=y)
    np.maximum.reduce(z, axis=1, keepdims=True, out=column)
    np.subtract(z, column, out=delta)
    of_targets = np.vdot(y, delta)
    np.dot(np.exp(delta, out=delta), ws.ones_out, out=column)
    np.subtract(np.divide(delta, column, out=delta), y, out=delta)
    np.multiply(delta, 1 / ws.rows, out=delta)
    return float(np.log(column, out=column).sum() - of_targets) / ws.rows


def binary_cross_entropy(ws: Workspace, _: Any) -> float:
    z, y, delta, scratch = ws.output, ws.targets, ws.deltas[-1], ws.scratch
    softplus(z, delta, scratch)  # softplus(z) - z y = max(z, 0) - z y + log1p(exp(-|z|))
    loss = float(delta.sum() - np.vdot(z, y)) / z.size
    sigmoid(z, delta)
    np.multiply(np.subtract(delta, y, out=delta), 1 / z.size, out=delta)
    return loss


def mse(ws: Workspace, _: Any) -> float:
    delta = np.subtract(ws.output, ws.targets, out=ws.deltas[-1])
    loss = float(np.vdot(delta, delta)) / delta.size
    np.multiply(delta, 2 / delta.size, out=delta)
    return loss


def mae(ws: Workspace, _: Any) -> float:
    difference = np.subtract(ws.output, ws.targets, out=ws.scratch)
    delta = np.sign(difference, out=ws.deltas[-1])
    loss = float(np.vdot(difference, delta)) / delta.size
    np.multiply(delta, 1 / delta.size, out=delta)
    return loss


def huber(ws: Workspace, description: Any) -> float:
    # With d = p - y and c = clip(d, -delta, delta), the gradient is c and the loss c d - c^2 / 2, on both branches.
    difference = np.subtract(ws.output, ws.targets, out=ws.scratch)
    delta = np.clip(difference, -description.delta, description.delta, out=ws.deltas[-1])
    loss = float(np.vdot(delta, difference) - 0.5 * np.vdot(delta, delta)) / delta.size
    np.multiply(delta, 1 / delta.size, out=delta)
    return loss


def poisson(ws: Workspace, _: Any) -> float:
    z, y, delta = ws.output, ws.targets, ws.deltas[-1]
    np.exp(z, out=delta)
    loss = float(delta.sum() - np.vdot(z, y)) / z.size
    np.multiply(np.subtract(delta, y, out=delta), 1 / z.size, out=delta)
    return loss


def log_cosh(ws: Workspace, _: Any) -> float:
    difference = np.subtract(ws.output, ws.targets, out=ws.scratch)
    delta = np.tanh(difference, out=ws.deltas[-1])
    loss = float(np.logaddexp(difference, np.negative(difference)).sum()) / delta.size - math.log(2)
    np.multiply(delta, 1 / delta.size, out=delta)
    return loss


def quantile(ws: Workspace, description: Any) -> float:
    difference = np.subtract(ws.output, ws.targets, out=ws.scratch)
    delta = np.sign(difference, out=ws.deltas[-1])
    np.multiply(np.where(delta > 0, 1 - description.quantile, description.quantile), delta, out=delta)
    loss = float(np.vdot(difference, delta)) / delta.size
    np.multiply(delta, 1 / delta.size, out=delta)
    return loss


def focal(ws: Workspace, description: Any) -> float:
    z, y, gamma = ws.output, ws.targets, description.gamma
    log_p = z - z.max(axis=1, keepdims=True)
    log_p -= np.log(np.exp(log_p).sum(axis=1, keepdims=True))
    p, rest = np.exp(log_p), -np.expm1(log_p)
    weight = y * rest**gamma
    ratio = np.divide(log_p, rest, out=np.full_like(z, -1), where=rest != 0)
    slopes = weight * (gamma * p * ratio - 1)  # by log p
    np.multiply(slopes - p * slopes.sum(axis=1, keepdims=True), 1 / ws.rows, out=ws.deltas[-1])
    return -float(np.vdot(weight, log_p)) / ws.rows


def pseudo_huber(ws: Workspace, description: Any) -> float:
    # With d = p - y and root = sqrt(1 + (d / delta)^2), the gradient is d / root and the loss d^2 / (1 + root).
    difference = np.subtract(ws.output, ws.targets, out=ws.scratch)
    root = np.hypot(1.0, np.multiply(difference, 1 / description.delta, out=ws.targets), out=ws.targets)
    delta: Array = np.divide(difference, root, out=ws.deltas[-1])
    np.add(root, 1.0, out=root)
    loss = float(np.vdot(difference, np.divide(difference, root, out=root))) / delta.size
    np.multiply(delta, 1 / delta.size, out=delta)
    return loss


LOSSES: dict[str, Callable[[Workspace, Any], float]] = {
    "cross_entropy": cross_entropy,
    "binary_cross_entropy": binary_cross_entropy,
    "mse": mse,
    "mae": mae,
    "huber": huber,
    "poisson": poisson,
    "log_cosh": log_cosh,
    "quantile": quantile,
    "focal": focal,
    "pseudo_huber": pseudo_huber,
}


def weighted(loss: Callable[[Workspace, Any], float], ws: Workspace, description: Any, weights: Array) -> float:
    """sum w J / sum w over the rows, with the gradient in ws.deltas[-1]: row by row, each a batch of its own."""
    total, found = float(weights.sum()), 0.0
    for r, weight in enumerate(weights):
        one, at = copy.copy(ws), slice(r, r + 1)
        one.rows, one.output, one.targets, one.deltas = 1, ws.output[at], ws.targets[at], [ws.deltas[-1][at]]
        one.scratch, one.column = ws.scratch[at], ws.column[at]
        if weight == 0:
            one.deltas[-1].fill(0)
            continue
        found += float(weight) / total * loss(one, description)
        np.multiply(one.deltas[-1], weight / total, out=one.deltas[-1])
    return found
