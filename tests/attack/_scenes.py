"""What attacks interrupt: calls on a network, what they leave behind, and whether that is of one piece."""

from __future__ import annotations

import contextlib
import functools
import gc
import hashlib
import pickle
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import fastbp
import fastbp.callbacks.base
from fastbp import MLP, SGD, Adam, Checkpoint, EarlyStopping, LayerStatistics, NAdam, schedules
from fastbp.engine import team, tuning
from fastbp.engine.engine import Engine

RNG = np.random.default_rng(21)
X, Y = RNG.standard_normal((60, 9)).astype(np.float32), RNG.integers(0, 3, 60)
WEIGHTS = RNG.random(60) + 0.1


class State(NamedTuple):
    """All that a network remembers, in copies."""

    weights: list[np.ndarray]
    biases: list[np.ndarray]
    optimizer: dict[str, Any]
    seed: int
    scaling: Any

    def parameters(self) -> str:
        """A digest of weights and moments, and what the moments are of."""
        moments = [array for moment in self.optimizer["moments"] for part in moment.values() for array in part]
        content = b"".join(array.tobytes() for array in [*self.weights, *self.biases, *moments])
        rest = repr((self.optimizer["layout"], self.optimizer["steps"], self.optimizer["product"]))
        return hashlib.sha256(content + rest.encode()).hexdigest()

    def counted(self) -> tuple[str, int]:
        """The same, with the epochs."""
        return self.parameters(), self.optimizer["epochs"]


def state_of(net: MLP) -> State:
    """What a network remembers."""
    return State(net.weights, net.biases, net.optimizer_state(), net.seed, net.scaling)


def give(net: MLP, state: State) -> MLP:
    """Set weights, moments and counters, by the methods that users have for it."""
    net.set_weights(state.weights, state.biases)
    net.load_optimizer_state(state.optimizer)
    net.seed = state.seed
    net.scaling = state.scaling
    return net


class Scene(NamedTuple):
    """A call that is attacked.

    Attributes
    ----------
    options : dict
        Of the network.
    call : callable
        Takes the network and an empty folder; what it returns is compared.
    ready : callable
        What has been done with the network before.
    goes_on : bool
        Called again with its folder and a network that knows of nothing, it ends as if it had never been cut off.
    """

    options: dict[str, Any]
    call: Callable[[MLP, Path], Any]
    ready: Callable[[MLP], Any] = lambda net: net.fit(X, Y, epochs=2, batch_size=13)
    goes_on: bool = False

    def make(self) -> MLP:
        """A new network, ready for the call: always the same one."""
        net = MLP([9, 12, 5, 3], seed=4, **self.options)
        self.ready(net)
        return net


def fit(**options: Any) -> Callable[[MLP, Path], Any]:
    """A fit; its losses."""

    def call(net: MLP, folder: Path) -> Any:
        history = net.fit(X, Y, **{"epochs": 3, "batch_size": 16, **options})
        return history.loss, history.val_loss, history.val_score, history.lr

    return call


def watched(net: MLP, folder: Path) -> Any:
    """A fit with all that watches one."""
    callbacks = [EarlyStopping(patience=2), LayerStatistics(X, Y), Checkpoint(folder / "run", every_epochs=1, keep=1)]
    net.fit(X, Y, epochs=3, batch_size=16, validation_split=0.3, callbacks=callbacks, class_weight="balanced")
    return callbacks[1].records, fastbp.load(folder / "run" / "last.safetensors").weights[0].tobytes()


def resumed(net: MLP, folder: Path) -> Any:
    """A training that writes checkpoints all the time, and goes on from them."""
    watch, run = EarlyStopping(patience=9), folder / "run"
    checkpoint = Checkpoint(run, every_seconds=1e-9, every_epochs=1, keep=2, best="val_loss")
    data = {"validation_split": 0.3, "schedule": schedules.ReduceOnPlateau(patience=0, threshold=0.5)}
    history = net.fit(X, Y, epochs=4, batch_size=16, callbacks=[watch, checkpoint], resume=run, **data)
    best = fastbp.load(run / "best.safetensors")
    names = sorted(path.name for path in run.iterdir() if not path.name.startswith("."))
    columns = history.loss, history.val_loss, history.val_score, history.lr
    return columns, state_of(best).counted(), names, watch.best


