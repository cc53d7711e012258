"""`LearningRateSearchCV`: learning rates by cross-validation, in scikit-learn's form, all runs side by side."""

from __future__ import annotations

import dataclasses
import time
import warnings
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
from sklearn.base import clone, is_classifier
from sklearn.exceptions import ConvergenceWarning, FitFailedWarning
from sklearn.metrics import check_scoring
from sklearn.model_selection import check_cv
from sklearn.model_selection._search import BaseSearchCV
from sklearn.pipeline import Pipeline
from sklearn.utils import _safe_indexing, indexable
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions

from fastbp import optimizers
from fastbp.sklearn import side_by_side
from fastbp.sklearn.base import BaseMLP
from fastbp.sklearn.side_by_side import Done, Fit
from fastbp.types import Array

RATE = "learning_rate_init"
_SHOWN = 5


class LearningRateSearchCV(BaseSearchCV):  # type: ignore[misc]
    """Search for the learning rate of an estimator by cross-validation.

    What `GridSearchCV` finds over ``learning_rate_init`` with the same splits, to the bit, but the runs of all rates
    and folds are trained side by side, each on one thread, in native calls that carry many of them (see `native_`).

    Parameters
    ----------
    estimator : MLPClassifier, MLPRegressor, or Pipeline that ends in one
        Whose learning rate is looked for: ``learning_rate_init``, or that of its ``optimizer``, if it has one. What
        prepares the rows in a pipeline is fitted once a fold. Another estimator that has one parameter of that name,
        also in a part of it, is taken too, and fitted run by run.
    learning_rates : array-like, (n_rates,), default=None
        To try; None: 13 from 1e-4 to 1, at equal ratios.
    cv : int, splitter or iterable, default=None
        As `GridSearchCV` takes it; None: 5 folds.
    scoring : str, callable, list, tuple or dict, default=None
        As `GridSearchCV` takes it; None: the estimator's `score`.
    refit : bool, str or callable, default=True
        Fit the best on all rows. With several metrics, the name of the one that chooses; a callable takes
        ``cv_results_`` and returns the index of the best.
    error_score : "raise" or number, default=nan
        The score of a run that fails: one that diverges, say.
    return_train_score : bool, default=False
        Score the rows that were trained on, too.
    threads : int, default=None
        None: all that the process may use. Results do not depend on it.

    Attributes
    ----------
    cv_results_ : dict of str to array, (n_rates,)
        As `GridSearchCV` has it; the time of a fit is what its training took of its thread.
    best_estimator_ : estimator
        Fitted on all rows; with `refit`.
    best_score_ : float
        Mean score of the best rate over the folds.
    best_params_ : dict
    best_index_ : int
    n_splits_ : int
    scorer_ : callable or dict
    refit_time_ : float
        Seconds.
    native_ : bool
        Whether the runs were trained side by side; where they cannot be, a warning says what keeps them from it.
    notes_ : list of str
        What a reader should know.

    Examples
    --------
    >>> from fastbp.sklearn import LearningRateSearchCV, MLPClassifier
    >>> from sklearn.datasets import load_iris
    >>> X, y = load_iris(return_X_y=True)
    >>> net = MLPClassifier(8, tol=0, n_iter_no_change=20, max_iter=20, random_state=0)
    >>> search = LearningRateSearchCV(net, [1e-4, 1e-3, 1e-2], cv=3)
    >>> search.fit(X, y).best_params_  # doctest: +SKIP
    {'learning_rate_init': 0.01}
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "estimator": [HasMethods(["fit", "get_params", "set_params"])],
        "learning_rates": ["array-like", None],
        "cv": ["cv_object"],
        "scoring": [str, callable, list, tuple, dict, None],
        "refit": ["boolean", str, callable],
        "error_score": [StrOptions({"raise"}), Real],
        "return_train_score": ["boolean"],
        "threads": [Interval(Integral, 1, None, closed="left"), None],
    }
    verbose = 0  # for what scikit-learn's searches share

    def __init__(
        self, estimator: Any, learning_rates: Any = None, *, cv: Any = None, scoring: Any = None, refit: Any = True,
        error_score: Any = np.nan, return_train_score: bool = False, threads: int | None = None,
    ) -> None:  # fmt: skip
        self.estimator, self.learning_rates, self.cv, self.scoring = estimator, learning_rates, cv, scoring
        self.refit, self.error_score, self.return_train_score = refit, error_score, return_train_score
        self.threads = threads

    def fit(self, X: Any, y: Any = None, *, groups: Any = None, sample_weight: Any = None) -> LearningRateSearchCV:
        """Train every rate on every fold, and the best of them on all rows.

        Parameters
        ----------
        X, y : array-like
            As the estimator takes them.
        groups : array-like, (n_samples,), optional
            For the splitter.
        sample_weight : array-like, (n_samples,), optional
            How much each row counts in the training; in scores all count alike.

        Returns
        -------
        self : object

        Raises
        ------
        ValueError, TypeError
            If an argument is not as described, before anything is trained; or if all runs failed.
        """
        self._validate_params()
        rates = _checked_rates(self.learning_rates)
        name = rate_parameter(self.estimator)
        candidates = [_candidate(self.estimator, name, rate) for rate in rates]
        scorer = check_scoring(self.estimator, self.scoring, raise_exc=self.error_score == "raise")
        several: Any = getattr(scorer, "_scorers", None)  # by their names
        if several is not None:
            self._check_refit_for_multimetric(several)
        X, y, groups, sample_weight = indexable(X, y, groups, sample_weight)
        splits = list(check_cv(self.cv, y, classifier=is_classifier(self.estimator)).split(X, y, groups))
        if not splits:
            raise ValueError(f"cv={self.cv!r} makes no folds")
        self.n_splits_ = len(splits)
        self.notes_: list[str] = []
        blocked = _obstacle(self.estimator, name)
        self.native_ = blocked is None
        if blocked is not None:
            self._note(
                f"the {len(rates) * len(splits)} runs are fitted one after the other, not side by side: {blocked}"
            )
        models = [[clone(self.estimator).set_params(**clone(one, safe=False)) for _ in splits] for one in candidates]
        done = self._train(models, splits, X, y, sample_weight)
        self._tell_failures(candidates, done)
        out = self._scored(scorer, models, done, splits, X, y)
        self.multimetric_ = isinstance(out[0]["test_scores"], dict)
        if self.multimetric_ and several is None:
            self._check_refit_for_multimetric(out[0]["test_scores"])
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="One or more of the")  # of scores of failures, which were told
            self.cv_results_ = self._format_results(candidates, len(splits), out)
        self.scorer_ = scorer if several is None else several
        self._choose()
        if self.refit:
            self._refit(X, y, sample_weight)
        return self

    def _refit(self, X: Any, y: Any, sample_weight: Any) -> None:
        started = time.perf_counter()
        self.best_estimator_ = clone(self.estimator).set_params(**clone(self.best_params_, safe=False))
        self.best_estimator_.fit(X, y, **_weights(self.estimator, sample_weight))
        self.refit_time_ = time.perf_counter() - started
        if hasattr(self.best_estimator_, "feature_names_in_"):
            self.feature_names_in_ = self.best_estimator_.feature_names_in_

    def _note(self, text: str) -> None:
        self.notes_.append(text)
        warnings.warn(text, UserWarning, stacklevel=3)

    def _train(self, models: list[list[Any]], splits: Any, X: Any, y: Any, sample_weight: Any) -> list[list[Done]]:
        """Fit the models, by rate and fold."""
        found: list[list[Done]] = [[Done()] * len(splits) for _ in models]
        fits: list[Fit] = []
        places: list[tuple[int, int]] = []
        for fold, (train, _) in enumerate(splits):
            rows, targets = _safe_indexing(X, train), None if y is None else _safe_indexing(y, train)
            weight = None if sample_weight is None else _safe_indexing(sample_weight, train)
            if not self.native_:
                for k, model in enumerate(models):
                    found[k][fold] = _fitted(model[fold], rows, targets, weight)
                continue
            try:
                rows = _prepare(self.estimator, [model[fold] for model in models], rows, targets)
            except Exception as error:  # of a step of the pipeline
                for k in range(len(models)):
                    found[k][fold] = Done(error)
                continue
            fits += [Fit(_last(model[fold]), rows, targets, weight) for model in models]
            places += [(k, fold) for k in range(len(models))]
        if fits:
            for (k, fold), one in zip(places, side_by_side.fit(fits, self.threads), strict=True):
                found[k][fold] = one
        if n := sum(one.ran_out for row in found for one in row):
            total = len(models) * len(splits)
            warnings.warn(
                f"{n} of {total} runs reached max_iter before they converged: their rates are compared as they stood "
                "then", ConvergenceWarning, stacklevel=3,
            )  # fmt: skip
        return found

    def _tell_failures(self, candidates: list[dict[str, Any]], done: list[list[Done]]) -> None:
        errors = [one.error for row in done for one in row if one.error is not None]
        if not errors:
            return
        total = sum(map(len, done))
        if self.error_score == "raise":
            raise errors[0]
        bad = [_rate_of(one) for one, row in zip(candidates, done, strict=True) if any(run.error for run in row)]
        shown = ", ".join(f"{rate:.3g}" for rate in bad[:_SHOWN]) + (", ..." if len(bad) > _SHOWN else "")
        text = f"{len(errors)} of {total} runs failed, of the rates {shown}; the first by {errors[0]!r}"
        if len(errors) == total:
            raise ValueError(f"all {total} runs failed; the first by {errors[0]!r}") from errors[0]
        self.notes_.append(text)
        warnings.warn(f"{text}. Their score is error_score={self.error_score}", FitFailedWarning, stacklevel=3)

    def _scored(
        self, scorer: Any, models: list[list[Any]], done: list[list[Done]], splits: Any, X: Any, y: Any
    ) -> list[dict[str, Any]]:
        """Times and scores of each run, rate by rate, as scikit-learn's searches gather them."""
        out: list[dict[str, Any]] = []
        names: list[str] | None = None
        for row, runs in zip(models, done, strict=True):
            for model, run, (train, test) in zip(row, runs, splits, strict=True):
                one: dict[str, Any] = {"fit_time": run.seconds, "score_time": 0.0}
                parts = {"test_scores": test, **({"train_scores": train} if self.return_train_score else {})}
                started = time.perf_counter()
                for part, rows in parts.items():
                    one[part] = None
                    if run.error is None:
                        targets = () if y is None else (_safe_indexing(y, rows),)
                        one[part] = self._score_of(scorer, model, _safe_indexing(X, rows), *targets)
                        names = list(one[part]) if isinstance(one[part], dict) else names
                    if part == "test_scores":
                        one["score_time"] = time.perf_counter() - started
                out.append(one)
        failed = self.error_score if names is None else dict.fromkeys(names, self.error_score)
        return [{key: failed if value is None else value for key, value in one.items()} for one in out]

    def _score_of(self, scorer: Any, model: Any, *rows: Any) -> Any:
        try:
            found = scorer(model, *rows)
        except Exception as error:
            if self.error_score == "raise":
                raise
            self._note(f"scoring failed: {error!r}")
            return self.error_score
        return {key: _number(value) for key, value in found.items()} if isinstance(found, dict) else _number(found)

    def _choose(self) -> None:
        metric = self.refit if self.multimetric_ else "score"
        if self.multimetric_ and not self.refit:
            return
        self.best_index_ = int(self._select_best_index(self.refit, metric, self.cv_results_))
        self.best_params_ = self.cv_results_["params"][self.best_index_]
        if not callable(self.refit):
            self.best_score_ = self.cv_results_[f"mean_test_{metric}"][self.best_index_]


