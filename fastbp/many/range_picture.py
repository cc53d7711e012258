"""The picture of a range test: losses by learning rate, their smoothed mean with its band, and the suggestions."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastbp.io.figures import new_figure
from fastbp.many.range_data import RangeData

MARKERS = ("o", "s", "D")


def draw(result: RangeData) -> Any:
    """The picture, as matplotlib's figure."""
    figure = new_figure(8, 5)
    axes = figure.subplots()
    raw = result.raw
    raw_rates = result.learning_rates if result.held_out is None else result.rates
    for k, losses in enumerate(raw):
        known = np.isfinite(losses)  # without gaps, in which single points would not be seen
        axes.plot(
            raw_rates[known],
            losses[known],
            color="0.6",
            alpha=0.4,
            linewidth=0.7,
            label="" if k else "each seed",
        )
    low, high = result.band
    if len(result.seeds) > 1:
        axes.fill_between(result.rates, low, high, color="C0", alpha=0.2, linewidth=0, label="lowest to highest")
    axes.plot(result.rates, result.mean, color="C0", linewidth=2, label="mean, smoothed")
    for k, (name, one) in enumerate(result.suggestions.items()):
        if np.isfinite(one.value):
            at = float(np.interp(np.log(one.value), np.log(result.rates), result.mean))
            label = f"{name}: {one.value:.3g} ({one.low:.3g} to {one.high:.3g})"
            axes.axvline(one.value, color=f"C{k + 1}", linewidth=1, linestyle=":")
            axes.plot([one.value], [at], MARKERS[k], color=f"C{k + 1}", markersize=8, label=label)
    lower, upper = (result.bounds[name].value for name in ("lower", "upper"))
    if np.isfinite(lower) and np.isfinite(upper):
        axes.axvspan(lower, upper, color="C0", alpha=0.07, linewidth=0, label=f"bounds {lower:.3g} to {upper:.3g}")
    bottom, top = _limits(result, low, high)
    what = "loss of the batch" if result.held_out is None else f"{result.what} on held-out data"
    scale = "log" if result.settings["ramp"] == "exponential" else "linear"
    axes.set(xscale=scale, xlabel="learning rate", ylabel=what, ylim=(bottom, top))
    axes.set_title(f"{result.settings['optimizer']}, batches of {result.settings['batch_size']}", fontsize="medium")
    axes.legend(loc="upper left", fontsize="small")
    return figure


def _limits(result: RangeData, low: Any, high: Any) -> tuple[float | None, float | None]:
    """Heights that show the valley: the last steps before a stop may be a thousand times higher."""
    if not np.isfinite(low).any():
        return None, None
    bottom, begin = float(np.nanmin(low)), float(high[np.isfinite(high)][0])
    top = max(begin, float(np.nanmax(low[: max(1, len(low) // 2)])))
    room = max(top - bottom, 1e-12)
    return bottom - 0.15 * room, top + 0.6 * room
