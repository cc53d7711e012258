"""The fit loop: epochs, chunks of steps, validation, history, stopping.

One native call carries many steps, across epochs; it comes back when Python has something to do.
"""

from __future__ import annotations

import contextlib
import logging
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from fastbp import arrays, schedules
from fastbp.callbacks.base import Callback, EpochState, Watcher, reserved
from fastbp.engine import precisions, team, tuning
from fastbp.engine.network import Network
from fastbp.engine.placement import Placement
from fastbp.errors import DivergenceError
from fastbp.history import History
from fastbp.io import saved_training as saving
from fastbp.kernels import records
from fastbp.numerics import as_caller
from fastbp.spec import Samples
from fastbp.training import checkpoints
from fastbp.training.chunks import ChunkFeed
from fastbp.training.feeds import ArrayFeed
from fastbp.training.gradient_norm import gradient_norm
from fastbp.training.progress import Progress
from fastbp.training.rate_table import RateTable
from fastbp.training.settings import FitSettings
from fastbp.types import Array

# Share of the optimiser's rate at or below which a schedule has come to its end: OneCycle's is 4e-6.
SPENT = 1e-5
log = logging.getLogger(__name__)
_SILENT = contextlib.nullcontext()


class Loop:
    """One call of `MLP.fit`, its arguments checked.

    Attributes
    ----------
    history : History
        Kept up to date, whatever happens.
    learning_rates : RateTable
    threads : Chooser
        Chooses the placement of every chunk of steps: the number of threads, and who computes what.
    consistent : bool
        Parameters, counters and losses are those of the same step, of one moment.
    pending : bool
        The last epoch has still to be validated, and shown to the callbacks.
    """

    takes_snapshots = False  # of parameters now and then, to go back to after a divergence

    def __init__(
        self, net: Network, feed: ArrayFeed | ChunkFeed, settings: FitSettings, validation: Samples | None = None
    ) -> None:
        self.net, self.session, self.engine = net, net.session, net.session.engine
        self.feed, self.settings, self.validation = feed, settings, validation
        self.optimizer, self.callbacks = settings.optimizer, settings.callbacks
        self.precision = precisions.check(settings.precision, self.session.spec.dtype)
        self.watchers = [callback for callback in self.callbacks if isinstance(callback, Watcher)]
        self.history = History(self.session.spec.loss.score_name)
        self.learning_rates = RateTable(settings.schedule, self.optimizer.lr, feed.steps_of_epoch)
        self.progress = Progress(settings.epochs, feed.known_rows, show=settings.progress)
        asks = validation is not None or bool(self.callbacks) or self.learning_rates.plateau is not None
        self.stops_at_epochs = feed.pass_is_epoch and asks
        self.asks_at = 0  # steps over the rows at hand after which somebody has to be asked
        self.consistent, self.pending = True, False
        self.paused = False  # what stopped the training is no part of it
        self.interrupted = team.interruptible(self.engine.request_stop)
        self.last_epoch = self.next_epoch = 0  # of the last step, and of the one that comes after it
        self.last_lr = settings.conventions.lr_before or self.optimizer.lr
        self.left: tuple[int, int] | None = None  # how the last chunk of steps left the network
        self._fingerprint: dict[str, Any] | None = None
        self.begin_rows()

    def begin_rows(self) -> None:
        """Other rows than before are at hand."""
        self.step_flops = self.session.layout.flops_per_row * self.feed.batch_size
        self.choose()

    def choose(self) -> None:
        """Have what chooses the placement of the next chunk; another one, when the system grants other CPUs."""
        feed = self.feed
        seconds = (feed.total - feed.done) * self.step_flops / tuning.THREAD_FLOPS
        by_rows = self.precision != precisions.FLOAT32
        self.threads = self.engine.chooser(self.settings.threads, feed.batch_size, seconds, by_rows=by_rows)

    # --- a whole fit ----------------------------------------------------------------------------------------

    def run(self) -> History:
        """Train. The caller holds the lock of the network."""
        with self.session.training():
            if not self.watchers:
                return self._run()
            with reserved(self.watchers):
                return self._run()

    def _run(self) -> History:
        net, saved = self.net, self.settings.saved
        if saved is not None:
            checkpoints.check(saved, self.fingerprint())
        if not self.learning_rates.constant:
            fresh = self.optimizer.state_layout != self.engine.state_layout
            self.check_learning_rates(*((0, 0) if fresh else (self.engine.epochs, self.engine.steps)))
        self.tell(lambda watcher: watcher.on_fit_begin(net))
        checkpoints.begin(self.callbacks, resumes=saved is not None)
        if saved is not None:
            checkpoints.restore(self, saved)
        self.session.use(self.optimizer)
        net.history = self.history
        self.takes_snapshots = True
        self.engine.clear_stop()  # of an earlier call that an exception cut off
        try:
            with self.progress if self.settings.progress else _SILENT:
                self.feed.train(self)
        except KeyboardInterrupt:
            self.on_pause(final=True)
            raise
        except DivergenceError as error:
            for watcher in self.watchers:
                watcher.on_divergence(net, error)
            raise
        finally:
            self.engine.clear_stop()
            net.history = self.history  # a callback may have trained the network, too
        self.on_pause(final=True)
        self.tell(lambda watcher: watcher.on_fit_end(net))
        log.debug("fit ended after %d epochs: %s", len(self.history.loss), self.history.stop_reason or "all are done")
        return self.history

    def check_learning_rates(self, epoch: int, step: int) -> None:
        """Raise for a bad learning rate before anything is changed, and warn where a schedule has come to its end."""
        self.look_up(epoch, 0, 1, step)
        table, steps, epochs = self.learning_rates, self.feed.steps, self.settings.epochs
        if isinstance(table.schedule, schedules.Schedule) and self.optimizer.lr > 0.0:
            some = {epoch + k * epochs // 4 for k in range(4)} | {epoch + epochs - 1}
            largest = max(float(self.look_up(one, k, 1, 0)[0][0]) for one in some for k in (0, steps // 2))
            if largest <= SPENT * self.optimizer.lr:
                warnings.warn(
                    f"{table.schedule!r} is at its end: the learning rate is {largest:.3g}. It counts the epochs "
                    "trained so far; net.reset_optimizer() begins anew", UserWarning, stacklevel=6,
                )  # fmt: skip

    def look_up(self, epoch: int, first: int, n: int, step: int) -> tuple[Array, Array | None]:
        """Learning rates and momenta of steps to come; see `RateTable.tables`."""
        if self.learning_rates.calls_user_code:
            with self.outside():
                return self.learning_rates.tables(epoch, first, n, step)
        return self.learning_rates.tables(epoch, first, n, step)

    def interruptibly(self, work: Callable[[], None]) -> None:
        """Do some work that Ctrl-C ends between two steps, not in the middle of one."""
        with team.interruptible(self.engine.request_stop) as self.interrupted:
            work()
        if self.interrupted():
            raise KeyboardInterrupt

    @contextlib.contextmanager
    def outside(self) -> Iterator[None]:
        """Within, code of the user runs: Ctrl-C raises there, and other threads may use the network."""
        with self.interrupted.suspended(), team.unlocked(self.session.lock), as_caller():
            yield

    def tell(self, what: Callable[[Watcher], None]) -> None:
        """Tell fastbp's own callbacks of the beginning or the end."""
        if self.watchers:  # a fit without callbacks keeps the network to itself: others wait for it
            with self.outside():
                for watcher in self.watchers:
                    what(watcher)

    # --- steps ----------------------------------------------------------------------------------------------

    def run_steps(self) -> None:
        """Make the steps over the rows at hand, chunk by chunk, until all are done or something ends them."""
        if self.pending:
            self.end_epoch()
            self.on_pause()
        feed, step_seconds, fresh = self.feed, self.step_flops / tuning.THREAD_FLOPS + 1e-6, True
        while feed.done < feed.total and not self.history.stop_reason and not self.interrupted():
            if not fresh:
                self.choose()
            fresh = False
            placement, length = self.threads.next(tuning.CHUNK_SECONDS)
            most = tuning.MAX_STEPS if placement in self.threads.seconds else tuning.FIRST_STEPS
            step_seconds = self.threads.seconds.get(placement, step_seconds)
            now, place = min(feed.total - feed.done, most, max(1, int(length / step_seconds))), feed.done % feed.steps
            if self.stops_at_epochs:
                if self.asks_at <= feed.done:
                    self.asks_at = (feed.done // feed.steps + self.epochs_unasked()) * feed.steps
                now = min(now, self.asks_at - feed.done)
            self.consistent = False
            started = time.perf_counter()
            status, made = self.chunk(place, now, placement, long=step_seconds > tuning.CHUNK_SECONDS)
            seconds = time.perf_counter() - started
            losses = feed.step_losses(self.engine.losses[:made], self.engine.mean_weights[:made])
            feed.log.add(self.history, losses, self.lrs, seconds)
            feed.done += made
            self.pending = bool(self.stops_at_epochs and made and feed.done in (self.asks_at, feed.total))
            self.consistent = True
            if made:
                step_seconds = seconds / made
                self.threads.note(placement, made, seconds)
            self.check_status(status)
            if self.pending:
                self.end_epoch()
            if self.progress.shown:
                self.progress.update(*feed.progress(made), self.history, float(self.lrs[max(0, made - 1)]))
            if self.interrupted():
                return
            if feed.done == feed.total or self.history.stop_reason or self.on_pause():
                self.check_parameters()

    def epochs_unasked(self) -> int:
        """Epochs from here to the first at whose end there is something to do."""
        if self.validation is not None or self.learning_rates.plateau is not None:
            return 1
        return min((one.looks_in() if isinstance(one, Watcher) else 1) for one in self.callbacks)

    def chunk(self, first: int, n_steps: int, placement: Placement, *, long: bool) -> tuple[int, int]:
        """Some steps from step `first` of the pass on; returns the status and the number of steps made."""
        engine, feed = self.engine, self.feed
        self.prepare_steps(first, n_steps, placement.parts)
        steps, epochs = self.begins_at
        status = engine.call(
            records.TRAIN, placement, detached=long, snapshots=self.snapshots, precision=self.precision
        )
        made = engine.steps - steps
        if saved := engine.snapshot_step:
            engine.note_snapshot(saved, steps, epochs, first, feed.steps if feed.pass_is_epoch else 0)
        self.left = engine.mark()
        self.last_lr = float(self.lrs[max(0, made - 1)])
        made -= status == records.DIVERGED  # the step whose loss is not finite
        self.last_epoch = epochs + (first + max(made, 1) - 1) // feed.steps
        self.next_epoch = epochs + (first + made) // feed.steps * feed.pass_is_epoch
        return status, made

    def prepare_steps(self, first: int, n_steps: int, parts: int = 1) -> None:
        """Point the engine at some steps from step `first` of the pass on, whatever it was used for since the last.

        parts: of the placement.
        """
        engine, feed = self.engine, self.feed
        self.session.use(self.optimizer)
        # Before all else, as this may call a function of the user's, and that the methods of the network.
        self.lrs, momenta = self.look_up(engine.epochs, feed.before + first, n_steps, engine.steps)
        self.session.use(self.optimizer)
        self.begins_at = steps, epochs = engine.steps, engine.epochs
        self.take_snapshot()
        self.bind_rows()
        engine.bind_rates(None if self.learning_rates.constant else self.lrs, momenta)
        conventions = self.settings.conventions
        if conventions.lr_before:
            conventions = replace(conventions, lr_before=self.last_lr)
        engine.bind_optimizer(self.optimizer, steps, conventions)
        engine.prepare(feed.batch_size, self.threads.most, n_steps=n_steps, whole=True, parts=parts)
        engine.count_epochs(first, feed.steps if feed.pass_is_epoch else 0)
        shuffle, self.order_source = feed.order_of_steps(first, n_steps)
        engine.bind_order(feed.n_rows, self.order_source, feed.order, feed.n_dropped)
        epoch = epochs + (feed.part << 32)  # for the order of the rows alone
        engine.bind_steps(
            n_steps, first * feed.batch_size, epoch, shuffle,
            two_pass=self.step_flops > tuning.LONG_STEP_FLOPS or self.optimizer.clips,
        )  # fmt: skip
        feed.in_the_middle = False

    def bind_rows(self) -> None:
        """Point the engine at the rows at hand and at their order."""
        engine, feed, samples = self.engine, self.feed, self.feed.samples
        assert samples is not None
        scan = isinstance(samples.X, np.memmap)
        engine.bind_data(samples.X, samples.y, self.session.kernel_scaling(), samples.weights, scan=scan)
        engine.set_seed(self.net.seed)
        self.snapshots = 0, 1
        if self.takes_snapshots:
            self.snapshots = self.session.layout.snapshots(feed.batch_size, len(engine.moments), feed.steps)

    def take_snapshot(self) -> None:
        """If others than this fit have changed the network, remember it as it is, to go back to after a divergence."""
        engine = self.engine
        if not self.takes_snapshots or self.left == engine.mark():
            return
        if self.left is None or not engine.has_snapshot or np.isfinite(engine.parameters).all():
            engine.take_snapshot()

    def check_status(self, status: int) -> None:
        """Raise what the last chunk of steps has ended by, if that is an error."""
        if status in records.BAD:
            raise self.engine.bad_input()
        if status == records.DIVERGED:
            self.diverged(self.next_epoch)
        if status == records.RUINED:
            self.diverged(self.last_epoch)

    def check_parameters(self) -> None:
        """After the last step: it may have ruined the parameters, though its own loss was fine."""
        if not arrays.all_finite(self.engine.parameters) and not np.isfinite(self.engine.parameters).all():
            self.diverged(self.last_epoch)

    def diverged(self, epoch: int) -> None:
        """Go back to the last finite parameters and say where it went wrong."""
        step = self.engine.steps - 1
        self.engine.go_back()
        raise DivergenceError(epoch, step, self.last_lr, self.history, self.session.standardizes)

    # --- ends of epochs, and pauses -------------------------------------------------------------------------

    def end_epoch(self) -> None:
        """Validate, adapt the learning rate, ask the callbacks."""
        history, plateau = self.history, self.learning_rates.plateau
        self.pending = True
        if self.validation is not None and len(history.val_loss) < len(history.loss) and not self.interrupted():
            self.validate(self.validation)
        if self.interrupted():
            return
        self.pending = self.consistent = False
        if plateau is not None:
            plateau.observe(getattr(history, plateau.schedule.monitor)[-1])
        for callback in self.callbacks:  # all of them: one that only pauses hides no epoch from the others
            # While a brief one is at work, Ctrl-C waits, so that the last checkpoint is of this very moment.
            with contextlib.nullcontext() if vars(type(callback)).get("brief") else self.outside():
                self.call_back(callback)
        self.consistent = True

    def validate(self, samples: Samples) -> None:
        """Score the validation data."""
        found = self.session.evaluate(samples, self.threads.best.threads)
        if not self.interrupted():  # which would have left the evaluation half done
            history, n = self.history, len(self.history.val_loss)
            # In one statement: of an epoch both are there, or none.
            history.val_loss[n:], history.val_score[n:] = [found["loss"]], [found[history.score_name]]

    def call_back(self, callback: Callback) -> None:
        """Show the epoch to a callback, which may end the training."""
        history = self.history
        state = EpochState(self.net, len(history.loss), history, self.gradient_norm)
        answer, pauses = callback.on_epoch_end(state), bool(getattr(callback, "pauses", False))
        if answer and (not history.stop_reason or (self.paused and not pauses)):
            name = type(callback).__name__
            history.stop_reason = f"{name}: {answer}" if isinstance(answer, str) else name
            self.paused = pauses

    def count_epoch(self) -> None:
        """One more epoch is done, which no pass over the rows tells."""
        untouched = self.left == self.engine.mark()
        self.engine.count_epoch()
        if untouched:
            self.left = self.engine.mark()

    def show_epochs(self) -> None:
        """Move the progress bar to the end of the epoch."""
        self.progress.update(*self.feed.progress(0), self.history, self.history.lr[-1])

    def on_pause(self, *, final: bool = False) -> bool:
        """Call `on_pause` of every callback. Returns True if one of them stopped the training.

        final: there will be no other chunk of steps.
        """
        if self.consistent:
            for watcher in self.watchers:
                watcher.on_pause(self, final)
        return bool(self.history.stop_reason)

    def stop(self, reason: str, *, pauses: bool) -> None:
        """Make no further step; `pauses`: for now."""
        self.history.stop_reason, self.paused = reason, pauses

    @property
    def between_epochs(self) -> bool:
        """Whether no epoch is open."""
        return self.feed.between_epochs and not self.pending

    @property
    def finished(self) -> bool:
        """Whether there is nothing left to do, ever: what ended it was no pause."""
        return (self.feed.finished and not self.pending) or (bool(self.history.stop_reason) and not self.paused)

    def gradient_norm(self) -> float:
        """Euclidean norm of dJ/d(parameters) over all training rows, penalties included."""
        return gradient_norm(self.session, self.feed, self.optimizer)

    # --- checkpoints ----------------------------------------------------------------------------------------

    def fingerprint(self) -> dict[str, Any]:
        """All that decides the bits, by names that a message may show: JSON-able. Computed once."""
        if self._fingerprint is None:
            settings = self.settings
            self._fingerprint = checkpoints.fingerprint(
                self.session, self.optimizer, settings.schedule, settings.shuffle, self.feed.fingerprint(),
                self.validation, self.callbacks, self.precision,
            )  # fmt: skip
        return self._fingerprint

    def state_dict(self) -> dict[str, Any]:
        """Where the training stands, between two steps, as plain values and arrays."""
        history, plateau = self.history, self.learning_rates.plateau
        return {
            "settings": self.fingerprint(),
            "epochs": len(history.loss),
            "finished": self.finished,
            "stop_reason": history.stop_reason,
            "position": self.feed.position(),
            "pending": self.pending,
            "books": self.feed.log.state(),
            "history": {name: np.asarray(getattr(history, name), np.float64) for name in saving.COLUMNS},
            "plateau": None if plateau is None else plateau.state_dict(),
            "callbacks": checkpoints.callback_states(self.callbacks),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` returned, of the same training."""
        history, plateau = self.history, self.learning_rates.plateau
        self.feed.go_to(state["position"])
        self.pending = state["pending"]
        for name in saving.COLUMNS:
            getattr(history, name)[:] = state["history"][name].tolist()
        self.feed.log.load_state(state["books"])
        self.feed.check_position(history, self.pending)
        if plateau is not None:
            plateau.load_state_dict(state["plateau"])
        if state["finished"]:
            history.stop_reason = state["stop_reason"]
        checkpoints.load_callback_states(self.callbacks, state["callbacks"])

    def checkpoint(self) -> tuple[dict[str, Array], dict[str, Any]] | None:
        """What a file of this moment holds; None where parameters are not finite (the next loss tells)."""
        if not np.isfinite(self.engine.parameters).all():
            return None
        return checkpoints.pack(self.session.values(), self.state_dict())
