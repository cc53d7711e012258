"""The journal of a sweep: a line of JSON for every finished run, under a line that says what they are runs of.

Each line ends with a checksum of the text before it. Journals of earlier versions have none and are still continued;
after the first line with a checksum, every line needs one.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import re
from io import FileIO
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from fastbp import schedules
from fastbp._version import __version__
from fastbp.engine.precisions import FLOAT32
from fastbp.io import descriptions
from fastbp.io.files import damaged, is_special, naming
from fastbp.kernels.notice import tell
from fastbp.kernels.targets import TARGET
from fastbp.many.ledger import Ledger, judged
from fastbp.many.run_spec import RunSpec
from fastbp.network import MLP
from fastbp.types import Array

FORMAT, VERSION = "fastbp sweep journal", 1
_BLOCK = 1 << 20  # elements hashed at a time
_CHECKED = re.compile(rb'(.*), "checksum": "([0-9a-f]{16})"\}', re.DOTALL)
_TEXTS = ("net", "optimizer", "schedule")  # of the header: the `repr` of descriptions and of their parts


def fingerprint(spec: RunSpec) -> dict[str, Any]:
    """What a run depends on, except its rate and seed, as JSON values; arrays are hashed."""
    net, scaling = spec.net, spec.net.scaling
    regularization = net.regularization.as_arguments()
    apart = {"activation", "dtype", "seed", "input_scale", *regularization}
    names = [name for name in inspect.signature(MLP).parameters if name not in apart]
    optimizer = {**vars(spec.optimizer), "name": spec.optimizer.name}
    optimizer.pop("lr")
    if optimizer["lr_scale"] is None:  # journals of before know nothing of it, nor of scales of inputs
        del optimizer["lr_scale"]
    how = {} if spec.precision == FLOAT32 else {"precision": spec.precision}  # unknown to journals of before, too
    scaled = {} if net.input_scale is None else {"input_scale": True}
    plateau = schedules.plateau_of(spec.schedule) is not None
    tables = spec.tables(np.ones(1))
    return {
        "X": _hash(spec.X),
        "y": _hash(spec.y),
        "ignored": None if spec.weights is None else _hash(spec.weights),  # rows whose label the loss ignores
        "validation_data": [_hash(array) for array in spec.held_out or () if array is not None],
        "net": {
            **{name: repr(getattr(net, name)) for name in names},
            **scaled,
            "activations": list(net.activations),
            "regularization": regularization,
            "dtype": net.dtype.name,
            "scaling": [] if scaling is None else [_hash(x) for x in vars(scaling).values() if x is not None],
        },
        "epochs": spec.epochs,
        "batch_size": spec.batch_size,
        **how,
        "optimizer": {name: repr(value) for name, value in sorted(optimizer.items())},
        # Hashed by its values: the name of a function says nothing.
        "schedule": repr(spec.schedule) if plateau else [_hash(table) for table in tables if table is not None],
        "version": __version__,
        "instruction_set": TARGET.name,
    }


def _hash(array: Array) -> str:
    digest = hashlib.sha256(f"{array.dtype.str}{array.shape}".encode())
    rows = max(1, _BLOCK // max(1, int(np.prod(array.shape[1:]))))
    for start in range(0, len(array), rows):
        digest.update(np.ascontiguousarray(array[start : start + rows]).tobytes())
    return digest.hexdigest()[:32]


def _check_record(record: dict[str, Any], epochs: int) -> None:
    """Refuse a record that this program has not written."""
    done, losses = record["epochs"], record["val_loss"]
    if isinstance(done, bool) or not isinstance(done, int) or not 0 <= done <= epochs:
        raise ValueError(f"epochs is {done!r}")
    if record["status"] == "finished" and (done == 0 or len(losses) < done or None in losses[:done]):
        raise ValueError("a finished run has a validation loss for every epoch")


class Journal:
    """An open journal; with path None, one that is empty and writes nothing."""

    def __init__(self, path: str | PathLike[str] | None, spec: RunSpec) -> None:
        self.path = None if path is None else Path(path)
        self.file: FileIO | None = None
        self.checked = False  # a line with a checksum has come
        self.records: dict[tuple[float, int], dict[str, Any]] = {}
        if self.path is None:
            return
        # Through JSON and back, to be compared with what was read.
        self.header = json.loads(json.dumps({"format": FORMAT, "version": VERSION, **fingerprint(spec)}))
        if is_special(self.path):
            raise ValueError(f"{self.path} is a device or a pipe, but a journal is read again: give the name of a file")
        with damaged(self.path, "is a damaged journal"):
            whole = self._load()
        with naming(self.path):
            # Without a buffer, which would be written once more when the file is closed on a full disk.
            self.file = open(self.path, "ab", buffering=0)  # noqa: SIM115 - closed by __exit__
            self.file.truncate(whole)
        if whole == 0:
            self._append(self.header)

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *unused: object) -> None:
        if self.file is not None:
            self.file.close()

    def _load(self) -> int:
        """Read the file; returns how many of its bytes are whole lines."""
        assert self.path is not None
        content = self.path.read_bytes() if self.path.exists() else b""
        whole = content.rfind(b"\n") + 1
        lines = content[:whole].splitlines()
        if lines:
            self._check_header(self._parse(lines[0], 1))
        elif not _line(self.header).startswith(content):
            raise ValueError(f"{self.path} is not a journal of a sweep: give the name of a new file")
        if whole < len(content):
            tell(
                f"{self.path}: the last line is cut short, and skipped; its run is done again",
                RuntimeWarning,
                stacklevel=5,
            )
        for number, line in enumerate(lines[1:], 2):
            record = self._parse(line, number)
            with damaged(f"{self.path}, line {number}", "this is not the record of a run"):
                key = float(record["lr"]), int(record["seed"])
                Ledger([key[0]], [key[1]], self.header["epochs"]).read(0, record)
                _check_record(record, self.header["epochs"])
            before = self.records.get(key)
            if before is None or before["epochs"] <= record["epochs"]:
                self.records[key] = record
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
                f"{self.path}, line {number}: this is not JSON ({error}); is it a journal of a sweep? Remove the line, "
                "or give the name of a new file"
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
        if found.get("format") != FORMAT:
            raise ValueError(f"{self.path} is not a journal of a sweep: give the name of a new file")
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
                f"{self.path} is the journal of another sweep: it differs in {', '.join(shown)}. "
                "Give the name of a new file, or the same data and settings"
            )

    def read(self, ledger: Ledger) -> None:
        """Copy the runs of the journal into a ledger, except those that an earlier rule gave up."""
        if self.records:
            for i, key in enumerate(zip(ledger.learning_rates.tolist(), ledger.seeds.tolist(), strict=True)):
                if key in self.records and judged(self.records[key]):
                    ledger.read(i, self.records[key])

    def write(self, ledger: Ledger, which: Array) -> None:
        """Append some runs of a ledger, and flush."""
        if self.file is not None:
            for i in which.tolist():
                self._append(ledger.record(i))

    def _append(self, record: dict[str, Any]) -> None:
        assert self.file is not None
        assert self.path is not None
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
