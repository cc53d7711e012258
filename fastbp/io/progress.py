"""The one progress bar: rich's on stderr, or one line of a notebook's page; loaded when it is shown."""

from __future__ import annotations

import html
import time
from typing import Any

# Seconds from one look of a notebook's bar to the next: each is a message to the browser.
PAGE_SECONDS = 0.2
WIDE = 100  # columns of a terminal with room for a long bar


class ProgressBar:
    """How much of a work is done, the time left, and a text; nothing at all unless `show`.

    In a notebook it is a bar of the page's own, which needs no ipywidgets: the place that a cell has shown it in is
    shown anew, as IPython does by itself.

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
        self.page: Any = None  # where a notebook shows it
        self.line = PageLine("")

    def __enter__(self) -> ProgressBar:
        self.started, self.shown_at, self.begun = time.perf_counter(), 0.0, -1.0
        if self.show and not self.delay:
            self._open()
        return self

    def __exit__(self, *unused: object) -> None:
        if self.bar is not None:
            self.bar.stop()
        if self.page is not None:
            self.page.update(PageLine("") if self.transient else self.line)

    @property
    def shown(self) -> bool:
        """Whether there is something to update."""
        return self.bar is not None or self.page is not None

    def update(self, done: float, *texts: str) -> None:
        """Show how much is done, in fractions too, and texts: on a narrow terminal as many as there is room for."""
        if self.show and not self.shown and time.perf_counter() - self.started > self.delay:
            self._open()
        if self.bar is not None:
            self.bar.update(self.task, completed=done, count=int(done), text=self._fitting(texts))
        elif self.page is not None:
            self._update_page(done, "  ".join(texts))

    def _open(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        console = Console(stderr=True)
        if console.is_jupyter:
            from IPython.display import display

            self.line = PageLine(f"{self.label} 0/{self.total}", 0.0)
            self.page = display(self.line, display_id=True)
            return
        self.bar = Progress(
            TextColumn(f"{{task.description}} {{task.fields[count]}}/{self.total}"),
            BarColumn(8 if console.width < WIDE else 40), TimeRemainingColumn(),
            TextColumn("{task.fields[text]}"), refresh_per_second=10, console=console, transient=self.transient,
        )  # fmt: skip
        self.bar.start()
        self.task = self.bar.add_task(self.label, total=self.total if self.known else None, count=0, text="")

    def _fitting(self, texts: tuple[str, ...]) -> str:
        """The first of the texts, beside the label, the bar and the time left, which take their columns."""
        width = self.bar.console.width
        room = width - len(f"{self.label} {self.total}/{self.total}") - (8 if width < WIDE else 40) - 10
        while texts and len("  ".join(texts)) > room:
            texts = texts[:-1]
        return "  ".join(texts)

    def _update_page(self, done: float, text: str) -> None:
        now = time.perf_counter()
        if self.begun < 0.0:  # work that is resumed does not begin at 0
            self.begun = done
        new = done - self.begun
        left = (
            f"{(self.total - done) * (now - self.started) / new:,.0f} s left  " if new > 0 and done < self.total else ""
        )
        share = done / self.total if self.known and self.total else None
        self.line = PageLine(f"{self.label} {int(done)}/{self.total}  {left}{text}", share)
        if now - self.shown_at > PAGE_SECONDS:
            self.shown_at = now
            self.page.update(self.line)


class PageLine:
    """A bar and a text, of a notebook's page; the text alone where it is no page."""

    def __init__(self, text: str, share: float | None = None) -> None:
        self.text, self.share = text, share

    def __repr__(self) -> str:
        return self.text

    def _repr_html_(self) -> str:
        if not self.text:
            return ""
        value = "" if self.share is None else f' value="{self.share:.4f}"'
        bar = f'<progress max="1"{value} style="width:16em;vertical-align:middle"></progress>'
        return f'<div style="white-space:pre-wrap">{bar} {html.escape(self.text)}</div>'
