"""What the solvers of an estimator are to the engine, and what a fit leaves in the estimator's attributes."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split

from fastbp import optimizers, schedules
from fastbp.callbacks.base import EpochState, Watcher
from fastbp.engine.threads import joblib_share
from fastbp.errors import DivergenceError
from fastbp.network import MLP
from fastbp.optimizers import LBFGS, SGD, Adam, Optimizer
from fastbp.optimizers.base import Conventions
from fastbp.sklearn.costs import constant
from fastbp.sklearn.rules import LossRule, Pace, ScoreRule
from fastbp.spec import Samples
from fastbp.training import lbfgs
from fastbp.training.feeds import ArrayFeed
from fastbp.training.lbfgs import FullBatchFeed
from fastbp.training.loop import Loop
from fastbp.training.settings import FitSettings
from fastbp.types import Array

NOT_FINITE = (
    "Solver produced non-finite parameter weights. The input data may contain large values and need to be preprocessed."
)
SCIPYS_FTOL = 2.220446049250313e-09


class Talk(Watcher):
    """Writes the loss of every iteration of L-BFGS."""

    brief = True

    def on_epoch_end(self, state: EpochState) -> None:
        print(f"Iteration {state.epoch}, loss = {state.loss:.8f}")


def threads_of(est: Any) -> int | None:
    """As many as asked for, but no more than joblib's share; None: as many as are fastest."""
    return None if est.threads is None else int(min(est.threads, joblib_share()))


def run(est: Any, net: MLP, feed: ArrayFeed, settings: FitSettings, held_out: Samples | None) -> Any:
    """Train; returns the history, and the error of a divergence if it ended by one."""
    session = net.session
    session.check_optimizer(settings.optimizer)
    if held_out is None:
        settings.check_validation_is_not_needed()
    settings.optimizer.check_fit(feed.n_rows, settings.batch_size, settings.schedule, session.spec.regularization)
    error = None
    with session.lock:
        loop = Loop(net, feed, settings, held_out)
        try:
            loop.run()
        except KeyboardInterrupt:
            warnings.warn("Training interrupted by user.", stacklevel=4)
        except DivergenceError as raised:
            error = raised
    if held_out is not None:
        est.eval_losses_ = [*getattr(est, "eval_losses_", []), *loop.history.val_loss]
        est.eval_scores_ = [*getattr(est, "eval_scores_", []), *loop.history.val_score]
    return loop.history, error


# --- lbfgs --------------------------------------------------------------------------------------------------


def by_lbfgs(est: Any, net: MLP, samples: Samples, held_out: Samples | None) -> None:
    """Train by L-BFGS, with the ends of scikit-learn."""
    rule = LBFGS(gtol=est.tol, ftol=SCIPYS_FTOL, max_evaluations=est.max_fun)
    for name in ("optimizer", "schedule"):
        if getattr(est, name) is not None:
            raise ValueError(
                f"{name} is for the solvers 'sgd' and 'adam', got {name}={getattr(est, name)!r} with 'lbfgs'"
            )
    settings = FitSettings(
        rule, est.max_iter, callbacks=(*est.callbacks, *([Talk()] if est.verbose else [])), threads=threads_of(est),
        conventions=Conventions(alpha=float(est.alpha)), precision=est.precision,
    )  # fmt: skip
    lbfgs.check(settings)
    feed = FullBatchFeed(samples, est.max_iter, samples.n_rows, shuffle=False)
    history, error = run(est, net, feed, settings, held_out)
    if error is not None:
        raise ValueError(NOT_FINITE) from error
    found = getattr(feed, "result", None)
    est.n_iter_ = len(history.loss)
    if found is None:  # interrupted
        return
    weight = samples.n_rows if samples.weights is None else float(samples.weights.sum())
    penalty = 0.5 * est.alpha / weight * sum(float(np.vdot(one, one)) for one in net.weights)
    spec = net.session.spec
    est.loss_ = (found.cost - penalty) / spec.loss.descent(spec.n_out) + penalty
    est.loss_ += constant(spec.loss, samples.y, samples.weights)
    if found.limit:
        warnings.warn(
            f"lbfgs stopped after {est.n_iter_} iterations and {found.evaluations} evaluations, before it converged: "
            f"{found.limit}. Raise max_iter or max_fun, or scale the data.", ConvergenceWarning, stacklevel=4,
        )  # fmt: skip


# --- sgd and adam -------------------------------------------------------------------------------------------


