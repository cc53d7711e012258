"""What a range test has found: curves by seed, their mean and band, and the learning rates that they suggest."""

from __future__ import annotations

import bisect
from collections.abc import Callable
from dataclasses import dataclass, field
from os import PathLike
from typing import Any

import numpy as np
import numpy.typing as npt

from fastbp.io import columns, documents
from fastbp.many import range_picture
from fastbp.numerics import quiet_results

Array = npt.NDArray[np.float64]

SKIP = 0.1  # of the points: too few steps to be smooth. They make no suggestion, and stop nothing
LEAST_POINTS = 5
REACH = 0.04  # of the points, to either side, that a slope is taken over
# Seeds whose suggestions differ by more than this factor: the curve is flat, or noise.
WIDE = 10.0


def slopes(rates: Array, losses: Array, reach: int) -> Array:
    """dL/d(log lr) by differences over `reach` points to either side, fewer at the ends.

    Neighbours differ by the noise of one batch; over the steps that the smoothing lags by, by little of it.
    """
    places = np.arange(len(losses))
    left, right = np.maximum(places - reach, 0), np.minimum(places + reach, len(losses) - 1)
    return np.asarray((losses[right] - losses[left]) / np.log(rates[right] / rates[left]))


def _steepest(rates: Array, losses: Array, reach: int) -> float:
    """Up to the minimum: beyond it, the fall after a spike may be steeper than the descent."""
    return float(rates[slopes(rates, losses, reach)[: int(losses.argmin()) + 1].argmin()])


def _tenth(rates: Array, losses: Array, _reach: int) -> float:
    return float(rates[losses.argmin()]) / 10.0


def longest_fall(losses: Array) -> list[int]:
    """Places of the longest strictly decreasing subsequence; the one of lowest values, if there are several."""
    ends: list[float] = []  # of the best subsequence of each length, negated: rising
    places: list[int] = []
    before = [-1] * len(losses)
    for i, loss in enumerate(losses.tolist()):
        k = bisect.bisect_left(ends, -loss)
        before[i] = places[k - 1] if k else -1
        ends[k:], places[k:] = [-loss, *ends[k + 1 :]], [i, *places[k + 1 :]]
    chain, i = [], places[-1]
    while i >= 0:
        chain.append(i)
        i = before[i]
    return chain[::-1]


