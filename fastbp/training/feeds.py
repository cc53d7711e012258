"""What a loop trains on: the rows at hand, the steps over them, and the losses of the epoch that is open."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Protocol

import numpy as np

from fastbp.engine import team
from fastbp.engine.chooser import Chooser
from fastbp.engine.session import Session
from fastbp.history import History
from fastbp.io import saved_training as saving
from fastbp.kernels import records
from fastbp.spec import Samples
from fastbp.training import checkpoints
from fastbp.training.progress import Progress
from fastbp.training.settings import FitSettings
from fastbp.types import Array


class Loop(Protocol):
    """What a feed asks of the loop that it drives."""

    session: Session
    settings: FitSettings
    history: History
    progress: Progress
    threads: Chooser
    interrupted: team.interruptible  # called, it tells whether Ctrl-C has been pressed
    consistent: bool
    pending: bool
    precision: str  # of the operands of products
    stops_at_epochs: bool  # there is something to do at their ends

    def begin_rows(self) -> None:
        """Other rows than before are at hand."""

    def run_steps(self) -> None:
        """Make the steps over the rows at hand, until all are done or something ends them."""

    def interruptibly(self, work: Callable[[], None]) -> None:
        """Do some work that Ctrl-C ends between two steps."""

    def outside(self) -> AbstractContextManager[None]:
        """Within, code of the user runs."""

    def end_epoch(self) -> None:
        """Validate, adapt the learning rate, ask the callbacks."""

    def count_epoch(self) -> None:
        """One more epoch is done, which no pass over the rows tells."""

    def on_pause(self) -> bool:
        """Call `on_pause` of every callback. Returns True if the training has been stopped."""

    def show_epochs(self) -> None:
        """Move the progress bar to the end of the epoch."""


class EpochLog:
    """Cuts the stream of step losses into epochs; the same figures wherever the chunks of steps ended."""

    def __init__(self, n_rows: int, batch_size: int) -> None:
        self.n_rows, self.steps = n_rows, -(-n_rows // batch_size)
        self.rows = rows_of_steps(n_rows, batch_size)
        self.open = np.empty(0)  # losses of the steps of the epoch that has not ended
        self.open_seconds = 0.0

    def state(self) -> dict[str, Any]:
        """What is known of an epoch that has not ended."""
        return {"open": self.open, "open_seconds": self.open_seconds}

    def load_state(self, state: dict[str, Any]) -> None:
        """Put back what `state` returned."""
        self.open = saving.numbers("open", state["open"])
        self.open_seconds = saving.number("open_seconds", state["open_seconds"])

    def add(self, history: History, losses: Array, learning_rates: Array, seconds: float) -> None:
        """Take the losses and learning rates of some steps, which lasted so many seconds."""
        before = len(self.open)
        if not before and len(losses) == self.steps:  # an epoch by itself: the same, by 2 us instead of 7
            mean = float(np.add.reduce(losses * self.rows)) / self.n_rows
            duration, n, self.open_seconds = self.open_seconds + seconds, len(history.loss), 0.0
            rate = float(learning_rates[self.steps - 1])
            history.loss[n:], history.seconds[n:], history.lr[n:] = [mean], [duration], [rate]
            return
        stream = np.concatenate([self.open, losses]) if before else losses
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
        means = ((done * self.rows).sum(axis=1) / self.n_rows).tolist()
        rates_then, n = learning_rates[ends].tolist(), len(history.loss)
        # In one statement, between whose parts no exception comes: the columns of a history are of one length.
        history.loss[n:], history.seconds[n:], history.lr[n:] = means, durations, rates_then


def rows_of_steps(n_rows: int, batch_size: int) -> Array:
    """Rows of each step of a pass over some rows: the last step may have fewer."""
    steps = -(-n_rows // batch_size)
    rows = np.empty(steps)
    rows.fill(batch_size)
    rows[-1] = n_rows - batch_size * (steps - 1)
    return rows


class ArrayFeed:
    """All rows are at hand, and a pass over them is an epoch.

    Attributes
    ----------
    samples : Samples
        The rows at hand.
    n_rows : int
        How many of them are trained on.
    n_dropped : int
        Of these, the last in the order of an epoch that make no whole batch, if such are left out.
    batch_size : int
        Rows of a step, `n_rows` at most.
    steps : int
        Steps of one pass over the rows.
    total, done : int
        Steps to make over the rows at hand, and those that are done.
    part, before : int
        Number of the part of the epoch that the rows are, and steps of the epoch that other parts have taken: both 0.
    order : array or None
        Room for the row numbers in a new order; None: the rows stay as they stand.
    in_the_middle : bool
        The next step is in the middle of a pass whose order of rows is not at hand.
    orders : callable, optional
        Returns the row numbers of so many epochs to come, ``(epochs, n_rows)`` int64, in the order of each; None: the
        kernels shuffle.
    """

    pass_is_epoch = True
    part = before = 0

    def __init__(
        self, samples: Samples, epochs: int, batch_size: int, *, shuffle: bool, drop_last: bool = False,
        orders: Callable[[int], Array] | None = None,
    ) -> None:  # fmt: skip
        self.samples, self.epochs, self.n_rows, self.orders = samples, epochs, samples.n_rows, orders
        self.batch_size = min(batch_size, self.n_rows)
        self.n_dropped = self.n_rows % self.batch_size if drop_last else 0
        used = self.n_rows - self.n_dropped
        self.steps = self.steps_of_epoch = -(-used // self.batch_size)
        self.total, self.done, self.begun = epochs * self.steps, 0, 0  # begun: done before this call
        self.order = np.empty(self.n_rows, np.int64) if shuffle else None
        self.in_the_middle = False
        self.log: Any = EpochLog(used, self.batch_size)
        weights = samples.own_weights
        self.mean_weight = 1.0 if weights is None else float(weights.mean())

    def train(self, loop: Loop) -> None:
        """Make all steps, or what is left of them."""
        loop.interruptibly(loop.run_steps)

    def order_of_steps(self, first: int, n_steps: int) -> tuple[int, Array | None]:
        """How kernels order the rows in some steps, and where from: the orders, or the rows that are meant."""
        if self.order is None:
            return records.IN_ORDER, self.samples.rows
        if self.orders is not None:
            begun = -(-(first + n_steps) // self.steps) - -(-first // self.steps)
            return records.GIVEN, self.orders(begun)
        return records.SHUFFLE_NOW if self.in_the_middle else records.SHUFFLE, self.samples.rows

    def step_losses(self, losses: Array, mean_weights: Array) -> Array:
        """Losses of some steps, such that their mean by rows is that of the epoch."""
        return losses if self.samples.weights is None else losses * (mean_weights / self.mean_weight)

    def progress(self, made: int) -> tuple[float, float]:
        """Epochs that are done, and rows that this call has trained on; `made` steps are new."""
        return self.done / self.steps, (self.done - self.begun) / self.steps * self.n_rows

    @property
    def known_rows(self) -> int | None:
        """Rows of an epoch, where they are known."""
        return self.n_rows

    @property
    def finished(self) -> bool:
        """Whether all steps are done."""
        return self.done == self.total

    @property
    def between_epochs(self) -> bool:
        """Whether no epoch is open."""
        return self.done % self.steps == 0

    def position(self) -> dict[str, Any]:
        """Where the training stands, for `go_to`."""
        return {"done": self.done}

    def go_to(self, position: dict[str, Any]) -> None:
        """Go on from there."""
        self.done = self.begun = saving.count("done", position["done"])
        if self.done > self.total:
            raise ValueError(f"epochs={self.epochs}, but the checkpoint has had {self.done / self.steps:g} of them")
        self.in_the_middle = self.done % self.steps != 0

    def check_position(self, history: History, pending: bool) -> None:
        """Refuse a position that does not belong to the losses of a checkpoint."""
        epochs, open_steps = divmod(self.done, self.steps)
        if (len(history.loss), len(self.log.open)) != (epochs, open_steps) or (pending and open_steps):
            raise ValueError(
                f"it has made {self.done} steps, {self.steps} an epoch, but has losses of {len(history.loss)} "
                f"epochs and {len(self.log.open)} more steps"
            )

    def fingerprint(self) -> dict[str, Any]:
        """What tells the data from others, and how many they are."""
        X, y, weights, rows = self.samples
        return {
            "batch_size": self.batch_size,
            "rows": self.n_rows,
            **({"rows left out of an epoch": self.n_dropped} if self.n_dropped else {}),
            "the data": checkpoints.digest(X, y, rows, weights),
        }

    def all_rows(self) -> Array:
        """Numbers of the rows that an epoch trains on."""
        rows = self.samples.rows
        return np.arange(self.n_rows, dtype=np.int64) if rows is None else rows
