"""Validation splits: which rows are held out, and which classes have too few rows for that."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastbp.data import sample_weights
from fastbp.spec import NetworkSpec
from fastbp.types import Array


def split_rows(y: Array, fraction: float, seed: int, *, stratify: bool) -> tuple[Array, Array]:
    """Row numbers for training and for validation, drawn by the seed; by classes where y holds them."""
    from fastbp import datasets  # late: most trainings need none

    return datasets.split_rows(y, fraction, seed % 2**32, stratify=stratify)


def hold_out(
    spec: NetworkSpec,
    class_labels: Sequence[Any] | None,
    y: Any,
    targets: Array,
    fraction: float,
    seed: int,
    *,
    in_order: bool = False,
) -> tuple[Array, Array, str]:
    """The split of checked rows for a network: both parts, and which classes were too rare to be in both.

    in_order: either part keeps the order that the rows have.
    """
    strata = sample_weights.strata(spec.loss, y, targets)
    stratify = targets.ndim == 1 and spec.loss.link.one_class
    rows, held = split_rows(strata, fraction, seed, stratify=stratify)
    if in_order:
        rows.sort()
        held.sort()
    return rows, held, rare_classes(spec, class_labels, strata, rows, held)


def rare_classes(spec: NetworkSpec, class_labels: Sequence[Any] | None, strata: Array, rows: Array, held: Array) -> str:
    """What to say of classes that are too rare to be in both parts of a split."""
    if strata.ndim != 1 or not spec.loss.link.one_class:
        return ""
    from fastbp import datasets

    names = range(spec.n_out) if class_labels is None else class_labels
    return datasets.too_rare(strata, rows, held, names)
