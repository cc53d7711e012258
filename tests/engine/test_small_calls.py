"""Small calls reuse what the last one set up: the same bits as calls that set up everything, whatever came between."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fastbp
from fastbp import MLP, optimizers
from fastbp.engine.engine import Engine

RNG = np.random.default_rng(5)
X = RNG.standard_normal((40, 6)).astype(np.float32)
CLASSES = RNG.integers(0, 3, 40)
SGD, MOMENTUM, ADAM = optimizers.SGD(lr=0.1), optimizers.SGD(lr=0.1, momentum=0.9), "adam"


def forget(net: MLP) -> None:
    """Make the next call set up everything."""
    net.session.engine.forget_stages()


def gradient_of(found: fastbp.spec.Gradient) -> tuple[object, ...]:
    """All of a gradient, to be compared."""
    return found.loss, *(one.tobytes() for one in (*found.weights, *found.biases, found.inputs))


CALLS: dict[str, Callable[[MLP], object]] = {
    "train 4": lambda net: net.train_step(X[:4], CLASSES[:4], SGD),
    "train other 4": lambda net: net.train_step(X[4:8], CLASSES[4:8], SGD),
    "train reversed": lambda net: net.train_step(X[8:4:-1], CLASSES[8:4:-1], SGD),
    "train 7": lambda net: net.train_step(X[:7], CLASSES[:7], SGD),
    "train float64": lambda net: net.train_step(X[:4].astype(float), CLASSES[:4], SGD),
    "train probabilities": lambda net: net.train_step(X[:4], np.eye(3, dtype=np.float32)[CLASSES[:4]], SGD),
    "train weighted": lambda net: net.train_step(X[:4], CLASSES[:4], SGD, sample_weight=[1, 0, 2, 3]),
    "train other weights": lambda net: net.train_step(X[:4], CLASSES[:4], SGD, sample_weight=[3.0, 1.0, 0.5, 0.0]),
    "backprop weighted": lambda net: net.backprop(X[:4], CLASSES[:4], sample_weight=[3, 1, 2, 0]).loss,
    "train momentum": lambda net: net.train_step(X[:4], CLASSES[:4], MOMENTUM),
    "train adam": lambda net: net.train_step(X[:4], CLASSES[:4], ADAM),
    "forward 1": lambda net: net.forward(X[:1]).tobytes(),
    "forward other": lambda net: net.forward(X[9:10]).tobytes(),
    "forward 4": lambda net: net.forward(X[:4]).tobytes(),
    "forward Fortran": lambda net: net.forward(np.asfortranarray(X[:4])).tobytes(),
    "predict": lambda net: net.predict(X[3:4]).tobytes(),
    "evaluate": lambda net: net.evaluate(X[:4], CLASSES[:4]),
    "backprop": lambda net: gradient_of(net.backprop(X[:4], CLASSES[:4])),
    "backprop noiseless": lambda net: gradient_of(net.backprop(X[:4], CLASSES[:4], training=False)),
    "backprop float64": lambda net: gradient_of(net.backprop(X[:4].astype(float), CLASSES[:4])),
    "backprop outputs": lambda net: gradient_of(net.backprop(X[:4], output_gradient=X[4:8, :3])),
    "backprop other outputs": lambda net: gradient_of(net.backprop(X[:4], output_gradient=np.ones((4, 3), np.float32))),
    "update adam": lambda net: optimizers.get("adam").update(net, net.backprop(X[:4], CLASSES[:4])),
    "update of its own": lambda net: SGD.update(net, net.backprop(X[:7], output_gradient=X[:7, :3])),
    "seed": lambda net: setattr(net, "seed", net.seed + 1),
    "load": lambda net: net.load_optimizer_state(net.optimizer_state()),
    "update": lambda net: SGD.update(net, net.backprop(X[:4], CLASSES[:4])),
    "fit": lambda net: net.fit(X, CLASSES, epochs=1, batch_size=16, optimizer=SGD).loss,
    "standardize": lambda net: net.standardize(X),
    "set": lambda net: net.set_weights([w * 0.5 for w in net.weights], net.biases),
    "reset": lambda net: net.reset_optimizer(),
}


def test_a_wrong_label_is_found_in_a_repeated_call_too() -> None:
    """The kernel looks at the labels of such a call: it reads and writes by them."""
    net, twin = MLP([6, 5, 3], seed=1), MLP([6, 5, 3], seed=1)
    for one in (net, twin):
        one.train_step(X[:4], CLASSES[:4], SGD)
    for wrong in (3, -1, 2**62):
        labels = CLASSES[:4].copy()
        labels[2] = wrong
        with pytest.raises(ValueError, match=r"y\[2\] is"):
            net.train_step(X[:4], labels, SGD)
    assert net.train_step(X[4:8], CLASSES[4:8], SGD) == twin.train_step(X[4:8], CLASSES[4:8], SGD)
    with pytest.raises(ValueError, match="y has shape"):
        net.train_step(X[:4], CLASSES[:4, None], SGD)


def test_one_output_takes_flat_targets_again_and_again() -> None:
    y = RNG.standard_normal(40).astype(np.float32)
    quick, slow = (MLP([6, 5, 1], loss="mse", seed=1) for _ in range(2))
    for first in (0, 4, 8):
        forget(slow)
        rows = slice(first, first + 4)
        assert quick.train_step(X[rows], y[rows], SGD) == slow.train_step(X[rows], y[rows, None], SGD)
    quick.standardize(X, y)
    slow.standardize(X, y)
    for first in (0, 4):
        forget(slow)
        rows = slice(first, first + 4)
        assert quick.train_step(X[rows], y[rows], SGD) == slow.train_step(X[rows], y[rows], SGD)


@settings(max_examples=120, deadline=None)
@given(st.lists(st.sampled_from(sorted(CALLS)), min_size=2, max_size=14), st.sampled_from([0.0, 0.5]))
def test_any_order_of_calls(names: list[str], dropout: float) -> None:
    quick, slow = (MLP([6, 5, 3], seed=1, dropout=dropout) for _ in range(2))
    for name in names:
        forget(slow)
        assert CALLS[name](quick) == CALLS[name](slow), name
    for one, other in zip([*quick.weights, *quick.biases], [*slow.weights, *slow.biases], strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_second_call_is_a_quick_one() -> None:
    """Also where calls of other kinds, or of other numbers of rows, come between."""
    net = MLP([6, 5, 3], seed=0)
    quick = ("train 4", "train 7", "forward 1", "forward 4", "predict", "backprop", "backprop outputs", "train adam")
    for name in quick:
        CALLS[name](net)
    again = ["train adam", "forward 1", "backprop outputs", "forward 4", "backprop", "forward other"]
    again.append("backprop noiseless")
    for _ in range(2):
        for name in again:
            CALLS[name](net)
            stage = net.session.engine._current
            assert stage is not None
            CALLS[name](net)
            assert net.session.engine._current is stage
    known = set(net.session.engine._stages.values())
    for name in again:
        CALLS[name](net)
    assert set(net.session.engine._stages.values()) == known


def test_an_own_loop_is_set_up_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """forward, backprop with an output gradient, update: what reinforcement learning does, for thousands of steps."""
    quick, slow, adam = MLP([6, 5, 3], seed=0), MLP([6, 5, 3], seed=0), optimizers.Adam()

    def step(net: MLP, first: int) -> bytes:
        rows = X[first : first + 4]
        gradient = net.backprop(rows, output_gradient=net.forward(rows) - 1)
        adam.update(net, gradient)
        return gradient.inputs.tobytes()

    for first in range(0, 32, 4):
        forget(slow)
        assert step(quick, first) == step(slow, first)
    for one, other in zip(quick.weights, slow.weights, strict=True):
        np.testing.assert_array_equal(one, other)
    monkeypatch.setattr(Engine, "call", lambda *_, **__: pytest.fail("set up again"))
    step(quick, 32)


def test_predictions_pass_the_output_activation_and_logits_do_not() -> None:
    net = MLP([6, 5, 3], loss="mse", output_activation="tanh", seed=0)
    for _ in range(2):
        logits = net.forward(X[:2])
        np.testing.assert_allclose(net.predict(X[:2]), np.tanh(logits), rtol=1e-5)
        assert np.array_equal(net.predict(X[:2]), net.predict(X[:2]))


def test_a_fit_that_fails_before_its_first_step_leaves_no_stage() -> None:
    def broken(step: int) -> float:
        raise LookupError("mine")

    net = MLP([6, 5, 3], seed=0)
    expected = net.forward(X[:2])
    net.forward(X[:2])
    with pytest.raises(LookupError, match="mine"):
        net.fit(X, CLASSES, epochs=1, schedule=broken)
    np.testing.assert_array_equal(net.forward(X[:2]), expected)


def test_results_are_the_callers_own() -> None:
    net = MLP([6, 5, 3], seed=0)
    first = net.forward(X[:1])
    kept = first.copy()
    net.forward(X[1:2])
    np.testing.assert_array_equal(first, kept)
    first[:] = 7
    np.testing.assert_array_equal(net.forward(X[:1]), kept)


def test_a_bad_batch_changes_nothing() -> None:
    net = MLP([6, 5, 3], seed=0)
    net.train_step(X[:4], CLASSES[:4], SGD)
    before = net.forward(X[:4])
    with pytest.raises(ValueError, match=r"y\[2\] is 3, but labels for 3 outputs run from 0 to 2"):
        net.train_step(X[:4], np.array([0, 1, 3, -1]), SGD)
    with pytest.raises(ValueError, match="columns"):
        net.train_step(X[:4, :5], CLASSES[:4], SGD)
    np.testing.assert_array_equal(net.forward(X[:4]), before)


def test_a_loss_that_is_not_finite_does_not_stop_the_next_step() -> None:
    quick, slow = MLP([6, 5, 3], seed=0), MLP([6, 5, 3], seed=0)
    bad = X[:4].copy()
    bad[0, 0] = np.nan
    for net in (quick, slow):
        for batch in (X[:4], bad, X[4:8]):
            if net is slow:
                forget(net)
            net.train_step(batch, CLASSES[:4], SGD)
    for one, other in zip(quick.weights, slow.weights, strict=True):
        np.testing.assert_array_equal(one, other)


def test_copies_do_not_share_a_stage() -> None:
    net = fastbp.MLP([6, 5, 3], seed=0)
    net.forward(X[:1])
    other = net.copy()
    other.set_weights([w * 2 for w in other.weights], other.biases)
    assert not np.array_equal(other.forward(X[:1]), net.forward(X[:1]))
