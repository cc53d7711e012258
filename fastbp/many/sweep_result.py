"""`Sweep`, what a sweep over any settings has found: the best point, how sure that is, as text, files and a page."""

from __future__ import annotations

from os import PathLike
from typing import Any

import numpy as np
import numpy.typing as npt

from fastbp.io import documents
from fastbp.io.figures import new_figure
from fastbp.io.overview import Overview
from fastbp.io.tabular import Columns, Tabular
from fastbp.many import space, sweep_page, sweep_text
from fastbp.many.points import word
from fastbp.many.sweep_points import SweepPoints
from fastbp.network import MLP
from fastbp.numerics import quiet_results
from fastbp.validation import counted


@quiet_results
class Sweep(SweepPoints, Tabular):
    """What `sweep` has found, at P points with S seeds each.

    The best point has the best metric, smoothed: on a grid, at least half of it is its own mean over the seeds, and the
    rest that of its neighbours along axes of numbers, so that a lucky point does not win. As good are the points whose
    difference from it, paired by seed, is no more than the 90 % quantile of Student's t times its standard error.

    Attributes
    ----------
    configs : list of dict
        The settings of each point.
    seeds : list of int
    scores : array, (P, S)
        The metric on the rows held out, after the last epoch; NaN where a run diverged or was not done.
    metric : str
    larger : bool
        Whether a larger value is better.
    histories : list of list of History or None
        Of each run, by point and seed.
    status : array of str, (P, S)
        "finished", "diverged" or "open".
    best_net : MLP or None
        Of the best point, the network with the best score.
    about : dict
        Network, loss, data and what holds at all points, in words.
    """

    @property
    def notes(self) -> list[str]:
        """What a reader should know of these figures."""
        return sweep_text.notes(self)

    def refit(self, X: npt.ArrayLike, y: npt.ArrayLike, seed: int | None = None) -> MLP:
        """A network of the best settings, trained on all of these rows, none held out.

        Raises
        ------
        ValueError
            There is no best point, or its training needs rows held out.
        """
        if self.best_index is None:
            raise ValueError("no point has finished with all its seeds: there is nothing to train again")
        net: MLP
        net, arguments = self.plan(self.configs[self.best_index], self.seeds[0] if seed is None else seed)
        net.fit(X, y, **arguments)
        return net

    # --- as text, table, picture and page -------------------------------------------------------------------

    def __repr__(self) -> str:
        best = "none" if self.best is None else sweep_text.settings(self.best)
        return (
            f"<fastbp.Sweep of {counted(len(self.configs), 'point')} x {counted(len(self.seeds), 'seed')}, best {best}>"
        )

    def __str__(self) -> str:
        return sweep_text.describe(self)

    def overview(self) -> Overview:
        """The best points, and the notes."""
        return sweep_text.overview(self)

    def columns(self) -> Columns:
        """A line a run."""
        n = len(self.seeds)
        repeated = [config for config in self.configs for _ in range(n)]
        runs = [one for line in self.histories for one in line]
        last = [one.loss[-1] if one is not None and one.loss else float("nan") for one in runs]
        return {
            **space.keys(list(self.configs[0]), repeated), "seed": self.seeds * len(self.configs),
            "status": self.status.ravel().tolist(), self.metric: self.scores.ravel(), "train_loss": last,
            "epochs": [0 if one is None else len(one.loss) for one in runs],
        }  # fmt: skip

    def document(self) -> dict[str, Any]:
        """Settings, means, differences and errors of the points, the best, the notes, and the runs."""
        arrays = {name: getattr(self, name).tolist() for name in ("mean", "error", "difference", "difference_error")}
        found = [
            {
                **{name: documents.plain(value) for name, value in config.items()},
                **{name: values[k] for name, values in arrays.items()},
                "as_good": bool(self.as_good[k]),
            }
            for k, config in enumerate(self.configs)
        ]
        return {
            "metric": self.metric, "larger_is_better": self.larger, "relative_differences": self.comparison.relative,
            "seeds": self.seeds, "points": found, "best": self.best, "notes": self.notes, "about": self.about,
            "runs": self.columns(),
        }  # fmt: skip

    def draw(self) -> Any:
        """Over two settings the heat map, else the metric by each setting: runs, and means with their errors."""
        if (heat := self.heat_map) is not None:
            return heat.draw()
        names = list(self.configs[0])
        figure = new_figure(4 * len(names), 4)
        axes = np.atleast_1d(figure.subplots(1, len(names), sharey=True))
        for ax, (name, values), place, numeric in zip(
            axes, self.grid.axes.items(), self.grid.places.T, self.grid.numeric, strict=True
        ):
            x = np.array(values, float)[place] if numeric else place
            ax.plot(np.repeat(x, len(self.seeds)), self.scores.ravel(), ".", color="0.6", markersize=4)
            ax.errorbar(x, self.mean, self.error, fmt="o")
            if not numeric:
                ax.set_xticks(range(len(values)), [word(one) for one in values], rotation=90)
            elif min(values) > 0 and max(values) > 20 * min(values):
                ax.set_xscale("log")
            ax.set_xlabel(name)
        axes[0].set_ylabel(self.metric)
        return figure

    def report(
        self, path: str | PathLike[str], *, command: str | None = None, against: str | PathLike[str] | None = None
    ) -> None:
        """Write one web page with all of it: points, runs, a map of two settings, a table to sort. It needs no network.

        Parameters
        ----------
        path : path-like
            The HTML file.
        command : str, optional
            How the sweep was made: shown at the foot.
        against : path-like, optional
            An earlier sweep over settings, as `to_json` or ``fastbp sweep --over ... --json`` wrote it: the points that
            both have are compared, paired by seed where seeds are the same.

        Raises
        ------
        ValueError
            `against` is no such file.
        ImportError
            plotly is not installed (extra `report`).
        """
        sweep_page.write(self, path, command=command, against=against)
