"""The learning rate of every step of one fit, from its schedule: tables that the compiled loop reads."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastbp.callbacks.base import improves
from fastbp.io import saved_training as saved
from fastbp.numerics import as_caller
from fastbp.schedules import ReduceOnPlateau, Schedule, after_warmups, plateau_of
from fastbp.schedules.base import lengths_passed

Array = NDArray[np.float64]


class Plateau:
    """The state of `ReduceOnPlateau` in one fit."""

    def __init__(self, schedule: ReduceOnPlateau) -> None:
        self.schedule, self.best, self.bad, self.factor = schedule, math.inf, 0, 1.0
        self.waits = False  # the warm-up goes on

    def observe(self, value: float) -> None:
        """Take the monitored value of one epoch, and lower `factor` if the schedule says so."""
        if self.waits:
            return
        schedule = self.schedule
        if improves(value, self.best * (1.0 - math.copysign(schedule.threshold, self.best))):
            self.best, self.bad = value, 0
        else:
            self.bad += 1
        if self.bad > schedule.patience:
            self.factor, self.bad = max(self.factor * schedule.factor, schedule.min_factor), 0

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint has to keep."""
        best = None if math.isinf(self.best) else self.best
        return {"best": best, "bad": self.bad, "factor": self.factor, "waits": self.waits}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        self.best = math.inf if state["best"] is None else saved.number("best", state["best"])
        self.bad, self.factor = saved.count("bad", state["bad"]), saved.number("factor", state["factor"])
        self.waits = bool(state.get("waits", False))


class RateTable:
    """The learning rate of every step of one fit.

    Attributes
    ----------
    schedule : Schedule, callable or None
        As `schedules.get` returns it.
    lr : float
        Of the optimiser.
    steps : int
        Of an epoch.
    plateau : Plateau or None
        The state of `ReduceOnPlateau`, where the schedule is one, or ends in one.
    """

    def __init__(self, schedule: Schedule | Callable[[int], float] | None, lr: float, steps: int) -> None:
        self.schedule, self.lr, self.steps = schedule, lr, steps
        self.last: Any = None
        self.plateau: Plateau | None = None
        self._rate = np.array([lr], np.float64)
        if schedule is not None:
            self.last, reduces = after_warmups(schedule), plateau_of(schedule)
            self.plateau = None if reduces is None else Plateau(reduces)

    @property
    def constant(self) -> bool:
        """Whether every step has the rate of the optimiser, so that no table is needed."""
        return self.schedule is None

    @property
    def calls_user_code(self) -> bool:
        """Whether `tables` calls a function that the user has written."""
        return self.last is not None and not isinstance(self.last, Schedule)

    def tables(self, epoch: int, first: int, n: int, step: int) -> tuple[Array, Array | None]:
        """Rates, and momenta if they change, of n steps from step `first` of an epoch on; `step` updates are done."""
        if self.schedule is None:
            return np.ndarray((n,), np.float64, self._rate, 0, (0,)), None  # takes no memory; 0.5 us, `broadcast_to` 7
        rates: Array | float = self.lr
        if not isinstance(self.last, Schedule):
            rates = self._called(step, n)
        elif self.plateau is not None:
            self._begin_epoch(epoch)
            rates = self.lr * self.plateau.factor
        if not isinstance(self.schedule, Schedule):
            return np.asarray(rates), None
        # By the number of the step: wherever chunks begin, which time decides, the same rates to the last bit.
        steps = epoch * self.steps + first + np.arange(n, dtype=np.float64)
        return rates * self.schedule.factors(steps, self.steps), self.schedule.momenta(steps, self.steps)

    def replay(self, values: Iterable[float]) -> None:
        """Show the plateau what was monitored in the epochs so far, from the first on."""
        assert self.plateau is not None
        for epoch, value in enumerate(values):
            self._begin_epoch(epoch)
            self.plateau.observe(value)

    def _begin_epoch(self, epoch: int) -> None:
        """Have the plateau count this epoch only if its last step comes after the warm-up."""
        assert self.plateau is not None
        assert isinstance(self.schedule, Schedule)
        last = np.array([(epoch + 1.0) * self.steps - 1.0])
        warmup = self.schedule.warmup
        self.plateau.waits = bool(warmup and lengths_passed(last, warmup, self.steps)[0] < 1.0)

    def _called(self, step: int, n: int) -> Array:
        """What the user's function returns for n steps, checked."""
        assert callable(self.last)
        with as_caller():
            called = [self.last(number) for number in range(step, step + n)]
        rates = np.array(called, np.float64)
        bad = np.flatnonzero(~(np.isfinite(rates) & (rates >= 0.0)))
        if bad.size:
            raise ValueError(f"schedule({step + bad[0]}) must be finite and at least 0, got {rates[bad[0]]}")
        return rates
