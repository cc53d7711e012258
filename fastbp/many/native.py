"""The native engine of sweeps: runs spread over threads, each run on one thread, many in one call.

Every thread has the buffers of one network, bound as `fit` binds them; the runs have their own parameters, moments and
order of rows (`fastbp.kernels.sweep`). Threads share nothing but the data and the counter of the runs taken, so each
goes back to Python when it likes: to book what has finished, and to let Ctrl-C in.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from fastbp import arrays, schedules
from fastbp.data import sample_weights
from fastbp.engine import memory, team, tuning
from fastbp.engine.engine import Engine
from fastbp.engine.memory import address
from fastbp.kernels import records
from fastbp.kernels import sweep as kernel
from fastbp.kernels.build import entry
from fastbp.kernels.records import JOB, LAYER
from fastbp.many.ledger import FINISHED, OPEN, OVERFLOWED, STOPPED, Ledger, limit
from fastbp.many.run_spec import RunSpec, fresh
from fastbp.network import MLP
from fastbp.numerics import quiet
from fastbp.training.loop import CHUNK_SECONDS, Fit
from fastbp.training.rate_table import RateTable
from fastbp.types import Array

# Memory for the losses of rows and for the weights of runs that are to be gone on with.
BUDGET_BYTES = 1 << 29
# A run may be given up when its loss has been above a limit for an epoch, and for so many steps.
LONG = 50
# Parameters, moments and transposed weights of a run begin at different places of a page, as in `plan.allocate`.
PAGE, LEAD = 4096, 11 * 64

Report = Callable[[Array], None]


class Native:
    """Trains the runs of a ledger.

    Parameters
    ----------
    spec : RunSpec
        Data and settings.
    ledger : Ledger
        Rates and seeds; filled in as runs finish.
    threads : int
        Threads that runs are spread over.
    keep : bool
        Runs will be gone on with: keep their weights, if there is room; without room they are trained anew.
    report : callable
        Called with the numbers of runs that have finished, from any thread, one at a time.
    """

    def __init__(self, spec: RunSpec, ledger: Ledger, threads: int, *, keep: bool, report: Report) -> None:
        self.spec, self.ledger, self.report = spec, ledger, report
        self.threads = max(1, min(threads, len(ledger)))
        seeds, self.seed_of = np.unique(ledger.seeds, return_inverse=True)
        self.seeds = [int(seed) for seed in seeds]
        self.nets = [fresh(spec.net, seed) for seed in self.seeds]
        for net in self.nets:
            net.session.use(spec.optimizer)
        self.plan, self.loss_columns = self.nets[0].session.layout, self.nets[0].session.engine.loss_columns
        self.lock, self.stopped = threading.Lock(), False
        self.busy, self.wall, self.ticks = np.zeros(self.threads), 0.0, 0
        self.tag = self.plan.dtype.type(1)
        self.compiled = entry(kernel.sweep, self.plan.dtype.name)
        rows, held = zip(*(spec.rows(seed) for seed in self.seeds), strict=True)
        self.rows, self.held_out = rows, held
        self.held_data = spec.held_out or (spec.X, spec.y, spec.weights)
        self._weigh()
        self.n_held = len(self.held_data[0]) if held[0] is None else len(held[0])
        self._lay_out(keep or schedules.plateau_of(spec.schedule) is not None)
        self._start_losses()
        self._bind()
        step_seconds = self.fits[0].step_flops / tuning.THREAD_FLOPS + 1e-6
        check_seconds = self.n_held * self.plan.flops_per_row / 3 / tuning.THREAD_FLOPS
        # The main thread must see signals while others compute, where it would not be back in time by itself.
        self.detached = max(step_seconds, check_seconds) > CHUNK_SECONDS
        self.workers["budget"] = max(1, int(CHUNK_SECONDS / step_seconds))

    @property
    def busy_seconds(self) -> float:
        """Time that threads have spent on runs."""
        return float(self.busy.sum())

    @property
    def n_threads(self) -> int:
        """Threads that runs are spread over."""
        return self.threads

    def _weigh(self) -> None:
        """Weights of the rows held out, and the mean weight of those trained on, by seed."""
        weights, (_, _, held_weights) = self.spec.weights, self.held_data
        self.mean_weight, self.weights_of_held = [], []
        for rows, held in zip(self.rows, self.held_out, strict=True):
            sample_weights.check_total(weights, rows, "training rows")
            own = held_weights if held is None or held_weights is None else held_weights[held]
            self.weights_of_held.append(sample_weights.check_total(own, what="held-out rows"))
            self.mean_weight.append(
                1.0 if weights is None else float((weights if rows is None else weights[rows]).mean())
            )

    # --- memory ---------------------------------------------------------------------------------------------

    def _lay_out(self, keep: bool) -> None:
        """Blocks of parameters, optimiser state and transposed weights: where seeds begin, one a thread, one a run."""
        engine = self.nets[0].session.engine
        states = engine.state()
        offsets = [0]
        for array in (engine.parameters, *states.values(), engine.transposed):
            offsets.append(offsets[-1] + -(-array.nbytes // PAGE) * PAGE + LEAD)
        *_, self.transposed, self.block_size = offsets
        places = [JOB.fields[name][1] for name in states]  # type: ignore[index]
        self.states = np.array(list(zip(places, offsets[1:-2], strict=True)), np.uint64).reshape(-1, 2)
        self.resumable = keep and len(self.ledger) * self.block_size <= BUDGET_BYTES
        self.waiting = np.zeros(len(self.ledger), np.bool_)  # runs whose own block is where the ledger says they are
        # What `kernel.hopeless` has seen of them.
        self.window = -(-max(LONG, self.spec.steps) // int(kernel.LONG))
        self.above, self.total = np.zeros(len(self.ledger), np.uint64), np.zeros(len(self.ledger))
        self.means = np.empty((len(self.ledger), self.spec.epochs * self.spec.steps // self.window))
        # Rprop's state begins with the rate, that of others with the same numbers for all.
        begins = [self.spec.optimizer_at(rate).initial_state for rate in self.ledger.rates.tolist()]
        groups = {begin: number for number, begin in enumerate(dict.fromkeys(begins))}
        self.start_of = np.array([groups[begin] for begin in begins]) * len(self.seeds) + self.seed_of
        self.starts, self.own, self.of_threads = (
            memory.allocate(n * self.block_size, np.dtype(np.uint8)).reshape(n, self.block_size)
            for n in (len(groups) * len(self.seeds), len(self.ledger) * self.resumable, self.threads)
        )
        for begin, group in groups.items():
            for number, net in enumerate(self.nets):
                net.session.engine.begin(begin, self.spec.optimizer.state_layout)
                net.session.engine.mirror()
                parts = [
                    net.session.engine.parameters,
                    *net.session.engine.state().values(),
                    net.session.engine.transposed,
                ]
                block = self.starts[group * len(self.nets) + number]
                for offset, array in zip(offsets, parts, strict=False):
                    block[offset : offset + array.nbytes] = array.view(np.uint8)

    def _bind(self) -> None:
        """A job for training and one for validation, and layers, for each thread."""
        spec = self.spec
        self.jobs = np.zeros((self.threads, 2, 1), JOB)
        self.layers = np.zeros((self.threads, len(self.plan.layers)), LAYER)
        self.workers, self.sweep = np.zeros(self.threads, kernel.WORKER), np.zeros(1, kernel.SWEEP)
        self.fits: list[Fit] = []
        self._alive: list[Any] = []  # what jobs point at and an engine forgets when it is bound anew
        for thread in range(self.threads):
            # A network lends its engine to a thread; its own weights stay as they began.
            net = self.nets[thread] if thread < len(self.nets) else fresh(spec.net, self.seeds[0])
            net.session.use(spec.optimizer)
            fit = Fit(
                net, spec.X, spec.y, self.rows[0], spec.epochs, spec.batch_size, spec.optimizer, None,
                True, 1, False, weights=spec.weights,
            )  # fmt: skip
            self.fits.append(fit)
            engine = net.session.engine
            for _ in range(2):  # the second time with all room made, in which addresses stay
                self._bind_validation(net, 0, 1)
                self.jobs[thread, kernel.VALIDATION] = engine.job
                self._alive.append(engine._keep)
                fit.aim(0, 1)
                engine.job["noisy"] = spec.net.regularization.noisy
                self.jobs[thread, kernel.TRAINING] = engine.job
                self._alive.append(engine._keep)
            assert engine.buffers is not None
            self.layers[thread] = engine.buffers.records
            self.workers[thread]["transposed"] = address(engine.transposed)
        self.workers["block"] = [address(block) for block in self.of_threads]
        first = self.nets[0].session.engine
        self.stop = first.sync[8:9]
        self.jobs["stop"] = address(first.sync) + 64
        self.claims = memory.allocate(8, np.dtype(np.int64))
        rates, self.momenta = spec.tables(np.unique(self.ledger.rates))
        self.lrs = rates
        sweep = self.sweep[0]
        sweep["jobs"], sweep["claims"], sweep["steps"] = address(self.jobs), address(self.claims), spec.steps
        sweep["n_steps"] = spec.epochs * spec.steps
        sweep["n_states"], sweep["states"] = len(self.states), address(self.states)
        sweep["transposed"], sweep["block_size"], sweep["window"] = self.transposed, self.block_size, self.window
        sweep["momenta"] = 0 if self.momenta is None else address(self.momenta)

    def _bind_validation(self, net: MLP, seed: int, threads: int) -> Engine:
        """Point a network's engine at the validation rows of a seed, where they lie, as `MLP.evaluate` does."""
        engine, (X, y, _), held = net.session.engine, self.held_data, self.held_out[seed]
        engine.bind_data(X, y, net.session.kernel_scaling(), scan=isinstance(X, np.memmap))
        engine.prepare(self.n_held, threads, whole=False)
        if held is not None:
            engine.job[0]["order"], engine.job[0]["n_samples"] = address(held), self.n_held
        return engine

    def _start_losses(self) -> None:
        """Validation loss of each seed's initial weights, on all threads."""
        self.start_loss = np.empty(len(self.seeds))
        for number, net in enumerate(self.nets):
            engine = self._bind_validation(net, number, self.threads)
            if engine.call(records.EVALUATE, self.threads) in records.BAD:
                raise engine.bad_input("validation X" if self.spec.held_out else "X")
            self.start_loss[number] = self._mean(engine.row_losses[: self.n_held], number)
        self.ledger.start_loss[:] = self.start_loss[self.seed_of]

    def _mean(self, row_losses: Array, seed: int) -> float:
        """Loss of the validation rows of a seed, as `MLP.evaluate` has it; NaN where it overflows."""
        with np.errstate(over="ignore", invalid="ignore"):
            value = sample_weights.mean(row_losses, self.weights_of_held[seed], self.loss_columns)
        return value if np.isfinite(value) else np.nan

    # --- training -------------------------------------------------------------------------------------------

    def train(self, which: Array, end: int) -> bool:
        """Carry some runs, by their numbers, to the end of epoch `end`; False if Ctrl-C came."""
        if schedules.plateau_of(self.spec.schedule) is not None:
            return self._train_on_plateau(which, end)
        return self._waves(which, end, None)

    def _train_on_plateau(self, which: Array, end: int) -> bool:
        """Epoch by epoch: the rates of the next depend on the losses so far."""
        spec, plateau, ledger = self.spec, schedules.plateau_of(self.spec.schedule), self.ledger
        assert plateau is not None
        monitored = ledger.train_loss if plateau.monitor == "loss" else ledger.val_loss
        tables = np.empty((len(ledger), spec.epochs, spec.steps))
        begun = np.where(self.waiting, ledger.done, 0)
        for epoch in range(end):
            now = which[begun[which] <= epoch]
            for i in now:
                table = RateTable(spec.schedule, float(ledger.rates[i]), spec.steps)
                table.replay(monitored[i, :epoch])
                tables[i, epoch] = table.tables(epoch, 0, spec.steps, epoch * spec.steps)[0]
            if not self._waves(now, epoch + 1, tables.reshape(len(ledger), -1)):
                return False
            which = which[(begun[which] > epoch) | np.isin(ledger.status[which], (FINISHED, OVERFLOWED))]
        return True

    def _waves(self, which: Array, end: int, tables: Array | None) -> bool:
        """Train runs in groups whose losses by row fit the memory."""
        spec, item = self.spec, self.plan.dtype.itemsize
        each = spec.epochs * (spec.steps * 8 + self.n_held * item)
        size = max(self.threads, BUDGET_BYTES // each)
        # Small rates first: runs that may end early are the better ones to end with.
        which = which[np.argsort(self.ledger.rates[which], kind="stable")]
        return all(self._wave(which[at : at + size], end, tables) for at in range(0, len(which), size))

    def _wave(self, which: Array, end: int, tables: Array | None) -> bool:
        spec, ledger, n = self.spec, self.ledger, len(which)
        self.losses = np.empty((n, spec.epochs, spec.steps))
        self.mean_weights = None if spec.weights is None else np.empty_like(self.losses)
        self.held_losses = memory.allocate(n * spec.epochs * self.n_held, self.plan.dtype)
        self.held_losses = self.held_losses.reshape(n, spec.epochs, self.n_held)
        self.epoch_ticks = np.zeros((n, spec.epochs), np.int64)
        self.runs, self.which, self.booked = np.zeros(n, kernel.RUN), which, np.zeros(n, np.bool_)
        runs, seed_of = self.runs, self.seed_of[which]
        runs["seed"], runs["lr"], runs["end"], runs["thread"] = ledger.seeds[which], ledger.rates[which], end, -1
        runs["start"] = address(self.starts) + self.start_of[which] * self.block_size
        if self.resumable:
            runs["block"] = address(self.own) + which * self.block_size
            runs["epoch"] = np.where(self.waiting[which], ledger.done[which], 0)
            for name, seen in (("above", self.above), ("total", self.total)):
                runs[name] = np.where(runs["epoch"] > 0, seen[which], 0)
        if tables is not None:
            runs["lrs"] = address(tables) + which * tables.strides[0]
        elif self.lrs is not None:
            runs["lrs"] = (
                address(self.lrs)
                + np.searchsorted(np.unique(ledger.rates), ledger.rates[which]) * (self.lrs.strides[0])
            )
        for name, rows in (("subset", self.rows), ("held_out", self.held_out)):
            runs[name] = np.array([0 if one is None else address(one) for one in rows])[seed_of]
        for name, array in (("losses", self.losses), ("held_out_losses", self.held_losses)):
            runs[name] = address(array) + np.arange(n) * array.strides[0]
        if self.mean_weights is not None:
            runs["mean_weights"] = address(self.mean_weights) + np.arange(n) * self.mean_weights.strides[0]
        runs["epoch_ticks"] = address(self.epoch_ticks) + np.arange(n) * self.epoch_ticks.strides[0]
        runs["limit"] = limit(ledger.start_loss[which])
        runs["means"] = address(self.means) + which * self.means.strides[0]
        self.begun = runs["epoch"].copy()
        self.before = np.where(self.begun > 0, ledger.seconds[which], 0.0)
        return self._call(n)

    def _call(self, n: int) -> bool:
        """Let the threads loose on the runs of a wave."""
        self.claims[0], self.sweep["n_runs"], self.workers["current"] = 0, n, -1
        started = time.perf_counter()
        with team.interruptible(self.request_stop) as interrupted:
            team.run(
                lambda thread: self._work(thread, n), min(self.threads, n), detached=self.detached,
                stop=lambda word: self.request_stop(),
            )  # fmt: skip
        self.wall += time.perf_counter() - started
        bad = np.flatnonzero(self.runs["status"] == kernel.BAD_ROW)
        if bad.size:
            self._raise_bad_row(int(self.runs["bad_row"][bad[0]]))
        return not interrupted()

    def request_stop(self) -> None:
        """Ask all threads to come back."""
        self.stopped = True
        self.stop[0] = 1

    @quiet
    def _work(self, thread: int, n: int) -> None:
        """One thread: native calls of some 50 ms until no run is left."""
        worker = self.workers[thread]
        while not self.stopped:
            started, ticks = time.perf_counter(), int(worker["ticks"])
            self.compiled(self.sweep, self.workers, self.jobs, self.layers, self.runs, thread, self.tag)
            seconds = time.perf_counter() - started
            with self.lock:
                self.busy[thread] += seconds
                self.ticks += int(worker["ticks"]) - ticks
                try:
                    self._book(thread)
                except BaseException:  # a full disk under the journal
                    self.request_stop()
                    raise
            if worker["current"] < 0 and self.claims[0] >= n:
                return
            worker["budget"] = max(1, int(CHUNK_SECONDS * max(1, int(worker["spent"])) / max(seconds, 1e-6)))

    def _book(self, thread: int) -> None:
        """Write the runs that a thread has finished into the ledger."""
        runs, spec, ledger = self.runs, self.spec, self.ledger
        found = np.flatnonzero((runs["thread"] == thread) & (runs["status"] != kernel.OPEN) & ~self.booked)
        if not found.size:
            return
        if (runs["status"][found] == kernel.BAD_ROW).any():
            self.request_stop()
            return
        self.booked[found] = True
        second = float(self.busy.sum()) / max(1, self.ticks)
        rows = np.full(spec.steps, spec.batch_size, np.float64)
        rows[-1] = spec.n_train - spec.batch_size * (spec.steps - 1)
        for at, i in zip(found.tolist(), self.which[found].tolist(), strict=True):
            one = slice(int(self.begun[at]), int(runs["epoch"][at]))
            seed, losses = int(self.seed_of[i]), self.losses[at, one]
            if self.mean_weights is not None:
                losses = losses * (self.mean_weights[at, one] / self.mean_weight[seed])
            ledger.train_loss[i, one] = (losses * rows).sum(axis=1) / spec.n_train
            ledger.epoch_seconds[i, one] = self.epoch_ticks[at, one] * second
            for epoch in range(one.start, one.stop):
                ledger.val_loss[i, epoch] = self._mean(self.held_losses[at, epoch], seed)
            ledger.status[i], ledger.done[i] = runs["status"][at], one.stop
            if ledger.status[i] == FINISHED and np.isnan(ledger.val_loss[i, one.stop - 1]):
                ledger.status[i] = OVERFLOWED
            self.above[i], self.total[i] = runs["above"][at], runs["total"][at]
            ledger.seconds[i] = self.before[at] + float(runs["ticks"][at]) * second
            self.waiting[i] = self.resumable
        self.report(self.which[found])

    def _raise_bad_row(self, row: int) -> None:
        """NaN or infinity in a memory map, or a label that has changed since it was checked."""
        spec, engine, scaling = self.spec, self.nets[0].session.engine, self.nets[0].session.kernel_scaling()
        here = arrays.first_not_finite(spec.X[row : row + 1], self.plan.dtype, scaling) is not None
        training = spec.held_out is None or here
        (X, y), name = ((spec.X, spec.y), "X") if training else (self.held_data[:2], "validation X")
        engine._keep = X, y, scaling
        engine.job[0]["bad_row"] = row
        raise engine.bad_input(name)


assert (OPEN, FINISHED, STOPPED) == (kernel.OPEN, kernel.FINISHED, kernel.HOPELESS)
