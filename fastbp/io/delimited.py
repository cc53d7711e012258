"""CSV, TSV and the like as columns of text: encoding and delimiter are found, and every row must have all its cells.

Polars reads the file; it fills up a row with a cell too few, so the cells are counted where a last one is missing.
What is not plain (stray quotes, runs of spaces) is left to Python's csv module, which takes ten times as long.
"""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fastbp.io.extras import polars
from fastbp.io.faults import TableError
from fastbp.types import Array

DELIMITERS = ",;\t| :"
_BLOCK = 1 << 20  # bytes counted at a time: what a core's cache holds
_NEWLINE, _QUOTE = 10, 34
_BOMS = ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))
_NUMBER = re.compile(r"[+-]?((\d+\.?\d*|\.\d+)(e[+-]?\d+)?|nan|inf|infinity)", re.ASCII | re.IGNORECASE)


@dataclass
class Text:
    """The columns of a file as text, None where nothing is written, and where its rows are."""

    frame: Any  # a Polars frame of strings
    delimiter: str
    lines: Array | None  # the line that each row begins in; None: one line a row, from `first` on
    first: int
    notes: list[str] = field(default_factory=list)


def read(content: bytes, source: str, *, delimiter: str | None = None, encoding: str | None = None) -> Text:
    """The columns of a delimited file, whose first row that is not blank names them.

    Raises
    ------
    TableError
        The text cannot be decoded, there is no header or no row, columns have no name or the same, or rows have a cell
        too many or too few.
    """
    content, notes = _as_utf8(content, source, encoding)
    delimiter, names, after = header(content, source, delimiter)
    frame = by_polars(content, delimiter, names, after)
    last = None if frame is None else frame[names[-1]]
    if last is not None and len(last) == _lines(content) - after > 0 and not last.null_count():
        return Text(frame, delimiter, None, after + 1, notes)
    # Some last cells are missing: written as empty ones, or not written at all. That takes as long as to read the file.
    counted = _count(content, delimiter, len(names), after)
    if counted is not None and not counted.rows:
        raise TableError(source, ["has no rows below its header"])
    if counted is not None and counted.blanks:
        content = _without(content, counted.blanks)
        frame = by_polars(content, delimiter, names, after)
    if counted is not None and frame is not None and frame.height == counted.rows:
        return Text(frame, delimiter, counted.lines, after + 1, notes)
    frame, lines = _by_python(content, delimiter, names, source)
    return Text(frame, delimiter, lines, after + 1, notes)


def header(content: bytes, source: str, delimiter: str | None) -> tuple[str, list[str], int]:
    """What stands between cells, the names of the columns, and the last line of the header."""
    delimiter = delimiter or _delimiter(content, source)
    head = next(_rows(content, delimiter), None)
    if head is None:
        raise TableError(source, ["is empty; expected a line of column names and a row for each sample"])
    return delimiter, _names(head[1], source), head[0] + sum(cell.count("\n") for cell in head[1])


# --- text ---------------------------------------------------------------------------------------------------


def _as_utf8(content: bytes, source: str, encoding: str | None) -> tuple[bytes, list[str]]:
    """The text in UTF-8 without a mark at its beginning, lines ended by a newline; and what was found."""
    notes = []
    if encoding is None:
        encoding = next((name for mark, name in _BOMS if content.startswith(mark)), None)
    try:
        if encoding is None:
            encoding, found = _detected(content)
            notes = [found] if found else []
        name = encoding.lower().replace("_", "-")
        if name in ("utf-8", "utf8", "utf-8-sig"):
            content = content.removeprefix(_BOMS[0][0])
            _check_utf8(content)
        else:
            content = content.decode(encoding).removeprefix("\ufeff").encode()
    except LookupError as error:
        raise ValueError(
            f"encoding={encoding!r} is unknown; expected a name such as utf-8, cp1252 or utf-16"
        ) from error
    except UnicodeError as error:
        raise TableError(
            source, [f"is not {encoding} text; name its encoding by --encoding (encoding=), such as cp1252"]
        ) from error
    if b"\0" in content:
        raise TableError(source, ["is no text: it holds zero bytes; expected CSV, Parquet, Feather or NPZ"])
    if b"\r" in content and (content.count(b"\r") != content.count(b"\r\n") or b"\n" not in content):
        content = content.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    return content, notes


def _check_utf8(content: bytes) -> None:
    if not content.isascii():
        content.decode()


