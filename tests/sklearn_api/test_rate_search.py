"""`LearningRateSearchCV` beside `GridSearchCV` over the same splits: the same, to the bit."""

from __future__ import annotations

import pickle
import re
from typing import Any

import numpy as np
import pytest
from peers import REQUIRED

if not REQUIRED:
    pytest.importorskip("sklearn")

from sklearn import datasets
from sklearn.base import clone
from sklearn.compose import TransformedTargetRegressor
from sklearn.exceptions import ConvergenceWarning, FitFailedWarning, NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, GroupKFold, StratifiedKFold
from sklearn.neural_network import MLPClassifier as Theirs
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import fastbp
from fastbp.sklearn import LearningRateSearchCV, MLPClassifier, MLPRegressor

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

X, y = datasets.load_iris(return_X_y=True)
X_REAL, Y_REAL = datasets.make_regression(80, 5, noise=1.0, random_state=0)
RATES = [1e-4, 1e-3, 1e-2, 1e-1]
CV = StratifiedKFold(3, shuffle=True, random_state=0)


def small(kind: Any = MLPClassifier, **parameters: Any) -> Any:
    return kind(**{"hidden_layer_sizes": 8, "random_state": 0, "max_iter": 15, **parameters})


def piped(**parameters: Any) -> Any:
    return make_pipeline(StandardScaler(), small(**parameters))


def agree(ours: LearningRateSearchCV, theirs: GridSearchCV) -> None:
    assert set(ours.cv_results_) == set(theirs.cv_results_)
    for key, value in theirs.cv_results_.items():
        if "time" not in key:
            np.testing.assert_array_equal(np.asarray(ours.cv_results_[key]), np.asarray(value), err_msg=key)
            assert np.asarray(ours.cv_results_[key]).dtype == np.asarray(value).dtype, key
    for name in ("best_index_", "best_params_", "best_score_", "n_splits_", "multimetric_"):
        assert getattr(ours, name) == getattr(theirs, name), name


@pytest.mark.parametrize(
    ("model", "given"),
    [
        (small(), {}),
        (small(solver="sgd", batch_size=16, nesterovs_momentum=False, alpha=1e-2), {}),
        (small(n_iter_no_change=1, tol=1e-2, max_iter=40), {}),  # some stop early, by scikit-learn's rule
        (small(n_iter_no_change=np.inf, shuffle=False, dropout=0.2, class_weight="balanced"), {}),
        (small(dtype="float32", schedule=fastbp.schedules.Cosine(15)), {}),
        (small(eval_set=(X[:20], y[:20]), callbacks=[fastbp.EarlyStopping(patience=2)]), {}),
        (piped(), {"scoring": "neg_log_loss", "return_train_score": True}),
        (piped(), {"scoring": ["accuracy", "neg_log_loss"], "refit": "neg_log_loss"}),
        (piped(), {"refit": lambda results: int(results["mean_test_score"].argmin())}),
    ],
    ids=["adam", "sgd", "stops", "plain", "schedule", "eval_set", "pipeline", "metrics", "choice"],
)
def test_the_results_of_a_grid_search(model: Any, given: dict[str, Any]) -> None:
    name = [one for one in model.get_params() if one.endswith("learning_rate_init")]
    theirs = GridSearchCV(model, {name[0]: RATES}, cv=CV, **given).fit(X, y)
    for threads in (1, 2):
        ours = LearningRateSearchCV(model, RATES, cv=CV, threads=threads, **given).fit(X, y)
        assert ours.native_
        assert ours.notes_ == []
        if callable(given.get("refit")):
            theirs.best_score_ = ours.best_score_ = None  # neither has one
        agree(ours, theirs)
        np.testing.assert_array_equal(ours.predict(X), theirs.predict(X))
        np.testing.assert_array_equal(ours.predict_proba(X), theirs.predict_proba(X))
        if "refit" not in given:
            assert ours.score(X, y) == theirs.score(X, y)
    assert list(ours.classes_) == [0, 1, 2]


def test_regression_with_weights_and_groups() -> None:
    weight, groups = np.linspace(0.1, 2, 80), np.arange(80) % 7
    model = small(MLPRegressor)
    ours = LearningRateSearchCV(model, RATES, cv=GroupKFold(3)).fit(X_REAL, Y_REAL, groups=groups, sample_weight=weight)
    for k, (train, test) in enumerate(GroupKFold(3).split(X_REAL, Y_REAL, groups)):
        one = clone(model).set_params(learning_rate_init=RATES[1]).fit(X_REAL[train], Y_REAL[train], weight[train])
        assert ours.cv_results_[f"split{k}_test_score"][1] == one.score(X_REAL[test], Y_REAL[test])
    again = clone(model).set_params(**ours.best_params_).fit(X_REAL, Y_REAL, weight)
    np.testing.assert_array_equal(ours.predict(X_REAL), again.predict(X_REAL))
    assert not hasattr(ours, "predict_proba")