# --- the rate, as a parameter -------------------------------------------------------------------------------


def _checked_rates(given: Any) -> list[float]:
    if given is None:
        return [float(rate) for rate in np.geomspace(1e-4, 1.0, 13)]
    found = np.asarray(given, np.float64)
    if found.ndim != 1 or not found.size:
        raise ValueError(f"learning_rates must hold at least one number, got {given!r:.80}")
    bad = np.flatnonzero(~(np.isfinite(found) & (found > 0)))
    if bad.size:
        raise ValueError(f"learning_rates[{bad[0]}] is {found[bad[0]]:g}, but rates must be positive and finite")
    if len(np.unique(found)) < found.size:
        raise ValueError(f"learning_rates holds a rate twice: {given!r:.200}")
    return [float(rate) for rate in found]


def rate_parameter(estimator: Any) -> str:
    """The parameter that holds the learning rate, or the optimiser whose it is.

    Raises
    ------
    ValueError
        There is none, or no one alone.
    """
    params = estimator.get_params(deep=True)
    found: list[str] = [name for name in params if name == RATE or name.endswith("__" + RATE)]
    if len(found) != 1:
        many = f"several of them: {', '.join(found)}" if found else "none"
        raise ValueError(
            f"estimator must have one parameter {RATE}, its own or of a part; {estimator!r:.80} has {many}"
        )
    prefix = found[0][: -len(RATE)]
    if params.get(f"{prefix}solver") == "lbfgs":
        raise ValueError("solver='lbfgs' finds the lengths of its steps itself: it has no learning rate to look for")
    if params.get(f"{prefix}optimizer") is None:
        return found[0]
    rule = optimizers.get(params[f"{prefix}optimizer"])
    if rule.full_batch or not hasattr(rule, "lr"):
        raise ValueError(f"{prefix}optimizer={rule!r} has no learning rate to look for")
    return f"{prefix}optimizer"


