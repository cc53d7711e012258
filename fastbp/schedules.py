"""Learning rates that change as a training goes on: factors of the optimiser's rate, by epochs and their fractions.

A schedule is one class here. Its factors are computed for all steps of a chunk at once and read by the compiled loop;
a step costs no call of Python.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastbp.validation import (
    check_fraction,
    check_inner_fraction,
    check_non_negative_finite,
    check_non_negative_int,
    check_positive_finite,
)
from fastbp.watching import improves

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Schedule:
    """The learning rate is that of the optimiser times `factors`."""

    @property
    def warmup(self) -> float:
        """Epochs before what comes after a warm-up begins."""
        return 0.0

    def factors(self, epochs: Array) -> Array:
        """Factors at points of the training, counted in epochs (0.5: the middle of the first)."""
        raise NotImplementedError

    def momenta(self, epochs: Array) -> Array | None:
        """SGD's momentum or Adam's beta1 at these points; None: as the optimiser says."""
        return None


@dataclass(frozen=True)
class Constant(Schedule):
    """1"""

    def factors(self, epochs: Array) -> Array:
        return np.ones_like(epochs)


@dataclass(frozen=True)
class Step(Schedule):
    """gamma^floor(epoch / size)"""

    size: float = 10.0
    gamma: float = 0.1

    def __post_init__(self) -> None:
        check_positive_finite("size", self.size)
        check_positive_finite("gamma", self.gamma)

    def factors(self, epochs: Array) -> Array:
        return self.gamma ** np.floor(epochs / self.size)


@dataclass(frozen=True)
class MultiStep(Schedule):
    """gamma^(milestones passed)"""

    milestones: Sequence[float]
    gamma: float = 0.1

    def __post_init__(self) -> None:
        try:
            object.__setattr__(self, "milestones", tuple(self.milestones))
        except TypeError:
            raise TypeError(
                f"milestones must list the epochs after which the rate falls, such as [30, 60], got {self.milestones!r}"
            ) from None
        for k, milestone in enumerate(self.milestones):
            check_positive_finite(f"milestones[{k}]", milestone)
        if list(self.milestones) != sorted(self.milestones):
            raise ValueError(f"milestones must rise, got {self.milestones!r}")
        check_positive_finite("gamma", self.gamma)

    def factors(self, epochs: Array) -> Array:
        return np.asarray(self.gamma ** np.searchsorted(np.asarray(self.milestones), epochs, side="right"), np.float64)


@dataclass(frozen=True)
class Exponential(Schedule):
    """gamma^epoch"""

    gamma: float = 0.95

    def __post_init__(self) -> None:
        check_positive_finite("gamma", self.gamma)

    def factors(self, epochs: Array) -> Array:
        return self.gamma**epochs


@dataclass(frozen=True)
class Polynomial(Schedule):
    """end + (1 - end) (1 - epoch / epochs)^power, and end afterwards"""

    epochs: float
    power: float = 1.0
    end: float = 0.0

    def __post_init__(self) -> None:
        check_positive_finite("epochs", self.epochs)
        check_positive_finite("power", self.power)
        check_non_negative_finite("end", self.end)

    def factors(self, epochs: Array) -> Array:
        left = 1.0 - np.minimum(epochs / self.epochs, 1.0)
        return self.end + (1.0 - self.end) * left**self.power


@dataclass(frozen=True)
class InverseTime(Schedule):
    """1 / (1 + decay epoch)"""

    decay: float = 1.0

    def __post_init__(self) -> None:
        check_non_negative_finite("decay", self.decay)

    def factors(self, epochs: Array) -> Array:
        return 1.0 / (1.0 + self.decay * epochs)


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
    """

    epochs: float
    end: float = 0.0
    restarts: bool = False
    growth: float = 1.0

    def __post_init__(self) -> None:
        check_positive_finite("epochs", self.epochs)
        check_non_negative_finite("end", self.end)
        if not check_positive_finite("growth", self.growth) >= 1.0:
            raise ValueError(f"growth must be at least 1, got {self.growth!r}")

    def factors(self, epochs: Array) -> Array:
        t = epochs / self.epochs
        if not self.restarts:
            t = np.minimum(t, 1.0)
        elif self.growth == 1.0:
            t = t % 1.0
        else:  # cycle n begins at (g^n - 1) / (g - 1)
            g = self.growth
            cycle = np.floor(np.log1p(t * (g - 1.0)) / math.log(g) + 1e-12)
            t = (t - (g**cycle - 1.0) / (g - 1.0)) / g**cycle
        return self.end + (1.0 - self.end) * 0.5 * (1.0 + np.cos(math.pi * t))


