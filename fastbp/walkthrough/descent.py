"""Gradient descent on one row at many learning rates: the cost after every step, and what became of it in a word."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from fastbp import gradients
from fastbp.network import MLP
from fastbp.numerics import quiet
from fastbp.optimizers import Optimizer
from fastbp.types import Array

# Parameters -> learning rates to each side of the one that is asked for, rates a decade, steps.
_EFFORT = ((20_000, (20, 10, 50)), (500_000, (10, 5, 30)))
_LEAST = (4, 2, 20)
CRAWLS, ARRIVES, JUMPS, CLIMBS, STAYS = "crawls", "comes down", "jumps over", "climbs", "stays"
WORDS = {
    CRAWLS: "the rate is too small, most of the way is still to go",
    ARRIVES: "",
    JUMPS: "from one side of the minimum to the other, and it comes down all the same",
    CLIMBS: "the rate is too large, steps land farther away than where they began",
    STAYS: "the gradient is 0",
}


@dataclass(frozen=True)
class Descent:
    """Runs from the same weights, one a learning rate.

    Attributes
    ----------
    rates : array, (n,)
    costs : array, (n, steps + 1)
        J before the first step, and after each; NaN once it is not finite any more.
    verdicts : list of str
        Keys of `WORDS`.
    chosen : int
        The place of the rate that was asked for.
    moved : array, (n, parameters)
        The parameters after one step at each rate, as `gradients.flat` has them; of small networks, else without rows.
    """

    rates: Array
    costs: Array
    verdicts: list[str]
    chosen: int
    moved: Array


@quiet
def descend(twin: MLP, x: Array, y: Array, optimizer: Optimizer, kept: int) -> Descent:
    """All runs; `twin` is the network in float64. moved: of networks of at most `kept` parameters."""
    around, decade, steps = next((effort for size, effort in _EFFORT if twin.n_parameters <= size), _LEAST)
    rates = optimizer.lr * 10.0 ** (np.arange(-around, around + 1) / decade)
    costs, turned, moved = np.full((len(rates), steps + 1), np.nan), np.zeros(len(rates), np.bool_), []
    for k, rate in enumerate(rates.tolist()):
        net, rule = twin.copy(), dataclasses.replace(optimizer, lr=rate)
        before = None
        for step in range(steps + 1):
            gradient = net.backprop(x, y, training=False)
            flat = gradient.packed(net.session.layout)  # not taken apart, so that the update is fast
            assert flat is not None
            if gradient.loss is None or not np.isfinite(gradient.loss) or not np.isfinite(flat).all():
                break
            costs[k, step] = gradient.loss
            turned[k] |= before is not None and float(flat @ before) < 0.0
            before = flat
            if step < steps:
                rule.update(net, gradient)
            if step == 0 and twin.n_parameters <= kept:
                moved.append(gradients.flat(net.weights, net.biases, net.input_scale))
    return Descent(rates, costs, _verdicts(costs, turned), around, np.array(moved) if moved else np.empty((0, 0)))


def _verdicts(costs: Array, turned: Array) -> list[str]:
    first, low = float(costs[0, 0]), float(np.nanmin(costs)) if np.isfinite(costs).any() else np.nan
    found = []
    for run, jumped in zip(costs, turned.tolist(), strict=True):
        last = float(run[-1])
        if np.isfinite(last) and (run == first).all():
            found.append(STAYS)
        elif not last <= first:
            found.append(CLIMBS)
        elif jumped:
            found.append(JUMPS)
        else:
            found.append(CRAWLS if first - last < 0.5 * (first - low) else ARRIVES)
    return found
