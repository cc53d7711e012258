"""The CPUs that this process may use: which of them share a core, and which a last-level cache."""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import NamedTuple

ROOT = Path("/")
# Longer lists than of any machine are a slip of the file, and would take for ever to write out.
MOST_CPUS = 1 << 16


class Topology(NamedTuple):
    """The CPUs that may be used.

    Attributes
    ----------
    cores : int
        Physical cores among them: virtual CPUs that share a core count as one.
    dies : tuple of frozenset of int
        The CPUs that share a last-level cache, dies of most cores first. All CPUs together where the system does not
        tell; empty where it does not even tell the CPUs.
    die_cores : tuple of int
        Physical cores of each die.
    pair : tuple of int
        Two CPUs on different cores of the first die, if it has as many.
    """

    cores: int
    dies: tuple[frozenset[int], ...]
    die_cores: tuple[int, ...]
    pair: tuple[int, ...] = ()

    def die_of(self, cpu: int) -> int:
        """Number of the die of a CPU; 0 where it is on none."""
        return next((number for number, die in enumerate(self.dies) if cpu in die), 0)

    def places(self, threads: int, parts: int, caller: int) -> list[set[int]]:
        """CPUs of each thread of a team, the caller's die first; none, which means any, where parts do not match dies.

        caller: the CPU that the calling thread is on.
        """
        first = self.die_of(caller)
        if len(self.dies) < 2:
            return []
        if threads <= self.die_cores[first]:
            return [set(self.dies[first])] * threads
        dies = len(self.dies)
        if parts % dies:
            return []
        order = [first, *(number for number in range(dies) if number != first)]
        return [set(self.dies[order[thread * dies // threads]]) for thread in range(threads)]


def topology() -> Topology:
    """What this process may use now; the files of the system are read once for each set of CPUs."""
    if not hasattr(os, "sched_getaffinity"):
        count = os.cpu_count() or 1
        return Topology(count, (), (count,))
    return read(frozenset(os.sched_getaffinity(0)), ROOT)


@functools.lru_cache(maxsize=64)
def read(cpus: frozenset[int], root: Path = ROOT) -> Topology:
    """The topology of some CPUs by the files of Linux below `root`.

    A CPU that these do not tell of is a core of its own, on the die of all others of which nothing is told.
    """
    folder = root / "sys/devices/system/cpu"
    core_of, die_of = {}, {}
    for cpu in sorted(cpus):
        core_of[cpu] = _siblings(folder / f"cpu{cpu}", cpu, cpus)
        die_of[cpu] = _sharers(folder / f"cpu{cpu}/cache", cpu, cpus)
    dies: dict[frozenset[int], None] = {}
    for found in die_of.values():
        if found:
            dies[found] = None
    told = frozenset().union(*dies)
    if untold := cpus - told:
        dies[untold] = None
    # Lists that contradict each other tell nothing.
    groups = list(dies) if sum(map(len, dies)) == len(cpus) else [cpus]
    counts = {die: len({core_of[cpu] for cpu in die}) for die in groups}
    groups.sort(key=lambda die: (-counts[die], min(die, default=0)))
    one_each = sorted({min(core_of[cpu] & groups[0]): None for cpu in sorted(groups[0])})[:2] if cpus else []
    return Topology(
        max(1, len(set(core_of.values()))),
        tuple(groups),
        tuple(max(1, counts[die]) for die in groups),
        tuple(one_each) if len(one_each) == 2 else (),
    )


def _siblings(folder: Path, cpu: int, cpus: frozenset[int]) -> frozenset[int]:
    """The CPUs on the same core, of those that may be used."""
    for name in ("core_cpus_list", "thread_siblings_list"):  # the second is the older name
        found = _listed(folder / "topology" / name)
        if cpu in found:
            return found & cpus
    return frozenset({cpu})


def _sharers(folder: Path, cpu: int, cpus: frozenset[int]) -> frozenset[int]:
    """The CPUs that share the cache of the highest level, of those that may be used; none where nothing is told.

    A cache of the second level alone tells no die: cores that share none still are near each other.
    """
    level, best = 2, frozenset[int]()
    for number in range(8):
        try:
            here = int((folder / f"index{number}/level").read_text())
        except (OSError, ValueError):
            continue
        if here > level:
            found = _listed(folder / f"index{number}/shared_cpu_list")
            if cpu in found:
                level, best = here, found & cpus
    return best


def _listed(path: Path) -> frozenset[int]:
    """The numbers in a list such as ``0-3,8,10-11``; none where the file is missing or says something else."""
    try:
        found: set[int] = set()
        for piece in path.read_text().strip().split(","):
            first, dash, last = piece.partition("-")
            begin, end = int(first), int(last if dash else first)
            if not 0 <= begin <= end < MOST_CPUS:
                return frozenset()
            found.update(range(begin, end + 1))
        return frozenset(found)
    except (OSError, ValueError):
        return frozenset()
