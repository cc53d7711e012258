"""Arrays for the command line: NPZ files and columns of numbers in, labels turned into classes, predictions out."""

from __future__ import annotations

import csv
import difflib
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, BinaryIO

import numpy as np
import numpy.typing as npt

from fastbp.io import frames, npz
from fastbp.io.extras import polars
from fastbp.io.faults import TableError
from fastbp.io.files import damaged, opened, replacing

Array = npt.NDArray[Any]
Path_ = str | os.PathLike[str]

LONGEST_NAME = 256  # of a class: an array of names is as wide as the longest
_ARRAYS = ("X", "y", "X_test", "y_test")
# What NumPy's reader takes for a number; Python's own takes 1_1 too, and the digits of every script.
_NUMBER = re.compile(r"[+-]?((\d+\.?\d*|\.\d+)(e[+-]?\d+)?|nan|inf|infinity)", re.ASCII | re.IGNORECASE)
_DIGITS = re.compile(r"[+-]?\d+", re.ASCII)


class TargetNeeded(ValueError):
    """A CSV was given without the name of its target column: wrong usage rather than bad data."""


@dataclass(frozen=True, eq=False)
class Table:
    """What a data file holds.

    Targets keep the kind they have in the file: integers (or names, as strings) are classes, floats are quantities. In
    a CSV they are integers only if each is written as an ordinary one is: 007 is a name, apart from 7.
    """

    X: Array  # (n, n_in)
    y: Array | None  # (n,) or (n, n_out); None if the file has no targets
    X_test: Array | None = None  # rows set apart in the file itself
    y_test: Array | None = None
    beside: list[str] | None = None  # the texts of a column that was asked for


