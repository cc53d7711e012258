"""Many networks side by side: each as its own `fit` leaves it, whatever they are, whoever trains them, whatever fails."""

from __future__ import annotations

import copy
import signal
import sys
import threading
import time
from typing import Any

import numpy as np
import pytest
from oracles import ONE_A_RULE

import fastbp
from fastbp import MLP, SGD, Adam, AdamW, EarlyStopping, MaxSeconds, fit_many, schedules
from fastbp.errors import NetworksFailed, SweepInterrupted
from fastbp.many import crew

RNG = np.random.default_rng(5)
X = RNG.standard_normal((230, 6)).astype(np.float32)
CLASSES = (X[:, 0] + 0.5 * X[:, 1] > 0).astype(np.int64) + (X[:, 2] > 1)
REAL = np.stack([X[:, 0] * X[:, 1], X[:, 2] - X[:, 3]], axis=1).astype(np.float64) + 3.0
WEIGHT = RNG.random(230)


class Third:
    """A callback of the user's own: stops after the third epoch."""

    def on_epoch_end(self, state: Any) -> str | None:
        return "third" if state.epoch == 3 else None


def decay(step: int) -> float:
    return 0.01 / (1 + step)


# Networks and trainings: sizes and options of the network, targets, arguments of `fit`.
CASES: dict[str, tuple[list[int], dict[str, Any], Any, dict[str, Any]]] = {
    **{f"{one!r}": ([6, 9, 3], {}, CLASSES, {"optimizer": one}) for one in ONE_A_RULE},
    "deep": ([6, 40, 17, 33, 3], {"activation": ["tanh", "gelu", "relu"]}, CLASSES, {"schedule": schedules.Cosine(5)}),
    "fp64": ([6, 12, 2], {"loss": "mse", "dtype": "float64"}, REAL, {"schedule": schedules.OneCycle(5)}),
    "no hidden": ([6, 3], {}, CLASSES, {"batch_size": 1, "epochs": 2}),
    "whole batch": ([6, 20, 3], {}, CLASSES, {"batch_size": 500, "optimizer": AdamW(clip_norm=0.1)}),
    "noisy": (
        [6, 20, 3], {"dropout": 0.3, "input_noise": 0.1, "l1": 1e-3, "l2": 1e-3, "max_norm": 1.0}, CLASSES,
        {"optimizer": SGD(0.1, momentum=0.9)},
    ),
    "input scale": ([6, 9, 3], {"input_scale": True}, CLASSES, {"optimizer": Adam(lr_scale={"input_scale": 6})}),
    "dropped": ([6, 9, 3], {}, CLASSES, {"drop_last": True, "batch_size": 50}),
    "in order": ([6, 9, 3], {}, CLASSES, {"shuffle": False, "validation_split": 0.2}),
    "weights": ([6, 9, 3], {}, CLASSES, {"sample_weight": WEIGHT, "class_weight": "balanced", "validation_split": 0.2}),
    "held out": ([6, 9, 3], {}, CLASSES, {"validation_data": (X[:70], CLASSES[:70], WEIGHT[:70]), "epochs": 9}),
    "stopped": (
        [6, 30, 3], {}, CLASSES,
        {"validation_split": 0.3, "epochs": 60, "callbacks": [EarlyStopping(patience=2)], "optimizer": Adam(0.05)},
    ),
    "stopped by score": (
        [6, 30, 2], {"loss": "mse"}, REAL,
        {"validation_split": 0.3, "epochs": 30, "callbacks": [EarlyStopping("val_score", 3, ties="last")]},
    ),
    "stopped by loss": ([6, 5, 3], {}, CLASSES, {"epochs": 30, "callbacks": [EarlyStopping("loss", 2, 0.05)]}),
    "limited": ([6, 5, 3], {}, CLASSES, {"callbacks": [MaxSeconds(1000.0)]}),
    "user's": ([6, 5, 3], {}, CLASSES, {"callbacks": [Third()]}),
    "plateau": ([6, 5, 3], {}, CLASSES, {"schedule": schedules.ReduceOnPlateau(0.5, 1, monitor="loss")}),
    "function": ([6, 5, 3], {}, CLASSES, {"schedule": decay}),
    "diverges": ([6, 9, 2], {"loss": "mse"}, REAL, {"optimizer": SGD(1e9), "batch_size": 50}),
    "diverges late": (
        [6, 9, 2], {"loss": "mse"}, REAL,
        {"optimizer": SGD(40.0), "validation_split": 0.2, "callbacks": [EarlyStopping(patience=50)], "epochs": 30},
    ),
    "groups": ([6, 8, 8, 8, 3], {"activation": "tanh"}, CLASSES, {"batch_size": 1 << 15, "epochs": 2}),
}  # fmt: skip


def make(name: str) -> tuple[MLP, Any, Any, dict[str, Any]]:
    sizes, options, y, given = CASES[name]
    net = MLP(sizes, seed=len(name), **options)
    if net.loss.name == "mse":
        net.standardize(X, y)
    rows = X
    if name == "groups":
        rows, y = np.tile(X, (150, 1)), np.tile(y, 150)
    return net, rows, y, {"epochs": 5, **copy.deepcopy(given)}


def state(net: MLP) -> list[Any]:
    """All that a training changes."""
    kept, history = net.optimizer_state(), net.history
    moments = [array for each in kept.pop("moments") for array in (*each["weights"], *each["biases"])]
    assert history is not None
    lists = history.loss, history.val_loss, history.val_score, history.lr
    scale = [] if net.input_scale is None else [net.input_scale.tobytes()]
    numbers = [array.tobytes() for array in [*net.weights, *net.biases, *moments]]
    return [numbers, scale, kept, repr(lists), history.stop_reason, len(history.seconds)]


def fitted(net: MLP, rows: Any, y: Any, given: dict[str, Any]) -> tuple[list[Any], str]:
    error = ""
    try:
        net.fit(rows, y, threads=1, **given)
    except fastbp.DivergenceError as raised:
        error = str(raised)
        assert net.history is raised.history
    return state(net), error


@pytest.mark.filterwarnings("ignore:.* is at its end")
@pytest.mark.parametrize("threads", [1, 3])
def test_each_has_the_bits_of_its_fit(threads: int) -> None:
    """Of all kinds at once; and again, from where they are then."""
    made = {name: make(name) for name in CASES}
    twins = {name: make(name) for name in CASES}
    for turn in range(2):
        names = [name for name in CASES if turn == 0 or "diverges" not in name]
        expected = {name: fitted(*twins[name]) for name in names}
        arguments: dict[str, Any] = {}
        given = [made[name][3] for name in names]
        defaults = {"optimizer": "adam", "schedule": None, "batch_size": 32, "shuffle": True, "drop_last": False}
        defaults |= {"validation_split": 0.0, "validation_data": None, "sample_weight": None, "class_weight": None}
        for argument, default in {**defaults, "epochs": 5, "callbacks": []}.items():
            arguments[argument] = [one.get(argument, default) for one in given]
        nets = [made[name][0] for name in names]
        failed: dict[int, Exception] = {}
        try:
            fit_many(nets, [made[n][1] for n in names], [made[n][2] for n in names], threads=threads, **arguments)
        except NetworksFailed as error:
            failed = error.errors
            assert error.result[0] is nets[0].history
        for number, name in enumerate(names):
            wanted, error_text = expected[name]
            assert str(failed.get(number, "")) == error_text, name
            assert state(nets[number]) == wanted, name
        assert len(failed) == (2 if turn == 0 else 0)
