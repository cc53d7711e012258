"""The estimators among what scikit-learn has around its own: searches, routing, pickles; and what they add."""

from __future__ import annotations

import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from peers import REQUIRED

if not REQUIRED:
    pytest.importorskip("sklearn")

import joblib
import pandas as pd
import sklearn
from scipy import sparse
from sklearn import datasets
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import TransformedTargetRegressor
from sklearn.ensemble import BaggingClassifier
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.inspection import partial_dependence, permutation_importance
from sklearn.model_selection import GridSearchCV, HalvingGridSearchCV, cross_val_score, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler

import fastbp
from fastbp.engine.threads import default_threads, joblib_share
from fastbp.sklearn import MLPClassifier, MLPRegressor, rows

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

X, y = datasets.load_iris(return_X_y=True)
X_REAL, y_real = datasets.make_regression(80, 5, noise=1.0, random_state=0)
FRAME = pd.DataFrame(X, columns=["a", "b", "c", "d"])


def small(**parameters: Any) -> MLPClassifier:
    return MLPClassifier(
        **{"hidden_layer_sizes": 8, "solver": "lbfgs", "random_state": 0, "max_iter": 40, **parameters}
    )


def test_pipelines_and_searches_in_two_processes() -> None:
    model = make_pipeline(StandardScaler(), small())
    assert cross_val_score(model, X, y, cv=3).mean() > 0.9
    grid = {"mlpclassifier__alpha": [1e-4, 1.0], "mlpclassifier__hidden_layer_sizes": [(4,), (6, 4)]}
    search = GridSearchCV(model, grid, n_jobs=2, cv=3).fit(X, y)
    alone = GridSearchCV(model, grid, cv=3).fit(X, y)
    np.testing.assert_array_equal(search.cv_results_["mean_test_score"], alone.cv_results_["mean_test_score"])
    halving = HalvingGridSearchCV(
        model, grid, resource="mlpclassifier__max_iter", max_resources=40, cv=2, random_state=0
    )
    assert halving.fit(X, y).best_score_ > 0.8


