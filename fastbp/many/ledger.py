"""The ledger of a sweep: losses, times and status of every run, by its number."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from fastbp.io import documents
from fastbp.types import Array

# What became of a run; the first four have the codes of `fastbp.kernels.sweep`. Only an open or a finished run can be
# trained on.
STATUSES = ("open", "finished", "diverged", "stopped", "overflowed")
OPEN, FINISHED, DIVERGED, STOPPED, OVERFLOWED = range(5)
RULE = 2  # version of that decision, written to journals; version 1, which they do not name, gave up after one epoch


def limit(start_loss: Array) -> Array:
    """The loss above which a run is unlikely to recover: far above that of its initial weights."""
    return np.asarray(start_loss + 10.0 * np.maximum(np.abs(start_loss), 1.0))


class Ledger:
    """What is known of P runs, each with its rate and seed.

    Attributes
    ----------
    learning_rates, seeds : array, (P,)
    start_loss : array, (P,)
        Validation loss at the initial weights.
    train_loss, val_loss, epoch_seconds : array, (P, epochs)
        By epoch, as in `History`; NaN for epochs that a run did not reach.
    seconds : array, (P,)
        Time that a run took, validation included.
    status, done : array, (P,)
        A code of `STATUSES`, and the epochs done.
    """

    PER_RUN = ("start_loss", "seconds", "status", "done")
    PER_EPOCH = ("train_loss", "val_loss", "epoch_seconds")

    def __init__(self, learning_rates: Iterable[float], seeds: Iterable[int], epochs: int) -> None:
        self.learning_rates, self.seeds = np.array(list(learning_rates), np.float64), np.array(list(seeds), np.uint64)
        n = len(self.learning_rates)
        self.start_loss, self.seconds = np.full(n, np.nan), np.zeros(n)
        self.status, self.done = np.zeros(n, np.int64), np.zeros(n, np.int64)
        self.train_loss, self.val_loss, self.epoch_seconds = (np.full((n, epochs), np.nan) for _ in range(3))

    def __len__(self) -> int:
        return len(self.learning_rates)

    def start_of_seeds(self, n_seeds: int) -> Array:
        """`start_loss` of each seed, ``(S,)``, from the first run of it that is known; runs are ordered by rate."""
        losses = self.start_loss.reshape(-1, n_seeds)
        first = np.isfinite(losses).argmax(axis=0)
        return np.asarray(losses[first, np.arange(n_seeds)])

    def part(self, which: Array) -> Ledger:
        """A copy of some of the runs."""
        other = Ledger(self.learning_rates[which], self.seeds[which].tolist(), self.val_loss.shape[1])
        for name in self.PER_RUN + self.PER_EPOCH:
            setattr(other, name, getattr(self, name)[which].copy())
        return other

    def take(self, which: Array, other: Ledger) -> None:
        """Copy some runs from another ledger, in its order."""
        for name in self.PER_RUN + self.PER_EPOCH:
            getattr(self, name)[which] = getattr(other, name)

    def record(self, i: int) -> dict[str, Any]:
        """One run as JSON-able values: numbers that are not finite become None."""
        done = self.done[i]
        found: dict[str, Any] = documents.plain({
            "lr": float(self.learning_rates[i]),
            "seed": int(self.seeds[i]),
            "status": STATUSES[self.status[i]],
            "epochs": int(done),
            "seconds": float(self.seconds[i]),
            "rule": RULE,
            "start_loss": float(self.start_loss[i]),
            **{name: getattr(self, name)[i, :done].tolist() for name in self.PER_EPOCH},
        })  # fmt: skip
        return found

    def read(self, i: int, record: dict[str, Any]) -> None:
        """Take one run from what `record` made."""
        done = int(record["epochs"])
        self.status[i], self.done[i] = STATUSES.index(record["status"]), done
        self.seconds[i], self.start_loss[i] = float(record["seconds"]), _number(record["start_loss"])
        for name in self.PER_EPOCH:
            values = [_number(value) for value in record[name]]
            if len(values) != done:
                raise ValueError(f"{name} has {len(values)} values for {done} epochs")
            getattr(self, name)[i, :done] = values


def judged(record: dict[str, Any]) -> bool:
    """Is the status of a run in a journal still valid by the present rule?"""
    return record.get("rule") == RULE or record["status"] in STATUSES[:DIVERGED]


def outcomes(ledger: Ledger, status: Array) -> Array:
    """Final status codes: a run whose held-out loss overflowed after a training loss above `limit` has diverged."""
    last = np.take_along_axis(ledger.train_loss, np.maximum(ledger.done - 1, 0)[:, None], axis=1)[:, 0]
    return np.where((status == OVERFLOWED) & (last > limit(ledger.start_loss)), DIVERGED, status)


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)
