"""The range test: its steps against `fit`, its rules against formulas, its files, its picture, its command."""

from __future__ import annotations

import csv
import json
import os
import pickle
import signal
import sys
import types
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

import fastbp
from fastbp import MLP, SGD, Adam, lr_range_test
from fastbp.cli.main import main
from fastbp.engine.engine import Engine
from fastbp.many import range_run, range_test
from fastbp.many.range_data import longest_fall, slopes
from fastbp.many.range_result import RangeTest
from fastbp.many.run_spec import fresh
from fastbp.many.smoothing import Smoother

RNG = np.random.default_rng(4)
X = RNG.standard_normal((45, 4))
Y = (X[:, 0] > 0).astype(np.int64) + (X[:, 1] > 0.5)
STEPS = 5  # an epoch of 45 rows in batches of 10
NAN = float("nan")


def make(**options: Any) -> MLP:
    return MLP([4, 8, 3], seed=3, **options)


def by_fit(net: MLP, seed: int, rates: Any, optimizer: Any, **options: Any) -> MLP:
    """What a range test does with a seed, by way of `fit`."""
    twin = fresh(net, seed)
    twin.fit(X, Y, optimizer=optimizer, schedule=lambda step: float(rates[step]), **options)
    return twin


def result_of(smoothed: Any, rates: Any = None) -> RangeTest:
    """A result with these smoothed curves."""
    curves = np.atleast_2d(np.asarray(smoothed, float))
    n = curves.shape[1]
    rates = np.geomspace(1e-5, 1.0, n) if rates is None else rates
    settings = {"optimizer": "sgd", "ramp": "exponential", "batch_size": 8}
    seeds = list(range(len(curves)))
    return RangeTest(rates, curves, None, np.arange(n), curves, [""] * len(curves), seeds, settings, 0.1)


# --- rows that do not count


def ignoring(ignored: Any, **options: Any) -> tuple[MLP, Any]:
    """A network that ignores the label -1, and labels with that in some rows."""
    net = make(loss=fastbp.CrossEntropy(ignore_index=-1))
    return net, np.where(ignored, -1, Y)


def test_a_batch_in_which_nothing_counts_has_no_loss() -> None:
    net, y = ignoring(np.arange(45) % 2)
    options: dict[str, Any] = {"lr_min": 1e-9, "lr_max": 1e-8, "n_steps": 90, "batch_size": 1, "optimizer": "sgd"}
    found = lr_range_test(net, X, y, seeds=2, smoothing=0.9, **options)
    assert np.isnan(found.losses).sum(axis=1).tolist() == [44, 44]  # 22 of 45 rows, in two epochs
    begin = [fresh(net, seed).evaluate(X, y)["loss"] for seed in (3, 4)]
    np.testing.assert_allclose(np.nanmean(found.losses, axis=1), begin, rtol=1e-5)
    for losses, smoothed in zip(found.losses, found.smoothed, strict=True):
        known = np.flatnonzero(np.isfinite(losses))
        total, rest = 0.0, 1.0
        for step in known:
            total, rest = 0.9 * total + 0.1 * losses[step], 0.9 * rest
            assert smoothed[step] == pytest.approx(total / (1 - rest))
        np.testing.assert_array_equal(np.isnan(smoothed), np.arange(90) < known[0])
        held = np.maximum.accumulate(np.where(np.isfinite(losses), np.arange(90), -1))
        np.testing.assert_array_equal(smoothed[known[0] :], smoothed[held[known[0] :]])
    assert "nan" not in str(found)
    assert found.plot() is not None


def test_suggestions_where_the_first_batches_do_not_count() -> None:
    late = result_of(np.where(np.arange(40) < 8, NAN, np.linspace(2.0, 1.0, 40) ** 2))
    assert all(np.isfinite(one.value) and one.value >= late.rates[8] for one in late.suggestions.values())
    assert late.suggestions["minimum/10"].value == pytest.approx(0.0554, rel=0.01)  # 95 % of the fall are done at 0.554
    assert any("still falls" in note for note in late.notes)


