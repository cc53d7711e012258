"""Networks to export: every activation, loss and number type, standardised inputs and targets, scales of inputs."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

import fastbp
from fastbp.activations import ACTIVATIONS
from fastbp.losses import LOSSES

DTYPES = ("float32", "float64")
ROWS = 10.0 + 3.0 * np.random.default_rng(0).standard_normal((40, 5))


def network(sizes: list[int], scaled: bool = True, **options: Any) -> fastbp.MLP:
    """A network with parameters that none of its parts has by default."""
    net = fastbp.MLP(sizes, seed=1, **options)
    rng = np.random.default_rng(2)
    if scaled:
        y = 1e6 + 1e4 * rng.standard_normal((len(ROWS), sizes[-1]))
        net.standardize(ROWS, y if net.loss.link.can_scale_y else None)
    weights = [weight + 0.3 * rng.standard_normal(weight.shape) for weight in net.weights]
    scale = None if net.input_scale is None else rng.standard_normal(sizes[0])
    net.set_weights(weights, [rng.standard_normal(bias.shape) for bias in net.biases], scale)
    return net


def named(labels: bool = True) -> fastbp.MLP:
    """A classifier whose classes have names that no file may stumble over."""
    net = network([5, 7, 3])
    if labels:
        net.class_labels = ['??/ "quoted" \\', "*/ ü", "plain"]
    return net


def networks() -> dict[str, fastbp.MLP]:
    """One of each activation, of each loss with one output and with several, and of odd shapes."""
    found = {}
    for dtype in DTYPES:
        for name in ACTIVATIONS:
            found[f"{name}_{dtype}"] = network([5, 9, 4, 3], activation=name, dtype=dtype, input_scale=True)
            if name not in ("identity",):
                found[f"out_{name}_{dtype}"] = network(
                    [5, 3], loss="mse", output_activation=name, dtype=dtype, scaled=name == "tanh"
                )
        for name, loss in LOSSES.items():
            for n_out in (1, 2):
                if not (loss.link.one_class and n_out == 1):
                    found[f"{name}_{n_out}_{dtype}"] = network([5, 6, n_out], loss=name, dtype=dtype)
        found[f"plain_{dtype}"] = network([5, 6, 6, 3], activation=["relu", "tanh"], dtype=dtype, scaled=False)
        found[f"one_{dtype}"] = network([5, 1, 1], loss="mse", dtype=dtype, scaled=False)
    return found


def predictions(net: fastbp.MLP, X: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """All that a network predicts, by the names of outputs."""
    found = {"prediction": net.predict(X)}
    if net.loss.link.classifies:
        found["probabilities"] = net.predict_proba(X)
    if net.class_labels is not None:
        found["label"] = np.array(net.class_labels)[found["prediction"]]
    return found


def close(found: Any, expected: Any, tol: float = 1e-5) -> bool:
    """Within `tol` of the largest number, of the same shape; equal where these are no floats."""
    found, expected = np.asarray(found), np.asarray(expected)
    if found.shape != expected.shape:
        return False
    if expected.dtype.kind != "f":
        return bool((found == expected).all())
    return bool(np.abs(found - expected).max() <= tol * max(1.0, np.abs(expected).max()))