def by_steps(
    est: Any, net: MLP, samples: Samples, held_out: Samples | None, rng: np.random.RandomState, *, incremental: bool
) -> None:
    """Train by steps on batches: epochs until scikit-learn's rule, or one of them."""
    plan = planned(est, net, samples, rng, incremental=incremental)
    settings, trained = plan.settings, plan.samples
    before = net.weights, net.biases
    feed = ArrayFeed(
        trained, settings.epochs, settings.batch_size, shuffle=settings.shuffle, orders=plan.orders
    )  # fmt: skip
    history, error = run(est, net, feed, settings, held_out)
    note(est, plan.rule, history, trained.n_rows, error)
    if isinstance(plan.rule, ScoreRule):
        net.set_weights(*(plan.rule.kept or before))
    elif error is not None:
        raise ValueError(NOT_FINITE) from error
    if error is not None:
        warnings.warn(f"{error.place()}: the loss is not finite; {error.advice()}", ConvergenceWarning, stacklevel=4)
    elif not incremental and ran_out(est, plan.rule):
        warnings.warn(
            f"Stochastic Optimizer: Maximum iterations ({est.max_iter}) reached and the optimization hasn't converged "
            "yet.", ConvergenceWarning, stacklevel=4,
        )  # fmt: skip


class Plan(NamedTuple):
    """How an estimator trains by steps."""

    samples: Samples  # to train on, less those that `early_stopping` holds out
    settings: FitSettings
    rule: LossRule
    orders: Orders | None


def planned(est: Any, net: MLP, samples: Samples, rng: np.random.RandomState, *, incremental: bool) -> Plan:
    """Draw what is random, in scikit-learn's order, and settle the rest."""
    if not incremental or not hasattr(est, "_optimizer"):
        net.reset_optimizer()
        est._optimizer = Pace(est.learning_rate_init)  # by the name that it has there
    trained, own = split(est, samples, rng) if est.early_stopping else (samples, None)
    if any(net.regularization.dropout) and not (incremental and net.session.engine.steps):
        net.seed = int(rng.randint(np.iinfo(np.int32).max))
    n = trained.n_rows
    if est.batch_size != "auto" and est.batch_size > n:
        warnings.warn(
            f"batch_size={est.batch_size} is more than the {n} rows to train on: all of them are one batch. Got "
            "`batch_size` less than 1 or larger than sample size. It is going to be clipped", stacklevel=5,
        )  # fmt: skip
    batch_size = min(200 if est.batch_size == "auto" else int(est.batch_size), n)
    shift = constant(net.loss, samples.y, samples.weights)
    rule, (optimizer, rates, conventions) = stopping_rule(est, own, shift), descends(est, net, n, batch_size)
    settings = FitSettings(
        optimizer, 1 if incremental else int(est.max_iter), batch_size, rates, bool(est.shuffle),
        (*est.callbacks, rule), threads_of(est), conventions=conventions, precision=est.precision,
    )  # fmt: skip
    return Plan(trained, settings, rule, Orders(trained, rng) if settings.shuffle else None)


def ran_out(est: Any, rule: LossRule) -> bool:
    """Whether the training ended because `max_iter` was reached."""
    return bool(est.n_iter_ == est.max_iter and not rule.stopped)


class Orders:
    """The orders of the rows, epoch by epoch: scikit-learn's, each made of the one before.

    Parameters
    ----------
    samples : Samples
        To train on.
    rng : RandomState
        Draws them.
    """

    def __init__(self, samples: Samples, rng: np.random.RandomState) -> None:
        self.rng, self.last = rng, np.arange(samples.n_rows) if samples.rows is None else samples.rows
        self.places = np.arange(samples.n_rows)

    def __call__(self, epochs: int) -> Array:
        found = np.empty((epochs, len(self.places)), np.int64)
        for order in found:
            places = self.places.copy()
            self.rng.shuffle(places)
            order[:] = self.last = self.last[places]
        return found


def note(est: Any, rule: LossRule, history: Any, n: int, error: DivergenceError | None) -> None:
    """Write what a fit has seen into the attributes of the estimator."""
    losses = [loss + rule.constant for loss in history.loss]
    if error is not None:  # the epoch that it ended in
        losses.append(float("nan"))
        if isinstance(rule, ScoreRule):
            rule.scores.append(float("nan"))
    est.n_iter_ = len(losses)
    est.t_ = getattr(est, "t_", 0) + n * est.n_iter_
    est.loss_curve_ = [*getattr(est, "loss_curve_", []), *losses]
    est.loss_ = est.loss_curve_[-1] if est.loss_curve_ else float("nan")
    est._no_improvement_count = rule.count
    if isinstance(rule, ScoreRule):
        est.validation_scores_, est.best_validation_score_ = rule.scores, -rule.best
    else:
        est.best_loss_ = rule.best + rule.constant
    pace = est._optimizer
    pace.used = history.lr[-1] if history.lr else pace.used
    if est.solver == "sgd" and est.learning_rate == "invscaling":
        pace.learning_rate = pace.learning_rate_init / (est.t_ + 1) ** est.power_t