def chunks(net: MLP, folder: Path) -> Any:
    """A fit on chunks that a function yields, with checkpoints from which it goes on."""

    def parts() -> Iterator[Any]:
        yield X[:25], Y[:25], WEIGHTS[:25]
        net.predict(X[:3])
        yield X[25:], Y[25:]

    checkpoint = Checkpoint(folder / "run", every_seconds=1e-9)
    options: dict[str, Any] = {"callbacks": [checkpoint], "resume": folder / "run", "validation_data": (X, Y)}
    history = net.fit(parts, epochs=2, batch_size=10, **options)
    return history.loss, history.val_loss, history.val_score


def meddled(net: MLP, folder: Path) -> Any:
    """A fit with a callback that trains the network by itself."""

    class Meddler:
        def on_epoch_end(self, state: Any) -> None:
            SGD(0.1).update(state.net, state.net.backprop(X, Y))
            state.net.fit(X[:20], Y[:20], epochs=1, batch_size=7)
            state.gradient_norm()

    return net.fit(X, Y, epochs=2, batch_size=16, callbacks=[Meddler()]).loss


def diverging(net: MLP, folder: Path) -> Any:
    """A fit that ends in a divergence."""
    try:
        net.fit(X, Y, epochs=3, batch_size=16, optimizer=SGD(1e30))
    except fastbp.DivergenceError as error:
        return error.step
    raise AssertionError("it has not diverged")


def steps(optimizer: Any, **options: Any) -> Callable[[MLP, Path], Any]:
    """Some steps of the same kind, the later ones by what the first has set up; and one of another kind."""

    def call(net: MLP, folder: Path) -> Any:
        losses = [net.train_step(X[k : k + 4], Y[k : k + 4], optimizer, **options) for k in (0, 4, 8)]
        return [*losses, net.train_step(X[:50], Y[:50], optimizer)]

    return call


def updates(net: MLP, folder: Path) -> Any:
    """Backpropagation and update apart."""
    adam = Adam()
    for k in (0, 4, 8):
        adam.update(net, net.backprop(X[k : k + 4], Y[k : k + 4]))
    gradient = net.backprop(X, output_gradient=np.ones((60, 3)))
    return gradient.inputs.tobytes()


def inference(net: MLP, folder: Path) -> Any:
    """Calls that leave the network as it is."""
    found = [net.forward(X[:3]), net.forward(X[3:6]), net.predict(X), net.predict_proba(X[:7])]
    return [array.tobytes() for array in found], net.evaluate(X, Y, WEIGHTS), net.summary()


def replaced(net: MLP, folder: Path) -> Any:
    """Weights and the optimiser's state set from outside."""
    net.set_weights([weight * 0.5 for weight in net.weights], net.biases)
    other = net.copy()
    other.train_step(X, Y, NAdam())
    net.load_optimizer_state(other.optimizer_state())
    net.train_step(X[:4], Y[:4], NAdam())
    net.reset_optimizer()
    return net.train_step(X[:4], Y[:4], "adam")


def copies(net: MLP, folder: Path) -> Any:
    """Copies of all kinds."""
    net.save(folder / "net.safetensors")
    found = [net.copy(), net.astype("float64"), pickle.loads(pickle.dumps(net))]
    return [state_of(one).counted() for one in [*found, fastbp.load(folder / "net.safetensors")]]


def lbfgs(net: MLP, folder: Path) -> Any:
    """L-BFGS, with a callback that changes the weights once."""

    class Meddler:
        def on_epoch_end(self, state: Any) -> None:
            if state.epoch == 2:
                state.net.set_weights([weight * 0.9 for weight in state.net.weights], state.net.biases)

    history = net.fit(X, Y, epochs=4, optimizer="lbfgs", callbacks=[Meddler()], validation_data=(X, Y))
    return history.loss, history.val_loss


