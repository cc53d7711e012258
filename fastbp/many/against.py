"""Two sweeps compared: this one, and an earlier one from the file that `to_json` or `fastbp sweep --json` wrote."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from fastbp.many.statistics import student
from fastbp.many.sweep_data import SweepData
from fastbp.types import Array

# What two sweeps should have in common, if their losses are to be compared: key of `about` -> in words.
COMMON = {"data": "data", "loss": "loss", "held_out": "rows held out"}
CHANGED = {"network": "network", "optimizer": "optimiser", "schedule": "schedule", "batch_size": "batch size"}


@dataclass(frozen=True)
class Earlier:
    """What is compared of an earlier sweep.

    Attributes
    ----------
    learning_rates, seeds : array, (K,) and (S,)
    final_loss : array, (K, S)
        NaN where a run did not reach the end.
    mean : array, (K,)
        Of the rates of which every seed finished.
    best_lr : float or None
    epochs : int
    about : dict
    """

    learning_rates: Array
    seeds: Array
    final_loss: Array
    mean: Array
    best_lr: float | None
    epochs: int
    about: dict[str, Any]


def read(path: str | PathLike[str]) -> Earlier:
    """Read an earlier sweep.

    Raises
    ------
    ValueError
        The file holds no sweep.
    """
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))
        rates, seeds = np.array(found["learning_rates"], float), np.array(found["seeds"], np.uint64)
        final, mean = np.array(found["final_loss"], float), np.array(found["mean_val_loss"], float)
        best, epochs, about = found["best_lr"], int(found["epochs"]), dict(found["about"])
        if final.shape != (len(rates), len(seeds)) or mean.shape != rates.shape:
            raise ValueError("its arrays do not fit each other")
        return Earlier(rates, seeds, final, mean, None if best is None else float(best), epochs, about)
    except (KeyError, TypeError, ValueError) as error:  # JSON's error is a ValueError, and so is that of UTF-8
        raise ValueError(
            f"{Path(path)} is not a learning-rate sweep as `fastbp sweep --json` or to_json writes it: {error}"
        ) from None


def lines(sweep: SweepData, earlier: Earlier) -> list[str]:
    """What has changed, in words: what was swept, the recommended rate, and the loss at it."""
    found = [*common(sweep.about, earlier.about)]
    differing = changes(sweep.about, earlier.about)
    if earlier.epochs != sweep.epochs:
        differing.append(f"{earlier.epochs} epochs before, {sweep.epochs} now")
    found += differing or ["network, optimiser, schedule, batch size and epochs are the same"]
    found.append(f"recommended lr {_rate(earlier.best_lr)} before, {_rate(sweep.best_lr)} now")
    if earlier.best_lr is not None and sweep.best_index is not None:
        found.append(_losses(sweep, earlier))
    return found


def common(now: dict[str, Any], before: dict[str, Any]) -> list[str]:
    """Why losses should not be compared: what both should have in common, and do not."""
    return [
        f"not comparable: the {word} {'are' if word == 'data' else 'is'} not the same"
        for key, word in COMMON.items()
        if key in before and before[key] != now.get(key)
    ]


def changes(now: dict[str, Any], before: dict[str, Any], named: dict[str, str] = CHANGED) -> list[str]:
    """What was set differently."""
    return [
        f"{word} {before.get(key) or 'not set'} before, {now.get(key) or 'not set'} now"
        for key, word in named.items()
        if before.get(key) != now.get(key)
    ]


@dataclass(frozen=True)
class Difference:
    """Two means over seeds, and the error of their difference: paired where seeds are the same.

    Attributes
    ----------
    before, now : float
    error : float
        Standard error of their difference; NaN for a single seed.
    paired : bool
    clear : bool
        The difference is beyond the 90 % quantile of Student's t times its error.
    """

    before: float
    now: float
    error: float
    paired: bool
    clear: bool

    @classmethod
    def of(cls, new: Array, old: Array, new_seeds: Array, old_seeds: Array) -> Difference:
        """Compare values of seeds; those of both alone, if these are half of them or more."""
        shared, mine, theirs = np.intersect1d(new_seeds, old_seeds, return_indices=True)
        paired = 2 * len(shared) >= max(len(new), len(old)) and len(shared) >= min(2, len(new), len(old))
        if paired:
            new, old = new[mine], old[theirs]
            error, freedom = _error(new - old), len(shared) - 1
        else:
            error, freedom = math.hypot(_error(new), _error(old)), min(len(new), len(old)) - 1
        before, now = float(old.mean()), float(new.mean())
        clear = math.isfinite(error) and abs(now - before) > student(freedom) * error
        return cls(before, now, error, paired, clear)

    def words(self, what: str) -> str:
        """Both means of something, the difference and its error."""
        said = f"{what} {self.before:.4g} before, {self.now:.4g} now: {self.now - self.before:+.2g}"
        if not math.isfinite(self.error):
            return f"{said}, without an error for a single seed"
        how = "paired by seed" if self.paired else "seeds differ"
        return f"{said} +- {self.error:.1g} ({how}), {'beyond' if self.clear else 'within'} the noise"


def _rate(value: float | None) -> str:
    return "none" if value is None else f"{value:.3g}"


def _losses(sweep: SweepData, earlier: Earlier) -> str:
    """The losses at both recommended rates, and the error of their difference: paired where the seeds are the same."""
    k, before = sweep.best_index, int(np.argmin(np.abs(earlier.learning_rates - (earlier.best_lr or 0.0))))
    found = Difference.of(sweep.final_loss[k], earlier.final_loss[before], sweep.seeds, earlier.seeds)
    return found.words("loss there")


def _error(values: Array) -> float:
    n = len(values)
    return float(values.std(ddof=1) / math.sqrt(n)) if n > 1 else math.nan
