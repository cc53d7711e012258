"""How much each row counts: sample weights, class weights and ignored labels, made into one weight a row.

A weighted cost is ``sum_r w_r J_r / sum_r w_r`` over the rows of a batch: only the ratios of weights matter, a row of
weight 2 counts as that row twice, and one of weight 0 as if it were not there.
"""

from __future__ import annotations

import contextlib
import numbers
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from fastbp import arrays, losses, validation
from fastbp.arrays import numeric
from fastbp.data import checks
from fastbp.kernels.notice import tell
from fastbp.losses import Loss
from fastbp.numerics import quiet
from fastbp.spec import NetworkSpec, Samples, Scaling
from fastbp.types import Array


def check_batch(
    spec: NetworkSpec, scaling: Scaling | None, X: npt.ArrayLike, y: npt.ArrayLike,
    sample_weight: npt.ArrayLike | None, *, scan: bool = False,
    names: tuple[str, str, str] = ("X", "y", "sample_weight"), gathered: bool = False,
) -> Samples:  # fmt: skip
    """Samples and targets in the kernels' form, and the weights of the rows in float64; None where all count the same.

    Targets are standardised, where `scaling` says so. Ignored labels become class 0 with weight 0. All weights of a
    batch may be 0: whoever needs a mean over them asks `check_total`.

    scan: look for NaN, infinity and impossible targets. gathered: the samples will be scanned while their rows are
    gathered.
    """
    loss, dtype = spec.loss, spec.dtype
    ignored = None if loss.ignored_label is None else ignored_rows(loss, y)
    if ignored is not None:
        y = np.where(ignored, 0, numeric(y, names[1]))
    scaled = scaling is not None and scaling.y_mean is not None
    samples = checks.check_X(X, spec.n_in, name=names[0], dtype=dtype, exact=scaling is not None)
    y_dtype = np.dtype(np.float64) if scaled else dtype
    targets = checks.check_y(y, loss, samples.shape[0], spec.n_out, y_dtype, name=names[1], scan=scan)
    if scan and not gathered:
        arrays.check_finite(samples, names[0], dtype, None if scaling is None else scaling.for_kernels(dtype))
    if scaling is not None and scaled:
        targets = scaling.scaled_targets(targets, dtype, names[1] if scan else None)
    weights = None
    if sample_weight is not None:
        weights = checks.check_sample_weight(sample_weight, len(samples), name=names[2])
    if ignored is not None:
        weights = (~ignored).astype(np.float64) if weights is None else np.where(ignored, 0.0, weights)
    return Samples(samples, targets, weights)


def ignored_rows(loss: Loss, y: npt.ArrayLike) -> Array | None:
    """Which rows hold the label that the loss ignores; None if no row does."""
    if loss.ignored_label is None:
        return None
    with contextlib.suppress(ValueError, TypeError):  # no labels at all: the check of y says so
        labels = numeric(y, "y", labels=True)
        if labels.ndim == 1 and labels.dtype.kind in "iu":
            found: Array = labels == loss.ignored_label
            return found if found.any() else None
    return None


def strata(loss: Loss, y: npt.ArrayLike, targets: Array) -> Array:
    """The classes by which a split is stratified: ignored rows are one of their own, if there are two or more."""
    ignored = ignored_rows(loss, y)
    if ignored is None or np.count_nonzero(ignored) < 2:
        return targets
    return np.where(ignored, np.iinfo(targets.dtype).max, targets)  # beyond all classes


@quiet
def apply_class_weight(
    class_weight: object, spec: NetworkSpec, y: npt.ArrayLike, targets: Array, weights: Array | None, rows: Array | None
) -> Array | None:
    """The weights of the rows times those of their classes; `rows` are those that "balanced" counts, None all."""
    if class_weight is None:
        return weights
    classes, n_classes = _classes(spec, targets)
    if isinstance(class_weight, str) and validation.check_choice("class_weight", class_weight, ["balanced"]):
        counted, ignored = classes if rows is None else classes[rows], ignored_rows(spec.loss, y)
        if ignored is not None:
            counted = counted[~(ignored if rows is None else ignored[rows])]
        factors = balanced(np.bincount(counted, minlength=n_classes))
    else:
        factors = _factors(class_weight, n_classes)
    found: Array = factors[classes]
    return found if weights is None else found * weights


