"""A program that has NumPy raise, and warnings raise, gets its results all the same; its own code stays as it wants."""

from __future__ import annotations

import contextlib
import contextvars
import threading
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import oracles
import pytest
from processes import succeed

import fastbp
from fastbp import MLP, callbacks, datasets, losses, numerics, optimizers, schedules
from fastbp.kernels import cache
from fastbp.kernels.notice import tell
from fastbp.reference import NumpyMLP

RNG = np.random.default_rng(1)
N = 60
with np.errstate(all="ignore"):
    ROWS = {
        "tiny": RNG.standard_normal((N, 4)) * [1e-310, 1e-30, 1, 1],
        "subnormal": (RNG.standard_normal((N, 4)) * [1e-40, 1e37, 1, 1]).astype(np.float32),
    }
    TARGETS: dict[str, np.ndarray] = {
        name: cost.draw(N, 3) * ([1e-300, 1e-42, 1e15] if cost.loss.link.can_scale_y else 1)
        for name, cost in oracles.DEFAULT_COSTS.items()
    }
X, Y = RNG.standard_normal((N, 4)), RNG.integers(0, 3, N)


@pytest.fixture(autouse=True)
def shown(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """As `np.seterr(all="raise")` and `-W error` at the head of a program; what warnings are shown, not raised."""
    found: list[str] = []

    def show(message: Any, category: type[Warning], filename: str, line: int, *_: Any) -> None:
        found.append(f"{Path(filename).name}:{line}: {category.__name__}: {message}")

    with np.errstate(all="raise"), warnings.catch_warnings():
        warnings.simplefilter("error")
        monkeypatch.setattr(warnings, "showwarning", show)
        yield found


def network(loss: str = "cross_entropy", dtype: str = "float32", size: float = 1.0, **options: Any) -> MLP:
    net = MLP([4, 5, 3], loss=loss, dtype=dtype, seed=0, activation="tanh", **options)
    with np.errstate(all="ignore"):
        net.set_weights([w * size for w in net.weights], net.biases)
    return net


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("loss", TARGETS)
def test_calls(loss: str, dtype: str, rows: str) -> None:
    data, y = ROWS[rows], TARGETS[loss]
    net = network(loss, dtype, 300.0)  # exp of its outputs under- and overflows
    net.forward(data)
    net.predict(data)
    net.predict(data[:1])
    net.evaluate(data, y, np.full(N, 1e-200))
    if net.loss.link.classifies:
        net.predict_proba(data)
    net.backprop(data, y, sample_weight=np.full(N, 1e-300))
    net.train_step(data, y, "sgd")
    optimizers.SGD(lr=1e-30).update(network(loss, dtype), network(loss, dtype).backprop(data, y))
    network(loss, "float64", 1e-30).astype("float32").summary()


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("loss", TARGETS)
def test_fits(loss: str, dtype: str, rows: str, tmp_path: Path) -> None:
    data, y = ROWS[rows], TARGETS[loss]
    net = network(loss, dtype)
    watching = [
        callbacks.LayerStatistics(data, y), callbacks.StopGradientNorm(0.0), callbacks.EarlyStopping(patience=2),
        callbacks.Checkpoint(tmp_path, every_epochs=1),
    ]  # fmt: skip
    weights = RNG.uniform(1e-200, 1e-199, N)
    with contextlib.suppress(*[fastbp.DivergenceError] * (rows == "subnormal")):  # by inputs of 1e37
        net.fit(
            data, y, epochs=3, validation_split=0.2, sample_weight=weights, callbacks=watching,
            schedule=schedules.Exponential(1e-200),
        )  # fmt: skip
    assert net.history is not None
    net.history.to_json(tmp_path / "h.json")
    net.history.to_csv(tmp_path / "h.csv")
    net.save(tmp_path / "net.safetensors")
    fastbp.load(tmp_path / "net.safetensors").predict(data)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("loss", losses.names(can_scale_y=True))
def test_standardised(loss: str, dtype: str) -> None:
    data, y = ROWS["subnormal"], TARGETS[loss]
    net = network(loss, dtype)
    net.standardize(data, y)
    net.fit(data, y, epochs=2)
    net.predict(data)
    net.evaluate(data, y)
    net.backprop(data, y)


@pytest.mark.parametrize("optimizer", fastbp.optimizers.NAMES)
def test_optimizers(optimizer: str) -> None:
    network().fit(X, Y, epochs=2, optimizer=optimizer)


def sweep(tmp_path: Path, rates: list[float], **options: Any) -> fastbp.LrSweep:
    found = fastbp.lr_sweep(network(), X, Y, rates, seeds=2, epochs=3, optimizer="sgd", **options)
    str(found)
    found.to_dict()
    found.to_csv(tmp_path / "s.csv")
    found.report(tmp_path / "s.html")
    for what in ("curve", "losses", "best"):
        found.plot(what=what)
    return found


def test_sweeps(tmp_path: Path) -> None:
    assert sweep(tmp_path, [1e-3, 1e-2, 1e8]).status.shape == (3, 2)  # the last diverges
    journal = tmp_path / "journal"
    sweep(tmp_path, [1e-3, 1e-2], journal=journal)
    journal.write_text(journal.read_text() + '{"lr": 0.0')
    sweep(tmp_path, [1e-3, 1e-2], journal=journal)  # a line that is cut short
    with ThreadPoolExecutor(1) as pool:
        sweep(tmp_path, [1e-3, 1e8], executor=pool)
    assert sweep(tmp_path, [1e-3, 1e8], schedule=lambda step: 1e-300).status.shape == (2, 2)


def test_a_warning_costs_no_result(tmp_path: Path, shown: list[str]) -> None:
    found = sweep(tmp_path, [1e-6, 1e-5, 1e-4])
    assert found.edge
    assert shown == [f"test_numerics.py:{_line_of('fastbp.lr_sweep(')}: UserWarning: {found.edge}"]
    result = fastbp.lr_stability(network(), X, Y, max_products=3)
    assert result.converged == [False]
    str(result)
    result.plot(tmp_path / "t.png")
    line = _line_of("fastbp.lr_stability(network(), X, Y, max_products=3)")
    assert shown[-1].startswith(f"test_numerics.py:{line}: RuntimeWarning: an eigenvalue did not converge")


def _line_of(text: str) -> int:
    lines = Path(__file__).read_text().splitlines()
    return next(number for number, line in enumerate(lines, 1) if text in line)


def test_range_tests(tmp_path: Path) -> None:
    found = fastbp.lr_range_test(network(), X, Y, lr_max=1e8, n_steps=60, optimizer="sgd", validation_data=(X, Y))
    str(found)
    found.to_json(tmp_path / "r.json")
    found.plot(tmp_path / "r.png")


def test_what_else_computes(tmp_path: Path) -> None:
    assert fastbp.check_gradients(network(), X, Y) < 1e-6
    network().fit(lambda: iter([(X, Y)] * 2), epochs=2)
    datasets.load_digits()
    datasets.make_classification(50, 4, 3)
    datasets.make_regression(50, 4)
    net = network()
    net.fit(X, Y, epochs=2, validation_split=0.2)
    assert net.history is not None
    net.history.plot(tmp_path / "h.png")
    twin = NumpyMLP([4, 5, 3], seed=0)
    twin.fit(X * 1e-30, Y, epochs=2)
    twin.set_weights([w * np.float32(1e-44) for w in map(np.float64, twin.weights)], twin.biases)
    twin.evaluate(X * 1e-30, Y)
    twin.predict_proba(X * 1e30)


# --- the caller's own ---------------------------------------------------------------------------------------


def test_the_callers_code_runs_in_the_callers_state() -> None:
    before, seen = np.geterr(), []

    class Look:
        def on_epoch_end(self, state: Any) -> None:
            state.net.predict_proba(X)  # ours, in theirs, in ours
            seen.append(np.geterr())

    def rate(step: int) -> float:
        seen.append(np.geterr())
        return 1e-3

    def chunks() -> Iterator[Any]:
        for _ in range(2):
            seen.append(np.geterr())
            yield X, Y

    network().fit(X, Y, epochs=1, callbacks=[Look()], schedule=rate)
    network().fit(chunks, epochs=1, callbacks=[Look()])
    network().fit(X, Y, epochs=2, optimizer="lbfgs", callbacks=[Look()])
    fastbp.lr_sweep(network(), X, Y, [1e-3], seeds=1, epochs=1, schedule=rate)
    assert len(seen) > 8
    assert all(one == before for one in seen)
    assert np.geterr() == before


def test_an_error_of_the_callers_code_comes_through() -> None:
    class Overflow:
        def on_epoch_end(self, state: Any) -> None:
            np.exp(np.float64(1e4))

    with pytest.raises(FloatingPointError, match="overflow"):
        network().fit(X, Y, epochs=1, callbacks=[Overflow()])
    assert np.geterr()["over"] == "raise"


def test_threads_and_nested_calls_stay_apart() -> None:
    inside: list[Any] = []

    @numerics.quiet
    def inner() -> None:
        inside.append(np.geterr())

    @numerics.quiet
    def outer() -> None:
        inner()
        inside.append(np.geterr())

    outer()
    thread = threading.Thread(target=outer)
    thread.start()
    thread.join()
    assert all(set(one.values()) == {"ignore"} for one in inside)
    assert len(inside) == 4
    assert set(np.geterr().values()) == {"raise"}


def test_a_call_from_within_a_call_in_a_context_of_its_own() -> None:
    """As a signal handler may make it, which runs between any two lines of ours."""

    @numerics.quiet
    def interrupted() -> np.ndarray:
        contextvars.Context().run(network().predict_proba, X * 1e30)
        return contextvars.Context().run(interrupted_again)

    @numerics.quiet
    def interrupted_again() -> np.ndarray:
        return np.exp(np.array([-1e4]))

    assert interrupted() == 0.0
    assert set(np.geterr().values()) == {"raise"}


# --- warnings -----------------------------------------------------------------------------------------------


def test_tell_warns_as_the_filters_say(shown: list[str]) -> None:
    with pytest.warns(UserWarning, match="seen"):
        tell("seen", UserWarning)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tell("not seen", UserWarning)
    assert shown == []
    tell("shown", UserWarning)
    line = _line_of('    tell("shown"')
    assert shown == [f"test_numerics.py:{line}: UserWarning: shown"]


def test_a_damaged_cache_is_no_reason_to_fail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shown: list[str]
) -> None:
    monkeypatch.setattr(cache, "cache_folder", lambda: tmp_path)
    (tmp_path / "f-float32.bin").write_bytes(b"x" * 99)
    signature = (type("Kind", (), {"name": "float32"}),)
    assert cache.KernelCache("f").load_overload(signature, None) is None
    assert shown[0].endswith("is damaged: it is compiled anew.")


def test_a_program_that_is_strict_from_its_first_line() -> None:
    code = """
import numpy as np
np.seterr(all="raise")
import fastbp
X, y = np.random.default_rng(0).standard_normal((60, 4)) * 1e-3, np.arange(60) % 3
net = fastbp.MLP([4, 5, 3], seed=0)
net.set_weights([w * 1e5 for w in net.weights], net.biases)
print(net.predict_proba(X * 1e3).shape, fastbp.lr_sweep(net, X, y, [1e-9, 1e-8, 1e-7], seeds=1, epochs=1).best_lr)
"""
    assert succeed(code, PYTHONWARNINGS="error").startswith("(60, 3) 1e-0")
