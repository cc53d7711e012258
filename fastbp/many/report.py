"""A sweep as one web page that needs nothing else: figures, charts to hover over (by plotly.js), a table to sort."""

from __future__ import annotations

import html
from collections.abc import Iterable
from os import PathLike

import numpy as np

from fastbp.many import against as compared
from fastbp.many import web
from fastbp.many.against import Earlier
from fastbp.many.metrics import cost_name
from fastbp.many.page_data import figure, view
from fastbp.many.stability import CAVEAT, Stability, stability_line
from fastbp.many.sweep_data import SweepData
from fastbp.many.text import decades, failures, horizon, nothing_found, smoothing, versus
from fastbp.many.text import notes as notes_of
from fastbp.types import Array
from fastbp.validation import counted

TITLE = "Learning-rate sweep"
# Heading of each column of the table, and how its cells are sorted.
COLUMNS = (
    ("rate", "number"), ("validation", "number"), ("± error", "number"), ("vs best", "number"),
    ("± paired", "number"), ("training", "number"), ("finished", "number"),
    ("seconds", "number"), ("samples/s", "number"), ("GFLOP/s", "number"), ("verdict", "text"),
)  # fmt: skip


def write(
    sweep: SweepData,
    path: str | PathLike[str],
    *,
    stability: Stability | float | None = None,
    command: str | None = None,
    against: str | PathLike[str] | None = None,
) -> None:
    """Write the page; see `LrSweep.report`."""
    line = stability_line(stability)
    earlier = None if against is None else compared.read(against)
    web.write(path, page(sweep, web.plotly_script(), line, command, earlier))


def page(sweep: SweepData, script: str, line: float | None, command: str | None, earlier: Earlier | None = None) -> str:
    """The whole page; all text that is not ours is escaped."""
    verdicts = [verdict(sweep, k) for k in range(len(sweep.learning_rates))]
    parts = {
        **{f"{chart} name": html.escape(text) for chart, text in names(sweep).items()},
        "against": changes(sweep, earlier),
        "tiles": web.tiles(tiles(sweep)),
        "notes": notes(sweep),
        "epochs": _epochs(sweep),
        "what": html.escape(_what(sweep)),
        "metric": html.escape(sweep.metric),
        "smoothing": html.escape(smoothing(sweep)),
        "legend": ""
        if sweep.interval is None
        else "Shaded: the interval of rates as good as the best"
        + ("." if sweep.val_metric is None else f", by {html.escape(sweep.metric)}."),
        "caveat": "" if line is None else f'<p class="lead">Stability line: {html.escape(CAVEAT)}.</p>',
        "head": web.head([COLUMNS[0], *_of_metric(sweep), *COLUMNS[1:]], by=0),
        "rows": "\n".join(rows(sweep)),
        "profile": profile(sweep),
    }
    return web.framed(
        web.fill("page.html", parts), script, view(sweep, line, verdicts, earlier), ["page.js"], title=TITLE,
        about=about(sweep), command=command, data_name=web.data_name(sweep.about),
    )  # fmt: skip


# --- words ------------------------------------------------------------------------------------------------------


def about(sweep: SweepData) -> str:
    """What was swept."""
    said = sweep.about
    words = [
        f"{counted(len(sweep.learning_rates), 'learning rate')} x {counted(len(sweep.seeds), 'seed')}",
        counted(sweep.epochs, "epoch"),
        f"{sweep.n_train:,} rows to train on, {sweep.n_held:,} held out",
        str(said.get("optimizer", "")),
        f"batches of {said['batch_size']}" if "batch_size" in said else "",
        f"schedule {said['schedule']}" if said.get("schedule") else "",
        f"halving {sweep.halving}" if sweep.halving else "",
        str(said.get("network", "")).strip("<>").removeprefix("fastbp."),
    ]
    return " · ".join(word for word in words if word)


