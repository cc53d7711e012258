"""The plain formulas of `tests/naive.py` against central differences and PyTorch."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import naive
import numpy as np
import oracles
import pytest
from peers import needs, torch

from fastbp import activations

Z = np.concatenate([np.linspace(-30, 30, 601) + 1e-3, [-700.0, -100.0, 100.0, 700.0]]).astype(naive.Wide)


@pytest.mark.parametrize("name", activations.ACTIVATIONS)
def test_derivative_of_an_activation(name: str) -> None:
    f, derivative = naive.ACTIVATIONS[name]
    h = naive.Wide(1e-5)
    z = Z[[oracles.distance_to_kinks(name, one) > 2e-5 for one in Z[:, None]]]
    np.testing.assert_allclose(derivative(z), (f(z + h) - f(z - h)) / (2 * h), rtol=1e-8, atol=1e-8)


@needs("torch")
@pytest.mark.parametrize("name", activations.ACTIVATIONS)
def test_activation_against_torch(name: str) -> None:
    z = torch.tensor(Z.astype(np.float64), requires_grad=True)
    p = oracles.activation(name).torch(z)
    p.sum().backward()
    for found, expected in zip(naive.ACTIVATIONS[name], (p.detach(), z.grad), strict=True):
        np.testing.assert_allclose(found(Z.astype(np.float64).astype(naive.Wide)), expected.numpy(), 1e-13, 1e-14)


def draw(cost: oracles.Cost) -> tuple[np.ndarray, np.ndarray]:
    """Outputs that are not near a kink, and targets."""
    for seed in range(100):
        y = cost.draw(7, 3, seed)
        outputs = np.random.default_rng(seed).normal(0, 2, (7, 3)).astype(naive.Wide)
        if cost.distance_to_kinks(outputs, y) > 1e-3:
            return outputs, y
    raise AssertionError("no seed without a kink nearby")


@pytest.mark.parametrize("weights", [None, np.arange(7.0)], ids=["plain", "weighted"])
@pytest.mark.parametrize("cost", oracles.COSTS, ids=repr)
def test_gradient_of_a_loss(cost: oracles.Cost, weights: Any) -> None:
    outputs, y = draw(cost)
    options = oracles.options(cost.loss) | ({} if weights is None else {"row_weights": weights})
    _, gradient = naive.cost(cost.loss.name, outputs, y, **options)
    for i in np.ndindex(outputs.shape):
        h = np.zeros_like(outputs)
        h[i] = 1e-5
        above, below = (naive.cost(cost.loss.name, outputs + step, y, **options)[0] for step in (h, -h))
        assert gradient[i] == pytest.approx((above - below) / 2e-5, rel=1e-7, abs=1e-9)


@needs("torch")
@pytest.mark.parametrize("cost", oracles.COSTS, ids=repr)
def test_loss_against_torch(cost: oracles.Cost) -> None:
    outputs, y = draw(cost)
    theirs = torch.tensor(outputs.astype(np.float64), requires_grad=True)
    expected = cost.torch(theirs, y)
    expected.backward()
    J, gradient = naive.cost(cost.loss.name, outputs, y, **oracles.options(cost.loss))
    assert float(J) == pytest.approx(expected.item(), rel=1e-13)
    np.testing.assert_allclose(gradient, theirs.grad.numpy(), rtol=1e-12, atol=1e-15)


@needs("torch")
@pytest.mark.parametrize("optimizer", oracles.IN_TORCH, ids=repr)
def test_update_rule_against_torch(optimizer: Any) -> None:
    rng, state = np.random.default_rng(0), {}
    w = rng.standard_normal(20).astype(naive.Wide)
    parameter = torch.tensor(w.astype(np.float64), requires_grad=True)
    theirs = oracles.make_torch(optimizer, [parameter])
    for t in range(1, 101):
        g = rng.normal(0, 10.0 ** (t % 4 - 2), 20)
        w = naive.OPTIMIZERS[optimizer.name](w, g, t, state, SimpleNamespace(**oracles.options(optimizer)))
        parameter.grad = torch.tensor(g)
        theirs.step()
    np.testing.assert_allclose(w, parameter.detach().numpy(), rtol=1e-9, atol=1e-9)  # a float32 in its NAdam