def split(est: Any, samples: Samples, rng: np.random.RandomState) -> tuple[Samples, Samples]:
    """The rows to train on and those held out: for the same random state the same as scikit-learn's."""
    classifies = est.out_activation_ == "logistic" and est.n_outputs_ == 1
    by = samples.y.astype(bool) if classifies else None
    trained, held = train_test_split(
        np.arange(samples.n_rows), random_state=rng, test_size=est.validation_fraction, stratify=by
    )
    if len(held) < 2:
        raise ValueError("The validation set is too small. Increase 'validation_fraction' or the size of your dataset.")
    weights = samples.weights
    own = Samples(samples.X[held], samples.y[held], None if weights is None else weights[held])
    return samples._replace(rows=np.ascontiguousarray(trained, np.int64)), own


def stopping_rule(est: Any, own: Samples | None, shift: float) -> LossRule:
    """What ends the training, from where an earlier fit has left it; shift: from our losses to scikit-learn's."""
    adaptive = est.solver == "sgd" and est.learning_rate == "adaptive" and est.optimizer is None
    shared: dict[str, Any] = {
        "count": getattr(est, "_no_improvement_count", 0),
        "pace": est._optimizer if adaptive else None,
        "say": print if est.verbose else None,
        "constant": shift,
    }
    tol, patience = float(est.tol), est.n_iter_no_change
    if own is None:
        best = getattr(est, "best_loss_", None)
        return LossRule(tol, patience, best=np.inf if best is None else best - shift, **shared)
    best, scores = getattr(est, "best_validation_score_", None), getattr(est, "validation_scores_", None) or []
    return ScoreRule(
        tol, patience, best=np.inf if best is None else -best, X=own.X, y=own.y, weights=own.weights,
        scores=list(scores), **shared,
    )  # fmt: skip


def descends(est: Any, net: MLP, n: int, batch_size: int) -> tuple[Optimizer, Any, Conventions]:
    """The optimiser, the learning rate by steps, and how both count."""
    pace, alpha = est._optimizer, float(est.alpha)
    if est.optimizer is not None:
        rule: Optimizer = optimizers.get(est.optimizer)
        if rule.full_batch:
            raise ValueError(f"optimizer={est.optimizer!r} needs all rows at once: use solver='lbfgs'")
        return rule, schedules.get(est.schedule), Conventions(alpha=alpha)
    if est.solver == "adam":
        adam = Adam(lr=pace.learning_rate_init, betas=(est.beta_1, est.beta_2), eps=est.epsilon)
        return adam, schedules.get(est.schedule), Conventions(alpha=alpha, eps_first=True)
    nesterov = bool(est.nesterovs_momentum and est.momentum > 0)
    sgd = SGD(lr=pace.learning_rate, momentum=est.momentum, nesterov=nesterov)
    if est.schedule is not None:
        return sgd, schedules.get(est.schedule), Conventions(alpha=alpha)
    if est.learning_rate == "constant":
        return sgd, None, Conventions(alpha=alpha)
    rates = adaptive(pace) if est.learning_rate == "adaptive" else inverse_scaling(est, net, n, batch_size)
    return sgd, rates, Conventions(alpha=alpha, lr_before=pace.used)


def adaptive(pace: Pace) -> Callable[[int], float]:
    """Whatever the stopping rule has set."""
    return lambda step: pace.learning_rate


def inverse_scaling(est: Any, net: MLP, n: int, batch_size: int) -> Callable[[int], float]:
    """The learning rate of each epoch, by the rows that were trained on before it."""
    pace, before, seen = est._optimizer, net.session.engine.steps, getattr(est, "t_", 0)
    per_epoch, power = -(-n // batch_size), est.power_t

    def rate(step: int) -> float:
        epoch = (step - before) // per_epoch
        return float(pace.learning_rate_init / (seen + epoch * n + 1) ** power if epoch > 0 else pace.learning_rate)

    return rate
