"""A summary of what `fastbp train` will do: a few lines for people, all of it for JSON."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from fastbp.cli import build
from fastbp.cli.defaults import CHECKPOINT_MINUTES, TOL_EPOCHS, Hyperparameters

if TYPE_CHECKING:
    from fastbp.data.prepare import PreparedData
    from fastbp.network import MLP
    from fastbp.optimizers import Optimizer

# Options as they were chosen, apart from those that the network or the optimiser has in it.
_AS_CHOSEN = (
    *("test_fraction", "class_weight", "schedule", "warmup_epochs", "early_stopping", "tol"),
    *("max_seconds", "checkpoint", "resume", "history", "threads", "compare", "precision"),
)


def describe(
    settings: Any, hyper: Hyperparameters, optimizer: Optimizer, prepared: PreparedData, net: MLP, n_held: int
) -> Iterator[tuple[str, str]]:
    """Labels and texts: the data, the network, the method, and what of it differs from the defaults."""
    for number, note in enumerate(prepared.notes):
        yield "" if number else "data", note
    scaled = ""
    if net.scaling is not None:
        scaled = f", inputs{' and targets' * (net.scaling.y_mean is not None)} standardized"
    shape = "-".join(map(str, net.sizes))
    yield "network", f"{shape}, {hyper.activation}, {net.n_parameters:,} parameters{scaled}"
    if penalties := str(net.regularization):
        yield "", penalties
    rate = "" if optimizer.full_batch else f"lr {optimizer.lr:g}, "
    rows = "all rows at once" if optimizer.full_batch else f"batches of {hyper.batch_size}"
    yield "method", f"{type(optimizer).__name__}, {rate}{hyper.epochs} epochs, {rows}, seed {settings.seed}"
    if special := [*_of_optimizer(optimizer), *_of_training(settings, n_held, len(prepared.X_train))]:
        yield "", ", ".join(special)


def _of_optimizer(optimizer: Any) -> Iterator[str]:
    """What differs from the optimiser's defaults, but for the learning rate."""
    for field in dataclasses.fields(optimizer):
        value = getattr(optimizer, field.name)
        if field.name != "lr" and value != field.default:
            words = field.name.replace("_", " ")
            yield words if value is True else f"{words} {_as_text(value)}"


def _as_text(value: Any) -> str:
    """A number, several of them, or a group of settings."""
    if dataclasses.is_dataclass(value):
        parts = ((field.name, getattr(value, field.name), field.default) for field in dataclasses.fields(value))
        return (
            "(" + ", ".join(f"{name.replace('_', ' ')} {_as_text(x)}" for name, x, usual in parts if x != usual) + ")"
        )
    if isinstance(value, tuple):
        return "(" + ", ".join(map(_as_text, value)) + ")"
    return value if isinstance(value, str) else f"{value:g}"


def _of_training(settings: Any, n_held: int, n: int) -> Iterator[str]:
    """What differs from the defaults of the command."""
    if settings.schedule not in (None, "constant"):
        yield f"schedule {settings.schedule}"
    if settings.warmup_epochs:
        yield f"warm-up epochs {settings.warmup_epochs:g}"
    if settings.label_smoothing:
        yield f"label smoothing {settings.label_smoothing:g}"
    if settings.class_weight:
        yield f"class weight {settings.class_weight}"
    if n_held:
        yield f"{n_held:,} of {n:,} training rows held out ({100 * n_held / n:.3g} %)"
    if settings.early_stopping:
        yield f"early stopping {settings.early_stopping}"
    if settings.precision != "float32":
        yield f"products in {settings.precision}"
    if settings.tol is not None:
        yield f"tol {settings.tol:g} for {TOL_EPOCHS} epochs"
    if settings.max_seconds is not None:
        yield f"at most {settings.max_seconds:g} s"


def of_network(settings: Any, hyper: Hyperparameters, prepared: PreparedData, net: MLP) -> dict[str, Any]:
    """What is learned, by what network: of all commands that train."""
    return {
        "data": prepared.name,
        "target": settings.targets[0] if len(settings.targets) == 1 else list(settings.targets) or None,
        "sizes": net.sizes,
        "activation": hyper.activation.split(","),
        "loss": net.loss.name,
        "label_smoothing": getattr(net.loss, "label_smoothing", 0.0),
        "regularization": net.regularization.as_arguments(),
        "standardize": net.scaling is not None,
        "seed": settings.seed,
    }


def chosen(
    settings: Any, hyper: Hyperparameters, optimizer: Optimizer, prepared: PreparedData, net: MLP, n_held: int
) -> dict[str, Any]:
    """Everything that the result depends on, and the other options."""
    minutes = settings.checkpoint_minutes or CHECKPOINT_MINUTES
    return of_network(settings, hyper, prepared, net) | {
        "train_rows": len(prepared.X_train),
        "validation_rows": n_held,
        "test_rows": 0 if prepared.X_test is None else len(prepared.X_test),
        "optimizer": {"name": optimizer.name, **dataclasses.asdict(optimizer)},
        "epochs": hyper.epochs,
        "batch_size": None if optimizer.full_batch else hyper.batch_size,
        "class_labels": net.class_labels,
        "validation_split": build.validation_split(settings),
        "checkpoint_minutes": minutes if settings.checkpoint is not None else None,
        **{name: getattr(settings, name) for name in _AS_CHOSEN},
        "schedule": settings.schedule or "constant",
        "notes": prepared.notes,
    }
