"""How many threads this process is granted: by the environment, the affinity, the cgroups and the physical cores."""

from __future__ import annotations

import math
import multiprocessing
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from fastbp.engine import topology

# More than any machine has CPUs; beyond, a number is a slip, and its buffers would not fit into memory.
MOST = 4096
# A quota may change while a training goes on; to read it takes some 50 us.
QUOTA_SECONDS = 1.0


def default_threads() -> int:
    """Threads that may be used now: FASTBP_NUM_THREADS, or physical cores by affinity, quota and joblib's share.

    Virtual CPUs that share a core count as one: two threads on one core share its multipliers and caches.
    """
    wanted = os.environ.get("FASTBP_NUM_THREADS")
    if wanted:
        # The length first: Python refuses to read thousands of digits.
        if not (wanted.isascii() and wanted.isdigit() and len(wanted) < 10 and 1 <= int(wanted) <= MOST):
            raise ValueError(f"FASTBP_NUM_THREADS must be a positive integer up to {MOST}, got {wanted[:40]!r}")
        return int(wanted)
    return max(1, int(min(topology.topology().cores, _quota(), joblib_share())))


def joblib_share() -> float:
    """CPUs that joblib leaves to the task that this thread works on; infinity where it is no task of joblib's.

    Processes are told by OMP_NUM_THREADS: CPUs over workers, by default. Workers that are threads, and processes that
    are told nothing, get one each.
    """
    joblib = sys.modules.get("joblib")  # where it runs tasks, it has been imported
    if joblib is None or not joblib.parallel.get_active_backend()[0].nesting_level:
        return math.inf
    told = os.environ.get("OMP_NUM_THREADS", "") if multiprocessing.parent_process() is not None else ""
    return int(told) if told.isascii() and told.isdigit() and 0 < len(told) < 10 and int(told) else 1


_read: tuple[float, float] = -math.inf, math.inf  # when the quota was last read, and what it was


def _quota() -> float:
    """The quota of the cgroups, not older than a second."""
    global _read
    now = time.monotonic()
    if now - _read[0] > QUOTA_SECONDS:
        _read = now, _cgroup_quota()
    return _read[1]


def _cgroup_quota(root: Path = Path("/")) -> float:
    """CPUs that the cgroups of this process grant, infinity where nothing limits them.

    Any cgroup above one's own may hold the limit: a slice of systemd, a job of Slurm, a pod.
    """
    quota = math.inf
    for folder in _cgroups(root):
        try:
            if (folder / "cpu.max").exists():  # version 2
                granted, period = (folder / "cpu.max").read_text().split()
            else:
                granted, period = ((folder / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
            if granted != "max" and int(granted) > 0:
                quota = min(quota, int(granted) / int(period))
        except (OSError, ValueError, ZeroDivisionError):  # not there, or in a form that is not known
            continue
    return quota


def _cgroups(root: Path) -> Iterator[Path]:
    """The folders of the cgroups that this process is in, from its own up to the root of each hierarchy."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except (OSError, ValueError):
        lines = ["0::/"]
    mounts = root / "sys/fs/cgroup"
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers and "cpu" not in controllers.split(","):
            continue
        # In a container the path may be the host's, of which only the end or nothing is there.
        parts = [part for part in path.split("/") if part not in ("", ".", "..")]
        for name in {controllers, "cpu"} if controllers else ("", "unified"):
            for depth in range(len(parts), -1, -1):
                yield mounts.joinpath(name, *parts[:depth])
