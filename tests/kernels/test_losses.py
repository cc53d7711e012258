"""Every loss, its value and its delta, against PyTorch, the plain formulas and the NumPy network in float64.

A layer whose weights are the identity hands its inputs on as logits, and the delta down as dJ/dX, both unrounded.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import naive
import numpy as np
import oracles
import pytest
from peers import needs, torch

import fastbp
from fastbp import losses
from fastbp.reference import NumpyMLP

DTYPES = ["float32", "float64"]
SHAPES = [(1, 1), (5, 1), (7, 3), (3, 16), (64, 10), (33, 17), (4, 101)]  # rows, outputs
CASES = [
    (cost, output)
    for cost in oracles.COSTS
    for output in ((None,) if cost.loss.linked else (None, "tanh", "sigmoid", "relu"))
]


def draw(cost: oracles.Cost, rows: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Logits and targets, exact in float32."""
    z = np.random.default_rng(rows * n).normal(0, 3, (rows, n))
    return z.astype("f4"), cost.draw(rows, n, seed=rows * n)


def identity(cls: Any, n: int, loss: Any, dtype: str = "float64", output: str | None = None) -> Any:
    net = cls([n, n], loss=loss, output_activation=output, dtype=dtype, seed=0)
    net.set_weights([np.eye(n)], [np.zeros(n)])
    return net


def by_torch(cost: oracles.Cost, output: str | None, z: np.ndarray, y: np.ndarray) -> tuple[float, np.ndarray]:
    logits = torch.tensor(z.astype(float), requires_grad=True)
    J = cost.torch(logits if output is None else oracles.activation(output).torch(logits), y)
    J.backward()
    return J.item(), logits.grad.numpy()


def assert_close(found: Any, loss: Any, delta: np.ndarray, output: str | None) -> None:
    """A gradient by the network against a loss and dJ/dz that are exact, or of double precision."""
    dtype = found.inputs.dtype.name
    eps = float(np.finfo(dtype).eps)
    rough = 2 if (output, dtype) == ("tanh", "float32") else 1  # its derivative is that of a rational fit
    assert found.loss == pytest.approx(float(loss), rel=8 * eps, abs=8 * eps)
    atol = 16 * eps * rough * float(np.abs(delta).max())
    np.testing.assert_allclose(found.inputs, delta.astype(float), rtol=16 * eps, atol=atol)


TINY = [
    kind(**{field.name: 1e-46})
    for kind in losses.LOSSES.values()
    for field in dataclasses.fields(kind)
    if field.init and isinstance(field.default, float)
]


@pytest.mark.parametrize("loss", TINY, ids=repr)
@pytest.mark.parametrize("dtype", DTYPES)
def test_an_option_that_single_precision_takes_for_zero(dtype: str, loss: Any) -> None:
    case = oracles.loss(loss.name)
    n = max(3, case.least_outputs)
    z, y = np.zeros((4, n)), next(iter(case.targets.values()))(np.random.default_rng(0), 4, n)
    if loss.link.target == "real":
        y[0] = 0.0  # no difference at all
    found = identity(fastbp.MLP, n, loss, dtype).backprop(z, y)
    assert np.isfinite(found.loss)
    assert np.isfinite(found.inputs).all()


EVERY_SHAPE = pytest.mark.parametrize(
    ("cost", "output", "rows", "n"),
    [(*case, *shape) for case in CASES for shape in SHAPES if case[0].allows(shape[1])],
    ids=str,
)


@EVERY_SHAPE
@pytest.mark.parametrize("dtype", DTYPES)
def test_value_and_delta(dtype: str, cost: oracles.Cost, output: str | None, rows: int, n: int) -> None:
    z, y = draw(cost, rows, n)
    net = identity(fastbp.MLP, n, cost.loss, dtype, output)
    found, eps = net.backprop(z, y), float(np.finfo(dtype).eps)
    loss, _, _, delta = naive.backprop(net, z, y, **oracles.options(cost.loss))
    reference = identity(NumpyMLP, n, cost.loss, output=output).backprop(z, y)
    assert_close(found, loss, delta, output)
    assert_close(found, reference.loss, reference.inputs, output)
    by_bias = delta.sum(axis=0).astype(float)
    np.testing.assert_allclose(found.biases[0], by_bias, rtol=1e-4 if dtype == "float32" else 1e-12, atol=eps)
    assert net.evaluate(z, y)["loss"] == pytest.approx(float(loss), rel=8 * eps, abs=8 * eps)


@needs("torch")
@EVERY_SHAPE
@pytest.mark.parametrize("dtype", DTYPES)
def test_value_and_delta_against_torch(dtype: str, cost: oracles.Cost, output: str | None, rows: int, n: int) -> None:
    z, y = draw(cost, rows, n)
    assert_close(
        identity(fastbp.MLP, n, cost.loss, dtype, output).backprop(z, y), *by_torch(cost, output, z, y), output
    )


