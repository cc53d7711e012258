"""The gradient held against central differences: the proof that backpropagation is right."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from fastbp.numerics import quiet
from fastbp.types import Array
from fastbp.validation import check_positive_finite

if TYPE_CHECKING:
    from fastbp.network import MLP

MAX_CHECKED = 2000


@quiet
def check_gradients(
    net: MLP,
    X: npt.ArrayLike,
    y: npt.ArrayLike,
    *,
    step: float = 1e-5,
    sample_weight: npt.ArrayLike | None = None,
) -> float:
    """Largest relative error of the gradient against central differences, in double precision.

    ``(J(w + h) - J(w - h)) / 2h`` for every parameter w, or for 2,000 drawn by the network's seed if there are more.
    Errors are relative to the larger of the two derivatives, or to a thousandth of the largest derivative where both
    are smaller. Near a kink (relu at 0) the differences themselves are wrong.

    Parameters
    ----------
    net : MLP
        Stays as it is: a float64 twin is checked.
    X, y : array-like
        A small batch.
    step : float
        h, relative to the parameter where that is larger than 1.
    sample_weight : array-like, (n,), optional
        Weights of the rows.

    Returns
    -------
    float
        Below 1e-6 for a right gradient away from kinks.
    """
    step = check_positive_finite("step", step)
    twin = net.astype("float64")
    gradient = twin.backprop(X, y, sample_weight=sample_weight, training=False)
    exact = flat(gradient.weights, gradient.biases, gradient.input_scale)
    chosen = drawn(len(exact), MAX_CHECKED, net.seed)
    floor = 1e-3 * float(np.abs(exact).max())
    worst = 0.0
    around = costs_around(twin, X, y, chosen, step=step, sample_weight=sample_weight)
    for number, (low, high, h) in zip(chosen, around, strict=True):
        numeric, found = (high - low) / (2 * h), float(exact[number])
        scale = max(abs(numeric), abs(found), floor)
        if scale > 0:
            worst = max(worst, abs(numeric - found) / scale)
    return worst


def flat(weights: Sequence[Array], biases: Sequence[Array], input_scale: Array | None = None) -> Array:
    """All parameters, or their gradient, one behind the other: weights by layer, biases by layer, scales of inputs."""
    return np.concatenate(
        [np.ravel(one) for one in (*weights, *biases, *([] if input_scale is None else [input_scale]))]
    )


def drawn(n: int, most: int, seed: int) -> Array:
    """The numbers of n parameters, or of so many that the seed draws."""
    return np.random.default_rng(seed).choice(n, most, replace=False) if n > most else np.arange(n)


@quiet
def costs_around(
    net: MLP, X: npt.ArrayLike, y: npt.ArrayLike, chosen: Array, *, step: float = 1e-5,
    sample_weight: npt.ArrayLike | None = None,
) -> list[tuple[float, float, float]]:  # fmt: skip
    """``(J(w - h), J(w + h), h)`` of some parameters, numbered as `flat` has them; h as `check_gradients` says.

    The network comes back as it was; another thread must not use it meanwhile.
    """
    n_layers = len(net.sizes) - 1
    scale = net.input_scale
    values = [np.array(one) for one in (*net.weights, *net.biases, *([] if scale is None else [scale]))]
    starts = np.cumsum([0, *(one.size for one in values)])

    def cost() -> float:
        net.set_weights(values[:n_layers], values[n_layers : 2 * n_layers], *values[2 * n_layers :])
        return float(net.evaluate(X, y, sample_weight)["loss"])

    found = []
    for number in chosen.tolist():
        k = int(np.searchsorted(starts, number, side="right")) - 1
        place, i = values[k].reshape(-1), number - int(starts[k])
        old = float(place[i])
        h = step * max(1.0, abs(old))
        place[i] = old - h
        low = cost()
        place[i] = old + h
        found.append((low, cost(), h))
        place[i] = old
    if found:
        cost()
    return found
