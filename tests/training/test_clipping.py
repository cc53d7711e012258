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
SIZES = (1e-25, 1.0, 1e19, 1e30, 3e38)
PENALTIES = [{}, {"l1": 0.02, "l2": 0.05}]


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
@pytest.mark.parametrize("penalties", PENALTIES, ids=str)
def test_fifty_clipped_steps_against_pytorch(penalties: dict[str, float], kind: str, clips: dict[str, float]) -> None:
    """The gradient that is clipped is that of the whole cost; weight decay, the optimiser's own, comes after."""
    net = MLP([6, 9, 4], activation="tanh", dtype="float64", seed=0, **penalties)
    model = torch_twin(net)
    options: dict[str, float] = {"lr": 0.5, "momentum": 0.9} if kind == "sgd" else {"lr": 0.01}
    options["weight_decay"] = 0.03
    ours = (SGD if kind == "sgd" else Adam)(**options, **clips)
    theirs: Any = (torch.optim.SGD if kind == "sgd" else torch.optim.Adam)(model.parameters(), **options)
    for step in range(50):
        rows = slice(step % 4 * 10, step % 4 * 10 + 10)
        net.train_step(X[rows], Y[rows], ours)
        theirs.zero_grad()
        cost = torch.nn.functional.cross_entropy(model(torch.tensor(X[rows])), torch.tensor(Y[rows]))
        for layer in (model[0], model[2]):
            cost = cost + penalties.get("l1", 0.0) * layer.weight.abs().sum()
            cost = cost + penalties.get("l2", 0.0) * layer.weight.square().sum()
        cost.backward()
        if "clip_norm" in clips:
            torch.nn.utils.clip_grad_norm_(model.parameters(), clips["clip_norm"])
        if "clip_value" in clips:
            torch.nn.utils.clip_grad_value_(model.parameters(), clips["clip_value"])
        theirs.step()
    for weight, layer in zip(net.weights, [model[0], model[2]], strict=True):
        np.testing.assert_allclose(weight, layer.weight.detach().numpy().T, rtol=1e-9, atol=1e-11)


def test_the_penalties_are_clipped() -> None:
    net = MLP([3, 4, 1], loss="mse", l2=5.0, seed=0)
    before = net.copy()
    net.train_step(np.ones((2, 3)), np.ones(2), SGD(1.0, clip_norm=0.1))
    assert step_length(net, before) == pytest.approx(0.1, rel=1e-5)


def step_length(net: MLP, before: MLP) -> float:
    pairs = zip([*net.weights, *net.biases], [*before.weights, *before.biases], strict=True)
    return float(np.sqrt(sum(np.square(np.subtract(a, b, dtype=np.float64)).sum() for a, b in pairs)))


@pytest.mark.parametrize("clips", CLIPS[:3], ids=str)
@pytest.mark.parametrize("sizes", [[6, 9, 4], [6, 130, 70, 4]])
@pytest.mark.parametrize("penalties", PENALTIES, ids=str)
def test_all_routes_give_the_same_bits(penalties: dict[str, float], sizes: list[int], clips: dict[str, float]) -> None:
    recipe = SGD(lr=0.3, momentum=0.9, **clips)
    nets = [MLP(sizes, seed=0, **penalties) for _ in range(4)]
    for net, threads in zip(nets[:2], (1, 2), strict=True):
        net.fit(X, Y, epochs=3, batch_size=40, optimizer=recipe, shuffle=False, threads=threads)
    for _ in range(3):
        nets[2].train_step(X, Y, recipe)
        recipe.update(nets[3], nets[3].backprop(X, Y))
    for other in nets[1:]:
        for one, two in zip(nets[0].weights, other.weights, strict=True):
            np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("clips", CLIPS[:3], ids=str)
@pytest.mark.parametrize("penalties", PENALTIES, ids=str)
def test_against_the_numpy_network(penalties: dict[str, float], clips: dict[str, float]) -> None:
    recipe = Adam(lr=0.01, **clips)
    ours, twin = (kind([6, 9, 4], seed=0, dtype="float64", **penalties) for kind in (MLP, NumpyMLP))
    found = [net.fit(X, Y, epochs=9, batch_size=16, optimizer=recipe, shuffle=False).loss for net in (ours, twin)]
    np.testing.assert_allclose(*found, rtol=1e-10)


