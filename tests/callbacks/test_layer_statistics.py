"""Statistics of layers, against the network's own outputs and gradients, and against networks made sick on purpose."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastbp import MLP, SGD, activations
from fastbp.callbacks import Checkpoint, LayerStatistics, MaxSeconds

RNG = np.random.default_rng(8)
X = RNG.standard_normal((60, 5))
Y = RNG.integers(0, 3, 60)


def look(net: MLP, X: Any = X, y: Any = Y, **options: Any) -> list[dict[str, Any]]:
    """Records after one epoch that changes nothing."""
    watching = LayerStatistics(X, y)
    net.fit(X, y, epochs=1, optimizer=SGD(lr=0.0), callbacks=[watching], **options)
    return watching.records


@pytest.mark.parametrize("activation", activations.ACTIVATIONS)
def test_figures_are_those_of_the_network(activation: str) -> None:
    net = MLP([5, 7, 6, 3], activation=activation, dtype="float64", seed=0)
    net.standardize(X * 3 + 1)
    records = look(net, X * 3 + 1)
    assert [(r["epoch"], r["layer"], r["activation"]) for r in records] == [
        (1, 0, activation),
        (1, 1, activation),
        (1, 2, "identity"),
    ]
    outputs, gradient = net.forward(X * 3 + 1), net.backprop(X * 3 + 1, Y)
    assert records[2]["mean"] == pytest.approx(outputs.mean(), rel=1e-9)
    assert records[2]["std"] == pytest.approx(outputs.std(), rel=1e-9)
    half = MLP([5, 7], activation=[], output_activation=activation, loss="mse", dtype="float64")
    half.set_weights(net.weights[:1], net.biases[:1])
    half.scaling = net.scaling
    hidden = np.asarray(half.predict(X * 3 + 1))
    assert records[0]["mean"] == pytest.approx(hidden.mean(), rel=1e-9)
    assert records[0]["std"] == pytest.approx(hidden.std(), rel=1e-9)
    for k, record in enumerate(records):
        norm = np.sqrt((gradient.weights[k] ** 2).sum() + (gradient.biases[k] ** 2).sum())
        assert record["gradient_norm"] == pytest.approx(norm, rel=1e-9)
        assert record["weight_norm"] == pytest.approx(np.linalg.norm(net.weights[k]), rel=1e-9)  # biases are zero
        assert record["update_ratio"] == 0.0
        assert record["verdict"] == ""


def test_dead_and_saturated_units() -> None:
    net = MLP([5, 8, 3], seed=0)
    weights, biases = net.weights, [b.copy() for b in net.biases]
    biases[0][:3] = -100.0
    net.set_weights(weights, biases)
    alive = look(MLP([5, 8, 3], seed=0))[0]
    sick = look(net)[0]
    assert (alive["dead"], alive["saturated"]) == (0.0, None)
    assert sick["dead"] == 3 / 8
    net = MLP([5, 8, 3], activation="tanh", seed=0)
    net.set_weights(net.weights, [b + 100 * (np.arange(len(b)) < 2) for b in net.biases])
    records = look(net)
    assert (records[0]["dead"], records[0]["saturated"]) == (None, 2 / 8)
    assert (records[1]["dead"], records[1]["saturated"]) == (None, None)


def test_vanishing_and_exploding_gradients() -> None:
    deep = MLP([5, *[8] * 12, 3], activation="sigmoid", init="glorot_uniform", seed=0)
    verdicts = [record["verdict"] for record in look(deep)]
    assert verdicts[0] == "vanishing"
    assert verdicts[-1] == ""
    net = MLP([5, 8, 3], loss="mse", seed=0)
    assert [r["verdict"] for r in look(net, X, 1e4 * X[:, :3])] == ["exploding"] * 2
    assert "" in [r["verdict"] for r in look(MLP([5, 8, 3], loss="mse", seed=0), X, X[:, :3])]


def test_moves_and_epochs(tmp_path: Path) -> None:
    watching, net = LayerStatistics(X[:20], Y[:20], every=2), MLP([5, 7, 3], seed=0)
    before = np.concatenate([net.weights[0].ravel(), net.biases[0]])
    alone = MLP([5, 7, 3], seed=0)
    assert net.fit(X, Y, epochs=5, callbacks=[watching]).loss == alone.fit(X, Y, epochs=5).loss
    assert [r["epoch"] for r in watching.records] == [2, 2, 4, 4]
    twin = MLP([5, 7, 3], seed=0)
    twin.fit(X, Y, epochs=2)
    after = np.concatenate([twin.weights[0].ravel(), twin.biases[0]])
    moved = np.linalg.norm(after - before) / np.linalg.norm(after)
    assert watching.records[0]["update_ratio"] == pytest.approx(moved, rel=1e-5)
    watching.to_csv(tmp_path / "layers.csv")
    with open(tmp_path / "layers.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["gradient_norm"]) for row in rows] == [r["gradient_norm"] for r in watching.records]
    assert rows[0]["saturated"] == ""
    net.fit(X, Y, epochs=1, callbacks=[watching])
    assert watching.records == []  # afresh, and one epoch is not two
    with pytest.raises(ValueError, match="no records"):
        watching.to_csv(tmp_path / "none.csv")


def test_a_resumed_training_keeps_its_records(tmp_path: Path) -> None:
    whole, first, second = (LayerStatistics(X[:20], Y[:20]) for _ in range(3))
    MLP([5, 7, 3], seed=0).fit(X, Y, epochs=4, callbacks=[whole])
    MLP([5, 7, 3], seed=0).fit(X, Y, epochs=4, callbacks=[MaxSeconds(1e-9), first, Checkpoint(tmp_path)])
    assert len(first.records) == 2
    MLP([5, 7, 3], seed=0).fit(X, Y, epochs=4, callbacks=[second], resume=tmp_path)
    assert second.records == whole.records


def test_bad_samples_are_refused_before_the_training() -> None:
    net = MLP([5, 7, 3], seed=0)
    with pytest.raises(ValueError, match="X of LayerStatistics has 4 columns"):
        net.fit(X, Y, callbacks=[LayerStatistics(X[:, :4], Y)])
    with pytest.raises(ValueError, match="every"):
        LayerStatistics(X, Y, every=0)
    assert net.history is None
