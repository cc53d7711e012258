"""`fit`: against the NumPy network on the same batches, its history, its stops, and every form that data come in."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import oracles
import pytest
from naive import shuffled

import fastbp
from fastbp import SGD, Adam, DivergenceError, losses
from fastbp.data import splits
from fastbp.engine import tuning
from fastbp.reference import NumpyMLP
from fastbp.training import feeds

SIZES, ROWS = [5, 9, 3], 53
MSE = oracles.BY_NAME["mse"]


def draw(cost: oracles.Cost = MSE, rows: int = ROWS, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    return np.random.default_rng(seed).standard_normal((rows, SIZES[0])), cost.draw(rows, SIZES[-1], seed)


def make(cost: oracles.Cost = MSE, dtype: str = "float64", cls: Any = fastbp.MLP, seed: int = 3) -> Any:
    return cls(SIZES, loss=cost.loss, activation="tanh", dtype=dtype, seed=seed)


def assert_same_weights(net: Any, other: Any, rtol: float = 0.0) -> None:
    for a, b in zip([*net.weights, *net.biases], [*other.weights, *other.biases], strict=True):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol, strict=True)


# --- the walk over the data ---------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [1, 8, 52, 53, 1000])
@pytest.mark.parametrize("cost", oracles.COSTS, ids=repr)
def test_fit_against_numpy(cost: oracles.Cost, batch_size: int) -> None:
    net, twin, (X, y) = make(cost), make(cost, cls=NumpyMLP), draw(cost)
    for _ in range(2):
        found = net.fit(X, y, epochs=3, batch_size=batch_size, optimizer=Adam(lr=0.01))
        expected = twin.fit(
            X, y, epochs=3, batch_size=batch_size, optimizer=Adam(lr=0.01),
            order=lambda epoch: shuffled(range(ROWS), net.seed, epoch),
        )  # fmt: skip
        np.testing.assert_allclose(found.loss, expected.loss, rtol=1e-10)
        assert_same_weights(net, twin, rtol=1e-9)


@pytest.mark.parametrize("seed", [0, 1, 2**32 + 5, 2**64 - 1])
def test_order_of_rows_is_a_permutation_by_seed_and_epoch(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """With one row a step, and a target that is the row's number, each loss tells which row it was."""
    seen: list[float] = []
    add = feeds.EpochLog.add

    def record(self: Any, history: Any, losses: np.ndarray, rates: np.ndarray, seconds: float) -> None:
        seen.extend(losses)
        add(self, history, losses, rates, seconds)

    monkeypatch.setattr(feeds.EpochLog, "add", record)
    net = fastbp.MLP([1, 1], loss="mae", dtype="float64", seed=seed)
    net.fit(np.zeros((97, 1)), np.arange(97.0), epochs=3, batch_size=1, optimizer=SGD(lr=0.0))
    np.testing.assert_array_equal(seen, np.concatenate([shuffled(range(97), seed, epoch) for epoch in range(3)]))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_fit_is_its_train_steps(dtype: str) -> None:
    """Bit for bit, short last batch included; and the history is the mean of their losses by rows."""
    net, stepped, (X, y) = make(dtype=dtype), make(dtype=dtype), draw()
    history = net.fit(X, y, epochs=3, batch_size=8, optimizer=SGD(lr=0.1, momentum=0.9))
    for epoch in range(3):
        total, order = 0.0, shuffled(range(ROWS), net.seed, epoch)
        for batch in np.split(order, range(8, ROWS, 8)):
            total += stepped.train_step(X[batch], y[batch], SGD(lr=0.1, momentum=0.9)) * len(batch)
        assert history.loss[epoch] == pytest.approx(total / ROWS, rel=1e-14)
    assert_same_weights(net, stepped)
    assert history.lr == [0.1] * 3
    assert len(history.seconds) == 3
    assert min(history.seconds) > 0
    assert history is net.history


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_fitting_twice_is_fitting_longer(dtype: str, shuffle: bool) -> None:
    twice, once, (X, y) = make(dtype=dtype), make(dtype=dtype), draw()
    options = {"batch_size": 8, "optimizer": Adam(lr=0.01), "shuffle": shuffle}
    first, second = (twice.fit(X, y, epochs=2, **options).loss for _ in range(2))
    assert first + second == once.fit(X, y, epochs=4, **options).loss
    assert_same_weights(twice, once)


