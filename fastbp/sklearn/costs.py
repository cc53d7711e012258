"""The losses of scikit-learn's networks: ours, but summed over the outputs, and half of the squared error."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from fastbp import losses
from fastbp.losses import MSE, BinaryCrossEntropy, CrossEntropy, Loss, Poisson
from fastbp.types import Array


@dataclass(frozen=True)
class HalfSquaredError(MSE):
    """Reported as the mean over the outputs, descended as their sum."""

    factor = 0.5

    def descent(self, n_out: int) -> float:
        return float(n_out)


@dataclass(frozen=True)
class LogLoss(BinaryCrossEntropy):
    """Of one yes-or-no output, or the sum over several."""

    def columns(self, n_out: int) -> int:
        return 1


@dataclass(frozen=True)
class HalfPoissonDeviance(Poisson):
    """The sum over the outputs, but for the part that y alone decides: see `constant`."""

    def columns(self, n_out: int) -> int:
        return 1


def constant(loss: Loss, y: Array, weights: Array | None) -> float:
    """What scikit-learn's loss has beside ours, whatever the network."""
    if not isinstance(loss, HalfPoissonDeviance):
        return 0.0
    counts = y.astype(np.float64)
    return float(np.average((counts * np.log(np.where(counts > 0, counts, 1.0)) - counts).sum(axis=1), weights=weights))


def of_classifier(loss: Any, n_classes: int, *, multilabel: bool) -> tuple[Loss, int]:
    """The cost, and how many outputs it takes."""
    if isinstance(loss, str) and loss in ("log_loss", "cross_entropy"):
        if multilabel:
            return LogLoss(), n_classes
        return (CrossEntropy(), n_classes) if n_classes > 2 else (LogLoss(), 1)
    found = losses.get(loss)
    if not found.link.classifies:
        raise ValueError(
            f"loss={loss!r} is for real targets; a classifier takes 'log_loss' or one of: "
            + ", ".join(losses.names(classifies=True))
        )
    if found.ignored_label is not None:
        raise ValueError(f"loss={loss!r}: labels of an estimator are its classes, of which none is ignored")
    if found.link.one_class:
        if multilabel:
            raise ValueError(f"loss={loss!r} is for one class a row, but y has several labels: use 'log_loss'")
        return found, max(2, n_classes)
    if n_classes > 2 and not multilabel:
        raise ValueError(f"loss={loss!r} is for two classes or several labels, but y has {n_classes} classes")
    return LogLoss(), (n_classes if multilabel else 1)


def of_regressor(loss: Any) -> Loss:
    """The cost: scikit-learn's by its names, any other of ours."""
    if isinstance(loss, str) and loss in ("squared_error", "poisson"):
        return HalfSquaredError() if loss == "squared_error" else HalfPoissonDeviance()
    found = losses.get(loss)
    if found.link.classifies:
        raise ValueError(
            f"loss={loss!r} is for classes; a regressor takes 'squared_error', 'poisson' or one of: "
            + ", ".join(losses.names(classifies=False))
        )
    return found
