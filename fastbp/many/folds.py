"""Folds of cross-validation: by classes, by groups, or as a splitter of scikit-learn has them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from fastbp.many import tasks
from fastbp.types import Array
from fastbp.validation import check_positive_int

Pairs = list[tuple[Array, Array]]


def of(folds: Any, X: Any, y: Array, groups: Any, repeats: int, seed: int, *, by_class: bool) -> Pairs:
    """Row numbers to train and to test on, repetition by repetition.

    folds: their number; a splitter with ``split(X, y, groups)``; or pairs of row numbers.
    """
    n = len(y)
    if hasattr(folds, "split") and not isinstance(folds, str):
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
    if not pairs:
        raise ValueError("folds is empty: give a number of folds, a splitter, or pairs of row numbers")
    return [_checked(number, pair, n) for number, pair in enumerate(pairs)]


def _checked(number: int, pair: Any, n: int) -> tuple[Array, Array]:
    """Row numbers to train and to test on, none in both: a row that was trained on tells nothing of the others."""
    if not isinstance(pair, tuple | list) or len(pair) != 2:
        raise TypeError(f"folds[{number}] must be a pair of row numbers, to train and to test on; got {pair!r:.80}")
    try:
        train, test = (tasks.check_rows(rows, n) for rows in pair)
    except ValueError as error:
        raise ValueError(f"folds[{number}]: {error}") from error
    if (both := np.intersect1d(train, test)).size:
        raise ValueError(
            f"folds[{number}] has {both.size} row{'s' * (both.size > 1)} to train and to test on, {both[0]} for one"
        )
    return train, test


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
    try:
        names, member = np.unique(np.asarray(groups), return_inverse=True)
    except TypeError as error:  # they cannot be sorted
        raise TypeError(f"groups must be numbers or texts, of one kind and none missing: {error}") from error
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
