"""Training with products in bfloat16: the same bits however a step is made, and float32 as it was."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastbp
from fastbp import LBFGS, MLP, SGD, Adam
from fastbp.engine import precisions
from fastbp.kernels.targets import TWIN, VARIABLE, pair_target

BF16 = "bfloat16"


@pytest.fixture(autouse=True)
def _any_cpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The instruction where there is one, its twin elsewhere."""
    if pair_target() is None:
        monkeypatch.setenv(VARIABLE, TWIN.name)
    return


def flat(net: MLP) -> bytes:
    scale = [] if net.input_scale is None else [net.input_scale]
    return b"".join(array.tobytes() for array in (*net.weights, *net.biases, *scale))


def data(n: int, n_in: int, n_out: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(n)
    return rng.standard_normal((n, n_in)).astype(np.float32), rng.integers(0, n_out, n)


# Odd widths and batches, a layer too narrow for pairs below, between and above; a batch that is cut into groups.
SIZES = [([65, 37, 9], 33), ([40, 64, 5, 33, 8], 50), ([9, 40, 40, 3], 128)]
WITH: list[dict[str, Any]] = [
    {},
    {"dropout": 0.2, "input_noise": 0.1, "max_norm": 1.0, "input_scale": True, "l2": 1e-3},
]
RULES = [SGD(0.1), SGD(0.1, momentum=0.9), Adam(clip_norm=0.5, lr_scale={"biases": 0.5}), Adam(0.01)]


@pytest.mark.parametrize("extra", WITH, ids=["plain", "all"])
@pytest.mark.parametrize(("sizes", "batch"), SIZES, ids=str)
def test_a_step_is_backprop_and_update(sizes: list[int], batch: int, extra: dict[str, Any]) -> None:
    """Bit for bit, in either precision, whatever came before; and it is none of float32."""
    X, y = data(batch, sizes[0], sizes[-1])
    for rule in RULES:
        net = MLP(sizes, activation="tanh", seed=1, **extra)
        other, single = net.copy(), net.copy()
        for precision in (BF16, BF16, "float32", BF16, "float32", "float32"):
            loss = net.train_step(X, y, rule, precision=precision)
            gradient = other.backprop(X, y, precision=precision)
            rule.update(other, gradient)
            assert loss == gradient.loss
            assert flat(net) == flat(other)
            single.train_step(X, y, rule)
        assert flat(net) != flat(single)


@pytest.mark.parametrize("extra", WITH, ids=["plain", "all"])
@pytest.mark.parametrize(("sizes", "batch"), [*SIZES, ([40, 64, 10], 4097)], ids=str)
def test_the_bits_do_not_depend_on_threads(sizes: list[int], batch: int, extra: dict[str, Any]) -> None:
    """Nor on how a fit is cut into calls."""
    X, y = data(2 * batch + 5, sizes[0], sizes[-1])
    found = set()
    for threads in (1, 2, 3):
        net = MLP(sizes, seed=1, **extra)
        net.fit(X, y, epochs=2, batch_size=batch, optimizer=Adam(), threads=threads, precision=BF16)
        found.add(flat(net))
    net = MLP(sizes, seed=1, **extra)
    optimizer = Adam()
    for _ in range(2):
        net.fit(X, y, epochs=1, batch_size=batch, optimizer=optimizer, precision=BF16)
        net.evaluate(X, y)
        net.backprop(X, y)  # in float32: the copies of the weights are of another kind
    assert found == {flat(net)}


def test_layers_too_narrow_stay_float32_by_their_shape() -> None:
    """Of a network without a wide layer all bits are those of float32; of the others, those of its loss differ."""
    for sizes, same in (([9, 40, 3], True), ([31, 8], True), ([32, 7], True), ([32, 8], False)):
        X, y = data(64, sizes[0], sizes[-1])
        nets = {precision: MLP(sizes, seed=2) for precision in precisions.NAMES}
        for precision, net in nets.items():
            net.fit(X, y, epochs=2, batch_size=16, precision=precision)
        assert (flat(nets[BF16]) == flat(nets["float32"])) == same, sizes


def naive(x: Any) -> np.ndarray:
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16 << 16).astype(np.uint32).view(np.float32).astype(float)


@pytest.mark.parametrize("rows", [1, 2, 7, 64, 131])
def test_the_gradient_is_that_of_rounded_operands(rows: int) -> None:
    """Each operand rounded once, sums in float32, biases not rounded at all; from given deltas down to dJ/dX."""
    rng = np.random.default_rng(rows)
    net = MLP([45, 37], loss="mse", seed=3)
    X, D = (rng.standard_normal((rows, n)).astype(np.float32) for n in (45, 37))
    found = net.backprop(X, output_gradient=D, precision=BF16)
    close = {"rtol": 0, "atol": 1e-5 * np.sqrt(rows)}
    np.testing.assert_allclose(found.weights[0], naive(X).T @ naive(D), **close)
    np.testing.assert_allclose(found.inputs, naive(D) @ naive(net.weights[0]).T, **close)
    np.testing.assert_array_equal(found.biases[0], net.backprop(X, output_gradient=D).biases[0])


