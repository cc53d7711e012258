"""Columns as the inputs of a network: scaled numbers with a mark where one is missing, categories as ones and zeros.

All is learned from training rows alone, and is a nest of plain values for the model's file.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from fastbp.io.extras import polars
from fastbp.numerics import quiet
from fastbp.tables import dates, matrix
from fastbp.tables.kinds import Kind, Typed
from fastbp.tables.matrix import Input, OneHot, Plain, Scaled, bend
from fastbp.tables.parallel import each
from fastbp.types import Array

MOST_LEVELS = 256  # categories of a column that get an input of their own
RARE = 5  # rows below which a category is pooled with others, in tables of some size
SCALINGS = ("standard", "robust", "none")
Unseen = dict[str, int]  # values that the training rows did not have, and how often they came


# --- numbers ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Scale:
    """``(x - center) / scale`` in float64; `smooth`: bent to within -3 and 3 by z / sqrt(1 + (z/3)^2)."""

    center: float
    scale: float
    smooth: bool = False

    @classmethod
    @quiet
    def of(cls, values: Array, scaling: str) -> Scale | None:
        """Learned from finite values; None where nothing varies."""
        low, high = float(values.min()), float(values.max())
        half = high / 2 - low / 2  # in halves, where nothing overflows
        if not half > 4 * np.finfo(np.float64).eps * max(abs(low), abs(high)):
            return None
        if scaling == "none":
            return cls(0.0, 1.0)
        if scaling == "standard":
            middle = low + half
            z = (values - middle) / half
            return cls(float(middle + half * z.mean()), float(half * z.std()))
        # Median and quartiles (RealMLP, Holzmueller et al. 2024); where half of the values are one, the range.
        q1, q2, q3 = quartiles(values)
        spread = q3 - q1 if q3 > q1 else half
        return cls(q2, float(spread), True)

    @quiet
    def __call__(self, values: Array) -> Array:
        z: Array = (values - self.center) / self.scale
        return bend(z) if self.smooth else z


def _filled(values: Array, missing: Array, fill: float) -> Array:
    """With `fill` where a value is missing; in place if that is an array of our own."""
    if not missing.any():
        return values
    values = values if values.flags.writeable else values.copy()
    values[missing] = fill
    return values


def median(values: Array) -> float:
    """As `numpy.median`, which takes five times as long: it looks for two places at once, and for NaN."""
    k = len(values) // 2
    parted = np.partition(values, k)
    return float(parted[k] if len(values) % 2 else np.mean([parted[:k].max(), parted[k]]))


def quartiles(values: Array) -> list[float]:
    """As `numpy.quantile` of 0.25, 0.5 and 0.75, in a third of the time."""
    ordered, found = np.sort(values), []
    for share in (0.25, 0.5, 0.75):
        at = share * (len(ordered) - 1)
        k, part = int(at), at - int(at)
        low, high = ordered[k], ordered[min(k + 1, len(ordered) - 1)]
        found.append(float(low + (high - low) * part if part < 0.5 else high - (high - low) * (1.0 - part)))
    return found


@dataclass(frozen=True)
class Number:
    """A number: scaled, the median where it is missing, and a second input that marks these rows."""

    kind_name: ClassVar[str] = "number"
    name: str
    kind: Kind
    fill: float
    scale: Scale
    marked: bool  # some training rows had none

    @classmethod
    def learn(cls, name: str, typed: Typed, scaling: str) -> Number | None:
        """From training rows; None where all values are the same, and none is missing."""
        values, missing = _floats(typed.values)
        if typed.missing == len(values):
            return None
        fill = median(values[~missing] if typed.missing else values)
        scale = Scale.of(_filled(values, missing, fill), scaling)
        if scale is None and not typed.missing:
            return None
        return cls(name, typed.kind, fill, scale or Scale(fill, 1.0), typed.missing > 0)

    @property
    def inputs(self) -> list[str]:
        """Names of the network's inputs."""
        return [self.name, f"{self.name} missing"] if self.marked else [self.name]

    def encode(self, typed: Typed) -> tuple[list[Input], Unseen]:
        """What is written into the matrix, and what the training rows did not have."""
        values, missing = _floats(typed.values)
        found: list[Input] = [Scaled(_filled(values, missing, self.fill), self.scale)]
        return ([*found, Plain(missing)] if self.marked else found), {}


def _floats(series: Any) -> tuple[Array, Array]:
    """Values in float64, and which are missing."""
    values: Array = series.to_numpy()
    return values, np.isnan(values)