def test_shares_of_a_big_batch_are_clipped_with_their_penalties() -> None:
    rows, labels = RNG.standard_normal((2000, 6)), RNG.integers(0, 4, 2000)
    nets: list[Any] = [kind([6, 9, 4], seed=0, dtype="float64", l1=0.02, l2=0.05) for kind in (MLP, MLP, NumpyMLP)]
    for net, threads in zip(nets, ({"threads": 1}, {"threads": 3}, {}), strict=True):
        net.fit(rows, labels, epochs=9, batch_size=2000, optimizer=SGD(0.5, clip_norm=0.05), shuffle=False, **threads)
    assert nets[0].session.layout.n_groups(2000) > 0
    np.testing.assert_array_equal(nets[0].weights[0], nets[1].weights[0])
    np.testing.assert_allclose(nets[0].weights[0], nets[2].weights[0], rtol=1e-10, atol=1e-13)


# --- numbers whose squares are too large, or too small --------------------------------------------------------


@pytest.mark.parametrize("sizes", [[3, 4], [70, 130, 4]])
@pytest.mark.parametrize(
    ("dtype", "size"), [*(("float32", size) for size in SIZES), ("float64", 1e160), ("float64", 1e306)]
)
def test_gradients_of_any_size_are_clipped(dtype: str, size: float, sizes: list[int]) -> None:
    rng, before = np.random.default_rng(0), MLP(sizes, dtype=dtype, seed=0)
    before.set_weights([0.0 * w for w in before.weights], before.biases)
    weights = [(size * rng.uniform(-1, 1, w.shape)).astype(dtype) for w in before.weights]
    biases = [(size * rng.uniform(-1, 1, b.shape)).astype(dtype) for b in before.biases]
    scaled = [g.astype(np.longdouble) / size for g in [*weights, *biases]]
    norm = np.sqrt(sum((g**2).sum() for g in scaled))
    expected = [-g * min(np.longdouble(size), 1 / norm) for g in scaled]
    for net in (before.copy(), NumpyMLP(sizes, dtype=dtype, seed=0)):
        gradient = fastbp.Gradient(None, weights, biases, np.empty(0))
        if isinstance(net, MLP):
            SGD(1.0, clip_norm=1.0).update(net, gradient)
        else:
            net.set_weights(before.weights, before.biases)
            net.apply(SGD(1.0, clip_norm=1.0), gradient)
        for found, wanted in zip([*net.weights, *net.biases], expected, strict=True):
            np.testing.assert_allclose(found, wanted.astype(np.float64), rtol=3e-6, atol=1e-30)


@pytest.mark.parametrize("targets", [1e12, 1e24, 1e37])
def test_steps_with_large_gradients_are_of_the_length_asked_for(targets: float) -> None:
    """With any number of threads, and by all routes, to the bit."""
    net = MLP([6, 130, 70, 4], loss="mae", seed=0)
    y = targets * np.sign(RNG.standard_normal((40, 4)))
    nets, recipe, large = [net.copy() for _ in range(4)], SGD(1.0, clip_norm=0.5), (X * targets).astype(np.float32)
    for one, threads in zip(nets[:2], (1, 3), strict=True):
        one.fit(large, y, epochs=1, batch_size=40, optimizer=recipe, shuffle=False, threads=threads)
    nets[2].train_step(large, y, recipe)
    recipe.update(nets[3], nets[3].backprop(large, y))
    for other in nets[1:]:
        np.testing.assert_array_equal(nets[0].weights[0], other.weights[0])
    assert step_length(nets[0], net) == pytest.approx(0.5, rel=1e-4)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_norm_of_the_whole_gradient_does_not_overflow(dtype: str) -> None:
    size = 1e30 if dtype == "float32" else 1e200
    net, seen = MLP([6, 4], loss="mae", dtype=dtype, seed=0), []

    class Look:
        def on_epoch_end(self, state: Any) -> None:
            seen.append(state.gradient_norm())

    layers = fastbp.LayerStatistics(X * size, np.zeros((40, 4)))
    net.fit(X * size, np.zeros((40, 4)), epochs=1, optimizer=SGD(0.0), callbacks=[Look(), layers])
    gradient = net.backprop(X * size, np.zeros((40, 4)))
    expected = size * np.sqrt(sum(np.square(g.astype(np.float64) / size).sum() for g in gradient.weights))
    assert seen == [pytest.approx(expected, rel=1e-5)]
    assert layers.records[0]["gradient_norm"] == pytest.approx(expected, rel=1e-5)


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
