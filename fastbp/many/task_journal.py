"""The journal of networks that train side by side: of each that has ended, its history, and the network itself."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import math
from collections.abc import Sequence
from os import PathLike
from typing import Any

import numpy as np

from fastbp import model
from fastbp._version import __version__
from fastbp.engine.precisions import FLOAT32
from fastbp.errors import DivergenceError
from fastbp.history import History
from fastbp.io import documents, tensors
from fastbp.kernels.targets import TARGET
from fastbp.many.lines import Lines
from fastbp.many.task import Task
from fastbp.training import checkpoints

FORMAT, VERSION = "fastbp journal of networks", 1
_LISTS = ("loss", "val_loss", "val_score", "lr", "seconds")


class TaskJournal(Lines):
    """An open journal; with path None, one that is empty and writes nothing.

    A task is known by a digest of all that its training depends on: whatever order the tasks come in, and whatever
    others are among them, those that the file has are not done again.

    Parameters
    ----------
    path : path-like or None
    networks : bool
        Keep the networks themselves, too.
    """

    def __init__(self, path: str | PathLike[str] | None, *, networks: bool = True) -> None:
        self.networks = networks
        self.records: dict[str, dict[str, Any]] = {}
        self.keys: dict[int, str] = {}
        self._digests: dict[int, str] = {}
        self._alive: list[Any] = []
        header = {
            "format": FORMAT, "version": VERSION, "networks": networks, "fastbp": __version__,
            "instruction_set": TARGET.name,
        }  # fmt: skip
        super().__init__(path, header, "many networks")

    def keep(self, record: dict[str, Any]) -> None:
        """Take in a record."""
        _history(record)
        if self.networks:
            _values(record)
        if not isinstance(record["found"], dict):
            raise ValueError("found is no mapping")
        self.records[str(record["key"])] = record

    def restore(self, todo: Sequence[Task]) -> list[Task]:
        """Give the tasks that the file has their results; returns the others."""
        if self.file is None:
            return list(todo)
        self.keys = {id(task): self.key(task) for task in todo}
        for task in todo:
            if (record := self.records.get(self.keys[id(task)])) is not None:
                self._put(task, record)
        return [task for task in todo if not task.finished]

    def _put(self, task: Task, record: dict[str, Any]) -> None:
        net = task.net
        task.history, task.found = _history(record), record["found"]
        if self.networks:
            values = _values(record)
            net.session.put((values.weights, values.biases, values.input_scale), values.optimizer)
        net.history = task.history
        vars(net)["feature_names"] = task.feature_names
        task.finished = True
        if (error := record["error"]) is not None:
            rate = error["lr"]
            task.error = DivergenceError(error["epoch"], error["step"], rate, task.history, error["scaled"])
            task.error.best_epoch = error["best_epoch"]

    def write(self, ended: Sequence[Task]) -> None:
        """Append tasks that have come to their end, but those that failed by something else than their numbers."""
        if self.file is None:
            return
        for task in ended:
            error: dict[str, Any] | None = None
            if task.error is not None:
                if not isinstance(task.error, DivergenceError):
                    continue
                names = ("epoch", "step", "lr", "scaled", "best_epoch")
                error = {name: getattr(task.error, name) for name in names}
            history = task.history
            assert history is not None
            record: dict[str, Any] = {
                "key": self.keys[id(task)],
                "score_name": history.score_name,
                "stop_reason": history.stop_reason,
                **{name: documents.plain(getattr(history, name)) for name in _LISTS},
                "error": error,
                "found": documents.plain(task.found),
            }
            if self.networks:
                record["network"] = _packed(task)
            self.append(record)

    # --- what a training depends on -------------------------------------------------------------------------

    def key(self, task: Task) -> str:
        """A digest of all that decides the bits of a task."""
        net, settings = task.net, task.settings
        arrays, described = model.to_file(net.session.values())
        parts: list[Any] = [described, [[name, self._array(array)] for name, array in sorted(arrays.items())]]
        parts += [repr(settings.optimizer), repr(settings.schedule), settings.epochs, settings.batch_size]
        parts += [settings.shuffle, settings.drop_last, [repr(one) for one in settings.callbacks]]
        parts += [] if settings.precision == FLOAT32 else [settings.precision]  # unknown to journals of before
        for samples in (task.samples, task.validation):
            if samples is not None:
                X, y, weights, rows = samples
                parts += [self._shared(X), self._shared(y), self._array(weights), self._array(rows)]
        return hashlib.blake2b(json.dumps(parts, sort_keys=True).encode(), digest_size=16).hexdigest()

    def _shared(self, array: Any) -> str:
        """The digest of an array that many tasks have."""
        if id(array) not in self._digests:
            self._digests[id(array)] = checkpoints.digest(array)
            self._alive.append(array)
        return self._digests[id(array)]

    def _array(self, array: Any) -> str:
        return checkpoints.digest(array)


def _history(record: dict[str, Any]) -> History:
    lists = {name: [_number(value) for value in record[name]] for name in _LISTS}
    return History(str(record["score_name"]), **lists, stop_reason=str(record["stop_reason"]))


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _packed(task: Task) -> str:
    """The network as text."""
    arrays, described = model.to_file(task.net.session.values())
    file = io.BytesIO()
    tensors.write(file, arrays, {"fastbp": json.dumps(described)})
    return base64.b64encode(file.getvalue()).decode()


def _values(record: dict[str, Any]) -> model.Model:
    arrays, texts = tensors.read(io.BytesIO(base64.b64decode(record["network"], validate=True)))
    return model.from_file({name: np.asarray(array) for name, array in arrays.items()}, json.loads(texts["fastbp"]))
