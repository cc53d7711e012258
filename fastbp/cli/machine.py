"""`fastbp info` and `fastbp warmup`: what this machine offers, and everything compiled ahead of time."""

from __future__ import annotations

from types import SimpleNamespace

import click

from fastbp.cli.checks import check_out, check_picture, check_precision
from fastbp.cli.output import echo, example, json_option, make_ready, print_json, quiet, quiet_option


@click.command(
    epilog=example(
        "fastbp train --epochs 5 --out digits.safetensors", "fastbp info digits.safetensors --plot weights.png"
    )
)
@click.argument("model", required=False, type=click.Path(dir_okay=False))
@click.option(
    "--plot",
    type=click.Path(dir_okay=False),
    metavar="FILE",
    help="Draw the weights of the first layer of MODEL: .png, .svg or .pdf.",
)
@json_option
def info(model: str | None, plot: str | None, as_json: bool) -> None:
    """Show what is in the file MODEL: columns, categories, how it was trained, and scores.

    Without MODEL what fastbp found here: CPU, vector width, tile, threads, cache folder, measured FMA peak.
    """
    check_out(plot, "--plot")
    check_picture(plot, "--plot")
    if model is not None:
        from fastbp.cli.contents import contents

        contents(model, as_json, plot)
        return
    if plot is not None:
        raise click.UsageError("--plot draws the weights of a model: name its file")
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
    longest = max(map(len, rows))
    echo("\n".join(f"{name:<{longest}}  {text}" for name, text in rows.items()))


@click.command(epilog=example("fastbp warmup --dtype float32"))
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
@quiet_option
@json_option
def warmup(dtypes: tuple[str, ...], precision: str, as_json: bool) -> None:
    """Compile everything now and keep it in the cache folder, so that no later run has to."""
    chosen = dtypes or ("float32", "float64")
    check_precision(SimpleNamespace(precision=precision, dtype="float32"))
    seconds = make_ready(chosen, precision)
    if as_json:
        print_json({"dtypes": chosen, "precision": precision, "seconds": seconds})
    elif not quiet():
        names = [*chosen, *["bfloat16"] * (precision == "bfloat16")]
        echo(f"{' and '.join(names)} ready in {seconds:.1f} s")
