"""The benchmark: its table and flop counts, the check before the clock, the protocol, the document, the command."""

from __future__ import annotations

import importlib.util
import json
import math
import os
import subprocess
import sys
from dataclasses import replace
from io import StringIO
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from peers import REQUIRED
from rich.console import Console
from threadpoolctl import threadpool_info

from fastbp import MLP, initializers
from fastbp.bench import (
    blas,
    machine,
    peers,
    predictors,
    profile,
    protocol,
    report,
    result,
    rivals,
    roofline,
    runner,
    startup,
    verify,
    workloads,
)
from fastbp.bench.result import Block, Peak, RivalResult, Setting, Start, StartUp, Trial, Verification, WorkloadResult
from fastbp.bench.workloads import HELD, PREDICTIONS, WORKLOADS, Workload
from fastbp.cli import bench
from fastbp.losses import LOSSES

INSTANT = protocol.Protocol(
    block_seconds=0.001,
    blocks=2,
    idle_seconds=0.0,
    warmup_seconds=0.0,
    trial_seconds=0.001,
    trial_rounds=1,
    peak_seconds=0.005,
)
SMALL = Workload("small", (5, 7, 3), 8, 64)
SMALL_MSE = Workload("small-mse", (5, 7, 6, 4), 8, 64, activation="tanh", loss="mse", optimizer="adam", lr=1e-3)


# ---- Workloads


def test_old_workloads_are_what_they_were() -> None:
    """Figures are compared with those of earlier versions. A new workload needs no line here."""
    expected = {
        "tiny": ((4, 16, 3), 16),
        "digits": ((64, 64, 10), 32),
        "digits-deep": ((64, 128, 64, 10), 64),
        "mnist": ((784, 128, 10), 128),
        "mnist-deep": ((784, 256, 128, 10), 128),
        "large": ((784, 1024, 1024, 10), 512),
        "online": ((20, 40, 4), 1),
        "rl": ((8, 64, 64, 2), 256),
        "simplechains": ((4, 32, 16, 4), 10_000),
    }
    for name, shape in expected.items():
        workload = WORKLOADS[name]
        assert (workload.sizes, workload.batch_size) == shape
        method = (workload.activation, workload.loss, workload.optimizer, workload.dtype)
        regression = name in ("rl", "simplechains")
        assert method == (("tanh", "mse", "adam") if regression else ("relu", "cross_entropy", "sgd")) + ("float32",)
    assert WORKLOADS["simplechains"].steps_per_epoch == 1


@pytest.mark.parametrize("workload", (WORKLOADS | HELD).values(), ids=WORKLOADS | HELD)
def test_flops_count_each_product_of_a_step(workload: Workload) -> None:
    flops = 0
    for layer, (n_in, n_out) in enumerate(pairwise(workload.sizes)):
        flops += (2 + (layer > 0)) * 2 * workload.batch_size * n_in * n_out
    assert workload.flops_per_step == flops
    assert workload.flops_per_step == workload.flops_forward + workload.flops_weight_gradient + workload.flops_delta


def test_flops_of_mnist() -> None:
    assert WORKLOADS["mnist"].flops_per_step == 2 * 2 * 128 * (784 * 128 + 128 * 10) + 2 * 128 * 128 * 10


@pytest.mark.parametrize(
    "workload", [*WORKLOADS.values(), *HELD.values(), replace(SMALL_MSE, dtype="float64")], ids=lambda w: w.name
)
def test_data_has_the_shapes_and_is_seeded(workload: Workload) -> None:
    X, y = workload.data()
    assert X.shape == (workload.n_samples, workload.sizes[0])
    assert X.dtype == np.dtype(workload.dtype)
    if workload.loss == "cross_entropy":
        assert y.dtype == np.int64
        assert set(np.unique(y)) == set(range(workload.sizes[-1]))
    else:
        assert y.shape == (workload.n_samples, workload.sizes[-1])
        assert y.dtype == X.dtype
    for again, array in zip(workload.data(), (X, y), strict=True):
        np.testing.assert_array_equal(again, array)
    assert not np.array_equal(replace(workload, seed=workload.seed + 1).data()[0], X)


