"""The estimators beside scikit-learn's own: the same parameters and random state give the same network."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from peers import REQUIRED
from processes import FOLDERS, TIMEOUT

if not REQUIRED:
    pytest.importorskip("sklearn")

import sklearn.neural_network as theirs
from sklearn import datasets
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV
from sklearn.neural_network.tests import test_mlp
from sklearn.preprocessing import scale
from sklearn.utils.estimator_checks import check_estimator

import fastbp.sklearn as ours
from fastbp.engine import tuning
from fastbp.kernels.targets import TWIN, VARIABLE, pair_target

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

X_IRIS, y_iris = datasets.load_iris(return_X_y=True)
X_IRIS = scale(X_IRIS)
X_TWO, y_two = X_IRIS[:100], np.array(["no", "yes"])[y_iris[:100]]
X_MANY, y_many = datasets.make_multilabel_classification(60, n_features=8, random_state=0)
X_REAL, y_real = datasets.make_regression(90, 5, n_targets=2, noise=1.0, random_state=0)
y_real = y_real / y_real.std(axis=0)
COUNTS = np.random.default_rng(0).poisson(np.exp(0.3 * X_REAL[:, 0]))
WEIGHTS = np.random.default_rng(1).uniform(0.1, 2.0, 150)

CLASSES = [
    {},
    {"batch_size": 40},
    {"batch_size": 40, "alpha": 3.0, "activation": "logistic"},
    {"epsilon": 0.1, "beta_1": 0.8, "beta_2": 0.9, "shuffle": False},
    {"solver": "sgd", "learning_rate_init": 0.1},
    {"solver": "sgd", "learning_rate_init": 0.1, "learning_rate": "invscaling", "power_t": 0.3, "batch_size": 50},
    {"solver": "sgd", "learning_rate_init": 0.1, "learning_rate": "invscaling", "nesterovs_momentum": False},
    {"solver": "sgd", "learning_rate_init": 0.2, "learning_rate": "adaptive", "max_iter": 300, "tol": 1e-3},
    {"solver": "sgd", "learning_rate_init": 0.2, "momentum": 0.0, "n_iter_no_change": 3, "tol": 1e-3},
    {"early_stopping": True, "n_iter_no_change": 4},
    {"early_stopping": True, "solver": "sgd", "learning_rate": "adaptive", "n_iter_no_change": 2, "tol": 0.01},
    {"solver": "lbfgs", "alpha": 1.0},
]


def pair(kind: str, X: Any, y: Any, *fitted: Any, **parameters: Any) -> tuple[Any, Any]:
    """An estimator of ours and one of theirs, fitted alike."""
    parameters = {"hidden_layer_sizes": (12, 7), "random_state": 3, "max_iter": 60, **parameters}
    return tuple(getattr(home, kind)(**parameters).fit(X, y, *fitted) for home in (ours, theirs))  # type: ignore[return-value]


def assert_alike(own: Any, its: Any, X: Any, rtol: float = 1e-8) -> None:
    """All public attributes that theirs has, and the predictions."""
    for name in (one for one in vars(its) if one.endswith("_") and not one.startswith("_")):
        mine, other = getattr(own, name), getattr(its, name)
        if isinstance(other, str) or other is None:
            assert mine == other, name
        elif name in ("coefs_", "intercepts_"):
            for a, b in zip(mine, other, strict=True):
                np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol, err_msg=name)
                assert a.dtype == b.dtype
        elif name == "classes_":
            np.testing.assert_array_equal(mine, other)
        else:
            np.testing.assert_allclose(mine, other, rtol=max(rtol, 1e-9), atol=1e-12, err_msg=name)
    if own.out_activation_ in ("softmax", "logistic"):
        np.testing.assert_array_equal(own.predict(X), its.predict(X))
        np.testing.assert_allclose(own.predict_proba(X), its.predict_proba(X), rtol=1e-6, atol=1e-8)
        assert own.predict_log_proba(X).shape == its.predict_log_proba(X).shape
    else:
        np.testing.assert_allclose(own.predict(X), its.predict(X), rtol=max(rtol, 1e-5), atol=max(rtol, 1e-7))


@pytest.mark.parametrize("parameters", CLASSES, ids=str)
def test_classes(parameters: dict[str, Any]) -> None:
    own, its = pair("MLPClassifier", X_IRIS, y_iris, **parameters)
    assert_alike(own, its, X_IRIS, 1e-5 if own.solver == "lbfgs" else 1e-8)


@pytest.mark.parametrize("solver", ["adam", "sgd", "lbfgs"])
def test_kinds_of_targets(solver: str) -> None:
    """Two classes with text for names, several labels, one number, several, counts; each with its link and loss."""
    rtol = 1e-4 if solver == "lbfgs" else 1e-8
    most = {"max_iter": 20 if solver == "lbfgs" else 60, "solver": solver}
    assert_alike(*pair("MLPClassifier", X_TWO, y_two, **most), X_TWO, rtol)
    assert_alike(*pair("MLPClassifier", X_MANY, y_many, **most), X_MANY, rtol)
    assert_alike(*pair("MLPRegressor", X_REAL, y_real[:, 0], **most), X_REAL, rtol)
    assert_alike(*pair("MLPRegressor", X_REAL, COUNTS, loss="poisson", **most), X_REAL, rtol)
    if solver != "lbfgs":  # whose cost is the mean over the outputs there, and its gradient that of the sum
        assert_alike(*pair("MLPRegressor", X_REAL, y_real, **most), X_REAL, rtol)


def test_weights_and_early_stopping_and_single_precision() -> None:
    assert_alike(*pair("MLPClassifier", X_IRIS, y_iris, WEIGHTS), X_IRIS)
    stopped = pair("MLPClassifier", X_TWO, y_two, WEIGHTS[:100], early_stopping=True, max_iter=200)
    assert stopped[0].n_iter_ < 200
    assert_alike(*stopped, X_TWO)
    single = pair("MLPRegressor", X_REAL.astype("f"), y_real[:, 0], early_stopping=True)
    assert single[0].coefs_[0].dtype == np.float32
    assert_alike(*single, X_REAL.astype("f"), 1e-3)


def test_warm_starts_and_parts() -> None:
    """Two fits one after the other, and parts, in which moments and the learning rate live on."""
    for parameters in ({}, {"solver": "sgd", "learning_rate": "invscaling"}):
        own, its = pair("MLPClassifier", X_IRIS, y_iris, warm_start=True, max_iter=12, **parameters)
        assert_alike(own.fit(X_IRIS, y_iris), its.fit(X_IRIS, y_iris), X_IRIS)
    for parameters in ({}, {"solver": "sgd", "learning_rate": "invscaling"}):
        both = [home.MLPClassifier((9,), random_state=0, **parameters) for home in (ours, theirs)]
        for _ in range(4):
            for one in both:
                one.partial_fit(X_IRIS[:90], y_iris[:90], classes=[0, 1, 2]).partial_fit(X_IRIS[90:], y_iris[90:])
        assert_alike(*both, X_IRIS)


@pytest.mark.parametrize("threads", [1, 2])
def test_lbfgs_in_blocks_of_rows_and_on_threads(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Natively or from Python, whatever the blocks: iterates as SciPy's, also where the line search has to work."""
    parameters = {"solver": "lbfgs", "max_iter": 25, "alpha": 0.5, "tol": 0.0}
    its = theirs.MLPClassifier((12, 7), random_state=3, **parameters).fit(30 * X_IRIS, y_iris, WEIGHTS)
    for rows in (tuning.GRADIENT_ROWS, 40):
        monkeypatch.setattr(tuning, "GRADIENT_ROWS", rows)
        own = ours.MLPClassifier((12, 7), random_state=3, threads=threads, **parameters)
        assert_alike(own.fit(30 * X_IRIS, y_iris, WEIGHTS), its, X_IRIS, 1e-3)


