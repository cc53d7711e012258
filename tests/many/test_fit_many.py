"""Many networks side by side: each as its own `fit` leaves it, whatever they are, whoever trains them."""

from __future__ import annotations

import copy
import signal
import sys
import threading
import time
import warnings
from typing import Any

import numpy as np
import pytest
from oracles import ONE_A_RULE

import fastbp
from fastbp import MLP, SGD, Adam, AdamW, EarlyStopping, MaxSeconds, StopStalled, fit_many, schedules
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
    "stalled": ([6, 5, 3], {}, CLASSES, {"epochs": 40, "callbacks": [StopStalled(tol=0.01, patience=3)]}),
    "stalled or limited": (
        [6, 5, 3], {}, CLASSES, {"epochs": 9, "callbacks": [StopStalled(patience=4), MaxSeconds(1000.0)]}
    ),
    "stopped by either": (
        [6, 9, 3], {"loss": "binary_cross_entropy"}, (REAL[:, :1] > [-0.5, 0.0, 0.5]).astype(np.int64),
        {
            "validation_split": 0.3, "epochs": 50, "optimizer": Adam(0.03),
            "callbacks": [EarlyStopping("val_score", 9, ties="last"), StopStalled("val_loss", patience=4)],
        },
    ),
    "stopped by loss alone": (
        [6, 9, 1], {"loss": "poisson"}, np.abs(REAL[:, :1]).round(),
        {"epochs": 40, "optimizer": SGD(0.05), "batch_size": 7, "callbacks": [EarlyStopping("loss", 3)]},
    ),
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
        for number, name in enumerate(names):
            wanted, error_text = expected[name]
            assert str(failed.get(number, "")) == error_text, name
            assert state(nets[number]) == wanted, name
        assert len(failed) == (2 if turn == 0 else 0)


def small(n: int = 6) -> list[MLP]:
    return [MLP([6, 4 + k, 3], seed=k) for k in range(n)]


def states(nets: list[MLP]) -> list[Any]:
    return [state(net) for net in nets]


ROWS = [np.arange(0, 230, 2), np.arange(40), X[:, 0] > 0, [5, 3, 3, 100, 7, 8], None, np.arange(229, 0, -3)]


def test_rows_and_shared_data() -> None:
    nets, twins = small(), small()
    given: dict[str, Any] = {"epochs": [1, 2, 3, 4, 5, 6], "class_weight": "balanced", "validation_split": 0.2}
    with pytest.warns(UserWarning, match="validation_split"):
        fit_many(nets, X, CLASSES, rows=ROWS, sample_weight=WEIGHT, **given)
    for net, rows, epochs in zip(twins, ROWS, given["epochs"], strict=True):
        part = slice(None) if rows is None else np.asarray(rows)
        with warnings.catch_warnings(action="ignore", category=UserWarning):
            net.fit(X[part], CLASSES[part], sample_weight=WEIGHT[part], **{**given, "epochs": epochs})
    assert states(nets) == states(twins)


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        ({"epochs": [1, 2]}, ValueError, "epochs has 2 entries, but there are 6 networks"),
        ({"rows": [None] * 5}, ValueError, "rows has 5 entries"),
        ({"rows": [None] * 5 + [[230]]}, ValueError, r"nets\[5\]: rows\[0\] is 230, but X has 230 rows"),
        ({"rows": [None] * 5 + [[]]}, ValueError, r"nets\[5\]: rows must be numbers"),
        ({"rows": [None] * 5 + [[True]]}, ValueError, r"nets\[5\]: rows is a mask of shape"),
        ({"optimizer": ["adam"] * 5 + ["adan"]}, ValueError, r"nets\[5\]: optimizer"),
        ({"callbacks": [EarlyStopping()]}, ValueError, r"nets\[0\]: .*needs validation_data"),
        ({"y": [CLASSES] * 5 + [CLASSES + 1]}, ValueError, r"nets\[5\]: y\["),
        ({"nets": [MLP([6, 2, 3])] * 2}, ValueError, r"nets\[1\] is nets\[0\]"),
        ({"nets": [3]}, TypeError, r"nets\[0\] must be a fastbp.MLP"),
        ({"threads": 0}, ValueError, "threads"),
        ({"executor": 3}, TypeError, "executor"),
    ],
)
def test_bad_arguments_change_nothing(change: dict[str, Any], error: Any, says: str) -> None:
    nets = small()
    with pytest.raises(error, match=says):
        fit_many(**{"nets": nets, "X": X, "y": CLASSES, **change})
    assert all(net.history is None for net in nets)


