"""What the commands share: how results, failures, interruptions and the wait for the compiler are shown."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import IO, Any

import click

from fastbp.data.labels import controls
from fastbp.io import documents
from fastbp.io.progress import ProgressBar

LABEL_WIDTH = 9
PIPE_WIDTH = 140
# Seconds before the bar of the compiler appears: a shorter wait needs none.
BAR_DELAY = 0.5


class Failure(click.ClickException):
    """Ends the program with exit code 1 and one line on stderr."""

    def show(self, file: IO[Any] | None = None) -> None:
        click.echo(f"fastbp: {printable(' '.join(self.message.split()))}", file=file, err=file is None)


class Faults(Failure):
    """The same for a table of which several things are wrong: a line each."""

    def show(self, file: IO[Any] | None = None) -> None:
        first, *rest = self.message.splitlines()
        for line in (f"fastbp: {first}", *rest):
            click.echo(printable(line), file=file, err=file is None)


class Interrupted(Failure):
    """Ends the program after Ctrl-C, with the shell's exit code for it and a line that says what was kept."""

    exit_code = 130


json_option = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON, and nothing else.")


def printable(text: str) -> str:
    """The text without control characters, escape sequences of the terminal above all: a file may have brought them."""
    odd = controls(text)
    return "".join(repr(letter)[1:-1] if letter in odd else letter for letter in text)


def warn(text: str) -> None:
    """Print a line on stderr."""
    click.echo(f"fastbp: {printable(text)}", err=True)


def say(label: str, text: str) -> None:
    """Print a line of a report: what it is about in a narrow first column, then the text."""
    click.echo(f"{click.style(label.ljust(LABEL_WIDTH), bold=True)}{printable(text)}")


def say_all(label: str, texts: Sequence[str]) -> None:
    """Print several lines of a report under one label."""
    for number, text in enumerate(texts):
        say("" if number else label, text)


def console() -> Any:
    """A rich console on stdout. If that is no terminal, it is wide: tables in a log file are not cut at 80 columns."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else PIPE_WIDTH, highlight=False)


def seconds_text(seconds: float) -> str:
    """Format a duration with three digits, from microseconds up."""
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}" if seconds < 1000 else f"{seconds:,.0f} s"
    return f"{seconds * 1e6:.3g} us"


def print_json(result: dict[str, Any]) -> None:
    """Print `result` as strict JSON; what JSON has no number for becomes null."""
    click.echo(documents.text(result, indent=2))


def score_text(scores: dict[str, float]) -> str:
    """Format what `evaluate` returns, the score before the loss."""
    if "accuracy" in scores:
        return f"accuracy {100 * scores['accuracy']:.2f} %, loss {scores['loss']:.4g}"
    return f"r2 {scores['r2']:.4f}, loss {scores['loss']:.4g}"


def make_ready(dtypes: Sequence[str], precision: str = "float32") -> float:
    """Compile or load the machine code of these dtypes and of a precision; returns seconds.

    Under a bar on stderr, where that takes long.

    The first run on a machine compiles for up to half a minute: that must not look like a training that hangs.
    """
    import fastbp

    started = time.perf_counter()
    show = sys.stderr.isatty()
    with ProgressBar("compiling for this CPU, once", 0, show=show, delay=BAR_DELAY, transient=True) as bar:

        def progress(done: int, total: int) -> None:
            bar.total = total
            bar.update(done)

        try:
            fastbp.warmup(dtypes, progress, precision=precision)
        except KeyboardInterrupt:
            raise Interrupted("interrupted while compiling; the next run goes on from there") from None
    return time.perf_counter() - started
