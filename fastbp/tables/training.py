"""The halves of `TableModel.fit`: a table is split and encoded, and the network that the recipe asks for is trained."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from fastbp import datasets, losses
from fastbp.callbacks.stopping import EarlyStopping
from fastbp.errors import DivergenceError
from fastbp.history import History
from fastbp.io.faults import TableError
from fastbp.network import MLP
from fastbp.tables import apply, large, prepared, recipe
from fastbp.tables.encoder import Encoder
from fastbp.tables.prepared import Part, Prepared, Roles
from fastbp.tables.target import CLASSES, QUANTITIES, Target
from fastbp.types import Array

_FOREVER = 1 << 30  # epochs
_TOLD = ("optimizer", "epochs", "batch_size", "schedule", "class_weight")  # arguments of `fit` that the file keeps
_FEWEST = 10  # rows of which some are held out to choose the best epoch


def prepare(
    model: Any, data: Any, roles: Roles, test: Any, test_fraction: float, validation_data: Any = None
) -> Prepared:
    """Decide what the columns are, split the rows, encode them, and make the network; a fault changes nothing."""
    made = copy.copy(model)
    made.trained = {}
    ready = _prepare(made, data, roles, test, test_fraction, validation_data)
    vars(model).update(vars(made))
    return ready


def _prepare(model: Any, data: Any, roles: Roles, test: Any, test_fraction: float, validation_data: Any) -> Prepared:
    names = roles.target
    loss = None if model.loss is None else model.loss.name
    asked = (roles, model.reading, loss, model.log_target)
    looked = large.look(data, *asked, **model.file_options)
    if looked is None:
        looked = prepared.look(model.frame(data, names[0] if names else None), *asked)
    rows, test_rows = np.arange(len(looked)), None
    try:
        if test is None and test_fraction:
            rows, test_rows = prepared.halves(looked, test_fraction, model.seed)
        train_rows, held = _held(model, looked, rows) if validation_data is None else (rows, None)
    except ValueError as error:
        raise TableError(looked.source, [str(error)]) from error
    chosen = recipe_of(model, len(train_rows), 1, looked.target.kind)
    encoder = Encoder.learn(prepared.select(looked.columns, train_rows), chosen.scaling)
    if not encoder.columns:
        raise TableError(looked.source, ["no column varies, so there is nothing to learn from"])
    chosen = recipe_of(model, len(train_rows), len(encoder.inputs), looked.target.kind)
    X, unseen = encoder.encode(looked.columns, np.dtype(model.dtype))
    whole = Part(X, looked.y, looked.weight)
    parts = [None if some is None else whole.take(some) for some in (train_rows, held, test_rows)]
    notes = [*looked.notes, *prepared.describe(looked.columns, encoder)]
    model.roles, model.encoder, model.scores = roles, encoder, {}
    model.target = looked.target
    if chosen.scaling != "none":
        model.target = looked.target.scaled(looked.y[train_rows], loss_of(model, looked.target))
    for place, (name, given) in enumerate((("validation", validation_data), ("test", test)), start=1):
        if given is not None:
            parts[place], said = apply.part(model, model.frame(given, names[0]))
            notes += [f"{name}: {one}" for one in said]
    train, validation, tested = parts
    assert train is not None
    if looked.target.kind == CLASSES:
        classes = [str(one) for one in model.classes or ()]
        splits = [(train_rows, held, rows), (rows, test_rows, np.arange(len(looked)))]
        for kept, out, all_rows in splits:
            if out is not None and (rare := datasets.too_rare(looked.y, kept, out, classes, len(all_rows))):
                notes.append(rare)
    _note(model, notes, train, validation, tested, unseen)
    model.net = network_of(model, chosen)
    _priors(model, train)
    model.trained["columns"] = list(looked.columns)
    model.notes = notes
    return Prepared(train, validation, tested, model.target, encoder, chosen, notes)


def _held(model: Any, looked: prepared.Looked, rows: Array) -> tuple[Array, Array | None]:
    """Rows to train on, and those that choose the best epoch."""
    share = model.validation
    if share is None:
        share = recipe_of(model, len(rows), 1, looked.target.kind).validation
    if not share or len(rows) < _FEWEST:
        return rows, None
    return prepared.halves(looked, share, model.seed + 1, rows)


def recipe_of(model: Any, n_rows: int, n_inputs: int, kind: str) -> recipe.Recipe:
    """The recipe, with what the user says in its place."""
    found: recipe.Recipe = model.chooser(n_rows, n_inputs, kind)
    network = {**found.network, **model.network}
    hidden = tuple(network.pop("hidden", found.hidden))
    training = {**found.training, **model.training}
    if getattr(training.get("optimizer"), "full_batch", False):
        training.pop("drop_last", None)
    if "epochs" in model.training and "schedule" not in model.training:
        training["schedule"] = recipe.stretched(found.training.get("schedule"), model.training["epochs"])
    return dataclasses.replace(found, hidden=hidden, network=network, training=training)


def loss_of(model: Any, target: Target) -> Any:
    """The loss that was asked for, or the one for such a target."""
    if model.loss is not None:
        return model.loss
    return losses.get({CLASSES: "cross_entropy", QUANTITIES: "mse"}.get(target.kind, "binary_cross_entropy"))


def network_of(model: Any, chosen: recipe.Recipe) -> MLP:
    """A new network for the columns and the target."""
    assert model.target is not None
    assert model.encoder is not None
    loss, n_out = loss_of(model, model.target), model.target.n_out
    if model.target.kind == CLASSES and not loss.link.one_class:
        if n_out != 2:
            raise ValueError(f"y holds {n_out} classes, but {loss.name} separates two; use loss='cross_entropy'")
        n_out = 1
    if model.loss is None and chosen.label_smoothing and model.target.kind == CLASSES:
        loss = losses.CrossEntropy(label_smoothing=chosen.label_smoothing)
    arguments = {"dtype": model.dtype, "seed": model.seed, "loss": loss, **chosen.network}
    net = MLP([len(model.encoder.inputs), *chosen.hidden, n_out], **arguments)
    if model.target.kind == CLASSES and not model.target.boolean:
        net.class_labels = list(model.target.labels)
    return net


def _note(
    model: Any, notes: list[str], train: Part, validation: Part | None, test: Part | None, unseen: Mapping[str, Any]
) -> None:  # fmt: skip
    assert model.target is not None
    notes.append(apply.target_line(model.target, loss_of(model, model.target), model.reading))
    said = f"{len(train):,} rows to train on"
    if validation is not None:
        said += f", {len(validation):,} choose the best epoch"
        said += " (then all are trained on)" * model.refit
    if test is not None:
        said += f", {len(test):,} held out"
    how = f", by {model.roles.time}" if model.roles.time else f", by {model.roles.group}" if model.roles.group else ""
    how += f", weighted by {model.roles.weight}" if model.roles.weight else ""
    notes.append(f"{said}{how}; inputs {train.X.shape[1]}, outputs {model.target.n_out}")
    notes += apply.unseen_lines(unseen, "the training rows")


def _priors(model: Any, train: Part) -> None:
    """What a trivial prediction needs: the shares of the classes, or the mean."""
    assert model.target is not None
    w = np.ones(len(train)) if train.weight is None else train.weight
    if model.target.kind == CLASSES:
        prior = np.bincount(train.y, w, model.target.n_out) / max(w.sum(), 1e-300)
    else:
        prior = np.average(train.y, axis=0, weights=w if w.sum() > 0 else None)
    model.trained = {"prior": np.atleast_1d(prior).tolist(), "rows": len(train)}


def train(
    model: Any, ready: Prepared, changed: Mapping[str, Any], callbacks: list[Any], resume: Any, progress: bool
) -> History:
    """Train the network on what `prepare` returned."""
    assert model.net is not None
    arguments = {
        "precision": model.precision,
        **ready.recipe.training,
        **changed,
        "threads": model.threads,
        "progress": progress,
    }
    arguments |= {"callbacks": list(callbacks), "resume": resume}
    best = None
    if ready.validation is not None:
        arguments["validation_data"] = model.rows(ready.validation)
        best = next((one for one in callbacks if isinstance(one, EarlyStopping) and one.restore_best), None)
        if best is None:
            best = EarlyStopping(ready.recipe.monitor, patience=ready.recipe.patience or _FOREVER, ties="last")
            arguments["callbacks"] = [best, *callbacks]
    X, y, *weights = model.rows(ready.train)
    try:
        history: History = model.net.fit(X, y, sample_weight=weights[0] if weights else None, **arguments)
    except DivergenceError as error:
        error.scaled = ready.recipe.scaling != "none"
        raise
    n = len(history.loss)
    model.trained |= {"epochs": n, "best_epoch": n if best is None else best.best_epoch}
    scores = history.val_score if ready.recipe.monitor == "val_score" else ()
    if ready.validation is not None and recipe.still_falls(history.val_loss, scores):
        more = f"--epochs {2 * n}" if model.reading.shell else f"training={{'epochs': {2 * n}}}"
        model.notes.append(f"the validation loss still fell when {n} epochs were over; {more} may do better")
    model.trained["recipe"] = {
        name: one if isinstance(one, int) else repr(one) for name in _TOLD if (one := arguments.get(name))
    }
    model.trained["recipe"]["scaling"] = ready.recipe.scaling
    if model.refit and best is not None and ready.validation is not None:
        _train_again(model, ready, arguments, best.best_epoch)
    return history


def _train_again(model: Any, ready: Prepared, arguments: dict[str, Any], epochs: int) -> None:
    """On the validation rows too, from the same start, until the epoch that was best."""
    assert model.net is not None
    assert ready.validation is not None
    history = model.net.history
    both = prepared.joined(ready.train, ready.validation)
    net = network_of(model, ready.recipe)
    stop = recipe.StopAfter(epochs)
    again = {name: one for name, one in arguments.items() if name not in ("validation_data", "resume")}
    X, y, *weights = model.rows(both)
    net.fit(X, y, sample_weight=weights[0] if weights else None, **{**again, "callbacks": [stop]})
    net.history = history
    model.net = net
    model.trained["refit_rows"] = len(both)
