"""Columns and documents as files, and as a pandas data frame; what is not a number becomes empty, or null."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping
from os import PathLike
from typing import Any

import numpy as np
import numpy.typing as npt

from fastbp.serialization import replacing

Columns = Mapping[str, npt.NDArray[Any]]


def plain(value: Any) -> Any:
    """`value` as what JSON can say: arrays as lists, NaN and infinity as null."""
    if isinstance(value, dict):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist())
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_csv(path: str | PathLike[str], columns: Columns) -> None:
    """Write columns of one length under a line of their names."""
    lists = [plain(column) for column in columns.values()]
    with replacing(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*lists, strict=True))  # None is an empty cell


def write_json(path: str | PathLike[str], document: dict[str, Any]) -> None:
    """Write a document as strict JSON."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(plain(document), indent=1, allow_nan=False) + "\n", encoding="utf-8")


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