@needs("torch")
@pytest.mark.parametrize("dtype", DTYPES)
def test_delta_is_that_of_the_loss_where_probabilities_do_not_quite_sum_to_1(dtype: str) -> None:
    cost = oracles.BY_NAME["cross_entropy of probabilities"]
    z, y = draw(cost, 9, 5)
    y = (y * 1.0005).astype("f4")
    J, delta = by_torch(cost, None, z, y.astype(float))
    found = identity(fastbp.MLP, 5, cost.loss, dtype).backprop(z, y)
    assert found.loss == pytest.approx(J, rel=1e-6)
    np.testing.assert_allclose(found.inputs, delta, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize(
    ("cost", "output", "n"), [(*case, n) for case in CASES for n in (1, 3, 16, 17, 33) if case[0].allows(n)], ids=str
)
@pytest.mark.parametrize("dtype", DTYPES)
def test_padding_of_deltas_is_zero(dtype: str, cost: oracles.Cost, output: str | None, n: int) -> None:
    """Products read it: with anything else in it, gradients in the padding of the weights would not stay zero."""
    y = draw(cost, 6, n)[1]
    X = np.random.default_rng(0).standard_normal((6, 4))
    net = fastbp.MLP([4, 5, n], activation="sigmoid", loss=cost.loss, output_activation=output, dtype=dtype, seed=0)
    clean = net.backprop(X, y)
    buffers = net.session.engine.buffers
    for part in (
        *buffers.activations,
        *buffers.deltas,
        buffers.targets,
        buffers.loss_values,
        net.session.engine.row_losses,
    ):
        part[:] = np.nan
    again = net.backprop(X, y)
    for delta, units in zip(buffers.deltas, (5, n), strict=True):
        assert (delta.reshape(buffers.rows, -1)[:6, units:] == 0).all()
    assert again.loss == clean.loss
    for old, new in zip([*clean.weights, clean.inputs], [*again.weights, again.inputs], strict=True):
        np.testing.assert_array_equal(old, new)
    gradient = net.session.engine.gradient
    assert np.count_nonzero(gradient) <= net.n_parameters
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_derivative_is_zero_where_prediction_meets_target(dtype: str) -> None:
    for loss in [cost.loss for cost in oracles.COSTS if cost.loss.target == "real" and not cost.loss.linked]:
        y, off = np.array([[0.5, -2.0, 0.0]]), np.array([[0.0, 0.25, 0.0]])
        found = identity(fastbp.MLP, 3, loss, dtype).backprop(y + off, y)
        assert (found.inputs[0] != 0).tolist() == [False, True, False]


@pytest.mark.parametrize("dtype", DTYPES)
def test_huber_on_both_sides_of_delta(dtype: str) -> None:
    difference = np.array([[0.5, 0.75, 1.0, -0.75, -1.0, 100.0]])
    net = fastbp.MLP([6, 6], loss=losses.Huber(delta=0.75), dtype=dtype, seed=0)
    net.set_weights([np.eye(6)], [np.zeros(6)])
    found = net.backprop(difference, np.zeros((1, 6)))
    assert found.loss * 6 == 0.125 + 2 * 0.28125 + 2 * 0.46875 + 0.75 * (100 - 0.375)
    np.testing.assert_allclose(found.inputs[0] * 6, [0.5, 0.75, 0.75, -0.75, -0.75, 0.75], rtol=1e-6)


@pytest.mark.parametrize("dtype", DTYPES)
def test_extreme_logits_stay_finite(dtype: str) -> None:
    z = np.array([[1e4, -1e4, 0.0], [-1e4, -1e4, -1e4]])
    softmax = identity(fastbp.MLP, 3, "cross_entropy", dtype)
    assert softmax.backprop(z, np.array([0, 2])).loss == pytest.approx(np.log(3) / 2, rel=1e-6)
    assert softmax.backprop(z, np.array([1, 2])).loss == pytest.approx((2e4 + np.log(3)) / 2, rel=1e-6)
    np.testing.assert_allclose(
        softmax.backprop(z, np.array([1, 2])).inputs * 2, [[1, -1, 0], [1 / 3, 1 / 3, -2 / 3]], rtol=1e-6
    )
    binary = identity(fastbp.MLP, 3, "binary_cross_entropy", dtype).backprop(z, np.array([[0, 1, 1], [0.0, 0, 0]]))
    assert binary.loss == pytest.approx((2e4 + np.log(2)) / 6, rel=1e-6)
    np.testing.assert_allclose(binary.inputs * 6, [[1, -1, -0.5], [0, 0, 0]], rtol=1e-6)
    poisson = identity(fastbp.MLP, 3, "poisson", dtype).backprop(z[1:], np.array([[0, 1, 2]]))
    assert poisson.loss == pytest.approx(1e4, rel=1e-6)
    np.testing.assert_allclose(poisson.inputs * 3, [[0, -1, -2]], rtol=1e-6)


@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize(("cost", "output"), CASES, ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
def test_nan_reaches_the_loss(dtype: str, cost: oracles.Cost, output: str | None, place: int) -> None:
    z, y = draw(cost, 7, 3)
    z[4, place] = np.nan
    found = identity(fastbp.MLP, 3, cost.loss, dtype, output).backprop(z, y)
    assert np.isnan(found.loss)
    assert np.isnan(found.inputs[4, place])
    assert np.isfinite(np.delete(found.inputs, 4, axis=0)).all()
