"""A result at a glance: a title, a short table and notes; as text, and as HTML with a picture for notebooks."""

from __future__ import annotations

import base64
import html
import re
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any

WIDTH = 80  # columns of text
NARROWEST = 16  # columns that a last column is wrapped within
LONGEST = 200  # characters of a note or a cell
# A page may be light or dark: colours are those around the table, lines grey, and pictures bring their own ground.
_CELL = "padding:0.15em 0.8em;border:0;background:transparent;text-align:{}"
_HEAD = _CELL + ";font-weight:bold;border-bottom:1px solid rgba(128,128,128,0.6)"
_PICTURE = "max-width:100%;height:auto;background:#fff;display:block;margin-top:0.5em"


@dataclass(frozen=True)
class Overview:
    """What a result comes to.

    Attributes
    ----------
    title : str
    head : sequence of str
        Names of the columns.
    rows : sequence of sequences of str
    notes : sequence of str
    """

    title: str
    head: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()
    notes: Sequence[str] = ()

    def text(self) -> str:
        """Lines of at most 80 columns, unless a word, or the table without its last column, is wider."""
        title = wrapped(self.title) if self.title else []
        lines = [*title, *self._table(), *(line for note in self.notes for line in wrapped(note))]
        return "\n".join(lines)

    def _table(self) -> list[str]:
        """The last column is wrapped, if it has to be."""
        if not self.rows:
            return []
        numbers, table = self._numbers(), [self.head, *self.rows]
        widths = [max(len(row[c]) for row in table) for c in range(len(self.head))]
        before = sum(widths[:-1]) + 2 * (len(widths) - 1)
        lines = []
        for row in table:
            cells = list(zip(row, widths, numbers, strict=True))
            start = "".join((cell.rjust(w) if n else cell.ljust(w)) + "  " for cell, w, n in cells[:-1])
            last = row[-1].rjust(widths[-1]) if numbers[-1] else row[-1]
            if before + len(last) > WIDTH:
                lines += wrapped(last.lstrip(), start, " " * before)
            else:
                lines.append((start + last).rstrip())
        return lines

    def html(self, draw: Callable[[], Any] | None = None) -> str:
        """A table, all text escaped, and below it what `draw` returns, a figure, where matplotlib is installed."""
        parts = [f"<div>{html.escape(_short(self.title))}</div>"]
        if self.rows:
            sides = ["right" if number else "left" for number in self._numbers()]
            lines = [_row("th", _HEAD, self.head, sides), *(_row("td", _CELL, row, sides) for row in self.rows)]
            parts.append(f'<table style="border-collapse:collapse;margin:0.5em 0">{"".join(lines)}</table>')
        parts += [f'<div style="opacity:0.85">{html.escape(_short(note))}</div>' for note in self.notes]
        return f"<div>{''.join(parts)}{'' if draw is None else picture(draw, self.title)}</div>"

    def _numbers(self) -> list[bool]:
        """Of each column, whether it holds numbers."""
        columns = ([row[c] for row in self.rows if row[c]] for c in range(len(self.head)))
        return [bool(cells) and all(map(_is_number, cells)) for cells in columns]


def preformatted(text: str, draw: Callable[[], Any]) -> str:
    """Text as it stands, and below it what `draw` returns."""
    return f'<div><pre style="background:transparent">{html.escape(text)}</pre>{picture(draw, "the result")}</div>'


def wrapped(text: str, first: str = "", rest: str = "", width: int = WIDTH) -> list[str]:
    """Lines of a width, of which words that are longer are not broken: a path has to stay whole."""
    return textwrap.wrap(
        text, width, initial_indent=first, subsequent_indent=rest, break_long_words=False, break_on_hyphens=False
    ) or [first.rstrip()]


def fitted(text: str, width: int = WIDTH) -> str:
    """The text with its longer lines wrapped: those of a table within their last column, others by two blanks."""
    lines = []
    for line in text.split("\n"):
        if len(line) <= width:
            lines.append(line)
            continue
        before = len(re.match(r"(.*\S {2,})?", line)[0])  # type: ignore[index]
        inside = 0 < before <= width - NARROWEST
        lines += wrapped(
            line[before:] if inside else line, line[:before] * inside, " " * (before if inside else 2), width
        )
    return "\n".join(lines)


def picture(draw: Callable[[], Any], words: str) -> str:
    """A figure as an image in the page, described by words; nothing where matplotlib is not installed."""
    try:
        figure = draw()
    except (ImportError, NotImplementedError):
        return ""
    file = BytesIO()
    figure.savefig(file, format="png")
    data = base64.b64encode(file.getvalue()).decode()
    return f'<img alt="{html.escape(_short(words))}" style="{_PICTURE}" src="data:image/png;base64,{data}">'


def figure_text(value: float | None, form: str = "{:.4g}") -> str:
    """A number as text; a dash where there is none."""
    return "-" if value is None or value != value else form.format(value)


def _row(tag: str, style: str, cells: Sequence[str], sides: Sequence[str]) -> str:
    pairs = zip(cells, sides, strict=True)
    inside = "".join(f'<{tag} style="{style.format(side)}">{html.escape(_short(cell))}</{tag}>' for cell, side in pairs)
    return f'<tr style="background:transparent">{inside}</tr>'


def _short(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 4]} ..."


def _is_number(cell: str) -> bool:
    try:
        float(cell.replace(",", ""))
    except ValueError:
        return cell == "-"
    return True
