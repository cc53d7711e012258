"""Callbacks that end a training: by its loss, by the clock, by its gradient."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fastbp.arrays import check_input_scale, check_weights
from fastbp.callbacks.base import MONITORS, EpochState, Training, Watcher, improves, monitored
from fastbp.engine.network import Network
from fastbp.errors import DivergenceError
from fastbp.io import saved_training as saved
from fastbp.types import Array
from fastbp.validation import (
    check_flag,
    check_non_negative_finite,
    check_positive_finite,
    check_positive_int,
    checked_by,
    later,
    one_of,
    setting,
)


def _check_patience(name: str, value: Any) -> float:
    return math.inf if value == math.inf else check_positive_int(name, value)


@dataclass
class EarlyStopping(Watcher):
    """Stop when the loss or score has not improved for some epochs, and go back to the best weights.

    It stops after `patience` epochs since the best one. `StopStalled` is the rule of scikit-learn's `tol` and
    `n_iter_no_change`, which compares with the best loss in another way and stops at other epochs.

    Parameters
    ----------
    monitor : {"val_loss", "loss", "val_score"}
        What to watch; the first and last need validation data.
    patience : int
        Epochs without improvement before the training stops.
    min_delta : float
        What counts as an improvement: more than this.
    restore_best : bool
        Leave the network with the weights of its best epoch (moments and counters stay as they are), also where the
        training ends by a `DivergenceError`.
    ties : {"first", "last"}
        Which of several best epochs counts. Scores such as an accuracy are often equal; the last epoch of the best has
        been trained for longer.

    Examples
    --------
    >>> stopping = fastbp.EarlyStopping("loss", patience=1, min_delta=10.0)
    >>> net.fit(X, y, epochs=10, callbacks=[stopping]).stop_reason
    'EarlyStopping: loss has not improved for 1 epochs'
    """

    monitor: str = setting("val_loss", one_of(*MONITORS))
    patience: int = setting(10, check_positive_int)
    min_delta: float = setting(0.0, check_non_negative_finite)
    restore_best: bool = setting(True, check_flag)
    ties: str = later("first", one_of("first", "last"))
    brief = True
    best: float = field(init=False, default=math.inf)  # of the last fit; the negative of a score
    best_epoch: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._weights: tuple[Any, Any, Any] | None = None
        self._epoch = 0  # the last one that it has seen

    @property
    def needs_validation(self) -> bool:  # type: ignore[override]
        return self.monitor != "loss"

    def on_fit_begin(self, net: Network) -> None:
        self.best, self.best_epoch, self._epoch, self._weights = math.inf, 0, 0, None
        self._shape, self._scaled = (net.sizes, net.dtype), net.input_scale is not None

    def on_epoch_end(self, state: EpochState) -> str | None:
        net, found = state.net, list[Any]()

        def finite() -> bool:
            found[:] = weights, biases, scale = net.weights, net.biases, net.input_scale
            return all(np.isfinite(one).all() for one in (*weights, *biases, 0.0 if scale is None else scale))

        if self.observe(monitored(state.history, self.monitor), state.epoch, finite) and self.restore_best:
            self.keep(*found)
        return self.verdict()

    def observe(self, cost: float, epoch: int, finite: Callable[[], bool]) -> bool:
        """Take what is watched, of one more epoch; returns whether it is the best so far, whose weights are kept.

        finite: whether these weights are; asked only where they would be kept. The last step of an epoch may have made
        them NaN, which its loss does not tell: that is no best epoch.
        """
        self._epoch, bound = epoch, self.best - self.min_delta
        better = improves(cost, bound) or (self.ties == "last" and cost == bound)
        better = better and (not self.restore_best or finite())
        if better:
            self.best, self.best_epoch = cost, epoch
        return better

    def keep(self, weights: list[Array], biases: list[Array], input_scale: Array | None) -> None:
        """Keep the parameters of the best epoch, to go back to."""
        self._weights = weights, biases, input_scale

    def verdict(self) -> str | None:
        """Why to stop, if so."""
        if self.sure_epochs() <= 0:
            return f"{self.monitor} has not improved for {self.patience} epochs"
        return None

    def sure_epochs(self) -> int:
        return self.best_epoch + self.patience - self._epoch

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint has to keep."""
        best = None if math.isinf(self.best) else self.best
        weights = self._weights
        kept = weights if weights is None or weights[2] is not None else weights[:2]
        return {"best": best, "best_epoch": self.best_epoch, "weights": kept}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        self.best = math.inf if state["best"] is None else saved.number("best", state["best"])
        self.best_epoch, self._weights = saved.count("best_epoch", state["best_epoch"]), None
        if state["weights"] is not None:  # checked now, not when the training is over
            weights, biases, *scales = state["weights"]
            scale = check_input_scale(scales[0] if scales else None, self._shape[0][0], self._shape[1], self._scaled)
            self._weights = *check_weights(weights, biases, *self._shape), scale

    def on_divergence(self, net: Network, error: DivergenceError) -> None:
        if self._weights is not None:
            error.best_epoch = self.best_epoch
        self.on_fit_end(net)

    def on_fit_end(self, net: Network) -> None:
        if self._weights is not None:
            net.set_weights(*self._weights)
            self._weights = None