def _candidate(estimator: Any, name: str, rate: float) -> dict[str, Any]:
    """The parameters that give an estimator a learning rate."""
    if name.endswith(RATE):
        return {name: rate}
    return {name: dataclasses.replace(optimizers.get(estimator.get_params(deep=True)[name]), lr=rate)}


def _rate_of(candidate: dict[str, Any]) -> float:
    (value,) = candidate.values()
    return float(getattr(value, "lr", value))


# --- estimators, and pipelines that end in one --------------------------------------------------------------


def _last(estimator: Any) -> Any:
    return estimator.steps[-1][1] if type(estimator) is Pipeline else estimator


def _obstacle(estimator: Any, name: str) -> str | None:
    """Why runs cannot be trained side by side."""
    last = _last(estimator)
    if (
        not isinstance(last, BaseMLP)
        or type(last).fit is not BaseMLP.fit
        or name.count("__") != (last is not estimator)
    ):
        return f"{type(estimator).__name__} is neither an estimator of fastbp nor a Pipeline that ends in one"
    found = side_by_side.obstacle(last)
    return None if found is None else f"{found} needs each estimator's own fit"


def _prepare(estimator: Any, models: list[Any], X: Any, y: Any) -> Any:
    """Fit what stands before the estimator in a pipeline, for all models of a fold; returns the rows that it makes."""
    if type(estimator) is not Pipeline or len(estimator.steps) == 1:
        return X
    head = clone(estimator[:-1])
    rows = head.fit_transform(X, y)
    for model in models:
        model.steps = [*head.steps, model.steps[-1]]
    return rows


def _weights(estimator: Any, sample_weight: Any) -> dict[str, Any]:
    """Arguments of `fit`."""
    if sample_weight is None:
        return {}
    prefix = f"{estimator.steps[-1][0]}__" if isinstance(estimator, Pipeline) else ""
    return {f"{prefix}sample_weight": sample_weight}


def _fitted(model: Any, X: Any, y: Any, sample_weight: Any) -> Done:
    started = time.perf_counter()
    try:
        model.fit(X, y, **_weights(model, sample_weight))
    except Exception as error:
        return Done(error, time.perf_counter() - started)
    return Done(None, time.perf_counter() - started)


def _number(value: Any) -> float | Array:
    return float(value) if np.ndim(value) == 0 else value
