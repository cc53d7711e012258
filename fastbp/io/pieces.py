"""A large text file read piece by piece, so that its text is never in memory as a whole; if it is a plain one.

Plain: UTF-8, each row on a line of its own with all its cells, the last one written. Whatever else there may be, and
all that is wrong, is the matter of `fastbp.io.delimited`.
"""

from __future__ import annotations

import csv
import os
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, BinaryIO, TypeVar

import numpy as np

from fastbp.io import delimited

SMALLEST = 8 << 20  # bytes of a file that is worth it
_PIECE, _WORKERS = 4 << 20, 2
_START = 1 << 18  # in which the header ends
_LINE, _BLOCK = 1 << 16, 1 << 16
_NEWLINE = 10

R = TypeVar("R")


class NotPlainError(Exception):
    """The file has to be looked at as a whole."""


class Piece:
    """Some rows: a frame of text but for the `numbers`, and their lines."""

    def __init__(self, content: bytes, delimiter: str, names: list[str]) -> None:
        self.content, self.delimiter, self.names = content, delimiter, names

    def frame(self, numbers: Collection[str] = ()) -> Any:
        """The rows. `NotPlainError` where a cell of a column of numbers is none."""
        frame = delimited.by_polars(self.content, self.delimiter, self.names, 0, numbers)
        if frame is None or frame.height != _lines(self.content) or frame[self.names[-1]].null_count():
            raise NotPlainError
        return frame

    def head(self) -> Any:
        """The first rows, all of them text."""
        content = self.content[: self.content.rfind(b"\n", 0, _LINE) + 1]
        return Piece(content or self.content, self.delimiter, self.names).frame()

    def cells(self, rows: Sequence[int]) -> list[list[str]]:
        """Some rows as text."""
        ends = np.flatnonzero(np.frombuffer(self.content, np.uint8) == _NEWLINE)
        begins = np.concatenate([[0], ends + 1])
        lines = [self.content[begins[row] : begins[row + 1]].decode() for row in rows]
        return list(csv.reader(lines, delimiter=self.delimiter))


def read(
    file: BinaryIO, source: str, delimiter: str | None, work: Callable[[Piece], R]
) -> tuple[list[str], int, list[R]]:
    """What `work` makes of each piece; also the names of the columns and the line of the first row.

    Raises
    ------
    NotPlainError
        Or `work` does, to stop.
    TableError
        The header is wrong.
    """
    first = file.read(2 * _START)
    if b"\0" in first or not first[:16].isascii():
        raise NotPlainError
    delimiter, names, after = delimited.header(first, source, delimiter)
    start = delimited.after_lines(first, after)
    if len(names) < 2 or not names[0] or names[0] == delimited.UNNAMED or start > _START:
        raise NotPlainError

    def piece(content: bytes) -> R:
        _check(content)
        return work(Piece(content, delimiter, names))

    results: list[R] = []
    waiting: deque[Future[R]] = deque()
    with ThreadPoolExecutor(_WORKERS) as pool:
        try:
            for content in _cut(file, start):
                waiting.append(pool.submit(piece, content))
                if len(waiting) > _WORKERS:
                    results.append(waiting.popleft().result())
            results += [one.result() for one in waiting]
        except BaseException:
            for one in waiting:
                one.cancel()
            raise
    return names, after + 1, results


def _cut(file: BinaryIO, at: int) -> Iterator[bytes]:
    """The content from a place on, cut behind ends of lines."""
    size = file.seek(0, os.SEEK_END)
    while at < size:
        end = at + _PIECE
        if end < size:  # the last end of a line before it, looked for in a few bytes: a piece is read without a copy
            file.seek(end - _LINE)
            ends = file.read(_LINE).rfind(b"\n") + 1
            if not ends:
                raise NotPlainError
            end += ends - _LINE
        file.seek(at)
        content = file.read(end - at)
        if not content:
            raise NotPlainError  # it has become shorter
        yield content
        at += len(content)


def _check(content: bytes) -> None:
    """That it is UTF-8, without quotes that hold the end of a line."""
    if not content.isascii():
        try:
            content.decode()
        except UnicodeDecodeError as error:
            raise NotPlainError from error
    if b"\0" in content or (b"\r" in content and content.count(b"\r") != content.count(b"\r\n")):
        raise NotPlainError
    if content.count(b'"') % 2:
        raise NotPlainError


def _lines(content: bytes) -> int:
    """How many there are; by blocks that stay in the cache, four times as fast as `bytes.count`."""
    data = np.frombuffer(content, np.uint8)
    is_end = np.empty(_BLOCK, np.bool_)
    ends = 0
    for start in range(0, len(data), _BLOCK):
        block = data[start : start + _BLOCK]
        ends += int(np.count_nonzero(np.equal(block, _NEWLINE, out=is_end[: len(block)])))
    return ends + (content[-1] != _NEWLINE)
