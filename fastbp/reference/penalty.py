"""Penalties and limits of the weights in NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastbp.types import Array


def penalise(regularization: Any, weight: Array, gradient: Array) -> None:
    """Add the gradient of l1 sum |w| + l2 sum w^2."""
    gradient += regularization.l1 * np.sign(weight) + 2 * regularization.l2 * weight


def limit_norms(largest: float, weight: Array) -> None:
    """Scale the incoming weights of each unit, a column, down to a Euclidean norm."""
    w = weight.astype(np.float64)
    peaks = np.abs(w).max(axis=0)
    peaks[peaks == 0] = 1
    weight[:] = w * np.minimum(1, largest / peaks / np.maximum(np.sqrt(np.square(w / peaks).sum(axis=0)), 1))
