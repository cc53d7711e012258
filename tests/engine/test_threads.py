"""How many threads a process may use: what the environment, the affinity and the cgroups say."""

from __future__ import annotations

import math
import os
from pathlib import Path

import numpy as np
import pytest

from fastbp import MLP
from fastbp.engine import team, threads, topology

AFFINITY = {3, 5, 9}


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """One with three CPUs, each a core of its own, and no quota."""
    monkeypatch.delenv("FASTBP_NUM_THREADS", raising=False)
    monkeypatch.setattr(threads, "_quota", lambda: math.inf)
    monkeypatch.setattr(topology, "ROOT", tmp_path / "no files")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: AFFINITY, raising=False)


# --- the environment


@pytest.mark.parametrize(("given", "expected"), [("1", 1), ("7", 7), ("4096", 4096), ("007", 7), ("", 3)])
def test_threads_by_the_environment(given: str, expected: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTBP_NUM_THREADS", given)
    assert threads.default_threads() == expected
    assert team.default_threads is threads.default_threads


@pytest.mark.parametrize("given", ["0", "-1", "two", "1.5", " 2", "2\u00b2", "\u0663", "4097", str(10**20), "1" * 5000])
def test_a_wrong_environment(given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTBP_NUM_THREADS", given)
    said = rf"FASTBP_NUM_THREADS must be a positive integer up to 4096, got '{given[:40]}'$"
    with pytest.raises(ValueError, match=said):
        threads.default_threads()
    net = MLP([4, 3, 2], seed=0)
    before = net.weights
    with pytest.raises(ValueError, match=said):
        net.fit(np.zeros((8, 4)), np.zeros(8, int), epochs=1)
    assert all(np.array_equal(one, other) for one, other in zip(before, net.weights, strict=True))


@pytest.mark.parametrize("wanted", [4097, 10**20, 2**63])
def test_more_threads_than_any_machine_has(wanted: int) -> None:
    with pytest.raises(ValueError, match=rf"threads must be a positive integer up to 4096, got {wanted}"):
        MLP([4, 3, 2], seed=0).fit(np.zeros((8, 4)), np.zeros(8, int), epochs=1, threads=wanted)


# --- cgroups

V2, V1 = "sys/fs/cgroup", "sys/fs/cgroup/cpu"


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, math.inf),
        ({f"{V2}/cpu.max": "max 100000\n"}, math.inf),
        ({f"{V2}/cpu.max": "250000 100000\n"}, 2.5),
        ({f"{V2}/cpu.max": "nonsense\n"}, math.inf),
        ({f"{V2}/cpu.max": "100000 0\n"}, math.inf),
        ({f"{V2}/unified/cpu.max": "250000 100000\n"}, 2.5),
        # a quota on the own cgroup, above it, and on both
        ({"proc/self/cgroup": "0::/a.slice/b\n", f"{V2}/a.slice/b/cpu.max": "100000 100000\n"}, 1.0),
        (
            {
                "proc/self/cgroup": "0::/a.slice/b\n",
                f"{V2}/a.slice/cpu.max": "300000 100000\n",
                f"{V2}/a.slice/b/cpu.max": "max 100000\n",
            },
            3.0,
        ),
        (
            {
                "proc/self/cgroup": "0::/a.slice/b\n",
                f"{V2}/cpu.max": "400000 100000\n",
                f"{V2}/a.slice/cpu.max": "200000 100000\n",
                f"{V2}/a.slice/b/cpu.max": "300000 100000\n",
                f"{V2}/c.slice/cpu.max": "100000 100000\n",  # another's
            },
            2.0,
        ),
        # a container that sees no folder of the host's path
        ({"proc/self/cgroup": "0::/kubepods/pod1/x\n", f"{V2}/cpu.max": "150000 100000\n"}, 1.5),
        ({"proc/self/cgroup": "0::/../../outside\n", f"{V2}/cpu.max": "150000 100000\n"}, 1.5),
        # version 1
        ({f"{V1}/cpu.cfs_quota_us": "-1\n", f"{V1}/cpu.cfs_period_us": "100000\n"}, math.inf),
        ({f"{V1}/cpu.cfs_quota_us": "300000\n"}, math.inf),
        (
            {
                "proc/self/cgroup": "7:memory:/m\n5:cpu,cpuacct:/job_1/step_0\n0::/\n",
                f"{V2}/cpu,cpuacct/job_1/cpu.cfs_quota_us": "300000\n",
                f"{V2}/cpu,cpuacct/job_1/cpu.cfs_period_us": "100000\n",
                f"{V2}/cpu,cpuacct/job_1/step_0/cpu.cfs_quota_us": "-1\n",
                f"{V2}/cpu,cpuacct/job_1/step_0/cpu.cfs_period_us": "100000\n",
                f"{V2}/memory/m/cpu.max": "100000 100000\n",  # of no controller of the CPU
            },
            3.0,
        ),
        (
            {
                "proc/self/cgroup": "1:cpu:/job\n",
                f"{V1}/job/cpu.cfs_quota_us": "50000\n",
                f"{V1}/job/cpu.cfs_period_us": "100000\n",
            },
            0.5,
        ),
    ],
)
def test_the_smallest_quota_of_all_cgroups_above(files: dict[str, str], expected: float, tmp_path: Path) -> None:
    for name, text in {"proc/self/cgroup": "0::/\n1:cpu:/\n", **files}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert threads._cgroup_quota(tmp_path) == expected


def test_no_proc_at_all(tmp_path: Path) -> None:
    assert threads._cgroup_quota(tmp_path) == math.inf
    (tmp_path / V2).mkdir(parents=True)
    (tmp_path / V2 / "cpu.max").write_text("200000 100000\n")
    assert threads._cgroup_quota(tmp_path / ".") == 2.0


@pytest.mark.parametrize(("quota", "expected"), [(math.inf, 3), (2.5, 2), (1.0, 1), (0.5, 1), (64.0, 3)])
def test_threads_by_the_quota(quota: float, expected: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "_quota", lambda: quota)
    assert threads.default_threads() == expected


def test_the_quota_of_this_machine() -> None:
    assert threads._cgroup_quota() > 0.0


def test_a_quota_is_read_again_after_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()  # of what the fixture has put in place of the quota
    quota, now = [4.0], [1e6]
    monkeypatch.setattr(threads, "_cgroup_quota", lambda: quota[0])
    monkeypatch.setattr(threads, "_read", (-math.inf, math.inf))
    monkeypatch.setattr(threads.time, "monotonic", lambda: now[0])
    assert threads._quota() == 4.0
    quota[0], now[0] = 2.0, 1e6 + 0.9
    assert threads._quota() == 4.0
    now[0] = 1e6 + 1.1
    assert threads._quota() == 2.0


def test_an_affinity_that_changes_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert threads.default_threads() == 3
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {5}, raising=False)
    assert threads.default_threads() == 1


def test_virtual_cpus_of_a_core_count_as_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for cpu in (3, 5):
        folder = tmp_path / f"sys/devices/system/cpu/cpu{cpu}/topology"
        folder.mkdir(parents=True)
        (folder / "core_cpus_list").write_text("3,5\n")
    monkeypatch.setattr(topology, "ROOT", tmp_path)
    assert threads.default_threads() == 2
