"""`fastbp explain`: one row through a network and back, in numbers, in the terminal or as a page."""

from __future__ import annotations

import dataclasses
import shlex
import sys
from typing import TYPE_CHECKING, Any

import click

from fastbp.cli import several
from fastbp.cli.apply import load, of_table, read, targets_for
from fastbp.cli.checks import check_out
from fastbp.cli.options import POSITIVE, TEXT_OPTIONS
from fastbp.cli.output import console, echo, example, json_option, make_ready, print_json, width
from fastbp.cli.subject import opened
from fastbp.cli.table import told

if TYPE_CHECKING:
    from fastbp.walkthrough.explanation import Explanation

# What a line is -> how a terminal shows it: colours that can be read on light and on dark ground.
_STYLES = {
    "title": "bold", "heading": "bold magenta", "formula": "italic", "head": "underline", "written": "", "note": "",
    "plain": "", "good": "bold green", "bad": "bold red",
}  # fmt: skip
_UNITS = 32


def _of_text(command: Any) -> Any:
    for option in TEXT_OPTIONS:
        command = option(command)
    return command


@click.command(
    epilog=example(
        "fastbp explain",
        "python -c \"print('x,y',*(f'{k/4},{k/2}' for k in range(99)),sep='\\n')\" >a.csv",
        "fastbp train a.csv --target y --hidden 4 --epochs 20 --out a.safetensors",
        "fastbp explain a.safetensors a.csv --row 7 --html a.html",
    )
)
@click.argument("model", required=False, type=click.Path(dir_okay=False))
@click.argument("data", required=False, type=click.Path(dir_okay=False))
@click.option("--row", type=click.IntRange(min=1), help="Which row of DATA, from 1.  [default: 1]")
@click.option("--target", metavar="NAME", help="The column of the true values, for a model that knows no columns.")
@_of_text
@click.option("--lr", type=POSITIVE, help="Learning rate of the step.  [default: 0.01; others: the optimizer's]")
@click.option("--optimizer", metavar="NAME", default="sgd", show_default=True, help="Whose step is shown.")
@click.option(
    "--units", type=click.IntRange(min=1), default=_UNITS, show_default=True,
    help="Show layers of up to so many units whole, of others the units with the largest part in the error.",
)  # fmt: skip
@click.option("--seed", type=click.IntRange(0, 2**64 - 1), help="Of the small network, without MODEL.")
@click.option("--step", is_flag=True, help="One stage at a time: Enter goes on.")
@click.option("--html", type=click.Path(dir_okay=False), metavar="FILE",
              help="Write a page: the network drawn, and a slider for the learning rate.")  # fmt: skip
@json_option
def explain(
    model: str | None, data: str | None, row: int | None, target: str | None, lr: float | None, optimizer: str,
    units: int, seed: int | None, step: bool, html: str | None, as_json: bool, **text: str | None,
) -> None:  # fmt: skip
    """Follow one row through a network and back, each number with its formula.

    Forward values, error, deltas, gradients, checked against finite differences; then the step of gradient descent,
    and where more such steps lead. Of the network in file MODEL and a row of DATA; or, without both, of a network so
    small that it can be followed by hand.
    """
    import fastbp

    given = {"--row": row, "--target": target, **{f"--{name}": value for name, value in text.items()}}
    _check(model, data, given, seed, waits=step, as_json=as_json)
    check_out(html, "--html")
    rule = _rule(optimizer, lr)
    with told():
        if model is None:
            make_ready(["float64"])
            story = fastbp.explain(optimizer=rule, seed=seed, units=units)
        else:
            assert data is not None
            story = _of_file(model, data, row or 1, target, text, rule, units)
    if html is not None:
        story.to_html(html, command=shlex.join(["fastbp", *sys.argv[1:]]))
    if as_json:
        print_json(story.to_dict() | ({} if html is None else {"html": html}))
    elif html is not None:
        echo(f"wrote {html}: {story.title}, {len(story.stages)} stages")
    else:
        _show(story, waits=step)


