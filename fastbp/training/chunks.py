"""`fit` over data that come in chunks: from a generator, from shards on disk, from anything that iterates."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from fastbp import arrays, schedules, validation
from fastbp.data import columns, sample_weights
from fastbp.engine.session import Session
from fastbp.history import History
from fastbp.io import saved_training as saving
from fastbp.kernels import records
from fastbp.spec import Samples
from fastbp.training import checkpoints
from fastbp.training.feeds import Loop, rows_of_steps
from fastbp.types import Array

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


class ChunkLog:
    """The losses of the open epoch, step by step, and the rows of each step."""

    def __init__(self) -> None:
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

    def add(self, history: History, losses: Array, learning_rates: Array, seconds: float) -> None:
        """Take the losses and learning rates of some steps, which lasted so many seconds."""
        made = len(losses)
        self.losses.append(losses.copy())
        self.rows.append(self.sizes[:made])
        self.sizes = self.sizes[made:]
        self.seconds += seconds
        if made:
            self.rate = float(learning_rates[made - 1])

    def close(self, history: History) -> None:
        """Write the epoch, which has ended, into the history."""
        losses, rows = np.concatenate(self.losses), np.concatenate(self.rows)
        n, loss = len(history.loss), float((losses * rows).sum() / rows.sum())
        history.loss[n:], history.lr[n:], history.seconds[n:] = [loss], [self.rate], [self.seconds]
        self._begin()


class ChunkFeed:
    """An epoch is one pass over each chunk, in the order in which they come.

    Attributes
    ----------
    samples : Samples or None
        Of the chunk at hand; None before the first.
    epoch : int
        Epochs that are done.
    part, before : int
        Number of the chunk at hand in its epoch, and steps that the chunks before it have taken.

    The others are those of `fastbp.training.feeds.ArrayFeed`.
    """

    pass_is_epoch = False
    mean_weight = 1.0
    known_rows = None
    n_dropped = 0

    def __init__(
        self, source: Source, epochs: int, batch_size: int, *, shuffle: bool, steps_per_epoch: int | None
    ) -> None:
        self.source, self.epochs, self.wanted_batch, self.shuffle = source, epochs, batch_size, shuffle
        self.steps_per_epoch, self.steps_of_epoch = steps_per_epoch, steps_per_epoch or 1
        self.samples: Samples | None = None
        self.batch_size, self.n_rows, self.steps, self.total, self.done = 1, 0, 0, 0, 0
        self.epoch = self.part = self.before = self.rows_seen = 0
        self.order: Array | None = None
        self.names: list[str] | None = None  # of the columns, where chunks are frames
        self.in_the_middle = False
        self.log = ChunkLog()
        self.skipped: dict[str, Any] | None = None  # where a checkpoint goes on

    def train(self, loop: Loop) -> None:
        """All epochs, or what is left of them. Chunks are fetched while Ctrl-C still does what it does elsewhere."""
        if loop.pending:
            loop.interruptibly(loop.end_epoch)
            loop.on_pause()
        while self.epoch < self.epochs and not loop.history.stop_reason:
            number = -1
            for number, item in enumerate(self._fetched(loop)):
                if number < self.part:
                    continue
                if self.before == self.steps_per_epoch:
                    break
                self._open(loop, number, item)
                loop.interruptibly(loop.run_steps)
                if self.done < self.total:  # something has stopped the training
                    return
                # In one statement, between whose parts no exception comes: a checkpoint may be written after one.
                before = self.before + self.total
                self.before, self.part, self.done, self.steps, self.total = before, number + 1, 0, 0, 0
                if loop.on_pause():
                    return
                if self.before == self.steps_per_epoch:
                    break
            if number + 1 < self.part:
                raise ValueError(f"{self.part} chunks of epoch {self.epoch} were done, but now only {number + 1} came")
            self._close(loop)
            loop.interruptibly(loop.end_epoch)
            loop.show_epochs()
            loop.on_pause()

    def _fetched(self, loop: Loop) -> Iterator[Any]:
        """The chunks, each fetched while other threads may use the network, such as one that prepares the next."""
        with loop.outside():
            chunks = iter(self.source())
        nothing = object()
        while True:
            with loop.outside():
                item = next(chunks, nothing)
            if item is nothing:
                return
            yield item

    def _open(self, loop: Loop, number: int, item: Any) -> None:
        """Check a chunk and have its rows at hand; the network is as it was if the chunk is bad."""
        try:
            samples, weighed = self._checked(loop.session, item)
        except (TypeError, ValueError) as error:
            kind = TypeError if isinstance(error, TypeError) else ValueError
            raise kind(f"chunk {number} of epoch {self.epoch}: {error}") from error
        if weighed:
            sample_weights.check_effect(samples.weights, None, self.wanted_batch)
        loop.consistent = False
        self.samples, self.n_rows = samples, samples.n_rows
        if self.skipped is not None and self.skipped["digest"] != checkpoints.digest(*samples[:3]):
            raise ValueError(f"chunk {number} is not the one that the training was interrupted in")
        self.done, self.skipped = (self.skipped["done"] if self.skipped else 0), None
        self.batch_size = min(self.wanted_batch, self.n_rows)
        self.steps = self.total = -(-self.n_rows // self.batch_size)
        if self.steps_per_epoch is not None:  # the last chunk of an epoch may have more
            self.total = min(self.total, self.steps_per_epoch - self.before)
        if self.done and self.done >= self.total:
            raise ValueError(f"the training was interrupted after {self.done} steps of chunk {number}, of {self.total}")
        self.part, self.in_the_middle = number, self.done > 0
        self.log.sizes = rows_of_steps(self.n_rows, self.batch_size)[self.done :]
        if self.shuffle and (self.order is None or len(self.order) < self.n_rows):
            self.order = np.empty(self.n_rows, np.int64)
        loop.begin_rows()
        loop.consistent = True

    def _checked(self, session: Session, item: Any) -> tuple[Samples, bool]:
        """The samples of a chunk, and whether it came with weights."""
        X, y, by_row = sample_weights.parts(item, "a chunk")
        self.names = self.names or columns.names_of(X)
        X = columns.by_name(X, self.names)
        samples = session.check_batch(X, y, by_row, scan=True)
        sample_weights.check_total(samples.weights, what="rows of the chunk", may_be_zero=True)  # as a batch of `fit`
        if isinstance(samples.X, np.memmap):  # scanned now, not while gathering, when the network has changed already
            samples = samples._replace(X=np.asarray(samples.X))
            arrays.check_finite(samples.X, "X", session.spec.dtype, session.kernel_scaling())
        return samples, by_row is not None

    def _close(self, loop: Loop) -> None:
        """The chunks have come to their end, and the epoch with them."""
        steps, said = self.log.steps, self.steps_per_epoch
        if steps == 0:
            raise ValueError(
                f"no chunk came in epoch {self.epoch}: expected at least one pair (X, y); an iterator can be read only "
                "once, so pass a function that makes a new one"
            )
        if said is not None and said != steps:
            raise ValueError(f"steps_per_epoch={said}, but epoch {self.epoch} had {steps} steps")
        if not any(rows.any() for rows in self.log.rows):
            raise ValueError(
                f"the weights of all rows of epoch {self.epoch} are 0 (by the weights in the chunks or an ignored "
                "label): at least one row must count"
            )
        loop.consistent = False
        self.log.close(loop.history)
        self.epoch, self.part, self.before, self.done = self.epoch + 1, 0, 0, 0
        loop.count_epoch()
        loop.pending = loop.consistent = True

    def step_losses(self, losses: Array, mean_weights: Array) -> Array:
        """Losses of some steps; the log weighs them by the sums of the weights of their rows."""
        assert self.samples is not None
        if self.samples.weights is not None:
            self.log.sizes[: len(losses)] *= mean_weights
        return losses

    def order_of_steps(self, _first: int, _n_steps: int) -> tuple[int, Array | None]:
        """How kernels order the rows in some steps, and the rows that are meant."""
        assert self.samples is not None
        if self.order is None:
            return records.IN_ORDER, self.samples.rows
        return records.SHUFFLE_NOW if self.in_the_middle else records.SHUFFLE, self.samples.rows

    def progress(self, made: int) -> tuple[float, float]:
        """Epochs that are done, and rows that this call has trained on; `made` steps are new."""
        self.rows_seen += made * self.batch_size
        return self.epoch, self.rows_seen

    @property
    def finished(self) -> bool:
        """Whether all epochs are done."""
        return self.epoch == self.epochs

    @property
    def between_epochs(self) -> bool:
        """Whether no epoch is open."""
        return self.part == 0 and self.done == 0

    def position(self) -> dict[str, Any]:
        """Where the training stands, for `go_to`."""
        if self.done > 0 and self.done == self.total:
            return {"epoch": self.epoch, "chunk": self.part + 1, "before": self.before + self.total, "done": 0}
        found = {"epoch": self.epoch, "chunk": self.part, "before": self.before, "done": self.done}
        return found | ({"digest": checkpoints.digest(*self.samples[:3])} if self.done and self.samples else {})

    def go_to(self, position: dict[str, Any]) -> None:
        """Go on from there."""
        self.epoch, self.before, done = (saving.count(name, position[name]) for name in ("epoch", "before", "done"))
        self.part = saving.count("chunk", position["chunk"], most=MOST_CHUNKS)
        if self.epoch > self.epochs:
            raise ValueError(f"epochs={self.epochs}, but the checkpoint has had {self.epoch} of them")
        if done and not isinstance(position["digest"], str):
            raise ValueError(f"digest is {position['digest']!r:.80}, expected text")
        self.skipped = position if done else None

    def check_position(self, history: History, pending: bool) -> None:
        """Refuse a position that does not belong to the losses of a checkpoint."""
        done = self.before + (self.skipped["done"] if self.skipped else 0)
        if self.steps_per_epoch is not None and done > self.steps_per_epoch:
            raise ValueError(f"it has made {done} steps of epoch {self.epoch}, which has {self.steps_per_epoch}")
        if (len(history.loss), self.log.steps) != (self.epoch, done) or (pending and (done or self.part)):
            raise ValueError(
                f"it has made {done} steps of epoch {self.epoch}, but has losses of {len(history.loss)} epochs "
                f"and {self.log.steps} more steps"
            )

    def fingerprint(self) -> dict[str, Any]:
        """Of the data nothing is known before they come."""
        return {"batch_size": self.wanted_batch, "rows": "in chunks", "steps_per_epoch": self.steps_per_epoch}

    def all_rows(self) -> Array:
        """The rows of the epoch are gone."""
        raise ValueError("state.gradient_norm needs all rows at hand; it cannot be used with chunks")
