"""Rows that a training does not see, to watch it by: which they are, and what of it a user should know."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastbp import datasets
from fastbp.data import sample_weights
from fastbp.types import Array

if TYPE_CHECKING:
    from fastbp.network import MLP


def split_rows(y: Array, fraction: float, seed: int, *, stratify: bool) -> tuple[Array, Array]:
    """Row numbers for training and for validation, drawn by the seed; by classes where y holds them."""
    return datasets.split_rows(y, fraction, seed % 2**32, stratify=stratify)


def hold_out(
    net: MLP, y: Any, targets: Array, fraction: float, seed: int, *, in_order: bool = False
) -> tuple[Array, Array, str]:
    """The split of checked rows for a network: both parts, and which classes were too rare to be in both.

    in_order: either part keeps the order that the rows have.
    """
    strata, stratify = sample_weights.strata(net.loss, y, targets), targets.ndim == 1 and net.loss.link.one_class
    rows, held = split_rows(strata, fraction, seed, stratify=stratify)
    if in_order:
        rows.sort()
        held.sort()
    return rows, held, rare_classes(net, strata, rows, held)


def rare_classes(net: MLP, strata: Array, rows: Array, held: Array) -> str:
    """What to say of classes that are too rare to be in both parts of a split."""
    if strata.ndim != 1 or not net.loss.link.one_class:
        return ""
    names = range(net.sizes[-1]) if net.class_labels is None else net.class_labels
    return datasets.too_rare(strata, rows, held, names)
