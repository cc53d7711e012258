"""A desk: where one thread trains networks of any kinds, several in a native call, in memory that they borrow from it.

A network that is trained there needs moments of its own and nothing else: activations, deltas, scratch and the copies
to go back to belong to the desk. Each network of a call has a *seat*: its job and layers, bound by its own engine.
"""

from __future__ import annotations

import time
from typing import Any, NamedTuple

import numpy as np

from fastbp.engine.engine import Engine
from fastbp.engine.layout import Layout
from fastbp.engine.memory import address, allocate
from fastbp.kernels import many as kernel
from fastbp.kernels import records
from fastbp.kernels.build import entry
from fastbp.kernels.records import JOB, LAYER
from fastbp.types import Array

# Layouts whose memory a desk keeps.
LAYOUTS = 8


class Steps(NamedTuple):
    """What a training is to do next."""

    n: int  # steps; with `rounds`, in each of them
    rounds: int  # epochs, with a validation after each; 0: none
    keep: bool  # begin by a copy to go back to
    position: int  # rows of the open epoch that are done
    epoch: int  # of the network's, from which the order of the rows follows
    t: int  # updates done
    shuffled: bool
    rates: Array | None
    momenta: Array | None


class Made(NamedTuple):
    """What a training has done in a call."""

    steps: int
    rounds: int  # validated
    kept: int | None  # steps after which the last copy was taken
    status: int  # of `records`
    validating: bool  # the status is that of a validation
    bad_row: int
    ruined: bool  # a parameter is not finite
    ticks: int


class Desk:
    """The memory of one thread for networks of a dtype.

    Parameters
    ----------
    dtype : dtype
    stop : array
        An int64 on a cache line of its own: what is written there ends all calls within a step.
    """

    def __init__(self, dtype: np.dtype[Any], stop: Array) -> None:
        self.dtype, self.stop = dtype, stop
        self._memory: dict[Layout, dict[str, Any]] = {}  # what networks of a layout borrow; the last used comes last
        self._order = allocate(0, np.dtype(np.int64))
        self._kernel: Any = entry(kernel.train_many, dtype.name)
        self._tag = dtype.type(1)
        self.busy = 0.0  # seconds within calls
        self.ticks = 0
        self.set_seats(1, 1)

    def set_seats(self, n: int, deepest: int) -> None:
        """Make room for n networks of so many layers at most; what was there is forgotten."""
        self._jobs, self._layers = np.zeros((n, 2, 1), JOB), np.zeros((n, deepest), LAYER)
        self._trainees = np.zeros(n, kernel.TRAINEE)
        self._alive: list[Any] = []  # what jobs point at

    def lend(self, engine: Engine) -> dict[str, Any]:
        """Have a network work in the desk's memory; returns its own, for `take_back`."""
        return engine.borrow(self._memory.pop(engine.layout, None))

    def take_back(self, engine: Engine, own: dict[str, Any]) -> None:
        """Have it work in its own again."""
        self._memory[engine.layout] = engine.borrow(own)
        while len(self._memory) > LAYOUTS:
            del self._memory[next(iter(self._memory))]

    def bind(self, seat: int, which: int, engine: Engine, snapshots: tuple[int, int] = (0, 1)) -> None:
        """Give a seat the job that an engine is bound to."""
        training = which == kernel.TRAINING
        mode = records.TRAIN if training else records.EVALUATE
        layers = engine.set_up(mode, 1, snapshots=snapshots)
        job, alive = engine.lend()
        self._jobs[seat, which] = job
        self._jobs["stop"][seat, which] = address(self.stop)
        if training:
            self._layers[seat, : len(layers)] = layers
        self._alive += [alive, engine.workplace()]

    def keep_at(self, engine: Engine, copies: tuple[Array, Array] | None = None) -> tuple[Array, Array]:
        """Have copies to go back to in memory of the seat's own; returns it, to be given when it comes to that."""
        if copies is None:
            n = engine.layout.n_parameters * (1 + len(engine.moments))
            copies = allocate(n, self.dtype), np.empty_like(engine.scalars)
        engine.snapshot, engine.snapshot_scalars = copies
        engine.snapshot_of = engine.moments
        self._alive.append(copies)
        return copies

    def go_back(self, engine: Engine, copies: tuple[Array, Array], counters: tuple[int, int]) -> None:
        """Have a network as it was when the last copy was taken, after so many steps and epochs."""
        own = engine.borrow(None)
        self.keep_at(engine, copies)
        engine.snapshot_counters = counters
        engine.go_back()
        engine.borrow(own)

    def order(self, n_rows: int) -> Array:
        """Room for the numbers of so many rows, which all seats share."""
        if self._order.size < n_rows:
            self._order = allocate(n_rows, np.dtype(np.int64))
        self._alive.append(self._order)
        return self._order

    def aim(self, seat: int, steps: Steps, losses: Array, weights: Array) -> None:
        """Tell a seat what to do in the next call: losses and mean weights of the steps go to these arrays."""
        job = self._jobs[seat, kernel.TRAINING]
        job["position"], job["epoch"], job["t"] = steps.position, steps.epoch, steps.t
        job["losses"], job["mean_weights"], job["steps_done"] = address(losses), address(weights), 0
        if steps.shuffled:
            job["shuffle"] = records.SHUFFLE_NOW if steps.position else records.SHUFFLE
        if steps.rates is not None:
            job["lrs"] = address(steps.rates)
            job["momenta"] = 0 if steps.momenta is None else address(steps.momenta)
        self._alive += [losses, weights, steps.rates, steps.momenta]
        self._trainees[seat] = (steps.n, steps.rounds, steps.keep, *([0] * 9))

    def aim_validation(self, seat: int, row_losses: Array, outputs: Array) -> None:
        """Have losses of rows and outputs of the validations to come written there."""
        check = self._jobs[seat, kernel.VALIDATION]
        check["row_losses"], check["outputs"] = address(row_losses), address(outputs)
        self._alive += [row_losses, outputs]

    def call(self) -> None:
        """Do what all seats are to do."""
        started = time.perf_counter()
        self._kernel(self._jobs, self._layers, self._trainees, 0, len(self._trainees), self._tag)
        self.busy += time.perf_counter() - started
        self.ticks += int(self._trainees["ticks"].sum())

    def made(self, seat: int) -> Made:
        """What a seat has done in the last call."""
        (_, _, _, made, done, kept, any_kept, status, validating, row, ticks, ruined) = self._trainees[seat].item()
        return Made(made, done, kept if any_kept else None, status, bool(validating), row, bool(ruined), ticks)

    def rest(self, seat: int) -> None:
        """A seat has nothing to do in the next call."""
        self._trainees["wanted"][seat] = 0

    @property
    def tick_seconds(self) -> float:
        """Seconds of a tick."""
        return self.busy / max(1, self.ticks)
