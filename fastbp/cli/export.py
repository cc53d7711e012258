"""`fastbp export`: a saved network, or model of a table, as a file of another program."""

from __future__ import annotations

import os
from pathlib import Path

import click

from fastbp.cli.apply import load
from fastbp.cli.checks import check_out
from fastbp.cli.output import echo, example, json_option, print_json

_ENDINGS = {".onnx": "onnx", ".c": "c"}


@click.command(
    epilog=example("fastbp train --epochs 5 --out digits.safetensors", "fastbp export digits.safetensors -o digits.c")
)
@click.argument("model", type=click.Path(dir_okay=False))
@click.option("--to", "kind", type=click.Choice(list(_ENDINGS.values())), help="By default what FILE ends in.")
@click.option("-o", "--out", required=True, type=click.Path(dir_okay=False), metavar="FILE", help="The file to write.")
@click.option("--name", metavar="NAME", help="Of C: what all names in the file begin with, `net` by default.")
@click.option(
    "--dtype", type=click.Choice(["float32", "float64"]), help="Of C: float or double; by default the network's."
)
@json_option
def export(model: str, kind: str | None, out: str, name: str | None, dtype: str | None, as_json: bool) -> None:
    """Write the network in file MODEL for other programs: as ONNX, or as one file of C.

    What standardises the inputs, and for a model of a table what prepares its columns, is part of an ONNX file; its
    inputs and outputs are told by its metadata. A C file holds a network of numbers, needs nothing but <math.h>, and
    tells its use in its first lines.
    """
    import fastbp

    kind = kind or _ENDINGS.get(Path(out).suffix.lower())
    if kind is None:
        raise click.UsageError(
            f"{out!r} ends in none of {', '.join(_ENDINGS)}: say --to {' or --to '.join(_ENDINGS.values())}"
        )
    for option, value in (("--name", name), ("--dtype", dtype)):
        if value is not None and kind != "c":
            raise click.UsageError(f"{option} is about C: leave it out, or say --to c")
    if os.path.exists(out) and os.path.exists(model) and os.path.samefile(out, model):
        raise click.UsageError("MODEL and --out name the same file")
    check_out(out, "--out")
    found = load(model)
    if kind == "onnx":
        found.to_onnx(out)
    elif isinstance(found, fastbp.MLP):
        found.to_c(out, name=name or "net", dtype=dtype)
    else:
        raise click.UsageError(f"{model} is a model of a table, whose columns C does not know: say --to onnx")
    if as_json:
        print_json({"out": out, "to": kind, "bytes": os.path.getsize(out)})
    else:
        echo(f"wrote {out} ({os.path.getsize(out):,} bytes)")