def test_validation_split_copies_no_samples() -> None:
    X, y = np.zeros((20000, 200), np.float32), np.arange(20000) % 3
    net = fastbp.MLP([200, 4, 3], seed=0)
    net.fit(X, y, epochs=1, validation_split=0.5)
    tracemalloc.start()
    try:
        net.fit(X, y, epochs=1, validation_split=0.5)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < X.nbytes / 4


@pytest.mark.parametrize("max_steps", [1, 3, 7, 1000])
def test_nothing_depends_on_the_length_of_chunks(max_steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, chunked, (X, y) = make(), make(), draw()
    expected = whole.fit(X, y, epochs=5, batch_size=8, validation_data=(X, y)).__dict__
    monkeypatch.setattr(tuning, "MAX_STEPS", max_steps)
    monkeypatch.setattr(tuning, "CHUNK_SECONDS", 0.0 if max_steps == 1 else 1e9)
    found = chunked.fit(X, y, epochs=5, batch_size=8, validation_data=(X, y)).__dict__
    for name in ("loss", "val_loss", "val_score", "lr", "score_name"):
        assert found[name] == expected[name]
    assert len(found["seconds"]) == 5
    assert min(found["seconds"]) > 0
    assert_same_weights(whole, chunked)


# --- validation ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cost", oracles.COSTS, ids=repr)
def test_validation_data_are_scored_after_every_epoch_and_change_nothing(cost: oracles.Cost) -> None:
    watched, plain, (X, y), held = make(cost), make(cost), draw(cost), draw(cost, 29, seed=1)
    history = watched.fit(X, y, epochs=3, batch_size=8, validation_data=held)
    assert history.score_name == ("accuracy" if cost.loss.link.classifies else "r2")
    for epoch in range(3):
        plain.fit(X, y, epochs=1, batch_size=8)
        found = plain.evaluate(*held)
        assert history.val_loss[epoch] == found["loss"]
        assert history.val_score[epoch] == found[history.score_name]
    assert_same_weights(watched, plain)
    assert plain.history.val_loss == plain.history.val_score == []


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("cost", oracles.COSTS, ids=repr)
def test_validation_split_trains_on_the_other_rows(cost: oracles.Cost, shuffle: bool) -> None:
    net, twin, (X, y) = make(cost), make(cost, cls=NumpyMLP), draw(cost)
    labels = y.ndim == 1
    history = net.fit(X, y, epochs=3, batch_size=8, validation_split=0.25, shuffle=shuffle)
    rows, held = splits.split_rows(y, 0.25, net.seed, stratify=labels)
    if not shuffle:
        rows = np.sort(rows)
    assert sorted([*rows, *held]) == list(range(ROWS))
    assert abs(len(held) - ROWS / 4) <= 1.5
    if labels:
        assert np.abs(np.bincount(y[held]) - np.bincount(y) / 4).max() <= 1
    twin.fit(
        X, y, epochs=3, batch_size=8, validation_data=(X[held], y[held]),
        order=lambda epoch: shuffled(rows, net.seed, epoch) if shuffle else rows,
    )  # fmt: skip
    assert_same_weights(net, twin, rtol=1e-9)
    assert history.val_loss[-1] == pytest.approx(net.evaluate(X[held], y[held])["loss"], rel=1e-13)


def test_a_split_in_order_trains_on_its_rows_as_they_come() -> None:
    """On a row a step, against single steps."""
    X, y = draw()
    net, twin = make(), make()
    net.fit(X, y, epochs=1, batch_size=1, optimizer=SGD(lr=0.1), validation_split=0.25, shuffle=False)
    held = set(splits.split_rows(y, 0.25, net.seed, stratify=False)[1].tolist())
    for k in range(ROWS):
        if k not in held:
            twin.train_step(X[k : k + 1], y[k : k + 1], SGD(lr=0.1))
    assert_same_weights(net, twin)


def test_classes_too_rare_to_be_held_out_are_trained_on() -> None:
    X, y = np.random.default_rng(0).standard_normal((60, 4)), np.arange(60) % 2
    y[7] = 2
    net, twin = (fastbp.MLP([4, 5, 3], seed=0) for _ in range(2))
    net.class_labels = ["ant", "bee", "cow"]
    said = (
        r"validation_split=0\.2: class cow has too few rows to hold any out: all of them are trained on \(12 of 60 rows"
    )
    with pytest.warns(UserWarning, match=said):
        history = net.fit(X, y, epochs=2, validation_split=0.2)
    rows, held = splits.split_rows(y, 0.2, net.seed, stratify=True)
    assert 7 in rows
    assert history.val_loss[-1] == pytest.approx(net.evaluate(X[held], y[held])["loss"], rel=1e-6)
    with pytest.warns(UserWarning, match="class 2 has too few rows"):
        twin.fit(X, y, epochs=2, validation_split=0.2)
    assert_same_weights(net, twin)


def test_an_ignored_label_is_no_rare_class() -> None:
    X, y = np.random.default_rng(0).standard_normal((60, 4)), np.arange(60) % 3
    y[:2] = -1
    net = fastbp.MLP([4, 5, 3], loss=losses.CrossEntropy(ignore_index=-1), seed=0)
    with pytest.warns(UserWarning, match=r": class(es)? [012](, [012])* ha(s|ve) too few rows"):
        net.fit(X[:8], y[:8], epochs=1, validation_split=0.02)


# --- stops --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("max_steps", [1, 5, 1000])
@pytest.mark.parametrize(("rows", "batch_size"), [(64, 16), (64, 32), (64, 64), (53, 8)])
def test_divergence(rows: int, batch_size: int, max_steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Told at the step that the NumPy network stops at, wherever chunks end; finished epochs stay in the history."""
    monkeypatch.setattr(tuning, "MAX_STEPS", max_steps)
    X, y = draw(rows=rows)
    net, twin = (
        cls(SIZES, loss="mse", activation="relu", dtype="float32", seed=0) for cls in (fastbp.MLP, NumpyMLP)
    )  # fmt: skip
    runs = []
    for one in (net, twin):
        with pytest.raises(DivergenceError) as caught:
            one.fit(X, y, epochs=60, batch_size=batch_size, optimizer=SGD(lr=50.0), shuffle=False)
        runs.append(caught.value)
    found, expected = runs
    assert (found.epoch, found.step, found.lr) == (expected.epoch, expected.step, 50.0)
    assert f"epoch {found.epoch}, step {found.step}, with lr=50" in str(found)
    assert found.history is net.history
    np.testing.assert_allclose(found.history.loss, expected.history.loss, rtol=1e-4)
    assert all(np.isfinite(array).all() for array in [*net.weights, *net.biases, *net.session.engine.moments])
    net.reset_optimizer()
    assert np.isfinite(net.fit(X * 0, y, epochs=2, optimizer=SGD(lr=1e-3)).loss).all()


def test_divergence_in_the_very_last_step() -> None:
    """Its own loss is finite: the weights tell."""
    net = fastbp.MLP([1, 1], loss="mse", dtype="float32", seed=0)
    before = net.weights[0]
    with pytest.raises(DivergenceError) as caught:
        net.fit(np.full((6, 1), 1e12), np.zeros(6), epochs=1, batch_size=6, optimizer=SGD(lr=1e30))
    assert (caught.value.epoch, caught.value.step) == (0, 0)
    np.testing.assert_array_equal(net.weights[0], before)


def test_divergence_advises_nothing_that_is_done_already() -> None:
    X, y = np.full((6, 1), 1e12), np.arange(6.0)
    told = []
    for scale in (lambda net: None, lambda net: net.standardize(X), lambda net: net.standardize(X, y)):
        net = fastbp.MLP([1, 1], loss="mse", seed=0)
        scale(net)
        with pytest.raises(DivergenceError) as caught:
            net.fit(X, y, epochs=3, batch_size=6, optimizer=SGD(lr=1e30), threads=1)
        told.append(caught.value.advice())
        assert caught.value.advice() in str(caught.value)
    both = "try a smaller learning rate, or scale the data by net.standardize"
    assert told == [both, both, "try a smaller learning rate"]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300])
def test_bad_number_in_a_memory_map_stops_before_its_step(value: float, tmp_path: Path) -> None:
    X, y = draw()
    X[37, 1] = value
    mapped = as_memmap(X, tmp_path)
    net, stepped = make(dtype="float32"), make(dtype="float32")
    with pytest.raises(ValueError, match=r"X\[37, 1\] is "):
        net.fit(mapped, y, epochs=1, batch_size=10, optimizer=SGD(lr=0.1), shuffle=False)
    for start in (0, 10, 20):
        stepped.train_step(X[start : start + 10], y[start : start + 10], SGD(lr=0.1))
    assert_same_weights(net, stepped)
    for use in (
        lambda: net.evaluate(mapped, y),
        lambda: net.standardize(mapped),
        lambda: net.fit(X[:9], y[:9], validation_data=(mapped, y)),
        lambda: net.fit(mapped, y, validation_split=0.9, epochs=1),
    ):
        with pytest.raises(ValueError, match=r"X\[\d+, 1\] is "):
            use()
    assert np.isfinite(net.fit(X[:30], y[:30]).loss).all()


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
def test_bad_number_in_memory_stops_before_anything(value: float) -> None:
    X, y = draw()
    X[37, 1] = value
    net, fresh = make(dtype="float32"), make(dtype="float32")
    with pytest.raises(ValueError, match=r"X\[37, 1\] is "):
        net.fit(X, y, epochs=1, batch_size=10)
    assert_same_weights(net, fresh)
    assert net.history is None


# --- the forms of data --------------------------------------------------------------------------------------


def as_memmap(X: np.ndarray, folder: Path, dtype: Any = None) -> np.memmap:
    mapped = np.memmap(folder / "X", dtype or X.dtype, "w+", shape=X.shape)
    with np.errstate(over="ignore"):
        mapped[:] = X
    mapped.flush()
    return np.memmap(folder / "X", mapped.dtype, "r", shape=X.shape)


def strided(X: np.ndarray) -> np.ndarray:
    room = np.full((3 * X.shape[0], 2 * X.shape[1]), np.nan, X.dtype)
    room[1::3, ::2] = X
    return room[1::3, ::2]


def read_only(X: np.ndarray) -> np.ndarray:
    X = X.copy()
    X.flags.writeable = False
    return X


def unaligned(X: np.ndarray) -> np.ndarray:
    made = np.zeros(X.nbytes + 1, np.uint8)[1:].view(X.dtype).reshape(X.shape)
    made[:] = X
    return made


FORMS = {
    "float32": lambda X, _: X.astype("f4"),
    "float16": lambda X, _: X.astype("f2"),
    "big-endian": lambda X, _: X.astype(">f8"),
    "uint8": lambda X, _: X.astype("u1"),
    "int64": lambda X, _: X.astype("i8"),
    "uint16": lambda X, _: X.astype("u2"),
    "Fortran": lambda X, _: np.asfortranarray(X),
    "Fortran float32": lambda X, _: np.asfortranarray(X.astype("f4")),
    "strided": lambda X, _: strided(X),
    "strided float32": lambda X, _: strided(X.astype("f4")),
    "strided uint8": lambda X, _: X.astype("u1").repeat(2, axis=1)[:, ::2],
    "negative strides": lambda X, _: X[::-1, ::-1].copy()[::-1, ::-1],
    "read-only": lambda X, _: read_only(X),
    "unaligned": lambda X, _: unaligned(X),
    "list": lambda X, _: X.tolist(),
    "memmap": as_memmap,
    "memmap float32": lambda X, folder: as_memmap(X, folder, "f4"),
    "memmap uint8, strided": lambda X, folder: as_memmap(X.repeat(2, axis=0), folder, "u1")[::2],
    "memmap int16": lambda X, folder: as_memmap(X, folder, "i2"),
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("scaled", [False, True], ids=["raw", "standardised"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_any_form_of_data_gives_the_same_training(dtype: str, scaled: bool, form: str, tmp_path: Path) -> None:
    X = np.random.default_rng(0).integers(0, 200, (ROWS, SIZES[0])).astype(float)
    y = np.random.default_rng(1).integers(0, 50, (ROWS, SIZES[-1])).astype(float)
    net, plain, given = make(dtype=dtype), make(dtype=dtype), FORMS[form](X, tmp_path)
    if scaled:
        net.standardize(given)
        plain.standardize(X)
    options = {"epochs": 2, "batch_size": 8, "optimizer": Adam(lr=0.01)}
    assert net.fit(given, FORMS[form](y, tmp_path / ".."), **options).loss == plain.fit(X, y, **options).loss
    assert_same_weights(net, plain)
    np.testing.assert_array_equal(net.predict(given), plain.predict(X))
    assert net.evaluate(given, y) == plain.evaluate(X, y)
    assert net.train_step(given, y, "adam") == plain.train_step(X, y, "adam")


# --- standardisation ----------------------------------------------------------------------------------------


def test_standardize_is_training_on_standardised_data() -> None:
    rng = np.random.default_rng(0)
    X, y = draw()
    raw, targets = X * [1e-3, 1, 1e3, 5, 0] + [0, 7, -1e3, 1e4, 3], y * [1, 100, 1e-3] + [50, 0, 2]
    net, plain = make(), make()
    net.standardize(raw, targets)
    mean, scale, y_mean, y_scale = raw.mean(0), raw.std(0), targets.mean(0), targets.std(0)
    scale[4] = 1  # a column that never changes
    held = raw[:9] + rng.standard_normal((9, 5)) * scale
    history = net.fit(raw, targets, epochs=3, batch_size=8, validation_data=(held, targets[:9]))
    expected = plain.fit(
        (raw - mean) / scale, (targets - y_mean) / y_scale, epochs=3, batch_size=8,
        validation_data=((held - mean) / scale, (targets[:9] - y_mean) / y_scale),
    )  # fmt: skip
    np.testing.assert_allclose(history.loss, expected.loss, rtol=1e-9)
    np.testing.assert_allclose(history.val_loss, expected.val_loss, rtol=1e-9)
    assert_same_weights(net, plain, rtol=1e-9)
    np.testing.assert_allclose(net.predict(held), plain.predict((held - mean) / scale) * y_scale + y_mean, rtol=1e-9)
    np.testing.assert_allclose(net.forward(held), plain.forward((held - mean) / scale), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("cost", [one for one in oracles.COSTS if not one.loss.link.can_scale_y], ids=repr)
def test_targets_of_classes_and_counts_cannot_be_standardised(cost: oracles.Cost) -> None:
    net, (X, y) = make(cost), draw(cost)
    with pytest.raises(ValueError, match=r"y can be standardised for mse, .* only"):
        net.standardize(X, y)
    assert net.scaling is None
