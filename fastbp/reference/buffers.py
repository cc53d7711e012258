"""The memory of a NumPy network: its parameters and gradient, and the buffers that a batch passes through."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from fastbp.losses import Loss
from fastbp.reference.activations import ACTIVATIONS, Functions
from fastbp.types import Array


class LayerViews(NamedTuple):
    """One layer's part of the flat parameters and of the flat gradient."""

    weight: Array  # (n_in, n_out)
    bias: Array  # (n_out,)
    d_weight: Array  # (n_in, n_out)
    d_bias: Array  # (n_out,)
    activation: Functions | None  # None: identity


def layer_views(
    sizes: Sequence[int], activations: Sequence[str], parameters: Array, gradient: Array
) -> list[LayerViews]:
    """The flat vectors by layer: weights, then biases."""
    layers, start = [], 0
    for (n_in, n_out), name in zip(pairwise(sizes), activations, strict=True):
        middle, end = start + n_in * n_out, start + n_in * n_out + n_out
        weight, d_weight = (flat[start:middle].reshape(n_in, n_out) for flat in (parameters, gradient))
        layers.append(LayerViews(weight, parameters[middle:end], d_weight, gradient[middle:end], ACTIVATIONS[name]))
        start = end
    return layers


class Workspace:
    """Every buffer that a batch of `rows` rows passes through."""

    def __init__(self, rows: int, n_in: int, layers: Sequence[LayerViews], dtype: np.dtype[Any]) -> None:
        n_out = layers[-1].bias.size
        self.rows = rows
        self.inputs = np.empty((rows, n_in), dtype)  # where fit gathers a batch
        self.targets = np.empty((rows, n_out), dtype)
        self.z = [np.empty((rows, layer.bias.size), dtype) for layer in layers]
        self.a = [
            np.empty_like(z) if layer.activation and (layer.activation.needs_z or layer is layers[-1]) else z
            for layer, z in zip(layers, self.z, strict=True)
        ]  # an activation replaces z in place, unless its derivative or forward() wants z
        self.deltas = [np.empty_like(z) for z in self.z]  # dJ/dz
        self.output = self.a[-1]
        self.scratch = np.empty((rows, n_out), dtype)
        self.column = np.empty((rows, 1), dtype)
        self.ones_rows = np.ones(rows, dtype)
        self.ones_out = np.ones((n_out, 1), dtype)


def target_matrix(loss: Loss, y: ArrayLike, rows: int, n_out: int, dtype: np.dtype[Any]) -> Array:
    """Targets as a matrix `(rows, n_out)`; classes become one-hot rows."""
    y = np.asarray(y)
    if loss.link.one_class and y.shape == (rows,):
        if y.dtype.kind not in "iub":
            raise TypeError(f"y must hold integer classes or probabilities (n, {n_out}); got {y.dtype} {y.shape}")
        if rows and not (y.min() >= 0 and y.max() < n_out):
            raise ValueError(f"y must hold classes 0 to {n_out - 1}; got {y.min()} to {y.max()}")
        targets = np.zeros((rows, n_out), dtype)
        targets[np.arange(rows), y.astype(np.intp)] = 1
        return targets
    if y.shape != (rows, n_out) and not (n_out == 1 and y.shape == (rows,)):
        raise ValueError(f"y must have shape ({rows}, {n_out}){' or (n,)' * (n_out == 1)}; got {y.shape}")
    return np.ascontiguousarray(y, dtype).reshape(rows, n_out)
