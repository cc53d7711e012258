"""Checks of numbers, names and flags: they return plain values, or raise an error that says what is wrong.

All checks are pure: they return the checked value in the form the kernels take, or raise ``ValueError`` (right type,
wrong value) or ``TypeError`` (wrong type) with a text that names the argument, its value and what is expected. Use what
they return, never what they were given: NumPy's scalars pass, but overflow, and no JSON holds them.

A dataclass derived from `Checked` names the check of each field beside its default, by `setting`.
The module imports nothing of fastbp, so every other module may use it.
"""

from __future__ import annotations

import contextlib
import difflib
import functools
import math
import operator
from collections.abc import Callable, Iterable
from dataclasses import field, fields
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Check = Callable[[str, object], Any]  # of a name and a value; returns the value to keep
T = TypeVar("T")

NETWORK_DTYPES = (np.dtype("float32"), np.dtype("float64"))


def check_choice(name: str, value: object, choices: Iterable[str]) -> str:
    """Return `value` if it is one of `choices`; otherwise raise, with the nearest choice as a hint."""
    if type(value) is str and isinstance(choices, (dict, list, tuple)) and value in choices:
        return value
    known = list(choices)
    if not isinstance(value, str):
        raise TypeError(f"{name} must be one of {', '.join(known)}, got {value!r} of type {type(value).__name__}")
    if value in known:
        return known[known.index(value)]  # a plain string, which NumPy's is not
    near = difflib.get_close_matches(value.lower(), known, n=1)
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    raise ValueError(f"{name}={value!r} is unknown{hint}; choose from {', '.join(known)}")


def counted(n: int, noun: str) -> str:
    """A count and its noun: "1 seed", "2,000 seeds"."""
    return f"{n:,} {noun}{'s' * (n != 1)}"


def listed(names: Iterable[str]) -> str:
    """Names as a sentence has them: "a, b and c"."""
    *others, last = names
    return f"{', '.join(others)} and {last}" if others else last


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
    if value is True or value is False:
        return value
    if isinstance(value, bool | np.bool_ | int | np.integer) and value in (0, 1):
        return bool(value)
    raise TypeError(f"{name} must be True or False, got {value!r} of type {type(value).__name__}")


def check_callbacks(callbacks: object) -> tuple[Any, ...]:
    """Return the callbacks as a tuple of objects with a method on_epoch_end."""
    if type(callbacks) is tuple and not callbacks:
        return ()
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
    known = choices if isinstance(choices, (dict, list, tuple)) else list(choices)
    if isinstance(activation, list | tuple):
        if len(activation) != n_hidden:
            raise ValueError(
                f"activation lists {len(activation)} entries for {n_hidden} hidden layers; "
                "give one value for all of them, or one per hidden layer"
            )
        return tuple(check_choice(f"activation[{k}]", _name(one), known) for k, one in enumerate(activation))
    return (check_choice("activation", _name(activation), known),) * n_hidden


def _integer(name: str, value: object, expected: str) -> int:
    if type(value) is int:  # the rule; to ask for types made of several takes 0.6 us
        return value
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise TypeError(f"{name} must be {expected}, got {value!r} of type {type(value).__name__}")
    return int(operator.index(value))


def _real(name: str, value: object, expected: str, allowed: Callable[[float], bool]) -> float:
    if type(value) is float and allowed(value):
        return value
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
        raise TypeError(f"{name} must be {expected}, got {value!r} of type {type(value).__name__}")
    with contextlib.suppress(OverflowError):  # an int beyond float64
        if allowed(float(value)):
            return float(value)
    raise ValueError(f"{name} must be {expected}, got {value!r}")


def _name(value: object) -> object:
    return getattr(value, "name", value)


# --- checks of the fields of dataclasses ----------------------------------------------------------------------


def setting(default: T, check: Check) -> T:
    """A dataclass field that `Checked` checks: ``lr: float = setting(1e-3, check_positive_finite)``."""
    found: T = field(default=default, metadata=checked_by(check))
    return found


def later(default: T, check: Check) -> T:
    """As `setting`, of a field that descriptions gained when there were files of them: see `shown_fields`."""
    found: T = field(default=default, metadata={**checked_by(check), "later": True})
    return found


def shown_fields(described: Any) -> list[str]:
    """Names of the arguments of a description that its `repr` and fingerprints show.

    A field that came later is left out where it has its default: files of before know nothing of it.
    """
    return [
        one.name for one in fields(described)
        if one.init and one.repr and not (one.metadata.get("later") and getattr(described, one.name) == one.default)
    ]  # fmt: skip


def checked_by(check: Check) -> dict[str, Check]:
    """Metadata of a field without a default: ``epochs: float = field(metadata=checked_by(check_positive_finite))``."""
    return {"check": check}


def optional(check: Check) -> Check:
    """The check of a value that may also be None."""
    return lambda name, value: None if value is None else check(name, value)


def one_of(*choices: str) -> Check:
    """The check of a value that is one of these texts."""
    return functools.partial(check_choice, choices=choices)


class Checked:
    """Base of dataclasses whose fields are checked when they are made, and hold what their checks return.

    A subclass that gives a field another default need not repeat its check. What concerns several fields at once goes
    into a ``__post_init__`` that calls this one first.
    """

    def __post_init__(self) -> None:
        kind: Any = type(self)
        for name, check in _checks(kind):
            object.__setattr__(self, name, check(name, getattr(self, name)))  # also where the class is frozen


@functools.cache
def _checks(kind: type) -> list[tuple[str, Check]]:
    """Fields of a dataclass, in their order, that it or one of its bases names a check for."""
    fields: list[dict[str, Any]] = [vars(one).get("__dataclass_fields__", {}) for one in kind.__mro__]
    found = []
    for name in fields[0] or getattr(kind, "__dataclass_fields__", {}):
        named = (one[name].metadata["check"] for one in fields if name in one and "check" in one[name].metadata)
        if (check := next(named, None)) is not None:
            found.append((name, check))
    return found
