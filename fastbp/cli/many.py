"""`fastbp train` of several networks: an ensemble, the folds of a cross-validation, or one network a group of rows."""

from __future__ import annotations

import collections
import copy
import dataclasses
import time
from typing import TYPE_CHECKING, Any

import click

from fastbp.cli import build, several
from fastbp.cli.output import (
    Failure,
    Interrupted,
    echo,
    make_ready,
    note,
    print_json,
    quiet,
    say,
    score_text,
    seconds_text,
    shows_progress,
)
from fastbp.cli.subject import is_table, opened
from fastbp.cli.summary import chosen, describe
from fastbp.cli.table import table_score_text
from fastbp.errors import NetworksFailed, SweepInterrupted
from fastbp.io.overview import Overview

if TYPE_CHECKING:
    from fastbp.cli.subject import Subject
    from fastbp.network import MLP

FEWEST = 10  # rows of a group of which some choose its best epoch
MODES = {"ensemble": "--ensemble", "cross_validate": "--cross-validate", "by": "--by"}
# Options that are about one training.
_OF_ONE = {
    "checkpoint": "--checkpoint", "resume": "--resume", "history": "--history", "refit": "--refit", "test": "--test",
}  # fmt: skip


def mode(settings: Any) -> str | None:
    """Which of the options was given, if any; contradictions are refused."""
    given = [name for name in MODES if getattr(settings, name) is not None]
    if not given:
        if settings.journal is not None:
            raise click.UsageError(
                "--journal is for several networks (--ensemble, --cross-validate, --by): give --checkpoint"
            )
        return None
    if len(given) > 1:
        raise click.UsageError(f"{MODES[given[0]]} and {MODES[given[1]]} are two tasks: leave one of them out")
    one = MODES[given[0]]
    for name, option in _OF_ONE.items():
        if getattr(settings, name):
            raise click.UsageError(f"{option} is about one network, but {one} trains several: leave it out")
    if settings.compare == "numpy":
        raise click.UsageError(f"--compare numpy is about one network, but {one} trains several: leave it out")
    if settings.plot is not None and given[0] != "cross_validate":
        raise click.UsageError(f"--plot draws one training, or the folds of a cross-validation; leave it or {one} out")
    if settings.out is not None and given[0] == "cross_validate":
        raise click.UsageError(f"--out saves what predicts; what {one} trains is measured, not saved: leave it out")
    if settings.by is not None:
        if not is_table(settings):
            raise click.UsageError("--by names a column of a table, and DATA has none")
        for option, column in (("--time", settings.time), ("--group", settings.group)):
            if column is not None:
                raise click.UsageError(f"--by holds out rows of each group, drawn by chance: leave {option} out")
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
            note(label, text)
    make_ready([found.net.dtype.name], settings.precision)
    work = {"ensemble": _ensemble, "cross_validate": _cross_validate}
    try:
        result = _groups(settings, found, names, test) if name == "by" else work[name](settings, found)
    except SweepInterrupted as error:
        raise Interrupted(f"interrupted: {error}") from None
    except NetworksFailed as error:
        raise Failure(str(error)) from None
    return chosen(*about) | result


def _arguments(settings: Any, found: Subject, *, held: bool = True) -> dict[str, Any]:
    """How `fit_many` is to train; held: there are rows that choose the best epoch of a table."""
    shared = {
        "threads": settings.threads, "progress": shows_progress(settings.as_json), "journal": settings.journal,
        "precision": settings.precision,
    }  # fmt: skip
    chosen = build.callbacks(settings)
    if found.ready is not None:
        if held and not any(getattr(one, "restore_best", False) for one in chosen):
            chosen = [_best_epoch(found.ready.recipe), *chosen]
        return {**found.ready.recipe.training, "callbacks": chosen, "sample_weight": found.weight, **shared}
    split = build.validation_split(settings)
    return {
        "epochs": found.hyper.epochs, "batch_size": found.hyper.batch_size, "optimizer": found.optimizer,
        "schedule": build.schedule(settings, found.hyper.epochs, held_out=split > 0.0), "validation_split": split,
        "class_weight": settings.class_weight, "callbacks": chosen, **shared,
    }  # fmt: skip


