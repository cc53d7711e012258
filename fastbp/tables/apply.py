"""A trained `TableModel` on other rows: columns by name, inputs, predictions, and scores in the user's units."""

from __future__ import annotations

import dataclasses
import difflib
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from fastbp.io.faults import TableError
from fastbp.io.frames import Frame
from fastbp.tables import kinds, scores_of, target
from fastbp.tables.kinds import Reading, Typed
from fastbp.tables.parallel import each
from fastbp.tables.prepared import Part, listed
from fastbp.tables.target import CLASSES, FLAGS, QUANTITIES, Target
from fastbp.types import Array


def inputs(model: Any, frame: Frame, *, told: list[str] | None = None) -> Array:
    """The inputs of the network for the rows of a table; what is odd about it is warned of, or added to `told`."""
    _check_trained(model)
    typed, said = columns(model, frame)
    X, unseen = model.encoder.encode(typed, np.dtype(model.dtype))
    said += unseen_lines(unseen, "the training rows")
    for one in model.encoder.columns:
        if one.kind.name in ("number", "date") and not one.marked and (n := typed[one.name].missing):
            what = f"{n:,} missing value{'s' * (n > 1)} in {one.name!r}"
            said.append(f"{what}, which the training rows all had: the median is taken")
    if told is not None:
        told += said
        return np.asarray(X)
    for line in said:
        warnings.warn(line, UserWarning, stacklevel=3)
    return np.asarray(X)


def _check_trained(model: Any) -> None:
    if model.net is None or model.encoder is None or model.target is None:
        raise ValueError("the model is not trained: call fit first, or load one")


def columns(model: Any, frame: Frame) -> tuple[dict[str, Typed], list[str]]:
    """The columns that the model uses, by name, and what there is to tell of the others."""
    wanted, roles = model.encoder.kinds, model.roles
    reading = dataclasses.replace(model.reading, settled=True)
    there = set(frame.names)
    faults = []
    for name in wanted:
        if name not in there:
            near = difflib.get_close_matches(name, [one for one in frame.names if one not in wanted], n=1)
            hint = f" (is it {near[0]!r}?)" if near else ""
            faults.append(f"has no column {name!r}{hint}, which the model needs; it has {listed(frame.names)}")
    names = [name for name in wanted if name in there]
    converted = each(lambda name: kinds.convert(frame, name, wanted[name], reading), names, frame.rows)
    typed = dict(zip(names, converted, strict=True))
    faults += [fault for one in typed.values() for fault in one.faults]
    if faults:
        raise TableError(frame.source, faults)
    expected = {*wanted, *roles.target, *roles.beside, *model.encoder.constant, roles.time}
    extra = [name for name in frame.names if name not in expected]
    if roles.features is not None:
        extra = []
    said = [f"columns that the model does not know are ignored: {listed(extra)}"] if extra else []
    return typed, said


def unseen_lines(unseen: Mapping[str, Mapping[str, int]], where: str) -> list[str]:
    """What to say of categories that are not among the known ones."""
    lines = []
    for name, counts in unseen.items():
        n = sum(counts.values())
        shown = ", ".join(f"{level!r:.40} ({count:,})" for level, count in list(counts.items())[:5])
        more = f" and {len(counts) - 5:,} more" if len(counts) > 5 else ""
        lines.append(f"{n:,} value{'s' * (n > 1)} of {name!r} are not in {where}: {shown}{more}")
    return lines


