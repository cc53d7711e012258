"""`fastbp train`: a network trained on a table or on the embedded digits, measured, and saved."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import click

from fastbp.cli import build, many
from fastbp.cli.checks import (
    check_callbacks,
    check_compare,
    check_effects,
    check_outs,
    check_picture,
    check_precision,
)
from fastbp.cli.defaults import CHECKPOINT_MINUTES, TOL_EPOCHS, VALIDATION_SPLIT, complete
from fastbp.cli.options import (
    FRACTION,
    NOT_NEGATIVE,
    POSITIVE,
    class_weight_option,
    data_options,
    default,
    run_options,
    schedule_option,
)
from fastbp.cli.output import example, json_option, print_json, quiet_option
from fastbp.cli.run import Run, TableRun

TEST_FRACTION = 0.2


@dataclasses.dataclass(frozen=True)
class Settings:
    """The options of the command; None means that the defaults or the data decide."""

    data: str | None
    targets: tuple[str, ...]
    features: tuple[str, ...]
    drop: tuple[str, ...]
    id: tuple[str, ...]
    categorical: tuple[str, ...]
    numeric: tuple[str, ...]
    missing: tuple[str, ...]
    dates: dict[str, str]
    decimal: str | None
    thousands: str | None
    delimiter: str | None
    encoding: str | None
    weight: str | None
    group: str | None
    time: str | None
    log_target: bool
    test: str | None
    refit: bool
    ensemble: int | None
    cross_validate: int | None
    by: str | None
    hidden: tuple[int, ...] | None
    activation: str | None
    loss: str | None
    optimizer: str | None
    lr: float | None
    epochs: int | None
    batch_size: int | None
    test_fraction: float
    standardize: bool | None
    dropout: float
    input_noise: float
    l1: float
    l2: float
    max_norm: float | None
    weight_decay: float | None
    momentum: float | None
    nesterov: bool
    clip_norm: float | None
    clip_value: float | None
    label_smoothing: float
    class_weight: str | None
    schedule: str | None
    warmup_epochs: float
    validation_split: float | None
    early_stopping: int | None
    tol: float | None
    max_seconds: float | None
    checkpoint: str | None
    checkpoint_minutes: float | None
    resume: bool
    history: str | None
    journal: str | None
    plot: str | None
    seed: int
    threads: int | None
    dtype: str
    precision: str
    out: str | None
    compare: str | None
    as_json: bool


@click.command(epilog=example("fastbp train --epochs 5 --out digits.safetensors --plot curves.png"))
@data_options
@click.option("--lr", type=float, help=f"Learning rate.  {default('lr')}")
@click.option("--epochs", type=click.IntRange(min=1), help=f"Passes over the data.  {default('epochs')}")
@click.option(
    "--test-fraction",
    type=FRACTION,
    default=TEST_FRACTION,
    show_default=True,
    help="Share of the rows held out for the test; unused if the file has X_test.",
)
@click.option("--test", type=click.Path(dir_okay=False), metavar="FILE", help="A table to test on, instead.")
@click.option("--refit", is_flag=True, help="Train once more, on the rows too that chose the best epoch of a table.")
@click.option(
    "--ensemble",
    type=click.IntRange(min=2),
    metavar="N",
    help="Train N networks of other seeds; they predict together.",
)
@click.option(
    "--cross-validate", type=click.IntRange(min=2), metavar="K", help="Train and test on K folds of the training rows."
)
@click.option("--by", metavar="COLUMN", help="Train one network for each group of a table's rows.")
@class_weight_option
@schedule_option
@click.option(
    "--warmup-epochs",
    type=NOT_NEGATIVE,
    default=0.0,
    show_default=True,
    help="Epochs (or fractions) in which the learning rate rises from zero, before the schedule begins.",
)
@click.option(
    "--validation-split",
    type=FRACTION,
    help="Share of the training rows that is held out to validate the training.  "
    f"[default: 0; with --early-stopping {VALIDATION_SPLIT:g}; tables: a fifth, which chooses the best epoch]",
)
@click.option(
    "--early-stopping",
    type=click.IntRange(min=1),
    metavar="EPOCHS",
    help="Stop when the loss on the rows of --validation-split has not improved for so many epochs, and keep the best "
    "weights.",
)
@click.option(
    "--tol",
    type=NOT_NEGATIVE,
    help=f"Stop when the training loss has not fallen by more than this for {TOL_EPOCHS} epochs.",
)
@click.option("--max-seconds", type=POSITIVE, help="Stop after so long, in the middle of an epoch too.")
@click.option(
    "--checkpoint",
    type=click.Path(file_okay=False),
    metavar="DIR",
    help="Write the training there now and then, to go on from after a crash.",
)
@click.option(
    "--checkpoint-minutes",
    type=POSITIVE,
    help=f"Time from one checkpoint to the next.  [default: {CHECKPOINT_MINUTES:g}]",
)
@click.option("--resume", is_flag=True, help="Go on from the checkpoint in DIR, if there is one.")
@click.option(
    "--history", type=click.Path(dir_okay=False), metavar="FILE", help="Write losses and rates, .csv or .json."
)
@click.option(
    "--journal", type=click.Path(dir_okay=False), metavar="FILE",
    help="Of --ensemble, --cross-validate and --by: append every network that has ended to FILE (.jsonl); the same "
    "command again trains only what is missing.",
)  # fmt: skip
@click.option("--plot", type=click.Path(dir_okay=False), metavar="FILE", help="Draw the curves: .png, .svg or .pdf.")
@run_options
@click.option("--out", type=click.Path(dir_okay=False), metavar="FILE", help="Save the network (.safetensors).")
@click.option(
    "--compare",
    type=click.Choice(["numpy", "none"]),
    help="Run the same training in pure NumPy too.  [default: numpy for the digits, else none]",
)
@quiet_option
@json_option
def train(**options: Any) -> None:
    """Train a network on DATA, and test it on rows held out.

    DATA is a table with --target NAME: CSV and the like, Parquet or Arrow, gzipped or not; - is what is piped in. Its
    other columns may be numbers, categories, booleans and dates. Or an NPZ with arrays X and y (optionally X_test and
    y_test). Without DATA, the embedded digits: 1,797 images of 8x8 pixels in ten classes.
    """
    settings = Settings(**options)
    check_outs(settings, ("out", "history", "journal", "plot"))
    check_picture(settings.plot, "--plot")
    if settings.history is not None and Path(settings.history).suffix not in (".csv", ".json"):
        raise click.BadParameter("must end in .csv or .json", param_hint="--history")
    # Names are checked before the data is read: a mistyped option is wrong usage, whatever the data.
    hyper = complete(settings)
    optimizer = build.optimizer(settings, hyper)
    check_effects(settings, hyper, optimizer)
    check_compare(settings, optimizer)
    check_callbacks(settings, hyper)
    check_precision(settings)

    if (several := many.mode(settings)) is not None:
        many.show(many.train_several(settings, hyper, optimizer, several), settings)
        return

    from fastbp.cli.load import subject

    found = subject(settings, hyper, optimizer, validate=True)
    build.check_class_weight(settings.class_weight, found.net, found.prepared.y_train)
    kind = Run if found.model is None else TableRun
    result = kind(settings, found.hyper, found.optimizer, found.prepared, found.net, found).result()
    if settings.as_json:
        print_json(result)
