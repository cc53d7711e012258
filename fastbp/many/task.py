"""A task: one training of many, checked; what it leaves; and the training itself, at a seat of a thread's desk."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from fastbp import schedules
from fastbp.callbacks.base import EpochState, Watcher
from fastbp.callbacks.stopping import EarlyStopping, MaxSeconds
from fastbp.data import sample_weights
from fastbp.engine import tuning
from fastbp.engine.desk import Desk, Made, Steps
from fastbp.errors import DivergenceError
from fastbp.history import History
from fastbp.kernels import many as kernel
from fastbp.kernels import records
from fastbp.network import MLP
from fastbp.spec import Samples
from fastbp.training.feeds import ArrayFeed
from fastbp.training.rate_table import RateTable
from fastbp.training.settings import FitSettings
from fastbp.types import Array

# Callbacks whose work is done between two native calls, beside those that go by the history; all others need `fit`.
KNOWN = (EarlyStopping, MaxSeconds)
# Bytes of outputs and losses of rows that a native call may leave of its validations.
WINDOW_BYTES = 1 << 20
# Bytes of the orders of rows that one may be given.
ORDERS_BYTES = 1 << 24


@dataclasses.dataclass(eq=False)
class Task:
    """One training.

    Attributes
    ----------
    number : int
        Among all, as the caller counts.
    net : MLP
        What is trained.
    samples, validation : Samples
        Checked.
    settings : FitSettings
    given : mapping
        The arguments of `MLP.fit` that stand for it, for trainings that only `fit` can do; X and y among them.
    history : History or None
        As far as it came.
    error : Exception or None
        What it has ended by: a `DivergenceError`, most of the time.
    finished : bool
        It has come to its end, whatever that was.
    orders : callable, optional
        Of the rows, as `ArrayFeed` takes them; None: the kernels shuffle.
    watchers : tuple
        The callbacks that it was trained with, which are copies of those of the settings.
    """

    number: int
    net: MLP
    samples: Samples
    validation: Samples | None
    settings: FitSettings
    given: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    feature_names: list[str] | None = None
    history: History | None = None
    error: Exception | None = None
    finished: bool = False
    after: Callable[[Task], dict[str, Any]] | None = None
    found: dict[str, Any] = dataclasses.field(default_factory=dict)
    orders: Callable[[int], Array] | None = None
    watchers: tuple[Watcher, ...] = ()

    def end(self) -> None:
        """Have done what is to be done at the end."""
        if self.finished and self.error is None and self.after is not None:
            self.found = self.after(self)

    def without_data(self) -> Task:
        """What is sent back from elsewhere."""
        nothing: Any = Samples(np.empty((0, 0)), None)
        return dataclasses.replace(self, samples=nothing, validation=None, given={}, after=None)

    def take(self, other: Task) -> None:
        """Take in what another process has made of the task."""
        values = other.net.session.values()
        self.net.session.put((values.weights, values.biases, values.input_scale), values.optimizer)
        self.history = self.net.history = other.history
        vars(self.net)["feature_names"] = other.net.feature_names
        self.error, self.finished, self.found = other.error, other.finished, other.found

    @property
    def alone(self) -> bool:
        """Only `fit` can do it: what happens after an epoch depends on code that is not known here."""
        settings = self.settings
        return (
            settings.optimizer.full_batch
            or settings.saved is not None
            or any(not is_known(one) for one in settings.callbacks)
            or schedules.plateau_of(settings.schedule) is not None
            or not (settings.schedule is None or isinstance(settings.schedule, schedules.Schedule))
        )

    @property
    def kind(self) -> tuple[Any, str]:
        """What all networks of a native call have in common: their dtype, and the precision of their products."""
        return self.net.dtype, self.settings.precision

    @property
    def timed(self) -> bool:
        """It is to end at a time of day."""
        return any(isinstance(one, MaxSeconds) for one in self.settings.callbacks)

    @property
    def seconds(self) -> float:
        """About how long it will take."""
        n, batch = self.samples.n_rows, min(self.settings.batch_size, self.samples.n_rows)
        layout, epochs = self.net.session.layout, self.settings.epochs
        epoch = n * layout.flops_per_row / tuning.THREAD_FLOPS + -(-n // batch) * 1e-6
        if self.validation is not None:
            epoch += self.validation.n_rows * layout.flops_per_row / 3 / tuning.THREAD_FLOPS + 1e-5
        return epochs * epoch


def is_known(callback: Any) -> bool:
    """Whether its work can be done between two native calls."""
    return type(callback) in KNOWN or bool(vars(type(callback)).get("by_history"))


class Trainee:
    """A task at work, at a seat of a desk. The caller holds the network's lock.

    Does what `fastbp.training.loop.Loop` does, in native calls that carry several networks.
    """

    def __init__(self, task: Task, desk: Desk, seat: int) -> None:
        self.task, self.desk, self.seat = task, desk, seat
        net, settings = task.net, task.settings
        self.net, self.session, self.engine = net, net.session, net.session.engine
        self.callbacks: tuple[Watcher, ...] = tuple(copy.copy(one) for one in settings.callbacks)
        task.watchers = self.callbacks
        self.history = task.history = History(self.session.spec.loss.score_name)
        for callback in self.callbacks:
            callback.on_fit_begin(net)
        self.session.use(settings.optimizer)
        self.feed = ArrayFeed(
            task.samples, settings.epochs, settings.batch_size, shuffle=False, drop_last=settings.drop_last
        )
        self.rates = RateTable(settings.schedule, settings.optimizer.lr, self.feed.steps)
        self.window = self._window()
        self.counters = self.engine.steps, self.engine.epochs  # of the last copy
        self.begun = self.paused = False
        self.last_orders: Array | None = None
        self._bind()

    def _window(self) -> int:
        """Validations that one call may do before somebody looks at them."""
        held = self.task.validation
        if held is None:
            return 0
        each = held.n_rows * (self.session.spec.n_out + 1) * self.session.spec.dtype.itemsize
        return 1 if self.callbacks or self.task.orders is not None else max(1, WINDOW_BYTES // each)

    def _bind(self) -> None:
        """Give the seat the jobs of the training and of its validation."""
        engine, feed, desk, held = self.engine, self.feed, self.desk, self.task.validation
        samples, settings, scaling = self.task.samples, self.task.settings, self.session.kernel_scaling()
        self.copies = desk.copies(self.seat, engine)
        key = None if held is not None or self.task.orders is not None else self._kind()
        if key is not None and desk.seat_like(key, self.seat, engine, self.copies, samples, self.net.seed):
            return
        order = desk.order(feed.n_rows) if settings.shuffle else None
        own = desk.lend(engine)
        try:
            desk.keep_at(engine, self.copies)
            for _ in range(1 if held is None else 2):  # once more when all buffers are large enough: addresses stay
                if held is not None:
                    room = np.empty((self.window, held.n_rows, self.session.spec.n_out), self.session.spec.dtype)
                    scan = isinstance(held.X, np.memmap)
                    engine.bind_data(held.X, held.y, scaling, scan=scan, rows=held.rows, outputs=room)
                    engine.prepare(held.n_rows, 1, whole=False)
                    desk.bind(self.seat, kernel.VALIDATION, engine)
                    self.outputs = room
                scan = isinstance(samples.X, np.memmap)
                engine.bind_data(samples.X, samples.y, scaling, samples.weights, scan=scan)
                engine.set_seed(self.net.seed)
                engine.bind_order(feed.n_rows, samples.rows, order, feed.n_dropped)
                engine.bind_rates(None, None)
                engine.bind_optimizer(settings.optimizer, engine.steps, settings.conventions)
                engine.prepare(feed.batch_size, 1, whole=True)
                flops = self.session.layout.flops_per_row * feed.batch_size
                long = flops > tuning.LONG_STEP_FLOPS or settings.optimizer.clips
                engine.bind_steps(1, two_pass=long)
                copies = self.session.layout.snapshots(feed.batch_size, len(engine.moments), feed.steps)
                desk.bind(self.seat, kernel.TRAINING, engine, copies)
        finally:
            desk.take_back(engine, own)
        if key is not None:
            desk.remember(key, self.seat, engine, (settings, self.session.scaling, scaling))
        if held is not None:
            self.row_losses = np.empty(self.outputs.shape[:2], self.outputs.dtype)

    def _kind(self) -> Any:
        """What is equal for trainings whose jobs differ in the addresses of their data and parameters, and their seed.

        Settings and scalings are told by their places: whoever remembers the kind keeps them.
        """
        X, y, weights, _ = self.task.samples
        return (
            self.session.layout, self.session.spec.loss, id(self.task.settings), id(self.session.scaling),
            self.feed.n_rows, X.dtype, X.strides, isinstance(X, np.memmap), y.dtype, y.ndim, weights is None,
        )  # fmt: skip

    # --- before a call --------------------------------------------------------------------------------------

    def aim(self) -> None:
        """Tell the seat what to do next."""
        feed, engine, settings = self.feed, self.engine, self.task.settings
        place, rounds = feed.done % feed.steps, 0
        if self.window:
            n, rounds = feed.steps, min(self.window, (feed.total - feed.done) // feed.steps)
        elif self.callbacks:
            n = min(self._epochs_unasked() * feed.steps - place, feed.total - feed.done)
            n = min(n, self._steps_within(tuning.CHUNK_SECONDS)) if self.task.timed else n
        else:
            n = min(feed.total - feed.done, tuning.MAX_STEPS)
        total = n * max(1, rounds)
        self.before = engine.steps, engine.epochs, place
        self.lrs, momenta = self.rates.tables(engine.epochs, place, total, engine.steps)
        table = None if self.rates.constant else self.lrs
        # Without weights, what kernels write there means nothing.
        self.losses = np.empty(total)
        self.weights = np.empty(total) if self.task.samples.weights is not None else self.losses
        steps = Steps(
            n, rounds, not self.begun, place * feed.batch_size, engine.epochs, engine.steps, settings.shuffle, table,
            None if momenta is None else np.ascontiguousarray(momenta, np.float64), self._orders(place, total),
        )  # fmt: skip
        self.desk.aim(self.seat, steps, self.losses, self.weights)
        if rounds:
            self.desk.aim_validation(self.seat, self.row_losses, self.outputs)
        self.begun = True

    def _epochs_unasked(self) -> int:
        """Epochs from here to the first at whose end a callback has to be asked."""
        most = tuning.MAX_STEPS // self.feed.steps
        if self.task.orders is not None:
            most = min(most, ORDERS_BYTES // (8 * self.feed.n_rows))
        return max(1, min(most, *(callback.looks_in() for callback in self.callbacks)))

    def _orders(self, place: int, n: int) -> Array | None:
        """Of the rows, in the epochs that begin within the next n steps; where none does, the last one is at hand."""
        if self.task.orders is None or not self.task.settings.shuffle:
            return None
        begun = -(-(place + n) // self.feed.steps) - -(-place // self.feed.steps)
        if begun:
            self.last_orders = self.task.orders(begun)
        return self.last_orders

    def _steps_within(self, seconds: float) -> int:
        flops = self.session.layout.flops_per_row * self.feed.batch_size
        return max(1, int(seconds / (flops / tuning.THREAD_FLOPS + 1e-6)))

    # --- after it -------------------------------------------------------------------------------------------

    def settle(self) -> None:
        """Take in what the last call has done; `task.finished` then tells whether it was the end."""
        made, feed, engine = self.desk.made(self.seat), self.feed, self.engine
        steps, epochs, place = self.before
        counters = engine.counters_from(steps + made.steps, epochs + (place + made.steps) // feed.steps)
        engine.set_counters(counters)
        if made.kept is not None:
            self.counters = steps + made.kept, epochs + (place + made.kept) // feed.steps
        good = made.steps - (made.status == records.DIVERGED and not made.validating)
        if good:
            losses = feed.step_losses(self.losses[:good], self.weights[:good])
            feed.log.add(self.history, losses, self.lrs[:good], made.ticks * self.desk.tick_seconds)
        feed.done += good
        for number in range(made.rounds):
            self._note_validation(number)
        if made.status in records.BAD:
            self._fail(self._bad_row(made))
        elif made.status in (records.DIVERGED, records.RUINED):
            last = max(good, 1) - 1 if made.status == records.RUINED else good
            self._diverge(epochs + (place + last) // feed.steps, made.steps)
        elif made.status == records.RUNNING and good:
            self._end_epoch(place + good)
            if self.history.stop_reason or feed.done == feed.total:
                if made.ruined:
                    self._diverge(epochs + (place + good - 1) // feed.steps, made.steps)
                else:
                    self._finish()

    def _note_validation(self, number: int) -> None:
        held, history, loss = self.task.validation, self.history, self.session.spec.loss
        assert held is not None
        columns, weights = loss.columns(self.session.spec.n_out), held.own_weights
        history.val_loss.append(sample_weights.mean(self.row_losses[number], weights, columns) * loss.factor)
        history.val_score.append(loss.link.score(self.outputs[number], held.own_targets, weights))

    def _end_epoch(self, done: int) -> None:
        """Ask the callbacks, at the end of an epoch; those that look at the clock always."""
        if done % self.feed.steps == 0:
            for callback in self.callbacks:
                answer = callback.on_epoch_end(EpochState(self.net, len(self.history.loss), self.history, _no_norm))
                if answer and (not self.history.stop_reason or (self.paused and not callback.pauses)):
                    name = type(callback).__name__
                    self.history.stop_reason = f"{name}: {answer}" if isinstance(answer, str) else name
                    self.paused = callback.pauses
        for callback in self.callbacks:
            callback.on_pause(self, False)

    def stop(self, reason: str, *, pauses: bool) -> None:
        """Make no further step: what callbacks ask for."""
        self.history.stop_reason, self.paused = reason, pauses

    @property
    def between_epochs(self) -> bool:
        """Whether no epoch is open."""
        return self.feed.between_epochs

    def checkpoint(self) -> None:
        """Nothing is kept on disk."""

    def _bad_row(self, made: Made) -> ValueError:
        held = self.task.validation
        samples, name = (held, "validation X") if made.validating and held else (self.task.samples, "X")
        scaling = self.session.kernel_scaling()
        self.engine.bind_data(samples.X, samples.y, scaling)
        return self.engine.bad_input(name, row=made.bad_row)

    def _diverge(self, epoch: int, made: int) -> None:
        """Go back to the last finite parameters, and note where it went wrong, after so many steps of the call."""
        step, rate = self.engine.steps - 1, float(self.lrs[max(0, made - 1)])
        self.desk.go_back(self.engine, self.copies, self.counters)
        error = DivergenceError(epoch, step, rate, self.history, self.session.standardizes)
        for callback in self.callbacks:
            callback.on_divergence(self.net, error)
        self._fail(error)

    def _fail(self, error: Exception) -> None:
        self.task.error = error
        self._close()

    def _finish(self) -> None:
        for callback in self.callbacks:
            callback.on_fit_end(self.net)
        vars(self.net)["feature_names"] = self.task.feature_names
        self._close()

    def _close(self) -> None:
        self.net.history, self.task.finished = self.history, True
        self.desk.rest(self.seat)

    def leave(self) -> None:
        """The work ends by Ctrl-C: the network stays as it is, with the epochs that it has finished."""
        self.net.history = self.history


def _no_norm() -> float:
    raise NotImplementedError("no callback that is known here asks for the norm of the gradient")
