"""The stages of the story as data: a title, formulas, tables, sums written out, and what is odd about them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from fastbp.types import Array

Value = float | str


@dataclass(frozen=True)
class Grid:
    """A table: names in its first column, numbers or words in the others.

    Attributes
    ----------
    head : sequence of str
    rows : sequence of sequences
        A name first; then numbers, words, or "" where there is nothing.
    caption : str
        What it holds.
    fixed : int
        Columns, from the left, that are repeated where the table is cut to the width of a screen.
    """

    head: Sequence[str]
    rows: Sequence[Sequence[Value]]
    caption: str = ""
    fixed: int = 1


@dataclass(frozen=True)
class Stage:
    """One stage of the story.

    Attributes
    ----------
    name : str
        Such as "forward 1", the layers counted from 1.
    title : str
    about : str
        What happens, in a sentence.
    formulas : sequence of (str, str)
        What is computed, and how.
    grids : sequence of Grid
    written : sequence of str
        Sums with their numbers: ``"h1: z = 1*1.4 + 2*0.3 + 0 = 2"``.
    notes : sequence of str
        What is odd about the numbers, or left out.
    values : dict of str to array or number
        The numbers with all their digits; of wide layers those of the units that are shown, whose numbers (from 0) are
        in "units" and "from".
    good : bool or None
        Of a stage that checks something, whether it holds.
    """

    name: str
    title: str
    about: str
    formulas: Sequence[tuple[str, str]] = ()
    grids: Sequence[Grid] = ()
    written: Sequence[str] = ()
    notes: Sequence[str] = ()
    values: dict[str, Array | float | Any] = field(default_factory=dict)
    good: bool | None = None
