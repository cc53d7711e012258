"""Modules of PyTorch: the same numbers there and back, and refusal by name of what fastbp has not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from exported import ROWS, close, network, networks
from peers import needs, torch

import fastbp
from fastbp.activations import ACTIVATIONS
from fastbp.interop import torch_modules

nn = torch.nn
pytestmark = needs("torch")


def outputs(net: fastbp.MLP, X: Any) -> Any:
    return net.forward(X) if net.loss.linked else net.predict(X).reshape(len(X), -1)


def test_every_activation_and_loss_there_and_back() -> None:
    for name, net in networks().items():
        X = ROWS.astype(net.dtype)
        module = net.to_torch()
        tol = 1e-5 if net.dtype == np.float32 else 1e-9  # PyTorch's softplus is the identity from 20 on
        assert close(module(torch.tensor(X)).detach().numpy(), outputs(net, X), tol), name
        back = fastbp.from_torch(module, loss=net.loss)
        assert close(outputs(back, X), outputs(net, X), tol), name
        assert (back.dtype, back.loss) == (net.dtype, net.loss)
        if "plain" in name:
            assert all(
                (a == b).all() for a, b in zip(net.weights + net.biases, back.weights + back.biases, strict=True)
            )
    assert torch_modules.ACTIVATIONS.keys() == ACTIVATIONS.keys()


def test_probabilities_dropout_and_the_loss_that_the_end_tells() -> None:
    X = ROWS.astype("f")
    for loss, n_out, end in (("cross_entropy", 3, nn.Softmax), ("binary_cross_entropy", 1, nn.Sigmoid)):
        net = network([5, 6, n_out], loss=loss, dropout=0.25)
        module = net.to_torch(probabilities=True)
        assert type(module[-1]) is end
        assert not module.training
        assert close(module(torch.tensor(X)).detach().numpy(), net.predict_proba(X).reshape(len(X), -1))
        back = fastbp.from_torch(module, class_labels=["a", "b", "c"][: max(2, n_out)])
        assert (back.loss.name, back.regularization.dropout) == (loss, (0.25,))
        assert back.class_labels == ["a", "b", "c"][: max(2, n_out)]
    with pytest.raises(ValueError, match="probabilities are for classifiers"):
        network([5, 3], loss="mse").to_torch(probabilities=True)


def test_modules_as_people_write_them() -> None:
    """Nested, with a layer without biases, in half precision, trained by PyTorch."""
    torch.manual_seed(0)
    block = nn.Sequential(nn.Linear(8, 8, bias=False), nn.Dropout(0.5), nn.ReLU())
    module = nn.Sequential(
        nn.Flatten(), nn.Linear(5, 8), nn.Identity(), nn.Tanh(), block, nn.Linear(8, 3), nn.LogSoftmax(1)
    )
    nn.functional.nll_loss(
        module(torch.tensor(ROWS, dtype=torch.float32)), torch.zeros(40, dtype=torch.int64)
    ).backward()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter -= 0.1 * parameter.grad
    net = fastbp.from_torch(module)
    X = ROWS.astype("f")
    assert (net.activations, net.loss.name, net.regularization.dropout) == (
        ("tanh", "relu"),
        "cross_entropy",
        (0.0, 0.5),
    )
    assert close(net.predict_proba(X), module.eval()(torch.tensor(X)).exp().detach().numpy())
    half = fastbp.from_torch(nn.Linear(5, 2).to(torch.bfloat16))
    assert (half.dtype, half.sizes, half.loss.name) == (np.float32, (5, 2), "mse")
    sigmoid = fastbp.from_torch(nn.Sequential(nn.Linear(5, 2), nn.Sigmoid()), loss="mse")
    assert sigmoid.output_activation == "sigmoid"


class Own(nn.Linear):  # type: ignore[misc, valid-type]
    """Whose forward may do anything."""


REFUSED = {
    "module[1] is a BatchNorm1d, which fastbp has not: it takes Sequential": lambda: [
        nn.Linear(5, 3), nn.BatchNorm1d(3)],
    "fold its shift and scale into the layer beside it": lambda: [nn.Linear(5, 3), nn.LayerNorm(3)],
    "module[0] is a Conv1d": lambda: [nn.Conv1d(1, 1, 3)],
    "module[0] is a Own": lambda: [Own(5, 3)],
    "module[1] is a PReLU": lambda: [nn.Linear(5, 3), nn.PReLU()],
    "module[1] is a LeakyReLU with negative_slope=0.2; fastbp has negative_slope=0.01": lambda: [
        nn.Linear(5, 3), nn.LeakyReLU(0.2)],
    "module[1] is a GELU with approximate='tanh'": lambda: [nn.Linear(5, 3), nn.GELU("tanh")],
    "module[0] drops inputs": lambda: [nn.Dropout(0.5), nn.Linear(5, 3)],
    "module[0] is the last layer, whose units are dropped": lambda: [nn.Linear(5, 3), nn.Dropout(0.5)],
    "module[2] is a tanh behind a dropout": lambda: [nn.Linear(5, 3), nn.Dropout(0.5), nn.Tanh(), nn.Linear(3, 3)],
    "module[2] is a tanh of a relu, but a layer of fastbp has one activation": lambda: [
        nn.Linear(5, 3), nn.ReLU(), nn.Tanh()],
    "module[0] comes before the first layer of weights": lambda: [nn.ReLU(), nn.Linear(5, 3)],
    "module[2] comes after a softmax": lambda: [nn.Linear(5, 3), nn.Softmax(dim=1), nn.Linear(3, 3)],
    "module[1] is a Softmax along dim=0": lambda: [nn.Linear(5, 3), nn.Softmax(dim=0)],
    "module[1] takes 4 inputs, but module[0] has 3 units": lambda: [nn.Linear(5, 3), nn.Linear(4, 2)],
    "there is no layer of weights": lambda: [],
}  # fmt: skip


@pytest.mark.parametrize("says", REFUSED)
def test_what_fastbp_has_not_is_refused_by_name(says: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the text is looked at
        fastbp.from_torch(nn.Sequential(*REFUSED[says]()))
    assert says in str(caught.value)


def test_other_input_that_is_refused() -> None:
    with pytest.raises(TypeError, match=r"module must be a torch.nn.Sequential, got 'net.pt' of type str"):
        fastbp.from_torch("net.pt")
    linear = nn.Linear(5, 3)
    linear.weight.data[0, 0] = torch.nan
    with pytest.raises(ValueError, match=r"module\[0\]: weights\[0, 0\] is nan"):
        fastbp.from_torch(nn.Sequential(linear))
    with pytest.raises(ValueError, match="on meta; give floats that are in memory"):
        fastbp.from_torch(nn.Linear(5, 3, device="meta"))
    for loss, says in (("mse", "does not go with the softmax"), ("binary_cross_entropy", "use 'cross_entropy'")):
        with pytest.raises(ValueError, match=says):
            fastbp.from_torch(nn.Sequential(nn.Linear(5, 3), nn.Softmax(1)), loss=loss)
    with pytest.raises(ValueError, match="loss='cross_entropy' has its own link"):
        fastbp.from_torch(nn.Sequential(nn.Linear(5, 3), nn.ReLU()), loss="cross_entropy")
    stamps = network([1, 2, 1], scaled=False, loss="mse")
    stamps.standardize(1.7e9 + np.arange(9.0)[:, None])
    with pytest.raises(ValueError, match=r"net.astype\('float64'\).to_torch\(\)"):
        stamps.to_torch()
    sums = network([5, 2, 1], scaled=False, loss="mse")
    sums.standardize(ROWS, 1e9 + np.arange(40.0))
    with pytest.raises(ValueError, match="means of inputs or targets are more than 1,000 times their scales"):
        sums.to_torch()
    assert stamps.astype("float64").to_torch()[0].weight.dtype == torch.float64