def test_the_rate_of_an_optimizer() -> None:
    search = LearningRateSearchCV(piped(optimizer=fastbp.AdamW(lr=0.5)), [1e-3, 1e-2], cv=CV).fit(X, y)
    assert search.native_
    assert search.best_params_ == {"mlpclassifier__optimizer": fastbp.AdamW(lr=1e-2)}
    (_, test), *_ = splits = list(CV.split(X, y))
    one = piped(optimizer=fastbp.AdamW(lr=1e-2)).fit(X[splits[0][0]], y[splits[0][0]])
    assert search.cv_results_["split0_test_score"][1] == one.score(X[test], y[test])


@pytest.mark.parametrize(
    ("model", "why"),
    [
        (small(early_stopping=True), "early_stopping=True"),
        (small(solver="sgd", learning_rate="adaptive"), "learning_rate='adaptive'"),
        (small(callbacks=[lambda state: None]), "callbacks=[function]"),
        (small(schedule=lambda epoch: 0.01), "schedule="),
        (small(Theirs), "MLPClassifier is neither an estimator of fastbp"),
    ],
)
def test_it_says_when_runs_are_not_side_by_side(model: Any, why: str) -> None:
    if model.get_params().get("callbacks"):
        model.set_params(callbacks=[Stop()])
        why = "callbacks=[Stop]"
    with pytest.warns(UserWarning, match=f"the 4 runs are fitted one after the other.*{re.escape(why)}"):
        ours = LearningRateSearchCV(model, RATES[2:], cv=2, refit=False).fit(X, y)
    theirs = GridSearchCV(model, {"learning_rate_init": RATES[2:]}, cv=2, refit=False).fit(X, y)
    assert not ours.native_
    assert len(ours.notes_) == 1
    agree(ours, theirs)
    with pytest.raises(AttributeError):
        ours.predict(X)


class Stop:
    """A callback of the user's."""

    def on_epoch_end(self, state: Any) -> bool:
        return state.epoch >= 3


def test_parts_of_other_estimators() -> None:
    model = TransformedTargetRegressor(small(MLPRegressor), transformer=StandardScaler())
    with pytest.warns(UserWarning, match="TransformedTargetRegressor is neither"):
        search = LearningRateSearchCV(model, RATES[2:], cv=2).fit(X_REAL, Y_REAL)
    assert list(search.best_params_) == ["regressor__learning_rate_init"]


def test_runs_that_diverge_leave_the_others() -> None:
    model = small(MLPRegressor, solver="sgd")
    rates = [1e-4, 1e3, 1e4]
    with pytest.warns(FitFailedWarning, match=r"4 of 6 runs failed, of the rates 1e\+03, 1e\+04; .*non-finite"):
        search = LearningRateSearchCV(model, rates, cv=2).fit(X_REAL, Y_REAL)
    assert search.best_index_ == 0
    assert np.isnan(search.cv_results_["mean_test_score"][1:]).all()
    assert search.notes_[0].startswith("4 of 6 runs failed")
    with pytest.raises(ValueError, match="all 4 runs failed"):
        LearningRateSearchCV(model, rates[1:], cv=2).fit(X_REAL, Y_REAL)
    with pytest.raises(ValueError, match="non-finite"):
        LearningRateSearchCV(model, rates, cv=2, error_score="raise").fit(X_REAL, Y_REAL)


def test_convergence_is_told_once() -> None:
    with pytest.warns(ConvergenceWarning) as told:
        LearningRateSearchCV(small(), RATES[:2], cv=2, refit=False).fit(X, y)
    assert [str(one.message)[:35] for one in told] == ["4 of 4 runs reached max_iter before"]


def test_as_an_estimator() -> None:
    search = LearningRateSearchCV(piped(), RATES, cv=3, scoring="accuracy")
    again = clone(search)
    assert again.get_params()["estimator__mlpclassifier__max_iter"] == 15
    assert again.set_params(learning_rates=[0.1]).learning_rates == [0.1]
    with pytest.raises(NotFittedError):
        search.predict(X)
    search.fit(X, y)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(search)).predict(X), search.predict(X))
    assert search.n_features_in_ == 4
    assert len(LearningRateSearchCV(small(max_iter=1), cv=2).fit(X, y).cv_results_["params"]) == 13


@pytest.mark.parametrize(
    ("search", "message"),
    [
        (LearningRateSearchCV(small(), []), "learning_rates must hold at least one number"),
        (LearningRateSearchCV(small(), [0.1, -1]), r"learning_rates\[1\] is -1, but rates must be positive"),
        (LearningRateSearchCV(small(), [0.1, 0.1]), "holds a rate twice"),
        (LearningRateSearchCV(small(solver="lbfgs"), [0.1]), "solver='lbfgs' finds the lengths of its steps itself"),
        (LearningRateSearchCV(LogisticRegression(), [0.1]), "must have one parameter learning_rate_init.*has none"),
        (LearningRateSearchCV(small(), [0.1], threads=0), "'threads' parameter"),
        (LearningRateSearchCV(small(), [0.1], scoring=["accuracy"]), "refit must be set to a scorer key"),
        (LearningRateSearchCV(small(alpha=-1.0), [0.1], cv=2), "all 2 runs failed.*'alpha'"),
    ],
)
def test_bad_arguments(search: LearningRateSearchCV, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        search.fit(X, y)
