"""What a model of a table learns: classes, quantities, or several of them; as the network has them, and back."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from fastbp import losses
from fastbp.data import labels as class_labels
from fastbp.io.extras import polars
from fastbp.io.frames import Frame
from fastbp.tables.kinds import Reading, as_text, to_numbers, without_marks
from fastbp.types import Array

CLASSES, QUANTITIES, FLAGS = "classes", "quantities", "flags"  # flags: several columns of two values
_MANY = 20  # as many integers may be quantities or classes
LONGEST = 256  # characters of a class
_WHOLE = re.compile(r"[+-]?\d+", re.ASCII)


@dataclass(frozen=True)
class Target:
    """The columns to learn.

    Attributes
    ----------
    names : tuple of str
        Of the columns.
    kind : {"classes", "quantities", "flags"}
    labels : tuple
        The classes in the order of the outputs; of flags the two values of each column.
    boolean : bool
        The classes are False and True.
    means, scales : tuple of float
        Of quantities, a number a column: ``(y - mean) / scale`` is learned, of the logarithm where `log`.
    log : bool
        ``log(1 + y)`` is learned.
    """

    names: tuple[str, ...]
    kind: str
    labels: tuple[Any, ...] = ()
    boolean: bool = False
    means: tuple[float, ...] = ()
    scales: tuple[float, ...] = ()
    log: bool = False

    @property
    def n_out(self) -> int:
        """Outputs of the network."""
        return len(self.labels) if self.kind == CLASSES else len(self.names)

    def scaled(self, y: Array, loss: Any) -> Target:
        """With means and deviations of these rows, where the loss is of numbers that can be scaled."""
        if self.kind != QUANTITIES or not loss.link.can_scale_y:
            return self
        with np.errstate(all="ignore"):
            values = np.log1p(y) if self.log else y
            means, scales = values.mean(axis=0), values.std(axis=0)
        scales = np.where(scales > 0, scales, 1.0)
        return replace(self, means=tuple(means.tolist()), scales=tuple(scales.tolist()))

    def learned(self, y: Array) -> Array:
        """What the network learns: class numbers ``(n,)``, zeros and ones, or scaled quantities ``(n, n_out)``."""
        if self.kind != QUANTITIES:
            return y
        values: Array = np.log1p(y) if self.log else y
        return (values - self.means) / np.array(self.scales) if self.means else values

    def unscaled(self, outputs: Array) -> Array:
        """Quantities of what the network predicts, ``(n, n_out)`` in float64."""
        values: Array = outputs.reshape(len(outputs), -1).astype(np.float64)
        if self.means:
            values = values * np.array(self.scales) + np.array(self.means)
        if self.log:
            with np.errstate(over="ignore"):
                values = np.expm1(values)
        return values

    def named(self, indices: Array) -> Array:
        """Class numbers as classes: text, integers or booleans."""
        if self.boolean:
            return np.asarray(indices, np.bool_)
        return np.array(self.labels)[indices]

    def to_dict(self) -> dict[str, Any]:
        """As plain values, for a file."""
        return asdict(self)

    @staticmethod
    def of(found: Mapping[str, Any]) -> Target:
        """What `to_dict` wrote."""
        listed = {name: tuple(found[name]) for name in ("names", "labels", "means", "scales")}
        listed["labels"] = tuple(tuple(one) if isinstance(one, list) else one for one in listed["labels"])
        return Target(**{**found, **listed})


# --- deciding -----------------------------------------------------------------------------------------------


@dataclass
class Values:
    """A column to learn: numbers with NaN, or text and integers with null, and what is wrong."""

    series: Any
    kind: str
    faults: list[str]
    notes: list[str]
    boolean: bool = False


def look(frame: Frame, name: str, reading: Reading, loss: str | None) -> Values:
    """What one column of the targets is; `loss` or `Reading` may say it."""
    pl, series = polars(), frame.data[name]
    link = None if loss is None else losses.get(loss).link
    quantities = name in reading.numeric or (link is not None and not link.classifies)
    classes = name in reading.categorical or (link is not None and link.classifies)
    if quantities:
        return _quantities(frame, name, reading, f" {losses.get(loss).name} takes numbers" if loss else "")
    if link is not None and link.classifies and name not in reading.categorical and _has_fractions(series, reading):
        fault = f"target {name!r} holds fractions, but {losses.get(loss).name} takes classes; use mse for quantities"  # type: ignore[arg-type]
        return Values(series, CLASSES, [fault], [])
    if series.dtype.is_temporal():
        return Values(series, CLASSES, [f"target {name!r} holds dates; make it a number, such as days"], [])
    if series.dtype == pl.Boolean:
        return Values(series.cast(pl.Int64), CLASSES, [], [], boolean=True)
    texts = None
    if not series.dtype.is_numeric():
        marks = replace(reading, missing=reading.missing) if name not in reading.categorical else reading
        texts = _marked(as_text(series), marks, said=name in reading.categorical)
        whole = _ordinary(texts)
        if whole is None:
            return _of_text(frame, name, texts, reading, classes)
    else:
        whole = _whole(series)
        if whole is None:
            return _quantities(frame, name, reading, "")
        if series.dtype == pl.Float64 and not classes and not series.null_count():
            return _of_whole_floats(frame, name, reading, series)
    return _of_integers(frame, name, whole, reading, classes)


def _has_fractions(series: Any, reading: Reading) -> bool:
    """Whether all are numbers, and some no whole ones."""
    pl = polars()
    if series.dtype == pl.String:
        texts = without_marks(series, reading)
        numbers = to_numbers(texts, reading)
        if numbers.null_count() > texts.null_count():
            return False
        series = numbers
    if series.dtype != pl.Float64:
        return False
    present = series.drop_nulls()
    return bool((present != present.round(0)).any())


def _marked(texts: Any, reading: Reading, *, said: bool) -> Any:
    """Text, null where it is missing: where the column is said to hold names, None and NA are some."""
    if not said:
        return without_marks(texts, reading)
    stripped = texts.str.strip_chars()
    return stripped.set(stripped.is_in(["", *reading.missing]), None)


def _ordinary(texts: Any) -> Any:
    """Text as int64, if every one is what that number is written as."""
    pl = polars()
    numbers = texts.cast(pl.Int64, strict=False)
    if numbers.null_count() > texts.null_count() or numbers.null_count() == len(texts):
        return None
    return numbers if (numbers.cast(pl.String) == texts).all() else None


def _whole(series: Any) -> Any:
    pl = polars()
    if series.dtype == pl.Int64:
        return series
    numbers = series.cast(pl.Int64, strict=False)
    return (
        numbers if (numbers.cast(pl.Float64) == series).all() and numbers.null_count() == series.null_count() else None
    )


def _of_text(frame: Frame, name: str, texts: Any, reading: Reading, classes: bool) -> Values:
    numbers = to_numbers(texts, reading)
    fractions = numbers.null_count() == texts.null_count() < len(texts)
    distinct = texts.drop_nulls().unique()
    if fractions and not classes and not all(_WHOLE.fullmatch(one) for one in distinct.to_list()):
        present = numbers.drop_nulls()
        if (present == present.round(0)).all():
            return _of_whole_floats(frame, name, reading, numbers)
        return _quantities(frame, name, reading, "")
    if not classes and texts.null_count() < len(texts):
        odd = distinct.filter(distinct.cast(polars().Float64, strict=False).is_null())
        commas = len(odd) and odd.str.contains(r"^[+-]?[\d.]*\d,\d[\d,.]*$").all()
        # Numbers by another country's custom, or with a word among them.
        if commas or (len(distinct) > _MANY and 0 < 2 * len(odd) < len(distinct)):
            found = _quantities(frame, name, reading, "")
            found.faults = [
                f"{fault}; {reading.ask('categorical', name)} if it holds classes" for fault in found.faults
            ]
            return found
    notes, faults = [], []
    odd_one = next((one for one in distinct.to_list() if _WHOLE.fullmatch(one)), None)
    if odd_one is not None and all(_WHOLE.fullmatch(one) for one in distinct.to_list()):
        odd_one = next(one for one in distinct.sort().to_list() if str(int(one)) != one or abs(int(one)) >= 1 << 63)
        plain = str(int(odd_one))
        twin = f": {odd_one} and {plain} are two classes" if odd_one != plain in set(distinct.to_list()) else ""
        notes.append(f"labels such as {odd_one} are no ordinary integers, so all stay as they are written{twin}")
    long = texts.str.len_chars().fill_null(0)
    if len(long) and long.max() > LONGEST:
        row = int(long.arg_max() or 0)
        faults.append(
            f"{frame.place(row)}: target {name!r} has {long[row]:,} characters, more than the {LONGEST} of the longest "
            "class: is a quote missing?"
        )
    elif bad := next((one for one in distinct.to_list() if class_labels.controls(one)), None):
        faults.append(f"target {name!r} holds the class {bad!r}, with a control character; rename it")
    n = len(texts) - texts.null_count()
    if n >= _MANY and len(distinct) > 0.7 * n and not classes:
        faults.append(f"target {name!r} has {len(distinct):,} values in {n:,} rows, which are no classes; name another")
    return Values(texts, CLASSES, faults, notes)


def _of_integers(frame: Frame, name: str, whole: Any, reading: Reading, classes: bool) -> Values:
    n, distinct = len(whole) - whole.null_count(), whole.drop_nulls().n_unique()
    faults = []
    if not classes and distinct > max(2, min(_MANY, n // 5)):
        faults.append(
            f"target {name!r} holds {distinct:,} different integers in {n:,} rows: say "
            f"{reading.ask('numeric', name)} if they are quantities, {reading.ask('categorical', name)} if they are "
            "classes"
        )
    return Values(whole, CLASSES, faults, [])


def _of_whole_floats(frame: Frame, name: str, reading: Reading, numbers: Any) -> Values:
    """Floats without fractions, as 1.0 and 2.0: classes that came through a float, or quantities."""
    found = _quantities(frame, name, reading, "")
    n, distinct = len(numbers) - numbers.null_count(), numbers.drop_nulls().n_unique()
    if 1 < distinct <= max(2, min(_MANY, n // 5)):
        found.faults.append(
            f"target {name!r} holds {distinct:,} different numbers without fractions in {n:,} rows: say "
            f"{reading.ask('numeric', name)} if they are quantities, {reading.ask('categorical', name)} if they are "
            "classes"
        )
    return found


def _quantities(frame: Frame, name: str, reading: Reading, why: str) -> Values:
    from fastbp.tables.kinds import decide

    typed = decide(frame, name, replace(reading, numeric=(*reading.numeric, name), categorical=(), dates={}))
    faults = [fault.replace(f"column {name!r}", f"target {name!r}") for fault in typed.faults]
    if faults and why and not typed.values.is_not_null().any():
        one = frame.data[name].drop_nulls()[0]
        faults = [f"target {name!r} holds names such as {one!r:.80}, but{why}"]
    return Values(typed.values, QUANTITIES, faults, [])


# --- all columns --------------------------------------------------------------------------------------------


def decide_all(
    frame: Frame, names: tuple[str, ...], reading: Reading, loss: str | None, log: bool
) -> tuple[Target | None, Array, Array, list[str], list[str]]:  # fmt: skip
    """The target, its values, which rows have all of them, faults, and what there is to tell."""
    looked = [look(frame, name, reading, loss) for name in names]
    faults = [fault for one in looked for fault in one.faults]
    notes = [note for one in looked for note in one.notes]
    present = np.ones(frame.rows, np.bool_)
    for one in looked:
        present &= one.series.is_not_null().to_numpy()
    if faults:
        return None, np.empty(0), present, faults, notes
    if not present.any():
        return None, np.empty(0), present, [f"target {names[0]!r} is empty in every row"], notes
    kinds = {one.kind for one in looked}
    if kinds == {QUANTITIES}:
        columns = [one.series.filter(present).to_numpy() for one in looked]
        y = np.stack(columns, axis=1).astype(np.float64)
        target = Target(names, QUANTITIES, log=log)
        still = [name for name, low, high in zip(names, y.min(axis=0), y.max(axis=0), strict=True) if low == high]
        faults = [f"target {name!r} is the same in every row: there is nothing to learn" for name in still]
        if log and y.min() <= -1.0:
            lowest = names[int(y.min(axis=0).argmin())]
            faults = [f"the logarithm is asked for, but target {lowest!r} goes down to {y.min():g}"]
        return target, y, present, faults, notes
    if log:
        return None, np.empty(0), present, ["the logarithm is asked for, but the target holds classes"], notes
    if len(names) == 1:
        found = looked[0]
        labels = sorted(found.series.filter(present).unique().to_list())
        if len(labels) < 2:
            return None, np.empty(0), present, [f"target {names[0]!r} holds a single class, {labels[0]!r}"], notes
        target = Target(names, CLASSES, tuple(labels), found.boolean)
        return target, codes(found.series.filter(present), labels), present, [], notes
    integers = all(one.series.dtype == polars().Int64 and not one.boolean for one in looked if one.kind == CLASSES)
    pairs = [sorted(one.series.filter(present).unique().to_list()) for one in looked]
    if kinds != {CLASSES} or any(len(pair) != 2 for pair in pairs):
        return None, np.empty(0), present, [
            f"the targets {', '.join(names)} are not all quantities, nor all of two values each: train a model a target"
            + f", or say {reading.ask('numeric', *names)}" * integers
        ], notes  # fmt: skip
    y = np.stack([codes(one.series.filter(present), pair) for one, pair in zip(looked, pairs, strict=True)], axis=1)
    return Target(names, FLAGS, tuple(map(tuple, pairs))), y.astype(np.float64), present, [], notes


def codes(series: Any, labels: list[Any]) -> Array:
    """The place of each value among the labels, -1 where it is none of them."""
    pl = polars()
    if series.dtype == pl.String:
        found = series.cast(pl.Enum([str(one) for one in labels]), strict=False).to_physical()
        return np.asarray(found.cast(pl.Int64).fill_null(-1).to_numpy())
    values, known = series.fill_null(0).to_numpy(), np.array(labels)
    place = np.minimum(np.searchsorted(known, values), len(known) - 1)
    return np.where(known[place] == values, place, -1)


def known(frame: Frame, target: Target, reading: Reading) -> tuple[Array, Array, list[str]]:
    """The values of a target that is decided, in other rows; which rows have all; and faults."""
    pl, columns, faults = polars(), [], []
    present = np.ones(frame.rows, np.bool_)
    for k, name in enumerate(target.names):
        if target.kind == QUANTITIES:
            one = _quantities(frame, name, reading, " the model takes numbers")
            faults += one.faults
            values, gone = one.series.to_numpy(), one.series.is_null().to_numpy()
        else:
            labels = list(target.labels if target.kind == CLASSES else target.labels[k])
            series = _like(frame.data[name], labels, name, reading)
            values, gone = codes(series, labels), series.is_null().to_numpy()
            odd = np.flatnonzero((values < 0) & ~gone)
            if len(odd):
                faults.append(
                    f"{frame.place(int(odd[0]))}: target {name!r} is {frame.data[name][int(odd[0])]}, which is none of "
                    f"the model's classes {listed(labels)}"
                )
        present &= ~gone
        columns.append(values)
    y = np.stack(columns, axis=1)[present] if columns else np.empty((frame.rows, 0))
    _ = pl
    return (y[:, 0] if target.kind == CLASSES else y.astype(np.float64)), present, faults


def _like(series: Any, labels: list[Any], name: str, reading: Reading) -> Any:
    """A column as the labels are: text, or integers where each is written as an ordinary one."""
    pl = polars()
    if series.dtype == pl.Boolean and not isinstance(labels[0], str):
        return series.cast(pl.Int64)
    texts = _marked(as_text(series), reading, said=name in reading.categorical)
    if isinstance(labels[0], str):
        return texts
    numbers = texts.cast(pl.Int64, strict=False)
    odd = numbers.is_null() & texts.is_not_null() | (numbers.cast(pl.String) != texts).fill_null(False)
    return numbers.set(odd, -(1 << 62))  # none of the classes


def listed(labels: list[Any], most: int = 10) -> str:
    """Classes as a line has them."""
    return ", ".join([*(str(label) for label in labels[:most]), *["..."] * (len(labels) > most)])