@pytest.mark.parametrize("kind", ["MLPClassifier", "MLPRegressor"])
def test_check_estimator(kind: str) -> None:
    """All that scikit-learn asks of an estimator; what is skipped needs packages or methods that there are not."""
    results = check_estimator(getattr(ours, kind)(max_iter=100), on_fail=None, on_skip=None)
    assert [one["check_name"] for one in results if one["status"] not in ("passed", "skipped")] == []
    assert sum(one["status"] == "passed" for one in results) >= 55
    assert {one["check_name"] for one in results if one["status"] == "skipped"} <= {
        "check_array_api_input", "check_classifiers_multilabel_output_format_decision_function",
    }  # fmt: skip


def test_products_in_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bits of a network's steps in it, side by side too; and what is refused names the mend."""
    if pair_target() is None:
        monkeypatch.setenv(VARIABLE, TWIN.name)
    X, y = datasets.load_digits(return_X_y=True)
    X, y = (X[:300] / 16).astype(np.float32), y[:300]
    how = {"hidden_layer_sizes": (33,), "max_iter": 3, "random_state": 0}
    low, single = (ours.MLPClassifier(precision=name, **how).fit(X, y) for name in ("bfloat16", "float32"))
    assert np.abs(low.coefs_[0] - single.coefs_[0]).max() > 0
    np.testing.assert_allclose(low.loss_curve_, single.loss_curve_, rtol=0.01)
    search = ours.LearningRateSearchCV(clone(low), [1e-3, 1e-2], cv=2, refit=False).fit(X, y)
    assert search.native_
    theirs_ = GridSearchCV(clone(low), {"learning_rate_init": [1e-3, 1e-2]}, cv=2, refit=False).fit(X, y)
    assert search.cv_results_["mean_test_score"].tolist() == theirs_.cv_results_["mean_test_score"].tolist()
    again = clone(low).partial_fit(X, y, classes=np.arange(10)).partial_fit(X, y)
    assert again.n_iter_ == 1
    for kind, match in (
        ({"dtype": "float64"}, "or make the network with dtype='float32'"),
        ({"solver": "lbfgs"}, "L-BFGS needs all digits"),
        ({"precision": "half"}, "'precision' parameter of MLPClassifier must be a str among"),
    ):
        with pytest.raises(ValueError, match=match):
            ours.MLPClassifier(**{**how, "precision": "bfloat16", **kind}).fit(X, y)


