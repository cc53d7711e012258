"""The public names, their signatures and documentation, and how they refuse bad input: by name, before any change."""

from __future__ import annotations

import dataclasses
import inspect
import re
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import oracles
import pytest
from peers import needs, torch
from public_names import documented_names, public_names

import fastbp
from fastbp import (
    MLP,
    SGD,
    Adam,
    AdamW,
    Huber,
    RMSprop,
    losses,
    optimizers,
)

NAN, INF = float("nan"), float("inf")

# --- names


def test_all_is_complete_and_sorted() -> None:
    assert fastbp.__all__ == sorted(set(fastbp.__all__))
    assert all(hasattr(fastbp, name) for name in fastbp.__all__)
    own = {name for name, value in vars(fastbp).items() if getattr(value, "__module__", "").startswith("fastbp")}
    own = {name for name in own if name[0] != "_"}
    modules = {
        "activations",
        "callbacks",
        "datasets",
        "losses",
        "optimizers",
        "plots",
        "recipes",
        "reference",
        "schedules",
    }
    assert own | modules | {"__version__"} == set(fastbp.__all__)
    assert set(fastbp.__all__) <= set(dir(fastbp))
    assert not hasattr(fastbp, "nothing")


def test_registered_classes_are_public_names() -> None:
    kinds = [*losses.LOSSES.values(), *optimizers.OPTIMIZERS.values(), *optimizers.FULL_BATCH.values()]
    for kind in kinds:
        assert getattr(fastbp, kind.__name__) is kind
        assert kind.__name__ in fastbp.__all__
    assert {kind.__name__ for kind in kinds} == {*losses.__all__, *optimizers.__all__}


def test_the_stub_is_fresh() -> None:
    """Otherwise: python benchmarks/stub.py"""
    stub = runpy.run_path(str(Path(__file__).parents[1] / "benchmarks" / "stub.py"))
    assert stub["TARGET"].read_text(encoding="utf-8") == stub["text"]()


PUBLIC = [getattr(fastbp, name) for name in fastbp.__all__ if name not in ("__version__", "datasets", "reference")]
PUBLIC += [fastbp.datasets.load_digits, fastbp.reference.NumpyMLP, fastbp.reference]


@pytest.mark.parametrize("thing", PUBLIC, ids=lambda thing: thing.__name__)
def test_everything_public_is_documented(thing: Any) -> None:
    text = inspect.getdoc(thing)
    assert text
    assert len(text) > 20
    assert not dataclasses.is_dataclass(thing) or not text.startswith(f"{thing.__name__}("), "dataclass' own docstring"
    if not inspect.isclass(thing):
        return
    assert thing.__doc__ != thing.__base__.__doc__
    for name, member in inspect.getmembers(thing):
        if name[0] != "_" and (callable(member) or isinstance(member, property)):
            assert inspect.getdoc(member), f"{thing.__name__}.{name}"


SIGNATURES: dict[Callable[..., Any], str] = {
    MLP: "(sizes, *, activation='relu', output_activation=None, loss='cross_entropy', init=None, dropout=0.0, "
    "input_noise=0.0, l1=0.0, l2=0.0, max_norm=None, dtype='float32', seed=None, input_scale=False)",
    MLP.fit: "(self, X, y=None, *, epochs=10, batch_size=32, optimizer='adam', schedule=None, "
    "validation_data=None, validation_split=0.0, sample_weight=None, class_weight=None, shuffle=True, drop_last=False, "
    "callbacks=(), resume=None, steps_per_epoch=None, threads=None, progress=False, precision='float32')",
    MLP.predict: "(self, X, *, precision='float32')",
    MLP.predict_proba: "(self, X, *, precision='float32')",
    MLP.forward: "(self, X, *, precision='float32')",
    MLP.evaluate: "(self, X, y, sample_weight=None)",
    MLP.train_step: "(self, X, y, optimizer, *, sample_weight=None, precision='float32')",
    MLP.backprop: "(self, X, y=None, *, output_gradient=None, sample_weight=None, training=True, precision='float32')",
    MLP.set_weights: "(self, weights, biases, input_scale=None)",
    MLP.standardize: "(self, X, y=None)",
    MLP.reset_optimizer: "(self)",
    MLP.summary: "(self)",
    MLP.copy: "(self)",
    MLP.save: "(self, path)",
    fastbp.load: "(path)",
    MLP.to_onnx: "(self, path, *, input_dtype=None)",
    MLP.to_c: "(self, path, *, name='net', dtype=None)",
    MLP.to_torch: "(self, *, probabilities=False)",
    MLP.to_sklearn: "(self)",
    fastbp.TableModel.to_onnx: "(self, path)",
    fastbp.from_torch: "(module, *, loss=None, class_labels=None)",
    fastbp.from_sklearn: "(estimator)",
    fastbp.from_keras: "(model, *, loss=None, class_labels=None)",
    fastbp.optimizers.Optimizer.update: "(self, net, gradient)",
    fastbp.explain: "(net=None, x=None, y=None, *, row=None, optimizer=None, units=32, seed=None, place='')",
    fastbp.check_gradients: "(net, X, y, *, step=1e-05, sample_weight=None)",
    fastbp.lr_range_test: "(net, X, y, *, lr_min=1e-06, lr_max=10.0, n_steps=500, ramp='exponential', batch_size=32, "
    "optimizer='adam', smoothing=None, k=4.0, seeds=3, validation_data=None, validation_every=None, "
    "sample_weight=None, class_weight=None, metric='loss', maximize=True, fresh=True, threads=None, progress=False, "
    "precision='float32')",
    fastbp.lr_stability: "(net, X, y, *, optimizer='adam', epochs=0, batch_size=32, method='power', tol=0.001, "
    "max_products=1000, seed=0, threads=None)",
    fastbp.lr_sweep: "(net, X, y, learning_rates, *, seeds=5, epochs=5, batch_size=32, optimizer='adam', "
    "schedule=None, validation_data=None, sample_weight=None, class_weight=None, callbacks=(), metric='loss', "
    "maximize=True, halving=None, target_loss=None, threads=None, journal=None, executor=None, progress=False, "
    "precision='float32')",
}


