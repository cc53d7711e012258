"""`RangeTest`, the result of a range test: its curves and suggestions as text, files and a picture."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from fastbp.io import documents
from fastbp.io.overview import Overview
from fastbp.io.tabular import Tabular
from fastbp.many import range_picture
from fastbp.many.range_data import Array, RangeData
from fastbp.numerics import quiet_results
from fastbp.validation import counted


@quiet_results
class RangeTest(RangeData, Tabular):
    """Losses while the learning rate rises, and the rates that they suggest. ``print(result)`` shows a table.

    A curve has a point for every step; with held-out data, for every so many steps. S seeds, n steps, q points.

    Attributes
    ----------
    learning_rates : array, (n,)
        Of every step.
    losses : array, (S, n)
        Of the batch of every step before its update; NaN once a seed has stopped, and where nothing in a batch counts.
    held_out : array, (S, q), or None
        Loss on the held-out data after the steps in `steps`.
    steps : array, (q,)
        Number of the step, from 0, of every point.
    metric : array, (S, q), or None
        The metric on the held-out data after these steps.
    smoothed : array, (S, q)
        ``losses``, or `held_out` where there is one, or what the metric makes of that (``1 - accuracy``), as a
        running mean with bias correction; NaN before the first loss and once a seed has stopped.
    stopped : list of str
        Why each seed stopped before the last step; empty if it did not.
    suggestions : dict of Suggestion
        ``steepest``, ``minimum/10`` and ``valley``.
    bounds : dict of Suggestion
        ``lower`` and ``upper``, for cyclical rates: ``OneCycle(epochs, start=lower / upper)`` with ``lr=upper``.
    notes : list of str
        What to bear in mind.
    seeds : list of int
        Of weights and batch orders.
    settings : dict
        The arguments: optimizer, batch_size, ramp, smoothing, k and others.
    seconds : float
        Duration of all seeds.
    """

    def __str__(self) -> str:
        return self.overview().text()

    def __repr__(self) -> str:
        rates = f"lr {self.learning_rates[0]:g} to {self.learning_rates[-1]:g}"
        found = ", ".join(f"{name} {one.value:.3g}" for name, one in self.suggestions.items())
        return f"<fastbp.RangeTest of {len(self.learning_rates)} steps, {rates}: {found}>"

    def overview(self) -> Overview:
        """The suggestions, and what to bear in mind."""
        said, ends = self.settings, [reason for reason in self.stopped if reason]
        title = (
            f"range test of {said['optimizer']}: {len(self.learning_rates)} steps, lr {self.learning_rates[0]:g} to "
            f"{self.learning_rates[-1]:g} ({said['ramp']}), batches of {said['batch_size']}, "
            f"{counted(len(self.seeds), 'seed')}, "
            f"smoothed {'batch' if self.held_out is None else 'held-out'} {self.what}"
        )
        rows = []
        for name, one in (self.suggestions | self.bounds).items():
            told = bool(np.isfinite(one.value))
            spread = f"{one.low:.3g} to {one.high:.3g}" if told else ""
            rows.append((name, f"{one.value:.3g}" if told else "cannot tell", spread, one.formula))
        stopped = [f"stopped: {len(ends)} of {len(self.seeds)}" + (f", the first at {ends[0]}" if ends else "")]
        head = ("suggestion", "lr", "over seeds", f"formula (L: smoothed {self.what})")
        return Overview(title, head, rows, [*stopped, *(f"note: {note}" for note in self.notes)])

    def columns(self) -> dict[str, npt.NDArray[Any]]:
        """Columns with one entry a step, by name; NaN where nothing was measured."""

        def spread(points: Array) -> Array:
            full = np.full(len(self.learning_rates), np.nan)
            full[self.steps] = points
            return full

        named: dict[str, npt.NDArray[Any]] = {
            "step": np.arange(len(self.learning_rates)), "lr": self.learning_rates, "mean": spread(self.mean),
            "low": spread(self.band[0]), "high": spread(self.band[1]),
        }  # fmt: skip
        for k, seed in enumerate(self.seeds):
            named[f"loss_{seed}"] = self.losses[k]
            if self.held_out is not None:
                named[f"held_out_{seed}"] = spread(self.held_out[k])
            if self.metric is not None:
                named[f"{self.settings['metric']}_{seed}"] = spread(self.metric[k])
            named[f"smoothed_{seed}"] = spread(self.smoothed[k])
        return named

    def document(self) -> dict[str, Any]:
        """Everything, as plain values: what `to_json` writes."""
        low, high = self.band
        return documents.plain(  # type: ignore[no-any-return]
            {
                "settings": self.settings,
                "seeds": self.seeds,
                "seconds": self.seconds,
                "stopped": self.stopped,
                "suggestions": {name: vars(one) for name, one in self.suggestions.items()},
                "bounds": {name: vars(one) for name, one in self.bounds.items()},
                "notes": self.notes,
                "learning_rates": self.learning_rates,
                "losses": self.losses,
                "held_out": self.held_out,
                "metric": self.metric,
                "steps": self.steps,
                "smoothed": self.smoothed,
                "mean": self.mean,
                "low": low,
                "high": high,
            }
        )

    def draw(self) -> Any:
        """Losses (faint), the smoothed mean with its band, and the suggestions."""
        return range_picture.draw(self)
