"""The columns of a large text file, decided while it is read piece by piece: its text is never in memory as a whole.

The result is that of `fastbp.tables.prepared.look`. Where a later piece is not as the first ones let expect, the file
is read as a whole instead.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from fastbp.io import files, pieces
from fastbp.io.extras import polars
from fastbp.io.frames import Frame
from fastbp.io.pieces import NotPlainError, Piece
from fastbp.tables import kinds, prepared
from fastbp.tables.kinds import Kind, Reading, Typed
from fastbp.tables.parallel import each
from fastbp.tables.prepared import Looked, Roles

_CHECKED = 2000  # whole numbers of a piece whose text is looked at
_WORDS = 0.5  # so many of the first cells may be marks of missing numbers
_MISSING = (1 << 16) - 1  # the number of no text
_MANY = 4096  # different texts of a column, from which on it is kept as text


def look(
    data: Any, roles: Roles, reading: Reading, loss: str | None, log: bool, *,
    delimiter: str | None = None, encoding: str | None = None,
) -> Looked | None:  # fmt: skip
    """What the columns of a file are; None if it has to be read as a whole.

    Raises
    ------
    TableError
        With all that is wrong.
    """
    said = encoding is not None or reading.decimal is not None or reading.thousands is not None
    if said or not roles.target or not isinstance(data, str | os.PathLike):
        return None
    with files.opened(data) as file, files.damaged(data, "cannot be read"):
        if os.fstat(file.fileno()).st_size < pieces.SMALLEST:
            return None
        columns = _Columns(roles, reading)
        try:
            names, first, parts = pieces.read(file, os.fspath(data), delimiter, columns.piece)
            kept, typed = columns.joined(parts)
        except NotPlainError:
            return None
        frame = Frame(kept, os.fspath(data), first, order=names)
        return prepared.look(frame, roles, reading, loss, log, typed)


class _Columns:
    """What is known of the columns so far: which are numbers, and the different texts of the others."""

    def __init__(self, roles: Roles, reading: Reading) -> None:
        self.roles, self.reading = roles, reading
        self.lock = threading.Lock()
        self.planned = False
        self.numbers: set[str] = set()  # which Polars reads as such
        self.cast: list[str] = []  # numbers too, but with marks of missing values or mostly whole: looked at as text
        self.kept: list[str] = []  # as text
        self.texts: dict[str, Any] = {}  # a Polars Enum of the different texts of each column

    def _plan(self, frame: Any) -> None:
        """By the first rows, as text."""
        roles, pl, reading = self.roles, polars(), self.reading
        aside = {*roles.target, roles.weight, roles.group, roles.time, *reading.dates}
        if not set(roles.target) <= set(frame.columns):
            raise NotPlainError
        marks = any(kinds.is_number(mark) for mark in reading.missing)
        values = frame.select(pl.all().cast(pl.Float64, strict=False))
        for name in frame.columns:
            if name in aside:
                self.kept.append(name)
            elif not prepared.is_feature(name, roles):
                continue
            elif name in reading.categorical or not values[name].is_not_null().any():
                self.texts[name] = pl.Enum([])
            elif values[name].null_count() == frame[name].null_count() and not marks and _few_whole(values[name]):
                self.numbers.add(name)
            elif values[name].null_count() < _WORDS * len(frame):
                self.cast.append(name)
            else:
                self.texts[name] = pl.Enum([])
        self.planned = True

    def piece(self, piece: Piece) -> tuple[Any, Any, Any, Any]:
        """Of the rows of a piece: numbers of two kinds, numbers of the different texts, and what is kept as text."""
        with self.lock:
            if not self.planned:
                self._plan(piece.head())
        frame = piece.frame(self.numbers)
        return self._numbers(frame, piece), self._cast(frame), self._codes(frame), frame.select(self.kept)

    def _numbers(self, frame: Any, piece: Piece) -> Any:
        """Those that were read as such; the few whole ones among them must not be written with a zero before them."""
        places: list[tuple[int, str, int]] = []
        found = frame.select([name for name in frame.columns if name in self.numbers])
        for column in found:
            values = column.to_numpy()
            if np.isinf(values).any():
                raise NotPlainError
            if column.name not in self.reading.numeric:
                found_rows = np.flatnonzero(np.floor(values) == values)
                places += [(row, column.name, frame.columns.index(column.name)) for row in found_rows.tolist()]
        if len(places) > _CHECKED:
            raise NotPlainError
        rows = sorted({row for row, _, _ in places})
        texts = dict(zip(rows, piece.cells(rows), strict=True)) if rows else {}
        if any(_padded(texts[row][at]) for row, _, at in places):
            raise NotPlainError
        return found

    def _cast(self, frame: Any) -> Any:
        """Those whose text is looked at."""
        columns = []
        for name in self.cast:
            found = kinds.to_numbers(frame[name], self.reading)
            if found.is_infinite().any():
                raise NotPlainError
            if found.null_count() > frame[name].null_count():
                texts = kinds.without_marks(frame[name], self.reading)
                if (found.is_null() & texts.is_not_null()).any():
                    raise NotPlainError
            if name not in self.reading.numeric and kinds.padded(frame[name]) is not None:
                raise NotPlainError
            columns.append(found)
        return polars().DataFrame(columns)

    def _codes(self, frame: Any) -> Any:
        pl, texts = polars(), dict(self.texts)
        if not texts:
            return pl.DataFrame()
        found = self._numbered(frame, texts)
        written = frame.select(list(texts)).null_count().row(0)
        there = found.select((pl.all() == _MISSING).sum()).row(0)
        for k, name in enumerate(texts):
            if there[k] > written[k]:
                new = frame[name].filter(found[name] == _MISSING).drop_nulls().unique(maintain_order=True)
                with self.lock:
                    known = self.texts[name].categories
                    known = pl.concat([known, new.filter(~new.is_in(known.implode()))])
                    if len(known) > _MANY:
                        raise NotPlainError
                    texts[name] = self.texts[name] = pl.Enum(known)
                found = found.with_columns(self._numbered(frame, {name: texts[name]}))
        return found

    @staticmethod
    def _numbered(frame: Any, texts: dict[str, Any]) -> Any:
        pl = polars()
        return frame.select(
            [
                pl.col(name).cast(kind, strict=False).to_physical().cast(pl.UInt16).fill_null(_MISSING)
                for name, kind in texts.items()
            ]
        )

    def joined(self, parts: Sequence[tuple[Any, ...]]) -> tuple[Any, dict[str, Typed]]:
        """The columns that are kept as text, and the others decided; `parts` are what `piece` returned."""
        pl = polars()
        if not parts:
            raise NotPlainError
        numbers, cast, codes, kept = (
            pl.concat(one, rechunk=True) if one[0].width else one[0] for one in zip(*parts, strict=True)
        )
        numbers = numbers.with_columns(pl.all().fill_nan(None)) if numbers.width else numbers
        typed = {one.name: Typed(Kind("number"), one) for one in [*numbers, *cast]}
        if any(kinds.may_be_days(one) for one in typed.values()):
            raise NotPlainError
        decided = each(lambda name: self._decided(name, codes[name]), list(self.texts), kept.height)
        return kept, typed | dict(zip(self.texts, decided, strict=True))

    def _decided(self, name: str, codes: Any) -> Typed:
        """A column of text, by the different ones in the order in which they come."""
        pl, known = polars(), self.texts[name].categories.to_list()
        order = [code for code in codes.unique(maintain_order=True).to_list() if code != _MISSING]
        texts = pl.Series(name, [known[code] for code in order], pl.String)
        if name in self.reading.categorical:
            few: Typed | None = Typed(Kind("category"), kinds.as_levels(kinds.without_marks(texts, self.reading)))
        else:
            head = pl.Series(
                [None if code == _MISSING else known[code] for code in codes[: kinds.HEAD]], dtype=pl.String
            )
            few = kinds.of_few(texts, len(codes), self.reading, head)
        if few is None:
            raise NotPlainError
        place = np.full(_MISSING + 1, len(order), np.uint32)
        place[order] = np.arange(len(order))
        return replace(few, values=few.values.extend_constant(None, 1).gather(place[codes.to_numpy()]))


def _few_whole(values: Any) -> bool:
    """Whether hardly any number is a whole one."""
    return int((values == values.floor()).sum()) <= 0.01 * len(values)


def _padded(text: str) -> bool:
    """Whether an integer is written with a zero before it."""
    return len(text) > 1 and text[0] == "0" and text.isdigit()
