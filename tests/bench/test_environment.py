"""What the benchmark says of the machine beyond its speed: libraries, variables, governor, neighbours, cores."""

from __future__ import annotations

import importlib.util
import json
import math
import subprocess
import sys
import time
from pathlib import Path

import pytest
from threadpoolctl import threadpool_info

from fastbp.bench import blas, cores, environment, protocol, report
from fastbp.bench.environment import CpuTimes
from fastbp.bench.result import Block, RivalResult, Setting
from fastbp.kernels import probe


def test_each_blas_is_named_with_kernel_and_threads() -> None:
    pools = [pool for pool in threadpool_info() if pool["user_api"] == "blas"]
    found = blas.loaded()
    assert found is not None
    assert [(one["kernel"], one["threads"]) for one in found] == [
        (pool.get("architecture") or "", pool["num_threads"]) for pool in pools
    ]
    text = report.describe_blas({"blas": found})
    for pool in pools:
        assert f"kernel {pool['architecture']}, {pool['num_threads']} thread" in text
        assert pool["filepath"] not in json.dumps(found), "a path tells the user's name"
    if any("numpy.libs" in pool["filepath"] for pool in pools):
        assert "numpy's" in text


def test_without_threadpoolctl_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert blas.loaded() is None
    for machine in ({"blas": None}, {}):  # and in documents of before
        assert 'pip install "fastbp[bench]"' in report.describe_blas(machine)


@pytest.mark.parametrize(
    ("variables", "told"),
    [
        ({}, []),
        ({"OPENBLAS_CORETYPE": "Haswell"}, ["OPENBLAS_CORETYPE=Haswell"]),
        ({"OPENBLAS_L2_SIZE": "0x1000000", "HOME": "/"}, ["OPENBLAS_L2_SIZE=0x1000000"]),
        ({"OPENBLAS_CORETYPE": ""}, []),
        ({"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "4"}, ["OMP_NUM_THREADS=1"]),
        ({"OPENBLAS_NUM_THREADS": "3", "FASTBP_NUM_THREADS": "many"}, ["OPENBLAS_NUM_THREADS=3"]),
    ],
)
def test_variables_that_slow_down_are_told(variables: dict[str, str], told: list[str], tmp_path: Path) -> None:
    found = environment.warnings(4, variables, tmp_path)
    assert [line.partition(":")[0] for line in found] == told


@pytest.mark.parametrize(("governor", "told"), [("performance", False), ("powersave", True)])
def test_the_governor_is_told(governor: str, told: bool, tmp_path: Path) -> None:
    for cpu in range(256):  # whichever this process may run on
        folder = tmp_path / f"sys/devices/system/cpu/cpu{cpu}/cpufreq"
        folder.mkdir(parents=True)
        (folder / "scaling_governor").write_text(f"{governor}\n")
    assert any("governor powersave" in line for line in environment.warnings(1, {}, tmp_path)) == told


def test_a_narrow_kernel_on_a_wide_cpu_is_told() -> None:
    libraries = [{"library": "openblas", "version": "0.3", "kernel": kernel} for kernel in ("Haswell", "SkylakeX")]
    assert ["kernel Haswell" in line for line in environment.narrow_kernels(libraries, 64)] == [True]
    assert environment.narrow_kernels(libraries, 32) == []


def test_cpu_times_are_read_by_processor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """user nice system idle iowait irq softirq steal: all but idle and iowait are somebody's."""
    monkeypatch.setattr(environment.os, "sched_getaffinity", lambda pid: {0, 2}, raising=False)
    path = tmp_path / "stat"
    lines = [
        "cpu  9 9 9 9 9 9 9 9",
        "cpu0 1 2 3 1000 2000 4 5 6 7 8",
        "cpu1 9 9 9 9 9 9 9 9",
        "cpu2 10 0 0 9",
        "intr 1",
    ]
    path.write_text("\n".join(lines))
    found = CpuTimes.now(path)
    assert found is not None
    assert found.busy * environment._TICKS == pytest.approx(1 + 2 + 3 + 4 + 5 + 6 + 10)
    assert CpuTimes.now(tmp_path / "none") is None


def test_what_others_took_is_what_is_left() -> None:
    before = CpuTimes(10.0, 100.0, 50.0)
    assert before.others(CpuTimes(12.0, 103.0, 52.0)) == pytest.approx(0.5)
    assert before.others(CpuTimes(12.0, 101.0, 52.0)) == 0.0
    assert before.others(before) == 0.0
    said = environment.neighbour(0.5, "during tiny")
    assert said is not None
    assert "0.50 processors during tiny" in said
    assert environment.neighbour(0.05, "during tiny") is None


@pytest.mark.skipif(CpuTimes.now() is None, reason="the system does not tell")
def test_a_busy_neighbour_is_seen() -> None:
    """Another process that computes all the time; how much others do beside it is theirs."""
    child = subprocess.Popen([sys.executable, "-c", "print(flush=True)\nwhile True: pass"], stdout=subprocess.PIPE)
    try:
        assert child.stdout is not None
        child.stdout.readline()
        before = CpuTimes.now()
        time.sleep(0.5)
        after = CpuTimes.now()
    finally:
        child.kill()
        child.communicate()
    assert before is not None
    assert after is not None
    assert before.others(after) > environment.BUSY


def test_the_cores_have_a_word_and_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [cores.word(ns) for ns in (40.0, 80.0, 130.0)] == ["near", "between", "far"]
    assert cores.state([40.0, 55.0]) == "near"
    assert cores.state([40.0, 130.0]) == "mixed"
    assert cores.state([None, 130.0]) == "far"
    assert cores.state([]) == ""
    monkeypatch.setattr(probe, "line_nanoseconds", lambda: math.nan)
    assert cores.look() is None
    monkeypatch.setattr(probe, "line_nanoseconds", lambda: 48.0)
    assert cores.look() == 48.0


def test_every_block_looks_at_the_cores_before_and_after(monkeypatch: pytest.MonkeyPatch) -> None:
    log: list[str] = []

    class Idle:
        steps_per_epoch = 1

        def apply(self, setting: Setting) -> None:
            pass

        def reset(self) -> None:
            pass

        def close(self) -> None:
            pass

        def train(self, epochs: int, *, shuffle: bool) -> list[float]:
            log.append("trains")
            return []

    def look() -> float:
        log.append("looks")
        return 41.0 if log.count("looks") == 1 else 130.0

    monkeypatch.setattr(cores, "look", look)
    timing = protocol.Protocol(idle_seconds=0.0, warmup_seconds=0.0)
    block = protocol.time_block(protocol.Entry(Idle(), Setting()), timing, 1e-9)  # type: ignore[arg-type]
    assert (block.line_before, block.line_after, block.cores) == (41.0, 130.0, "mixed")
    assert (log[0], log[-1]) == ("looks", "looks")


def test_blocks_can_be_taken_by_state() -> None:
    blocks = (Block(1.0, 1, 40.0, 40.0), Block(2.0, 1, 150.0, 150.0), Block(3.0, 1))
    timed = RivalResult("x", Setting(1), None, (), blocks)
    assert [timed.within(state).seconds_per_step for state in ("near", "far", "")] == [1.0, 2.0, 3.0]