def _valley(rates: Array, losses: Array, _reach: int) -> float:
    fall = longest_fall(losses)
    return float(rates[fall[-(-2 * len(fall) // 3) - 1]])


_Method = Callable[[Array, Array, int], float]
# name -> (function, formula, source)
_METHODS: dict[str, tuple[_Method, str, str]] = {
    "steepest": (
        _steepest,
        "where dL/d(log lr) is most negative up to the minimum",
        "Smith 2017; fastai, steep",
    ),
    "minimum/10": (_tenth, "a tenth of the lr where L is lowest", "fastai, minimum"),
    "valley": (
        _valley,
        "two thirds along the longest falling subsequence of L",
        "fastai, valley (ESRI)",
    ),
}


@dataclass(frozen=True, eq=False)
class Suggestion:
    """A learning rate that a range test suggests.

    Attributes
    ----------
    value : float
        Median over seeds, by logarithms; NaN where the loss L of most seeds never falls.
    low, high : float
        Smallest and largest over seeds: the spread.
    by_seed : array, (seeds,)
        All of these; NaN for a seed whose loss never falls.
    formula, source : str
        How it is computed from the smoothed loss L, and who proposed it.
    """

    value: float
    low: float
    high: float
    by_seed: Array
    formula: str
    source: str


@quiet_results
@dataclass(frozen=True, eq=False)
class RangeTest:
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
    smoothed : array, (S, q)
        ``losses``, or `held_out` where there is one, as a running mean with bias correction; NaN before the first loss
        and once a seed has stopped.
    stopped : list of str
        Why each seed stopped before the last step; empty if it did not.
    suggestions : dict of Suggestion
        ``steepest``, ``minimum/10`` and ``valley``.
    notes : list of str
        What to bear in mind.
    seeds : list of int
        Of the batch orders.
    settings : dict
        The arguments: optimizer, batch_size, ramp, smoothing, k and others.
    seconds : float
        Duration of all seeds.
    """

    learning_rates: Array
    losses: Array
    held_out: Array | None
    steps: npt.NDArray[np.int64]
    smoothed: Array
    stopped: list[str]
    seeds: list[int]
    settings: dict[str, Any]
    seconds: float
    suggestions: dict[str, Suggestion] = field(init=False)
    notes: list[str] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "suggestions", self._suggest())
        object.__setattr__(self, "notes", self._notes())

    # --- the curve ------------------------------------------------------------------------------------------

    @property
    def rates(self) -> Array:
        """Learning rates of the points of the curve, ``(q,)``."""
        return self.learning_rates[self.steps]

    @property
    def mean(self) -> Array:
        """Mean of `smoothed` over seeds, ``(q,)``; NaN from where the first of them has stopped."""
        return np.asarray(self.smoothed.mean(axis=0))

    @property
    def band(self) -> tuple[Array, Array]:
        """Lowest and highest of `smoothed` over the seeds that have not stopped, ``(q,)`` each; NaN if all have."""
        over = np.isnan(self.smoothed).all(axis=0)
        low, high = np.fmin.reduce(self.smoothed, axis=0), np.fmax.reduce(self.smoothed, axis=0)
        return np.where(over, np.nan, low), np.where(over, np.nan, high)

    def _suggest(self) -> dict[str, Suggestion]:
        found = {}
        for name, (method, formula, source) in _METHODS.items():
            by_seed = np.array([self._apply(method, curve) for curve in self.smoothed])
            low, high = (float(reduce(by_seed)) for reduce in (np.fmin.reduce, np.fmax.reduce))
            known = np.log(by_seed[np.isfinite(by_seed)])
            value = float(np.exp(np.median(known))) if 2 * len(known) > len(by_seed) else float("nan")
            found[name] = Suggestion(value, low, high, by_seed, formula, source)
        return found

    def _apply(self, method: _Method, curve: Array) -> float:
        """What a curve suggests; NaN if it never falls below where it begins."""
        known = np.isfinite(curve)  # from the first batch in which a row counts up to where it stops
        known[: int(SKIP * len(curve))] = False
        rates, losses = self.rates[known], curve[known]
        if len(losses) < LEAST_POINTS or losses.argmin() == 0:
            return float("nan")
        return method(rates, losses, max(1, round(len(curve) * REACH)))

    def _notes(self) -> list[str]:
        notes = []
        first, last = self.learning_rates[0], self.learning_rates[-1]
        if np.isnan([one.value for one in self.suggestions.values()]).any():
            notes.append(
                f"no suggestion: the smoothed loss never falls; lower lr_min ({first:g}), or the network has learnt all"
            )
        elif np.isfinite(self.mean[-1]) and np.nanargmin(self.mean) == len(self.mean) - 1:
            notes.append(f"the loss still falls at the end of the ramp: raise lr_max ({last:g})")
        if any(one.high > WIDE * one.low for one in self.suggestions.values()):
            notes.append(f"seeds disagree more than {WIDE:g}-fold: take more steps, larger batches or more seeds")
        return notes

    # --- as text, files, a picture --------------------------------------------------------------------------

    def __str__(self) -> str:
        what = "held-out loss" if self.held_out is not None else "batch loss"
        said = self.settings
        rows = [("suggestion", "lr", "over seeds", "formula (L: smoothed loss)")]
        for name, one in self.suggestions.items():
            spread = f"{one.low:.3g} .. {one.high:.3g}"
            rows.append((name, f"{one.value:.3g}", spread, one.formula))
        widths = [max(len(row[k]) for row in rows) for k in range(4)]
        table = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
        ends = [reason for reason in self.stopped if reason]
        lines = [
            f"range test of {said['optimizer']}: {len(self.learning_rates)} steps, lr {self.learning_rates[0]:g} to "
            f"{self.learning_rates[-1]:g} ({said['ramp']}), batches of {said['batch_size']}, "
            f"{len(self.seeds)} batch orders, smoothed {what}",
            f"stopped: {len(ends)} of {len(self.seeds)}" + (f", the first at {ends[0]}" if ends else ""),
            *table,
            *(f"note: {note}" for note in self.notes),
        ]
        return "\n".join(lines)

    def columns(self) -> dict[str, npt.NDArray[Any]]:
        """What there is of each step, by name; NaN where there is nothing."""

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
                "notes": self.notes,
                "learning_rates": self.learning_rates,
                "losses": self.losses,
                "held_out": self.held_out,
                "steps": self.steps,
                "smoothed": self.smoothed,
                "mean": self.mean,
                "low": low,
                "high": high,
            }
        )

    def to_csv(self, path: str | PathLike[str]) -> None:
        """Write a line a step: lr, mean and band, then the curves of each seed; empty where there is nothing."""
        columns.write_csv(path, self.columns())

    def to_json(self, path: str | PathLike[str]) -> None:
        """Write everything, suggestions and settings included."""
        columns.write_json(path, self.document())

    def to_dataframe(self) -> Any:
        """The columns of `to_csv` as a pandas data frame (ImportError without pandas)."""
        return columns.data_frame(self.columns())

    def plot(self, path: str | PathLike[str] | None = None) -> Any:
        """Draw losses (faint), the smoothed mean with its band, and the suggestions; returns matplotlib's figure.

        Parameters
        ----------
        path : path-like, optional
            Where to save the picture; its ending says in what format.

        Raises
        ------
        ImportError
            matplotlib is not installed (extra `plot`).
        """
        return range_picture.draw(self, path)
