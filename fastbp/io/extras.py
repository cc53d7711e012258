"""Packages of the extra `data`, loaded when a table is met; a plain install says how to get them."""

from __future__ import annotations

from typing import Any

HOW = "pip install 'fastbp[data]'"


def polars() -> Any:
    """Polars, which reads files and holds columns.

    Raises
    ------
    ImportError
        It is not installed.
    """
    try:
        import polars
    except ImportError as error:
        raise ImportError(f"tables need Polars: {HOW}") from error
    return polars


def narwhals() -> Any:
    """Narwhals, which takes the data frames of other packages.

    Raises
    ------
    ImportError
        It is not installed.
    """
    try:
        import narwhals.stable.v2 as narwhals
    except ImportError as error:
        raise ImportError(f"data frames need narwhals: {HOW}") from error
    return narwhals
