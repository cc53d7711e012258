"""What a model of a table makes of the cells of a row: each column's rule, in numbers, and its inputs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
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


def of_row(encoder: Any, one: Frame, values: Array) -> list[Cell]:
    """All columns that the model uses; `one` is a frame of one row, `values` its encoded inputs."""
    found = []
    for column in encoder.columns:
        numbers = values[encoder.spans[column.name]].tolist()
        pairs = list(zip(clean(column.inputs), numbers, strict=True))
        kept = pairs if len(pairs) <= _WHOLE else [pair for pair in pairs if pair[1] != 0.0] or pairs[:1]
        cell = one.data[column.name][0]
        name, text = clean([column.name, "" if cell is None else cell])
        found.append(
            Cell(
                name,
                text,
                _MISSING[column.kind_name](column) if cell is None else _RULES[column.kind_name](column, numbers),
                tuple(kept),
                len(pairs) - len(kept),
            )
        )
    return found


def _number(column: Any, _numbers: list[float]) -> str:
    return _scaling(column.scale)


def _scaling(scale: Scale) -> str:
    if (scale.center, scale.scale) == (0.0, 1.0):
        return "as it is"
    return f"(x - {signed(scale.center)}) / {shown(scale.scale)}" + ", bent to within -3 and 3" * scale.smooth


def _category(column: Any, numbers: list[float]) -> str:
    if len(column.inputs) == 1:
        return f"1 for {column.levels[1]}, -1 for {column.levels[0]}, 0 for others"[:60]
    return "1 for its category, 0 for the others" if any(numbers) else "none of the known ones: all 0"


def _boolean(_column: Any, _numbers: list[float]) -> str:
    return "1 for yes, -1 for no, 0 if missing"


def _date(column: Any, _numbers: list[float]) -> str:
    return f"{', '.join(part for part, _, _ in column.parts)}: each less its mean, over its deviation"


_MISSING: dict[str, Callable[[Any], str]] = {
    "number": lambda column: f"missing: the median {shown(column.fill)} in its place" + ", marked" * column.marked,
    "category": lambda _: "missing: none of the known ones, all 0",
    "boolean": lambda _: "missing: 0",
    "date": lambda column: "missing: the median of each part in its place" + ", marked" * column.marked,
}
_RULES: dict[str, Callable[[Any, list[float]], str]] = {
    "number": _number,
    "category": _category,
    "boolean": _boolean,
    "date": _date,
}
