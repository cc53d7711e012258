"""`fit` over data that come in chunks: from a generator, from shards on disk, from anything that iterates."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fastbp import arrays, schedules, validation
from fastbp.callbacks.base import Callback
from fastbp.data import sample_weights
from fastbp.io import saved_training as saving
from fastbp.optimizers import Optimizer
from fastbp.training import checkpoints
from fastbp.training.history import History
from fastbp.training.loop import Fit
from fastbp.types import Array

if TYPE_CHECKING:
    from fastbp.network import MLP

Source = Callable[[], Iterable[Any]]

MOST_CHUNKS = 1 << 30  # of an epoch: their number is a part of the key that shuffles their rows


def source_of(X: Any, epochs: int) -> Source:
    """What gives the chunks of the next epoch, from an iterable or a function that returns one.

    Raises
    ------
    TypeError
        It is no such thing; most likely, y was forgotten.
    ValueError
        It can be read only once, but is wanted more often.
    """
    if isinstance(X, np.ndarray | str | bytes | dict) or hasattr(X, "__array__"):
        raise TypeError(f"y is missing: without it, X must be an iterable of chunks (X, y), got {type(X).__name__}")
    if callable(X):
        made: Source = X
        return made
    if not isinstance(X, Iterable):
        raise TypeError(
            f"without y, X must be an iterable of chunks (X, y) or a function that returns one, got {type(X).__name__}"
        )
    if isinstance(X, Iterator) and epochs > 1:
        raise ValueError(
            f"this {type(X).__name__} of chunks can be read only once, but epochs={epochs}: pass the function that "
            "makes it, without calling it, or a list; or epochs=1"
        )
    return lambda: X


def check(schedule: Any, steps_per_epoch: int | None, validation_split: float, callbacks: Sequence[Any]) -> int | None:
    """Return the steps of an epoch, if they are told; refuse what needs all the data at hand."""
    if validation_split:
        raise ValueError("validation_split needs all rows at hand; with chunks, pass validation_data=(X, y)")
    if steps_per_epoch is not None:
        steps_per_epoch = validation.check_positive_int("steps_per_epoch", steps_per_epoch)
    elif isinstance(schedule, schedules.Schedule) and not isinstance(schedule, schedules.ReduceOnPlateau):
        raise ValueError(
            f"{type(schedule).__name__} counts in epochs, whose length chunks do not tell: pass steps_per_epoch, or a "
            "function step -> lr"
        )
    for callback in callbacks:
        if getattr(callback, "needs_rows", False):
            raise ValueError(f"{type(callback).__name__} needs all rows at hand; it cannot be used with chunks")
    return steps_per_epoch


class _Books:
    """The losses of the open epoch, step by step, and the rows of each step."""

    def __init__(self, history: History) -> None:
        self.history = history
        self.sizes = np.empty(0)  # rows of the steps of this chunk that are to come
        self._begin()

    def _begin(self) -> None:
        self.losses: list[Array] = []
        self.rows: list[Array] = []
        self.seconds, self.rate = 0.0, 0.0

    @property
    def steps(self) -> int:
        """Steps of the open epoch."""
        return sum(map(len, self.losses))

    def state(self) -> dict[str, Any]:
        """What is known of an epoch that has not ended."""
        joined = [np.concatenate([*parts, np.empty(0)]) for parts in (self.losses, self.rows)]
        return {"losses": joined[0], "rows": joined[1], "seconds": self.seconds, "rate": self.rate}

    def load_state(self, state: dict[str, Any]) -> None:
        """Put back what `state` returned."""
        losses = saving.numbers("losses", state["losses"])
        self.losses, self.rows = [losses], [saving.numbers("rows", state["rows"], len(losses))]
        self.seconds, self.rate = (saving.number(name, state[name]) for name in ("seconds", "rate"))

    def add(self, losses: Array, rates: Array, seconds: float) -> None:
        """Take the losses and learning rates of some steps, which lasted so many seconds."""
        made = len(losses)
        self.losses.append(losses.copy())
        self.rows.append(self.sizes[:made])
        self.sizes = self.sizes[made:]
        self.seconds += seconds
        if made:
            self.rate = float(rates[made - 1])

    def close(self) -> None:
        """The epoch has ended: write it down."""
        losses, rows = np.concatenate(self.losses), np.concatenate(self.rows)
        history, n, loss = self.history, len(self.history.loss), float((losses * rows).sum() / rows.sum())
        history.loss[n:], history.lr[n:], history.seconds[n:] = [loss], [self.rate], [self.seconds]
        self._begin()


class StreamFit(Fit):
    """One call of `MLP.fit` on chunks: an epoch is one pass over each of them, in the order in which they come."""

    by_pass = False

    def __init__(
        self, net: MLP, source: Source, epochs: int, batch_size: int, optimizer: Optimizer,
        validation_data: tuple[Array, Array, Array | None] | None, shuffle: bool, threads: int | None, progress: bool,
        schedule: Any, callbacks: Sequence[Callback], steps_per_epoch: int | None, saved: saving.Saved | None,
    ) -> None:  # fmt: skip
        n_in, n_out = net.sizes[0], net.sizes[-1]
        nothing = np.zeros((1, n_in), net.dtype), np.zeros((1, n_out), net.dtype)  # until the first chunk is there
        super().__init__(
            net, *nothing, None, epochs, 1, optimizer, validation_data, shuffle, threads, progress, schedule, callbacks,
            saved=saved,
        )  # fmt: skip
        self.source, self.wanted_batch, self.wanted_threads = source, batch_size, threads
        self.steps_per_epoch = steps_per_epoch
        self.rates.steps = steps_per_epoch or 1
        self.books = _Books(self.history)
        self.by_epoch = False
        self.progress.n_samples = None
        self.epoch, self.rows_seen = 0, 0  # epochs that are done, and rows since the call
        self.skipped: dict[str, Any] | None = None  # where a checkpoint goes on

    def train(self) -> None:
        """All epochs, or what is left of them. Chunks are fetched while Ctrl-C still does what it does elsewhere."""
        if self.pending:
            self.interruptibly(self.end_epoch)
            self.pause()
        while self.epoch < self.epochs and not self.history.stop_reason:
            number = -1
            for number, item in enumerate(self.fetched()):
                if number < self.part:
                    continue
                if self.before == self.steps_per_epoch:
                    break
                self.open(number, item)
                self.interruptibly(self.walk)
                if self.done < self.total:  # something has stopped the training
                    return
                # In one statement, between whose parts no exception comes: a checkpoint may be written after one.
                before = self.before + self.total
                self.before, self.part, self.done, self.steps, self.total = before, number + 1, 0, 0, 0
                if self.pause():
                    return
                if self.before == self.steps_per_epoch:
                    break
            if number + 1 < self.part:
                raise ValueError(f"{self.part} chunks of epoch {self.epoch} were done, but now only {number + 1} came")
            self._close()
            self.interruptibly(self.end_epoch)
            self.progress.update(self.epoch, self.rows_seen, self.history, self.history.lr[-1])
            self.pause()

    def open(self, number: int, item: Any) -> None:
        """Check a chunk and point the engine at it; the network is as it was if the chunk is bad."""
        net = self.net
        try:
            X, y, by_row = sample_weights.parts(item, "a chunk")
            samples, targets, weights, _ = net.session.check_batch(X, y, by_row, scan=True)
            sample_weights.check_total(weights, what="rows of the chunk", may_be_zero=True)  # as in a batch of `fit`
            if isinstance(samples, np.memmap):  # scanned now, not while gathering, when the network has changed already
                samples = np.asarray(samples)
                arrays.check_finite(samples, "X", net.dtype, net.session.kernel_scaling())
        except (TypeError, ValueError) as error:
            kind = TypeError if isinstance(error, TypeError) else ValueError
            raise kind(f"chunk {number} of epoch {self.epoch}: {error}") from error
        if by_row is not None:
            sample_weights.check_effect(weights, None, self.wanted_batch)
        self.settled = False
        self.X, self.y, self.weights, self.n = samples, targets, weights, len(samples)
        if self.skipped is not None and self.skipped["digest"] != checkpoints.digest(samples, targets, weights):
            raise ValueError(f"chunk {number} is not the one that the training was interrupted in")
        self.done, self.skipped = (self.skipped["done"] if self.skipped else 0), None
        self.batch_size = min(self.wanted_batch, self.n)
        self.steps = self.total = -(-self.n // self.batch_size)
        if self.steps_per_epoch is not None:  # the last chunk of an epoch may have more
            self.total = min(self.total, self.steps_per_epoch - self.before)
        if self.done and self.done >= self.total:
            raise ValueError(f"the training was interrupted after {self.done} steps of chunk {number}, of {self.total}")
        self.part, self.reshuffle = number, self.done > 0
        rows = np.full(self.steps, self.batch_size, np.float64)
        rows[-1] = self.n - self.batch_size * (self.steps - 1)
        self.books.sizes = rows[self.done :]
        self.step_flops = net.session.layout.flops_per_row * self.batch_size
        self.threads = self.engine.chooser(self.wanted_threads, self.batch_size)
        if self.order is not None and len(self.order) < self.n:
            self.order = np.empty(self.n, np.int64)
        self.settled = True

    def step_losses(self, made: int) -> Array:
        """Losses of the last steps; the books weigh them by the sums of the weights of their rows."""
        if self.weights is not None:
            self.books.sizes[:made] *= self.engine.mean_weights[:made]
        return self.engine.losses[:made]

    def fetched(self) -> Iterator[Any]:
        """The chunks, each fetched while other threads may use the network, such as one that prepares the next."""
        with self.outside():
            chunks = iter(self.source())
        nothing = object()
        while True:
            with self.outside():
                item = next(chunks, nothing)
            if item is nothing:
                return
            yield item

    def _close(self) -> None:
        """The chunks have come to their end, and the epoch with them."""
        steps, said = self.books.steps, self.steps_per_epoch
        if steps == 0:
            raise ValueError(
                f"no chunk came in epoch {self.epoch}: expected at least one pair (X, y); an iterator can be read only "
                "once, so pass a function that makes a new one"
            )
        if said is not None and said != steps:
            raise ValueError(f"steps_per_epoch={said}, but epoch {self.epoch} had {steps} steps")
        if not any(rows.any() for rows in self.books.rows):
            raise ValueError(
                f"the weights of all rows of epoch {self.epoch} are 0 (by the weights in the chunks or an ignored "
                "label): at least one row must count"
            )
        self.settled = False
        self.books.close()
        self.epoch, self.part, self.before, self.done = self.epoch + 1, 0, 0, 0
        untouched = self.left == self.engine.mark()
        self.engine.count_epoch()
        if untouched:
            self.left = self.engine.mark()
        self.pending = self.settled = True

    def show(self, made: int) -> None:
        """Move the progress bar, after a chunk of some steps."""
        self.rows_seen += made * self.batch_size
        rate = float(self.lrs[max(0, made - 1)])
        self.progress.update(self.epoch, self.rows_seen, self.history, rate)

    @property
    def between_epochs(self) -> bool:
        """No epoch is open."""
        return self.part == 0 and self.done == 0 and not self.pending

    @property
    def finished(self) -> bool:
        """Whether there is nothing left to do, ever."""
        whole = self.epoch == self.epochs and not self.pending
        return whole or (bool(self.history.stop_reason) and not self.paused)

    def position(self) -> dict[str, Any]:
        """Where the training stands, for `go_to`."""
        if self.done > 0 and self.done == self.total:
            return {"epoch": self.epoch, "chunk": self.part + 1, "before": self.before + self.total, "done": 0}
        found = {"epoch": self.epoch, "chunk": self.part, "before": self.before, "done": self.done}
        return found | ({"digest": checkpoints.digest(self.X, self.y, self.weights)} if self.done else {})

    def go_to(self, position: dict[str, Any]) -> None:
        """Go on from there."""
        self.epoch, self.before, done = (saving.count(name, position[name]) for name in ("epoch", "before", "done"))
        self.part = saving.count("chunk", position["chunk"], most=MOST_CHUNKS)
        if self.epoch > self.epochs:
            raise ValueError(f"epochs={self.epochs}, but the checkpoint has had {self.epoch} of them")
        if done and not isinstance(position["digest"], str):
            raise ValueError(f"digest is {position['digest']!r:.80}, expected text")
        self.skipped = position if done else None

    def check_books(self) -> None:
        """Refuse a position that the losses gone on with do not belong to."""
        done = self.before + (self.skipped["done"] if self.skipped else 0)
        if self.steps_per_epoch is not None and done > self.steps_per_epoch:
            raise ValueError(f"it has made {done} steps of epoch {self.epoch}, which has {self.steps_per_epoch}")
        if (len(self.history.loss), self.books.steps) != (self.epoch, done) or (self.pending and (done or self.part)):
            raise ValueError(
                f"it has made {done} steps of epoch {self.epoch}, but has losses of {len(self.history.loss)} epochs "
                f"and {self.books.steps} more steps"
            )

    def fingerprints(self) -> dict[str, Any]:
        """Of the data nothing is known before they come."""
        return {"batch_size": self.wanted_batch, "rows": "in chunks", "steps_per_epoch": self.steps_per_epoch}

    def gradient_norm(self) -> float:
        """The rows of the epoch are gone."""
        raise ValueError("state.gradient_norm needs all rows at hand; it cannot be used with chunks")
