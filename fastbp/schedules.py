"""Learning rates that change as a training goes on: factors of the optimiser's rate, by epochs and their fractions.

A schedule is one class here. Its lengths are in epochs, but it counts in steps: 0.6 epochs of five steps end with the
third, which 3 / 5 as a float may miss. Its factors are computed for all steps of a chunk at once and read by the
compiled loop; a step costs no call of Python.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastbp.callbacks.base import improves
from fastbp.io import saved_training as saved
from fastbp.numerics import as_caller
from fastbp.validation import (
    check_choice,
    check_flag,
    check_fraction,
    check_inner_fraction,
    check_non_negative_finite,
    check_non_negative_int,
    check_positive_finite,
    settle,
)

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


@dataclass(frozen=True)
class Schedule:
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


@dataclass(frozen=True)
class Constant(Schedule):
    """1"""

    def factors(self, steps: Array, per_epoch: int = 1) -> Array:
        return np.ones(np.shape(steps))


@dataclass(frozen=True)
class Step(Schedule):
    """gamma^floor(epoch / size)"""

    size: float = 10.0
    gamma: float = 0.1

    def __post_init__(self) -> None:
        settle(self, check_positive_finite, "size", "gamma")

    def factors(self, steps: Array, per_epoch: int = 1) -> Array:
        return np.asarray(self.gamma ** np.floor(lengths_passed(steps, self.size, per_epoch)))


@dataclass(frozen=True)
class MultiStep(Schedule):
    """gamma^(milestones passed)"""

    milestones: Sequence[float]
    gamma: float = 0.1

    def __post_init__(self) -> None:
        settle(self, _check_milestones, "milestones")
        if list(self.milestones) != sorted(self.milestones):
            raise ValueError(f"milestones must rise, got {self.milestones!r}")
        settle(self, check_positive_finite, "gamma")

    def factors(self, steps: Array, per_epoch: int = 1) -> Array:
        passed = np.zeros(np.shape(steps))
        for milestone in self.milestones:
            passed += lengths_passed(steps, milestone, per_epoch) >= 1.0
        return np.asarray(self.gamma**passed)


@dataclass(frozen=True)
class Exponential(Schedule):
    """gamma^epoch"""

    gamma: float = 0.95

    def __post_init__(self) -> None:
        settle(self, check_positive_finite, "gamma")

    def factors(self, steps: Array, per_epoch: int = 1) -> Array:
        return np.asarray(self.gamma ** (steps / per_epoch))


@dataclass(frozen=True)
class Polynomial(Schedule):
    """end + (1 - end) (1 - epoch / epochs)^power, and end afterwards"""

    epochs: float
    power: float = 1.0
    end: float = 0.0

    def __post_init__(self) -> None:
        settle(self, check_positive_finite, "epochs", "power")
        settle(self, check_non_negative_finite, "end")

    def factors(self, steps: Array, per_epoch: int = 1) -> Array:
        left = 1.0 - np.minimum(lengths_passed(steps, self.epochs, per_epoch), 1.0)
        return self.end + (1.0 - self.end) * left**self.power


@dataclass(frozen=True)
class InverseTime(Schedule):
    """1 / (1 + decay epoch)"""

    decay: float = 1.0

    def __post_init__(self) -> None:
        settle(self, check_non_negative_finite, "decay")

    def factors(self, steps: Array, per_epoch: int = 1) -> Array:
        return np.asarray(1.0 / (1.0 + self.decay * (steps / per_epoch)))


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
        settle(self, check_positive_finite, "epochs", "growth")
        settle(self, check_non_negative_finite, "end")
        settle(self, check_flag, "restarts")
        if self.growth < 1.0:
            raise ValueError(f"growth must be at least 1, got {self.growth!r}")

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
    """

    epochs: float
    rise: float = 0.3
    start: float = 1 / 25
    end: float = 1 / 25e4
    momentum: tuple[float, float] | None = (0.85, 0.95)
    anneal: str = "cos"
    three_phase: bool = False

    def __post_init__(self) -> None:
        settle(self, check_positive_finite, "epochs")
        settle(self, check_inner_fraction, "rise")
        settle(self, check_non_negative_finite, "start", "end")
        settle(self, _check_momentum, "momentum", optional=True)
        settle(self, check_flag, "three_phase")
        settle(self, functools.partial(check_choice, choices=("cos", "linear")), "anneal")

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
    """

    epochs: float
    then: Schedule | Callable[[int], float] = Constant()
    start: float = 0.0

    def __post_init__(self) -> None:
        settle(self, check_positive_finite, "epochs")
        settle(self, check_non_negative_finite, "start")
        if not isinstance(self.then, Schedule) and (not callable(self.then) or isinstance(self.then, type)):
            raise TypeError(f"then must be one of fastbp.schedules, or a function step -> lr, got {self.then!r}")

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
    """

    factor: float = 0.1
    patience: int = 10
    threshold: float = 1e-4
    min_factor: float = 0.0
    monitor: str = "loss"

    def __post_init__(self) -> None:
        settle(self, check_inner_fraction, "factor")
        settle(self, check_non_negative_int, "patience")
        settle(self, check_fraction, "threshold")
        settle(self, check_non_negative_finite, "min_factor")
        if self.min_factor > 1.0:
            raise ValueError(f"min_factor must be at most 1, for the rate is to fall, got {self.min_factor!r}")
        settle(self, functools.partial(check_choice, choices=("loss", "val_loss")), "monitor")

    def factors(self, steps: Array, per_epoch: int = 1) -> Array:
        return np.ones(np.shape(steps))

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
        self.best = math.inf if state["best"] is None else saved.number("best", state["best"])
        self.bad, self.factor = saved.count("bad", state["bad"]), saved.number("factor", state["factor"])
        self.waits = bool(state.get("waits", False))


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

    @property
    def asks(self) -> bool:
        """A function of the user's is called."""
        return self.last is not None and not isinstance(self.last, Schedule)

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
        steps = epoch * self.steps + first + np.arange(n, dtype=np.float64)
        return rates * self.schedule.factors(steps, self.steps), self.schedule.momenta(steps, self.steps)

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
        last = np.array([(epoch + 1.0) * self.steps - 1.0])
        warmup = self.schedule.warmup
        self.plateau.waits = bool(warmup and lengths_passed(last, warmup, self.steps)[0] < 1.0)

    def _called(self, step: int, n: int) -> Array:
        """What the function says of n steps."""
        assert callable(self.last)
        with as_caller():
            called = [self.last(number) for number in range(step, step + n)]
        rates = np.array(called, np.float64)
        bad = np.flatnonzero(~(np.isfinite(rates) & (rates >= 0.0)))
        if bad.size:
            raise ValueError(f"schedule({step + bad[0]}) must be finite and at least 0, got {rates[bad[0]]}")
        return rates


def _check_milestones(name: str, milestones: Any) -> tuple[float, ...]:
    try:
        values = tuple(milestones)
    except TypeError:
        raise TypeError(
            f"{name} must list the epochs after which the rate falls, such as [30, 60], got {milestones!r}"
        ) from None
    return tuple(check_positive_finite(f"{name}[{k}]", value) for k, value in enumerate(values))


def _check_momentum(name: str, momentum: Any) -> tuple[float, float]:
    expected = f"{name} must be None or two rising numbers in (0, 1), such as (0.85, 0.95), got {momentum!r}"
    try:
        low, high = momentum
    except (TypeError, ValueError) as error:
        raise type(error)(expected) from None
    low, high = check_inner_fraction(f"{name}[0]", low), check_inner_fraction(f"{name}[1]", high)
    if low > high:
        raise ValueError(expected)
    return low, high


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
