"""The task "sweep" of the benchmark: the check before the clock, what is timed, the document and the command."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from peers import needs
from rich.console import Console

from fastbp.bench import peers, report, rivals, runner, sweeps, verify
from fastbp.bench.protocol import QUICK
from fastbp.bench.result import HALF_DIVERGING, ONE_THREAD, BenchResult, Setting, WorkloadResult, from_document
from fastbp.bench.workloads import SWEEP_EPOCHS, SWEEP_RATES, SWEEPS, Workload
from fastbp.cli import bench

SMALL = Workload("sweep small", (6, 8, 3), 16, 64, task="sweep")
SHORT = replace(QUICK, block_seconds=0.001, blocks=2, idle_seconds=0.0, warmup_seconds=0.0, trial_seconds=0.001)


@pytest.fixture
def small_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "select", lambda names: [SMALL])


@pytest.fixture(scope="module")
def found() -> BenchResult:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runner, "select", lambda names: [SMALL])
        return runner.run(["sweep"], peers=list(peers.PEERS), threads=2, protocol=SHORT)


def timed(kind: Any) -> WorkloadResult:
    return runner.run_workload(SMALL, [kind], 1, SHORT, [])


@needs("jax", "sklearn", "torch")
def test_all_rivals_reach_the_reference_and_are_timed(found: BenchResult) -> None:
    assert found.passed
    (entry,) = found.workloads
    loops = {f"{name}, loop" for name in ("numpy", *peers.PEERS) if name != "jax"}
    rows = {one.rival: one for one in entry.rivals}
    assert set(rows) == {"fastbp", ONE_THREAD, HALF_DIVERGING, "jax, vmap"} | loops
    assert all(len(one.blocks) == SHORT.blocks and one.fastest > 0 for one in rows.values())
    assert rows["fastbp"].setting == Setting(2)
    ours = rows["fastbp"].seconds_per_step
    assert entry.thread_efficiency == pytest.approx(rows[ONE_THREAD].seconds_per_step / ours / 2)
    assert entry.half_diverging_ratio == rows[HALF_DIVERGING].seconds_per_step / ours
    assert entry.seconds_per_sweep == ours * 32 * SWEEP_EPOCHS * 4


def test_a_block_counts_the_steps_that_were_made() -> None:
    task = rivals.Task.of(SMALL)
    for rival, trainings in ((sweeps.FastbpSweep(), len(SWEEP_RATES)), (sweeps.Loop(rivals.NumpyRival()), 1)):
        rival.setup(task)
        assert rival.steps_per_epoch == trainings * SWEEP_EPOCHS * 4


def test_the_rates_are_what_they_are_said_to_be() -> None:
    for workload in (SMALL, *SWEEPS.values()):
        rival = sweeps.FastbpSweep()
        rival.setup(rivals.Task.of(workload))
        assert not rival.sweep(SWEEP_RATES, SWEEP_EPOCHS).diverged.any()
        diverged = rival.sweep(sweeps.DIVERGING_RATES, SWEEP_EPOCHS).diverged
        assert diverged[:, 0].tolist() == [False] * 16 + [True] * 16


@pytest.mark.parametrize("name", ["jax", "numpy", "fastbp"])
def test_a_rival_that_trains_otherwise_is_not_timed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if name == "jax":
        pytest.importorskip("jax")
    honest = sweeps.at_rate
    monkeypatch.setattr(sweeps, "at_rate", lambda task, rate: honest(task, rate * 1.01))
    expected = verify.expected_losses
    monkeypatch.setattr(
        verify, "expected_losses", lambda task: expected(replace(task, workload=replace(task.workload, lr=1e-2)))
    )
    kind = {"jax": sweeps.JaxSweep, "numpy": lambda: sweeps.Loop(rivals.NumpyRival()), "fastbp": sweeps.FastbpSweep}
    (row,) = timed(kind[name]).rivals
    assert row.verification is not None
    assert (row.verification.passed, row.blocks) == (False, ())


def test_a_sweep_that_has_not_the_bits_of_fit_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    sweep = sweeps.FastbpSweep.sweep
    monkeypatch.setattr(sweeps.FastbpSweep, "sweep", lambda self, rates, epochs: sweep(self, rates * 1.00001, epochs))
    (row,) = timed(sweeps.FastbpSweep).rivals
    assert row.verification is not None
    assert (row.verification.passed, row.verification.difference, row.blocks) == (False, None, ())


@needs("jax", "sklearn", "torch")
def test_the_document_and_the_table(found: BenchResult) -> None:
    document = json.loads(json.dumps(found.to_document(), allow_nan=False))
    (entry,) = document["workloads"]
    assert entry["workload"]["task"] == "sweep"
    assert entry["thread_efficiency"] > 0
    assert entry["half_diverging_ratio"] > 0
    assert from_document(document) == found
    text = shown(found)
    for words in ("jax, vmap", "torch, loop", "32 rates, 5 epochs in ", "thread efficiency "):
        assert words in text
    assert "with half of the rates diverging (losses turn non-finite): " in text
    assert "fastbp validates on one batch" in text
    tanh = replace(found.workloads[0], workload=replace(SMALL, activation="tanh"))
    assert "(losses stay finite): " in shown(replace(found, workloads=(tanh,)))


def shown(result: BenchResult) -> str:
    text = StringIO()
    Console(width=250, file=text, highlight=False).print(report.render(result))
    return text.getvalue()


def test_a_document_of_version_0_1_is_read() -> None:
    """Sweeps had a kind of document of their own, whose blocks are seconds a sweep."""
    described = asdict(replace(SMALL, task="train"))
    setting = {"threads": 2, "variant": ""}
    rows = [
        {"rival": "fastbp", "setting": setting, "difference": 1e-7, "passed": True, "blocks": [0.5, 0.25, 0.75],
         "seconds": 0.5, "ratio": 1.0},
        {"rival": ONE_THREAD, "setting": {**setting, "threads": 1}, "difference": 1e-7, "passed": True,
         "blocks": [0.9], "seconds": 0.9, "ratio": 1.8},
        {"rival": "jax, vmap", "setting": None, "difference": None, "passed": False, "blocks": [], "seconds": None,
         "ratio": None},
    ]  # fmt: skip
    old = {
        "kind": "fastbp-sweep-bench", "schema": 1, "date": "2025-01-01T00:00:00+00:00", "machine": {}, "versions": {},
        "threads": 2, "settings": {}, "rates": SWEEP_RATES.tolist(), "epochs": SWEEP_EPOCHS, "notes": ["a note"],
        "sweeps": [{"workload": described, "rivals": rows, "thread_efficiency": 0.9, "half_diverging_ratio": None}],
    }  # fmt: skip
    found = from_document(json.loads(json.dumps(old)))
    (entry,) = found.workloads
    assert entry.workload == SMALL
    assert entry.seconds_per_sweep == pytest.approx(0.5)
    assert entry.thread_efficiency == pytest.approx(0.9)
    assert not found.passed
    assert entry.find("jax, vmap") is None


@pytest.mark.usefixtures("small_table")
def test_a_peer_that_is_not_installed_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(module: str, peer: str) -> Any:
        raise rivals.MissingPeerError(f'peer "{peer}" is not installed: pip install "fastbp[peers]"')

    monkeypatch.setattr(peers, "require", missing)
    found = runner.run(["sweep"], peers=["torch"], threads=1, protocol=SHORT)
    assert "fastbp[peers]" in found.notes[0]
    assert found.workloads[0].find("torch, loop") is None
    assert found.workloads[0].thread_efficiency is None  # of one thread


@pytest.mark.usefixtures("small_table")
def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "QUICK", SHORT)
    path = tmp_path / "sweep.json"
    done = CliRunner().invoke(
        bench.bench, ["--workload", "sweep", "--quick", "--threads", "2", "--out", str(path)], env={"COLUMNS": "250"}
    )
    assert done.exit_code == 0, done.output
    assert "thread efficiency" in done.stdout
    assert [one.workload.task for one in report.load(path).workloads] == ["sweep"]
    wrong = sweeps.FastbpSweep.losses
    monkeypatch.setattr(sweeps.FastbpSweep, "losses", lambda self, n: (np.array(wrong(self, n)) * 1.01).tolist())
    done = CliRunner().invoke(bench.bench, ["--workload", "sweep", "--quick", "--threads", "2"])
    assert done.exit_code == 1
    assert "fastbp on sweep small" in done.stderr


def test_a_sweep_is_not_profiled() -> None:
    done = CliRunner().invoke(bench.bench, ["--workload", "sweep", "--profile"])
    assert done.exit_code == 2
    assert "sweep" in done.stderr