def test_initial_weights_are_those_of_the_library() -> None:
    weights, biases = SMALL_MSE.initial_weights()
    expected, _ = initializers.initial_weights((5, 7, 6, 4), ["tanh", "tanh", "identity"], None, 0, "float32")
    for weight, wanted in zip(weights, expected, strict=True):
        np.testing.assert_array_equal(weight, wanted)
    assert [bias.shape for bias in biases] == [(7,), (6,), (4,)]


def test_rows_must_fill_the_batches() -> None:
    with pytest.raises(ValueError, match="n_samples must be a positive multiple of batch_size 8, got 65"):
        replace(SMALL, n_samples=65)


def test_select_keeps_the_order_of_the_table() -> None:
    assert [workload.name for workload in workloads.select(("large", "tiny"))] == ["tiny", "large"]
    assert workloads.select(None) == workloads.select(()) == [*WORKLOADS.values(), *PREDICTIONS.values()]
    assert workloads.select(("held",)) == list(HELD.values())
    low = ["mnist", "mnist-deep", "large", "held-regression", "wide"]
    assert [one.name for one in workloads.select(("bfloat16",))] == low
    assert workloads.select(("held-46", "held-45", "tiny")) == [WORKLOADS["tiny"], HELD["held-45"], HELD["held-46"]]
    with pytest.raises(ValueError, match="workload='tny'"):
        workloads.select(("tny",))


# ---- Rivals and their verification


def _setup(rival: rivals.Rival, workload: Workload) -> rivals.Task:
    try:
        rival.load()
    except rivals.MissingPeerError as error:
        if REQUIRED:
            raise
        pytest.skip(str(error))
    task = rivals.Task.of(workload)
    rival.setup(task)
    return task


@pytest.mark.parametrize("workload", [SMALL, SMALL_MSE], ids=lambda w: w.name)
@pytest.mark.parametrize("kind", [rivals.FastbpRival, rivals.NumpyRival, *peers.PEERS.values()])
def test_rival_reaches_the_reference_losses_in_every_setting(kind: Any, workload: Workload) -> None:
    rival = kind()
    task = _setup(rival, workload)
    try:
        verdict = verify.verify(rival, task, verify.expected_losses(task), rival.settings(2))
        assert verdict.passed, verdict
        rival.reset()
        shuffled = rival.train(3, shuffle=True)
        assert len(shuffled) == 3
        assert shuffled[-1] < shuffled[0]
        rival.reset()
        assert rival.train(1, shuffle=False)[0] == pytest.approx(verdict.expected[0], rel=1e-5)
    finally:
        rival.close()


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("loss", ["cross_entropy", "mse"])
def test_sklearn_trains_the_same_with_either_optimizer_and_loss(loss: str, optimizer: str) -> None:
    rival = peers.SklearnRival()
    task = _setup(rival, replace(SMALL, loss=loss, optimizer=optimizer))
    assert verify.verify(rival, task, verify.expected_losses(task), [Setting()]).passed


def test_sklearn_refuses_an_activation_it_lacks() -> None:
    assert peers.SklearnRival().unsupported(replace(SMALL, activation="gelu")) == "has no activation gelu"


@pytest.mark.parametrize("kind", [peers.SklearnRival, peers.TorchRival, peers.JaxRival])
@pytest.mark.parametrize("change", [{"loss": "huber"}, {"optimizer": "momentum"}])
def test_peers_refuse_what_they_were_not_written_for(kind: Any, change: dict[str, str]) -> None:
    (value,) = change.values()
    assert kind().unsupported(SMALL) is None
    assert value in kind().unsupported(replace(SMALL, **change))


@pytest.mark.parametrize("loss", LOSSES)
def test_a_workload_has_targets_for_its_loss(loss: str) -> None:
    X, y = replace(SMALL, loss=loss).data()
    assert np.isfinite(MLP(SMALL.sizes, loss=loss, seed=0).fit(X, y, epochs=1).loss).all()


