"""The schedule of RealMLP: a cosine of the logarithm of time."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from fastbp.schedules.base import Array, Schedule, lengths_passed
from fastbp.validation import check_positive_finite, check_positive_int, checked_by, setting


@dataclass(frozen=True)
class CosLog(Schedule):
    """(1 - cos(2 pi log2(1 + (2^cycles - 1) t))) / 2, t from 0 to 1 over the training (Holzmueller et al. 2024).

    Cycles from 0 up to 1 and back to 0, each twice as long as the one before: "coslog4" of RealMLP, with four of them.
    A rate that returns to 0 now and then leaves a good network to keep at several places, the last of them at the end.

    Parameters
    ----------
    epochs : float
        Length of all cycles together; the factor is 0 afterwards.
    cycles : int
        Their number.

    Examples
    --------
    >>> schedule = fastbp.schedules.CosLog(epochs=15)  # cycles of 1, 2, 4 and 8 epochs
    >>> [f"{factor:.3g}" for factor in schedule.factors(np.array([0.0, 1, 2, 3, 5, 7, 11, 15]))]
    ['0', '0', '0.93', '0', '0.93', '0', '0.93', '0']
    """

    epochs: float = field(metadata=checked_by(check_positive_finite))
    cycles: int = setting(4, check_positive_int)

    def factors(self, steps: Array, per_epoch: int = 1) -> Array:
        t = np.minimum(lengths_passed(steps, self.epochs, per_epoch), 1.0)
        turns = np.log2(1.0 + (2.0**self.cycles - 1.0) * t)
        turns = np.where(np.abs(turns - np.rint(turns)) < 1e-12, 0.0, turns)
        return np.asarray(0.5 - 0.5 * np.cos(2.0 * math.pi * turns))
