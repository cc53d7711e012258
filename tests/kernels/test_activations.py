"""exp, log, softmax and every activation with its derivative: error in ULP, and what special numbers become.

ULP: units in the last place of the exact result. Where a result is a difference of numbers near 1 (1 - s for sigmoid),
no more can be had than ULPs of 1: those bounds have a floor of 1, below which results count as 1.
"""

from __future__ import annotations

import mpmath
import numpy as np
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
# Largest errors in ULP that were measured on 800,000 points, rounded up: (f, floor of f, f', floor of f'). With fused
# multiply-adds, which AVX-512, AVX2 and NEON have; a product rounded by itself costs a little more.
BOUNDS = {
    "identity": (0, 0, 0, 0),
    "relu": (0, 0, 0, 0),
    "leaky_relu": (1, 0, 0.5, 0),
    "elu": (1.25, 0, 0.5, 1),
    "selu": (1.75, 0, 1.25, 1),
    "tanh": (2.75, 0, 1.5, 1),
    "tanh float32": (4.75, 0, 4.75, 1),  # a rational fit: two roundings more, and 1 - f^2 doubles the error of f
    "sigmoid": (2.5, 0, 0.75, 1),
    "softplus": (2, 0, 2.5, 0),
    "gelu": (1.5, 1, 1.5, 1),
    "silu": (3, 0, 20, 1),  # f' = s (1 + z (1 - s)): the half ULP of 1 in 1 - s, times z
}
if not TARGET.fma:
    BOUNDS |= {"selu": (1.75, 0, 1.5, 1), "tanh": (2.75, 0, 1.75, 1), "tanh float32": (5.25, 0, 5.25, 1)}


def in_place(leaf: object, x: np.ndarray) -> np.ndarray:
    made = allocate(x.size, x.dtype)
    made[:] = x
    prepare(leaf.leaf, x.dtype.name)(x.size, address(made), x.dtype.type(1))
    return made


def exp(x: np.ndarray) -> np.ndarray:
    return in_place(activations.exp_in_place, x)


def log(x: np.ndarray) -> np.ndarray:
    return in_place(activations.log_in_place, x)


def activate(name: str, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """f(z) and f'(z); what lies beyond them in the buffers must not change."""
    n = z.size
    deltas, values = allocate(n + 1, z.dtype), allocate(n + 1, z.dtype)
    deltas[:n], deltas[n], values[:] = z, np.nan, np.nan
    run = prepare(activations.activate.leaf, z.dtype.name)
    run(NAMES.index(name), n, address(deltas), address(values), z.dtype.type(1))
    assert np.isnan(deltas[n])
    assert np.isnan(values[n])
    return values[:n], deltas[:n]


def points(dtype: str, n: int = 20_000) -> np.ndarray:
    """Dense about 0, over the range of sigmoid and of exp, and through all magnitudes of both signs."""
    rng = np.random.default_rng(0)
    ranges = [rng.uniform(-1, 1, n), rng.uniform(-20, 20, n), rng.uniform(-86, 86, n)]
    return np.concatenate([*ranges, rng.choice([-1, 1], n) * 10.0 ** rng.uniform(-30, 1.9, n)]).astype(dtype)


def exact(name: str, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """f and f' in extended precision, without cancellation."""
    z = z.astype(Wide)
    zero, one, below = z * 0, z * 0 + 1, np.minimum(z, 0)
    s, rest = 1 / (1 + np.exp(-z)), 1 / (1 + np.exp(z))
    scale, alpha = Wide("1.05070098735548049341933498529"), Wide("1.67326324235437728481704299167")
    match name:
        case "identity":
            return z, one
        case "relu":
            return np.maximum(z, 0), np.where(z > 0, one, zero)
        case "leaky_relu":
            return np.where(z > 0, z, z / 100), np.where(z > 0, one, one / 100)
        case "elu":
            return np.where(z > 0, z, np.expm1(below)), np.exp(below)
        case "selu":
            tail = scale * alpha
            return np.where(z > 0, scale * z, tail * np.expm1(below)), np.where(z > 0, scale, tail * np.exp(below))
        case "tanh":
            return np.tanh(z), 1 / np.cosh(z) ** 2
        case "sigmoid":
            return s, s * rest
        case "softplus":
            return np.maximum(z, 0) + np.log1p(np.exp(-np.abs(z))), s
        case "gelu":
            p = np.array([Wide(mpmath.nstr(mpmath.ncdf(float(value)), 25)) for value in z])
            return z * p, p + z * np.exp(-z * z / 2) / np.sqrt(2 * Wide("3.14159265358979323846264338328"))
        case _:
            return z * s, s * (1 + z * rest)


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
    z = points(dtype, 1_500 if name == "gelu" else 20_000)
    (value, slope), (f, derivative) = activate(name, z), exact(name, z)
    bound, floor, slope_bound, slope_floor = BOUNDS.get(f"{name} {dtype}", BOUNDS[name])
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
    make = {"identity": lambda x: x * 1, "softplus": lambda x: torch.logaddexp(x, torch.zeros_like(x))}
    expected = make.get(name, getattr(torch.nn.functional, name, None))(torch_z)
    expected.sum().backward()
    value, slope = activate(name, z)
    close = {"rtol": 4 * np.finfo(dtype).eps, "atol": 1e-30}
    np.testing.assert_allclose(value, expected.detach().numpy(), **close)
    assert np.isnan(value[-1])
    np.testing.assert_allclose(slope[:-2], torch_z.grad.numpy()[:-2], **close)


@pytest.mark.parametrize("name", NAMES)
def test_minus_infinity(name: str) -> None:
    limits = {"identity": -np.inf, "leaky_relu": -np.inf, "elu": -1, "selu": -1.7580993408473766, "tanh": -1}
    value = activate(name, np.array([-np.inf]))[0][0]
    if name in ("gelu", "silu"):  # -inf times 0, as in PyTorch
        assert np.isnan(value)
    else:
        assert value == pytest.approx(limits.get(name, 0), rel=1e-15)


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
