"""Packages of the extra `data`, loaded when a table is met; a plain install says how to get them."""

from __future__ import annotations

import importlib
from typing import Any

HOW = "pip install 'fastbp[data]'"


def _load(module: str, need: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(f"{need}: {HOW}") from error


def polars() -> Any:
    """Polars, which reads files and holds columns; ImportError where it is not installed."""
    return _load("polars", "tables need Polars")


def narwhals() -> Any:
    """Narwhals, which takes the data frames of other packages; ImportError where it is not installed."""
    return _load("narwhals.stable.v2", "data frames need narwhals")
