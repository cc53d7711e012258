"""Any table as one kind of frame: files by their content, and the data frames of other packages by narwhals."""

from __future__ import annotations

import gzip
import io
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, BinaryIO

import numpy as np

from fastbp.io import binary, delimited, files, npz
from fastbp.io.extras import narwhals, polars
from fastbp.io.faults import TableError
from fastbp.types import Array

_GZIP, _ZIP = b"\x1f\x8b", b"PK\x03\x04"
_PIECE = 1 << 20


@dataclass(frozen=True, eq=False)
class Frame:
    """A table in memory, and what errors say of where it is from."""

    data: Any  # a Polars frame
    source: str = "the data"
    first: int | None = None  # the line of the first row; None: rows are counted from 0
    lines: Array | None = None  # the line of each row, where it is not one a row
    notes: list[str] = field(default_factory=list)
    positional: bool = False  # columns of an array, which have no names of their own
    order: list[str] | None = None  # the names of all columns, where `data` holds some of them

    @property
    def names(self) -> list[str]:
        """Of the columns."""
        found: list[str] = self.data.columns if self.order is None else self.order
        return found

    @property
    def rows(self) -> int:
        """How many there are."""
        return int(self.data.height)

    def place(self, row: int) -> str:
        """Where a row is, as messages say it."""
        if self.first is None:
            return f"row {row}"
        return f"line {self.first + row if self.lines is None else int(self.lines[row])}"

    def take(self, rows: Array) -> Frame:
        """These rows, which keep their places."""
        lines = rows + self.first if self.first is not None and self.lines is None else None
        lines = self.lines[rows] if self.lines is not None else lines
        return replace(self, data=self.data[rows], lines=lines)

    def named(self, names: Any) -> Frame:
        """The same columns, the first ones under these names."""
        renamed = dict(zip(self.names, names, strict=False))
        return replace(self, data=self.data.rename(renamed), positional=False)

    def without(self, names: Any) -> Frame:
        """The other columns."""
        return replace(self, data=self.data.drop(list(names), strict=False))


def frame(data: Any, *, delimiter: str | None = None, encoding: str | None = None, target: str | None = None) -> Frame:
    """A table from a file, an open file of bytes, a data frame, or a dict of columns.

    Parameters
    ----------
    data : path, binary file, data frame or mapping
        A file's content tells what it is: Parquet, Arrow (Feather), NPZ with X and y, all of them gzipped or not; else
        delimited text. A data frame is one that narwhals knows: Polars, pandas, PyArrow, Modin and others.
    delimiter, encoding : str, optional
        Of delimited text; found if None.
    target : str, optional
        What the array y of an NPZ is called.

    Raises
    ------
    TableError
        The content is not a table, or damaged; of text all rows with a cell too many or too few are told.
    TypeError
        `data` is none of these.
    """
    if isinstance(data, Frame):
        return data
    if isinstance(data, str | os.PathLike):
        with files.opened(data) as file, files.damaged(data, "cannot be read"):
            return _read(file, os.fspath(data), delimiter, encoding, target)
    if hasattr(data, "read"):
        return _read(io.BytesIO(_whole(data)), getattr(data, "name", None) or "the input", delimiter, encoding, target)
    return _taken(data)


# --- files --------------------------------------------------------------------------------------------------


def _read(file: BinaryIO, source: str, delimiter: str | None, encoding: str | None, target: str | None) -> Frame:
    begin = file.read(8)
    file.seek(0)
    if begin.startswith(_GZIP):
        with binary.damages(source):
            file = io.BytesIO(_unpacked(file))
        begin = file.read(8)
        file.seek(0)
    if begin.startswith(b"PAR1"):
        return _checked(Frame(binary.parquet(file.read(), source), source))
    if begin.startswith(b"ARROW1"):
        return _checked(Frame(binary.arrow(file.read(), source), source))
    if begin.startswith(b"FEA1"):
        raise TableError(source, ["is a Feather file of version 1; write it with pyarrow.feather, version 2"])
    if begin.startswith(_ZIP):
        return _of_npz(file, source, target)
    if begin.startswith(b"\xd0\xcf\x11\xe0"):
        raise TableError(source, ["is an Excel workbook; save it as CSV"])
    text = delimited.read(_whole(file), source, delimiter=delimiter, encoding=encoding)
    notes = list(text.notes)
    return _without_row_numbers(Frame(text.frame, source, text.first, text.lines, notes))


