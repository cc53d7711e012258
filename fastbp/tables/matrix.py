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
_PART = 2  # blocks that a thread takes at a time


@dataclass(frozen=True)
class Scaled:
    """Numbers in float64 that a scale brings into the matrix."""

    values: Array  # (n,)
    scale: Any  # an `encoder.Scale`
    missing: Array | None = None  # where `fill` stands for the value
    fill: float = 0.0


@dataclass(frozen=True)
class Plain:
    """Numbers that are inputs as they are: marks, booleans, and categories of which there are two."""

    values: Array  # (n,)


@dataclass(frozen=True)
class OneHot:
    """Categories, an input each."""

    codes: Array  # (n,), int64; -1: none of them
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
            rows = slice(first, first + _BLOCK)
            for group in scaled:
                _scaled(out, rows, group)
            for one, at in others:
                if isinstance(one, Plain):
                    out[rows, at] = one.values[rows]
                else:
                    _one_hot(out, first, one, at)

    each(write, range(0, len(out), _PART * _BLOCK), len(out))


@quiet
def _scaled(out: Array, rows: slice, group: list[tuple[Scaled, int]]) -> None:
    """All numbers of a block at once, where a call for each would take longer than its work."""
    if not group:
        return
    z = np.stack([one.values[rows] for one, _ in group])
    for k, (one, _) in enumerate(group):
        if one.missing is not None:
            np.copyto(z[k], one.fill, where=one.missing[rows])
    scale = group[0][0].scale
    centers, scales = (
        np.array([getattr(one.scale, name) for one, _ in group])[:, None] for name in ("center", "scale")
    )
    z = scale.bent((z - centers) / scales)
    for k, (_, at) in enumerate(group):
        out[rows, at] = z[k]


def _one_hot(out: Array, first: int, one: OneHot, at: int) -> None:
    codes, width = one.codes[first : first + _BLOCK], out.shape[1]
    places = np.arange(first * width + at, (first + len(codes)) * width + at, width) + codes
    if codes.min() < 0:
        places = places[codes >= 0]
    out.reshape(-1)[places] = 1.0
