"""The gradient held against central differences: the proof that backpropagation is right."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from fastbp.numerics import quiet
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
    n_layers = len(gradient.weights)
    scales = [] if gradient.input_scale is None else [gradient.input_scale]
    exact = np.concatenate([g.ravel() for g in [*gradient.weights, *gradient.biases, *scales]])
    values = [
        np.array(array) for array in [*twin.weights, *twin.biases, twin.input_scale][: 2 * n_layers + len(scales)]
    ]
    places = [(k, i) for k, array in enumerate(values) for i in range(array.size)]
    chosen = np.arange(len(places))
    if len(places) > MAX_CHECKED:
        chosen = np.random.default_rng(net.seed).choice(len(places), MAX_CHECKED, replace=False)
    floor = 1e-3 * float(np.abs(exact).max())
    worst = 0.0
    for number in chosen:
        k, i = places[number]
        flat, old = values[k].reshape(-1), values[k].flat[i]
        h = step * max(1.0, abs(old))
        losses = []
        for moved in (old + h, old - h):
            flat[i] = moved
            twin.set_weights(values[:n_layers], values[n_layers : 2 * n_layers], *values[2 * n_layers :])
            losses.append(twin.evaluate(X, y, sample_weight)["loss"])
        flat[i] = old
        numeric = (losses[0] - losses[1]) / (2 * h)
        scale = max(abs(numeric), abs(float(exact[number])), floor)
        if scale > 0:
            worst = max(worst, abs(numeric - float(exact[number])) / scale)
    return worst
