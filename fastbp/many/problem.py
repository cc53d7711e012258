"""What a sweep trains on, and what is known of its runs: data and recipe in one picklable description, and a ledger."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastbp import schedules
from fastbp.data import splits
from fastbp.io import documents
from fastbp.network import MLP
from fastbp.optimizers import Optimizer
from fastbp.training.rate_table import RateTable
from fastbp.types import Array

# Share of the rows that is held out where no validation data are given.
HELD_OUT = 0.2

# What became of a run; the first four by the codes of `fastbp.kernels.sweep`. From the third on it will not be gone on
# with.
STATUSES = ("open", "finished", "diverged", "stopped", "overflowed")
OPEN, FINISHED, DIVERGED, STOPPED, OVERFLOWED = range(5)
RULE = 2  # by which that is decided, for journals; the first, which they do not name, gave runs up after one bad epoch


def limit(start_loss: Array) -> Array:
    """The loss above which there is little hope for a run, far above that of its initial weights."""
    return np.asarray(start_loss + 10.0 * np.maximum(np.abs(start_loss), 1.0))


def fresh(net: MLP, seed: int) -> MLP:
    """A network as `net` was made, but for its seed: nothing that it has learnt."""
    # By the signature: an option that a network gains later is not forgotten here.
    regularization = net.regularization.as_arguments()
    names = set(inspect.signature(MLP).parameters) - {"sizes", "activation", "seed", *regularization}
    options = {name: getattr(net, name) for name in names}
    made = MLP(net.sizes, activation=list(net.activations), seed=seed, **options, **regularization)
    made.scaling = net.scaling
    return made


@dataclass(frozen=True)
class Problem:
    """All that a run depends on but its rate and seed; can be sent to another process.

    Attributes
    ----------
    net : MLP
        Never trained: a description.
    X, y : array
        Checked and in the kernels' form, targets scaled.
    weights : array or None
        Of the rows: 0 where the loss ignores the label.
    strata : array
        By which rows are held out.
    held : tuple (X, y, weights) or None
        Validation data in the same form; None: `HELD_OUT` of the rows, drawn by the seed of each run.
    """

    net: MLP
    X: Array
    y: Array
    weights: Array | None
    strata: Array
    held: tuple[Array, Array, Array | None] | None
    epochs: int
    batch_size: int
    optimizer: Optimizer
    schedule: schedules.Schedule | Callable[[int], float] | None

    def rows(self, seed: int) -> tuple[Array | None, Array | None]:
        """Numbers of the rows that a seed trains on, and of those held out; None for all."""
        if self.held is not None:
            return None, None
        if seed not in self._splits:
            stratify = self.y.ndim == 1 and self.net.loss.link.one_class
            self._splits[seed] = splits.split_rows(self.strata, HELD_OUT, seed, stratify=stratify)
        return self._splits[seed]

    @functools.cached_property
    def _splits(self) -> dict[int, tuple[Array, Array]]:
        return {}

    def __getstate__(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)

    @functools.cached_property
    def n_train(self) -> int:
        """Rows that a run trains on; as many for every seed."""
        rows = self.rows(self.net.seed)[0]
        return len(self.X) if rows is None else len(rows)

    @property
    def steps(self) -> int:
        """Steps of an epoch."""
        return -(-self.n_train // self.batch_size)

    def tables(self, rates: Array) -> tuple[Array | None, Array | None]:
        """Learning rates of all steps ``(rates, epochs * steps)``, and momenta; None where they stay as they are."""
        n = self.epochs * self.steps
        if self.schedule is None or schedules.plateau_of(self.schedule) is not None:
            return None, None
        factors, momenta = RateTable(self.schedule, 1.0, self.steps).tables(0, 0, n, 0)
        return rates[:, None] * factors, None if momenta is None else np.ascontiguousarray(momenta, np.float64)

    def with_batch(self, batch_size: int) -> Problem:
        """The same with another batch size."""
        return dataclasses.replace(self, batch_size=batch_size)

    def recipe(self, rate: float) -> Optimizer:
        """The optimiser at a rate."""
        return dataclasses.replace(self.optimizer, lr=rate)

    def largest_value(self) -> str:
        """Where the largest number among the rows that may be held out is, in words."""
        X, y, _ = self.held or (self.X, self.y, None)
        found = []
        for name, array in (("X", X), ("y", y)):
            if array.dtype.kind == "f":
                place = np.unravel_index(np.argmax(np.abs(array)), array.shape)
                found.append((abs(float(array[place])), f"{name}[{', '.join(map(str, place))}] = {array[place]:.3g}"))
        return ("validation " if self.held else "") + max(found)[1]


@dataclass
class Scaled:
    """A function of the step, times a rate: what `fit` takes in the place of a sweep's `schedule` that is callable."""

    schedule: Callable[[int], float]
    rate: float

    def __call__(self, step: int) -> float:
        return self.rate * self.schedule(step)


class Ledger:
    """What is known of P runs, each with its rate and seed.

    Attributes
    ----------
    rates, seeds : array, (P,)
    start_loss : array, (P,)
        Validation loss at the initial weights.
    train_loss, val_loss, epoch_seconds : array, (P, epochs)
        By epoch, as `History` has them; NaN where a run did not get.
    seconds : array, (P,)
        Time that a run took, validation included.
    status, done : array, (P,)
        A code of `STATUSES`, and the epochs done.
    """

    PER_RUN = ("start_loss", "seconds", "status", "done")
    PER_EPOCH = ("train_loss", "val_loss", "epoch_seconds")

    def __init__(self, rates: Iterable[float], seeds: Iterable[int], epochs: int) -> None:
        self.rates, self.seeds = np.array(list(rates), np.float64), np.array(list(seeds), np.uint64)
        n = len(self.rates)
        self.start_loss, self.seconds = np.full(n, np.nan), np.zeros(n)
        self.status, self.done = np.zeros(n, np.int64), np.zeros(n, np.int64)
        self.train_loss, self.val_loss, self.epoch_seconds = (np.full((n, epochs), np.nan) for _ in range(3))

    def __len__(self) -> int:
        return len(self.rates)

    def part(self, which: Array) -> Ledger:
        """A copy of some of the runs."""
        other = Ledger(self.rates[which], self.seeds[which].tolist(), self.val_loss.shape[1])
        for name in self.PER_RUN + self.PER_EPOCH:
            setattr(other, name, getattr(self, name)[which].copy())
        return other

    def take(self, which: Array, other: Ledger) -> None:
        """Write what another ledger knows of some runs."""
        for name in self.PER_RUN + self.PER_EPOCH:
            getattr(self, name)[which] = getattr(other, name)

    def record(self, i: int) -> dict[str, Any]:
        """One run as JSON-able values: numbers that are not finite become None."""
        done = self.done[i]
        found: dict[str, Any] = documents.plain({
            "lr": float(self.rates[i]),
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
    """Does what became of a run in a journal hold by the present rule?"""
    return record.get("rule") == RULE or record["status"] in STATUSES[:DIVERGED]


def outcomes(ledger: Ledger, status: Array) -> Array:
    """The codes of what became of runs, judged by the end: an overflow after a hopeless training is the rate's."""
    last = np.take_along_axis(ledger.train_loss, np.maximum(ledger.done - 1, 0)[:, None], axis=1)[:, 0]
    return np.where((status == OVERFLOWED) & (last > limit(ledger.start_loss)), DIVERGED, status)


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)