def sweep(net: MLP, folder: Path) -> Any:
    """A sweep with a journal, which a second one reads."""
    found = []
    for _ in range(2):
        swept = fastbp.lr_sweep(
            net, X, Y, [1e-3, 1e-2, 1e-1], seeds=2, epochs=4, halving=2, batch_size=16, threads=2,
            journal=folder / "sweep.jsonl",
        )  # fmt: skip
        found.append(swept.val_loss.tobytes())
    assert found[0] == found[1], "a journal that was read again gave another result"
    return found


def range_test(net: MLP, folder: Path) -> Any:
    """A range test."""
    return fastbp.lr_range_test(net, X, Y, n_steps=20, seeds=1, validation_data=(X, Y)).losses.tobytes()


# A scene is named by what is called; the names of steps and fits tell what is special about them.
SCENES = {
    "fit": Scene({}, fit(validation_data=(X, Y), optimizer="adam")),
    "fit on two threads": Scene({}, fit(threads=2, optimizer=SGD(0.1, momentum=0.9), schedule=schedules.Cosine(9))),
    "fit with noise": Scene(
        {"dropout": 0.2, "input_noise": 0.1, "max_norm": 1.0, "l1": 1e-3, "dtype": "float64"},
        fit(sample_weight=WEIGHTS, optimizer=NAdam(clip_norm=0.5), schedule=lambda step: 0.01 / (1 + step)),
    ),
    "fit of a new network": Scene({}, fit(optimizer="adam"), lambda net: None),
    "fit with callbacks": Scene({}, watched),
    "fit that resumes": Scene({}, resumed, goes_on=True),
    "fit on chunks": Scene({}, chunks, goes_on=True),
    "fit with a callback that trains": Scene({}, meddled),
    "fit that diverges": Scene({}, diverging),
    "fit with L-BFGS": Scene({}, lbfgs),
    "train_step": Scene({}, steps("adam"), lambda net: net.train_step(X[:4], Y[:4], "adam")),
    "train_step of another optimiser": Scene({"dropout": 0.3}, steps(NAdam())),
    "train_step with weights": Scene({}, steps(SGD(0.1, clip_value=0.1), sample_weight=[1, 2, 0, 1])),
    "backprop and update": Scene({}, updates, lambda net: net.train_step(X[:4], Y[:4], "adam")),
    "predict and evaluate": Scene({"loss": "cross_entropy"}, inference),
    "set_weights and load_optimizer_state": Scene({}, replaced),
    "copy, save and load": Scene({}, copies),
    "sweep": Scene({}, sweep, goes_on=True),
    "range test": Scene({}, range_test),
}

# What is done with a network and its twin afterwards.
AFTER: list[Callable[[MLP], Any]] = [
    lambda net: net.train_step(X[:4], Y[:4], "adam"),
    lambda net: [net.train_step(X[k : k + 4], Y[k : k + 4], "sgd") for k in (0, 4, 8)],
    lambda net: net.fit(X, Y, epochs=2, batch_size=16, validation_split=0.2).loss,
    lambda net: net.fit(X, Y, epochs=1, batch_size=60, optimizer=SGD(0.1, momentum=0.9), threads=2).loss,
    lambda net: (net.forward(X[:3]).tobytes(), net.predict(X).tobytes(), net.evaluate(X, Y)),
    lambda net: Adam().update(net, net.backprop(X[:8], Y[:8])),
]


