"""Whether the gradient is right: against the compiled one, and against central differences of the cost."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fastbp import gradients
from fastbp.network import MLP
from fastbp.numerics import quiet
from fastbp.types import Array
from fastbp.walkthrough.subject import Subject
from fastbp.walkthrough.trace import Trace

# Largest differences that count as equal, relative to the largest element of the gradient: some thousand roundings.
ROUNDING = {"float32": 1e-4, "float64": 1e-10}
DIFFERENCE = 1e-5
# Parameters -> how many of them are checked: each is two passes through the network.
_CHECKED = ((20_000, 2000), (1_000_000, 200))
_FEWEST = 20
_MOST_CANCELLED = 1e6


@dataclass(frozen=True)
class Proof:
    """The gradient beside others.

    Attributes
    ----------
    compiled : float
        Largest difference from what `MLP.backprop` computes, over the largest element; NaN where that is not finite.
    dtype : str
        Of that computation.
    chosen : array of int
        The parameters that were varied, numbered as `gradients.flat` has them.
    exact, numeric : array
        Their derivatives by backpropagation, and by central differences.
    worst : float
        Largest difference of the two, over the largest element of the gradient; kinks apart.
    kinks : array of int
        Places in `chosen` where the cost has a kink: its slopes to the left and to the right differ.
    of : int
        Parameters of the network.
    cancelled : float
        How much larger answer and target are than their difference: so much larger are roundings in the gradient.
    """

    compiled: float
    dtype: str
    chosen: Array
    exact: Array
    numeric: Array
    worst: float
    kinks: Array
    of: int
    cancelled: float

    @property
    def agrees(self) -> bool:
        """Whether all are equal, but for rounding."""
        slack = max(1.0, self.cancelled)
        return self.compiled <= ROUNDING[self.dtype] * slack and self.worst <= DIFFERENCE * slack


@quiet
def prove(subject: Subject, twin: MLP, numbers: Trace) -> Proof:
    """Compare; `twin` is the network in float64."""
    net, own = subject.net, numbers.gradient
    exact = gradients.flat(own.weights, own.biases, own.input_scale)
    largest = float(np.abs(exact).max()) or 1.0
    made = net.backprop(subject.x, subject.y, training=False)
    difference = np.abs(gradients.flat(made.weights, made.biases, made.input_scale) - exact).max() / largest
    most = next((most for size, most in _CHECKED if len(exact) <= size), _FEWEST)
    chosen = gradients.drawn(len(exact), most, net.seed)
    if not numbers.finite:
        nothing = np.full(0, np.nan)
        return Proof(np.nan, net.dtype.name, chosen[:0], nothing, nothing, np.nan, chosen[:0], len(exact), 1.0)
    around = np.array(gradients.costs_around(twin, subject.x, subject.y, chosen))
    low, high, h = around.T
    numeric, found = (high - low) / (2 * h), exact[chosen]
    left, right = (numbers.cost - low) / h, (high - numbers.cost) / h
    # At a kink the two sides have slopes of their own; where the cost is smooth they differ by h times its curvature.
    bent = (np.abs(right - left) > 1e-3 * largest) & (np.abs(numeric - found) > DIFFERENCE * largest)
    errors = np.where(bent, 0.0, np.abs(numeric - found)) / largest
    apart = max(float(np.abs(numbers.answer - numbers.target).max()), np.finfo(np.float64).tiny)
    cancelled = float((np.abs(numbers.answer) + np.abs(numbers.target)).max()) / apart
    return Proof(
        float(difference), net.dtype.name, chosen, found, numeric, float(errors.max(initial=0.0)), np.flatnonzero(bent),
        len(exact), min(cancelled, _MOST_CANCELLED),
    )  # fmt: skip
