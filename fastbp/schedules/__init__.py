"""Learning rates that change as a training goes on: factors of the optimiser's rate, by epochs and their fractions.

A schedule is one class here. Its lengths are in epochs, but it counts in steps: 0.6 epochs of five steps end with the
third, which 3 / 5 as a float may miss. Its factors are computed for all steps of a chunk at once and read by the
compiled loop; a step costs no call of Python.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fastbp.schedules.base import Array as Array
from fastbp.schedules.base import Schedule as Schedule
from fastbp.schedules.base import (
    check_growth,
    check_milestones,
    check_min_factor,
    check_momentum,
    check_then,
    in_steps,
    lengths_passed,
)
from fastbp.schedules.coslog import CosLog as CosLog
from fastbp.validation import (
    check_flag,
    check_fraction,
    check_inner_fraction,
    check_non_negative_finite,
    check_non_negative_int,
    check_positive_finite,
    checked_by,
    one_of,
    optional,
    setting,
)

__all__ = [
    "Constant",
    "CosLog",
    "Cosine",
    "Exponential",
    "InverseSqrt",
    "InverseTime",
    "MultiStep",
    "OneCycle",
    "Polynomial",
    "ReduceOnPlateau",
    "Schedule",
    "Step",
    "Warmup",
]


@dataclass(frozen=True)
class Constant(Schedule):
    """1: the learning rate of the optimiser

    Examples
    --------
    >>> history = net.fit(X, y, epochs=2, optimizer=fastbp.SGD(lr=0.1), schedule=fastbp.schedules.Constant())
    >>> [f"{lr:.3g}" for lr in history.lr]  # of the last step of each epoch
    ['0.1', '0.1']
    """

    def factors(self, steps: Array, per_epoch: int = 1) -> Array:
        return np.ones(np.shape(steps))


@dataclass(frozen=True)
class Step(Schedule):
    """gamma^floor(epoch / size)

    Examples
    --------
    >>> schedule = fastbp.schedules.Step(size=2, gamma=0.1)
    >>> history = net.fit(X, y, epochs=4, optimizer=fastbp.SGD(lr=0.1), schedule=schedule)
    >>> [f"{lr:.3g}" for lr in history.lr]  # of the last step of each epoch
    ['0.1', '0.1', '0.01', '0.01']
    """

    size: float = setting(10.0, check_positive_finite)
    gamma: float = setting(0.1, check_positive_finite)

    def factors(self, steps: Array, per_epoch: int = 1) -> Array:
        return np.asarray(self.gamma ** np.floor(lengths_passed(steps, self.size, per_epoch)))


@dataclass(frozen=True)
class MultiStep(Schedule):
    """gamma^(milestones passed)

    Examples
    --------
    >>> schedule = fastbp.schedules.MultiStep([1, 3], gamma=0.1)
    >>> history = net.fit(X, y, epochs=4, optimizer=fastbp.SGD(lr=0.1), schedule=schedule)
    >>> [f"{lr:.3g}" for lr in history.lr]  # of the last step of each epoch
    ['0.1', '0.01', '0.01', '0.001']
    """

    milestones: Sequence[float] = field(metadata=checked_by(check_milestones))
    gamma: float = setting(0.1, check_positive_finite)

    def factors(self, steps: Array, per_epoch: int = 1) -> Array:
        passed = np.zeros(np.shape(steps))
        for milestone in self.milestones:
            passed += lengths_passed(steps, milestone, per_epoch) >= 1.0
        return np.asarray(self.gamma**passed)


@dataclass(frozen=True)
class Exponential(Schedule):
    """gamma^epoch

    Examples
    --------
    >>> history = net.fit(X, y, epochs=3, optimizer=fastbp.SGD(lr=0.1), schedule=fastbp.schedules.Exponential(0.5))
    >>> [f"{lr:.3g}" for lr in history.lr]  # of the last step of each epoch
    ['0.0707', '0.0354', '0.0177']
    """

    gamma: float = setting(0.95, check_positive_finite)

    def factors(self, steps: Array, per_epoch: int = 1) -> Array:
        return np.asarray(self.gamma ** (steps / per_epoch))


@dataclass(frozen=True)
class Polynomial(Schedule):
    """end + (1 - end) (1 - epoch / epochs)^power, and end afterwards

    Examples
    --------
    >>> history = net.fit(X, y, epochs=3, optimizer=fastbp.SGD(lr=0.1), schedule=fastbp.schedules.Polynomial(3))
    >>> [f"{lr:.3g}" for lr in history.lr]  # of the last step of each epoch
    ['0.0833', '0.05', '0.0167']
    """

    epochs: float = field(metadata=checked_by(check_positive_finite))
    power: float = setting(1.0, check_positive_finite)
    end: float = setting(0.0, check_non_negative_finite)

    def factors(self, steps: Array, per_epoch: int = 1) -> Array:
        left = 1.0 - np.minimum(lengths_passed(steps, self.epochs, per_epoch), 1.0)
        return self.end + (1.0 - self.end) * left**self.power


@dataclass(frozen=True)
class InverseTime(Schedule):
    """1 / (1 + decay epoch)

    Examples
    --------
    >>> history = net.fit(X, y, epochs=3, optimizer=fastbp.SGD(lr=0.1), schedule=fastbp.schedules.InverseTime(1.0))
    >>> [f"{lr:.3g}" for lr in history.lr]  # of the last step of each epoch
    ['0.0667', '0.04', '0.0286']
    """

    decay: float = setting(1.0, check_non_negative_finite)

    def factors(self, steps: Array, per_epoch: int = 1) -> Array:
        return np.asarray(1.0 / (1.0 + self.decay * (steps / per_epoch)))


@dataclass(frozen=True)
class InverseSqrt(Schedule):
    """1 / sqrt(1 + epoch)

    Examples
    --------
    >>> history = net.fit(X, y, epochs=3, optimizer=fastbp.SGD(lr=0.1), schedule=fastbp.schedules.InverseSqrt())
    >>> [f"{lr:.3g}" for lr in history.lr]  # of the last step of each epoch
    ['0.0816', '0.0632', '0.0535']
    """

    def factors(self, steps: Array, per_epoch: int = 1) -> Array:
        return np.asarray(1.0 / np.sqrt(1.0 + steps / per_epoch))


@dataclass(frozen=True)
class Cosine(Schedule):
    """end + (1 - end) (1 + cos(pi t)) / 2, t from 0 to 1 over a cycle (Loshchilov and Hutter 2017).

    Parameters
    ----------
    epochs : float
        Length of the first cycle.
    end : float
        Factor at its end.
    restarts : bool
        Start again at 1 after each cycle; otherwise stay at `end`.
    growth : float
        Length of a cycle over that of the one before.

    Examples
    --------
    >>> history = net.fit(X, y, epochs=3, optimizer=fastbp.SGD(lr=0.1), schedule=fastbp.schedules.Cosine(3))
    >>> [f"{lr:.3g}" for lr in history.lr]  # of the last step of each epoch
    ['0.0933', '0.05', '0.0067']
    """

    epochs: float = field(metadata=checked_by(check_positive_finite))
    end: float = setting(0.0, check_non_negative_finite)
    restarts: bool = setting(False, check_flag)
    growth: float = setting(1.0, check_growth)

    def factors(self, steps: Array, per_epoch: int = 1) -> Array:
        t = lengths_passed(steps, self.epochs, per_epoch)
        if not self.restarts:
            t = np.minimum(t, 1.0)
        elif self.growth == 1.0:
            t = t % 1.0
        else:
            above, below = in_steps(self.epochs, per_epoch)
            g, length = self.growth, above / below

            def begin(cycle: Array) -> Array:
                """The step with which a cycle begins."""
                at = length * (g**cycle - 1.0) / (g - 1.0)
                whole = np.rint(at)
                return np.where(np.abs(at - whole) <= 1e-9 * (1.0 + whole), whole, at)

            cycle = np.floor(np.log1p(t * (g - 1.0)) / math.log(g))
            cycle += steps >= begin(cycle + 1.0)  # the logarithm may be off by a little
            cycle -= steps < begin(cycle)
            t = (steps - begin(cycle)) / (length * g**cycle)
        return self.end + (1.0 - self.end) * 0.5 * (1.0 + np.cos(math.pi * t))


@dataclass(frozen=True)
class OneCycle(Schedule):
    """Up from `start` to 1 and down to `end`, the momentum the other way round (Smith 2018).

    At every step the rate and momentum of PyTorch's `OneCycleLR` with ``total_steps`` the steps of `epochs`,
    ``div_factor = 1 / start`` and ``final_div_factor = start / end``. Its last step, not the one after it, has `end`.

    Parameters
    ----------
    epochs : float
        Length of the whole cycle.
    rise : float
        Share of it that goes up: PyTorch's ``pct_start``.
    start, end : float
        Factors at both ends.
    momentum : tuple of two floats, or None
        Lowest (where the rate is highest) and highest value of SGD's momentum or Adam's beta1; None leaves it alone.
    anneal : {"cos", "linear"}
        Along cosines or straight lines: PyTorch's ``anneal_strategy``.
    three_phase : bool
        Down to `start` as fast as it went up, and then on to `end`.

    Examples
    --------
    >>> history = net.fit(X, y, epochs=3, optimizer=fastbp.SGD(lr=0.1), schedule=fastbp.schedules.OneCycle(3))
    >>> [f"{lr:.3g}" for lr in history.lr]  # of the last step of each epoch
    ['0.0994', '0.0463', '4e-07']
    """

    epochs: float = field(metadata=checked_by(check_positive_finite))
    rise: float = setting(0.3, check_inner_fraction)
    start: float = setting(1 / 25, check_non_negative_finite)
    end: float = setting(1 / 25e4, check_non_negative_finite)
    momentum: tuple[float, float] | None = setting((0.85, 0.95), optional(check_momentum))
    anneal: str = setting("cos", one_of("cos", "linear"))
    three_phase: bool = setting(False, check_flag)

    def _through(self, steps: Array, per_epoch: int, values: tuple[float, ...]) -> Array:
        """From value to value, a phase each; by the steps that end a phase, as PyTorch has them."""
        above, below = in_steps(self.epochs, per_epoch)
        total = above / below
        ends = [0.0, self.rise * total - 1.0]
        if self.three_phase:
            ends.append(2.0 * self.rise * total - 2.0)
        ends.append(total - 1.0)
        now = np.minimum(steps, ends[-1])
        found = np.full(np.shape(steps), values[-1])
        for k in reversed(range(len(values) - 1)):  # the first phase that has not ended counts
            length = ends[k + 1] - ends[k]
            share = (now - ends[k]) / length if length else np.ones(np.shape(steps))
            first, last = values[k], values[k + 1]
            if self.anneal == "cos":
                # 1 + cos(pi share) by the sine, rounded as PyTorch's cosine is: where both are small, NumPy's is not.
                cosine = 2.0 * np.sin(0.5 * (math.pi - math.pi * share)) ** 2 - 1.0
                between = last + (first - last) / 2.0 * (cosine + 1.0)
            else:
                between = (last - first) * share + first
            found = between if k == len(values) - 2 else np.where(now <= ends[k + 1], between, found)
        return found

    def factors(self, steps: Array, per_epoch: int = 1) -> Array:
        back = (self.start,) if self.three_phase else ()
        return self._through(steps, per_epoch, (self.start, 1.0, *back, self.end))

    def momenta(self, steps: Array, per_epoch: int = 1) -> Array | None:
        if self.momentum is None:
            return None
        low, high = self.momentum
        back = (high,) if self.three_phase else ()
        return self._through(steps, per_epoch, (high, low, *back, high))


@dataclass(frozen=True)
class Warmup(Schedule):
    """From `start` to 1 in a straight line, then another schedule, which begins when this ends.

    Over a single step there is no line: where `start` is 0, that step has half the rate, for at 0 it would be lost.

    A function from the number of the step to the rate is asked for the same steps as it would be alone; in the warm-up,
    what it returns is multiplied by that line. `ReduceOnPlateau` looks at the epochs that end after the warm-up.

    Examples
    --------
    >>> history = net.fit(X, y, epochs=3, optimizer=fastbp.SGD(lr=0.1), schedule=fastbp.schedules.Warmup(2))
    >>> [f"{lr:.3g}" for lr in history.lr]  # of the last step of each epoch
    ['0.025', '0.075', '0.1']
    """

    epochs: float = field(metadata=checked_by(check_positive_finite))
    then: Schedule | Callable[[int], float] = field(default=Constant(), metadata=checked_by(check_then))
    start: float = setting(0.0, check_non_negative_finite)

    def __repr__(self) -> str:
        # A function by its name: its address, which another process has elsewhere, must not refuse a checkpoint.
        then = repr(self.then) if isinstance(self.then, Schedule) else getattr(self.then, "__qualname__", None)
        return f"Warmup(epochs={self.epochs!r}, then={then or type(self.then).__name__}, start={self.start!r})"

    @property
    def warmup(self) -> float:
        return self.epochs + (self.then.warmup if isinstance(self.then, Schedule) else 0.0)

    def _after(self, steps: Array, per_epoch: int) -> Array:
        """Steps since the warm-up ended; 0 before."""
        above, below = in_steps(self.epochs, per_epoch)
        return np.where(lengths_passed(steps, self.epochs, per_epoch) < 1.0, 0.0, steps - above / below)

    def factors(self, steps: Array, per_epoch: int = 1) -> Array:
        t = lengths_passed(steps, self.epochs, per_epoch)
        if self.start == 0.0 and self.epochs * per_epoch <= 1.0:
            t = np.where(t == 0.0, 0.5, t)
        rising = self.start + (1.0 - self.start) * np.minimum(t, 1.0)
        if not isinstance(self.then, Schedule):
            return rising
        return np.where(t < 1.0, rising, self.then.factors(self._after(steps, per_epoch), per_epoch))

    def momenta(self, steps: Array, per_epoch: int = 1) -> Array | None:
        return self.then.momenta(self._after(steps, per_epoch), per_epoch) if isinstance(self.then, Schedule) else None


@dataclass(frozen=True)
class ReduceOnPlateau(Schedule):
    """Multiply the rate by `factor` whenever what is monitored has not improved for more than `patience` epochs.

    PyTorch's `ReduceLROnPlateau`, in its mode "min" with a relative threshold. The count begins anew with each `fit`.

    Parameters
    ----------
    factor : float
        Below 1.
    patience : int
        Epochs to wait.
    threshold : float
        An improvement is a fall below ``best * (1 - threshold)``.
    min_factor : float
        The smallest the factors may become together; at most 1.
    monitor : {"loss", "val_loss"}
        What to watch.

    Examples
    --------
    >>> schedule = fastbp.schedules.ReduceOnPlateau(monitor='loss')
    >>> history = net.fit(X, y, epochs=3, optimizer=fastbp.SGD(lr=0.1), schedule=schedule)
    >>> [f"{lr:.3g}" for lr in history.lr]  # of the last step of each epoch
    ['0.1', '0.1', '0.1']
    """

    factor: float = setting(0.1, check_inner_fraction)
    patience: int = setting(10, check_non_negative_int)
    threshold: float = setting(1e-4, check_fraction)
    min_factor: float = setting(0.0, check_min_factor)
    monitor: str = setting("loss", one_of("loss", "val_loss"))

    def factors(self, steps: Array, per_epoch: int = 1) -> Array:
        return np.ones(np.shape(steps))


def after_warmups(schedule: Any) -> Any:
    """What comes after all warm-ups."""
    while isinstance(schedule, Warmup):
        schedule = schedule.then
    return schedule


def plateau_of(schedule: Any) -> ReduceOnPlateau | None:
    """The schedule, or what follows its warm-up, if that looks at the losses."""
    last = after_warmups(schedule)
    return last if isinstance(last, ReduceOnPlateau) else None


def get(schedule: Any) -> Schedule | Callable[[int], float] | None:
    """None, a schedule, or a callable of the step."""
    if schedule is None or isinstance(schedule, Schedule) or (callable(schedule) and not isinstance(schedule, type)):
        return None if isinstance(schedule, Constant) else schedule
    raise TypeError(f"schedule must be None, one of fastbp.schedules, or a function step -> lr, got {schedule!r}")
