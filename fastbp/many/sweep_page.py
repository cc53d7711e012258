"""The page of a sweep over settings: points, runs, a map of two settings, a table to sort."""

from __future__ import annotations

import html
from collections.abc import Iterator
from os import PathLike
from typing import Any

import numpy as np

from fastbp.io.documents import plain
from fastbp.many import against_points, sweep_text, web
from fastbp.many.page_data import short
from fastbp.many.points import word
from fastbp.many.sweep_points import SweepPoints
from fastbp.many.sweep_text import settings
from fastbp.validation import counted

TITLE = "Sweep over settings"
MOST_RUNS = 400  # whose curves are drawn: more would make the page slow
# Headings of the table after the settings, and how its cells are sorted.
_COLUMNS = (
    ("± error", "number"), ("vs best", "number"), ("± paired", "number"), ("verdict", "text"), ("val loss", "number"),
    ("train loss", "number"), ("finished", "number"), ("seconds", "number"),
)  # fmt: skip


def write(
    sweep: SweepPoints,
    path: str | PathLike[str],
    *,
    command: str | None = None,
    against: str | PathLike[str] | None = None,
) -> None:
    """Write the page; see `Sweep.report`."""
    earlier = None if against is None else against_points.read(against)
    web.write(path, page(sweep, web.plotly_script(), command, earlier))


def page(
    sweep: SweepPoints, script: str, command: str | None = None, earlier: against_points.EarlierPoints | None = None
) -> str:
    """The whole page; all text that is not ours is escaped."""
    heat, grid = sweep.heat_map, sweep.grid
    cut = "" if sweep.status.size <= MOST_RUNS else f"The first {MOST_RUNS} of {sweep.status.size} are shown."
    parts = {
        "tiles": web.tiles(tiles(sweep)),
        "notes": web.notes([("warning", text) for text in sweep_text.notes(sweep)]),
        "against": "" if earlier is None else web.against(against_points.lines(sweep, earlier)),
        "map": "" if heat is None else heat.card(),
        "settings": "\n".join(_chart(sweep, axis, name) for axis, name in enumerate(grid.axes)),
        "runs name": html.escape(f"Validation loss by epoch of every run, {sweep.status.size} runs"),
        "cut": cut,
        "points lead": f"By {html.escape(sweep.metric)}, mean over seeds; seconds are medians of a run, on one thread."
        + "".join(f" {html.escape(one)}." for one in sweep_text.smoothing(sweep)),
        "head": web.head([
            *((name, "number" if grid.numeric[axis] else "text") for axis, name in enumerate(grid.axes)),
            (sweep.metric, "number"), *_COLUMNS,
        ]),
        "rows": "\n".join(rows(sweep)),
    }  # fmt: skip
    view = view_of(sweep) | ({} if heat is None else {"map": heat.view()})
    scripts = ["points.js"] if heat is None else ["heat.js", "points.js"]
    return web.framed(
        web.fill("points.html", parts), script, view, scripts, title=TITLE, about=about(sweep), command=command,
        data_name=web.data_name(sweep.about),
    )  # fmt: skip


def about(sweep: SweepPoints) -> str:
    """What was swept, and what holds at all points."""
    said = sweep.about
    words = [
        f"{counted(len(sweep.configs), 'point')} x {counted(len(sweep.seeds), 'seed')}",
        *(f"{name.replace('_', ' ')} {said[name]}" for name in ("epochs", "batch_size", "optimizer", "schedule")
          if name in said),
        f"held out: {said['held_out']}" if "held_out" in said else "",
        str(said.get("network", "")).strip("<>").removeprefix("fastbp."),
    ]  # fmt: skip
    return " · ".join(one for one in words if one)


def tiles(sweep: SweepPoints) -> list[tuple[str, str, str]]:
    """The result in a few large figures."""
    k = sweep.best_index
    if k is None:
        found = [("best", "none", "no point has finished with all its seeds")]
    else:
        error = sweep.error[k]
        spread = f" ± {error:.2g}" if np.isfinite(error) else ""
        found = [
            ("best", settings(sweep.configs[k]), "smoothed over neighbours" if sweep.grid.whole else "by its mean"),
            (f"its {sweep.metric}", f"{sweep.mean[k]:.4g}", f"mean over {len(sweep.seeds)} seeds{spread}"),
            ("as good", f"{int(sweep.as_good.sum())} of {len(sweep.configs)}", "points, by paired differences"),
        ]
    if diverged := int((sweep.status == "diverged").sum()):
        found.append(("diverged", f"{diverged} of {sweep.status.size}", "runs"))
    return found


