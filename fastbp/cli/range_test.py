"""`fastbp range-test`: train while the learning rate rises, show where the loss falls and climbs, and suggest rates."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import click

from fastbp.cli import build
from fastbp.cli.checks import check_effects, check_outs, check_picture, check_precision
from fastbp.cli.defaults import complete
from fastbp.cli.options import FRACTION, class_weight_option, data_options, run_options
from fastbp.cli.output import (
    echo,
    example,
    json_option,
    make_ready,
    note,
    print_json,
    quiet_option,
    say,
    seconds_text,
    shows_progress,
)
from fastbp.cli.summary import of_network
from fastbp.cli.train import train
from fastbp.io.overview import Overview
from fastbp.validation import counted

if TYPE_CHECKING:
    from fastbp.many.range_result import RangeTest


def _span(_context: click.Context, _parameter: click.Parameter, value: str) -> tuple[float, float]:
    """Parse `1e-6:10`."""
    try:
        low, high = (float(part) for part in value.split(":"))
    except ValueError:
        low = high = 0.0
    if not 0.0 < low < high < float("inf"):
        raise click.BadParameter(f"{value!r} is not a range such as 1e-6:10, from the lower to the higher rate")
    return low, high


@click.command("range-test", epilog=example("fastbp range-test --steps 200 --plot range.png"))
@data_options
@click.option("--lr", "span", metavar="LO:HI", default="1e-6:10", show_default=True, callback=_span, help="The ramp.")
@click.option("--steps", type=click.IntRange(min=20), default=500, show_default=True, help="Steps of the ramp.")
@click.option(
    "--ramp", type=click.Choice(["exponential", "linear"]), default="exponential", show_default=True, help="Its shape."
)
@click.option(
    "--seeds",
    type=click.IntRange(min=1),
    default=3,
    show_default=True,
    help="From --seed on: weights and batches.",
)
@click.option(
    "--smoothing",
    type=FRACTION,
    help="Weight of the past in the running mean of the loss.  [default: lags by a 25th of the ramp]",
)
@click.option("--held-out", is_flag=True, help="Judge by the loss on the rows that `train` would test on.")
@click.option(
    "--metric", default="loss", show_default=True, metavar="NAME",
    help="With --held-out, judge by this: accuracy, balanced_accuracy, r2, rmse or mae.",
)  # fmt: skip
@class_weight_option
@click.option("--plot", type=click.Path(dir_okay=False), metavar="FILE", help="Draw it: .png, .svg or .pdf.")
@click.option("--csv", type=click.Path(dir_okay=False), metavar="FILE", help="Write a line a step.")
@run_options
@quiet_option
@json_option
def range_test(**options: Any) -> None:
    """Train on DATA while the learning rate rises from step to step, and suggest rates.

    DATA, network and rows are those of `fastbp train`; without DATA, the embedded digits. A quick look by a few steps
    at each rate, not a proof.
    """
    # What is not offered here is as `train` has it: the share of rows held out, for one.
    settings: Any = SimpleNamespace(**{**train.make_context("train", []).params, **options})
    check_outs(settings, ("plot", "csv"))
    check_picture(settings.plot, "--plot")
    hyper = complete(settings)
    optimizer = build.optimizer(settings, hyper)
    check_effects(settings, hyper, optimizer, rates=True)
    check_precision(settings)
    if settings.metric != "loss" and not settings.held_out:
        raise click.UsageError("--metric is measured on rows held out: add --held-out")

    from fastbp.cli.load import subject
    from fastbp.many.range_test import lr_range_test

    found = subject(settings, hyper, optimizer)
    prepared, net, hyper, optimizer = found.prepared, found.net, found.hyper, found.optimizer
    build.check_class_weight(settings.class_weight, net, prepared.y_train)
    validation: Any = None
    if settings.held_out:
        test = None if found.ready is None else found.ready.test
        weighed = () if test is None or test.weight is None else (test.weight,)
        validation = (prepared.X_test, prepared.y_test, *weighed)
    startup = make_ready([net.dtype.name], settings.precision)
    result = lr_range_test(
        net,
        prepared.X_train,
        prepared.y_train,
        lr_min=settings.span[0],
        lr_max=settings.span[1],
        n_steps=settings.steps,
        ramp=settings.ramp,
        batch_size=hyper.batch_size,
        optimizer=optimizer,
        smoothing=settings.smoothing,
        seeds=settings.seeds,
        validation_data=validation,
        sample_weight=found.weight,
        class_weight=settings.class_weight,
        metric=settings.metric,
        threads=settings.threads,
        precision=settings.precision,
        progress=shows_progress(settings.as_json),
    )
    if settings.csv is not None:
        result.to_csv(settings.csv)
    if settings.plot is not None:
        result.plot(settings.plot)
    if settings.as_json:
        print_json(of_network(settings, hyper, prepared, net) | result.document())
        return
    note("data", *prepared.notes)
    note("network", f"{'-'.join(map(str, net.sizes))}, {hyper.activation}, {net.n_parameters:,} parameters")
    _show(result, startup)
    for label, path in (("picture", settings.plot), ("table", settings.csv)):
        if path is not None:
            say(label, f"in {path}")


def _show(result: RangeTest, startup: float) -> None:
    """The ramp, what stopped it, the suggestions as a table, and what to bear in mind."""
    said = result.settings
    note(
        "ramp",
        f"{said['optimizer']}, lr {said['lr_min']:g} to {said['lr_max']:g} in {len(result.learning_rates)} steps "
        f"({said['ramp']}), batches of {said['batch_size']}, {counted(len(result.seeds), 'seed')}, "
        f"{seconds_text(result.seconds)} (after {seconds_text(startup)} of start-up)",
    )
    ends = [reason for reason in result.stopped if reason]
    first = f", one at {ends[0]}" if ends else ": the loss never climbed that far"
    note("stopped", f"{len(ends)} of {counted(len(result.seeds), 'seed')}{first}")
    found = result.overview()
    echo(Overview("", found.head, found.rows).text())
    note("note", *result.notes)
