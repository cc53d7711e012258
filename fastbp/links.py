"""Links: how outputs become predictions, probabilities and scores, and what y may hold; one for each kind of loss.

A loss names its link in one line, and everything else follows: predictions, probabilities, the score, the checks of y.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from fastbp.numerics import quiet
from fastbp.types import Array

# How far a row of probabilities may be from 1: float16 tables of a hundred classes pass, a forgotten softmax does not.
PROBABILITY_TOLERANCE = 1e-3


class Link:
    """How outputs become predictions. The base is that of real numbers: they are the predictions.

    Attributes
    ----------
    target : {"classes", "binary", "real", "counts"}
        What y holds.
    built_in : bool
        The loss applies the link itself, so that the network takes no output activation.
    classifies : bool
        Predictions are classes, and there are probabilities.
    one_class : bool
        Each row belongs to one class of several: y may hold integer labels ``(n,)``, or a probability for each class.
    can_scale_y : bool
        Targets may be standardised.
    score_name : str
        What `evaluate` reports beside the loss.
    values : str
        What y may hold, for error messages.
    """

    target: ClassVar[str] = "real"
    built_in: ClassVar[bool] = False
    classifies: ClassVar[bool] = False
    one_class: ClassVar[bool] = False
    can_scale_y: ClassVar[bool] = True
    score_name: ClassVar[str] = "r2"
    values: ClassVar[str] = "finite numbers"

    def value_range(self, limit: float) -> tuple[float, float]:
        """The smallest and largest value of y; `limit` is the largest finite number of its dtype."""
        return -limit, limit

    def loss_columns(self, n_out: int) -> int:
        """How many terms the loss of one row is a sum of, over which the reported loss averages."""
        return n_out

    def n_classes(self, n_out: int) -> int:
        """How many names of classes a network with so many outputs has."""
        return n_out

    def predictions(self, outputs: Array) -> Array:
        """What `MLP.predict` returns, ``(n, n_out)`` or ``(n,)``, before targets are scaled back."""
        return outputs

    def probabilities(self, outputs: Array) -> Array:
        """What `MLP.predict_proba` returns; may use the outputs' own memory."""
        raise NotImplementedError("there are no probabilities: see `classifies`")

    @quiet
    def score(self, outputs: Array, targets: Array, weights: Array | None = None) -> float:
        """Accuracy or the coefficient of determination, each row by its weight, as scikit-learn has them."""
        if weights is not None:
            counted = weights > 0
            outputs, targets, weights = outputs[counted], targets[counted], weights[counted]
        return self._score(outputs, targets, weights)

    @quiet
    def scores(self, outputs: Array, targets: Array, weights: Array | None = None) -> list[float]:
        """`score` of each of some outputs ``(k, n, n_out)`` of the same rows, to the same bits."""
        if weights is not None:
            return [self.score(one, targets, weights) for one in outputs]
        return self._scores(outputs, targets)

    def _score(self, outputs: Array, targets: Array, weights: Array | None) -> float:
        return r2(self.predictions(outputs), targets, weights)

    def _scores(self, outputs: Array, targets: Array) -> list[float]:
        return r2_of_each(self.predictions(outputs), targets)


class Exponential(Link):
    """Outputs are logarithms of rates, and y holds counts."""

    target = "counts"
    built_in = True
    can_scale_y = False
    values = "counts or rates of at least 0"

    def value_range(self, limit: float) -> tuple[float, float]:
        return 0.0, limit

    @quiet
    def predictions(self, outputs: Array) -> Array:
        found: Array = np.exp(outputs)
        return found


