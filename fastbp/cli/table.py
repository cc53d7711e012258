"""Tables at the command line: options as a `TableModel`, its recipe with what the user says, and its scores as text."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from fastbp.cli import build
from fastbp.cli.checks import refuses
from fastbp.cli.defaults import Hyperparameters
from fastbp.cli.output import warn
from fastbp.cli.subject import Subject, is_npz, opened
from fastbp.data.prepare import PreparedData

if TYPE_CHECKING:
    from fastbp.tables.model import TableModel
    from fastbp.tables.prepared import Prepared
    from fastbp.tables.recipe import Recipe
    from fastbp.types import Array

_READING = ("drop", "id", "categorical", "numeric", "dates", "missing", "decimal", "thousands", "delimiter", "encoding")


def table_subject(
    settings: Any, hyper: Hyperparameters, optimizer: Any, *, validate: bool, data: Any = None
) -> Subject:
    """A table, decided, split and encoded, with its network. data: a frame in the place of what DATA holds."""
    from fastbp.io import frames
    from fastbp.tables.model import TableModel

    targets = settings.targets or _default_targets(settings)
    validation = settings.validation_split if settings.validation_split is not None else None if validate else 0.0
    if settings.compare == "numpy" and settings.validation_split is None:
        validation = 0.0  # which the twin does not know
    model = TableModel(
        **{name: getattr(settings, name) for name in _READING},
        features=settings.features or None, log_target=settings.log_target, refit=getattr(settings, "refit", False),
        loss=settings.loss, recipe=_recipe(settings), validation=validation, dtype=settings.dtype, seed=settings.seed,
        threads=settings.threads, precision=settings.precision, shell=True,
    )  # fmt: skip
    test = getattr(settings, "test", None)
    if test is None and is_npz(settings.data):
        test = frames.held_out(settings.data, targets[0])
    roles = dataclasses.replace(
        model.roles, target=targets, weight=settings.weight, group=settings.group, time=settings.time
    )
    ready = model.prepare(
        opened(settings.data) if data is None else data, roles, opened(test) if isinstance(test, str) else test,
        0.0 if test is not None else settings.test_fraction,
    )  # fmt: skip
    assert model.net is not None
    training = ready.recipe.training
    chosen = Hyperparameters(
        ready.recipe.hidden, _names(model.net.activations) or hyper.activation, training["optimizer"].name,
        getattr(training["optimizer"], "lr", 0.0), training["epochs"], training["batch_size"],
    )  # fmt: skip
    return Subject(_as_arrays(settings, model, ready), model.net, chosen, training["optimizer"], model, ready)


def _names(activations: tuple[str, ...]) -> str:
    """As --activation takes them: one for all layers, or one each."""
    return ",".join(activations if len(set(activations)) > 1 else activations[:1])


def _default_targets(settings: Any) -> tuple[str, ...]:
    """The array y of an NPZ; without one the columns are told, if the file can be read."""
    from fastbp.io import frames

    told = ""
    if settings.data != "-":
        found = frames.frame(settings.data, delimiter=settings.delimiter, encoding=settings.encoding)
        if found.positional and (targets := tuple(name for name in found.names if name.startswith("y"))):
            return targets
        told = f"; it has {', '.join(found.names[:10])}{' ...' * (len(found.names) > 10)}"
    raise click.UsageError(f"{settings.data} needs --target NAME, the column to learn{told}")


def _as_arrays(settings: Any, model: TableModel, ready: Prepared) -> PreparedData:
    """The rows as the network takes them."""
    assert model.net is not None
    train, test = model.rows(ready.train), None if ready.test is None else model.rows(ready.test)
    return PreparedData(
        settings.data, train[0], train[1], None if test is None else test[0], None if test is None else test[1],
        model.net.loss.name, model.net.sizes[0], model.net.sizes[-1], model.net.class_labels, ready.notes,
    )  # fmt: skip


def _recipe(settings: Any) -> Callable[[int, int, str], Recipe]:
    """The library's recipe, with what the options say in its place."""
    from fastbp.tables import recipe

    def choose(n_rows: int, n_inputs: int, kind: str) -> Recipe:
        found = recipe.default(n_rows, n_inputs, kind)
        hidden = found.hidden if settings.hidden is None else settings.hidden
        network: dict[str, Any] = dict(found.network)
        for name in ("dropout", "input_noise", "l1", "l2", "max_norm"):
            if value := getattr(settings, name):
                network[name] = value
        if settings.activation is not None:
            names = settings.activation.split(",")
            network["activation"] = names[0] if len(names) == 1 else names
        if settings.label_smoothing:
            default = {"classes": "cross_entropy", "flags": "binary_cross_entropy"}.get(kind, "mse")
            network["loss"] = build.smoothed(settings.loss or default, settings.label_smoothing)
        if getattr(settings, "class_weight", None) and kind != "classes":
            raise click.UsageError("--class-weight is for one class a row; the target holds others")
        scaling = "none" if settings.standardize is False else found.scaling
        changed = dataclasses.replace(found, hidden=hidden, network=network, scaling=scaling)
        return dataclasses.replace(changed, training=_training(settings, found, n_rows))

    return choose


