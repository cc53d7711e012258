"""The progress bar of `fit`: rich's, on stderr, loaded when it is wanted."""

from __future__ import annotations

import time
from typing import Any


class Progress:
    """Epochs done, time left, samples a second, loss and learning rate; nothing at all unless `show`."""

    def __init__(self, epochs: int, n_samples: int, *, show: bool) -> None:
        self.epochs, self.n_samples, self.show = epochs, n_samples, show
        self.bar: Any = None

    def __enter__(self) -> Progress:
        if self.show:
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

            self.bar = Progress(
                TextColumn("epoch {task.fields[epoch]}/{task.fields[epochs]}"), BarColumn(), TimeRemainingColumn(),
                TextColumn("{task.fields[text]}"), refresh_per_second=10, console=Console(stderr=True),
            )  # fmt: skip
            self.bar.start()
            self.task = self.bar.add_task("fit", total=self.epochs, epoch=0, epochs=self.epochs, text="")
            self.started = time.perf_counter()
        return self

    def __exit__(self, *unused: object) -> None:
        if self.bar is not None:
            self.bar.stop()

    def update(self, epochs_done: float, history: Any, lr: float) -> None:
        """Show where the training is; `epochs_done` may be a fraction."""
        if self.bar is None:
            return
        speed = epochs_done * self.n_samples / max(1e-9, time.perf_counter() - self.started)
        text = f"{speed:,.0f} samples/s  lr {lr:g}"
        if history.loss:
            text += f"  loss {history.loss[-1]:.4g}"
        if history.val_loss:
            text += f"  val_loss {history.val_loss[-1]:.4g}  val_{history.score_name} {history.val_score[-1]:.4f}"
        self.bar.update(self.task, completed=epochs_done, epoch=int(epochs_done), text=text)
