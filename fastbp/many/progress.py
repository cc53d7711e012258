"""The progress bar of a sweep: runs done, time left, the best rate so far."""

from __future__ import annotations

import numpy as np

from fastbp.io.progress import ProgressBar
from fastbp.many.ledger import DIVERGED, STOPPED, Ledger
from fastbp.types import Array


class SweepProgress:
    """Counts the runs of a ledger that have ended; shows nothing unless `show`."""

    def __init__(self, ledger: Ledger, n_seeds: int, epochs: int, *, show: bool) -> None:
        self.ledger, self.n_seeds, self.epochs = ledger, n_seeds, epochs
        self.bar = ProgressBar("runs", len(ledger), show=show)
        self.dropped = np.zeros(len(ledger), np.bool_)

    def __enter__(self) -> SweepProgress:
        self.bar.__enter__()
        self.update()
        return self

    def __exit__(self, *error: object) -> None:
        self.bar.__exit__(*error)

    def drop(self, which: Array) -> None:
        """Count the runs of these numbers as ended: they are not continued."""
        self.dropped[which] = True
        self.update()

    def update(self) -> None:
        """Update the bar."""
        if not self.bar.shown:
            return
        ledger, diverged = self.ledger, np.isin(self.ledger.status, (DIVERGED, STOPPED))
        best = best_so_far(ledger, self.n_seeds)
        name = "val_loss" if ledger.metric.function is None else ledger.metric.name
        said = [] if best is None else [f"best so far lr {best[0]:.3g}", f"{name} {best[1]:.4g}"]
        if diverged.any():
            said.append(f"{int(diverged.sum())} diverged")
        ended = int(((ledger.done == self.epochs) | (ledger.status >= DIVERGED) | self.dropped).sum())
        self.bar.update(ended, *said)


def best_so_far(ledger: Ledger, n_seeds: int) -> tuple[float, float] | None:
    """(rate, mean validation loss or metric) of the best rate so far; None if there is none.

    Compared are the rates all of whose seeds have done the same, largest number of epochs, none with a loss above that
    of its initial weights.
    """
    shape = (-1, n_seeds)
    done = ledger.done.reshape(shape)
    reached = done.min(axis=1)
    complete = (done == reached[:, None]).all(axis=1) & (reached > 0)
    complete &= reached == max(reached[complete], default=0)

    def last(values: Array) -> Array:
        """After these epochs, by rate and seed."""
        by_seed: Array = values.reshape(*shape, values.shape[1])[np.arange(len(done)), :, reached - 1]
        return by_seed

    costs = last(ledger.cost)
    complete &= ~(costs > ledger.start_cost.reshape(shape)).any(axis=1)
    mean = costs.mean(axis=1)
    mean[~complete | ~np.isfinite(mean)] = np.inf
    best = int(np.argmin(mean))
    if not np.isfinite(mean[best]):
        return None
    values = ledger.val_loss if ledger.metric.function is None else ledger.val_metric
    return float(ledger.learning_rates[best * n_seeds]), float(last(values).mean(axis=1)[best])
