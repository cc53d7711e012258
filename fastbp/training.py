"""The fit loop: epochs, chunks of steps, validation, history, stopping.

One native call carries many steps, across epochs; it comes back when Python has something to do.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fastbp import checkpoints, schedules, team, validation
from fastbp.engine import LONG_STEP_FLOPS, THREAD_FLOPS, Engine
from fastbp.errors import DivergenceError
from fastbp.history import History
from fastbp.kernels import records
from fastbp.optimizers import Optimizer
from fastbp.plan import Array, address
from fastbp.progress import Progress
from fastbp.watching import Callback, EpochState, Watcher

if TYPE_CHECKING:
    from fastbp.network import MLP

# Rows a step, where a user does not say.
BATCH_SIZE = 32
# Seconds of a chunk: the progress bar and Ctrl-C wait no longer.
CHUNK_SECONDS = 0.05
# Seconds between two copies of the parameters to go back to.
SNAPSHOT_SECONDS = 0.25
MAX_STEPS = 1 << 16
# Rows that the norm of the whole gradient is summed over at a time.
GRADIENT_ROWS = 4096
# Steps of the first chunk on a number of threads, whose speed is a guess: 40 thin layers, 5 threads on 2 CPUs took a
# hundred times longer, and Ctrl-C 6 s.
FIRST_STEPS = 64
_SPENT = "the learning rate is 0. It counts the epochs trained so far; net.reset_optimizer() begins anew"


class _Epochs:
    """Cuts the stream of step losses into epochs; the same figures wherever the chunks ended."""

    def __init__(self, n: int, batch_size: int, history: History) -> None:
        self.n, self.history = n, history
        self.steps = -(-n // batch_size)
        self.rows = np.full(self.steps, batch_size, np.float64)
        self.rows[-1] = n - batch_size * (self.steps - 1)
        self.open = np.empty(0)
        self.open_seconds = 0.0

    def state(self) -> dict[str, Any]:
        """What is known of an epoch that has not ended."""
        return {"open": self.open, "open_seconds": self.open_seconds}

    def load_state(self, state: dict[str, Any]) -> None:
        """Put back what `state` returned."""
        self.open, self.open_seconds = state["open"], state["open_seconds"]

    def add(self, losses: Array, rates: Array, seconds: float) -> None:
        """Take the losses and learning rates of some steps, which lasted so many seconds."""
        before = len(self.open)
        stream = np.concatenate([self.open, losses])
        whole = len(stream) // self.steps
        done = stream[: whole * self.steps].reshape(whole, self.steps)
        self.open = stream[whole * self.steps :].copy()
        each = seconds / max(1, len(losses))
        durations = [each * self.steps] * whole
        if whole:
            durations[0] = self.open_seconds + each * (self.steps - before)
            self.open_seconds = 0.0
        self.open_seconds += each * (len(self.open) if whole else len(losses))
        self.history.loss += ((done * self.rows).sum(axis=1) / self.n).tolist()
        self.history.seconds += durations
        ends = self.steps * np.arange(1, whole + 1) - before - 1
        self.history.lr += rates[ends].tolist()


class _Snapshot:
    """The last parameters that were known to be finite, with their counters."""

    def __init__(self, net: MLP, engine: Engine) -> None:
        self.net, self.engine = net, engine
        self.time = -np.inf
        self.take()

    def take(self) -> None:
        self.engine.keep()
        self.counters = self.net._steps, self.net._epochs
        self.time = time.perf_counter()

    def restore(self) -> None:
        self.engine.go_back()
        self.net._steps, self.net._epochs = self.counters


class Fit:
    """One call of `MLP.fit`, its arguments checked."""

    # What `fastbp.streams` sees otherwise: there, an epoch is many passes over data of different lengths.
    by_pass = True  # a pass over the data is an epoch
    part = 0  # number of the part of the epoch that the data are
    before = 0  # steps of the epoch that other parts have taken

    def __init__(
        self, net: MLP, X: Array, y: Array, rows: Array | None, epochs: int, batch_size: int, optimizer: Optimizer,
        validation_data: tuple[Array, Array, Array | None] | None, shuffle: bool, threads: int | None, progress: bool,
        schedule: Any = None, callbacks: Sequence[Callback] = (), weights: Array | None = None, *,
        held: Array | None = None, saved: checkpoints.Saved | None = None,
    ) -> None:  # fmt: skip
        self.net, self.engine, self.X, self.y, self.rows = net, net._engine, X, y, rows
        self.n, self.weights = len(X) if rows is None else len(rows), weights
        self.mean_weight = 1.0 if weights is None else float((weights if rows is None else weights[rows]).mean())
        self.batch_size, self.epochs, self.optimizer = min(batch_size, self.n), epochs, optimizer
        self.validation_data, self.held, self.shuffle = validation_data, held, shuffle
        self.step_flops = net._plan.flops_per_row * self.batch_size
        self.threads = self.engine.chooser(threads, self.batch_size)
        self.history = History(net.loss.score_name)
        self.callbacks, self.saved = callbacks, saved
        self.steps = -(-self.n // self.batch_size)  # of a pass over the data
        self.total, self.done, self.begun = epochs * self.steps, 0, 0  # steps: all, done, done before this call
        self.rates = schedules.Plan(schedule, optimizer.lr, self.steps)
        self.books: Any = _Epochs(self.n, self.batch_size, self.history)
        self.progress = Progress(epochs, self.n, show=progress)
        self.order = np.empty(self.n, np.int64) if shuffle else None
        self.by_epoch = validation_data is not None or bool(callbacks) or self.rates.plateau is not None
        self.settled = True  # parameters, counters and books are those of the same step, of one moment
        self.pending = False  # the last epoch has still to be validated, and shown to the callbacks
        self.paused = False  # what stopped the training is no part of it
        self.reshuffle = False  # the order of the rows is still to be made, in the middle of a pass
        self.settings: dict[str, Any] | None = None  # of checkpoints

    def run(self) -> History:
        """Train; the network's history is kept up to date, whatever happens."""
        net = self.net
        if self.saved is not None:
            checkpoints.check(self, self.saved)
        self.check_rates(*((0, 0) if self.optimizer.layout != net._layout else (net._epochs, net._steps)))
        for watcher in self.watchers():
            watcher.on_fit_begin(net)
        checkpoints.begin(self)
        if self.saved is not None:
            checkpoints.restore(self, self.saved)
        net._use(self.optimizer)
        net.history = self.history
        self.snapshot = _Snapshot(net, self.engine)
        try:
            with self.progress:
                self.train()
        except KeyboardInterrupt:
            self.pause(final=True)
            raise
        except DivergenceError as error:
            for watcher in self.watchers():
                watcher.on_divergence(net, error)
            raise
        finally:
            self.engine.clear_stop()
            self.engine.bind_rates(None, None)
        self.pause(final=True)
        for watcher in self.watchers():
            watcher.on_fit_end(net)
        return self.history

    def check_rates(self, epoch: int, step: int) -> None:
        """Look at rates before anything is changed: a bad one raises, and none above zero is worth a warning."""
        self.rates.tables(epoch, 0, 1, step)
        if isinstance(self.rates.schedule, schedules.Schedule) and self.optimizer.lr > 0.0:
            some = {epoch + k * self.epochs // 4 for k in range(4)} | {epoch + self.epochs - 1}
            if not any(self.rates.tables(one, k, 1, 0)[0].any() for one in some for k in (0, self.steps // 2)):
                warnings.warn(f"{self.rates.schedule!r} is at its end: {_SPENT}", UserWarning, stacklevel=4)

    def train(self) -> None:
        """All epochs, or what is left of them."""
        self.bind()
        with team.interruptible(self.engine.request_stop) as interrupted:
            self.walk(interrupted)
        if interrupted():
            raise KeyboardInterrupt

    def walk(self, interrupted: Callable[[], bool]) -> None:
        """Steps, chunk by chunk, until all are done or something ends them."""
        if self.pending:
            self.end_epoch(interrupted)
            self.pause()
        step_seconds = self.step_flops / THREAD_FLOPS + 1e-6
        while self.done < self.total and not self.history.stop_reason and not interrupted():
            threads, length = self.threads.next(CHUNK_SECONDS)
            most = MAX_STEPS if threads in self.threads.seconds else FIRST_STEPS
            step_seconds = self.threads.seconds.get(threads, step_seconds)
            now, place = min(self.total - self.done, most, max(1, int(length / step_seconds))), self.done % self.steps
            if self.by_epoch:
                now = min(now, self.steps - place)
            self.settled = False
            started = time.perf_counter()
            status, made = self.chunk(place, now, threads, long=step_seconds > CHUNK_SECONDS)
            seconds = time.perf_counter() - started
            self.books.add(self.step_losses(made), self.lrs, seconds)
            self.done += made
            self.settled = True
            if made:
                step_seconds = seconds / made
                self.threads.note(threads, made, seconds)
            if status == records.BAD_INPUT:
                raise self.engine.bad_input()
            if status == records.DIVERGED:
                self.diverged(self.net._epochs, self.net._steps)
            if self.by_pass and self.by_epoch and made and self.done % self.steps == 0:
                self.end_epoch(interrupted)
            self.show(made)
            if interrupted():
                return
            last = self.done == self.total or bool(self.history.stop_reason)
            if last or time.perf_counter() - self.snapshot.time > SNAPSHOT_SECONDS:
                self.keep(last)
            if not last and self.pause():
                self.keep(True)

    def show(self, made: int) -> None:
        """Move the progress bar, after a chunk of some steps."""
        rate = float(self.lrs[max(0, made - 1)])
        rows = (self.done - self.begun) / self.steps * self.n
        self.progress.update(self.done / self.steps, rows, self.history, rate)

    def pause(self, *, final: bool = False) -> bool:
        """Between chunks: what watches may look at everything, and stop the training: True, if something has.

        final: there will be no other chunk.
        """
        if self.settled:
            for watcher in self.watchers():
                watcher.on_pause(self, final)
        return bool(self.history.stop_reason)

    def stop(self, reason: str, *, pauses: bool) -> None:
        """Make no further step; `pauses`: for now."""
        self.history.stop_reason, self.paused = reason, pauses

    @property
    def finished(self) -> bool:
        """Whether there is nothing left to do, ever: what ended it was no pause."""
        return (self.done == self.total and not self.pending) or (bool(self.history.stop_reason) and not self.paused)

    @property
    def between_epochs(self) -> bool:
        """No epoch is open."""
        return self.done % self.steps == 0 and not self.pending

    def position(self) -> dict[str, Any]:
        """Where the training stands, for `go_to`."""
        return {"done": self.done}

    def go_to(self, position: dict[str, Any]) -> None:
        """Go on from there."""
        self.done = self.begun = int(position["done"])
        if self.done > self.total:
            raise ValueError(f"epochs={self.epochs}, but the checkpoint has had {self.done / self.steps:g} of them")
        self.reshuffle = self.done % self.steps != 0

    def fingerprints(self) -> dict[str, Any]:
        """What tells the data from others, and how many they are."""
        return {
            "batch_size": self.batch_size,
            "rows": self.n,
            "the data": checkpoints.digest(self.X, self.y, self.rows, self.weights),
        }

    def watchers(self) -> list[Watcher]:
        """The callbacks that want to know of beginning and end."""
        return [callback for callback in self.callbacks if isinstance(callback, Watcher)]

    def end_epoch(self, interrupted: Callable[[], bool]) -> None:
        """Validate, adapt the rate, ask the callbacks; then point the engine back at the training data."""
        history, plateau = self.history, self.rates.plateau
        self.pending = True
        if self.validation_data is not None and len(history.val_loss) < len(history.loss) and not interrupted():
            self.validate(interrupted)
        if interrupted():
            return
        self.pending = self.settled = False
        if plateau is not None:
            plateau.see(getattr(history, plateau.recipe.monitor)[-1])
        for callback in self.callbacks:  # all of them, so that one that only pauses hides no epoch from the others
            if interrupted():
                return
            state = EpochState(self.net, len(history.loss), history, self.gradient_norm)
            answer, pauses = callback.on_epoch_end(state), bool(getattr(callback, "pauses", False))
            if answer and (not history.stop_reason or (self.paused and not pauses)):
                name = type(callback).__name__
                history.stop_reason = f"{name}: {answer}" if isinstance(answer, str) else name
                self.paused = pauses
        self.settled = not interrupted()
        self.bind()

    def step_losses(self, made: int) -> Array:
        """Losses of the last steps, such that their mean by rows is that of the epoch."""
        losses = self.engine.losses[:made]
        if self.weights is None:
            return losses
        return losses * (self.engine.mean_weights[:made] / self.mean_weight)

    def gradient_norm(self) -> float:
        """Euclidean norm of dJ/d(parameters) over all training rows, penalties included, block by block."""
        net, rows = self.net, np.arange(self.n) if self.rows is None else self.rows
        total = np.zeros(net._plan.n_parameters)
        for start in range(0, self.n, GRADIENT_ROWS):
            block = rows[start : start + GRADIENT_ROWS]
            weights = None if self.weights is None else self.weights[block]
            net._bind(np.ascontiguousarray(self.X[block]), np.ascontiguousarray(self.y[block]), weights)
            self.engine.backprop(len(block), 1)
            count = len(block) if weights is None else weights.sum() / self.mean_weight
            total += self.engine.need_gradient() * (count / self.n)
        held, weights = net.regularization, self.engine.parameters.astype(np.float64)
        if held.l1 or held.l2:
            total += net._plan.weight_mask() * (held.l1 * np.sign(weights) + 2.0 * held.l2 * weights)
        total += self.optimizer.decays[0] * weights
        return float(np.sqrt(np.square(total).sum()))

    def bind(self) -> None:
        """Point the engine at the training data, the order of rows and the optimiser."""
        net, engine = self.net, self.engine
        engine.bind_data(self.X, self.y, net._kernel_scaling(), self.weights, scan=isinstance(self.X, np.memmap))
        engine.prepare(self.batch_size, self.threads.most, n_steps=1, whole=True)
        job = engine.job[0]
        job["n_samples"], job["seed"] = self.n, np.uint64(net.seed)
        rows = 0 if self.rows is None else address(self.rows)
        job["subset"], job["order"] = rows, rows if self.order is None else address(self.order)
        self.two_pass = self.step_flops > LONG_STEP_FLOPS or self.optimizer.clips
        if self.two_pass:
            engine.need_gradient()

    def chunk(self, first: int, n_steps: int, threads: int, *, long: bool) -> tuple[int, int]:
        """Some steps from step `first` of the epoch on; returns the status and the number of steps made."""
        net, engine = self.net, self.engine
        self.aim(first, n_steps)
        status = engine.call(records.TRAIN, threads, detached=long)
        # Not counting the step whose loss is not finite.
        made = int(engine.job[0]["steps_done"]) - (status == records.DIVERGED)
        net._steps += made
        self.last_epoch = net._epochs + (first + max(made, 1) - 1) // self.steps
        if self.by_pass:
            net._epochs += (first + made) // self.steps
        return status, made

    def aim(self, first: int, n_steps: int) -> None:
        """Point the bound engine at some steps from step `first` of the epoch on."""
        net, engine, job = self.net, self.engine, self.engine.job[0]
        self.lrs, momenta = self.rates.tables(net._epochs, self.before + first, n_steps, net._steps)
        engine.bind_rates(None if self.rates.constant else self.lrs, momenta)
        engine.bind_optimizer(self.optimizer, net._steps)
        engine.prepare(self.batch_size, self.threads.most, n_steps=n_steps, whole=True)
        job["n_steps"], job["position"] = n_steps, first * self.batch_size
        job["epoch"] = net._epochs + (self.part << 32)  # for the order of the rows alone
        if self.order is not None:
            job["shuffle"] = records.SHUFFLE_NOW if self.reshuffle else records.SHUFFLE
        else:
            job["shuffle"] = records.IN_ORDER
        self.reshuffle = False
        job["steps_done"], job["two_pass"] = 0, self.two_pass

    def keep(self, last: bool) -> None:
        """Remember the parameters, if they are finite: a step may have ruined them after its own loss was fine."""
        if np.isfinite(self.engine.parameters).all():
            if not last:
                self.snapshot.take()
        elif last:  # otherwise the loss of the next step tells, wherever chunks end
            self.diverged(self.last_epoch, self.net._steps - 1)

    def diverged(self, epoch: int, step: int) -> None:
        """Go back to the last finite parameters and say where it went wrong."""
        self.snapshot.restore()
        made = int(self.engine.job[0]["steps_done"])
        raise DivergenceError(epoch, step, float(self.lrs[max(0, made - 1)]), self.history, self.scaled)

    @property
    def scaled(self) -> bool:
        """The network standardises all that can be."""
        scaling = self.net.scaling
        return scaling is not None and (self.net.loss.target != "real" or scaling.y_mean is not None)

    def validate(self, interrupted: Callable[[], bool]) -> None:
        """Score the validation data."""
        assert self.validation_data is not None
        found = self.net._evaluate(*self.validation_data, threads=self.threads.best, rows=self.held)
        if not interrupted():  # which would have left the evaluation half done
            self.history.val_loss.append(found["loss"])
            self.history.val_score.append(found[self.history.score_name])


def check_threads(threads: int | None) -> int | None:
    """None, or a positive number of threads."""
    return None if threads is None else validation.check_positive_int("threads", threads)


def check_no_validation_needed(callbacks: Sequence[Callback], schedule: Any) -> None:
    """Refuse what watches validation data where there are none."""
    needy = [callback for callback in callbacks if getattr(callback, "needs_validation", False)]
    if isinstance(schedule, schedules.ReduceOnPlateau) and schedule.monitor == "val_loss":
        needy.append(schedule)  # type: ignore[arg-type]
    if needy:
        raise ValueError(f"{needy[0]!r} needs validation_data or validation_split, or another monitor, e.g. 'loss'")