@dataclass(frozen=True)
class OneCycle(Schedule):
    """Up from `start` to 1 and down to `end` along cosines, the momentum the other way round (Smith 2018).

    PyTorch's `OneCycleLR`, with start = 1 / div_factor and end = start / final_div_factor.

    Parameters
    ----------
    epochs : float
        Length of the whole cycle.
    rise : float
        Share of it that goes up.
    start, end : float
        Factors at both ends.
    momentum : tuple of two floats, or None
        Lowest (where the rate is highest) and highest value of SGD's momentum or Adam's beta1; None leaves it alone.
    """

    epochs: float
    rise: float = 0.3
    start: float = 1 / 25
    end: float = 1 / 25e4
    momentum: tuple[float, float] | None = (0.85, 0.95)

    def __post_init__(self) -> None:
        check_positive_finite("epochs", self.epochs)
        check_inner_fraction("rise", self.rise)
        check_non_negative_finite("start", self.start)
        check_non_negative_finite("end", self.end)
        if self.momentum is None:
            return
        expected = f"momentum must be None or two rising numbers in (0, 1), such as (0.85, 0.95), got {self.momentum!r}"
        try:
            low, high = self.momentum
        except (TypeError, ValueError) as error:
            raise type(error)(expected) from None
        if not check_inner_fraction("momentum[0]", low) <= check_inner_fraction("momentum[1]", high):
            raise ValueError(expected)

    def _between(self, epochs: Array, first: float, middle: float, last: float) -> Array:
        t = np.minimum(epochs / self.epochs, 1.0)
        up, down = t / self.rise, (t - self.rise) / (1.0 - self.rise)

        def cosine(a: float, b: float, x: Array) -> Array:
            return b + (a - b) * 0.5 * (1.0 + np.cos(math.pi * x))

        return np.where(t < self.rise, cosine(first, middle, up), cosine(middle, last, down))

    def factors(self, epochs: Array) -> Array:
        return self._between(epochs, self.start, 1.0, self.end)

    def momenta(self, epochs: Array) -> Array | None:
        if self.momentum is None:
            return None
        low, high = self.momentum
        return self._between(epochs, high, low, high)


@dataclass(frozen=True)
class Warmup(Schedule):
    """From `start` to 1 in a straight line, then another schedule, which begins when this ends.

    A function from the number of the step to the rate is asked for the same steps as it would be alone; in the warm-up,
    what it returns is multiplied by that line. `ReduceOnPlateau` looks at the epochs that end after the warm-up.
    """

    epochs: float
    then: Schedule | Callable[[int], float] = Constant()
    start: float = 0.0

    def __post_init__(self) -> None:
        check_positive_finite("epochs", self.epochs)
        check_non_negative_finite("start", self.start)
        if not isinstance(self.then, Schedule) and (not callable(self.then) or isinstance(self.then, type)):
            raise TypeError(f"then must be one of fastbp.schedules, or a function step -> lr, got {self.then!r}")

    def __repr__(self) -> str:
        # A function by its name: its address, which another process has elsewhere, must not refuse a checkpoint.
        then = repr(self.then) if isinstance(self.then, Schedule) else getattr(self.then, "__qualname__", None)
        return f"Warmup(epochs={self.epochs!r}, then={then or type(self.then).__name__}, start={self.start!r})"

    @property
    def warmup(self) -> float:
        return self.epochs + (self.then.warmup if isinstance(self.then, Schedule) else 0.0)

    def factors(self, epochs: Array) -> Array:
        rising = self.start + (1.0 - self.start) * np.minimum(epochs / self.epochs, 1.0)
        if not isinstance(self.then, Schedule):
            return rising
        return np.where(epochs < self.epochs, rising, self.then.factors(np.maximum(epochs - self.epochs, 0.0)))

    def momenta(self, epochs: Array) -> Array | None:
        if not isinstance(self.then, Schedule):
            return None
        return self.then.momenta(np.maximum(epochs - self.epochs, 0.0))


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
        The smallest the factors may become together.
    monitor : {"loss", "val_loss"}
        What to watch.
    """

    factor: float = 0.1
    patience: int = 10
    threshold: float = 1e-4
    min_factor: float = 0.0
    monitor: str = "loss"

    def __post_init__(self) -> None:
        check_inner_fraction("factor", self.factor)
        check_non_negative_int("patience", self.patience)
        check_fraction("threshold", self.threshold)
        check_non_negative_finite("min_factor", self.min_factor)
        if self.monitor not in ("loss", "val_loss"):
            raise ValueError(f"monitor must be 'loss' or 'val_loss', got {self.monitor!r}")

    def factors(self, epochs: Array) -> Array:
        return np.ones_like(epochs)

    def start(self) -> Plateau:
        """The state of one fit."""
        return Plateau(self)


class Plateau:
    """What `ReduceOnPlateau` has seen."""

    def __init__(self, recipe: ReduceOnPlateau) -> None:
        self.recipe, self.best, self.bad, self.factor = recipe, math.inf, 0, 1.0
        self.waits = False  # the warm-up goes on

    def see(self, value: float) -> None:
        """Take the value of an epoch."""
        if self.waits:
            return
        recipe = self.recipe
        if improves(value, self.best * (1.0 - math.copysign(recipe.threshold, self.best))):
            self.best, self.bad = value, 0
        else:
            self.bad += 1
        if self.bad > recipe.patience:
            self.factor, self.bad = max(self.factor * recipe.factor, recipe.min_factor), 0

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint has to keep."""
        best = None if math.isinf(self.best) else self.best
        return {"best": best, "bad": self.bad, "factor": self.factor, "waits": self.waits}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        self.best = math.inf if state["best"] is None else state["best"]
        self.bad, self.factor, self.waits = state["bad"], state["factor"], state.get("waits", False)


