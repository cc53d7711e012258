"""Points of several settings compared: smoothed over neighbours along axes of numbers, and paired by seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fastbp.many.statistics import NEIGHBOUR, student
from fastbp.types import Array

# Values of an axis that are not within a factor of each other are neighbours within this share of its range.
CLOSE = 0.25
_ROUNDING = 1e-9


def word(value: Any) -> str:
    """A value of a setting."""
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, tuple | list):
        return "-".join(map(word, value)) or "none"
    return "none" if value is None else str(value)


@dataclass(frozen=True)
class Grid:
    """Which points lie next to each other.

    Attributes
    ----------
    axes : dict of str to list
        The different values of each setting, numbers in their order.
    places : array of int, (points, axes)
        Where each point is on them.
    numeric : list of bool
        Axes of numbers.
    whole : bool
        The points are all combinations.
    """

    axes: dict[str, list[Any]]
    places: Array
    numeric: list[bool]
    whole: bool
    _at: dict[tuple[int, ...], int] = field(repr=False)

    @classmethod
    def of(cls, configs: Sequence[Mapping[str, Any]]) -> Grid:
        """The grid that these points are on, or a part of."""
        axes, numeric, columns = {}, [], []
        for name in configs[0]:
            values = [one[name] for one in configs]
            numbers = all(isinstance(one, int | float) and not isinstance(one, bool) for one in values)
            keys: list[Any] = [float(one) if numbers else repr(one) for one in values]
            order: list[Any] = sorted(set(keys)) if numbers else list(dict.fromkeys(keys))
            first = {key: value for key, value in reversed(list(zip(keys, values, strict=True)))}
            axes[name] = [first[key] for key in order]
            numeric.append(numbers)
            columns.append([order.index(key) for key in keys])
        places = np.array(columns, np.int64).T
        at = {tuple(place): k for k, place in enumerate(places.tolist())}
        return cls(axes, places, numeric, len(at) == int(np.prod([len(one) for one in axes.values()])), at)

    def beside(self, k: int, axis: int, step: int) -> int | None:
        """The number of the point next to a point, by so many steps along an axis; None where there is none."""
        place = self.places[k].tolist()
        place[axis] += step
        return self._at.get(tuple(place))

    def pairs(self, k: int) -> dict[int, tuple[int, int]]:
        """Axis of numbers -> the points on both sides, where there are two and both are near."""
        found = {}
        for axis, (values, numeric) in enumerate(zip(self.axes.values(), self.numeric, strict=True)):
            left, right = self.beside(k, axis, -1), self.beside(k, axis, 1)
            here = int(self.places[k, axis])
            if numeric and left is not None and right is not None and _near(values, here - 1) and _near(values, here):
                found[axis] = left, right
        return found


def _near(values: Sequence[float], k: int) -> bool:
    """Do two values of an axis, the k-th and the next, say something of each other?"""
    low, high = float(values[k]), float(values[k + 1])
    if low > 0.0 and high <= NEIGHBOUR * low * (1 + _ROUNDING):
        return True
    return high - low <= CLOSE * float(values[-1] - values[0]) * (1 + _ROUNDING)


@dataclass(frozen=True)
class Compared:
    """Points compared with the best of them.

    Attributes
    ----------
    best : int or None
        The point with the best smoothed metric, of those all of whose seeds have one.
    difference, error : array, (points,)
        By how much the smoothed metric is worse than that of the best, as a mean of differences paired by seed, and its
        standard error. Of a positive loss differences of logarithms: 0.05 is about 5 %.
    near : array of bool, (points,)
        The difference is no more than the 90 % quantile of Student's t times its error.
    relative : bool
        Differences are of logarithms.
    """

    best: int | None
    difference: Array
    error: Array
    near: Array
    relative: bool


def compare(scores: Array, larger: bool, grid: Grid) -> Compared:
    """Compare points by scores of ``(points, seeds)``, NaN where there is none; larger: more is better."""
    n, seeds = scores.shape
    nothing, cost = np.full(n, np.nan), -scores if larger else scores
    eligible = np.asarray(np.isfinite(cost).all(axis=1))
    if not eligible.any():
        return Compared(None, nothing, nothing, np.zeros(n, np.bool_), False)
    means = np.asarray(cost.mean(axis=1))
    relative = not larger and bool(np.all(means[eligible] > 0.0))
    # The logarithm of the mean, and how a seed moves it, as in `statistics.compare`.
    parts = np.log(means)[:, None] + cost / means[:, None] - 1.0 if relative else cost.astype(float)
    worst = float(parts[eligible].mean(axis=1).max())
    parts = np.where(eligible[:, None], parts, worst)  # what a point that failed counts as for its neighbours
    pairs = [grid.pairs(k) if grid.whole else {} for k in range(n)]
    # Of each axis as much at all points: else those that are at the end of one would be held to more of another.
    share = 0.5 / max(1, len({axis for found in pairs for axis in found}))
    smoothed = parts.copy()
    for k, found in enumerate(pairs):
        for left, right in found.values():
            smoothed[k] += share * (0.5 * (parts[left] + parts[right]) - parts[k])
    smoothed[~eligible] = np.nan
    best = int(np.nanargmin(smoothed.mean(axis=1)))
    paired = smoothed - smoothed[best]
    difference, error = paired.mean(axis=1), nothing.copy()
    if seeds > 1:
        error = np.sqrt(_with_neighbours(paired.var(axis=1, ddof=1), pairs, best) / seeds)
    near = np.asarray(difference <= student(seeds - 1) * error)
    near[best] = True
    return Compared(best, difference, error, near, relative)


def _with_neighbours(variances: Array, pairs: list[dict[int, tuple[int, int]]], best: int) -> Array:
    """Mean with the neighbours' of those that are known; that of the best, of itself, is 0 and no neighbour."""
    found = variances.copy()
    for k, own in enumerate(pairs):
        around = [variances[j] for j in {k, *(j for pair in own.values() for j in pair)} if j != best]
        around = [one for one in around if np.isfinite(one)]
        if np.isfinite(variances[k]) and around:
            found[k] = np.mean(around)
    found[best] = 0.0
    return found
