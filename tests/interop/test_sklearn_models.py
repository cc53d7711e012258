"""scikit-learn's fitted networks: the same predictions there and back, with their classes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from exported import ROWS, close, network, networks
from peers import needs, sklearn_networks, sklearn_pipeline, sklearn_preprocessing

import fastbp
from fastbp import datasets

pytestmark = [needs("sklearn"), pytest.mark.filterwarnings("ignore:Stochastic Optimizer. Maximum iterations")]
KINDS = np.arange(len(ROWS)) % 3


def columns(probabilities: Any) -> Any:
    """As scikit-learn has them, with a column for no."""
    return np.stack([1 - probabilities, probabilities], axis=1) if probabilities.ndim == 1 else probabilities


def test_networks_there_and_back() -> None:
    refused, carried = [], []
    for name, net in networks().items():
        X = ROWS.astype(net.dtype)
        if (
            name.startswith("out")
            or "plain" in name
            or not set(net.activations) <= {"identity", "relu", "sigmoid", "tanh"}
        ):
            refused.append(name)
            with pytest.raises(ValueError, match=r"net.to_torch\(\) or net.to_onnx\(path\)"):
                net.to_sklearn()
            continue
        carried.append(name)
        estimator = net.to_sklearn()
        back = fastbp.from_sklearn(estimator)
        tol = 1e-5 if net.dtype == np.float32 else 1e-13
        if net.loss.link.classifies:
            assert (estimator.predict(X) == net.predict(X)).all(), name
            assert (back.predict(X) == net.predict(X)).all(), name
            for found in (estimator.predict_proba(X), columns(back.predict_proba(X))):
                assert close(found, columns(net.predict_proba(X)), tol), name
        else:
            assert close(estimator.predict(X), net.predict(X), tol), name
            assert close(back.predict(X), net.predict(X), tol), name
    assert len(refused) > 20
    assert len(carried) > 20


@pytest.mark.parametrize("labels", [["low", "middle", "high"], [30, 10, 20], ["no", "yes"], ["yes", "no"], [2.0, 1.0]])
@pytest.mark.parametrize("outputs", ["each", "one"])
def test_classes_are_carried_in_any_order(labels: list[Any], outputs: str) -> None:
    one = outputs == "one" and len(labels) == 2
    net = network([5, 6, 1 if one else len(labels)], loss="binary_cross_entropy" if one else "cross_entropy")
    net.class_labels = labels
    estimator = net.to_sklearn()
    assert estimator.classes_.tolist() == sorted(labels)
    named = np.array(labels)[net.predict(ROWS)]
    assert (estimator.predict(ROWS) == named).all()
    back = fastbp.from_sklearn(estimator)
    assert back.class_labels == sorted(labels)
    assert (np.array(back.class_labels)[back.predict(ROWS)] == named).all()


def test_fitted_estimators_come_in() -> None:
    options = {"hidden_layer_sizes": (7, 4), "max_iter": 3, "random_state": 0, "tol": 0.0}
    targets: dict[str, Any] = {
        "names": np.array(["a", "b", "c"])[KINDS], "two": KINDS > 0, "several": np.eye(3, dtype=int)[KINDS],
        "numbers": ROWS[:, 0], "columns": ROWS[:, :2],
    }  # fmt: skip
    for name, y in targets.items():
        for activation in ("relu", "logistic", "tanh", "identity"):
            classifies = name in ("names", "two", "several")
            kind = sklearn_networks.MLPClassifier if classifies else sklearn_networks.MLPRegressor
            estimator = kind(activation=activation, **options).fit(ROWS, y)
            net = fastbp.from_sklearn(estimator)
            assert net.dtype == np.float64
            if classifies:
                assert close(columns(net.predict_proba(ROWS)), estimator.predict_proba(ROWS), 1e-13)
                named = net.predict(ROWS) if name == "several" else np.array(net.class_labels)[net.predict(ROWS)]
                assert (named == estimator.predict(ROWS)).all()
            else:
                assert close(net.predict(ROWS), estimator.predict(ROWS), 1e-13)
    poisson = sklearn_networks.MLPRegressor(hidden_layer_sizes=(3,), loss="poisson", max_iter=2).fit(
        ROWS.astype("f"), KINDS
    )
    net = fastbp.from_sklearn(poisson)
    assert (net.loss.name, net.dtype) == ("poisson", np.float32)
    assert close(net.predict(ROWS.astype("f")), poisson.predict(ROWS.astype("f")))


def test_a_pipeline_with_its_scaler_and_a_training_that_goes_on() -> None:
    import pandas as pd

    X, y = datasets.load_digits()
    frame = pd.DataFrame(X[:, 20:24].astype(float), columns=list("abcd"))
    pipeline = sklearn_pipeline.make_pipeline(
        sklearn_preprocessing.StandardScaler(), sklearn_networks.MLPClassifier((8,), random_state=0, max_iter=20)
    ).fit(frame[:300], y[:300])
    net = fastbp.from_sklearn(pipeline)
    assert (net.feature_names, net.class_labels) == (list("abcd"), list(range(10)))
    assert net.scaling is not None
    assert close(net.predict_proba(frame), pipeline.predict_proba(frame), 1e-12)
    before = net.evaluate(frame, y)["loss"]
    assert net.fit(frame, y, epochs=3).loss[-1] < before
    estimator = net.to_sklearn()
    assert estimator.feature_names_in_.tolist() == list("abcd")
    assert (estimator.predict(frame) == net.predict(frame)).all()
    assert estimator.loss_curve_ == net.history.loss  # type: ignore[union-attr]
    assert estimator.partial_fit(frame, y).t_ == len(y)
    assert network([5, 3]).to_sklearn().predict(ROWS).shape == (40,)  # no hidden layer


def test_what_is_refused() -> None:
    classifier = sklearn_networks.MLPClassifier()
    for given, says in [
        (classifier, "the MLPClassifier is not fitted: call fit first"),
        (sklearn_pipeline.make_pipeline(sklearn_preprocessing.MinMaxScaler(), classifier), "the step MinMaxScaler"),
        (
            sklearn_pipeline.make_pipeline(sklearn_preprocessing.StandardScaler(), classifier),
            "StandardScaler is not fitted",
        ),
    ]:
        with pytest.raises(ValueError, match=says):
            fastbp.from_sklearn(given)
    with pytest.raises(TypeError, match=r"estimator must be an MLPClassifier or MLPRegressor.* got StandardScaler"):
        fastbp.from_sklearn(sklearn_preprocessing.StandardScaler())
    net = network([5, 3])
    net.class_labels = [0.5, 1.0, 2.0]
    with pytest.raises(ValueError, match=r"text or whole numbers, not 0\.5"):
        net.to_sklearn()
