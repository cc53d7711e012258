"""How a table is learned where the user does not say: network and training, by rows, inputs and kind of target."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fastbp import recipes, schedules
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
    monitor : {"val_loss", "val_score"}
        What the best epoch is best in; the last of the best is kept.
    label_smoothing : float
        Of the loss of classes, where the user names none.
    """

    hidden: tuple[int, ...]
    network: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)
    scaling: str = "standard"
    validation: float = 0.2
    patience: int | None = None
    monitor: str = "val_loss"
    label_smoothing: float = 0.0


Chooser = Callable[[int, int, str], Recipe]

# Measured on 40 tables (docs/reference/tables.md), normalised errors: with 256 epochs however large the table, 0.001
# less than with at most 2,000 steps, and 2.3 times the time; with at most 64 epochs, 0.008 more. Layers of 128: 0.006
# more. The half of RealMLP's rates: 0.006 less than the whole of them.
_EPOCHS, _FEWEST = 256, 32
_STEPS = 2000  # that a training takes at most, if that is no fewer epochs than _FEWEST
_RATE = 0.5


def default(n_rows: int, n_inputs: int, kind: str) -> Recipe:
    """RealMLP's recipe for so many rows to train on and inputs, in fewer epochs where a table is large.

    kind: "classes", "quantities" or "flags".
    """
    steps = max(n_rows // 256, 1)  # an epoch
    epochs = min(_EPOCHS, max(_FEWEST, math.ceil(_STEPS / steps)))
    found = recipes.realmlp(n_rows, n_inputs, 1, kind, epochs=epochs)
    network = {name: one for name, one in found.network.items() if name not in ("sizes", "seed", "loss")}
    training = {name: one for name, one in found.fit.items() if name != "callbacks"}
    optimizer = dataclasses.replace(found.optimizer, lr=_RATE * found.optimizer.lr)
    return Recipe(
        hidden=tuple(found.network["sizes"][1:-1]),
        network=network,
        training={**training, "optimizer": optimizer},
        scaling="robust",
        label_smoothing=getattr(found.network["loss"], "label_smoothing", 0.0),
        monitor=found.fit["callbacks"][0].monitor,
    )


_LATE, _FELL = 0.75, 0.01  # of the epochs; of the loss


def still_falls(losses: Sequence[float], scores: Sequence[float] = ()) -> bool:
    """Whether the validation losses of a training fell by a hundredth or more in its last quarter of epochs.

    scores: where they choose the best epoch; they must have risen then too.
    """
    late = math.floor(_LATE * len(losses))
    if late < 1:
        return False
    before, after = min(losses[:late]), min(losses[late:])
    risen = not scores or max(scores[late:]) > max(scores[:late])
    return risen and before - after > _FELL * abs(before)


def stretched(schedule: Any, epochs: int) -> Any:
    """A recipe's schedule for another number of epochs; a cosine where they are too few for cycles."""
    if isinstance(schedule, schedules.CosLog) and epochs < 2**schedule.cycles:
        return schedules.Cosine(epochs)
    if dataclasses.is_dataclass(schedule) and not isinstance(schedule, type) and hasattr(schedule, "epochs"):
        return dataclasses.replace(schedule, epochs=epochs)
    return schedule


class StopAfter(Callback):
    """Stop after so many epochs, under a schedule for more."""

    def __init__(self, epochs: int) -> None:
        self.epochs = epochs

    def on_epoch_end(self, state: Any) -> str | None:
        return "as many epochs as were best" if state.epoch >= self.epochs else None
