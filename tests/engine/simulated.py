"""A machine that is made up, on which a `Chooser` runs steps in simulated time, as the loop of a training does."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from fastbp.engine.chooser import Chooser
from fastbp.engine.placement import Placement

CHUNK_SECONDS, FIRST_STEPS, MAX_STEPS = 0.05, 64, 1 << 16
WAKE, CALL = 5e-5, 2e-5  # seconds of a chunk besides its steps: other threads wake up; and the call itself
ONE, ROWS, COLUMNS = Placement(1), Placement(2), Placement(2, 1, 2)

Speeds = Callable[[float], dict[Placement, float]]


class Machine:
    """Seconds a step by placement and time, with noise that lasts for 10 ms, and with caches that fill anew.

    cold: seconds that the first steps of another placement than the last take longer.
    """

    def __init__(self, speeds: Speeds, noise: float = 0.0, cold: float = 1e-4, seed: int = 0) -> None:
        self.speeds, self.cold = speeds, cold
        self.factors = 1.0 + noise * np.abs(np.random.default_rng(seed).standard_normal(1 << 12))
        self.now, self.last = 0.0, ONE
        self.spent: dict[Placement, float] = {}

    def run(self, placement: Placement, steps: int) -> float:
        """Seconds that some steps take."""
        began, left = self.now, float(steps)
        self.now += CALL + WAKE * (placement.threads > 1) + self.cold * (placement != self.last)
        while left > 0.0:  # in pieces, since speeds change in the midst of a chunk
            each = self.speeds(self.now)[placement] * self.factors[int(self.now / 0.01) % len(self.factors)]
            made = min(left, max(1e-3 / each, 1e-3))
            self.now += made * each
            left -= made
        self.last = placement
        self.spent[placement] = self.spent.get(placement, 0.0) + self.now - began
        return self.now - began

    def train(self, chooser: Chooser, until: float, call_steps: int = 1 << 40, outside: float = 0.0) -> float:
        """Steps until a moment, in calls of so many, with some seconds between two calls; returns steps a second."""
        began, made, guess = self.now, 0, min(self.speeds(self.now).values())
        while self.now < until:
            done = 0
            self.now += outside
            while done < call_steps and self.now < until:
                placement, length = chooser.next(CHUNK_SECONDS)
                most = MAX_STEPS if placement in chooser.seconds else FIRST_STEPS
                guess = chooser.seconds.get(placement, guess)
                steps = min(call_steps - done, most, max(1, int(length / guess)))
                seconds = self.run(placement, steps)
                guess = seconds / steps
                chooser.note(placement, steps, seconds)
                done += steps
            made += done
        return made / (self.now - began)


def always(**seconds: float) -> Speeds:
    """The same at any time, by names of this module."""
    speeds = {globals()[name]: each for name, each in seconds.items()}
    return lambda _: speeds


def fixed(placement: Placement) -> Chooser:
    """One that has no choice."""
    return Chooser([placement], [1.0])


def best_fixed(
    speeds: Speeds, candidates: Sequence[Placement], until: float, noise: float = 0.0, call_steps: int = 1 << 40
) -> float:
    """Steps a second of the best candidate, on a machine of its own."""
    return max(Machine(speeds, noise).train(fixed(one), until, call_steps) for one in candidates)
