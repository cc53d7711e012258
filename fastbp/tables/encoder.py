"""Columns as the inputs of a network: scaled numbers with a mark where one is missing, categories as ones and zeros.

All is learned from training rows alone, and is a nest of plain values for the model's file.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from fastbp.io.extras import polars
from fastbp.numerics import quiet
from fastbp.tables import dates
from fastbp.tables.kinds import Kind, Typed
from fastbp.tables.parallel import each
from fastbp.types import Array

MOST_LEVELS = 256  # categories of a column that get an input of their own
RARE = 5  # rows below which a category is pooled with others, in tables of some size
_BLOCK = 2048  # rows written at a time: their inputs stay in the cache
SCALINGS = ("standard", "robust", "none")


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
        q1, q2, q3 = np.quantile(values, [0.25, 0.5, 0.75]).tolist()
        spread = q3 - q1 if q3 > q1 else half
        return cls(q2, float(spread), True)

    @quiet
    def __call__(self, values: Array) -> Array:
        z: Array = (values - self.center) / self.scale
        if self.smooth:
            z = np.clip(z, -1e300, 1e300)  # where a difference is beyond float64
            z = z / np.hypot(1.0, z / 3.0)
        return z


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
        present = values[~missing] if missing.any() else values
        if not len(present):
            return None
        fill = float(np.median(present))
        scale = Scale.of(np.where(missing, fill, values), scaling)
        if scale is None and not missing.any():
            return None
        return cls(name, typed.kind, fill, scale or Scale(fill, 1.0), bool(missing.any()))

    @property
    def inputs(self) -> list[str]:
        """Names of the network's inputs."""
        return [self.name, f"{self.name} missing"] if self.marked else [self.name]

    def write(self, typed: Typed, out: Array) -> Unseen:
        """Encode into the columns of `out`."""
        values, missing = _floats(typed.values)
        some = missing.any()
        for part in _blocks(len(values)):
            gone = missing[part]
            out[part, 0] = self.scale(np.where(gone, self.fill, values[part]) if some else values[part])
            if self.marked:
                out[part, 1] = gone
        return {}


Unseen = dict[str, int]  # values that the training rows did not have, and how often they came


def _floats(series: Any) -> tuple[Array, Array]:
    """Values in float64, and which are missing."""
    missing: Array = series.is_null().to_numpy() if series.null_count() else np.zeros(len(series), np.bool_)
    values: Array = series.to_numpy()
    return values, missing


def _blocks(n: int) -> list[slice]:
    return [slice(start, start + _BLOCK) for start in range(0, n, _BLOCK)]


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
        counts = typed.values.drop_nulls().cast(pl.String).alias("level").value_counts(name="count")
        counts = counts.sort(["count", "level"], descending=[True, False])
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

    def write(self, typed: Typed, out: Array) -> Unseen:
        """Encode into the columns of `out`, which are zero."""
        pl = polars()
        texts = typed.values if typed.values.dtype == pl.String else typed.values.cast(pl.String)
        found = texts.cast(pl.Enum([*self.levels, *self.rare]), strict=False)
        codes = found.to_physical().cast(pl.Int64).fill_null(-1).to_numpy()
        two = out.shape[1] == 1 and len(self.levels) == 2
        for part in _blocks(len(codes)):
            code = codes[part]
            if two:
                out[part, 0] = np.array([0.0, -1.0, 1.0])[code + 1]
                continue
            rows = np.flatnonzero(code >= 0)
            out[part][rows, np.minimum(code[rows], len(self.levels))] = 1.0
        if found.null_count() == texts.null_count():
            return {}
        new = texts.filter(found.is_null() & texts.is_not_null()).alias("level").value_counts(name="count")
        new = new.sort(["count", "level"], descending=[True, False])
        return dict(zip(new["level"].to_list(), new["count"].to_list(), strict=True))


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

    def write(self, typed: Typed, out: Array) -> Unseen:
        """Encode into the column of `out`."""
        pl = polars()
        values = (typed.values.cast(pl.Int8) * 2 - 1).fill_null(0).to_numpy()
        for part in _blocks(len(values)):
            out[part, 0] = values[part]
        return typed.unseen


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
        for part, of in _PARTS.items():
            values = of(typed.values)[~missing]
            fill = float(np.median(values))
            if (scale := Scale.of(values, scaling)) is not None:
                parts.append((part, fill, scale))
        return cls(name, typed.kind, tuple(parts), bool(missing.any())) if parts or missing.any() else None

    @property
    def inputs(self) -> list[str]:
        """Names of the network's inputs."""
        return [f"{self.name} {part}" for part, _, _ in self.parts] + [f"{self.name} missing"] * self.marked

    def write(self, typed: Typed, out: Array) -> Unseen:
        """Encode into the columns of `out`."""
        missing = typed.values.is_null().to_numpy()
        for k, (part, fill, scale) in enumerate(self.parts):
            values = np.where(missing, fill, _PARTS[part](typed.values))
            for block in _blocks(len(values)):
                out[block, k] = scale(values[block])
        if self.marked:
            out[:, -1] = missing
        return {}


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
        out = np.zeros((n, len(self.inputs)), dtype)
        spans = self.spans
        told = each(lambda column: column.write(typed[column.name], out[:, spans[column.name]]), self.columns, n)
        return out, {column.name: new for column, new in zip(self.columns, told, strict=True) if new}

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