def tiles(sweep: SweepData) -> list[tuple[str, str, str]]:
    """The result in a few large figures."""
    found = []
    if sweep.best_index is not None and sweep.interval is not None:
        k, (low, high) = sweep.best_index, sweep.interval
        error = sweep.val_error[k]
        spread = f" ± {error:.2g}" if np.isfinite(error) else ""
        found += [
            ("recommended", _rate(sweep.recommended_lr), f"best after {counted(sweep.epochs, 'epoch')}, smoothed"),
            (
                "as good as the best",
                f"{low:.3g} to {high:.3g}" if high > low else f"{low:.3g}",
                "by paired differences",
            ),
            *(
                [(f"its {sweep.metric}", f"{sweep.mean_metric[k]:.4g}", "mean over seeds, what rates are compared by")]
                if sweep.val_metric is not None
                else []
            ),
            ("its validation loss", f"{sweep.mean_val_loss[k]:.4g}", f"mean over seeds{spread}"),
        ]
    else:
        found.append(("recommended", "none", nothing_found(sweep).partition(":")[0]))
    if sweep.divergence_boundary is not None:
        below, at = sweep.divergence_boundary
        distance = sweep.divergence_distance
        words = [] if below is None else [f"not yet at {below:.3g}"]
        words += [] if distance is None else [f"{decades(distance)} the best"]
        found.append(("diverges from", _rate(at), "; ".join(words)))
    if sweep.sensitivity is not None:
        found.append(("sensitivity", f"{sweep.sensitivity:.3g}", f"mean excess {_cost(sweep)} over log lr"))
    return found


def notes(sweep: SweepData) -> str:
    """The notes of the result; all but what is said of the horizon are warnings."""
    said = horizon(sweep)
    return web.notes([("note" if text == said else "warning", text) for text in notes_of(sweep)])


def names(sweep: SweepData) -> dict[str, str]:
    """What each chart shows, for those who hear the page: its accessible name."""
    k, n = sweep.best_index, len(sweep.learning_rates)
    span = f"{n} rates from {sweep.learning_rates[0]:.3g} to {sweep.learning_rates[-1]:.3g}"
    lowest = "no rate has a result" if k is None else (
        f"{'highest' if sweep.larger else 'lowest'} near {sweep.learning_rates[k]:.3g}, with {sweep.mean_metric[k]:.4g}"
    )  # fmt: skip
    by_epoch = sweep.best_by_epoch[np.isfinite(sweep.best_by_epoch)]
    moves = f", from {by_epoch[0]:.3g} to {by_epoch[-1]:.3g}" if by_epoch.size else ", none"
    return {
        "curve": f"{_what(sweep)} by learning rate: {span}; {lowest}. The table below has the figures",
        "losses": f"{_what(sweep)} by epoch, {_epochs(sweep)}, a line for each of {span}",
        "best": f"Best learning rate by epoch{moves}",
        "times": f"Seconds a run by learning rate, {counted(sweep.status.size, 'run')}",
    }


def changes(sweep: SweepData, earlier: Earlier | None) -> str:
    """The card that compares with an earlier sweep."""
    if earlier is None:
        return ""
    return web.against(compared.lines(sweep, earlier))


def rows(sweep: SweepData) -> Iterable[str]:
    """The body of the table of rates: what a cell shows, and the value that it is sorted by."""
    finished = (sweep.status == "finished").sum(axis=1)
    speed, gflops, seconds = (
        [_median(row) for row in values] for values in (sweep.samples_per_second, sweep.gflops, sweep.seconds)
    )
    for k, rate in enumerate(sweep.learning_rates.tolist()):
        tags = verdict(sweep, k)
        measured = [web.cell(float(sweep.mean_metric[k]), "{:.4g}"), web.cell(float(sweep.metric_error[k]), "{:.2g}")]
        cells = [
            web.cell(rate, "{:.3g}"), *(measured if sweep.val_metric is not None else []),
            web.cell(float(sweep.mean_val_loss[k]), "{:.4g}"),
            web.cell(float(sweep.val_error[k]), "{:.2g}"),
            *(
                web.text_cell(words, float(value))
                for value, words in zip((sweep.difference[k], sweep.difference_error[k]), versus(sweep, k), strict=True)
            ),
            web.cell(float(sweep.mean_train_loss[k]), "{:.4g}"),
            web.text_cell(f"{finished[k]}/{len(sweep.seeds)}", float(finished[k])),
            web.cell(seconds[k], "{:.3g}"), web.cell(speed[k], "{:,.0f}"), web.cell(gflops[k], "{:.3g}"),
            web.tags(tags),
        ]  # fmt: skip
        kind = "inside" if sweep.in_interval[k] else "" if sweep.eligible[k] else "out"
        yield f'<tr class="{kind}">{"".join(cells)}</tr>'