def test_where_nothing_counts_there_is_no_test() -> None:
    net, y = ignoring(np.ones(45, bool))
    with pytest.raises(ValueError, match="the weights of all training rows are 0"):
        lr_range_test(net, X, y, n_steps=20)
    with pytest.raises(ValueError, match="the weights of all training rows are 0"):
        net.fit(X, y, epochs=1)
    some, labels = ignoring(np.arange(45) % 2)
    for nothing in ((X, Y, np.zeros(45)), (X, y)):
        with pytest.raises(ValueError, match="the weights of all validation rows are 0"):
            lr_range_test(some, X, labels, n_steps=20, validation_data=nothing)
    with pytest.raises(ValueError, match="the weights of all rows are 0"):
        fastbp.lr_stability(net, X, y)


def test_the_loss_before_is_that_of_rows_that_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 45 rows every fifth is looked at; were it of all, these would be the ones that are ignored."""
    net, y = ignoring(np.arange(45) % 5 == 0)
    monkeypatch.setattr(range_run, "START_ROWS", 9)
    seen: list[float] = []
    init = Smoother.__init__

    def look(self: Smoother, beta: float, k: float, skip: int, start: float) -> None:
        seen.append(start)
        init(self, beta, k, skip, start)

    monkeypatch.setattr(Smoother, "__init__", look)
    lr_range_test(net, X, y, n_steps=20, seeds=1)
    assert seen == [pytest.approx(net.evaluate(X[y >= 0][::4], y[y >= 0][::4])["loss"])]


# --- the training


@pytest.mark.parametrize("optimizer", [SGD(momentum=0.9), Adam(weight_decay=0.1)], ids=repr)
@pytest.mark.parametrize("ramp", ["exponential", "linear"])
def test_every_seed_is_a_fit_with_these_rates(optimizer: Any, ramp: str) -> None:
    net, rows = make(), np.array([10.0, 10, 10, 10, 5])
    found = lr_range_test(
        net, X, Y, lr_min=1e-4, lr_max=0.05, n_steps=6 * STEPS, ramp=ramp, batch_size=10, optimizer=optimizer,
        seeds=[7, 1],
    )  # fmt: skip
    space = np.geomspace if ramp == "exponential" else np.linspace
    np.testing.assert_array_equal(found.learning_rates, space(1e-4, 0.05, 30))
    assert found.stopped == ["", ""]
    for losses, seed in zip(found.losses, [7, 1], strict=True):
        history = by_fit(net, seed, found.learning_rates, optimizer, epochs=6, batch_size=10).history
        assert history is not None
        assert ((losses.reshape(6, STEPS) * rows).sum(axis=1) / 45).tolist() == history.loss
    assert not np.array_equal(found.losses[0], found.losses[1])


def test_full_batches_step_by_step() -> None:
    net = make(dtype="float64")
    found = lr_range_test(net, X, Y, lr_max=0.1, n_steps=40, batch_size=100, optimizer="sgd", seeds=1)
    history = by_fit(net, 3, found.learning_rates, "sgd", epochs=40, batch_size=100).history
    assert history is not None
    assert found.losses[0].tolist() == history.loss
    assert found.settings["batch_size"] == 45


def test_the_network_and_the_random_state_stay_as_they_are() -> None:
    net = make()
    net.fit(X, Y, epochs=3, optimizer="adam")
    net.standardize(X)
    before, state = pickle.dumps(net), np.random.get_state()[1].tolist()  # noqa: NPY002
    first = lr_range_test(net, X, Y, n_steps=100, validation_data=(X, Y))
    assert pickle.dumps(net) == before
    assert np.random.get_state()[1].tolist() == state  # noqa: NPY002
    again = lr_range_test(net, X, Y, n_steps=100, validation_data=(X, Y))
    np.testing.assert_array_equal(first.losses, again.losses)
    twin, control = net.copy(), pickle.loads(before)
    np.testing.assert_array_equal(twin.fit(X, Y, epochs=2).loss, control.fit(X, Y, epochs=2).loss)


def test_moments_of_the_network_play_no_part() -> None:
    net = make()
    net.fit(X, Y, epochs=2, optimizer="adam")
    other = make()
    other.set_weights(net.weights, net.biases)
    a, b = (lr_range_test(one, X, Y, n_steps=60, fresh=False) for one in (net, other))
    np.testing.assert_array_equal(a.losses, b.losses)
    # Where all rows are in a batch, its order does not matter; otherwise the network's weights are not used.
    full = lr_range_test(net, X, Y, n_steps=60, batch_size=45, fresh=False)
    np.testing.assert_allclose(full.losses[0, :20], full.losses[1, :20], rtol=1e-4)
    anew = lr_range_test(net, X, Y, n_steps=60)
    np.testing.assert_array_equal(anew.losses, lr_range_test(make(), X, Y, n_steps=60).losses)
    assert not np.isclose(anew.losses[0, 0], a.losses[0, 0])


def test_neither_threads_nor_chunks_change_a_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    options: dict[str, Any] = {"n_steps": 200, "lr_max": 100.0, "batch_size": 20, "optimizer": "sgd"}
    one = lr_range_test(make(), X, Y, threads=1, **options)
    two = lr_range_test(make(), X, Y, threads=2, **options)
    monkeypatch.setattr(range_run, "MOST_CHUNK", 3)
    three = lr_range_test(make(), X, Y, **options)
    assert any(one.stopped)
    for other in (two, three):
        np.testing.assert_array_equal(one.losses, other.losses)
        np.testing.assert_array_equal(one.smoothed, other.smoothed)
        assert one.stopped == other.stopped


def test_held_out_losses_are_those_of_fit() -> None:
    net = make(dtype="float64")
    held = X[:20] + 0.1, Y[:20]
    found = lr_range_test(
        net, X, Y, lr_max=0.1, n_steps=60, batch_size=45, optimizer="sgd", seeds=[5], validation_data=held,
        validation_every=3,
    )  # fmt: skip
    twin = by_fit(net, 5, found.learning_rates, "sgd", epochs=60, batch_size=45, validation_data=held)
    assert twin.history is not None
    assert found.held_out is not None
    assert found.steps.tolist() == list(range(2, 60, 3))
    assert found.held_out[0].tolist() == twin.history.val_loss[2::3]
    assert found.losses[0].tolist() == twin.history.loss
    beta, mean = (1 - 25 / 60) ** 3, 0.0
    for number, (loss, smooth) in enumerate(zip(found.held_out[0], found.smoothed[0], strict=True), 1):
        mean = beta * mean + (1 - beta) * loss
        assert smooth == pytest.approx(mean / (1 - beta**number), rel=1e-12)


def test_how_often_held_out_rows_are_looked_at() -> None:
    assert range_test._every(None, 10, 32, 500) == 1
    assert range_test._every(None, 960, 32, 500) == 10  # 960 rows forward cost as much as 320 rows of training
    assert range_test._every(None, 10**6, 32, 500) == 25  # 20 points
    assert range_test._every(25, 10, 32, 500) == 25


# --- the rule to stop


def test_smoothing_is_a_bias_corrected_mean() -> None:
    smoother, mean = Smoother(0.9, 4.0, 0, 10.0), 0.0
    for number, loss in enumerate([3.0, 2.0, 2.5, 1.0], 1):
        mean = 0.9 * mean + 0.1 * loss
        assert smoother.add(loss)[0] == pytest.approx(mean / (1 - 0.9**number))
    assert Smoother(0.9, 4.0, 0, 10.0).add(3.0) == (pytest.approx(3.0), "")


@pytest.mark.parametrize(
    ("start", "losses", "limit"),
    [
        (2.0, [1.0], 4.0),  # 4 best
        (2.0, [-1.0], 2.0),  # best + 3 |best|
        (2.0, [0.0], 0.6),  # best + 3 eps, eps a tenth of the first
        (-2.0, [-0.1], 4.0),  # the start counts as best
    ],
)
def test_the_limit_is_right_for_any_sign(start: float, losses: list[float], limit: float) -> None:
    for factor, stops in ((1 - 1e-9, False), (1 + 1e-9, True)):
        smoother = Smoother(0.0, 4.0, 0, start)
        assert [smoother.add(loss)[1] for loss in losses] == [""] * len(losses)
        assert bool(smoother.add(limit * factor)[1]) is stops


def test_the_first_points_stop_nothing_but_what_is_not_finite() -> None:
    smoother = Smoother(0.0, 2.0, 3, 1.0)
    assert [bool(smoother.add(9.0)[1]) for _ in range(5)] == [False, False, False, True, True]
    assert Smoother(0.0, 2.0, 3, 1.0).add(float("inf")) == (pytest.approx(NAN, nan_ok=True), "not finite")
    assert Smoother(0.0, 2.0, 0, NAN).add(1e30)[1] == ""  # nothing to compare with


def test_it_stops_where_the_loss_climbs_and_where_it_ends() -> None:
    net = MLP([4, 1], loss="mse", seed=0, dtype="float64")
    y = X @ [1.0, -2.0, 0.5, 0.1]
    climbed = lr_range_test(net, X, y, lr_max=1e9, n_steps=200, optimizer="sgd", batch_size=45, seeds=2)
    ended = lr_range_test(net, X, y, lr_max=1e9, n_steps=200, optimizer="sgd", batch_size=45, seeds=2, k=1e300)
    for found, reason in ((climbed, ": above "), (ended, ": not finite")):
        for losses, smoothed, text in zip(found.losses, found.smoothed, found.stopped, strict=True):
            assert reason in text
            last = int(np.flatnonzero(~np.isnan(losses))[-1])
            assert 20 < last < 199
            assert np.isnan(losses[last + 1 :]).all()
            assert np.isfinite(losses[: last + 1]).all()
            assert np.isfinite(smoothed[:last]).all()
    assert np.isnan(ended.losses).sum() < np.isnan(climbed.losses).sum()
    held = lr_range_test(
        net, X, y, lr_max=1e9, n_steps=200, optimizer="sgd", batch_size=45, seeds=1, validation_data=(X, y), k=1e300
    )
    assert held.held_out is not None
    assert "not finite" in held.stopped[0]
    assert np.isnan(held.held_out[0, -1])


def test_a_negative_loss_is_followed_to_its_minimum() -> None:
    rates = np.exp(2.0 + X[:, 0])
    net = MLP([4, 8, 1], loss="poisson", seed=0)
    found = lr_range_test(net, X, RNG.poisson(rates), n_steps=300, batch_size=45, lr_max=100.0)
    assert np.nanmin(found.mean) < -5
    assert all(": above -" in text for text in found.stopped)
    best = np.nanmin(found.mean)
    assert all(np.nanmax(curve[np.nanargmin(curve) :]) > best / 2 for curve in found.smoothed)  # it saw the climb
    assert 1e-3 < found.suggestions["valley"].value < 1.0


# --- the suggestions


def test_suggestions_of_a_known_curve() -> None:
    u = np.linspace(np.log(1e-5), 0.0, 401)
    curve = 1 / (1 + np.exp((u - np.log(1e-3)) / 0.5)) + np.exp(4 * (u - np.log(0.5)))
    result = result_of(curve, np.exp(u))
    found, bounds = result.suggestions, result.bounds
    assert found["steepest"].value == pytest.approx(1e-3, rel=0.1)
    # Strictly decreasing from the first tenth on, up to where 95 % of the fall are done.
    done = int(np.argmax(curve <= curve[40] - 0.95 * (curve[40] - curve.min())))
    fall = np.arange(40, done + 1)
    assert found["minimum/10"].value == pytest.approx(np.exp(u[done]) / 10)
    assert found["valley"].value == pytest.approx(np.exp(u[fall[-(-2 * len(fall) // 3) - 1]]))
    begins = int(np.argmax(curve <= curve[40] - 0.05 * (curve[40] - curve.min())))
    assert (bounds["lower"].value, bounds["upper"].value) == pytest.approx(tuple(np.exp(u[[begins, done]])), rel=0.03)
    for one in [*found.values(), *bounds.values()]:
        assert one.low == one.high == one.by_seed[0]
        assert one.formula
        assert one.source


def test_a_network_that_has_learnt_all_does_not_mislead() -> None:
    """A fall from 0.001 to 0.02, and then nothing but noise near zero up to a rate of 1: as wine has it."""
    u = np.linspace(np.log(1e-5), np.log(3.0), 500)
    fall = 1 / (1 + np.exp((u - np.log(4e-3)) / 0.4))
    noise = 0.003 * np.random.default_rng(1).standard_normal(500)
    curve = fall + np.where(u > np.log(0.05), noise, 0.0) + np.exp(4 * (u - np.log(2.0)))
    found = result_of(curve, np.exp(u))
    assert np.exp(u[curve.argmin()]) > 0.04
    for one in found.suggestions.values():
        assert 1e-3 < one.value < 0.02
    assert 3e-4 < found.bounds["lower"].value < 4e-3 < found.bounds["upper"].value < 0.03


def test_a_fall_within_the_noise_tells_nothing() -> None:
    rng = np.random.default_rng(2)
    raw = 1.0 + 0.1 * rng.standard_normal(400)
    smoothed, rate = [], 0.06
    total = rest = 0.0
    for loss in raw:
        total, rest = (1 - rate) * total + rate * loss, (1 - rate) * rest + rate
        smoothed.append(total / rest)
    rates = np.geomspace(1e-5, 1.0, 400)
    settings = {"optimizer": "sgd", "ramp": "exponential", "batch_size": 8, "smoothing": 1 - rate}
    flat = RangeTest(rates, raw[None], None, np.arange(400), np.array([smoothed]), [""], [0], settings, 0.1)
    assert np.isnan(flat.suggestions["valley"].value)
    assert np.isnan(flat.bounds["upper"].value)
    falling = np.array([smoothed]) - np.linspace(0.0, 0.5, 400) ** 2
    told = RangeTest(rates, raw[None], None, np.arange(400), falling, [""], [0], settings, 0.1)
    assert np.isfinite(told.suggestions["valley"].value)


def test_the_length_that_a_suggestion_stands_for() -> None:
    """The sum of the rates up to it, at that rate: n_steps / ln(lr_max / lr_min) on an exponential ramp."""
    curve = np.linspace(2.0, 1.0, 500)
    found = result_of(curve, np.geomspace(1e-6, 10.0, 500))
    for one in (found.suggestions["valley"], found.bounds["upper"]):
        assert one.steps == pytest.approx(500 / np.log(1e7), rel=0.05)
    straight = result_of(curve, np.linspace(1e-6, 1.0, 500)).bounds["upper"]
    assert straight.steps == pytest.approx(0.5 * 500 * straight.value, rel=0.02)


def test_the_steepest_point_lies_before_the_minimum() -> None:
    """A spike that recovers falls faster than the descent."""
    curve = np.concatenate([np.linspace(2.0, 1.0, 60), [1.1, 1.5, 3.0, 1.6, 1.2], np.full(35, 1.1)])
    assert result_of(curve).suggestions["steepest"].value <= result_of(curve).rates[59]


def test_slopes_reach_to_both_sides() -> None:
    rates = np.geomspace(1e-3, 1.0, 50)
    np.testing.assert_allclose(slopes(rates, 3.0 * np.log(rates), 4), 3.0)
    np.testing.assert_allclose(slopes(np.linspace(0.1, 1, 30), np.log(np.linspace(0.1, 1, 30)), 2), 1.0)


def test_the_longest_fall_against_brute_force() -> None:
    for n in (1, 2, 5, 30):
        for _ in range(20):
            losses = RNG.integers(0, 12, n).astype(float)  # with ties
            lengths = np.ones(n, int)
            for i in range(n):
                lengths[i] = 1 + max((lengths[j] for j in range(i) if losses[j] > losses[i]), default=0)
            fall = longest_fall(losses)
            assert len(fall) == lengths.max()
            assert fall == sorted(fall)
            assert (np.diff(losses[fall]) < 0).all()


def test_the_median_and_the_spread_over_seeds() -> None:
    n = 200
    u = np.linspace(0.0, 1.0, n)
    curves = [np.abs(u - place) for place in (0.5, 0.6, 0.8)]
    found = result_of(curves)
    tenths = [
        found.rates[int(np.argmax(curve <= curve[20] - 0.95 * (curve[20] - curve.min())))] / 10 for curve in curves
    ]
    one = found.suggestions["minimum/10"]
    assert (one.low, one.value, one.high) == (tenths[0], pytest.approx(tenths[1]), tenths[2])
    assert one.by_seed.tolist() == tenths
    assert "seeds disagree" in " ".join(found.notes)


def test_what_never_falls_suggests_nothing() -> None:
    found = result_of([np.linspace(1.0, 2.0, 50), np.linspace(1.0, 3.0, 50)])
    assert all(np.isnan(one.value) for one in found.suggestions.values())
    assert found.notes[0].startswith("cannot tell: the smoothed loss does not fall")
    assert str(found).count("cannot tell  ") == 5
    half = result_of([np.linspace(1.0, 2.0, 50), np.linspace(2.0, 1.0, 50)]).suggestions["valley"]
    assert np.isnan(half.value)
    assert half.low == half.high > 0
    assert "raise lr_max" in result_of(np.linspace(2.0, 1.0, 50)).notes[0]
    creeping = result_of(np.r_[np.linspace(2.0, 0.02, 25), np.linspace(0.0199, 0.001, 25)])  # all is learnt half-way
    assert "raise lr_max" not in " ".join(creeping.notes)
    assert f"lr={creeping.bounds['upper'].value:.3g}" in creeping.notes[-1]
    assert np.isnan(result_of(np.r_[1.0, np.full(49, NAN)]).suggestions["steepest"].value)


def test_mean_and_band() -> None:
    found = result_of([[3.0] * 20 + [2.0] * 20, [1.0] * 20 + [NAN] * 20])
    assert found.mean[:20].tolist() == [2.0] * 20
    assert np.isnan(found.mean[20:]).all()
    low, high = found.band
    assert (low[0], high[0], low[30], high[30]) == (1.0, 3.0, 2.0, 2.0)


def test_on_the_digits_the_suggestions_train_well() -> None:
    features, labels = fastbp.datasets.load_digits()
    net = MLP([64, 64, 10], seed=0)
    found = lr_range_test(net, features, labels)
    assert "trainings of about 31 steps" in " ".join(found.notes)
    assert len(found.notes) == 2
    for one in found.suggestions.values():
        assert 3e-4 < one.low <= one.value <= one.high < 3e-2
        loss = net.copy().fit(features, labels, epochs=3, optimizer=Adam(lr=one.value)).loss[-1]
        assert loss < 0.5


# --- text, files, picture


@pytest.fixture(scope="module")
def found() -> RangeTest:
    return lr_range_test(make(), X, Y, n_steps=80, lr_max=1e4, optimizer="sgd", seeds=2, validation_data=(X, Y))


def test_files(found: RangeTest, tmp_path: Path) -> None:
    found.to_csv(tmp_path / "r.csv")
    rows = list(csv.DictReader((tmp_path / "r.csv").read_text(encoding="utf-8").splitlines()))
    assert len(rows) == 80
    for name, column in found.columns().items():
        cells = np.array([float(row[name]) if row[name] else NAN for row in rows])
        np.testing.assert_array_equal(cells, column)
    assert {"step", "lr", "mean", "low", "high", "loss_3", "held_out_4", "smoothed_4"} <= set(rows[0])
    found.to_json(tmp_path / "r.json")
    read = json.loads((tmp_path / "r.json").read_text(), parse_constant=pytest.fail)
    assert read["suggestions"]["valley"]["value"] == found.suggestions["valley"].value
    assert read["settings"]["held_out_rows"] == 45
    assert read["losses"][0][0] == found.losses[0, 0]
    assert None in read["losses"][0]  # it has stopped


def test_text(found: RangeTest) -> None:
    text = str(found)
    for part in ("range test of sgd", "exponential", "held-out", "steepest", "minimum/10", "valley", "stopped: 2 of 2"):
        assert part in text
    assert f"{found.suggestions['valley'].value:.3g}" in text


def test_data_frame(found: RangeTest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match="pip install pandas"):
        found.to_dataframe()
    made: list[Any] = []
    monkeypatch.setitem(sys.modules, "pandas", types.SimpleNamespace(DataFrame=made.append))  # type: ignore[arg-type]
    found.to_dataframe()
    assert list(made[0]) == list(found.columns())


def test_picture(found: RangeTest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figure = found.plot(tmp_path / "r.png")
    assert (tmp_path / "r.png").read_bytes().startswith(b"\x89PNG")
    (axes,) = figure.axes
    labels = axes.get_legend_handles_labels()[1]
    assert sum(label.startswith(("steepest", "minimum/10", "valley")) for label in labels) == 3
    assert axes.get_xscale() == "log"
    assert axes.collections  # the band
    nothing = result_of(np.full((1, 30), NAN)).plot()  # stopped at once
    assert len(nothing.axes[0].get_legend_handles_labels()[1]) == 2
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"fastbp\[plot\]"):
        found.plot()


# --- arguments, data, interruption


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"lr_min": 0.0}, ValueError, "lr_min must be a positive"),
        ({"lr_max": 1e-7}, ValueError, "lr_min must be below lr_max, got lr_min=1e-06 and lr_max=1e-07"),
        ({"n_steps": 19}, ValueError, "n_steps must be at least 20, got 19"),
        ({"n_steps": 50.0}, TypeError, "n_steps"),
        ({"ramp": "linar"}, ValueError, "did you mean 'linear'"),
        ({"batch_size": 0}, ValueError, "batch_size"),
        ({"optimizer": "adm"}, ValueError, "did you mean 'adam'"),
        ({"smoothing": 1.0}, ValueError, "smoothing must be a number in"),
        ({"k": 1.0}, ValueError, "k must be above 1, got 1.0"),
        ({"seeds": 0}, ValueError, "seeds must be a positive integer"),
        ({"seeds": "12"}, TypeError, "seeds must be a positive integer"),
        ({"seeds": []}, ValueError, "seeds must be"),
        ({"seeds": [1, 1]}, ValueError, "seeds must be different"),
        ({"seeds": [-1]}, ValueError, "seed must be"),
        ({"threads": 0}, ValueError, "threads"),
        ({"validation_data": X}, TypeError, "validation_data must be a pair"),
        ({"validation_data": (X[:, :2], Y)}, ValueError, "validation X"),
        ({"validation_data": (X, Y), "validation_every": 26}, ValueError, "at most 25 for 500 steps, got 26"),
        ({"validation_every": 2}, ValueError, "needs validation_data"),
        ({"X": X[:, :3]}, ValueError, "X has 3 columns"),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    net = make()
    before = pickle.dumps(net)
    with pytest.raises(error, match=message):
        lr_range_test(net, **{"X": X, "y": Y, **arguments})
    assert pickle.dumps(net) == before


def test_seeds_are_those_of_a_sweep() -> None:
    """Weights and order both, from the network's own seed on."""
    options: dict[str, Any] = {"optimizer": "sgd", "seeds": 2}
    found = lr_range_test(make(), X, Y, n_steps=20, lr_min=1e-9, lr_max=1e-8, batch_size=45, **options)
    sweep = fastbp.lr_sweep(make(), X, Y, [1e-9], epochs=1, validation_data=(X, Y), **options)
    assert found.seeds == sweep.seeds.tolist() == [3, 4]
    assert found.losses[:, 0] == pytest.approx(sweep.start_loss)
    assert lr_range_test(make(), X, Y, n_steps=20, seeds=(5, np.int64(2))).seeds == [5, 2]


