"""The options that several commands share: what to learn, by what network, and how a run is seeded and spread."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from fastbp.commands.recipe import DIGITS_RECIPE, SCHEDULES, TABLE_RECIPE

Command = Callable[..., Any]
SEED = 0


def default(field: str) -> str:
    """The default of an option of the recipes, as its help shows it."""
    chosen = [getattr(recipe, field) for recipe in (TABLE_RECIPE, DIGITS_RECIPE)]
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


def check_out(out: str | None, option: str) -> None:
    """Refuse a file that cannot be written before, not after, the work."""
    if out is None:
        return
    folder = Path(out).resolve().parent
    if not folder.is_dir():
        raise click.BadParameter(f"the folder {str(folder)!r} does not exist", param_hint=option)
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise click.BadParameter(f"{out!r} cannot be written: {error.strerror}", param_hint=option) from error


class _OptimizerOption(click.Option):
    """An option whose help names the optimisers; their registry is loaded when that help is asked for."""

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        from fastbp import optimizers

        self.help = f"{', '.join(optimizers.NAMES)}.  {default('optimizer')}"
        return super().get_help_record(ctx)


_PROBLEM = (
    click.argument("data", required=False, type=click.Path(dir_okay=False)),
    click.option("--target", metavar="NAME", help="The column of a CSV to learn."),
    click.option("--hidden", metavar="N,N,...", callback=_hidden, help=f"Hidden layers, or none.  {default('hidden')}"),
    click.option(
        "--activation", metavar="NAME", help=f"One, or one a hidden layer: relu,tanh.  {default('activation')}"
    ),
    click.option(
        "--loss",
        metavar="NAME",
        help="cross_entropy, binary_cross_entropy, mse, mae, huber, poisson.  [default: by y: integers and names mean "
        "cross_entropy, floats mse]",
    ),
    click.option("--optimizer", metavar="NAME", cls=_OptimizerOption),
    click.option("--batch-size", type=click.IntRange(min=1), help=f"Rows a step.  {default('batch_size')}"),
    click.option(
        "--standardize/--no-standardize",
        default=None,
        help="Centre and scale inputs and regression targets by the training rows; kept in the model.  "
        "[default: on for files, off for the digits]",
    ),
    click.option(
        "--dropout",
        type=click.FloatRange(0.0, 1.0, max_open=True),
        default=0.0,
        show_default=True,
        help="Chance that a hidden unit is dropped in a training step.",
    ),
    click.option(
        "--input-noise",
        type=click.FloatRange(min=0.0),
        default=0.0,
        show_default=True,
        help="Standard deviation of normal noise on the inputs, after their scaling.",
    ),
    click.option("--l1", type=click.FloatRange(min=0.0), default=0.0, help="Penalty on the sum of |weight|."),
    click.option("--l2", type=click.FloatRange(min=0.0), default=0.0, help="Penalty on the sum of squared weights."),
    click.option(
        "--max-norm", type=click.FloatRange(min=0.0, min_open=True), help="Largest norm of a unit's incoming weights."
    ),
    click.option("--clip-norm", type=click.FloatRange(min=0.0, min_open=True), help="Largest norm of the gradient."),
    click.option(
        "--label-smoothing",
        type=click.FloatRange(0.0, 1.0, max_open=True),
        default=0.0,
        show_default=True,
        help="Share of each class label that is spread over all classes; for cross_entropy.",
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


def problem_options(command: Command) -> Command:
    """DATA, and the options that say what to learn from it by what network: --target to --label-smoothing."""
    return _all(_PROBLEM, command)


def schedule_option(command: Command) -> Command:
    """--schedule."""
    option = click.option(
        "--schedule",
        type=click.Choice(SCHEDULES),
        default="constant",
        show_default=True,
        help="How the learning rate changes over the epochs: down to nothing along a cosine or a line, by 5 % an "
        "epoch, or up and down once.",
    )
    return option(command)


def run_options(command: Command) -> Command:
    """--seed and --threads."""
    return _all(_RUN, command)
