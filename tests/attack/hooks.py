"""Every method of a network called from every hook of a training, by itself and by another thread."""

from __future__ import annotations

import concurrent.futures
import copy
import json
import pickle
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import fastbp
from fastbp import MLP, SGD, Adam, Checkpoint, NAdam, schedules
from fastbp.callbacks import Watcher
from tests.attack import _apart, _scenes
from tests.attack._scenes import WEIGHTS, State, X, Y, give, state_of

READS, CHANGES, REFUSED = "reads", "changes", "refused"


class Method(NamedTuple):
    """How one is called, and what it may do within a `fit`; `of` is the name by which users know it."""

    of: str
    kind: str
    call: Callable[[MLP], Any]


def another_state() -> dict[str, Any]:
    """Of another optimiser, later."""
    net = MLP([9, 12, 5, 3], seed=1)
    net.fit(X, Y, epochs=4, optimizer="rmsprop")
    return net.optimizer_state()


def save(net: MLP) -> None:
    """Write a file, and read it."""
    with tempfile.TemporaryDirectory() as folder:
        net.save(Path(folder) / "net.safetensors")
        fastbp.load(Path(folder) / "net.safetensors")


METHODS = {
    "weights": Method("weights", READS, lambda net: net.weights),
    "biases": Method("biases", READS, lambda net: net.biases),
    "n_parameters": Method("n_parameters", READS, lambda net: net.n_parameters),
    "forward": Method("forward", READS, lambda net: (net.forward(X[:3]), net.forward(X[3:6]))),
    "predict": Method("predict", READS, lambda net: net.predict(X)),
    "predict_proba": Method("predict_proba", READS, lambda net: net.predict_proba(X)),
    "evaluate": Method("evaluate", READS, lambda net: net.evaluate(X, Y, WEIGHTS)),
    "backprop": Method("backprop", READS, lambda net: net.backprop(X, Y, sample_weight=WEIGHTS)),
    "backprop of outputs": Method("backprop", READS, lambda net: net.backprop(X, output_gradient=np.ones((60, 3)))),
    "summary": Method("summary", READS, lambda net: net.summary()),
    "repr": Method("summary", READS, repr),
    "optimizer_state": Method("optimizer_state", READS, lambda net: net.optimizer_state()),
    "copy": Method("copy", READS, lambda net: net.copy().fit(X, Y, epochs=1)),
    "deepcopy": Method("copy", READS, copy.deepcopy),
    "pickle": Method("copy", READS, lambda net: pickle.loads(pickle.dumps(net))),
    "astype": Method("astype", READS, lambda net: net.astype("float64").train_step(X, Y, "sgd")),
    "save": Method("save", READS, save),
    "of": Method("of", READS, lambda net: MLP.of(net.session.values()).predict(X)),
    "check_gradients": Method("backprop", READS, lambda net: fastbp.check_gradients(net, X[:2], Y[:2])),
    "lr_range_test": Method("copy", READS, lambda net: fastbp.lr_range_test(net, X, Y, n_steps=20, seeds=1)),
    "lr_sweep": Method("copy", READS, lambda net: fastbp.lr_sweep(net, X, Y, [0.1, 0.2, 0.3], seeds=1, epochs=2)),
    "lr_stability": Method("copy", READS, lambda net: fastbp.lr_stability(net, X, Y, optimizer="sgd", max_products=4)),
    "set_weights": Method(
        "set_weights", CHANGES, lambda net: net.set_weights([w / 2 for w in net.weights], net.biases)
    ),
    "train_step": Method("train_step", CHANGES, lambda net: net.train_step(X[:4], Y[:4], "adam")),
    "train_step again": Method(
        "train_step", CHANGES, lambda net: [net.train_step(X[k : k + 4], Y[k : k + 4], "adam") for k in (0, 4, 8)]
    ),
    "train_step of another": Method("train_step", CHANGES, lambda net: net.train_step(X, Y, NAdam(clip_norm=0.5))),
    "update": Method("update", CHANGES, lambda net: Adam().update(net, net.backprop(X, Y))),
    "update of another": Method("update", CHANGES, lambda net: SGD(0.1).update(net, net.backprop(X, Y))),
    "fit": Method("fit", CHANGES, lambda net: net.fit(X[:30], Y[:30], epochs=2, batch_size=7, threads=2)),
    "fit with another": Method(
        "fit", CHANGES, lambda net: net.fit(X, Y, epochs=1, optimizer="sgd", schedule=schedules.Step(3))
    ),
    "fit with L-BFGS": Method("fit", CHANGES, lambda net: net.fit(X, Y, epochs=2, optimizer="lbfgs")),
    "fit on chunks": Method("fit", CHANGES, lambda net: net.fit([(X[:20], Y[:20]), (X[20:], Y[20:])], epochs=1)),
    "fit that diverges": Method("fit", CHANGES, lambda net: diverge(net)),
    "reset_optimizer": Method("reset_optimizer", CHANGES, lambda net: net.reset_optimizer()),
    "load_optimizer_state": Method(
        "load_optimizer_state", CHANGES, lambda net: net.load_optimizer_state(net.optimizer_state())
    ),
    "load_optimizer_state of another": Method(
        "load_optimizer_state", CHANGES, lambda net: net.load_optimizer_state(another_state())
    ),
    "seed": Method("seed", CHANGES, lambda net: setattr(net, "seed", net.seed + 1)),
    "class_labels": Method("class_labels", READS, lambda net: setattr(net, "class_labels", ["a", "b", "c"])),
    "standardize": Method("standardize", REFUSED, lambda net: net.standardize(X)),
    "scaling": Method("scaling", REFUSED, lambda net: setattr(net, "scaling", None)),
    "__setstate__": Method("__setstate__", REFUSED, lambda net: net.__setstate__(net.__getstate__())),
}
# What a network is, and what belongs to whoever made it.
ATTRIBUTES = {
    "sizes", "activations", "output_activation", "loss", "regularization", "dtype", "init", "history", "scaling",
    "class_labels", "feature_names", "seed", "session", "input_scale",
    "to_c", "to_onnx", "to_sklearn", "to_torch",  # which read what `save` and `copy` read
}  # fmt: skip
# Methods that leave the weights as they are, which L-BFGS does not begin anew for.
LEAVE_WEIGHTS = {"seed", "load_optimizer_state"}


