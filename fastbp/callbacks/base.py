"""The interface of callbacks, the state that they are given, and the base class of fastbp's own."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from fastbp.engine.network import Network
from fastbp.errors import DivergenceError
from fastbp.history import History
from fastbp.types import Array
from fastbp.validation import Checked

MONITORS = ("loss", "val_loss", "val_score")


def monitored(history: History, monitor: str, place: int = -1) -> float:
    """What is monitored of an epoch, as a cost: the negative of a score, NaN where the loss beside it is NaN.

    A network of NaN has an accuracy, too: that of its first class.
    """
    value = float(getattr(history, monitor)[place])
    if monitor == "val_score":
        return math.nan if math.isnan(history.val_loss[place]) else -value
    return value


def improves(cost: float, bound: float) -> bool:
    """Whether a cost is below a bound; NaN is worse than any number. All that watches a training compares by this."""
    return cost < bound or (math.isnan(bound) and not math.isnan(cost))


@dataclass(frozen=True)
class EpochState:
    """Where a training stands at the end of an epoch.

    Attributes
    ----------
    net : MLP
        As it is now. Its methods may be called, as if this were between two fits of an epoch each: what reads (weights,
        predict, evaluate, backprop, copy, save ...) changes nothing; after what changes (set_weights, train_step,
        ``optimizer.update``, fit, reset_optimizer, load_optimizer_state) the training goes on from there, with new
        moments if they were of another optimiser. `standardize`, and setting `scaling`, raise RuntimeError.
    epoch : int
        Epochs that this `fit` has done.
    history : History
        All of them; its last entries are this epoch's.
    gradient_norm : callable
        Returns the Euclidean norm of dJ/d(weights, biases) over all training rows, l1, l2 and coupled weight decay
        included: as much work as half an epoch.
    """

    net: Network
    epoch: int
    history: History
    gradient_norm: Callable[[], float]

    @property
    def loss(self) -> float:
        """Mean loss of the epoch."""
        return self.history.loss[-1]

    @property
    def val_loss(self) -> float | None:
        """Loss on the validation data, if there are any."""
        return self.history.val_loss[-1] if self.history.val_loss else None

    @property
    def val_score(self) -> float | None:
        """Score on the validation data, if there are any."""
        return self.history.val_score[-1] if self.history.val_score else None

    @property
    def lr(self) -> float:
        """Learning rate of the last step."""
        return self.history.lr[-1]

    @property
    def seconds(self) -> float:
        """Duration of the epoch."""
        return self.history.seconds[-1]


class Callback(Protocol):
    """What `fit` calls. True, or a text that says why, stops the training; None and False let it go on."""

    def on_epoch_end(self, state: EpochState) -> bool | str | None:
        """Look, act, and decide."""


class Training(Protocol):
    """A `fit` at work, as fastbp's own callbacks see it between two steps."""

    history: History

    @property
    def between_epochs(self) -> bool:
        """Whether no epoch is open."""

    def checkpoint(self) -> tuple[dict[str, Array], dict[str, Any]] | None:
        """What a file of this moment holds; None where there is nothing worth keeping."""

    def stop(self, reason: str, *, pauses: bool) -> None:
        """Make no further step; `pauses`: for now."""


class Watcher(Checked):
    """A callback of fastbp's own: it may need validation data, starts afresh with each fit, and may end it."""

    brief = False  # of this very class: its `on_epoch_end` takes no time to speak of
    by_history = False  # of this very class: it looks at nothing but the history, and changes nothing
    needs_validation = False
    needs_rows = False  # all training rows at hand
    pauses = False  # it stops trainings at a time of day, after which they may be resumed

    def on_fit_begin(self, net: Network) -> None:
        """Forget earlier fits."""

    def on_epoch_end(self, state: EpochState) -> bool | str | None:
        """Decide."""
        raise NotImplementedError

    def looks_in(self) -> int:
        """At the end of which epoch from here it has to be asked, 1 for the next; it then sees those before as well."""
        return 1

    def sure_epochs(self) -> int:
        """Epochs from here before whose last one has ended it does not end the training, whatever they bring."""
        return 1

    def on_pause(self, fit: Training, final: bool) -> None:
        """The training stands between two steps, as it does every now and then; or has ended, before `on_fit_end`."""

    def on_divergence(self, net: Network, error: DivergenceError) -> None:
        """The training has ended by this error, and the network has the weights of the last step that were finite."""

    def on_fit_end(self, net: Network) -> None:
        """The training has ended, of itself or by a callback."""


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
