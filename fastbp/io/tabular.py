"""Results as columns and documents: CSV, JSON, a pandas data frame and a picture, written once for all of them."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from os import PathLike
from typing import Any

import numpy as np
import numpy.typing as npt

from fastbp.io import documents
from fastbp.io.figures import save_figure
from fastbp.io.files import replacing
from fastbp.io.overview import Overview, preformatted
from fastbp.numerics import quiet_results

Columns = Mapping[str, npt.NDArray[Any] | Sequence[Any]]


@quiet_results
class Tabular:
    """Files, a data frame and a picture of a result, whose class gives `columns`, `document`, `draw`, `overview`."""

    def columns(self) -> Columns:
        """Columns of one length, by name; NaN where there is nothing."""
        raise NotImplementedError

    def table(self) -> Columns:
        """The columns of a CSV file and of a data frame."""
        return self.columns()

    def document(self) -> dict[str, Any]:
        """All that `to_json` writes."""
        return dict(self.columns())

    def draw(self) -> Any:
        """The picture, as matplotlib's figure."""
        raise NotImplementedError

    def overview(self) -> Overview | None:
        """What it comes to, in a few lines; None: notebooks show what `print` does."""
        return None

    def _repr_html_(self) -> str:
        """What a notebook shows: the overview, and the picture where matplotlib is installed."""
        found = self.overview()
        return preformatted(str(self), self.draw) if found is None else found.html(self.draw)

    def to_csv(self, path: str | PathLike[str]) -> None:
        """Write the columns under a line of their names; an empty field where there is nothing."""
        write_csv(path, self.table())

    def to_json(self, path: str | PathLike[str]) -> None:
        """Write all of it as strict JSON; null for what is not a finite number."""
        write_json(path, self.document())

    def to_dataframe(self) -> Any:
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
        return pandas.DataFrame(dict(self.table()))

    def plot(self, path: str | PathLike[str] | None = None) -> Any:
        """Draw the result; returns matplotlib's figure.

        Parameters
        ----------
        path : path-like, optional
            Where to save the picture; its ending says in what format.

        Raises
        ------
        ImportError
            matplotlib is not installed (extra `plot`).
        """
        figure = self.draw()
        if path is not None:
            save_figure(figure, path)
        return figure


def write_csv(path: str | PathLike[str], columns: Columns) -> None:
    """Write columns of one length under a line of their names; None and NaN are empty fields."""
    lists = [column.tolist() if isinstance(column, np.ndarray) else column for column in columns.values()]
    with replacing(path) as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows([_cell(value) for value in row] for row in zip(*lists, strict=True))


def _cell(value: Any) -> Any:
    return None if isinstance(value, float) and math.isnan(value) else value


def write_json(path: str | PathLike[str], document: dict[str, Any]) -> None:
    """Write a document as strict JSON."""
    text = documents.text(document)
    with replacing(path) as file:
        file.write(text + "\n")
