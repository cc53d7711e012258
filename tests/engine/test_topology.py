"""Cores and dies by the files of the system, on machines that are made up."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from fastbp.engine import topology


def machine(root: Path, cores: Sequence[Sequence[int]], dies: Sequence[Sequence[int]], old: bool = False) -> Path:
    """A tree of files as Linux has it, with these CPUs on each core and on each die."""
    folder = root / "sys/devices/system/cpu"
    for core in cores:
        for cpu in core:
            name = "thread_siblings_list" if old else "core_cpus_list"
            write(folder / f"cpu{cpu}/topology/{name}", ",".join(map(str, core)))
            write(folder / f"cpu{cpu}/cache/index0/level", "1")
            write(folder / f"cpu{cpu}/cache/index0/shared_cpu_list", ",".join(map(str, core)))
    for die in dies:
        for cpu in die:
            write(folder / f"cpu{cpu}/cache/index3/level", "3")
            write(folder / f"cpu{cpu}/cache/index3/shared_cpu_list", f"{min(die)}-{max(die)}")
    return root


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text + "\n")


def dies_of(found: topology.Topology) -> list[list[int]]:
    return [sorted(die) for die in found.dies]


@pytest.mark.parametrize("old", [False, True])
def test_one_die(old: bool, tmp_path: Path) -> None:
    root = machine(tmp_path, [[0], [1], [2], [3]], [range(4)], old)
    found = topology.read(frozenset(range(4)), root)
    assert (found.cores, dies_of(found), found.die_cores) == (4, [[0, 1, 2, 3]], (4,))


def test_virtual_cpus_of_a_core_count_as_one(tmp_path: Path) -> None:
    root = machine(tmp_path, [[0, 4], [1, 5], [2, 6], [3, 7]], [range(8)])
    assert topology.read(frozenset(range(8)), root).cores == 4
    assert topology.read(frozenset({0, 4, 5}), root).cores == 2
    assert topology.read(frozenset({4}), root).cores == 1


def test_two_dies_the_one_of_more_cores_first(tmp_path: Path) -> None:
    root = machine(tmp_path, [[n] for n in range(8)], [range(4), range(4, 8)])
    found = topology.read(frozenset(range(8)), root)
    assert (found.cores, dies_of(found), found.die_cores) == (8, [[0, 1, 2, 3], [4, 5, 6, 7]], (4, 4))
    found = topology.read(frozenset({2, 4, 5, 6}), root)
    assert (found.cores, dies_of(found), found.die_cores) == (4, [[4, 5, 6], [2]], (3, 1))
    assert [found.die_of(cpu) for cpu in (5, 2, 77, -1)] == [0, 1, 0, 0]


def test_gaps_in_the_numbers_and_cpus_that_are_off(tmp_path: Path) -> None:
    """A CPU that is off has no folder of caches, and is in no list."""
    root = machine(tmp_path, [[0], [2], [64], [66]], [[0], [2], [64], [66]])
    folder = root / "sys/devices/system/cpu"
    for cpu in (0, 2):
        write(folder / f"cpu{cpu}/cache/index3/shared_cpu_list", "0,2")
    for cpu in (64, 66):
        write(folder / f"cpu{cpu}/cache/index3/shared_cpu_list", "64,66")
    (folder / "cpu1").mkdir()
    found = topology.read(frozenset({0, 2, 64, 66}), root)
    assert (found.cores, dies_of(found)) == (4, [[0, 2], [64, 66]])


def test_a_container_without_the_files(tmp_path: Path) -> None:
    found = topology.read(frozenset({3, 5, 9}), tmp_path)
    assert (found.cores, dies_of(found), found.die_cores) == (3, [[3, 5, 9]], (3,))


def test_a_cpu_of_which_nothing_is_told(tmp_path: Path) -> None:
    root = machine(tmp_path, [[0], [1]], [[0, 1]])
    found = topology.read(frozenset({0, 1, 7}), root)
    assert (found.cores, dies_of(found)) == (3, [[0, 1], [7]])


@pytest.mark.parametrize("text", ["", "nonsense", "3-1", "-4", "0-99999999999", "7", "0,,1", "\u00b2"])
def test_lists_that_make_no_sense(text: str, tmp_path: Path) -> None:
    root = machine(tmp_path, [[0], [1]], [[0, 1]])
    folder = root / "sys/devices/system/cpu"
    for cpu in (0, 1):
        write(folder / f"cpu{cpu}/cache/index3/shared_cpu_list", text)
        write(folder / f"cpu{cpu}/topology/core_cpus_list", text)
    found = topology.read(frozenset({0, 1}), root)
    assert (found.cores, dies_of(found)) == (2, [[0, 1]])


def test_lists_that_contradict_each_other(tmp_path: Path) -> None:
    root = machine(tmp_path, [[0], [1], [2]], [[0, 1], [1, 2]])
    assert dies_of(topology.read(frozenset({0, 1, 2}), root)) == [[0, 1, 2]]


def test_a_cache_of_the_second_level_is_no_die(tmp_path: Path) -> None:
    root = machine(tmp_path, [[0], [1]], [])
    for cpu in (0, 1):
        write(root / f"sys/devices/system/cpu/cpu{cpu}/cache/index2/level", "2")
        write(root / f"sys/devices/system/cpu/cpu{cpu}/cache/index2/shared_cpu_list", str(cpu))
    assert dies_of(topology.read(frozenset({0, 1}), root)) == [[0, 1]]


def test_where_the_threads_of_a_team_run(tmp_path: Path) -> None:
    root = machine(tmp_path, [[n] for n in range(4)], [[0, 1], [2, 3]])
    found = topology.read(frozenset(range(4)), root)
    assert found.places(4, 2, caller=3) == [{2, 3}, {2, 3}, {0, 1}, {0, 1}]
    assert found.places(4, 2, caller=-1) == [{0, 1}, {0, 1}, {2, 3}, {2, 3}]
    assert found.places(2, 2, caller=2) == [{2, 3}, {2, 3}]  # the cores of one die are enough
    assert found.places(4, 4, caller=0) == [{0, 1}, {0, 1}, {2, 3}, {2, 3}]
    assert found.places(4, 1, caller=0) == found.places(3, 3, caller=0) == []
    assert topology.read(frozenset({0, 1}), root).places(2, 2, caller=0) == []


def test_two_cores_to_measure_between(tmp_path: Path) -> None:
    root = machine(tmp_path, [[0, 4], [1, 5], [2, 6], [3, 7]], [[0, 4, 1, 5], [2, 6, 3, 7]])
    for die in ((0, 1, 4, 5), (2, 3, 6, 7)):
        for cpu in die:
            write(root / f"sys/devices/system/cpu/cpu{cpu}/cache/index3/shared_cpu_list", ",".join(map(str, die)))
    assert topology.read(frozenset(range(8)), root).pair == (0, 1)
    assert topology.read(frozenset({4, 0, 5}), root).pair == (0, 5)
    assert topology.read(frozenset({0, 4}), root).pair == ()


def test_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    found = topology.topology()
    assert 1 <= found.cores <= (os.cpu_count() or 1)
    assert sum(found.die_cores) >= found.cores
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert topology.topology() == topology.Topology(1, (), (1,))
