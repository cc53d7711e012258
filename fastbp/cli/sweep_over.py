"""`fastbp sweep --over NAME=VALUES`: any settings as axes, instead of learning rates alone."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import click

from fastbp.cli import build
from fastbp.cli.output import Failure, Interrupted, echo, print_json, quiet, say, shows_progress, warn, width
from fastbp.cli.summary import of_network
from fastbp.io.overview import Overview

# Options of sweeps over learning rates alone.
_OF_RATES = {
    "halving": "--halving", "target_loss": "--target-loss", "stability": "--stability",
}  # fmt: skip


def check(settings: Any, rates_given: bool) -> None:
    """Refuse options that say nothing here."""
    for name, option in _OF_RATES.items():
        if getattr(settings, name, None):
            raise click.UsageError(f"{option} is for sweeps over learning rates alone: leave it or --over out")
    if rates_given:
        raise click.UsageError("with --over, learning rates are an axis like others: --over lr=1e-4:1e-1:7")
    if settings.sampling != "grid" and settings.points is None:
        raise click.UsageError(f"--sampling {settings.sampling} draws points: say how many, by --points N")
    if settings.sampling == "grid" and settings.points is not None:
        raise click.UsageError("--points is for --sampling random or sobol: a grid has all combinations")
    from fastbp.many import space

    try:  # before the data are read
        space.check(axes(settings.over, drawn=settings.sampling != "grid"))
    except (ValueError, TypeError) as error:
        raise click.BadParameter(str(error), param_hint="--over") from None


def axes(given: Sequence[str], *, drawn: bool) -> dict[str, Any]:
    """Parse `batch_size=16,32`, `weight_decay=0:0.1:5` (low, high, how many) and, to draw from, `lr=1e-4:1e-1`."""
    found: dict[str, Any] = {}
    for text in given:
        name, sign, values = text.partition("=")
        name = name.strip().replace("-", "_")
        if not sign or not name or not values:
            raise click.BadParameter(f"{text!r} is no NAME=VALUES such as batch_size=16,32,64", param_hint="--over")
        if name in found:
            raise click.BadParameter(f"{name} is given twice: name all its values at once", param_hint="--over")
        try:
            found[name] = _range(name, values, drawn) if ":" in values else _list(name, values)
        except ValueError as error:
            raise click.BadParameter(f"{text!r}: {error}", param_hint="--over") from None
    return found


def _range(name: str, values: str, drawn: bool) -> Any:
    import numpy as np

    parts = values.split(":")
    log = name == "lr" or parts[-1] == "log"
    numbers = parts[:-1] if parts[-1] == "log" else parts
    if len(numbers) not in (2, 3) or (len(numbers) == 2) != drawn:
        wanted = "LO:HI, or LO:HI:log" if drawn else "LO:HI:N, or LO:HI:N:log"
        raise ValueError(f"a range is {wanted}")
    low, high = float(numbers[0]), float(numbers[1])
    if not low < high or (log and low <= 0.0):
        raise ValueError("a range runs from a smaller to a larger number" + " above 0" * log)
    if drawn:
        return (low, high, "log") if log else (low, high)
    n = int(numbers[2])
    if n < 2:
        raise ValueError("a range has at least two values")
    spaced = np.geomspace(low, high, n) if log else np.linspace(low, high, n)
    whole = name in ("batch_size", "epochs", "hidden")
    return [round(one) for one in spaced.tolist()] if whole else spaced.tolist()


def _list(name: str, values: str) -> list[Any]:
    if name == "hidden":  # 64 or 64-32, none for no hidden layer
        return [_sizes(one.strip()) for one in values.split(",")]
    return [_value(one.strip()) for one in values.split(",")]


def _sizes(text: str) -> tuple[int, ...]:
    if text == "none":
        return ()
    if not all(part.isdigit() for part in text.split("-")):
        raise ValueError(f"{text!r} is no hidden layers: 64 is one of 64 units, 64-32 are two, none is none")
    return tuple(map(int, text.split("-")))


def _value(text: str) -> Any:
    """A number, a flag, nothing, or a name."""
    known = {"true": True, "false": False, "none": None}
    if text.lower() in known:
        return known[text.lower()]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def run(settings: Any, found: Any, executor: Any, command: str, earlier: Any = None) -> None:
    """The sweep, its files, and what is printed."""
    from fastbp.errors import SweepInterrupted
    from fastbp.many import against_points
    from fastbp.many.sweep import sweep
    from fastbp.many.sweep_text import describe

    drawn = settings.sampling != "grid"
    prepared, net, hyper = found.prepared, found.net, found.hyper
    arguments: dict[str, Any] = {
        "optimizer": found.optimizer, "threads": settings.threads, "executor": executor, "sample_weight": found.weight,
        "callbacks": build.callbacks(settings),
    }  # fmt: skip
    over = axes(settings.over, drawn=drawn)
    shared = {"epochs": settings.epochs, "batch_size": hyper.batch_size, "class_weight": settings.class_weight}
    for name, value in shared.items():
        if name not in over:
            arguments[name] = value
    if "precision" not in over:
        arguments["precision"] = settings.precision
    if "schedule" not in over:
        arguments["schedule"] = build.schedule(settings, settings.epochs, held_out=True)
    interrupted = ""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            result = sweep(
                net, prepared.X_train, prepared.y_train, over, seeds=settings.seeds, sampling=settings.sampling,
                n=settings.points, metric=settings.metric, journal=settings.journal,
                progress=shows_progress(settings.as_json), **arguments,
            )  # fmt: skip
        except SweepInterrupted as error:
            result, interrupted = error.result, str(error)
        except (ValueError, TypeError) as error:
            raise Failure(str(error)) from error
    for text in dict.fromkeys(str(one.message) for one in caught):
        warn(text)
    result.about["data_name"] = "the embedded digits" if settings.data is None else str(settings.data)
    if settings.csv is not None:
        result.to_csv(settings.csv)
    if settings.plot is not None:
        result.plot(settings.plot)
    if settings.report is not None:
        result.report(settings.report, command=command, against=settings.against)
    if settings.as_json:
        changes = [] if earlier is None else against_points.lines(result, earlier)
        about = of_network(settings, hyper, prepared, net) | {"command": command, "against": changes}
        print_json(about | result.document())
    else:
        if quiet():
            found_so = result.overview()
            echo(Overview(found_so.title, found_so.head, found_so.rows).text())
        else:
            echo(f"\n{describe(result, width())}\n")
        for line in [] if earlier is None else against_points.lines(result, earlier, against_points.FEW):
            say("against", line)
        files = {"table": settings.csv, "picture": settings.plot, "report": settings.report}
        for label, path in (files | {"journal": settings.journal}).items():
            if path is not None:
                say(label, f"in {path}")
    if interrupted:
        raise Interrupted(f"interrupted: {interrupted}")
