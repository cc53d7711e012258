"""The callback that writes a training to disk, such that it can go on from there to the same bits."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fastbp.callbacks.base import MONITORS, EpochState, Training, Watcher, improves, monitored
from fastbp.engine.network import Network
from fastbp.io import model_files
from fastbp.io import saved_training as saving
from fastbp.io.saved_training import LAST
from fastbp.kernels.notice import tell
from fastbp.validation import (
    check_non_negative_int,
    check_positive_finite,
    check_positive_int,
    checked_by,
    one_of,
    optional,
    setting,
)

log = logging.getLogger(__name__)
BEST = "best.safetensors"


def _check_folder(name: str, folder: object) -> Path:
    if not isinstance(folder, str | os.PathLike):
        raise TypeError(f"{name} must be a path, such as 'runs/a', got {folder!r}")
    return Path(folder)


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
    place : Path
        The folder, settled when the last `fit` began.
    error : OSError or None
        Why the last attempt to write failed (a full disk). The training goes on, with a `RuntimeWarning`.

    Raises
    ------
    OSError
        When the training begins, if the folder cannot be written to.
    ValueError
        Then, if the folder holds the unfinished training of an earlier run, and `fit` was not told to resume it.

    Examples
    --------
    >>> history = net.fit(X, y, epochs=2, callbacks=[fastbp.Checkpoint("run")], resume="run")  # starts afresh
    >>> history = net.fit(X, y, epochs=5, callbacks=[fastbp.Checkpoint("run")], resume="run")  # goes on
    >>> len(history.loss)
    5
    """

    folder: str | os.PathLike[str] = field(metadata=checked_by(_check_folder))
    every_seconds: float | None = setting(60.0, optional(check_positive_finite))
    every_epochs: int | None = setting(None, optional(check_positive_int))
    best: str | None = setting(None, optional(one_of(*MONITORS)))
    keep: int = setting(0, check_non_negative_int)
    brief = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.keep and self.every_epochs is None:
            raise ValueError(f"keep={self.keep} is for the checkpoints by every_epochs: give that too")
        self.error: OSError | None = None
        self._lowest: float | None = None
        self._epochs, self._due = 0, 0.0
        self.place = Path(self.folder)
        self._kept: list[int] = []  # the checkpoints by epoch that are still there

    @property
    def needs_validation(self) -> bool:  # type: ignore[override]
        return self.best in ("val_loss", "val_score")

    @property
    def last(self) -> Path:
        """The file to resume from."""
        return Path(self.folder) / LAST

    def on_fit_begin(self, net: Network) -> None:
        self.error, self._lowest, self._epochs, self._due = None, None, 0, self._next()
        self.place, self._kept = Path(self.folder).absolute(), []

    def on_epoch_end(self, state: EpochState) -> None:
        pass  # others may still act on this epoch: `on_pause` comes when all have

    def on_pause(self, fit: Training, final: bool) -> None:
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

    def _note(self, fit: Training, epochs: int) -> bool:
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
        return math.inf if self.every_seconds is None else time.monotonic() + self.every_seconds

    def _improved(self, cost: float) -> bool:
        if self._lowest is not None and not improves(cost, self._lowest):
            return False
        self._lowest = cost
        return True

    def _write(self, fit: Training, names: Sequence[str]) -> bool:
        found = fit.checkpoint()
        if found is None:
            return False
        try:
            for name in names:
                model_files.save(self.place / name, *found)
                log.info("checkpoint written: %s", self.place / name)
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
                (self.place / _by_epoch(self._kept.pop(0))).unlink()


def _by_epoch(epochs: int) -> str:
    return f"epoch-{epochs:06d}.safetensors"
