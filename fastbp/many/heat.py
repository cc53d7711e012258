"""A heat map of losses over two settings, as a picture and as a part of a web page."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastbp.io import documents
from fastbp.io.figures import new_figure
from fastbp.many import web
from fastbp.numerics import quiet_results
from fastbp.types import Array


@quiet_results
@dataclass(frozen=True, eq=False)
class HeatMap:
    """Mean losses, or another metric, over two settings.

    Attributes
    ----------
    names : pair of str
        Of the settings of rows and of columns.
    rows, columns : sequence
        Their values: numbers or words, drawn at equal distances.
    losses : array, (rows, columns)
        NaN where there is none: left blank, with a cross.
    best : pair of int, optional
        Row and column of the best, which gets a frame; by default the lowest loss.
    what : str
        What the colours show.
    larger : bool
        Whether a larger value is better.
    """

    names: tuple[str, str]
    rows: Sequence[Any]
    columns: Sequence[Any]
    losses: Array
    best: tuple[int, int] | None = None
    what: str = "validation loss"
    larger: bool = False

    @property
    def chosen(self) -> tuple[int, int] | None:
        """`best`, or the place of the best loss; None without a loss."""
        if self.best is not None or not np.isfinite(self.losses).any():
            return self.best
        best = np.nanargmax(self.losses) if self.larger else np.nanargmin(self.losses)
        place = np.unravel_index(int(best), self.losses.shape)
        return int(place[0]), int(place[1])

    @property
    def levels(self) -> tuple[Array, str]:
        """What the colours show, and its name: logarithms where losses span more than a factor of ten."""
        known = np.isfinite(self.losses)
        values = self.losses[known]
        if not (values.size and values.min() > 0 and values.max() > 10 * values.min()):
            return self.losses, self.what
        return np.log10(self.losses, out=np.full(self.losses.shape, np.nan), where=known), f"log10 of {self.what}"

    @property
    def sentence(self) -> str:
        """What the map shows, for those who hear it."""
        first, second = self.names
        said = f"{self.what.capitalize()} by {first} and {second}"
        if self.chosen is None:
            return said
        i, j = self.chosen
        found = f"{first} {_word(self.rows[i])} and {second} {_word(self.columns[j])}"
        return f"{said}; the best, {self.losses[i, j]:.4g}, is at {found}"

    def draw(self) -> Any:
        """The picture, as matplotlib's figure."""
        values, label = self.levels
        figure = new_figure(1.6 + 0.75 * max(5, len(self.columns)), 1.4 + 0.45 * max(4, len(self.rows)))
        axes = figure.subplots()
        image = axes.imshow(values, cmap="viridis" if self.larger else "viridis_r", aspect="auto", origin="lower")
        axes.set_xticks(range(len(self.columns)), [_word(one) for one in self.columns], rotation=45, ha="right")
        axes.set_yticks(range(len(self.rows)), [_word(one) for one in self.rows])
        axes.set(xlabel=self.names[1], ylabel=self.names[0])
        known = np.isfinite(values)
        middle = 0.5 * (values[known].min() + values[known].max()) if known.any() else 0.0
        for i, j in np.ndindex(values.shape):
            text, ink = (f"{self.losses[i, j]:.3g}", "white") if known[i, j] else ("x", "black")
            light = values[i, j] >= middle if self.larger else values[i, j] <= middle
            ink = "black" if known[i, j] and light else ink
            axes.text(j, i, text, ha="center", va="center", fontsize="small", color=ink)
        if self.chosen is not None:
            i, j = self.chosen
            x, y = np.array([-0.48, 0.48, 0.48, -0.48, -0.48]), np.array([-0.48, -0.48, 0.48, 0.48, -0.48])
            axes.plot(j + x, i + y, color="C3", linewidth=2)
        figure.colorbar(image, ax=axes, label=label)
        return figure

    def view(self) -> dict[str, Any]:
        """What the chart draws."""
        values, label = self.levels
        return {
            "names": list(self.names), "rows": [_word(one) for one in self.rows],
            "columns": [_word(one) for one in self.columns], "losses": documents.plain(self.losses),
            "levels": documents.plain(values), "best": list(self.chosen or ()), "what": label, "larger": self.larger,
        }  # fmt: skip

    def card(self) -> str:
        """A part of a web page: the map to hover over, and the same figures as a table; all text is escaped."""
        return web.fill("heat.html", {"map name": html.escape(self.sentence), "map table": self._table()})

    def _table(self) -> str:
        head = "".join(f'<th scope="col">{html.escape(_word(one))}</th>' for one in self.columns)
        lines = []
        for i, (row, line) in enumerate(zip(self.rows, self.losses, strict=True)):
            cells = "".join(
                f"<td{' class=best' * ((i, j) == self.chosen)}>{f'{loss:.4g}' if np.isfinite(loss) else '-'}</td>"
                for j, loss in enumerate(line)
            )
            lines.append(f'<tr><th scope="row">{html.escape(_word(row))}</th>{cells}</tr>')
        corner = html.escape(f"{self.names[0]} \\ {self.names[1]}")
        return f'<thead><tr><th scope="col">{corner}</th>{head}</tr></thead><tbody>{"".join(lines)}</tbody>'


def _word(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float | np.floating) else str(value)
