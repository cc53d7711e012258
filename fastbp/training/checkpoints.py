"""Checkpoints: a training on disk, from which it goes on to the same bits.

A checkpoint is a model file (`fastbp.io.model_files`) with one more entry in its description, ``fit``: where the
training stands, and fingerprints of all that decides its bits. `fastbp.load` reads it as the model that it is.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from fastbp import model
from fastbp._version import __version__
from fastbp.callbacks.checkpoint import BEST, Checkpoint
from fastbp.engine.network import Network
from fastbp.engine.precisions import FLOAT32
from fastbp.engine.session import Session
from fastbp.io import descriptions, model_files
from fastbp.io import saved_training as saving
from fastbp.io.files import damaged, is_special
from fastbp.io.saved_training import LAST, VERSION, Saved
from fastbp.model import Model
from fastbp.spec import Samples
from fastbp.types import Array
from fastbp.validation import shown_fields

# What a process that was killed while it wrote has left, by the names that `files.replacing` gives.
_LEFT = re.compile(r"\.(last|best|epoch-\d{6,})\.safetensors\.[0-9a-f]{8}\.tmp")
# Arrays up to this size are hashed whole, at about 1 GB/s; of larger ones, and of memory maps, so many rows.
HASH_BYTES, HASH_ROWS = 1 << 26, 4096
# Of the description of a network: what a training changes, and what it does not look at.
_FREE = ("seed", "class_labels", "optimizer", "format", "version", "fit")
_BEFORE = {"precision": FLOAT32}  # what files of versions that did not know of it mean
_TEXTS = ("optimizer", "schedule", "callbacks")  # of the settings: the `repr` of descriptions


def find(resume: object, callbacks: Sequence[Any]) -> Saved | None:
    """Read the checkpoint that `fit` is to resume; None where it is to start afresh.

    Raises
    ------
    FileNotFoundError
        There is none, nor a callback that would write one there.
    ValueError
        The file is no checkpoint.
    """
    if resume is None:
        return None
    if not isinstance(resume, str | os.PathLike):
        raise TypeError(f"resume must be the folder of a Checkpoint or one of its files, got {resume!r}")
    path = Path(resume)
    if path.suffix != ".safetensors" or path.is_dir():
        folder, path = path, path / LAST
        if not path.is_file():
            ours = {os.path.realpath(one.folder) for one in callbacks if isinstance(one, Checkpoint)}
            if os.path.realpath(folder) in ours:
                return None
            raise FileNotFoundError(
                f"resume: there is no checkpoint in {folder}; name the folder that a Checkpoint of callbacks writes to"
            )
    return saving.read(path)


def progress_of(folder: str | os.PathLike[str]) -> dict[str, Any] | None:
    """``{"epochs": done, "finished": ...}`` of the last checkpoint in a folder, or None if there is none."""
    path = Path(folder) / LAST
    if not path.is_file():
        return None
    fit = saving.read(path).fit
    return {"epochs": fit["epochs"], "finished": fit["finished"]}


def begin(callbacks: Sequence[Any], *, resumes: bool) -> None:
    """Make sure, before a training, that its checkpoints can be written and that none of value is overwritten."""
    for callback in callbacks:
        if not isinstance(callback, Checkpoint):
            continue
        folder = callback.place
        for name in (LAST, BEST):
            if is_special(folder / name):
                raise ValueError(f"{folder / name} is a device or a pipe; name another folder")
        earlier = None if resumes else progress_of(folder)
        if earlier is not None and not earlier["finished"]:
            raise ValueError(
                f"{callback.folder} holds an unfinished training, stopped after {earlier['epochs']} epochs: go on with "
                "it (resume), name another folder, or remove its last.safetensors"
            )
        _try_states(callbacks)
        folder.mkdir(parents=True, exist_ok=True)
        for name in os.listdir(folder):
            if _LEFT.fullmatch(name):
                with contextlib.suppress(OSError):
                    (folder / name).unlink()
        try:
            with tempfile.TemporaryFile(dir=folder):
                pass
        except OSError as error:  # whose name is that of the temporary file
            raise OSError(error.errno, error.strerror, str(folder)) from error


def _try_states(callbacks: Sequence[Any]) -> None:
    """Refuse a callback whose state a file cannot hold, now and not when the first checkpoint is due."""
    for callback in _with_state(callbacks):
        found = callback.state_dict()
        try:
            json.dumps(model_files.pack(found, "state", {}))
        except (TypeError, ValueError) as error:
            raise TypeError(f"state_dict() of {_name(callback)} cannot be saved: {error}; {_WHAT_CAN}") from error
        if not _keys_are_text(found):
            raise TypeError(f"state_dict() of {_name(callback)} has keys that are not text; {_WHAT_CAN}")


_WHAT_CAN = "use numbers, text, None, lists, dicts with text as keys, and NumPy arrays"


def _keys_are_text(value: Any) -> bool:
    if isinstance(value, dict):
        return all(isinstance(key, str) and _keys_are_text(one) for key, one in value.items())
    return not isinstance(value, list | tuple) or all(map(_keys_are_text, value))


class Resumable(Protocol):
    """A training that can go on from a checkpoint."""

    net: Network
    session: Session

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""


def pack(values: Model, state: dict[str, Any]) -> tuple[dict[str, Array], dict[str, Any]]:
    """A network and the state of its training, as the arrays and the JSON-able values of a file."""
    tensors, description = model.to_file(values)
    found = {"version": VERSION, "fastbp": __version__, **state}
    description["fit"] = model_files.pack(found, "fit", tensors)
    return tensors, description


def restore(training: Resumable, saved: Saved) -> None:
    """Put network and training where the checkpoint has them; the network only when all of it has been understood."""
    with damaged(saved.path, "cannot be resumed"):
        values = model.from_file(saved.tensors, saved.description)
        training.load_state_dict(model_files.unpack(saved.fit, saved.tensors))
        training.session.put((values.weights, values.biases, values.input_scale), values.optimizer)
    training.net.seed = values.spec.seed


def fingerprint(
    session: Session, optimizer: Any, schedule: Any, shuffle: bool, data: dict[str, Any], validation: Samples | None,
    callbacks: Sequence[Any], precision: str = FLOAT32,
) -> dict[str, Any]:  # fmt: skip
    """All that decides the bits of a training, by names that a message may show: JSON-able."""
    network = model.to_file(session.values())[1]
    rule = getattr(schedule, "__qualname__", type(schedule).__name__)
    found = {
        **{name: value for name, value in network.items() if name not in _FREE},
        "optimizer": repr(optimizer),
        "schedule": repr(schedule) if dataclasses.is_dataclass(schedule) else rule,
        "shuffle": shuffle,
        "precision": precision,
        **data,
        "validation data": None if validation is None else digest(*validation),
        "scaling": digest(*(session.scaling.arrays() if session.scaling else ())),
        "callbacks": [_describe(one) for one in _with_state(callbacks) if not isinstance(one, Checkpoint)],
    }
    again: dict[str, Any] = json.loads(json.dumps(found))  # as they come back from a file: tuples are lists
    return again


def check(saved: Saved, now: dict[str, Any]) -> None:
    """Refuse a checkpoint of another training than that of this fingerprint, by what it differs in."""
    then = saved.fit["settings"]
    with damaged(saved.path, "is a damaged checkpoint"):
        for name in [*now, *(name for name in then if name not in now)]:
            old, new = then.get(name, _BEFORE.get(name)), now.get(name, _BEFORE.get(name))
            if not (descriptions.same(old, new) if name in _TEXTS else old == new):
                shown = "differ" if "data" in name or name == "scaling" else f"were {old!r:.400}, now {new!r:.400}"
                raise ValueError(
                    f"{saved.path} is of another training: {name} {shown}; repeat its arguments and data, or start a "
                    f"new training from its weights: net = fastbp.load({str(saved.path)!r})"
                )


def callback_states(callbacks: Sequence[Any]) -> list[list[Any]]:
    """The name and the state of each callback that has one."""
    return [[_name(callback), callback.state_dict()] for callback in _with_state(callbacks)]


def load_callback_states(callbacks: Sequence[Any], states: Sequence[Any]) -> None:
    """Give back to callbacks what `callback_states` found, each to the next of its name."""
    left = [(str(name), state) for name, state in states]
    for callback in _with_state(callbacks):
        for number, (name, state) in enumerate(left):
            if name == _name(callback):
                try:
                    callback.load_state_dict(state)
                except (LookupError, TypeError, ValueError, AttributeError) as error:
                    raise ValueError(f"the state of {name} cannot be resumed: {error!r}") from error
                del left[number]
                break


def digest(*arrays: Array | None) -> str:
    """A hash of arrays by shape, dtype and values; of large ones and memory maps, by some thousand of their rows."""
    total = hashlib.blake2b(digest_size=16)
    for array in arrays:
        if array is None:
            total.update(b"none")
            continue
        total.update(f"{array.shape} {array.dtype.str}".encode())
        if isinstance(array, np.memmap) or array.nbytes > HASH_BYTES:
            array = np.asarray(array)[np.linspace(0, len(array) - 1, min(len(array), HASH_ROWS)).astype(np.int64)]
        total.update(np.ascontiguousarray(array).data)
    return total.hexdigest()


def _with_state(callbacks: Sequence[Any]) -> list[Any]:
    """Those that have something to remember, as PyTorch's parts have: state_dict and load_state_dict."""
    return [one for one in callbacks if hasattr(one, "state_dict") and hasattr(one, "load_state_dict")]


def _name(callback: Any) -> str:
    return type(callback).__name__


def _describe(callback: Any) -> str:
    """Class and arguments of a callback."""
    if not dataclasses.is_dataclass(callback):
        return _name(callback)
    values = ", ".join(f"{name}={getattr(callback, name)!r}" for name in shown_fields(callback))
    return f"{_name(callback)}({values})"
