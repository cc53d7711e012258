"""The oracle itself: against central differences, PyTorch in float64, and the promises of its docstrings."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from peers import needs, sklearn_metrics, torch

import fastbp
from fastbp import activations, datasets, losses, optimizers
from fastbp.errors import DivergenceError
from fastbp.reference import NumpyMLP
from fastbp.reference.activations import ACTIVATIONS, activate
from fastbp.reference.losses import LOSSES
from fastbp.reference.optimizers import OPTIMIZERS

ROWS, N_IN, N_OUT = 6, 4, 3
LINKED = ("cross_entropy", "binary_cross_entropy", "poisson")

TORCH_ACTIVATION: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "identity": lambda z: z,
    "relu": torch.relu,
    "leaky_relu": torch.nn.functional.leaky_relu,
    "elu": torch.nn.functional.elu,
    "selu": torch.selu,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "softplus": torch.nn.Softplus(threshold=1000),  # the default, 20, is an approximation
    "gelu": torch.nn.functional.gelu,
    "silu": torch.nn.functional.silu,
}
TORCH_LOSS: dict[str, torch.nn.Module] = {
    "cross_entropy": torch.nn.CrossEntropyLoss(),
    "binary_cross_entropy": torch.nn.BCEWithLogitsLoss(),
    "mse": torch.nn.MSELoss(),
    "mae": torch.nn.L1Loss(),
    "huber": torch.nn.HuberLoss(delta=0.7),
    "poisson": torch.nn.PoissonNLLLoss(log_input=True),
}


def describe(loss: str) -> Any:
    return losses.Huber(delta=0.7) if loss == "huber" else losses.get(loss)


def draw(loss: str, rows: int = ROWS, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((rows, N_IN))
    y = {
        "cross_entropy": rng.integers(0, N_OUT, rows),
        "binary_cross_entropy": rng.integers(0, 2, (rows, N_OUT)).astype(float),
        "poisson": rng.poisson(2.0, (rows, N_OUT)).astype(float),
    }.get(loss, rng.standard_normal((rows, N_OUT)))
    return X, y


def network(loss: str, hidden: int, activation: str, output: str | None = None, seed: int = 0) -> NumpyMLP:
    """Float64, with biases that are not zero."""
    sizes = [N_IN, *[5, 3, 4][:hidden], N_OUT]
    net = NumpyMLP(
        sizes, activation=activation, output_activation=output, loss=describe(loss), dtype="float64", seed=seed
    )
    rng = np.random.default_rng(seed + 100)
    net.set_weights(net.weights, [0.3 * rng.standard_normal(b.shape) for b in net.biases])
    return net


def torch_network(net: NumpyMLP, activation: str, output: str | None) -> tuple[list[torch.Tensor], Callable]:
    """The same network in PyTorch: its parameters, weight and bias of each layer in turn, and its function."""
    pairs = zip(net.weights, net.biases, strict=True)
    parameters = [torch.tensor(array, requires_grad=True) for pair in pairs for array in pair]

    def forward(X: torch.Tensor) -> torch.Tensor:
        for k in range(0, len(parameters), 2):
            X = X @ parameters[k] + parameters[k + 1]
            X = TORCH_ACTIVATION[(output or "identity") if k == len(parameters) - 2 else activation](X)
        return X

    return parameters, forward


def flat(weights: list[np.ndarray], biases: list[np.ndarray]) -> np.ndarray:
    return np.concatenate([part.ravel() for pair in zip(weights, biases, strict=True) for part in pair])


def loss_of(net: NumpyMLP, X: np.ndarray, y: np.ndarray) -> float:
    return net.evaluate(X, y)["loss"]


def central_differences(net: NumpyMLP, X: np.ndarray, y: np.ndarray, h: float) -> tuple[np.ndarray, np.ndarray]:
    """dJ/d(parameters) and dJ/dX, one perturbed evaluation after another."""
    weights, biases = net.weights, net.biases
    found = []
    for array in [part for pair in zip(weights, biases, strict=True) for part in pair]:
        for i in np.ndindex(array.shape):
            kept = array[i]
            ends = []
            for value in (kept + h, kept - h):
                array[i] = value
                net.set_weights(weights, biases)
                ends.append(loss_of(net, X, y))
            array[i] = kept
            found.append((ends[0] - ends[1]) / (2 * h))
    net.set_weights(weights, biases)
    inputs = np.empty_like(X)
    for i in np.ndindex(X.shape):
        step = np.zeros_like(X)
        step[i] = h
        inputs[i] = (loss_of(net, X + step, y) - loss_of(net, X - step, y)) / (2 * h)
    return np.array(found), inputs


def distance_to_kinks(net: NumpyMLP, X: np.ndarray, y: np.ndarray, activation: str, output: str | None) -> float:
    """How far the nearest pre-activation, or residual of mae and huber, is from where the derivative jumps."""
    distances = [np.inf]
    z, kinked = X, ("relu", "leaky_relu", "selu")
    for k, (weight, bias) in enumerate(zip(net.weights, net.biases, strict=True)):
        name = activation if k < len(net.weights) - 1 else output or "identity"
        z = z @ weight + bias
        if name in kinked:
            distances.append(np.abs(z).min())
        z = activate(name, z)
    if net.loss.name == "mae":
        distances.append(np.abs(z - y).min())
    if net.loss.name == "huber":
        distances.append(np.abs(np.abs(z - y) - 0.7).min())
    return min(distances)


def smooth_case(loss: str, hidden: int, activation: str, output: str | None) -> tuple[NumpyMLP, np.ndarray, np.ndarray]:
    """A network and a batch without a kink nearby."""
    for seed in range(100):
        net = network(loss, hidden, activation, output, seed)
        X, y = draw(loss, seed=seed)
        if distance_to_kinks(net, X, y, activation, output) > 1e-3:
            return net, X, y
    raise AssertionError("no seed without a kink nearby")


def relative(found: np.ndarray, expected: np.ndarray) -> float:
    """Largest error, relative to the largest value."""
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def test_tables_match_the_registries() -> None:
    assert set(ACTIVATIONS) == set(TORCH_ACTIVATION) == set(activations.ACTIVATIONS)
    assert set(LOSSES) == set(TORCH_LOSS) == set(losses.LOSSES)
    assert set(OPTIMIZERS) == set(optimizers.OPTIMIZERS)


@pytest.mark.parametrize("hidden", [0, 1, 2, 3])
@pytest.mark.parametrize("loss", TORCH_LOSS)
@pytest.mark.parametrize("activation", TORCH_ACTIVATION)
def test_gradient_by_central_differences(activation: str, loss: str, hidden: int) -> None:
    output = None if loss in LINKED else activation
    net, X, y = smooth_case(loss, hidden, activation, output)
    gradient = net.backprop(X, y)
    parameters, inputs = central_differences(net, X, y, h=1e-5)
    assert relative(flat(gradient.weights, gradient.biases), parameters) < 1e-6
    assert relative(gradient.inputs, inputs) < 1e-6
    assert gradient.loss == pytest.approx(loss_of(net, X, y), rel=1e-14)


@needs("torch")
@pytest.mark.parametrize("loss", TORCH_LOSS)
@pytest.mark.parametrize("activation", TORCH_ACTIVATION)
def test_loss_and_gradient_against_torch(activation: str, loss: str) -> None:
    output = None if loss in LINKED else activation
    net = network(loss, 2, activation, output)
    X, y = draw(loss, rows=17)
    parameters, forward = torch_network(net, activation, output)
    out = forward(torch.tensor(X))
    expected = TORCH_LOSS[loss](out, torch.tensor(y))
    expected.backward()
    gradient = net.backprop(X, y)
    assert gradient.loss == pytest.approx(expected.item(), rel=1e-13)
    for k in range(3):
        np.testing.assert_allclose(gradient.weights[k], parameters[2 * k].grad.numpy(), rtol=1e-11, atol=1e-15)
        np.testing.assert_allclose(gradient.biases[k], parameters[2 * k + 1].grad.numpy(), rtol=1e-11, atol=1e-15)
    if loss not in LINKED:
        np.testing.assert_allclose(net.predict(X), out.detach().numpy(), rtol=1e-13, atol=1e-15)


@needs("torch")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("activation", TORCH_ACTIVATION)
def test_activation_over_the_whole_range(activation: str, dtype: str) -> None:
    """One unit, weight 1: f itself, far out on both sides as well, and NaN stays NaN."""
    net = NumpyMLP([1, 1], output_activation=activation, loss="mse", dtype=dtype, seed=0)
    net.set_weights([[[1.0]]], [[0.0]])
    z = np.concatenate([np.linspace(-30, 30, 601), [-1e4, -700.0, -100.0, -1e-8, 0.0, 1e-8, 100.0, 700.0, 1e4]])
    z = z.astype(dtype)
    expected = TORCH_ACTIVATION[activation](torch.tensor(z, dtype=torch.float64)).numpy()
    epsilon = np.finfo(dtype).eps
    found = net.predict(z[:, None])
    # gelu: torch itself computes 1 + erf, which cancels on the left.
    np.testing.assert_allclose(found, expected, rtol=40 * epsilon, atol=4 * epsilon if activation == "gelu" else 1e-38)
    assert np.isnan(net.predict(np.array([[np.nan]]))[0])


OPTIMIZER_CASES: list[tuple[str, dict[str, Any], type[torch.optim.Optimizer]]] = [
    ("SGD", {"lr": 0.1}, torch.optim.SGD),
    ("SGD", {"lr": 0.1, "weight_decay": 0.02}, torch.optim.SGD),
    ("SGD", {"lr": 0.05, "momentum": 0.9}, torch.optim.SGD),
    ("SGD", {"lr": 0.05, "momentum": 0.9, "weight_decay": 0.02}, torch.optim.SGD),
    ("SGD", {"lr": 0.05, "momentum": 0.9, "weight_decay": 0.02, "nesterov": True}, torch.optim.SGD),
    ("Adam", {"lr": 0.01}, torch.optim.Adam),
    ("Adam", {"lr": 0.01, "betas": (0.8, 0.95), "eps": 1e-4, "weight_decay": 0.02}, torch.optim.Adam),
    ("AdamW", {"lr": 0.01}, torch.optim.AdamW),
    ("AdamW", {"lr": 0.01, "betas": (0.8, 0.95), "eps": 1e-4, "weight_decay": 0.3}, torch.optim.AdamW),
    ("RMSprop", {}, torch.optim.RMSprop),
    ("RMSprop", {"lr": 0.005, "alpha": 0.9, "eps": 1e-4, "weight_decay": 0.02}, torch.optim.RMSprop),
]


@needs("torch")
@pytest.mark.parametrize(("name", "options", "torch_class"), OPTIMIZER_CASES)
def test_update_rules_against_torch(name: str, options: dict[str, Any], torch_class: type) -> None:
    """Fifty steps on changing batches end at the same weights."""
    net = network("mse", 2, "tanh")
    parameters, forward = torch_network(net, "tanh", None)
    theirs = torch_class(parameters, **options)
    ours = getattr(optimizers, name)(**options)
    for step in range(50):
        X, y = draw("mse", rows=8, seed=step)
        theirs.zero_grad()
        loss = TORCH_LOSS["mse"](forward(torch.tensor(X)), torch.tensor(y))
        loss.backward()
        theirs.step()
        assert net.train_step(X, y, ours) == pytest.approx(loss.item(), rel=1e-9)
    expected = np.concatenate([p.detach().numpy().ravel() for p in parameters])
    np.testing.assert_allclose(flat(net.weights, net.biases), expected, rtol=1e-10, atol=1e-10)


@needs("torch")
def test_default_learning_rates_are_those_of_torch() -> None:
    parameter = [torch.zeros(1, requires_grad=True)]
    for name in sorted({kind.__name__ for kind in optimizers.OPTIMIZERS.values()} - {"Lion"}):
        assert optimizers.get(name.lower()).lr == getattr(torch.optim, name)(parameter).defaults["lr"]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("loss", LINKED[:2])
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


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_two_fits_equal_one(optimizer: str) -> None:
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


@pytest.mark.parametrize("name", ["relu", "tanh"])
def test_float32_stays_float32(name: str) -> None:
    X, y = draw("cross_entropy")
    net = NumpyMLP([N_IN, 5, N_OUT], activation=name, seed=0)
    net.fit(X, y, epochs=1)
    assert {a.dtype for a in [*net.weights, *net.biases, net.forward(X), net.predict_proba(X)]} == {np.dtype("float32")}
