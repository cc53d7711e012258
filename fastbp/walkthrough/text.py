"""The story as lines of text, each with what it is, so that a terminal can colour it: never wider than the screen."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from fastbp.io.overview import wrapped
from fastbp.walkthrough.numbers import shown
from fastbp.walkthrough.stages import Grid, Stage, Value

# What a line is.
TITLE, HEADING, FORMULA, HEAD, PLAIN, WRITTEN, NOTE, GOOD, BAD = (
    "title", "heading", "formula", "head", "plain", "written", "note", "good", "bad",
)  # fmt: skip
_INDENT = "   "
_LONGEST = 22  # columns of a name

Line = tuple[str, str]


def lines(title: str, stages: Sequence[Stage], width: int) -> Iterator[Line]:
    """All stages, one after the other."""
    yield from beginning(title, width)
    for number, stage in enumerate(stages, 1):
        yield PLAIN, ""
        yield from of_stage(number, stage, width)


def beginning(title: str, width: int) -> Iterator[Line]:
    """What is explained."""
    yield from ((TITLE, line) for line in wrapped(title, width=width))


def of_stage(number: int, stage: Stage, width: int) -> Iterator[Line]:
    """A stage: heading, a sentence, formulas, tables, sums, notes."""
    yield from ((HEADING, line) for line in wrapped(stage.title, f"{number:>2} ", _INDENT, width))
    yield from ((PLAIN, line) for line in wrapped(stage.about, _INDENT, _INDENT, width) if line.strip())
    longest = max((len(name) for name, _ in stage.formulas), default=0)
    for name, formula in stage.formulas:
        start = f"{_INDENT}{name.ljust(longest)} = "
        yield from ((FORMULA, line) for line in wrapped(formula, start, " " * len(start), width))
    for grid in stage.grids:
        yield from _grid(grid, width)
    if stage.written:
        yield PLAIN, ""
        for line in stage.written:
            yield from ((WRITTEN, one) for one in wrapped(line, _INDENT, _INDENT + "    ", width))
    kind = NOTE if stage.good is None else GOOD if stage.good else BAD
    if stage.notes and stage.grids:
        yield PLAIN, ""
    for note in stage.notes:
        yield from ((kind, line) for line in wrapped(note, f"{_INDENT}- ", _INDENT + "  ", width))


def _grid(grid: Grid, width: int) -> Iterator[Line]:
    """A table, its columns cut into blocks that fit; those at its left are repeated in each."""
    table = [[_cell(one) for one in row] for row in (grid.head, *grid.rows)]
    every = range(len(grid.head))
    widths = [max(len(row[c]) for row in table) for c in every]
    right = [c > 0 and _numeric([row[c] for row in table[1:] if row[c]]) for c in every]
    before = len(_INDENT) + sum(widths[: grid.fixed]) + 2 * (grid.fixed - 1)
    stop = min(grid.fixed, len(every))
    while True:
        start, used = stop, before
        while stop < len(every) and (stop == start or used + 2 + widths[stop] <= width):
            used += 2 + widths[stop]
            stop += 1
        columns = [*every[: grid.fixed], *range(start, stop)]
        yield PLAIN, ""
        if grid.caption:
            yield NOTE, f"{_INDENT}{grid.caption}:"
        for number, row in enumerate(table):
            cells = [row[c].rjust(widths[c]) if right[c] else row[c].ljust(widths[c]) for c in columns]
            yield (PLAIN if number else HEAD), (_INDENT + "  ".join(cells)).rstrip()
        if stop >= len(every):
            return


def _numeric(cells: Sequence[str]) -> bool:
    """Whether a column holds numbers, but for a few words."""
    return 2 * sum(re.fullmatch(r"-|~0|-?[\d.]+(e[-+]?\d+)?|nan|-?inf", one) is not None for one in cells) > len(cells)


def _cell(value: Value) -> str:
    if not isinstance(value, str):
        return shown(value)
    return value if len(value) <= _LONGEST else f"{value[: _LONGEST - 2]}.."
