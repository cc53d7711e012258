"""A large text file read by Polars alone, numbers as numbers, where nothing in it needs a closer look.

Plain: UTF-8, each row on a line of its own with all its cells, the last one written. Whatever else there may be, and
all that is wrong, is the matter of `fastbp.io.delimited`.
"""

from __future__ import annotations

import codecs
import csv
from collections.abc import Callable, Collection, Sequence
from typing import Any, BinaryIO

import numpy as np

from fastbp.io import delimited

SMALLEST = 4 << 20  # bytes of a file that is worth it
_START = 1 << 18  # in which the header ends
_HEAD = 1 << 16  # of the rows, by which it is planned what are numbers
_BLOCK = 1 << 16
_NEWLINE, _QUOTE = 10, 34


class NotPlainError(Exception):
    """The file needs a closer look."""


class Plain:
    """The columns of a plain file, and its rows as they are written.

    Parameters
    ----------
    file : binary file
        By its path, so that Polars can read it too.
    delimiter : str, optional
        Found if None.
    plan : callable
        The names of the columns to read as numbers, by a frame of the first rows as text.

    Raises
    ------
    NotPlainError
        It is none.
    TableError
        The header is wrong.
    """

    def __init__(
        self, file: BinaryIO, path: str, delimiter: str | None, plan: Callable[[Any], Collection[str]]
    ) -> None:
        start = file.read(2 * _START)
        if b"\0" in start or not start[:16].isascii():
            raise NotPlainError
        self.file, self.path = file, path
        try:
            codecs.getincrementaldecoder("utf-8")().decode(start)  # which may end within a letter
        except UnicodeDecodeError as error:
            raise NotPlainError from error
        self.delimiter, self.names, after = delimited.header(start, path, delimiter)
        begin = delimited.after_lines(start, after)
        if len(self.names) < 2 or self.names[0] == delimited.UNNAMED or begin > _START:
            raise NotPlainError
        self.first = after + 1  # the line of the first row
        self.ends = self._look()
        head = delimited.by_polars(
            start[begin : start.rfind(b"\n", 0, begin + _HEAD) + 1], self.delimiter, self.names, 0
        )
        if head is None or not head.height:
            raise NotPlainError
        self.frame = delimited.by_polars(path, self.delimiter, self.names, after, plan(head))
        if (
            self.frame is None
            or self.frame.height != int(self.ends[-1]) - after
            or self.frame[self.names[-1]].null_count()
        ):
            raise NotPlainError

    def _look(self) -> Any:
        """How many lines have ended behind each block; that no quote is missing, and that lines end in one way."""
        file, buffer = self.file, bytearray(_BLOCK)
        data, is_it = np.frombuffer(buffer, np.uint8), np.empty(_BLOCK, np.bool_)
        ends, quotes, last = [0], 0, _NEWLINE
        file.seek(0)
        while n := file.readinto(buffer):  # type: ignore[attr-defined]
            if n < _BLOCK:
                buffer[n:] = b" " * (_BLOCK - n)
            if buffer.find(b"\0") >= 0 or buffer.find(b"\r") >= 0:
                raise NotPlainError
            ends.append(ends[-1] + int(np.count_nonzero(np.equal(data, _NEWLINE, out=is_it))))
            if buffer.find(b'"') >= 0:
                quotes += int(np.count_nonzero(np.equal(data, _QUOTE, out=is_it)))
            last = buffer[n - 1]
        if quotes % 2:
            raise NotPlainError
        ends[-1] += last != _NEWLINE
        return np.array(ends)

    def cells(self, rows: Sequence[int]) -> dict[int, list[str]]:
        """Some rows as text."""
        found: dict[int, list[str]] = {}
        for row in rows:
            line = row + self.first - 1  # from 0
            block = int(np.searchsorted(self.ends, line, side="right")) - 1
            self.file.seek(block * _BLOCK)
            before = line - int(self.ends[block])
            content = self.file.read(_BLOCK) + self.file.readline()
            begin = delimited.after_lines(content, before)
            if before == 0 and block:  # the line may have begun in the block before
                self.file.seek(max(0, (block - 1) * _BLOCK))
                earlier = self.file.read(_BLOCK)
                content = earlier[earlier.rfind(b"\n") + 1 :] + content
            found[row] = next(csv.reader([content[begin:].split(b"\n", 1)[0].decode()], delimiter=self.delimiter))
        return found
