"""Checkpoints: a training on disk, from which it goes on to the same bits; and the callback that writes them.

A checkpoint is a model file (`fastbp.serialization`) with one more entry in its description, ``fit``: where the
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
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fastbp import descriptions, serialization
from fastbp import saved as saving
from fastbp._version import __version__
from fastbp.files import damaged, is_special
from fastbp.kernels.notice import tell
from fastbp.saved import LAST, VERSION, Saved
from fastbp.validation import check_choice, check_non_negative_int, check_positive_finite, check_positive_int, settle
from fastbp.watching import MONITORS, EpochState, Watcher, improves, monitored

if TYPE_CHECKING:
    from fastbp.network import MLP
    from fastbp.training import Fit

Array = npt.NDArray[Any]

BEST = "best.safetensors"
# What a process that was killed while it wrote has left, by the names that `files.replacing` gives.
_LEFT = re.compile(r"\.(last|best|epoch-\d{6,})\.safetensors\.[0-9a-f]{8}\.tmp")
# Arrays up to this size are hashed whole, at about 1 GB/s; of larger ones, and of memory maps, so many rows.
HASH_BYTES, HASH_ROWS = 1 << 26, 4096
# Of the description of a network: what a training changes, and what it does not look at.
_FREE = ("seed", "class_labels", "optimizer", "format", "version", "fit")
_TEXTS = ("optimizer", "schedule", "callbacks")  # of the settings: the `repr` of descriptions


@dataclass
class Checkpoint(Watcher):
    """Write the training to a folder now and then, so that ``fit(..., resume=folder)`` can go on from there.

    ``last.safetensors`` is replaced each time, whole or not at all, whatever happens meanwhile; it is also written when
    the training ends or is interrupted by Ctrl-C. Every file is a model that `fastbp.load` reads, too.

    Parameters
    ----------
    folder : path-like
        Made if it is missing; of a relative one, the place is settled when `fit` begins. One training at a time uses
        it. Other files in it are left alone.
    every_seconds : float or None
        Seconds from one checkpoint to the next; between any two steps, also within an epoch.
    every_epochs : int, optional
        One after so many epochs, too.
    best : {"val_loss", "loss", "val_score"}, optional
        Write ``best.safetensors`` at the end of every epoch that is the best so far.
    keep : int
        So many of the checkpoints by `every_epochs` are kept under their own names, ``epoch-000010.safetensors``.

    Attributes
    ----------
    error : OSError or None
        Why the last attempt to write failed (a full disk). The training goes on, with a `RuntimeWarning`.

    Raises
    ------
    OSError
        When the training begins, if the folder cannot be written to.
    ValueError
        Then, if the folder holds the unfinished training of an earlier run, and `fit` was not told to resume it.
    """

    folder: str | os.PathLike[str]
    every_seconds: float | None = 60.0
    every_epochs: int | None = None
    best: str | None = None
    keep: int = 0
    brief = True

    def __post_init__(self) -> None:
        if not isinstance(self.folder, str | os.PathLike):
            raise TypeError(f"folder must be a path, such as 'runs/a', got {self.folder!r}")
        settle(self, check_positive_finite, "every_seconds", optional=True)
        settle(self, check_positive_int, "every_epochs", optional=True)
        if self.best is not None:
            self.best = check_choice("best", self.best, MONITORS)
        settle(self, check_non_negative_int, "keep")
        if self.keep and self.every_epochs is None:
            raise ValueError(f"keep={self.keep} is for the checkpoints by every_epochs: give that too")
        self.folder = Path(self.folder)
        self.error: OSError | None = None
        self._lowest: float | None = None
        self._epochs, self._due = 0, 0.0
        self._place = Path(self.folder)
        self._kept: list[int] = []  # the checkpoints by epoch that are still there

    @property
    def needs_validation(self) -> bool:  # type: ignore[override]
        return self.best in ("val_loss", "val_score")

    @property
    def last(self) -> Path:
        """The file to resume from."""
        return Path(self.folder) / LAST

    def on_fit_begin(self, net: MLP) -> None:
        self.error, self._lowest, self._epochs, self._due = None, None, 0, self._next()
        self._place, self._kept = Path(self.folder).absolute(), []

    def on_epoch_end(self, state: EpochState) -> None:
        pass  # others may still act on this epoch: `on_pause` comes when all have

    def on_pause(self, fit: Fit, final: bool) -> None:
        epochs, due = len(fit.history.loss), final or time.monotonic() >= self._due
        if epochs > self._epochs and fit.between_epochs:
            lowest, kept = self._lowest, self._kept
            try:
                due &= not self._note(fit, epochs)
                self._epochs = epochs
            except BaseException:  # of Ctrl-C: what was not written is written by the last call, which comes then
                self._lowest, self._kept = lowest, kept
                raise
        if due:
            self._write(fit, [LAST])

    def _note(self, fit: Fit, epochs: int) -> bool:
        """Write what the end of an epoch asks for; True if that was the file to resume from, too."""
        if self.best is not None and self._improved(monitored(fit.history, self.best)):
            self._write(fit, [BEST])
        if self.every_epochs is None or epochs % self.every_epochs:
            return False
        before = self._kept
        self._kept = [one for one in before if one != epochs] + [epochs] * bool(self.keep)
        if self._write(fit, [_by_epoch(epochs)] * bool(self.keep) + [LAST]):
            self._forget()
        else:
            self._kept = before
        return True

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint has to keep."""
        return {"best": self.best, "lowest": self._lowest, "epochs": self._epochs, "kept": self._kept}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        if state["best"] == self.best and state["lowest"] is not None:
            self._lowest = saving.number("lowest", state["lowest"], finite=False)
        self._epochs = saving.count("epochs", state["epochs"])
        self._kept = [saving.count("kept", epochs) for epochs in state.get("kept", [])]  # earlier files had none

    def _next(self) -> float:
        return np.inf if self.every_seconds is None else time.monotonic() + self.every_seconds

    def _improved(self, cost: float) -> bool:
        if self._lowest is not None and not improves(cost, self._lowest):
            return False
        self._lowest = cost
        return True

    def _write(self, fit: Fit, names: Sequence[str]) -> bool:
        if not np.isfinite(fit.engine.parameters).all():
            return False  # the loss of the next step tells
        try:
            tensors, description = state(fit)
            for name in names:
                serialization.save(self._place / name, tensors, description)
            self.error = None
        except OSError as error:
            self.error = error
            tell(f"no checkpoint was written, the training goes on: {error}", RuntimeWarning, stacklevel=2)
        if LAST in names:
            self._due = self._next()
        return self.error is None

    def _forget(self) -> None:
        """Remove all but the latest of the checkpoints by epoch that this training has written."""
        while len(self._kept) > self.keep:
            with contextlib.suppress(OSError):
                (self._place / _by_epoch(self._kept.pop(0))).unlink()