@pytest.mark.parametrize("change", [{"lr": 0.0101}, {"activation": "tanh"}, {"seed": 1}])
def test_a_rival_that_trains_differently_is_caught(change: dict[str, Any]) -> None:
    task = rivals.Task.of(SMALL)
    other = replace(SMALL, **change)
    weights, biases = other.initial_weights()
    rival = rivals.NumpyRival()
    rival.setup(rivals.Task(other, task.X, task.y, weights, biases))
    verdict = verify.verify(rival, task, verify.expected_losses(task), [Setting()])
    assert not verdict.passed
    assert verdict.difference is not None
    assert verdict.difference > verdict.tolerance


class _Scripted(rivals.Rival):
    """A rival whose epochs take a scripted time on a fake clock."""

    package = "numpy"

    steps_per_epoch = 1

    def __init__(self, name: str, clock: _Clock, seconds: float = 0.01, losses: tuple[float, ...] = ()) -> None:
        self.name = name
        self.clock, self.seconds, self.losses = clock, seconds, losses
        self.setting = Setting()

    def setup(self, task: rivals.Task) -> None:
        pass

    def reset(self) -> None:
        self.clock.log.append(f"{self.name} reset")

    def apply(self, setting: Setting) -> None:
        self.setting = setting

    def train(self, epochs: int, *, shuffle: bool) -> list[float]:
        # Two threads take half the time of one.
        self.clock.now += epochs * self.seconds / (self.setting.threads or 1)
        self.clock.log.append(f"{self.name} trains")
        return list(self.losses) or [1.0] * epochs


class _Clock:
    def __init__(self) -> None:
        self.now = 0.0
        self.log: list[str] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.log.append("idle")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> _Clock:
    fake = _Clock()
    monkeypatch.setattr(protocol, "perf_counter", fake)
    monkeypatch.setattr(protocol, "sleep", fake.sleep)
    return fake


@pytest.mark.parametrize("losses", [(math.nan, 1.0), (1.0, math.inf), (1.0,), (1.0, 1.0, 1.0)])
def test_losses_that_are_missing_or_not_finite_fail(losses: tuple[float, ...], clock: _Clock) -> None:
    rival = _Scripted("broken", clock, losses=losses)
    verdict = verify.verify(rival, rivals.Task.of(SMALL), (1.0, 1.0), [Setting(1), Setting(2)])
    assert not verdict.passed
    assert verdict.difference is None
    json.dumps(verdict.losses, allow_nan=False)


def test_the_worst_setting_is_the_verdict(clock: _Clock) -> None:
    class Uneven(_Scripted):
        def train(self, epochs: int, *, shuffle: bool) -> list[float]:
            return [1.0 + (0.1 if self.setting.threads == 2 else 0.0)] * epochs

    for order in ([1, 2, 3], [2, 1, 3], [3, 1, 2]):
        settings = [Setting(n) for n in order]
        verdict = verify.verify(Uneven("uneven", clock), rivals.Task.of(SMALL), (1.0, 1.0), settings)
        assert (verdict.passed, verdict.setting) == (False, Setting(2))


def test_epochs_to_compare() -> None:
    assert [verify.epochs_to_compare(steps) for steps in (1, 4, 6, 100)] == [12, 3, 2, 2]


def test_missing_peer_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(rivals.MissingPeerError, match=r'"torch" is not installed: pip install "fastbp\[peers\]"'):
        peers.TorchRival().load()


SMALL_PREDICTION = Workload("small", (6, 5, 3), 4, 4, task="predict")


@pytest.mark.parametrize(
    "kind", [predictors.FastbpPredictor, predictors.NumpyPredictor, *predictors.PREDICTORS.values()]
)
def test_predictors_compute_the_loss_of_the_reference(kind: Any) -> None:
    rival = kind()
    task = _setup(rival, SMALL_PREDICTION)
    expected = predictors.expected_losses_of_rows(task)
    try:
        for setting in rival.settings(2):
            rival.apply(setting)
            rival.reset()
            assert rival.train(1, shuffle=False) == pytest.approx(expected, rel=1e-5)
            assert rival.train(3, shuffle=True) == []
            assert rival.outputs().shape == (4, 3)
    finally:
        rival.close()


