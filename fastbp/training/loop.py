"""The fit loop: epochs, chunks of steps, validation, history, stopping.

One native call carries many steps, across epochs; it comes back when Python has something to do.
"""

from __future__ import annotations

import contextlib
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fastbp import schedules, validation
from fastbp.callbacks.base import Callback, EpochState, Watcher
from fastbp.engine import team, tuning
from fastbp.engine.threads import MOST as MOST_THREADS
from fastbp.errors import DivergenceError
from fastbp.io import saved_training as saving
from fastbp.kernels import records
from fastbp.numerics import as_caller, norm, quiet
from fastbp.optimizers import Optimizer
from fastbp.spec import Samples
from fastbp.training import checkpoints
from fastbp.training.history import History
from fastbp.training.progress import Progress
from fastbp.training.rate_table import RateTable
from fastbp.types import Array

if TYPE_CHECKING:
    from fastbp.network import MLP

# Seconds of a chunk: the progress bar and Ctrl-C wait no longer.
CHUNK_SECONDS = 0.05
MAX_STEPS = 1 << 16
# Rows that the norm of the whole gradient is summed over at a time.
GRADIENT_ROWS = 4096
# Steps of the first chunk on a number of threads, whose speed is a guess: 40 thin layers, 5 threads on 2 CPUs took a
# hundred times longer, and Ctrl-C 6 s.
FIRST_STEPS = 64
# Share of the optimiser's rate at or below which a schedule has come to its end: OneCycle's is 4e-6.
SPENT = 1e-5


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
        self.open = saving.numbers("open", state["open"])
        self.open_seconds = saving.number("open_seconds", state["open_seconds"])

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
        ends = self.steps * np.arange(1, whole + 1) - before - 1
        means, rates_then = ((done * self.rows).sum(axis=1) / self.n).tolist(), rates[ends].tolist()
        history, n = self.history, len(self.history.loss)
        # In one statement, between whose parts no exception comes: the columns of a history are of one length.
        history.loss[n:], history.seconds[n:], history.lr[n:] = means, durations, rates_then


