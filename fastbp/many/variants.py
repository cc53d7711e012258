"""Networks like another: with another seed, other options, or a scaling of the rows that they are trained on."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import numpy as np

from fastbp.many.run_spec import fresh
from fastbp.network import MLP
from fastbp.types import Array

# What `MLP` takes beside the sizes, of which the hidden ones have a name here.
OPTIONS = frozenset(inspect.signature(MLP).parameters) - {"sizes", "seed"} | {"hidden"}


def variant(net: MLP, seed: int, changes: Mapping[str, Any]) -> MLP:
    """An untrained network like `net`, with another seed and other options of `MLP`; "hidden" are the hidden sizes."""
    if not changes:
        made = fresh(net, seed)
    else:
        options: dict[str, Any] = {
            "activation": list(net.activations), "output_activation": net.output_activation, "loss": net.loss,
            "init": net.init, "dtype": net.dtype, "input_scale": net.input_scale is not None,
            **net.regularization.as_arguments(),
        }  # fmt: skip
        changes = dict(changes)
        hidden = changes.pop("hidden", net.sizes[1:-1])
        hidden = [hidden] if isinstance(hidden, int | np.integer) else list(hidden)
        if len(hidden) != len(net.sizes) - 2:  # what was given for each layer goes with their number
            options["activation"] = net.activations[0] if len(set(net.activations)) == 1 else "relu"
            chances = set(net.regularization.chances)
            options["dropout"] = chances.pop() if len(chances) == 1 else 0.0
        made = MLP([net.sizes[0], *hidden, net.sizes[-1]], seed=seed, **{**options, **changes})
        made.scaling = net.scaling
    made.class_labels = net.class_labels
    vars(made)["feature_names"] = net.feature_names
    return made


def scaled_by(net: MLP, X: Any, y: Any, rows: Array) -> None:
    """Have a network that standardises its data do it by these rows, not by those that it was standardised by."""
    scaling = net.scaling
    if scaling is not None:
        X = X.iloc[rows] if hasattr(X, "iloc") else np.asarray(X)[rows]
        net.standardize(X, None if scaling.y_mean is None else np.asarray(y)[rows])
