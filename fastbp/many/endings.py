"""Callbacks that end runs of a sweep: asked after the epochs that a run has done, and what they answer."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from typing import Any

from fastbp.callbacks.base import EpochState, Watcher
from fastbp.callbacks.stopping import EarlyStopping, MaxSeconds
from fastbp.history import History
from fastbp.many.task import is_known
from fastbp.network import MLP
from fastbp.validation import check_callbacks


def check(callbacks: Any) -> tuple[Watcher, ...]:
    """The callbacks of a sweep, all of them such as end runs by what is known of them.

    Raises
    ------
    ValueError
        For one that only `fit` can ask.
    """
    found: tuple[Any, ...] = tuple(check_callbacks(callbacks))
    for k, one in enumerate(found):
        if not is_known(one):
            raise ValueError(
                f"callbacks[{k}] is {type(one).__name__}: lr_sweep knows EarlyStopping, StopStalled and MaxSeconds; "
                "sweep(net, X, y, {'lr': rates}, callbacks=...) trains each network by its own fit, with any callback"
            )
    return found


class _Run:
    """One run, with callbacks of its own."""

    def __init__(self, callbacks: Sequence[Watcher], net: MLP) -> None:
        self.history = History(net.loss.score_name)
        self.callbacks = [copy.copy(one) for one in callbacks]
        for one in self.callbacks:
            if isinstance(one, EarlyStopping):
                one.restore_best = False  # there are no weights to keep: `kept` says which they would be
            one.on_fit_begin(net)


class Endings:
    """Asks the callbacks of all runs.

    Parameters
    ----------
    callbacks : sequence of Watcher
        Each run gets copies.
    net : MLP
        Any network of the runs.
    """

    def __init__(self, callbacks: Sequence[Watcher], net: MLP) -> None:
        self.callbacks, self.net = callbacks, net
        self.runs: dict[int, _Run] = {}

    @property
    def watches_score(self) -> bool:
        """A callback looks at the score on the rows held out."""
        return any(getattr(one, "monitor", "") == "val_score" for one in self.callbacks)

    def begin(self, which: Iterable[int]) -> None:
        """Runs of these numbers begin."""
        self.runs = {i: _Run(self.callbacks, self.net) for i in which}

    def looks_in(self, which: Iterable[int]) -> int:
        """After how many epochs some run has to be asked."""
        return max(1, min(_looks_in(one, len(run.history.loss)) for i in which for run in [self.runs[i]]
                          for one in run.callbacks))  # fmt: skip

    def take(
        self, i: int, losses: Sequence[float], val_losses: Sequence[float], scores: Sequence[float],
        seconds: Sequence[float],
    ) -> tuple[int | None, int]:  # fmt: skip
        """Tell a run's callbacks all epochs so far, those that they know already among them.

        Returns after which epoch they end the run, or None; and the epoch that they go back to, or 0.
        """
        run = self.runs[i]
        history = run.history
        for epoch in range(len(history.loss), len(losses)):
            history.loss.append(losses[epoch])
            history.val_loss.append(val_losses[epoch])
            history.val_score += scores[epoch : epoch + 1]
            state = EpochState(self.net, epoch + 1, history, _no_norm)
            if any([_ends(one, state, seconds[epoch]) for one in run.callbacks]):
                return epoch + 1, self._kept(run)
        return None, self._kept(run)

    def _kept(self, run: _Run) -> int:
        """The last of the callbacks that go back decides, as in `fit`."""
        found = 0
        for given, one in zip(self.callbacks, run.callbacks, strict=True):
            if isinstance(given, EarlyStopping) and isinstance(one, EarlyStopping) and given.restore_best:
                found = one.best_epoch or found
        return found


def _looks_in(callback: Watcher, epochs: int) -> int:
    if isinstance(callback, EarlyStopping):
        return callback.best_epoch + callback.patience - epochs
    return callback.looks_in()


def _ends(callback: Watcher, state: EpochState, seconds: float) -> bool:
    if isinstance(callback, MaxSeconds):  # by the time of this run: others take turns with it
        return seconds >= callback.seconds
    return bool(callback.on_epoch_end(state))


def _no_norm() -> float:
    raise NotImplementedError("no callback that is known here asks for the norm of the gradient")
