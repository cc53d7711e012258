"""What a schedule is: factors by the number of the step; lengths that are exact in steps; checks of its numbers."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastbp.validation import Checked, check_inner_fraction, check_non_negative_finite, check_positive_finite

Array = NDArray[np.float64]

# A length that is so simple a fraction of an epoch is taken for it: 0.3 for 3/10, 20 / 3 for twenty thirds.
DENOMINATOR = 10_000


@functools.lru_cache
def in_steps(length: float, per_epoch: int) -> tuple[float, float]:
    """A length in epochs as so many steps, over a divisor: both whole numbers, where it is a simple fraction."""
    simple = Fraction(float(length)).limit_denominator(DENOMINATOR)
    if not math.isclose(simple, length, rel_tol=1e-12):
        return float(length) * per_epoch, 1.0
    found = simple * per_epoch
    return float(found.numerator), float(found.denominator)


def lengths_passed(steps: Array, length: float, per_epoch: int) -> Array:
    """How many times a length, in epochs, goes into some numbers of steps; exact where it does so without a rest."""
    above, below = in_steps(length, per_epoch)
    counted = np.asarray(steps * below)
    whole = np.rint(counted)  # after a warm-up that ends within a step, steps have fractions, which are rounded
    return np.where(np.abs(counted - whole) < 1e-6, whole, counted) / above


def check_milestones(name: str, milestones: Any) -> tuple[float, ...]:
    try:
        values = tuple(milestones)
    except TypeError:
        raise TypeError(
            f"{name} must list the epochs after which the rate falls, such as [30, 60], got {milestones!r}"
        ) from None
    checked = tuple(check_positive_finite(f"{name}[{k}]", value) for k, value in enumerate(values))
    if list(checked) != sorted(checked):
        raise ValueError(f"{name} must rise, got {checked!r}")
    return checked


def check_momentum(name: str, momentum: Any) -> tuple[float, float]:
    expected = f"{name} must be None or two rising numbers in (0, 1), such as (0.85, 0.95), got {momentum!r}"
    try:
        low, high = momentum
    except (TypeError, ValueError) as error:
        raise type(error)(expected) from None
    low, high = check_inner_fraction(f"{name}[0]", low), check_inner_fraction(f"{name}[1]", high)
    if low > high:
        raise ValueError(expected)
    return low, high


def check_growth(name: str, growth: Any) -> float:
    value = check_positive_finite(name, growth)
    if value < 1.0:
        raise ValueError(f"{name} must be at least 1, got {value!r}")
    return value


def check_min_factor(name: str, factor: Any) -> float:
    value = check_non_negative_finite(name, factor)
    if value > 1.0:
        raise ValueError(f"{name} must be at most 1, for the rate is to fall, got {value!r}")
    return value


def check_then(name: str, then: Any) -> Any:
    if not isinstance(then, Schedule) and (not callable(then) or isinstance(then, type)):
        raise TypeError(f"{name} must be one of fastbp.schedules, or a function step -> lr, got {then!r}")
    return then


@dataclass(frozen=True)
class Schedule(Checked):
    """The learning rate is that of the optimiser times `factors`."""

    @property
    def warmup(self) -> float:
        """Epochs before what comes after a warm-up begins."""
        return 0.0

    def factors(self, steps: Array, per_epoch: int = 1) -> Array:
        """Factors after some numbers of steps, of which an epoch has `per_epoch`; with 1, these are epochs."""
        raise NotImplementedError

    def momenta(self, steps: Array, per_epoch: int = 1) -> Array | None:
        """SGD's momentum or Adam's beta1 there; None: as the optimiser says."""
        return None
