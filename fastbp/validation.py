"""Every check of what a user hands in: the one place that words such errors, so that kernels may assume.

All functions but `settle` are pure: they return the checked value in the form the kernels take, or raise ``ValueError``
(right type, wrong value) or ``TypeError`` (wrong type) with a text that names the argument, its value and what is
expected. Use what they return, never what they were given: NumPy's scalars pass, but overflow, and no JSON holds them.
The module imports next to nothing of fastbp, so every other module may use it.
"""

from __future__ import annotations

import contextlib
import difflib
import itertools
import math
import operator
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from fastbp.arrays import check_kind, check_present, numeric
from fastbp.numerics import quiet

Array = npt.NDArray[Any]

# Kernels gather rows of these as they stand. A byte-swapped dtype compares unequal, so membership also says "native".
IN_PLACE_DTYPES = frozenset(np.dtype(name) for name in ("float32", "float64", "uint8"))
_INT64 = np.dtype(np.int64)
NETWORK_DTYPES = (np.dtype("float32"), np.dtype("float64"))

# How far a row of probabilities may be from 1: float16 tables of a hundred classes pass, a forgotten softmax does not.
PROBABILITY_TOLERANCE = 1e-3
# Elements scanned at a time: 2 MB of float64 stays in a core's cache for the second look, and bounds temporaries.
_SCAN_BLOCK = 1 << 18


class LossLike(Protocol):
    """What ``check_y`` reads of a loss: its name, and the kind of target it takes."""

    @property
    def name(self) -> str: ...
    @property
    def target(self) -> str: ...


class Offence(NamedTuple):
    """Where an array first breaks a rule, and the value found there."""

    at: tuple[int, ...]
    value: float


def check_choice(name: str, value: object, choices: Iterable[str]) -> str:
    """Return `value` if it is one of `choices`; otherwise raise, with the nearest choice as a hint."""
    known = list(choices)
    if not isinstance(value, str):
        raise TypeError(f"{name} must be one of {', '.join(known)}, got {value!r} of type {type(value).__name__}")
    if value in known:
        return known[known.index(value)]  # a plain string, which NumPy's is not
    near = difflib.get_close_matches(value.lower(), known, n=1)
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    raise ValueError(f"{name}={value!r} is unknown{hint}; choose from {', '.join(known)}")


def check_positive_int(name: str, value: object) -> int:
    """Return `value` as int if it is an integer of at least 1. Booleans and floats raise ``TypeError``."""
    number = _integer(name, value, "a positive integer")
    if number < 1:
        raise ValueError(f"{name} must be a positive integer, got {number}")
    return number


def check_non_negative_int(name: str, value: object) -> int:
    """Return `value` as int if it is an integer of at least 0. Booleans and floats raise ``TypeError``."""
    number = _integer(name, value, "an integer of at least 0")
    if number < 0:
        raise ValueError(f"{name} must be an integer of at least 0, got {number}")
    return number


def check_positive_finite(name: str, value: object) -> float:
    """Return `value` as float if it is finite and above zero."""
    return _real(name, value, "a positive finite number", lambda number: 0.0 < number < math.inf)


def check_non_negative_finite(name: str, value: object) -> float:
    """Return `value` as float if it is finite and not below zero."""
    return _real(name, value, "a finite number of at least 0", lambda number: 0.0 <= number < math.inf)


def check_finite_number(name: str, value: object) -> float:
    """Return `value` as float if it is finite."""
    return _real(name, value, "a finite number", math.isfinite)


def check_fraction(name: str, value: object) -> float:
    """Return `value` as float if it lies in [0, 1)."""
    return _real(name, value, "a number in [0, 1)", lambda number: 0.0 <= number < 1.0)


def check_inner_fraction(name: str, value: object) -> float:
    """Return `value` as float if it lies in (0, 1)."""
    return _real(name, value, "a number in (0, 1), both ends apart", lambda number: 0.0 < number < 1.0)


def check_flag(name: str, value: object) -> bool:
    """Return True or False; NumPy's, and the numbers 1 and 0, are taken for them."""
    if isinstance(value, bool | np.bool_ | int | np.integer) and value in (0, 1):
        return bool(value)
    raise TypeError(f"{name} must be True or False, got {value!r} of type {type(value).__name__}")