@pytest.mark.parametrize("rows", [8, 33])
def test_the_memory_of_the_copies_is_told(rows: int) -> None:
    """And no placement by columns is tried, which calls in bfloat16 do not know."""
    X, y = data(2 * rows, 40, 8)
    net = MLP([40, 64, 5, 8], seed=0)
    net.fit(X, y, epochs=1, batch_size=rows, precision=BF16)
    engine, layout = net.session.engine, net.session.layout
    assert engine.buffers is not None
    assert engine.buffers.pairs is not None
    taken = sum(array.nbytes for some in (*engine.pairs, *engine.buffers.pairs) for array in some)
    assert taken == layout.memory(rows, 0, in_pairs=True) - layout.memory(rows, 0)
    assert "products in bfloat16: " in net.summary()
    assert "bfloat16" not in MLP([9, 8, 3]).summary() + MLP([40, 64, 8], dtype="float64").summary()
    assert not any(placement.layers for placement in engine.chooser(2, 10_000, by_rows=True).candidates)


def test_many_small_updates_do_not_vanish() -> None:
    """Weights are float32: steps of 2^-12 of a weight, which bfloat16 could not hold, add up."""
    X = np.full((8, 32), 0.125, np.float32)
    net = MLP([32, 8], loss="mse", seed=4)
    net.set_weights([np.ones((32, 8))], [np.zeros(8)])
    gradient = np.full((8, 8), 0.125, np.float32)
    step = net.backprop(X, output_gradient=gradient, precision=BF16)
    rule = SGD(lr=2.0**-12 / float(step.weights[0][0, 0]))
    for _ in range(256):
        rule.update(net, net.backprop(X, output_gradient=gradient, precision=BF16))
    np.testing.assert_allclose(net.weights[0], 1 - 2.0**-4, rtol=1e-5)


@pytest.mark.parametrize("rows", [1, 33, 700])
def test_predictions_in_it_are_of_rounded_operands(rows: int) -> None:
    """And a row's are the same bits whatever comes with it, before and after a training."""
    X, y = data(rows, 45, 37)
    net = MLP([45, 37], seed=3)
    exact = naive(X) @ naive(net.weights[0])
    found = net.forward(X, precision=BF16)
    np.testing.assert_allclose(found, exact, rtol=0, atol=1e-4)
    assert (found != net.forward(X)).any()
    net = MLP([45, 64, 5, 40, 37], seed=3, input_scale=True)
    before = net.forward(X, precision=BF16)
    for start in range(0, rows, 211):
        np.testing.assert_array_equal(net.forward(X[start : start + 211], precision=BF16), before[start : start + 211])
    np.testing.assert_array_equal(net.predict(X, precision=BF16), before.argmax(axis=1))
    loss = net.backprop(X, y, precision=BF16).loss
    p = net.predict_proba(X, precision=BF16)
    np.testing.assert_allclose(-np.log(p[np.arange(rows), y]).mean(), loss, rtol=1e-5)
    net.fit(X, y, epochs=1, precision=BF16)
    twin = MLP([45, 64, 5, 40, 37], seed=0, input_scale=True)
    twin.set_weights(net.weights, net.biases, net.input_scale)
    np.testing.assert_array_equal(net.forward(X, precision=BF16), twin.forward(X, precision=BF16))
    np.testing.assert_array_equal(net.forward(X), twin.forward(X))
    bad = X.copy()
    bad[-1, 2] = np.nan
    with pytest.raises(ValueError, match=rf"X\[{rows - 1}, 2\] is nan"):
        net.predict(bad, precision=BF16)


def test_lbfgs_refuses_it() -> None:
    X, y = data(100, 40, 8)
    with pytest.raises(ValueError, match="L-BFGS needs all digits of its gradients: leave precision='bfloat16' out"):
        MLP([40, 32, 8], seed=0).fit(X, y, epochs=5, optimizer=LBFGS(), precision=BF16)


def test_a_training_goes_on_in_the_precision_that_it_began_with(tmp_path: Path) -> None:
    X, y = data(100, 40, 8)
    how = {"batch_size": 20, "optimizer": "adam"}
    whole = MLP([40, 32, 8], seed=0)
    whole.fit(X, y, epochs=4, precision=BF16, **how)
    net = MLP([40, 32, 8], seed=0)
    net.fit(X, y, epochs=2, precision=BF16, callbacks=[fastbp.Checkpoint(tmp_path)], **how)
    with pytest.raises(ValueError, match="precision were 'bfloat16', now 'float32'; repeat its arguments"):
        MLP([40, 32, 8], seed=0).fit(X, y, epochs=4, resume=tmp_path, **how)
    net = MLP([40, 32, 8], seed=0)
    net.fit(X, y, epochs=4, resume=tmp_path, precision=BF16, **how)
    assert flat(net) == flat(whole)


def test_what_cannot_be_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    X, y = data(20, 4, 3)
    double, net = MLP([4, 8, 3], seed=0, dtype="float64"), MLP([4, 8, 3], seed=0)
    calls = [
        lambda net, how: net.fit(X, y, epochs=1, precision=how),
        lambda net, how: net.train_step(X, y, "sgd", precision=how),
        lambda net, how: net.backprop(X, y, precision=how),
        lambda net, how: net.predict(X, precision=how),
    ]
    before = flat(net)
    for call in calls:
        with pytest.raises(ValueError, match="precision='bfloat16' is for networks of dtype float32"):
            call(double, BF16)
        with pytest.raises(ValueError, match="precision must be one of 'float32', 'bfloat16', got 'float16'"):
            call(net, "float16")
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setattr(precisions, "pair_target", lambda: None)
    for call in calls:
        with pytest.raises(ValueError, match=r"needs a CPU with the instructions AVX512-BF16.*lacks them: leave"):
            call(net, BF16)
    assert flat(net) == before