class Sigmoid(Link):
    """Each output is the logit of yes, and y holds 0, 1 or a probability for each."""

    target = "binary"
    built_in = classifies = True
    can_scale_y = False
    score_name = "accuracy"
    values = "0, 1 or a probability in between"

    def value_range(self, limit: float) -> tuple[float, float]:
        return 0.0, 1.0

    def n_classes(self, n_out: int) -> int:
        return 2 if n_out == 1 else n_out

    def predictions(self, outputs: Array) -> Array:
        found: Array = (outputs > 0).astype(np.int64)
        return found

    @quiet
    def probabilities(self, outputs: Array) -> Array:
        """One column as ``(n,)``."""
        e = np.exp(-np.abs(outputs))
        p: Array = np.where(outputs < 0, e, outputs.dtype.type(1)) / (1 + e)
        return p[:, 0] if p.shape[1] == 1 else p

    def _score(self, outputs: Array, targets: Array, weights: Array | None) -> float:
        right = (outputs > 0) == (targets > 0.5)
        return float(right.mean() if weights is None else np.average(right.mean(axis=1), weights=weights))

    def _scores(self, outputs: Array, targets: Array) -> list[float]:
        right = (outputs > 0) == (targets > 0.5)
        return right.mean(axis=(1, 2)).tolist()  # type: ignore[no-any-return]


class Softmax(Link):
    """An output for each class, of which every row has one: y holds integer labels, or a row of probabilities."""

    target = "classes"
    built_in = classifies = one_class = True
    can_scale_y = False
    score_name = "accuracy"
    values = "probabilities from 0 to 1"

    def value_range(self, limit: float) -> tuple[float, float]:
        return 0.0, 1.0 + PROBABILITY_TOLERANCE

    def loss_columns(self, n_out: int) -> int:
        return 1

    def predictions(self, outputs: Array) -> Array:
        classes: Array = outputs.argmax(axis=1)
        return classes

    @quiet
    def probabilities(self, outputs: Array) -> Array:
        """In the place of the outputs."""
        outputs -= np.maximum.reduce(outputs, axis=1, keepdims=True)
        np.exp(outputs, out=outputs)
        outputs /= np.add.reduce(outputs, axis=1, keepdims=True)
        return outputs

    def _score(self, outputs: Array, targets: Array, weights: Array | None) -> float:
        wanted = targets if targets.ndim == 1 else targets.argmax(axis=1)
        return float(np.average(outputs.argmax(axis=1) == wanted, weights=weights))

    def _scores(self, outputs: Array, targets: Array) -> list[float]:
        wanted = targets if targets.ndim == 1 else targets.argmax(axis=1)
        return (outputs.argmax(axis=2) == wanted).mean(axis=1).tolist()  # type: ignore[no-any-return]


IDENTITY, EXPONENTIAL, SIGMOID, SOFTMAX = Link(), Exponential(), Sigmoid(), Softmax()


def r2(predicted: Array, targets: Array, weights: Array | None = None) -> float:
    """The coefficient of determination, averaged over the columns of targets."""
    if weights is None:
        return r2_of_each(predicted[None], targets)[0]
    share = (weights / weights.sum())[:, None]
    error = ((predicted.astype(np.float64) - targets) ** 2 * share).sum(axis=0)
    spread = ((targets - (targets * share).sum(axis=0)) ** 2 * share).sum(axis=0)
    return float(_determined(error, spread, targets).mean())


def r2_of_each(predicted: Array, targets: Array) -> list[float]:
    """`r2` of each of some predictions ``(k, n, columns)`` of the same targets."""
    squares = (predicted.astype(np.float64) - targets) ** 2
    # One after the other: NumPy's order of summation depends on the shape.
    error = np.array([np.add.reduce(one, axis=0) for one in squares])
    spread = ((targets - targets.mean(axis=0, dtype=np.float64)) ** 2).sum(axis=0)
    found = _determined(error, spread, targets)
    return found[:, 0].tolist() if found.shape[1] == 1 else [float(one.mean()) for one in found]


def _determined(error: Array, spread: Array, targets: Array) -> Array:
    """1 - error / spread; of a constant column, as scikit-learn has it, 1 where it is met, 0 where it is missed."""
    constant = (targets == targets[:1]).all(axis=0)
    found: Array = np.where(constant, error == 0, 1.0 - error / np.where(constant, 1.0, spread))
    return found
