"""Packages of the extras, loaded when they are needed; a plain install says how to get them."""

from __future__ import annotations

import importlib
from typing import Any


def load(module: str, need: str, extra: str | None) -> Any:
    """A module of an extra, or of no extra; ImportError says what needs it, and how it is installed."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        how = module.partition(".")[0] if extra is None else f"'fastbp[{extra}]'"
        raise ImportError(f"{need}: pip install {how}") from error


def polars() -> Any:
    """Polars, which reads files and holds columns; ImportError where it is not installed."""
    return load("polars", "tables need Polars", "data")


def narwhals() -> Any:
    """Narwhals, which takes the data frames of other packages; ImportError where it is not installed."""
    return load("narwhals.stable.v2", "data frames need narwhals", "data")
