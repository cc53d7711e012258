"""The running mean of a range test, and the rule that stops a seed by it."""

from __future__ import annotations

import math

# eps of the stopping rule, as a share of the loss before the first step: near zero, a loss may quadruple by noise.
FLOOR = 0.1


class Smoother:
    """A running mean with bias correction, and the rule that stops a seed."""

    def __init__(self, beta: float, k: float, skip: int, start: float) -> None:
        self.beta, self.k, self.skip = beta, k, skip
        self.best = start if math.isfinite(start) else math.inf
        self.eps = FLOOR * abs(self.best)
        self.sum, self.rest, self.count = 0.0, 1.0, 0

    @property
    def value(self) -> float:
        """The running mean; NaN before the first loss."""
        return self.sum / (1.0 - self.rest) if self.count else math.nan

    def add(self, value: float) -> tuple[float, str]:
        """Take one loss; returns the smoothed one, and why to stop, if so."""
        if not math.isfinite(value):
            return math.nan, "not finite"
        self.sum = self.beta * self.sum + (1.0 - self.beta) * value
        self.rest *= self.beta
        self.count += 1
        smooth = self.value
        if self.count > self.skip:
            if smooth > self.best + (self.k - 1.0) * max(abs(self.best), self.eps):
                return smooth, f"above {self.best:.4g} + {self.k - 1.0:g} * {max(abs(self.best), self.eps):.4g}"
            self.best = min(self.best, smooth)
        return smooth, ""
