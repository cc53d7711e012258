"""`fastbp info` and `fastbp warmup`: what this machine offers, and everything compiled ahead of time."""

from __future__ import annotations

from typing import Any

import click

from fastbp.commands.output import json_option, make_ready, print_json


@click.command()
@json_option
def info(as_json: bool) -> None:
    """Show what fastbp found: CPU, vector width, tile, threads, cache folder, measured FMA peak."""
    from fastbp.info import machine

    found = machine()
    if as_json:
        print_json(found)
        return
    width = max(len(key) for key in found)
    for key, value in found.items():
        click.echo(f"{key.replace('_', ' '):<{width}}  {_text(value)}")


@click.command()
@click.option(
    "--dtype",
    "dtypes",
    multiple=True,
    type=click.Choice(["float32", "float64"]),
    help="Compile for this dtype only; may be given twice.  [default: both]",
)
@json_option
def warmup(dtypes: tuple[str, ...], as_json: bool) -> None:
    """Compile everything now and keep it in the cache folder, so that no later run has to."""
    chosen = dtypes or ("float32", "float64")
    seconds = make_ready(chosen)
    if as_json:
        print_json({"dtypes": chosen, "seconds": seconds})
    else:
        click.echo(f"{' and '.join(chosen)} ready in {seconds:.1f} s")


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, dict):
        return ", ".join(f"{key} {_text(one)}" for key, one in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(_text(one) for one in value)
    return str(value)