def test_a_journal_does_only_what_is_missing(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    path, given = (
        tmp_path / "nets.jsonl",
        {"epochs": 4, "validation_split": 0.2, "optimizer": [Adam()] * 5 + [SGD(1e9)]},
    )
    nets = [*small(5), make("diverges")[0]]
    data = {"X": X, "y": [CLASSES] * 5 + [REAL], "threads": 1, "journal": path}
    with pytest.raises(NetworksFailed) as first:
        fit_many(nets, **data, **given)
    lines = path.read_text().splitlines()
    assert len(lines) == 7
    path.write_text("\n".join(lines[:1] + lines[3:]) + "\n")
    trained = []
    train = crew.Crew._train
    monkeypatch.setattr(
        crew.Crew, "_train", lambda self, batch, desk: (trained.extend(batch), train(self, batch, desk))
    )
    again = [*small(5), make("diverges")[0]]
    with pytest.raises(NetworksFailed) as second:
        fit_many(again, **data, **given)
    assert len(trained) == 2
    assert states(again) == states(nets)
    assert str(second.value) == str(first.value)
    again[0].fit(X, CLASSES), nets[0].fit(X, CLASSES)
    assert states(again) == states(nets)
    other = small(1)
    fit_many(other, X, CLASSES, journal=path, epochs=3)  # another training
    assert len(path.read_text().splitlines()) == 8


def test_an_executor_leaves_the_same(tmp_path: Any) -> None:
    import concurrent.futures
    import multiprocessing

    with concurrent.futures.ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        nets, twins = small(), small()
        fit_many(nets, X, CLASSES, epochs=2, executor=pool, rows=ROWS)
    fit_many(twins, X, CLASSES, epochs=2, rows=ROWS)
    assert states(nets) == states(twins)


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGINT for a single process")
@pytest.mark.parametrize("slow", [False, True], ids=["native", "by fit"])
def test_ctrl_c_keeps_what_has_finished(slow: bool) -> None:
    nets = small(40)
    callbacks = [Third()] if slow else []
    epochs = [3] * 2 + [10**6] * 38 if not slow else [2] * 2 + [3] * 38
    size = np.tile(X, (4000, 1)) if slow else X
    y = np.tile(CLASSES, 4000) if slow else CLASSES
    timer = threading.Timer(0.5, signal.pthread_kill, [threading.main_thread().ident, signal.SIGINT])
    began = time.monotonic()
    timer.start()
    rows = [np.arange(100)] * 2 + [None] * 38
    order = [*range(2, 40), 0, 1]
    with pytest.raises(SweepInterrupted, match="of 40 networks had been trained") as error:
        fit_many([nets[k] for k in order], size, y, rows=[rows[k] for k in order], epochs=[epochs[k] for k in order],
                 callbacks=callbacks, threads=2)  # fmt: skip
    assert time.monotonic() - began < 20
    found = error.value.result
    assert [one is not None for one in found].count(False) >= 30
    touched = [net for net in nets if net.history is not None]
    assert 1 <= len(touched) < 40
    assert all(np.isfinite(net.weights[0]).all() for net in touched)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    touched[0].fit(X, CLASSES, epochs=1)


def test_max_seconds_ends_a_run() -> None:
    nets = small(2)
    histories = fit_many(nets, X, CLASSES, epochs=10**7, callbacks=[MaxSeconds(0.3)], threads=2)
    assert [one.stop_reason for one in histories] == ["MaxSeconds: 0.3 s have passed"] * 2


def test_no_buffer_a_network() -> None:
    """Memory that a network takes when it is trained: moments and history."""
    import tracemalloc

    nets = [MLP([8, 16, 1], loss="mse", seed=k) for k in range(300)]
    rows, y = RNG.standard_normal((200, 8)).astype(np.float32), RNG.standard_normal(200)
    fit_many([MLP([8, 16, 1], loss="mse")], rows, y, epochs=50)
    tracemalloc.start()
    fit_many(nets, rows, y, epochs=50)
    taken = tracemalloc.get_traced_memory()[0] / len(nets)
    tracemalloc.stop()
    assert taken < 15_000


ALIKE = ["deep", "fp64", "noisy", "input scale", "dropped", "in order", "weights", "NAdam", "no hidden", "whole batch"]


@pytest.mark.parametrize("case", ALIKE)
def test_networks_of_one_kind(case: str) -> None:
    """Their jobs are copies of the first one's: rows, weights, seeds and data are each network's own."""
    name = next(one for one in CASES if one.startswith(case))
    sizes, options, y, given = CASES[name]
    given = {k: v for k, v in given.items() if k not in ("sample_weight", "validation_split")}

    def make_all() -> list[MLP]:
        return [MLP(sizes, seed=seed, **options) for seed in range(5)]

    weights = [WEIGHT[k : k + 150] for k in range(5)] if case == "weights" else None
    parts = [slice(k, k + 150) for k in range(5)]
    nets, twins = make_all(), make_all()
    for _ in range(2):
        data = [X[one] for one in parts], [np.asarray(y)[one] for one in parts]
        fit_many(nets, *data, threads=1, sample_weight=weights, **{"epochs": 3, **given})
        for k, (net, rows) in enumerate(zip(twins, parts, strict=True)):
            net.fit(X[rows], y[rows], sample_weight=weights and weights[k], **{"epochs": 3, **given})
        assert states(nets) == states(twins)
    nets, twins = make_all(), make_all()
    order = [np.arange(k, 200, 2) if k % 2 else np.arange(100)[::-1] for k in range(2)] * 2 + [np.arange(100) + 90]
    fit_many(nets, X, y, rows=order, threads=2, **{"epochs": 3, **given})
    for net, rows in zip(twins, order, strict=True):
        net.fit(X[rows], y[rows], **{"epochs": 3, **given})
    assert states(nets) == states(twins)
