"""What training changes: parameters, moments and counters of a network, which are always of the same step.

An exception may come between any two lines of Python: of Ctrl-C, of a signal handler, for want of memory. Kernels
change parameters and moments in place, and count their updates themselves; Python makes a new state first, and sets it
last.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from fastbp.engine.layout import Plan
from fastbp.engine.memory import allocate, allocate_all
from fastbp.types import Array


class Counters(NamedTuple):
    """How many updates and epochs shaped the parameters: those up to a moment, and those that kernels counted since."""

    steps: int = 0
    epochs: int = 0
    counted: int = 0  # by the kernels, at that moment
    first: int = 0  # steps that the epoch had then
    per_epoch: int = 0  # steps of an epoch; 0: what has been done since is none


class State(NamedTuple):
    """All that training changes, as one value."""

    parameters: Array
    moments: list[Array]
    products: Array  # of NAdam's momenta, see `fastbp.kernels.update`
    layout: tuple[str, int] | None = None  # of the moments, see `Optimizer.layout`
    counters: Counters = Counters()


class Store:
    """Holds the state of a network.

    Parameters
    ----------
    plan : Plan
        Of its memory.
    parameters : array
        Zeros.
    counted : memoryview
        The number of updates that kernels have made, ever.
    """

    def __init__(self, plan: Plan, parameters: Array, counted: memoryview) -> None:
        self.plan, self._counted = plan, counted
        self._state, self._changes = State(parameters, [], np.ones(2)), 0
        self.kept, self.kept_products = allocate(0, plan.dtype), np.ones(2)
        self.kept_counters = 0, 0  # steps and epochs
        self.kept_of: list[Array] | None = None  # the moments that were kept with the parameters

    @property
    def parameters(self) -> Array:
        """All weights and biases, as `plan` lays them out; kernels change them in place."""
        return self._state.parameters

    @property
    def moments(self) -> list[Array]:
        """Of the optimiser, each laid out as the parameters are."""
        return self._state.moments

    @property
    def products(self) -> Array:
        """Of NAdam's momenta."""
        return self._state.products

    @property
    def layout(self) -> tuple[str, int] | None:
        """Of the moments; None before the first update."""
        return self._state.layout

    @property
    def steps(self) -> int:
        """Updates that the optimiser has made."""
        count = self._state.counters
        return count.steps + self._counted[0] - count.counted

    @property
    def epochs(self) -> int:
        """Epochs that the optimiser has seen to their end."""
        count = self._state.counters
        since = count.first + self._counted[0] - count.counted
        return count.epochs + (since // count.per_epoch if count.per_epoch else 0)

    def change(self, **parts: Any) -> None:
        """Replace some parts of the state, all at the same time."""
        self._changes += 1
        self._state = self._state._replace(**parts)

    def counters_from(self, steps: int, epochs: int, first: int = 0, per_epoch: int = 0) -> Counters:
        """The count that goes on from these; with `per_epoch`, updates to come make epochs, the first open already."""
        return Counters(steps, epochs, self._counted[0], first, per_epoch)

    def count_steps(self) -> None:
        """From here on, updates make no epochs."""
        if self._state.counters.per_epoch:
            self.change(counters=self.counters_from(self.steps, self.epochs))

    def begin(self, initial: Sequence[float], layout: tuple[str, int] | None) -> None:
        """Start an optimiser: moments with these initial values, and zero in their padding; nothing is counted yet."""
        moments = allocate_all([self.plan.n_parameters] * len(initial), self.plan.dtype)
        for moment, value in zip(moments, initial, strict=True):
            if value:
                moment[self.plan.places()] = value
        self.change(moments=moments, products=np.ones(2), layout=layout, counters=self.counters_from(0, 0))

    def packed(self, weights: Sequence[Array], biases: Sequence[Array]) -> Array:
        """Weights and biases, or a moment of theirs, as a new array."""
        made = allocate(self.plan.n_parameters, self.plan.dtype)
        self.plan.pack(weights, biases, made)
        return made

    def mark(self) -> tuple[int, int]:
        """What is equal at two moments only if nothing has been changed between them."""
        return self._changes, self.steps

    def keep(self) -> None:
        """Remember the state. Kernels may do it, too; whoever has them do it sets `kept_counters` afterwards."""
        self.kept_of = None
        now = [self.parameters, *self.moments]
        if self.kept.size != len(now) * self.plan.n_parameters:
            self.kept = allocate(len(now) * self.plan.n_parameters, self.plan.dtype)
        for old, new in zip(self.kept.reshape(len(now), -1), now, strict=True):
            old[:] = new
        self.kept_products[:] = self.products
        self.kept_counters = self.steps, self.epochs
        self.kept_of = self.moments

    def go_back(self) -> None:
        """Return to what was remembered last."""
        n = self.plan.n_parameters
        arrays = allocate_all([n] * (self.kept.size // n), self.plan.dtype)
        for new, old in zip(arrays, self.kept.reshape(-1, n), strict=True):
            new[:] = old
        counters = self.counters_from(*self.kept_counters)
        self.change(parameters=arrays[0], moments=arrays[1:], products=self.kept_products.copy(), counters=counters)