@pytest.mark.parametrize("function", SIGNATURES, ids=lambda function: function.__qualname__)
def test_signatures(function: Callable[..., Any]) -> None:
    signature = inspect.signature(function)
    bare = [parameter.replace(annotation=inspect.Parameter.empty) for parameter in signature.parameters.values()]
    assert str(signature.replace(parameters=bare, return_annotation=inspect.Signature.empty)) == SIGNATURES[function]


def test_the_numpy_twin_trains_by_the_same_call() -> None:
    ours, theirs = (inspect.signature(kind.fit).parameters for kind in (MLP, fastbp.reference.NumpyMLP))
    shared = set(theirs) - {"order"}  # the oracle may be told the order of the rows
    assert shared <= set(ours)
    shared -= {"y"}  # which may be left out where X is an iterable of chunks; the oracle knows no chunks
    assert all(theirs[name].default == ours[name].default for name in shared)


KINDS = [*optimizers.OPTIMIZERS.values(), *optimizers.FULL_BATCH.values()]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_optimizers_are_frozen_and_clip_nothing_unless_told(kind: Any) -> None:
    assert (kind().clip_norm, kind().clip_value) == (None, None)
    assert kind() == kind() == optimizers.get(kind.name)
    assert hash(kind()) == hash(kind())
    assert kind.name in optimizers.NAMES
    with pytest.raises(dataclasses.FrozenInstanceError):
        kind().lr = 1.0


@needs("torch")
@pytest.mark.parametrize("name", [name for name, case in oracles.OPTIMIZERS.items() if case.torch])
def test_defaults_are_pytorchs(name: str) -> None:
    theirs = inspect.signature(getattr(torch.optim, oracles.optimizer(name).torch)).parameters
    ours = oracles.options(optimizers.get(name))
    assert ours == {option: theirs[option].default for option in ours}


# --- bad input

RNG = np.random.default_rng(0)
X = RNG.standard_normal((20, 4))
Y = np.arange(20) % 3


def changed(array: Any, place: Any, value: Any) -> Any:
    result = array.copy()
    result[place] = value
    return result


