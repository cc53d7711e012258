"""Every loss, its value and its delta, against PyTorch and the NumPy network in float64.

A layer whose weights are the identity hands its inputs on as logits, and the delta down as dJ/dX, both unrounded.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from peers import needs, torch

import fastbp
from fastbp import losses
from fastbp.reference import NumpyMLP

DTYPES = ["float32", "float64"]
SHAPES = [(1, 1), (5, 1), (7, 3), (3, 16), (64, 10), (33, 17), (4, 101)]  # rows, outputs
CASES = [
    *((loss, None) for loss in ("cross_entropy", "probabilities", "binary_cross_entropy", "poisson")),
    *((loss, output) for loss in ("mse", "mae", "huber") for output in (None, "tanh", "sigmoid", "relu")),
]
TORCH_LOSS = {
    "cross_entropy": torch.nn.CrossEntropyLoss(),
    "probabilities": torch.nn.CrossEntropyLoss(),
    "binary_cross_entropy": torch.nn.BCEWithLogitsLoss(),
    "poisson": torch.nn.PoissonNLLLoss(log_input=True),
    "mse": torch.nn.MSELoss(),
    "mae": torch.nn.L1Loss(),
    "huber": torch.nn.HuberLoss(delta=0.7),
}


def describe(loss: str) -> Any:
    return {"huber": losses.Huber(delta=0.7), "probabilities": losses.CrossEntropy()}.get(loss, loss)


def draw(loss: str, rows: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Logits and targets, exact in float32."""
    rng = np.random.default_rng(rows * n)
    z = rng.normal(0, 3, (rows, n))
    match loss:
        case "cross_entropy":
            return z.astype("f4"), rng.integers(0, n, rows)
        case "probabilities":
            y = rng.multinomial(64, np.full(n, 1 / n), rows) / 64  # whose sum is exactly 1
        case "binary_cross_entropy":
            y = rng.integers(0, 5, (rows, n)) / 4
        case "poisson":
            y = rng.poisson(2.0, (rows, n))
        case _:
            y = rng.normal(0, 1, (rows, n))
    return z.astype("f4"), y.astype("f4").astype(float)


def identity(cls: Any, n: int, loss: str, dtype: str = "float64", output: str | None = None) -> Any:
    net = cls([n, n], loss=describe(loss), output_activation=output, dtype=dtype, seed=0)
    net.set_weights([np.eye(n)], [np.zeros(n)])
    return net


def can_be(loss: str, n: int) -> bool:
    """A softmax over one output is refused."""
    return n > 1 or loss not in ("cross_entropy", "probabilities")


def by_torch(loss: str, output: str | None, z: np.ndarray, y: np.ndarray) -> tuple[float, np.ndarray]:
    logits = torch.tensor(z.astype(float), requires_grad=True)
    p = logits if output is None else getattr(torch, output)(logits)
    J = TORCH_LOSS[loss](p, torch.tensor(y))
    J.backward()
    return J.item(), logits.grad.numpy()


@needs("torch")
@pytest.mark.parametrize(
    ("loss", "output", "rows", "n"),
    [(*case, *shape) for case in CASES for shape in SHAPES if can_be(case[0], shape[1])],
)
@pytest.mark.parametrize("dtype", DTYPES)
def test_value_and_delta(dtype: str, loss: str, output: str | None, rows: int, n: int) -> None:
    z, y = draw(loss, rows, n)
    net = identity(fastbp.MLP, n, loss, dtype, output)
    found, (J, delta) = net.backprop(z, y), by_torch(loss, output, z, y)
    eps = float(np.finfo(dtype).eps)
    assert found.loss == pytest.approx(J, rel=8 * eps, abs=8 * eps)
    rough = 2 if (output, dtype) == ("tanh", "float32") else 1  # its derivative is that of a rational fit
    close = {"rtol": 16 * eps, "atol": 16 * eps * rough * np.abs(delta).max()}
    np.testing.assert_allclose(found.inputs, delta, **close)
    np.testing.assert_allclose(found.biases[0], delta.sum(axis=0), rtol=1e-4 if dtype == "float32" else 1e-12, atol=eps)
    assert net.evaluate(z, y)["loss"] == pytest.approx(J, rel=8 * eps, abs=8 * eps)
    reference = identity(NumpyMLP, n, loss, output=output).backprop(z, y)
    assert found.loss == pytest.approx(reference.loss, rel=8 * eps, abs=8 * eps)
    np.testing.assert_allclose(found.inputs, reference.inputs, **close)


@needs("torch")
@pytest.mark.parametrize("dtype", DTYPES)
def test_delta_is_that_of_the_loss_where_probabilities_do_not_quite_sum_to_1(dtype: str) -> None:
    z, y = draw("probabilities", 9, 5)
    y = (y * 1.0005).astype("f4")
    J, delta = by_torch("probabilities", None, z, y.astype(float))
    found = identity(fastbp.MLP, 5, "probabilities", dtype).backprop(z, y)
    assert found.loss == pytest.approx(J, rel=1e-6)
    np.testing.assert_allclose(found.inputs, delta, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize(
    ("loss", "output", "n"), [(*case, n) for case in CASES for n in (1, 3, 16, 17, 33) if can_be(case[0], n)]
)
@pytest.mark.parametrize("dtype", DTYPES)
def test_padding_of_deltas_is_zero(dtype: str, loss: str, output: str | None, n: int) -> None:
    """Products read it: with anything else in it, gradients in the padding of the weights would not stay zero."""
    y = draw(loss, 6, n)[1]
    X = np.random.default_rng(0).standard_normal((6, 4))
    net = fastbp.MLP(
        [4, 5, n], activation="sigmoid", loss=describe(loss), output_activation=output, dtype=dtype, seed=0
    )
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
    for loss in ("mse", "mae", "huber"):
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
@pytest.mark.parametrize(("loss", "output"), CASES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_nan_reaches_the_loss(dtype: str, loss: str, output: str | None, place: int) -> None:
    z, y = draw(loss, 7, 3)
    z[4, place] = np.nan
    found = identity(fastbp.MLP, 3, loss, dtype, output).backprop(z, y)
    assert np.isnan(found.loss)
    assert np.isnan(found.inputs[4, place])
    assert np.isfinite(np.delete(found.inputs, 4, axis=0)).all()
