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
from fastbp.io.pieces import NotPlainError
from fastbp.tables import kinds, prepared
from fastbp.tables.kinds import Kind, Reading, Typed
from fastbp.tables.parallel import each
from fastbp.tables.prepared import Looked, Roles
from fastbp.types import Array

_CHECKED = 1000  # cells that are looked at one by one
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


def _padded(texts: Any, values: Array) -> bool:
    """Whether some of the whole numbers are written with a zero before them."""
    rows = np.flatnonzero(np.floor(values) == values)
    if len(rows) > _CHECKED:
        return kinds.padded(texts) is not None
    return any(one[0] == "0" and one.isdigit() and len(one) > 1 for one in texts.gather(rows).to_list())


class _Columns:
    """What is known of the columns so far: which are numbers, and the different texts of the others."""

    def __init__(self, roles: Roles, reading: Reading) -> None:
        self.roles, self.reading = roles, reading
        self.lock = threading.Lock()
        self.planned = False
        self.numbers: list[str] = []
        self.kept: list[str] = []  # as text
        self.texts: dict[str, Any] = {}  # a Polars Enum of the different texts of each column
        self.numeric_marks = any(kinds.is_number(mark) for mark in reading.missing)

    def _plan(self, frame: Any) -> None:
        """By the first rows."""
        roles, pl = self.roles, polars()
        aside = {*roles.target, roles.weight, roles.group, roles.time, *self.reading.dates}
        if not set(roles.target) <= set(frame.columns):
            raise NotPlainError
        for name in frame.columns:
            if name in aside:
                self.kept.append(name)
            elif not prepared.is_feature(name, roles):
                continue
            elif name not in self.reading.categorical and kinds.begins_with_numbers(frame[name], self.reading):
                self.numbers.append(name)
            else:
                self.texts[name] = pl.Enum([])
        self.planned = True

    def piece(self, frame: Any) -> tuple[Any, Any, Any]:
        """Of the rows of a piece: numbers, numbers of the different texts, and what is kept as text."""
        with self.lock:
            if not self.planned:
                self._plan(frame)
        return self._numbers(frame), self._codes(frame), frame.select(self.kept)

    def _numbers(self, frame: Any) -> Any:
        pl, names = polars(), self.numbers
        if self.numeric_marks:
            found = pl.DataFrame([kinds.to_numbers(frame[name], self.reading) for name in names])
        else:
            found = frame.select(pl.col(names).cast(pl.Float64, strict=False).fill_nan(None))
        looks = [(pl.col(name).is_infinite().any(), pl.col(name) == pl.col(name).floor()) for name in names]
        infinite = found.select([one for one, _ in looks]).row(0) if names else ()
        written, there = frame.select(names).null_count().row(0), found.null_count().row(0)
        if any(infinite):
            raise NotPlainError
        whole = found.select([one.any() for _, one in looks]).row(0) if names else ()
        for k, name in enumerate(names):
            if there[k] > written[k]:
                texts = kinds.without_marks(frame[name], self.reading)
                if (found[name].is_null() & texts.is_not_null()).any():
                    raise NotPlainError
            if whole[k] and name not in self.reading.numeric and _padded(frame[name], found[name].to_numpy()):
                raise NotPlainError
        return found

    def _codes(self, frame: Any) -> Any:
        pl, texts = polars(), dict(self.texts)
        if not texts:
            return pl.DataFrame()
        found = self._cast(frame, texts)
        written = frame.select(list(texts)).null_count().row(0)
        for k, (name, there) in enumerate(zip(texts, found.null_count().row(0), strict=True)):
            if there > written[k]:
                new = frame[name].filter(found[name].is_null()).drop_nulls().unique(maintain_order=True)
                with self.lock:
                    known = self.texts[name].categories
                    known = pl.concat([known, new.filter(~new.is_in(known.implode()))])
                    if len(known) > _MANY:
                        raise NotPlainError
                    texts[name] = self.texts[name] = pl.Enum(known)
                found = found.with_columns(self._cast(frame, {name: texts[name]}))
        return found

    @staticmethod
    def _cast(frame: Any, texts: dict[str, Any]) -> Any:
        pl = polars()
        return frame.select(
            [pl.col(name).cast(kind, strict=False).to_physical().cast(pl.UInt16) for name, kind in texts.items()]
        )

    def joined(self, parts: Sequence[tuple[Any, Any, Any]]) -> tuple[Any, dict[str, Typed]]:
        """The columns that are kept as text, and the others decided; `parts` are what `piece` returned."""
        pl = polars()
        if not parts:
            raise NotPlainError
        numbers, codes, kept = (
            pl.concat(one, rechunk=True) if one[0].width else one[0] for one in zip(*parts, strict=True)
        )
        typed = {}
        for name in self.numbers:
            one = Typed(Kind("number"), numbers[name])
            if kinds.may_be_days(one):
                raise NotPlainError
            typed[name] = one
        decided = each(lambda name: self._decided(name, codes[name]), list(self.texts), kept.height)
        return kept, typed | dict(zip(self.texts, decided, strict=True))

    def _decided(self, name: str, codes: Any) -> Typed:
        """A column of text, by the different ones in the order in which they come."""
        pl, known = polars(), self.texts[name].categories
        order = codes.unique(maintain_order=True).drop_nulls()
        texts = known.cast(pl.String).gather(order).alias(name)
        if name in self.reading.categorical:
            few: Typed | None = Typed(Kind("category"), kinds.as_levels(kinds.without_marks(texts, self.reading)))
        else:
            head = known.cast(pl.String).gather(codes[: kinds.HEAD])
            few = kinds.of_few(texts, len(codes), self.reading, head)
        if few is None:
            raise NotPlainError
        place = pl.Series(range(len(known)), dtype=pl.UInt32)
        place = place.scatter(order, pl.Series(range(len(order)), dtype=pl.UInt32)) if len(order) else place
        return replace(few, values=few.values.gather(place.gather(codes)))
