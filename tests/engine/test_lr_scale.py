"""`lr_scale`: every rule with a learning rate for each layer, and for weights and biases apart."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from oracles import IN_TORCH, ONE_A_RULE, make_torch
from peers import needs, torch

import fastbp
from fastbp import MLP, SGD, Adam
from fastbp.engine import tuning
from fastbp.optimizers import LrScale
from fastbp.reference import NumpyMLP
from fastbp.spec import Gradient

FACTORS = {"weights": [0.3, 0.0, 2.0], "biases": [0.1, 1.0, 0.0]}
SIZES = [7, 40, 33, 3]
RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(64, 7)), RNG.integers(0, 3, 64)


def scaled(optimizer: Any, factors: Any = None) -> Any:
    return dataclasses.replace(optimizer, lr_scale=FACTORS if factors is None else factors)


def parameters(net: Any) -> list[Any]:
    return [*net.weights, *net.biases]


@pytest.mark.parametrize("optimizer", ONE_A_RULE, ids=repr)
def test_steps_of_every_rule_against_numpy(optimizer: Any) -> None:
    options = {"activation": "tanh", "dtype": "float64", "seed": 1}
    rule, net, twin = scaled(optimizer), MLP(SIZES, **options), NumpyMLP(SIZES, **options)
    frozen, free = (net.weights[1], net.biases[2]), net.weights[2]
    for _ in range(7):
        net.train_step(X, Y, rule)
        twin.train_step(X, Y, rule)
    for found, expected in zip(parameters(net), parameters(twin), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)
    assert net.weights[1].tobytes() == frozen[0].tobytes()
    assert net.biases[2].tobytes() == frozen[1].tobytes()
    assert np.abs(net.weights[2] - free).max() > 1e-4


@needs("torch")
@pytest.mark.parametrize("optimizer", [one for one in ONE_A_RULE if one in IN_TORCH], ids=repr)
def test_they_are_the_parameter_groups_of_torch(optimizer: Any) -> None:
    factors = {"weights": [0.3, 2.0], "biases": 0.1}
    if optimizer.name == "rprop":
        optimizer = dataclasses.replace(optimizer, step_sizes=(1e-30, 1e30))  # which torch does not scale
    net = MLP([5, 19, 3], dtype="float64", seed=0)
    theirs = [torch.tensor(array, requires_grad=True) for array in parameters(net)]
    groups = [
        {"params": [one], "lr": optimizer.lr * factor} for one, factor in zip(theirs, (0.3, 2.0, 0.1, 0.1), strict=True)
    ]
    twin = make_torch(optimizer, groups)
    rng = np.random.default_rng(3)
    for _ in range(50):
        gradients = [rng.normal(size=one.shape) for one in theirs]
        scaled(optimizer, factors).update(net, Gradient(None, gradients[:2], gradients[2:], np.empty(0)))
        for one, gradient in zip(theirs, gradients, strict=True):
            one.grad = torch.tensor(gradient)
        twin.step()
    for found, expected in zip(parameters(net), theirs, strict=True):
        np.testing.assert_allclose(found, expected.detach().numpy(), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("optimizer", ONE_A_RULE, ids=repr)
@pytest.mark.parametrize(("sizes", "rows"), [([3, 2], 1), ([64, 64, 10], 32), ([130, 70, 257, 4], 19), ([90, 2], 80)])
def test_all_ways_of_a_step_make_the_same_bits(
    sizes: list[int], rows: int, optimizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(5)
    X, y = rng.normal(size=(rows, sizes[0])), rng.integers(0, sizes[-1], rows)
    weights = [0.5, 2.0, 0.0][: len(sizes) - 1]
    rule = scaled(optimizer, {"weights": weights, "biases": 3.0})
    nets = [MLP(sizes, seed=2) for _ in range(3)]
    for _ in range(3):
        nets[0].train_step(X, y, rule)
        rule.update(nets[1], nets[1].backprop(X, y))
    monkeypatch.setattr(tuning, "LONG_STEP_FLOPS", 0.0)
    for _ in range(3):
        nets[2].train_step(X, y, rule)
    for other in nets[1:]:
        for a, b in zip(parameters(nets[0]), parameters(other), strict=True):
            assert a.tobytes() == b.tobytes()


def test_factors_of_one_are_none() -> None:
    nets = [MLP(SIZES, seed=2) for _ in range(3)]
    for net, factors in zip(nets, (None, [1.0, 1, 1], {"biases": 1.0}), strict=True):
        net.fit(X, Y, epochs=3, optimizer=Adam(0.01, lr_scale=factors))
    for other in nets[1:]:
        for a, b in zip(parameters(nets[0]), parameters(other), strict=True):
            assert a.tobytes() == b.tobytes()


def test_one_factor_for_all_is_another_rate() -> None:
    one, other = MLP(SIZES, seed=2), MLP(SIZES, seed=2)
    schedule = fastbp.schedules.Cosine(4)
    one.fit(X, Y, epochs=4, optimizer=Adam(0.01, lr_scale=[0.5, 0.5, 0.5]), schedule=schedule)
    other.fit(X, Y, epochs=4, optimizer=Adam(0.005), schedule=schedule)
    for a, b in zip(parameters(one), parameters(other), strict=True):
        assert a.tobytes() == b.tobytes()


def test_optimizers_in_turn_keep_their_factors() -> None:
    """Small calls are repeated from what an earlier one has set up, by the optimiser."""
    rules = [SGD(0.1, lr_scale={"biases": 0}), SGD(0.1, lr_scale={"weights": 0}), SGD(0.1)]
    net, twin = (cls(SIZES, dtype="float64", seed=3, activation="tanh") for cls in (MLP, NumpyMLP))
    for step in range(12):
        for one in (net, twin):
            one.train_step(X[:16], Y[:16], rules[step % 3])
    for found, expected in zip(parameters(net), parameters(twin), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-12)


def test_how_it_is_given_and_shown() -> None:
    assert Adam(lr_scale=[0, 1]).lr_scale == LrScale((0.0, 1.0), (0.0, 1.0))
    assert Adam(lr_scale={"weights": 2}).lr_scale == LrScale(2.0)
    assert LrScale("fan_in", 0.5).by_layer([4, 16]) == [(0.5, 0.5), (0.25, 0.5)]
    assert "lr_scale" not in repr(Adam())
    assert repr(SGD(lr_scale={"biases": 0.1})).endswith(
        "lr_scale=LrScale(weights=1.0, biases=0.1, input_scale=1.0), momentum=0.0, nesterov=False, dampening=0.0)"
    )
    assert hash(Adam(lr_scale=[0, 1])) == hash(Adam(lr_scale=(0.0, 1.0)))


@pytest.mark.parametrize(
    ("factors", "message"),
    [
        ({"weigths": 1}, "key 'weigths'; there are factors of weights, biases, input_scale"),
        (
            {"weights": "fan_out"},
            r"lr_scale\['weights'\] must be 'fan_in', a number or a list of numbers, got 'fan_out'",
        ),
        ({"weights": -1}, r"lr_scale\['weights'\] must be a finite number of at least 0, got -1"),
        ([1, np.nan], r"lr_scale\[1\] must be a finite number"),
        ([], "lr_scale is empty"),
    ],
)
def test_wrong_factors_are_named(factors: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Adam(lr_scale=factors)
    with pytest.raises(TypeError, match="must be None, a list of factors by layer, or a mapping"):
        Adam(lr_scale=2.0)  # type: ignore[arg-type]


@pytest.mark.parametrize("network", [MLP, NumpyMLP])
def test_factors_of_other_networks_are_refused(network: Any) -> None:
    net = network(SIZES, seed=0)
    for factors, message in (([1, 0], "lists 2 factors of weights, but the network has 3 layers"),):
        with pytest.raises(ValueError, match=message):
            net.fit(X, Y, epochs=1, optimizer=Adam(lr_scale=factors))
        with pytest.raises(ValueError, match=message):
            net.train_step(X, Y, Adam(lr_scale=factors))
    with pytest.raises(ValueError, match="has no such scale"):
        net.train_step(X, Y, Adam(lr_scale={"input_scale": 6}))
    with pytest.raises(ValueError, match="L-BFGS has no learning rate"):
        fastbp.LBFGS(lr_scale=[1, 0, 1])
