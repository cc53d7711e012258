"""The one progress bar: rich's, on stderr or in a notebook, loaded when it is shown."""

from __future__ import annotations

import importlib.util
import time
from typing import Any

# Seconds from one text to the next where there are no widgets to draw a bar with.
LINE_SECONDS = 0.5


class ProgressBar:
    """How much of a work is done, the time left, and a text; nothing at all unless `show`.

    In a notebook rich draws its bar by ipywidgets, and without them nothing: there, one line is written over and over,
    as notebooks can show.

    Parameters
    ----------
    label : str
        What is counted.
    total : int
        How many there are.
    show : bool
        Whether to show anything.
    known : bool
        The end is known: False shows a bar that only moves.
    delay : float
        Seconds before the bar appears: one that comes and goes at once only flickers.
    transient : bool
        The bar vanishes when the work is done.
    """

    def __init__(
        self, label: str, total: int, *, show: bool, known: bool = True, delay: float = 0.0, transient: bool = False
    ) -> None:
        self.label, self.total, self.show, self.known = label, total, show, known
        self.delay, self.transient = delay, transient
        self.bar: Any = None
        self.lines: Any = None  # where to write them
        self.text = ""

    def __enter__(self) -> ProgressBar:
        self.started, self.written, self.begun = time.perf_counter(), 0.0, -1.0
        if self.show and not self.delay:
            self._open()
        return self

    def __exit__(self, *unused: object) -> None:
        if self.bar is not None:
            self.bar.stop()
        if self.lines is not None:
            self._write(self.text)
            self.lines.write("\n")

    @property
    def shown(self) -> bool:
        """Whether there is something to update."""
        return self.bar is not None or self.lines is not None

    def update(self, done: float, text: str = "") -> None:
        """Show how much is done, in fractions too, and a text."""
        if self.show and not self.shown and time.perf_counter() - self.started > self.delay:
            self._open()
        if self.bar is not None:
            self.bar.update(self.task, completed=done, count=int(done), text=text)
        elif self.lines is not None:
            self._update_line(done, text)

    def _open(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        console = Console(stderr=True)
        if console.is_jupyter and importlib.util.find_spec("ipywidgets") is None:
            self.lines = console.file
            return
        self.bar = Progress(
            TextColumn(f"{{task.description}} {{task.fields[count]}}/{self.total}"), BarColumn(), TimeRemainingColumn(),
            TextColumn("{task.fields[text]}"), refresh_per_second=10, console=console, transient=self.transient,
        )  # fmt: skip
        self.bar.start()
        self.task = self.bar.add_task(self.label, total=self.total if self.known else None, count=0, text="")

    def _update_line(self, done: float, text: str) -> None:
        now = time.perf_counter()
        if self.begun < 0.0:  # work that is resumed does not begin at 0
            self.begun = done
        new = done - self.begun
        left = f"{(self.total - done) * (now - self.started) / new:,.0f} s left  " if new > 0 else ""
        self.text = f"{self.label} {int(done)}/{self.total}  {left}{text}"
        if now - self.written > LINE_SECONDS:
            self.written = now
            self._write(self.text)

    def _write(self, text: str) -> None:
        """Over the line that is there."""
        self.lines.write(f"\r{text.ljust(100)}")
        self.lines.flush()