def _best_epoch(recipe: Any) -> Any:
    """What keeps the best epoch, as the training of one table model does."""
    from fastbp.callbacks import EarlyStopping

    return EarlyStopping(recipe.monitor, patience=recipe.patience or 1 << 30, ties="last")


def _ensemble(settings: Any, found: Subject) -> dict[str, Any]:
    from fastbp.many.ensemble import Ensemble

    prepared, held = found.prepared, None if found.ready is None else found.ready.validation
    arguments, ensemble = _arguments(settings, found, held=held is not None), Ensemble(found.net, settings.ensemble)
    if held is not None:
        assert found.model is not None
        arguments["validation_data"] = found.model.rows(held)
    started = time.perf_counter()
    histories = ensemble.fit(prepared.X_train, prepared.y_train, **arguments)
    _trained(settings, ensemble.nets, started)
    result: dict[str, Any] = {"members": len(ensemble), "out": settings.out, "test": None, "members_test": None}
    result["epochs_trained"] = [len(one.loss) for one in histories]
    if prepared.X_test is not None and prepared.y_test is not None:
        rows = prepared.X_test, prepared.y_test
        members = [net.evaluate(*rows) for net in ensemble.nets]
        result |= {"test": ensemble.evaluate(*rows), "members_test": members}
        mean = {key: sum(one[key] for one in members) / len(members) for key in members[0]}
        _say(settings, "members", f"{len(members)}, each for itself: {score_text(mean)} (means)")
        if found.model is None:
            _say(settings, "test", f"together: {score_text(result['test'])}")
    whole: Any = ensemble
    if found.model is not None:
        whole = _of_table(found, ensemble)
        for name in ("validation", "test"):
            if (part := getattr(found.ready, name)) is not None and len(part):
                found.model.scores[name] = whole.scores(part)
        if (scores := found.model.scores.get("test")) is not None:
            result["test"] = scores
            _say(settings, "test", f"together: {table_score_text(scores)}")
    _save(settings, whole)
    return result


def _of_table(found: Any, nets: Any) -> Any:
    """Networks of a table, with its columns."""
    from fastbp.tables.several import SeveralTables

    found.model.scores = {}
    return SeveralTables(found.model, nets)


def _save(settings: Any, whole: Any) -> None:
    if settings.out is not None:
        whole.save(settings.out)
        _say(settings, "saved", f"to {settings.out}")


def _cross_validate(settings: Any, found: Subject) -> dict[str, Any]:
    from fastbp.many.cross_validation import cross_validate

    arguments, n = _arguments(settings, found), len(found.prepared.X_train)
    if settings.cross_validate > n:
        raise click.BadParameter(f"{settings.cross_validate} folds of {n:,} rows", param_hint="--cross-validate")
    started = time.perf_counter()
    result = cross_validate(
        found.net, found.prepared.X_train, found.prepared.y_train, folds=settings.cross_validate, **arguments
    )
    _trained(settings, result.nets, started)
    if found.ready is not None:
        result.notes.append("the columns are encoded by the training rows of all folds")
    if found.prepared.X_test is not None:
        result.notes.append(
            f"{len(found.prepared.X_test):,} rows held out for a test are in no fold (--test-fraction 0)"
        )
    if settings.plot is not None:
        result.plot(settings.plot)
    if not settings.as_json:
        shown = result.overview()
        echo("\n" + (Overview(shown.title, shown.head, shown.rows) if quiet() else shown).text() + "\n" * (not quiet()))
        if settings.plot is not None:
            say("picture", f"in {settings.plot}")
    return {"cross_validation": result.document()}


