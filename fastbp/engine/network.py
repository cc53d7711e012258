"""What training and callbacks ask of a network: the methods that they may call."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from fastbp.engine.session import Session
from fastbp.optimizers import Optimizer
from fastbp.spec import Gradient, Scaling
from fastbp.types import Array


class Network(Protocol):
    """`fastbp.MLP` is one, and has the documentation."""

    history: Any
    seed: int
    scaling: Scaling | None
    class_labels: list[Any] | None

    @property
    def session(self) -> Session: ...
    @property
    def sizes(self) -> tuple[int, ...]: ...
    @property
    def activations(self) -> tuple[str, ...]: ...
    @property
    def output_activation(self) -> str | None: ...
    @property
    def dtype(self) -> np.dtype[Any]: ...
    @property
    def weights(self) -> list[Array]: ...
    @property
    def biases(self) -> list[Array]: ...
    @property
    def input_scale(self) -> Array | None: ...
    def set_weights(
        self, weights: Sequence[npt.ArrayLike], biases: Sequence[npt.ArrayLike],
        input_scale: npt.ArrayLike | None = None,
    ) -> None: ...  # fmt: skip
    def backprop(
        self, X: npt.ArrayLike, y: npt.ArrayLike | None = None, *, output_gradient: npt.ArrayLike | None = None,
        sample_weight: npt.ArrayLike | None = None, training: bool = True, precision: str = "float32",
    ) -> Gradient: ...  # fmt: skip
    def predict(self, X: npt.ArrayLike) -> Array: ...
    def predict_proba(self, X: npt.ArrayLike) -> Array: ...
    def forward(self, X: npt.ArrayLike) -> Array: ...
    def evaluate(
        self, X: npt.ArrayLike, y: npt.ArrayLike, sample_weight: npt.ArrayLike | None = None
    ) -> dict[str, float]: ...
    def train_step(
        self, X: npt.ArrayLike, y: npt.ArrayLike, optimizer: str | Optimizer, *,
        sample_weight: npt.ArrayLike | None = None, precision: str = "float32",
    ) -> float: ...  # fmt: skip
    def save(self, path: str | os.PathLike[str]) -> None: ...
