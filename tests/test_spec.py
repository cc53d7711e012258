"""Values that travel together: a gradient that is taken apart only when it is looked at."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest

import fastbp
from fastbp import MLP, Adam, Gradient

RNG = np.random.default_rng(0)
X, Y = RNG.standard_normal((16, 5)), RNG.integers(0, 3, 16)


def networks(n: int = 2, **options: Any) -> list[MLP]:
    return [MLP([5, 9, 3], seed=0, **options) for _ in range(n)]


def assert_same(one: MLP, other: MLP) -> None:
    for a, b in zip([*one.weights, *one.biases], [*other.weights, *other.biases], strict=True):
        assert a.tobytes() == b.tobytes()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("looks", [lambda g: None, lambda g: g.weights, lambda g: g.biases, repr])
def test_an_update_is_the_same_whether_a_gradient_was_looked_at_or_not(looks: Any, dtype: str) -> None:
    net, stepped = networks(dtype=dtype)
    for _ in range(3):
        gradient = net.backprop(X, Y)
        looks(gradient)
        Adam().update(net, gradient)
        stepped.train_step(X, Y, Adam())
        assert_same(net, stepped)


def test_a_gradient_stays_as_it_is_when_the_network_goes_on() -> None:
    net, twin = networks()
    gradient, wanted = net.backprop(X, Y), twin.backprop(X, Y).weights
    net.train_step(X[:8], Y[:8], "sgd")
    net.backprop(X[8:], Y[8:])
    for a, b in zip(gradient.weights, wanted, strict=True):
        np.testing.assert_array_equal(a, b)


def test_what_is_changed_counts() -> None:
    net, twin = networks()
    gradient, other = net.backprop(X, Y), twin.backprop(X, Y)
    gradient.weights = [2 * w for w in gradient.weights]
    gradient.biases[0].setflags(write=True)
    gradient.biases[0][:] = 0.0
    parts = [2 * w for w in other.weights], [0 * other.biases[0], other.biases[1]]
    fastbp.SGD(0.1).update(net, gradient)
    fastbp.SGD(0.1).update(twin, Gradient(None, *parts, np.empty(0)))
    assert_same(net, twin)


@pytest.mark.parametrize("again", [copy.deepcopy, copy.copy, lambda g: pickle.loads(pickle.dumps(g))])
def test_a_copy_is_equal(again: Any) -> None:
    net, twin = networks()
    gradient = net.backprop(X, Y)
    found = again(gradient)
    assert found.loss == gradient.loss
    np.testing.assert_array_equal(found.inputs, gradient.inputs)
    fastbp.SGD(0.1).update(net, gradient)
    fastbp.SGD(0.1).update(twin, found)
    assert_same(net, twin)


def test_of_a_network_of_other_sizes_it_is_refused() -> None:
    gradient = MLP([5, 8, 3], seed=0).backprop(X, Y)
    with pytest.raises(ValueError, match=r"weights\[0\] has shape \(5, 8\), expected \(5, 9\)"):
        Adam().update(networks(1)[0], gradient)


def test_of_another_dtype_it_is_converted() -> None:
    (net,) = networks(1)
    Adam().update(net, networks(1, dtype="float64")[0].backprop(X, Y))
    assert np.isfinite(net.weights[0]).all()


def test_one_that_is_not_finite_is_refused_by_place() -> None:
    net, twin = networks()
    gradient = net.backprop(np.where(np.arange(5) == 2, np.nan, X), Y)
    with pytest.raises(ValueError, match=r"weights\[0\]\[0, 0\] is nan"):
        Adam().update(net, gradient)
    assert_same(net, twin)
