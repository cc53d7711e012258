"""Folds of cross-validation: by classes, by groups, or as a splitter of scikit-learn has them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from fastbp.types import Array
from fastbp.validation import check_positive_int

Pairs = list[tuple[Array, Array]]


def of(folds: Any, X: Any, y: Array, groups: Any, repeats: int, seed: int, *, by_class: bool) -> Pairs:
    """Row numbers to train and to test on, repetition by repetition.

    folds: their number; a splitter with ``split(X, y, groups)``; or pairs of row numbers.
    """
    n = len(y)
    if hasattr(folds, "split"):
        pairs = list(folds.split(X, y, groups))
    elif isinstance(folds, Iterable) and not isinstance(folds, str):
        pairs = list(folds)
    else:
        k = check_positive_int("folds", folds)
        if not 2 <= k <= n:
            raise ValueError(f"folds must be from 2 to the number of rows, {n}; got {k}")
        pairs = []
        for turn in range(repeats):
            rng = np.random.default_rng([seed % 2**32, turn])
            fold = _by_group(groups, k, n, rng) if groups is not None else _fold_of(y, k, rng, by_class)
            pairs += [(np.flatnonzero(fold != number), np.flatnonzero(fold == number)) for number in range(k)]
        return pairs
    if repeats != 1:
        raise ValueError("repeats is for a number of folds; a splitter has repetitions of its own")
    return [(_rows(train, n), _rows(test, n)) for train, test in pairs]


def _rows(rows: Any, n: int) -> Array:
    found = np.asarray(rows)
    found = np.flatnonzero(found) if found.dtype == np.bool_ else found.astype(np.int64)
    if not found.size or found.min() < 0 or found.max() >= n:
        raise ValueError(f"folds holds row numbers outside of 0 to {n - 1}, or a part without rows")
    return found


def _fold_of(y: Array, k: int, rng: np.random.Generator, by_class: bool) -> Array:
    """The fold of each row: classes are dealt out evenly, in random order."""
    order = rng.permutation(len(y))
    if by_class:
        order = order[np.argsort(y[order], kind="stable")]
    fold = np.empty(len(y), np.int64)
    fold[order] = np.arange(len(y)) % k
    return fold


def _by_group(groups: Any, k: int, n: int, rng: np.random.Generator) -> Array:
    """The same, whole groups at a time: the largest first, each to the fold that has the fewest rows."""
    names, member = np.unique(np.asarray(groups), return_inverse=True)
    if len(member) != n:
        raise ValueError(f"groups has {len(member)} entries, but there are {n} rows")
    if len(names) < k:
        raise ValueError(f"folds={k}, but groups has {len(names)} different values: take fewer folds")
    counts, total, fold_of = np.bincount(member), np.zeros(k, np.int64), np.empty(len(names), np.int64)
    mixed = rng.permutation(len(names))
    for one in mixed[np.argsort(-counts[mixed], kind="stable")]:
        fold_of[one] = np.argmin(total)
        total[fold_of[one]] += counts[one]
    return np.asarray(fold_of[member.ravel()])