def _by_epoch(epochs: int) -> str:
    return f"epoch-{epochs:06d}.safetensors"


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


def begin(fit: Fit) -> None:
    """Make sure, before a training, that its checkpoints can be written and that none of value is overwritten."""
    for callback in fit.callbacks:
        if not isinstance(callback, Checkpoint):
            continue
        folder = callback._place
        for name in (LAST, BEST):
            if is_special(folder / name):
                raise ValueError(f"{folder / name} is a device or a pipe; name another folder")
        earlier = None if fit.saved is not None else progress_of(folder)
        if earlier is not None and not earlier["finished"]:
            raise ValueError(
                f"{callback.folder} holds an unfinished training, stopped after {earlier['epochs']} epochs: go on with "
                "it (resume), name another folder, or remove its last.safetensors"
            )
        _try_states(fit)
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


def _try_states(fit: Fit) -> None:
    """Refuse a callback whose state a file cannot hold, now and not when the first checkpoint is due."""
    for callback in _with_state(fit.callbacks):
        found = callback.state_dict()
        try:
            json.dumps(serialization.pack(found, "state", {}))
        except (TypeError, ValueError) as error:
            raise TypeError(f"state_dict() of {_name(callback)} cannot be saved: {error}; {_WHAT_CAN}") from error
        if not _keys_are_text(found):
            raise TypeError(f"state_dict() of {_name(callback)} has keys that are not text; {_WHAT_CAN}")


_WHAT_CAN = "use numbers, text, None, lists, dicts with text as keys, and NumPy arrays"


