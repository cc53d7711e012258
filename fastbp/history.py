"""What a `fit` has seen, epoch by epoch: as lists, as files, as a picture."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from fastbp.io.figures import new_figure
from fastbp.io.overview import Overview, figure_text
from fastbp.io.tabular import Columns, Tabular

SHOWN = 6  # epochs of a table, and the best


@dataclass(repr=False)
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

    def __repr__(self) -> str:
        parts = [_count(len(self.loss))]
        for name, values in self.columns().items():
            if name not in ("lr", "seconds"):
                ends = dict.fromkeys(figure_text(value) for value in (values[0], values[-1]))
                parts.append(f"{name} {' -> '.join(ends)}")
        return f"<fastbp.History, {', '.join(parts)}>"

    def __str__(self) -> str:
        return self.overview().text()

    def overview(self) -> Overview:
        """The first and the last epoch, some in between, and the best; and why a callback ended the training."""
        n, found = len(self.loss), self.columns()
        best = self.best_epoch
        shown = sorted({1 + k * (n - 1) // (SHOWN - 1) for k in range(SHOWN)} | {best or n}) if n else []
        rows = [[str(k), *(figure_text(values[k - 1]) for values in found.values())] for k in shown]
        title = f"{_count(n)} in {sum(self.seconds):.3g} s"
        if best is not None:
            title += f", lowest {'val_loss' if self.val_loss else 'loss'} after epoch {best}"
        return Overview(title, ["epoch", *found], rows, [self.stop_reason] if self.stop_reason else [])

    @property
    def best_epoch(self) -> int | None:
        """The epoch, from 1, with the lowest loss on the validation data, or without any in training."""
        watched = self.val_loss or self.loss
        known = [(value, k) for k, value in enumerate(watched, 1) if not math.isnan(value)]
        return min(known)[1] if known else None

    def row(self, epoch: int) -> dict[str, float]:
        """What there is of one epoch, from 1, by name."""
        found = {
            name: values[epoch - 1] if epoch <= len(values) else math.nan for name, values in self._named().items()
        }
        return {"epoch": epoch, **found}

    def columns(self) -> dict[str, list[float]]:
        """What there is of each epoch, by name; NaN where a validation was interrupted."""
        n = len(self.loss)
        return {name: values + [math.nan] * (n - len(values)) for name, values in self._named().items()}

    def _named(self) -> dict[str, list[float]]:
        named = {"loss": self.loss, "val_loss": self.val_loss, f"val_{self.score_name}": self.val_score}
        return {name: values for name, values in {**named, "lr": self.lr, "seconds": self.seconds}.items() if values}

    def table(self) -> Columns:
        """The columns beside the number of the epoch."""
        return {"epoch": range(1, len(self.loss) + 1), **self.columns()}

    def document(self) -> dict[str, Any]:
        """The columns, the score's name and the reason to stop."""
        return {"score_name": self.score_name, "stop_reason": self.stop_reason, **self.columns()}

    def _repr_html_(self) -> str:
        """A table, and the picture of several epochs."""
        return self.overview().html(self.draw if len(self.loss) > 1 else None)

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
        bottom.xaxis.get_major_locator().set_params(integer=True)
        if self.val_score:
            right = bottom.twinx()
            right.plot(epochs[: len(self.val_score)], self.val_score, color="C2")
            right.set_ylabel(f"validation {self.score_name}", color="C2")
        return figure


def _count(n: int) -> str:
    return f"{n:,} epoch{'s' * (n != 1)}"
