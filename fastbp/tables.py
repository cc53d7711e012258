"""Tables for the command line: NPZ and CSV files in, labels turned into classes, predictions out."""

from __future__ import annotations

import contextlib
import csv
import difflib
import io
import math
import os
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, BinaryIO, TextIO

import numpy as np
import numpy.typing as npt

from fastbp import npz, validation
from fastbp.files import damaged, opened, replacing

Array = npt.NDArray[Any]

_DELIMITERS = ",;\t|"
LONGEST_NAME = 256  # of a class: an array of names is as wide as the longest
_ARRAYS = ("X", "y", "X_test", "y_test")


class TargetNeeded(ValueError):
    """A CSV was given without the name of its target column: wrong usage rather than bad data."""


@dataclass(frozen=True, eq=False)
class Table:
    """What a data file holds.

    Targets keep the kind they have in the file: integers (or names, as strings) are classes, floats are quantities.
    """

    X: Array  # (n, n_in)
    y: Array | None  # (n,) or (n, n_out); None if the file has no targets
    X_test: Array | None = None  # rows set apart in the file itself
    y_test: Array | None = None


def read_table(path: str | os.PathLike[str], target: str | None = None, *, needs_y: bool = True) -> Table:
    """Read ``.npz`` (arrays X, y, optionally X_test, y_test) or ``.csv`` (a header line, then numbers).

    Parameters
    ----------
    path : path
        The ending decides the format; ``.tsv`` and ``.txt`` are read as CSV. Delimiters: comma, semicolon, tab, bar.
    target : str, optional
        The CSV column that holds y. Its values may be names; every other column must be numbers.
    needs_y : bool
        Whether a file without targets is an error.

    Raises
    ------
    TargetNeeded
        If `needs_y`, the file is a CSV, and `target` is None.
    ValueError
        If the file is not in a known format, or a cell is no finite number; names the place.
    OSError
        If it cannot be read.
    """
    ending = Path(path).suffix.lower()
    if ending == ".npz" and target is not None:
        raise ValueError(f"{path} is an NPZ file, whose targets are its array y; leave out --target {target}")
    if ending not in (".npz", ".csv", ".tsv", ".txt"):
        raise ValueError(f"{path}: unknown kind of file {ending!r}; expected .npz with arrays X and y, or .csv")
    with opened(path) as file, damaged(path, "cannot be read"):
        return _read_npz(path, file, needs_y) if ending == ".npz" else _read_csv(path, file, target, needs_y)


def class_labels(*targets: Array | None) -> list[int] | list[str]:
    """Return all classes that occur, sorted: integers by value, names by alphabet."""
    found = [np.asarray(y).ravel() for y in targets if y is not None]
    if len({y.dtype.kind in "US" for y in found}) > 1:
        raise ValueError("y and y_test must both hold names, or both hold integers")
    if any(y.dtype.kind == "f" for y in found):
        raise ValueError("y holds whole numbers, but y_test fractions; classes must be integers or names in both")
    labels: list[int] | list[str] = np.unique(np.concatenate(found)).tolist()
    return [int(one) if isinstance(one, bool) else one for one in labels]  # type: ignore[return-value]


def encode(y: Array, labels: Sequence[int] | Sequence[str]) -> Array:
    """Return the position in `labels` of every entry of y, int64; an unknown label raises ``ValueError``."""
    known = np.asarray(labels)
    if (known.dtype.kind in "US") != (y.dtype.kind in "US"):
        raise ValueError(f"y holds {y.dtype} values, but the classes of the model are {_listed(labels)}")
    values, inverse = np.unique(y, return_inverse=True)
    order = np.argsort(known, kind="stable")
    place = np.minimum(np.searchsorted(known, values, sorter=order), len(known) - 1)
    position = order[place]
    strange = known[position] != values
    if strange.any():
        row = int(np.flatnonzero(strange[inverse.ravel()])[0])
        raise ValueError(f"y[{row}] is {y.ravel()[row]}, which is none of the model's classes {_listed(labels)}")
    encoded: Array = position[inverse].astype(np.int64).reshape(y.shape)
    return encoded


def whole_numbers(y: Array) -> bool:
    """Whether y holds floats that are all integers, such as classes written as 1.0 and 2.0."""
    return y.dtype.kind == "f" and bool(np.all(y == np.rint(y)))


