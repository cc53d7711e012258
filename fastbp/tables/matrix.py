"""The matrix of inputs, written by blocks of rows: all columns of a block, while the rows are in the cache."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastbp.numerics import quiet
from fastbp.tables.parallel import each
from fastbp.types import Array

_BLOCK = 8192  # rows
_NUMBERS = 1024  # rows of all numbers that are scaled at a time
_PART = 2  # blocks that a thread takes at a time


@dataclass(frozen=True)
class Scaled:
    """Numbers in float64 that a scale brings into the matrix."""

    values: Array  # (n,)
    scale: Any  # an `encoder.Scale`


@dataclass(frozen=True)
class Plain:
    """Numbers that are inputs as they are: marks, booleans, and categories of which there are two."""

    values: Array  # (n,)


@dataclass(frozen=True)
class OneHot:
    """Categories, an input each."""

    codes: Array  # (n,), int16; -1: none of them
    n_inputs: int


Input = Scaled | Plain | OneHot


def fill(out: Array, inputs: Sequence[Input]) -> None:
    """Write all inputs, side by side in this order, into ``out (n, n_in)``, whose elements are zero."""
    starts = np.cumsum([0, *(one.n_inputs if isinstance(one, OneHot) else 1 for one in inputs)])
    placed = list(zip(inputs, starts.tolist(), strict=False))
    scaled = [
        [(one, at) for one, at in placed if isinstance(one, Scaled) and one.scale.smooth == bent] for bent in (0, 1)
    ]
    others = [(one, at) for one, at in placed if not isinstance(one, Scaled)]

    def write(start: int) -> None:
        for first in range(start, min(start + _PART * _BLOCK, len(out)), _BLOCK):
            stop = min(first + _BLOCK, len(out))
            rows = slice(first, stop)
            for bent, group in enumerate(scaled):
                _scaled(out, first, stop, group, bool(bent))
            for one, at in others:
                if isinstance(one, Plain):
                    out[rows, at] = one.values[rows]
                else:
                    _one_hot(out, first, one, at)

    each(write, range(0, len(out), _PART * _BLOCK), len(out))


@quiet
def _scaled(out: Array, first: int, stop: int, group: list[tuple[Scaled, int]], bent: bool) -> None:
    """All numbers of some rows at once, where a call for each would take longer than its work."""
    if not group:
        return
    scales = np.array([one.scale.scale for one, _ in group])[:, None]
    buffer = np.empty((len(group), _NUMBERS))
    for start in range(first, stop, _NUMBERS):
        rows = slice(start, min(start + _NUMBERS, stop))
        z = buffer[:, : rows.stop - start]
        for k, (one, _) in enumerate(group):
            np.subtract(one.values[rows], one.scale.center, out=z[k])
        z /= scales
        if bent:
            z = bend(z)
        for k, (_, at) in enumerate(group):
            out[rows, at] = z[k]


def bend(z: Array) -> Array:
    """Scaled values, bent to within -3 and 3 by z / sqrt(1 + (z/3)^2)."""
    z = np.clip(z, -1e150, 1e150)  # whose squares are finite
    root = z * (1.0 / 3.0)
    root *= root
    root += 1.0
    z /= np.sqrt(root, out=root)
    return z


def _one_hot(out: Array, first: int, one: OneHot, at: int) -> None:
    codes, width = one.codes[first : first + _BLOCK], out.shape[1]
    places = np.arange(first * width + at, (first + len(codes)) * width + at, width) + codes
    if codes.min() < 0:
        places = places[codes >= 0]
    out.reshape(-1)[places] = 1.0
