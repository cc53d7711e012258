"""What the losses of a sweep say: pure functions of arrays by rate and seed."""

from __future__ import annotations

import numpy as np

from fastbp.types import Array


def standard_error(values: Array) -> Array:
    """Standard error of the mean over seeds, ``(K, S) -> (K,)``; NaN with a single seed."""
    n = values.shape[1]
    if n == 1:
        return np.full(len(values), np.nan)
    error: Array = values.std(axis=1, ddof=1) / np.sqrt(n)
    return error


def best(means: Array) -> int | None:
    """Number of the lowest mean that is not NaN; the first of equals."""
    return int(np.nanargmin(means)) if np.isfinite(means).any() else None


def interval(losses: Array, best_index: int | None) -> Array:
    """Rates next to the best whose mean paired difference from it is at most its standard error, ``(K,)`` of bool."""
    n_rates, n_seeds = losses.shape
    inside = np.zeros(n_rates, np.bool_)
    if best_index is None:
        return inside
    inside[best_index] = True
    if n_seeds == 1:
        return inside
    differences = losses - losses[best_index]
    means, errors = differences.mean(axis=1), standard_error(differences)
    for steps in (range(best_index + 1, n_rates), range(best_index - 1, -1, -1)):
        for k in steps:
            if not means[k] <= errors[k]:  # NaN: a rate that is not eligible ends the interval
                break
            inside[k] = True
    return inside


def nearest_to_centre(rates: Array, losses: Array) -> float:
    """The rate nearest to the geometric centre of rising rates; of two, that with the lower loss."""
    logs = np.log(rates)
    distance = np.abs(logs - 0.5 * (logs[0] + logs[-1]))
    middle = np.flatnonzero(distance <= distance.min() + 1e-9)  # two on a regular grid, but for rounding
    return float(rates[middle[np.argmin(losses[middle])]])


def best_by_epoch(rates: Array, losses: Array, eligible: Array) -> Array:
    """The eligible rate with the lowest known mean loss after each epoch of ``(K, S, epochs)``; NaN without."""
    if not eligible.any():
        return np.full(losses.shape[2], np.nan)
    means = losses[eligible].mean(axis=1)
    chosen: Array = rates[eligible][np.argmin(np.where(np.isnan(means), np.inf, means), axis=0)]
    chosen[np.isnan(means).all(axis=0)] = np.nan
    return chosen


def boundary(rates: Array, diverged: Array) -> tuple[float | None, float] | None:
    """(highest rate below all that diverged, lowest rate that did), or None."""
    hit = np.flatnonzero(diverged.any(axis=1))
    if not hit.size:
        return None
    first = int(hit[0])
    return (float(rates[first - 1]) if first else None), float(rates[first])


def sensitivity(
    rates: Array, losses: Array, diverged: Array, start: Array, best_index: int | None
) -> float | None:  # fmt: skip
    """Mean over log rate, and over seeds, of ``min(J, J0) - J*``; None where a loss is not known."""
    capped = np.where(diverged, start, np.minimum(losses, start))
    if best_index is None or not np.isfinite(capped).all():
        return None
    excess = capped.mean(axis=1) - losses[best_index].mean()
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
