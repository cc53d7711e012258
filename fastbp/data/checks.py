"""Checks of samples, targets and weights: what they return is in the form that kernels read.

All functions are pure: they return the checked value, or raise ``ValueError`` (right type, wrong value) or
``TypeError`` (wrong type) with a text that names the argument, its value and what is expected.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from fastbp import losses
from fastbp.arrays import (
    check_kind,
    check_present,
    check_weight_sum,
    convert,
    first_outside,
    not_finite,
    numeric,
)
from fastbp.links import PROBABILITY_TOLERANCE
from fastbp.losses import Loss, check_softmax
from fastbp.numerics import quiet
from fastbp.types import Array

# Kernels gather rows of these as they stand. A byte-swapped dtype compares unequal, so membership also says "native".
IN_PLACE_DTYPES = frozenset(np.dtype(name) for name in ("float32", "float64", "uint8"))


_INT64 = np.dtype(np.int64)


def check_X(
    X: npt.ArrayLike, n_in: int, *, name: str = "X", dtype: np.dtype[Any], min_rows: int = 1, exact: bool = False
) -> Array:
    """Return the samples as a 2-D array ``(n, n_in)`` that the kernels can gather from.

    A NumPy array of float32, float64 or uint8 in native byte order is returned as it stands, whatever its strides,
    read-only and memory-mapped ones included. Other numeric array-likes are converted once, to `dtype`, the network's;
    if `exact`, to float64 where `dtype` cannot hold all their values (nor can float64 hold integers beyond 2^53).
    Sparse, masked, object, string, complex and date arrays raise ``TypeError``; a wrong number of dimensions, columns
    or rows raises ``ValueError``.
    """
    array = X if type(X) is np.ndarray else numeric(X, name)
    if array.ndim != 2:
        raise ValueError(_not_two_dimensional(array, n_in, name))
    n_rows, n_columns = array.shape
    if n_rows < min_rows:
        raise ValueError(f"{name} has {n_rows} rows, at least {min_rows} needed: shape {array.shape}")
    if n_columns != n_in:
        raise ValueError(f"{name} has {n_columns} columns, but the network takes {n_in} inputs: shape {array.shape}")
    if array.dtype in IN_PLACE_DTYPES and array.flags.aligned:
        return array
    check_kind(array, name)
    return convert(array, np.dtype(np.float64) if exact and not np.can_cast(array.dtype, dtype) else dtype)


def check_y(
    y: npt.ArrayLike,
    loss: Loss,
    n_rows: int,
    n_out: int,
    dtype: np.dtype[Any],
    *,
    name: str = "y",
    scan: bool = True,
) -> Array:
    """Return the targets as loss kernels read them, C-contiguous: int64 ``(n,)`` labels, or ``(n, n_out)`` in `dtype`.

    Parameters
    ----------
    y : array-like
        By ``loss.link.target``. "classes": integer labels ``(n,)`` in 0..n_out-1, or probabilities ``(n, n_out)``,
        each row non-negative and summing to 1. "binary": 0, 1 or a probability. "real": any finite number. "counts":
        at least 0. The last three have shape ``(n, n_out)``, or ``(n,)`` if n_out is 1; nothing broadcasts.
    scan : bool
        False leaves the values of a float target unread (one training step cannot afford it). The range of integer
        labels is checked either way: a wrong label would make a kernel read outside its buffer.
    """
    labels = loss.link.classifies
    array = y if type(y) is np.ndarray else numeric(y, name, labels=labels)
    check_kind(array, name, labels=labels)
    if array.ndim == 0:
        raise ValueError(f"{name} is the single value {array[()]}; expected one target for each of {n_rows} rows")
    if array.shape[0] != n_rows:
        raise ValueError(f"{name} has {array.shape[0]} rows, but X has {n_rows}")
    check_softmax(loss, n_out, array)
    if loss.link.one_class and array.ndim == 1:
        return _labels(array, loss, n_out, name)
    shaped = _outputs(array, loss, n_out, name)
    if scan:
        _check_values(shaped, loss, dtype, name)
    if shaped.dtype == dtype and shaped.flags.c_contiguous and shaped.flags.aligned:
        return np.asarray(shaped)
    return convert(shaped, dtype)


def check_sample_weight(sample_weight: npt.ArrayLike, n_rows: int, *, name: str = "sample_weight") -> Array:
    """Return the weights of rows as C-contiguous float64 ``(n,)``: finite, none below 0. All may be 0."""
    array = numeric(sample_weight, name)
    if array.shape != (n_rows,):
        raise ValueError(f"{name} has shape {array.shape}, expected ({n_rows},): one number a row")
    weights = convert(array, np.dtype(np.float64))
    largest = float(np.finfo(np.float64).max)
    if first_outside(weights, 0.0, largest / max(1, n_rows) ** 2) is not None:  # the sum of smaller ones is fine
        offence = first_outside(weights, 0.0, largest)
        if offence is not None:
            raise ValueError(f"{name}{list(offence.at)} is {offence.value:g}; weights are finite numbers of at least 0")
        check_weight_sum(weights, name)
    return weights


def _not_two_dimensional(array: Array, n_in: int, name: str) -> str:
    text = f"{name} must have shape (rows, {n_in}), got {array.shape}"
    if array.ndim == 0:
        return f"{text}: a single value"
    if array.size == 0:
        return f"{text}: it has no rows"
    if array.ndim > 2:
        return f"{text}; flatten each sample with {name}.reshape(len({name}), -1)"
    if n_in == 1:
        return f"{text}; use {name}.reshape(-1, 1)"
    if array.shape[0] == n_in:
        return f"{text}; for one sample use {name}.reshape(1, -1)"
    return f"{text}; use {name}.reshape(1, -1) for one sample, {name}.reshape(-1, 1) for one input a sample"


def _not_labels(array: Array, loss: Loss, n_out: int, name: str) -> str:
    """What to say of floats where integer labels belong."""
    check_present(array, name)
    said = f"{name} has dtype {array.dtype}, but {loss.name} takes integer class labels (rows,)"
    first, *others = losses.names(classifies=False)
    numbers = f"make the network with loss={first!r} (or {', '.join(others)})"
    fractions = np.flatnonzero(array != np.rint(array))
    if fractions.size:
        row = int(fractions[0])
        return f"{said}, and {name}[{row}] is {array[row]:g}: to learn numbers, {numbers}"
    return (
        f"{said}: pass {name}.astype('int64'), or probabilities of shape (rows, {n_out}); if these are numbers to "
        f"learn, {numbers}"
    )


def _labels(array: Array, loss: Loss, n_out: int, name: str) -> Array:
    if array.dtype.kind == "f":
        raise TypeError(_not_labels(array, loss, n_out, name))
    labels = array if array.dtype is _INT64 else np.asarray(array, dtype=np.int64)
    if not labels.flags.carray and not (labels.flags.c_contiguous and labels.flags.aligned):
        labels = np.require(labels, requirements=["C", "A"])
    if 0 < labels.size <= 32:  # a few numbers are faster looked at one by one
        values = labels.tolist()
        if min(values) >= 0 and max(values) < n_out:
            return labels
    # Seen as unsigned, a negative label is huge: one pass finds both ends (uint64 beyond int64 wraps to negative).
    if labels.size and int(np.maximum.reduce(labels.view(np.uint64))) >= n_out:
        row = int(np.argmax(labels.view(np.uint64) >= n_out))
        raise ValueError(f"{name}[{row}] is {array[row]}, but labels for {n_out} outputs run from 0 to {n_out - 1}")
    return labels


def _outputs(array: Array, loss: Loss, n_out: int, name: str) -> Array:
    """`array` as (rows, n_out): a view, never a broadcast."""
    n_rows = array.shape[0]
    if array.shape == (n_rows, n_out):
        return array
    if n_out == 1 and array.ndim == 1:
        return array.reshape(n_rows, 1)
    expected = f"({n_rows}, {n_out})"
    if loss.link.one_class:
        expected = f"integer labels ({n_rows},) or probabilities {expected}"
    elif n_out == 1:
        expected = f"({n_rows},) or {expected}"
    hint = ""
    if loss.link.one_class and array.shape == (n_rows, 1):
        hint = f"; pass {name}[:, 0]"
    raise ValueError(f"{name} has shape {array.shape}; {loss.name} with {n_out} outputs takes {expected}{hint}")


@quiet
def _check_values(y: Array, loss: Loss, dtype: np.dtype[Any], name: str) -> None:
    limit = float(np.finfo(dtype).max)
    offence = first_outside(y, *loss.link.value_range(limit))
    if offence is not None:
        if not abs(offence.value) <= limit:
            raise ValueError(not_finite(offence, name, dtype))
        raise ValueError(f"{name}{list(offence.at)} is {offence.value:g}; {loss.name} takes {loss.link.values}")
    if loss.link.one_class:
        sums = y.sum(axis=1, dtype=np.float64)
        worst = first_outside(sums, 1.0 - PROBABILITY_TOLERANCE, 1.0 + PROBABILITY_TOLERANCE)
        if worst is not None:
            raise ValueError(
                f"{name}[{worst.at[0]}] sums to {worst.value:g}; {loss.name} takes integer labels, "
                "or rows of probabilities that each sum to 1"
            )
