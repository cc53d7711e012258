"""The options that several commands share: what to learn, by what network, and how a run is seeded and spread."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable
from typing import Any

import click

from fastbp.cli.build import arguments
from fastbp.cli.defaults import DIGITS, PLATEAU_EPOCHS, PLATEAU_FACTOR, SCHEDULES, STEP_FACTOR, TABLE

Command = Callable[..., Any]
SEED = 0


class FiniteRange(click.FloatRange):
    """Numbers of a range, without infinity and NaN, which click lets pass: it is not outside of anything."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number.", param, ctx)
        return number


POSITIVE, NOT_NEGATIVE = FiniteRange(min=0.0, min_open=True), FiniteRange(min=0.0)
FRACTION = FiniteRange(0.0, 1.0, max_open=True)


def default(field: str) -> str:
    """The default of a hyper-parameter, as the help of its option shows it."""
    chosen = [getattr(hyper, field) for hyper in (TABLE, DIGITS)]
    arrays, digits = (",".join(map(str, one)) if isinstance(one, tuple) else f"{one}" for one in chosen)
    by_kind = arrays if arrays == digits else f"{arrays}; digits: {digits}"
    return f"[default: {by_kind}; tables: by their size]"


def _hidden(_context: click.Context, _parameter: click.Parameter, value: str | None) -> tuple[int, ...] | None:
    """Parse `128,64`; `none` is a network without hidden layers."""
    if value is None:
        return None
    if value.strip().lower() == "none":
        return ()
    try:
        sizes = tuple(int(part) for part in value.split(","))
    except ValueError:
        sizes = (0,)
    if min(sizes) < 1:
        raise click.BadParameter(f"{value!r} is not a list of positive integers such as 128,64, nor `none`")
    return sizes


class _RegistryOption(click.Option):
    """An option whose help has names of a registry in the place of ``{...}``, loaded when that help is asked for."""

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        from fastbp import losses, optimizers
        from fastbp.validation import listed

        kinds = optimizers.OPTIMIZERS | losses.LOSSES
        names = {
            argument: listed(name for name, kind in kinds.items() if argument in arguments(kind))
            for argument in ("momentum", "nesterov", "label_smoothing")
        }
        names["losses"], names["optimizers"] = ", ".join(losses.LOSSES), ", ".join(optimizers.NAMES)
        names["decoupled"] = listed(name for name, kind in optimizers.OPTIMIZERS.items() if kind.decoupled)
        self.help = (self.help or "").format(**names)
        return super().get_help_record(ctx)


_DATA = (
    click.argument("data", required=False, type=click.Path(dir_okay=False)),
    click.option(
        "--target",
        "targets",
        multiple=True,
        metavar="NAME",
        help="Column of a table to learn; several, for several outputs.",
    ),
    click.option("--hidden", metavar="N,N,...", callback=_hidden, help=f"Hidden layers, or none.  {default('hidden')}"),
    click.option(
        "--activation", metavar="NAME", help=f"One, or one a hidden layer: relu,tanh.  {default('activation')}"
    ),
    click.option(
        "--loss",
        metavar="NAME",
        cls=_RegistryOption,
        help="{losses}.  [default: by y: integers and names mean cross_entropy, floats mse]",
    ),
    click.option(
        "--optimizer", metavar="NAME", cls=_RegistryOption, help="{optimizers}." + f"  {default('optimizer')}"
    ),
    click.option("--batch-size", type=click.IntRange(min=1), help=f"Rows a step.  {default('batch_size')}"),
    click.option(
        "--standardize/--no-standardize",
        default=None,
        help="Centre and scale inputs and regression targets by the training rows; kept in the model.  "
        "[default: on for files, off for the digits]",
    ),
    click.option(
        "--dropout",
        type=FRACTION,
        default=0.0,
        show_default=True,
        help="Chance that a hidden unit is dropped in a training step.",
    ),
    click.option(
        "--input-noise",
        type=NOT_NEGATIVE,
        default=0.0,
        show_default=True,
        help="Standard deviation of normal noise on the inputs, after their scaling.",
    ),
    click.option("--l1", type=NOT_NEGATIVE, default=0.0, help="Penalty on the sum of absolute weights."),
    click.option("--l2", type=NOT_NEGATIVE, default=0.0, help="Penalty on the sum of squared weights."),
    click.option("--max-norm", type=POSITIVE, help="Largest norm of a unit's incoming weights."),
    click.option(
        "--weight-decay",
        type=NOT_NEGATIVE,
        cls=_RegistryOption,
        help="Of weights and biases, as the optimizer has it: {decoupled} apart from the gradient, others as a "
        "penalty.  [default: the optimizer's; adamw 0.01, others 0]",
    ),
    click.option("--momentum", type=FRACTION, cls=_RegistryOption, help="For {momentum}.  [default: 0]"),
    click.option(
        "--nesterov", is_flag=True, cls=_RegistryOption, help="Nesterov's kind of --momentum; for {nesterov}."
    ),
    click.option("--clip-norm", type=POSITIVE, help="Largest norm of the gradient, --l1 and --l2 included."),
    click.option("--clip-value", type=POSITIVE, help="Largest size of each element of the gradient, after that."),
    click.option(
        "--label-smoothing",
        type=FRACTION,
        default=0.0,
        show_default=True,
        cls=_RegistryOption,
        help="Share of each class label that is spread over all classes; for {label_smoothing}.",
    ),
)