def test_a_profile_adds_up(tmp_path: Path) -> None:
    found = profile.run(["tiny", "rl"], threads=1)
    for one in found:
        assert one.threads == 1
        assert sum(part.seconds for part in one.parts) == pytest.approx(one.seconds, rel=0.2)
        assert sum(part.flops for part in one.parts) == one.workload.flops_per_step
        assert {part.phase for part in one.parts} == {
            "gather", "forward", "loss", "backward", "update", "waiting", "barrier", "other"
        }  # fmt: skip
        assert all(part.limit in ("", "FMA", *profile.LEVELS) for part in one.parts)
    json.dumps([one.to_document() for one in found], allow_nan=False)
    roofline.plot(found, tmp_path / "roof.png")
    assert (tmp_path / "roof.png").read_bytes().startswith(b"\x89PNG")
    text = StringIO()
    # As wide as a network that takes 100 ms a step makes it.
    slow = [replace(part, seconds=0.05, flops=9 * 10**10, bytes=9 * 10**9) for part in found[0].parts]
    Console(file=text, width=80).print(roofline.render([*found, replace(found[0], parts=slow, seconds=0.1)]))
    assert "8-64-64-2" in text.getvalue()
    assert "backward" in text.getvalue()
    assert "…" not in text.getvalue()
    assert max(map(len, text.getvalue().splitlines())) <= 80