def _by_group(settings: Any, hyper: Any, optimizer: Any) -> tuple[Any, list[Any], tuple[Any, ...]]:
    """The rows to train on, the group of each, and the same of the rows to test on: a share of each group."""
    import numpy as np

    from fastbp import datasets
    from fastbp.cli.table import table_subject
    from fastbp.io import frames
    from fastbp.tables import apply

    frame = frames.frame(opened(settings.data), delimiter=settings.delimiter, encoding=settings.encoding)
    if settings.by in settings.targets:
        raise click.BadParameter(f"{settings.by} is the target", param_hint="--by")
    if settings.by not in frame.names:
        raise click.BadParameter(
            f"no column is named {settings.by!r}; there are {', '.join(frame.names[:10])}", param_hint="--by"
        )
    wanted = [name for name in settings.targets if name in frame.names]
    there = np.ones(frame.data.height if hasattr(frame.data, "height") else len(frame.data), bool)
    for name in [settings.by, *wanted]:
        there &= np.array([one not in (None, "") for one in frame.data[name].to_list()])
    lacking = int(np.count_nonzero(~there))
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
    if lacking:
        what = " or ".join([settings.by, *wanted])
        found.prepared.notes.append(f"left out: {lacking:,} row{'s' * (lacking > 1)} without {what}")
    test: tuple[Any, ...] = ()
    if held.size:
        part, _ = apply.part(found.model, found.model.frame(frame.take(held).data, settings.targets[0]))
        test = part, groups[held].tolist()
    return found, groups[kept].tolist(), test


def _groups(settings: Any, found: Any, names: list[Any], test: Any) -> dict[str, Any]:
    from fastbp.many.groups import fit_groups

    prepared = found.prepared
    if len(names) != len(prepared.X_train):
        raise Failure(f"--by needs the target in every row: {len(names) - len(prepared.X_train)} rows lack it")
    share = found.ready.recipe.validation if settings.validation_split is None else settings.validation_split
    # As many rows of each group choose its best epoch as of a table; of few rows none, and the last epoch is kept.
    counts = collections.Counter(names)
    splits = [share if counts[name] >= FEWEST else 0.0 for name in sorted(counts)]
    arguments = _arguments(settings, found, held=False)
    free = [one for one in arguments["callbacks"] if not one.needs_validation]
    judged = _arguments(settings, found, held=True)["callbacks"]
    arguments["callbacks"] = [[copy.copy(one) for one in (judged if split else free)] for split in splits]
    started = time.perf_counter()
    model = fit_groups(found.net, prepared.X_train, prepared.y_train, by=names, **arguments, validation_split=splits)
    _trained(settings, list(model.nets.values()), started)
    model.by = settings.by
    _say(settings, "groups", f"{len(model):,}, of {min(counts.values()):,} rows and more")
    if share and (few := splits.count(0.0)):
        _say(settings, "note", f"of {few:,} with fewer than {FEWEST} rows the last epoch is kept")
    whole = _of_table(found, model)
    result: dict[str, Any] = {"groups": model.groups, "test": None, "together": None, "out": settings.out}
    result["epochs_trained"] = {name: len(net.history.loss) for name, net in model.nets.items() if net.history}
    if test:
        scores = whole.scores(*test)
        result |= {"test": scores.pop("groups"), "together": scores}
        found.model.scores = {"test": scores}
        _say(settings, "test", table_score_text(scores))
        for line in several.group_lines(result["test"], of_table=True):
            _say(settings, "", line)
    _save(settings, whole)
    return result


def _trained(settings: Any, nets: list[MLP], started: float) -> None:
    """How many networks were trained, for how many epochs, and how long it took."""
    epochs = [len(net.history.loss) for net in nets if net.history is not None]
    lengths = f"{min(epochs)}" if min(epochs) == max(epochs) else f"{min(epochs)} to {max(epochs)}"
    taken = seconds_text(time.perf_counter() - started)
    _say(settings, "trained", f"{len(nets):,} networks, {lengths} epochs each, in {taken}")
    if settings.journal is not None:
        _say(settings, "journal", f"in {settings.journal}")


def _say(settings: Any, label: str, text: str) -> None:
    if not settings.as_json:
        say(label, text)


def show(result: dict[str, Any], settings: Any) -> None:
    """What --json prints."""
    if settings.as_json:
        print_json(result)
