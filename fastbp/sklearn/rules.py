"""When an estimator stops: scikit-learn's rule on the training loss, or on the score of the rows held out."""

from __future__ import annotations

import math
from typing import Any

from fastbp.callbacks.base import EpochState
from fastbp.callbacks.stopping import StopStalled
from fastbp.engine.network import Network
from fastbp.types import Array

SMALLEST_RATE = 1e-6  # at or below which "adaptive" stops
DIVISOR = 5.0


class Pace:
    """The learning rate of an estimator, which lives as long as its moments do.

    Attributes
    ----------
    learning_rate : float
        At present.
    learning_rate_init : float
        To begin with.
    used : float
        In the last step.
    """

    def __init__(self, learning_rate_init: float) -> None:
        self.learning_rate_init = self.learning_rate = self.used = float(learning_rate_init)


class LossRule(StopStalled):
    """`StopStalled` on the training loss, which goes on where an earlier fit ended.

    Parameters
    ----------
    tol, patience : float
        See `StopStalled`.
    best, count : float, int
        To begin with.
    pace : Pace, optional
        Whose learning rate is divided, as long as it is not small, instead of stopping.
    say : callable, optional
        Where to write of each epoch.
    constant : float
        Added to the losses that are written.
    """

    brief = True
    what = "Training loss"

    def __init__(
        self,
        tol: float,
        patience: float,
        *,
        best: float,
        count: int,
        pace: Pace | None,
        say: Any,
        constant: float = 0.0,
    ) -> None:
        super().__init__("loss", tol, patience)
        self.best, self.count, self.pace, self.say, self.constant = best, count, pace, say, constant
        self.stopped = False

    def on_fit_begin(self, net: Network) -> None:
        self.seen = 0

    def looks_in(self) -> int:
        return 1 if self.say is not None else super().looks_in()

    def on_epoch_end(self, state: EpochState) -> str | None:
        for loss in state.history.loss[self.seen :]:
            self.seen += 1
            if self.say is not None:
                self.say(f"Iteration {self.seen}, loss = {loss + self.constant:.8f}")
            self.judge(loss, state)
        return self.verdict()

    def judge(self, loss: float, state: EpochState) -> None:
        """Take one more epoch."""
        self.observe(loss)

    def verdict(self) -> str | None:
        if self.count <= self.patience:
            return None
        text = f"{self.what} did not improve more than tol={self.tol:f} for {self.patience:g} consecutive epochs."
        pace = self.pace
        if pace is not None and pace.learning_rate > SMALLEST_RATE:
            pace.learning_rate /= DIVISOR
            self.count = 0
            self.tell(f"{text} Setting learning rate to {pace.learning_rate:f}")
            return None
        self.tell(f"{text} {'' if pace is None else 'Learning rate too small. '}Stopping.")
        self.stopped = True
        return text

    def tell(self, text: str) -> None:
        """Write, if anything is to be written."""
        if self.say is not None:
            self.say(text)


class ScoreRule(LossRule):
    """The same on the score of rows that are held out; keeps the best weights.

    Parameters
    ----------
    X, y, weights : array
        The rows held out, as kernels read them.
    scores : list
        Of earlier fits, to which those of this one are added.
    """

    brief = True
    what = "Validation score"

    def __init__(
        self, *args: Any, X: Array, y: Array, weights: Array | None, scores: list[float], **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self.X, self.y, self.weights, self.scores = X, y, weights, scores
        self.kept: tuple[list[Array], list[Array]] | None = None

    def looks_in(self) -> int:
        return 1

    def judge(self, loss: float, state: EpochState) -> None:
        score = score_of(state.net, self.X, self.y, self.weights)
        self.scores.append(score)
        self.tell(f"Validation score: {score:f}")
        if -score < self.best:
            self.kept = state.net.weights, state.net.biases
        self.observe(-score)


def score_of(net: Any, X: Array, y: Array, weights: Array | None) -> float:
    """Accuracy (of several labels: where all are right) or R^2; NaN where outputs are not finite."""
    outputs, link = net.forward(X), net.loss.link
    if not math.isfinite(float(outputs.sum())):
        return math.nan
    if link.classifies and not link.one_class:
        wrong = ((outputs > 0) != (y > 0.5)).any(axis=1)
        return float(1.0 - wrong.mean()) if weights is None else float(1.0 - (wrong @ weights) / weights.sum())
    return float(link.score(outputs, y, weights))
