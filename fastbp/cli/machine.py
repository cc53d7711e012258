"""`fastbp info` and `fastbp warmup`: what this machine offers, and everything compiled ahead of time."""

from __future__ import annotations

from types import SimpleNamespace

import click

from fastbp.cli.checks import check_precision
from fastbp.cli.output import json_option, make_ready, print_json


@click.command()
@click.argument("model", required=False, type=click.Path(dir_okay=False))
@json_option
def info(model: str | None, as_json: bool) -> None:
    """Show what is in the file MODEL: columns, categories, how it was trained, and scores.

    Without MODEL what fastbp found here: CPU, vector width, tile, threads, cache folder, measured FMA peak.
    """
    if model is not None:
        from fastbp.cli.contents import contents

        contents(model, as_json)
        return
    from fastbp.bench.machine import machine

    found = machine()
    if as_json:
        print_json(found)
        return
    rows = {key.replace("_", " "): str(value) for key, value in found.items() if key != "fma_peak_gflops"}
    for dtype, peaks in found["fma_peak_gflops"].items():
        rows[f"FMA peak {dtype}"] = ", ".join(
            f"{gflops:.4g} GFLOP/s with {count} thread{'s' * (count != 1)}" for count, gflops in peaks.items()
        )
    width = max(map(len, rows))
    for name, text in rows.items():
        click.echo(f"{name:<{width}}  {text}")


@click.command()
@click.option(
    "--dtype",
    "dtypes",
    multiple=True,
    type=click.Choice(["float32", "float64"]),
    help="Compile for this dtype only; may be given twice.  [default: both]",
)
@click.option(
    "--precision",
    type=click.Choice(["float32", "bfloat16"]),
    default="float32",
    show_default=True,
    help="bfloat16: also what multiplies in bfloat16, where the CPU can.",
)
@json_option
def warmup(dtypes: tuple[str, ...], precision: str, as_json: bool) -> None:
    """Compile everything now and keep it in the cache folder, so that no later run has to."""
    chosen = dtypes or ("float32", "float64")
    check_precision(SimpleNamespace(precision=precision, dtype="float32"))
    seconds = make_ready(chosen, precision)
    if as_json:
        print_json({"dtypes": chosen, "precision": precision, "seconds": seconds})
    else:
        names = [*chosen, *["bfloat16"] * (precision == "bfloat16")]
        click.echo(f"{' and '.join(names)} ready in {seconds:.1f} s")
