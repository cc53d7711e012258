"""How a table is learned where the user does not say: network and training, by rows, inputs and kind of target."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from fastbp import optimizers, schedules
from fastbp.callbacks.base import Callback


@dataclass(frozen=True)
class Recipe:
    """A network, and how it is trained.

    Attributes
    ----------
    hidden : tuple of int
        Units of the hidden layers.
    network : dict
        Further arguments of `fastbp.MLP`, such as ``{"activation": "relu"}``.
    training : dict
        Arguments of `MLP.fit`, such as ``{"epochs": 20, "optimizer": Adam(lr=0.01)}``.
    scaling : {"standard", "robust"}
        Of numbers: by mean and deviation, or by median and quartiles with a smooth limit of 3.
    validation : float
        Share of the training rows that chooses the best epoch; 0: the last epoch is kept.
    patience : int, optional
        Epochs without a better one after which the training stops; None: none does.
    """

    hidden: tuple[int, ...]
    network: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)
    scaling: str = "standard"
    validation: float = 0.2
    patience: int | None = None


Chooser = Callable[[int, int, str], Recipe]

_ROWS = 200_000  # that a training looks at, if the table is small: less than a second


def default(n_rows: int, n_inputs: int, kind: str) -> Recipe:
    """The recipe for a table of so many rows to train on and inputs; kind: "classes", "quantities" or "flags"."""
    epochs = min(200, max(10, math.ceil(_ROWS / n_rows)))
    return Recipe(
        hidden=(128, 64),
        network={"activation": "relu"},
        training={
            "epochs": epochs,
            "batch_size": min(64, max(8, n_rows // 20)),
            "optimizer": optimizers.Adam(lr=3e-3),
            "schedule": schedules.Cosine(epochs),
        },
    )


def stretched(schedule: Any, epochs: int) -> Any:
    """A recipe's schedule for another number of epochs."""
    if dataclasses.is_dataclass(schedule) and not isinstance(schedule, type) and hasattr(schedule, "epochs"):
        return dataclasses.replace(schedule, epochs=epochs)
    return schedule


class StopAfter(Callback):
    """Stop after so many epochs, under a schedule for more."""

    def __init__(self, epochs: int) -> None:
        self.epochs = epochs

    def on_epoch_end(self, state: Any) -> str | None:
        return "as many epochs as were best" if state.epoch >= self.epochs else None