def test_profile_from_the_command_line(tmp_path: Path) -> None:
    path = tmp_path / "profile.json"
    done = CliRunner().invoke(bench.bench, ["--profile", "--workload", "tiny", "--out", str(path), "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(path.read_text())["profiles"][0]["workload"]["name"] == "tiny"
    assert json.loads(done.stdout) == json.loads(path.read_text())
    for wrong in (["--plot", "x.png"], ["--profile", "--workload", "predict-row"]):
        assert CliRunner().invoke(bench.bench, wrong).exit_code == 2


def test_thread_counts() -> None:
    assert [rivals.thread_counts(n) for n in (1, 2, 3, 8)] == [[1], [1, 2], [1, 3], [1, 4, 8]]


def test_blas_threads_are_restored() -> None:
    def counts() -> list[int]:
        return [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]

    before = counts()
    rival = rivals.NumpyRival()
    rival.apply(Setting(1))
    assert set(counts()) == {1}
    rival.close()
    assert counts() == before


def test_without_threadpoolctl_numpy_runs_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    rival = rivals.NumpyRival()
    assert rival.settings(4) == (Setting(),)
    rival.apply(Setting())
    rival.close()
    assert any("fastbp[bench]" in note for note in rival.notes())


def test_bare_products_are_all_products_of_a_step() -> None:
    bare = rivals.BareProducts()
    bare.setup(rivals.Task.of(SMALL_MSE))
    flops = sum(2 * left.shape[0] * left.shape[1] * right.shape[1] for left, right, _ in bare.products)
    assert flops == SMALL_MSE.flops_per_step
    bare.train(1, shuffle=True)
    for left, right, out in bare.products:
        np.testing.assert_allclose(out, left @ right, rtol=1e-5, atol=1e-5)


# ---- Protocol


def test_block_idles_warms_up_and_lasts_long_enough(clock: _Clock) -> None:
    rival = _Scripted("one", clock, seconds=0.07)
    rival.steps_per_epoch = 10
    timing = protocol.Protocol(block_seconds=0.5, idle_seconds=0.3, warmup_seconds=0.1)
    block = protocol.time_block(protocol.Entry(rival, Setting(1)), timing, timing.block_seconds)
    assert block.seconds >= 0.5
    assert block.seconds_per_step == pytest.approx(0.007)
    assert clock.log == ["one reset", "idle", "one trains", "one trains", "one trains"]  # two to warm up, one timed
    assert clock.now == pytest.approx(0.3 + 2 * 0.07 + block.seconds)


def test_block_goes_on_when_the_warm_up_was_slow(clock: _Clock) -> None:
    class Waking(_Scripted):
        def train(self, epochs: int, *, shuffle: bool) -> list[float]:
            self.seconds = 1.0 if "one trains" not in self.clock.log else 0.01
            return super().train(epochs, shuffle=shuffle)

    block = protocol.time_block(protocol.Entry(Waking("one", clock), Setting(1)), protocol.Protocol(), 0.5)
    assert block.seconds == pytest.approx(0.5)
    assert block.steps == 50


def test_better_setting_is_found(clock: _Clock) -> None:
    settings = [Setting(1), Setting(4), Setting(2)]
    rival = _Scripted("one", clock)
    rival.steps_per_epoch = 5
    chosen, trials = protocol.try_settings(rival, settings, protocol.FULL)
    assert chosen == Setting(4)
    assert [trial.setting for trial in trials] == settings
    assert [trial.seconds_per_step for trial in trials] == pytest.approx([0.002, 0.0005, 0.001])
    assert protocol.try_settings(rival, [Setting()], protocol.FULL) == (Setting(), ())


def test_rivals_take_turns_and_the_turn_rotates(clock: _Clock) -> None:
    entries = [protocol.Entry(_Scripted(name, clock), Setting(1)) for name in "abc"]
    blocks = protocol.interleave(entries, replace(INSTANT, blocks=3))
    assert [len(of_one) for of_one in blocks] == [3, 3, 3]
    assert [line[0] for line in clock.log if line.endswith("reset")] == list("abcbcacab")


@pytest.mark.parametrize(("seconds", "turns"), [(-1.0, 1), (3.0, 1), (7.0, 2)])
def test_no_turn_but_the_first_begins_past_the_deadline(clock: _Clock, seconds: float, turns: int) -> None:
    entries = [protocol.Entry(_Scripted(name, clock, seconds=1.0), Setting(1)) for name in "ab"]
    blocks = protocol.interleave(entries, replace(INSTANT, blocks=9), deadline=clock.now + seconds)
    assert [len(of_one) for of_one in blocks] == [turns, turns]  # 4 s each: a warm-up and a block of 1 s for two


def test_median_and_spread_are_over_blocks() -> None:
    timed = RivalResult("x", Setting(1), None, (), (Block(1.0, 10), Block(9.0, 10), Block(4.0, 20)))
    assert (timed.fastest, timed.seconds_per_step, timed.slowest) == (0.1, 0.2, 0.9)


# ---- Result, document, tables


@pytest.fixture
def sample() -> result.BenchResult:
    good = Verification(True, 1e-5, 1e-7, Setting(2), (1.0, 0.5), (1.0, 0.5))
    bad = Verification(False, 1e-5, 0.25, Setting(None, "fused"), (None, 0.5), (1.0, 0.5))
    trials = (Trial(Setting(1), 2e-3), Trial(Setting(2), 1e-3))
    timed = (Block(0.5, 1000, 45.0, 47.0), Block(0.6, 1000, 130.0, 130.0), Block(0.4, 1000, 41.0, 45.0))
    fast = RivalResult("fastbp", Setting(2), good, trials, timed)
    slow = RivalResult("numpy", Setting(1), good, (), (Block(0.5, 500),))
    bare = RivalResult("bare products", Setting(1), None, (), (Block(0.5, 625),))
    parts = {"gather": 5e-5, "forward": 4.5e-4, "loss": 3e-5, "backward": 4e-4, "update": 7e-5}
    return result.BenchResult(
        date="2030-01-02T03:04:05+00:00",
        machine={"processor": "Test CPU", "architecture": "x86_64", "system": "Linux", "python": "3.11.0"},
        versions={"fastbp": "0.1.0", "numpy": "2.0.0"},
        threads=2,
        settings={"quick": True, "blocks": 3, "block_seconds": 0.5},
        peaks=(Peak("float32", 1, 118.0), Peak("float32", 2, 236.0)),
        workloads=(
            WorkloadResult(WORKLOADS["mnist"], (fast, slow, RivalResult("torch", None, bad)), bare, parts, 0.2),
        ),
        startup=StartUp(Start(0.5, 0.05, 9.0), Start(0.5, 0.05, 0.3)),
        notes=("something to know",),
        warnings=("something slows NumPy down",),
    )


def test_document_survives_a_round_trip(sample: result.BenchResult, tmp_path: Path) -> None:
    path = tmp_path / "bench.json"
    report.save(sample.to_document(), path)
    assert report.load(path) == sample
    assert [entry.name for entry in tmp_path.iterdir()] == ["bench.json"]
    document = json.loads(path.read_text(encoding="utf-8"))
    assert (document["kind"], document["schema"], document["passed"]) == ("fastbp-bench", result.SCHEMA, False)
    entry = document["workloads"][0]
    assert entry["workload"]["flops_per_step"] == WORKLOADS["mnist"].flops_per_step
    assert entry["rivals"][1]["figures"]["ratio_to_fastbp"] == pytest.approx(2.0)
    assert entry["rivals"][2]["figures"] is None
    assert len(entry["rivals"][0]["blocks"]) == 3
    without = replace(sample, startup=None, workloads=(replace(sample.workloads[0], bare_products=None),))
    report.save(without.to_document(), path)
    assert report.load(path) == without


def test_figures_follow_from_the_measurements(sample: result.BenchResult) -> None:
    entry = sample.workloads[0]
    values = result.figures(sample, entry, entry.rivals[0])
    assert values is not None
    assert values["microseconds_per_step"] == pytest.approx(500.0)
    assert values["samples_per_second"] == pytest.approx(128 / 500e-6)
    assert values["gflops"] == pytest.approx(entry.workload.flops_per_step / 500e-6 / 1e9)
    assert values["percent_of_peak"] == pytest.approx(100 * entry.workload.flops_per_step / 500e-6 / 236e9)
    assert values["ratio_to_fastbp"] == 1.0
    assert entry.baseline_ratio == pytest.approx(1.25)


@pytest.mark.parametrize("document", [{"kind": "fastbp-bench", "schema": 0}, {"kind": "other"}, {}, []])
def test_other_documents_are_refused(document: object, tmp_path: Path) -> None:
    path = tmp_path / "other.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    with pytest.raises(ValueError, match="must"):
        report.load(path)


@pytest.mark.skipif(os.name != "posix", reason="no umask")
def test_the_mode_of_a_document_is_that_of_the_umask(sample: result.BenchResult, tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        report.save(sample.to_document(), tmp_path / "bench.json")
    finally:
        os.umask(before)
    assert (tmp_path / "bench.json").stat().st_mode & 0o777 == 0o600


def test_a_failed_write_leaves_the_old_file(
    sample: result.BenchResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "bench.json"
    path.write_text("old", encoding="utf-8")

    def fail(*_: Any) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        report.save(sample.to_document(), path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["bench.json"]
    assert path.read_text(encoding="utf-8") == "old"


@pytest.mark.parametrize("width", [80, 132])
def test_table_shows_everything_that_fits(sample: result.BenchResult, width: int) -> None:
    console = Console(width=width, file=StringIO())
    console.print(report.render(sample, width=width))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "…" not in text
    for piece in (
        "mnist",
        "fastbp",
        "2 threads",
        "500",
        "losses off 2e-01",
        "cold",
        "0.300",
        "note: something to know",
        "WARNING: something slows NumPy down",
    ):
        assert piece in text, piece
    assert ("400 to 600" in text) == (width >= report.FULL_WIDTH)
    said = " ".join(text.split())
    assert "1,000 µs/step, 1.25x its bare matrix products of 800" in said
    for part in ("cold operands 50", "loop 50", "loss 30", "update 70"):  # 1,000 = 800 + these
        assert f"{part}." in said, part
    assert "near │ 45 │ 2 │ fastbp 450 │" in said
    assert "far │ 130 │ 1 │ fastbp 600 │" in said


# ---- The run and the command


@pytest.fixture
def small_table(monkeypatch: pytest.MonkeyPatch) -> None:
    table = {"tiny": replace(SMALL, name="tiny"), "mnist": replace(SMALL_MSE, name="mnist")}
    monkeypatch.setattr(runner, "select", lambda names: [table[name] for name in names or table])
    monkeypatch.setattr(runner, "QUICK", INSTANT)


@pytest.mark.usefixtures("small_table")
def test_run_verifies_and_times_everyone() -> None:
    said: list[str] = []
    found = runner.run(None, threads=2, quick=True, progress=said.append)
    assert found.passed
    assert [entry.workload.name for entry in found.workloads] == ["tiny", "mnist"]
    for entry in found.workloads:
        assert [timed.rival for timed in entry.rivals] == ["fastbp", "numpy"]
        for timed in entry.rivals:
            assert timed.verification is not None
            assert timed.verification.passed
            assert len(timed.blocks) == INSTANT.blocks
            assert timed.seconds_per_step > 0
    assert found.workloads[0].baseline_ratio is None
    rest = found.workloads[1].baseline_rest
    assert rest is not None
    assert set(rest) == {"passes", "gather", "loss", "update"}
    assert min(value for name, value in rest.items() if name != "passes") > 0.0
    assert found.workloads[1].baseline_ratio is not None
    assert {(peak.dtype, peak.threads) for peak in found.peaks} == {("float32", 1), ("float32", 2)}
    assert found.startup is None  # digits was not asked for
    assert {"fastbp", "numpy", "numba"} <= set(found.versions)
    assert any("verifying fastbp" in line for line in said)
    assert result.from_document(json.loads(json.dumps(found.to_document()))) == found


@pytest.mark.usefixtures("small_table")
def test_a_run_leaves_the_threads_of_the_blas_as_they_were() -> None:
    """Whatever the order in which rivals that share a library set them, and undo it."""

    def counts() -> list[int]:
        return [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]

    before = counts()
    with blas.limit(3):
        found = runner.run(None, threads=2, quick=True)
        assert set(counts()) == {3}
    assert counts() == before
    assert {one["threads"] for one in found.machine["blas"]} == {3}


@pytest.mark.usefixtures("small_table")
def test_a_run_short_of_time_takes_one_block_of_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "QUICK", replace(INSTANT, blocks=5, run_seconds=0.0))
    found = runner.run(None, threads=1, quick=True)
    assert found.passed
    assert {len(timed.blocks) for entry in found.workloads for timed in entry.rivals} == {1}


@pytest.mark.usefixtures("small_table")
def test_run_leaves_out_a_peer_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    found = runner.run(["tiny"], peers=["torch"], threads=1, quick=True)
    assert [timed.rival for timed in found.workloads[0].rivals] == ["fastbp", "numpy"]
    assert any('pip install "fastbp[peers]"' in note for note in found.notes)


@pytest.mark.usefixtures("small_table")
def test_a_rival_with_wrong_losses_is_shown_and_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    train = rivals.NumpyRival.train

    def wrong(self: rivals.NumpyRival, epochs: int, *, shuffle: bool) -> list[float]:
        losses = train(self, epochs, shuffle=shuffle)
        return losses if self.task.workload.dtype == "float64" else [1.001 * loss for loss in losses]

    monkeypatch.setattr(rivals.NumpyRival, "train", wrong)
    outcome = CliRunner().invoke(bench.bench, ["--quick", "--workload", "tiny", "--threads", "1"])
    assert outcome.exit_code == 1
    assert "losses off 1e-03" in outcome.stdout
    assert "numpy on tiny" in outcome.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"workloads": ["tny"]}, "workload='tny'"),
        ({"peers": ["keras"]}, "peer='keras'"),
        ({"threads": 0}, "threads"),
    ],
)
def test_run_checks_its_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        runner.run(**arguments)