def _keys_are_text(value: Any) -> bool:
    if isinstance(value, dict):
        return all(isinstance(key, str) and _keys_are_text(one) for key, one in value.items())
    return not isinstance(value, list | tuple) or all(map(_keys_are_text, value))


def state(fit: Fit) -> tuple[dict[str, Array], dict[str, Any]]:
    """The training between two steps, as arrays and JSON-able values."""
    tensors, description = serialization.model_state(fit.net)
    history, plateau = fit.history, fit.rates.plateau
    found = {
        "version": VERSION,
        "fastbp": __version__,
        "settings": settings(fit),
        "epochs": len(history.loss),
        "finished": fit.finished,
        "stop_reason": history.stop_reason,
        "position": fit.position(),
        "pending": fit.pending,
        "books": fit.books.state(),
        "history": {name: np.asarray(getattr(history, name), np.float64) for name in saving.COLUMNS},
        "plateau": None if plateau is None else plateau.state_dict(),
        "callbacks": [[_name(callback), callback.state_dict()] for callback in _with_state(fit.callbacks)],
    }
    description["fit"] = serialization.pack(found, "fit", tensors)
    return tensors, description


def settings(fit: Fit) -> dict[str, Any]:
    """All that decides the bits, by names that a message may show: JSON-able. Computed once a fit."""
    if fit.settings is None:
        net, schedule = serialization.model_state(fit.net)[1], fit.rates.schedule
        rule = getattr(schedule, "__qualname__", type(schedule).__name__)
        found = {
            **{name: value for name, value in net.items() if name not in _FREE},
            "optimizer": repr(fit.optimizer),
            "schedule": repr(schedule) if dataclasses.is_dataclass(schedule) else rule,
            "shuffle": fit.shuffle,
            **fit.fingerprints(),
            "validation data": digest(*fit.validation_data, fit.held) if fit.validation_data else None,
            "scaling": digest(*(vars(fit.net.scaling).values() if fit.net.scaling else ())),
            "callbacks": [_describe(one) for one in _with_state(fit.callbacks) if not isinstance(one, Checkpoint)],
        }
        fit.settings = json.loads(json.dumps(found))  # as they come back from a file: tuples are lists
    return fit.settings


def check(fit: Fit, saved: Saved) -> None:
    """Refuse a checkpoint of another training, by what it differs in."""
    then, now = saved.fit["settings"], settings(fit)
    with damaged(saved.path, "is a damaged checkpoint"):
        for name in [*now, *(name for name in then if name not in now)]:
            old, new = then.get(name), now.get(name)
            if not (descriptions.same(old, new) if name in _TEXTS else old == new):
                shown = "differ" if "data" in name or name == "scaling" else f"were {old!r:.400}, now {new!r:.400}"
                raise ValueError(
                    f"{saved.path} is of another training: {name} {shown}; repeat its arguments and data, or start a "
                    f"new training from its weights: net = fastbp.load({str(saved.path)!r})"
                )


def restore(fit: Fit, saved: Saved) -> None:
    """Put network and training where the checkpoint has them; the network only when all of it has been understood."""
    net = fit.net
    with damaged(saved.path, "cannot be gone on with"):
        model = serialization.model_from_state(saved.tensors, saved.description)
        found = serialization.unpack(saved.fit, saved.tensors)
        fit.go_to(found["position"])
        fit.pending = found["pending"]
        for name in saving.COLUMNS:
            getattr(fit.history, name)[:] = found["history"][name].tolist()
        fit.books.load_state(found["books"])
        fit.check_books()
        if fit.rates.plateau is not None:
            fit.rates.plateau.load_state_dict(found["plateau"])
        if found["finished"]:
            fit.history.stop_reason = found["stop_reason"]
        states = [(str(name), values) for name, values in found["callbacks"]]
        for callback in _with_state(fit.callbacks):
            for number, (name, values) in enumerate(states):
                if name == _name(callback):
                    with damaged(saved.path, f"holds a state of {name} that cannot be gone on with"):
                        callback.load_state_dict(values)
                    del states[number]
                    break
    net._put((model.weights, model.biases), model.optimizer_state())
    net.seed = model.seed


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
    values = ", ".join(f"{f.name}={getattr(callback, f.name)!r}" for f in dataclasses.fields(callback) if f.init)
    return f"{_name(callback)}({values})"
