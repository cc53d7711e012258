"""Rows of a few numbers, one vector each, brought together, so that element-wise loops need not pass the padding."""

from __future__ import annotations

import numpy as np

from fastbp.kernels.jit import jit
from fastbp.kernels.simd import ONE, TWO, cast, lanes, view


@jit
def squeeze(target, source, rows, units, tag):
    """Write the first `units` numbers of each of some vectors side by side, unit by unit, and zeros behind them."""
    size, n = lanes(tag), rows * units
    x, out = view(source, rows * size, tag), view(target, n + size, tag)
    for i in range(size):
        out[n + np.uintp(i)] = cast(tag, 0.0)
    for j in range(units):
        for r in range(rows):
            out[np.uintp(j) * rows + np.uintp(r)] = x[np.uintp(r) * size + np.uintp(j)]


@jit
def spread(target, source, rows, units, tag):
    """The way back; the padding stays as it is."""
    size = lanes(tag)
    x, out = view(source, rows * units, tag), view(target, rows * size, tag)
    for j in range(units):
        for r in range(rows):
            out[np.uintp(r) * size + np.uintp(j)] = x[np.uintp(j) * rows + np.uintp(r)]


@jit
def four_of(x, i, rows, units, like):
    """Numbers i of up to four units, which stand unit by unit, and zeros."""
    zero = cast(like, 0.0)
    return (
        x[i], x[rows + i] if units > ONE else zero, x[TWO * rows + i] if units > TWO else zero,
        x[(TWO + ONE) * rows + i] if units > TWO + ONE else zero,
    )  # fmt: skip
