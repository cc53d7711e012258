"""Dropout, input noise, penalties and largest norms, against the NumPy network, PyTorch and chance."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from peers import needs, torch

import fastbp
from fastbp import MLP, SGD, Adam, activations
from fastbp.reference import NumpyMLP
from fastbp.reference.noise import normal, random_bits

RNG = np.random.default_rng(5)
X, Y = RNG.standard_normal((90, 7)), RNG.integers(0, 4, 90)
ALL: list[dict[str, Any]] = [
    {"dropout": 0.3},
    {"dropout": [0.5, 0.0]},
    {"dropout": [0.0, 0.9]},
    {"input_noise": 0.4},
    {"l1": 1e-2},
    {"l2": 3e-2},
    {"max_norm": 0.8},
    {"dropout": 0.2, "input_noise": 0.1, "l1": 1e-3, "l2": 1e-3, "max_norm": 1.0},
]


def assert_close(net: MLP, other: Any, rtol: float = 1e-9, atol: float = 1e-12) -> None:
    for ours, theirs in zip([*net.weights, *net.biases], [*other.weights, *other.biases], strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=rtol, atol=atol)


def same_bits(a: MLP, b: MLP) -> bool:
    pairs = zip([*a.weights, *a.biases], [*b.weights, *b.biases], strict=True)
    return all(np.array_equal(one, other) for one, other in pairs)


@pytest.mark.parametrize("held", ALL, ids=str)
@pytest.mark.parametrize("activation", activations.ACTIVATIONS)
def test_steps_against_numpy(held: dict[str, Any], activation: str) -> None:
    # Noise comes by a polynomial of single precision: see `test_the_noise_is_normal`.
    rtol, atol = (1e-9, 1e-12) if "input_noise" not in held else (2e-5, 2e-6)
    net, oracle = (
        kind([7, 18, 11, 4], activation=activation, dtype="float64", seed=3, **held) for kind in (MLP, NumpyMLP)
    )
    recipe = SGD(lr=0.05, momentum=0.9)
    for step in range(20):
        rows = slice(step % 3 * 30, step % 3 * 30 + 30)
        mine, theirs = net.train_step(X[rows], Y[rows], recipe), oracle.train_step(X[rows], Y[rows], recipe)
        assert mine == pytest.approx(theirs, rel=rtol)
    assert_close(net, oracle, rtol, atol)


@pytest.mark.parametrize("held", ALL, ids=str)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("sizes", [[7, 9, 5, 4], [7, 130, 70, 4]])
def test_every_route_gives_the_same_bits(held: dict[str, Any], dtype: str, sizes: list[int]) -> None:
    recipe = Adam(lr=0.01, clip_norm=0.5)
    nets = [MLP(sizes, dtype=dtype, seed=1, **held) for _ in range(4)]
    for _ in range(3):
        nets[0].train_step(X, Y, recipe)
        recipe.update(nets[1], nets[1].backprop(X, Y))
    for net, threads in zip(nets[2:], (1, 3), strict=True):
        net.fit(X, Y, epochs=3, batch_size=90, shuffle=False, optimizer=recipe, threads=threads)
    assert all(same_bits(nets[0], net) for net in nets[1:])


@pytest.mark.parametrize("held", [ALL[0], ALL[3], ALL[-1]], ids=str)
def test_shares_of_a_big_batch_draw_the_same_numbers(held: dict[str, Any]) -> None:
    rows = RNG.standard_normal((6000, 7)).astype(np.float32)
    labels = RNG.integers(0, 4, 6000)
    nets = [MLP([7, 18, 11, 4], dtype="float32", seed=2, **held) for _ in range(3)]
    for net, threads in zip(nets, (1, 2, 3), strict=True):
        net.fit(rows, labels, epochs=2, batch_size=6000, shuffle=False, optimizer="sgd", threads=threads)
    oracle = NumpyMLP([7, 18, 11, 4], dtype="float64", seed=2, **held)
    oracle.fit(rows, labels, epochs=2, batch_size=6000, shuffle=False, optimizer="sgd")
    assert same_bits(nets[0], nets[1])
    assert same_bits(nets[0], nets[2])
    assert_close(nets[0], oracle, 2e-4, 2e-6)


def test_going_on_draws_what_an_unbroken_training_would() -> None:
    whole, parts = (MLP([7, 20, 4], dropout=0.4, input_noise=0.1, seed=4) for _ in range(2))
    whole.fit(X, Y, epochs=6, batch_size=20)
    parts.fit(X, Y, epochs=2, batch_size=20)
    parts = parts.copy()
    parts.fit(X, Y, epochs=4, batch_size=20)
    assert same_bits(whole, parts)


@needs("torch")
def test_dropout_against_pytorch_with_the_same_mask() -> None:
    chance, seed = 0.35, 11
    net = MLP([7, 16, 4], activation="tanh", dropout=chance, dtype="float64", seed=seed)
    found = net.backprop(X, Y)
    w1, w2 = (torch.tensor(np.array(w), requires_grad=True) for w in net.weights)
    b1, b2 = (torch.tensor(np.array(b), requires_grad=True) for b in net.biases)
    kept = torch.tensor(random_bits(seed, 0, 1, 90, 16) >= round(chance * 2**32)).double() / (1 - chance)
    hidden = torch.tanh(torch.tensor(X) @ w1 + b1) * kept
    torch.nn.functional.cross_entropy(hidden @ w2 + b2, torch.tensor(Y)).backward()
    np.testing.assert_allclose(found.weights[0], w1.grad.numpy(), rtol=1e-10, atol=1e-14)
    np.testing.assert_allclose(found.biases[1], b2.grad.numpy(), rtol=1e-10, atol=1e-14)


@needs("torch")
def test_penalties_are_those_of_the_formula() -> None:
    """J + l1 sum |w| + l2 sum w^2, differentiated by PyTorch; biases are left alone."""
    net = MLP([7, 5, 4], activation="tanh", l1=0.02, l2=0.05, dtype="float64", seed=0)
    parts = [torch.tensor(np.array(a), requires_grad=True) for a in [*net.weights, *net.biases]]
    w1, w2, b1, b2 = parts
    cost = torch.nn.functional.cross_entropy(torch.tanh(torch.tensor(X) @ w1 + b1) @ w2 + b2, torch.tensor(Y))
    (cost + sum(0.02 * w.abs().sum() + 0.05 * w.square().sum() for w in (w1, w2))).backward()
    loss = net.train_step(X, Y, SGD(lr=1.0))
    assert loss == pytest.approx(cost.item(), rel=1e-12)  # reported without penalties
    for now, part in zip([*net.weights, *net.biases], parts, strict=True):
        np.testing.assert_allclose(now, (part - part.grad).detach().numpy(), rtol=1e-10, atol=1e-13)


def test_no_unit_exceeds_the_largest_norm() -> None:
    net = MLP([7, 33, 40, 4], max_norm=0.5, seed=0)
    net.fit(X, Y, epochs=5, optimizer=SGD(lr=0.5))
    norms = np.concatenate([np.linalg.norm(w, axis=0) for w in net.weights])
    assert norms.max() <= 0.5 * (1 + 1e-5)
    assert (norms > 0.4999).any()  # the bound was met
    # The transposed copy, from which deltas go down, holds the same weights.
    twin = MLP([7, 33, 40, 4], seed=0)
    twin.set_weights(net.weights, net.biases)
    np.testing.assert_array_equal(twin.backprop(X, Y).weights[0], net.backprop(X, Y).weights[0])


@pytest.mark.parametrize(
    ("dtype", "size", "limit"),
    [("float32", 1e25, 2.0), ("float32", 3e38, 1e-3), ("float32", 1e25, 1e22), ("float32", 1e-22, 3e-23),
     ("float64", 1e200, 2.0), ("float64", 1.7e308, 1e-3), ("float64", 1.0, 0.5)],
)  # fmt: skip
def test_weights_of_any_size_are_held(dtype: str, size: float, limit: float) -> None:
    rng, start = np.random.default_rng(0), MLP([40, 33, 4], dtype=dtype, seed=0)
    start.set_weights([size * rng.uniform(-1, 1, w.shape) for w in start.weights], start.biases)
    nothing = fastbp.Gradient(None, [0.0 * w for w in start.weights], list(start.biases), np.empty(0))
    expected = []
    for weight in start.weights:
        w = weight.astype(np.longdouble) / size
        norms = np.sqrt(np.square(w).sum(axis=0))
        expected.append((w * np.minimum(np.longdouble(size), limit / norms)).astype(np.float64))
    net, oracle = (kind([40, 33, 4], max_norm=limit, dtype=dtype, seed=0) for kind in (MLP, NumpyMLP))
    for one in (net, oracle):
        one.set_weights(start.weights, start.biases)
    SGD(1.0).update(net, nothing)
    oracle.apply(SGD(1.0), nothing)
    for one in (net, oracle):
        for found, wanted in zip(one.weights, expected, strict=True):
            np.testing.assert_allclose(found, wanted, rtol=2e-6, atol=1e-3 * np.finfo(dtype).tiny)
    twin = MLP([40, 33, 4], dtype=dtype, seed=0)
    twin.set_weights(net.weights, net.biases)
    unused = net.session.layout.layers[0].transposed_size
    twin.session.engine.mirror()
    np.testing.assert_array_equal(net.session.engine.transposed[unused:], twin.session.engine.transposed[unused:])


def test_infinite_weights_are_not_held() -> None:
    """They are to be seen: by the next loss."""
    net = MLP([3, 4], max_norm=1.0, seed=0)
    gradient = fastbp.Gradient(None, [np.full((3, 4), -1e38)], [np.zeros(4)], np.empty(0))
    SGD(1e9).update(net, gradient)
    assert not np.isfinite(net.weights[0]).any()


@pytest.mark.parametrize("below", [2.0**-33, 1e-10, 1e-11, 2.0**-53])
def test_dropout_next_to_1_drops(below: float) -> None:
    net, oracle = (kind([3, 256, 1], loss="mse", dropout=1.0 - below, seed=0) for kind in (MLP, NumpyMLP))
    for one in (net, oracle):
        found = one.backprop(np.ones((64, 3)), np.ones(64))
        assert not found.weights[1].any()
        assert found.biases[1].any()


def test_inference_knows_no_noise() -> None:
    plain = MLP([7, 20, 4], seed=6)
    noisy = MLP([7, 20, 4], dropout=0.5, input_noise=1.0, seed=6)
    for call in ("forward", "predict", "predict_proba"):
        np.testing.assert_array_equal(getattr(plain, call)(X), getattr(noisy, call)(X))
    assert plain.evaluate(X, Y) == noisy.evaluate(X, Y)
    gradient, quiet = plain.backprop(X, Y), noisy.backprop(X, Y, training=False)
    np.testing.assert_array_equal(gradient.weights[0], quiet.weights[0])
    assert not np.array_equal(gradient.weights[0], noisy.backprop(X, Y).weights[0])
    assert fastbp.check_gradients(MLP([7, 6, 4], activation="tanh", dropout=0.5, input_noise=1.0, seed=0), X, Y) < 1e-6
    out = np.ones((90, 4)) / 90
    np.testing.assert_array_equal(  # what `forward` returned had no dropout
        noisy.backprop(X, output_gradient=out).weights[1], plain.backprop(X, output_gradient=out).weights[1]
    )


def test_the_draws_are_independent() -> None:
    """Means and correlations over rows, units, steps, layers and seeds stay within five standard errors."""
    blocks = np.stack([random_bits(seed, step, layer, 64, 64) for seed, step, layer in
                       [(0, 0, 1), (0, 1, 1), (0, 0, 2), (1, 0, 1), (0, 2**40, 1)]])  # fmt: skip
    signs = np.where(blocks >= 2**31, 1.0, -1.0)
    error = 5 / np.sqrt(64 * 64)
    assert np.abs(signs.mean(axis=(1, 2))).max() < error
    for other in range(1, len(signs)):
        assert abs((signs[0] * signs[other]).mean()) < error
    for rows, units in [(1, 0), (0, 1), (1, 1), (2, 0), (0, 8)]:
        moved = signs[:, rows:, units:] * signs[:, : 64 - rows, : 64 - units]
        assert np.abs(moved.mean(axis=(1, 2))).max() < error * 1.1
    assert abs(np.mean(blocks / 2**32) - 0.5) < 5 * 0.29 / np.sqrt(blocks.size)
    counts = np.bincount((blocks >> np.uint32(24)).ravel(), minlength=256)
    assert ((counts - blocks.size / 256) ** 2).sum() / (blocks.size / 256) < 256 + 5 * np.sqrt(512)  # chi squared


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_noise_is_normal(dtype: str) -> None:
    """A linear network of weights 1 shows its inputs in the gradient: dJ/dW = A^T delta."""
    n = 50
    net = MLP([n, n, 1], activation="identity", loss="mse", input_noise=2.0, dtype=dtype, seed=9)
    net.set_weights([np.eye(n), np.zeros((n, 1))], [np.zeros(n), np.zeros(1)])
    rows = 200
    # dJ/dw2 = sum_r 2 (p - y) a_r / rows = -2 a_0 y / rows for a target of one row alone
    shown = []
    for row in range(rows):
        y = np.zeros(rows)
        y[row] = -rows / 2
        shown.append(net.backprop(np.zeros((rows, n)), y).weights[1][:, 0])
    expected = 2.0 * normal(random_bits(9, 0, 0, rows, n))
    np.testing.assert_allclose(np.stack(shown), expected, rtol=3e-6, atol=1e-6)
    assert abs(expected.mean()) < 5 * 2 / np.sqrt(rows * n)
    assert abs(expected.std() - 2) < 5 * 2 / np.sqrt(2 * rows * n)


def test_dropout_keeps_the_mean_of_a_unit() -> None:
    net = MLP([7, 400, 1], activation="sigmoid", loss="mse", dropout=0.25, dtype="float64", seed=1)
    means, plain = [], net.backprop(X, np.zeros(90), training=False)
    for _ in range(200):
        means.append(net.backprop(X, np.zeros(90)).biases[1][0])
        SGD(lr=0.0).update(net, plain)  # counts a step
    assert np.mean(means) == pytest.approx(plain.biases[1][0], rel=0.05, abs=0.02)
    assert len(set(means)) == 200


def test_a_saved_network_keeps_its_regularization(tmp_path: Any) -> None:
    net = MLP([7, 20, 12, 4], **ALL[-1], seed=0)
    net.fit(X, Y, epochs=2)
    net.save(tmp_path / "net.safetensors")
    loaded = fastbp.load(tmp_path / "net.safetensors")
    assert loaded.regularization == net.regularization == net.copy().regularization
    assert net.astype("float64").regularization == net.regularization
    for one in (net, loaded):
        one.fit(X, Y, epochs=2)
    assert same_bits(net, loaded)


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"dropout": 1.0}, ValueError, r"dropout must be a number in \[0, 1\), got 1.0"),
        ({"dropout": -0.1}, ValueError, "dropout must be"),
        ({"dropout": [0.1]}, ValueError, "dropout lists 1 numbers for 2 hidden layers"),
        ({"dropout": [0.1, "a"]}, TypeError, r"dropout\[1\]"),
        ({"dropout": "0.5"}, TypeError, "dropout must be"),
        ({"input_noise": float("nan")}, ValueError, "input_noise must be"),
        ({"l1": -1.0}, ValueError, "l1 must be"),
        ({"l2": "x"}, TypeError, "l2 must be"),
        ({"max_norm": 0.0}, ValueError, "max_norm must be a positive"),
    ],
)
def test_wrong_arguments_are_named(arguments: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        MLP([7, 5, 5, 4], **arguments)


def test_dropout_without_a_hidden_layer_is_refused() -> None:
    with pytest.raises(ValueError, match="needs a hidden layer"):
        MLP([7, 4], dropout=0.5)