def _detected(content: bytes) -> tuple[str, str]:
    """UTF-8 where the text is, else UTF-16 where every other byte is zero, else what Windows writes."""
    if 3 * content[:4096].count(b"\0") > len(content[:4096]):
        return ("utf-16-le" if content[1:2] == b"\0" else "utf-16-be"), ""
    try:
        _check_utf8(content)
    except UnicodeDecodeError:
        return "cp1252", "the text is no UTF-8: read as cp1252, the Western European of Windows (or --encoding NAME)"
    return "utf-8", ""


def _rows(content: bytes, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """The rows that are not blank, each with the line it begins in; a quote may stand within a cell."""
    text = io.TextIOWrapper(io.BytesIO(content), encoding="utf-8", newline="")
    reader = csv.reader(text, delimiter=delimiter, skipinitialspace=delimiter == " ")
    begin = 1
    try:
        for row in reader:
            if delimiter == " " and len(row) > 1 and not row[-1]:
                row.pop()  # spaces at the end of a line
            if len(row) > 1 or (row and row[0].strip()):
                yield begin, row
            begin = reader.line_num + 1
    except csv.Error as error:  # a cell of more than 131,072 characters
        raise ValueError(f"line {reader.line_num}: {error}: is a quote missing?") from error


def _delimiter(content: bytes, source: str) -> str:
    """What splits header and the rows after it into as many cells, and into more than any other does."""
    best, most, wrong = ",", (False, 0, 0), ""
    start = content[: 1 << 18]
    for order, delimiter in enumerate(DELIMITERS):
        rows = []
        try:
            for _, row in _rows(start, delimiter):
                rows.append(len(row))
                if len(rows) == 10:
                    break
        except ValueError as error:  # by another delimiter a line of many columns is one long cell
            wrong = str(error)
            if not rows:
                continue
        if not rows or rows[0] < 2:
            continue
        rows = rows[:-1] if len(content) > len(start) and len(rows) < 10 and len(rows) > 2 else rows
        same = sum(count == rows[0] for count in rows[1:]) * 2 >= len(rows) - 1
        # Spaces and colons are letters of names and times where another delimiter fits.
        fit = (same, 1 if order < 4 else 0, rows[0])
        if fit > most:
            best, most = delimiter, fit
    if wrong and not most[2] and next(_safe_rows(start, ","), None) is None:
        raise TableError(source, [wrong])
    return best


def _safe_rows(content: bytes, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    try:
        yield from _rows(content, delimiter)
    except ValueError:
        return


def _names(cells: list[str], source: str) -> list[str]:
    """Column names, each on one line; what is wrong with all of them is told."""
    names = [tidy(cell) for cell in cells]
    if all(_NUMBER.fullmatch(name) for name in names):
        raise TableError(source, ["the first line holds numbers, but must name the columns"])
    faults = []
    blank = [k for k, name in enumerate(names) if not name]
    if blank == [0] and len(names) > 1:
        names[0] = UNNAMED
    else:
        faults += [f"column {k + 1} has no name; name it, or leave it out" for k in blank]
    faults += [
        f"names column {name!r} {'twice' if count == 2 else f'{count} times'}; column names must differ"
        for name, count in Counter(names).items()
        if count > 1 and name
    ]
    if faults:
        raise TableError(source, faults)
    return names


UNNAMED = "(unnamed)"  # what a first column is called that has no name, as pandas writes its row numbers


def tidy(name: str) -> str:
    """A column's name on one line."""
    return " ".join(name.split())


# --- cells --------------------------------------------------------------------------------------------------


@dataclass
class _Counted:
    rows: int
    lines: Array | None  # the line that each row begins in, where it is not one a line
    blanks: list[tuple[int, int]]  # where blank rows are, in bytes


def _count(content: bytes, delimiter: str, width: int, header: int) -> _Counted | None:
    """The rows below the header, if each has `width` cells; None where a slower look is needed."""
    data, quotes, separator = np.frombuffer(content, np.uint8), b'"' in content, ord(delimiter)
    start = after_lines(content, header)
    rows, line, at, size = 0, header + 1, start, _BLOCK
    lines: list[Array] = []
    blanks: list[tuple[int, int]] = []
    while at < len(data):
        part = data[at : at + size]
        is_end, is_separator = part == _NEWLINE, part == separator
        newlines = is_end
        if quotes:
            quoted = np.logical_xor.accumulate(part == _QUOTE)
            is_end, is_separator = is_end & ~quoted, is_separator & ~quoted
        ends = np.flatnonzero(is_end)
        if at + size >= len(data) and (not len(ends) or ends[-1] != len(part) - 1):
            if quotes and quoted[-1]:
                return None  # a quote is missing
            ends = np.append(ends, len(part) - 1)
        if not len(ends):  # a row longer than that
            size *= 2
            continue
        starts = np.concatenate([[0], ends[:-1] + 1])
        stop = int(ends[-1]) + 1
        counts = np.add.reduceat(is_separator[:stop].view(np.uint8), starts, dtype=np.int64)
        good = counts == width - 1
        if width == 1 or not good.all():
            suspects = np.arange(len(starts)) if width == 1 else np.flatnonzero(~good)
            for k in suspects:
                a, b = at + int(starts[k]), at + int(ends[k]) + 1
                if not content[a:b].strip():
                    good[k] = False
                    blanks.append((a, b))
                elif not good[k]:
                    return None
        if quotes or blanks or lines:
            if not lines and rows:
                lines.append(np.arange(header + 1, header + 1 + rows))
            before = np.concatenate(
                [[0], np.cumsum(np.add.reduceat(newlines[:stop].view(np.uint8), starts, dtype=np.int64))]
            )
            lines.append((line + before[:-1])[good])
            line += int(before[-1])
        else:
            line += len(ends)
        rows += int(good.sum())
        at, size = at + stop, _BLOCK
    return _Counted(rows, np.concatenate(lines) if lines else None, blanks)


def after_lines(content: bytes, lines: int) -> int:
    """Where the line after so many begins."""
    at = 0
    for _ in range(lines):
        at = content.find(b"\n", at) + 1
        if not at:
            return len(content)
    return at


def _lines(content: bytes) -> int:
    """How many there are."""
    return content.count(b"\n") + (not content.endswith(b"\n"))


def _without(content: bytes, parts: list[tuple[int, int]]) -> bytes:
    """The content but for these parts of it."""
    kept, at = [], 0
    for a, b in parts:
        kept.append(content[at:a])
        at = b
    return b"".join([*kept, content[at:]])


def by_polars(
    content: bytes | str, delimiter: str, names: list[str], header: int, numbers: Collection[str] = ()
) -> Any:
    """The columns as Polars reads them, text but for the `numbers`; None if it cannot."""
    pl = polars()
    try:
        return pl.read_csv(
            content, separator=delimiter, has_header=False, skip_lines=header, infer_schema=False, glob=False,
            schema={name: pl.Float64 if name in numbers else pl.String for name in names},
        )  # fmt: skip
    except pl.exceptions.PolarsError:
        return None


def _by_python(content: bytes, delimiter: str, names: list[str], source: str) -> tuple[Any, Array]:
    """The columns by Python's reader, and the lines of their rows; all rows of another length are told."""
    pl = polars()
    columns: list[list[str]] = [[] for _ in names]
    lines: list[int] = []
    faults: list[tuple[int, int, bool]] = []
    try:
        for line, row in list(_rows(content, delimiter))[1:]:
            if len(row) != len(names):
                faults.append((line, len(row), "\n" in "".join(row)))
                continue
            lines.append(line)
            for column, cell in zip(columns, row, strict=True):
                column.append(cell)
    except ValueError as error:
        raise TableError(source, [str(error)]) from error
    if faults:
        raise TableError(source, _ragged(faults, len(names), len(lines)))
    if not lines:
        raise TableError(source, ["has no rows below its header"])
    frame = pl.DataFrame(
        {name: pl.Series(name, column, pl.String) for name, column in zip(names, columns, strict=True)}
    ).with_columns(pl.all().replace("", None))
    return frame, np.array(lines)


def _ragged(faults: list[tuple[int, int, bool]], width: int, good: int) -> list[str]:
    told = [
        f"line {line}: {count} cell{'s' * (count != 1)}, but the header names {width} column{'s' * (width > 1)}"
        f"{': is a quote missing?' * spread}"
        for line, count, spread in faults
    ]
    if not good and {count for _, count, _ in faults} == {width + 1}:
        return [
            f"{told[0]}, and so have all rows: the first cells are names of rows, as R's write.table writes them "
            "without a name of their own; give that column a name, or write the file by write.csv"
        ]
    return told