def write_predictions(path: str | os.PathLike[str], columns: dict[str, Array], arrays: dict[str, Array]) -> None:
    """Write predictions atomically: `arrays` to an ``.npz``, `columns` (name to 1-D array) to a ``.csv``."""
    ending = Path(path).suffix.lower()
    if ending not in (".npz", ".csv"):
        raise ValueError(f"{path}: unknown kind of file {ending!r}; predictions go to .csv or .npz")
    with replacing(path, "wb" if ending == ".npz" else "w") as file:
        if ending == ".npz":
            np.savez(file, **arrays)  # type: ignore[arg-type]
        else:
            write_columns(file, columns)


def write_columns(file: IO[str], columns: dict[str, Array]) -> None:
    """Write equally long columns as CSV. Floats get the shortest digits that read back as the same number.

    A name that a spreadsheet would take for a formula, as ``=cmd``, gets an apostrophe before it.
    """
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(columns)
    # str of a NumPy float is that shortest form, in its own precision; tolist would print float32 with float64 digits.
    printed = [
        [str(one) for one in column] if column.dtype.kind == "f" else list(map(_harmless, column.tolist()))
        for column in columns.values()
    ]
    writer.writerows(zip(*printed, strict=True))


def _harmless(cell: Any) -> Any:
    formula = isinstance(cell, str) and len(cell) > 1 and cell[0] in "=+-@" and not _is_number(cell)
    return f"'{cell}" if formula else cell


def _listed(labels: Sequence[object]) -> str:
    shown = ", ".join(str(label) for label in labels[:10])
    return shown if len(labels) <= 10 else f"{shown}, ... ({len(labels)} in all)"


def _read_npz(path: str | os.PathLike[str], file: BinaryIO, needs_y: bool) -> Table:
    arrays, found = npz.read(file, _ARRAYS)
    wanted = ("X", "y") if needs_y else ("X",)
    if missing := [name for name in wanted if name not in arrays]:
        raise ValueError(f"{path} has no array {missing[0]}; it holds {', '.join(found) or 'nothing'}")
    if needs_y and ("X_test" in arrays) != ("y_test" in arrays):
        raise ValueError(f"{path} has only one of X_test and y_test; expected both or neither")
    for X, y in (("X", "y"), ("X_test", "y_test")):
        if X in arrays and y in arrays and arrays[X].shape[:1] != arrays[y].shape[:1]:
            raise ValueError(f"{path}: {X} has shape {arrays[X].shape} and {y} {arrays[y].shape}; rows must match")
    return Table(arrays["X"], arrays.get("y"), arrays.get("X_test"), arrays.get("y_test"))


@contextlib.contextmanager
def _text(file: BinaryIO) -> Iterator[TextIO]:
    """The file from its beginning, as text; it stays open."""
    file.seek(0)
    text = io.TextIOWrapper(file, encoding="utf-8-sig", newline="")
    try:
        yield text
    finally:
        text.detach()


