"""`fastbp train` of several networks: an ensemble, the folds of a cross-validation, or one network a group of rows."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import click

from fastbp.cli import build
from fastbp.cli.output import Failure, Interrupted, make_ready, print_json, say, score_text, shows_progress
from fastbp.cli.subject import is_table, opened
from fastbp.cli.summary import chosen, describe
from fastbp.errors import NetworksFailed, SweepInterrupted

if TYPE_CHECKING:
    from fastbp.cli.subject import Subject

MODES = {"ensemble": "--ensemble", "cross_validate": "--cross-validate", "by": "--by"}
# Options that are about one training.
_OF_ONE = {
    "checkpoint": "--checkpoint", "resume": "--resume", "history": "--history", "refit": "--refit", "test": "--test",
}  # fmt: skip


def mode(settings: Any) -> str | None:
    """Which of the options was given, if any; contradictions are refused."""
    given = [name for name in MODES if getattr(settings, name) is not None]
    if not given:
        return None
    if len(given) > 1:
        raise click.UsageError(f"{MODES[given[0]]} and {MODES[given[1]]} are two tasks: leave one of them out")
    one = MODES[given[0]]
    for name, option in _OF_ONE.items():
        if getattr(settings, name):
            raise click.UsageError(f"{option} is about one network, but {one} trains several: leave it out")
    if settings.compare == "numpy":
        raise click.UsageError(f"--compare numpy is about one network, but {one} trains several: leave it out")
    if settings.out is not None and (given[0] != "ensemble" or is_table(settings)):
        raise click.UsageError(
            f"--out saves an ensemble of the digits or of an NPZ; what {one} trains here is measured, not saved"
        )
    if settings.by is not None and not is_table(settings):
        raise click.UsageError("--by names a column of a table, and DATA has none")
    return given[0]


def train_several(settings: Any, hyper: Any, optimizer: Any, name: str) -> dict[str, Any]:
    """Do what --ensemble, --cross-validate or --by asks for; returns what --json prints."""
    from fastbp.cli.load import subject

    test: tuple[Any, ...] | None = None
    names: list[Any] = []
    if name == "by":
        found, names, test = _by_group(settings, hyper, optimizer)
    else:
        found = subject(settings, hyper, optimizer, validate=True)
    build.check_class_weight(settings.class_weight, found.net, found.prepared.y_train)
    about = (settings, found.hyper, found.optimizer, found.prepared, found.net, 0)
    if not settings.as_json:
        for label, text in describe(*about):
            say(label, text)
    make_ready([found.net.dtype.name])
    work = {"ensemble": _ensemble, "cross_validate": _cross_validate}
    try:
        result = _groups(settings, found, names, test) if name == "by" else work[name](settings, found)
    except SweepInterrupted as error:
        raise Interrupted(f"interrupted: {error}") from None
    except NetworksFailed as error:
        raise Failure(str(error)) from None
    return chosen(*about) | result


def _arguments(settings: Any, found: Subject) -> dict[str, Any]:
    """How `fit_many` is to train."""
    shared = {"threads": settings.threads, "progress": shows_progress(settings.as_json)}
    if found.ready is not None:
        from fastbp.callbacks import EarlyStopping

        training = {**found.ready.recipe.training}
        patience = found.ready.recipe.patience
        training["callbacks"] = [EarlyStopping(patience=patience or 1 << 30)]
        return {**training, **shared}
    split = build.validation_split(settings)
    return {
        "epochs": found.hyper.epochs, "batch_size": found.hyper.batch_size, "optimizer": found.optimizer,
        "schedule": build.schedule(settings, found.hyper.epochs, held_out=split > 0.0), "validation_split": split,
        "class_weight": settings.class_weight, "callbacks": build.callbacks(settings), **shared,
    }  # fmt: skip


def _ensemble(settings: Any, found: Subject) -> dict[str, Any]:
    from fastbp.many.ensemble import Ensemble

    prepared, arguments = found.prepared, _arguments(settings, found)
    ensemble = Ensemble(found.net, settings.ensemble)
    if found.ready is not None:
        assert found.model is not None
        if found.ready.validation is None:
            arguments["callbacks"] = []
        else:
            arguments["validation_data"] = found.model.rows(found.ready.validation)
        arguments["sample_weight"] = next(iter(found.model.rows(found.ready.train)[2:]), None)
    ensemble.fit(prepared.X_train, prepared.y_train, **arguments)
    if settings.out is not None:
        ensemble.save(settings.out)
    result: dict[str, Any] = {"members": len(ensemble), "out": settings.out, "test": None, "members_test": None}
    if prepared.X_test is not None and prepared.y_test is not None:
        rows = prepared.X_test, prepared.y_test
        members = [net.evaluate(*rows) for net in ensemble.nets]
        result |= {"test": ensemble.evaluate(*rows), "members_test": members}
        mean = {key: sum(one[key] for one in members) / len(members) for key in members[0]}
        _say(settings, "members", f"{len(members)}, each for itself: {score_text(mean)} (means)")
        _say(settings, "test", f"together: {score_text(result['test'])}")
    if settings.out is not None:
        _say(settings, "saved", f"to {settings.out}")
    return result


def _cross_validate(settings: Any, found: Subject) -> dict[str, Any]:
    from fastbp.many.cross_validation import cross_validate

    arguments = _arguments(settings, found)
    result = cross_validate(
        found.net, found.prepared.X_train, found.prepared.y_train, folds=settings.cross_validate, **arguments
    )
    if found.ready is not None:
        result.notes.append("the columns are encoded by the training rows of all folds")
    if not settings.as_json:
        for number, line in enumerate(str(result).splitlines()):
            say("" if number else "folds", line)
    return {"cross_validation": result.document()}


def _by_group(settings: Any, hyper: Any, optimizer: Any) -> tuple[Any, list[Any], tuple[Any, ...]]:
    """The rows to train on, the group of each, and the same of the rows to test on: a share of each group."""
    import numpy as np

    from fastbp import datasets
    from fastbp.cli.table import table_subject
    from fastbp.io import frames
    from fastbp.tables import apply

    frame = frames.frame(opened(settings.data), delimiter=settings.delimiter, encoding=settings.encoding)
    if settings.by not in frame.names:
        raise click.BadParameter(
            f"no column is named {settings.by!r}; there are {', '.join(frame.names[:10])}", param_hint="--by"
        )
    wanted = [name for name in settings.targets if name in frame.names]
    there = np.ones(frame.data.height if hasattr(frame.data, "height") else len(frame.data), bool)
    for name in [settings.by, *wanted]:
        there &= np.array([one not in (None, "") for one in frame.data[name].to_list()])
    frame = frame.take(np.flatnonzero(there))
    groups = np.array([str(one) for one in frame.data[settings.by].to_list()])
    kept, held = np.arange(len(groups)), np.arange(0)
    if settings.test_fraction:
        kept, held = datasets.split_rows(
            np.unique(groups, return_inverse=True)[1], settings.test_fraction, settings.seed % 2**32, stratify=True
        )
        kept, held = np.sort(kept), np.sort(held)
    changed = dataclasses.replace(
        settings, drop=(*settings.drop, settings.by), test_fraction=0.0, validation_split=0.0
    )  # fmt: skip
    found = table_subject(changed, hyper, optimizer, validate=False, data=frame.take(kept).data)
    assert found.model is not None
    test: tuple[Any, ...] = ()
    if held.size:
        part, _ = apply.part(found.model, found.model.frame(frame.take(held).data, settings.targets[0]))
        test = found.model.rows(part)[:2]
    return found, groups[kept].tolist(), (*test, groups[held].tolist())


def _groups(settings: Any, found: Any, names: list[Any], test: Any) -> dict[str, Any]:
    from fastbp.many.groups import fit_groups

    prepared, arguments = found.prepared, _arguments(settings, found)
    arguments["callbacks"] = []
    if len(names) != len(prepared.X_train):
        raise Failure(f"--by needs the target in every row: {len(names) - len(prepared.X_train)} rows lack it")
    model = fit_groups(found.net, prepared.X_train, prepared.y_train, by=names, **arguments)
    result: dict[str, Any] = {"groups": model.groups, "test": None}
    _say(settings, "groups", f"{len(model):,}, of {min(map(names.count, model.groups)):,} rows and more")
    if len(test) == 3 and test[2]:
        result["test"] = {str(name): scores for name, scores in model.evaluate(*test).items()}
        ordered = sorted(result["test"].items(), key=lambda one: -one[1]["loss"])
        for number, (name, scores) in enumerate(ordered[:10]):
            _say(settings, "" if number else "test", f"{name}: {score_text(scores)}")
        if len(ordered) > 10:
            _say(settings, "", f"... and {len(ordered) - 10:,} groups with a smaller loss")
    return result


def _say(settings: Any, label: str, text: str) -> None:
    if not settings.as_json:
        say(label, text)


def show(result: dict[str, Any], settings: Any) -> None:
    """What --json prints."""
    if settings.as_json:
        print_json(result)
