"""`fastbp sweep`: many learning rates and seeds side by side; which rate is best, as text, pictures and a page."""

from __future__ import annotations

import contextlib
import importlib.util
import math
import re
import shlex
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import click

from fastbp.cli import build, sweep_over
from fastbp.cli.checks import check_effects, check_outs, check_picture, check_precision
from fastbp.cli.defaults import complete
from fastbp.cli.options import class_weight_option, data_options, run_options, schedule_option
from fastbp.cli.output import (
    Failure,
    Interrupted,
    echo,
    example,
    json_option,
    make_ready,
    note,
    print_json,
    quiet,
    quiet_option,
    say,
    seconds_text,
    shows_progress,
    warn,
    width,
)
from fastbp.cli.summary import of_network
from fastbp.cli.train import train
from fastbp.io.overview import Overview

if TYPE_CHECKING:
    from fastbp.data.prepare import PreparedData
    from fastbp.many.result import LrSweep
    from fastbp.network import MLP

# What an option needs: package, extra.
EXTRAS = {"report": ("plotly", "report"), "plot": ("matplotlib", "plot"), "dask": ("distributed", "dask")}
FILES = ("report", "plot", "csv", "journal")
RATES, EPOCHS = "1e-4:10:25", 5  # where the user does not say, but for tables