def balanced(counts: Array) -> Array:
    """``n / (C * count)`` of each of the C classes that occur, as scikit-learn; 1 for those that do not."""
    n_present = np.count_nonzero(counts)
    return np.where(counts > 0, counts.sum() / np.maximum(n_present * counts, 1), 1.0)


def _classes(spec: NetworkSpec, targets: Array) -> tuple[Array, int]:
    """The class of each row, and the number of classes."""
    loss, n_out = spec.loss, spec.n_out
    if loss.link.one_class:
        if targets.ndim != 1:
            raise ValueError("class_weight needs integer labels (n,), but y holds probabilities: use sample_weight")
        return targets, n_out
    if not loss.link.classifies or n_out != 1:
        outputs = f" and {n_out} outputs" if loss.link.classifies else ""
        by_class, by_output = (", ".join(losses.names(classifies=True, one_class=one)) for one in (True, False))
        raise ValueError(
            f"class_weight is for {by_class}, and for {by_output} with one output; this network has "
            f"loss={loss.name!r}{outputs}: use sample_weight"
        )
    between = np.flatnonzero((targets[:, 0] != 0) & (targets[:, 0] != 1))
    if between.size:
        row = int(between[0])
        raise ValueError(
            f"class_weight needs targets of 0 or 1, but y[{row}] is {targets[row, 0]:g}: use sample_weight"
        )
    return targets[:, 0].astype(np.int64), 2


def _factors(class_weight: object, n_classes: int) -> Array:
    """The weight of each class by a mapping, 1 for those that it leaves out."""
    if not isinstance(class_weight, Mapping):
        raise TypeError(
            f"class_weight must be None, 'balanced' or a mapping such as {{0: 1.0, 1: 5.0}}, got {class_weight!r}"
        )
    factors = np.ones(n_classes)
    for key, value in class_weight.items():
        if isinstance(key, bool) or not isinstance(key, numbers.Integral):
            raise TypeError(f"class_weight has the key {key!r}; keys are classes, integers from 0 to {n_classes - 1}")
        if not 0 <= int(key) < n_classes:
            raise ValueError(f"class_weight has the key {key}, but classes run from 0 to {n_classes - 1}")
        factors[int(key)] = validation.check_non_negative_finite(f"class_weight[{key}]", value)
    return factors


@quiet
def check_total(
    weights: Array | None, rows: Array | None = None, what: str = "rows", *, may_be_zero: bool = False
) -> Array | None:
    """Return the weights if some row (of `rows`, or of all) counts, and their sum is not too large; raise otherwise."""
    if weights is None:
        return None
    total = arrays.check_weight_sum(weights if rows is None else weights[rows], f"all weights of {what}")
    if total == 0.0 and not may_be_zero:
        raise ValueError(
            f"the weights of all {what} are 0 (by sample_weight, class_weight or an ignored label): at least one row "
            "must count"
        )
    return weights


def check_effect(weights: Array | None, rows: Array | None, batch_size: int) -> None:
    """Warn of weights (of `rows`, or of all) that cannot act."""
    if batch_size > 1 or weights is None:
        return
    counted = weights if rows is None else weights[rows]
    counted = counted[counted > 0]
    if counted.size and counted.min() < counted.max():
        tell(  # in the middle of a training, if chunks come
            "with batch_size=1 the weights of rows cannot act, unless they are 0: a batch's cost is divided by its sum "
            "of weights; take larger batches", UserWarning, stacklevel=6,
        )  # fmt: skip


@quiet
def mean(row_losses: Array, weights: Array | None, columns: int) -> float:
    """J in double precision, of rows that each hold a sum over some columns; one of weight 0 may hold anything."""
    if weights is None:
        return float(row_losses.sum(dtype=np.float64)) / (len(row_losses) * columns)
    counted = weights > 0
    share = weights[counted] / weights.sum()
    return float((row_losses[counted] * share).sum()) / columns


def parts(value: Any, name: str = "validation_data") -> tuple[Any, Any, Any]:
    """X, y and their weights, or None, of `validation_data` or of what else is given as a pair or a triple."""
    if isinstance(value, tuple | list) and len(value) in (2, 3):
        return value[0], value[1], value[2] if len(value) == 3 else None
    found = type(value).__name__ + (f" of {len(value)}" if isinstance(value, tuple | list) else "")
    raise TypeError(f"{name} must be a pair (X, y), or (X, y, sample_weight), got {found}")