@pytest.mark.usefixtures("small_table")
def test_command_prints_the_table_and_writes_json(tmp_path: Path) -> None:
    path = tmp_path / "out.json"
    outcome = CliRunner().invoke(bench.bench, ["--quick", "--workload", "tiny", "--threads", "1", "--out", str(path)])
    assert outcome.exit_code == 0, outcome.output
    assert "µs/step" in outcome.stdout
    assert report.load(path).passed


def test_command_prints_json_and_nothing_else(sample: result.BenchResult, monkeypatch: pytest.MonkeyPatch) -> None:
    good = replace(sample, workloads=(replace(sample.workloads[0], rivals=sample.workloads[0].rivals[:2]),))
    monkeypatch.setattr(bench, "run", lambda *names, **options: good)
    outcome = CliRunner().invoke(bench.bench, ["--workload", "tiny", "--json"])
    assert outcome.exit_code == 0, outcome.output
    assert result.from_document(json.loads(outcome.stdout)) == good


def test_what_was_measured_is_shown_where_it_cannot_be_written(
    sample: result.BenchResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(document: Any, path: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(bench, "run", lambda *names, **options: sample)
    monkeypatch.setattr(report, "save", fail)
    outcome = CliRunner().invoke(bench.bench, ["--workload", "tiny", "--out", str(tmp_path / "bench.json")])
    assert outcome.exit_code == 1
    assert "µs/step" in outcome.stdout
    assert "choose another --out FILE" in outcome.stderr


def test_files_are_there_before_a_word_is_printed(
    sample: result.BenchResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*unused: object) -> None:
        raise BrokenPipeError

    path = tmp_path / "bench.json"
    monkeypatch.setattr(bench, "run", lambda *names, **options: sample)
    monkeypatch.setattr(bench, "console", broken)
    CliRunner().invoke(bench.bench, ["--workload", "tiny", "--out", str(path)])
    assert report.load(path) == sample


@pytest.mark.parametrize(
    "arguments",
    [
        ["--workload", "tny"],
        ["--threads", "0"],
        ["--peers", "keras"],
        ["--out", "no-such-folder/out.json"],
        ["--json", "out.json"],
        ["--unknown"],
    ],
)
def test_command_exits_with_2_on_wrong_usage(arguments: list[str]) -> None:
    assert CliRunner().invoke(bench.bench, arguments).exit_code == 2


def test_bench_py_is_the_command() -> None:
    script = Path(__file__).resolve().parents[2] / "bench.py"
    child = subprocess.run([sys.executable, str(script), "--help"], capture_output=True, text=True, check=False)
    assert child.returncode == 0, child.stderr
    for option in ("--out", "--json", "--workload", "--threads", "--quick", "--peers"):
        assert option in child.stdout


# ---- Start-up and machine


def test_startup_process_reports_three_times(tmp_path: Path) -> None:
    start = startup.start_process(WORKLOADS["tiny"], str(tmp_path))
    assert min(start.numba_seconds, start.import_seconds, start.fit_seconds) > 0


def test_what_the_cold_start_compiled_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fill(_workload: Any, folder: str) -> result.Start:
        (Path(folder) / "build").mkdir(exist_ok=True)
        (Path(folder) / "build" / "new.bin").write_text("code")
        (Path(folder) / "build" / "old.bin").write_text("as good")
        return result.Start(1.0, 1.0, 1.0)

    monkeypatch.setattr(startup, "start_process", fill)
    monkeypatch.setenv("FASTBP_CACHE_DIR", str(tmp_path / "cache"))
    (tmp_path / "cache" / "build").mkdir(parents=True)
    (tmp_path / "cache" / "build" / "old.bin").write_text("code")
    startup.measure(repeats=1)
    kept = {path.name: path.read_text() for path in (tmp_path / "cache" / "build").iterdir()}
    assert kept == {"new.bin": "code", "old.bin": "code"}


def test_no_startup_figures_without_an_interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    """A frozen application would begin anew, instead of running a script."""
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("started itself"))
    assert startup.measure() is None


def test_startup_failure_is_one_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(startup, "_SCRIPT", "raise OSError('no compiler')")
    with pytest.raises(RuntimeError, match=r"start-up process failed: OSError: no compiler"):
        startup.start_process(WORKLOADS["tiny"], str(tmp_path))


def test_machine_is_described() -> None:
    described = machine.describe()
    assert described["available_threads"] >= 1
    assert described["processor"]
    json.dumps(described)