BAD_X: list[tuple[Any, type[Exception], list[str]]] = [
    (X[:, :3], ValueError, ["X", "3 columns", "4 inputs"]),
    (X[0], ValueError, ["X", "(4,)", "reshape"]),
    (X[None], ValueError, ["X", "(1, 20, 4)"]),
    (X[:0], ValueError, ["X", "0 rows", "at least 1"]),
    (np.float64(3), ValueError, ["X", "()"]),
    (X.astype(str), TypeError, ["X", "<U"]),
    (X.astype(object), TypeError, ["X", "object", "astype"]),
    (X + 1j, TypeError, ["X", "complex128"]),
    ([[1, 2, 3, 4], [1, 2]], ValueError, ["X", "rows differ in length"]),
    (None, TypeError, ["X", "object"]),
]
NOT_FINITE: list[tuple[Any, type[Exception], list[str]]] = [
    (changed(X, (7, 2), NAN), ValueError, ["X[7, 2]", "nan", "finite"]),
    (changed(X, (19, 3), -INF), ValueError, ["X[19, 3]", "-inf", "finite"]),
    (changed(X, (3, 0), 1e300), ValueError, ["X[3, 0]", "1e+300", "float64"]),
]
BAD_Y: list[tuple[Any, type[Exception], list[str]]] = [
    (Y[:-1], ValueError, ["y has 19 rows", "20"]),
    (Y[:0], ValueError, ["y has 0 rows"]),
    (changed(Y, 5, 3), ValueError, ["y[5]", "3", "0 to 2"]),
    (changed(Y, 5, -1), ValueError, ["y[5]", "-1", "0 to 2"]),
    (changed(Y, 5, 2**62), ValueError, ["y[5]", "0 to 2"]),
    (Y[:, None], ValueError, ["y", "(20, 1)", "y[:, 0]"]),
    (Y.astype(float), TypeError, ["y", "float64", "astype"]),
    (np.array(list("abcd") * 5), TypeError, ["y", "np.unique"]),
    (np.eye(2)[Y % 2], ValueError, ["y", "(20, 2)", "(20, 3)"]),
]
BAD_PROBABILITIES: list[tuple[Any, type[Exception], list[str]]] = [
    (np.ones((20, 3)), ValueError, ["y[0]", "sums to 3"]),
    (changed(np.eye(3)[Y], (2, 1), NAN), ValueError, ["y[2, 1]", "nan"]),
]
BAD_FIT: list[tuple[dict[str, Any], type[Exception], list[str]]] = [
    ({"epochs": 0}, ValueError, ["epochs", "0", "positive integer"]),
    ({"epochs": -3}, ValueError, ["epochs", "-3"]),
    ({"epochs": 2.0}, TypeError, ["epochs", "2.0"]),
    ({"epochs": True}, TypeError, ["epochs", "True"]),
    ({"batch_size": 0}, ValueError, ["batch_size", "0"]),
    ({"batch_size": "32"}, TypeError, ["batch_size", "'32'"]),
    ({"batch_size": None}, TypeError, ["batch_size", "None"]),
    ({"threads": 0}, ValueError, ["threads", "0"]),
    ({"threads": -1}, ValueError, ["threads", "-1"]),
    ({"threads": 1.5}, TypeError, ["threads", "1.5"]),
    ({"optimizer": "adm"}, ValueError, ["optimizer", "'adm'", "did you mean 'adam'"]),
    ({"optimizer": "quantum"}, ValueError, ["optimizer", "'quantum'", "sgd, adam, adamw, nadam"]),
    ({"optimizer": 0.1}, TypeError, ["optimizer", "0.1"]),
    ({"optimizer": Adam}, TypeError, ["optimizer", "Adam"]),
    ({"validation_split": 1.0}, ValueError, ["validation_split", "1.0", "[0, 1)"]),
    ({"validation_split": -0.1}, ValueError, ["validation_split", "-0.1"]),
    ({"validation_split": NAN}, ValueError, ["validation_split", "nan"]),
    ({"validation_split": "half"}, TypeError, ["validation_split", "'half'"]),
    ({"validation_split": 0.2, "validation_data": (X, Y)}, ValueError, ["validation_data", "validation_split=0.2"]),
    ({"validation_data": (X[:, :2], Y)}, ValueError, ["validation X", "2 columns"]),
    ({"validation_data": (X, Y[:4])}, ValueError, ["validation y", "4 rows"]),
    ({"validation_data": (changed(X, (1, 1), NAN), Y)}, ValueError, ["validation X[1, 1]", "nan"]),
    ({"validation_data": (X, Y + 1)}, ValueError, ["validation y[2]", "3"]),
    ({"validation_data": X}, TypeError, ["validation_data", "(X, y)", "ndarray"]),
    ({"validation_data": (X,)}, TypeError, ["validation_data", "(X, y)", "tuple"]),
    ({"validation_data": 0.2}, TypeError, ["validation_data", "(X, y)", "float"]),
]


@pytest.fixture
def net() -> MLP:
    made = MLP([4, 5, 3], seed=0)
    made.fit(X, Y, epochs=2)
    return made