def diverge(net: MLP) -> None:
    """A fit that ends in an error, which is caught."""
    try:
        net.fit(X, Y, epochs=2, batch_size=16, optimizer=SGD(1e30))
    except fastbp.DivergenceError:
        return
    raise AssertionError("it has not diverged")


FITS: dict[str, dict[str, Any]] = {
    "adam": {"batch_size": 16, "validation_data": (X, Y)},
    "momentum": {"batch_size": 16, "optimizer": SGD(0.1, momentum=0.9), "schedule": schedules.Cosine(99)},
    "two threads": {"batch_size": 16, "optimizer": NAdam(clip_norm=0.5), "threads": 2, "sample_weight": WEIGHTS},
    "L-BFGS": {"optimizer": "lbfgs"},
    "chunks": {"batch_size": 16},
}
HOOKS = [name for name in vars(Watcher) if name.startswith("on_")]
EPOCHS = 3


def run(seconds: float, seed: int) -> dict[str, int]:
    """Combinations in an order of chance, until all have been, or the time is over."""
    return _apart.run("tests.attack.hooks", seconds, seed)


def child(seconds: float, seed: int) -> None:
    """`run`, in a process of its own."""
    public = {name for name in [*dir(MLP), *vars(MLP([1, 2]))] if not name.startswith("_") and not name.isupper()}
    missing = public - ATTRIBUTES - {method.of for method in METHODS.values()}
    assert not missing, f"methods of MLP that are called from no hook: {sorted(missing)}"
    rng, end = np.random.default_rng(seed), time.monotonic() + seconds
    hooks = [*HOOKS, "state_dict", "load_state_dict", "schedule", "chunk", "nested", "another thread"]
    cases = [(hook, fit, method) for hook in hooks for fit in FITS for method in METHODS if possible(hook, fit, method)]
    counts = {"calls from hooks": 0, "combinations": len(cases)}
    for index in rng.permutation(len(cases)):
        if time.monotonic() > end:
            break
        _apart.at(f"{cases[index]}")
        try:
            counts["calls from hooks"] += attack(*cases[index])
        except Exception as error:
            raise AssertionError(f"hook, fit and method {cases[index]}: {error!r}") from error
    print(json.dumps(counts))


def possible(hook: str, fit: str, method: str) -> bool:
    """There are fits without some hooks."""
    if hook in ("state_dict", "load_state_dict"):
        return fit != "L-BFGS"  # has no checkpoints
    if hook == "schedule":
        return fit not in ("L-BFGS", "momentum")
    return hook != "chunk" or fit == "chunks"


class Probe(Watcher):
    """Calls a method of the network from one hook, and keeps count."""

    def __init__(self, hook: str, method: Method) -> None:
        self.hook, self.method, self.calls = hook, method, 0
        self.net: MLP | None = None
        self.in_chunks = False

    def reach(self, hook: str, net: MLP) -> None:
        """Call the method, if it is from here."""
        if hook != self.hook or (hook == "on_pause" and self.calls > 2):
            return
        self.calls += 1
        if self.method.kind == REFUSED:
            before = state_of(net)
            try:
                self.method.call(net)
            except (ValueError, RuntimeError):
                assert state_of(net).counted() == before.counted(), "something was changed before it was refused"
                assert net.scaling is before.scaling
                return
            raise AssertionError("it was not refused")
        before = state_of(net)
        self.method.call(net)
        if self.method.kind == READS:
            assert state_of(net).counted() == before.counted(), "it changed the network"

    def state_dict(self) -> dict[str, Any]:
        """A hook, too."""
        if self.net is not None:
            self.reach("state_dict", self.net)
        return {"calls": 0}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """A hook, too."""
        assert self.net is not None
        self.reach("load_state_dict", self.net)


