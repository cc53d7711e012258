"""A model of a table at a glance: its target, its columns, and how good it is on the rows held out."""

from __future__ import annotations

from collections import Counter
from typing import Any

from fastbp.io.overview import Overview, figure_text
from fastbp.tables.target import QUANTITIES

SCORES = ("accuracy", "balanced_accuracy", "auc", "log_loss", "r2", "rmse", "mae")
# Kinds of columns -> what several of them are called.
_PLURALS = {"number": "numbers", "category": "categories", "boolean": "booleans", "date": "dates"}


def overview(model: Any) -> Overview:
    """Scores of the rows held out, beside a trivial prediction; and what was found in the table."""
    if model.target is None or model.net is None or model.encoder is None:
        return Overview("TableModel, not trained")
    kinds = Counter(column.kind.name for column in model.encoder.columns)
    columns = ", ".join(f"{n} {_PLURALS.get(kind, kind) if n > 1 else kind}" for kind, n in kinds.items())
    title = f"TableModel of {', '.join(model.target.names)} ({model.target.kind}) from {columns}"
    shape = "-".join(map(str, model.net.sizes))
    trained = f"network {shape}, {', '.join(dict.fromkeys(model.net.activations))}, {model.net.loss.name}"
    if "best_epoch" in model.trained:
        trained += f"; epoch {model.trained['best_epoch']} of {model.trained['epochs']}"
    scores = {part: found for part, found in model.scores.items() if isinstance(found, dict)}
    if not scores:
        return Overview(title, notes=[trained, *model.notes])
    trivial = "the mean alone" if model.target.kind == QUANTITIES else "the largest class alone"
    baseline = next(reversed(scores.values()))["baseline"]
    rows = [
        [name.replace("_", " "), *(figure_text(found[name]) for found in scores.values()), _baseline(baseline, name)]
        for name in SCORES
        if all(name in found for found in scores.values())
    ]
    return Overview(title, ["score", *scores, trivial], rows, [trained, *model.notes])


def _baseline(baseline: dict[str, float], name: str) -> str:
    return figure_text(baseline[name]) if name in baseline else ""
