"""Learning-rate sweeps: every run as `fit` would train it, and what the result makes of them."""

from __future__ import annotations

import concurrent.futures
import copy
import csv
import dataclasses
import json
import multiprocessing
import pickle
import signal
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from oracles import ONE_A_RULE

import fastbp
from fastbp import MLP, SGD, Adam, AdamW, CrossEntropy, LrSweep, RMSprop, lr_sweep, optimizers, schedules
from fastbp.engine import tuning
from fastbp.errors import SweepInterrupted
from fastbp.many import halving, native, statistics
from fastbp.many.journal import Journal
from fastbp.many.run_spec import fresh

# Small grids have their best rate at an edge; the warning has its own test.
pytestmark = pytest.mark.filterwarnings("ignore:the best learning rate")

NAN = float("nan")
RATES = [1e-3, 1e-2, 1e-1]


def halve_slowly(step: int) -> float:
    return float(0.5 ** (step / 7))


def blobs(n: int = 150, n_in: int = 6, classes: int = 3) -> tuple[Any, Any]:
    rng = np.random.default_rng(3)
    y = rng.integers(0, classes, n)
    return (rng.standard_normal((n, n_in)) + y[:, None]).astype(np.float32), y


def line(n: int = 120, n_out: int = 2) -> tuple[Any, Any]:
    rng = np.random.default_rng(4)
    X = rng.standard_normal((n, 6))
    return X, X[:, :n_out] - 0.5 * X[:, 2 : 2 + n_out] + 3.0


def fit_losses(net: MLP, X: Any, y: Any, rate: float, seed: int, **options: Any) -> tuple[list[float], list[float]]:
    """What `fit` reports of one run."""
    if "validation_data" not in options:
        options["validation_split"] = 0.2
    recipe = optimizers.get(options.pop("optimizer", "adam"))
    schedule = options.get("schedule")
    if callable(schedule):
        options["schedule"] = lambda step, schedule=schedule, rate=rate: rate * schedule(step)
    twin = fresh(net, seed)
    try:
        history = twin.fit(X, y, optimizer=dataclasses.replace(recipe, lr=rate), **options)
    except fastbp.DivergenceError as error:
        history = error.history
    return history.loss, history.val_loss


def check_against_fit(sweep: LrSweep, net: MLP, X: Any, y: Any, **options: Any) -> None:
    """Every run has the losses of `fit`, to the last bit."""
    for k, rate in enumerate(sweep.learning_rates.tolist()):
        for s, seed in enumerate(sweep.seeds.tolist()):
            loss, val_loss = fit_losses(net, X, y, rate, seed, **options)
            done = sweep.epochs_done[k, s]
            if sweep.status[k, s] == "finished":
                assert done == len(loss) == len(val_loss)
                assert sweep.val_loss[k, s, :done].tolist() == val_loss[:done]
            assert sweep.train_loss[k, s, :done].tolist() == loss[:done]


# --- every run is fit's -------------------------------------------------------------------------------------

SCHEDULES = [
    None,
    schedules.Cosine(4),
    schedules.OneCycle(4),
    schedules.ReduceOnPlateau(patience=0, threshold=0.3),
    schedules.ReduceOnPlateau(patience=0, threshold=0.3, monitor="val_loss"),
    schedules.Warmup(1.5, schedules.ReduceOnPlateau(patience=0, threshold=0.3)),
    halve_slowly,
]


BY_LAYER = [one(lr_scale={"weights": [0, 2], "biases": 0.1}) for one in (SGD, Adam, fastbp.Rprop)]
CLIPPED = [AdamW(clip_norm=0.5), RMSprop(weight_decay=1e-3, clip_value=0.1)]


@pytest.mark.parametrize(
    ("optimizer", "schedule"),
    [
        *((one, None) for one in ONE_A_RULE + BY_LAYER),
        *((one, given) for one in (Adam(), *CLIPPED) for given in SCHEDULES),
    ],
    ids=str,
)
def test_a_run_has_the_bits_of_fit(optimizer: Any, schedule: Any) -> None:
    X, y = blobs()
    net = MLP([6, 20, 3], seed=11, activation="tanh")
    options = {"optimizer": optimizer, "schedule": schedule, "epochs": 4, "batch_size": 16}
    sweep = lr_sweep(net, X, y, [1e-3, 5e-2], seeds=2, threads=1, **options)
    check_against_fit(sweep, net, X, y, **options)
    assert sweep.seeds.tolist() == [11, 12]
    for threads in (2, 3):
        other = lr_sweep(net, X, y, [1e-3, 5e-2], seeds=2, threads=threads, **options)
        assert other.train_loss.tobytes() == sweep.train_loss.tobytes()
        assert other.val_loss.tobytes() == sweep.val_loss.tobytes()


def test_a_run_of_a_network_with_scales_of_inputs() -> None:
    """They are read in the validation too: those of the run, not of the network that the sweep was given."""
    X, y = blobs()
    recipe = fastbp.recipes.realmlp(len(X), 6, 3, "classes", 11, epochs=4, hidden=(20, 20))
    net = MLP(**recipe.network)
    options: dict[str, Any] = {
        "optimizer": recipe.optimizer,
        "schedule": fastbp.schedules.CosLog(4),
        "epochs": 4,
        "batch_size": 16,
    }
    sweep = lr_sweep(net, X, y, [1e-2, 4e-2, 0.1], seeds=2, threads=2, **options)
    assert (sweep.status == "finished").all()
    check_against_fit(sweep, net, X, y, **options)
    halved = lr_sweep(net, X, y, [1e-2, 4e-2, 0.1], seeds=2, threads=2, halving=3, **options)
    assert np.isfinite(halved.val_loss[:, :, 0]).all()


