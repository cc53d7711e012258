"""Layers by columns: the same bits as by rows, whatever is asked of a step besides, and whoever has which units."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_determinism import CASES, bits, data, train

import fastbp
from fastbp import MLP
from fastbp.engine import tuning
from fastbp.engine.engine import Engine
from fastbp.engine.placement import Placement
from fastbp.engine.threads import MOST
from fastbp.engine.traffic import MOST_LAYERS
from fastbp.kernels.team import ARRIVALS, LAYER_BARRIERS, STEP_BARRIERS

DEEP = {"sizes": [37, 70, 133, 40, 5], "activation": "tanh"}
WIDE = {"sizes": [60, 100, 9]}
# name -> (network, fit): all that may happen within a step.
STEPS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "dropout and noise": ({**DEEP, "dropout": [0.2, 0.5, 0.1], "input_noise": 0.3}, {"optimizer": "adam"}),
    "penalties": ({**DEEP, "l1": 1e-4, "l2": 1e-3}, {"optimizer": fastbp.SGD(lr=0.1)}),
    "largest norm": ({**DEEP, "max_norm": 0.7}, {"optimizer": fastbp.SGD(lr=0.1, momentum=0.9)}),
    "clipped norm": ({**DEEP, "l2": 1e-3}, {"optimizer": fastbp.Adam(clip_norm=0.1)}),
    "clipped values": (DEEP, {"optimizer": fastbp.SGD(lr=0.5, clip_value=0.001)}),
    "three moments": (WIDE, {"optimizer": fastbp.NAdam()}),
    "adabelief": (WIDE, {"optimizer": fastbp.AdaBelief()}),
    "lookahead": (WIDE, {"optimizer": fastbp.Lookahead()}),
    "scaled inputs": ({**DEEP, "input_scale": True, "input_noise": 0.1}, {"optimizer": "adam"}),
    "scaled inputs, clipped": ({**DEEP, "input_scale": True}, {"optimizer": fastbp.Adam(clip_norm=0.1)}),
    "scaled inputs, plain": ({**WIDE, "input_scale": True}, {"optimizer": fastbp.SGD(0.5)}),
    "factors by layer": (
        {**DEEP, "l2": 1e-3},
        {"optimizer": fastbp.Adam(lr_scale={"weights": [0, 0.5, 1, 2], "biases": 0.1}, clip_norm=0.5)},
    ),
    "factors by layer, plain": (
        DEEP,
        {"optimizer": fastbp.SGD(0.1, lr_scale={"weights": [2, 0, 1, 1], "biases": 0.1})},
    ),
    "schedule": (WIDE, {"schedule": fastbp.schedules.OneCycle(epochs=2), "optimizer": "adam"}),
    "double precision": ({**DEEP, "dtype": "float64"}, {"optimizer": "rmsprop"}),
    "a batch of one row": (DEEP, {"batch_size": 1}),
    "one batch of all": (DEEP, {"batch_size": 1000}),
}
PLACEMENTS = [(2, 1, 2), (3, 1, 3), (4, 1, 2), (8, 1, 4), (5, 1, 5), (2, 2, 2), (4, 2, 2), (6, 3, 3), (7, 2, 7)]


@pytest.fixture
def columns_used(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """What the kernels were told about columns and parts at each call that trains."""
    found: list[tuple[int, int]] = []
    call = Engine.call

    def note(self: Engine, mode: int, placement: Placement, **options: Any) -> int:
        status = call(self, mode, placement, **options)
        if mode == 0:
            found.append((int(self.job[0]["columns"]), int(self.job[0]["parts"])))
        return status

    monkeypatch.setattr(Engine, "call", note)
    return found


def force(monkeypatch: pytest.MonkeyPatch, placement: tuple[int, int, int]) -> None:
    monkeypatch.setenv("FASTBP_PLACEMENT", "columns:{1}/{2}".format(*placement))


def fitted(description: dict[str, Any], fit: dict[str, Any], threads: int) -> MLP:
    net = MLP(**description, seed=3)
    X, y = data(net, 210)
    options = {"epochs": 2, "batch_size": 47, **fit}
    weights = np.linspace(0.5, 2.0, 210) if options["batch_size"] > 1 else None
    net.fit(X, y, sample_weight=weights, **options, threads=threads)
    return net


@pytest.mark.parametrize("what", STEPS)
def test_whatever_a_step_does(what: str, monkeypatch: pytest.MonkeyPatch, columns_used: list[tuple[int, int]]) -> None:
    alone = bits_of(fitted(*STEPS[what], threads=1))
    for placement in PLACEMENTS:
        layers = min(placement[1], len(STEPS[what][0]["sizes"]) - 2)
        force(monkeypatch, placement)
        columns_used.clear()
        assert bits_of(fitted(*STEPS[what], threads=placement[0])) == alone, placement
        assert columns_used
        assert set(columns_used) == {(layers, placement[2])}


def bits_of(net: MLP) -> str:
    assert net.history is not None
    return bits(net)


@pytest.mark.parametrize("placement", [(2, 1, 2), (4, 2, 2), (5, 1, 5)])
@pytest.mark.parametrize("case", CASES)
def test_every_network(case: str, placement: tuple[int, int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    expected = bits(train(case, threads=1, epochs=1))
    force(monkeypatch, placement)
    assert bits(train(case, threads=placement[0], epochs=1)) == expected


@pytest.mark.parametrize("placement", [(2, 0, 1), (2, 1, 2), (4, 3, 2)])
def test_barriers_of_a_step(placement: tuple[int, int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """No more than arrivals are counted for: one more in a call of 2^16 steps of 4,096 threads, and all would hang."""
    threads, layers, _ = placement
    if layers:
        force(monkeypatch, placement)
    else:
        monkeypatch.setenv("FASTBP_PLACEMENT", "rows")
    monkeypatch.setattr(tuning, "SNAPSHOT_SHARE", 1e9)  # one after every step
    net = MLP(**DEEP, seed=0, max_norm=2.0, input_scale=True)
    X, y = data(net, 60)
    net.fit(X, y, epochs=1, batch_size=60, threads=threads, optimizer=fastbp.SGD(lr=0.1, clip_norm=0.1))
    arrivals = int(net.session.engine.sync[0]) & ARRIVALS
    most = STEP_BARRIERS + LAYER_BARRIERS * layers
    assert arrivals == threads * (most - (layers == 1 and placement[2] == threads))
    assert (STEP_BARRIERS + LAYER_BARRIERS * MOST_LAYERS) * tuning.MAX_STEPS * MOST <= ARRIVALS


def test_a_placement_for_every_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    """What one placement leaves behind, transposed weights and moments, is what another begins with."""
    alone, changing = MLP(**DEEP, seed=7), MLP(**DEEP, seed=7)
    X, y = data(alone, 150)
    for placement in (*PLACEMENTS, (2, 0, 1), *PLACEMENTS[::-1]):
        alone.fit(X, y, epochs=1, threads=1, batch_size=32)
        if placement[1]:
            force(monkeypatch, placement)
        else:
            monkeypatch.setenv("FASTBP_PLACEMENT", "rows")
        changing.fit(X, y, epochs=1, threads=placement[0], batch_size=32)
        changing.train_step(X[:20], y[:20], "adam")
        alone.train_step(X[:20], y[:20], "adam")
    assert bits(alone) == bits(changing)


def test_bad_data_and_divergence_end_a_step_by_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    force(monkeypatch, (4, 1, 4))
    net = MLP(**WIDE, seed=0)
    X, y = data(net, 200)
    with pytest.raises(fastbp.DivergenceError):
        net.fit(X * 1e4, y, optimizer=fastbp.SGD(lr=1e9), threads=4)
    assert all(np.isfinite(weight).all() for weight in net.weights)
    net.fit(X, y, epochs=1, threads=4)


def test_a_training_goes_on_in_another_placement(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class Interrupted:
        def __init__(self, at: int) -> None:
            self.at = at

        def on_epoch_end(self, state: Any) -> None:
            if state.epoch == self.at:
                raise KeyboardInterrupt

    alone, cut, rest = (MLP(**DEEP, seed=7) for _ in range(3))
    X, y = data(alone, 150)
    options: dict[str, Any] = {"epochs": 4, "batch_size": 32, "optimizer": "adam"}
    alone.fit(X, y, threads=1, **options)
    force(monkeypatch, (4, 2, 2))
    with pytest.raises(KeyboardInterrupt):
        cut.fit(X, y, threads=4, callbacks=[fastbp.Checkpoint(tmp_path, every_epochs=1), Interrupted(2)], **options)
    force(monkeypatch, (3, 1, 3))
    checkpoint = fastbp.Checkpoint(tmp_path, every_epochs=1)
    rest.fit(X, y, threads=3, callbacks=[checkpoint, Interrupted(9)], resume=tmp_path, **options)
    assert bits(rest) == bits(alone)