# --- categories ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Category:
    """A category: an input each, 1 where it is that one; of two a single input of -1 and 1. Missing: all zero."""

    kind_name: ClassVar[str] = "category"
    name: str
    kind: Kind
    levels: tuple[str, ...]  # the most frequent first
    rare: tuple[str, ...] = ()  # pooled into one more input

    @classmethod
    def learn(cls, name: str, typed: Typed, _scaling: str) -> Category | None:
        """From training rows; None where there is one value alone."""
        pl = polars()
        counts = typed.values.drop_nulls().alias("level").value_counts(name="count")
        counts = counts.with_columns(pl.col("level").cast(pl.String)).sort(["count", "level"], descending=[True, False])
        levels, numbers = counts["level"].to_list(), counts["count"].to_list()
        least = min(RARE, 1 + len(typed.values) // 100)
        kept = [level for level, count in zip(levels, numbers, strict=True) if count >= least][:MOST_LEVELS]
        rare = levels[len(kept) :]
        if len(rare) == 1 or not kept:  # a pool of one is that one
            kept, rare = kept + rare[:MOST_LEVELS], rare[MOST_LEVELS:] if not kept else []
        if len(kept) + bool(rare) < 2 and not (kept and typed.missing):
            return None
        return cls(name, typed.kind, tuple(kept), tuple(rare))

    @property
    def inputs(self) -> list[str]:
        """Names of the network's inputs."""
        if len(self.levels) == 2 and not self.rare:
            return [f"{self.name}={self.levels[1]}"]
        return [f"{self.name}={level}" for level in self.levels] + [f"{self.name} rare"] * bool(self.rare)

    def encode(self, typed: Typed) -> tuple[list[Input], Unseen]:
        """What is written into the matrix, and what the training rows did not have."""
        pl = polars()
        values, known = typed.values, [*self.levels, *self.rare]
        if not isinstance(values.dtype, pl.Enum):
            values = values.cast(pl.String)
            values = values.cast(pl.Enum(values.unique().drop_nulls()))
        # By the few different texts; the last number is that of what is missing.
        code_of = {level: min(code, len(self.levels)) for code, level in enumerate(known)}
        levels = values.dtype.categories.to_list()
        table = np.array([*(code_of.get(level, -1) for level in levels), -1], np.int16)
        numbers = values.to_physical()
        if values.null_count():
            numbers = numbers.cast(pl.UInt32).fill_null(len(levels))
        codes = table[numbers.to_numpy()]
        new = not all(level in code_of for level in levels)
        if len(self.inputs) == 1 and len(self.levels) == 2:
            inputs: list[Input] = [Plain(np.array([0, -1, 1], np.int8)[codes + 1])]
        else:
            inputs = [OneHot(codes, len(self.inputs))]
        return inputs, _counted(values.filter(pl.Series(codes < 0) & values.is_not_null())) if new else {}


def _counted(values: Any) -> Unseen:
    """How often each comes, the most frequent first."""
    found = values.cast(polars().String).alias("level").value_counts(name="count")
    found = found.sort(["count", "level"], descending=[True, False])
    return dict(zip(found["level"].to_list(), found["count"].to_list(), strict=True))


@dataclass(frozen=True)
class Boolean:
    """Yes or no: 1 or -1, and 0 where it is missing."""

    kind_name: ClassVar[str] = "boolean"
    name: str
    kind: Kind

    @classmethod
    def learn(cls, name: str, typed: Typed, _scaling: str) -> Boolean | None:
        """From training rows; None where all are the same."""
        return cls(name, typed.kind) if typed.values.n_unique() > 1 else None

    @property
    def inputs(self) -> list[str]:
        """Name of the network's input."""
        return [self.name]

    def encode(self, typed: Typed) -> tuple[list[Input], Unseen]:
        """What is written into the matrix, and what is neither yes nor no."""
        return [Plain((typed.values.cast(polars().Int8) * 2 - 1).fill_null(0).to_numpy())], typed.unseen


# --- dates --------------------------------------------------------------------------------------------------

_PARTS: dict[str, Any] = {
    "days": dates.days,
    "year": lambda series: _part(series.dt.year()),
    "month": lambda series: _part(series.dt.month()),
    "weekday": lambda series: _part(series.dt.weekday()),
    "hour": lambda series: np.mod(dates.days(series), 1.0) * 24.0,
}


def _part(series: Any) -> Array:
    values: Array = series.cast(polars().Float64).to_numpy()
    return values


def _parts(series: Any, names: Sequence[str]) -> list[Array]:
    """Parts of dates; of days without hours, that span fewer days than there are rows, by each day alone."""
    pl = polars()
    stamps = series.dt.timestamp("us")
    days = stamps // _DAY
    low, high = days.min(), days.max()
    if low is None or high - low >= len(series) or (stamps != days * _DAY).any():
        return [_PARTS[name](series) for name in names]
    place = (days - low).fill_null(high - low + 1).to_numpy()
    all_days = (pl.int_range(low, high + 1, eager=True) * _DAY).cast(pl.Datetime("us")).extend_constant(None, 1)
    return [_PARTS[name](all_days)[place] for name in names]


_DAY = 86_400_000_000  # microseconds


@dataclass(frozen=True)
class Date:
    """A date: elapsed days, year, month, weekday and hour as numbers, as far as they vary, and a mark where missing."""

    kind_name: ClassVar[str] = "date"
    name: str
    kind: Kind
    parts: tuple[tuple[str, float, Scale], ...]  # name, median, scale
    marked: bool

    @classmethod
    def learn(cls, name: str, typed: Typed, scaling: str) -> Date | None:
        """From training rows; None where nothing varies."""
        missing = typed.values.is_null().to_numpy()
        if missing.all():
            return None
        parts = []
        for part, values in zip(_PARTS, _parts(typed.values.drop_nulls(), list(_PARTS)), strict=True):
            fill = median(values)
            if (scale := Scale.of(values, scaling)) is not None:
                parts.append((part, fill, scale))
        return cls(name, typed.kind, tuple(parts), bool(missing.any())) if parts or missing.any() else None

    @property
    def inputs(self) -> list[str]:
        """Names of the network's inputs."""
        return [f"{self.name} {part}" for part, _, _ in self.parts] + [f"{self.name} missing"] * self.marked

    def encode(self, typed: Typed) -> tuple[list[Input], Unseen]:
        """What is written into the matrix, and what the training rows did not have."""
        missing = typed.values.is_null().to_numpy()
        values = _parts(typed.values, [part for part, _, _ in self.parts])
        found: list[Input] = [
            Scaled(_filled(one, missing, fill), scale) for one, (_, fill, scale) in zip(values, self.parts, strict=True)
        ]
        return ([*found, Plain(missing)] if self.marked else found), {}


# --- all columns --------------------------------------------------------------------------------------------

_ENCODERS: dict[str, Any] = {one.kind_name: one for one in (Number, Category, Boolean, Date)}


@dataclass(frozen=True)
class Encoder:
    """How the columns of a table become the inputs of a network.

    Attributes
    ----------
    columns : tuple
        One description a column that is used, in the order of the training table.
    constant : tuple of str
        Columns that never varied in the training rows: not used.
    """

    columns: tuple[Any, ...]
    constant: tuple[str, ...] = ()

    @classmethod
    def learn(cls, typed: Mapping[str, Typed], scaling: str = "standard") -> Encoder:
        """From the columns of training rows."""
        rows = max((len(one.values) for one in typed.values()), default=0)
        learned = each(lambda name: _ENCODERS[typed[name].kind.name].learn(name, typed[name], scaling), typed, rows)
        found = dict(zip(typed, learned, strict=True))
        kept = tuple(one for one in found.values() if one is not None)
        return cls(kept, tuple(name for name, one in found.items() if one is None))

    @property
    def inputs(self) -> list[str]:
        """Names of the network's inputs."""
        return [name for column in self.columns for name in column.inputs]

    @property
    def kinds(self) -> dict[str, Kind]:
        """Of the columns that are used."""
        return {column.name: column.kind for column in self.columns}

    @property
    def spans(self) -> dict[str, slice]:
        """The inputs of each column."""
        found, at = {}, 0
        for column in self.columns:
            found[column.name] = slice(at, at := at + len(column.inputs))
        return found

    def encode(self, typed: Mapping[str, Typed], dtype: Any = np.float32) -> tuple[Array, dict[str, Unseen]]:
        """The inputs ``(n, n_in)`` of a table's columns, and what the training rows did not have, by column."""
        n = len(next(iter(typed.values())).values) if typed else 0
        encoded = each(lambda column: column.encode(typed[column.name]), self.columns, n)
        out = np.zeros((n, len(self.inputs)), dtype)
        matrix.fill(out, [one for inputs, _ in encoded for one in inputs])
        return out, {column.name: new for column, (_, new) in zip(self.columns, encoded, strict=True) if new}

    def to_dict(self) -> dict[str, Any]:
        """As plain values, for a file."""
        columns = [{"encoder": column.kind_name, **dataclasses.asdict(column)} for column in self.columns]
        return {"columns": columns, "constant": list(self.constant)}

    @staticmethod
    def of(found: Mapping[str, Any]) -> Encoder:
        """What `to_dict` wrote."""
        return Encoder(tuple(_column(one) for one in found["columns"]), tuple(map(str, found["constant"])))


def _column(found: Mapping[str, Any]) -> Any:
    values = dict(found)
    kind = values.pop("encoder")
    if kind not in _ENCODERS:
        raise ValueError(f"a column is encoded as {kind!r}, which this fastbp does not know; upgrade fastbp")
    values["kind"] = Kind(**{**values["kind"], "pair": values["kind"]["pair"] and tuple(values["kind"]["pair"])})
    if "scale" in values:
        values["scale"] = Scale(**values["scale"])
    if "parts" in values:
        values["parts"] = tuple((part, fill, Scale(**scale)) for part, fill, scale in values["parts"])
    for name in ("levels", "rare"):
        if name in values:
            values[name] = tuple(values[name])
    return _ENCODERS[kind](**values)
