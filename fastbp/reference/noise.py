"""Noise in NumPy: the same random numbers as the kernels', from their definition.

Every number is a hash of seed, step, layer (0: the inputs), row of the batch and unit.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fastbp.types import Array

_MASK64 = (1 << 64) - 1


def _mix(x: int) -> int:
    """splitmix64's finaliser (Steele et al. 2014)."""
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 & _MASK64
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB & _MASK64
    return x ^ (x >> 31)


def random_bits(seed: int, step: int, layer: int, rows: int, units: int) -> NDArray[np.uint32]:
    """32 random bits for each unit of each row, (rows, units), in update number `step` (from 0)."""
    key = _mix(seed ^ _mix((step + 0xD1B54A32D192ED03) & _MASK64)) | 1
    keys = np.array([_mix(key ^ (layer << 48) ^ row) for row in range(rows)], np.uint64)[:, None]
    low, high = keys.astype(np.uint32), (keys >> np.uint64(32)).astype(np.uint32)
    x = np.arange(units, dtype=np.uint32) + low
    x = (x ^ (x >> np.uint32(16))) * np.uint32(0x7FEB352D)
    x ^= high
    x = (x ^ (x >> np.uint32(15))) * np.uint32(0x846CA68B)
    result: NDArray[np.uint32] = x ^ (x >> np.uint32(16))
    return result


def dropout_factors(chance: float, bits: NDArray[np.uint32]) -> Array:
    """0 for units that are dropped, 1 / (1 - chance) for the others."""
    return np.where(bits >= round(chance * 2**32), 1.0 / (1.0 - chance), 0.0)


def normal(bits: NDArray[np.uint32]) -> Array:
    """Standard normal numbers: the quantile function at 23 random bits, solved by Newton's steps on log Phi."""
    from math import erfc, exp, log, pi, sqrt

    def quantile(p: float) -> float:  # p <= 1/2
        x = 0.0
        for _ in range(100):
            tail = 0.5 * erfc(-x / sqrt(2))
            step = (log(tail) - log(p)) * tail / (exp(-0.5 * x * x) / sqrt(2 * pi))
            x -= step
            if abs(step) < 1e-14 * max(1.0, abs(x)):
                break
        return x

    lower = ((bits >> np.uint32(9)) + 0.5) / 2**23
    result: Array = np.vectorize(lambda p: quantile(p) if p < 0.5 else -quantile(1 - p), otypes=[np.float64])(lower)
    return result
