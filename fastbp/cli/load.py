"""DATA, the argument of the commands that train: a file, or the embedded digits."""

from __future__ import annotations

import click

from fastbp import datasets
from fastbp.data import tables
from fastbp.data.prepare import PreparedData, prepare


def load_data(data: str | None, target: str | None, loss: str | None, test_fraction: float, seed: int) -> PreparedData:
    """Read the data, infer what was not said, and hold rows out."""
    if data is None:
        if target is not None:
            raise click.UsageError("--target names a column of a CSV, but no DATA is given")
        told = "the embedded digits, as no DATA is given: 8x8 images in ten classes (UCI, CC BY 4.0)"
        table = tables.Table(*datasets.load_digits())
        return prepare(table, loss, test_fraction, seed, name="digits", notes=[told])
    try:
        table = tables.read_table(data, target)
    except tables.TargetNeeded as error:
        raise click.UsageError(str(error)) from error
    return prepare(table, loss, test_fraction, seed, name=data)
