"""The file of a journal: a line of JSON for every finished run, under a line that says what they are runs of.

Each line ends with a checksum of the text before it. Journals of earlier versions have none and are still continued;
after the first line with a checksum, every line needs one.
"""

from __future__ import annotations

import hashlib
import json
import re
from io import FileIO
from os import PathLike
from pathlib import Path
from typing import Any

from fastbp.io import descriptions
from fastbp.io.files import damaged, is_special, naming
from fastbp.kernels.notice import tell

_CHECKED = re.compile(rb'(.*), "checksum": "([0-9a-f]{16})"\}', re.DOTALL)
_TEXTS = ("net", "optimizer", "schedule")  # of the header: the `repr` of descriptions and of their parts


class Lines:
    """An open journal; with path None, one that is empty and writes nothing.

    Parameters
    ----------
    path : path-like or None
    header : dict
        What the runs depend on, as JSON values: that of a file that is there must be the same.
    what : str
        Of what it is a journal, for messages.
    """

    def __init__(self, path: str | PathLike[str] | None, header: dict[str, Any], what: str = "a sweep") -> None:
        self.path, self.what = None if path is None else Path(path), what
        self.file: FileIO | None = None
        self.checked = False  # a line with a checksum has come
        if self.path is None:
            return
        self.header = json.loads(json.dumps(header))  # to be compared with what was read
        if is_special(self.path):
            raise ValueError(f"{self.path} is a device or a pipe, but a journal is read again: give the name of a file")
        with damaged(self.path, "is a damaged journal"):
            whole = self._load()
        with naming(self.path):
            # Without a buffer, which would be written once more when the file is closed on a full disk.
            self.file = open(self.path, "ab", buffering=0)  # noqa: SIM115 - closed by __exit__
            self.file.truncate(whole)
        if whole == 0:
            self.append(self.header)

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *unused: object) -> None:
        if self.file is not None:
            self.file.close()

    def keep(self, record: dict[str, Any]) -> None:
        """Take in a record that the file holds; an error if this program has not written it."""

    def _load(self) -> int:
        """Read the file; returns how many of its bytes are whole lines."""
        assert self.path is not None
        content = self.path.read_bytes() if self.path.exists() else b""
        whole = content.rfind(b"\n") + 1
        lines = content[:whole].splitlines()
        if lines:
            self._check_header(self._parse(lines[0], 1))
        elif not _line(self.header).startswith(content):
            raise ValueError(f"{self.path} is not a journal of {self.what}: give the name of a new file")
        if whole < len(content):
            tell(
                f"{self.path}: the last line is cut short, and skipped; its run is done again",
                RuntimeWarning,
                stacklevel=6,
            )
        for number, line in enumerate(lines[1:], 2):
            record = self._parse(line, number)
            with damaged(f"{self.path}, line {number}", "this is not the record of a run"):
                self.keep(record)
        return whole

    def _parse(self, line: bytes, number: int) -> dict[str, Any]:
        found = _CHECKED.fullmatch(line)
        if found and _sum(found[1]) != found[2]:
            raise ValueError(
                f"{self.path}, line {number}: this is not the record of a run (its checksum does not match: the line "
                "has changed since it was written); remove it, and its run is done again"
            )
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ValueError(
                f"{self.path}, line {number}: this is not JSON ({error}); is it a journal of {self.what}? Remove the "
                "line, or give the name of a new file"
            ) from error
        if not isinstance(record, dict):
            raise ValueError(f"{self.path}, line {number}: this is not the record of a run")
        if not found and (self.checked or "checksum" in record):
            raise ValueError(
                f"{self.path}, line {number}: this is not the record of a run (its checksum is missing or damaged)"
            )
        self.checked = found is not None
        return record

    def _check_header(self, found: dict[str, Any]) -> None:
        if found.get("format") != self.header["format"]:
            raise ValueError(f"{self.path} is not a journal of {self.what}: give the name of a new file")
        different = [
            name
            for name, value in self.header.items()
            if not (descriptions.same(found.get(name), value) if name in _TEXTS else found.get(name) == value)
        ]
        different += [name for name in found if name not in self.header and name != "checksum"]
        if different:
            shown = [
                f"{name} ({found.get(name)!r:.80}, not {self.header[name]!r})"
                if isinstance(self.header.get(name), int | str) and name not in ("X", "y")
                else f"{name:.80}"
                for name in different
            ]
            raise ValueError(
                f"{self.path} is the journal of another {self.what.split()[-1]}: it differs in {', '.join(shown)}. "
                "Give the name of a new file, or the same data and settings"
            )

    def append(self, record: dict[str, Any]) -> None:
        """Write a line, and flush; nothing without a file."""
        if self.file is None or self.path is None:
            return
        with naming(self.path):
            rest = _line(record)
            while rest:
                rest = rest[self.file.write(rest) :]


def _line(record: dict[str, Any]) -> bytes:
    """A record with its checksum."""
    text = json.dumps(record, allow_nan=False)[:-1].encode()
    return text + b', "checksum": "' + _sum(text) + b'"}\n'


def _sum(text: bytes) -> bytes:
    return hashlib.blake2b(text, digest_size=8).hexdigest().encode()
