"""NumPy's scalars are taken everywhere, and nowhere kept: what a check returns is what is used.

An int16 overflows at 32,768 rows, an unsigned one below 0, and no JSON holds any: trainings crashed, or were lost.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastbp
from fastbp import MLP, SGD, Checkpoint, LayerStatistics, datasets, losses, optimizers, schedules, validation
from fastbp.bench import protocol, runner
from fastbp.callbacks import EarlyStopping, MaxSeconds, StopGradientNorm
from fastbp.optimizers import LBFGS
from fastbp.reference import NumpyMLP

ROOT = Path(fastbp.__file__).parent
INTEGERS = [np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64]
RNG = np.random.default_rng(3)
X, Y = RNG.standard_normal((700, 6)).astype(np.float32), RNG.integers(0, 3, 700)

DESCRIPTIONS: list[Any] = [
    *(kind() for kind in (*optimizers.OPTIMIZERS.values(), *losses.LOSSES.values())),
    SGD(1, 2, momentum=1, nesterov=True, clip_norm=2, clip_value=1),
    SGD(1.0, momentum=0.5, dampening=1),
    LBFGS(),
    schedules.Step(2, 0.5),
    schedules.MultiStep([1, 2.5], 2),
    schedules.Exponential(0.5),
    schedules.Polynomial(2),
    schedules.InverseTime(1),
    schedules.Cosine(2, restarts=True, growth=2),
    schedules.OneCycle(4, momentum=(0.25, 0.5)),
    schedules.Warmup(1, schedules.Cosine(2)),
    schedules.ReduceOnPlateau(),
    losses.CrossEntropy(0.5, -100),
    losses.Huber(2),
    EarlyStopping(),
    MaxSeconds(5),
    StopGradientNorm(1, 2),
    LayerStatistics([], [], 2),
    Checkpoint("a", 5, 2, "loss", 1),
]


def numpys(value: Any) -> Any:
    """The same as NumPy has it; exact in single precision, where it can be."""
    if isinstance(value, bool):
        return np.bool_(value)
    if isinstance(value, int):
        return np.int16(value)
    if isinstance(value, float):
        return np.float32(value) if float(np.float32(value)) == value else np.float64(value)
    if isinstance(value, str):
        return np.str_(value)
    if isinstance(value, tuple):
        return np.array(value)
    return value


def is_plain(value: Any) -> bool:
    if isinstance(value, tuple | list):
        return all(map(is_plain, value))
    return type(value) in (int, float, bool, str, type(None)) or dataclasses.is_dataclass(value)


def arguments(description: Any) -> dict[str, Any]:
    names = [field.name for field in dataclasses.fields(description) if field.init]
    return {name: getattr(description, name) for name in names if name not in ("folder", "X", "y", "then")}


@pytest.mark.parametrize("description", DESCRIPTIONS, ids=lambda one: type(one).__name__)
def test_descriptions_hold_plain_values(description: Any) -> None:
    plain = arguments(description)
    made = dataclasses.replace(description, **{name: numpys(value) for name, value in plain.items()})
    assert arguments(made) == plain
    assert all(map(is_plain, arguments(made).values()))
    assert repr(list(arguments(made).values())) == repr(list(plain.values()))
    json.dumps(arguments(made), allow_nan=False)


def test_integers_and_floats_describe_the_same() -> None:
    assert repr(SGD(1, momentum=0)) == repr(SGD(1.0, momentum=0.0))
    assert repr(schedules.Cosine(10)) == repr(schedules.Cosine(np.float64(10.0)))


@pytest.mark.parametrize("value", [2, -1, 0.5, "yes", None, np.array([True])])
def test_what_is_no_flag(value: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        validation.check_flag("shuffle", value)
    with pytest.raises((TypeError, ValueError)):
        MLP([6, 3], seed=0).fit(X, Y, shuffle=value)


def network(**options: Any) -> MLP:
    return MLP([6, 8, 3], seed=0, **options)


def assert_equal_trainings(one: MLP, other: MLP) -> None:
    for a, b in zip([*one.weights, *one.biases], [*other.weights, *other.biases], strict=True):
        np.testing.assert_array_equal(a, b)
    assert one.history.loss == other.history.loss
    assert one.history.val_loss == other.history.val_loss


@pytest.mark.parametrize("kind", INTEGERS, ids=lambda kind: kind.__name__)
def test_fit_takes_integers_of_any_width(kind: Any, tmp_path: Path) -> None:
    """With a checkpoint, which holds the settings."""
    options: dict[str, Any] = {"epochs": 3, "batch_size": 100, "threads": 2}
    flags: dict[str, Any] = {"validation_split": 0.25, "shuffle": True, "progress": False}
    plain, net, streamed, chunked = (network() for _ in range(4))
    plain.fit(X, Y, **options, **flags, callbacks=[Checkpoint(tmp_path / "plain")])
    given = {name: kind(value) for name, value in options.items()}
    oddly = {name: numpys(value) for name, value in flags.items()}
    net.fit(X, Y, **given, **oddly, callbacks=[Checkpoint(tmp_path / "net", every_epochs=kind(1), keep=kind(2))])
    assert_equal_trainings(net, plain)
    fastbp.load(tmp_path / "net" / "last.safetensors")
    again = network()
    again.fit(X, Y, **options, **flags, resume=tmp_path / "net")
    assert_equal_trainings(again, plain)
    chunks = [(X[:350], Y[:350]), (X[350:], Y[350:])]
    streamed.fit(chunks, **options, steps_per_epoch=8)
    chunked.fit(chunks, **given, steps_per_epoch=kind(8), shuffle=np.bool_(True))
    assert_equal_trainings(chunked, streamed)


@pytest.mark.parametrize("kind", [np.int16, np.uint16])
def test_batches_that_a_narrow_type_cannot_count(kind: Any) -> None:
    """500 rows times 64 steps are beyond 32,767: wrong losses, then a double free."""
    rows, labels = RNG.standard_normal((40_000, 6)), RNG.integers(0, 3, 40_000)
    plain, net = network(), network()
    plain.fit(rows, labels, epochs=2, batch_size=500)
    net.fit(rows, labels, epochs=kind(2), batch_size=kind(500))
    assert_equal_trainings(net, plain)


@pytest.mark.parametrize("kind", INTEGERS, ids=lambda kind: kind.__name__)
def test_networks_take_integers_of_any_width(kind: Any, tmp_path: Path) -> None:
    net = MLP(
        [kind(6), kind(100), kind(3)], seed=kind(5), dropout=np.float32(0.5), l2=np.float16(0.5), max_norm=kind(2)
    )
    twin = MLP([6, 100, 3], seed=5, dropout=0.5, l2=0.5, max_norm=2.0)
    assert all(map(is_plain, [net.sizes, net.seed, net.init, *dataclasses.astuple(net.regularization)]))
    for one in (net, twin):
        one.fit(X, Y, epochs=2)
    assert_equal_trainings(net, twin)
    net.save(tmp_path / "net")
    assert fastbp.load(tmp_path / "net").regularization == twin.regularization
    assert is_plain(MLP([6, 3], init=np.str_("he_normal")).init)


@pytest.mark.parametrize("kind", INTEGERS, ids=lambda kind: kind.__name__)
def test_the_reference_takes_integers_of_any_width(kind: Any) -> None:
    nets = [NumpyMLP([number(6), number(100), number(3)], seed=number(5), dropout=0.5) for number in (int, kind)]
    for net, number in zip(nets, (int, kind), strict=True):
        net.fit(X, Y, epochs=number(2), batch_size=number(100))
    np.testing.assert_array_equal(nets[0].weights[0], nets[1].weights[0])


@pytest.mark.parametrize("kind", INTEGERS, ids=lambda kind: kind.__name__)
def test_sweeps_take_integers_of_any_width(kind: Any, tmp_path: Path) -> None:
    def sweep(number: Callable[[int], Any], journal: str) -> Any:
        return fastbp.lr_sweep(
            network(), X, Y, [0.001, 0.01, 0.02], seeds=[number(1), number(100)], epochs=number(2),
            batch_size=number(100), halving=number(2), threads=number(2), target_loss=np.float32(1),
            journal=tmp_path / journal,
        )  # fmt: skip

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # the best rate is at an end
        plain, found = sweep(int, "plain"), sweep(kind, "found")
    np.testing.assert_array_equal(plain.val_loss, found.val_loss)
    assert (tmp_path / "plain").read_text().splitlines()[0] == (tmp_path / "found").read_text().splitlines()[0]
    assert (type(found.halving), type(found.target_loss)) == (int, float)
    found.to_json(tmp_path / "json")


@pytest.mark.parametrize("kind", INTEGERS, ids=lambda kind: kind.__name__)
def test_diagnostics_take_integers_of_any_width(kind: Any) -> None:
    def stability(number: Callable[[int], Any]) -> Any:
        return fastbp.lr_stability(
            network(), X, Y, optimizer="sgd", epochs=number(1), batch_size=number(100), tol=np.float32(0.125),
            max_products=number(100), seed=number(100), threads=number(1),
        )  # fmt: skip

    def ramp(number: Callable[[int], Any]) -> Any:
        return fastbp.lr_range_test(
            network(), X, Y, lr_min=np.float32(0.0625), lr_max=number(2), n_steps=number(100), batch_size=number(100),
            k=number(4), seeds=number(2), validation_data=(X, Y), validation_every=number(5), threads=number(2),
        )  # fmt: skip

    np.testing.assert_array_equal(stability(int).eigenvalues, stability(kind).eigenvalues)
    plain, found = ramp(int), ramp(kind)
    np.testing.assert_array_equal(plain.losses, found.losses)
    assert json.dumps(plain.settings) == json.dumps(found.settings)


@pytest.mark.parametrize("kind", INTEGERS, ids=lambda kind: kind.__name__)
def test_data_sets_take_integers_of_any_width(kind: Any) -> None:
    makers: list[Callable[[Callable[[int], Any]], Any]] = [
        lambda number: datasets.make_classification(number(100), number(70), number(100), seed=number(9)),
        lambda number: datasets.make_regression(number(100), number(70), number(3), noise=number(1), seed=number(9)),
    ]
    for make in makers:
        one, other = make(int), make(kind)
        np.testing.assert_array_equal(one.X, other.X)
        np.testing.assert_array_equal(one.y, other.y)
        assert one.description == other.description
    plain = datasets.train_test_split(X, Y, 0.25, seed=9)
    for a, b in zip(plain, datasets.train_test_split(X, Y, np.float16(0.25), seed=kind(9)), strict=True):
        np.testing.assert_array_equal(a, b)


def test_benchmarks_take_numpys_scalars() -> None:
    instant = protocol.Protocol(0.001, 1, 0.0, 0.0, 0.001, 1, 0.005)
    for found in (
        runner.run([np.str_("online")], threads=np.int16(1), quick=np.bool_(False), protocol=instant),
        runner.run([np.str_("sweep 64-64-10")], threads=np.uint8(1), quick=np.bool_(False), protocol=instant),
    ):
        json.dumps(found.to_document(), allow_nan=False)


# --- no check's answer is thrown away -------------------------------------------------------------------------


@functools.cache
def answering() -> set[str]:
    """The checks that return a plain value: by what they say that they return."""
    tree = ast.parse((ROOT / "validation.py").read_text())
    plain = {"int", "float", "bool", "str", "int | None"}
    return {
        node.name
        for node in tree.body
        if isinstance(node, ast.FunctionDef) and node.returns is not None and ast.unparse(node.returns) in plain
    } | {"check_threads", "check_halving"}


def thrown_away(tree: ast.AST) -> list[str]:
    return [
        ast.unparse(node)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Call)
        and ast.unparse(node.value.func).split(".")[-1] in answering()
    ]


def test_the_search_finds_some() -> None:
    assert {"check_positive_int", "check_seed", "check_choice"} <= answering()
    assert thrown_away(ast.parse("def f(n):\n    validation.check_positive_int('n', n)"))


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT)))
def test_no_check_is_thrown_away(path: Path) -> None:
    if path.name == "validation.py":
        return
    assert not thrown_away(ast.parse(path.read_text()))
