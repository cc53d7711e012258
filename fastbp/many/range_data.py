"""The figures of a range test: curves by seed, their mean and band, and the learning rates that they suggest."""

from __future__ import annotations

import bisect
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

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
class RangeData:
    """Curves by seed, their mean and band, and what they suggest; see `RangeTest` for the fields."""

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
