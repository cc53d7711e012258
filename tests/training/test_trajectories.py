"""The same training as PyTorch's: equal weights, batches and settings give equal losses, in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import oracles
import pytest
from peers import needs, torch
from peers import sklearn_datasets as datasets

from fastbp import MLP

pytestmark = needs("torch", "sklearn")

DATA = {
    "digits": datasets.load_digits,
    "breast cancer": datasets.load_breast_cancer,
    "wine": datasets.load_wine,
    "diabetes": datasets.load_diabetes,
}
EPOCHS, BATCH = 5, 32


def load(name: str) -> tuple[Any, Any, str, int]:
    """Standardised data in one order, the loss, and the number of outputs."""
    X, y = DATA[name](return_X_y=True)
    rows = np.random.default_rng(0).permutation(len(X))
    X, y = X[rows], y[rows]
    scale = X.std(axis=0)
    X = (X - X.mean(axis=0)) / np.where(scale > 0, scale, 1)
    if name == "diabetes":
        return X, ((y - y.mean()) / y.std())[:, None], "mse", 1
    return X, y, "cross_entropy", int(y.max()) + 1


def torch_losses(net: MLP, X: Any, y: Any, ours: Any) -> list[float]:
    """Mean loss of each epoch, weighted by rows, of a PyTorch network with the weights of ours."""
    linears = [torch.nn.Linear(*weight.shape, dtype=torch.float64) for weight in net.weights]
    with torch.no_grad():
        for linear, weight, bias in zip(linears, net.weights, net.biases, strict=True):
            linear.weight.copy_(torch.tensor(weight.T))
            linear.bias.copy_(torch.tensor(bias))
    model = torch.nn.Sequential(linears[0], torch.nn.Tanh(), linears[1], torch.nn.GELU(), linears[2])
    cost: Any = torch.nn.MSELoss() if net.loss.name == "mse" else torch.nn.CrossEntropyLoss()
    optimizer, inputs, targets, found = (
        oracles.make_torch(ours, list(model.parameters())),
        torch.tensor(X),
        torch.tensor(y),
        [],
    )
    for _ in range(EPOCHS):
        total = 0.0
        for first in range(0, len(X), BATCH):
            rows = slice(first, first + BATCH)
            optimizer.zero_grad()
            loss = cost(model(inputs[rows]), targets[rows])
            loss.backward()
            optimizer.step()
            total += loss.item() * len(inputs[rows])
        found.append(total / len(X))
    return found


@pytest.mark.parametrize("optimizer", {one.rule: one for one in oracles.IN_TORCH}.values(), ids=repr)
@pytest.mark.parametrize("name", DATA)
def test_losses_of_five_epochs_are_those_of_pytorch(name: str, optimizer: Any) -> None:
    X, y, loss, n_out = load(name)
    net = MLP([X.shape[1], 24, 12, n_out], activation=["tanh", "gelu"], loss=loss, dtype="float64", seed=0)
    expected = torch_losses(net, X, y, optimizer)
    history = net.fit(X, y, epochs=EPOCHS, batch_size=BATCH, optimizer=optimizer, shuffle=False)
    np.testing.assert_allclose(history.loss, expected, rtol=1e-8)
    assert history.loss[-1] < history.loss[0]
