"""Fits of many estimators side by side, by the mechanism of `fit_many`, to the bits of each one's own `fit`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from fastbp import schedules
from fastbp.engine import team
from fastbp.errors import DivergenceError
from fastbp.many.crew import Crew
from fastbp.many.task import Task, is_known
from fastbp.numerics import own
from fastbp.sklearn import base, descent
from fastbp.sklearn.base import BaseMLP


class Fit(NamedTuple):
    """A fit to do."""

    estimator: BaseMLP
    X: Any
    y: Any
    sample_weight: Any = None


class Done(NamedTuple):
    """What has come of it."""

    error: Exception | None = None
    seconds: float = 0.0
    ran_out: bool = False  # of epochs, before it converged


def obstacle(est: BaseMLP) -> str | None:
    """The parameter that only an estimator's own `fit` can do, if there is one: code that runs after epochs."""
    params = est.get_params(deep=False)
    schedule = schedules.get(params["schedule"])
    if params["solver"] == "lbfgs":
        return "solver='lbfgs'"
    if params["early_stopping"]:
        return "early_stopping=True"
    if params["verbose"]:
        return f"verbose={params['verbose']!r}"
    if schedule is not None:
        known = isinstance(schedule, schedules.Schedule) and schedules.plateau_of(schedule) is None
        return None if known else f"schedule={params['schedule']!r}"
    if params["optimizer"] is None and params["solver"] == "sgd" and params["learning_rate"] != "constant":
        return f"learning_rate={params['learning_rate']!r}"
    strange = [type(one).__name__ for one in params["callbacks"] if not is_known(one)]
    return f"callbacks=[{', '.join(strange)}]" if strange else None


@own
def fit(fits: Sequence[Fit], threads: int | None = None) -> list[Done]:
    """Fit estimators that have no `obstacle`, each on one thread; one that fails leaves the others.

    Raises
    ------
    KeyboardInterrupt
        On Ctrl-C.
    """
    found: dict[int, Done] = {}
    todo: list[Task] = []
    for number, one in enumerate(fits):
        try:
            todo.append(_task(number, one))
        except (ValueError, TypeError) as error:
            found[number] = Done(error)
    if not Crew(todo, threads or team.default_threads(), lambda ended: None).run():
        raise KeyboardInterrupt
    for task in todo:
        found[task.number] = _done(fits[task.number].estimator, task)
    return [found[number] for number in range(len(fits))]


def _task(number: int, one: Fit) -> Task:
    est = one.estimator
    net, samples, held_out, rng = base.prepared(est, one.X, one.y, one.sample_weight)
    plan = descent.planned(est, net, samples, rng, incremental=False)
    settings, session = plan.settings, net.session
    session.check_optimizer(settings.optimizer)
    if held_out is None:
        settings.check_validation_is_not_needed()
    settings.optimizer.check_fit(
        plan.samples.n_rows, settings.batch_size, settings.schedule, session.spec.regularization
    )
    return Task(number, net, plan.samples, held_out, settings, orders=plan.orders)


def _done(est: Any, task: Task) -> Done:
    """Write what a training has seen into the attributes of its estimator."""
    history, error = task.history, task.error
    if history is None or not (error is None or isinstance(error, DivergenceError)):
        return Done(error)
    rule: Any = task.watchers[-1]
    descent.note(est, rule, history, task.samples.n_rows, error)
    if task.validation is not None:
        est.eval_losses_, est.eval_scores_ = [*history.val_loss], [*history.val_score]
    if error is not None:
        failed = ValueError(descent.NOT_FINITE)
        failed.__cause__ = error
        return Done(failed, sum(history.seconds))
    try:
        base.finished(est, task.net)
    except ValueError as not_finite:
        return Done(not_finite, sum(history.seconds))
    return Done(None, sum(history.seconds), descent.ran_out(est, rule))
