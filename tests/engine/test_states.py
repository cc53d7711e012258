"""What a network remembers: broken states are refused whole, histories may end unevenly, copies stand alone."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastbp
from fastbp import MLP, SGD, Checkpoint, History, LayerStatistics, StopGradientNorm
from fastbp.io import model_files

RNG = np.random.default_rng(8)
X, Y = RNG.standard_normal((60, 6)), np.arange(60) % 3


def trained(**options: Any) -> MLP:
    net = MLP([6, 8, 3], seed=0, **options)
    net.fit(X, Y, epochs=1)
    return net


def broken() -> dict[str, dict[str, Any]]:
    good, other = trained().optimizer_state(), MLP([6, 9, 3], seed=0)
    other.fit(X, Y, epochs=1)
    return {
        "no moments": good | {"moments": []},
        "one moment": good | {"moments": good["moments"][:1]},
        "moments without a layout": good | {"layout": None},
        "another shape": other.optimizer_state(),
        "negative steps": good | {"steps": -1},
        "nothing": {},
        "no layout": {name: value for name, value in good.items() if name != "layout"},
        "half a moment": good | {"moments": [{"weights": []}, {"weights": []}]},
    }


@pytest.mark.parametrize("case", broken())
def test_a_broken_optimizer_state_changes_nothing(case: str) -> None:
    net = MLP([6, 8, 3], seed=0)
    net.fit(X, Y, epochs=1, optimizer=SGD(lr=0.1, momentum=0.9))
    before = net.optimizer_state()
    with pytest.raises(ValueError, match=r"optimizer|weights"):
        net.load_optimizer_state(broken()[case])
    now = net.optimizer_state()
    assert now["layout"] == before["layout"]
    np.testing.assert_array_equal(now["moments"][0]["weights"][0], before["moments"][0]["weights"][0])


def test_a_file_with_too_few_moments_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    trained().save(path)
    tensors, description = model_files.load(path)
    description["optimizer"]["moments"] = description["optimizer"]["moments"][:1]
    model_files.save(path, tensors, description)
    with pytest.raises(ValueError, match="1 moments instead of 2"):
        fastbp.load(path)


def test_a_history_whose_last_validation_was_interrupted(tmp_path: Path) -> None:
    history = History("accuracy", loss=[3.0, 2.0], val_loss=[2.5], val_score=[0.5], lr=[0.1, 0.1], seconds=[1.0, 1.0])
    history.to_csv(tmp_path / "h.csv")
    lines = (tmp_path / "h.csv").read_text().splitlines()
    assert lines[2] == "2,2.0,,,0.1,1.0"
    history.to_json(tmp_path / "h.json")
    assert json.loads((tmp_path / "h.json").read_text())["val_loss"] == [2.5, None]
    history.plot(tmp_path / "h.png")
    assert math.isnan(history.columns()["val_loss"][1])


def test_a_copy_has_a_history_of_its_own() -> None:
    net = trained()
    twin = net.copy()
    assert twin.history is not net.history
    assert twin.history == net.history


@pytest.mark.parametrize("name", ["losses", "optimizers", "activations", "callbacks", "schedules"])
def test_modules_are_there_at_once(name: str) -> None:
    subprocess.run([sys.executable, "-c", f"import fastbp; fastbp.{name}"], check=True, capture_output=True)


def test_layer_statistics_take_what_fit_takes() -> None:
    labels = Y.copy()
    labels[:5] = -1
    net = MLP([6, 8, 3], loss=fastbp.CrossEntropy(ignore_index=-1), dropout=0.5, seed=0)
    looks = [LayerStatistics(X, labels), LayerStatistics(X, labels)]
    net.fit(X, labels, epochs=1, callbacks=looks)
    exact = net.backprop(X, labels, training=False)
    norm = math.hypot(np.linalg.norm(exact.weights[0]), np.linalg.norm(exact.biases[0]))
    assert looks[0].records[0]["gradient_norm"] == pytest.approx(norm, rel=1e-5)


def test_the_gradients_norm_is_that_of_the_whole_cost() -> None:
    """At the minimum of J + penalty it is the gradient of the sum that vanishes."""
    net = MLP([6, 3], l2=0.1, dtype="float64", seed=0)
    optimizer = SGD(lr=0.5, weight_decay=0.05)
    history = net.fit(
        X, Y, epochs=3000, batch_size=60, optimizer=optimizer, callbacks=[StopGradientNorm(1e-9, every=10)]
    )
    assert history.stop_reason.startswith("StopGradientNorm")
    gradient = net.backprop(X, Y)
    total = gradient.weights[0] + (2 * 0.1 + 0.05) * net.weights[0]
    assert np.abs(total).max() < 1e-8
    assert np.abs(gradient.weights[0]).max() > 1e-3


class Stateful:
    def __init__(self, state: Any) -> None:
        self.state = state

    def on_epoch_end(self, state: Any) -> None:
        pass

    def state_dict(self) -> Any:
        return self.state

    def load_state_dict(self, state: Any) -> None:
        self.state = state


@pytest.mark.parametrize("state", [{"seen": {1, 2}}, {1: "a"}, {"deep": [{2: 3}]}, {"what": object()}])
def test_a_state_that_cannot_be_saved_is_found_before_the_training(state: Any, tmp_path: Path) -> None:
    net = MLP([6, 8, 3], seed=0)
    with pytest.raises(TypeError, match=r"state_dict\(\) of Stateful"):
        net.fit(X, Y, callbacks=[Stateful(state), Checkpoint(tmp_path / "run")])
    assert net.optimizer_state()["steps"] == 0


def test_a_bad_schedule_is_found_before_anything_changes() -> None:
    net = trained()
    before, history = net.optimizer_state(), net.history
    with pytest.raises(ValueError, match="schedule"):
        net.fit(X, Y, optimizer="sgd", schedule=lambda step: -1.0)
    assert net.optimizer_state()["steps"] == before["steps"]
    assert net.history is history


def test_dropout_may_be_an_array_and_the_summary_tells() -> None:
    net = MLP([6, 8, 8, 3], dropout=np.array([0.1, 0.2]), max_norm=2.0, seed=0)
    assert net.regularization.dropout == (0.1, 0.2)
    assert "dropout 0.2, max norm 2" in net.summary()


def test_a_schedule_at_its_end_is_worth_a_warning() -> None:
    net = MLP([6, 8, 3], seed=0)
    net.fit(X, Y, epochs=3, schedule=fastbp.schedules.Cosine(3))
    with pytest.warns(UserWarning, match="is at its end: the learning rate is 0"):
        net.fit(X, Y, epochs=3, schedule=fastbp.schedules.Cosine(3))
    net.reset_optimizer()
    net.fit(X, Y, epochs=3, schedule=fastbp.schedules.Cosine(3))


ENDED = [
    fastbp.schedules.OneCycle(3),
    fastbp.schedules.Polynomial(3),
    fastbp.schedules.Polynomial(3, power=2.0, end=1e-6),
    fastbp.schedules.Exponential(0.01),
    fastbp.schedules.Warmup(1, fastbp.schedules.OneCycle(2)),
]


@pytest.mark.parametrize("schedule", ENDED, ids=repr)
def test_so_is_one_that_leaves_next_to_nothing(schedule: Any) -> None:
    net = MLP([6, 8, 3], seed=0)
    net.fit(X, Y, epochs=3, schedule=schedule)
    with pytest.warns(UserWarning, match=r"is at its end: the learning rate is (0|\d.*e-\d\d)\. It counts"):
        net.fit(X, Y, epochs=3, schedule=schedule)


def test_a_small_rate_is_none_of_that() -> None:
    net = MLP([6, 8, 3], seed=0)
    for _ in range(2):
        net.fit(X, Y, epochs=3, optimizer=SGD(1e-9), schedule=fastbp.schedules.Cosine(3, end=1e-3))
