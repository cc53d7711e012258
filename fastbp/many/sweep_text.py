"""A sweep over settings in words: the table of its points, what is as good, and what a reader should know."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastbp.io.overview import Overview, fitted
from fastbp.many.points import word
from fastbp.many.sweep_points import SweepPoints
from fastbp.many.text import FEW_SEEDS
from fastbp.many.text import missing as lacking
from fastbp.validation import counted

LINES = 30  # of a printed table
FEW = 8  # of an overview


def settings(config: dict[str, Any]) -> str:
    """The settings of a point."""
    return ", ".join(f"{name} {word(value)}" for name, value in config.items())


def number(value: float, form: str = "{:.4g}") -> str:
    """A number, a dash where there is none."""
    return form.format(value) if np.isfinite(value) else "-"


def decimals(sweep: SweepPoints) -> int | None:
    """Decimals that all means and errors are shown with; None where they are of too different sizes for that.

    So many that the smallest error has a digit, but no mean more than five.
    """
    means = np.abs(sweep.mean[np.isfinite(sweep.mean)])
    errors = sweep.error[np.isfinite(sweep.error) & (sweep.error > 0.0)]
    if not means.size or means.max() == 0.0 or means.max() >= 1e3 * (low := means[means > 0.0].min()):
        return None
    wanted = 3 - math.floor(math.log10(low))  # four digits
    if errors.size:
        wanted = min(wanted, 1 - math.floor(math.log10(errors.min())))
    most = 4 - math.floor(math.log10(means.max()))
    found = min(wanted, most)
    return found if 0 <= found <= 6 else None


def means(sweep: SweepPoints, k: int, places: int | None) -> tuple[str, str]:
    """The mean of a point and its error, which is not known where the seeds are few and equal."""
    mean, error = float(sweep.mean[k]), float(sweep.error[k])
    if places is None:
        shown = number(mean), number(error, "{:.1g}")
    else:
        shown = number(mean, f"{{:.{places}f}}"), number(error, f"{{:.{places}f}}")
    return shown if error != 0.0 else (shown[0], "-")


def versus(sweep: SweepPoints, k: int) -> tuple[str, str]:
    """By how much a point is worse than the best, and the error of that."""
    difference, error = float(sweep.difference[k]), float(sweep.difference_error[k])
    if k == sweep.best_index or not math.isfinite(difference):
        return "-", "-"
    error = error or math.nan  # seeds that agree in all digits tell no error
    if not sweep.comparison.relative:
        places, signed = decimals(sweep), -difference if sweep.larger else difference
        if places is None:
            return f"{signed:+.2g}", number(error, "{:.1g}")
        return f"{signed:+.{places}f}", number(error, f"{{:.{places}f}}")
    factor = math.exp(min(difference, 700.0))
    if factor >= 1.995:
        return f"x{factor:.3g}", number(factor * error, "{:.2g}")
    return f"{100 * (factor - 1.0):+.2g} %", number(100 * factor * error, "{:.2g} %")


def remark(sweep: SweepPoints, k: int) -> str:
    """What became of a point."""
    found = [f"{status} ({count})" for status in ("diverged", "open") if (count := _count(sweep, k, status))]
    if k == sweep.best_index:
        found.append("best")
    elif sweep.as_good[k]:
        found.append("as good")
    if k == sweep.top_index != sweep.best_index:
        found.append("best mean")
    return ", ".join(found)


def _count(sweep: SweepPoints, k: int, status: str) -> int:
    return int((sweep.status[k] == status).sum())


def order(sweep: SweepPoints) -> list[int]:
    """Points from the best on, by their differences from it."""
    keys = np.where(np.isfinite(sweep.difference), sweep.difference, np.inf)
    keys[[k == sweep.best_index for k in range(len(keys))]] = -np.inf
    return np.argsort(keys, kind="stable").tolist()  # type: ignore[no-any-return]


def _rows(sweep: SweepPoints, most: int) -> list[tuple[str, ...]]:
    found, places = [], decimals(sweep)
    for k in order(sweep)[:most]:
        cells = [word(value) for value in sweep.configs[k].values()]
        ended = f"{_count(sweep, k, 'finished')}/{len(sweep.seeds)}"
        figures = *means(sweep, k, places), *versus(sweep, k)
        found.append((*cells, *figures, ended, remark(sweep, k)))
    return found


def _head(sweep: SweepPoints) -> tuple[str, ...]:
    return (*sweep.configs[0], sweep.metric, "+-", "vs best", "+-", "runs", "")


def title(sweep: SweepPoints) -> str:
    """What was swept."""
    network = str(sweep.about.get("network", "")).strip("<>").removeprefix("fastbp.")
    return (
        f"{counted(len(sweep.configs), 'point')} x {counted(len(sweep.seeds), 'seed')}, by {sweep.metric}"
        + f": {network}" * bool(network)
    )


def overview(sweep: SweepPoints) -> Overview:
    """The best points, and what is to be known of them."""
    return Overview(
        title(sweep),
        _head(sweep),
        _rows(sweep, FEW),
        [*_left(sweep, FEW), *smoothing(sweep), *result(sweep), *notes(sweep)],
    )


def _left(sweep: SweepPoints, most: int) -> list[str]:
    return [f"... and {counted(len(sweep.configs) - most, 'more point')}"] if len(sweep.configs) > most else []


def describe(sweep: SweepPoints, width: int = 80) -> str:
    """Title, table, result and notes, in lines of so many columns."""
    rows = [_head(sweep), *_rows(sweep, LINES)]
    widths = [max(len(row[c]) for row in rows) for c in range(len(rows[0]) - 1)]
    lines = ["  ".join([*(c.rjust(w) for c, w in zip(row, widths, strict=False)), row[-1]]).rstrip() for row in rows]
    parts = [
        title(sweep),
        "",
        *lines,
        *_left(sweep, LINES),
        *(f"({one})" for one in smoothing(sweep)),
        "",
        *result(sweep),
        *(f"note: {one}" for one in notes(sweep)),
    ]
    return fitted("\n".join(parts).strip(), width)


def smoothing(sweep: SweepPoints) -> list[str]:
    """What "vs best" compares, where that is not the means of the table."""
    pairs = sweep.grid.whole and any(sweep.grid.pairs(k) for k in range(len(sweep.configs)))
    if sweep.best_index is None or not pairs:
        return []
    failed = "" if np.isfinite(sweep.mean).all() else "; one that failed counts as the worst"
    return [f"vs best: of values smoothed over the neighbours along axes of numbers{failed}"]


def result(sweep: SweepPoints) -> list[str]:
    """The best point, and the values that are as good."""
    if sweep.best is None:
        return []
    found = [f"best: {settings(sweep.best)}"]
    if sweep.as_good.sum() > 1:
        said = []
        for axis, (name, values) in enumerate(sweep.grid.axes.items()):
            there = sorted(set(sweep.grid.places[sweep.as_good, axis].tolist()))
            if len(values) > 1:
                said.append(f"{name} " + ("any" if len(there) == len(values) else _values(values, there)))
        more = int(sweep.as_good.sum()) - 1
        found.append(f"as good {'is' if more == 1 else 'are'} {counted(more, 'more point')}, with {'; '.join(said)}")
    return found


def _values(values: list[Any], there: list[int]) -> str:
    shown = [word(values[k]) for k in there]
    return ", ".join(shown) if len(shown) <= 4 else f"{shown[0]} to {shown[-1]}"


# --- notes ------------------------------------------------------------------------------------------------------


def notes(sweep: SweepPoints) -> list[str]:
    """What a reader should know of the figures, the most important first."""
    missing, n = int((sweep.status == "open").sum()), len(sweep.seeds)
    found = []
    if missing:
        found.append(f"the sweep was interrupted, {lacking(missing)}: what is said is provisional")
    if sweep.best_index is None:
        found.append("no point has finished with all its seeds: try smaller rates, or scale the inputs")
        return found
    found += [*edges(sweep), *divergence(sweep), *luck(sweep)]
    if n == 1:
        found.append("one seed: no standard error, so nothing but the best counts as good")
    elif n < FEW_SEEDS:
        found.append(f"{n} seeds: what is as good is indicative; {FEW_SEEDS} or more make it reliable")
    if not sweep.grid.whole:
        found.append("the points are drawn and have no neighbours: each is judged by its own seeds alone")
    return found


def edges(sweep: SweepPoints) -> list[str]:
    """Axes of numbers at whose end the best lies, unless all of their values are as good or there is nothing beyond."""
    found: list[str] = []
    if sweep.best_index is None:
        return found
    for axis, (name, values) in enumerate(sweep.grid.axes.items()):
        here, last = int(sweep.grid.places[sweep.best_index, axis]), len(values) - 1
        if not sweep.grid.numeric[axis] or last == 0 or 0 < here < last or (here == 0 and float(values[0]) == 0.0):
            continue
        if len(set(sweep.grid.places[sweep.as_good, axis].tolist())) == len(values):
            continue
        side, where = ("lowest", "downwards") if here == 0 else ("highest", "upwards")
        found.append(f"the best {name}, {word(values[here])}, is the {side} of those swept: extend the sweep {where}")
    return found


def divergence(sweep: SweepPoints) -> list[str]:
    """Neighbours of the best point, along an axis of numbers, with runs that diverged."""
    found: list[str] = []
    if sweep.best_index is None or not sweep.grid.whole:
        return found
    for axis, (name, values) in enumerate(sweep.grid.axes.items()):
        for step in (-1, 1) if sweep.grid.numeric[axis] else ():
            k = sweep.grid.beside(sweep.best_index, axis, step)
            if k is not None and (count := _count(sweep, k, "diverged")):
                here, there = values[sweep.grid.places[sweep.best_index, axis]], values[sweep.grid.places[k, axis]]
                found.append(
                    f"next to the best, at {name} {word(there)}, {count} of {len(sweep.seeds)} runs diverge: a {name} "
                    f"{'below' if step > 0 else 'above'} {word(here)} is safer"
                )
    return found


def luck(sweep: SweepPoints) -> list[str]:
    """Said if the best mean is that of a point which is not as good as the best."""
    k, best = sweep.top_index, sweep.best_index
    if k is None or best is None or sweep.as_good[k]:
        return []
    return [
        f"{settings(sweep.configs[k])} has the best mean, {number(sweep.mean[k])} against {number(sweep.mean[best])}, "
        "but its neighbours do not bear it out: the best is by the smoothed values"
    ]