class RecordingCommand(click.Command):
    """A command that records its command line, for the report."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.meta["command"] = shlex.join(["fastbp", str(ctx.info_name), *args])
        return super().parse_args(ctx, args)


def _rates(_context: click.Context, _parameter: click.Parameter, value: str | None) -> list[float] | None:
    return None if value is None else _parsed(value)


def _parsed(value: str) -> list[float]:
    """Parse `1e-4:10:25`, from the lowest to the highest in so many equal steps of the logarithm, or `0.01,0.1,1`."""
    import numpy as np

    try:
        if ":" in value:
            low, high, count = value.split(":")
            low_rate, high_rate, n = float(low), float(high), int(count)
            if not (0.0 < low_rate < high_rate < math.inf and n >= 2):
                raise ValueError
            rates: list[float] = np.geomspace(low_rate, high_rate, n).tolist()
        else:
            rates = [float(part) for part in value.split(",")]
        if not all(0.0 < rate < math.inf for rate in rates):
            raise ValueError
    except ValueError:
        raise click.BadParameter(
            f"{value!r} is neither a range such as 1e-4:10:25 (lowest, highest, how many) nor positive numbers such as "
            "0.001,0.01,0.1"
        ) from None
    return rates


def _scheduler(_context: click.Context, _parameter: click.Parameter, value: str | None) -> str | None:
    if value is not None and not re.fullmatch(
        r"(tcp|tls|ws|wss)://[^\s/:]+(:\d+)?/?|(tcp|tls)://\[[^\s]+\]:\d+", value
    ):
        raise click.BadParameter(f"{value!r} is not the address of a scheduler, such as tcp://host:8786")
    return value


@click.command(cls=RecordingCommand, epilog=example("fastbp sweep --lr 1e-3:1:7 --seeds 2 --epochs 3 --plot sweep.png"))
@data_options
@click.option(
    "--lr", "rates", metavar="LO:HI:N", callback=_rates,
    help="Rates at equal steps of the logarithm; or a list, 0.001,0.01.  "
    f"[default: {RATES}; tables: 25 from a hundredth of the rate of `train` to ten times that]",
)  # fmt: skip
@click.option(
    "--over", multiple=True, metavar="NAME=VALUES",
    help="Sweep over another setting: batch_size=16,32,64, weight_decay=0:0.1:5 (five values) or hidden=64,64-32 (one "
    "layer, and two); several, over all combinations.",
)  # fmt: skip
@click.option(
    "--sampling", type=click.Choice(["grid", "random", "sobol"]), default="grid", show_default=True,
    help="Of --over: all combinations, or --points drawn from ranges LO:HI.",
)  # fmt: skip
@click.option("--points", type=click.IntRange(min=1), metavar="N", help="How many combinations are drawn.")
@click.option(
    "--metric", default="loss", show_default=True, metavar="NAME",
    help="What is compared, of the rows held out: loss, accuracy, balanced_accuracy, r2, rmse or mae.",
)  # fmt: skip
@class_weight_option
@click.option(
    "--early-stopping", type=click.IntRange(min=1), metavar="EPOCHS",
    help="End a training when the loss on the rows held out has not improved for so many epochs; its best one counts.",
)  # fmt: skip
@click.option(
    "--seeds", type=click.IntRange(min=1), default=5, show_default=True, help="Trainings of each rate, from --seed on."
)
@click.option(
    "--epochs", type=click.IntRange(min=1),
    help=f"Passes over the data.  [default: {EPOCHS}; tables: an eighth of those of `train`]",
)  # fmt: skip
@schedule_option
@click.option(
    "--halving", type=click.IntRange(min=2), metavar="N",
    help="Successive halving: train all rates briefly, the best one in N of them for longer, and so forth.",
)  # fmt: skip
@click.option("--target-loss", type=float, help="Validation loss to which the time is taken.")
@click.option("--report", type=click.Path(dir_okay=False), metavar="FILE", help="Write a web page: .html.")
@click.option(
    "--against",
    type=click.Path(exists=True, dir_okay=False),
    metavar="FILE",
    help="Compare with an earlier sweep of the same kind, as --json or to_json wrote it.",
)
@click.option("--plot", type=click.Path(dir_okay=False), metavar="FILE", help="Draw the curve: .png, .svg or .pdf.")
@click.option("--csv", type=click.Path(dir_okay=False), metavar="FILE", help="Write a line a run.")
@click.option("--stability", is_flag=True, help="Say, and draw, from which rate on descent is unstable: a diagnostic.")
@click.option(
    "--journal", type=click.Path(dir_okay=False), metavar="FILE",
    help="Append every finished run to FILE (.jsonl); the same command again does only what is missing.",
)  # fmt: skip
@click.option(
    "--dask", metavar="ADDRESS", callback=_scheduler, help="Train on a Dask cluster that you trust: tcp://host:8786."
)
@run_options
@quiet_option
@json_option
@click.pass_context
def sweep(context: click.Context, /, **options: Any) -> None:
    """Train on DATA with many learning rates and seeds, and say which rate is best.

    DATA, network and rows are those of `fastbp train`; without DATA, the embedded digits. Each seed holds out a fifth
    of the rows to compare the rates by; the rows that `train` tests on stay unseen.
    """
    # What is not offered here is as `train` has it: the share of rows held out for the test, for one.
    settings: Any = SimpleNamespace(**{**train.make_context("train", []).params, "lr": None, **options})
    _check_files(settings)
    from fastbp.many import against, against_points

    earlier: Any = None
    try:
        if settings.against is not None:
            earlier = (against_points if settings.over else against).read(settings.against)
    except (OSError, ValueError) as error:
        raise click.BadParameter(str(error), param_hint="--against") from None
    if settings.over:
        given = context.get_parameter_source("rates") is click.core.ParameterSource.COMMANDLINE
        sweep_over.check(settings, given)
    elif settings.halving is not None and settings.early_stopping is not None:
        raise click.UsageError("--halving decides itself which trainings end early: leave --early-stopping out")
    hyper = complete(settings)
    optimizer = build.optimizer(settings, hyper)
    check_effects(settings, hyper, optimizer, rates=True)
    check_precision(settings)
    if settings.target_loss is not None and not math.isfinite(settings.target_loss):
        raise click.BadParameter("must be a finite number", param_hint="--target-loss")

    from fastbp.cli.load import subject

    found = subject(settings, hyper, optimizer)
    prepared, net, hyper, optimizer = found.prepared, found.net, found.hyper, found.optimizer
    schedule = _complete(settings, found)
    build.check_class_weight(settings.class_weight, net, prepared.y_train)
    startup = make_ready([net.dtype.name], settings.precision)
    if not settings.as_json:
        _describe(settings, prepared, net, startup)
    if settings.over:
        with _cluster(settings.dask) as executor:
            sweep_over.run(settings, found, executor, context.meta["command"], earlier)
        return
    arguments = {
        "seeds": settings.seeds, "epochs": settings.epochs, "batch_size": hyper.batch_size, "optimizer": optimizer,
        "schedule": schedule,
        "halving": settings.halving, "target_loss": settings.target_loss, "threads": settings.threads,
        "precision": settings.precision, "journal": settings.journal, "progress": shows_progress(settings.as_json),
        "metric": settings.metric, "sample_weight": found.weight, "class_weight": settings.class_weight,
        "callbacks": build.callbacks(settings),
    }  # fmt: skip
    result, interrupted = _run(net, prepared, settings, arguments)
    result.about["data_name"] = "the embedded digits" if settings.data is None else str(settings.data)
    changes = [] if earlier is None else against.lines(result, earlier)
    stability, written = None, {}
    try:  # files first: what is printed may meet a closed pipe, or a full disk
        stability = _stability(net, prepared, optimizer, settings)
        written = _write(result, settings, context.meta["command"], stability)
    except KeyboardInterrupt:
        kept = f"; finished runs are in {settings.journal}" if settings.journal is not None else ""
        raise Interrupted(f"interrupted before all files were written{kept}") from None
    finally:
        if settings.as_json:
            about = of_network(settings, hyper, prepared, net)
            print_json(about | {"command": context.meta["command"], "against": changes} | result.to_dict())
        else:
            _show(result, stability, written, changes)
    if interrupted:
        raise Interrupted(f"interrupted: {interrupted}")


def _complete(settings: Any, found: Any) -> Any:
    """Rates and epochs where the options say nothing: of a table, around those of its recipe. Returns the schedule."""
    of_table = None if found.ready is None else found.ready.recipe.training
    if settings.rates is None:
        center = found.hyper.lr
        settings.rates = _parsed(RATES) if of_table is None else _parsed(f"{center / 100:g}:{center * 10:g}:25")
    if settings.epochs is None:
        settings.epochs = EPOCHS if of_table is None else max(EPOCHS, of_table["epochs"] // 8)
    if of_table is not None and settings.schedule is None and not settings.warmup_epochs:
        from fastbp.tables.recipe import stretched

        return stretched(of_table.get("schedule"), settings.epochs)
    return build.schedule(settings, settings.epochs, held_out=True)


def _check_files(settings: Any) -> None:
    """Refuse what cannot be written, or needs a package that is not there, before the work."""
    check_outs(settings, FILES)
    check_picture(settings.plot, "--plot")
    if settings.report is not None and Path(settings.report).suffix.lower() not in (".html", ".htm"):
        raise click.BadParameter("must end in .html", param_hint="--report")
    for option, (package, extra) in EXTRAS.items():
        if getattr(settings, option) is not None and importlib.util.find_spec(package) is None:
            raise Failure(f'--{option} needs {package}: pip install "fastbp[{extra}]"')


def _describe(settings: Any, prepared: PreparedData, net: MLP, startup: float) -> None:
    held = "of the rows to train on, each seed holds out a fifth to compare the rates by"
    for option in ("group", "time"):
        if getattr(settings, option) is not None:
            held += f", at random (--{option} splits the rows for the test alone)"
            break
    note("data", *prepared.notes, held)
    note("start-up", seconds_text(startup))


def _run(net: MLP, prepared: PreparedData, settings: Any, arguments: dict[str, Any]) -> tuple[LrSweep, str]:
    """The sweep, and what was kept if it was interrupted."""
    from fastbp.errors import SweepInterrupted
    from fastbp.many.runs import lr_sweep

    with _cluster(settings.dask) as executor, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        interrupted = ""
        try:
            result = lr_sweep(net, prepared.X_train, prepared.y_train, settings.rates, executor=executor, **arguments)
        except SweepInterrupted as error:
            result, interrupted = error.result, str(error)
    for warning in caught:
        if str(warning.message) != result.edge:  # which is among the notes
            warn(str(warning.message))
    return result, interrupted


@contextlib.contextmanager
def _cluster(address: str | None) -> Iterator[Any]:
    """The executor of --dask, or None."""
    if address is None:
        yield None
        return
    from fastbp.many.dask import DaskExecutor

    with DaskExecutor(address) as executor:
        yield executor


def _stability(net: MLP, prepared: PreparedData, optimizer: Any, settings: Any) -> Any:
    """What --stability asks for, or None."""
    if not settings.stability:
        return None
    from fastbp.many.stability import lr_stability

    return lr_stability(net, prepared.X_train, prepared.y_train, optimizer=optimizer)


def _show(result: LrSweep, stability: Any, written: dict[str, str], changes: list[str]) -> None:
    """The result for people, what has changed, and where its files are."""
    from fastbp.many.text import describe

    if quiet():
        found = result.overview()
        echo(Overview(found.title, found.head, found.rows).text())
    else:
        echo(f"\n{describe(result, width())}\n")
    for line in changes:
        say("against", line)
    if stability is not None:
        line = f"in full batches from lr {stability.lines[0]:.3g} on, at the initial weights"
        say("unstable", f"{line}; {stability.caveat}")
    for label, path in written.items():
        say(label, f"in {path}")


def _write(result: LrSweep, settings: Any, command: str, stability: Any) -> dict[str, str]:
    """Write the files that were asked for; returns label -> path."""
    line = stability if stability is not None and math.isfinite(stability.lines[0]) else None
    if settings.csv is not None:
        result.to_csv(settings.csv)
    if settings.plot is not None:
        result.plot(settings.plot, stability=line)
    if settings.report is not None:
        result.report(settings.report, stability=line, command=command, against=settings.against)
    labels = {"table": settings.csv, "picture": settings.plot, "report": settings.report, "journal": settings.journal}
    return {label: path for label, path in labels.items() if path is not None}