def _read_csv(path: str | os.PathLike[str], file: BinaryIO, target: str | None, needs_y: bool) -> Table:
    names, delimiter = _header(path, file)
    if target is None and needs_y:
        raise TargetNeeded(f"{path} needs --target NAME, the column to learn; it has {_listed(names)}")
    if target is not None and target not in names:
        near = difflib.get_close_matches(target, names, n=1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        raise ValueError(f"{path} has no column {target!r}{hint}; it has {_listed(names)}")
    features = [k for k, name in enumerate(names) if name != target]
    if not features:
        raise ValueError(f"{path} has no column besides the target {target!r}")
    X = _columns(path, file, delimiter, features, names, np.dtype(np.float64))
    y = None
    if target is not None:
        # As Python's text: an array of fixed width would make every name as wide as the longest.
        cells = _columns(path, file, delimiter, [names.index(target)], names, np.dtype(object))
        y = _target(cells[:, 0].tolist(), path, target)
    return Table(X, y)


def _header(path: str | os.PathLike[str], file: BinaryIO) -> tuple[list[str], str]:
    """Column names of a CSV and its delimiter, the commonest candidate of the first line."""
    try:
        with _text(file) as text:
            first = text.readline()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text; save it as UTF-8 CSV") from error
    delimiter = max(_DELIMITERS, key=first.count)
    try:
        names = [name.strip() for name in next(csv.reader([first], delimiter=delimiter), [])]
    except csv.Error as error:
        raise ValueError(f"{path}, line 1: {error}") from error
    if not any(names):
        raise ValueError(f"{path} is empty; expected a line of column names, then rows of numbers")
    if all(_is_number(name) for name in names):
        raise ValueError(f"{path} starts with a line of numbers; its first line must name the columns")
    if "" in names:
        raise ValueError(
            f"{path}: column {names.index('') + 1} has no name; name it, or leave it out (pandas: to_csv(index=False))"
        )
    twice = next((name for name, count in Counter(names).items() if count > 1), None)
    if twice is not None:
        raise ValueError(f"{path} names column {twice!r} twice; column names must differ")
    return names, delimiter


def _columns(
    path: str | os.PathLike[str], file: BinaryIO, delimiter: str, columns: list[int], names: list[str],
    dtype: np.dtype[Any],
) -> Array:  # fmt: skip
    """Some columns of a CSV as a 2-D array, by NumPy's C reader; on any fault a slow second reading says where."""
    try:
        with _text(file) as text, warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # blank lines, or no rows at all: told below
            table: Array = np.loadtxt(
                text, dtype, delimiter=delimiter, skiprows=1, usecols=columns, ndmin=2, comments=None, quotechar='"'
            )
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text; save it as UTF-8 CSV") from error
    except ValueError as error:
        raise _first_fault(path, file, delimiter, columns, names, str(error)) from error
    if not len(table):
        raise ValueError(f"{path} has no rows below its header")
    limit = float(np.finfo(np.float64).max)
    if table.dtype.kind == "f" and validation.first_outside(table, -limit, limit) is not None:
        raise _first_fault(path, file, delimiter, columns, names, "it holds a value that is not finite")
    return table


def _first_fault(
    path: str | os.PathLike[str], file: BinaryIO, delimiter: str, columns: list[int], names: list[str], otherwise: str
) -> ValueError:
    """The error for the first cell that is no finite number, or the first row of a wrong length."""
    with _text(file) as text:
        reader = csv.reader(text, delimiter=delimiter)
        for row in _rows(path, reader):
            where = f"{path}, line {reader.line_num}"
            if row and len(row) != len(names):
                return ValueError(f"{where}: {len(row)} cells, but the header names {len(names)} columns")
            for k in columns if row else ():
                cell = row[k].strip()
                if not cell:
                    return ValueError(f"{where}: column {names[k]!r} is empty; fill or drop missing values")
                if not _is_number(cell):
                    return ValueError(
                        f"{where}: column {names[k]!r} is {cell!r}, but only the target may be text: drop the column, "
                        f"or use --target {names[k]} if it is the target"
                    )
                if not math.isfinite(float(cell)):
                    return ValueError(
                        f"{where}: column {names[k]!r} is {cell}; fill or drop values that are not finite"
                    )
    return ValueError(f"{path} cannot be read: {otherwise}")


def _rows(path: str | os.PathLike[str], reader: Any) -> Iterator[list[str]]:
    """The rows of a CSV below its header; what the reader cannot take is told with its line."""
    try:
        next(reader)
        yield from reader
    except csv.Error as error:  # a cell of more than 131,072 characters
        raise ValueError(f"{path}, line {reader.line_num}: {error}") from error


def _target(texts: list[str], path: str | os.PathLike[str], target: str) -> Array:
    """A column of text as integers if all of it reads so, else floats, else names."""
    for row, text in enumerate(texts, 1):
        if len(text) > LONGEST_NAME:
            raise ValueError(
                f"{path}: target {target!r} has {len(text):,} characters in row {row} below the header, more than the "
                f"{LONGEST_NAME} of the longest class: is a quote missing?"
            )
    cells = np.char.strip(np.array(texts))
    numbers: Array
    for dtype in (np.int64, np.float64):
        try:
            numbers = cells.astype(dtype)
        except (ValueError, OverflowError):
            continue
        faults, fault = ~np.isfinite(numbers), "not finite"
        break
    else:
        numbers = cells  # names, as they stand
        faults, fault = cells == "", "empty"
    if faults.any():
        row = int(np.argmax(faults))
        raise ValueError(
            f"{path}: target {target!r} is {fault} in row {row + 1} below the header; fill or drop such rows"
        )
    return numbers


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
