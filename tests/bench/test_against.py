"""Two runs side by side: what counts as a change, and what as noise."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from rich.console import Console

from fastbp.bench import report
from fastbp.bench.against import Comparison, Row, compare, interval, render
from fastbp.bench.result import BenchResult, Block, Peak, RivalResult, Setting, Verification, WorkloadResult
from fastbp.bench.workloads import WORKLOADS, Workload
from fastbp.cli import bench

OLD = Path(__file__).parents[1] / "old" / "bench.json"
GOOD = Verification(True, 1e-5, 0.0, Setting(), (1.0,), (1.0,))
STEADY = (100.0, 101.0, 99.0, 100.5, 99.5)


def blocks(microseconds: Sequence[float], line: float | None = None) -> tuple[Block, ...]:
    return tuple(Block(us * 1e-6, 1, line, line) for us in microseconds)


def scaled(by: float) -> tuple[Block, ...]:
    return blocks([by * us for us in STEADY])


def outcome(
    ours: tuple[Block, ...], numpy: tuple[Block, ...] = (), *, alone: bool = False, **changes: Any
) -> BenchResult:
    rivals = [RivalResult("fastbp", Setting(1 if alone else None), GOOD, (), ours)]
    if numpy:
        rivals.append(RivalResult("numpy", Setting(1), GOOD, (), numpy))
    found = BenchResult(
        date="2030-01-02T03:04:05+00:00",
        machine={"processor": "Test CPU", "architecture": "x86_64", "system": "Linux", "python": "3.11.0"},
        versions={"fastbp": "0.1.0", "numpy": "2.0.0"},
        threads=2,
        settings={"blocks": 5, "block_seconds": 0.5},
        peaks=(Peak("float32", 2, 200.0),),
        workloads=(WorkloadResult(WORKLOADS["mnist"], tuple(rivals)),),
    )
    return replace(found, **changes)


def rows(old: BenchResult, new: BenchResult) -> dict[str, Row]:
    return {row.rival: row for row in compare(old, new).rows}


@pytest.mark.parametrize(
    ("old", "new", "verdict"),
    [
        (STEADY, STEADY, "noise"),
        (STEADY, [1.1 * us for us in STEADY], "slower"),
        (STEADY, [0.9 * us for us in STEADY], "faster"),
        (STEADY, [1.01 * us for us in STEADY], "noise"),  # rounds apart by more than their spread, but by too little
        (STEADY, [90.0, 130.0, 105.0, 95.0, 120.0], "noise"),  # its rounds lie on both sides
        ([100.0] * 3, [110.0] * 3, "slower"),
    ],
)
def test_a_change_is_what_the_rounds_tell_apart(old: list[float], new: list[float], verdict: str) -> None:
    row = rows(outcome(blocks(old)), outcome(blocks(new)))["fastbp"]
    assert row.verdict == verdict
    assert row.low <= row.change <= row.high
    assert row.rivals is None


@pytest.mark.parametrize(
    ("ours", "numpy", "verdict"),
    [
        (1.1, 1.1, "the machine"),
        (1.1, 1.09, "the machine"),
        (1.1, 1.06, "unclear"),  # 4 % are left, where a rival changed by 6 with no reason of its own
        (1.3, 1.05, "slower"),
        (0.9, 1.1, "faster"),
        (0.95, 0.85, "the machine"),  # less faster than the rival
        (1.1, 1.0, "slower"),
    ],
)
def test_what_the_rivals_did_too_is_the_machine(ours: float, numpy: float, verdict: str) -> None:
    found = rows(outcome(scaled(1.0), scaled(1.0)), outcome(scaled(ours), scaled(numpy)))
    assert found["fastbp"].verdict == verdict
    assert found["fastbp"].rivals == pytest.approx(numpy)
    assert found["numpy"].verdict == ("noise" if numpy == 1.0 else "the machine")
    assert found["numpy"].rivals is None


def test_a_rival_of_another_version_says_nothing_of_the_machine() -> None:
    new = outcome(scaled(1.1), scaled(1.1), versions={"fastbp": "0.1.0", "numpy": "2.1.0"})
    found = rows(outcome(scaled(1.0), scaled(1.0)), new)
    assert (found["fastbp"].verdict, found["fastbp"].rivals) == ("slower", None)
    assert found["numpy"].verdict == "slower"
    assert "numpy was 2.0.0, is 2.1.0" in compare(outcome(scaled(1.0)), new).notes


def test_blocks_are_compared_in_one_state_of_the_cores() -> None:
    """A run that was mostly on two dies is not slower than one on a die, if the blocks on one die are as fast."""
    near, far = blocks(STEADY, 45.0), blocks([1.6 * us for us in STEADY], 130.0)
    old = outcome((*near, *far[:2]))
    found = rows(old, outcome((*near[:3], *far)))["fastbp"]
    assert (found.cores, found.verdict) == ("near", "noise")
    found = rows(outcome(near), outcome(far))["fastbp"]
    assert (found.cores, found.verdict) == ("differ", "other cores")
    found = rows(outcome(near, alone=True), outcome(far, alone=True))["fastbp"]
    assert (found.cores, found.verdict) == ("", "slower")  # one thread does not care where the other core is
    found = rows(outcome(scaled(1.0)), outcome(far))["fastbp"]
    assert (found.cores, found.verdict) == ("", "slower")  # not known of the old run: all blocks


def test_the_interval_is_the_same_every_time_and_covers_the_rounds() -> None:
    old, new = blocks([100.0, 102.0, 98.0]), blocks([200.0, 210.0, 190.0])
    assert interval(old, new) == interval(old, new)
    low, high = interval(old, new)
    assert 190 / 102 - 1e-9 <= low < 2.0 < high <= 210 / 98 + 1e-9
    assert low < 1.96
    assert high > 2.04
    assert interval(old[:1], new[:1]) == (2.0, 2.0)


def test_what_cannot_be_compared_is_named() -> None:
    old = outcome(scaled(1.0), warnings=("a busy neighbour",))
    wider = replace(WORKLOADS["mnist"], batch_size=256)
    other = replace(old.workloads[0], workload=WORKLOADS["tiny"])
    new = outcome(
        scaled(1.0), workloads=(replace(old.workloads[0], workload=wider), other), threads=4,
        machine=old.machine | {"processor": "Other CPU"}, warnings=(),
    )  # fmt: skip
    found = compare(replace(old, workloads=(*old.workloads, replace(other, workload=WORKLOADS["rl"]))), new)
    assert found.rows == ()
    notes = "\n".join(found.notes)
    for said in (
        "processor was Test CPU, is Other CPU", "up to 2 threads in the old run, up to 4", "mnist is another task now",
        "tiny is in the new run alone", "rl is in the old run alone", "in the old run: a busy neighbour",
    ):  # fmt: skip
        assert said in notes


@pytest.mark.parametrize("width", [80, 120])
def test_the_table_has_all_of_it(width: int) -> None:
    found = compare(outcome(scaled(1.0), scaled(1.0)), outcome(scaled(1.25), scaled(1.0)))
    console = Console(width=width, file=StringIO())
    console.print(render(found, width=width))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    for piece in ("mnist", "1.250", "slower", "noise", "1.000", "200.0 now"):
        assert piece in text, piece
    assert "…" not in text
    assert ("1.2" in text and " to " in text.splitlines()[4]) == (width == 120)


def test_a_file_of_before_is_compared_from_the_command_line(tmp_path: Path) -> None:
    """`tests/old/bench.json` is a document of 0.1.0, which knew nothing of cores, neighbours and libraries."""
    old = report.load(OLD)
    slower = json.loads(OLD.read_text())
    for block in slower["workloads"][0]["rivals"][0]["blocks"]:
        block["seconds"] *= 2.0
    (tmp_path / "new.json").write_text(json.dumps(slower))
    arguments = ["--show", str(tmp_path / "new.json"), "--against", str(OLD)]
    done = CliRunner().invoke(bench.bench, [*arguments, "--out", str(tmp_path / "out.json"), "--json"])
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    assert document == json.loads((tmp_path / "out.json").read_text())
    verdicts = {row["rival"]: row["verdict"] for row in document["against"]["rows"]}
    assert verdicts == {"fastbp": "slower", "numpy": "noise"}
    assert report.load(tmp_path / "out.json").workloads[0].rivals[1] == old.workloads[0].rivals[1]
    done = CliRunner().invoke(bench.bench, arguments)
    assert "slower" in done.stdout


def test_without_names_the_workloads_of_the_old_run_are_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[Any] = []

    def run(names: Any, **options: Any) -> BenchResult:
        asked.append(names)
        return report.load(OLD)

    monkeypatch.setattr(bench, "run", run)
    monkeypatch.setattr(bench, "make_ready", lambda *given: None)
    assert CliRunner().invoke(bench.bench, ["--against", str(OLD)]).exit_code == 0
    assert CliRunner().invoke(bench.bench, ["--against", str(OLD), "--workload", "tiny"]).exit_code == 0
    gone = outcome(scaled(1.0))
    gone = replace(gone, workloads=(replace(gone.workloads[0], workload=Workload("gone", (2, 2), 1, 1)),))
    report.save(gone.to_document(), tmp_path / "gone.json")
    assert CliRunner().invoke(bench.bench, ["--against", str(tmp_path / "gone.json")]).exit_code == 2
    assert asked == [("digits",), ("tiny",)]


def test_a_file_that_is_no_run_is_refused_before_anything_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench, "run", lambda *names, **options: pytest.fail("measured"))
    path = tmp_path / "other.json"
    path.write_text('{"kind": "fastbp-profile", "schema": 1}')
    for arguments in (["--against", path], ["--show", path], ["--against", tmp_path / "none.json"]):
        done = CliRunner().invoke(bench.bench, [os.fspath(argument) for argument in arguments])
        assert done.exit_code == 2
    assert "fastbp-profile" in CliRunner().invoke(bench.bench, ["--against", str(path)]).stderr
    shutil.copy(OLD, path)
    assert CliRunner().invoke(bench.bench, ["--profile", "--against", str(path)]).exit_code == 2


def test_a_comparison_is_json() -> None:
    found = compare(outcome(scaled(1.0)), outcome(scaled(2.0)))
    assert isinstance(found, Comparison)
    (row,) = json.loads(json.dumps(found.to_document(), allow_nan=False))["rows"]
    assert row["change"] == pytest.approx(2.0)
