"""The progress bar of `fit`: rich's, on stderr or in a notebook, loaded when it is wanted."""

from __future__ import annotations

import importlib.util
import time
from typing import Any

# Seconds from one text to the next where there are no widgets to draw a bar with.
LINE_SECONDS = 0.5


class Progress:
    """Epochs done, time left, samples a second, loss and learning rate; nothing at all unless `show`.

    In a notebook rich draws its bar by ipywidgets, and without them nothing: there, one line is written over and over,
    as notebooks can show.
    """

    def __init__(self, epochs: int, n_samples: int | None, *, show: bool) -> None:
        self.epochs, self.n_samples, self.show = epochs, n_samples, show  # n_samples None: not known
        self.bar: Any = None
        self.lines: Any = None  # where to write them
        self.text = ""

    def __enter__(self) -> Progress:
        self.started, self.written, self.begun = time.perf_counter(), 0.0, -1.0
        if self.show:
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

            console = Console(stderr=True)
            if console.is_jupyter and importlib.util.find_spec("ipywidgets") is None:
                self.lines = console.file
                return self
            self.bar = Progress(
                TextColumn("epoch {task.fields[epoch]}/{task.fields[epochs]}"), BarColumn(), TimeRemainingColumn(),
                TextColumn("{task.fields[text]}"), refresh_per_second=10, console=console,
            )  # fmt: skip
            self.bar.start()
            total = None if self.n_samples is None and self.epochs == 1 else self.epochs
            self.task = self.bar.add_task("fit", total=total, epoch=0, epochs=self.epochs, text="")
        return self

    def __exit__(self, *unused: object) -> None:
        if self.bar is not None:
            self.bar.stop()
        if self.lines is not None:
            self._write(self.text)
            self.lines.write("\n")

    def update(self, epochs_done: float, rows: float, history: Any, lr: float) -> None:
        """Show where the training is: epochs that are done, also fractions, and rows that this call has trained on."""
        if self.bar is None and self.lines is None:
            return
        now = time.perf_counter()
        if self.begun < 0.0:  # a resumed training does not begin at 0
            self.begun = epochs_done
        text = f"{rows / max(1e-9, now - self.started):,.0f} samples/s  lr {lr:g}"
        if history.loss:
            text += f"  loss {history.loss[-1]:.4g}"
        if history.val_loss:
            text += f"  val_loss {history.val_loss[-1]:.4g}  val_{history.score_name} {history.val_score[-1]:.4f}"
        if self.bar is not None:
            self.bar.update(self.task, completed=epochs_done, epoch=int(epochs_done), text=text)
            return
        done = epochs_done - self.begun
        left = f"{(self.epochs - epochs_done) * (now - self.started) / done:,.0f} s left  " if done > 0 else ""
        self.text = f"epoch {int(epochs_done)}/{self.epochs}  {left}{text}"
        if now - self.written > LINE_SECONDS:
            self.written = now
            self._write(self.text)

    def _write(self, text: str) -> None:
        """Over the line that is there."""
        self.lines.write(f"\r{text.ljust(100)}")
        self.lines.flush()
