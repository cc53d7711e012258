"""`input_scale=True`: a trained scale on each input, in steps of every kind, in files and in what goes on from them."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from oracles import ONE_A_RULE
from peers import needs, torch

import fastbp
from fastbp import MLP, SGD, Adam, EarlyStopping
from fastbp.engine import tuning
from fastbp.io import model_files
from fastbp.reference import NumpyMLP
from fastbp.spec import Gradient

SHAPES = [
    ([3, 2], 1), ([20, 40, 4], 1), ([64, 64, 10], 32), ([7, 33, 17, 5], 3), ([130, 70, 257, 4], 19), ([90, 2], 80),
    ([1, 8, 3], 16), ([4, 32, 16, 4], 1511),  # the last by shares of the batch
]  # fmt: skip


def make(kind: Any, sizes: list[int], dtype: str = "float64", **options: Any) -> Any:
    net = kind(sizes, **{"activation": "tanh", "seed": 4, **options}, dtype=dtype, input_scale=True)
    scale = np.random.default_rng(8).uniform(-1.5, 2.0, sizes[0])
    net.set_weights(net.weights, net.biases, scale)
    return net


def data(sizes: list[int], rows: int) -> tuple[Any, Any]:
    rng = np.random.default_rng(rows)
    return rng.normal(size=(rows, sizes[0])), rng.integers(0, sizes[-1], rows)


def parameters(net: Any) -> list[Any]:
    return [*net.weights, *net.biases, net.input_scale]


def assert_close(net: Any, other: Any, atol: float = 1e-11) -> None:
    for found, expected in zip(parameters(net), parameters(other), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=atol)


def assert_same(net: Any, other: Any) -> None:
    for found, expected in zip(parameters(net), parameters(other), strict=True):
        assert found.tobytes() == expected.tobytes()


@pytest.mark.parametrize(("sizes", "rows"), SHAPES)
def test_gradient_against_numpy(sizes: list[int], rows: int) -> None:
    X, y = data(sizes, rows)
    ours, theirs = (make(kind, sizes).backprop(X, y) for kind in (MLP, NumpyMLP))
    np.testing.assert_allclose(ours.input_scale, theirs.input_scale, rtol=1e-10, atol=1e-13)
    np.testing.assert_allclose(ours.inputs, theirs.inputs, rtol=1e-10, atol=1e-13)
    for found, expected in zip(ours.weights + ours.biases, theirs.weights + theirs.biases, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-13)


@needs("torch")
def test_gradient_and_outputs_against_torch() -> None:
    sizes = [7, 33, 17, 5]
    X, y = data(sizes, 40)
    net = make(MLP, sizes)
    W, b = ([torch.tensor(x, requires_grad=True) for x in given] for given in (net.weights, net.biases))
    s, inputs = torch.tensor(net.input_scale, requires_grad=True), torch.tensor(X, requires_grad=True)
    a = inputs * s
    for k in range(3):
        a = a @ W[k] + b[k]
        a = torch.tanh(a) if k < 2 else a
    torch.nn.functional.cross_entropy(a, torch.tensor(y)).backward()
    found = net.backprop(X, y)
    np.testing.assert_allclose(net.forward(X), a.detach().numpy(), rtol=1e-12)
    np.testing.assert_allclose(found.input_scale, s.grad.numpy(), rtol=1e-10)
    np.testing.assert_allclose(found.inputs, inputs.grad.numpy(), rtol=1e-10, atol=1e-14)
    for ours, theirs in zip(found.weights + found.biases, W + b, strict=True):
        np.testing.assert_allclose(ours, theirs.grad.numpy(), rtol=1e-10, atol=1e-14)


def test_gradient_against_central_differences() -> None:
    net = make(MLP, [6, 9, 3])
    X, y = data([6, 9, 3], 12)
    assert fastbp.check_gradients(net, X, y) < 1e-7
    net.set_weights(net.weights, net.biases, [0.0, 1.0, 0.0, -1.0, 1e-3, 2.0])
    assert fastbp.check_gradients(net, X, y) < 1e-7  # of scales of 0 too


@pytest.mark.parametrize("optimizer", [*ONE_A_RULE, Adam(0.02, clip_norm=0.3), SGD(0.1, clip_value=0.01)], ids=repr)
def test_steps_of_every_rule_against_numpy(optimizer: Any) -> None:
    sizes = [7, 40, 33, 3]
    X, y = data(sizes, 64)
    net, twin = make(MLP, sizes), make(NumpyMLP, sizes)
    before = net.input_scale
    for _ in range(5):
        net.train_step(X, y, optimizer)
        twin.train_step(X, y, optimizer)
    assert_close(net, twin)
    assert np.abs(net.input_scale - before).max() > 1e-5


@pytest.mark.parametrize(
    "options", [{"l1": 1e-3, "l2": 1e-2}, {"dropout": 0.3, "input_noise": 0.5}, {"max_norm": 0.7}, {}], ids=str
)
def test_whole_fits_against_numpy(options: dict[str, Any]) -> None:
    sizes = [7, 40, 33, 3]
    X, y = data(sizes, 70)
    net, twin = make(MLP, sizes, **options), make(NumpyMLP, sizes, **options)
    rule = Adam(0.01, lr_scale={"input_scale": 6.0, "biases": 0.1})
    for one in (net, twin):
        one.fit(X, y, epochs=3, batch_size=16, optimizer=rule, shuffle=False)
    assert_close(net, twin, 1e-6 if options.get("input_noise") else 1e-11)  # noise has the digits of a float32


@pytest.mark.parametrize(("sizes", "rows"), SHAPES)
@pytest.mark.parametrize(
    "rule", [Adam(0.01, lr_scale={"input_scale": 3.0}), SGD(0.1), fastbp.NAdam(clip_norm=0.1)], ids=repr
)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_all_ways_of_a_step_make_the_same_bits(
    dtype: str, rule: Any, sizes: list[int], rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    X, y = data(sizes, rows)
    nets = [make(MLP, sizes, dtype) for _ in range(3)]
    for _ in range(3):
        nets[0].train_step(X, y, rule)
        rule.update(nets[1], nets[1].backprop(X, y))
    monkeypatch.setattr(tuning, "LONG_STEP_FLOPS", 0.0)
    for _ in range(3):
        nets[2].train_step(X, y, rule)
    for other in nets[1:]:
        assert_same(nets[0], other)


@pytest.mark.parametrize("rows", [60, 3001])
def test_any_number_of_threads_makes_the_same_bits(rows: int) -> None:
    sizes = [4, 32, 16, 4] if rows > 100 else [130, 70, 57, 4]
    X, y = data(sizes, rows)
    nets = []
    for threads in (1, 2, 3, 7):
        nets.append(make(MLP, sizes, "float32"))
        nets[-1].fit(X, y, epochs=2, batch_size=3000 if rows > 100 else 17, optimizer=Adam(0.01), threads=threads)
    for other in nets[1:]:
        assert_same(nets[0], other)


def test_standardised_inputs_are_scaled_after_that() -> None:
    X, y = data([5, 8, 3], 50)
    X = X * 1e4 + 1e6
    net, plain = make(MLP, [5, 8, 3]), make(MLP, [5, 8, 3])
    net.standardize(X)
    Z = (X - X.mean(axis=0)) / X.std(axis=0)
    np.testing.assert_allclose(net.forward(X), plain.forward(Z), rtol=1e-9)
    np.testing.assert_allclose(net.backprop(X, y).inputs * X.std(axis=0), plain.backprop(Z, y).inputs, rtol=1e-8)
    np.testing.assert_allclose(net.backprop(X, y).input_scale, plain.backprop(Z, y).input_scale, rtol=1e-8)


def test_a_scale_of_zero_shuts_an_input_off_and_can_come_back() -> None:
    X, y = data([3, 8, 2], 40)
    net = make(MLP, [3, 8, 2])
    net.set_weights(net.weights, net.biases, [0.0, 1.0, 1.0])
    other = X.copy()
    other[:, 0] += 100.0
    np.testing.assert_allclose(net.forward(X), net.forward(other), rtol=1e-12)
    net.train_step(X, y, SGD(0.1))
    assert net.input_scale[0] != 0.0


def test_it_is_kept_in_files_copies_and_pickles(tmp_path: Path) -> None:
    X, y = data([6, 9, 3], 50)
    net = make(MLP, [6, 9, 3], "float32")
    net.fit(X, y, epochs=2, optimizer=Adam(0.01))
    net.save(tmp_path / "a.safetensors")
    others = [fastbp.load(tmp_path / "a.safetensors"), net.copy(), pickle.loads(pickle.dumps(net))]
    for one in others:
        assert_same(net, one)
        assert one.predict(X).tobytes() == net.predict(X).tobytes()
    net.fit(X, y, epochs=2, optimizer=Adam(0.01))
    for one in others:  # moments are there too
        one.fit(X, y, epochs=2, optimizer=Adam(0.01))
        assert_same(net, one)
    np.testing.assert_array_equal(net.astype("float64").input_scale, net.input_scale)
    state = net.optimizer_state()
    again = make(MLP, [6, 9, 3], "float32")
    again.set_weights(net.weights, net.biases, net.input_scale)
    again.load_optimizer_state(state)
    for one in (net, again):
        one.train_step(X, y, Adam(0.01))
    assert_same(net, again)


def test_files_say_what_can_read_them(tmp_path: Path) -> None:
    for name, net in (("old", MLP([3, 2], seed=0)), ("new", MLP([3, 2], seed=0, input_scale=True))):
        net.save(tmp_path / name)
        assert model_files.load(tmp_path / name)[1]["version"] == {"old": 1, "new": 2}[name]
    assert "input_scale" not in json.dumps(model_files.load(tmp_path / "old")[1])


def test_the_best_epoch_brings_its_scales_back() -> None:
    X, y = data([6, 9, 3], 60)
    kept: dict[int, list[Any]] = {}

    class Keep(fastbp.callbacks.Callback):  # type: ignore[name-defined,misc]
        def on_epoch_end(self, state: Any) -> None:
            kept[state.epoch] = parameters(state.net)

    stopping, net = EarlyStopping(patience=4), make(MLP, [6, 9, 3], "float32")
    net.fit(X, y, epochs=60, optimizer=Adam(0.3), validation_split=0.3, callbacks=[stopping, Keep()])
    for found, expected in zip(parameters(net), kept[stopping.best_epoch], strict=True):
        assert found.tobytes() == expected.tobytes()
    assert len(kept) > stopping.best_epoch


def test_a_checkpoint_is_gone_on_with(tmp_path: Path) -> None:
    X, y = data([6, 9, 3], 60)

    def train(epochs: int, **more: Any) -> Any:
        net = make(MLP, [6, 9, 3], "float32")
        callbacks = [EarlyStopping("val_score", patience=99, ties="last"), *more.pop("callbacks", [])]
        net.fit(X, y, epochs=epochs, optimizer=Adam(0.1), validation_split=0.3, callbacks=callbacks, **more)
        return net

    train(3, callbacks=[fastbp.Checkpoint(tmp_path)])
    assert_same(train(9, callbacks=[fastbp.Checkpoint(tmp_path)], resume=tmp_path), train(9))
    with pytest.raises(ValueError, match="is of another training"):
        MLP([6, 9, 3], seed=4, activation="tanh").fit(X, y, epochs=9, resume=tmp_path)


def test_a_sweep_trains_them_as_fit_does() -> None:
    X, y = data([6, 20, 3], 90)
    net = MLP([6, 20, 3], seed=11, input_scale=True)
    rule = Adam(lr_scale={"input_scale": 6.0, "biases": 0.1})
    sweep = fastbp.lr_sweep(net, X, y, [1e-3, 5e-2], epochs=3, batch_size=16, optimizer=rule, threads=2)
    for k, rate in enumerate((1e-3, 5e-2)):
        twin = MLP([6, 20, 3], seed=11, input_scale=True)
        options: dict[str, Any] = {"epochs": 3, "batch_size": 16, "validation_split": 0.2}
        history = twin.fit(X, y, optimizer=Adam(rate, lr_scale=rule.lr_scale), **options)
        assert sweep.train_loss[k, 0].tolist() == history.loss


def test_lbfgs_finds_them_too() -> None:
    X, y = data([6, 9, 3], 60)
    net = make(MLP, [6, 9, 3])
    before, start = net.evaluate(X, y)["loss"], net.input_scale
    net.fit(X, y, epochs=10, optimizer="lbfgs")
    assert net.evaluate(X, y)["loss"] < 0.8 * before
    assert np.abs(net.input_scale - start).max() > 1e-3


def test_what_is_wrong_is_named() -> None:
    plain, net = MLP([3, 2], seed=0), MLP([3, 2], seed=0, input_scale=True)
    assert plain.input_scale is None
    np.testing.assert_array_equal(net.input_scale, np.ones(3))
    assert net.n_parameters == plain.n_parameters + 3
    with pytest.raises(ValueError, match="the network has none"):
        plain.set_weights(plain.weights, plain.biases, np.ones(3))
    with pytest.raises(ValueError, match=r"input_scale has shape \(2,\)"):
        net.set_weights(net.weights, net.biases, [1, 2])
    with pytest.raises(ValueError, match="input_scale"):
        net.set_weights(net.weights, net.biases, [1, np.nan, 2])
    with pytest.raises(ValueError, match="the gradient has no input_scale"):
        SGD().update(net, Gradient(None, net.weights, net.biases, np.empty(0)))
    with pytest.raises(AttributeError):
        net.input_scale = np.ones(3)
    with pytest.raises(TypeError, match="input_scale must be True or False"):
        MLP([3, 2], input_scale=2.5)  # type: ignore[arg-type]
    state = plain.copy()
    state.train_step(np.ones((2, 3)), np.array([0, 1]), Adam())
    with pytest.raises(ValueError, match="optimizer state"):
        net.load_optimizer_state(state.optimizer_state())
