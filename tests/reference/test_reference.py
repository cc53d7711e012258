"""The NumPy network: the promises of its docstrings. Its arithmetic is compared where that of the kernels is."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import naive
import numpy as np
import oracles
import pytest
from peers import needs, sklearn_metrics, torch

import fastbp
from fastbp import activations, datasets, optimizers
from fastbp.errors import DivergenceError
from fastbp.reference import NumpyMLP

ROWS, N_IN, N_OUT = 6, 4, 3


def draw(loss: str, rows: int = ROWS, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    y = oracles.DEFAULT_COSTS[loss].draw(rows, N_OUT, seed)
    return np.random.default_rng(seed).standard_normal((rows, N_IN)), y


def network(loss: str, hidden: int, activation: str, output: str | None = None, seed: int = 0) -> NumpyMLP:
    """Float64, with biases that are not zero."""
    sizes = [N_IN, *[5, 3, 4][:hidden], N_OUT]
    net = NumpyMLP(sizes, activation=activation, output_activation=output, loss=loss, dtype="float64", seed=seed)
    rng = np.random.default_rng(seed + 100)
    net.set_weights(net.weights, [0.3 * rng.standard_normal(b.shape) for b in net.biases])
    return net


def flat(weights: list[np.ndarray], biases: list[np.ndarray]) -> np.ndarray:
    return np.concatenate([part.ravel() for pair in zip(weights, biases, strict=True) for part in pair])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("activation", activations.ACTIVATIONS)
def test_activation_over_the_whole_range(activation: str, dtype: str) -> None:
    """One unit, weight 1: f itself, far out on both sides as well, and NaN stays NaN."""
    net = NumpyMLP([1, 1], output_activation=activation, loss="mse", dtype=dtype, seed=0)
    net.set_weights([[[1.0]]], [[0.0]])
    z = np.concatenate([np.linspace(-30, 30, 601), [-1e4, -700.0, -100.0, -1e-8, 0.0, 1e-8, 100.0, 700.0, 1e4]])
    z = z.astype(dtype)
    expected = naive.ACTIVATIONS[activation][0](z.astype(naive.Wide)).astype(np.float64)
    eps, floor = np.finfo(dtype).eps, oracles.activation(activation).bounds(dtype)[1]
    np.testing.assert_allclose(net.predict(z[:, None]), expected, rtol=40 * eps, atol=4 * floor * eps or 1e-38)
    assert np.isnan(net.predict(np.array([[np.nan]]))[0])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("loss", ["cross_entropy", "binary_cross_entropy"])
def test_classification_losses_are_stable(loss: str, dtype: str) -> None:
    net = NumpyMLP([1, 2], loss=loss, dtype=dtype, seed=0)
    net.set_weights([[[1.0, -1.0]]], [[0.0, 0.0]])
    X = np.array([[1e4], [-1e4]])
    right = np.array([0, 1]) if loss == "cross_entropy" else np.eye(2)
    wrong = np.array([1, 0]) if loss == "cross_entropy" else 1 - np.eye(2)
    assert net.evaluate(X, right)["loss"] == 0.0
    assert net.evaluate(X, wrong)["loss"] == pytest.approx(2e4 if loss == "cross_entropy" else 1e4)
    assert np.isfinite(net.backprop(X, wrong).weights[0]).all()
    assert net.predict_proba(X).tolist() == [[1.0, 0.0], [0.0, 1.0]]


@needs("torch")
def test_cross_entropy_takes_probabilities() -> None:
    X, y = draw("cross_entropy")
    net = network("cross_entropy", 1, "tanh")
    assert net.backprop(X, np.eye(N_OUT)[y]).loss == net.backprop(X, y).loss
    soft = np.full((ROWS, N_OUT), 1 / N_OUT)
    logits = torch.tensor(net.forward(X))
    expected = torch.nn.functional.cross_entropy(logits, torch.tensor(soft)).item()
    assert net.evaluate(X, soft)["loss"] == pytest.approx(expected, rel=1e-14)


# ---- inference ----


def test_shapes_and_dtypes_of_predictions() -> None:
    X = np.random.default_rng(0).standard_normal((5, N_IN))

    def net(n_out: int, loss: str, **options: Any) -> NumpyMLP:
        return NumpyMLP([N_IN, 4, n_out], loss=loss, seed=0, **options)

    classes = net(3, "cross_entropy")
    assert classes.forward(X).shape == classes.predict_proba(X).shape == (5, 3)
    assert classes.predict(X).shape == (5,)
    assert classes.predict(X).dtype == np.int64
    np.testing.assert_allclose(classes.predict_proba(X).sum(axis=1), 1, rtol=1e-6)
    for n_out, shape in ((1, (5,)), (2, (5, 2))):
        binary = net(n_out, "binary_cross_entropy")
        assert binary.predict_proba(X).shape == binary.predict(X).shape == shape
        assert binary.predict(X).dtype == np.int64
        np.testing.assert_array_equal(binary.predict(X), binary.predict_proba(X) > 0.5)
        assert net(n_out, "huber").predict(X).shape == shape
        assert net(n_out, "huber").predict(X).dtype == np.float32
    rates = net(1, "poisson")
    np.testing.assert_allclose(rates.predict(X), np.exp(rates.forward(X)[:, 0]), rtol=1e-6)
    squashed = net(2, "mse", output_activation="sigmoid")
    np.testing.assert_allclose(squashed.predict(X), 1 / (1 + np.exp(-squashed.forward(X))), rtol=1e-5)
    with pytest.raises(ValueError, match="predict_proba needs a loss with probabilities"):
        squashed.predict_proba(X)


def test_results_are_not_views_of_buffers() -> None:
    net = network("mse", 1, "tanh")
    X, y = draw("mse")
    before = [net.forward(X), net.predict(X), net.backprop(X, y).inputs, *net.weights, *net.backprop(X, y).weights]
    kept = copy.deepcopy(before)
    net.fit(2 * X, y, epochs=2)
    net.forward(3 * X)
    for found, expected in zip(before, kept, strict=True):
        np.testing.assert_array_equal(found, expected)


@needs("sklearn")
def test_scores_against_sklearn() -> None:
    X, y = draw("mse", rows=40)
    net = network("mse", 1, "tanh")
    assert net.evaluate(X, y)["r2"] == pytest.approx(sklearn_metrics.r2_score(y, net.predict(X)), rel=1e-12)
    X, y = draw("cross_entropy", rows=40)
    net = network("cross_entropy", 1, "tanh")
    assert net.evaluate(X, y)["accuracy"] == sklearn_metrics.accuracy_score(y, net.predict(X))


def test_r2_of_a_constant_target() -> None:
    net = NumpyMLP([N_IN, 1], loss="mse", init="zeros", seed=0)
    X = np.ones((4, N_IN))
    assert net.evaluate(X, np.zeros(4))["r2"] == 1.0
    assert net.evaluate(X, np.ones(4))["r2"] == 0.0


# ---- fit ----


def test_learns_the_digits() -> None:
    X_train, X_test, y_train, y_test = datasets.train_test_split(*datasets.load_digits(), 0.2, seed=0)
    net = NumpyMLP([64, 64, 10], seed=0)
    history = net.fit(X_train, y_train, epochs=15, optimizer="adam", validation_data=(X_test, y_test))
    entries = (history.loss, history.val_loss, history.val_score, history.lr, history.seconds)
    assert [len(entry) for entry in entries] == [15] * 5
    assert history.score_name == "accuracy"
    # PyTorch, from the same weights on the same batches, also gets 0.930 on this split, 0.961 to 0.972 on others.
    assert history.val_score[-1] > 0.9
    assert history.val_score[-1] == net.evaluate(X_test, y_test)["accuracy"]
    assert history.loss[-1] < 0.2 < history.loss[0]


@pytest.mark.parametrize("optimizer", oracles.ONE_A_RULE, ids=repr)
def test_two_fits_equal_one(optimizer: Any) -> None:
    X, y = draw("mse", rows=21)
    twice, once = network("mse", 1, "relu"), network("mse", 1, "relu")
    losses = [*twice.fit(X, y, epochs=2, batch_size=8, optimizer=optimizer).loss]
    losses += twice.fit(X, y, epochs=2, batch_size=8, optimizer=optimizer).loss
    assert losses == once.fit(X, y, epochs=4, batch_size=8, optimizer=optimizer).loss
    np.testing.assert_array_equal(flat(twice.weights, twice.biases), flat(once.weights, once.biases))


def test_optimizer_state_restarts_with_another_layout() -> None:
    X, y = draw("mse")
    net, fresh = network("mse", 1, "tanh"), network("mse", 1, "tanh")
    net.train_step(X, y, optimizers.SGD(momentum=0.9))
    fresh.set_weights(net.weights, net.biases)
    net.train_step(X, y, "adam")
    fresh.train_step(X, y, "adam")
    np.testing.assert_array_equal(flat(net.weights, net.biases), flat(fresh.weights, fresh.biases))
    net.reset_optimizer()
    fresh.reset_optimizer()
    assert net.train_step(X, y, "adam") == fresh.train_step(X, y, "adam")


def test_order_replays_batches() -> None:
    X, y = draw("cross_entropy", rows=20)
    net, by_hand = network("cross_entropy", 1, "relu"), network("cross_entropy", 1, "relu")
    seen = []

    def order(epoch: int) -> np.ndarray:
        seen.append(epoch)
        return np.random.default_rng(epoch).permutation(20)

    history = net.fit(X, y, epochs=3, batch_size=8, optimizer="sgd", order=order)
    expected = []
    for epoch in range(3):
        rows = np.random.default_rng(epoch).permutation(20)
        parts = [rows[:8], rows[8:16], rows[16:]]
        expected.append(sum(len(part) * by_hand.train_step(X[part], y[part], "sgd") for part in parts) / 20)
    np.testing.assert_allclose(history.loss, expected, rtol=1e-14)
    np.testing.assert_allclose(flat(net.weights, net.biases), flat(by_hand.weights, by_hand.biases), rtol=1e-14)
    net.fit(X, y, epochs=1, optimizer="sgd", order=order)
    assert seen == [0, 1, 2, 3]
    with pytest.raises(ValueError, match=r"order\(4\) must give row indices from 0 to 19"):
        net.fit(X, y, epochs=1, optimizer="sgd", order=lambda epoch: np.array([0, 20]))


def test_shuffle_follows_seed_and_epoch() -> None:
    X, y = draw("mse", rows=30)
    shuffled, replayed, stored = (network("mse", 1, "relu", seed=4) for _ in range(3))
    losses = shuffled.fit(X, y, epochs=2, batch_size=7).loss
    order = replayed.fit(X, y, epochs=2, batch_size=7, order=lambda e: np.random.default_rng((4, e)).permutation(30))
    assert losses == order.loss
    assert losses != stored.fit(X, y, epochs=2, batch_size=7, shuffle=False).loss


def test_validation_split_holds_rows_back() -> None:
    X, y = draw("cross_entropy", rows=60)
    net, by_hand = network("cross_entropy", 1, "relu"), network("cross_entropy", 1, "relu")
    history = net.fit(X, y, epochs=2, validation_split=0.25)
    X_train, X_held, y_train, y_held = datasets.train_test_split(X, y, 0.25, seed=net.seed)
    expected = by_hand.fit(X_train, y_train, epochs=2, validation_data=(X_held, y_held))
    assert history.loss == expected.loss
    assert history.val_loss == expected.val_loss


def test_a_split_in_order_with_a_class_of_one_row() -> None:
    """As `fastbp.MLP.fit` makes it, which warns besides."""
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((40, 3)), rng.integers(0, 2, 40)
    y[5] = 2
    net, twin = (cls([3, 4, 3], dtype="float64", seed=0) for cls in (fastbp.MLP, NumpyMLP))
    options = {"epochs": 2, "batch_size": 4, "validation_split": 0.2, "shuffle": False}
    with pytest.warns(UserWarning, match="class 2 has too few rows"):
        found = net.fit(X, y, **options)
    np.testing.assert_allclose(twin.fit(X, y, **options).val_loss, found.val_loss, rtol=1e-9)


def test_divergence_is_an_error() -> None:
    X, y = draw("mse")
    net = network("mse", 1, "identity")
    with pytest.raises(DivergenceError) as caught:
        net.fit(X, y, epochs=500, batch_size=2, optimizer=optimizers.SGD(lr=1e3))
    assert caught.value.lr == 1e3
    assert caught.value.epoch == len(caught.value.history.loss)


# ---- the object ----


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))])
def test_copies_train_on_alike_and_apart(duplicate: Callable[[NumpyMLP], NumpyMLP]) -> None:
    X, y = draw("mse", rows=20)
    net = network("mse", 1, "tanh")
    net.fit(X, y, epochs=1)
    twin = duplicate(net)
    weights = flat(net.weights, net.biases)
    losses = twin.fit(X, y, epochs=2).loss
    np.testing.assert_array_equal(flat(net.weights, net.biases), weights)
    assert net.fit(X, y, epochs=2).loss == losses
    np.testing.assert_array_equal(flat(net.weights, net.biases), flat(twin.weights, twin.biases))


def test_seed_is_kept_and_repeats_the_network() -> None:
    net = NumpyMLP([4, 3, 2])
    again = NumpyMLP([4, 3, 2], seed=net.seed)
    np.testing.assert_array_equal(net.weights[0], again.weights[0])
    assert net.n_parameters == 4 * 3 + 3 + 3 * 2 + 2


def test_bad_input_is_named() -> None:
    X, y = draw("cross_entropy")
    net = network("cross_entropy", 1, "relu")
    with pytest.raises(ValueError, match=r"X must have shape \(n, 4\); got \(6, 3\)"):
        net.predict(X[:, :3])
    with pytest.raises(ValueError, match="y must hold classes 0 to 2; got 0 to 3"):
        net.backprop(X, np.array([0, 1, 2, 3, 0, 1]))
    with pytest.raises(TypeError, match="y must hold integer classes or probabilities"):
        net.backprop(X, np.zeros(6))
    with pytest.raises(ValueError, match=r"y must have shape \(6, 3\); got \(6, 1\)"):
        network("mse", 1, "relu").backprop(X, y[:, None])
    with pytest.raises(ValueError, match="output_activation must be None with loss='poisson'"):
        NumpyMLP([4, 3], loss="poisson", output_activation="tanh")
    with pytest.raises(ValueError, match="weights and biases must fit sizes"):
        net.set_weights([np.zeros((4, 5)), np.zeros((3, 5))], [np.zeros(5), np.zeros(3)])


@pytest.mark.parametrize("name", activations.ACTIVATIONS)
def test_float32_stays_float32(name: str) -> None:
    X, y = draw("cross_entropy")
    net = NumpyMLP([N_IN, 5, N_OUT], activation=name, seed=0)
    net.fit(X, y, epochs=1)
    assert {a.dtype for a in [*net.weights, *net.biases, net.forward(X), net.predict_proba(X)]} == {np.dtype("float32")}
