"""Plain formulas that share nothing with the package: what it computes, said once more in the simplest way."""

from __future__ import annotations

from typing import Any

import numpy as np

MASK = 2**64 - 1


def mix(x: int) -> int:
    """The finaliser of splitmix64."""
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 & MASK
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB & MASK
    return x ^ (x >> 31)


def shuffled(rows: Any, seed: int, epoch: int) -> np.ndarray:
    """The order of an epoch, in plain Python: Fisher and Yates's shuffle by the numbers of splitmix64."""
    order, golden = list(rows), 0x9E3779B97F4A7C15
    state = mix(seed ^ mix((epoch + golden) & MASK))
    for i in range(len(order) - 1, 0, -1):
        state = (state + golden) & MASK
        j = (mix(state) >> 32) * (i + 1) >> 32
        order[i], order[j] = order[j], order[i]
    return np.array(order)
