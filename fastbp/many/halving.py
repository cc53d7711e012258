"""Successive halving: after which epochs rates are compared, and which of them are not trained on.

The best rate after few epochs is larger than after many: a small rate has only not arrived yet. What is eliminated is
therefore worse than the best by more than its error, *and* no trend leads it back. What is far off shows with few
seeds too, so the first comparisons do without the others. The numbers here were chosen by benchmarks/sweep_truth.py, on
trainings of many seeds.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol

import numpy as np

from fastbp.many.ledger import DIVERGED, Ledger
from fastbp.many.statistics import compare, offset_of, smooth
from fastbp.types import Array

# The first comparison is after so many epochs at least, and this share of them all: before, losses say too little.
LEAST_EPOCHS, LEAST_SHARE = 2, 1 / 9
APART = 2.0  # from one comparison to the next
FEWEST = 2  # seeds of a comparison, where there are as many: one alone has no error
# A rate r after t of T epochs will have gone as far as r (T / t) has now; a little more, since rates adapt.
REACH = 1.25


class Runner(Protocol):
    """Trains runs of a ledger."""

    @property
    def busy_seconds(self) -> float:
        """Time that threads have spent on runs."""

    @property
    def n_threads(self) -> int:
        """Threads, of all workers."""

    def train(self, which: Array, end: int) -> bool:
        """Train the runs of these numbers to the end of epoch `end`; returns False after Ctrl-C."""


def rungs(n_rates: int, epochs: int, factor: int | None) -> list[int]:
    """Epochs after which rates are compared: the last, and before it each a `factor`-th of the next.

    As many as it takes to come from all rates to fewer than `factor`, but none too early to tell, nor close to another.
    """
    ends, wanted = [epochs], 1
    least = max(LEAST_EPOCHS, math.ceil(LEAST_SHARE * epochs))
    while factor and factor**wanted <= n_rates:
        end = max(least, ends[0] // factor)
        wanted += 1
        if end >= ends[0] or (len(ends) > 1 and APART * end > ends[0]):
            break
        ends.insert(0, end)
    if factor and len(ends) == 2 and wanted > 2:  # a short training has room for one between
        between = min(2 * ends[0], math.ceil(epochs / 2))
        if between > ends[0]:
            ends.insert(1, between)
    return ends


def seeds_of(n_seeds: int, rungs: int) -> list[int]:
    """How many of the seeds, the first of them, each comparison looks at."""
    return [max(min(FEWEST, n_seeds), math.ceil(n_seeds * k / rungs)) for k in range(1, rungs + 1)]


def halve(
    runner: Runner, ledger: Ledger, n_seeds: int, ends: list[int], dropped: Callable[[Array], None]
) -> tuple[Array, bool]:
    """Train rung by rung; returns after which epoch each rate was eliminated (0: never), and whether all was done.

    dropped: called with the numbers of the runs that are not continued.
    """
    n_rates = len(ledger) // n_seeds
    rates, seed = ledger.learning_rates[::n_seeds], np.arange(len(ledger)) % n_seeds
    eliminated, alive = np.zeros(n_rates, np.int64), np.ones(n_rates, np.bool_)
    for end, n in zip(ends, seeds_of(n_seeds, len(ends)), strict=True):
        open_runs = np.repeat(alive, n_seeds) & (seed < n) & (ledger.done < end) & (ledger.status < DIVERGED)
        if open_runs.any() and not runner.train(np.flatnonzero(open_runs), end):
            return eliminated, False
        if end == ends[-1]:
            break
        losses = ledger.cost.reshape(n_rates, n_seeds, -1)[:, :n, :end]
        # A rate with a diverged seed is out because it diverged, and does not count as eliminated.
        alive &= np.isfinite(losses[:, :, -1]).all(axis=1)
        start = ledger.of_seeds(ledger.start_cost, n_seeds)[:n]
        going_on = survivors(rates, losses, alive, start, ends[-1], eliminated == 0)
        eliminated[alive & ~going_on] = end
        alive = going_on
        dropped(np.flatnonzero(np.repeat(~alive, n_seeds)))
    return eliminated, True


def survivors(rates: Array, losses: Array, alive: Array, start: Array, epochs: int, known: Array) -> Array:
    """Which of the rates that are alive are worth training on, ``(K,)`` of bool.

    A rate is kept that is not worse than the best by more than its error; or that is smaller, and has not had the time
    to show; or that is larger, and whose loss falls so steeply that it would pass that of the best in time; or that
    lies between two of these.

    Parameters
    ----------
    losses : array, (K, S, t)
        After each epoch so far.
    start : array, (S,)
        At the initial weights.
    epochs : int
        Of a whole run.
    known : array of bool, (K,)
        Rates that have not been eliminated.
    """
    now, done = losses[:, :, -1], losses.shape[2]
    eligible = alive & (now <= start).all(axis=1)
    found = compare(rates, now, eligible, float(start.mean()), known & eligible)
    if found.best is None:  # all are still worse than their start
        return alive.copy()
    # Here what diverges says nothing of its neighbours: they may be the best.
    best, remaining = found.best, epochs / done
    lowest = rates[np.flatnonzero(found.near)[0]]
    not_arrived = (rates < rates[best]) & (rates * remaining**REACH >= lowest * (1 - 1e-9))
    catching_up = (rates > rates[best]) & _arrives(rates, losses, eligible, float(start.mean()), best, remaining)
    kept = np.flatnonzero(alive & (found.near | not_arrived | catching_up))
    between = (rates >= rates[kept[0]]) & (rates <= rates[kept[-1]])
    return np.asarray(alive & between)


def _arrives(rates: Array, losses: Array, eligible: Array, start: float, best: int, remaining: float) -> Array:
    """Rates whose loss, going on as a power of time as since half the epochs, ends no higher than that of the best."""
    done = losses.shape[2]
    before = max(1, done // 2)
    if before == done:
        return np.zeros(len(rates), np.bool_)
    then, now = (losses[:, :, epoch - 1].mean(axis=1) for epoch in (before, done))
    offset = offset_of(now[eligible], start)
    usable = eligible & (then > offset)
    earlier, later = (smooth(rates, np.log(np.where(usable, m - offset, 1.0)), usable) for m in (then, now))
    end = later + (later - earlier) * math.log(remaining) / math.log(done / before)
    return np.asarray(usable & (end <= end[best]) & usable[best])
