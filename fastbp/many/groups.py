"""`fit_groups`: a network for each group of rows, such as each shop or sensor, trained side by side."""

from __future__ import annotations

import os
from collections.abc import Mapping
from os import PathLike
from typing import Any

import numpy as np
import numpy.typing as npt

from fastbp.data import columns
from fastbp.io.files import damaged
from fastbp.io.overview import Overview
from fastbp.many import collection, members
from fastbp.many import fit_many as many
from fastbp.many.training import Training
from fastbp.many.variants import scaled_by, variant
from fastbp.network import MLP
from fastbp.numerics import own
from fastbp.types import Array

KIND = "fastbp groups"
_SHOWN = 5


class GroupModel:
    """A network for each group of rows; made by `fit_groups`.

    Attributes
    ----------
    nets : dict
        The network of each group.
    by : str or None
        The column of a data frame that names the groups; None where `by` was an array.
    """

    def __init__(self, nets: Mapping[Any, MLP], by: str | None = None) -> None:
        self.nets, self.by = dict(nets), by

    def __len__(self) -> int:
        return len(self.nets)

    def __repr__(self) -> str:
        like = f": {next(iter(self.nets.values()))!r}" if self.nets else ""
        return f"<fastbp.GroupModel of {len(self)} groups{like}>"

    def overview(self) -> Overview:
        """How the networks of the groups were trained."""
        title = f"GroupModel of {len(self):,}, one for each {self.by or 'group'}"
        return members.overview(title, self.by or "group", self.nets)

    def __str__(self) -> str:
        return self.overview().text()

    def _repr_html_(self) -> str:
        """What a notebook shows: a table of the groups."""
        return self.overview().html()

    @property
    def groups(self) -> list[Any]:
        """Their names, sorted."""
        return list(self.nets)

    def predict(self, X: npt.ArrayLike, by: Any = None) -> Array:
        """What the network of its group predicts of each row.

        Parameters
        ----------
        X : array-like, (n, n_in)
            Rows; of a model whose groups are a column, a data frame with it.
        by : array-like, (n,), optional
            The group of each row, where they are no column.

        Raises
        ------
        ValueError
            Groups are unknown: the message names them.
        """
        return self._routed(X, by, "predict")

    def predict_proba(self, X: npt.ArrayLike, by: Any = None) -> Array:
        """Probabilities, in the same way."""
        return self._routed(X, by, "predict_proba")

    def _routed(self, X: Any, by: Any, method: str) -> Array:
        rows, names = split_off(X, self.by if by is None else by)
        places = self._places(names)
        found: Array | None = None
        for name, own_rows in places.items():
            part = getattr(self.nets[name], method)(_take(rows, own_rows))
            if found is None:
                found = np.empty((len(names), *part.shape[1:]), part.dtype)
            found[own_rows] = part
        return np.empty(0) if found is None else found

    def _places(self, names: list[Any]) -> dict[Any, list[int]]:
        """The rows of each group, all of which are known."""
        places = _places_of(names)
        if unknown := [name for name in places if name not in self.nets]:
            shown = _shown(unknown)
            raise ValueError(
                f"no network was trained for the group{'s' * (len(unknown) > 1)} {shown} ({len(unknown)} unknown); the "
                f"{len(self)} known are {_shown(self.groups)}"
            )
        return places

    def evaluate(self, X: npt.ArrayLike, y: npt.ArrayLike, by: Any = None) -> dict[Any, dict[str, float]]:
        """What `MLP.evaluate` says of each group that there are rows of; raises what `predict` does."""
        rows, names = split_off(X, self.by if by is None else by)
        targets, places = np.asarray(y), self._places(names)
        if len(targets) != len(names):
            raise ValueError(f"y has {len(targets)} rows, but X has {len(names)}")
        return {
            name: net.evaluate(_take(rows, places[name]), targets[places[name]])
            for name, net in self.nets.items()
            if name in places
        }

    def save(self, path: str | PathLike[str]) -> None:
        """Write all networks to one safetensors file, whole or not at all."""
        collection.save(path, KIND, list(self.nets.values()), self.about)

    @property
    def about(self) -> dict[str, Any]:
        """What a file tells of it, beside its networks."""
        return {"groups": self.groups, "by": self.by}

    @classmethod
    def load(cls, path: str | PathLike[str]) -> GroupModel:
        """Read what `save` wrote.

        Raises
        ------
        ValueError
            The file holds no such model, or is damaged.
        OSError
            There is no such file, or it cannot be read.
        """
        nets, about = collection.load(path, KIND)
        with damaged(os.fspath(path), "does not describe networks of groups"):
            return cls(dict(zip(about["groups"], nets, strict=True)), about["by"])


