"""Trainings of many networks of one layout in one native call: each on one thread, with the buffers of its engine.

Every thread has an engine, bound as for a training of its own; the runs have their own parameters, moments and order of
rows (`fastbp.kernels.sweep`). Threads share nothing but the data and the counter of the runs taken, so each may come
back to Python when it likes.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from fastbp.engine.engine import Engine
from fastbp.engine.memory import address, allocate
from fastbp.engine.precisions import FLOAT32, kernel_dtype
from fastbp.kernels import sweep as kernel
from fastbp.kernels.build import entry
from fastbp.kernels.records import JOB, LAYER
from fastbp.types import Array

# A run may be given up when its loss has been above a limit for an epoch, and for so many steps.
LONG = 50
# Parameters, moments and transposed weights of a run begin at different places of a page, as in `memory.allocate_all`.
PAGE, LEAD = 4096, 11 * 64


class Wave(NamedTuple):
    """Runs to be trained together, an entry each."""

    numbers: Array  # among all runs
    seeds: Array
    learning_rates: Array
    tables: Array | None  # (any, epochs * steps) learning rates of all steps, which take the place of these
    table_of: Array  # the row of `tables`
    starts: Array  # numbers of the blocks to begin with
    limits: Array  # loss above which there is little hope
    subsets: Sequence[Array | None]  # numbers of the rows to train on; None: all
    held_out: Sequence[Array | None]  # numbers of the rows to be validated on; None: all
    weights: Sequence[Array | None]  # of all rows, in training; None: all count the same
    end: int  # epoch at which the runs are handed back, one number for all


class Blocks:
    """Memory of runs: parameters, optimiser state and transposed weights, one block each.

    Attributes
    ----------
    starts : array, (n_starts, size)
        What runs begin with.
    own : array, (n_runs, size)
        Where runs are kept from one call to a later one; without room they have none.
    of_threads : array, (threads, size)
        Where the others live.
    """

    def __init__(self, engine: Engine, n_starts: int, n_runs: int, threads: int, budget: int) -> None:
        """engine: one whose moments have been made; budget: bytes at most that `own` may take."""
        states = engine.state()
        self.offsets = [0]
        for array in (engine.parameters, *states.values(), engine.transposed):
            self.offsets.append(self.offsets[-1] + -(-array.nbytes // PAGE) * PAGE + LEAD)
        *_, self.transposed, self.size = self.offsets
        # Bytes into a job where the address of a state belongs; bytes into the block where the state lies.
        places = [JOB.fields[name][1] for name in states]  # type: ignore[index]
        self.states = np.array(list(zip(places, self.offsets[1:-2], strict=True)), np.uint64).reshape(-1, 2)
        self.resumable = n_runs * self.size <= budget
        self.starts, self.own, self.of_threads = (
            allocate(n * self.size, np.dtype(np.uint8)).reshape(n, self.size)
            for n in (n_starts, n_runs * self.resumable, threads)
        )

    def set_start(self, number: int, engine: Engine) -> None:
        """Have runs begin with what an engine holds."""
        engine.mirror()
        parts = [engine.parameters, *engine.state().values(), engine.transposed]
        for offset, array in zip(self.offsets, parts, strict=False):
            self.starts[number, offset : offset + array.nbytes] = array.view(np.uint8)


class ManyRuns:
    """Runs spread over threads.

    Parameters
    ----------
    blocks : Blocks
    engine : Engine
        Any of the threads'.
    epochs, steps : int
        Of a run, and of an epoch.
    n_held_out : int
        Rows that a run is validated on.
    weighted : bool
        Rows have weights.
    n_out : int
        Outputs of a row held out that are kept: all of the network, or 0.
    precision : str
        Of the operands of products in training; validation is in the network's dtype.

    Attributes
    ----------
    records : array of RUN, (n,)
        What has become of the runs of the wave; see `fastbp.kernels.sweep`.
    losses, mean_weights : array, (n, epochs, steps)
        J of every step, and the mean weight of its rows; None without weights.
    held_out_losses : array, (n, epochs, n_held_out)
        Of the rows held out, after every epoch.
    outputs : array, (n, epochs, n_held_out, n_out)
        What the network made of them; None where none are kept.
    epoch_ticks : array, (n, epochs)
        Training time.
    epochs_kept : array, (n_runs,)
        Epochs that a run's own block has had: where it goes on.
    """

    def __init__(
        self, blocks: Blocks, engine: Engine, n_runs: int, *, epochs: int, steps: int, n_held_out: int, weighted: bool,
        n_out: int = 0, precision: str = FLOAT32,
    ) -> None:  # fmt: skip
        threads, self.blocks, self.layout = len(blocks.of_threads), blocks, engine.layout
        self.epochs, self.steps, self.n_held_out, self.weighted, self.n_out = epochs, steps, n_held_out, weighted, n_out
        self.epochs_kept = np.zeros(n_runs, np.int64)
        # What `kernel.hopeless` has counted of them.
        window = -(-max(LONG, steps) // int(kernel.LONG))
        self.above, self.total = np.zeros(n_runs, np.uint64), np.zeros(n_runs)
        self.means = np.empty((n_runs, epochs * steps // window))
        self.jobs = np.zeros((threads, 2, 1), JOB)
        self.layers = np.zeros((threads, len(self.layout.layers)), LAYER)
        self.workers, self.sweep = np.zeros(threads, kernel.WORKER), np.zeros(1, kernel.SWEEP)
        self.workers["block"] = [address(block) for block in blocks.of_threads]
        self.claims, self.stop = (allocate(8, np.dtype(np.int64)) for _ in range(2))
        self._kernel: Any = entry(kernel.sweep, kernel_dtype(precision, self.layout.dtype.name))
        self._tag = self.layout.dtype.type(1)
        self._alive: list[Any] = []  # what jobs point at, and an engine forgets when it is bound anew
        sweep = self.sweep[0]
        sweep["jobs"], sweep["claims"], sweep["steps"] = address(self.jobs), address(self.claims), steps
        sweep["n_steps"], sweep["window"] = epochs * steps, window
        sweep["n_states"], sweep["states"] = len(blocks.states), address(blocks.states)
        sweep["transposed"], sweep["block_size"] = blocks.transposed, blocks.size

    # --- what the threads work on ---------------------------------------------------------------------------

    def bind_validation(self, thread: int, engine: Engine) -> None:
        """Have a thread validate as its engine is bound to now."""
        self._bind(thread, kernel.VALIDATION, engine)

    def bind_training(self, thread: int, engine: Engine) -> None:
        """Have a thread train as its engine is bound to now; the last of its bindings."""
        self._bind(thread, kernel.TRAINING, engine)
        self.jobs[thread, kernel.TRAINING]["noisy"] = self.layout.regularization.noisy
        assert engine.buffers is not None
        self.layers[thread] = engine.buffers.records
        self.workers[thread]["transposed"] = address(engine.transposed)

    def _bind(self, thread: int, which: int, engine: Engine) -> None:
        job, alive = engine.lend()
        self.jobs[thread, which] = job
        self.jobs[thread, which]["stop"] = address(self.stop)
        self._alive += [alive, engine]

    def bind_momenta(self, momenta: Array | None) -> None:
        """Momenta of all steps of every run, or None: those of the optimiser."""
        self._momenta = momenta
        self.sweep[0]["momenta"] = 0 if momenta is None else address(momenta)

    # --- runs -----------------------------------------------------------------------------------------------

    def begin(self, wave: Wave, budget: int) -> None:
        """Make ready for some runs; budget: steps of the first call."""
        n, own = len(wave.numbers), self.blocks.own
        self.wave, self.collected = wave, np.zeros(n, np.bool_)
        self.losses = np.empty((n, self.epochs, self.steps))
        self.mean_weights = np.empty_like(self.losses) if self.weighted else None
        room = allocate(n * self.epochs * self.n_held_out, self.layout.dtype)
        self.held_out_losses = room.reshape(n, self.epochs, self.n_held_out)
        shape = n, self.epochs, self.n_held_out, self.n_out
        self.outputs = np.empty(shape, self.layout.dtype) if self.n_out else None
        self.epoch_ticks = np.zeros((n, self.epochs), np.int64)
        self.records = runs = np.zeros(n, kernel.RUN)
        runs["seed"], runs["lr"], runs["end"], runs["thread"] = wave.seeds, wave.learning_rates, wave.end, -1
        runs["limit"], runs["epoch"] = wave.limits, self.epochs_kept[wave.numbers]
        runs["start"] = _rows(self.blocks.starts, wave.starts)
        runs["means"] = _rows(self.means, wave.numbers)
        if self.blocks.resumable:
            runs["block"] = _rows(own, wave.numbers)
        for name, counted in (("above", self.above), ("total", self.total)):
            runs[name] = np.where(runs["epoch"] > 0, counted[wave.numbers], 0)
        if wave.tables is not None:
            runs["lrs"] = _rows(wave.tables, wave.table_of)
        for name, given in (("subset", wave.subsets), ("held_out", wave.held_out), ("weights", wave.weights)):
            runs[name] = [0 if one is None else address(one) for one in given]
        each = np.arange(n)
        runs["losses"], runs["held_out_losses"] = _rows(self.losses, each), _rows(self.held_out_losses, each)
        runs["epoch_ticks"] = _rows(self.epoch_ticks, each)
        if self.outputs is not None:
            runs["outputs"] = _rows(self.outputs, each)
        if self.mean_weights is not None:
            runs["mean_weights"] = _rows(self.mean_weights, each)
        self.begun = runs["epoch"].astype(np.int64)
        self.workers["budget"] = np.where(self.workers["budget"] == 0, budget, self.workers["budget"])
        self.claims[0], self.sweep["n_runs"], self.workers["current"] = 0, n, -1

    def request_stop(self) -> None:
        """Ask all threads to come back."""
        self.stop[0] = 1

    def call(self, thread: int, seconds: float) -> tuple[float, int]:
        """Train on one thread for about so many seconds; returns the seconds and the ticks that it took."""
        worker = self.workers[thread]
        started, ticks = time.perf_counter(), int(worker["ticks"])
        self._kernel(self.sweep, self.workers, self.jobs, self.layers, self.records, thread, self._tag)
        took = time.perf_counter() - started
        worker["budget"] = max(1, int(seconds * max(1, int(worker["spent"])) / max(took, 1e-6)))
        return took, int(worker["ticks"]) - ticks

    def done(self, thread: int) -> bool:
        """Has a thread no run in hand, and is none left to take?"""
        return bool(self.workers[thread]["current"] < 0 and self.claims[0] >= len(self.records))

    def collect(self, thread: int) -> Array:
        """Places in the wave of the runs that a thread has ended since the last time."""
        runs, numbers = self.records, self.wave.numbers
        ended = (runs["thread"] == thread) & (runs["status"] != kernel.OPEN) & (runs["status"] != kernel.BAD_ROW)
        found = np.flatnonzero(ended & ~self.collected)
        self.collected[found] = True
        which = numbers[found]
        self.above[which], self.total[which] = runs["above"][found], runs["total"][found]
        if self.blocks.resumable:
            self.epochs_kept[which] = runs["epoch"][found]
        return found

    @property
    def bad_row(self) -> int | None:
        """A row with NaN or infinity, or with a label that has changed, that a run has met."""
        bad = np.flatnonzero(self.records["status"] == kernel.BAD_ROW)
        return int(self.records["bad_row"][bad[0]]) if bad.size else None


def _rows(array: Array, which: Array) -> Array:
    """Where the rows of these numbers begin."""
    return np.asarray(address(array) + which * array.strides[0])
