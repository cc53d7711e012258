"""Several networks at a glance: how each of them was trained, in a few rows."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from fastbp.io.overview import Overview, figure_text
from fastbp.network import MLP

SHOWN = 10  # rows


def overview(title: str, kind: str, nets: Mapping[Any, MLP], notes: tuple[str, ...] = ()) -> Overview:
    """A row a network, those with the highest loss first where there are more than fit; kind: what each stands for."""
    rows = [(str(name), *_trained(net)) for name, net in nets.items()]
    left = len(rows) - SHOWN
    if left > 0:
        rows.sort(key=lambda row: -_loss(row))
        trained = any(row[1] != "-" for row in rows)
        notes = (f"... and {left:,} more{', with lower losses' * trained}", *notes)
    shape = next(iter(nets.values()))
    found = (f"each: {repr(shape).strip('<>').removeprefix('fastbp.')}", *notes)
    return Overview(title, (kind, "epochs", "loss", "val loss"), rows[:SHOWN], found)


def _trained(net: MLP) -> tuple[str, str, str]:
    history = net.history
    if history is None or not history.loss:
        return "-", "-", "-"
    last = (history.best_epoch or len(history.loss)) - 1
    val = history.val_loss[last] if last < len(history.val_loss) else math.nan
    return str(len(history.loss)), figure_text(history.loss[last]), figure_text(val)


def _loss(row: tuple[str, ...]) -> float:
    """What rows are ordered by: the loss on rows held out, or else that of the training."""
    shown = row[-1] if row[-1] != "-" else row[-2]
    return float(shown) if shown != "-" else math.inf