def part(model: Any, frame: Frame) -> tuple[Part, list[str]]:
    """Rows with their targets, those without one left out; and what there is to tell."""
    if model.encoder is None or model.target is None:
        raise ValueError("the model is not trained: call fit first, or load one")
    told: list[str] = []
    absent = [name for name in model.target.names if name not in frame.names]
    if absent:
        raise TableError(
            frame.source, [f"has no column {name!r}, the target; it has {listed(frame.names)}" for name in absent]
        )
    y, present, faults = target.known(frame, model.target, model.reading)
    weight = None
    if model.roles.weight in frame.names:
        found = kinds.decide(
            frame, model.roles.weight, dataclasses.replace(model.reading, numeric=(model.roles.weight,))
        )
        faults += found.faults
        weight = found.values.to_numpy().astype(np.float64)
        if not faults and not (weight[present] >= 0).all():
            faults.append(f"weight {model.roles.weight!r} is missing or below 0 in some rows")
    if faults:
        raise TableError(frame.source, faults)
    if not present.any():
        raise TableError(frame.source, [f"target {model.target.names[0]!r} is empty in every row"])
    if not present.all():
        n = int((~present).sum())
        told.append(f"{n:,} row{'s' * (n > 1)} without a target left out")
        frame = frame.take(np.flatnonzero(present))
    typed, said = columns(model, frame)
    X, unseen = model.encoder.encode(typed, np.dtype(model.dtype))
    told += said + unseen_lines(unseen, "the training rows")
    return Part(X, y, None if weight is None else weight[present]), told


# --- predictions --------------------------------------------------------------------------------------------


def probabilities(model: Any, X: Array) -> Array:
    """``(n, n_classes)``; ``(n, n_targets)`` of flags."""
    if model.target.kind == QUANTITIES:
        raise ValueError("predict_proba is for classes; this model predicts quantities: use predict")
    proba = np.asarray(model.net.predict_proba(X))
    if model.target.kind == FLAGS:
        return proba.reshape(len(X), -1)
    return np.stack([1.0 - proba, proba], axis=1) if proba.ndim == 1 else proba


def predictions(model: Any, X: Array) -> Array:
    """Classes or quantities as the user has them."""
    if model.target.kind == QUANTITIES:
        values = quantities(model, X)
        return values[:, 0] if values.shape[1] == 1 else values
    chosen = np.asarray(model.net.predict(X), np.int64)
    if model.target.kind == CLASSES:
        return np.asarray(model.target.named(chosen))
    chosen = chosen.reshape(len(X), -1)
    columns = [np.array(pair, dtype=object)[chosen[:, k]] for k, pair in enumerate(model.target.labels)]
    return np.stack(columns, axis=1)


def quantities(model: Any, X: Array) -> Array:
    """``(n, n_out)`` in the user's units."""
    return np.asarray(model.target.unscaled(np.asarray(model.net.predict(X))))


def scores(model: Any, rows: Part) -> dict[str, Any]:
    """How good the model is on these rows."""
    prior = np.array(model.trained["prior"])
    if rows.weight is not None and not rows.weight.sum() > 0:
        raise ValueError("the weights of all these rows are 0")
    if model.target.kind == QUANTITIES:
        return scores_of.of_quantities(rows.y, quantities(model, rows.X), rows.weight, prior)
    proba = probabilities(model, rows.X)
    if model.target.kind == FLAGS:
        return scores_of.of_flags(rows.y, proba, rows.weight, prior)
    return scores_of.of_classes(rows.y, proba, rows.weight, prior)


def target_line(found: Target, loss: Any, reading: Reading) -> str:
    """What the target is, and what to say if it is not."""
    name = found.names[0] if len(found.names) == 1 else ", ".join(found.names)
    if found.kind == CLASSES:
        shown = target.listed(["False", "True"] if found.boolean else list(found.labels), 6)
        integers = not found.boolean and isinstance(found.labels[0], int)
        other = f" ({reading.ask('numeric', found.names[0])} for quantities)" if integers else ""
        return f"{name} holds {len(found.labels)} classes, {shown}: the loss is {loss.name}{other}"
    if found.kind == FLAGS:
        return f"{name} hold two values each: the loss is {loss.name}"
    log = ", of their logarithm" if found.log else ""
    return f"{name} hold{'s' * (len(found.names) == 1)} quantities: the loss is {loss.name}{log}"
