"""The pure NumPy network that `fastbp train --compare numpy` trains beside its own."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from fastbp.cli.defaults import Hyperparameters

if TYPE_CHECKING:
    from fastbp.network import MLP
    from fastbp.reference import NumpyMLP
    from fastbp.types import Array

TRIAL_STEPS = 50  # what NumPy is given to try its threads on


def twin(net: MLP, seed: int) -> NumpyMLP:
    """The same network in NumPy, with the weights that both start from."""
    from fastbp.reference import NumpyMLP

    return NumpyMLP(
        net.sizes,
        activation=list(net.activations),
        output_activation=net.output_activation,
        loss=net.loss,
        dtype=net.dtype,
        **net.regularization.as_arguments(),
        init=net.init,
        input_scale=net.input_scale is not None,
        seed=seed,
    )


def seconds(rival: NumpyMLP, X: Array, y: Array, hyper: Hyperparameters, optimizer: Any) -> float:
    """Train in the better of one BLAS thread and as many as NumPy takes by itself; often that is one."""
    from fastbp.bench import blas

    def trial(threads: int | None) -> float:
        rows = slice(0, TRIAL_STEPS * hyper.batch_size)
        with blas.limit(threads):
            options = {"epochs": 2, "batch_size": hyper.batch_size, "optimizer": optimizer}
            return copy.copy(rival).fit(X[rows], y[rows], **options).seconds[-1]

    with blas.limit(min((1, None), key=trial) if blas.can_limit() else None):
        history = rival.fit(X, y, epochs=hyper.epochs, batch_size=hyper.batch_size, optimizer=optimizer)
    return sum(history.seconds)
