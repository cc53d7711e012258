"""The command line: a group that loads a command only when it runs, and turns every failure into one line.

Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted. The commands are in the modules beside this one, which are
all that prints. Set FASTBP_DEBUG=1 to see tracebacks.
"""

from __future__ import annotations

import contextlib
import difflib
import errno
import importlib
import io
import os
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Any

import click

from fastbp._version import __version__
from fastbp.cli.output import Failure, Faults, Interrupted, Usage

# name -> (module, what it does). Said here, so that `fastbp --help` need not import them.
COMMANDS = {
    "train": ("fastbp.cli.train", "Train a network on a table, or on the embedded digits."),
    "predict": ("fastbp.cli.apply", "Apply a saved network to a table."),
    "evaluate": ("fastbp.cli.apply", "Measure a saved network on a table with known targets."),
    "explain": ("fastbp.cli.explain", "Follow one row through a network and back, in numbers."),
    "export": ("fastbp.cli.export", "Write a saved network as ONNX or C."),
    "sweep": ("fastbp.cli.sweep", "Train at many learning rates, and say which is best."),
    "range-test": ("fastbp.cli.range_test", "Raise the learning rate step by step, and suggest one."),
    "bench": ("fastbp.cli.bench", "Time fastbp beside pure NumPy and other libraries."),
    "info": ("fastbp.cli.machine", "Show what a model's file holds, or what this machine is."),
    "warmup": ("fastbp.cli.machine", "Compile everything now, so that no later run has to."),
}


def _replace_unknown_characters() -> None:
    """Let stdout and stderr replace what their encoding has no sign for: a result must not be lost for a bar of it."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors in ("strict", "surrogateescape"):
            stream.reconfigure(errors="replace")


def _fill_missing_streams() -> None:
    """Let stdout and stderr lead nowhere, where the caller has closed them or there is no console (pythonw)."""
    # First the numbers: a data file that came to be number 2 would receive what libraries in C have to say.
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 - as long as the process


@contextlib.contextmanager
def _ending_as_on_interrupt() -> Iterator[None]:
    """Let what asks the process to end (`kill`, a batch system, a closed terminal) do what Ctrl-C does."""
    numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    ours = [number for number in numbers if signal.getsignal(number) is signal.SIG_DFL]
    if threading.current_thread() is not threading.main_thread():
        ours = []
    for number in ours:
        signal.signal(number, signal.default_int_handler)
    try:
        yield
    finally:
        for number in ours:
            signal.signal(number, signal.SIG_DFL)


class LazyGroup(click.Group):
    """A click group over `COMMANDS`."""

    def main(self, *arguments: Any, **options: Any) -> Any:
        _fill_missing_streams()
        _replace_unknown_characters()
        with _ending_as_on_interrupt():
            return super().main(*arguments, **options)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command = getattr(importlib.import_module(COMMANDS[cmd_name][0]), cmd_name.replace("-", "_"))
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        near = difflib.get_close_matches(args[0], COMMANDS, n=1)
        if args[0] not in COMMANDS and near:
            ctx.fail(f"No such command {args[0]!r}. Did you mean {near[0]!r}?")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except click.UsageError as error:
            raise Usage.of(error) from None
        # Click's own: exit codes, and failures. A closed pipe, as in `fastbp predict ... | head`, click ends quietly.
        except (click.ClickException, click.exceptions.Exit, click.Abort, BrokenPipeError):
            raise
        except KeyboardInterrupt:
            raise Interrupted("interrupted; nothing was kept") from None
        except Exception as error:
            if os.environ.get("FASTBP_DEBUG"):
                raise
            several = len(getattr(error, "faults", ())) > 1
            raise (Faults if several else Failure)(explain(error)) from error


def explain(error: Exception) -> str:
    """One line that says what went wrong and how to mend it."""
    from fastbp.errors import DivergenceError

    text = str(error) or type(error).__name__
    if isinstance(error, DivergenceError):
        advice = error.advice("--lr", "--standardize", "--optimizer")
        return "; ".join([f"the loss is not finite at {error.place()}", advice, *getattr(error, "__notes__", ())])
    if isinstance(error, OSError) and error.strerror:
        full = error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))
        nameless = "standard output: " if full else ""  # all files are named
        where = f"{error.filename}: " if error.filename else nameless
        return f"{where}{error.strerror}; {'make room there' if full else 'check the path and its permissions'}"
    if isinstance(error, MemoryError):
        return f"out of memory: {text}; use fewer rows, or float32 data"
    if isinstance(error, ImportError):
        return f"{text}; install it, or reinstall fastbp" if error.name else text  # without a name it is our own word
    if isinstance(error, ValueError | TypeError | OSError):
        return text
    return f"unexpected {type(error).__name__}: {text}; run again with FASTBP_DEBUG=1 and report the traceback"


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="fastbp")
def main() -> None:
    """Train feed-forward networks on the CPU, as fast as it allows.

    Try `fastbp train`: it needs no data.
    """


if __name__ == "__main__":
    main(prog_name="fastbp")
