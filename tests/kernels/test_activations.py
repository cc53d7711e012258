"""exp, log, softmax and every activation with its derivative: error in ULP, and what special numbers become.

ULP: units in the last place of the exact result, which is that of `tests/naive.py` in extended precision.
"""

from __future__ import annotations

import naive
import numpy as np
import oracles
import pytest
from peers import needs, torch

import fastbp
from fastbp.engine.memory import address, allocate
from fastbp.kernels import activations
from fastbp.kernels.build import prepare
from fastbp.kernels.targets import TARGET

Wide = np.longdouble
pytestmark = pytest.mark.skipif(np.finfo(Wide).nmant < 63, reason="needs a long double wider than double as oracle")

DTYPES = ["float32", "float64"]
NAMES = list(activations.ACTIVATIONS)


def in_place(leaf: object, x: np.ndarray) -> np.ndarray:
    made = allocate(x.size, x.dtype)
    made[:] = x
    prepare(leaf.leaf, x.dtype.name)(address(made), x.size, x.dtype.type(1))
    return made


def exp(x: np.ndarray) -> np.ndarray:
    return in_place(activations.exp_in_place, x)


def log(x: np.ndarray) -> np.ndarray:
    return in_place(activations.log_in_place, x)


def activate(name: str, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """f(z) and f'(z); what lies beyond them in the buffers must not change."""
    lanes = TARGET.vector_bytes // z.itemsize
    n = -(-z.size // lanes) * lanes  # whole vectors, as everywhere
    deltas, values = allocate(n + 1, z.dtype), allocate(n + 1, z.dtype)
    deltas[: z.size], deltas[z.size : n], deltas[n], values[:] = z, 0.0, np.nan, np.nan
    run = prepare(activations.activate.leaf, z.dtype.name)
    run(NAMES.index(name), address(values), address(deltas), 0, 1, n, z.dtype.type(1))
    assert np.isnan(deltas[n])
    assert np.isnan(values[n])
    return values[: z.size], deltas[: z.size]


def points(dtype: str, n: int = 20_000) -> np.ndarray:
    """Dense about 0, over the range of sigmoid and of exp, and through all magnitudes of both signs."""
    rng = np.random.default_rng(0)
    ranges = [rng.uniform(-1, 1, n), rng.uniform(-20, 20, n), rng.uniform(-86, 86, n)]
    return np.concatenate([*ranges, rng.choice([-1, 1], n) * 10.0 ** rng.uniform(-30, 1.9, n)]).astype(dtype)


def exact(name: str, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """f and f' in extended precision."""
    f, derivative = naive.ACTIVATIONS[name]
    return f(z.astype(Wide)), derivative(z.astype(Wide))


def ulp(found: np.ndarray, expected: np.ndarray, floor: float = 0.0) -> float:
    """Largest error, in units in the last place of the expected numbers, or of `floor` where they are smaller."""
    least = max(floor, float(np.finfo(found.dtype).tiny))
    units = np.spacing(np.maximum(np.abs(expected), least).astype(found.dtype)).astype(Wide)
    return float((np.abs(found - expected) / units).max())


@pytest.mark.parametrize(("dtype", "low", "high"), [("float32", -86.6, 88.72), ("float64", -707.7, 709.78)])
def test_exp_is_within_about_one_ulp(dtype: str, low: float, high: float) -> None:
    x = np.concatenate([points(dtype), np.random.default_rng(1).uniform(low, high, 100_000).astype(dtype)])
    assert ulp(exp(x), np.exp(x.astype(Wide))) <= 1.01


@pytest.mark.parametrize("dtype", DTYPES)
def test_exp_of_special_numbers(dtype: str) -> None:
    top = np.log(np.finfo(dtype).max).astype(dtype)  # rounded to nearest, so perhaps just above
    largest = top if np.exp(top.astype(Wide)) < np.finfo(dtype).max else np.nextafter(top, 0, dtype=dtype)
    x = np.array([0, -0.0, np.inf, -np.inf, np.nan, -1e4, 1e4, np.finfo(dtype).max, np.finfo(dtype).min], dtype)
    np.testing.assert_array_equal(exp(x), [1, 1, np.inf, 0, np.nan, 0, np.inf, np.inf, 0])
    assert np.isfinite(exp(np.array([largest])))
    assert np.isinf(exp(np.nextafter(largest, Wide(np.inf), dtype=dtype).reshape(1)))
    assert 0 <= exp(np.array([-87.5 if dtype == "float32" else -709.0], dtype)) < np.finfo(dtype).tiny * 4


@pytest.mark.parametrize("dtype", DTYPES)
def test_log_is_within_one_ulp(dtype: str) -> None:
    near_one = np.random.default_rng(1).uniform(0.5, 2, 100_000).astype(dtype)
    x = np.concatenate([np.abs(points(dtype)), near_one, exp(points(dtype))])
    x = np.concatenate([x[x >= np.finfo(dtype).tiny], [np.finfo(dtype).tiny, np.finfo(dtype).max]]).astype(dtype)
    assert ulp(log(x), np.log(x.astype(Wide))) <= 1


@pytest.mark.parametrize("dtype", DTYPES)
def test_log_of_special_numbers(dtype: str) -> None:
    x = np.array([1, 0, np.inf, -1, -np.inf, np.nan], dtype)
    np.testing.assert_array_equal(log(x), [0, -np.inf, np.inf, np.nan, np.nan, np.nan])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_activation_and_derivative_in_ulp(dtype: str, name: str) -> None:
    case = oracles.activation(name)
    z = points(dtype, case.points)
    (value, slope), (f, derivative) = activate(name, z), exact(name, z)
    bound, floor, slope_bound, slope_floor = case.bounds(dtype)
    assert ulp(value, f, floor) <= bound
    assert ulp(slope, derivative, slope_floor) <= slope_bound


@needs("torch")
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_activation_of_special_numbers(dtype: str, name: str) -> None:
    """Zeros, huge numbers and infinities become what PyTorch makes of them, and NaN stays NaN."""
    huge = float(np.finfo(dtype).max)
    z = np.array([0.0, -0.0, 1e-40, -1e-40, 95, -95, 800, -800, 1e30, -1e30, huge, -huge, np.inf, np.nan], dtype)
    torch_z = torch.tensor(z, requires_grad=True)
    expected = oracles.activation(name).torch(torch_z)
    expected.sum().backward()
    value, slope = activate(name, z)
    close = {"rtol": 4 * np.finfo(dtype).eps, "atol": 1e-30}
    np.testing.assert_allclose(value, expected.detach().numpy(), **close)
    assert np.isnan(value[-1])
    np.testing.assert_allclose(slope[:-2], torch_z.grad.numpy()[:-2], **close)


@pytest.mark.parametrize("name", NAMES)
def test_minus_infinity(name: str) -> None:
    """The limit, or NaN where the formula has -inf times 0: in PyTorch, too."""
    z = np.array([-np.inf])
    with np.errstate(invalid="ignore"):
        np.testing.assert_allclose(activate(name, z)[0], exact(name, z)[0].astype(np.float64), rtol=1e-15)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_bits_do_not_depend_on_the_place_in_the_buffer(dtype: str, name: str) -> None:
    z = np.random.default_rng(0).uniform(-9, 9, 5 * TARGET.vector_bytes // np.dtype(dtype).itemsize + 3).astype(dtype)
    whole = np.array(activate(name, z))
    one_by_one = np.array([activate(name, z[i : i + 1]) for i in range(z.size)])[:, :, 0].T
    np.testing.assert_array_equal(whole, one_by_one)
    np.testing.assert_array_equal(np.array(activate(name, z[1:])), whole[:, 1:])


@pytest.mark.parametrize("columns", [2, 10, 16, 33])
@pytest.mark.parametrize("dtype", DTYPES)
def test_softmax_in_ulp(dtype: str, columns: int) -> None:
    """Through the loss kernel and `predict_proba`, on logits whose differences are exact."""
    rows, rng = 1024, np.random.default_rng(0)
    z = np.round(rng.uniform(-20, 20, (rows, columns)) * 1024) / 1024
    net = fastbp.MLP([columns, columns], dtype=dtype, seed=0)
    net.set_weights([np.eye(columns)], [np.zeros(columns)])
    e = np.exp((z - z.max(axis=1, keepdims=True)).astype(Wide))
    softmax = e / e.sum(axis=1, keepdims=True)
    # The delta is softmax / rows but for the label's column, and the identity as weights hands it down.
    first, second = (net.backprop(z, np.full(rows, label)).inputs * rows for label in (0, 1))
    lanes = TARGET.vector_bytes // np.dtype(dtype).itemsize  # each sums its share of the columns, half an ULP at a time
    assert ulp(np.hstack([second[:, :1], first[:, 1:]]), softmax) <= 4 + columns / min(16, 2 * lanes)
    assert ulp(net.predict_proba(z), softmax) <= 4 + columns / 16