def refuses(net: MLP, call: Callable[[], Any], error: Any, says: list[str]) -> None:
    """The call raises, says all of that in its text, and leaves the network as it was, in every bit."""

    def state() -> Any:
        optimizer = net.optimizer_state()
        moments = [array.tobytes() for m in optimizer.pop("moments") for part in m.values() for array in part]
        weights = [array.tobytes() for array in [*net.weights, *net.biases]]
        return weights, moments, optimizer, id(net.history), list(net.history.loss), net.scaling  # type: ignore[union-attr]

    before, ahead = state(), net.copy()
    with pytest.raises(error) as caught:
        call()
    for words in says:
        assert words in str(caught.value)
    assert state() == before
    assert net.fit(X, Y, epochs=1).loss == ahead.fit(X, Y, epochs=1).loss  # and it goes on as if nothing had been


def each(table: list[tuple[Any, Any, list[str]]]) -> Any:
    return pytest.mark.parametrize(("bad", "error", "says"), table, ids=[" ".join(row[2])[:40] for row in table])


@each(BAD_X)
@pytest.mark.parametrize("method", ["fit", "evaluate", "train_step", "backprop", "predict", "forward", "predict_proba"])
def test_bad_samples(method: str, bad: Any, error: Any, says: list[str], net: MLP) -> None:
    more = {"fit": (Y,), "evaluate": (Y,), "backprop": (Y,), "train_step": (Y, "adam")}.get(method, ())
    refuses(net, lambda: getattr(net, method)(bad, *more), error, says)


@each(NOT_FINITE)
@pytest.mark.parametrize("method", ["fit", "evaluate", "standardize"])
def test_samples_that_are_not_finite(method: str, bad: Any, error: Any, says: list[str], net: MLP) -> None:
    more = () if method == "standardize" else (Y,)
    refuses(net, lambda: getattr(net, method)(bad, *more), error, says)


@each(BAD_Y)
@pytest.mark.parametrize("method", ["fit", "evaluate", "train_step", "backprop"])
def test_bad_targets(method: str, bad: Any, error: Any, says: list[str], net: MLP) -> None:
    more = ("sgd",) if method == "train_step" else ()
    refuses(net, lambda: getattr(net, method)(X, bad, *more), error, says)


@each(BAD_PROBABILITIES)
def test_bad_probabilities(bad: Any, error: Any, says: list[str], net: MLP) -> None:
    for method in (net.fit, net.evaluate):
        refuses(net, lambda method=method: method(X, bad), error, says)


@each(BAD_FIT)
def test_bad_options_of_fit(bad: dict[str, Any], error: Any, says: list[str], net: MLP) -> None:
    refuses(net, lambda: net.fit(X, Y, **bad), error, says)


def test_bad_targets_by_loss() -> None:
    for loss, bad, says in [
        ("binary_cross_entropy", 1.5, "y[3, 0] is 1.5"),
        ("poisson", -1.0, "y[3, 0] is -1"),
        ("mse", NAN, "y[3, 0] is nan"),
        ("mae", INF, "y[3, 0] is inf"),
    ]:
        net = MLP([4, 5, 1], loss=loss, seed=0)
        weights = net.weights
        with pytest.raises(ValueError, match=re.escape(says)):
            net.fit(X, changed(np.zeros(20), 3, bad))
        for wrong in (np.zeros((20, 2)), np.zeros((1, 20)), np.zeros(())):
            with pytest.raises(ValueError, match=r"^y "):
                net.fit(X, wrong)
        assert all((old == new).all() for old, new in zip(weights, net.weights, strict=True))
        assert net.history is None


W, B = [np.zeros((4, 5)), np.zeros((5, 3))], [np.zeros(5), np.zeros(3)]
BAD_CALLS: list[tuple[Callable[[MLP], Any], type[Exception], list[str]]] = [
    (lambda net: net.set_weights(W[:1], B), ValueError, ["weights", "1", "2 layers"]),
    (lambda net: net.set_weights([W[0], W[1].T], B), ValueError, ["weights[1]", "(3, 5)", "(5, 3)"]),
    (lambda net: net.set_weights(W, [B[0], np.zeros((1, 3))]), ValueError, ["biases[1]", "(1, 3)", "(3,)"]),
    (lambda net: net.set_weights([W[0], W[1] + NAN], B), ValueError, ["weights[1][0, 0]", "nan"]),
    (lambda net: net.set_weights([W[0], W[1].astype(str)], B), TypeError, ["weights[1]", "<U"]),
    (lambda net: net.set_weights(np.zeros(3), B), TypeError, ["weights", "list", "ndarray"]),
    (lambda net: net.backprop(X), ValueError, ["y", "output_gradient"]),
    (lambda net: net.backprop(X, Y, output_gradient=X[:, :3]), ValueError, ["y", "output_gradient"]),
    (lambda net: net.backprop(X, output_gradient=X), ValueError, ["output_gradient", "(20, 4)", "(20, 3)"]),
    (lambda net: net.train_step(X, Y, "agd"), ValueError, ["optimizer", "'agd'", "did you mean 'sgd'"]),
    (lambda net: net.standardize(X, X[:, :3]), ValueError, ["y", "cross_entropy"]),
]


