"""What the losses of a sweep say: pure functions of arrays by rate and seed."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from fastbp.types import Array

# A rate further away than this factor says nothing of its neighbour.
NEIGHBOUR = 4.0
# Paired differences are held against the 90 % quantile of Student's t: chosen by benchmarks/sweep_truth.py.
# It for 1, 2, ... degrees of freedom; beyond them an expansion is exact to 0.2 %.
_T90 = (3.0777, 1.8856, 1.6377, 1.5332, 1.4759, 1.4398)
_Z90 = 1.2815516


def standard_error(values: Array) -> Array:
    """Standard error of the mean over seeds, ``(K, S) -> (K,)``; NaN with a single seed."""
    n = values.shape[1]
    if n == 1:
        return np.full(len(values), np.nan)
    error: Array = values.std(axis=1, ddof=1) / np.sqrt(n)
    return error


def student(freedom: int) -> float:
    """The 90 % quantile of Student's t distribution; infinite without degrees of freedom."""
    if freedom < 1:
        return math.inf
    if freedom <= len(_T90):
        return _T90[freedom - 1]
    z = _Z90
    return z + (z**3 + z) / (4 * freedom) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)


def smooth(rates: Array, values: Array, known: Array) -> Array:
    """Half of each value and a quarter of both its neighbours, ``(K, ...)`` by rising rates.

    Where one of the two is not known, or more than a factor of `NEIGHBOUR` away, the value stays as it is: that is also
    what a straight line through the other would give.
    """
    close = np.zeros(len(rates) + 1, np.bool_)  # to the left of each rate, and of the end
    close[1:-1] = rates[1:] <= NEIGHBOUR * rates[:-1] * (1 + 1e-9)
    both = close[:-1] & np.roll(known, 1) & close[1:] & np.roll(known, -1)
    sides = 0.25 * np.roll(values, 1, axis=0) + 0.25 * np.roll(values, -1, axis=0)
    return np.where(both.reshape((-1,) + (1,) * (values.ndim - 1)), 0.5 * values + sides, values)


@dataclass(frozen=True)
class Comparison:
    """Rates compared with the best of them by their smoothed log losses.

    Attributes
    ----------
    best : int or None
        Number of the rate with the lowest smoothed log loss; None where no rate is eligible.
    level : array, (K,)
        That loss, log mean over seeds; NaN for rates that are not eligible.
    difference, error : array, (K,)
        By how much the log loss exceeds that of the best, as a mean of differences paired by seed, and the standard
        error of that mean, of the mean variance of a rate and its neighbours; NaN for rates that are not eligible, and
        the error with a single seed.
    near : array of bool, (K,)
        The difference is no more than the 90 % quantile of Student's t times its error.
    """

    best: int | None
    level: Array
    difference: Array
    error: Array
    near: Array


def compare(rates: Array, losses: Array, eligible: Array, start: float, known: Array | None = None) -> Comparison:
    """Compare rates by losses of ``(K, S)``.

    Parameters
    ----------
    eligible : array of bool, (K,)
        Rates of which every seed has a loss no worse than that of its initial weights.
    start : float
        That loss, mean over seeds. A rate that is not eligible counts as this bad for its neighbours.
    known : array of bool, (K,), optional
        Not those that say nothing for their neighbours, as they were eliminated or interrupted.
    """
    n_rates, n_seeds = losses.shape
    nothing = np.full(n_rates, np.nan)
    if not eligible.any():
        return Comparison(None, nothing, nothing, nothing, np.zeros(n_rates, np.bool_))
    offset = offset_of(losses[eligible].mean(axis=1), start)
    means = np.where(eligible, losses.mean(axis=1), start) - offset
    # The logarithm of the mean, and how a seed's loss moves it: its variance is that of the mean, to first order.
    parts = np.log(means)[:, None] + np.where(eligible[:, None], (losses - offset) / means[:, None] - 1.0, 0.0)
    smoothed = smooth(rates, parts, np.ones(n_rates, np.bool_) if known is None else known | eligible)
    smoothed[~eligible] = np.nan
    level = smoothed.mean(axis=1)
    best = int(np.nanargmin(level))
    paired = smoothed - smoothed[best]
    difference = paired.mean(axis=1)
    error = nothing.copy()
    if n_seeds > 1:
        error = np.sqrt(_neighbours_mean(paired.var(axis=1, ddof=1), best) / n_seeds)
    near = np.asarray(difference <= student(n_seeds - 1) * error)
    near[best] = True
    return Comparison(best, level, difference, error, near)


