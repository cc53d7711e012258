"""What sweeps and cross-validation judge a network by: its loss, a metric of a name, or a function of predictions."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from fastbp import links
from fastbp.engine.network import Network
from fastbp.network import MLP
from fastbp.numerics import quiet
from fastbp.types import Array
from fastbp.validation import check_choice


def accuracy(y: Array, predicted: Array, w: Array) -> float:
    """Share of the rows, by weight, whose class is right; of several outputs, their mean."""
    right = (y == predicted).reshape(len(y), -1).mean(axis=1)
    return float(w @ right / w.sum())


def balanced_accuracy(y: Array, predicted: Array, w: Array) -> float:
    """Mean over the classes of the share of their rows that is right."""
    return float(np.mean([accuracy(y[y == one], predicted[y == one], w[y == one]) for one in np.unique(y)]))


def r2(y: Array, predicted: Array, w: Array) -> float:
    """The coefficient of determination, as `MLP.evaluate` has it."""
    shape = len(y), -1
    return links.r2(predicted.reshape(shape), y.reshape(shape), w)


def rmse(y: Array, predicted: Array, w: Array) -> float:
    """Root of the mean squared error, mean over the outputs, in the units of y."""
    squares = np.square(np.asarray(predicted, np.float64) - y).reshape(len(y), -1)
    return float(np.sqrt(w @ squares / w.sum()).mean())


def mae(y: Array, predicted: Array, w: Array) -> float:
    """Mean absolute error."""
    return float(w @ np.abs(np.asarray(predicted, np.float64) - y).reshape(len(y), -1).mean(axis=1) / w.sum())


#: Name -> (function of targets, predictions and weights; whether larger is better).
METRICS: Mapping[str, tuple[Callable[[Array, Array, Array], float], bool]] = {
    "accuracy": (accuracy, True), "balanced_accuracy": (balanced_accuracy, True), "r2": (r2, True),
    "rmse": (rmse, False), "mae": (mae, False),
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Metric:
    """A metric that has been asked for."""

    name: str
    function: Callable[..., float] | None  # None: the loss
    larger: bool  # is better

    @classmethod
    def get(cls, metric: object, loss: Any, maximize: bool = True) -> Metric:
        """The metric of a name, or a function ``f(y, predictions)``, for which `maximize` says what is better.

        Raises
        ------
        ValueError, TypeError
            There is no such metric, or not for networks of this loss.
        """
        if metric is None or (isinstance(metric, str) and metric == "loss"):
            return LOSS
        if callable(metric):
            return cls(getattr(metric, "__name__", type(metric).__name__), metric, maximize)
        if not isinstance(metric, str):
            raise TypeError(f"metric must be 'loss', one of {', '.join(METRICS)}, or a function, got {metric!r}")
        name = check_choice("metric", metric, ["loss", *METRICS])
        if name.endswith("accuracy") != loss.link.classifies:
            kind = "classes" if loss.link.classifies else "numbers"
            raise ValueError(f"metric={name!r} does not fit loss={loss.name!r}, whose predictions are {kind}")
        return cls(name, *METRICS[name])

    def cost(self, values: Array) -> Array:
        """The values as something that is to be small, and positive where that can be: ``1 - accuracy``, say."""
        return cost(values, self.name, self.larger)

    def of(self, net: MLP, X: Any, y: Any, weights: Array | None = None) -> float:
        """Its value for a network on some rows."""
        if self.function is None:
            return net.evaluate(X, y, weights)["loss"]
        return self.of_predictions(net.predict(X), y, weights)

    @quiet
    def of_outputs(self, net: Network, outputs: Array, y: Any, weights: Array | None = None) -> float:
        """Its value by what a network has put out for some rows."""
        return self.of_predictions(net.session.predicted(outputs), y, weights)

    @quiet
    def of_predictions(self, predicted: Array, y: Any, weights: Array | None = None) -> float:
        """Its value by predictions; rows of weight 0 count for nothing, and a function of the user's has them all."""
        assert self.function is not None
        targets = np.asarray(y)
        if self.name not in METRICS or self.function is not METRICS[self.name][0]:
            value = self.function(targets, predicted)
            if np.ndim(value) or not isinstance(value, int | float | np.number | np.bool_ | np.ndarray):
                raise TypeError(f"the metric {self.name} must return a number, got {value!r:.80}")
            return float(value)
        if targets.ndim == 2 and targets.shape[1] == 1:
            targets = targets[:, 0]
        if targets.ndim == 2 and predicted.ndim == 1:  # probabilities of classes
            targets = targets.argmax(axis=1)
        if weights is None:
            return self.function(targets, predicted, np.ones(len(targets)))
        counted = np.asarray(weights, np.float64) > 0  # the others may hold anything, ignored labels for one
        return self.function(targets[counted], predicted[counted], np.asarray(weights, np.float64)[counted])


LOSS = Metric("loss", None, False)


def cost(values: Array, name: str, larger: bool) -> Array:
    """Values of a metric as something that is to be small: 1 less the value, where 1 is the best, or its negative."""
    if not larger:
        return values
    return 1.0 - values if name in METRICS else -values


def cost_name(name: str, larger: bool) -> str:
    """What `cost` makes of a metric, in words."""
    return name if not larger else f"1 - {name}" if name in METRICS else f"-{name}"