class Plan:
    """A scene, and what an untouched network makes of it."""

    def __init__(self, name: str) -> None:
        self.name, self.scene = name, SCENES[name]
        self.start = state_of(self.scene.make())
        self.wanted, self.end = self.play(self.scene.make())
        again = self.play(give(self.scene.make(), self.start))
        assert again == (self.wanted, self.end), f"{name} itself is not of the same bits each time"
        self.moments = self._trajectory()

    def play(self, net: MLP, folder: str | None = None) -> tuple[Any, tuple[str, int]]:
        """What the call returns, and what it leaves behind."""
        with contextlib.nullcontext(folder) if folder is not None else tempfile.TemporaryDirectory() as place:
            return self.scene.call(net, Path(place)), state_of(net).counted()

    def attack(self, harm: AbstractContextManager[Any], rng: np.random.Generator) -> None:
        """Play while harm is done; raises where something is broken afterwards."""
        net = self.scene.make()
        with tempfile.TemporaryDirectory() as folder:
            with contextlib.suppress(KeyboardInterrupt, MemoryError), harm:
                self.play(net, folder)
            self.check(net, rng)
            if self.scene.goes_on:
                again = self.play(self.scene.make(), folder)
                assert again == (self.wanted, self.end), "it does not go on from what it has written"

    def _trajectory(self) -> set[str]:
        """Digests of all states that an untouched network goes through, step by step."""
        net, seen = self.scene.make(), set[str]()
        with tempfile.TemporaryDirectory() as folder, one_step_a_call(), seeing(net, seen):
            self.scene.call(net, Path(folder))
        return seen

    def check(self, net: MLP, rng: np.random.Generator) -> None:
        """After an exception: is the network of one piece, usable as it is, and as new once it is given a state?"""
        check_process(net)
        now = state_of(net)
        assert now.parameters() in self.moments, (
            f"weights, moments and counters are not of one step: {now.optimizer['steps']}"
        )
        if all(np.isfinite(array).all() for array in [*now.weights, *now.biases]):
            twin = give(MLP([9, 12, 5, 3], seed=0, **self.scene.options), now)
            after = AFTER[rng.integers(len(AFTER))]
            assert after(net) == after(twin), "it goes on otherwise than a network with its state"
            assert state_of(net).counted() == state_of(twin).counted(), (
                "it ends otherwise than a network with its state"
            )
        else:
            assert self.name == "fit that diverges", "its weights are not finite"
        assert self.play(give(net, self.start)) == (self.wanted, self.end), "the same call again gives other bits"


def check_process(net: MLP) -> None:
    """What belongs to the whole process is as it was."""
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            assert signal.getsignal(signal.SIGINT) is signal.default_int_handler, "Ctrl-C does not do what it did"
        else:
            raise AssertionError("Ctrl-C is dead")
    for thread in threading.enumerate():
        if thread.name == "fastbp compiler":  # ends with what it has in hand
            thread.join(60)
    assert gc.isenabled(), "garbage is not collected any more"
    assert not net.session.lock._is_owned(), "this thread still holds the network"  # type: ignore[attr-defined]
    assert net.session.trainer is None, "the network thinks that it is being trained"
    assert not fastbp.callbacks.base._reserved, "callbacks are thought to be in use"
    assert all(not worker.busy for worker in team._idle)
    assert threading.active_count() < 20, "threads are left over"


@contextmanager
def one_step_a_call() -> Iterator[None]:
    """Let every native call of a fit make a single step."""
    before = tuning.MAX_STEPS, tuning.FIRST_STEPS
    tuning.MAX_STEPS = tuning.FIRST_STEPS = 1
    try:
        yield
    finally:
        tuning.MAX_STEPS, tuning.FIRST_STEPS = before


@contextmanager
def seeing(net: MLP, seen: set[str]) -> Iterator[None]:
    """Note the state of a network at both ends of each native call, and after each method that sets it."""
    places = [(Engine, "call"), (Engine, "call_again"), (Engine, "update_again")]
    places += [(MLP, name) for name in ("set_weights", "load_optimizer_state", "reset_optimizer")]
    before = [getattr(owner, name) for owner, name in places]

    def see(method: Any) -> Any:
        @functools.wraps(method)
        def watched(self: Any, *arguments: Any, **options: Any) -> Any:
            ours = self in (net, net.session.engine)
            if ours:
                seen.add(state_of(net).parameters())
            result = method(self, *arguments, **options)
            if ours:
                seen.add(state_of(net).parameters())
            return result

        return watched

    for (owner, name), method in zip(places, before, strict=True):
        setattr(owner, name, see(method))
    seen.add(state_of(net).parameters())
    try:
        yield
    finally:
        seen.add(state_of(net).parameters())
        for (owner, name), method in zip(places, before, strict=True):
            setattr(owner, name, method)