def _columns(_context: click.Context, _parameter: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...]:
    """Parse `a,b`, given once or more often; a name with a comma is quoted, as in a CSV."""
    return tuple(one.strip() for value in values for one in next(csv.reader([value], skipinitialspace=True), []))


def _dates(_context: click.Context, _parameter: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    """Parse `day=%d/%m/%Y`."""
    for value in values:
        if "=" not in value or "%" not in value:
            raise click.BadParameter(f"{value!r} is no column and format, such as day=%d/%m/%Y")
    return dict(value.rsplit("=", 1) for value in values)


def _of_columns(name: str, text: str) -> Callable[[Command], Command]:
    return click.option(name, multiple=True, metavar="A,B,...", callback=_columns, help=text)


TEXT_OPTIONS = (
    click.option(
        "--delimiter", metavar="SIGN", callback=lambda _c, _p, value: _delimiter(value),
        help="What stands between cells.  [default: found]",
    ),
    click.option("--encoding", metavar="NAME", help="Of a text file: utf-8, cp1252, ...  [default: found]"),
)  # fmt: skip
TABLES = (
    _of_columns("--features", "Learn from these columns alone."),
    _of_columns("--drop", "Columns to leave out."),
    _of_columns("--id", "Columns that identify rows: no features, but kept beside predictions."),
    _of_columns("--categorical", "Columns, the target too, that are categories or classes, whatever they look like."),
    _of_columns("--numeric", "Columns, the target too, that are numbers."),
    _of_columns("--missing", "Cells that mean a missing value, beside NA, ?, nan, empty ones and their like."),
    click.option(
        "--date", "dates", multiple=True, metavar="COLUMN=FORMAT", callback=_dates,
        help="Format of a column of dates, such as day=%d/%m/%Y.  [default: found]",
    ),
    click.option("--decimal", type=click.Choice([".", ","]), help="How fractions are written.  [default: found]"),
    click.option("--thousands", metavar="SIGN", help="What stands between thousands.  [default: found]"),
    *TEXT_OPTIONS,
    click.option("--weight", metavar="COLUMN", help="Column of the weights of the rows."),
    click.option("--group", metavar="COLUMN", help="Rows with one value there never fall on both sides of a split."),
    click.option("--time", metavar="COLUMN", help="Hold the last rows out, by this column, instead of random ones."),
    click.option("--log-target", is_flag=True, help="Learn the logarithm of a skewed quantity."),
)  # fmt: skip


def _delimiter(value: str | None) -> str | None:
    """One sign; a tab may be written as \\t."""
    if value in ("\\t", "tab"):
        return "\t"
    if value is not None and (len(value) != 1 or not value.isascii()):
        raise click.BadParameter(f"{value!r} is not one sign such as ; or \\t")
    return value


_RUN = (
    click.option(
        "--seed", type=click.IntRange(0, 2**64 - 1), default=SEED, show_default=True, help="Of split and weights."
    ),
    click.option("--threads", type=click.IntRange(min=1), help="[default: what is fastest]"),
    click.option(
        "--dtype",
        type=click.Choice(["float32", "float64"]),
        default="float32",
        show_default=True,
        help="Of all arithmetic.",
    ),
    click.option(
        "--precision",
        type=click.Choice(["float32", "bfloat16"]),
        default="float32",
        show_default=True,
        help="Of the operands of products: bfloat16 pays where `fastbp info` shows it with the higher peak.",
    ),
)


def _all(options: tuple[Callable[[Command], Command], ...], command: Command) -> Command:
    for option in reversed(options):
        command = option(command)
    return command


def data_options(command: Command) -> Command:
    """DATA, and the options that say what to learn from it by what network: --target to --label-smoothing."""
    return _all((*_DATA, *TABLES), command)


def schedule_option(command: Command) -> Command:
    """--schedule."""
    option = click.option(
        "--schedule",
        type=click.Choice(SCHEDULES),
        help="How the learning rate changes over the epochs: not at all (constant); down to nothing along a cosine or "
        "a line; by 5 % an epoch (exponential); up and down once (one-cycle); to "
        f"{STEP_FACTOR:g} of it after each third of them (step); to "
        f"{PLATEAU_FACTOR:g} of it whenever the loss on the rows held out, or on the training rows if there are none, "
        f"has not improved for {PLATEAU_EPOCHS} epochs (plateau).  [default: constant; tables: the recipe's]",
    )
    return option(command)


def class_weight_option(command: Command) -> Command:
    """--class-weight."""
    option = click.option(
        "--class-weight",
        type=click.Choice(["balanced"]),
        help="Let every class count the same in the training, however many rows it has; for classes.",
    )
    return option(command)


def run_options(command: Command) -> Command:
    """--seed to --precision."""
    return _all(_RUN, command)