def _hook(name: str) -> Any:
    def method(self: Probe, *arguments: Any) -> None:
        self.reach(name, arguments[0] if isinstance(arguments[0], MLP) else arguments[0].net)

    return method


for _name in HOOKS:
    setattr(Probe, _name, _hook(_name))


class Nested(Probe):
    """Calls the method from the callback of a fit within the callback of a fit."""

    def on_epoch_end(self, state: Any) -> None:
        inner = Probe("on_epoch_end", self.method)
        state.net.fit(X[:20], Y[:20], epochs=1, callbacks=[inner])
        if not self.in_chunks:
            state.gradient_norm()
        self.calls += inner.calls


class Elsewhere(Probe):
    """Has another thread call the method; a fit, which would train what is being trained, is refused there."""

    def on_epoch_end(self, state: Any) -> None:
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            future = pool.submit(self.method.call, state.net)
            error = future.exception(60)
        self.calls += 1
        expected = self.method.kind == REFUSED or self.method.of == "fit"
        assert isinstance(error, RuntimeError) if expected else error is None, error


def make() -> MLP:
    """The network that is trained: always the same."""
    net = MLP([9, 12, 5, 3], seed=4)
    net.fit(X, Y, epochs=1, batch_size=13)
    return net


def fit(net: MLP, kind: str, epochs: int, **options: Any) -> list[float]:
    """One of the fits; its losses."""
    options = {**FITS[kind], "epochs": epochs, **options}
    if kind != "chunks":
        return net.fit(X, Y, **options).loss
    source: Any = options.pop("source", lambda: iter([(X[:25], Y[:25]), (X[25:], Y[25:], WEIGHTS[25:])]))
    return net.fit(source, **options).loss


def attack(hook: str, kind: str, name: str) -> int:
    """One method from one hook of one fit; returns how often it was called."""
    method, net = METHODS[name], make()
    probes = {"nested": Nested, "another thread": Elsewhere}
    probe = probes.get(hook, Probe)(hook, method)
    probe.net, probe.in_chunks = net, kind == "chunks"
    options: dict[str, Any] = {"callbacks": [probe]}
    with tempfile.TemporaryDirectory() as folder:
        if hook in ("state_dict", "load_state_dict"):
            options["callbacks"] = [probe, Checkpoint(folder, every_epochs=1)]
        if hook == "load_state_dict":
            first = copy.copy(probe)
            first.net = None
            fit(net, kind, 2, callbacks=[first, Checkpoint(folder)])
            options |= {"resume": folder}
        if hook == "schedule":
            options["schedule"] = lambda step: (probe.reach("schedule", net) if probe.calls < 3 else None, 1e-2)[1]
        if hook == "chunk":
            options["source"] = lambda: chunks(probe, net)
        losses = fit(net, kind, EPOCHS, **options)
    assert len(losses) == EPOCHS or kind == "L-BFGS"
    compare(hook, kind, name, net, losses)
    check(net)
    return probe.calls


def chunks(probe: Probe, net: MLP) -> Iterator[Any]:
    """Chunks that are made with the help of the network."""
    yield X[:25], Y[:25]
    probe.reach("chunk", net)
    yield X[25:], Y[25:], WEIGHTS[25:]


def compare(hook: str, kind: str, name: str, net: MLP, losses: list[float]) -> None:
    """What reads changes nothing; what changes does so as if it were called between two fits of an epoch each."""
    method, twin = METHODS[name], make()
    if hook in ("schedule", "chunk", "nested", "load_state_dict"):
        return
    if method.kind != CHANGES or (hook == "another thread" and method.of == "fit"):
        assert losses == fit(twin, kind, EPOCHS), "the training is another one"
    elif hook == "on_fit_begin":
        method.call(twin)
        assert losses == fit(twin, kind, EPOCHS), "as if it were not called before"
    elif hook == "on_fit_end":
        assert losses == fit(twin, kind, EPOCHS)
        method.call(twin)
    elif hook in ("on_epoch_end", "another thread") and not (kind == "L-BFGS" and name in LEAVE_WEIGHTS):
        expected = []
        for _ in range(EPOCHS):
            expected += fit(twin, kind, 1)
            method.call(twin)
        assert losses == expected, "as if it were not between two fits"
    else:
        return
    assert state_of(net).counted() == state_of(twin).counted(), "the network ends otherwise"


def check(net: MLP) -> None:
    """The network is of one piece: it goes on as an untouched one does that is given its state."""
    _scenes.check_process(net)
    state = state_of(net)
    twin = give(MLP([9, 12, 5, 3], seed=0), State(*state))
    for step in _scenes.AFTER:
        assert step(net) == step(twin), "it goes on otherwise than a network with its state"
    assert state_of(net).counted() == state_of(twin).counted()
