"""The story as lines of text, each with what it is, so that a terminal can colour it: never wider than the screen."""

from __future__ import annotations

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
    """A table, its columns cut into blocks that fit."""
    table = [[_cell(one) for one in row] for row in (grid.head, *grid.rows)]
    texts = [isinstance(row[c], str) and row[c] != "" for c in range(len(grid.head)) for row in grid.rows]
    n = len(grid.rows)
    left = [
        c == 0 or (n > 0 and all(texts[c * n : c * n + n]) and not _numeric(table, c)) for c in range(len(grid.head))
    ]
    widths = [max(len(row[c]) for row in table) for c in range(len(grid.head))]
    before = len(_INDENT) + sum(widths[: grid.fixed]) + 2 * (grid.fixed - 1)
    start = grid.fixed
    while start < len(grid.head) or start == grid.fixed:
        stop, used = start, before
        while stop < len(grid.head) and (stop == start or used + 2 + widths[stop] <= width):
            used += 2 + widths[stop]
            stop += 1
        columns = [*range(grid.fixed), *range(start, stop)]
        yield PLAIN, ""
        for number, row in enumerate(table):
            cells = [row[c].ljust(widths[c]) if left[c] else row[c].rjust(widths[c]) for c in columns]
            yield (PLAIN if number else HEAD), (_INDENT + "  ".join(cells)).rstrip()
        start = stop
        if start >= len(grid.head):
            break


def _numeric(table: Sequence[Sequence[str]], c: int) -> bool:
    """Whether a column holds numbers, written as text."""
    return all(
        row[c].replace(".", "").replace("e-", "").replace("e+", "").lstrip("-").isdigit() or row[c] == "-"
        for row in table[1:]
    )


def _cell(value: Value) -> str:
    if not isinstance(value, str):
        return shown(value)
    return value if len(value) <= _LONGEST else f"{value[: _LONGEST - 2]}.."
