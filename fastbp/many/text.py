"""A sweep as text: a table by rate, and the curve of losses in block characters."""

from __future__ import annotations

import math

import numpy as np

from fastbp.io.overview import Overview, fitted
from fastbp.many.metrics import cost_name
from fastbp.many.statistics import NEIGHBOUR
from fastbp.many.sweep_data import NO_BETTER, SweepData
from fastbp.validation import counted

# How a run can fail: outcome -> (kind, words).
FAILURES = {
    "diverged": ("diverged", "diverged"), "stopped": ("stopped", "given up"),
    NO_BETTER: ("worse", NO_BETTER),
    "overflowed": ("overflowed", "held-out loss not finite"),
}  # fmt: skip
# Below so many seeds a standard error is itself hardly known.
FEW_SEEDS = 5
BLOCKS = " ▁▂▃▄▅▆▇█"
HEIGHT = 5
# Columns of the curve: of all of it, and for each rate.
COLUMNS, WIDTH = 68, 2


def describe(sweep: SweepData, width: int = 80) -> str:
    """Head, table, curve, result and notes, in lines of so many columns."""
    head = f"{swept(sweep)}, {sweep.about.get('optimizer', '')}\n{sweep.about.get('network', '')}"
    parts = head.strip(), table(sweep), curve(sweep), summary(sweep)
    return fitted("\n\n".join(part for part in parts if part), width)


def swept(sweep: SweepData) -> str:
    """How much was trained."""
    rates, seeds = counted(len(sweep.learning_rates), "learning rate"), counted(len(sweep.seeds), "seed")
    return f"{rates} x {seeds}, {counted(sweep.epochs, 'epoch')}"


def table(sweep: SweepData) -> str:
    """A line a rate: losses with their standard errors, paired differences, seeds that finished, what became of it."""
    own = sweep.val_metric is None
    names = ("val loss", "train loss") if own else (sweep.metric, "val loss")
    beside = sweep.mean_train_loss if own else sweep.mean_val_loss
    rows = [("lr", names[0], "+-", "vs best", "+-", names[1], "finished", "")]
    finished = (sweep.status == "finished").sum(axis=1)
    for k, rate in enumerate(sweep.learning_rates):
        rows.append((
            f"{rate:.3g}", *_measured(sweep, k), *versus(sweep, k), _figure(beside[k]),
            f"{finished[k]}/{len(sweep.seeds)}", _remark(sweep, k),
        ))  # fmt: skip
    widths = [max(len(row[c]) for row in rows) for c in range(len(rows[0]) - 1)]
    lines = []
    for row in rows:
        cells = [text.rjust(width) for text, width in zip(row[:-1], widths, strict=True)]
        lines.append("  ".join([*cells, row[-1]]).rstrip())
    # Two means do not give the difference of the smoothed: said once, so that nobody divides them in vain.
    return "\n".join([*lines, *([] if sweep.best_index is None or len(rows) == 2 else [f"({smoothing(sweep)})"])])


def smoothing(sweep: SweepData) -> str:
    """What "vs best" compares, and what a neighbour that failed does to it."""
    what = "losses" if sweep.val_metric is None else cost_name(sweep.metric, sweep.larger)
    failed = "" if sweep.eligible.all() else "; one that fails counts as untrained and so worsens its neighbours"
    return f"vs best: of {what} smoothed, half of them a rate's own and a quarter each neighbour's{failed}"


def _measured(sweep: SweepData, k: int) -> tuple[str, str]:
    """Mean and error, at a rate, of what is compared."""
    return _figure(sweep.mean_metric[k]), _figure(sweep.metric_error[k], "{:.1g}")


def versus(sweep: SweepData, k: int) -> tuple[str, str]:
    """By how much the smoothed loss of a rate exceeds that of the best, and the error of that, in words."""
    difference, error = float(sweep.difference[k]), float(sweep.difference_error[k])
    if k == sweep.best_index or not np.isfinite(difference):
        return "-", "-"
    factor = math.exp(difference)
    if factor >= 1.995:
        return f"x{factor:.3g}", _figure(factor * error, "{:.2g}")
    return f"+{100 * (factor - 1.0):.2g} %", _figure(100 * factor * error, "{:.2g} %")


