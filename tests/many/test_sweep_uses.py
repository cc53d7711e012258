"""Learning-rate sweeps with weights, metrics and callbacks: each run is still that of `fit`."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastbp import MLP, Adam, EarlyStopping, MaxSeconds, StopStalled, lr_sweep, schedules
from fastbp.many import halving
from fastbp.many.ledger import FINISHED, Ledger
from fastbp.many.metrics import Metric
from fastbp.many.run_spec import fresh

pytestmark = pytest.mark.filterwarnings("ignore:the best learning rate")

RATES, SEEDS = [1e-3, 1e-2, 1e-1], [4, 9]
RNG = np.random.default_rng(3)
Y = RNG.integers(0, 3, 150)
X = (RNG.standard_normal((150, 6)) + Y[:, None]).astype(np.float32)
WEIGHT = RNG.uniform(0.2, 3.0, 150)
REAL = X[:, :2] @ np.array([[1.0, 2.0], [0.5, -1.0]]) * 10


def classifier() -> MLP:
    return MLP([6, 8, 3], seed=4)


def right(y: Any, predicted: Any) -> float:
    return float((y == predicted).sum())


@pytest.mark.parametrize(
    "given",
    [
        {"sample_weight": WEIGHT},
        {"class_weight": "balanced"},
        {"class_weight": {0: 3.0}, "sample_weight": WEIGHT, "callbacks": [EarlyStopping("val_score", patience=2)]},
        {"callbacks": [EarlyStopping(patience=2)]},
        {"callbacks": [StopStalled(tol=0.02, patience=1), EarlyStopping("loss", patience=9, restore_best=False)]},
        {"callbacks": [EarlyStopping(patience=3)], "schedule": schedules.ReduceOnPlateau(0.5, patience=1)},
        {"validation_data": (X[:40], Y[:40], WEIGHT[:40]), "callbacks": [EarlyStopping(patience=1, ties="last")]},
    ],
    ids=str,
)
def test_a_run_is_that_of_fit(given: dict[str, Any]) -> None:
    found = lr_sweep(classifier(), X, Y, RATES, seeds=SEEDS, epochs=12, batch_size=16, metric="accuracy", **given)
    share = {} if "validation_data" in given else {"validation_split": 0.2}
    for (k, rate), (s, seed) in ((a, b) for a in enumerate(RATES) for b in enumerate(SEEDS)):
        net, callbacks = fresh(classifier(), seed), [dataclasses.replace(one) for one in given.get("callbacks", [])]
        options = {**given, **share, "callbacks": callbacks}
        history = net.fit(X, Y, epochs=12, batch_size=16, optimizer=Adam(rate), **options)
        n = len(history.loss)
        assert found.epochs_done[k, s] == n
        assert np.isnan(found.val_loss[k, s, n:]).all()
        assert found.train_loss[k, s, :n].tolist() == history.loss
        assert found.val_loss[k, s, :n].tolist() == history.val_loss
        assert found.val_metric is not None
        assert found.val_metric[k, s, :n] == pytest.approx(history.val_score, rel=1e-12)
        back = [one.best_epoch for one in callbacks if isinstance(one, EarlyStopping) and one.restore_best]
        assert found.kept_epoch is not None
        assert found.kept_epoch[k, s] == (back[-1] if back else n)
        assert found.final_loss[k, s] == history.val_loss[found.kept_epoch[k, s] - 1]


def test_the_rows_held_out_are_measured_as_predict_has_them() -> None:
    net = MLP([6, 8, 2], loss="mse", seed=4)
    net.standardize(X, REAL)
    held, seen = (X[:40], REAL[:40]), []

    def far(y: Any, predicted: Any) -> float:
        seen.append(np.array_equal(y, REAL[:40]))
        return float(np.abs(y - predicted).max())

    one = fresh(net, 4)
    one.fit(X, REAL, epochs=3, optimizer=Adam(0.01))
    for metric, larger in (("rmse", False), ("mae", False), ("r2", True), (far, False)):
        found = lr_sweep(
            net, X, REAL, [0.01], seeds=[4], epochs=3, validation_data=held, metric=metric, maximize=False
        )  # fmt: skip
        measure = Metric.get(metric, net.loss, maximize=False)
        assert (found.metric, found.larger) == (measure.name, larger)
        assert found.mean_metric[0] == pytest.approx(measure.of(one, *held), rel=1e-6)
        assert found.start_metric is not None
        assert found.start_metric[0] == pytest.approx(measure.of(net, *held), rel=1e-6)
    assert seen
    assert all(seen)


def test_what_is_named_decides(tmp_path: Path) -> None:
    """Of a function that likes what others call bad, the best rate is another."""

    def wrong(y: Any, predicted: Any) -> float:
        return float((y != predicted).mean())

    options: dict[str, Any] = {"seeds": 3, "epochs": 4, "batch_size": 16}
    by_loss = lr_sweep(classifier(), X, Y, RATES, **options)
    good = lr_sweep(classifier(), X, Y, RATES, metric=right, **options)
    bad = lr_sweep(classifier(), X, Y, [*RATES, 1e-6], metric=wrong, maximize=True, **options)
    same = lr_sweep(classifier(), X, Y, RATES, metric=wrong, maximize=False, **options)
    assert good.best_lr == same.best_lr == by_loss.best_lr == 0.1
    assert bad.best_lr != 0.1
    assert good.val_loss.tolist() == by_loss.val_loss.tolist()
    np.testing.assert_allclose(good.cost, -np.asarray(good.val_metric))
    text = str(good)
    assert "right" in text
    assert "val loss" in text
    assert "right" in good.overview().text()
    good.to_json(tmp_path / "sweep.json")
    kept = json.loads((tmp_path / "sweep.json").read_text())
    assert kept["metric"] == "right"
    assert kept["larger"]
    assert kept["about"]["metric"] == "right"
    assert kept["final_metric"] == good.final_metric.tolist()
    assert np.shape(kept["val_metric"]) == (3, 3, 4)
    good.to_csv(tmp_path / "sweep.csv")
    assert ",val_right," in (tmp_path / "sweep.csv").read_text().splitlines()[0]
    assert by_loss.val_metric is None
    assert by_loss.final_metric.tolist() == by_loss.final_loss.tolist()


def test_halving_keeps_what_is_best_by_the_metric() -> None:
    """The losses say the contrary: who eliminates by them keeps other rates."""
    rates, epochs = np.geomspace(1e-4, 1.0, 9), 9
    measure = Metric.get(right, classifier().loss)
    ledger = Ledger(np.repeat(rates, 2), [0, 1] * 9, epochs, measure)
    quality = 100.0 - 10.0 * np.abs(np.arange(9) - 6)  # the best is number 6
    ledger.val_metric[:] = np.repeat(quality, 2)[:, None] + np.tile([0.0, 0.5], 9)[:, None]
    ledger.val_loss[:] = ledger.val_metric / 100
    ledger.start_metric[:], ledger.start_loss[:], ledger.status[:] = 0.0, 1e9, FINISHED

    class Known:
        busy_seconds, n_threads = 0.0, 1

        def train(self, which: Any, end: int) -> bool:
            return True

    eliminated, _ = halving.halve(Known(), ledger, 2, halving.rungs(9, epochs, 3), lambda which: None)
    assert eliminated[6] == 0
    assert eliminated[8] > 0
    small = lr_sweep(classifier(), X, Y, np.geomspace(1e-4, 1.0, 9), seeds=2, epochs=9, halving=3, metric="accuracy")
    whole = lr_sweep(classifier(), X, Y, np.geomspace(1e-4, 1.0, 9), seeds=2, epochs=9, metric="accuracy")
    assert small.best_index is not None
    assert whole.in_interval[small.best_index]


def test_a_journal_and_other_processes_know_it(tmp_path: Path) -> None:
    options: dict[str, Any] = {
        "seeds": 2, "epochs": 8, "batch_size": 16, "metric": "accuracy", "sample_weight": WEIGHT,
        "class_weight": "balanced", "callbacks": [EarlyStopping(patience=1)],
    }  # fmt: skip
    path = tmp_path / "runs.jsonl"
    first = lr_sweep(classifier(), X, Y, RATES, journal=path, **options)
    lines = path.read_text().splitlines()
    again = lr_sweep(classifier(), X, Y, RATES, journal=path, **options)
    assert path.read_text().splitlines() == lines
    assert len(lines) == 1 + 6
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        elsewhere = lr_sweep(classifier(), X, Y, RATES, executor=pool, **options)
    for other in (again, elsewhere):
        for name in ("val_loss", "val_metric", "kept_epoch", "epochs_done", "status", "start_metric"):
            np.testing.assert_array_equal(getattr(other, name), getattr(first, name))
    for change in ({"metric": right}, {"class_weight": None}, {"callbacks": []}, {"sample_weight": None}):
        with pytest.raises(ValueError, match="journal"):
            lr_sweep(classifier(), X, Y, RATES, journal=path, **{**options, **change})


def test_time_is_counted_by_run() -> None:
    found = lr_sweep(classifier(), X, Y, RATES, seeds=2, epochs=1000, callbacks=[MaxSeconds(1e-9)], threads=1)
    assert (found.epochs_done == 1).all()
    assert (found.status == "finished").all()


class Mine:
    def on_epoch_end(self, state: Any) -> None:
        pass


@pytest.mark.parametrize(
    ("given", "kind", "text"),
    [
        ({"metric": "r2"}, ValueError, "does not fit"),
        ({"metric": "f1"}, ValueError, "metric"),
        ({"metric": lambda y, p: float("nan")}, ValueError, "at the initial weights of seed"),
        ({"callbacks": [Mine()]}, ValueError, "Mine: lr_sweep knows EarlyStopping"),
        ({"callbacks": EarlyStopping()}, TypeError, "callbacks must be a sequence"),
        ({"callbacks": [EarlyStopping()], "halving": 3}, ValueError, "halving=3 decides itself"),
        ({"sample_weight": np.zeros(150)}, ValueError, "at least one row"),
        ({"sample_weight": [1.0]}, ValueError, "sample_weight"),
        ({"class_weight": {7: 1.0}}, ValueError, "class_weight has the key 7"),
        ({"maximize": "no"}, TypeError, "maximize"),
    ],
)
def test_refusals(given: dict[str, Any], kind: type[Exception], text: str) -> None:
    with pytest.raises(kind, match=text):
        lr_sweep(classifier(), X, Y, RATES, seeds=2, epochs=2, **given)