@dataclass
class StopStalled(Watcher):
    """Stop when the loss or score has not improved by `tol` for more than so many epochs in a row: scikit-learn's rule.

    An epoch counts as one without improvement where its loss is above the best so far less `tol`; any other sets the
    count back. It stops when the count exceeds `patience`, and keeps the weights as they are. On the training loss it
    costs nothing: the steps of all epochs before the first that could be the last are one native call.

    Parameters
    ----------
    monitor : {"loss", "val_loss", "val_score"}
        What to watch; the last two need validation data.
    tol : float
        The least improvement.
    patience : int or inf
        Epochs without improvement in a row that are allowed.

    Examples
    --------
    >>> net.fit(X, y, epochs=10, callbacks=[fastbp.StopStalled(tol=10.0, patience=2)]).stop_reason
    'StopStalled: loss has not improved by more than 10 for 3 epochs'
    """

    monitor: str = setting("loss", one_of(*MONITORS))
    tol: float = setting(1e-4, check_non_negative_finite)
    patience: float = setting(10, _check_patience)
    brief = by_history = True
    best: float = field(init=False, default=math.inf)  # of the last fit; the negative of a score
    count: int = field(init=False, default=0)  # epochs without improvement, the last one included

    @property
    def needs_validation(self) -> bool:  # type: ignore[override]
        return self.monitor != "loss"

    def on_fit_begin(self, net: Network) -> None:
        self.best, self.count, self._seen = math.inf, 0, 0

    def looks_in(self) -> int:
        return self.sure_epochs() if self.monitor == "loss" else 1

    def sure_epochs(self) -> int:
        return int(max(1, min(self.patience + 1 - self.count, 1 << 30)))

    def on_epoch_end(self, state: EpochState) -> str | None:
        values = getattr(state.history, self.monitor)
        for value in values[self._seen :]:
            self.observe(-value if self.monitor == "val_score" else value)
        self._seen = len(values)
        return self.verdict()

    def observe(self, cost: float) -> None:
        """Take what is watched, of one more epoch."""
        self.count = self.count + 1 if cost > self.best - self.tol else 0
        self.best = min(self.best, cost)

    def verdict(self) -> str | None:
        """Why to stop, if so."""
        if self.count <= self.patience:
            return None
        return f"{self.monitor} has not improved by more than {self.tol:g} for {self.count} epochs"

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint has to keep."""
        return {"best": None if math.isinf(self.best) else self.best, "count": self.count, "seen": self._seen}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        self.best = math.inf if state["best"] is None else saved.number("best", state["best"])
        self.count, self._seen = saved.count("count", state["count"]), saved.count("seen", state["seen"])


@dataclass
class MaxSeconds(Watcher):
    """Stop when so many seconds have passed since the training began or was resumed, in the middle of an epoch too.

    An epoch that is cut short is not in the history. A training with a `Checkpoint` can be resumed from there.

    Examples
    --------
    >>> len(net.fit(X, y, epochs=2, callbacks=[fastbp.MaxSeconds(60)]).loss)
    2
    """

    seconds: float = field(metadata=checked_by(check_positive_finite))
    brief = pauses = True

    def on_fit_begin(self, net: Network) -> None:
        self._end = time.monotonic() + self.seconds

    def on_epoch_end(self, state: EpochState) -> str | None:
        return f"{self.seconds:g} s have passed" if time.monotonic() >= self._end else None

    def on_pause(self, fit: Training, final: bool) -> None:
        if not final and not fit.history.stop_reason and time.monotonic() >= self._end:
            fit.stop(f"{type(self).__name__}: {self.seconds:g} s have passed", pauses=True)


@dataclass
class StopGradientNorm(Watcher):
    """Stop where the gradient over all training rows is (nearly) zero: the network has stopped learning.

    Parameters
    ----------
    threshold : float
        Euclidean norm at or below which to stop.
    every : int
        Epochs from one look to the next; a look costs as much as half an epoch.

    Examples
    --------
    >>> net.fit(X, y, epochs=10, callbacks=[fastbp.StopGradientNorm(1e3)]).stop_reason.split(":")[0]
    'StopGradientNorm'
    """

    threshold: float = field(metadata=checked_by(check_non_negative_finite))
    every: int = setting(1, check_positive_int)
    needs_rows = True

    def on_epoch_end(self, state: EpochState) -> str | None:
        if state.epoch % self.every:
            return None
        norm = state.gradient_norm()
        return f"the gradient's norm is {norm:.3g}" if norm <= self.threshold else None
