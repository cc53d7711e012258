"""Several networks for one table, an ensemble or one for each group of rows: their predictions, and their file."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from os import PathLike
from types import SimpleNamespace
from typing import Any

import numpy as np

from fastbp.io.faults import TableError
from fastbp.io.files import damaged
from fastbp.io.frames import Frame
from fastbp.io.overview import Overview
from fastbp.many import collection, ensemble, groups
from fastbp.many.ensemble import Ensemble
from fastbp.many.groups import GroupModel
from fastbp.network import MLP
from fastbp.tables import apply, model_file, target
from fastbp.tables.model import TableModel
from fastbp.tables.overview import overview
from fastbp.tables.prepared import Part, Roles, listed
from fastbp.tables.target import Target
from fastbp.types import Array


class SeveralTables:
    """A table model whose network is an ensemble, or one for each group of rows.

    It is what ``fastbp train TABLE --ensemble N`` and ``--by COLUMN`` save, and predicts the rows of other tables:
    ``fastbp.SeveralTables.load(path).predict(table)``.

    Parameters
    ----------
    table : TableModel
        Its columns and target; its `net` is what the networks are like.
    nets : Ensemble or GroupModel
        Of groups, `by` is the column that names them, as text.
    """

    def __init__(self, table: TableModel, nets: Ensemble | GroupModel) -> None:
        self.table, self.nets = table, nets

    def __len__(self) -> int:
        return len(self.nets)

    def __repr__(self) -> str:
        kind = "an ensemble" if isinstance(self.nets, Ensemble) else f"one network for each {self.by}"
        wanted = ", ".join(self.target.names) if self.target is not None else "nothing"
        return f"<fastbp.SeveralTables of {wanted}, {kind}: {len(self):,} x {members(self.nets)[0]!r}>"

    def overview(self) -> Overview:
        """Scores, what was found in the table, and how the networks were trained."""
        of_table, of_nets = overview(self.table), self.nets.overview()
        if of_table.rows:
            return Overview(of_table.title, of_table.head, of_table.rows, [*of_table.notes, of_nets.title])
        return Overview(of_table.title, of_nets.head, of_nets.rows, [of_nets.title, *of_nets.notes])

    def __str__(self) -> str:
        return self.overview().text()

    def _repr_html_(self) -> str:
        """What a notebook shows: the overview."""
        return self.overview().html()

    @classmethod
    def load(cls, path: str | PathLike[str]) -> SeveralTables:
        """Read what `save`, or ``fastbp train TABLE`` with --ensemble or --by, wrote.

        Raises
        ------
        ValueError
            The file holds something else, or is damaged.
        OSError
            There is no such file, or it cannot be read.
        """
        found = load(path)
        if not isinstance(found, cls):
            kind = "another model" if found is None else f"networks of arrays: read it by {type(found).__name__}.load"
            raise ValueError(f"{os.fspath(path)} holds no networks of a table, but {kind}")
        return found

    @property
    def by(self) -> str | None:
        """The column that names the groups; None of an ensemble."""
        return self.nets.by if isinstance(self.nets, GroupModel) else None

    @property
    def roles(self) -> Roles:
        """What the columns are for."""
        return self.table.roles

    @property
    def target(self) -> Target | None:
        """What is predicted."""
        return self.table.target

    @property
    def classes(self) -> list[Any] | None:
        """In the order of `predict_proba`; None for quantities."""
        return self.table.classes

    @property
    def dtype(self) -> str:
        """Of the networks."""
        return self.table.dtype

    def frame(self, data: Any, target: str | None = None, **options: Any) -> Frame:
        """A table as the model reads it."""
        return self.table.frame(data, target, **options)

    def predict(self, data: Any) -> Array:
        """As `TableModel.predict`; each row by the network of its group.

        Raises
        ------
        TableError
            Columns are missing, or cells cannot be read.
        ValueError
            Groups are unknown: the message names them.
        """
        frame = self.frame(data)
        return apply.predictions(self._acting(self._groups(frame)), apply.inputs(self.table, frame))

    def predict_proba(self, data: Any) -> Array:
        """Probabilities of the `classes`, in the same way."""
        frame = self.frame(data)
        return apply.probabilities(self._acting(self._groups(frame)), apply.inputs(self.table, frame))

    def evaluate(self, data: Any) -> dict[str, Any]:
        """As `TableModel.evaluate`; of groups ``"groups"`` has the scores of each."""
        frame = self.frame(data)
        part, said = apply.part(self.table, frame)
        for one in said:
            warnings.warn(one, UserWarning, stacklevel=2)
        names = self._groups(frame)
        if names is not None:
            assert self.table.target is not None
            _, present, _ = target.known(frame, self.table.target, self.table.reading)
            names = [names[row] for row in np.flatnonzero(present)]
        return {**self.scores(part, names), "rows": len(part)}

    def scores(self, part: Part, names: Sequence[str] | None = None) -> dict[str, Any]:
        """Scores of encoded rows, and of groups those of each; names: the group of each row."""
        found = apply.scores(self._acting(names), part)
        if names is None:
            return found
        places: dict[str, list[int]] = {}
        for row, name in enumerate(names):
            places.setdefault(name, []).append(row)
        each = {}
        for name in sorted(places):
            rows = np.array(places[name])
            each[name] = {**apply.scores(self._acting([name] * len(rows)), part.take(rows)), "rows": len(rows)}
        return {**found, "groups": each}

    def _groups(self, frame: Frame) -> list[str] | None:
        """The group of each row."""
        if self.by is None:
            return None
        if self.by not in frame.names:
            raise TableError(
                frame.source, [f"has no column {self.by!r}, which names the groups; it has {listed(frame.names)}"]
            )
        return texts(frame, self.by)

    def _acting(self, names: Sequence[str] | None) -> Any:
        """What `apply` takes for a model, for rows of these groups."""
        net = self.nets if names is None else _Routed(self.nets, names)
        return SimpleNamespace(net=net, target=self.table.target, trained=self.table.trained)

    def save(self, path: str | PathLike[str]) -> None:
        """Write all networks, and what the table is, to one safetensors file."""
        kind = ensemble.KIND if isinstance(self.nets, Ensemble) else groups.KIND
        about = {**self.nets.about, "table": model_file.described(self.table)}
        collection.save(path, kind, members(self.nets), about)


class _Routed:
    """The networks of groups, for rows whose groups are known."""

    def __init__(self, nets: Any, names: Sequence[str]) -> None:
        self.nets, self.names = nets, list(names)

    def predict(self, X: Array) -> Array:
        found: Array = self.nets.predict(X, by=self.names)
        return found

    def predict_proba(self, X: Array) -> Array:
        found: Array = self.nets.predict_proba(X, by=self.names)
        return found


def texts(frame: Frame, column: str) -> list[str]:
    """A column that names groups, as text; empty where nothing is said."""
    return ["" if one is None else str(one) for one in frame.data[column].to_list()]


def members(nets: Ensemble | GroupModel) -> list[MLP]:
    """All networks."""
    return list(nets.nets.values()) if isinstance(nets, GroupModel) else nets.nets


def load(path: str | PathLike[str]) -> SeveralTables | Ensemble | GroupModel | None:
    """What a file of several networks holds; None if it is another file.

    Raises
    ------
    ValueError
        It is damaged.
    OSError
        There is no such file, or it cannot be read.
    """
    kinds: dict[str, type[Ensemble] | type[GroupModel]] = {ensemble.KIND: Ensemble, groups.KIND: GroupModel}
    kind = collection.kind_of(path)
    if kind not in kinds:
        return None
    nets = kinds[kind].load(path)
    _, about = collection.load(path, kind)
    if "table" not in about:
        return nets
    with damaged(os.fspath(path), "does not describe a table that this fastbp can read"):
        model = TableModel()
        model_file.fill(model, about["table"], members(nets)[0])
        return SeveralTables(model, nets)
