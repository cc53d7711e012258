"""Two sweeps over settings compared, point by point: this one, and an earlier one from a file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from fastbp.io.documents import plain, text
from fastbp.many import against
from fastbp.many.against import Difference
from fastbp.many.sweep_points import SweepPoints
from fastbp.many.sweep_text import order, settings
from fastbp.types import Array
from fastbp.validation import counted

# What `Sweep.document` says of a point beside its settings.
_FIGURES = ("mean", "error", "difference", "difference_error", "as_good")
_CHANGED = {**against.CHANGED, "epochs": "epochs"}
DIGITS = 9  # of numbers that are the same: the same rate may be written by ranges of other lengths
FEW = 8  # points that are printed


@dataclass(frozen=True)
class EarlierPoints:
    """What is compared of an earlier sweep.

    Attributes
    ----------
    scores : dict of str to array, (S,)
        The metric of every seed, NaN where there is none, by the key of a point.
    seeds : array, (S,)
    metric : str
    best : dict or None
        Settings of the best point.
    about : dict
    """

    scores: dict[str, Array]
    seeds: Array
    metric: str
    best: dict[str, Any] | None
    about: dict[str, Any]


def key(config: Mapping[str, Any]) -> str:
    """What is the same for the same settings, in a sweep and in its file."""
    return text(_rounded(plain(dict(sorted(config.items())))), None)


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _rounded(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_rounded(one) for one in value]
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(f"{value:.{DIGITS}g}") if number else value


def read(path: str | PathLike[str]) -> EarlierPoints:
    """Read an earlier sweep over settings.

    Raises
    ------
    ValueError
        The file holds no such sweep.
    """
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))
        seeds, metric, best = np.array(found["seeds"], np.uint64), str(found["metric"]), found["best"]
        configs = [{name: value for name, value in one.items() if name not in _FIGURES} for one in found["points"]]
        values = np.array(found["runs"][metric], float).reshape(len(configs), len(seeds))
        scores = {key(config): line for config, line in zip(configs, values, strict=True)}
        return EarlierPoints(scores, seeds, metric, None if best is None else dict(best), dict(found["about"]))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(
            f"{Path(path)} is not a sweep over settings as `fastbp sweep --over ... --json` or to_json writes it: "
            f"{error!r}"
        ) from None


def lines(sweep: SweepPoints, earlier: EarlierPoints, most: int | None = None) -> list[str]:
    """What has changed, in words: what holds at all points, the best, and the points of both, at most so many."""
    found = against.common(sweep.about, earlier.about)
    found += against.changes(sweep.about, earlier.about, _CHANGED)
    before, now = ("none" if one is None else settings(one) for one in (earlier.best, sweep.best))
    found.append(f"best {before} before, {now} now")
    if earlier.metric != sweep.metric:
        return [*found, f"not comparable: by {earlier.metric} before, by {sweep.metric} now"]
    keys = [key(config) for config in sweep.configs]
    both = [k for k in order(sweep) if keys[k] in earlier.scores]
    new, gone = len(keys) - len(both), len(earlier.scores.keys() - keys)
    found.append(f"{counted(len(both), 'point')} in both sweeps, {new} only now, {gone} only before")
    differences = {}
    for k in both:
        old = earlier.scores[keys[k]]
        if np.isfinite(sweep.scores[k]).all() and np.isfinite(old).all():
            differences[k] = Difference.of(sweep.scores[k], old, np.array(sweep.seeds, np.uint64), earlier.seeds)
    if differences:
        signs = [(one.now > one.before) == sweep.larger for one in differences.values() if one.clear]
        found.append(f"of these, {sum(signs)} better and {len(signs) - sum(signs)} worse beyond the noise")
    shown = both if most is None else both[:most]
    for k in shown:
        words = differences[k].words(sweep.metric) if k in differences else "not every seed has a result"
        found.append(f"at {settings(sweep.configs[k])}: {words}")
    return found + ([] if len(shown) == len(both) else [f"... and {counted(len(both) - len(shown), 'more point')}"])
