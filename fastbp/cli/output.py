"""What the commands share: how results, failures, interruptions and the wait for the compiler are shown."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Sequence
from typing import IO, Any

import click

from fastbp.data.labels import controls
from fastbp.io import documents
from fastbp.io.overview import WIDTH, fitted, wrapped
from fastbp.io.progress import ProgressBar

LABEL_WIDTH = 9
NARROWEST = 40
# Seconds before the bar of the compiler appears: a shorter wait needs none.
BAR_DELAY = 0.5


class Failure(click.ClickException):
    """Ends the program with exit code 1 and one line on stderr."""

    def show(self, file: IO[Any] | None = None) -> None:
        click.echo(_told(" ".join(self.message.split())), file=file, err=file is None)


class Faults(Failure):
    """The same for a table of which several things are wrong: a line each."""

    def show(self, file: IO[Any] | None = None) -> None:
        click.echo(_told(self.message), file=file, err=file is None)


class Usage(click.UsageError):
    """Click's word on wrong usage, with exit code 2, on lines that are no wider than the screen."""

    @classmethod
    def of(cls, error: click.UsageError) -> Usage:
        """The same error."""
        return cls(error.format_message(), error.ctx)

    def show(self, file: IO[Any] | None = None) -> None:
        if self.ctx is not None:
            hint = f"Try '{self.ctx.command_path} {self.ctx.help_option_names[0]}' for help.\n"
            click.echo(f"{self.ctx.get_usage()}\n{hint}", file=file, err=file is None)
        click.echo(_told(self.message, "Error: "), file=file, err=file is None)


class Interrupted(Failure):
    """Ends the program after Ctrl-C, with the shell's exit code for it and a line that says what was kept."""

    exit_code = 130


def _keep_quiet(context: click.Context, _parameter: click.Parameter, value: bool) -> None:
    context.meta["fastbp.quiet"] = value


quiet_option = click.option(
    "-q", "--quiet", is_flag=True, expose_value=False, callback=_keep_quiet,
    help="Print the result alone: no notes, no progress.",
)  # fmt: skip


def example(*lines: str) -> str:
    """The end of a command's help: what to type, line by line, in any folder."""
    return "\n".join(["\b", "Example:", *(f" {line}" for line in lines)])


json_option = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON, and nothing else.")


def printable(text: str) -> str:
    """The text without control characters, escape sequences of the terminal above all: a file may have brought them."""
    odd = controls(text)
    return "".join(repr(letter)[1:-1] if letter in odd else letter for letter in text)


def width() -> int:
    """Columns of what is printed for people: COLUMNS, or the terminal's; 80 where there is neither."""
    return max(NARROWEST, shutil.get_terminal_size((WIDTH, 24)).columns)


def _told(text: str, start: str = "fastbp: ") -> str:
    """A message on stderr: on a terminal no wider than that, but one line in a log file, unless COLUMNS is set."""
    text = printable(start + text)
    return fitted(text, width()) if sys.stderr.isatty() or os.environ.get("COLUMNS") else text


def quiet() -> bool:
    """Whether --quiet is given."""
    context = click.get_current_context(silent=True)
    return context is not None and bool(context.meta.get("fastbp.quiet"))


def shows_progress(as_json: bool = False) -> bool:
    """Whether to show bars: to a person at a terminal, who has not asked for the result alone."""
    return not as_json and not quiet() and sys.stderr.isatty()


def warn(text: str) -> None:
    """Print a line on stderr."""
    click.echo(_told(text), err=True)


def echo(text: str) -> None:
    """Print a part of a result, wrapped where it is wider than the screen."""
    click.echo(fitted(text, width()))


def say(label: str, *texts: str) -> None:
    """Print lines of a report: what they are about in a narrow first column, then the texts."""
    blank = " " * LABEL_WIDTH
    for number, text in enumerate(texts):
        first, *rest = wrapped(printable(text), blank, blank, width())
        heading = click.style(("" if number else label).ljust(LABEL_WIDTH), bold=True)
        click.echo("\n".join([heading + first[LABEL_WIDTH:], *rest]))


def note(label: str, *texts: str) -> None:
    """Print lines of a report that are no result: --quiet leaves them out."""
    if not quiet():
        say(label, *texts)


def console() -> Any:
    """A rich console on stdout, of 80 columns if that is no terminal."""
    from rich.console import Console

    return Console(width=width(), highlight=False)


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
    show = shows_progress()
    with ProgressBar("compiling for this CPU, once", 0, show=show, delay=BAR_DELAY, transient=True) as bar:

        def progress(done: int, total: int) -> None:
            bar.total = total
            bar.update(done)

        try:
            fastbp.warmup(dtypes, progress, precision=precision)
        except KeyboardInterrupt:
            raise Interrupted("interrupted while compiling; the next run goes on from there") from None
    return time.perf_counter() - started
