"""What the commands share: how results, failures and interruptions are printed."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import IO, Any

import click


class Failure(click.ClickException):
    """Ends the program with exit code 1 and one line on stderr."""

    def show(self, file: IO[Any] | None = None) -> None:
        click.echo(f"fastbp: {' '.join(self.message.split())}", file=file, err=file is None)


class Interrupted(Failure):
    """Ends the program after Ctrl-C, with the shell's exit code for it and a line that says what was kept."""

    exit_code = 130


json_option = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON, and nothing else.")


def printer(as_json: bool) -> Callable[[str], None]:
    """Return what prints a line for people: silent if the output is for a program."""
    return (lambda _line: None) if as_json else click.echo


def print_json(result: dict[str, Any]) -> None:
    """Print `result` as strict JSON; what JSON has no number for becomes null."""
    click.echo(json.dumps(_jsonable(result), indent=2, allow_nan=False))


def score_text(scores: dict[str, float]) -> str:
    """Format what `evaluate` returns, the score before the loss."""
    if "accuracy" in scores:
        return f"accuracy {100 * scores['accuracy']:.2f} %, loss {scores['loss']:.4g}"
    return f"r2 {scores['r2']:.4f}, loss {scores['loss']:.4g}"


def _jsonable(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _jsonable(one) for key, one in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_jsonable(one) for one in value]
    if hasattr(value, "tolist"):  # NumPy arrays and scalars
        return _jsonable(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, bool | int | str) else str(value)