class Plan:
    """The learning rate of every step of one fit."""

    def __init__(self, schedule: Schedule | Callable[[int], float] | None, lr: float, steps: int) -> None:
        self.schedule, self.lr, self.steps = schedule, lr, steps
        self.last, recipe = _last(schedule), plateau_of(schedule)
        self.plateau = None if recipe is None else recipe.start()

    @property
    def constant(self) -> bool:
        """No table is needed."""
        return self.schedule is None

    def tables(self, epoch: int, first: int, n: int, step: int) -> tuple[Array, Array | None]:
        """Rates, and momenta if they change, of n steps from step `first` of an epoch on; `step` updates are done."""
        if self.schedule is None:
            return np.broadcast_to(np.float64(self.lr), n), None  # takes no memory
        rates: Array | float = self.lr
        if not isinstance(self.last, Schedule):
            rates = self._called(step, n)
        elif self.plateau is not None:
            self._begin(epoch)
            rates = self.lr * self.plateau.factor
        if not isinstance(self.schedule, Schedule):
            return np.asarray(rates), None
        # By the number of the step: wherever chunks begin, which time decides, the same rates to the last bit.
        points = (epoch * self.steps + first + np.arange(n)) / self.steps
        return rates * self.schedule.factors(points), self.schedule.momenta(points)

    def look_back(self, values: Iterable[float]) -> None:
        """Let the plateau see what was monitored in the epochs so far, from the first on."""
        assert self.plateau is not None
        for epoch, value in enumerate(values):
            self._begin(epoch)
            self.plateau.see(value)

    def _begin(self, epoch: int) -> None:
        """The plateau counts an epoch whose last step is not of the warm-up."""
        assert self.plateau is not None
        assert isinstance(self.schedule, Schedule)
        self.plateau.waits = bool(epoch + (self.steps - 1) / self.steps < self.schedule.warmup)

    def _called(self, step: int, n: int) -> Array:
        """What the function says of n steps."""
        assert callable(self.last)
        rates = np.array([self.last(number) for number in range(step, step + n)], np.float64)
        bad = np.flatnonzero(~(np.isfinite(rates) & (rates >= 0.0)))
        if bad.size:
            raise ValueError(f"schedule({step + bad[0]}) must be finite and at least 0, got {rates[bad[0]]}")
        return rates


def _last(schedule: Any) -> Any:
    """What comes after all warm-ups."""
    while isinstance(schedule, Warmup):
        schedule = schedule.then
    return schedule


def plateau_of(schedule: Any) -> ReduceOnPlateau | None:
    """The schedule, or what follows its warm-up, if that looks at the losses."""
    last = _last(schedule)
    return last if isinstance(last, ReduceOnPlateau) else None


def get(schedule: Any) -> Schedule | Callable[[int], float] | None:
    """None, a schedule, or a callable of the step."""
    if schedule is None or isinstance(schedule, Schedule) or (callable(schedule) and not isinstance(schedule, type)):
        return None if isinstance(schedule, Constant) else schedule
    raise TypeError(f"schedule must be None, one of fastbp.schedules, or a function step -> lr, got {schedule!r}")
