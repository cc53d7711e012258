"""Tasks out of arguments: what `fit` takes, one for all networks or one each, checked before anything is trained."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from fastbp.data import columns
from fastbp.engine import precisions
from fastbp.many.task import Task
from fastbp.network import MLP
from fastbp.spec import Samples
from fastbp.training import fit
from fastbp.training.settings import FitSettings
from fastbp.types import Array
from fastbp.validation import check_callbacks

# Arguments of `MLP.fit` that hold how to train, and those that hold what on.
SETTINGS = ("epochs", "batch_size", "optimizer", "schedule", "shuffle", "drop_last", "callbacks", "precision")
DATA = ("sample_weight", "class_weight", "validation_data", "validation_split")
# Of which a tuple is one for all networks.
PAIRS = ("validation_data",)


def of_arguments(
    nets: Sequence[MLP], X: Any, y: Any, rows: Any, arguments: Mapping[str, Any], named: Callable[[int], str]
) -> list[Task]:
    """The tasks of some networks; `arguments` are those of `fit`, one for all or a list of one each.

    named: how an error calls a network.
    """
    n = len(nets)
    _check_nets(nets, named)
    data = {"X": each_array("X", X, n, 2), "y": each_array("y", y, n, 1)}
    data |= {"sample_weight": each_array("sample_weight", arguments.get("sample_weight"), n, 1)}
    for name in SETTINGS + DATA:
        if name in arguments and name not in data:
            kind = each_callbacks if name == "callbacks" else each
            data[name] = kind(name, arguments[name], n)
    subsets = [None] * n if rows is None else _subsets(rows, n)
    known = _Known()
    tasks = []
    for number, net in enumerate(nets):
        own = {name: values[number] for name, values in data.items()}
        try:
            tasks.append(_task(number, net, own, subsets[number], known))
        except (ValueError, TypeError) as error:
            raise type(error)(f"{named(number)}: {error}") from error
    return tasks


def check_nets(nets: Any) -> list[MLP]:
    """The networks, as a list of whatever was given."""
    if isinstance(nets, MLP) or not hasattr(nets, "__iter__"):
        raise TypeError(f"nets must be a sequence of networks, got {nets!r:.80}; for one, [net]")
    return list(nets)


def _check_nets(nets: Sequence[MLP], named: Callable[[int], str]) -> None:
    first: dict[int, int] = {}
    for number, net in enumerate(nets):
        if not isinstance(net, MLP):
            raise TypeError(f"{named(number)} must be a fastbp.MLP, got {type(net).__name__}")
        if (before := first.setdefault(id(net), number)) != number:
            raise ValueError(f"{named(number)} is {named(before)}: give each training a network of its own, net.copy()")


class _Known:
    """What has been checked for one network already, and is true of others."""

    def __init__(self) -> None:
        self.settings: dict[tuple[Any, ...], FitSettings] = {}
        self.samples: dict[tuple[Any, ...], Samples] = {}
        self.alive: list[Any] = []  # what the keys tell by its place in memory

    def settings_of(self, own: Mapping[str, Any]) -> FitSettings:
        given = {name: own[name] for name in SETTINGS if name in own}
        key = tuple(id(value) for value in given.values())
        if key not in self.settings:
            defaults = {"epochs": 10, "batch_size": 32, "schedule": None, "shuffle": True, "callbacks": ()}
            arguments = {**defaults, "optimizer": "adam", **given}
            optimizer = arguments.pop("optimizer")
            self.settings[key] = FitSettings.check(optimizer, **arguments, threads=1, progress=False, resume=None)
            self.alive.append(given)
        return self.settings[key]

    def samples_of(self, net: MLP, X: Any, y: Any, weight: Any) -> Samples:
        session = net.session
        spec, scaling = session.spec, session.scaling
        key = (id(X), id(y), id(weight), id(scaling), spec.n_in, spec.n_out, spec.loss, spec.dtype)
        if key not in self.samples:
            self.samples[key] = session.check_batch(X, y, weight, scan=True)
            self.alive.append((X, y, weight, scaling))
        return self.samples[key]


def _task(number: int, net: MLP, own: dict[str, Any], subset: Any, known: _Known) -> Task:
    settings = known.settings_of(own)
    precisions.check(settings.precision, net.dtype)
    X, y, weight, held = own["X"], own["y"], own["sample_weight"], own.get("validation_data")
    names = net.feature_names or columns.names_of(X)
    if names is not None:
        X = columns.by_name(X, names)
        if isinstance(held, tuple) and held:
            held = (columns.by_name(held[0], names, "validation_data[0]"), *held[1:])
    samples = known.samples_of(net, X, y, weight)
    if subset is not None:
        samples = samples._replace(rows=check_rows(subset, len(samples.X)))
    split, class_weight = own.get("validation_split", 0.0), own.get("class_weight")
    train, validation = fit.check(
        net, X, y, settings, validation_data=held, validation_split=split, sample_weight=weight,
        class_weight=class_weight, samples=samples,
    )  # fmt: skip
    task = Task(number, net, train, validation, settings, feature_names=names)
    if task.alone:
        task.given = {name: own[name] for name in SETTINGS + DATA if name in own} | {"X": X, "y": y}
        if samples.rows is not None:
            task.given |= _taken(X, y, weight, samples.rows)
    return task


def _taken(X: Any, y: Any, weight: Any, rows: Array) -> dict[str, Any]:
    """Some rows of what `fit` takes."""
    X = X.iloc[rows] if hasattr(X, "iloc") else X[rows] if hasattr(X, "__getitem__") else np.asarray(X)[rows]
    found = {"X": X, "y": np.asarray(y)[rows]}
    return found if weight is None else {**found, "sample_weight": np.asarray(weight)[rows]}


def check_rows(subset: Any, n: int) -> Array:
    """Numbers of rows, of numbers or of a mask."""
    found = np.asarray(subset)
    if found.dtype == np.bool_:
        if found.shape != (n,):
            raise ValueError(f"rows is a mask of shape {found.shape}, but X has {n} rows")
        found = np.flatnonzero(found)
    if found.ndim != 1 or found.dtype.kind not in "iu" or not found.size:
        raise ValueError(f"rows must be numbers of rows, at least one, or a mask; got {subset!r:.80}")
    if found.min() < 0 or found.max() >= n:
        bad = np.flatnonzero((found < 0) | (found >= n))
        raise ValueError(f"rows[{bad[0]}] is {found[bad[0]]}, but X has {n} rows, from 0 to {n - 1}")
    return np.ascontiguousarray(found, np.int64)


def _subsets(rows: Any, n: int) -> list[Any]:
    if isinstance(rows, str) or not hasattr(rows, "__len__"):
        raise TypeError(f"rows must hold numbers of rows for each network, got {rows!r:.80}")
    if len(rows) != n:
        raise ValueError(f"rows has {len(rows)} entries, but there are {n} networks")
    return list(rows)


def each(name: str, value: Any, n: int) -> list[Any]:
    """A setting of each network: the entries of a list, a tuple or an array, or the same for all."""
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if not isinstance(value, list) and (not isinstance(value, tuple) or name in PAIRS):
        return [value] * n
    if len(value) != n:
        raise ValueError(f"{name} has {len(value)} entries, but there are {n} networks: give one for all, or one each")
    return list(value)


def each_callbacks(name: str, value: Any, n: int) -> list[Any]:
    """The callbacks of each network: a list of lists, or copies of the same for all."""
    if isinstance(value, list | tuple) and any(isinstance(one, list | tuple) for one in value):
        return each(name, list(value), n)
    shared = list(check_callbacks(value))
    return [shared] * n if not shared or n == 1 else [[copy.copy(one) for one in shared] for _ in range(n)]


def each_array(name: str, value: Any, n: int, ndim: int) -> list[Any]:
    """The array of each network: those of a list of arrays, or the same for all."""
    if isinstance(value, list | tuple) and any(getattr(one, "ndim", 0) >= ndim for one in value):
        return each(name, list(value), n)
    return [value] * n
