"""The figures of a range test: curves by seed, their mean and band, and the learning rates that they suggest."""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from fastbp.many.metrics import cost, cost_name
from fastbp.numerics import quiet_results

Array = npt.NDArray[np.float64]

SKIP = 0.1  # of the points: too few steps to be smooth. They make no suggestion, and stop nothing
LEAST_POINTS = 5
REACH = 0.04  # of the points, to either side, that a slope is taken over
# Share of the fall of a curve up to which it is looked at: beyond, the network may have learnt all there is.
DONE = 0.95
NOISE = 5.0  # a fall of less than so many standard deviations of the smoothed loss is none
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


def _lower(rates: Array, losses: Array, _reach: int) -> float:
    return float(rates[_fallen(losses, (1.0 - DONE) / DONE)])


def _upper(rates: Array, losses: Array, _reach: int) -> float:
    return float(rates[-1])


def _fallen(losses: Array, share: float) -> int:
    """The first place where this share of the whole fall, from the first loss to the lowest, is done."""
    return int(np.argmax(losses <= losses[0] - share * (losses[0] - losses.min())))


_Method = Callable[[Array, Array, int], float]
# name -> (function, formula, source); L ends where 95 % of its fall are done
_METHODS: dict[str, tuple[_Method, str, str]] = {
    "steepest": (_steepest, "where dL/d(log lr) is most negative", "fastai, steep"),
    "minimum/10": (_tenth, "a tenth of the lr where 95 % of the fall of L are done", "fastai, minimum"),
    "valley": (
        _valley,
        "two thirds along the longest falling subsequence of L (ours)",
        "fastbp, after fastai's valley",
    ),
}
_BOUNDS: dict[str, tuple[_Method, str, str]] = {
    "lower": (_lower, "where 5 % of the fall of L are done: it begins to fall", "Smith 2017, section 3.3"),
    "upper": (_upper, "where 95 % of the fall of L are done: it slows", "Smith 2017, section 3.3"),
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
    steps : float
        Length of the training that it stands for: at this constant rate, the sum of rates would be that of the ramp up
        to here. NaN without a value.
    """

    value: float
    low: float
    high: float
    by_seed: Array
    formula: str
    source: str
    steps: float = float("nan")


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
    metric: Array | None = None
    suggestions: dict[str, Suggestion] = field(init=False)
    bounds: dict[str, Suggestion] = field(init=False)
    notes: list[str] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "suggestions", self._suggest(_METHODS))
        object.__setattr__(self, "bounds", self._suggest(_BOUNDS))
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

    @property
    def raw(self) -> Array:
        """What `smoothed` is the running mean of, ``(S, q)``: losses, or what the metric makes of held-out data."""
        if self.metric is not None:
            return cost(self.metric, self.settings["metric"], self.settings["larger"])
        return self.losses if self.held_out is None else self.held_out

    @property
    def what(self) -> str:
        """That in words."""
        if self.metric is not None:
            return cost_name(self.settings["metric"], self.settings["larger"])
        return "loss"

    def _suggest(self, methods: dict[str, tuple[_Method, str, str]]) -> dict[str, Suggestion]:
        found = {}
        raw = self.raw
        falls = [self._fall(smoothed, losses) for smoothed, losses in zip(self.smoothed, raw, strict=True)]
        reach = max(1, round(self.smoothed.shape[1] * REACH))
        for name, (method, formula, source) in methods.items():
            by_seed = np.array([float("nan") if fall is None else method(*fall, reach) for fall in falls])
            low, high = (float(reduce(by_seed)) for reduce in (np.fmin.reduce, np.fmax.reduce))
            known = np.log(by_seed[np.isfinite(by_seed)])
            value = float(np.exp(np.median(known))) if 2 * len(known) > len(by_seed) else float("nan")
            found[name] = Suggestion(value, low, high, by_seed, formula, source, self._length(value))
        return found

    def _fall(self, smoothed: Array, losses: Array) -> tuple[Array, Array] | None:
        """Rates and smoothed losses of a seed, up to where its fall is all but done; None where there is no fall."""
        known = np.isfinite(smoothed)  # from the first batch in which a row counts up to where it stops
        known[: int(SKIP * len(smoothed))] = False
        curve = smoothed[known]
        if len(curve) < LEAST_POINTS or curve[0] - curve.min() <= NOISE * self._noise(losses[known]):
            return None
        end = _fallen(curve, DONE) + 1
        return self.rates[known][:end], curve[:end]

    def _noise(self, losses: Array) -> float:
        """Standard deviation of the smoothed loss, by how neighbouring losses differ before it falls or climbs."""
        jumps = np.diff(losses[np.isfinite(losses)])
        jumps = jumps[: max(2, len(jumps) // 3)]
        beta = float(self.settings.get("smoothing", 0.0)) ** int(self.settings.get("validation_every", 1))
        return float(np.median(np.abs(jumps)) / 0.954 * np.sqrt((1.0 - beta) / (1.0 + beta))) if len(jumps) else 0.0

    def _length(self, rate: float) -> float:
        """Steps at this rate whose sum of rates is that of the ramp up to it."""
        return float(self.learning_rates[self.learning_rates <= rate * (1 + 1e-9)].sum()) / rate

    def _lengths(self) -> str:
        """The trainings that the suggestions stand for, in words."""
        steps = sorted(one.steps for one in self.suggestions.values())
        span = f"{steps[0]:.0f}" if round(steps[0]) == round(steps[-1]) else f"{steps[0]:.0f} to {steps[-1]:.0f}"
        rows, batch = self.settings.get("rows", 0), self.settings.get("batch_size", 1)
        return f"{span} steps" + (f" ({steps[-1] / math.ceil(rows / batch):.2g} epochs)" if rows else "")

    def _ends_early(self) -> bool:
        """Is the loss lowest at the end of the ramp, and the part that is looked at cut off there too?

        Where a network has learnt all there is, the loss creeps on, which asks for no larger rates.
        """
        lowest = np.isfinite(self.mean[-1]) and np.nanargmin(self.mean) == len(self.mean) - 1
        place = np.searchsorted(self.rates, self.bounds["upper"].value)
        return bool(lowest and place >= (1.0 - SKIP) * len(self.rates))

    def _notes(self) -> list[str]:
        notes = []
        first, last = self.learning_rates[0], self.learning_rates[-1]
        if np.isnan([one.value for one in self.suggestions.values()]).any():
            notes.append(
                f"cannot tell: the smoothed loss does not fall by more than its noise; lower lr_min ({first:g}), take "
                "more steps, or the network has learnt all"
            )
        else:
            if self._ends_early():
                notes.append(f"the loss still falls at the end of the ramp: raise lr_max ({last:g})")
            notes.append(
                f"these stand for trainings of about {self._lengths()}, and fall as about 1 / n_steps; the best rate "
                "of a long training does not: see lr_sweep"
            )
            lower, upper = self.bounds["lower"].value, self.bounds["upper"].value
            notes.append(f"lower and upper are bounds for OneCycle(epochs, start={lower / upper:.2g}), lr={upper:.3g}")
        if any(one.high > WIDE * one.low for one in self.suggestions.values()):
            notes.append(f"seeds disagree more than {WIDE:g}-fold: take more steps, larger batches or more seeds")
        return notes
