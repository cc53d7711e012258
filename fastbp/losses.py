"""The cost functions by name, as frozen descriptions. Their formulas are compiled in `fastbp.kernels.losses`."""

from __future__ import annotations

import functools
import operator
import re
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from fastbp.links import EXPONENTIAL, IDENTITY, SIGMOID, SOFTMAX, Link
from fastbp.types import Array
from fastbp.validation import (
    Checked,
    check_choice,
    check_fraction,
    check_inner_fraction,
    check_non_negative_finite,
    check_positive_finite,
    listed,
    optional,
    setting,
)

# The registry: what is named here is also a name of fastbp itself.
__all__ = [  # noqa: RUF022
    "CrossEntropy",
    "BinaryCrossEntropy",
    "MSE",
    "MAE",
    "Huber",
    "Poisson",
    "LogCosh",
    "Quantile",
    "Focal",
    "PseudoHuber",
]


def _check_label(name: str, value: Any) -> int:
    if isinstance(value, bool | np.bool_) or not hasattr(value, "__index__"):
        raise TypeError(f"{name} must be None or an integer such as -100, got {value!r}")
    return int(operator.index(value))


@dataclass(frozen=True)
class Loss(Checked):
    """A cost function.

    Attributes
    ----------
    name : str
        What `MLP(loss=...)` takes.
    link : Link
        How outputs become predictions, and what y may hold: one of those in `fastbp.links`.
    derivative : str
        Of the cost of one row of M outputs: by the outputs' activation p, or by z where the link is part of the loss.
    """

    name: ClassVar[str]
    link: ClassVar[Link]
    derivative: ClassVar[str]
    factor: ClassVar[float] = 1.0  # by which the cost is multiplied as it is reported

    def descent(self, n_out: int) -> float:
        """What descent lowers, over what is reported: their ratio."""
        return 1.0

    def columns(self, n_out: int) -> int:
        """How many terms the loss of one row is a sum of, over which the reported loss averages; 1: it is their sum."""
        return self.link.loss_columns(n_out)

    @property
    def formula(self) -> str:
        """Its definition, as its documentation has it."""
        found = re.search(r"``(J = .+?)(?= \([A-Z]|\.?$|\. )", type(self).__doc__ or "", re.MULTILINE)
        return "" if found is None else found[1].replace("`", "")

    @property
    def target(self) -> str:
        """What y holds: "classes", "binary", "real" or "counts"."""
        return self.link.target

    @property
    def linked(self) -> bool:
        """The loss applies its link (softmax, sigmoid, exp) itself, and takes no output activation."""
        return self.link.built_in

    @property
    def score_name(self) -> str:
        """What `evaluate` reports beside the loss."""
        return self.link.score_name

    @property
    def code(self) -> int:
        """Number of its case in the compiled switch."""
        from fastbp.kernels.losses import LOSS_CODES  # late: Numba takes its time

        return LOSS_CODES[self.name]

    @property
    def parameter(self) -> float:
        """The number that the kernel takes."""
        return 0.0

    @property
    def ignored_label(self) -> int | None:
        """A label whose rows do not count, if there is one."""
        return None


@dataclass(frozen=True)
class CrossEntropy(Loss):
    """Softmax cross-entropy: ``J = -1/N sum_r sum_j y_rj log softmax(z_r)_j`` (Bishop 2006, 4.108).

    With `label_smoothing` s, the targets become ``(1 - s) y + s / C`` (Szegedy et al. 2016).

    Rows whose integer label is `ignore_index` (often -100) count neither in the loss, nor in its gradient, its mean or
    the accuracy. PyTorch ignores -100 by default; here nothing is unless it is asked for, as a label out of range is
    otherwise an error. Targets that are probabilities are never ignored.
    """

    label_smoothing: float = setting(0.0, check_fraction)
    ignore_index: int | None = setting(None, optional(_check_label))

    name = "cross_entropy"
    link = SOFTMAX
    derivative = "p - y, p = softmax(z)"

    @property
    def ignored_label(self) -> int | None:
        return self.ignore_index

    @property
    def parameter(self) -> float:
        return self.label_smoothing


@dataclass(frozen=True)
class BinaryCrossEntropy(Loss):
    """Cross-entropy of yes-or-no outputs: ``J = -1/(NM) sum y log s + (1 - y) log(1 - s)``, s = sigmoid(z)."""

    name = "binary_cross_entropy"
    link = SIGMOID
    derivative = "(s - y) / M, s = 1 / (1 + e^-z)"


@dataclass(frozen=True)
class MSE(Loss):
    """Mean squared error: ``J = 1/(NM) sum (p - y)^2``."""

    name = "mse"
    link = IDENTITY
    derivative = "2 * (p - y) / M"


