"""The native engine of sweeps: which runs to train when, by `engine.many`, and their results in the ledger."""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np

from fastbp import arrays, schedules
from fastbp.data import sample_weights
from fastbp.engine import team, tuning
from fastbp.engine.engine import Engine
from fastbp.engine.many import Blocks, ManyRuns, Wave
from fastbp.engine.placement import Placement
from fastbp.engine.precisions import FLOAT32
from fastbp.kernels import records
from fastbp.kernels import sweep as kernel
from fastbp.many.endings import Endings
from fastbp.many.ledger import DIVERGED, ENDED, FINISHED, OPEN, OVERFLOWED, STOPPED, Ledger, limit
from fastbp.many.run_spec import RunSpec, fresh
from fastbp.network import MLP
from fastbp.numerics import quiet
from fastbp.spec import Samples
from fastbp.training.feeds import ArrayFeed
from fastbp.training.loop import Loop
from fastbp.training.rate_table import RateTable
from fastbp.training.settings import FitSettings
from fastbp.types import Array

# Memory for the losses of rows, and for the weights of runs that are continued later.
BUDGET_BYTES = 1 << 29

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
    resumable : bool
        Runs are continued later: keep their weights, if there is room; without room they are trained anew.
    report : callable
        Called with the numbers of runs that have finished, from any thread, one at a time.
    """

    def __init__(self, spec: RunSpec, ledger: Ledger, threads: int, *, resumable: bool, report: Report) -> None:
        self.spec, self.ledger, self.report = spec, ledger, report
        self.threads = max(1, min(threads, len(ledger)))
        seeds, self.seed_of = np.unique(ledger.seeds, return_inverse=True)
        self.seeds = [int(seed) for seed in seeds]
        self.nets = [fresh(spec.net, seed) for seed in self.seeds]
        self.layout = self.nets[0].session.layout
        self.lock, self.stopped = threading.Lock(), False
        # Seconds of a tick, of the call that shows the least: what calls take beside their runs adds to the others.
        self.busy, self.tick_seconds = np.zeros(self.threads), np.inf
        rows, held_out = zip(*(spec.rows(seed) for seed in self.seeds), strict=True)
        self.rows, self.held_out = rows, held_out
        self.held_out_data = spec.held_out or (spec.X, spec.y, spec.weights)
        self._weigh()
        self.endings = Endings(spec.callbacks, self.nets[0]) if spec.callbacks else None
        scored = self.endings is not None and self.endings.watches_score
        self.n_out = self.nets[0].sizes[-1] if scored or spec.metric.function is not None else 0
        self.n_held_out = len(self.held_out_data[0]) if held_out[0] is None else len(held_out[0])
        resumable = resumable or self.endings is not None or schedules.plateau_of(spec.schedule) is not None
        self.blocks = self._make_blocks(BUDGET_BYTES if resumable else 0)
        self._start_losses()
        self._bind()
        self.step_seconds = self.loops[0].step_flops / tuning.THREAD_FLOPS + 1e-6
        check_seconds = self.n_held_out * self.layout.flops_per_row / 3 / tuning.THREAD_FLOPS
        # If one call takes longer than a chunk, the main thread must wait apart from it, to see signals in time.
        self.detached = max(self.step_seconds, check_seconds) > tuning.CHUNK_SECONDS

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
        held_out_weights = self.held_out_data[2]
        self.weights = [self.spec.training_weights(seed) for seed in self.seeds]
        self.mean_weight, self.weights_of_held_out = [], []
        for weights, rows, held_out in zip(self.weights, self.rows, self.held_out, strict=True):
            sample_weights.check_total(weights, rows, "training rows")
            own = held_out_weights if held_out is None or held_out_weights is None else held_out_weights[held_out]
            self.weights_of_held_out.append(sample_weights.check_total(own, what="held-out rows"))
            self.mean_weight.append(
                1.0 if weights is None else float((weights if rows is None else weights[rows]).mean())
            )

    # --- memory ---------------------------------------------------------------------------------------------

    def _make_blocks(self, budget: int) -> Blocks:
        """Allocate the memory of the runs, and fill in what each of them begins with."""
        optimizer = self.spec.optimizer
        # Rprop's state begins with the rate, that of others with the same numbers for all.
        begins = [self.spec.optimizer_at(rate).initial_state for rate in self.ledger.learning_rates.tolist()]
        groups = {begin: number for number, begin in enumerate(dict.fromkeys(begins))}
        self.start_of = np.array([groups[begin] for begin in begins]) * len(self.seeds) + self.seed_of
        for net in self.nets:
            net.session.use(optimizer)
        engines = [net.session.engine for net in self.nets]
        blocks = Blocks(engines[0], len(groups) * len(engines), len(self.ledger), self.threads, budget)
        for begin, group in groups.items():
            for number, engine in enumerate(engines):
                engine.begin(begin, optimizer.state_layout)
                blocks.set_start(group * len(engines) + number, engine)
        return blocks

    def _bind(self) -> None:
        """Have each thread train and validate with an engine of its own."""
        spec = self.spec
        self.runs = ManyRuns(
            self.blocks, self.nets[0].session.engine, len(self.ledger), epochs=spec.epochs, steps=spec.steps,
            n_held_out=self.n_held_out, weighted=spec.weighted, n_out=self.n_out, precision=spec.precision,
        )  # fmt: skip
        self.loops: list[Loop] = []
        samples = Samples(spec.X, spec.y, self.weights[0], self.rows[0])
        for thread in range(self.threads):
            # A network lends its engine to a thread; its own weights stay as they began.
            net = self.nets[thread] if thread < len(self.nets) else fresh(spec.net, self.seeds[0])
            net.session.use(spec.optimizer)
            feed = ArrayFeed(samples, spec.epochs, spec.batch_size, shuffle=True)
            settings = FitSettings(
                spec.optimizer, batch_size=spec.batch_size, threads=1, precision=spec.precision
            )  # fmt: skip
            loop = Loop(net, feed, settings)
            self.loops.append(loop)
            engine = net.session.engine
            for _ in range(2):  # once more when all buffers are large enough, so that addresses stay
                self._bind_validation(net, 0, 1)
                self.runs.bind_validation(thread, engine)
                loop.prepare_steps(0, 1)
                if spec.precision != FLOAT32:
                    engine.prepare_pairs()
                self.runs.bind_training(thread, engine)
        self.rates = np.unique(self.ledger.learning_rates)
        self.tables, momenta = spec.tables(self.rates)
        self.runs.bind_momenta(momenta)

    def _bind_validation(self, net: MLP, seed: int, threads: int, outputs: Array | None = None) -> Engine:
        """Point a network's engine at the validation rows of a seed, where they lie, as `MLP.evaluate` does."""
        engine, (X, y, _) = net.session.engine, self.held_out_data
        scaling, scan = net.session.kernel_scaling(), isinstance(X, np.memmap)
        engine.bind_data(X, y, scaling, scan=scan, rows=self.held_out[seed], outputs=outputs)
        engine.prepare(self.n_held_out, threads, whole=False)
        return engine

    def _start_losses(self) -> None:
        """Validation loss of each seed's initial weights, on all threads; and the metric."""
        self.start_loss, start_metric = np.empty(len(self.seeds)), np.full(len(self.seeds), np.nan)
        outputs = np.empty((self.n_held_out, self.n_out), self.layout.dtype) if self.n_out else None
        for number, net in enumerate(self.nets):
            engine = self._bind_validation(net, number, self.threads, outputs)
            if engine.call(records.EVALUATE, Placement(self.threads)) in records.BAD:
                raise engine.bad_input("validation X" if self.spec.held_out else "X")
            self.start_loss[number] = self._mean(engine.row_losses[: self.n_held_out], number)
            if outputs is not None and self.spec.metric.function is not None:
                value = start_metric[number] = self._metric(outputs, number)
                if not np.isfinite(value):
                    raise ValueError(
                        f"metric {self.spec.metric.name} is {value} at the initial weights of seed "
                        f"{self.seeds[number]}, on the rows held out: rates cannot be compared by it"
                    )
        self.ledger.start_loss[:], self.ledger.start_metric[:] = (
            self.start_loss[self.seed_of],
            start_metric[self.seed_of],
        )

    def _mean(self, row_losses: Array, seed: int) -> float:
        """Loss of the validation rows of a seed, as `MLP.evaluate` has it; NaN where it overflows."""
        with np.errstate(over="ignore", invalid="ignore"):
            value = (
                sample_weights.mean(
                    row_losses, self.weights_of_held_out[seed], self.nets[0].session.engine.loss_columns
                )
                * self.nets[0].loss.factor
            )
        return value if np.isfinite(value) else np.nan

    def _metric(self, outputs: Array, seed: int) -> float:
        """The metric of the rows that a seed holds out."""
        y, weights = self.spec.held_out_targets(self.seeds[seed]), self.weights_of_held_out[seed]
        return self.spec.metric.of_outputs(self.nets[0], outputs, y, weights)

    def _score(self, outputs: Array, seed: int) -> float:
        """What `History.val_score` holds."""
        y, held = self.held_out_data[1], self.held_out[seed]
        link = self.nets[0].loss.link
        return link.score(outputs, y if held is None else y[held], self.weights_of_held_out[seed])

    # --- training -------------------------------------------------------------------------------------------

    def train(self, which: Array, end: int) -> bool:
        """Train the runs of these numbers to the end of epoch `end`; returns False after Ctrl-C."""
        self.end = end
        if self.endings is not None:
            self.endings.begin(which.tolist())
        if schedules.plateau_of(self.spec.schedule) is not None:
            return self._train_on_plateau(which, end)
        epoch = 0
        while self.endings is not None and which.size:
            epoch = min(end, epoch + self.endings.looks_in(which.tolist()))
            if not self._waves(which, epoch, None):
                return False
            which = which[np.isin(self.ledger.status[which], (FINISHED, OVERFLOWED)) & (epoch < end)]
        return self.endings is not None or self._waves(which, end, None)

    def _train_on_plateau(self, which: Array, end: int) -> bool:
        """Epoch by epoch: the rates of the next depend on the losses so far."""
        spec, plateau, ledger = self.spec, schedules.plateau_of(self.spec.schedule), self.ledger
        assert plateau is not None
        monitored = ledger.train_loss if plateau.monitor == "loss" else ledger.val_loss
        tables = np.empty((len(ledger), spec.epochs, spec.steps))
        begun = self.runs.epochs_kept.copy()
        for epoch in range(end):
            now = which[begun[which] <= epoch]
            for i in now:
                table = RateTable(spec.schedule, float(ledger.learning_rates[i]), spec.steps)
                table.replay(monitored[i, :epoch])
                tables[i, epoch] = table.tables(epoch, 0, spec.steps, epoch * spec.steps)[0]
            if not self._waves(now, epoch + 1, tables.reshape(len(ledger), -1)):
                return False
            which = which[(begun[which] > epoch) | np.isin(ledger.status[which], (FINISHED, OVERFLOWED))]
        return True

    def _waves(self, which: Array, end: int, tables: Array | None) -> bool:
        """Train runs in groups whose losses by row fit the memory."""
        spec, item = self.spec, self.layout.dtype.itemsize
        each = spec.epochs * (spec.steps * 8 + self.n_held_out * (1 + self.n_out) * item)
        size = max(self.threads, BUDGET_BYTES // each)
        # Small rates first: runs of large rates may end early, which balances the threads at the end.
        which = which[np.argsort(self.ledger.learning_rates[which], kind="stable")]
        return all(self._wave(which[at : at + size], end, tables) for at in range(0, len(which), size))

    def _wave(self, which: Array, end: int, tables: Array | None) -> bool:
        ledger, seed_of, rates = self.ledger, self.seed_of[which], self.ledger.learning_rates[which]
        wave = Wave(
            which, ledger.seeds[which], rates,
            self.tables if tables is None else tables, np.searchsorted(self.rates, rates) if tables is None else which,
            self.start_of[which], limit(ledger.start_loss[which]), [self.rows[seed] for seed in seed_of],
            [self.held_out[seed] for seed in seed_of], [self.weights[seed] for seed in seed_of], end,
        )  # fmt: skip
        self.runs.begin(wave, max(1, int(tuning.CHUNK_SECONDS / self.step_seconds)))
        self.before = np.where(self.runs.begun > 0, ledger.seconds[which], 0.0)
        return self._call(len(which))

    def _call(self, n: int) -> bool:
        """Train the runs of a wave on all threads; returns False after Ctrl-C."""
        with team.interruptible(self.request_stop) as interrupted:
            team.run(
                self._work, min(self.threads, n), detached=self.detached, stop=lambda word: self.request_stop()
            )  # fmt: skip
        if (row := self.runs.bad_row) is not None:
            self._raise_bad_row(row)
        return not interrupted()

    def request_stop(self) -> None:
        """Ask all threads to return."""
        self.stopped = True
        self.runs.request_stop()

    @quiet
    def _work(self, thread: int) -> None:
        """One thread: native calls of some 50 ms until no run is left."""
        while not self.stopped:
            seconds, ticks = self.runs.call(thread, tuning.CHUNK_SECONDS)
            with self.lock:
                self.busy[thread] += seconds
                if ticks:
                    self.tick_seconds = min(self.tick_seconds, seconds / ticks)
                try:
                    self._record(thread)
                except BaseException:  # a full disk under the journal
                    self.request_stop()
                    raise
            if self.runs.done(thread):
                return

    def _record(self, thread: int) -> None:
        """Write the runs that a thread has ended into the ledger."""
        runs, spec, ledger = self.runs, self.spec, self.ledger
        if runs.bad_row is not None:
            self.request_stop()
        found = runs.collect(thread)
        if not found.size:
            return
        which, ended = runs.wave.numbers[found], runs.records
        tick_seconds = self.tick_seconds if np.isfinite(self.tick_seconds) else 0.0
        rows, measured = np.full(spec.steps, spec.batch_size, np.float64), spec.metric.function is not None
        rows[-1] = spec.n_train - spec.batch_size * (spec.steps - 1)
        for at, i in zip(found.tolist(), which.tolist(), strict=True):
            one = slice(int(runs.begun[at]), int(ended["epoch"][at]))
            seed, losses = int(self.seed_of[i]), runs.losses[at, one]
            if runs.mean_weights is not None:
                losses = losses * (runs.mean_weights[at, one] / self.mean_weight[seed])
            ledger.train_loss[i, one] = (losses * rows).sum(axis=1) / spec.n_train
            ledger.epoch_seconds[i, one] = runs.epoch_ticks[at, one] * tick_seconds
            for epoch in range(one.start, one.stop):
                ledger.val_loss[i, epoch] = self._mean(runs.held_out_losses[at, epoch], seed)
                if runs.outputs is not None and measured:
                    ledger.val_metric[i, epoch] = self._metric(runs.outputs[at, epoch], seed)
            ledger.status[i], ledger.done[i] = ended["status"][at], one.stop
            if ledger.status[i] == FINISHED and np.isnan(ledger.val_loss[i, one.stop - 1]):
                ledger.status[i] = OVERFLOWED
            ledger.seconds[i] = self.before[at] + float(ended["ticks"][at]) * tick_seconds
            if self.endings is not None:
                self._ask(self.endings, i, at, seed)
        if self.endings is not None:  # others go on, after their callbacks have been asked
            which = which[(ledger.done[which] == self.end) | (ledger.status[which] >= DIVERGED)]
        self.report(which)

    def _ask(self, endings: Endings, i: int, at: int, seed: int) -> None:
        """Let the callbacks of a run decide, at place `at` of the wave, after the epochs that it has done."""
        ledger, done, outputs = self.ledger, int(self.ledger.done[i]), self.runs.outputs
        known, scores = slice(0, done), [np.nan] * int(self.runs.begun[at])
        if endings.watches_score and outputs is not None:
            scores += [self._score(outputs[at, epoch], seed) for epoch in range(len(scores), done)]
        # Of the time of a run only the whole is known: its epochs are alike.
        seconds = ledger.seconds[i] * np.arange(1, done + 1) / max(1, done)
        losses, val_losses = ledger.train_loss[i, known].tolist(), ledger.val_loss[i, known].tolist()
        stop, kept = endings.take(i, losses, val_losses, scores, seconds.tolist())
        if stop is not None:
            ledger.end(i, stop, kept)
        elif ledger.status[i] in (FINISHED, OVERFLOWED):
            ledger.kept[i] = kept
        if ledger.status[i] in (FINISHED, OVERFLOWED, ENDED):
            last = ledger.val_loss[i, max(0, (ledger.kept[i] or ledger.done[i]) - 1)]
            ended = FINISHED if stop is None else ENDED
            ledger.status[i] = OVERFLOWED if np.isnan(last) else ended

    def _raise_bad_row(self, row: int) -> None:
        """Raise the error for a row with NaN or infinity in a memory map, or with a label that has changed."""
        spec, session = self.spec, self.nets[0].session
        scaling = session.kernel_scaling()
        here = arrays.first_not_finite(spec.X[row : row + 1], self.layout.dtype, scaling) is not None
        training = spec.held_out is None or here
        (X, y), name = ((spec.X, spec.y), "X") if training else (self.held_out_data[:2], "validation X")
        session.engine.bind_data(X, y, scaling)
        raise session.engine.bad_input(name, row=row)


assert (OPEN, FINISHED, STOPPED) == (kernel.OPEN, kernel.FINISHED, kernel.HOPELESS)