class Fit:
    """One call of `MLP.fit`, its arguments checked."""

    # What `fastbp.training.feeds` sees otherwise: there, an epoch is many passes over data of different lengths.
    by_pass = True  # a pass over the data is an epoch
    part = 0  # number of the part of the epoch that the data are
    before = 0  # steps of the epoch that other parts have taken
    goes_back = False  # parameters are kept now and then, to go back to them after a divergence

    def __init__(
        self, net: MLP, X: Array, y: Array, rows: Array | None, epochs: int, batch_size: int, optimizer: Optimizer,
        validation_data: tuple[Array, Array, Array | None] | None, shuffle: bool, threads: int | None, progress: bool,
        schedule: Any = None, callbacks: Sequence[Callback] = (), weights: Array | None = None, *,
        held: Array | None = None, saved: saving.Saved | None = None,
    ) -> None:  # fmt: skip
        self.net, self.session, self.engine = net, net.session, net.session.engine
        self.X, self.y, self.rows = X, y, rows
        self.n, self.weights = len(X) if rows is None else len(rows), weights
        self.mean_weight = 1.0 if weights is None else float((weights if rows is None else weights[rows]).mean())
        self.batch_size, self.epochs, self.optimizer = min(batch_size, self.n), epochs, optimizer
        self.validation_data, self.held, self.shuffle = validation_data, held, shuffle
        self.step_flops = net.session.layout.flops_per_row * self.batch_size
        self.threads = self.engine.chooser(threads, self.batch_size)
        self.history = History(net.loss.score_name)
        self.callbacks, self.saved = callbacks, saved
        self.steps = -(-self.n // self.batch_size)  # of a pass over the data
        self.total, self.done, self.begun = epochs * self.steps, 0, 0  # steps: all, done, done before this call
        self.rates = RateTable(schedule, optimizer.lr, self.steps)
        self.books: Any = _Epochs(self.n, self.batch_size, self.history)
        self.progress = Progress(epochs, self.n, show=progress)
        self.order = np.empty(self.n, np.int64) if shuffle else None
        self.by_epoch = validation_data is not None or bool(callbacks) or self.rates.plateau is not None
        self.settled = True  # parameters, counters and books are those of the same step, of one moment
        self.pending = False  # the last epoch has still to be validated, and shown to the callbacks
        self.paused = False  # what stopped the training is no part of it
        self.reshuffle = False  # the order of the rows is still to be made, in the middle of a pass
        self.settings: dict[str, Any] | None = None  # of checkpoints
        self.interrupted = team.interruptible(self.engine.request_stop)
        self.last_epoch = self.next_epoch = 0  # of the last step, and of the one that comes after it
        self.last_rate = optimizer.lr
        self.left: tuple[int, int] | None = None  # how the last chunk left the network

    def run(self) -> History:
        """Train; the network's history is kept up to date, whatever happens."""
        with self.net.session.training(), reserved(self.watchers()):
            return self.run_alone()

    def state_dict(self) -> tuple[dict[str, Array], dict[str, Any]]:
        """What a checkpoint holds; see `fastbp.training.checkpoints.state`."""
        return checkpoints.state(self)

    def run_alone(self) -> History:
        """`run`, when it is sure that nobody else trains this network, or uses these callbacks."""
        net = self.net
        if self.saved is not None:
            checkpoints.check(self, self.saved)
        fresh = self.optimizer.state_layout != self.engine.state_layout
        self.check_rates(*((0, 0) if fresh else (self.engine.epochs, self.engine.steps)))
        self.tell(lambda watcher: watcher.on_fit_begin(net))
        checkpoints.begin(self)
        if self.saved is not None:
            checkpoints.restore(self, self.saved)
        net.session.use(self.optimizer)
        net.history = self.history
        self.goes_back = True
        self.engine.clear_stop()  # of an earlier call that an exception cut off
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
            net.history = self.history  # a callback may have trained the network, too
        self.pause(final=True)
        self.tell(lambda watcher: watcher.on_fit_end(net))
        return self.history

    def check_rates(self, epoch: int, step: int) -> None:
        """Look at rates before anything is changed: a bad one raises, and none to speak of is worth a warning."""
        self.look_up(epoch, 0, 1, step)
        if isinstance(self.rates.schedule, schedules.Schedule) and self.optimizer.lr > 0.0:
            some = {epoch + k * self.epochs // 4 for k in range(4)} | {epoch + self.epochs - 1}
            largest = max(float(self.look_up(one, k, 1, 0)[0][0]) for one in some for k in (0, self.steps // 2))
            if largest <= SPENT * self.optimizer.lr:
                warnings.warn(
                    f"{self.rates.schedule!r} is at its end: the learning rate is {largest:.3g}. It counts the epochs "
                    "trained so far; net.reset_optimizer() begins anew", UserWarning, stacklevel=6,
                )  # fmt: skip

    def look_up(self, epoch: int, first: int, n: int, step: int) -> tuple[Array, Array | None]:
        """Rates and momenta of steps to come; see `RateTable.tables`."""
        with self.outside() if self.rates.calls_user_code else contextlib.nullcontext():
            return self.rates.tables(epoch, first, n, step)

    def train(self) -> None:
        """All epochs, or what is left of them."""
        self.interruptibly(self.walk)

    def interruptibly(self, work: Callable[[], None]) -> None:
        """Do some work that Ctrl-C ends between two steps, not in the middle of one."""
        with team.interruptible(self.engine.request_stop) as self.interrupted:
            work()
        if self.interrupted():
            raise KeyboardInterrupt

    @contextlib.contextmanager
    def outside(self) -> Iterator[None]:
        """Within, code of the user runs: Ctrl-C raises there, and other threads may use the network."""
        with self.interrupted.suspended(), team.unlocked(self.net.session.lock), as_caller():
            yield

    def tell(self, what: Callable[[Watcher], None]) -> None:
        """Tell fastbp's own callbacks of the beginning or the end."""
        if self.watchers():  # a fit without callbacks keeps the network to itself: others wait for it
            with self.outside():
                for watcher in self.watchers():
                    what(watcher)

    def walk(self) -> None:
        """Steps, chunk by chunk, until all are done or something ends them."""
        if self.pending:
            self.end_epoch()
            self.pause()
        step_seconds = self.step_flops / tuning.THREAD_FLOPS + 1e-6
        while self.done < self.total and not self.history.stop_reason and not self.interrupted():
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
            self.pending = bool(self.by_pass and self.by_epoch and made and self.done % self.steps == 0)
            self.settled = True
            if made:
                step_seconds = seconds / made
                self.threads.note(threads, made, seconds)
            if status in records.BAD:
                raise self.engine.bad_input()
            if status == records.DIVERGED:
                self.diverged(self.next_epoch, self.net.session.engine.steps - 1)
            if status == records.RUINED:
                self.diverged(self.last_epoch, self.net.session.engine.steps - 1)
            if self.pending:
                self.end_epoch()
            self.show(made)
            if self.interrupted():
                return
            if self.done == self.total or self.history.stop_reason or self.pause():
                self.check_last()

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
        self.done = self.begun = saving.count("done", position["done"])
        if self.done > self.total:
            raise ValueError(f"epochs={self.epochs}, but the checkpoint has had {self.done / self.steps:g} of them")
        self.reshuffle = self.done % self.steps != 0

    def check_books(self) -> None:
        """Refuse a position that the losses gone on with do not belong to."""
        epochs, open_steps = divmod(self.done, self.steps)
        if (len(self.history.loss), len(self.books.open)) != (epochs, open_steps) or (self.pending and open_steps):
            raise ValueError(
                f"it has made {self.done} steps, {self.steps} an epoch, but has losses of {len(self.history.loss)} "
                f"epochs and {len(self.books.open)} more steps"
            )

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

    def end_epoch(self) -> None:
        """Validate, adapt the rate, ask the callbacks."""
        history, plateau = self.history, self.rates.plateau
        self.pending = True
        if self.validation_data is not None and len(history.val_loss) < len(history.loss) and not self.interrupted():
            self.validate()
        if self.interrupted():
            return
        self.pending = self.settled = False
        if plateau is not None:
            plateau.observe(getattr(history, plateau.schedule.monitor)[-1])
        for callback in self.callbacks:  # all of them: one that only pauses hides no epoch from the others
            # While a brief one is at work, Ctrl-C waits, so that the last checkpoint is of this very moment.
            with contextlib.nullcontext() if vars(type(callback)).get("brief") else self.outside():
                self.call_back(callback)
        self.settled = True

    def call_back(self, callback: Callback) -> None:
        """Show the epoch to a callback, which may end the training."""
        history = self.history
        state = EpochState(self.net, len(history.loss), history, self.gradient_norm)
        answer, pauses = callback.on_epoch_end(state), bool(getattr(callback, "pauses", False))
        if answer and (not history.stop_reason or (self.paused and not pauses)):
            name = type(callback).__name__
            history.stop_reason = f"{name}: {answer}" if isinstance(answer, str) else name
            self.paused = pauses

    def step_losses(self, made: int) -> Array:
        """Losses of the last steps, such that their mean by rows is that of the epoch."""
        losses = self.engine.losses[:made]
        if self.weights is None:
            return losses
        return losses * (self.engine.mean_weights[:made] / self.mean_weight)

    @quiet
    def gradient_norm(self) -> float:
        """Euclidean norm of dJ/d(parameters) over all training rows, penalties included, block by block."""
        net, rows = self.net, np.arange(self.n) if self.rows is None else self.rows
        total = np.zeros(net.session.layout.n_parameters)
        for start in range(0, self.n, GRADIENT_ROWS):
            block = rows[start : start + GRADIENT_ROWS]
            weights = None if self.weights is None else self.weights[block]
            count = len(block) if weights is None else weights.sum() / self.mean_weight
            with net.session.lock:
                net.session.bind(
                    Samples(np.ascontiguousarray(self.X[block]), np.ascontiguousarray(self.y[block]), weights)
                )
                self.engine.backprop(len(block), 1)
                total += self.engine.need_gradient() * (count / self.n)
        held, weights = net.regularization, self.engine.parameters.astype(np.float64)
        if held.l1 or held.l2:
            total += net.session.layout.weight_mask() * (held.l1 * np.sign(weights) + 2.0 * held.l2 * weights)
        total += self.optimizer.decays[0] * weights
        return norm(total)

    def bind(self) -> None:
        """Point the engine at the training data and the order of rows."""
        net, engine = self.net, self.engine
        engine.bind_data(self.X, self.y, net.session.kernel_scaling(), self.weights, scan=isinstance(self.X, np.memmap))
        engine.set_seed(net.seed)
        engine.bind_order(self.n, self.rows, self.order)
        self.two_pass = self.step_flops > tuning.LONG_STEP_FLOPS or self.optimizer.clips
        every = engine.layout.snapshot_steps(self.batch_size, len(engine.moments)) if self.goes_back else 0
        # Not shortly before the end of an epoch, where they are kept anyway.
        within = every if self.steps >= 2 * every else max(every, self.steps)
        self.keeps = within, -(-every // max(1, self.steps)) if every else 1

    def chunk(self, first: int, n_steps: int, threads: int, *, long: bool) -> tuple[int, int]:
        """Some steps from step `first` of the epoch on; returns the status and the number of steps made."""
        engine = self.engine
        self.aim(first, n_steps)
        steps, epochs = engine.steps, engine.epochs
        status = engine.call(records.TRAIN, threads, detached=long, keep=self.keeps)
        made, kept = engine.steps - steps, engine.snapshot_step
        if kept:
            engine.kept_counters = steps + kept, epochs + (first + kept) // self.steps * self.by_pass
        self.left = engine.mark()
        self.last_rate = float(self.lrs[max(0, made - 1)])
        made -= status == records.DIVERGED  # the step whose loss is not finite
        self.last_epoch = epochs + (first + max(made, 1) - 1) // self.steps
        self.next_epoch = epochs + (first + made) // self.steps * self.by_pass
        return status, made

    def aim(self, first: int, n_steps: int) -> None:
        """Point the engine at some steps from step `first` of the epoch on, whatever it was used for since the last."""
        net, engine = self.net, self.engine
        net.session.use(self.optimizer)
        # Before all else, as this may call a function of the user's, and that the methods of the network.
        self.lrs, momenta = self.look_up(engine.epochs, self.before + first, n_steps, engine.steps)
        net.session.use(self.optimizer)
        self.keep()
        self.bind()
        engine.bind_rates(None if self.rates.constant else self.lrs, momenta)
        engine.bind_optimizer(self.optimizer, engine.steps)
        engine.prepare(self.batch_size, self.threads.most, n_steps=n_steps, whole=True)
        per_epoch = self.steps if self.by_pass else 0
        engine.change(counters=engine.counters_from(engine.steps, engine.epochs, first, per_epoch))
        shuffle = records.SHUFFLE_NOW if self.reshuffle else records.SHUFFLE
        epoch = engine.epochs + (self.part << 32)  # for the order of the rows alone
        engine.bind_steps(
            n_steps, first * self.batch_size, epoch, records.IN_ORDER if self.order is None else shuffle,
            two_pass=self.two_pass,
        )  # fmt: skip
        self.reshuffle = False

    def keep(self) -> None:
        """If others than this fit have changed the network, remember it as it is, to go back to after a divergence."""
        engine = self.engine
        if not self.goes_back or self.left == engine.mark():
            return
        if self.left is None or engine.kept_of is not engine.moments or np.isfinite(engine.parameters).all():
            engine.keep()

    def check_last(self) -> None:
        """After the last step: it may have ruined the parameters, though its own loss was fine."""
        if not np.isfinite(self.engine.parameters).all():
            self.diverged(self.last_epoch, self.net.session.engine.steps - 1)

    def diverged(self, epoch: int, step: int) -> None:
        """Go back to the last finite parameters and say where it went wrong."""
        self.engine.go_back()
        raise DivergenceError(epoch, step, self.last_rate, self.history, self.scaled)

    @property
    def scaled(self) -> bool:
        """The network standardises all that can be."""
        scaling = self.net.scaling
        return scaling is not None and (scaling.y_mean is not None or not self.net.loss.link.can_scale_y)

    def validate(self) -> None:
        """Score the validation data."""
        assert self.validation_data is not None
        found = self.session.evaluate(Samples(*self.validation_data, self.held), self.threads.best)
        if not self.interrupted():  # which would have left the evaluation half done
            history, n = self.history, len(self.history.val_loss)
            # In one statement: of an epoch both are there, or none.
            history.val_loss[n:], history.val_score[n:] = [found["loss"]], [found[history.score_name]]


_reserved: set[int] = set()  # ids of the callbacks that running fits use


@contextlib.contextmanager
def reserved(watchers: Sequence[Watcher]) -> Iterator[None]:
    """Keep callbacks, which hold the state of one training, from being used by two at the same time."""
    taken: list[int] = []
    try:
        try:
            for watcher in watchers:
                if id(watcher) in _reserved:
                    raise ValueError(
                        f"{watcher!r} is in use by another fit that has not ended: give each fit a callback of its own"
                    )
                taken.append(id(watcher))
                _reserved.add(id(watcher))
            yield
        finally:
            _reserved.difference_update(taken)
    finally:
        _reserved.difference_update(taken)  # if an exception has cut the first off


def check_threads(threads: int | None) -> int | None:
    """None, or a positive number of threads."""
    if threads is None:
        return None
    number = validation.check_positive_int("threads", threads)
    if number > MOST_THREADS:
        raise ValueError(f"threads must be a positive integer up to {MOST_THREADS}, got {number}")
    return number


def check_no_validation_needed(callbacks: Sequence[Callback], schedule: Any) -> None:
    """Refuse what watches validation data where there are none."""
    needy = [callback for callback in callbacks if getattr(callback, "needs_validation", False)]
    if isinstance(schedule, schedules.ReduceOnPlateau) and schedule.monitor == "val_loss":
        needy.append(schedule)  # type: ignore[arg-type]
    if needy:
        raise ValueError(f"{needy[0]!r} needs validation_data or validation_split, or another monitor, e.g. 'loss'")