def _whole(file: BinaryIO) -> bytes:
    content: Any = file.read()
    return content.encode() if isinstance(content, str) else bytes(content)


def _unpacked(file: BinaryIO) -> bytes:
    """The content of a gzip file, unless it is more than fits in memory."""
    content, most = bytearray(), files.memory()
    with gzip.GzipFile(fileobj=file) as packed:
        while piece := packed.read(_PIECE):
            content += piece
            if 2 * len(content) > most:
                raise ValueError(f"it unpacks to more than the {most / 1e9:.3g} GB of memory that are left")
    return bytes(content)


def held_out(path: str | os.PathLike[str], target: str | None = None) -> Frame | None:
    """The rows of the arrays X_test and y_test of an NPZ; None if it has none."""
    with files.opened(path) as file, files.damaged(path, "cannot be read"):
        _, found = npz.read(file, ())
        file.seek(0)
        return _of_npz(file, os.fspath(path), target, "_test") if "X_test" in found else None


def _of_npz(file: BinaryIO, source: str, target: str | None, part: str = "") -> Frame:
    """Arrays X and y as columns x0, x1, ... and y, or what the target is called; `part`: those with that ending."""
    arrays, found = npz.read(file, (f"X{part}", f"y{part}"))
    if any(name.startswith("xl/") for name in found):
        raise TableError(source, ["is an Excel workbook; save it as CSV"])
    if "X" not in found:
        return _of_named_arrays(npz.read(file, found)[0], source)
    X, y = arrays[f"X{part}"], arrays.get(f"y{part}")
    if X.ndim != 2 or (y is not None and (y.ndim not in (1, 2) or len(y) != len(X))):
        raise TableError(
            source, [f"X and y must be (rows, columns) and (rows,), got {X.shape}, {getattr(y, 'shape', None)}"]
        )
    columns = {f"x{k}": X[:, k] for k in range(X.shape[1])}
    if y is not None and y.ndim == 2 and y.shape[1] > 1:
        columns |= {f"y{k}": y[:, k] for k in range(y.shape[1])}
    elif y is not None:
        columns["y" if target is None or target in columns else target] = y.reshape(len(y))
    return _checked(Frame(_of_arrays(columns), source, positional=True))


def _of_named_arrays(arrays: dict[str, Array], source: str) -> Frame:
    """Arrays of one length as columns, each under its own name."""
    shapes = {name: array.shape for name, array in arrays.items()}
    if not shapes or any(len(shape) != 1 for shape in shapes.values()) or len(set(shapes.values())) > 1:
        told = ", ".join(f"{name} {shape}" for name, shape in shapes.items()) or "nothing"
        raise TableError(source, [f"holds neither an array X nor columns of one length; it holds {told}"])
    return _checked(Frame(_of_arrays(arrays), source))


def _of_arrays(columns: dict[str, Array]) -> Any:
    pl = polars()
    return pl.DataFrame(
        [pl.Series(name, one.tolist() if one.dtype.kind in "US" else one) for name, one in columns.items()]
    )


def _without_row_numbers(found: Frame) -> Frame:
    """Leave out a first column without a name that numbers the rows, as pandas writes; others are refused."""
    if found.names[:1] != [delimited.UNNAMED]:
        return found
    pl = polars()
    numbers = found.data[delimited.UNNAMED].cast(pl.Int64, strict=False)
    if numbers.null_count() or numbers[0] not in (0, 1) or not (numbers.diff().drop_nulls() == 1).all():
        raise TableError(found.source, ["column 1 has no name; name it, or leave it out (pandas: to_csv(index=False))"])
    found.notes.append("the first column has no name and numbers the rows: left out")
    return found.without([delimited.UNNAMED])


# --- data frames --------------------------------------------------------------------------------------------


