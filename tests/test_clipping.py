"""Clipping of the gradient and smoothing of labels, against PyTorch, the NumPy network and themselves."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from peers import needs, torch

import fastbp
from fastbp import MLP, SGD, Adam, losses
from fastbp.reference import NumpyMLP

RNG = np.random.default_rng(11)
X = RNG.standard_normal((40, 6))
Y = RNG.integers(0, 4, 40)
CLIPS = [{"clip_norm": 0.05}, {"clip_value": 0.004}, {"clip_norm": 0.05, "clip_value": 0.004}, {"clip_norm": 1e6}]


def torch_twin(net: MLP) -> Any:
    layers: list[Any] = []
    for weight, bias in zip(net.weights, net.biases, strict=True):
        linear = torch.nn.Linear(*weight.shape, dtype=torch.float64)
        with torch.no_grad():
            linear.weight.copy_(torch.tensor(weight.T))
            linear.bias.copy_(torch.tensor(bias))
        layers += [linear, torch.nn.Tanh()]
    return torch.nn.Sequential(*layers[:-1])


@needs("torch")
@pytest.mark.parametrize("clips", CLIPS, ids=str)
@pytest.mark.parametrize("kind", ["sgd", "adam"])
def test_fifty_clipped_steps_against_pytorch(clips: dict[str, float], kind: str) -> None:
    net = MLP([6, 9, 4], activation="tanh", dtype="float64", seed=0)
    model = torch_twin(net)
    ours = SGD(lr=0.5, momentum=0.9, **clips) if kind == "sgd" else Adam(lr=0.01, **clips)
    theirs: Any = (
        torch.optim.SGD(model.parameters(), lr=0.5, momentum=0.9)
        if kind == "sgd"
        else torch.optim.Adam(model.parameters(), lr=0.01)
    )
    for step in range(50):
        rows = slice(step % 4 * 10, step % 4 * 10 + 10)
        net.train_step(X[rows], Y[rows], ours)
        theirs.zero_grad()
        torch.nn.functional.cross_entropy(model(torch.tensor(X[rows])), torch.tensor(Y[rows])).backward()
        if "clip_norm" in clips:
            torch.nn.utils.clip_grad_norm_(model.parameters(), clips["clip_norm"])
        if "clip_value" in clips:
            torch.nn.utils.clip_grad_value_(model.parameters(), clips["clip_value"])
        theirs.step()
    for weight, layer in zip(net.weights, [model[0], model[2]], strict=True):
        np.testing.assert_allclose(weight, layer.weight.detach().numpy().T, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("clips", CLIPS[:3], ids=str)
@pytest.mark.parametrize("sizes", [[6, 9, 4], [6, 130, 70, 4]])
def test_all_routes_give_the_same_bits(clips: dict[str, float], sizes: list[int]) -> None:
    recipe = SGD(lr=0.3, momentum=0.9, **clips)
    nets = [MLP(sizes, seed=0) for _ in range(4)]
    for net, threads in zip(nets[:2], (1, 2), strict=True):
        net.fit(X, Y, epochs=3, batch_size=40, optimizer=recipe, shuffle=False, threads=threads)
    for _ in range(3):
        nets[2].train_step(X, Y, recipe)
        recipe.update(nets[3], nets[3].backprop(X, Y))
    for other in nets[1:]:
        for one, two in zip(nets[0].weights, other.weights, strict=True):
            np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("clips", CLIPS[:3], ids=str)
def test_against_the_numpy_network(clips: dict[str, float]) -> None:
    recipe = Adam(lr=0.01, **clips)
    ours, twin = MLP([6, 9, 4], seed=0, dtype="float64"), NumpyMLP([6, 9, 4], seed=0, dtype="float64")
    found = [net.fit(X, Y, epochs=9, batch_size=16, optimizer=recipe, shuffle=False).loss for net in (ours, twin)]
    np.testing.assert_allclose(*found, rtol=1e-10)


def test_a_gradient_that_is_not_finite_is_seen() -> None:
    net = MLP([6, 9, 4], loss="mse", seed=0)
    huge = np.full((40, 4), 1e30, np.float32)
    with pytest.raises(fastbp.DivergenceError):
        net.fit(X, huge, epochs=3, optimizer=SGD(lr=1.0, clip_norm=1.0))


@pytest.mark.parametrize(("name", "value"), [("clip_norm", 0.0), ("clip_value", -1.0), ("clip_norm", float("nan"))])
def test_bad_limits(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=name):
        SGD(lr=0.1, **{name: value})  # type: ignore[arg-type]


@needs("torch")
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.9])
@pytest.mark.parametrize("probabilities", [False, True])
def test_smoothed_labels_against_pytorch(smoothing: float, probabilities: bool) -> None:
    net = MLP([6, 9, 4], activation="tanh", loss=losses.CrossEntropy(smoothing), dtype="float64", seed=0)
    model = torch_twin(net)
    y: Any = RNG.dirichlet(np.ones(4), 40) if probabilities else Y
    loss = torch.nn.functional.cross_entropy(model(torch.tensor(X)), torch.tensor(y), label_smoothing=smoothing)
    loss.backward()
    gradient = net.backprop(X, y)
    assert gradient.loss == pytest.approx(float(loss.detach()), rel=1e-12)
    for weight, layer in zip(gradient.weights, [model[0], model[2]], strict=True):
        np.testing.assert_allclose(weight, layer.weight.grad.numpy().T, rtol=1e-9, atol=1e-13)
    assert fastbp.check_gradients(net, X, y) < 1e-6


def test_smoothing_in_fit_and_in_files(tmp_path: Any) -> None:
    description = losses.CrossEntropy(label_smoothing=0.2)
    ours = MLP([6, 9, 4], loss=description, seed=0, dtype="float64")
    twin = NumpyMLP([6, 9, 4], loss=description, seed=0, dtype="float64")
    found = [net.fit(X, Y, epochs=5, batch_size=16, shuffle=False).loss for net in (ours, twin)]
    np.testing.assert_allclose(*found, rtol=1e-10)
    ours.save(tmp_path / "net.safetensors")
    assert fastbp.load(tmp_path / "net.safetensors").loss == description
    for wrong in (-0.1, 1.0):
        with pytest.raises(ValueError, match="label_smoothing"):
            losses.CrossEntropy(wrong)
