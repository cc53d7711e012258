"""What a `fit` has seen, epoch by epoch: as lists, as files, as a picture."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from fastbp.io.figures import new_figure
from fastbp.io.tabular import Columns, Tabular


@dataclass
class History(Tabular):
    """What a `fit` has seen, one entry an epoch.

    Attributes
    ----------
    loss : list of float
        Mean of the batch losses before each update, weighted by rows; by their weights where rows have such.
    val_loss, val_score : list of float
        Loss and score on the validation data; empty without.
    score_name : str
        "accuracy" or "r2".
    lr : list of float
        Learning rate.
    seconds : list of float
        Duration, validation apart.
    stop_reason : str
        Why a callback ended the training early; empty if it ran to its end.
    """

    score_name: str
    loss: list[float] = field(default_factory=list)
    val_loss: list[float] = field(default_factory=list)
    val_score: list[float] = field(default_factory=list)
    lr: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    stop_reason: str = ""

    def columns(self) -> dict[str, list[float]]:
        """What there is of each epoch, by name; NaN where a validation was interrupted."""
        named = {"loss": self.loss, "val_loss": self.val_loss, f"val_{self.score_name}": self.val_score}
        named |= {"lr": self.lr, "seconds": self.seconds}
        n = len(self.loss)
        return {name: values + [math.nan] * (n - len(values)) for name, values in named.items() if values}

    def table(self) -> Columns:
        """The columns beside the number of the epoch."""
        return {"epoch": range(1, len(self.loss) + 1), **self.columns()}

    def document(self) -> dict[str, Any]:
        """The columns, the score's name and the reason to stop."""
        return {"score_name": self.score_name, "stop_reason": self.stop_reason, **self.columns()}

    def draw(self) -> Any:
        """Losses, and below them the score and the learning rate."""
        figure = new_figure(7, 6)
        top, bottom = figure.subplots(2, sharex=True, height_ratios=(2, 1))
        epochs = range(1, len(self.loss) + 1)
        top.plot(epochs, self.loss, label="training")
        if self.val_loss:
            top.plot(epochs[: len(self.val_loss)], self.val_loss, label="validation")
        known = [value for value in self.loss + self.val_loss if not math.isnan(value)]
        top.set(ylabel="loss", yscale="log" if min(known, default=0) > 0 else "linear")
        top.legend()
        bottom.plot(epochs, self.lr, color="0.5")
        bottom.set(xlabel="epoch", ylabel="learning rate")
        if self.val_score:
            right = bottom.twinx()
            right.plot(epochs[: len(self.val_score)], self.val_score, color="C2")
            right.set_ylabel(f"validation {self.score_name}", color="C2")
        return figure