def verdict(sweep: SweepData, k: int) -> list[tuple[str, str]]:
    """(kind, words) for the last column of the table: recommended, best, diverged, ..."""
    found = []
    if k == sweep.best_index:
        found.append(("recommended", "recommended"))
    elif sweep.in_interval[k]:
        found.append(("inside", "as good"))
    if k == sweep.lowest_index != sweep.best_index:
        found.append(("lowest", "lowest mean"))
    failed = failures(sweep, k)
    if not failed and sweep.eliminated[k]:
        failed.append(("eliminated", f"eliminated after epoch {sweep.eliminated[k]}"))
    elif not failed and not sweep.eligible[k]:
        failed.append(("missing", "missing"))
    return found + failed


def profile(sweep: SweepData) -> str:
    """Where the time went, as a list of figures."""
    found = sweep.profile
    total = max(float(np.nansum(sweep.seconds)), 1e-12)  # of all runs, those in a journal too
    figures = [
        ("duration", _seconds(found["wall_seconds"])),
        ("threads", f"{found['threads']}, {100 * found['occupancy']:.0f} % busy"),
        ("an epoch", _seconds(found["seconds_per_epoch"])),
        ("a whole run", _seconds(found["seconds_per_run"])),
        ("samples/s a run", figure(found["samples_per_second"], "{:,.0f}")),
        ("GFLOP/s a run", figure(found["gflops"], "{:.3g}")),
        ("diverged, or given up", f"{_seconds(found['lost_seconds'])} ({100 * found['lost_seconds'] / total:.1f} %)"),
    ]
    if sweep.halving:
        dropped = found["eliminated_seconds"]
        figures.append(("eliminated rates", f"{_seconds(dropped)} ({100 * dropped / total:.1f} %)"))
    if sweep.target_loss is not None:
        reached = f"{found['reached_target']} of {sweep.status.size} runs"
        taken = "" if found["seconds_to_target"] is None else f", {_seconds(found['seconds_to_target'])}"
        figures.append((f"to a loss of {sweep.target_loss:g}", reached + taken))
    return "\n".join(f"<div><dt>{name}</dt><dd>{text}</dd></div>" for name, text in figures)


def _of_metric(sweep: SweepData) -> list[tuple[str, str]]:
    """Headings for the metric that rates are compared by, where that is not the loss."""
    return [] if sweep.val_metric is None else [(sweep.metric, "number"), ("± error", "number")]


def _what(sweep: SweepData) -> str:
    """What the charts show, as the first word of a title."""
    return sweep.metric[:1].upper() + sweep.metric[1:]


def _cost(sweep: SweepData) -> str:
    return "loss" if sweep.val_metric is None else cost_name(sweep.metric, sweep.larger)


def _median(values: Array) -> float:
    known = values[np.isfinite(values)]
    return float(np.median(known)) if known.size else float("nan")


def _rate(value: float | None) -> str:
    return figure(value, "{:.3g}")


def _seconds(value: float | None) -> str:
    if value is None or not np.isfinite(value):
        return "-"
    return f"{value:.3g} s" if value >= 1.0 or value == 0.0 else f"{1e3 * value:.3g} ms"


def _epochs(sweep: SweepData) -> str:
    return counted(sweep.epochs, "epoch")
