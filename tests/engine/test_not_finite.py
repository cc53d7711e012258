"""Inference refuses rows that are no numbers, found while they are gathered; what does not look says so."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastbp import MLP, arrays, losses
from fastbp.engine import engine, tuning

RNG = np.random.default_rng(3)
NAN, INF = float("nan"), float("inf")
METHODS = ["predict", "predict_proba", "evaluate"]


def mapped(X: np.ndarray, folder: Path) -> np.ndarray:
    made = np.memmap(folder / "X", X.dtype, "w+", shape=X.shape)
    made[:] = X
    return made


FORMS: dict[str, Callable[[np.ndarray, Path], Any]] = {
    "float32": lambda X, _: X.astype(np.float32),
    "float64": lambda X, _: X,
    "float16": lambda X, _: X.astype(np.float16),
    "Fortran": lambda X, _: np.asfortranarray(X.astype(np.float32)),
    "strided": lambda X, _: np.repeat(X, 2, axis=1)[:, ::2],
    "list": lambda X, _: X.tolist(),
    "memory map": mapped,
}


def network(rows: int, **options: Any) -> tuple[MLP, np.ndarray, np.ndarray]:
    return MLP([5, 6, 3], seed=0, **options), RNG.standard_normal((rows, 5)), RNG.integers(0, 3, rows)


def call(net: MLP, method: str, X: Any, y: np.ndarray) -> Any:
    return getattr(net, method)(X, *((y,) if method == "evaluate" else ()))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("value", [NAN, INF, -INF])
@pytest.mark.parametrize("method", METHODS)
def test_row_and_column_are_named(method: str, value: float, form: str, tmp_path: Path) -> None:
    net, X, y = network(40)
    good = FORMS[form](X, tmp_path)
    expected = call(net, method, good, y)
    X[17, 3] = X[17, 4] = X[31, 0] = value
    bad = FORMS[form](X, tmp_path)
    for _ in range(2):  # the second time by the quick way
        with pytest.raises(ValueError, match=rf"^X\[17, 3\] is {value:g}; every value must be finite"):
            call(net, method, bad, y)
    X[[17, 31]] = 0.0
    again = call(net, method, FORMS[form](X, tmp_path), y)  # a refusal leaves nothing behind
    assert type(again) is type(expected)
    assert np.isfinite(net.forward(bad)[0]).all()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("scaled", [False, True], ids=["raw", "standardised"])
def test_what_a_float32_cannot_hold_is_refused(method: str, scaled: bool) -> None:
    net, X, y = network(8)
    if scaled:
        net.standardize(X)
    X[5, 2] = 1e300
    with pytest.raises(ValueError, match=r"^X\[5, 2\] is 1e\+300, too (large|far)"):
        call(net, method, X, y)
    wide, X, y = network(8, dtype="float64")
    X[5, 2] = 1e300
    call(wide, method, X, y)


@pytest.mark.parametrize("threads", [1, 3])
def test_the_first_of_bad_rows_is_named_by_any_number_of_threads(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine.team, "default_threads", lambda: threads)
    monkeypatch.setattr(tuning, "WAKE_SECONDS", 0.0)  # any work is shared
    net, X, y = network(5000)
    X[4321:, 1] = NAN
    for method in METHODS:
        with pytest.raises(ValueError, match=r"^X\[4321, 1\] is nan"):
            call(net, method, X, y)


def test_one_row_after_another() -> None:
    net, X, _ = network(1)
    X = X.astype(np.float32)
    for _ in range(3):
        for method in ("predict", "predict_proba"):
            assert np.isfinite(call(net, method, X, X)).all()
            bad = X.copy()
            bad[0, 4] = INF
            net.forward(bad)
            with pytest.raises(ValueError, match=r"^X\[0, 4\] is inf"):
                call(net, method, bad, X)


@pytest.mark.parametrize("loss", losses.LOSSES)
def test_every_loss(loss: str) -> None:
    net = MLP([5, 6, 2], loss=loss, seed=0, output_activation=None if losses.get(loss).linked else "tanh")
    X = RNG.standard_normal((9, 5))
    net.predict(X)
    X[8, 0] = NAN
    with pytest.raises(ValueError, match=r"^X\[8, 0\] is nan"):
        net.predict(X)


@pytest.mark.parametrize("rows", [3, 3000])
def test_good_rows_are_read_once(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    net, X, y = network(rows)

    def second_pass(array: np.ndarray, *_: Any, **__: Any) -> None:
        raise AssertionError("the samples are looked at apart from their gathering")

    monkeypatch.setattr(arrays, "check_finite", second_pass)
    monkeypatch.setattr(arrays, "first_not_finite", second_pass)
    for method in METHODS:
        call(net, method, X, y)


def test_what_does_not_look_says_so() -> None:
    net, X, y = network(4)
    X[1, 1] = NAN
    assert np.isnan(net.forward(X)[1]).all()
    assert np.isnan(net.backprop(X, y).loss or 0.0)
    assert np.isnan(net.copy().train_step(X, y, "sgd"))
    for method in (MLP.forward, MLP.backprop, MLP.train_step):
        assert "not checked for NaN" in " ".join((method.__doc__ or "").split())


def test_weights_that_are_not_finite_are_not_blamed_on_the_rows() -> None:
    net, X, _ = network(4)
    net.session.engine.parameters[net.session.layout.places()[:5]] = NAN
    assert np.isnan(net.predict_proba(X)).any()
