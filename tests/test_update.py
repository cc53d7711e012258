"""Gradient descent: every rule against PyTorch, the routes of an update against each other, and the life of moments."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import fastbp
from fastbp import SGD, Adam, AdamW, Gradient, RMSprop, engine, network, training

# Each beside PyTorch's, which must take the same options by the same names.
RULES = [
    (SGD(lr=0.1), torch.optim.SGD),
    (SGD(lr=0.1, weight_decay=0.03), torch.optim.SGD),
    (SGD(lr=0.05, momentum=0.9), torch.optim.SGD),
    (SGD(lr=0.05, momentum=0.7, weight_decay=0.03), torch.optim.SGD),
    (SGD(lr=0.05, momentum=0.9, nesterov=True), torch.optim.SGD),
    (SGD(lr=0.05, momentum=0.5, nesterov=True, weight_decay=0.03), torch.optim.SGD),
    (Adam(), torch.optim.Adam),
    (Adam(lr=0.02, betas=(0.8, 0.95), eps=1e-3), torch.optim.Adam),
    (Adam(lr=0.02, betas=(0.0, 0.9), weight_decay=0.1), torch.optim.Adam),
    (AdamW(), torch.optim.AdamW),
    (AdamW(lr=0.02, betas=(0.5, 0.9), eps=1e-6, weight_decay=0.3), torch.optim.AdamW),
    (AdamW(lr=0.02, weight_decay=0.0), torch.optim.AdamW),
    (RMSprop(), torch.optim.RMSprop),
    (RMSprop(lr=0.02, alpha=0.8, eps=1e-3, weight_decay=0.1), torch.optim.RMSprop),
]
ONE_EACH = [RULES[i][0] for i in (1, 3, 5, 8, 10, 13)]
SHAPES = [
    ([3, 2], 1), ([20, 40, 4], 1), ([64, 64, 10], 32), ([7, 33, 17, 5], 3), ([130, 70, 257, 4], 19),
    ([4, 32, 16, 4], 1103),  # by shares of the batch
]  # fmt: skip


def options(recipe: Any) -> dict[str, Any]:
    """Those that PyTorch's optimisers take; it clips by functions of their own."""
    return {name: value for name, value in vars(recipe).items() if name not in ("clip_norm", "clip_value")}


