"""Networks and trainings that do well without being tuned, as the arguments of `MLP` and `MLP.fit`."""

from __future__ import annotations

from typing import Any, NamedTuple

from fastbp.callbacks import EarlyStopping
from fastbp.losses import CrossEntropy
from fastbp.optimizers import Adam, LrScale, Optimizer
from fastbp.schedules import CosLog
from fastbp.validation import check_choice, check_positive_int

__all__ = ["KINDS", "Recipe", "realmlp"]

KINDS = ("classes", "quantities", "flags")


class Recipe(NamedTuple):
    """How a table is learned.

    Attributes
    ----------
    network : dict
        Arguments of `MLP`, sizes included.
    fit : dict
        Arguments of `MLP.fit`, but for data and optimiser. Its callback keeps the best epoch: give validation data.
    optimizer : Optimizer
    """

    network: dict[str, Any]
    fit: dict[str, Any]
    optimizer: Optimizer


def realmlp(
    n_rows: int, n_features: int, n_out: int, kind: str, seed: int | None = None, *, epochs: int = 256,
    hidden: tuple[int, ...] = (256, 256, 256), batch_size: int = 256,
) -> Recipe:  # fmt: skip
    """The tuned defaults of RealMLP-TD-S (Holzmueller, Grinsztajn and Steinwart, "Better by default", NeurIPS 2024).

    For inputs without a unit: numbers minus their median, over the distance of their quartiles, and softly limited by
    ``z / sqrt(1 + (z / 3)^2)``; categories one-hot. Quantities are to be standardised.

    Theirs, as said here: weights drawn from N(0, 1) and divided by sqrt(n_in) in every use are weights of variance
    1 / n_in, and Adam's step of lr in the former is one of lr / sqrt(n_in) in the latter.

    Parameters
    ----------
    n_rows : int
        Rows to train on. Fewer than `batch_size` are one batch.
    n_features, n_out : int
        Inputs and outputs of the network.
    kind : {"classes", "quantities", "flags"}
        What the outputs are: classes (n_out of them), numbers, or several answers of yes or no.
    seed : int, optional
        Of the network.
    epochs, hidden, batch_size
        Where other than theirs.

    Examples
    --------
    >>> recipe = fastbp.recipes.realmlp(len(X), X.shape[1], 3, "classes", seed=0, epochs=8)
    >>> net = fastbp.MLP(**recipe.network)
    >>> history = net.fit(X, y, optimizer=recipe.optimizer, validation_split=0.2, **recipe.fit)
    >>> len(history.loss), net.activations
    (8, ('selu', 'selu', 'selu'))
    """
    kind = check_choice("kind", kind, KINDS)
    checked = (check_positive_int(name, x) for name, x in (("n_features", n_features), ("n_out", n_out)))
    n_features, n_out = checked
    sizes = [n_features, *hidden, n_out]
    numbers = kind == "quantities"
    loss = {"classes": CrossEntropy(label_smoothing=0.1), "quantities": "mse", "flags": "binary_cross_entropy"}[kind]
    network = {
        "sizes": sizes, "activation": "mish" if numbers else "selu", "loss": loss, "init": "realmlp",
        "input_scale": True, "seed": seed,
    }  # fmt: skip
    optimizer = Adam(
        lr=0.07 if numbers else 0.04, betas=(0.9, 0.95),
        lr_scale=LrScale(weights="fan_in", biases=0.1, input_scale=6.0),
    )  # fmt: skip
    monitor = "val_loss" if numbers else "val_score"
    fit = {
        "epochs": epochs, "batch_size": min(batch_size, check_positive_int("n_rows", n_rows)), "drop_last": True,
        "schedule": CosLog(epochs), "callbacks": [EarlyStopping(monitor, patience=epochs, ties="last")],
    }  # fmt: skip
    return Recipe(network, fit, optimizer)
