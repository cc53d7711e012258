"""Columns and documents as files, and as a pandas data frame; what is not a number becomes empty, or null."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from os import PathLike
from typing import Any

import numpy.typing as npt

from fastbp.io import documents
from fastbp.io.files import replacing

Columns = Mapping[str, npt.NDArray[Any]]


def write_csv(path: str | PathLike[str], columns: Columns) -> None:
    """Write columns of one length under a line of their names."""
    lists = [documents.plain(column) for column in columns.values()]
    with replacing(path) as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*lists, strict=True))  # None is an empty cell


def write_json(path: str | PathLike[str], document: dict[str, Any]) -> None:
    """Write a document as strict JSON."""
    text = documents.text(document)
    with replacing(path) as file:
        file.write(text + "\n")


def data_frame(columns: Columns) -> Any:
    """The columns as a pandas data frame.

    Raises
    ------
    ImportError
        pandas is not installed.
    """
    try:
        import pandas
    except ImportError as error:
        raise ImportError(
            "to_dataframe needs pandas: pip install pandas (to_csv and to_json need nothing more)"
        ) from error
    return pandas.DataFrame(dict(columns))
