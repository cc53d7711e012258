"""How good predictions are, in the user's units, beside what is trivial: the majority of the classes, or the mean."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastbp.numerics import quiet
from fastbp.types import Array

_TINY = 1e-15  # below which no probability counts, as in scikit-learn before it was the eps of the dtype


@quiet
def of_classes(y: Array, proba: Array, weight: Array | None, prior: Array) -> dict[str, Any]:
    """Scores of probabilities ``(n, C)`` for class numbers y ``(n,)``.

    accuracy; balanced_accuracy, the mean over the classes of how many of their rows are right; log_loss; auc, the mean
    over the classes of the chance that a row of the class is given more of it than another row; confusion ``[true]
    [predicted]``; and accuracy and log loss of whoever knows the shares of the training rows alone (`prior`).
    """
    w = np.ones(len(y)) if weight is None else np.asarray(weight, np.float64)
    n_classes = proba.shape[1]
    predicted = proba.argmax(axis=1)
    confusion = np.zeros((n_classes, n_classes))
    np.add.at(confusion, (y, predicted), w)
    of_class = confusion.sum(axis=1)
    there = of_class > 0
    chosen = np.clip(proba[np.arange(len(y)), y].astype(np.float64), _TINY, 1.0)
    total = w.sum()
    found = [area(y == k, proba[:, k], w) for k in (range(n_classes) if n_classes > 2 else (1,))]
    areas = [one for one in found if one is not None]
    return {
        "accuracy": float(np.trace(confusion) / total),
        "balanced_accuracy": float((np.diag(confusion)[there] / of_class[there]).mean()),
        "log_loss": float(-(w * np.log(chosen)).sum() / total),
        "auc": float(np.mean(areas)) if areas else None,
        "confusion": [[int(cell) if weight is None else float(cell) for cell in row] for row in confusion.tolist()],
        "baseline": {
            "accuracy": float(w[y == prior.argmax()].sum() / total),
            "log_loss": float(-(w * np.log(np.clip(prior[y], _TINY, 1.0))).sum() / total),
        },
    }


@quiet
def of_quantities(y: Array, predicted: Array, weight: Array | None, mean: Array) -> dict[str, Any]:
    """Root of the mean squared error, mean absolute error and r2, of ``(n, n_out)``: means, and by output."""
    w = np.ones(len(y)) if weight is None else np.asarray(weight, np.float64)
    w = w / w.sum()

    def errors(p: Array) -> tuple[Array, Array]:
        return np.sqrt(w @ np.square(p - y)), w @ np.abs(p - y)

    rmse, mae = errors(predicted)
    spread = w @ np.square(y - w @ y)
    r2 = np.where(spread > 0, 1.0 - np.square(rmse) / np.where(spread > 0, spread, 1.0), 1.0 * (rmse == 0))
    trivial = errors(np.broadcast_to(mean, y.shape))
    found: dict[str, Any] = {"rmse": float(rmse.mean()), "mae": float(mae.mean()), "r2": float(r2.mean())}
    found["baseline"] = {"rmse": float(trivial[0].mean()), "mae": float(trivial[1].mean())}
    if y.shape[1] > 1:
        found["outputs"] = [
            {"rmse": a, "mae": b, "r2": c} for a, b, c in zip(rmse.tolist(), mae.tolist(), r2.tolist(), strict=True)
        ]
    return found


@quiet
def of_flags(y: Array, proba: Array, weight: Array | None, prior: Array) -> dict[str, Any]:
    """Scores of several yes-or-no columns: the means over them."""
    outputs = [
        of_classes(
            y[:, k].astype(np.int64), np.stack([1 - proba[:, k], proba[:, k]], axis=1), weight,
            np.array([1 - prior[k], prior[k]]),
        )
        for k in range(y.shape[1])
    ]  # fmt: skip
    found: dict[str, Any] = {
        name: float(np.mean([one[name] for one in outputs])) for name in ("accuracy", "balanced_accuracy", "log_loss")
    }
    areas = [one["auc"] for one in outputs if one["auc"] is not None]
    found["auc"] = float(np.mean(areas)) if areas else None
    found["baseline"] = {
        name: float(np.mean([one["baseline"][name] for one in outputs])) for name in ("accuracy", "log_loss")
    }
    found["outputs"] = outputs
    return found


def area(positive: Array, score: Array, weight: Array) -> float | None:
    """Area under the ROC curve: ties count half. None where one of the two kinds of rows is missing."""
    values, place = np.unique(score, return_inverse=True)
    plus = np.bincount(place, weight * positive, len(values))
    minus = np.bincount(place, weight * ~positive, len(values))
    if plus.sum() == 0 or minus.sum() == 0:
        return None
    below = np.cumsum(minus) - minus / 2.0
    return float((plus * below).sum() / (plus.sum() * minus.sum()))