def _check(
    model: str | None, data: str | None, given: dict[str, Any], seed: int | None, *, waits: bool, as_json: bool
) -> None:  # fmt: skip
    """Refuse what does not go together, before anything is read."""
    if model is not None and data is None:
        raise click.UsageError(
            f"explain needs DATA too: a table, or an NPZ with X and y, such as {model} was trained on"
        )
    if model is None and (names := [name for name, value in given.items() if value is not None]):
        raise click.UsageError(f"{names[0]} is about DATA: name MODEL and DATA, or leave it out")
    if model is not None and seed is not None:
        raise click.UsageError("--seed draws the small network that is explained without MODEL: leave it out")
    if waits and (as_json or not (sys.stdin.isatty() and sys.stdout.isatty())):
        raise click.UsageError("--step waits for Enter after each stage, which needs a terminal: leave it out")


def _rule(name: str, lr: float | None) -> Any:
    from fastbp import optimizers

    try:
        found = optimizers.get(name)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--optimizer") from error
    if found.full_batch:
        raise click.BadParameter(f"{name} makes no single steps, of which one could be shown", param_hint="--optimizer")
    if lr is None and name == "sgd":
        lr = 0.01
    return found if lr is None else dataclasses.replace(found, lr=lr)


def _of_file(
    model: str, data: str, row: int, target: str | None, text: dict[str, str | None], rule: Any, units: int
) -> Explanation:  # fmt: skip
    """A row of a file, by a saved network or the model of a table."""
    import numpy as np

    import fastbp

    found = load(model)
    if hasattr(found, "nets"):
        several.refuse(model, "explain")
    source = "the rows piped in" if data == "-" else data
    place = f"row {row:,} of {source}"
    if of_table(found):
        if target is not None:
            raise click.UsageError(
                f"--target is for models that know no columns; {model} learns {found.target.names[0]}"
            )
        make_ready([found.dtype, "float64"])
        frame = found.frame(opened(data), found.target.names[0], **text)
        _check_row(row, frame.rows, data)
        if frame.place(row - 1) != f"row {row - 1}":
            place = f"row {row:,} ({frame.place(row - 1)}) of {source}"
        return fastbp.explain(found, frame.take(np.array([row - 1])), optimizer=rule, units=units, place=place)
    if given := [name for name, value in text.items() if value is not None]:
        raise click.UsageError(f"--{given[0]} is for a model of a table; this one takes columns by position")
    table = read(found, data, target, needs_y=True, beside=None)
    _check_row(row, len(table.X), data)
    make_ready([found.dtype.name, "float64"])
    assert table.y is not None
    one = slice(row - 1, row)
    return fastbp.explain(
        found, table.X[one], targets_for(found, table.y[one]), optimizer=rule, units=units, place=place
    )


def _check_row(row: int, n: int, data: str) -> None:
    if row > n:
        raise click.BadParameter(f"{data} has {n:,} rows; got {row:,}", param_hint="--row")


def _show(story: Explanation, *, waits: bool) -> None:
    """The stages, in colour on a terminal, one after the other or by Enter."""
    from rich.text import Text

    from fastbp.walkthrough import text

    screen, columns = console(), width()

    def put(lines: Any) -> None:
        for kind, line in lines:
            shown = Text(line)
            shown.stylize(_STYLES[kind], len(line) - len(line.lstrip()))
            screen.print(shown, soft_wrap=True)

    put(text.beginning(story.title, columns))
    for number, stage in enumerate(story.stages, 1):
        screen.print()
        put(text.of_stage(number, stage, columns))
        if waits and number < len(story.stages):
            try:
                input(f"\n-- {number} of {len(story.stages)}, Enter: next --")
            except EOFError:  # Ctrl-D: seen enough
                return