def test_within_joblib_threads_are_its_share() -> None:
    cpus = joblib.cpu_count()
    for backend in ("loky", "threading"):
        found = joblib.Parallel(n_jobs=2, backend=backend)(joblib.delayed(default_threads)() for _ in range(2))
        assert 2 * max(found) <= max(2, cpus), backend
        shares = joblib.Parallel(n_jobs=2, backend=backend)(joblib.delayed(joblib_share)() for _ in range(2))
        assert max(shares) <= max(1, cpus // 2)
    assert joblib_share() == np.inf


def test_the_same_on_any_threads() -> None:
    for solver in ("adam", "lbfgs"):
        one, two = (small(solver=solver, threads=n).fit(X, y) for n in (1, 2))
        np.testing.assert_array_equal(one.coefs_[0], two.coefs_[0])


def test_names_of_columns_and_frames_out() -> None:
    model = small().fit(FRAME, y)
    assert list(model.feature_names_in_) == ["a", "b", "c", "d"]
    with pytest.raises(ValueError, match="feature names should match"):
        model.predict(FRAME[["b", "a", "c", "d"]])
    piped = make_pipeline(StandardScaler(), small()).set_output(transform="pandas").fit(FRAME, y)
    assert list(piped[-1].feature_names_in_) == ["a", "b", "c", "d"]


def test_weights_are_routed() -> None:
    weights = np.where(y == 2, 0.0, 1.0)
    with sklearn.config_context(enable_metadata_routing=True):
        model = make_pipeline(MinMaxScaler(), small().set_fit_request(sample_weight=True))
        assert 2 not in model.fit(X, y, sample_weight=weights).predict(X)
        asked = small().set_fit_request(sample_weight=True).set_score_request(sample_weight=True)
        found = cross_validate(asked, X, y, params={"sample_weight": weights}, cv=3)
        assert found["test_score"].mean() > 0.9


@pytest.mark.parametrize("kind", [sparse.csr_array, sparse.csc_matrix, sparse.coo_array])
def test_sparse_rows(kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "CHUNK_BYTES", 1000)  # so that they come in several parts
    model, twin = small().fit(kind(X), y), small().fit(X, y)
    np.testing.assert_array_equal(model.predict_proba(kind(X)), twin.predict_proba(X))
    monkeypatch.setattr(rows, "memory_bytes", lambda: 8000)
    with pytest.raises(ValueError, match=r"150 x 4, and fastbp trains on dense rows.*partial_fit"):
        small().fit(kind(X), y)
    assert small(solver="adam").partial_fit(kind(X[:50]), y[:50], classes=[0, 1, 2]).t_ == 50


def test_calibration_importance_and_dependence() -> None:
    calibrated = CalibratedClassifierCV(small(), cv=3).fit(X, y)
    np.testing.assert_allclose(calibrated.predict_proba(X).sum(axis=1), 1.0)
    model = small().fit(FRAME, y)
    importance = permutation_importance(model, FRAME, y, n_repeats=2, random_state=0).importances_mean
    assert importance.argmax() in (2, 3)
    found = partial_dependence(model, FRAME, ["c"], grid_resolution=5)
    assert found["average"].shape == (3, 5)
    bagged = BaggingClassifier(small(), n_estimators=3, random_state=0).fit(X, y)
    assert bagged.score(X, y) > 0.9
    scaled = TransformedTargetRegressor(MLPRegressor(solver="lbfgs", random_state=0), transformer=StandardScaler())
    assert scaled.fit(X_REAL, y_real).score(X_REAL, y_real) > 0.9


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_copies(solver: str, tmp_path: Path) -> None:
    """Clones are unfitted; pickles predict the same bits, and train on as their originals do."""
    model = small(solver=solver).fit(X, y)
    assert not hasattr(clone(model), "coefs_")
    assert clone(model).get_params() == model.get_params()
    joblib.dump(model, tmp_path / "model")
    for other in (pickle.loads(pickle.dumps(model)), joblib.load(tmp_path / "model")):
        np.testing.assert_array_equal(other.predict_proba(X), model.predict_proba(X))
        if solver == "adam":
            twin = pickle.loads(pickle.dumps(model))
            np.testing.assert_array_equal(other.partial_fit(X, y).coefs_[0], twin.partial_fit(X, y).coefs_[0])
    if solver == "adam":
        np.testing.assert_array_equal(other.coefs_[0], model.partial_fit(X, y).coefs_[0])


def test_weights_may_be_written() -> None:
    model = small().fit(X, y)
    model.coefs_[-1][:] = 0.0
    model.intercepts_[-1][:] = [0.0, 1.0, 0.0]
    assert set(model.predict(X)) == {1}
    model.coefs_ = [one * 0.0 for one in model.coefs_]
    assert len({*model.predict_proba(X)[:, 0]}) == 1


def test_what_they_add() -> None:
    dropped = small(solver="adam", hidden_layer_sizes=(8, 8), dropout=[0.5, 0.1]).fit(X, y)
    assert dropped.loss_curve_ != small(solver="adam", hidden_layer_sizes=(8, 8)).fit(X, y).loss_curve_
    rare = np.r_[0:50, 50:60]
    by_class = small(class_weight="balanced").fit(X[rare], y[rare])
    by_row = small().fit(X[rare], y[rare], np.where(y[rare] == 0, 60 / 100, 60 / 20))
    np.testing.assert_array_equal(by_class.coefs_[0], by_row.coefs_[0])
    smooth = small(loss=fastbp.CrossEntropy(label_smoothing=0.2)).fit(X, y).predict_proba(X)
    assert smooth.max(axis=1).mean() < 0.9 < small().fit(X, y).predict_proba(X).max(axis=1).mean()
    focal = small(loss="focal").fit(X[:100], y[:100])
    assert (focal.out_activation_, focal.n_outputs_) == ("softmax", 2)
    assert small(dtype="float32").fit(X, y).coefs_[0].dtype == np.float32
    seen = small(
        solver="adam", max_iter=5, optimizer=fastbp.AdamW(lr=0.01), schedule=fastbp.schedules.Cosine(5),
        eval_set=(X, y), callbacks=[fastbp.StopStalled(tol=10.0, patience=1)],
    ).fit(X, y)  # fmt: skip
    assert len(seen.eval_losses_) == len(seen.eval_scores_) == seen.n_iter_ == 3
    assert (
        MLPRegressor(loss=fastbp.Quantile(quantile=0.9), solver="lbfgs", random_state=0)
        .fit(X_REAL, y_real)
        .predict(X_REAL)
        .mean()
        > y_real.mean()
    )
    watched = small(callbacks=[fastbp.MaxSeconds(60)], eval_set=(X, y)).fit(X, y)
    np.testing.assert_allclose(watched.coefs_[0], small().fit(X, y).coefs_[0], rtol=1e-9)
    assert len(watched.eval_losses_) == watched.n_iter_


@pytest.mark.parametrize(
    ("parameters", "says"),
    [
        ({"loss": "mse"}, "a classifier takes 'log_loss' or one of"),
        ({"optimizer": "lbfgs", "solver": "adam"}, "use solver='lbfgs'"),
        ({"schedule": fastbp.schedules.Cosine(3)}, "schedule is for the solvers"),
        ({"dropout": 0.2}, "dropout must be off"),
        ({"threads": 0}, "'threads' parameter"),
        ({"alpha": -1.0}, "'alpha' parameter"),
    ],
)
def test_what_is_refused(parameters: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        small(**parameters).fit(X, y)
    with pytest.raises(ValueError, match="y of at least 0"):
        MLPRegressor("poisson").fit(X_REAL, y_real)


def test_a_divergence_is_no_silent_result() -> None:
    wild = {"solver": "sgd", "learning_rate_init": 1e6, "activation": "identity", "random_state": 0}
    with pytest.raises(ValueError, match="non-finite parameter weights"):
        MLPRegressor(**wild).fit(X_REAL, y_real)
    with pytest.warns(sklearn.exceptions.ConvergenceWarning, match="the loss is not finite"):
        kept = MLPRegressor(**wild, early_stopping=True).fit(X_REAL, y_real)
    assert np.isfinite(kept.predict(X_REAL)).all()


def test_verbose_prints(capsys: pytest.CaptureFixture[str]) -> None:
    small(solver="adam", max_iter=3, verbose=True).fit(X, y)
    assert capsys.readouterr().out.count("Iteration ") == 3
    small(max_iter=3, verbose=True).fit(X, y)
    assert capsys.readouterr().out.count("Iteration ") == 3


def test_the_page_runs() -> None:
    page = (Path(__file__).parents[2] / "docs" / "how-to" / "scikit-learn.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```$", page, flags=re.DOTALL | re.MULTILINE)
    assert len(blocks) == 4
    names: dict[str, Any] = {}
    for block in blocks:
        exec(compile(block, "scikit-learn.md", "exec"), names)
    assert names["model"].score(names["X_test"], names["y_test"]) > 0.95
    assert names["net"].eval_scores_[-1] > 0.9
    assert names["search"].best_score_ > 0.9
