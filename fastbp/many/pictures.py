"""A sweep as pictures, drawn by matplotlib."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastbp.io.figures import new_figure
from fastbp.many.stability import stability_line
from fastbp.many.sweep_data import SweepData
from fastbp.many.text import FAILURES
from fastbp.validation import check_choice


def draw(sweep: SweepData, what: str, stability: Any = None) -> Any:
    """One of the pictures, as matplotlib's figure."""
    what = check_choice("what", what, PICTURES)
    line = stability_line(stability)
    if line is not None and what != "curve":
        raise ValueError(f"the stability line belongs to what='curve', not to what={what!r}")
    figure = new_figure(7, 4.5)
    PICTURES[what](sweep, figure)
    if line is not None:
        axes = figure.axes[0]
        axes.axvline(line, color="C4", linestyle=":", label=f"unstable in full batches from {line:.3g}")
        axes.legend(fontsize="small")
    return figure


def _log_where_positive(axes: Any, values: Any) -> None:
    known = values[np.isfinite(values)]
    if known.size and known.min() > 0 and known.max() > 3 * known.min():
        axes.set_yscale("log")


def draw_curve(sweep: SweepData, figure: Any) -> None:
    """Final losses by rate, with bands of one standard error; the interval, the best rate and where runs diverge."""
    axes, rates = figure.subplots(), sweep.learning_rates
    for label, means, errors, colour in (
        ("validation", sweep.mean_val_loss, sweep.val_error, "C0"),
        ("training", sweep.mean_train_loss, sweep.train_error, "C1"),
    ):
        axes.plot(rates, means, "o-", color=colour, markersize=4, label=label)
        if np.isfinite(errors).any():
            axes.fill_between(rates, means - errors, means + errors, color=colour, alpha=0.2, linewidth=0)
    if sweep.interval is not None:
        axes.axvspan(*sweep.interval, color="C2", alpha=0.15, label="as good as the best")
        label = f"recommended {sweep.recommended_lr:.3g}"
        axes.axvline(sweep.recommended_lr, color="C2", linestyle="--", label=label)
        axes.plot(sweep.best_lr, sweep.mean_val_loss[sweep.best_index], "*", color="C3", markersize=13)
    bottom = axes.get_xaxis_transform()
    failed = [
        (sweep.outcome == outcome, marker, words)
        for marker, (outcome, (_, words)) in zip("xv^s", FAILURES.items(), strict=True)
    ]
    for runs, marker, label in [*failed, (sweep.eliminated[:, None] > 0, ".", "eliminated")]:
        chosen = runs.any(axis=1)
        if chosen.any():
            axes.plot(rates[chosen], np.full(chosen.sum(), 0.03), marker, color="0.4", transform=bottom, label=label)
    _log_where_positive(axes, np.concatenate([sweep.mean_val_loss, sweep.mean_train_loss]))
    axes.set(xscale="log", xlabel="learning rate", ylabel=f"loss after {sweep.epochs} epochs")
    axes.legend(fontsize="small")


def draw_losses(sweep: SweepData, figure: Any) -> None:
    """Validation loss by epoch, mean over the seeds that reached it; one line for each rate, coloured by the rate."""
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import LogNorm

    axes, rates, epochs = figure.subplots(), sweep.learning_rates, np.arange(1, sweep.epochs + 1)
    norm = LogNorm(rates[0], rates[-1] if len(rates) > 1 else 2 * rates[0])
    known = np.isfinite(sweep.val_loss)
    counts = known.sum(axis=1)
    totals = np.where(known, sweep.val_loss, 0.0).sum(axis=1)
    means = np.divide(totals, counts, out=np.full(counts.shape, np.nan), where=counts > 0)
    for rate, mean, dropped in zip(rates, means, sweep.eliminated, strict=True):
        style = "--" if dropped else "-"
        axes.plot(epochs, mean, style, marker=".", color=colormaps["viridis"](norm(rate)))
    _log_where_positive(axes, means)
    figure.colorbar(ScalarMappable(norm, "viridis"), ax=axes, label="learning rate")
    axes.set(xlabel="epoch", ylabel="validation loss")


def draw_best(sweep: SweepData, figure: Any) -> None:
    """The best rate after each epoch: it shows whether it still moves as trainings get longer."""
    axes, epochs = figure.subplots(), np.arange(1, sweep.epochs + 1)
    axes.plot(epochs, sweep.best_by_epoch, "o-")
    rates = sweep.learning_rates
    axes.set(xlabel="epoch", ylabel="best learning rate so far", yscale="log", ylim=(rates[0] / 1.5, rates[-1] * 1.5))


PICTURES = {"curve": draw_curve, "losses": draw_losses, "best": draw_best}
