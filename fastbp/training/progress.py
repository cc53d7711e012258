"""What the progress bar of `fit` says: epochs, samples a second, losses and learning rate."""

from __future__ import annotations

import time
from typing import Any

from fastbp.io.progress import ProgressBar


class Progress:
    """Epochs done, time left, samples a second, loss and learning rate; nothing at all unless `show`."""

    def __init__(self, epochs: int, n_samples: int | None, *, show: bool) -> None:
        self.n_samples = n_samples  # of an epoch; None: not known, nor is then the end of the first
        self.bar = ProgressBar("epoch", epochs, show=show)

    def __enter__(self) -> Progress:
        self.started = time.perf_counter()
        self.bar.known = self.n_samples is not None or self.bar.total > 1
        self.bar.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self.bar.__exit__(*error)

    @property
    def shown(self) -> bool:
        """Whether there is something to update."""
        return self.bar.shown

    def update(self, epochs_done: float, rows: float, history: Any, lr: float) -> None:
        """Show where the training is: epochs that are done, also fractions, and rows that this call has trained on."""
        if not self.shown:
            return
        said = [f"loss {history.loss[-1]:.4g}"] if history.loss else []
        if history.val_loss:
            said += [f"val_loss {history.val_loss[-1]:.4g}", f"val_{history.score_name} {history.val_score[-1]:.4f}"]
        rate = rows / max(1e-9, time.perf_counter() - self.started)
        self.bar.update(epochs_done, *said, f"lr {lr:.3g}", f"{rate:,.0f} samples/s")
