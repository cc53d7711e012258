"""Checks before the data are read: files that cannot be written, and options that would have no effect."""

from __future__ import annotations

import importlib.util
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fastbp.cli.defaults import Hyperparameters
from fastbp.cli.output import Failure
from fastbp.io.files import is_special

if TYPE_CHECKING:
    from fastbp.optimizers import Optimizer

# What matplotlib writes without more packages.
PICTURES = (".png", ".svg", ".pdf", ".jpg")


def check_out(out: str | os.PathLike[str] | None, option: str) -> None:
    """Refuse a file that cannot be written before, not after, the work."""
    if out is None:
        return
    if is_special(out):  # written to as it is
        if not os.access(out, os.W_OK):
            raise click.BadParameter(f"{out!r} cannot be written: it is not yours to write to", param_hint=option)
        return
    folder = Path(out).resolve().parent
    if not folder.is_dir():
        raise click.BadParameter(f"the folder {str(folder)!r} does not exist", param_hint=option)
    _check_writable(folder, str(out), option)


def check_picture(path: str | None, option: str) -> None:
    """Refuse a picture in a format that matplotlib cannot write, or without matplotlib."""
    if path is None:
        return
    if Path(path).suffix.lower() not in PICTURES:
        raise click.BadParameter(f"must end in {', '.join(PICTURES)}", param_hint=option)
    if importlib.util.find_spec("matplotlib") is None:
        raise Failure(f'{option} needs matplotlib: pip install "fastbp[plot]"')


def check_outs(settings: Any, names: Sequence[str]) -> None:
    """Refuse files that cannot be written, one for two purposes, and the file of the data."""
    seen = {} if settings.data is None else {os.path.realpath(settings.data): "DATA"}
    for name in names:
        path, option = getattr(settings, name), f"--{name}"
        check_out(path, option)
        if path is None or is_special(path):
            continue
        if os.path.isdir(path):
            raise click.BadParameter(f"{path!r} is a directory", param_hint=option)
        other = seen.setdefault(os.path.realpath(path), option)
        if other != option:
            raise click.UsageError(f"{other} and {option} name the same file")


def check_folder(folder: str | None, option: str) -> None:
    """Refuse a folder that can neither be written to nor made; nothing is made yet."""
    if folder is None:
        return
    try:
        there = Path(folder).resolve()
        while not there.exists():
            there = there.parent
    except OSError as error:  # a name that is too long
        raise click.BadParameter(f"{folder!r} cannot be made: {error.strerror}", param_hint=option) from error
    if not there.is_dir():
        raise click.BadParameter(f"{folder!r} cannot be made: {str(there)!r} is no folder", param_hint=option)
    _check_writable(there, folder, option)


def _check_writable(folder: Path, path: str, option: str) -> None:
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise click.BadParameter(f"{path!r} cannot be written: {error.strerror}", param_hint=option) from error


def check_callbacks(settings: Any, hyper: Hyperparameters) -> None:
    """Refuse options about checkpoints, early stopping and warm-up that contradict each other."""
    if settings.checkpoint is None:
        for option, given in (("--resume", settings.resume), ("--checkpoint-minutes", settings.checkpoint_minutes)):
            if given:
                raise click.UsageError(f"{option} is about the checkpoints in a folder: say where, by --checkpoint DIR")
    if settings.early_stopping is not None and settings.validation_split == 0.0:
        raise click.UsageError("--early-stopping watches rows held out: leave --validation-split 0 out")
    if settings.warmup_epochs >= hyper.epochs:
        raise click.BadParameter(
            f"a warm-up of {settings.warmup_epochs:g} in --epochs {hyper.epochs} leaves none for what comes after it; "
            "fewer of the one, or more of the other",
            param_hint="--warmup-epochs",
        )
    check_folder(settings.checkpoint, "--checkpoint")


def check_precision(settings: Any) -> None:
    """Refuse products that this CPU does not have, or that are for another dtype."""
    if settings.precision != "float32":
        import numpy as np

        from fastbp.engine import precisions

        try:
            precisions.check(settings.precision, np.dtype(settings.dtype))
        except ValueError as error:
            raise click.BadParameter(str(error), param_hint="--precision") from error


def check_effects(settings: Any, hyper: Hyperparameters, optimizer: Optimizer, *, rates: bool = False) -> None:
    """Refuse what this optimiser would ignore, or cannot do; `rates`: the command is about its learning rate."""
    name = optimizer.name
    if settings.dropout and not hyper.hidden:
        raise click.UsageError("--dropout needs a hidden layer; --input-noise does not")
    if optimizer.full_batch and rates:
        raise click.BadParameter(
            f"{name} finds the lengths of its steps itself: it has no learning rate to look for",
            param_hint="--optimizer",
        )
    if optimizer.full_batch:
        for option, why in (
            ("--batch-size", "takes all rows at once"),
            ("--checkpoint", "cannot go on to the same bits, for its memory is not kept"),
        ):
            if getattr(settings, option[2:].replace("-", "_")) is not None:
                raise click.BadParameter(f"{name} {why}: leave {option} out", param_hint=option)
    try:
        optimizer.check_fit(1, 1, None)
    except (ValueError, ImportError) as error:
        raise click.BadParameter(str(error), param_hint="--optimizer") from error
    for option, on in (
        ("--schedule", settings.schedule not in (None, "constant")),
        ("--warmup-epochs", settings.warmup_epochs),
    ):
        if on and refuses(optimizer, settings.schedule or "constant"):
            raise click.BadParameter(
                f"{name} adapts the lengths of its steps itself: leave {option} out", param_hint=option
            )
    _check_penalties(settings, hyper, optimizer)


def _check_penalties(settings: Any, hyper: Hyperparameters, optimizer: Optimizer) -> None:
    """One option at a time, to name the one that is refused."""
    from fastbp import regularization

    off: dict[str, Any] = {"dropout": 0.0, "input_noise": 0.0, "l1": 0.0, "l2": 0.0, "max_norm": None}
    for argument in off:
        penalties = regularization.check(**off | {argument: getattr(settings, argument)}, n_hidden=len(hyper.hidden))
        if refuses(optimizer, None, penalties):
            option = "--" + argument.replace("_", "-")
            raise click.BadParameter(
                f"{optimizer.name} needs a smooth cost that is the same at every look: leave {option} out (--l2 and "
                "--weight-decay are fine)",
                param_hint=option,
            )


def refuses(optimizer: Optimizer, *arguments: Any) -> bool:
    """Whether an optimiser cannot work under such a schedule, or with such penalties."""
    try:
        optimizer.check_fit(1, 1, *arguments)
    except ValueError:
        return True
    return False


def check_compare(settings: Any, optimizer: Optimizer) -> None:
    """Refuse to compare with NumPy what that does not know."""
    if settings.compare == "numpy" and (others := beyond_numpy(settings, optimizer)):
        raise click.UsageError(f"--compare numpy knows no {others[0]}: leave one of them out")


def beyond_numpy(settings: Any, optimizer: Optimizer) -> list[str]:
    """What the training in pure NumPy does not know, by options."""
    return [
        option
        for option, on in (
            ("--schedule", settings.schedule not in (None, "constant")),
            ("--warmup-epochs", settings.warmup_epochs),
            ("--early-stopping", settings.early_stopping is not None),
            ("--validation-split", settings.validation_split),
            ("--tol", settings.tol is not None),
            ("--max-seconds", settings.max_seconds is not None),
            ("--class-weight", settings.class_weight),
            ("--precision", settings.precision != "float32"),
            (optimizer.name, optimizer.full_batch),
        )
        if on
    ]
