"""The journal of a sweep: a line of JSON for every finished run, under a line that says what they are runs of."""

from __future__ import annotations

import hashlib
import inspect
import json
import warnings
from os import PathLike
from pathlib import Path
from typing import IO, Any

import numpy as np

from fastbp import descriptions, schedules
from fastbp._version import __version__
from fastbp.kernels.simd import TARGET
from fastbp.network import MLP
from fastbp.plan import Array
from fastbp.sweep.problem import STATUSES, Ledger, Problem

FORMAT, VERSION = "fastbp sweep journal", 1
_BLOCK = 1 << 20  # elements hashed at a time
_TEXTS = ("net", "optimizer", "schedule")  # of the header: the `repr` of descriptions and of their parts


def fingerprint(problem: Problem) -> dict[str, Any]:
    """All that a run depends on but its rate and seed, as JSON-able values; arrays by their hash."""
    net, scaling = problem.net, problem.net.scaling
    regularization = net.regularization.as_arguments()
    apart = {"activation", "dtype", "seed", *regularization}
    names = [name for name in inspect.signature(MLP).parameters if name not in apart]
    optimizer = {**vars(problem.optimizer), "name": problem.optimizer.name}
    optimizer.pop("lr")
    plateau = schedules.plateau_of(problem.schedule) is not None
    tables = problem.tables(np.ones(1))
    return {
        "X": _hash(problem.X),
        "y": _hash(problem.y),
        "ignored": None if problem.weights is None else _hash(problem.weights),  # rows whose label the loss ignores
        "validation_data": [_hash(array) for array in problem.held or () if array is not None],
        "net": {
            **{name: repr(getattr(net, name)) for name in names},
            "activations": list(net.activations),
            "regularization": regularization,
            "dtype": net.dtype.name,
            "scaling": [] if scaling is None else [_hash(x) for x in vars(scaling).values() if x is not None],
        },
        "epochs": problem.epochs,
        "batch_size": problem.batch_size,
        "optimizer": {name: repr(value) for name, value in sorted(optimizer.items())},
        # By its values: a function has no other name that can be trusted.
        "schedule": repr(problem.schedule) if plateau else [_hash(table) for table in tables if table is not None],
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
    """An open journal; with path None, one that holds and keeps nothing."""

    def __init__(self, path: str | PathLike[str] | None, problem: Problem) -> None:
        self.path = None if path is None else Path(path)
        self.file: IO[str] | None = None
        self.records: dict[tuple[float, int], dict[str, Any]] = {}
        if self.path is None:
            return
        # Through JSON and back, to be compared with what was read.
        self.header = json.loads(json.dumps({"format": FORMAT, "version": VERSION, **fingerprint(problem)}))
        keep = self._load()
        self.file = open(self.path, "a", encoding="utf-8")  # noqa: SIM115 - closed by __exit__
        self.file.truncate(keep)
        if keep == 0:
            self._append(self.header)

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *unused: object) -> None:
        if self.file is not None:
            self.file.close()

    def _load(self) -> int:
        """Take what the file holds; returns how many of its bytes are whole lines."""
        assert self.path is not None
        content = self.path.read_bytes() if self.path.exists() else b""
        keep = content.rfind(b"\n") + 1
        lines = content[:keep].splitlines()
        if lines:
            self._check_header(self._parse(lines[0], 1))
        elif not json.dumps(self.header).encode().startswith(content):
            raise ValueError(f"{self.path} is not a journal of a sweep: give the name of a new file")
        if keep < len(content):
            warnings.warn(
                f"{self.path}: the last line is cut short, and skipped; its run is done again",
                RuntimeWarning,
                stacklevel=4,
            )
        for number, line in enumerate(lines[1:], 2):
            record = self._parse(line, number)
            try:
                key, wrong = (float(record["lr"]), int(record["seed"])), record["status"] not in STATUSES
                Ledger([key[0]], [key[1]], self.header["epochs"]).read(0, record)
                _check_record(record, self.header["epochs"])
            except (KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
                raise ValueError(f"{self.path}, line {number}: this is not the record of a run ({error})") from error
            before = self.records.get(key)
            if not wrong and (before is None or before["epochs"] <= record["epochs"]):
                self.records[key] = record
        return keep

    def _parse(self, line: bytes, number: int) -> dict[str, Any]:
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ValueError(
                f"{self.path}, line {number}: this is not JSON ({error}); is it a journal of a sweep? Remove the line, "
                "or give the name of a new file"
            ) from error
        if not isinstance(record, dict):
            raise ValueError(f"{self.path}, line {number}: this is not the record of a run")
        return record

    def _check_header(self, found: dict[str, Any]) -> None:
        if found.get("format") != FORMAT:
            raise ValueError(f"{self.path} is not a journal of a sweep: give the name of a new file")
        different = [
            name
            for name, value in self.header.items()
            if not (descriptions.same(found.get(name), value) if name in _TEXTS else found.get(name) == value)
        ]
        if different:
            shown = [
                f"{name} ({found.get(name)!r}, not {self.header[name]!r})"
                if isinstance(self.header[name], int | str) and name not in ("X", "y")
                else name
                for name in different
            ]
            raise ValueError(
                f"{self.path} is the journal of another sweep: it differs in {', '.join(shown)}. "
                "Give the name of a new file, or the same data and settings"
            )

    def read(self, ledger: Ledger) -> None:
        """Write what the journal knows into a ledger."""
        if self.records:
            for i, key in enumerate(zip(ledger.rates.tolist(), ledger.seeds.tolist(), strict=True)):
                if key in self.records:
                    ledger.read(i, self.records[key])

    def write(self, ledger: Ledger, which: Array) -> None:
        """Append some runs of a ledger, and flush."""
        if self.file is not None:
            for i in which.tolist():
                self._append(ledger.record(i))

    def _append(self, record: dict[str, Any]) -> None:
        assert self.file is not None
        self.file.write(json.dumps(record, allow_nan=False) + "\n")
        self.file.flush()
