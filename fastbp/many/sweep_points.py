"""What a sweep over settings has found, as figures: scores by point and seed, the best point, and what is as good."""

from __future__ import annotations

import dataclasses
from functools import cached_property
from typing import Any

import numpy as np

from fastbp.history import History
from fastbp.many import points
from fastbp.many.heat import HeatMap
from fastbp.network import MLP
from fastbp.numerics import quiet_results
from fastbp.types import Array


@quiet_results
@dataclasses.dataclass(eq=False, repr=False)
class SweepPoints:
    """Scores of P points with S seeds each; see `Sweep` for the fields."""

    configs: list[dict[str, Any]]
    seeds: list[int]
    scores: Array
    metric: str
    larger: bool
    histories: list[list[History | None]]
    status: Array
    best_net: MLP | None = None
    about: dict[str, Any] = dataclasses.field(default_factory=dict)
    plan: Any = None

    @property
    def mean(self) -> Array:
        """Over the seeds, ``(P,)``; NaN where one has no score."""
        found: Array = self.scores.mean(axis=1)
        return found

    @property
    def error(self) -> Array:
        """Standard error of each mean, ``(P,)``; NaN with one seed."""
        n = self.scores.shape[1]
        return np.asarray(self.scores.std(axis=1, ddof=1) / np.sqrt(n)) if n > 1 else np.full(len(self.scores), np.nan)

    @cached_property
    def grid(self) -> points.Grid:
        """Which points lie next to each other."""
        return points.Grid.of(self.configs)

    @cached_property
    def comparison(self) -> points.Compared:
        """All points compared with the best."""
        return points.compare(self.scores, self.larger, self.grid)

    @property
    def best_index(self) -> int | None:
        """The point with the best smoothed metric, of those all of whose seeds have one; None where there is none."""
        return self.comparison.best

    @property
    def top_index(self) -> int | None:
        """The point with the best mean as it is, which may have been lucky; or None."""
        cost = -self.mean if self.larger else self.mean
        return int(np.nanargmin(cost)) if np.isfinite(cost).any() else None

    @property
    def best(self) -> dict[str, Any] | None:
        """Settings of the best point."""
        return None if self.best_index is None else self.configs[self.best_index]

    @property
    def difference(self) -> Array:
        """By how much the smoothed metric is worse than that of the best, mean of differences by seed, ``(P,)``.

        Of a positive loss these are differences of logarithms, 0.05 being about 5 %; else in units of the metric.
        """
        return self.comparison.difference

    @property
    def difference_error(self) -> Array:
        """Standard error of `difference`, ``(P,)``; NaN with one seed."""
        return self.comparison.error

    @property
    def as_good(self) -> Array:
        """Points that cannot be told from the best: see the class, ``(P,)`` of bool."""
        return self.comparison.near

    @property
    def heat_map(self) -> HeatMap | None:
        """Of a grid the metric over the first two settings with several values; None where there are no two.

        Of further settings each field has the best.
        """
        grid = self.grid
        several = [axis for axis, values in enumerate(grid.axes.values()) if len(values) > 1]
        if not grid.whole or len(several) < 2:
            return None
        names, values = list(grid.axes), list(grid.axes.values())
        first, second = several[:2]
        field = np.full((len(values[first]), len(values[second])), np.nan)
        for place, mean in zip(grid.places.tolist(), self.mean.tolist(), strict=True):
            i, j = place[first], place[second]
            field[i, j] = (np.fmax if self.larger else np.fmin)(field[i, j], mean)
        k, words = self.best_index, [[points.word(one) for one in values[axis]] for axis in (first, second)]
        best = None if k is None else (int(grid.places[k, first]), int(grid.places[k, second]))
        what = "validation loss" if self.metric == "loss" else self.metric
        return HeatMap((names[first], names[second]), words[0], words[1], field, best, what, self.larger)