def _chart(sweep: SweepPoints, axis: int, name: str) -> str:
    """The card of a setting."""
    values = list(sweep.grid.axes.values())[axis]
    k = sweep.best_index
    best = "" if k is None else f"; the best point has {word(sweep.configs[k][name])}"
    heard = f"{sweep.metric} by {name}, {len(values)} values from {word(values[0])} to {word(values[-1])}{best}"
    return (
        f'<section class="card"><h2>By {html.escape(name)}</h2><p class="lead">Each dot is a run; means with their '
        f'standard errors.</p><div class="chart" id="setting{axis}" role="img" aria-label="{html.escape(heard)}"></div>'
        "</section>"
    )


def verdict(sweep: SweepPoints, k: int) -> list[tuple[str, str]]:
    """(kind, words) for the last column of the table."""
    found = []
    if k == sweep.best_index:
        found.append(("best", "best"))
    elif sweep.as_good[k]:
        found.append(("inside", "as good"))
    if k == sweep.top_index != sweep.best_index:
        found.append(("lowest", "best mean"))
    for status, words in (("diverged", "diverged"), ("open", "missing")):
        if count := int((sweep.status[k] == status).sum()):
            found.append((status, f"{words} ({count} of {len(sweep.seeds)})"))
    return found


def rows(sweep: SweepPoints) -> Iterator[str]:
    """The body of the table: the best first."""
    grid = sweep.grid
    for k in sweep_text.order(sweep):
        losses = (
            [_last(one, "val_loss") for one in sweep.histories[k]],
            [_last(one, "loss") for one in sweep.histories[k]],
        )
        times = [sum(one.seconds) for one in sweep.histories[k] if one is not None and one.seconds]
        finished = int((sweep.status[k] == "finished").sum())
        cells = [
            *(
                web.text_cell(word(value), float(value) if grid.numeric[axis] else None)
                for axis, value in enumerate(sweep.configs[k].values())
            ),
            web.cell(float(sweep.mean[k]), "{:.4g}"), web.cell(float(sweep.error[k]), "{:.2g}"),
            *(
                web.text_cell(words, float(value))
                for words, value in zip(
                    sweep_text.versus(sweep, k), (sweep.difference[k], sweep.difference_error[k]), strict=True
                )
            ),
            web.tags(verdict(sweep, k)),
            *(web.cell(float(np.mean(one)), "{:.4g}") for one in losses),
            web.text_cell(f"{finished}/{len(sweep.seeds)}", float(finished)),
            web.cell(float(np.median(times)) if times else float("nan"), "{:.2g}"),
        ]  # fmt: skip
        kind = "inside" if sweep.as_good[k] else "" if np.isfinite(sweep.mean[k]) else "out"
        yield f'<tr class="{kind}">{"".join(cells)}</tr>'


def _last(history: Any, name: str) -> float:
    values = [] if history is None else getattr(history, name)
    return float(values[-1]) if values else float("nan")


def view_of(sweep: SweepPoints) -> dict[str, Any]:
    """What the charts draw, None for what is not finite."""
    grid, order = sweep.grid, sweep_text.order(sweep)
    rank = {k: place for place, k in enumerate(order)}
    points = [
        {
            "name": settings(config), "scores": short(sweep.scores[k]), "mean": short(sweep.mean[k]),
            "error": short(sweep.error[k]), "rank": rank[k],
            "kind": "best" if k == sweep.best_index else "inside" if sweep.as_good[k] else "",
        }
        for k, config in enumerate(sweep.configs)
    ]  # fmt: skip
    runs = [
        {
            "point": k, "seed": sweep.seeds[s], "ended": bool(sweep.status[k, s] == "finished"),
            "val": _curve(sweep.histories[k][s], "val_loss"), "train": _curve(sweep.histories[k][s], "loss"),
        }
        for k in order for s in range(len(sweep.seeds))
    ][:MOST_RUNS]  # fmt: skip
    axes = [
        {
            "name": name, "numeric": grid.numeric[axis], "values": plain(values) if grid.numeric[axis] else [],
            "words": [word(one) for one in values], "at": grid.places[:, axis].tolist(),
        }
        for axis, (name, values) in enumerate(grid.axes.items())
    ]  # fmt: skip
    return {
        "metric": sweep.metric, "larger": sweep.larger, "seeds": sweep.seeds, "settings": axes, "points": points,
        "runs": runs,
    }  # fmt: skip


def _curve(history: Any, name: str) -> Any:
    values = [] if history is None else getattr(history, name)
    return short(np.asarray(values, np.float64)) if values else None
