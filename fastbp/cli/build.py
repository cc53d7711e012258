"""What the options ask for, made: optimiser, schedule, callbacks and network."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import click

from fastbp.cli.defaults import (
    CHECKPOINT_MINUTES,
    DIGITS,
    PLATEAU_EPOCHS,
    PLATEAU_FACTOR,
    STEP_FACTOR,
    TABLE,
    TOL_EPOCHS,
    VALIDATION_SPLIT,
    Hyperparameters,
)  # fmt: skip

if TYPE_CHECKING:
    from fastbp.data.prepare import PreparedData
    from fastbp.network import MLP


def optimizer(settings: Any, hyper: Hyperparameters) -> Any:
    """The optimiser; the default learning rate belongs to the default optimiser, another brings its own."""
    from fastbp import activations, losses, optimizers

    for option, names, get in (
        ("--activation", hyper.activation.split(","), activations.get),
        ("--loss", [settings.loss] if settings.loss is not None else [], losses.get),
        ("--optimizer", [hyper.optimizer], optimizers.get),
    ):
        for name in names:
            try:
                get(name)
            except ValueError as error:
                raise click.BadParameter(str(error), param_hint=option) from error
    defaults = DIGITS if settings.data is None else TABLE
    return adjusted(
        settings, optimizers.get(hyper.optimizer), hyper.lr if hyper.optimizer == defaults.optimizer else None
    )


def adjusted(settings: Any, chosen: Any, lr: float | None = None) -> Any:
    """An optimiser with what the options say of it; `lr` where they say nothing of that."""
    asked = ("lr", "weight_decay", "momentum", "nesterov", "clip_norm", "clip_value")
    given = {name: value for name in asked if (value := getattr(settings, name)) is not None and value is not False}
    for name in given:
        _check_known(name, chosen)
    if given.get("nesterov") and not given.get("momentum"):
        raise click.BadParameter("goes with a --momentum above 0", param_hint="--nesterov")
    if lr is not None:
        given.setdefault("lr", lr)
    try:
        return dataclasses.replace(chosen, **given)
    except ValueError as error:  # the ranges of the other options are those of the optimisers
        raise click.BadParameter(str(error), param_hint="--lr") from error


def _check_known(name: str, chosen: Any) -> None:
    """Refuse an option that the optimiser does not have."""
    from fastbp import optimizers
    from fastbp.validation import listed

    if name in arguments(type(chosen)):
        return
    if name in ("lr", "clip_norm", "clip_value"):
        why = f"{chosen.name} finds the lengths of its steps itself"
    elif name == "weight_decay":
        why = f"{chosen.name} has none; --l2 is a penalty for all optimizers"
    else:
        having = [kind for kind, one in optimizers.OPTIMIZERS.items() if name in arguments(one)]
        why = f"is for {listed(having)}, not for {chosen.name}"
    raise click.BadParameter(why, param_hint="--" + name.replace("_", "-"))


def arguments(kind: type) -> set[str]:
    """What a description can be made with."""
    return {field.name for field in dataclasses.fields(kind) if field.init}


def schedule(settings: Any, epochs: int, *, held_out: bool) -> Any:
    """What `fit` takes as its schedule; None where the rate stays as it is."""
    from fastbp import schedules

    rest = epochs - settings.warmup_epochs
    monitor = "val_loss" if held_out else "loss"
    chosen = {
        None: schedules.Constant(),
        "constant": schedules.Constant(),
        "cosine": schedules.Cosine(rest),
        "linear": schedules.Polynomial(rest),
        "exponential": schedules.Exponential(),
        "one-cycle": schedules.OneCycle(rest),
        "step": schedules.Step(rest / 3, STEP_FACTOR),
        "plateau": schedules.ReduceOnPlateau(PLATEAU_FACTOR, PLATEAU_EPOCHS - 1, monitor=monitor),
    }[settings.schedule]
    if settings.warmup_epochs:
        return schedules.Warmup(settings.warmup_epochs, chosen)
    return None if settings.schedule in (None, "constant") else chosen


def validation_split(settings: Any) -> float:
    """Share of the training rows that is held out to validate the training."""
    if settings.validation_split is not None:
        return float(settings.validation_split)
    return VALIDATION_SPLIT if settings.early_stopping is not None else 0.0


def check_class_weight(class_weight: str | None, net: Any, y: Any) -> None:
    """Refuse class weights where the targets are no classes."""
    if class_weight is None:
        return
    if not net.loss.link.classifies or y.ndim != 1:
        raise click.UsageError(f"--class-weight is for one class a row; the loss is {net.loss.name}, y has {y.shape}")


def callbacks(settings: Any) -> list[Any]:
    """The callbacks of `fit`."""
    from fastbp.callbacks import Checkpoint, EarlyStopping, MaxSeconds

    chosen: list[Any] = []
    if settings.early_stopping is not None:
        chosen.append(EarlyStopping(patience=settings.early_stopping))
    if settings.tol is not None:
        chosen.append(EarlyStopping("loss", TOL_EPOCHS, settings.tol, restore_best=False))
    if settings.max_seconds is not None:
        chosen.append(MaxSeconds(settings.max_seconds))
    if settings.checkpoint is not None:
        chosen.append(
            Checkpoint(settings.checkpoint, every_seconds=60.0 * (settings.checkpoint_minutes or CHECKPOINT_MINUTES))
        )
    return chosen


def network(settings: Any, hyper: Hyperparameters, prepared: PreparedData) -> MLP:
    """The network, with its scaling."""
    import fastbp

    names = hyper.activation.split(",")
    net = fastbp.MLP(
        [prepared.n_in, *hyper.hidden, prepared.n_out],
        activation=names[0] if len(names) == 1 else names,
        loss=smoothed(prepared.loss, settings.label_smoothing),
        dropout=settings.dropout,
        input_noise=settings.input_noise,
        l1=settings.l1,
        l2=settings.l2,
        max_norm=settings.max_norm,
        dtype=settings.dtype,
        seed=settings.seed,
    )
    net.class_labels = prepared.class_labels
    on_by_default = settings.data is not None
    if on_by_default if settings.standardize is None else settings.standardize:
        net.standardize(prepared.X_train, prepared.y_train if net.loss.link.can_scale_y else None)
    return net


def smoothed(loss: Any, smoothing: float) -> Any:
    """The loss with its labels smoothed."""
    from fastbp import losses
    from fastbp.validation import listed

    if not smoothing:
        return loss
    description = losses.get(loss)
    having = [name for name, kind in losses.LOSSES.items() if "label_smoothing" in arguments(kind)]
    if description.name not in having:
        raise click.UsageError(f"--label-smoothing is for {listed(having)}; the loss is {description.name}")
    return dataclasses.replace(description, **{"label_smoothing": smoothing})