IMPORT = "from sklearn.neural_network import MLPClassifier, MLPRegressor\n"
# By a private method of theirs, of the gradient; `test_the_gradient_is_right` is the same on public names.
LEFT_OUT = ("test_gradient",)


def test_their_own_tests_pass(tmp_path: Path) -> None:
    """scikit-learn's test_mlp.py as it is installed, with the two names replaced."""
    text = Path(test_mlp.__file__).read_text(encoding="utf-8")
    assert text.count(IMPORT) == 1
    assert all(f"def {name}(" in text for name in LEFT_OUT)
    file = tmp_path / "test_mlp_of_ours.py"
    file.write_text(text.replace(IMPORT, IMPORT.replace("sklearn.neural_network", "fastbp.sklearn")), encoding="utf-8")
    (tmp_path / "conftest.py").write_text(
        "import pytest\n@pytest.fixture\ndef global_random_seed():\n    return 42\n", encoding="utf-8"
    )
    out = [f"--deselect={file.name}::{name}" for name in LEFT_OUT]
    done = subprocess.run(
        [sys.executable, "-P", "-m", "pytest", "-q", "-p", "no:cacheprovider", *out, file.name], cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(FOLDERS)}, capture_output=True,
        text=True, timeout=TIMEOUT, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:]
    found = re.search(r"(\d+) passed, 1 deselected", done.stdout)
    assert found, done.stdout[-500:]
    assert int(found[1]) >= 50


@pytest.mark.parametrize("activation", ["identity", "logistic", "tanh", "relu"])
def test_the_gradient_is_right(activation: str) -> None:
    """Of plain steps: the change of the weights, over the rate, is the derivative of `loss_` by central differences."""
    X, rate, eps = np.random.RandomState(42).rand(5, 10), 1.0, 1e-5
    for n_labels in (2, 3):
        y = np.arange(5) % n_labels
        est = ours.MLPClassifier(
            6, activation, solver="sgd", alpha=1e-2, momentum=0.0, learning_rate_init=rate, random_state=1
        ).partial_fit(X, y, classes=np.arange(n_labels))  # fmt: skip
        start = [one.copy() for one in est.coefs_ + est.intercepts_]

        def put(values: list[np.ndarray], est: Any = est, y: np.ndarray = y) -> float:
            half = len(values) // 2
            est.coefs_, est.intercepts_ = [one.copy() for one in values[:half]], [one.copy() for one in values[half:]]
            return float(est.partial_fit(X, y).loss_)

        put(start)
        moved = est.coefs_ + est.intercepts_
        for number, array in enumerate(start):
            for place in np.ndindex(array.shape):
                values = [[one.copy() for one in start] for _ in range(2)]
                for sign, shifted in zip((1, -1), values, strict=True):
                    shifted[number][place] += sign * eps
                slope = (put(values[0]) - put(values[1])) / (2 * eps)
                assert abs(slope - (array[place] - moved[number][place]) / rate) < 1e-7


def test_what_ends_lbfgs_is_told() -> None:
    with pytest.warns(ConvergenceWarning, match="after 3 iterations .* max_iter is reached"):
        own = ours.MLPClassifier(solver="lbfgs", max_iter=3, random_state=0).fit(X_IRIS, y_iris)
    assert own.n_iter_ == 3
    with pytest.warns(ConvergenceWarning, match="max_fun is reached"):
        own = ours.MLPClassifier(solver="lbfgs", max_fun=6, tol=0.0, random_state=0).fit(X_IRIS, y_iris)
    assert own.n_iter_ <= 7