def _figure(value: float, form: str = "{:.4g}") -> str:
    return form.format(value) if np.isfinite(value) else "-"


def _remark(sweep: SweepData, k: int) -> str:
    remarks = [words for _, words in failures(sweep, k)]
    if not remarks and sweep.eliminated[k]:
        remarks.append(f"eliminated after epoch {sweep.eliminated[k]}")
    elif not remarks and not sweep.eligible[k]:
        remarks.append("missing")
    if k == sweep.best_index:
        remarks.append("best, recommended")
    elif sweep.in_interval[k]:
        remarks.append("as good")
    if k == sweep.lowest_index != sweep.best_index:
        remarks.append("highest mean" if sweep.larger else "lowest mean")
    return ", ".join(remarks)


def failures(sweep: SweepData, k: int) -> list[tuple[str, str]]:
    """(kind, words) of how seeds of a rate failed."""
    found = []
    for outcome, (kind, words) in FAILURES.items():
        if count := int((sweep.outcome[k] == outcome).sum()):
            found.append((kind, f"{words} ({count} of {len(sweep.seeds)})"))
    return found


def curve(sweep: SweepData) -> str:
    """Bars of the mean loss or metric by rate, cut off at that of the initial weights.

    x where a seed failed, a dot where it is not known.
    """
    means, start = sweep.mean_metric, sweep.start_loss if sweep.start_metric is None else sweep.start_metric
    known = np.isfinite(means)
    if not known.any():
        return ""
    low = float(means[known].min())
    high = float(means[known].max())
    if sweep.larger:
        low = min(high, max(float(start.mean()), low))
    else:
        high = max(low, min(float(start.mean()), high))
    span = high - low if high > low else 1.0
    # The best rate has one eighth of a line: every bar is seen.
    eighths = 1 + np.round((np.clip(means, low, high) - low) / span * (8 * HEIGHT - 1))
    shown = _shown(sweep)
    each = max(1, min(WIDTH, COLUMNS // len(shown)))
    lines = []
    for line in range(HEIGHT - 1, -1, -1):
        cells = [BLOCKS[int(np.clip(eighths[k] - 8 * line, 0, 8)) if known[k] else 0] * each for k in shown]
        label = f"{high:.3g}" if line == HEIGHT - 1 else f"{low:.3g}" if line == 0 else ""
        lines.append(f"{label:>9} |{''.join(cells)}".rstrip())
    marks = []
    for k in shown:
        mark = "^" if k == sweep.best_index else "=" if sweep.in_interval[k] else " " if known[k] else "x"
        marks.append((mark if known[k] or failures(sweep, k) else ".").ljust(each))
    first, last = f"{sweep.learning_rates[0]:.3g}", f"{sweep.learning_rates[-1]:.3g}" if len(means) > 1 else ""
    width = max(each * len(shown), len(first) + len(last) + 1)
    lines.append(f"{'':>9} +{''.join(marks)}".rstrip())
    lines.append(f"{'lr':>9}  {first}{last:>{width - len(first)}}")
    return "\n".join(lines)


def _shown(sweep: SweepData) -> list[int]:
    """Numbers of the rates that the curve shows: all, or as many as there is room for, the best among them."""
    n = len(sweep.learning_rates)
    chosen = np.unique(np.linspace(0, n - 1, min(n, COLUMNS)).round().astype(int))
    if sweep.best_index is not None:
        chosen[np.abs(chosen - sweep.best_index).argmin()] = sweep.best_index
    return [int(k) for k in chosen]


def summary(sweep: SweepData) -> str:
    """The rates found, the boundary, the profile and the notes."""
    lines = []
    if sweep.best_lr is not None and sweep.interval is not None:
        low, high = sweep.interval
        lines.append(f"recommended lr {sweep.recommended_lr:.3g}, the best; as good from {low:.3g} to {high:.3g}")
        by_epoch = ", ".join(f"{rate:.3g}" for rate in sweep.best_by_epoch)
        lines.append(f"best by epoch: {by_epoch}")
    if sweep.divergence_boundary is not None:
        below, at = sweep.divergence_boundary
        distance = sweep.divergence_distance
        lines.append(
            f"diverges from {at:.3g} on" + ("" if below is None else f", not yet at {below:.3g}")
            + ("" if distance is None else f"; {decades(distance)} the best")
        )  # fmt: skip
    if sweep.sensitivity is not None:
        what = cost_name(sweep.metric, sweep.larger)
        lines.append(f"sensitivity {sweep.sensitivity:.3g}: the mean excess {what} over this range of log lr")
    profile = sweep.profile
    if profile["seconds_per_epoch"] is not None:
        text = (
            f"{profile['wall_seconds']:.3g} s on {counted(profile['threads'], 'thread')}, "
            f"{100 * profile['occupancy']:.0f} % busy; an epoch takes {1e3 * profile['seconds_per_epoch']:.3g} ms, "
            f"{profile['samples_per_second']:,.0f} samples/s and {profile['gflops']:.3g} GFLOP/s a run"
        )
        lost = profile["lost_seconds"]
        lines.append(text + (f"; {lost:.2g} s went to runs that diverged or were given up" if lost else ""))
    if sweep.target_loss is not None:
        taken = profile["seconds_to_target"]
        reached = f"{profile['reached_target']} of {sweep.status.size} runs reached a validation loss of"
        lines.append(f"{reached} {sweep.target_loss:g}" + ("" if taken is None else f", in {taken:.3g} s (median)"))
    return "\n".join([*lines, *(f"note: {note}" for note in notes(sweep))])


def overview(sweep: SweepData) -> Overview:
    """The rates found and their losses, in a few rows."""
    title = f"{swept(sweep)}: {str(sweep.about.get('network', '')).strip('<>').removeprefix('fastbp.')}"
    rows: list[tuple[str, ...]] = []

    def measured(k: int) -> tuple[str, ...]:
        return () if sweep.val_metric is None else _measured(sweep, k)

    for name, rate in (("recommended", sweep.recommended_lr), ("best", sweep.best_lr)):
        if rate is not None and not (rows and rate == sweep.recommended_lr):
            k = int(np.abs(np.log(sweep.learning_rates / rate)).argmin())
            losses = (_figure(sweep.mean_val_loss[k]), _figure(sweep.val_error[k], "{:.1g}"))
            rows.append((name, f"{rate:.3g}", *measured(k), *losses, _figure(sweep.mean_train_loss[k])))
    said = []
    if sweep.interval is not None:
        said.append(f"as good as the best: {sweep.interval[0]:.3g} to {sweep.interval[1]:.3g}")
    if sweep.divergence_boundary is not None:
        said.append(f"diverges from {sweep.divergence_boundary[1]:.3g} on")
    head = ("rate", "lr", *(() if sweep.val_metric is None else (sweep.metric, "+-")), "val loss", "+-", "train loss")
    return Overview(title, head, rows, [*said, *notes(sweep)])


def notes(sweep: SweepData) -> list[str]:
    """What a reader should know of the figures, the most important first."""
    n, found = len(sweep.seeds), [text for text in (boundary_near(sweep), luck(sweep), horizon(sweep)) if text]
    if n == 1:
        found.append("one seed: no standard error, so the interval is the best rate alone")
    elif n < FEW_SEEDS:
        found.append(f"{n} seeds: the interval is indicative; {FEW_SEEDS} or more make it reliable")
    if sweep.missing:
        found.insert(0, f"the sweep was interrupted, {missing(sweep.missing)}: what is said is provisional")
    elif sweep.best_index is None:
        found.insert(0, nothing_found(sweep))
    if overflowed := int((sweep.status == "overflowed").sum()):
        largest = f" (the largest: {sweep.about['largest_value']})" if "largest_value" in sweep.about else ""
        found.insert(
            0,
            f"the loss on the rows held out is not finite in {counted(overflowed, 'run')} whose training is fine: by "
            f"values that overflow{largest}, not by the rate; scale them (net.standardize), or take dtype='float64'",
        )
    if sweep.edge:
        found.insert(0, sweep.edge)
    return found


def missing(runs: int) -> str:
    """That so many runs are missing."""
    return f"{counted(runs, 'run')} {'is' if runs == 1 else 'are'} missing"


def decades(distance: float) -> str:
    """A distance in powers of ten, as words that end before what it is a distance from."""
    size = f"{abs(distance):.2g}"
    return f"{size} decade{'s' * (size != '1')} {'above' if distance >= 0 else 'below'}"


def boundary_near(sweep: SweepData) -> str:
    """A warning if the next rate above the best fails with some seed, or a smaller one diverges."""
    k, distance = sweep.best_index, sweep.divergence_distance
    if k is None:
        return ""
    if distance is not None and distance < 0:
        return f"a rate {decades(distance)} the best diverges: the best is on the far side of rates that fail"
    if k + 1 < len(sweep.learning_rates) and (failed := failures(sweep, k + 1)):
        rate = float(sweep.learning_rates[k + 1])
        words, away = ", ".join(words for _, words in failed), rate / sweep.learning_rates[k]
        if away <= NEIGHBOUR:
            return (
                f"the next rate above the best, {rate:.3g}, is {words}: only {decades(math.log10(away))} it; a smaller "
                "one is safer"
            )
    return ""


def luck(sweep: SweepData) -> str:
    """A note if the lowest mean is that of a rate which is not as good as the best."""
    k, best = sweep.lowest_index, sweep.best_index
    if k is None or best is None or sweep.in_interval[k]:
        return ""
    smoothed = "losses" if sweep.val_metric is None else f"logarithm of {cost_name(sweep.metric, sweep.larger)}"
    return (
        f"{sweep.learning_rates[k]:.3g} has the {'highest' if sweep.larger else 'lowest'} mean, "
        f"{sweep.mean_metric[k]:.4g} against {sweep.mean_metric[best]:.4g}, but its neighbours do not bear it out: the "
        f"best is by the smoothed {smoothed}"
    )


def horizon(sweep: SweepData) -> str:
    """What `best_by_epoch` shows of this sweep: whether the best rate still moves as the training goes on."""
    by_epoch, epochs = sweep.best_by_epoch, sweep.epochs
    if sweep.best_index is None or not np.isfinite(by_epoch[-1]):
        return ""
    last = by_epoch[-1]
    if epochs == 1:
        return f"{last:.3g} is the best after one epoch; sweep for as many as you will train, since the best rate moves"
    others = np.flatnonzero(by_epoch != last)
    since = int(others[-1]) + 2 if others.size else 1
    early = next(rate for rate in by_epoch if np.isfinite(rate))
    if since <= 1 + epochs // 2:
        before = f" (after the first it was {early:.3g})" if early != last else ""
        return f"the best rate is {last:.3g} since epoch {since} of {epochs}{before}"
    before = by_epoch[since - 2]
    if not np.isfinite(before):
        return f"the best rate is {last:.3g} since epoch {since} of {epochs}; before, no rate was better than untrained"
    way = "smaller" if last < before else "larger"
    first = f"{early:.3g} after the first epochs, " if early != before else ""
    return (
        f"the best rate still moves: {first}{before:.3g} after {since - 1}, {last:.3g} after {epochs}; a longer "
        f"training may want a {way} one"
    )


def nothing_found(sweep: SweepData) -> str:
    """Why there is no best rate, by what became of the lowest."""
    lowest = sweep.outcome[0]
    if (lowest == "overflowed").any():
        return "no rate has finished with all its seeds"
    if (lowest == NO_BETTER).any():
        return (
            "no rate has finished with all its seeds better than the untrained network: try smaller rates or more "
            "epochs, or see what the data hold"
        )
    return "no rate has finished with all its seeds: try smaller rates, or scale the inputs (net.standardize)"
