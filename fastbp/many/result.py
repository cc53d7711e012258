"""`LrSweep`, the result of a learning-rate sweep: its figures as text, pictures, files and a web page."""

from __future__ import annotations

from os import PathLike
from typing import Any

import numpy as np

from fastbp.io import documents
from fastbp.io.figures import save_figure
from fastbp.io.overview import Overview
from fastbp.io.tabular import Tabular
from fastbp.many import pictures, text
from fastbp.many.report import write
from fastbp.many.stability import Stability
from fastbp.many.sweep_data import SweepData
from fastbp.numerics import quiet_results
from fastbp.types import Array


@quiet_results
class LrSweep(SweepData, Tabular):
    """The result of `lr_sweep`, of K learning rates and S seeds.

    The best rate has the lowest validation loss, smoothed over neighbouring rates. Those as good as the best are next
    to it, on both sides, and their smoothed log loss exceeds its own by no more than the 90 % quantile of Student's t
    times the standard error of the difference, paired by seed. With 5 seeds, such an interval holds the truly best rate
    nine times in ten (docs/explanation/sweeps.md).

    Attributes
    ----------
    learning_rates : array, (K,)
        Rising.
    seeds : array, (S,)
    train_loss, val_loss : array, (K, S, epochs)
        By epoch, as the `History` of each run has them; NaN for epochs that a run did not reach.
    epoch_seconds : array, (K, S, epochs)
        Training time of every epoch.
    seconds : array, (K, S)
        Time that each run took, validation included.
    status : array of str, (K, S)
        "finished", "diverged" (not finite), "stopped" (given up, see `lr_sweep`), "overflowed" (the training was fine,
        but its loss on the rows held out is not finite) or "open" (interrupted, or not continued).
    epochs_done : array, (K, S)
    metric : str
        What rates are compared by: "loss", or the name of the metric.
    larger : bool
        Whether a larger value of it is better.
    val_metric : array, (K, S, epochs), or None
        The metric on the rows held out, as `val_loss`; None where it is the loss.
    start_metric : array, (S,), or None
        The same at the initial weights.
    kept_epoch : array, (K, S)
        The epoch, from 1, that a run ends with and is compared by: its last, or that which a callback goes back to.
    start_loss : array, (S,)
        Validation loss at the initial weights: J0.
    eliminated : array, (K,)
        After which epoch successive halving dropped a rate; 0: not at all.
    wall_seconds, busy_seconds : float
        Duration of the training, and the time that its threads spent on runs.
    threads : int
    n_train, n_held, flops_per_row : int
        Rows of an epoch, rows held out, and floating-point operations of a training row.
    about : dict
        Network, optimiser, schedule and batch size in words.
    """

    def __str__(self) -> str:
        return text.describe(self)

    def __repr__(self) -> str:
        rates, seeds, epochs = len(self.learning_rates), len(self.seeds), self.epochs
        best = "none" if self.best_lr is None else f"{self.best_lr:.3g}"
        return f"<fastbp.LrSweep of {rates} rates x {seeds} seeds, {epochs} epochs, best lr {best}>"

    def overview(self) -> Overview:
        """The rates found, and the notes."""
        return text.overview(self)

    @property
    def notes(self) -> list[str]:
        """What a reader should know of these figures."""
        return text.notes(self)

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain lists and numbers, None for what is not finite: what `to_json` writes."""
        arrays = (
            "learning_rates", "seeds", "train_loss", "val_loss", "epoch_seconds", "seconds", "status", "epochs_done",
            "start_loss", "eliminated", "eligible", "diverged", "no_better", "final_loss", "mean_val_loss",
            "mean_train_loss", "val_error", "train_error", "difference", "difference_error", "in_interval",
            "best_by_epoch", "seconds_to_target", "samples_per_second", "gflops", "val_metric", "start_metric",
            "final_metric", "mean_metric", "metric_error", "kept_epoch",
        )  # fmt: skip
        values = (
            "best_lr", "recommended_lr", "interval", "divergence_boundary", "divergence_distance", "sensitivity",
            "metric", "larger", "edge", "notes", "epochs", "halving", "target_loss", "n_train", "n_held",
            "flops_per_row", "profile",
            "about",
        )  # fmt: skip
        found: dict[str, Any] = documents.plain({name: getattr(self, name) for name in (*values, *arrays)})
        return found

    def document(self) -> dict[str, Any]:
        """The same."""
        return self.to_dict()

    def draw(self) -> Any:
        """The curve of final losses by rate."""
        return pictures.draw(self, "curve")

    def columns(self) -> dict[str, Array]:
        """`rows` as columns, by name."""
        rows = self.rows()
        return {name: np.array([row[name] for row in rows]) for name in rows[0]}

    def plot(
        self, path: str | PathLike[str] | None = None, what: str = "curve", *,
        stability: Stability | float | None = None,
    ) -> Any:  # fmt: skip
        """Draw the sweep; returns matplotlib's figure.

        Parameters
        ----------
        path : path-like, optional
            Where to save the picture; its ending says in what format.
        what : {"curve", "losses", "best"}
            Final loss by rate, with the interval; losses by epoch, coloured by rate; the best rate by epoch.
        stability : Stability or float, optional
            Of `lr_stability`, or its line: drawn into the curve.

        Raises
        ------
        ImportError
            matplotlib is not installed (extra `plot`).
        """
        figure = pictures.draw(self, what, stability)
        if path is not None:
            save_figure(figure, path)
        return figure

    def report(
        self, path: str | PathLike[str], *, stability: Stability | float | None = None, command: str | None = None,
        against: str | PathLike[str] | None = None,
    ) -> None:  # fmt: skip
        """Write one web page with all of it: figures, charts to hover over, a table to sort. It needs no network.

        Parameters
        ----------
        path : path-like
            The HTML file.
        stability : Stability or float, optional
            What `lr_stability` returned, whose line at the initial weights is drawn beside the losses; or a rate.
        command : str, optional
            How the sweep was made: shown at the foot.
        against : path-like, optional
            An earlier sweep, as `to_json` or ``fastbp sweep --json`` wrote it: what has changed, and its losses.

        Raises
        ------
        ValueError
            `against` is no such file.
        ImportError
            plotly is not installed (extra `report`).
        """
        write(self, path, stability=stability, command=command, against=against)
