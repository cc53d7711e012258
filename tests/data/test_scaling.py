"""Standardisation of what has more digits, or a wider range, than the network: subtracted and scaled in float64."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastbp
from fastbp import MLP, SGD, Scaling

RNG = np.random.default_rng(5)
TIMES = 1.7e9 + np.arange(900.0)[:, None]


def line(dtype: str = "float32") -> MLP:
    """One input, one output: what comes out is what went in, scaled."""
    net = MLP([1, 1], loss="mse", dtype=dtype, seed=0)
    net.set_weights([np.ones((1, 1))], [np.zeros(1)])
    return net


def z_scores(X: Any) -> np.ndarray:
    X = np.asarray(X, np.float64)
    centred = X - X[:1]
    centred -= centred.mean(axis=0)
    return centred / centred.std(axis=0)


def strided(X: np.ndarray) -> np.ndarray:
    room = np.zeros((len(X), 2 * X.shape[1]), X.dtype)
    room[:, ::2] = X
    return room[:, ::2]


SOURCES: dict[str, Callable[[np.ndarray], Any]] = {
    "float64": lambda X: X,
    "int64": lambda X: X.astype(np.int64),
    "uint64": lambda X: X.astype(np.uint64),
    "int32": lambda X: (X - 1.7e9).astype(np.int32) + np.int32(1_700_000_000),
    "big-endian": lambda X: X.astype(">f8"),
    "list": lambda X: X.tolist(),
    "strided": strided,
    "strided int64": lambda X: strided(X.astype(np.int64)),
}


# --- inputs -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_large_mean_costs_no_digits(dtype: str, source: str) -> None:
    net, X = line(dtype), SOURCES[source](TIMES)
    net.standardize(X)
    expected = z_scores(TIMES)[:, 0]
    for found in (net.predict(X), net.forward(X)[:, 0], net.predict(X[:3]), net.predict(X[:3])):
        np.testing.assert_allclose(found, expected[: len(found)], atol=1e-6, rtol=0)
    predicted = net.predict(X).astype(np.float64)
    assert len(np.unique(predicted)) == 900
    assert abs(predicted.mean()) < 1e-6


def test_a_mean_that_is_no_float32() -> None:
    """float32 data have all their digits, but their mean has not: half of such a step is half a deviation here."""
    X = (1.7e9 + 128 * np.array([[0.0], [1.0], [1.0], [2.0], [3.0]])).astype(np.float32)
    net = line()
    net.standardize(X)
    np.testing.assert_allclose(net.predict(X), z_scores(X)[:, 0], atol=1e-6, rtol=0)


@pytest.mark.parametrize("mean", [0.0, 1.7e9, 1.7e16])
def test_the_same_numbers_give_the_same_bits_in_any_type(mean: float, tmp_path: Path) -> None:
    X = (mean + RNG.integers(0, 50, (40, 5)) * max(128.0, float(np.spacing(np.float32(mean))))).astype(np.float32)
    mapped = np.memmap(tmp_path / "X", np.float64, "w+", shape=X.shape)
    mapped[:] = X
    forms = [X, X.astype(float), X.astype(np.int64), np.asfortranarray(X), strided(X), strided(X.astype(float)), mapped]
    found = []
    for form in forms:
        net = MLP([5, 8, 2], loss="mse", seed=0)
        net.standardize(form)
        found.append((net.predict(form).tobytes(), tuple(net.fit(form, X[:, :2] * 0, epochs=2).loss)))
    assert len(set(found)) == 1


def test_rows_between_those_that_a_float32_can_hold() -> None:
    """Of a float64 table some rows are float32 numbers, by chance: they are scaled as their neighbours are."""
    X = TIMES[:400] + RNG.random((400, 1)) * (np.arange(400)[:, None] % 3 > 0)
    X[::7] = np.float32(1.7e9) + 128 * np.arange(len(X[::7]))[:, None]
    net = line()
    net.standardize(X)
    np.testing.assert_allclose(net.predict(X), z_scores(X)[:, 0], atol=1e-6, rtol=0)


def test_nanoseconds() -> None:
    """A deviation far below a millionth of the mean is no rounding, unless it is a few last places of float64."""
    X = 1_700_000_000_000_000_000 + np.arange(500)[:, None] * 4096
    net = line()
    net.standardize(X)
    np.testing.assert_allclose(net.predict(X), z_scores(X - X[0])[:, 0], atol=1e-3)  # float64 has every 256th of them
    still = line()
    still.standardize(np.array([[0.3], [0.1 + 0.2], [0.3]]))
    assert still.scaling is not None
    assert still.scaling.x_scale == 1.0


@pytest.mark.parametrize("scaled", [False, True], ids=["raw targets", "standardised targets"])
def test_training_is_that_on_z_scores(scaled: bool) -> None:
    X = np.column_stack([TIMES[:200, 0], RNG.standard_normal(200), 5e8 + RNG.integers(0, 9, 200)])
    y = 1.7e9 + 100 * np.sin(X[:, :1] / 40) if scaled else np.sin(X[:, :1] / 40)
    nets = [MLP([3, 8, 1], loss="mse", seed=1) for _ in range(2)]
    nets[0].standardize(X, y if scaled else None)
    z, target = z_scores(X), z_scores(y) if scaled else y
    options: dict[str, Any] = {"epochs": 3, "batch_size": 16}
    raw = nets[0].fit(X, y, validation_data=(X[:50], y[:50]), **options)
    plain = nets[1].fit(z, target, validation_data=(z[:50], target[:50]), **options)
    np.testing.assert_allclose(raw.loss, plain.loss, rtol=1e-4)
    np.testing.assert_allclose(raw.val_loss, plain.val_loss, rtol=1e-4)
    np.testing.assert_allclose(nets[0].evaluate(X, y)["loss"], nets[1].evaluate(z, target)["loss"], rtol=1e-4)
    np.testing.assert_allclose(
        nets[0].train_step(X, y, SGD(lr=1e-9)), nets[1].train_step(z, target, SGD(lr=1e-9)), rtol=1e-4
    )
    np.testing.assert_allclose(
        nets[0].backprop(X, y).weights[0], nets[1].backprop(z, target).weights[0], rtol=1e-2, atol=1e-4
    )
    chunked = [one.copy() for one in nets]
    losses = [
        one.fit([(a[:90], b[:90]), (a[90:], b[90:])], epochs=1, shuffle=False).loss
        for one, (a, b) in zip(chunked, [(X, y), (z, target)], strict=True)
    ]
    np.testing.assert_allclose(*losses, rtol=1e-4)


def test_sweeps_range_tests_and_the_hessian_see_z_scores() -> None:
    X = np.column_stack([TIMES[:120, 0].astype(np.int64), RNG.integers(0, 9, 120)])
    y = 1.7e9 + 100 * np.sin(X[:, 1:])
    net, plain = (MLP([2, 6, 1], loss="mse", seed=1, activation="tanh") for _ in range(2))
    net.standardize(X, y)
    z, target = z_scores(X), z_scores(y)
    sweeps = [
        fastbp.lr_sweep(one, a, b, [1e-2], seeds=2, epochs=2, validation_data=(a, b), threads=1)
        for one, a, b in ((net, X, y), (plain, z, target))
    ]
    np.testing.assert_allclose(sweeps[0].val_loss, sweeps[1].val_loss, rtol=1e-3)
    tests = [fastbp.lr_range_test(one, a, b, n_steps=40, seeds=1) for one, a, b in ((net, X, y), (plain, z, target))]
    np.testing.assert_allclose(tests[0].losses[0][:10], tests[1].losses[0][:10], rtol=1e-3)
    found = [fastbp.lr_stability(one, a, b, optimizer="sgd") for one, a, b in ((net, X, y), (plain, z, target))]
    np.testing.assert_allclose(found[0].eigenvalues, found[1].eigenvalues, rtol=1e-4)
    np.testing.assert_allclose(found[0].losses, found[1].losses, rtol=1e-6)


# --- targets, and back --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [np.float64, np.int64])
def test_targets_keep_their_digits(kind: Any) -> None:
    x = np.linspace(0, 6, 300)
    y = (1.7e9 + 100 * np.sin(2 * x)).astype(kind)
    net = MLP([1, 1], loss="mse", init="zeros", seed=0)
    net.standardize(x[:, None], y)
    assert net.evaluate(x[:, None], y)["loss"] == pytest.approx(1.0, abs=1e-6)  # what predicting the mean costs
    np.testing.assert_allclose(net.predict(x[:, None]), y.mean(), atol=1e-3, rtol=0)


def test_predictions_keep_their_digits() -> None:
    net = line()
    net.scaling = Scaling(np.zeros(1), np.ones(1), np.array([1.7e9]), np.array([70.0]))
    predicted = net.predict([[-1.0], [-0.5], [0.5], [1.0]])
    assert predicted.dtype == np.float64
    np.testing.assert_array_equal(predicted - 1.7e9, [-70, -35, 35, 70])


def test_a_fit_of_large_targets_explains_them() -> None:
    X = np.linspace(-1, 1, 400)[:, None]
    y = 1.7e9 + 70 * X[:, 0]
    net = MLP([1, 1], loss="mse", seed=0)
    net.standardize(X, y)
    net.fit(X, y, epochs=40, optimizer=SGD(lr=0.1))
    assert 1 - ((net.predict(X) - y) ** 2).sum() / ((y - y.mean()) ** 2).sum() > 0.999


# --- scales that over- or underflow -------------------------------------------------------------------------

SMALL = RNG.standard_normal((50, 2))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("source", ["float32", "float64"])
def test_columns_near_the_smallest_numbers(dtype: str, source: str) -> None:
    X = (SMALL * [1e-40, 1.0]).astype(source)  # subnormal in float32
    net = MLP([2, 1], loss="mse", dtype=dtype, seed=0)
    net.set_weights([np.ones((2, 1))], [np.zeros(1)])
    net.standardize(X)
    expected = z_scores(X.astype(float) * [1e40, 1]).sum(axis=1)
    np.testing.assert_allclose(net.predict(X), expected, rtol=1e-5, atol=1e-5)
    by_inputs = net.backprop(X, SMALL[:, 0]).inputs
    assert 1e37 < np.abs(by_inputs[:, 0]).max() < np.inf
    assert np.isfinite(net.fit(X, SMALL[:, 0], epochs=2).loss).all()


def test_columns_near_the_largest_numbers() -> None:
    X = SMALL * [1e200, 1.0]
    net = MLP([2, 1], loss="mse", dtype="float64", seed=0)
    net.set_weights([np.ones((2, 1))], [np.zeros(1)])
    net.standardize(X, X[:, 0])
    np.testing.assert_allclose(net.forward(X)[:, 0], z_scores(SMALL).sum(axis=1), rtol=1e-9)
    assert np.isfinite(net.fit(X, X[:, 0], epochs=2).loss).all()
    assert 1e199 < np.abs(net.predict(X)).max() < np.inf
    with pytest.raises(ValueError, match=r"X\[0, 0\] is .*e\+199, too large for a float32 network"):
        MLP([2, 1], loss="mse").standardize(X)
    targets = MLP([2, 1], loss="mse", seed=0)  # of which a float32 network learns the z-scores
    targets.standardize(SMALL, X[:, 0])
    assert targets.evaluate(SMALL, X[:, 0])["loss"] < 10
    assert np.isfinite(targets.predict(SMALL)).all()


@pytest.mark.parametrize(
    ("column", "says"),
    [(SMALL[:, 0] * 1e-310, r"column 1 of X runs from -.*e-310 to .*e-310"), (SMALL[:, 0] * 7e307, "column 1 of X")],
    ids=["too small", "too wide"],
)
def test_columns_that_no_float64_can_standardise_are_named(column: np.ndarray, says: str) -> None:
    column = np.where(np.arange(50) < 3, np.sign(column) * np.abs(column).max(), column)
    net = MLP([2, 1], loss="mse", dtype="float64")
    with pytest.raises(ValueError, match=f"{says}.*float64 cannot standardise: multiply it"):
        net.standardize(np.column_stack([SMALL[:, 1], np.sign(SMALL[:, 0]) * np.abs(column)]))
    with pytest.raises(ValueError, match="column 0 of y"):
        net.standardize(SMALL, np.sign(SMALL[:, 0]) * np.abs(column))
    assert net.scaling is None


def test_what_is_too_far_from_the_rows_that_were_scaled_is_named() -> None:
    X = SMALL * [1e-30, 1.0]
    net = MLP([2, 2, 1], loss="mse", seed=0)
    net.standardize(X, SMALL[:, 0] * 1e-30)
    far, y = X.copy(), SMALL[:, 0] * 1e-30
    far[3, 0] = 1e15
    for use in (
        lambda: net.predict(far), lambda: net.evaluate(far, y), lambda: net.fit(far, y), lambda: net.predict(far[:4]),
        lambda: net.fit(X, y, validation_data=(far, y)),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=r"X\[3, 0\] is 1e\+15, too far from what the network's scaling was made"):
            use()
    wrong = y.copy()
    wrong[7] = 1e20
    with pytest.raises(ValueError, match=r"y\[7, 0\] is 1e\+20, too far from"):
        net.fit(X, wrong)