def test_a_memory_map_with_nan_is_refused_by_its_row(tmp_path: Path) -> None:
    bad = X.copy()
    bad[33, 2] = NAN
    np.save(tmp_path / "x.npy", bad)
    with pytest.raises(ValueError, match=r"X\[33, 2\] is nan"):
        lr_range_test(make(), np.load(tmp_path / "x.npy", mmap_mode="r"), Y, n_steps=50)


@pytest.mark.skipif(sys.platform == "win32", reason="os.kill ends the process there")
def test_ctrl_c_leaves_the_network_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    net = make()
    before = pickle.dumps(net)
    call, calls = Engine.call, []

    def interrupted(*arguments: Any, **options: Any) -> int:
        calls.append(arguments)
        if len(calls) == 5:
            os.kill(os.getpid(), signal.SIGINT)
        return call(*arguments, **options)

    monkeypatch.setattr(Engine, "call", interrupted)
    with pytest.raises(KeyboardInterrupt):
        lr_range_test(net, X, Y, n_steps=5_000_000, lr_max=1e-5)
    assert len(calls) == 5
    assert pickle.dumps(net) == before
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_the_bar_counts_the_steps_of_all_seeds(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    monkeypatch.setattr("rich.progress.Progress.update", lambda self, task, completed, **_: seen.append(completed))
    lr_range_test(make(), X, Y, n_steps=100, lr_max=1e-3, seeds=2)
    assert not seen
    lr_range_test(make(), X, Y, n_steps=100, lr_max=1e-3, seeds=2, progress=True)
    assert seen == sorted(seen)
    assert seen[-1] == 200


# --- the command


def run(*arguments: object) -> Any:
    return CliRunner().invoke(main, ["range-test", *map(str, arguments)])


def test_command_on_the_digits(tmp_path: Path) -> None:
    picture, table = tmp_path / "f.png", tmp_path / "f.csv"
    result = run("--hidden", "16", "--steps", 100, "--seeds", 2, "--plot", picture, "--csv", table)
    assert result.exit_code == 0, result.output
    for part in ("embedded digits", "64-16-10", "1e-06 to 10 in 100 steps", "2 seeds", "steepest", "upper"):
        assert part in result.stdout
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert len(table.read_text().splitlines()) == 101


def test_command_as_json_is_the_library(tmp_path: Path) -> None:
    rows = RNG.standard_normal((60, 2))
    lines = [f"{a:.6f},{b:.6f},{a - b:.6f}" for a, b in rows]
    path = tmp_path / "t.csv"
    path.write_text("\n".join(["a,b,goal", *lines, ""]))
    result = run(
        path, "--target", "goal", "--hidden", "5", "--optimizer", "sgd", "--lr", "1e-4:1", "--steps", 60, "--seed", 3,
        "--batch-size", 16, "--smoothing", 0.8, "--ramp", "linear", "--held-out", "--json",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    read = json.loads(result.stdout)
    from fastbp.cli import build
    from fastbp.cli.defaults import complete
    from fastbp.cli.load import subject
    from fastbp.cli.train import train

    words = f"{path} --target goal --hidden 5 --optimizer sgd --batch-size 16 --seed 3".split()
    settings = SimpleNamespace(**train.make_context("train", words).params)
    hyper = complete(settings)
    found = subject(settings, hyper, build.optimizer(settings, hyper))
    prepared = found.prepared
    assert prepared.X_test is not None
    assert prepared.y_test is not None
    ours = lr_range_test(
        found.net, prepared.X_train, prepared.y_train, lr_min=1e-4, lr_max=1.0, n_steps=60, ramp="linear",
        batch_size=16, optimizer="sgd", smoothing=0.8, validation_data=(prepared.X_test, prepared.y_test),
    ).document()  # fmt: skip
    for name in ("learning_rates", "losses", "held_out", "smoothed", "suggestions", "settings", "stopped"):
        assert read[name] == ours[name]
    assert (read["sizes"], read["loss"]) == ([2, 5, 1], "mse")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--lr", "1e-3"], "'1e-3' is not a range such as 1e-6:10"),
        (["--lr", "1:0.1"], "from the lower to the higher"),
        (["--lr", "0:1"], "is not a range"),
        (["--plot", "f.txt"], "must end in .png"),
        (["--csv", "nowhere/f.csv"], "does not exist"),
        (["--optimizer", "adm"], "did you mean 'adam'"),
        (["--steps", "3"], "--steps"),
    ],
)
def test_wrong_usage(arguments: list[str], message: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.split())


