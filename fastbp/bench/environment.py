"""What makes figures untrue: variables that slow libraries down, a CPU that saves power, busy neighbours."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastbp.kernels import targets

# Variable -> what it does, whatever its value.
_FORCING = {
    "OPENBLAS_CORETYPE": "OpenBLAS runs the kernel it names, not the best for this CPU",
    "OPENBLAS_L2_SIZE": "OpenBLAS cuts its blocks for that cache, not for the one that is there",
    "NPY_DISABLE_CPU_FEATURES": "NumPy leaves out instructions that this CPU has",
    "MKL_ENABLE_INSTRUCTIONS": "MKL leaves out instructions that this CPU may have",
    "MKL_DEBUG_CPU_TYPE": "MKL runs the kernels of another CPU",
    "MKL_CBWR": "MKL gives up speed for the same bits",
    "ONEDNN_MAX_CPU_ISA": "PyTorch's oneDNN leaves out instructions that this CPU may have",
    "ATEN_CPU_CAPABILITY": "PyTorch leaves out instructions that this CPU may have",
    "XLA_FLAGS": "JAX compiles otherwise than by default",
    "NUMBA_CPU_NAME": "fastbp compiles for the CPU it names",
    "NUMBA_CPU_FEATURES": "fastbp compiles for the features it names",
    "FASTBP_PLACEMENT": "fastbp does not choose where work is placed",
}
_LIMITS = ("_NUM_THREADS", "OMP_THREAD_LIMIT", "VECLIB_MAXIMUM_THREADS")  # how the names of limits of threads end
#: Kernels of OpenBLAS that use half the width of a CPU with AVX-512, or less.
_NARROW_KERNELS = ("prescott", "core2", "nehalem", "sandybridge", "haswell", "zen", "excavator", "barcelona", "generic")
_TICKS = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100
BUSY = 0.1  # processors that others may take before it is told


@dataclass(frozen=True)
class CpuTimes:
    """Seconds since some moment, summed over the processors that this process may run on."""

    wall: float  # of one clock
    busy: float  # of all processes, and of the host (steal), on these processors
    own: float  # of this process and those it has waited for

    @classmethod
    def now(cls, stat: Path = Path("/proc/stat")) -> CpuTimes | None:
        """Read them; None where the system does not tell (Linux does)."""
        try:
            lines = stat.read_text(encoding="ascii").splitlines()
        except OSError:
            return None
        mine = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
        busy = 0.0
        for line in lines:
            name, *fields = line.split()
            number = name.removeprefix("cpu")
            if name.startswith("cpu") and number.isdigit() and (mine is None or int(number) in mine):
                # user nice system idle iowait irq softirq steal; guest times are in user and nice already
                user, nice, system, _idle, _iowait, irq, softirq, steal = [*map(int, fields[:8]), *[0] * 8][:8]
                busy += user + nice + system + irq + softirq + steal
        return cls(time.perf_counter(), busy / _TICKS, sum(os.times()[:4]))

    def others(self, later: CpuTimes) -> float:
        """Processors' worth that everybody else took between this moment and a later one."""
        wall = later.wall - self.wall
        if wall <= 0.0:
            return 0.0
        return max(0.0, ((later.busy - self.busy) - (later.own - self.own)) / wall)


def warnings(threads: int, variables: Mapping[str, str] | None = None, root: Path = Path("/")) -> list[str]:
    """What of variables and power settings slows somebody down in a run of up to so many threads."""
    variables = os.environ if variables is None else variables
    found = [f"{name}={variables[name]}: {effect}" for name, effect in _FORCING.items() if variables.get(name)]
    for name, value in sorted(variables.items()):
        if name.endswith(_LIMITS) and value.strip().isdigit() and int(value) < threads:
            found.append(f"{name}={value}: libraries that heed it use fewer than the {threads} threads of this run")
    governors = sorted(set(_governors(root)) - {"performance"})
    if governors:
        found.append(f"CPU governor {', '.join(governors)}, not performance: the clock rises only some time after work")
    return found


def narrow_kernels(libraries: Iterable[Mapping[str, Any]], vector_bytes: int | None = None) -> list[str]:
    """A warning for each OpenBLAS that runs below the width of this CPU's vectors: it may not know the CPU yet."""
    if (targets.TARGET.vector_bytes if vector_bytes is None else vector_bytes) < 64:
        return []
    return [
        f"{one['library']} {one['version']} runs its kernel {one['kernel']}, on a CPU with AVX-512: half the width"
        for one in libraries
        if one["library"] == "openblas" and one["kernel"].lower() in _NARROW_KERNELS
    ]


def neighbour(others: float, where: str) -> str | None:
    """A warning that somebody else used the processors, where it was enough to be seen in the figures."""
    if others <= BUSY:
        return None
    return f"a busy neighbour: others, or the host, took {others:.2f} processors {where}; figures are too slow"


def _governors(root: Path) -> list[str]:
    """The governors of the processors that this process may run on, where the system has any."""
    cpus = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    found = []
    for cpu in cpus:
        try:
            path = root / f"sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_governor"
            found.append(path.read_text(encoding="ascii").strip())
        except OSError:
            continue
    return found