@each(BAD_CALLS)
def test_bad_calls(bad: Callable[[MLP], Any], error: Any, says: list[str], net: MLP) -> None:
    refuses(net, lambda: bad(net), error, says)


BAD_DESCRIPTIONS: list[tuple[Callable[[], Any], type[Exception], list[str]]] = [
    (lambda: MLP([4]), ValueError, ["sizes", "[4]", "at least two"]),
    (lambda: MLP([4, 0, 2]), ValueError, ["sizes[1]", "0"]),
    (lambda: MLP([4, 2.5]), TypeError, ["sizes[1]", "2.5"]),
    (lambda: MLP(4), TypeError, ["sizes", "4"]),
    (lambda: MLP([4, 3, 2], activation="rleu"), ValueError, ["activation", "'rleu'", "did you mean 'relu'"]),
    (lambda: MLP([4, 3, 2], activation=["relu", "tanh"]), ValueError, ["activation", "2 entries", "1 hidden"]),
    (lambda: MLP([4, 3, 2], activation=["sinus"]), ValueError, ["activation[0]", "'sinus'"]),
    (lambda: MLP([4, 3, 2], activation=None), TypeError, ["activation", "None"]),
    (lambda: MLP([4, 3, 2], output_activation="tanh"), ValueError, ["output_activation", "'tanh'", "cross_entropy"]),
    (
        lambda: MLP([4, 2], loss="mse", output_activation="soft"),
        ValueError,
        ["output_activation", "'soft'", "softplus"],
    ),
    (lambda: MLP([4, 3, 2], loss="cross_entropi"), ValueError, ["loss", "did you mean 'cross_entropy'"]),
    (lambda: MLP([4, 3, 2], loss=3), TypeError, ["loss", "3"]),
    (lambda: MLP([4, 3, 2], init="he_norml"), ValueError, ["init", "'he_norml'", "did you mean 'he_normal'"]),
    (lambda: MLP([4, 3, 2], init=1), TypeError, ["init", "1"]),
    (lambda: MLP([4, 3, 2], dtype="float16"), ValueError, ["dtype", "'float16'", "'float32'"]),
    (lambda: MLP([4, 3, 2], dtype=None), ValueError, ["dtype", "None"]),
    (lambda: MLP([4, 3, 2], seed=-1), ValueError, ["seed", "-1"]),
    (lambda: MLP([4, 3, 2], seed=0.5), TypeError, ["seed", "0.5"]),
    (lambda: Huber(delta=0), ValueError, ["delta", "0", "positive"]),
    (lambda: Huber(delta=NAN), ValueError, ["delta", "nan"]),
    (lambda: SGD(momentum=-0.1), ValueError, ["momentum", "-0.1"]),
    (lambda: SGD(nesterov=True), ValueError, ["nesterov", "momentum=0.0"]),
    (lambda: Adam(betas=(0.9, 1.0)), ValueError, ["betas[1]", "1.0"]),
    (lambda: Adam(betas=0.9), ValueError, ["betas", "0.9", "two"]),
    (lambda: Adam(eps=-1e-8), ValueError, ["eps", "-1e-08"]),
    (lambda: RMSprop(alpha=1.0), ValueError, ["alpha", "1.0"]),
    (lambda: AdamW(weight_decay=INF), ValueError, ["weight_decay", "inf"]),
]


@each(BAD_DESCRIPTIONS)
def test_bad_descriptions(bad: Callable[[], Any], error: Any, says: list[str]) -> None:
    with pytest.raises(error) as caught:
        bad()
    for words in says:
        assert words in str(caught.value)


@pytest.mark.parametrize("lr", [-0.1, NAN, INF, -INF, "0.1", None, True])
@pytest.mark.parametrize("kind", optimizers.OPTIMIZERS.values(), ids=lambda kind: kind.__name__)
def test_bad_learning_rates(kind: Any, lr: Any) -> None:
    with pytest.raises(
        TypeError if lr is None or isinstance(lr, str | bool) else ValueError, match=r"^lr must be"
    ) as e:
        kind(lr=lr)
    assert repr(lr) in str(e.value)


def test_every_public_name_has_its_place_in_the_reference() -> None:
    """`docs/reference/api` lists them: add a line to the page of its kind."""
    assert documented_names() == public_names()