@pytest.mark.parametrize("thread", range(3))
def test_whichever_thread_takes_a_run(thread: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also one whose network has made no call of its own: there, dropout and noise were left out."""
    X, y = blobs()
    net, rates = MLP([6, 20, 3], dropout=0.3, input_noise=0.1, seed=0), [1e-3, 1e-2, 5e-2]
    options: dict[str, Any] = {"seeds": 1, "epochs": 2, "batch_size": 16}
    alone = lr_sweep(net, X, y, rates, threads=1, **options)
    only_one = SimpleNamespace(**vars(native.team) | {"run": lambda work, n, **unused: work(thread)})
    monkeypatch.setattr(native, "team", only_one)
    found = lr_sweep(net, X, y, rates, threads=3, **options)
    assert found.train_loss.tobytes() == alone.train_loss.tobytes()
    assert found.val_loss.tobytes() == alone.val_loss.tobytes()


CASES: dict[str, tuple[dict[str, Any], Any, dict[str, Any]]] = {
    "regression, fp64": ({"sizes": [6, 9, 2], "loss": "mse", "dtype": "float64"}, line(), {"batch_size": 7}),
    "one output": ({"sizes": [6, 33, 1], "loss": "huber", "activation": "gelu"}, line(n_out=1), {}),
    "no hidden layer": ({"sizes": [6, 3]}, blobs(), {"batch_size": 1, "epochs": 2}),
    "batch of all": ({"sizes": [6, 40, 17, 3], "init": "glorot_uniform"}, blobs(), {"batch_size": 1000}),
    "groups": ({"sizes": [6, 32, 16, 3], "activation": "tanh"}, blobs(3700), {"batch_size": 2800, "epochs": 2}),
    "many held out": ({"sizes": [2, 3, 3]}, blobs(50_000, 2), {"batch_size": 1000, "epochs": 2}),
    "regularised": (
        {"sizes": [6, 20, 3], "dropout": 0.3, "input_noise": 0.1, "l1": 1e-3, "max_norm": 1.0},
        blobs(),
        {},
    ),
    "ignored labels": (
        {"sizes": [6, 20, 3], "loss": CrossEntropy(ignore_index=-1)},
        (blobs()[0], np.where(np.arange(150) % 4, blobs()[1], -1)),
        {},
    ),
    "rprop": ({"sizes": [6, 20, 3]}, blobs(), {"optimizer": "rprop", "batch_size": 200}),
    "float64 columns": ({"sizes": [6, 20, 3]}, (np.asfortranarray(blobs()[0], np.float64), blobs()[1]), {}),
}


@pytest.mark.parametrize("case", CASES)
def test_networks_of_all_kinds(case: str) -> None:
    description, (X, y), options = CASES[case]
    net = MLP(**description, seed=5)
    options = {"epochs": 3, **options}
    sweep = lr_sweep(net, X, y, RATES, seeds=[7, 1 << 40], threads=2, **options)
    assert (sweep.status == "finished").all()
    check_against_fit(sweep, net, X, y, **options)


def test_validation_data_and_scaling() -> None:
    X, y = line()
    net = MLP([6, 12, 2], loss="mse", seed=2)
    net.standardize(X, y)
    held = (X[:33] + 0.1, y[:33])
    sweep = lr_sweep(net, X, y, RATES, seeds=2, validation_data=held, epochs=3)
    check_against_fit(sweep, net, X, y, validation_data=held, epochs=3)
    assert (sweep.n_train, sweep.n_held) == (120, 33)
    assert sweep.start_loss[0] == fresh(net, 2).evaluate(*held)["loss"]


def test_memory_maps_are_read_in_place(tmp_path: Path) -> None:
    X, y = blobs()
    np.save(tmp_path / "X.npy", X)
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r+")
    net = MLP([6, 8, 3], seed=1)
    expected = lr_sweep(net, X, y, RATES, seeds=1, epochs=2)
    assert lr_sweep(net, mapped, y, RATES, seeds=1, epochs=2).val_loss.tobytes() == expected.val_loss.tobytes()
    mapped[77, 4] = NAN
    with pytest.raises(ValueError, match=r"X\[77, 4\] is nan"):
        lr_sweep(net, mapped, y, RATES, seeds=1, epochs=2)
    with pytest.raises(ValueError, match=r"validation X\[77, 4\] is nan"):
        lr_sweep(net, X, y, RATES, seeds=1, epochs=2, validation_data=(mapped, y))


def test_runs_pass_in_waves_where_memory_is_short(monkeypatch: pytest.MonkeyPatch) -> None:
    X, y = blobs()
    net = MLP([6, 8, 3], seed=1)
    options: dict[str, Any] = {"seeds": 2, "epochs": 4, "halving": 2}
    expected = lr_sweep(net, X, y, [1e-4, *RATES], **options)
    monkeypatch.setattr(native, "BUDGET_BYTES", 1)  # nor are weights kept from rung to rung
    sweep = lr_sweep(net, X, y, [1e-4, *RATES], **options)
    assert sweep.val_loss.tobytes() == expected.val_loss.tobytes()
    assert sweep.eliminated.tolist() == expected.eliminated.tolist()


def test_calls_may_end_after_any_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """Long steps: each native call makes one, in two passes, and leaves the main thread to see signals."""
    X, y = blobs()
    net = MLP([6, 20, 3], seed=1)
    expected = lr_sweep(net, X, y, RATES, seeds=2, epochs=2)
    monkeypatch.setattr(tuning, "CHUNK_SECONDS", 1e-9)
    monkeypatch.setattr(tuning, "LONG_STEP_FLOPS", 1.0)
    calls: list[int] = []
    original = native.Native._record

    def count(self: Any, thread: int) -> None:
        calls.append(thread)
        original(self, thread)

    monkeypatch.setattr(native.Native, "_record", count)
    for threads in (1, 3):
        sweep = lr_sweep(net, X, y, RATES, seeds=2, epochs=2, threads=threads)
        assert sweep.val_loss.tobytes() == expected.val_loss.tobytes()
        assert sweep.train_loss.tobytes() == expected.train_loss.tobytes()
    assert len(calls) >= 2 * 6 * 2 * 4  # for every step of every run


def test_the_callers_things_stay_as_they_are() -> None:
    X, y = blobs()
    net = MLP([6, 8, 3], seed=1)
    optimizer = SGD(lr=0.05, momentum=0.9)
    net.fit(X, y, epochs=2, optimizer=optimizer)
    before, described = net.__getstate__(), repr(optimizer)
    random = copy.deepcopy(np.random.get_state())  # noqa: NPY002
    arrays = X.copy(), y.copy()
    sweep = lr_sweep(net, X, y, RATES, optimizer=optimizer, seeds=2, epochs=2, halving=2)
    after = net.__getstate__()
    assert pickle.dumps(before) == pickle.dumps(after)
    assert repr(optimizer) == described
    assert all(np.array_equal(a, b) for a, b in zip(random, np.random.get_state(), strict=True))  # noqa: NPY002
    assert np.array_equal(arrays[0], X)
    assert np.array_equal(arrays[1], y)
    # The weights that it has learnt do not matter.
    assert sweep.val_loss.tobytes() == lr_sweep(
        MLP([6, 8, 3], seed=1), X, y, RATES, optimizer=optimizer, seeds=2, epochs=2, halving=2
    ).val_loss.tobytes()  # fmt: skip


def test_the_initialiser_survives_a_file(tmp_path: Path) -> None:
    X, y = blobs()
    net = MLP([6, 8, 3], seed=1, init="lecun_uniform")
    net.save(tmp_path / "net.safetensors")
    loaded = fastbp.load(tmp_path / "net.safetensors")
    one, other = (lr_sweep(each, X, y, RATES, seeds=1, epochs=1) for each in (net, loaded))
    assert one.val_loss.tobytes() == other.val_loss.tobytes()
    plain = lr_sweep(MLP([6, 8, 3], seed=1), X, y, RATES, seeds=1, epochs=1)
    assert plain.val_loss.tobytes() != one.val_loss.tobytes()


# --- divergence ---------------------------------------------------------------------------------------------


def test_runs_that_diverge_are_retired() -> None:
    X, y = line()
    net = MLP([6, 12, 2], loss="mse", seed=2)
    options: dict[str, Any] = {"optimizer": SGD(), "epochs": 4, "batch_size": 10}
    sweep = lr_sweep(net, X, y, [1e-3, 1e-2, 2.0, 1e30], seeds=2, threads=2, **options)
    assert sweep.status[:2].tolist() == [["finished"] * 2] * 2
    assert sweep.status[3].tolist() == ["diverged"] * 2
    assert sweep.diverged.tolist() == [[False] * 2, [False] * 2, [True] * 2, [True] * 2]
    assert (sweep.epochs_done[3] == 0).all()
    assert np.isnan(sweep.mean_val_loss[2:]).all()
    assert sweep.best_lr in (1e-3, 1e-2)
    assert sweep.divergence_boundary == (1e-2, 2.0)
    assert sweep.profile["lost_seconds"] > 0
    check_against_fit(sweep, net, X, y, **options)


def test_a_spike_that_recovers_is_no_divergence() -> None:
    """One step makes the loss a thousandfold."""
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((400, 3)), rng.standard_normal((400, 1))
    net = MLP([3, 1], loss="mse", seed=0, dtype="float64")

    def spike(step: int) -> float:
        return 150.0 if step == 20 else 1.0

    options: dict[str, Any] = {"optimizer": SGD(), "epochs": 3, "batch_size": 2, "schedule": spike}
    sweep = lr_sweep(net, X, y, [0.1], seeds=1, **options)
    assert sweep.status.tolist() == [["finished"]]
    calm = lr_sweep(net, X, y, [0.1], seeds=1, **{**options, "schedule": None})
    assert 160 * (sweep.train_loss - calm.train_loss)[0, 0, 0] > 100 * sweep.start_loss[0]
    assert sweep.final_loss[0, 0] < 1.5 * calm.final_loss[0, 0]
    check_against_fit(sweep, net, X, y, **options)


def test_all_diverged() -> None:
    X, y = line()
    sweep = lr_sweep(MLP([6, 12, 2], loss="mse", seed=2), X, y, [1e20, 1e30], optimizer="sgd", seeds=2, epochs=2)
    assert sweep.best_lr is sweep.recommended_lr is sweep.interval is sweep.sensitivity is None
    assert sweep.divergence_boundary == (None, 1e20)
    assert np.isnan(sweep.best_by_epoch).all()
    assert "no rate has finished" in str(sweep)
    assert json.loads(json.dumps(sweep.to_dict(), allow_nan=False))["best_lr"] is None
    for what in ("curve", "losses", "best"):
        assert sweep.plot(what=what) is not None


# --- halving ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("n_rates", "epochs", "factor", "ends"),
    [(27, 9, 3, [3, 5, 9]), (27, 27, 3, [3, 9, 27]), (25, 5, 3, [2, 3, 5]), (2, 9, 3, [9]), (9, 1, 3, [1]),
     (9, 2, 2, [2]), (5, 5, None, [5]), (3, 10, 3, [3, 10]), (1000, 3, 2, [2, 3]),
     (17, 32, 2, [4, 8, 16, 32]), (17, 32, 3, [4, 10, 32])],
)  # fmt: skip
def test_rungs(n_rates: int, epochs: int, factor: int | None, ends: list[int]) -> None:
    assert halving.rungs(n_rates, epochs, factor) == ends


@pytest.mark.parametrize("schedule", [None, schedules.Cosine(6), schedules.ReduceOnPlateau(patience=0, threshold=0.3)])
def test_halving_goes_on_where_it_stopped(schedule: Any) -> None:
    X, y = blobs()
    net = MLP([6, 20, 3], seed=3)
    rates = [*np.geomspace(1e-5, 1e1, 7), 1e30, 1e31]
    options: dict[str, Any] = {"seeds": 2, "epochs": 4, "schedule": schedule, "optimizer": "sgd"}
    full = lr_sweep(net, X, y, rates, **options)
    sweep = lr_sweep(net, X, y, rates, halving=3, threads=2, **options)
    assert halving.rungs(9, 4, 3) == [2, 4]
    known = np.isfinite(sweep.val_loss)
    assert np.array_equal(sweep.val_loss[known], full.val_loss[known])
    assert np.array_equal(sweep.train_loss[known], full.train_loss[known])
    alive = sweep.eligible
    diverged = full.diverged.any(axis=1)
    assert diverged.any()
    kept = halving.survivors(
        full.learning_rates, full.val_loss[:, :, :2], ~diverged, full.start_loss, 4, np.ones(9, bool)
    )
    assert (sweep.eliminated == np.where(kept | diverged, 0, 2)).all()
    assert 0 < kept.sum() < (~diverged).sum()
    assert np.isnan(sweep.mean_val_loss[~alive]).all()
    assert sweep.sensitivity is None
    assert "eliminated after epoch 2" in " ".join(str(sweep).split())
    assert {row["status"] for row in sweep.rows()} == {"finished", "eliminated", "diverged"}
    assert not any("missing" in note for note in sweep.notes)


def test_the_first_comparison_of_halving_is_by_few_seeds() -> None:
    """What is far off is eliminated before its other seeds are trained; the rest are the runs of a whole sweep."""
    X, y = blobs()
    net, rates = MLP([6, 20, 3], seed=3), np.geomspace(1e-5, 1e1, 13)
    options: dict[str, Any] = {"seeds": 5, "epochs": 5, "optimizer": "sgd"}
    full, sweep = lr_sweep(net, X, y, rates, **options), lr_sweep(net, X, y, rates, halving=3, **options)
    assert halving.rungs(13, 5, 3) == [2, 3, 5]
    assert halving.seeds_of(5, 3) == [2, 4, 5]
    early, later = sweep.eliminated == 2, sweep.eliminated == 3
    assert early.any()
    assert (sweep.epochs_done[early] == [2, 2, 0, 0, 0]).all()
    assert (sweep.epochs_done[later] == [3, 3, 3, 3, 0]).all()
    known = np.isfinite(sweep.val_loss)
    assert np.array_equal(sweep.val_loss[known], full.val_loss[known])
    assert np.array_equal(sweep.start_loss, full.start_loss)
    # After the first epochs all rates are compared, by the seeds that all have.
    few = statistics.best_by_epoch(rates, full.val_loss[:, :2], full.start_loss[:2], np.zeros(13, int))
    assert sweep.best_by_epoch[:2].tolist() == few[:2].tolist()
    assert np.isfinite(sweep.best_by_epoch).all()
    assert not any("missing" in note for note in sweep.notes)


# --- journal ------------------------------------------------------------------------------------------------


def test_a_journal_is_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    X, y = blobs()
    net, path = MLP([6, 8, 3], seed=1), tmp_path / "sweep.jsonl"
    rates = [1e-3, 1e-2, 1e-1, 1e30]
    options: dict[str, Any] = {"seeds": 2, "epochs": 3, "optimizer": "sgd"}
    expected = lr_sweep(net, X, y, rates, journal=path, **options)
    whole = path.read_bytes()
    lines = whole.splitlines(keepends=True)
    assert len(lines) == 1 + 8
    trained: list[int] = []
    original = native.Native.train

    def spy(self: Any, which: Any, end: int) -> bool:
        trained.extend(which.tolist())
        return original(self, which, end)

    monkeypatch.setattr(native.Native, "train", spy)
    again = lr_sweep(net, X, y, rates, journal=path, **options)
    assert not trained
    assert path.read_bytes() == whole
    # The same figures, those that are not finite and the times too.
    assert json.dumps(again.to_dict()["val_loss"]) == json.dumps(expected.to_dict()["val_loss"])
    assert again.epoch_seconds.tobytes() == expected.epoch_seconds.tobytes()
    assert again.status.tolist() == expected.status.tolist()
    # A line that was being written when the power went.
    path.write_bytes(b"".join(lines[:6]) + lines[6][:-20])
    with pytest.warns(RuntimeWarning, match="last line is cut short"):
        third = lr_sweep(net, X, y, rates, journal=path, **options)
    assert len(trained) == 3
    assert third.val_loss.tobytes() == expected.val_loss.tobytes()
    assert third.train_loss.tobytes() == expected.train_loss.tobytes()
    assert len(path.read_bytes().splitlines()) == 9
    # More rates and seeds: only what is missing.
    trained.clear()
    lr_sweep(net, X, y, [*rates, 0.5], journal=path, **{**options, "seeds": 3})
    assert len(trained) == 7


def test_a_journal_of_halving(tmp_path: Path) -> None:
    X, y = blobs()
    net, path = MLP([6, 8, 3], seed=1), tmp_path / "sweep.jsonl"
    options: dict[str, Any] = {"seeds": 2, "epochs": 4, "halving": 2}
    rates = [1e-4, 1e-3, 1e-2, 1e-1]
    expected = lr_sweep(net, X, y, rates, journal=path, **options)
    lines = path.read_bytes().splitlines(keepends=True)
    going_on = 2 * int((expected.eliminated == 0).sum())
    assert len(lines) == 1 + 8 + going_on
    assert going_on < 8
    for kept in (5, 8 + going_on):  # cut in every rung
        path.write_bytes(b"".join(lines[:kept]))
        sweep = lr_sweep(net, X, y, rates, journal=path, **options)
        assert sweep.val_loss.tobytes() == expected.val_loss.tobytes()
        assert sweep.eliminated.tolist() == expected.eliminated.tolist()


def test_a_journal_of_plateaus(tmp_path: Path) -> None:
    """Runs that the journal knows in part, and that have to begin anew, beside others that go on."""
    X, y = blobs()
    net, path = MLP([6, 8, 3], seed=1), tmp_path / "sweep.jsonl"
    schedule = schedules.ReduceOnPlateau(patience=0, threshold=0.3)
    options: dict[str, Any] = {"seeds": 2, "epochs": 4, "halving": 2, "schedule": schedule}
    rates = [1e-4, 1e-3, 1e-2, 1e-1]
    expected = lr_sweep(net, X, y, rates, journal=path, **options)
    lines = path.read_bytes().splitlines(keepends=True)
    for kept in (4, 10, len(lines) - 1):
        path.write_bytes(b"".join(lines[:kept]))
        assert lr_sweep(net, X, y, rates, journal=path, **options).val_loss.tobytes() == expected.val_loss.tobytes()


@pytest.mark.parametrize(
    ("change", "named"),
    [({"epochs": 3}, "epochs"), ({"batch_size": 31}, "batch_size"), ({"optimizer": Adam(eps=1e-7)}, "optimizer"),
     ({"schedule": schedules.Cosine(2)}, "schedule"), ({"schedule": halve_slowly}, "schedule"), ({"X": 1}, "X"),
     ({"y": 1}, "y"), ({"net": MLP([6, 9, 3])}, "net"), ({"net": MLP([6, 8, 3], init="he_uniform")}, "net"),
     ({"validation_data": blobs(30)}, "validation_data")],
)  # fmt: skip
def test_a_journal_of_another_sweep_is_refused(tmp_path: Path, change: dict[str, Any], named: str) -> None:
    (X, y), path = blobs(), tmp_path / "sweep.jsonl"
    base: dict[str, Any] = {"net": MLP([6, 8, 3]), "epochs": 2, "optimizer": Adam(), "batch_size": 32}
    lr_sweep(X=X, y=y, learning_rates=[0.01], seeds=[1], journal=path, **base)
    before = path.read_bytes()
    other_X, other_y = X.copy(), y.copy()
    other_X[5, 2] += 0.5 * ("X" in change)
    other_y[:2] = (y[:2] + ("y" in change)) % 3
    options = {**base, **{name: value for name, value in change.items() if name not in ("X", "y")}}
    with pytest.raises(ValueError, match=rf"journal of another sweep: it differs in .*\b{named}\b"):
        lr_sweep(X=other_X, y=other_y, learning_rates=[0.01], seeds=[1], journal=path, **options)
    assert path.read_bytes() == before
    # The caller's seed and the rate of the optimiser are no part of it, nor is how values are written.
    written = {**base, "optimizer": Adam(np.float64(1), betas=(np.float64(0.9), 0.999), weight_decay=0)}
    lr_sweep(X=X, y=y, learning_rates=[0.01], seeds=[1], journal=path, **written)
    assert path.read_bytes() == before
    same = {**base, "net": MLP([6, 8, 3], seed=99), "optimizer": Adam(lr=0.3)}
    lr_sweep(X=X, y=y, learning_rates=[0.01], seeds=[1], journal=path, **same)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("content", "text"),
    [(b"lr,loss\n1,2\n", "line 1: this is not JSON"), (b'{"a": 1}\n', "is not a journal"), (b"x", "is not a journal"),
     (b"[1]\n", "line 1: this is not the record")],
)  # fmt: skip
def test_other_files_are_left_alone(tmp_path: Path, content: bytes, text: str) -> None:
    X, y = blobs()
    path = tmp_path / "sweep.jsonl"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=text):
        lr_sweep(MLP([6, 8, 3]), X, y, [0.01], seeds=1, epochs=1, journal=path)
    assert path.read_bytes() == content


def test_a_damaged_line_in_the_middle_is_named(tmp_path: Path) -> None:
    X, y = blobs()
    net, path = MLP([6, 8, 3], seed=1), tmp_path / "sweep.jsonl"
    lr_sweep(net, X, y, RATES, seeds=1, epochs=1, journal=path)
    lines = path.read_bytes().splitlines(keepends=True)
    for bad in (b"{\n", b'{"lr": 1, "seed": 2}\n', b"3\n"):
        path.write_bytes(b"".join([*lines[:2], bad, *lines[3:]]))
        with pytest.raises(ValueError, match="line 3"):
            lr_sweep(net, X, y, RATES, seeds=1, epochs=1, journal=path)
    path.write_bytes(lines[0][:50])  # only a part of the head
    with pytest.warns(RuntimeWarning, match="cut short"):
        lr_sweep(net, X, y, RATES, seeds=1, epochs=1, journal=path)
    assert len(path.read_bytes().splitlines()) == 4


# --- elsewhere ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["threads", "processes"])
def test_an_executor_gives_the_same_bits(kind: str) -> None:
    X, y = blobs()
    net = MLP([6, 8, 3], seed=1)
    options: dict[str, Any] = {"seeds": 2, "epochs": 4, "halving": 2, "schedule": schedules.Cosine(4)}
    expected = lr_sweep(net, X, y, [1e-4, *RATES], **options)
    context = multiprocessing.get_context("spawn")
    pool: Any = (
        concurrent.futures.ThreadPoolExecutor(2)
        if kind == "threads"
        else concurrent.futures.ProcessPoolExecutor(2, mp_context=context)
    )
    with pool as executor:
        sweep = lr_sweep(net, X, y, [1e-4, *RATES], executor=executor, **options)
    assert sweep.val_loss.tobytes() == expected.val_loss.tobytes()
    assert sweep.train_loss.tobytes() == expected.train_loss.tobytes()
    assert sweep.start_loss.tobytes() == expected.start_loss.tobytes()
    assert sweep.eliminated.tolist() == expected.eliminated.tolist()
    assert (sweep.threads, sweep.busy_seconds > 0) == (2, True)


@pytest.mark.skipif(sys.platform == "win32", reason="raise_signal does not reach a thread that computes")
def test_ctrl_c_keeps_what_has_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    X, y = blobs(4000)
    net, path = MLP([6, 64, 3], seed=1), tmp_path / "sweep.jsonl"
    rates, write = np.geomspace(1e-4, 1e-1, 400), Journal.write

    def interrupted(book: Journal, ledger: Any, which: Any) -> None:
        """Once the first runs have been written."""
        write(book, ledger, which)
        if len(path.read_bytes().splitlines()) > 1 and not sent:
            sent.append(which)
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    sent: list[Any] = []
    monkeypatch.setattr(Journal, "write", interrupted)
    with pytest.raises(SweepInterrupted, match=r"\d+ of 400 runs had finished, and kept in .*sweep.jsonl") as caught:
        lr_sweep(net, X, y, rates, seeds=1, epochs=20, batch_size=8, threads=2, journal=path)
    assert isinstance(caught.value, KeyboardInterrupt)
    sweep = caught.value.result
    finished = int((sweep.status == "finished").sum())
    assert len(path.read_bytes().splitlines()) == 1 + finished
    assert finished < 400
    assert any("the sweep was interrupted" in note for note in sweep.notes)
    assert "missing" in str(sweep)


# --- the result ---------------------------------------------------------------------------------------------


def made(val: Any, rates: Any = None, start: float = 10.0, **changes: Any) -> LrSweep:
    """A result of given final losses ``(K, S)``; NaN: diverged."""
    final = np.asarray(val, np.float64)
    k, s = final.shape
    losses = np.stack([final + 1, final], axis=2)
    values: dict[str, Any] = {
        "learning_rates": np.geomspace(1e-3, 10.0 ** (k - 4), k) if rates is None else np.asarray(rates),
        "seeds": np.arange(s), "train_loss": losses - 0.5, "val_loss": losses,
        "epoch_seconds": np.full((k, s, 2), 0.25), "seconds": np.full((k, s), 0.6),
        "status": np.where(np.isnan(final), "diverged", "finished"), "epochs_done": np.full((k, s), 2),
        "start_loss": np.full(s, start), "eliminated": np.zeros(k, np.int64), "wall_seconds": 2.0,
        "busy_seconds": 3.0, "threads": 2, "n_train": 100, "n_held": 20, "flops_per_row": 1000,
    }  # fmt: skip
    return LrSweep(**(values | changes))


def test_best_interval_and_recommendation() -> None:
    # Rates a decade apart are no neighbours. Row 1 is as good as the best by its own differences, row 0 is not; row 4
    # would be, but for row 3 in between.
    best = np.array([1.0, 2.0, 3.0, 4.0])
    off = np.array([[0.1, 0.2, 0.3, 0.4], [0.5, -0.3, 0.3, -0.1], [0, 0, 0, 0], [1, 1.1, 0.9, 1], [0, 0, 0, 1e-4]])
    sweep = made([*(best + off), best + 5])
    assert sweep.best_lr == sweep.recommended_lr == sweep.learning_rates[2]
    assert sweep.in_interval.tolist() == [False, True, True, False, False, False]
    assert sweep.interval == tuple(sweep.learning_rates[[1, 2]])
    assert np.allclose(sweep.val_error, best.std(ddof=1) / 2, atol=0.2)
    assert np.allclose(sweep.mean_val_loss[2], 2.5)
    assert np.allclose(sweep.mean_train_loss[2], 2.0)
    assert any("4 seeds: the interval is indicative" in note for note in sweep.notes)
    assert sweep.edge == ""


def test_the_interval_ends_where_a_rate_diverged() -> None:
    losses = np.ones((5, 3))
    losses[3, 1] = NAN
    losses[4] = 1.0
    losses[1, :] = 0.5
    losses[0, :] = [0.51, 0.41, 0.61]
    losses[2] = 0.5
    sweep = made(losses)
    assert sweep.eligible.tolist() == [True, True, True, False, True]
    assert sweep.in_interval.tolist() == [True, True, True, False, False]
    assert sweep.recommended_lr == sweep.learning_rates[1]
    assert sweep.divergence_boundary == (sweep.learning_rates[2], sweep.learning_rates[3])


def test_a_rate_with_one_diverged_seed_is_not_eligible() -> None:
    sweep = made([[1.0, 1.0], [0.1, NAN], [2.0, 2.0]])
    assert sweep.best_lr == sweep.learning_rates[0]
    assert np.isnan(sweep.mean_val_loss[1])
    assert "diverged (1 of 2)" in str(sweep)


def test_one_seed_has_no_interval() -> None:
    sweep = made([[2.0], [1.0], [1.0]])
    assert sweep.interval == (sweep.best_lr, sweep.best_lr)
    assert any("one seed" in note for note in sweep.notes)
    assert np.isnan(sweep.val_error).all()


def test_edges() -> None:
    low, high = made([[1.0], [2.0], [3.0]]), made([[3.0], [2.0], [1.0]])
    assert low.edge.endswith("is the lowest of those swept: extend the sweep downwards")
    assert high.edge.endswith("is the highest of those swept: extend the sweep upwards")
    assert high.notes[0] == high.edge
    assert made([[1.0]]).edge == ""
    X, y = blobs()
    with pytest.warns(UserWarning, match="extend the sweep upwards"):
        lr_sweep(MLP([6, 8, 3], seed=0), X, y, [1e-7, 1e-6, 1e-5], seeds=1, epochs=1)


def test_sensitivity() -> None:
    """By hand: excess (9, 2, 0, 9) over log rates 0, 1, 2, 4 (of 10): (5.5 + 1 + 2 * 4.5) / 4."""
    sweep = made([[30.0, 12.0], [3.0, 3.0], [1.0, 1.0], [NAN, 5.0]], rates=[1.0, 10.0, 100.0, 10000.0], start=10.0)
    # Row 0 is capped at J0 = 10; of row 3 one seed diverged (10), the other has 5: 7.5.
    assert sweep.sensitivity == pytest.approx((5.5 + 1.0 + 2 * 3.25) / 4)
    assert made([[2.0]]).sensitivity == 0.0
    assert statistics.sensitivity(np.ones(1), np.full((1, 1), NAN), np.zeros((1, 1), bool), np.ones(1), None) is None


def test_best_by_epoch_passes_over_what_is_not_known() -> None:
    losses = np.array([[[NAN, 2.0, NAN]], [[3.0, 1.0, NAN]]])
    found = statistics.best_by_epoch(np.array([0.1, 0.2]), losses, np.full(1, 9.0), np.zeros(2, np.int64))
    assert found[:2].tolist() == [0.2, 0.2]
    assert np.isnan(found[2])


def test_best_by_epoch_and_the_profile() -> None:
    val = np.array([[[5.0, 3.0, 3.0]], [[4.0, 3.5, 1.0]], [[1.0, NAN, NAN]], [[6.0, 2.0, 2.0]]])
    seconds = np.array([[[1.0, 2.0, 3.0]], [[1.0, 1.0, 1.0]], [[1.0, NAN, NAN]], [[2.0, 2.0, 2.0]]])
    sweep = made(
        np.zeros((4, 1)), val_loss=val, train_loss=val, epoch_seconds=seconds, target_loss=3.0,
        status=np.array([["finished"], ["finished"], ["diverged"], ["finished"]]),
        epochs_done=np.array([[3], [3], [1], [3]]), seconds=np.array([[7.0], [3.5], [1.5], [6.5]]),
    )  # fmt: skip
    rates = sweep.learning_rates
    assert sweep.best_by_epoch.tolist() == [rates[2], rates[3], rates[1]]  # alive then, though it diverged later
    assert sweep.seconds_to_target.tolist() == [[3.0], [3.0], [1.0], [4.0]]
    assert sweep.samples_per_second.tolist() == [[50.0], [100.0], [100.0], [50.0]]
    assert sweep.gflops[1, 0] == pytest.approx(1e-4)
    profile = sweep.profile
    assert profile["occupancy"] == pytest.approx(0.75)
    assert profile["lost_seconds"] == 1.5
    assert profile["seconds_per_run"] == 6.5
    assert profile["seconds_per_epoch"] == 1.5
    assert profile["reached_target"] == 4
    assert profile["seconds_to_target"] == 3.0


def test_what_is_measured_is_plausible() -> None:
    X, y = blobs(3000)
    sweep = lr_sweep(MLP([6, 32, 3], seed=0), X, y, RATES, seeds=2, epochs=3, target_loss=0.9, threads=2)
    assert (sweep.epoch_seconds > 0).all()
    assert (sweep.epoch_seconds.sum(axis=2) <= sweep.seconds).all()
    assert sweep.seconds.sum() <= sweep.busy_seconds * (1 + 1e-9)
    assert 0 < sweep.profile["occupancy"] <= 1
    reached = np.isfinite(sweep.seconds_to_target)
    assert np.array_equal(reached, (sweep.val_loss <= 0.9).any(axis=2))
    assert reached.any()
    assert "runs reached a validation loss of 0.9" in str(sweep)


def test_files_and_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    X, y = line()
    net = MLP([6, 12, 2], loss="mse", seed=2)
    sweep = lr_sweep(net, X, y, [1e-4, 1e-3, 1e-2, 1e30], seeds=2, epochs=2, optimizer=SGD(momentum=0.9))
    sweep.to_json(tmp_path / "sweep.json")
    found = json.loads((tmp_path / "sweep.json").read_text())
    assert found["val_loss"][0] == sweep.val_loss[0].tolist()
    assert found["val_loss"][3] == [[None] * 2] * 2
    assert found["about"]["optimizer"].startswith("SGD(weight_decay=0.0, momentum=0.9, nesterov=False")
    assert (found["best_lr"], found["recommended_lr"]) == (sweep.best_lr, sweep.recommended_lr)
    sweep.to_csv(tmp_path / "sweep.csv")
    with open(tmp_path / "sweep.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 8
    assert float(rows[0]["val_loss"]) == sweep.val_loss[0, 0, -1]
    assert (rows[7]["status"], rows[7]["val_loss"]) == ("diverged", "")
    text = str(sweep)
    assert all(f"{rate:.3g}" in text for rate in sweep.learning_rates)
    assert "4 learning rates x 2 seeds, 2 epochs, SGD(" in text
    assert "diverges from 1e+30 on, not yet at 0.01" in text
    assert max(map(len, text.split("\n\n")[1].splitlines())) <= 100
    for what in ("curve", "losses", "best"):
        sweep.plot(tmp_path / f"{what}.png", what=what)
        assert (tmp_path / f"{what}.png").stat().st_size > 5000
    with pytest.raises(ValueError, match="what='curves' is unknown"):
        sweep.plot(what="curves")
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match="needs pandas"):
        sweep.to_dataframe()


def test_the_curve_in_characters() -> None:
    text = str(made([[9.0], [2.0], [1.0], [NAN], [3.0]]))
    bars = [line.split("|")[1] for line in text.splitlines() if " |" in line]
    assert len(bars) == 5
    assert bars[0] == "██"
    assert bars[-1] == "██▆▆▁▁  ██"
    assert "+    ^ x" in text


def test_progress(capsys: pytest.CaptureFixture[str]) -> None:
    X, y = blobs()
    lr_sweep(MLP([6, 8, 3], seed=0), X, y, [1e-3, 1e-2, 1e-1, 1e30], seeds=2, epochs=4, halving=2, progress=True,
             optimizer="sgd")  # fmt: skip
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "8/8" in captured.err
    assert "best so far lr" in captured.err


# --- refusals -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "kind", "text"),
    [
        ({"learning_rates": []}, ValueError, "learning_rates is empty"),
        ({"learning_rates": 0.1}, TypeError, "learning_rates must be a sequence"),
        ({"learning_rates": [0.1, -1]}, ValueError, r"learning_rates\[1\] must be a positive finite number"),
        ({"seeds": 0}, ValueError, "seeds must be a positive integer"),
        ({"seeds": [1, 1]}, ValueError, "seeds must be different integers"),
        ({"seeds": [1, -1]}, ValueError, "seed must be None or an integer"),
        ({"seeds": []}, ValueError, "at least one"),
        ({"epochs": 0}, ValueError, "epochs must be a positive integer"),
        ({"halving": 1}, ValueError, "halving must be at least 2"),
        ({"target_loss": NAN}, ValueError, "target_loss must be a finite number"),
        ({"threads": 0}, ValueError, "threads must be a positive integer"),
        ({"optimizer": "adm"}, ValueError, "did you mean 'adam'"),
        ({"schedule": 3}, TypeError, "schedule must be None"),
        ({"validation_data": 3}, TypeError, "validation_data must be a pair"),
        ({"optimizer": "lbfgs"}, ValueError, "has no learning rate to sweep"),
        ({"optimizer": "rprop", "schedule": schedules.Cosine(3)}, ValueError, "schedule must be None"),
        (
            {"optimizer": "adam", "net": MLP([6, 8, 3], loss=CrossEntropy(ignore_index=0)), "y": np.zeros(150, int)},
            ValueError,
            "weights of all",
        ),
        ({"executor": 3}, TypeError, "executor must be a concurrent.futures.Executor"),
        ({"net": 3}, TypeError, "net must be a fastbp.MLP"),
        ({"X": np.full((150, 6), NAN)}, ValueError, r"X\[0, 0\] is nan"),
    ],
)
def test_refusals(change: dict[str, Any], kind: type[Exception], text: str) -> None:
    X, y = blobs()
    arguments: dict[str, Any] = {"net": MLP([6, 8, 3], seed=0), "X": X, "y": y, "learning_rates": RATES, "epochs": 1}
    with pytest.raises(kind, match=text):
        lr_sweep(**(arguments | change))


def test_rates_are_sorted_and_each_once() -> None:
    X, y = blobs()
    sweep = lr_sweep(MLP([6, 8, 3], seed=0), X, y, (x for x in (0.1, 0.01, 0.1, 1.0)), seeds=1, epochs=1)
    assert sweep.learning_rates.tolist() == [0.01, 0.1, 1.0]
