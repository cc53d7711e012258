"""Backpropagation against central differences in float64, against the NumPy network, and float32 against float64."""

from __future__ import annotations

from typing import Any

import naive
import numpy as np
import oracles
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import fastbp
from fastbp import activations, losses
from fastbp.reference import NumpyMLP

HIDDEN = [[], [5], [5, 3], [5, 3, 4]]
WIDE = ([4, 32, 16, 3], 1031)  # a net and a batch that go by shares of the batch, of uneven length
MSE = oracles.BY_NAME["mse"]


def network(sizes: list[int], loss: Any, activation: str, dtype: str = "float64", seed: int = 0) -> fastbp.MLP:
    """With biases that are not zero, and the activation at the output too where the loss allows it."""
    net = fastbp.MLP(
        sizes, loss=loss, activation=activation, output_activation=None if losses.get(loss).linked else activation,
        dtype=dtype, seed=seed,
    )  # fmt: skip
    rng = np.random.default_rng(seed)
    net.set_weights(net.weights, [rng.normal(0, 0.3, bias.shape) for bias in net.biases])
    return net


def draw(cost: oracles.Cost, rows: int, sizes: list[int], seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    return np.random.default_rng(seed).standard_normal((rows, sizes[0])), cost.draw(rows, sizes[-1], seed)


def distance_to_kinks(net: fastbp.MLP, cost: oracles.Cost, X: np.ndarray, y: np.ndarray) -> float:
    """How near the derivative of an activation or of the loss jumps."""
    _, sums, outputs = naive.forward(net, X)
    nearest = [oracles.distance_to_kinks(name, z) for name, z in zip(naive.names(net), sums, strict=True)]
    return min(*nearest, cost.distance_to_kinks(outputs, y))


def smooth_case(
    cost: oracles.Cost, activation: str, sizes: list[int], rows: int = 6, dtype: str = "float64"
) -> tuple[fastbp.MLP, np.ndarray, np.ndarray]:
    for seed in range(1000):
        net, (X, y) = network(sizes, cost.loss, activation, dtype, seed), draw(cost, rows, sizes, seed)
        if distance_to_kinks(net, cost, X, y) > 1e-3 / rows:
            return net, X, y
    raise AssertionError("no seed without a kink nearby")


def relative(found: Any, expected: Any) -> float:
    """Largest error relative to the largest value, over all arrays of a gradient."""
    pairs = list(zip([*found], [*expected], strict=True))
    return max(np.abs(a - b).max() for a, b in pairs) / max(np.abs(b).max() for _, b in pairs)


def parts(gradient: Any) -> list[np.ndarray]:
    return [*gradient.weights, *gradient.biases, gradient.inputs]


def central_differences(function: Any, array: np.ndarray, h: float = 1e-5) -> np.ndarray:
    """d function / d array, element by element; the array is put back as it was."""
    result = np.empty_like(array)
    for i in np.ndindex(array.shape):
        kept = array[i]
        ends = []
        for array[i] in (kept + h, kept - h):
            ends.append(function(array))
        array[i] = kept
        result[i] = (ends[0] - ends[1]) / (2 * h)
    return result


@pytest.mark.parametrize("hidden", HIDDEN, ids=len)
@pytest.mark.parametrize("cost", oracles.COSTS, ids=repr)
@pytest.mark.parametrize("activation", activations.ACTIVATIONS)
def test_central_differences(activation: str, cost: oracles.Cost, hidden: list[int]) -> None:
    net, X, y = smooth_case(cost, activation, [4, *hidden, 3])
    assert fastbp.check_gradients(net, X, y) < 1e-6
    inputs = central_differences(lambda x: net.evaluate(x, y)["loss"], X)
    assert relative([net.backprop(X, y).inputs], [inputs]) < 1e-6


@pytest.mark.parametrize("cost", oracles.COSTS, ids=repr)
def test_central_differences_on_the_route_by_shares(cost: oracles.Cost) -> None:
    sizes, rows = WIDE
    net, X, y = smooth_case(cost, "tanh", sizes, rows)
    assert net.session.layout.n_groups(rows) > 0
    assert fastbp.check_gradients(net, X, y) < 1e-6


def test_check_gradients_sees_a_wrong_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    net, X, y = smooth_case(MSE, "tanh", [4, 5, 3])
    right = fastbp.MLP.backprop

    def wrong(self: fastbp.MLP, *args: Any, **options: Any) -> fastbp.Gradient:
        gradient = right(self, *args, **options)
        gradient.weights[0] = gradient.weights[0] * (1 + 1e-5)
        return gradient

    before = [weight.copy() for weight in net.weights]
    monkeypatch.setattr(fastbp.MLP, "backprop", wrong)
    assert fastbp.check_gradients(net, X, y) > 5e-6
    for old, new in zip(before, net.weights, strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize("hidden", HIDDEN, ids=len)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_output_gradient_stands_for_a_loss(dtype: str, hidden: list[int]) -> None:
    """By dJ/dz of the mse, the same gradient as by the targets; the output activation is not passed through."""
    sizes = [4, *hidden, 3]
    net, (X, y) = fastbp.MLP(sizes, loss="mse", activation="tanh", dtype=dtype, seed=0), draw(MSE, 37, sizes)
    by_loss = net.backprop(X, y)
    by_output = net.backprop(X, output_gradient=2 * (net.forward(X) - y) / y.size)
    assert by_output.loss is None
    assert relative(parts(by_output), parts(by_loss)) < 20 * np.finfo(dtype).eps


def test_output_gradient_is_by_the_outputs_before_their_activation() -> None:
    net, (X, v) = network([4, 5, 3], "mse", "sigmoid"), draw(MSE, 6, [4, 3])
    found = net.backprop(X, output_gradient=v)
    inputs = central_differences(lambda x: float((net.forward(x) * v).sum()), X)
    assert relative([found.inputs], [inputs]) < 1e-8
    np.testing.assert_allclose(found.biases[-1], v.sum(axis=0), rtol=1e-13)


@pytest.mark.parametrize("rows", [1, 9])
def test_inputs_gradient_is_by_the_inputs_as_given(rows: int) -> None:
    """With a network that standardises, not by the standardised ones."""
    rng = np.random.default_rng(0)
    net, (X, y) = network([4, 5, 3], "mse", "tanh"), draw(MSE, rows, [4, 3])
    X = 2 + X * [0.5, 1, 5, 50]
    net.standardize(rng.normal(2, [0.5, 1, 5, 50], (40, 4)), rng.normal(1, 3, (40, 3)))
    inputs = central_differences(lambda x: net.evaluate(x, y)["loss"], X)
    assert relative([net.backprop(X, y).inputs], [inputs]) < 1e-6


@pytest.mark.parametrize(("sizes", "rows"), [([64, 64, 10], 32), ([7, 33, 17, 5], 3), ([20, 40, 4], 1), WIDE])
@pytest.mark.parametrize("cost", oracles.COSTS, ids=repr)
def test_float32_is_close_to_float64(cost: oracles.Cost, sizes: list[int], rows: int) -> None:
    single, X, y = smooth_case(cost, "tanh", sizes, rows, "float32")
    X = X.astype("f4")
    found, expected = single.backprop(X, y), single.astype("float64").backprop(X, y)
    assert found.loss == pytest.approx(expected.loss, rel=2e-6)
    assert relative(parts(found), parts(expected)) < 2e-6
    assert {part.dtype.name for part in parts(found)} == {"float32"}


@pytest.mark.parametrize("cost", oracles.COSTS, ids=repr)
@pytest.mark.parametrize("activation", activations.ACTIVATIONS)
def test_against_the_plain_formulas(activation: str, cost: oracles.Cost) -> None:
    """The network and its twin in NumPy, and with weights of rows."""
    sizes, rows = [4, 5, 17, 3], 9
    weights = np.random.default_rng(1).exponential(1.0, rows)
    net, (X, y) = network(sizes, cost.loss, activation), draw(cost, rows, sizes)
    for row_weights in (None, weights):
        options = oracles.options(cost.loss) | ({} if row_weights is None else {"row_weights": row_weights})
        loss, d_weights, d_biases, inputs = naive.backprop(net, X, y, **options)
        for one in (net, numpy_twin(net)):
            found = one.backprop(X, y, sample_weight=row_weights)
            assert found.loss == pytest.approx(float(loss), rel=1e-12, abs=1e-14)
            for a, b in zip(parts(found), [*d_weights, *d_biases, inputs], strict=True):
                np.testing.assert_allclose(a, b.astype(float), rtol=1e-10, atol=1e-13)


def numpy_twin(net: fastbp.MLP) -> NumpyMLP:
    twin = NumpyMLP(
        net.sizes, loss=net.loss, activation=net.activations, output_activation=net.output_activation, dtype="float64"
    )
    twin.set_weights(net.weights, net.biases)
    return twin


def compare_with_numpy(sizes: list[int], rows: int, cost: oracles.Cost, activation: str, seed: int) -> None:
    net, (X, y) = network(sizes, cost.loss, activation, seed=seed), draw(cost, rows, sizes, seed)
    found, expected = net.backprop(X, y), numpy_twin(net).backprop(X, y)
    assert found.loss == pytest.approx(expected.loss, rel=1e-11, abs=1e-13)
    for a, b in zip(parts(found), parts(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("rows", [1024, 1031, 1039])
@pytest.mark.parametrize("cost", oracles.COSTS, ids=repr)
def test_route_by_shares_against_numpy(cost: oracles.Cost, rows: int) -> None:
    compare_with_numpy(WIDE[0], rows, cost, "silu", seed=0)


@settings(max_examples=150, deadline=None, derandomize=True, database=None)
@given(
    sizes=st.lists(st.integers(1, 70), min_size=2, max_size=5),
    rows=st.one_of(st.integers(1, 20), st.integers(1, 700)),
    cost=st.sampled_from(oracles.COSTS),
    activation=st.sampled_from(sorted(activations.ACTIVATIONS)),
    seed=st.integers(0, 2**32 - 1),
)
def test_any_shape_against_numpy(sizes: list[int], rows: int, cost: oracles.Cost, activation: str, seed: int) -> None:
    assume(cost.allows(sizes[-1]))
    compare_with_numpy(sizes, rows, cost, activation, seed)
