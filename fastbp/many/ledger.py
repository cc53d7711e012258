"""The ledger of a sweep: losses, times and status of every run, by its number."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from fastbp.io import documents
from fastbp.many.metrics import LOSS, Metric
from fastbp.types import Array

# What became of a run; the first four have the codes of `fastbp.kernels.sweep`. Only an open or a finished run can be
# trained on; one that a callback has ended has finished, too, but not all epochs.
STATUSES = ("open", "finished", "diverged", "stopped", "overflowed", "ended")
OPEN, FINISHED, DIVERGED, STOPPED, OVERFLOWED, ENDED = range(6)
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
    kept : array, (P,)
        The epoch, from 1, whose weights the run ends with, if a callback goes back to it; 0: the last.
    start_metric, val_metric : array, (P,) and (P, epochs)
        The same of the metric; where that is the loss, NaN.
    """

    PER_RUN = ("start_loss", "seconds", "status", "done", "kept", "start_metric")
    PER_EPOCH = ("train_loss", "val_loss", "epoch_seconds", "val_metric")

    def __init__(
        self, learning_rates: Iterable[float], seeds: Iterable[int], epochs: int, metric: Metric = LOSS
    ) -> None:
        self.metric = metric
        self.learning_rates, self.seeds = np.array(list(learning_rates), np.float64), np.array(list(seeds), np.uint64)
        n = len(self.learning_rates)
        self.start_loss, self.start_metric, self.seconds = np.full(n, np.nan), np.full(n, np.nan), np.zeros(n)
        self.status, self.done, self.kept = (np.zeros(n, np.int64) for _ in range(3))
        self.train_loss, self.val_loss, self.epoch_seconds, self.val_metric = (
            np.full((n, epochs), np.nan) for _ in range(4)
        )

    def __len__(self) -> int:
        return len(self.learning_rates)

    @property
    def recorded(self) -> tuple[str, ...]:
        """What there is by epoch."""
        return self.PER_EPOCH if self.metric.function is not None else self.PER_EPOCH[:-1]

    @property
    def cost(self) -> Array:
        """What rates are compared by after every epoch, small where it is good, ``(P, epochs)``."""
        return self.val_loss if self.metric.function is None else self.metric.cost(self.val_metric)

    @property
    def start_cost(self) -> Array:
        """The same of the initial weights, ``(P,)``."""
        return self.start_loss if self.metric.function is None else self.metric.cost(self.start_metric)

    def end(self, i: int, done: int, kept: int) -> None:
        """A callback has ended a run after so many epochs; what it has done beyond is forgotten."""
        self.status[i], self.done[i], self.kept[i] = ENDED, done, kept
        for name in self.PER_EPOCH:
            getattr(self, name)[i, done:] = np.nan

    @staticmethod
    def of_seeds(values: Array, n_seeds: int) -> Array:
        """Of ``(P,)`` that the seed decides, those of each, ``(S,)``, where one is known; runs are ordered by rate."""
        by_rate = values.reshape(-1, n_seeds)
        first = np.isfinite(by_rate).argmax(axis=0)
        return np.asarray(by_rate[first, np.arange(n_seeds)])

    def part(self, which: Array) -> Ledger:
        """A copy of some of the runs."""
        other = Ledger(self.learning_rates[which], self.seeds[which].tolist(), self.val_loss.shape[1], self.metric)
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
            **{name: getattr(self, name)[i, :done].tolist() for name in self.recorded},
            # Records of runs that have nothing of it are as they always were.
            **({} if self.metric.function is None else {"start_metric": float(self.start_metric[i])}),
            **({} if self.kept[i] == 0 else {"kept": int(self.kept[i])}),
        })  # fmt: skip
        return found

    def read(self, i: int, record: dict[str, Any]) -> None:
        """Take one run from what `record` made."""
        done = int(record["epochs"])
        self.status[i], self.done[i] = STATUSES.index(record["status"]), done
        self.seconds[i], self.start_loss[i] = float(record["seconds"]), _number(record["start_loss"])
        self.kept[i] = int(record.get("kept", 0))
        if self.metric.function is not None:
            self.start_metric[i] = _number(record["start_metric"])
        for name in self.recorded:
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
