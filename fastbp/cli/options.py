"""The options that several commands share: what to learn, by what network, and how a run is seeded and spread."""

from __future__ import annotations

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
    table, digits = (",".join(map(str, one)) if isinstance(one, tuple) else f"{one}" for one in chosen)
    return f"[default: {table}]" if table == digits else f"[default: {table}; digits: {digits}]"


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
    click.option("--target", metavar="NAME", help="The column of a CSV to learn."),
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
    click.option("--l1", type=NOT_NEGATIVE, default=0.0, help="Penalty on the sum of |weight|."),
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
_RUN = (
    click.option(
        "--seed", type=click.IntRange(0, 2**64 - 1), default=SEED, show_default=True, help="Of split and weights."
    ),
    click.option("--threads", type=click.IntRange(min=1), help="[default: what is fastest]"),
)


def _all(options: tuple[Callable[[Command], Command], ...], command: Command) -> Command:
    for option in reversed(options):
        command = option(command)
    return command


def data_options(command: Command) -> Command:
    """DATA, and the options that say what to learn from it by what network: --target to --label-smoothing."""
    return _all(_DATA, command)


def schedule_option(command: Command) -> Command:
    """--schedule."""
    option = click.option(
        "--schedule",
        type=click.Choice(SCHEDULES),
        default="constant",
        show_default=True,
        help="How the learning rate changes over the epochs: down to nothing along a cosine or a line; by 5 % an epoch "
        f"(exponential); up and down once (one-cycle); to {STEP_FACTOR:g} of it after each third of them (step); to "
        f"{PLATEAU_FACTOR:g} of it whenever the loss on the rows held out, or on the training rows if there are none, "
        f"has not improved for {PLATEAU_EPOCHS} epochs (plateau).",
    )
    return option(command)


def run_options(command: Command) -> Command:
    """--seed and --threads."""
    return _all(_RUN, command)