@own
def fit_groups(net: MLP, X: npt.ArrayLike, y: npt.ArrayLike, *, by: Any, **training: Any) -> GroupModel:
    """Train a network like `net` for each group of rows, all side by side.

    All begin with the weights of ``net.seed``; `net` itself is only read. One that standardises its data does so by the
    rows of its group.

    Parameters
    ----------
    net : MLP
    X, y : array-like
        As `MLP.fit` takes them: the rows of all groups.
    by : str, or array-like, (n,)
        The column of the data frame X that names the group of each row, which is no input then; or the names, texts or
        integers.
    **training
        How to train: epochs, batch_size, optimizer, schedule, validation_split, callbacks, precision and so forth, as
        `MLP.fit` takes them; threads, journal, executor, progress, as `fit_many` does.

    Returns
    -------
    GroupModel

    Raises
    ------
    ValueError, TypeError
        If an argument is not as described: the message names the group.
    NetworksFailed
        If the networks of some groups diverged; `result` is the model of the others.
    SweepInterrupted
        On Ctrl-C: `result` is the model of the groups that had finished.

    Examples
    --------
    >>> model = fastbp.fit_groups(net, X, y, by=["a", "b", "c"] * 20, epochs=2)
    >>> model.groups, model.predict(X[:2], by=["c", "a"]).shape
    (['a', 'b', 'c'], (2,))
    """
    if not isinstance(net, MLP):
        raise TypeError(f"net must be a fastbp.MLP, got {type(net).__name__}")
    plan = Training.of(training, refused=("validation_data",), why="hold out rows of each group by validation_split")
    rows, names = split_off(X, by)
    if len(names) != len(np.asarray(y)):
        raise ValueError(f"by has {len(names)} entries, but y has {len(np.asarray(y))} rows")
    if not names:
        raise ValueError("X has 0 rows, at least 1 needed")
    places = _places_of(names)
    groups = sorted(places, key=lambda name: (isinstance(name, str), name))
    subsets = [np.array(places[name]) for name in groups]
    nets = [variant(net, net.seed, {}) for _ in groups]

    def named(number: int) -> str:
        return f"group {groups[number]!r}"

    for number, (one, own_rows) in enumerate(zip(nets, subsets, strict=True)):
        try:
            scaled_by(one, rows, y, own_rows)
        except ValueError as error:
            raise ValueError(f"{named(number)}: {error}") from error
    todo = plan.tasks(nets, rows, y, subsets, named)
    completed = plan.train(todo)
    good = {name: task.net for name, task in zip(groups, todo, strict=True) if task.finished and task.error is None}
    model = GroupModel(good, by if isinstance(by, str) else None)
    if not completed:
        raise many.interrupted(todo, plan.journal, model)
    many.raise_failures(todo, named, model)
    return model


def split_off(X: Any, by: Any) -> tuple[Any, list[Any]]:
    """The inputs, and the name of the group of each row, as plain values."""
    if by is None:
        raise ValueError("by is missing: say the group of each row")
    if isinstance(by, str):
        names = columns.names_of(X)
        if names is None or by not in names:
            known = "is no data frame whose columns have texts as names" if names is None else f"has {names}"
            raise ValueError(f"by={by!r} is no column of X, which {known}")
        rest = [name for name in names if name != by]
        by = X[by].to_numpy() if hasattr(X[by], "to_numpy") else np.asarray(X[by])
        X = X.select(rest) if hasattr(X, "select") and not hasattr(X, "iloc") else X[rest]
    if isinstance(by, list | tuple):  # an array would make texts of numbers that are among texts
        plain = [one.item() if isinstance(one, np.generic) else one for one in by]
    else:
        found = np.asarray(by)
        if found.ndim != 1:
            raise ValueError(f"by must have one entry a row, got shape {found.shape}")
        plain = found.tolist()
    n = len(X) if hasattr(X, "__len__") else len(np.asarray(X))
    if len(plain) != n:
        raise ValueError(f"by has {len(plain)} entries, but X has {n} rows: it must have one a row")
    for row, name in enumerate(plain):
        if isinstance(name, bool) or not isinstance(name, str | int):
            raise TypeError(f"by[{row}] is {name!r}, but groups are named by texts or integers")
    return X, plain


def _shown(names: list[Any]) -> str:
    return ", ".join(map(repr, names[:_SHOWN])) + (", ..." if len(names) > _SHOWN else "")


def _places_of(names: list[Any]) -> dict[Any, list[int]]:
    places: dict[Any, list[int]] = {}
    for row, name in enumerate(names):
        places.setdefault(name, []).append(row)
    return places


def _take(X: Any, rows: Any) -> Any:
    if hasattr(X, "iloc"):
        return X.iloc[rows]
    if hasattr(X, "column_names"):  # PyArrow's
        return X.take(rows)
    return X[rows] if hasattr(X, "select") else np.asarray(X)[rows]