def settle(description: object, check: Callable[[str, object], object], *names: str, optional: bool = False) -> None:
    """Put what a check returns of some attributes in their place: plain values of Python, which files can hold.

    Also where the description is frozen: it is being made. optional: None passes.
    """
    for name in names:
        value = getattr(description, name)
        if value is not None or not optional:
            object.__setattr__(description, name, check(name, value))


def check_callbacks(callbacks: object) -> tuple[Any, ...]:
    """Return the callbacks as a tuple of objects with a method on_epoch_end."""
    if not isinstance(callbacks, Iterable):
        raise TypeError(f"callbacks must be a sequence, got {callbacks!r}; for one, callbacks=[it]")
    found = tuple(callbacks)
    for k, callback in enumerate(found):
        if isinstance(callback, type) or not callable(getattr(callback, "on_epoch_end", None)):
            raise TypeError(f"callbacks[{k}] must be an object with a method on_epoch_end(state), got {callback!r}")
    return found


def check_seed(seed: object) -> int | None:
    """Return the seed, None or an integer in [0, 2**64)."""
    if seed is None:
        return None
    number = _integer("seed", seed, "None or an integer in [0, 2**64)")
    if not 0 <= number < 1 << 64:
        raise ValueError(f"seed must be None or an integer in [0, 2**64), got {number}")
    return number


def check_dtype(dtype: object) -> np.dtype[Any]:
    """Return the network's dtype, float32 or float64, from its name, type or NumPy dtype."""
    for known in NETWORK_DTYPES:
        # None equals float64 to np.dtype: a forgotten argument must not choose a precision.
        with contextlib.suppress(TypeError):
            if dtype is not None and known == dtype:
                return known
    raise ValueError(f"dtype must be 'float32' or 'float64', got {dtype!r}")


def check_sizes(sizes: object) -> tuple[int, ...]:
    """Return layer sizes as a tuple of at least two positive ints: inputs, hidden layers, outputs."""
    expected = "sizes must list at least two positive integers, inputs first, e.g. [64, 128, 10]"
    if isinstance(sizes, str | bytes | dict | set) or not isinstance(sizes, Iterable):
        raise TypeError(f"{expected}; got {sizes!r}")
    entries = list(sizes)
    if len(entries) < 2:
        raise ValueError(f"{expected}; got {entries!r}")
    return tuple(check_positive_int(f"sizes[{k}]", entry) for k, entry in enumerate(entries))


def check_activations(activation: object, n_hidden: int, choices: Iterable[str]) -> tuple[str, ...]:
    """Return one activation name per hidden layer, from one value for all or a sequence of `n_hidden` values.

    A value is a name from `choices` or a description with such a ``.name``.
    """
    known = list(choices)
    if isinstance(activation, list | tuple):
        if len(activation) != n_hidden:
            raise ValueError(
                f"activation lists {len(activation)} entries for {n_hidden} hidden layers; "
                "give one value for all of them, or one per hidden layer"
            )
        return tuple(check_choice(f"activation[{k}]", _name(one), known) for k, one in enumerate(activation))
    return (check_choice("activation", _name(activation), known),) * n_hidden


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
    return _convert(array, np.dtype(np.float64) if exact and not np.can_cast(array.dtype, dtype) else dtype)


