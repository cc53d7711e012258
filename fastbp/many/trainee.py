"""A task at work, at a seat of a thread's desk: what `fastbp.training.loop` does, for several networks in one call."""

from __future__ import annotations

import copy
import functools
import operator
from typing import Any

import numpy as np

from fastbp import arrays
from fastbp.callbacks.base import EpochState, Watcher, monitored
from fastbp.callbacks.stopping import EarlyStopping
from fastbp.data import sample_weights
from fastbp.engine import tuning
from fastbp.engine.desk import Desk, Made, Steps
from fastbp.errors import DivergenceError
from fastbp.history import History
from fastbp.kernels import many as kernel
from fastbp.kernels import records
from fastbp.many.task import Task
from fastbp.training.feeds import ArrayFeed
from fastbp.training.rate_table import RateTable
from fastbp.types import Array

# Bytes of outputs and losses of rows that a native call may leave of its validations.
WINDOW_BYTES = 1 << 20
# Bytes of the orders of rows that one may be given.
ORDERS_BYTES = 1 << 24


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
        if self.window and self._restores():
            self.epochs_kept = np.empty((self.window, self.session.layout.n_parameters), self.session.spec.dtype)
        self.counters = self.engine.steps, self.engine.epochs  # of the last copy
        self.begun = self.paused = False
        self.epochs = 0  # whole ones, of those that are done with what comes after each
        self.last_orders: Array | None = None
        self._bind()

    def _window(self) -> int:
        """Epochs that one call may do whole, with what comes after each; 0: it need not stop at their ends."""
        held, spec, apart = self.task.validation, self.session.spec, self.task.orders is not None or self.task.timed
        if held is None and (apart or not self._restores()):
            return 0
        if apart:
            return 1
        each = 0 if held is None else held.n_rows * (spec.n_out + 1) * spec.dtype.itemsize
        each += self.session.layout.n_parameters * spec.dtype.itemsize if self._restores() else 0
        return max(1, min(self.task.settings.epochs, WINDOW_BYTES // each, tuning.MAX_STEPS // self.feed.steps))

    def _restores(self) -> bool:
        """Whether the parameters of any epoch may be wanted later."""
        return any(isinstance(one, EarlyStopping) and one.restore_best for one in self.callbacks)

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
            for _ in range(1 if held is None else 2):  # once more if a buffer was made anew: addresses stay then
                before = engine.workplace()
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
                if all(map(operator.is_, before, engine.workplace())):
                    break
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
            sure = [max(1, callback.sure_epochs()) for callback in self.callbacks]
            n, rounds = feed.steps, min(self.window, (feed.total - feed.done) // feed.steps, *sure)
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
        held = self.task.validation is not None
        copies = self.epochs_kept if rounds and self._restores() else None
        steps = Steps(
            n, rounds, not self.begun, place * feed.batch_size, engine.epochs, engine.steps, settings.shuffle, table,
            None if momenta is None else np.ascontiguousarray(momenta, np.float64), self._orders(place, total),
            held, copies,
        )  # fmt: skip
        self.desk.aim(self.seat, steps, self.losses, self.weights)
        if rounds and held:
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
        feed.done += good
        if good:
            losses = feed.step_losses(self.losses[:good], self.weights[:good])
            feed.log.add(self.history, losses, self.lrs[:good], made.ticks * self.desk.tick_seconds)
        if made.rounds:
            self._end_epochs(made.rounds, whole=made.status == records.RUNNING)
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

    def _end_epochs(self, n: int, *, whole: bool) -> None:
        """Take in n whole epochs: their validations, and what callbacks say. Only after the last may one want to stop.

        See `Watcher.sure_epochs`. whole: all epochs of the call; else the history may hold the loss of one more, whose
        last step has ruined the parameters, and who wants to stop has nothing to say.
        """
        held, history, loss = self.task.validation, self.history, self.session.spec.loss
        if held is not None:
            columns, weights = loss.columns(self.session.spec.n_out), held.own_weights
            history.val_loss += [
                sample_weights.mean(losses, weights, columns) * loss.factor for losses in self.row_losses[:n]
            ]
            history.val_score += loss.link.scores(self.outputs[:n], held.own_targets, weights)
        first, self.epochs = self.epochs, self.epochs + n
        for callback in self.callbacks:
            if not isinstance(callback, EarlyStopping):
                if whole:
                    self._ask(callback)
                continue
            costs = [monitored(history, callback.monitor, first + number) for number in range(n)]
            better = [
                number for number, cost in enumerate(costs)
                if callback.observe(cost, first + number + 1, functools.partial(self._finite, number))
            ]  # fmt: skip
            if better and callback.restore_best:
                then, layout = self.epochs_kept[better[-1]], self.session.layout
                callback.keep(*layout.unpack(then), layout.unpack_scale(then))
            self._answer(callback, callback.verdict())

    def _finite(self, number: int) -> bool:
        """Whether the parameters after an epoch of the call are."""
        kept = self.epochs_kept[number]
        return arrays.all_finite(kept) or bool(np.isfinite(kept).all())

    def _end_epoch(self, done: int) -> None:
        """Ask the callbacks, at the end of an epoch; those that look at the clock always."""
        if done % self.feed.steps == 0 and not self.window:
            for callback in self.callbacks:
                self._ask(callback)
        for callback in self.callbacks:
            callback.on_pause(self, False)

    def _ask(self, callback: Watcher) -> None:
        state = EpochState(self.net, len(self.history.loss), self.history, _no_norm)
        self._answer(callback, callback.on_epoch_end(state))

    def _answer(self, callback: Watcher, answer: bool | str | None) -> None:
        """What a callback says of an epoch that has ended: whether to stop."""
        if answer and (not self.history.stop_reason or (self.paused and not callback.pauses)):
            name = type(callback).__name__
            self.history.stop_reason = f"{name}: {answer}" if isinstance(answer, str) else name
            self.paused = callback.pauses

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
