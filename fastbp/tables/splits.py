"""Which rows of a table are trained on, which choose the best epoch, and which test the result."""

from __future__ import annotations

import numpy as np

from fastbp import datasets
from fastbp.types import Array


def split(
    y: Array,
    fraction: float,
    seed: int,
    *,
    stratify: bool,
    group: Array | None = None,
    time: Array | None = None,
) -> tuple[Array, Array]:
    """Row numbers of the larger part, and of the share that is held out.

    By time the last rows are held out, those of one moment on one side; rows of a group are on one side; else they are
    drawn by the seed, of every class its share.

    Raises
    ------
    ValueError
        There are too few rows, groups or moments for two parts.
    """
    if time is not None:
        return _by_time(time, fraction)
    if group is not None:
        return _by_group(group, fraction, seed)
    kept, held = datasets.split_rows(y, fraction, seed % 2**32, stratify=stratify)
    return np.sort(kept), np.sort(held)


def _by_time(time: Array, fraction: float) -> tuple[Array, Array]:
    order = np.argsort(time, kind="stable")
    n_held = min(max(round(len(time) * fraction), 1), len(time) - 1)
    first = time[order[-n_held]]  # held out from here on
    held = time >= first
    if held.all():
        held = time > first
    if not held.any():
        raise ValueError("all rows have one time: they cannot be split by it")
    return np.flatnonzero(~held), np.flatnonzero(held)


def _by_group(group: Array, fraction: float, seed: int) -> tuple[Array, Array]:
    counts = np.bincount(group)
    if len(counts) < 2:
        raise ValueError("all rows are of one group: they cannot be split by it")
    order = np.random.default_rng(seed).permutation(len(counts))
    held_groups: list[int] = []
    n, wanted = 0, len(group) * fraction
    for one in order[:-1]:  # a group stays in any case
        # A large group that would hold out far more than was asked for is left, while there are others.
        if held_groups and n + counts[one] / 2 > wanted:
            continue
        held_groups.append(one)
        n += counts[one]
        if n >= wanted:
            break
    held = np.isin(group, held_groups)
    return np.flatnonzero(~held), np.flatnonzero(held)
