"""`bench --workload sweep`: the check before the clock, what is timed, the document and the command."""

from __future__ import annotations

import json
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from peers import needs
from rich.console import Console

from fastbp.bench import peers, rivals, sweeps
from fastbp.bench.protocol import QUICK
from fastbp.bench.sweeps import EPOCHS, HALF, HALF_DIVERGING, ONE_THREAD, RATES
from fastbp.bench.workloads import Workload
from fastbp.cli import bench

SMALL = Workload("sweep small", (6, 8, 3), 16, 64)
SHORT = replace(QUICK, block_seconds=0.001, blocks=2, idle_seconds=0.0, warmup_seconds=0.0, trial_rounds=1)


@pytest.fixture(scope="module")
def found() -> sweeps.SweepBench:
    return sweeps.run(peers=list(peers.PEERS), threads=2, protocol=SHORT, workloads=[SMALL])


@needs("jax", "sklearn", "torch")
def test_all_rivals_reach_the_reference_and_are_timed(found: sweeps.SweepBench) -> None:
    assert found.wrong == []
    (table,) = found.tables
    loops = {f"{name}, loop" for name in ("numpy", *peers.PEERS) if name != "jax"}
    assert {row.rival for row in table.rows} == {"fastbp", ONE_THREAD, HALF, "jax, vmap"} | loops
    assert all(len(row.blocks) == SHORT.blocks and min(row.blocks) > 0 for row in table.rows)
    assert table.ratio("fastbp") == 1.0
    seconds = {row.rival: row.seconds for row in table.rows}
    assert table.efficiency == pytest.approx(seconds[ONE_THREAD] / seconds["fastbp"] / 2)
    assert table.ratio(HALF) == seconds[HALF] / seconds["fastbp"]


def test_the_rates_are_what_they_are_said_to_be() -> None:
    for workload in (SMALL, *sweeps.SWEEPS):
        rival = sweeps.FastbpSweep()
        rival.setup(rivals.Task.of(workload))
        assert not rival.run(RATES, EPOCHS).diverged.any()
        assert rival.run(HALF_DIVERGING, EPOCHS).diverged[:, 0].tolist() == [False] * 16 + [True] * 16


@pytest.mark.parametrize("kind", [sweeps.JaxSweep, lambda: sweeps.Loop(rivals.NumpyRival()), sweeps.FastbpSweep])
def test_a_rival_that_trains_otherwise_is_not_timed(kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    cheat = type(kind())
    honest = cheat.losses
    monkeypatch.setattr(cheat, "losses", lambda self, rates, epochs: honest(self, rates * 1.01, epochs))
    table = sweeps._table(SMALL, [kind], 1, SHORT, lambda message: None)
    assert [(row.passed, row.blocks) for row in table.rows] == [(False, ())]
    assert table.rows[0].difference > sweeps.TOLERANCE["float32"]


def test_a_sweep_that_has_not_the_bits_of_fit_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    run = sweeps.FastbpSweep.run
    monkeypatch.setattr(sweeps.FastbpSweep, "run", lambda self, rates, epochs: run(self, rates * (1 + 1e-5), epochs))
    (row,) = sweeps._table(SMALL, [sweeps.FastbpSweep], 1, SHORT, lambda message: None).rows
    assert (row.passed, row.difference, row.blocks) == (False, None, ())


@needs("jax", "sklearn", "torch")
def test_the_document_and_the_table(found: sweeps.SweepBench) -> None:
    document = json.loads(json.dumps(found.to_document(), allow_nan=False))
    assert document["kind"] == "fastbp-sweep-bench"
    assert (len(document["rates"]), document["epochs"]) == (32, EPOCHS)
    (sweep,) = document["sweeps"]
    assert {row["rival"] for row in sweep["rivals"]} == {row.rival for row in found.tables[0].rows}
    assert sweep["thread_efficiency"] > 0
    console = Console(width=120, file=StringIO(), highlight=False)
    console.print(sweeps.render(found))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    for words in ("jax, vmap", "torch, loop", "thread efficiency, 1 to 2", "1x"):
        assert words in text
    assert "with half of the rates diverging (losses turn non-finite): " in text
    tanh = replace(found, tables=(replace(found.tables[0], workload=replace(SMALL, activation="tanh")),))
    console.print(sweeps.render(tanh))
    assert "(losses stay finite): " in console.file.getvalue()  # type: ignore[attr-defined]


def test_a_peer_that_is_not_installed_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(module: str, peer: str) -> Any:
        raise rivals.MissingPeerError(f'peer "{peer}" is not installed: pip install "fastbp[peers]"')

    monkeypatch.setattr(peers, "require", missing)
    found = sweeps.run(peers=["torch"], threads=1, protocol=SHORT, workloads=[SMALL])
    assert "fastbp[peers]" in found.notes[0]
    assert found.tables[0].seconds("torch, loop") is None
    assert found.tables[0].efficiency is None  # of one thread


def test_the_command(found: sweeps.SweepBench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}
    monkeypatch.setattr(sweeps, "run", lambda **options: asked.update(options) or found)
    path = tmp_path / "sweep.json"
    result = CliRunner().invoke(
        bench.bench, ["--workload", "sweep", "--peers", "jax,torch", "--quick", "--out", str(path)]
    )
    assert result.exit_code == 0, result.output
    assert asked.pop("progress")
    assert asked == {"peers": ["jax", "torch"], "threads": None, "quick": True}
    assert json.loads(path.read_text()) == json.loads(json.dumps(found.to_document()))
    assert "thread efficiency" in result.stdout
    told = CliRunner().invoke(bench.bench, ["--workload", "sweep", "--json"])
    assert json.loads(told.stdout) == json.loads(path.read_text())
    bad = replace(found.tables[0].rows[0], passed=False, blocks=())
    wrong = replace(found, tables=(replace(found.tables[0], rows=(bad,)),))
    monkeypatch.setattr(sweeps, "run", lambda **options: wrong)
    result = CliRunner().invoke(bench.bench, ["--workload", "sweep"])
    assert result.exit_code == 1
    assert "fastbp on sweep small" in result.stderr


@pytest.mark.parametrize(
    "arguments", [["--workload", "digits"], ["--profile"], ["--peers", "onnxruntime"]], ids=["two", "profile", "peer"]
)
def test_what_the_command_refuses(arguments: list[str]) -> None:
    result = CliRunner().invoke(bench.bench, ["--workload", "sweep", *arguments])
    assert result.exit_code == 2
    assert "sweep" in result.stderr