def _training(settings: Any, found: Recipe, n_rows: int) -> dict[str, Any]:
    """The arguments of `fit`."""
    from fastbp import optimizers
    from fastbp.tables import recipe

    training = dict(found.training)
    base = training["optimizer"]
    if settings.optimizer not in (None, base.name):
        base = optimizers.get(settings.optimizer)
    single = SimpleLr(settings) if not isinstance(settings.lr, float | None) else settings
    training["optimizer"] = rule = build.adjusted(single, base)
    epochs = training["epochs"] = getattr(settings, "epochs", None) or training["epochs"]
    training["batch_size"] = n_rows if rule.full_batch else settings.batch_size or training["batch_size"]
    schedule = recipe.stretched(training.get("schedule"), epochs)
    if settings.schedule is not None or settings.warmup_epochs or settings.compare == "numpy":
        held_out = settings.validation_split != 0.0
        schedule = build.schedule(settings, epochs, held_out=held_out)
    elif refuses(rule, schedule):
        schedule = None
    training["schedule"] = schedule
    if getattr(settings, "class_weight", None):
        training["class_weight"] = settings.class_weight
    return training


class SimpleLr:
    """Settings of a command whose --lr is no single rate."""

    def __init__(self, settings: Any) -> None:
        self.__dict__.update(vars(settings), lr=None)


# --- text ---------------------------------------------------------------------------------------------------


def table_score_text(scores: dict[str, Any]) -> str:
    """The scores of a table, beside what is trivial."""
    trivial = scores["baseline"]
    if "rmse" in scores:
        return (
            f"r2 {scores['r2']:.4f}, RMSE {scores['rmse']:.4g} (the mean alone {trivial['rmse']:.4g}), "
            f"MAE {scores['mae']:.4g} ({trivial['mae']:.4g})"
        )
    area = "" if scores["auc"] is None else f", AUC {scores['auc']:.4f}"
    return (
        f"accuracy {100 * scores['accuracy']:.2f} % (the largest class alone {100 * trivial['accuracy']:.2f} %), "
        f"balanced {100 * scores['balanced_accuracy']:.2f} %{area}, "
        f"log loss {scores['log_loss']:.4g} ({trivial['log_loss']:.4g})"
    )


@contextmanager
def told() -> Iterator[None]:
    """What the library warns of, as lines on stderr."""
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *_rest: warn(str(message))
        warnings.simplefilter("always", UserWarning)
        yield


def prediction_columns(model: TableModel, found: dict[str, Array]) -> dict[str, Array]:
    """Predictions and probabilities as columns of a CSV."""
    assert model.target is not None
    names, predicted = model.target.names, found["prediction"]
    columns = {"prediction": predicted} if predicted.ndim == 1 else {
        f"prediction_{name}": predicted[:, k] for k, name in enumerate(names)
    }  # fmt: skip
    if (proba := found.get("proba")) is None:
        return columns
    if len(names) == 1:
        return columns | {f"proba_{label}": proba[:, k] for k, label in enumerate(model.classes or ())}
    pairs = model.target.labels
    return columns | {f"proba_{name}_{pairs[k][1]}": proba[:, k] for k, name in enumerate(names)}