def make(sizes: list[int], rows: int, dtype: str = "float64") -> tuple[fastbp.MLP, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    net = fastbp.MLP(sizes, loss="mse", activation="tanh", dtype=dtype, seed=0)
    return net, rng.standard_normal((rows, sizes[0])), rng.standard_normal((rows, sizes[-1]))


def everything(net: fastbp.MLP) -> list[np.ndarray]:
    """Parameters, their transposed copy and moments, padding included."""
    unused = net._plan.layers[0].transposed_size  # training sends no delta below layer 0, and lets its copy go stale
    return [net._engine.parameters, net._engine.transposed[unused:], *net._engine.moments]


def assert_same_bits(net: fastbp.MLP, other: fastbp.MLP) -> None:
    for a, b in zip(everything(net), everything(other), strict=True):
        np.testing.assert_array_equal(a, b)
    assert (net._steps, net._layout) == (other._steps, other._layout)


def separately(net: fastbp.MLP, X: np.ndarray, y: np.ndarray, recipe: Any) -> float:
    gradient = net.backprop(X, y)
    recipe.update(net, gradient)
    return gradient.loss


@pytest.mark.parametrize(("recipe", "peer"), RULES, ids=lambda value: repr(value) if hasattr(value, "lr") else "torch")
def test_rule_against_torch(recipe: Any, peer: Any) -> None:
    net, rng = fastbp.MLP([5, 19, 3], dtype="float64", seed=0), np.random.default_rng(0)
    parameters = [torch.tensor(array, requires_grad=True) for array in [*net.weights, *net.biases]]
    optimizer = peer(parameters, **options(recipe))
    for step in range(50):
        gradients = [rng.normal(0, 10.0 ** (step % 4 - 2), tuple(p.shape)) for p in parameters]
        recipe.update(net, Gradient(None, gradients[:2], gradients[2:], np.empty(0)))
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = torch.tensor(gradient)
        optimizer.step()
    for found, expected in zip([*net.weights, *net.biases], parameters, strict=True):
        np.testing.assert_allclose(found, expected.detach().numpy(), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(("recipe", "peer"), RULES, ids=lambda value: repr(value) if hasattr(value, "lr") else "torch")
def test_defaults_are_those_of_torch(recipe: Any, peer: Any) -> None:
    defaults = peer([torch.zeros(1)]).defaults
    assert options(type(recipe)()) == {name: defaults[name] for name in options(recipe)}


@pytest.mark.parametrize(("sizes", "rows"), SHAPES)
@pytest.mark.parametrize("recipe", ONE_EACH, ids=repr)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_backprop_and_update_make_a_train_step(dtype: str, recipe: Any, sizes: list[int], rows: int) -> None:
    net, X, y = make(sizes, rows, dtype)
    assert (engine.n_groups(net._plan, rows) > 0) == (rows == 1103)
    other, start = net.copy(), net.weights[0]
    for _ in range(4):
        assert separately(other, X, y, recipe) == net.train_step(X, y, recipe)
        assert_same_bits(net, other)
    assert not np.array_equal(net.weights[0], start)


@pytest.mark.parametrize(("sizes", "rows"), SHAPES)
@pytest.mark.parametrize("recipe", ONE_EACH, ids=repr)
def test_two_passes_make_the_bits_of_one(
    recipe: Any, sizes: list[int], rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a step that lasts long does, to be interrupted up to its last moment."""
    fused, X, y = make(sizes, rows, "float32")
    double = fused.copy()
    losses = [fused.train_step(X, y, recipe) for _ in range(3)]
    fused.fit(X, y, epochs=2, batch_size=7, optimizer=recipe)
    for module in (network, training):
        monkeypatch.setattr(module, "LONG_STEP_FLOPS", 0.0)
    assert [double.train_step(X, y, recipe) for _ in range(3)] == losses
    double.fit(X, y, epochs=2, batch_size=7, optimizer=recipe)
    assert double._engine.job[0]["two_pass"] == 1
    assert double.history.loss == fused.history.loss
    assert_same_bits(fused, double)


@pytest.mark.parametrize(("sizes", "rows"), SHAPES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_padding_stays_zero_and_the_transposed_copy_fresh(dtype: str, sizes: list[int], rows: int) -> None:
    net, X, y = make(sizes, rows, dtype)
    for _ in range(3):
        net.train_step(X, y, AdamW(lr=0.01))
    assert_same_bits(net, net.copy())  # which is packed anew from weights, biases and unpadded moments


@pytest.mark.parametrize("recipe", ONE_EACH, ids=repr)
def test_moments_persist_from_call_to_call(recipe: Any) -> None:
    stepped, X, y = make([7, 33, 5], 19, "float32")
    mixed = stepped.copy()
    for _ in range(7):
        stepped.train_step(X, y, recipe)
    whole_batches = {"batch_size": 19, "shuffle": False, "optimizer": recipe}
    mixed.fit(X, y, epochs=2, **whole_batches)
    mixed.train_step(X, y, recipe)
    separately(mixed, X, y, recipe)
    mixed = mixed.copy()
    mixed.fit(X, y, epochs=3, **whole_batches)
    assert_same_bits(stepped, mixed)


def test_moments_persist_when_only_the_rates_change() -> None:
    net, rng = fastbp.MLP([5, 4, 3], dtype="float64", seed=0), np.random.default_rng(0)
    parameters = [torch.tensor(array, requires_grad=True) for array in [*net.weights, *net.biases]]
    optimizer = torch.optim.Adam(parameters, lr=0.1)
    for lr in (0.1, 0.1, 0.02, 0.3):
        optimizer.param_groups[0]["lr"] = lr
        gradients = [rng.standard_normal(tuple(p.shape)) for p in parameters]
        Adam(lr=lr).update(net, Gradient(None, gradients[:2], gradients[2:], np.empty(0)))
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = torch.tensor(gradient)
        optimizer.step()
    np.testing.assert_allclose(net.weights[1], parameters[1].detach().numpy(), rtol=1e-12)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (Adam(), AdamW()),
        (SGD(momentum=0.9), SGD()),
        (SGD(), SGD(momentum=0.9)),
        (RMSprop(), SGD(momentum=0.9)),
        (AdamW(), RMSprop()),
    ],
)
def test_moments_restart_when_the_optimizer_changes(before: Any, after: Any) -> None:
    net, X, y = make([7, 33, 5], 19)
    net.fit(X, y, epochs=2, optimizer=before)
    fresh, _, _ = make([7, 33, 5], 19)
    fresh.set_weights(net.weights, net.biases)
    for one in (net, fresh):
        one.train_step(X, y, after)
        one.fit(X, y, epochs=2, batch_size=5, optimizer=after)
    assert_same_bits(net, fresh)
    assert net.history.loss == fresh.history.loss  # the count of epochs, which shuffles, restarts too


@pytest.mark.parametrize("recipe", ONE_EACH, ids=repr)
def test_reset_optimizer(recipe: Any) -> None:
    net, X, y = make([7, 33, 5], 19)
    net.fit(X, y, epochs=2, batch_size=5, optimizer=recipe)
    fresh, _, _ = make([7, 33, 5], 19)
    fresh.set_weights(net.weights, net.biases)
    net.reset_optimizer()
    for one in (net, fresh):
        one.fit(X, y, epochs=2, batch_size=5, optimizer=recipe)
    assert_same_bits(net, fresh)


def test_set_weights_keeps_moments() -> None:
    net, X, y = make([7, 5], 19)
    net.train_step(X, y, Adam())
    before = [moment.copy() for moment in net._engine.moments]
    net.set_weights([np.ones((7, 5))], [np.ones(5)])
    assert net._steps == 1
    for old, new in zip(before, net._engine.moments, strict=True):
        np.testing.assert_array_equal(old, new)


def test_backprop_changes_nothing() -> None:
    net, X, y = make([7, 33, 5], 19)
    net.train_step(X, y, Adam())
    before = [array.copy() for array in (net._engine.parameters, *net._engine.moments)]
    net.backprop(X, y)
    net.backprop(X, output_gradient=y)
    for old, new in zip(before, (net._engine.parameters, *net._engine.moments), strict=True):
        np.testing.assert_array_equal(old, new)
    assert net._steps == 1