@dataclass(frozen=True)
class MAE(Loss):
    """Mean absolute error: ``J = 1/(NM) sum |p - y|``."""

    name = "mae"
    link = IDENTITY
    derivative = "sign(p - y) / M"


@dataclass(frozen=True)
class Huber(Loss):
    """Squared up to `delta`, absolute beyond: ``J = 1/(NM) sum d^2/2``, or ``delta (|d| - delta/2)`` (Huber 1964)."""

    delta: float = setting(1.0, check_positive_finite)

    name = "huber"
    link = IDENTITY
    derivative = "min(max(d, -delta), delta) / M, d = p - y"

    @property
    def parameter(self) -> float:
        return self.delta


@dataclass(frozen=True)
class Poisson(Loss):
    """Poisson regression of counts: ``J = 1/(NM) sum e^z - y z``, the negative log-likelihood without its constant."""

    name = "poisson"
    link = EXPONENTIAL
    derivative = "(e^z - y) / M"


@dataclass(frozen=True)
class LogCosh(Loss):
    """Squared near zero, absolute far away, smooth everywhere, as in Keras: ``J = 1/(NM) sum log cosh(p - y)``."""

    name = "log_cosh"
    link = IDENTITY
    derivative = "tanh(p - y) / M"


@dataclass(frozen=True)
class Quantile(Loss):
    """Quantile regression (Koenker and Bassett 1978): ``J = 1/(NM) sum max(q d, (q - 1) d)``, d = y - p.

    The prediction that it is smallest for has a share q = `quantile` of the targets below it: 0.5 is the median.
    """

    quantile: float = setting(0.5, check_inner_fraction)

    name = "quantile"
    link = IDENTITY
    derivative = "(1 - q) / M for p > y, else -q / M"

    @property
    def parameter(self) -> float:
        return self.quantile


@dataclass(frozen=True)
class Focal(Loss):
    """Cross-entropy that cares less for rows that are right already, by the factor ``(1 - p)^gamma``.

    ``J = -1/N sum_r sum_j y_rj (1 - p_rj)^gamma log p_rj``, p being the softmax of the outputs (Lin et al., "Focal
    loss for dense object detection", 2017). With gamma = 0 it is cross_entropy; the paper's alpha is `class_weight` of
    `fit`.
    """

    gamma: float = setting(2.0, check_non_negative_finite)

    name = "focal"
    link = SOFTMAX
    derivative = "s - p * sum(s), s = y * (1 - p)^gamma * (gamma * p * log(p) / (1 - p) - 1), p = softmax(z)"

    @property
    def parameter(self) -> float:
        return self.gamma


@dataclass(frozen=True)
class PseudoHuber(Loss):
    """Huber's loss without its kinks: ``J = 1/(NM) sum delta^2 (sqrt(1 + (d / delta)^2) - 1)``, d = p - y."""

    delta: float = setting(1.0, check_positive_finite)

    name = "pseudo_huber"
    link = IDENTITY
    derivative = "d / sqrt(1 + (d / delta)^2) / M, d = p - y"

    @property
    def parameter(self) -> float:
        return self.delta


LOSSES: dict[str, type[Loss]] = {loss.name: loss for loss in (globals()[name] for name in __all__)}


def get(loss: str | Loss) -> Loss:
    """The loss of a name with its defaults; a description is returned as it is."""
    if isinstance(loss, Loss):
        return loss
    return _by_name(check_choice("loss", loss, LOSSES))


@functools.cache
def _by_name(name: str) -> Loss:
    """One object for each name: they are frozen."""
    return LOSSES[name]()


def names(**wanted: bool | str) -> list[str]:
    """The losses whose link has these attributes: ``names(classifies=True)``."""
    return [name for name, loss in LOSSES.items() if all(getattr(loss.link, k) == v for k, v in wanted.items())]


def scalable() -> str:
    """Whose targets can be standardised, for error messages: "mse, mae and huber"."""
    return listed(names(can_scale_y=True))


def check_softmax(loss: Loss, n_out: int, y: Array | None = None) -> None:
    """Refuse a softmax over a single output, which is 1 whatever the weights; y, if there, tells what to propose."""
    if not loss.link.one_class or n_out != 1:
        return
    mend = "loss='binary_cross_entropy' for two classes, loss='mse' for numbers"
    if y is not None and y.size:
        two = bool(np.isin(y, (0, 1)).all())
        mend = "y holds 0 and 1: loss='binary_cross_entropy'" if two else "y holds other than 0 and 1: loss='mse'"
    raise ValueError(
        f"loss={loss.name!r} with one output learns nothing, since the softmax over a single output is always 1; make "
        f"the network with another loss ({mend}), or with an output for each class"
    )
