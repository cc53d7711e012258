"""What a model of a table makes of the cells of a row: each column's rule, in numbers, and its inputs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from fastbp.data.labels import controls
from fastbp.io.frames import Frame
from fastbp.tables.encoder import Scale
from fastbp.types import Array
from fastbp.walkthrough.numbers import shown, signed

LONGEST = 24  # characters of a name
_WHOLE = 3  # inputs of a column that are all shown, zeros too


@dataclass(frozen=True)
class Cell:
    """A column of a table in this row.

    Attributes
    ----------
    column, text : str
        Its name, and what stands there; empty where nothing does.
    rule : str
        How numbers are made of it.
    inputs : tuple of (str, float)
        Those that are shown.
    others : int
        Further inputs of the column, all 0.
    """

    column: str
    text: str
    rule: str
    inputs: tuple[tuple[str, float], ...]
    others: int


def clean(names: Iterable[Any]) -> list[str]:
    """Names that a terminal can show, none longer than others can stand beside."""
    found = []
    for name in map(str, names):
        odd = controls(name) | {"\n", "\t"}
        text = "".join(" " if letter in odd else letter for letter in name)
        found.append(text if len(text) <= LONGEST else f"{text[: LONGEST - 2]}..")
    return found


def of_row(encoder: Any, one: Frame, typed: Mapping[str, Any], values: Array) -> list[Cell]:
    """All columns that the model uses; `one`: a frame of a single row, `typed`: its columns, `values`: its inputs."""
    found = []
    for column in encoder.columns:
        numbers = values[encoder.spans[column.name]].tolist()
        pairs = list(zip(clean(column.inputs), numbers, strict=True))
        kept = pairs if len(pairs) <= _WHOLE else [pair for pair in pairs if pair[1] != 0.0] or pairs[:1]
        cell = one.data[column.name][0]
        name, text = clean([column.name, "" if cell is None else cell])
        if typed[column.name].missing:
            rule = _MISSING[column.kind_name](column)
        else:
            rule = _RULES[column.kind_name](column, typed[column.name].values[0], numbers)
        found.append(Cell(name, text, rule, tuple(kept), len(pairs) - len(kept)))
    return found


def _number(column: Any, value: Any, numbers: list[float]) -> str:
    scale: Scale = column.scale
    if (scale.center, scale.scale) == (0.0, 1.0):
        return "as it is"
    straight = (float(value) - scale.center) / scale.scale
    text = f"({shown(float(value))} - {signed(scale.center)}) / {shown(scale.scale)} = {shown(straight)}"
    return text + f", bent to within -3 and 3: {shown(numbers[0])}" * scale.smooth


def _category(column: Any, _value: Any, numbers: list[float]) -> str:
    if len(column.inputs) == 1:
        return f"1 for {column.levels[1]}, -1 for {column.levels[0]}, 0 for others"[:60]
    return "1 for its category, 0 for the others" if any(numbers) else "none of the known ones: all 0"


def _boolean(_column: Any, _value: Any, _numbers: list[float]) -> str:
    return "1 for yes, -1 for no, 0 if missing"


def _date(column: Any, _value: Any, _numbers: list[float]) -> str:
    return f"{', '.join(part for part, _, _ in column.parts)}: each less its mean, over its deviation"


_MISSING: dict[str, Callable[[Any], str]] = {
    "number": lambda column: f"missing: the median {shown(column.fill)} in its place" + ", marked" * column.marked,
    "category": lambda _: "missing: none of the known ones, all 0",
    "boolean": lambda _: "missing: 0, between yes and no",
    "date": lambda column: "missing: the median of each part in its place" + ", marked" * column.marked,
}
_RULES: dict[str, Callable[[Any, Any, list[float]], str]] = {
    "number": _number,
    "category": _category,
    "boolean": _boolean,
    "date": _date,
}