def offset_of(means: Array, start: float) -> float:
    """What to take from losses so that they have logarithms: 0 where all are positive already."""
    low = float(means.min())
    if low > 0.0 and start > 0.0:
        return 0.0
    return low - (0.05 * (start - low) or 1.0)


def _neighbours_mean(variances: Array, best: int) -> Array:
    """Mean with the neighbours' of those that are known; that of the best rate, of itself, is 0 and no neighbour."""
    known = np.isfinite(variances)
    known[best] = False
    values, counts = np.where(known, variances, 0.0), known.astype(np.float64)
    total, number = values.copy(), counts.copy()
    for one, array in ((total, values), (number, counts)):
        one[1:] += array[:-1]
        one[:-1] += array[1:]
    found: Array = np.divide(total, number, out=np.full(len(total), np.nan), where=number > 0)
    found[~known] = np.nan
    found[best] = 0.0
    return found


def interval(comparison: Comparison) -> Array:
    """The best rate and those next to it, on both sides, that are as good, ``(K,)`` of bool."""
    inside = np.zeros(len(comparison.near), np.bool_)
    best = comparison.best
    if best is None:
        return inside
    inside[best] = True
    for steps in (range(best + 1, len(inside)), range(best - 1, -1, -1)):
        for k in steps:
            if not comparison.near[k]:
                break
            inside[k] = True
    return inside


def best_by_epoch(rates: Array, losses: Array, start: Array, eliminated: Array) -> Array:
    """The rate with the lowest smoothed log loss after each epoch of ``(K, S, epochs)``, among all alive then.

    A rate counts while every seed has a loss, and none of them is above `start`, ``(S,)``; `eliminated` has the epoch
    after which it was dropped, or 0. Seeds that a dropped rate was not trained with do not count until that epoch.
    """
    chosen = np.full(losses.shape[2], np.nan)
    for epoch in range(losses.shape[2]):
        seeds = ~np.isnan(losses[eliminated > epoch, :, epoch]).any(axis=0)
        now, begun = losses[:, seeds, epoch], start[seeds]
        eligible = np.asarray((now <= begun).all(axis=1))  # NaN is not
        known = np.asarray((eliminated == 0) | (eliminated > epoch))
        best = compare(rates, now, eligible, float(begun.mean()), known).best if seeds.any() else None
        if best is not None:
            chosen[epoch] = rates[best]
    return chosen


def boundary(rates: Array, diverged: Array) -> tuple[float | None, float] | None:
    """(highest rate below all that diverged, lowest rate that did), or None."""
    hit = np.flatnonzero(diverged.any(axis=1))
    if not hit.size:
        return None
    first = int(hit[0])
    return (float(rates[first - 1]) if first else None), float(rates[first])


def sensitivity(rates: Array, losses: Array, diverged: Array, start: Array, lowest: float | None) -> float | None:
    """Mean over log rate, and over seeds, of ``min(J, J0) - J*``; None where a loss is not known."""
    capped = np.where(diverged, start, np.minimum(losses, start))
    if lowest is None or not np.isfinite(capped).all():
        return None
    excess = capped.mean(axis=1) - lowest
    if len(rates) == 1:
        return float(excess[0])
    logs = np.log(rates)
    return float(np.sum(0.5 * (excess[1:] + excess[:-1]) * np.diff(logs)) / (logs[-1] - logs[0]))


def seconds_to(target: float | None, losses: Array, seconds: Array) -> Array:
    """Time until a loss is at most the target, ``(K, S, epochs) -> (K, S)``; NaN where it never is."""
    if target is None:
        return np.full(losses.shape[:2], np.nan)
    reached = losses <= target  # NaN is not
    passed = np.take_along_axis(np.cumsum(seconds, axis=2), reached.argmax(axis=2)[..., None], axis=2)[..., 0]
    return np.where(reached.any(axis=2), passed, np.nan)
