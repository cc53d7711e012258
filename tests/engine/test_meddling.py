"""Callbacks that call the network's methods: as if the training were one fit an epoch, with these calls in between."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fastbp import MLP, SGD, Adam, datasets, schedules
from fastbp.callbacks import stopping

RNG = np.random.default_rng(12)
X = RNG.standard_normal((70, 16)).astype(np.float32)
Y = RNG.integers(0, 3, 70)


def make(seed: int = 1, **options: Any) -> MLP:
    return MLP([16, 32, 3], seed=seed, **options)


def bits(net: MLP) -> str:
    """A digest of weights, moments and counters."""
    state = net.optimizer_state()
    arrays = [*net.weights, *net.biases]
    arrays += [array for moment in state["moments"] for array in (*moment["weights"], *moment["biases"])]
    rest = [state[name] for name in ("layout", "steps", "epochs", "product")]
    return hashlib.sha256(b"".join(array.tobytes() for array in arrays) + repr(rest).encode()).hexdigest()


def other_state() -> dict[str, Any]:
    net = make()
    net.fit(X, Y, epochs=3, optimizer="nadam")
    return net.optimizer_state()


METHODS: dict[str, Callable[[MLP], object]] = {
    "reset_optimizer": lambda net: net.reset_optimizer(),
    "train_step": lambda net: net.train_step(X[:5], Y[:5], "adam"),
    "train_step of another optimiser": lambda net: net.train_step(X, Y, "sgd"),
    "update": lambda net: Adam().update(net, net.backprop(X, Y)),
    "update of another optimiser": lambda net: SGD(0.1).update(net, net.backprop(X, Y)),
    "fit": lambda net: net.fit(X[:9], Y[:9], epochs=2, batch_size=4, schedule=schedules.Cosine(90)),
    "fit with another optimiser": lambda net: net.fit(X, Y, epochs=1, optimizer=SGD(0.1, momentum=0.9)),
    "fit with L-BFGS": lambda net: net.fit(X, Y, epochs=2, optimizer="lbfgs"),
    "set_weights": lambda net: net.set_weights([w * 0.5 for w in net.weights], net.biases),
    "load_optimizer_state": lambda net: net.load_optimizer_state(net.optimizer_state()),
    "load_optimizer_state of another": lambda net: net.load_optimizer_state(other_state()),
    "another seed": lambda net: setattr(net, "seed", net.seed + 1),
}
FITS: dict[str, dict[str, Any]] = {
    "adam": {},
    "a schedule": {"schedule": schedules.Cosine(80), "optimizer": SGD(0.1)},
    "momentum and clipping": {"optimizer": SGD(0.1, momentum=0.9, clip_norm=1.0)},
    "validation": {"validation_data": (X, Y), "optimizer": "nadam"},
}


def assert_goes_on(net: MLP) -> None:
    """The network trains on to the bits of an untouched one that was given its state."""
    twin = make(2)
    twin.set_weights(net.weights, net.biases)
    twin.load_optimizer_state(net.optimizer_state())
    twin.seed = net.seed
    assert net.fit(X, Y, epochs=2).loss == twin.fit(X, Y, epochs=2).loss
    assert bits(net) == bits(twin)


class Meddler:
    """Calls a method at the end of every epoch."""

    def __init__(self, method: Callable[[MLP], object]) -> None:
        self.method = method

    def on_epoch_end(self, state: stopping.EpochState) -> None:
        self.method(state.net)


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("name", METHODS)
def test_as_if_between_two_fits(name: str, fit: str) -> None:
    dropout = 0.0 if "L-BFGS" in name else 0.2
    meddled, alternating, method = make(dropout=dropout), make(dropout=dropout), METHODS[name]
    history = meddled.fit(X, Y, epochs=4, batch_size=16, callbacks=[Meddler(method)], **FITS[fit])
    losses = []
    for _ in range(4):
        losses += alternating.fit(X, Y, epochs=1, batch_size=16, **FITS[fit]).loss
        method(alternating)
    assert history.loss == losses
    assert bits(meddled) == bits(alternating)
    assert meddled.history is history


@pytest.mark.parametrize("name", METHODS)
def test_chunks_and_what_makes_them(name: str) -> None:
    """What yields chunks may call methods, too: afterwards the network is as good as one that was given its state."""
    method = METHODS[name]

    def chunks() -> Any:
        yield X[:40], Y[:40]
        method(meddled)
        yield X[40:], Y[40:]

    meddled = make()
    history = meddled.fit(chunks, epochs=3, batch_size=16, callbacks=[Meddler(method)])
    assert len(history.loss) == 3
    assert np.isfinite(history.loss).all()
    assert_goes_on(meddled)


@pytest.mark.parametrize("name", METHODS)
def test_a_schedule_that_calls_methods(name: str) -> None:
    meddled, method, calls = make(), METHODS[name], 0

    def rate(step: int) -> float:
        nonlocal calls
        calls += 1
        if calls == 4:
            method(meddled)
        return 1e-3

    meddled.fit(X, Y, epochs=3, batch_size=16, schedule=rate, callbacks=[Meddler(lambda net: None)])
    assert_goes_on(meddled)


@pytest.mark.parametrize("name", [name for name in METHODS if name not in ("another seed", "load_optimizer_state")])
def test_lbfgs_begins_anew_where_its_weights_were_changed(name: str) -> None:
    """All other methods leave its memory of the way so far alone."""
    meddled, alternating, method = make(activation="tanh"), make(activation="tanh"), METHODS[name]
    history = meddled.fit(X, Y, epochs=4, optimizer="lbfgs", callbacks=[Meddler(method)])
    losses = []
    for _ in range(4):
        losses += alternating.fit(X, Y, epochs=1, optimizer="lbfgs").loss
        method(alternating)
    assert history.loss == losses
    assert bits(meddled) == bits(alternating)


def test_an_update_after_a_fit_with_a_schedule_has_its_own_rate() -> None:
    """Not that of the fit's first step."""

    def update(net: MLP) -> None:
        gradient, before = net.backprop(X, Y), net.biases[1]
        SGD(0.25).update(net, gradient)
        np.testing.assert_allclose(before - net.biases[1], 0.25 * gradient.biases[1], rtol=1e-9)

    net = make(dtype="float64")
    net.fit(X, Y, epochs=2, optimizer="sgd", schedule=schedules.Cosine(9), callbacks=[Meddler(update)])
    update(net)


def test_a_scheme_of_ones_own() -> None:
    """Decay that no optimiser has, in a callback: momentum goes on."""
    digits = datasets.load_digits()
    net = MLP([64, 32, 10], seed=0)

    class Shrink:
        def on_epoch_end(self, state: stopping.EpochState) -> None:
            state.net.set_weights([w * 0.99 for w in state.net.weights], state.net.biases)

    optimizer = SGD(0.1, momentum=0.9)
    history = net.fit(digits.X[:500], digits.y[:500], epochs=8, optimizer=optimizer, callbacks=[Shrink()])
    assert history.loss[-1] < 0.3 * history.loss[0]
    assert net.optimizer_state()["steps"] == 8 * 16