def read_table(
    path: str | os.PathLike[str], target: str | None = None, *, needs_y: bool = True, names: bool = False,
    beside: str | None = None,
) -> Table:  # fmt: skip
    """Read ``.npz`` (arrays X, y, optionally X_test, y_test), or a table of numbers, as `fastbp.io.frames` reads it.

    Parameters
    ----------
    path : path
    target : str, optional
        The column that holds y. Its values may be names; every other column must be numbers.
    needs_y : bool
        Whether a file without targets is an error. If not, the target column of a CSV is left out unread.
    names : bool
        The targets of a CSV are names, whatever they look like.
    beside : str, optional
        A column of a CSV that is no input, whose cells are returned as text.

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
    if ending != ".npz":
        with damaged(path, "cannot be read"):
            return _read_columns(path, target, needs_y, names, beside)
    with opened(path) as file, damaged(path, "cannot be read"):
        return _read_npz(path, file, needs_y)


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
    if (known.dtype.kind in "US") != (y.dtype.kind in "US"):  # 1 and 2 are among the names 1, 2 and 2b
        known, y = known.astype(np.str_), y.astype(np.str_)
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


def odd_integer(y: Array) -> str | None:
    """The first label for which y holds names although all of them are whole numbers: 007, +7, or beyond 64 bits."""
    if y.dtype.kind != "U" or not all(map(_is_whole, y.flat)):
        return None
    return next((str(one) for one in y.flat if _ordinary_integers(np.array([one])) is None), None)


def numbers_of(y: Array, loss: str, hint: str = "") -> Array:
    """Targets as numbers, which names such as 007 are, for a loss that takes them; ``ValueError`` if one is none."""
    if y.dtype.kind not in "US":
        return y
    for one in y.flat:
        if not _is_number(str(one)):
            raise ValueError(f"y holds names such as {one}, but {loss} takes numbers{hint}")
    found: Array = y.astype(np.float64)
    return found


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


def _read_npz(path: Path_, file: BinaryIO, needs_y: bool) -> Table:
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


def _read_columns(
    path: Path_, target: str | None, needs_y: bool, as_names: bool, beside: str | None = None
) -> Table:  # fmt: skip
    """A table with names whose columns are all numbers but for the target, as a network without one takes it."""
    found = frames.frame(path)
    target = None if target is None else " ".join(target.split())
    if target is None and needs_y:
        raise TargetNeeded(f"{path} needs --target NAME, the column to learn; it has {_listed(found.names)}")
    for name in (target, beside):
        if name is not None and name not in found.names:
            near = difflib.get_close_matches(name, found.names, n=1)
            hint = f" (did you mean {near[0]!r}?)" if near else ""
            raise ValueError(f"{path} has no column {name!r}{hint}; it has {_listed(found.names)}")
    features = [name for name in found.names if name not in (target, beside)]
    if not features:
        raise ValueError(f"{path} has no column besides the target {target!r}")
    X, faults = np.empty((found.rows, len(features))), []
    for k, name in enumerate(features):
        values, fault = _numbers(found, name)
        X[:, k] = values
        faults += [fault] if fault else []
    if faults:
        raise TableError(found.source, faults)
    y = None
    if target is not None and needs_y:
        cells = found.data[target]
        y = _target(["" if one is None else str(one) for one in cells.to_list()], path, target, as_names)
    if beside is None:
        return Table(X, y)
    return Table(X, y, beside=["" if one is None else str(one) for one in found.data[beside].to_list()])


def _numbers(found: frames.Frame, name: str) -> tuple[Array, str]:
    """A column in float64, and what to say of the first cell that is no finite number."""
    texts = found.data[name].cast(polars().String)
    values: Array = texts.str.strip_chars().cast(polars().Float64, strict=False).to_numpy()
    wrong = ~np.isfinite(values.astype(np.float64))
    if not wrong.any():
        return values, ""
    row = int(np.argmax(wrong))
    cell, where = (texts[row] or "").strip(), found.place(row)
    if not cell:
        return values, f"{where}: column {name!r} is empty; fill or drop missing values"
    if _has_commas(cell):
        return values, f"{where}: column {name!r} is {cell!r:.80}; {_COMMAS}"
    if _is_number(cell):
        return values, f"{where}: column {name!r} is {cell}; fill or drop values that are not finite"
    return values, (
        f"{where}: column {name!r} is {cell!r:.80}, but only the target may be text: drop the column, or use "
        f"--target {name} if it is the target"
    )


def _target(texts: list[str], path: Path_, target: str, as_names: bool) -> Array:
    """A column of text as integers if each is an ordinary one, else as floats if there are fractions, else as names."""
    for row, text in enumerate(texts, 1):
        if len(text) > LONGEST_NAME:
            raise ValueError(
                f"{path}: target {target!r} has {len(text):,} characters in row {row} below the header, more than the "
                f"{LONGEST_NAME} of the longest class: is a quote missing?"
            )
    cells = np.char.strip(np.array(texts))
    found, faults, fault, written = cells, cells == "", "empty", cells.tolist()
    if not as_names:
        ordinary = _ordinary_integers(cells)
        if ordinary is not None:
            return ordinary
        if all(map(_is_number, written)) and not all(map(_is_whole, written)):
            found = cells.astype(np.float64)
            faults, fault = ~np.isfinite(found), "not finite"
    if faults.any():
        row = int(np.argmax(faults))
        raise ValueError(
            f"{path}: target {target!r} is {fault} in row {row + 1} below the header; fill or drop such rows"
        )
    commas = next(filter(_has_commas, written), None)
    if commas is not None and not as_names and all(_is_number(cell) or _has_commas(cell) for cell in written):
        raise ValueError(f"{path}: target {target!r} is {commas!r}; {_COMMAS}")
    return found


def _ordinary_integers(cells: Array) -> Array | None:
    """Text as int64, if every one is what that number is written as."""
    try:
        numbers: Array = cells.astype(np.int64)
    except (ValueError, OverflowError):
        return None
    return numbers if (numbers.astype(np.str_) == cells).all() else None


_COMMAS = "numbers are written with a point, as 3.7, and with nothing between thousands"


def _has_commas(text: str) -> bool:
    return "," in text and _is_number(text.replace(",", ""))


def _is_number(text: str) -> bool:
    return _NUMBER.fullmatch(text) is not None


def _is_whole(text: str) -> bool:
    return _DIGITS.fullmatch(text) is not None
