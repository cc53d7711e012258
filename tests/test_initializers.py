"""Initial weights have the variance their formula says, follow the activation, and are the same for every trainer."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fastbp import activations, initializers

N_IN, N_OUT = 300, 200
VARIANCE = {
    "he_normal": 2 / N_IN,
    "he_uniform": 2 / N_IN,
    "glorot_normal": 2 / (N_IN + N_OUT),
    "glorot_uniform": 2 / (N_IN + N_OUT),
    "lecun_normal": 1 / N_IN,
    "lecun_uniform": 1 / N_IN,
    "zeros": 0.0,
    "realmlp": 1 / N_IN,
}


def test_the_table_above_is_complete() -> None:
    assert set(VARIANCE) == set(initializers.INITIALIZERS)


@pytest.mark.parametrize("name", VARIANCE)
def test_variance_and_distribution(name: str) -> None:
    weight = initializers.initialize(name, N_IN, N_OUT, np.random.default_rng(0), np.float64)
    assert weight.shape == (N_IN, N_OUT)
    assert weight.dtype == np.float64
    # 60,000 draws: the sample variance is within 2 % (three of its standard deviations), the mean within 0.015 sigma.
    assert weight.var() == pytest.approx(VARIANCE[name], rel=0.02)
    sigma = math.sqrt(VARIANCE[name])
    assert abs(weight.mean()) <= 0.015 * sigma
    if name.endswith("uniform"):
        assert 0.999 * math.sqrt(3) * sigma < np.abs(weight).max() <= math.sqrt(3) * sigma
    if name.endswith("normal"):
        assert np.abs(weight).max() > 3.5 * sigma  # not truncated


@pytest.mark.parametrize("name", VARIANCE)
def test_docstrings_name_formula(name: str) -> None:
    assert initializers.INITIALIZERS[name].__doc__


@pytest.mark.parametrize("activation", activations.ACTIVATIONS)
def test_default_follows_the_activation(activation: str) -> None:
    weights, _ = initializers.initial_weights([7, 5, 3], [activation, "identity"], None, 11, np.float64)
    rng = np.random.default_rng(11)
    np.testing.assert_array_equal(weights[0], initializers.get(activations.get(activation).init)(7, 5, rng))
    np.testing.assert_array_equal(weights[1], initializers.get("glorot_uniform")(5, 3, rng))


def test_float32_is_the_rounded_float64_and_biases_are_zero() -> None:
    arguments = ([7, 5, 3], ["relu", "identity"], "lecun_uniform", 3)
    wide, wide_biases = initializers.initial_weights(*arguments, np.float64)
    narrow, narrow_biases = initializers.initial_weights(*arguments, np.float32)
    for a, b in zip(wide, narrow, strict=True):
        assert b.dtype == np.float32
        np.testing.assert_array_equal(a.astype(np.float32), b)
    assert [b.shape for b in narrow_biases] == [(5,), (3,)]
    for bias, dtype in zip(wide_biases + narrow_biases, [np.float64] * 2 + [np.float32] * 2, strict=True):
        assert bias.dtype == dtype
        assert not bias.any()


def test_no_seed_draws_anew() -> None:
    first, second = (initializers.initial_weights([4, 4], ["relu"])[0][0] for _ in range(2))
    assert not np.array_equal(first, second)


def test_errors_name_the_argument() -> None:
    with pytest.raises(ValueError, match=r"init='he' is unknown.*choose from he_normal, .*zeros"):
        initializers.initial_weights([4, 4], ["relu"], "he")
    with pytest.raises(ValueError, match=r"activations must hold one name per layer of weights \(2 for"):
        initializers.initial_weights([4, 4, 2], ["relu"])
