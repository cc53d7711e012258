"""A table ready for a network: its columns are decided, its rows split, and all that is wrong is told at once."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fastbp.io.extras import polars
from fastbp.io.faults import TableError
from fastbp.io.frames import Frame
from fastbp.tables import kinds, splits
from fastbp.tables import target as targets
from fastbp.tables.encoder import Encoder
from fastbp.tables.kinds import Reading, Typed
from fastbp.tables.parallel import each
from fastbp.tables.recipe import Recipe
from fastbp.tables.target import Target
from fastbp.types import Array

_YEARS = (1500, 2200)  # integers that may be years, of which a table of a row a year has another in each
_IDENTIFIER, _FEWEST = 0.7, 20  # as many values a row, in as many rows at least, identify rows


@dataclass(frozen=True)
class Roles:
    """What the columns of a table are for; those that are not named are features."""

    target: tuple[str, ...]
    features: tuple[str, ...] | None = None
    drop: tuple[str, ...] = ()
    id: tuple[str, ...] = ()
    weight: str | None = None
    group: str | None = None
    time: str | None = None

    @property
    def beside(self) -> tuple[str, ...]:
        """Columns that are no features, but for the target."""
        found = (*self.drop, *self.id, self.weight, self.group)
        return tuple(one for one in found if one is not None)

    def to_dict(self) -> dict[str, Any]:
        """As plain values, for a file."""
        return dataclasses.asdict(self)

    @staticmethod
    def of(found: Mapping[str, Any]) -> Roles:
        """What `to_dict` wrote."""
        listed = {name: tuple(found[name]) for name in ("target", "drop", "id")}
        features = None if found["features"] is None else tuple(found["features"])
        return Roles(**{**found, **listed, "features": features})


@dataclass
class Part:
    """Some rows, encoded."""

    X: Array  # (n, n_in)
    y: Array  # classes (n,), flags or quantities (n, n_out), as the user has them
    weight: Array | None

    def __len__(self) -> int:
        return len(self.X)

    def take(self, rows: Array) -> Part:
        """Some of them."""
        return Part(self.X[rows], self.y[rows], None if self.weight is None else self.weight[rows])


@dataclass
class Looked:
    """The columns of a table, decided and checked, before any of them is encoded."""

    source: str
    target: Target
    y: Array
    columns: dict[str, Typed]
    weight: Array | None
    group: Array | None
    time: Array | None
    notes: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.y)


@dataclass
class Prepared:
    """What `TableModel.train` takes."""

    train: Part
    validation: Part | None
    test: Part | None
    target: Target
    encoder: Encoder
    recipe: Recipe
    notes: list[str]


def look(
    frame: Frame,
    roles: Roles,
    reading: Reading,
    loss: str | None,
    log: bool,
    decided: Mapping[str, Typed] | None = None,
) -> Looked:
    """Decide what all columns are, but for those that are decided.

    Raises
    ------
    TableError
        With all that is wrong.
    """
    faults = _unknown(frame, roles, reading)
    if faults:
        raise TableError(frame.source, faults)
    target, y, present, faults, notes = targets.decide_all(frame, roles.target, reading, loss, log)
    names = [name for name in frame.names if is_feature(name, roles)]
    if not names:
        faults.append("has no column to learn from besides the target")
    weight, group, time = _aside(frame, roles, reading, faults)
    before = dict(decided or {})
    columns = {name: frame.data[name] for name in names if name not in before}
    # Text goes as it is decided, column by column, where nobody else holds it: it takes twice what comes of it.
    frame = dataclasses.replace(frame, data=None)

    def decide(name: str) -> Typed:
        if name in before:
            return before.pop(name)
        alone = dataclasses.replace(frame, data=columns.pop(name).to_frame())
        return kinds.decide(alone, name, reading)

    typed = dict(zip(names, each(decide, names, len(present)), strict=True))
    for name, one in typed.items():
        faults += one.faults
        if not one.faults and (fault := _identifier(name, one, reading, by_time=name == roles.time)):
            faults.append(fault)
        if one.note:
            notes.append(f"{name}: {one.note} ({reading.ask('numeric', name)} otherwise)")
    if faults:
        raise TableError(frame.source, _in_order(faults))
    assert target is not None
    if not present.all():
        n = int((~present).sum())
        notes.append(f"{n:,} row{'s' * (n > 1)} without a target left out")
    found = Looked(frame.source, target, y, typed, weight, group, time, [*frame.notes, *notes])
    return _of_rows(found, present) if not present.all() else found


def _of_rows(found: Looked, present: Array) -> Looked:
    """Those rows alone; `y` has no others already."""
    pl = polars()
    mask = pl.Series(present)
    for one in found.columns.values():
        one.values = one.values.filter(mask)
    for name in ("weight", "group", "time"):
        if (values := getattr(found, name)) is not None:
            setattr(found, name, values[present])
    return found


def is_feature(name: str, roles: Roles) -> bool:
    if name in roles.target or name in roles.beside:
        return False
    return roles.features is None or name in roles.features


def _unknown(frame: Frame, roles: Roles, reading: Reading) -> list[str]:
    """Names of columns that there are not, and columns of two roles."""
    asked = {
        "target": roles.target, "features": roles.features or (), "drop": roles.drop, "id": roles.id,
        "weight": (roles.weight,), "group": (roles.group,), "time": (roles.time,), "categorical": reading.categorical,
        "numeric": reading.numeric, "date": tuple(reading.dates),
    }  # fmt: skip
    there, faults = set(frame.names), []
    for names in asked.values():
        for name in names:
            if name is not None and name not in there:
                near = difflib.get_close_matches(name, frame.names, n=1)
                hint = f" (did you mean {near[0]!r}?)" if near else ""
                faults.append(f"has no column {name!r}{hint}; it has {listed(frame.names)}")
    faults += [
        f"column {name!r} is the target, but also named by {reading.option(what)}: leave one out"
        for name in roles.target
        for what, names in asked.items()
        if name in names and what in ("features", "drop", "id", "weight", "group", "time")
    ]
    if not roles.target:
        faults.append(f"no target is named, the column to learn; it has {listed(frame.names)}")
    if len(set(roles.target)) < len(roles.target):
        faults.append("a target is named twice")
    return faults


def listed(names: list[str], shown: int = 10) -> str:
    """Names as a line has them."""
    more = f", ... ({len(names):,} in all)" if len(names) > shown else ""
    return f"{', '.join(names[:shown])}{more}"


def _identifier(name: str, one: Typed, reading: Reading, *, by_time: bool) -> str:
    """What to say of a category that has nearly a value a row, and of integers that number the rows."""
    kind, n = one.kind.name, len(one.values) - one.missing
    if n < _FEWEST or name in {"category": reading.categorical, "number": reading.numeric}.get(kind, ()):
        return ""
    if kind == "category":
        option, levels = "categorical", getattr(one.values.dtype, "categories", ())
        if 0 < len(levels) <= _IDENTIFIER * n or (different := one.values.drop_nulls().n_unique()) <= _IDENTIFIER * n:
            return ""
        said = f"{different:,} values in {n:,} rows, as {one.values.drop_nulls()[0]!r:.40}"
    elif kind == "number" and not by_time and (ends := _row_numbers(one.values, n)) is not None:
        option, said = "numeric", f"another integer in each of {n:,} rows, {ends[0]} to {ends[1]}"
    else:
        return ""
    mends = [f"{reading.ask('drop', name)}", f"{reading.ask('id', name)} to have it beside the predictions"]
    return (
        f"column {name!r} has {said}: what identifies rows says nothing of others; say {', '.join(mends)}, or "
        f"{reading.ask(option, name)} to use it all the same"
    )


def _row_numbers(values: Any, n: int) -> tuple[int, int] | None:
    """The ends of integers that lie so close, and never come twice, that they number rows or what rows stand for."""
    if any(one is not None and one % 1 for one in values[:_FEWEST].to_list()):
        return None
    low, high = float(values.min()), float(values.max())
    if not high - low < 2 * n or _YEARS[0] <= low <= high <= _YEARS[1]:
        return None
    if not (values == values.round(0)).all() or values.drop_nulls().n_unique() < n:
        return None
    return int(low), int(high)


def _aside(
    frame: Frame, roles: Roles, reading: Reading, faults: list[str]
) -> tuple[Array | None, Array | None, Array | None]:  # fmt: skip
    """Weights, numbers of groups, and times of the rows."""
    weight = group = time = None
    if roles.weight is not None:
        found = kinds.decide(frame, roles.weight, dataclasses.replace(reading, numeric=(roles.weight,)))
        faults += found.faults
        weight = found.values.to_numpy().astype(np.float64)
        if not found.faults and (found.missing or (weight < 0).any()):
            row = int(np.argmax(~(weight >= 0)))
            faults.append(
                f"{frame.place(row)}: weight {roles.weight!r} is {frame.data[roles.weight][row]}, not at least 0"
            )
    if roles.group is not None:
        series = frame.data[roles.group]
        if series.null_count():
            faults.append(f"{frame.place(int(series.is_null().arg_true()[0]))}: group {roles.group!r} is empty")
        group = np.unique(kinds.as_text(series).fill_null("").to_numpy(), return_inverse=True)[1]
    if roles.time is not None:
        one = kinds.decide(frame, roles.time, reading)
        if one.kind.name not in ("date", "number"):
            faults.append(f"column {roles.time!r} holds no times: it is a {one.kind.name}")
        elif one.missing:
            row = int(one.values.is_null().arg_true()[0])
            faults.append(f"{frame.place(row)}: the time {roles.time!r} is missing, by which rows are split")
        else:
            time = one.values.cast(polars().Int64 if one.kind.name == "date" else polars().Float64).to_numpy()
    if roles.time is not None and roles.group is not None:
        faults.append("rows are split by time or by groups: leave one out")
    return weight, group, time


def _in_order(faults: list[str]) -> list[str]:
    """What is said of lines first, from the top of the file."""

    def line(fault: str) -> tuple[int, int]:
        word = fault.split(":", 1)[0].removeprefix("line ").removeprefix("row ")
        return (0, int(word)) if word.isdigit() else (1, 0)

    return sorted(dict.fromkeys(faults), key=line)


def halves(found: Looked, fraction: float, seed: int, rows: Array | None = None) -> tuple[Array, Array]:
    """Two parts of these rows, by time, by groups, or drawn."""
    chosen = np.arange(len(found)) if rows is None else rows
    kept, held = splits.split(
        found.y[chosen], fraction, seed, stratify=found.target.kind == targets.CLASSES,
        group=None if found.group is None else np.unique(found.group[chosen], return_inverse=True)[1],
        time=None if found.time is None else found.time[chosen],
    )  # fmt: skip
    return chosen[kept], chosen[held]


def select(columns: Mapping[str, Typed], rows: Array) -> dict[str, Typed]:
    """Some rows of typed columns."""
    return {name: dataclasses.replace(one, values=one.values.gather(rows)) for name, one in columns.items()}


def describe(columns: Mapping[str, Typed], encoder: Encoder) -> list[str]:
    """A line a kind: what was inferred of the columns."""
    lines = []
    for kind, plural in (("number", "numbers"), ("category", "categories"), ("boolean", "booleans"), ("date", "dates")):
        names = [column.name for column in encoder.columns if column.kind.name == kind]
        if not names:
            continue
        shown = [_detail(name, columns[name], encoder) for name in names]
        lines.append(f"{len(names)} {plural if len(names) > 1 else kind}: {listed(shown)}")
    if encoder.constant:
        lines.append(f"left out, since they never vary: {listed(list(encoder.constant))}")
    return lines


def _detail(name: str, one: Typed, encoder: Encoder) -> str:
    column = next(column for column in encoder.columns if column.name == name)
    said = []
    if one.kind.name == "category":
        levels = len(column.levels) + len(column.rare)
        said.append(f"{levels:,}" + (f", {len(column.rare):,} of them rare" if column.rare else ""))
    if one.kind.name == "date" and one.kind.format:
        said.append(one.kind.format)
    if one.kind.decimal != ".":
        said.append("decimal comma")
    if one.missing:
        said.append(f"{one.missing:,} missing")
    return f"{name} ({', '.join(said)})" if said else name


def joined(a: Part, b: Part) -> Part:
    """All rows of two parts."""
    weight = None if a.weight is None or b.weight is None else np.concatenate([a.weight, b.weight])
    return Part(np.concatenate([a.X, b.X]), np.concatenate([a.y, b.y]), weight)


def names_of(argument: str, value: Any) -> tuple[str, ...]:
    """Names of columns, of which one may stand alone."""
    if isinstance(value, str):
        return (value,)
    found = tuple(value)
    for one in found:
        if not isinstance(one, str):
            raise TypeError(f"{argument} must be a name or a list of names, got {one!r} of type {type(one).__name__}")
    return found
