"""How many threads this process may use: by its affinity, the quota of its cgroups, and FASTBP_NUM_THREADS."""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Iterator
from pathlib import Path

# More than any machine has CPUs; beyond, a number is a slip, and its buffers would not fit into memory.
MOST = 4096


def default_threads() -> int:
    """Threads that this process may use: by affinity, the cgroups' quota, and FASTBP_NUM_THREADS."""
    wanted = os.environ.get("FASTBP_NUM_THREADS")
    if wanted:
        # The length first: Python refuses to read thousands of digits.
        if not (wanted.isascii() and wanted.isdigit() and len(wanted) < 10 and 1 <= int(wanted) <= MOST):
            raise ValueError(f"FASTBP_NUM_THREADS must be a positive integer up to {MOST}, got {wanted[:40]!r}")
        return int(wanted)
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, int(min(cpus, _cgroup_quota())))


@functools.cache
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