def _taken(data: Any) -> Frame:
    """A data frame of whatever package, or a mapping of columns."""
    pl = polars()
    if isinstance(data, pl.DataFrame):
        return _checked(Frame(data))
    if isinstance(data, pl.LazyFrame):
        return _checked(Frame(data.collect()))
    if isinstance(getattr(data, "index", None), Iterable) and hasattr(data, "to_dict") and not hasattr(data, "columns"):
        data = data.to_dict()  # a row of pandas
    if isinstance(data, Mapping):
        if data and not any(_is_column(one) for one in data.values()):
            data = {name: [one] for name, one in data.items()}  # one row
        try:
            return _checked(Frame(pl.DataFrame({str(name): _series(str(name), one) for name, one in data.items()})))
        except (pl.exceptions.PolarsError, TypeError) as error:
            raise TypeError(f"the columns do not make a table: {error}") from error
    nw = narwhals()
    try:
        taken = nw.from_native(data)
    except TypeError:
        raise TypeError(
            f"expected a file's name or a data frame whose columns have names, got {type(data).__name__}"
        ) from None
    if isinstance(taken, nw.LazyFrame):
        taken = taken.collect()
    names = taken.columns
    if odd := [name for name in names if not isinstance(name, str)]:
        raise TypeError(f"column names must be text, got {odd[0]!r}; rename it")
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise TableError("the data", [f"names column {name!r} twice; column names must differ" for name in twice])
    return _checked(Frame(pl.DataFrame([_column(name, taken[name]) for name in names])))


def _column(name: str, column: Any) -> Any:
    """A column of narwhals in Polars."""
    pl, nw = polars(), narwhals()
    category = column.dtype in (nw.Categorical, nw.Enum)
    if category:
        column = column.cast(nw.String)
    try:
        found = column.to_polars()
    except (ImportError, pl.exceptions.PolarsError, TypeError, ValueError):  # without PyArrow, or Python's objects
        found = _series(name, column.to_list())
    return (found.cast(pl.Categorical) if category and found.dtype == pl.String else found).alias(name)


def _series(name: str, values: Any) -> Any:
    """Python's values as a column: NaN is missing, and what is mixed is text."""
    pl = polars()
    if isinstance(values, pl.Series):
        return values.alias(name)
    if isinstance(values, np.ndarray) and values.dtype != object:
        return pl.Series(name, values)
    plain = [None if one is None or _is_missing(one) else one for one in values]
    try:
        return pl.Series(name, plain)
    except (TypeError, pl.exceptions.PolarsError):
        return pl.Series(name, [None if one is None else str(one) for one in plain], pl.String)


def _is_column(value: Any) -> bool:
    return isinstance(value, Iterable) and not isinstance(value, str | bytes)


def _is_missing(value: Any) -> bool:
    """Whether it is NaN, or pandas' NA or NaT."""
    if isinstance(value, float | np.floating):
        return bool(value != value)
    return type(value).__name__ in ("NAType", "NaTType")


def _checked(found: Frame) -> Frame:
    """The frame with columns of few types: text, categories, booleans, float64, int64 and time stamps."""
    pl, faults, columns = polars(), [], []
    if not found.names:
        raise TableError(found.source, ["has no columns"])
    if not found.rows:
        raise TableError(found.source, ["has no rows"])
    for series in found.data:
        kind = series.dtype
        if kind in (pl.String, pl.Boolean, pl.Float64) or isinstance(kind, pl.Datetime | pl.Categorical | pl.Enum):
            pass
        elif kind.is_integer() and kind in (pl.Int8, pl.Int16, pl.Int32, pl.Int64, pl.UInt8, pl.UInt16, pl.UInt32):
            series = series.cast(pl.Int64)
        elif kind.is_numeric():
            series = series.cast(pl.Float64)
        elif kind == pl.Date:
            with binary.damages(found.source), binary.aside():  # of a damaged file, beyond all calendars
                series = series.cast(pl.Datetime("us"))
        elif isinstance(kind, pl.Duration):
            series = series.dt.total_microseconds().cast(pl.Float64) / 1e6
        elif kind == pl.Time:
            series = series.cast(pl.Duration("us")).dt.total_microseconds().cast(pl.Float64) / 1e6
        elif kind == pl.Null:
            series = series.cast(pl.String)
        elif kind == pl.Object:
            series = _series(series.name, series.to_list())
        else:
            faults.append(f"column {series.name!r} holds {kind}, which is no value a cell; leave it out, or flatten it")
        if series.dtype == pl.Float64:
            series = series.fill_nan(None)
        columns.append(series)
    if faults:
        raise TableError(found.source, faults)
    return replace(found, data=pl.DataFrame(columns))
