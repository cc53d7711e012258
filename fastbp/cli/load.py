"""DATA, the argument of the commands that train: arrays, a table, or the embedded digits; and the network for it."""

from __future__ import annotations

from typing import Any

import click

from fastbp import datasets
from fastbp.cli import build
from fastbp.cli.defaults import Hyperparameters
from fastbp.cli.subject import OF_TABLES, Subject, is_table
from fastbp.cli.table import table_subject
from fastbp.data import tables
from fastbp.data.prepare import PreparedData, prepare


def subject(settings: Any, hyper: Hyperparameters, optimizer: Any, *, validate: bool = False) -> Subject:
    """Read the data, infer what was not said, and hold rows out; `validate`: of a table some choose the best epoch."""
    if is_table(settings):
        return table_subject(settings, hyper, optimizer, validate=validate)
    for name, option in OF_TABLES.items():
        if getattr(settings, name, None):
            raise click.UsageError(f"{option} is for tables, but no DATA is given")
    prepared = _arrays(settings)
    net = build.network(settings, hyper, prepared)
    return Subject(prepared, net, hyper, optimizer)


def _arrays(settings: Any) -> PreparedData:
    arguments = (settings.loss, settings.test_fraction, settings.seed)
    if settings.data is None:
        told = "the embedded digits, as no DATA is given: 8x8 images in ten classes (UCI, CC BY 4.0)"
        return prepare(tables.Table(*datasets.load_digits()), *arguments, name="digits", notes=[told])
    table = tables.read_table(settings.data, settings.targets[0] if settings.targets else None)
    return prepare(table, *arguments, name=settings.data)