def test_weights_act_and_a_metric_is_the_curve() -> None:
    rng = np.random.default_rng(3)
    y = rng.integers(0, 3, 150)
    X = (rng.standard_normal((150, 6)) + 2 * y[:, None]).astype(np.float32)
    net = MLP([6, 8, 3], seed=4)
    how: dict[str, Any] = {"n_steps": 60, "seeds": [4], "lr_min": 1e-4, "lr_max": 1.0}
    weight = rng.uniform(0.2, 3.0, 150)
    found = lr_range_test(net, X, y, sample_weight=weight, class_weight={0: 2.0}, **how)
    same = lr_range_test(net, X, y, sample_weight=np.where(y == 0, 2.0, 1.0) * weight, **how)
    np.testing.assert_array_equal(found.losses, same.losses)
    assert not np.array_equal(found.losses, lr_range_test(net, X, y, **how).losses)
    how |= {"validation_data": (X, y), "validation_every": 2, "smoothing": 0.0}
    plain = lr_range_test(net, X, y, **how)

    def right(targets: Any, predicted: Any) -> float:
        assert targets is not None
        assert len(targets) == 150
        return float((targets == predicted).sum())

    by_name, by_function = (lr_range_test(net, X, y, metric=one, **how) for one in ("accuracy", right))
    for one, curve in ((by_name, lambda m: 1.0 - m), (by_function, lambda m: -m)):
        assert one.metric is not None
        n = int(np.isfinite(one.smoothed[0]).sum())
        assert n > 5
        np.testing.assert_allclose(one.smoothed[0, :n], curve(one.metric[0, :n]), rtol=1e-12)
        assert one.held_out is not None
        assert plain.held_out is not None
        m = min(n, int(np.isfinite(plain.held_out[0]).sum()))
        np.testing.assert_array_equal(one.held_out[0, :m], plain.held_out[0, :m])
    np.testing.assert_allclose(by_function.metric, 150 * np.asarray(by_name.metric))
    assert "held-out 1 - accuracy" in str(by_name)
    assert "accuracy_4" in by_name.columns()
    assert by_name.draw().axes[0].get_ylabel() == "1 - accuracy on held-out data"
    with pytest.raises(ValueError, match="needs validation_data"):
        lr_range_test(net, X, y, metric="accuracy")
