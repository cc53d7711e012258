"""What the charts of a sweep's page draw, as plain values: means by rate and epoch, and every run."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastbp.io.documents import plain
from fastbp.many.against import Earlier
from fastbp.many.sweep_data import SweepData
from fastbp.many.text import FAILURES
from fastbp.types import Array

DIGITS = 6  # significant, of the numbers in the page
MOST_POINTS = 200_000  # of the curves of all runs: above, the page would be too large to show
MARKED = [kind for kind, _ in FAILURES.values()]


def view(
    sweep: SweepData, line: float | None, verdicts: list[list[tuple[str, str]]], earlier: Earlier | None = None
) -> dict[str, Any]:
    """What the charts draw, None for what is not finite; verdicts: (kind, words) of each rate."""
    own = sweep.val_metric is None
    values = sweep.val_loss if sweep.val_metric is None else sweep.val_metric
    start = sweep.start_loss if sweep.start_metric is None else sweep.start_metric
    no_training = np.full(len(sweep.learning_rates), np.nan)  # a training loss is no such metric
    curves = sweep.val_loss.size <= MOST_POINTS
    runs = [
        {
            "lr": row["learning_rate"], "kind": FAILURES.get(row["status"], (row["status"], ""))[0],
            "seconds": short(row["seconds"]), "seed": row["seed"],
            "loss": short(final), "val": short(val) if curves else None, "train": short(train) if curves else None,
            "text": f"seed {row['seed']}, {figure(row['samples_per_second'], '{:,.0f}')} samples/s, "
            f"{figure(row['gflops'], '{:.3g}')} GFLOP/s",
        }
        for row, final, val, train in zip(
            sweep.rows(), sweep.final_metric.ravel(), values.reshape(-1, sweep.epochs),
            sweep.train_loss.reshape(-1, sweep.epochs), strict=True,
        )
    ]  # fmt: skip
    losses = _known_mean(values)
    marks = [
        {
            "lr": float(rate), "kind": kind, "text": text,
            "loss": short(losses[k, sweep.eliminated[k] - 1]) if kind == "eliminated" else None,
        }
        for k, rate in enumerate(sweep.learning_rates)
        for kind, text in verdicts[k]
        if kind == "eliminated" or kind in MARKED
    ]  # fmt: skip
    return {
        # Rates keep all digits: the script compares them.
        **{name: plain(getattr(sweep, name)) for name in ("learning_rates", "best_lr", "recommended_lr", "interval")},
        "best_by_epoch": plain(sweep.best_by_epoch),
        "epochs": sweep.epochs,
        "stability": line,
        "start_loss": short(start.mean()),
        # What rates are compared by: the validation loss, or a metric.
        "metric": sweep.metric,
        "validation": short(sweep.mean_metric),
        "validation_error": short(sweep.metric_error),
        "training": short(sweep.mean_train_loss if own else no_training),
        "training_error": short(sweep.train_error if own else no_training),
        "val_by_epoch": short(losses),
        "train_by_epoch": short(_known_mean(sweep.train_loss)),
        "whole": plain(sweep.eligible),
        "marks": marks,
        "runs": runs,
        "earlier": None
        if earlier is None or not own  # of which only losses are read
        else {"learning_rates": plain(earlier.learning_rates), "mean": short(earlier.mean)},
    }


def _known_mean(values: Array) -> Array:
    """Mean over the seeds that reached an epoch, ``(K, S, epochs) -> (K, epochs)``."""
    known = np.isfinite(values)
    counts = known.sum(axis=1)
    mean: Array = np.divide(
        np.where(known, values, 0.0).sum(axis=1), counts, out=np.full(counts.shape, np.nan), where=counts > 0
    )
    return mean


def short(values: Any) -> Any:
    """Numbers rounded to `DIGITS` digits: they make up most of the size of a page."""
    if isinstance(values, np.ndarray) and values.ndim:
        return [short(one) for one in values]
    number = float(values)
    return float(f"{number:.{DIGITS}g}") if np.isfinite(number) else None


def figure(value: float | None, form: str) -> str:
    """A number in words, a dash where there is none."""
    return "-" if value is None or not np.isfinite(value) else form.format(value)