def check_y(
    y: npt.ArrayLike,
    loss: LossLike,
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
        By ``loss.target``. "classes": integer labels ``(n,)`` in 0..n_out-1, or probabilities ``(n, n_out)``, each row
        non-negative and summing to 1. "binary": 0, 1 or a probability. "real": any finite number. "counts": at
        least 0. The last three have shape ``(n, n_out)``, or ``(n,)`` if n_out is 1; nothing broadcasts.
    scan : bool
        False leaves the values of a float target unread (one training step cannot afford it). The range of integer
        labels is checked either way: a wrong label would make a kernel read outside its buffer.
    """
    labels = loss.target in ("classes", "binary")
    array = y if type(y) is np.ndarray else numeric(y, name, labels=labels)
    check_kind(array, name, labels=labels)
    if array.ndim == 0:
        raise ValueError(f"{name} is the single value {array[()]}; expected one target for each of {n_rows} rows")
    if array.shape[0] != n_rows:
        raise ValueError(f"{name} has {array.shape[0]} rows, but X has {n_rows}")
    if loss.target == "classes":
        check_softmax(loss, n_out, array)
    if loss.target == "classes" and array.ndim == 1:
        return _labels(array, loss, n_out, name)
    shaped = _outputs(array, loss, n_out, name)
    if scan:
        _check_values(shaped, loss, dtype, name)
    if shaped.dtype == dtype and shaped.flags.c_contiguous and shaped.flags.aligned:
        return np.asarray(shaped)
    return _convert(shaped, dtype)


def check_batch(
    X: npt.ArrayLike,
    y: npt.ArrayLike,
    loss: LossLike,
    sizes: Sequence[int],
    dtype: np.dtype[Any],
    *,
    names: tuple[str, str] = ("X", "y"),
    scan: bool = False,
    gathered: bool = False,
    scaling: tuple[Array, ...] | None = None,
    y_dtype: np.dtype[Any] | None = None,
) -> tuple[Array, Array]:
    """Return one checked pair of samples and targets; `scan` also looks for NaN, infinity and impossible targets.

    gathered: the samples will be scanned while their rows are gathered. scaling: mean and 1 / scale of the inputs, if
    the network applies such. y_dtype: of the targets, if not that of the network.
    """
    samples = check_X(X, sizes[0], name=names[0], dtype=dtype, exact=scaling is not None)
    targets = check_y(
        y, loss, samples.shape[0], sizes[-1], dtype if y_dtype is None else y_dtype, name=names[1], scan=scan
    )
    if scan and not gathered:
        check_finite(samples, names[0], dtype, scaling)
    return samples, targets


def check_sample_weight(sample_weight: npt.ArrayLike, n_rows: int, *, name: str = "sample_weight") -> Array:
    """Return the weights of rows as C-contiguous float64 ``(n,)``: finite, none below 0. All may be 0."""
    array = numeric(sample_weight, name)
    if array.shape != (n_rows,):
        raise ValueError(f"{name} has shape {array.shape}, expected ({n_rows},): one number a row")
    weights = _convert(array, np.dtype(np.float64))
    largest = float(np.finfo(np.float64).max)
    if first_outside(weights, 0.0, largest / max(1, n_rows) ** 2) is not None:  # the sum of smaller ones is fine
        offence = first_outside(weights, 0.0, largest)
        if offence is not None:
            raise ValueError(f"{name}{list(offence.at)} is {offence.value:g}; weights are finite numbers of at least 0")
        check_weight_sum(weights, name)
    return weights


def check_weight_sum(weights: Array, name: str) -> float:
    """Return the sum of weights, none below 0, if a weight times the number of rows can be divided by it."""
    with np.errstate(all="ignore"):
        total = float(weights.sum())
    if total * len(weights) == math.inf:
        raise ValueError(
            f"the sum of {name}, {total:g}, is too large for double precision; only the ratios of weights matter: "
            "divide them by their maximum"
        )
    return total


def check_finite(
    array: Array, name: str, dtype: np.dtype[Any] | None = None, scaling: tuple[Array, ...] | None = None
) -> None:
    """Raise ``ValueError`` naming the first NaN or infinity of `array`, if it has one.

    With `dtype`, a value that would become infinite when cast to it counts too; with `scaling` (mean and 1 / scale of
    every column), one that would after that. Integers are never scanned, nor are memory maps: those may be larger than
    memory, and are checked while their rows are gathered.
    """
    if array.dtype.kind != "f" or isinstance(array, np.memmap):
        return
    offence = first_not_finite(array, dtype, scaling)
    if offence is not None:
        raise ValueError(not_finite(offence, name, dtype, scaled=scaling is not None))


def first_not_finite(
    array: Array, dtype: np.dtype[Any] | None = None, scaling: tuple[Array, ...] | None = None
) -> Offence | None:
    """Return the first element that is not finite, or would not be in `dtype`, after `scaling` if there is one."""
    if scaling is None:
        limit = min(float(np.finfo(found).max) for found in (array.dtype, dtype, np.float64) if found is not None)
        return first_outside(array, -limit, limit)
    mean, factor = scaling[:2]
    # All columns fit well into the narrowest of them, as a rule, and then nothing is computed.
    most = float(np.finfo(np.float64).max) / 4
    limit = float(np.finfo(np.float64 if dtype is None else dtype).max)
    with np.errstate(all="ignore"):
        reach = np.minimum(limit / 2 / factor, most)
        low, high = float((np.maximum(mean, -most) - reach).max()), float((np.minimum(mean, most) + reach).min())
        for start, block in _blocks(array):
            if float(block.min()) >= low and float(block.max()) <= high:
                continue
            values = block.astype(np.float64)
            bad = np.argwhere(~(np.abs((values - mean) * factor) <= limit))
            if len(bad):
                return _offence(values, start, bad[0])
    return None


def check_weights(
    weights: Sequence[Any], biases: Sequence[Any], sizes: Sequence[int], dtype: np.dtype[Any]
) -> tuple[list[Array], list[Array]]:
    """Return weights ``(n_in, n_out)`` and biases ``(n_out,)``, one of each a layer, C-contiguous and of `dtype`."""
    n_layers = len(sizes) - 1
    weight_shapes: list[tuple[int, ...]] = list(itertools.pairwise(sizes))
    bias_shapes: list[tuple[int, ...]] = [(n_out,) for n_out in sizes[1:]]
    checked: dict[str, list[Array]] = {}
    for name, given, shapes in (("weights", weights, weight_shapes), ("biases", biases, bias_shapes)):
        if not isinstance(given, list | tuple):
            raise TypeError(f"{name} must be a list of {n_layers} arrays, one a layer; got {type(given).__name__}")
        if len(given) != n_layers:
            raise ValueError(f"{name} lists {len(given)} arrays, but the network has {n_layers} layers")
        checked[name] = []
        for k, (one, shape) in enumerate(zip(given, shapes, strict=True)):
            label = f"{name}[{k}]"
            array = numeric(one, label)
            if array.shape != shape:
                raise ValueError(f"{label} has shape {array.shape}, expected {shape}")
            check_finite(np.asarray(array), label, dtype)
            checked[name].append(_convert(array, dtype))
    return checked["weights"], checked["biases"]


def check_column(name: str, value: Any) -> Array:
    """Return one finite number a column, ``(n,)``, in float64; there is at least one."""
    array = numeric(value, name)
    if array.ndim != 1 or not array.size:
        raise ValueError(f"{name} has shape {array.shape}, expected one number for each column")
    check_finite(np.asarray(array), name, np.dtype(np.float64))
    return _convert(array, np.dtype(np.float64))


def first_outside(array: Array, low: float, high: float) -> Offence | None:
    """Return the first element that is NaN or outside [low, high], in row order, or None.

    Minimum and maximum carry NaN along and need no temporary; only a block with a culprit is looked at twice.
    """
    with np.errstate(all="ignore"):
        for start, block in _blocks(array):
            if float(block.min()) >= low and float(block.max()) <= high:
                continue
            values = block.astype(np.float64)
            return _offence(values, start, np.argwhere(~((values >= low) & (values <= high)))[0])
    return None


def _blocks(array: Array) -> Iterator[tuple[int, Array]]:
    """Some rows at a time, and the number of the first of them."""
    if array.size:
        rows = max(1, _SCAN_BLOCK // max(1, array[0].size))
        for start in range(0, array.shape[0], rows):
            yield start, array[start : start + rows]


def _offence(values: Array, start: int, at: Array) -> Offence:
    return Offence((start + int(at[0]), *(int(i) for i in at[1:])), float(values[tuple(at)]))


def _integer(name: str, value: object, expected: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise TypeError(f"{name} must be {expected}, got {value!r} of type {type(value).__name__}")
    return int(operator.index(value))


def _real(name: str, value: object, expected: str, allowed: Callable[[float], bool]) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
        raise TypeError(f"{name} must be {expected}, got {value!r} of type {type(value).__name__}")
    with contextlib.suppress(OverflowError):  # an int beyond float64
        if allowed(float(value)):
            return float(value)
    raise ValueError(f"{name} must be {expected}, got {value!r}")


def _name(value: object) -> object:
    return getattr(value, "name", value)


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


def _convert(array: Array, dtype: np.dtype[Any]) -> Array:
    """One C-contiguous, aligned array of `dtype`; overflow to infinity is for ``check_finite`` to report."""
    with np.errstate(all="ignore"):
        return np.asarray(np.require(array, dtype, ["C", "A"]))


def check_softmax(loss: LossLike, n_out: int, y: Array | None = None) -> None:
    """Refuse a softmax over a single output, which is 1 whatever the weights; y, if there, tells what to propose."""
    if loss.target != "classes" or n_out != 1:
        return
    mend = "loss='binary_cross_entropy' for two classes, loss='mse' for numbers"
    if y is not None and y.size:
        two = bool(np.isin(y, (0, 1)).all())
        mend = "y holds 0 and 1: loss='binary_cross_entropy'" if two else "y holds other than 0 and 1: loss='mse'"
    raise ValueError(
        f"loss={loss.name!r} with one output learns nothing, since the softmax over a single output is always 1; make "
        f"the network with another loss ({mend}), or with an output for each class"
    )


def _not_labels(array: Array, loss: LossLike, n_out: int, name: str) -> str:
    """What to say of floats where integer labels belong."""
    check_present(array, name)
    said = f"{name} has dtype {array.dtype}, but {loss.name} takes integer class labels (rows,)"
    numbers = "make the network with loss='mse' (or mae, huber, poisson)"
    fractions = np.flatnonzero(array != np.rint(array))
    if fractions.size:
        row = int(fractions[0])
        return f"{said}, and {name}[{row}] is {array[row]:g}: to learn numbers, {numbers}"
    return (
        f"{said}: pass {name}.astype('int64'), or probabilities of shape (rows, {n_out}); if these are numbers to "
        f"learn, {numbers}"
    )


def _labels(array: Array, loss: LossLike, n_out: int, name: str) -> Array:
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


def _outputs(array: Array, loss: LossLike, n_out: int, name: str) -> Array:
    """`array` as (rows, n_out): a view, never a broadcast."""
    n_rows = array.shape[0]
    if array.shape == (n_rows, n_out):
        return array
    if n_out == 1 and array.ndim == 1:
        return array.reshape(n_rows, 1)
    expected = f"({n_rows}, {n_out})"
    if loss.target == "classes":
        expected = f"integer labels ({n_rows},) or probabilities {expected}"
    elif n_out == 1:
        expected = f"({n_rows},) or {expected}"
    hint = ""
    if loss.target == "classes" and array.shape == (n_rows, 1):
        hint = f"; pass {name}[:, 0]"
    raise ValueError(f"{name} has shape {array.shape}; {loss.name} with {n_out} outputs takes {expected}{hint}")


@quiet
def _check_values(y: Array, loss: LossLike, dtype: np.dtype[Any], name: str) -> None:
    limit = float(np.finfo(dtype).max)
    ranges = {
        "classes": (0.0, 1.0 + PROBABILITY_TOLERANCE, "probabilities from 0 to 1"),
        "binary": (0.0, 1.0, "0, 1 or a probability in between"),
        "counts": (0.0, limit, "counts or rates of at least 0"),
        "real": (-limit, limit, "finite numbers"),
    }
    low, high, expected = ranges[loss.target]
    offence = first_outside(y, low, high)
    if offence is not None:
        if not abs(offence.value) <= limit:
            raise ValueError(not_finite(offence, name, dtype))
        raise ValueError(f"{name}{list(offence.at)} is {offence.value:g}; {loss.name} takes {expected}")
    if loss.target == "classes":
        sums = y.sum(axis=1, dtype=np.float64)
        worst = first_outside(sums, 1.0 - PROBABILITY_TOLERANCE, 1.0 + PROBABILITY_TOLERANCE)
        if worst is not None:
            raise ValueError(
                f"{name}[{worst.at[0]}] sums to {worst.value:g}; {loss.name} takes integer labels, "
                "or rows of probabilities that each sum to 1"
            )


def not_finite(offence: Offence, name: str, dtype: np.dtype[Any] | None, *, scaled: bool = False) -> str:
    """What to say of a value that is NaN or infinite, or becomes so in `dtype`, or by the network's scaling."""
    where = f"{name}{list(offence.at)} is {offence.value:g}"
    if not math.isfinite(offence.value):
        return f"{where}; every value must be finite: drop or fill such rows first"
    if scaled:
        return f"{where}, too far from what the network's scaling was made of for a {dtype} network; is it a mistake?"
    return f"{where}, too large for a {dtype} network: scale it down, or use dtype='float64'"
