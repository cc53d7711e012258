"""RealMLP-TD-S as a recipe: each part against its formula, and steps against the network of its authors in PyTorch."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
from peers import needs, torch

import fastbp
from fastbp import recipes

RNG = np.random.default_rng(2)


def test_its_parts() -> None:
    network, fit, optimizer = recipes.realmlp(1000, 9, 4, "classes", seed=3)
    net = fastbp.MLP(**network)
    assert net.sizes == (9, 256, 256, 256, 4)
    assert net.activations == ("selu",) * 3
    assert net.loss == fastbp.CrossEntropy(label_smoothing=0.1)
    assert not net.weights[-1].any()
    assert not net.biases[-1].any()
    assert net.weights[1].std() == pytest.approx(1 / 16, rel=0.02)
    assert net.biases[1].std() == pytest.approx(1.0, rel=0.15)
    np.testing.assert_array_equal(net.input_scale, np.ones(9))
    assert (fit["epochs"], fit["batch_size"], fit["drop_last"]) == (256, 256, True)
    assert optimizer.betas == (0.9, 0.95)
    assert optimizer.lr == 0.04
    assert optimizer.lr_scale is not None
    assert optimizer.lr_scale.by_layer(net.sizes[:-1]) == [(1 / 3, 0.1), *[(1 / 16, 0.1)] * 3]
    quantities = recipes.realmlp(100, 9, 1, "quantities")
    assert quantities.network["activation"] == "mish"
    assert quantities.optimizer.lr == 0.07
    assert quantities.fit["batch_size"] == 100
    with pytest.raises(ValueError, match="kind='numbers' is unknown"):
        recipes.realmlp(100, 9, 1, "numbers")


@needs("torch")
@pytest.mark.parametrize("kind", ["classes", "quantities"])
def test_a_training_is_that_of_its_authors_network(kind: str) -> None:
    """Weights divided by sqrt(n_in) in every use, under Adam; and groups of parameters with rates of their own."""
    n, n_in, n_out, epochs, batch = 96, 5, 3 if kind == "classes" else 1, 6, 32
    X = RNG.normal(size=(n, n_in))
    y = RNG.integers(0, 3, n) if kind == "classes" else RNG.normal(size=(n, 1))
    network, fit, optimizer = recipes.realmlp(n, n_in, n_out, kind, 3, epochs=epochs, hidden=(24, 24), batch_size=batch)
    optimizer = dataclasses.replace(optimizer, eps=1e-30)  # beside gradients that differ by a factor, it would be seen
    net = fastbp.MLP(**network, dtype="float64")
    roots = [math.sqrt(one) for one in net.sizes[:-1]]
    scale = torch.ones(n_in, dtype=torch.float64, requires_grad=True)
    W = [torch.tensor(w * root, requires_grad=True) for w, root in zip(net.weights, roots, strict=True)]
    b = [torch.tensor(one, requires_grad=True) for one in net.biases]
    theirs = torch.optim.Adam([{"params": [scale]}, {"params": W}, {"params": b}], lr=0.0, betas=(0.9, 0.95), eps=1e-30)
    activate = torch.nn.functional.selu if kind == "classes" else torch.nn.functional.mish
    step, steps = 0, epochs * n // batch
    for _ in range(epochs):
        for start in range(0, n, batch):
            lr = optimizer.lr * (0.5 - 0.5 * math.cos(2 * math.pi * math.log2(1 + 15 * step / steps)))
            for group, factor in zip(theirs.param_groups, (6.0, 1.0, 0.1), strict=True):
                group["lr"] = lr * factor
            a = torch.tensor(X[start : start + batch]) * scale
            for k in range(3):
                a = a @ W[k] / roots[k] + b[k]
                a = activate(a) if k < 2 else a
            target = torch.tensor(y[start : start + batch])
            if kind == "classes":
                loss = torch.nn.functional.cross_entropy(a, target, label_smoothing=0.1)
            else:
                loss = torch.nn.functional.mse_loss(a, target)
            theirs.zero_grad()
            loss.backward()
            theirs.step()
            step += 1
    net.fit(X, y, optimizer=optimizer, shuffle=False, **{**fit, "callbacks": ()})
    np.testing.assert_allclose(net.input_scale, scale.detach().numpy(), rtol=1e-7)
    for ours, other, root in zip(net.weights, W, roots, strict=True):
        np.testing.assert_allclose(ours, other.detach().numpy() / root, rtol=1e-6, atol=1e-9)
    for ours, other in zip(net.biases, b, strict=True):
        np.testing.assert_allclose(ours, other.detach().numpy(), rtol=1e-6, atol=1e-9)


def test_the_last_of_the_best_epochs_is_kept() -> None:
    X = RNG.normal(size=(60, 4))
    y = (X[:, 0] > 0).astype(int)
    network, fit, optimizer = recipes.realmlp(45, 4, 2, "classes", 1, epochs=12, hidden=(16,))
    net = fastbp.MLP(**network)
    history = net.fit(X, y, optimizer=optimizer, validation_data=(X[45:], y[45:]), **fit)
    best = fit["callbacks"][0].best_epoch
    scores = np.array(history.val_score)
    assert best == 1 + np.flatnonzero(scores == scores.max())[-1]
    assert net.evaluate(X[45:], y[45:])["accuracy"] == scores.max()


def test_ties_are_broken_as_asked() -> None:
    X, y = np.ones((8, 2)), np.zeros(8, int)

    def best(ties: Any) -> int:
        stopping = fastbp.EarlyStopping("val_score", patience=3, ties=ties)
        net = fastbp.MLP([2, 2], seed=0, init="zeros")
        net.fit(X, y, epochs=7, optimizer=fastbp.SGD(0.1), validation_data=(X, y), callbacks=[stopping])
        return stopping.best_epoch

    assert (best("first"), best("last")) == (1, 7)
    assert "ties" in repr(fastbp.EarlyStopping(ties="last"))
    with pytest.raises(ValueError, match="ties"):
        fastbp.EarlyStopping(ties="middle")
