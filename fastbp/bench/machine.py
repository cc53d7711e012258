"""The machine that figures are measured on: processor, threads, versions, and what fastbp makes of it."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

from fastbp.bench.rivals import Rival
from fastbp.engine import team
from fastbp.kernels import cache, probe, targets

_LIBRARIES = ("numpy", "numba", "llvmlite", "scipy", "threadpoolctl")


def available_threads() -> int:
    """Logical processors this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return max(1, len(os.sched_getaffinity(0)))
    return os.cpu_count() or 1


def describe() -> dict[str, Any]:
    """Processor and system, without anything that names the machine or its user."""
    return {
        "processor": processor_name(),
        "architecture": platform.machine(),
        "system": platform.system(),
        "logical_processors": os.cpu_count(),
        "available_threads": available_threads(),
        "python": platform.python_version(),
    }


def processor_name() -> str:
    """The model name as the kernel tells it, where it does."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "") or platform.processor() or platform.machine()


def machine() -> dict[str, Any]:
    """CPU, vector width, register tile, threads, cache folder and measured FMA peak of this machine."""
    threads = team.default_threads()
    target, target_has_pairs = targets.TARGET, targets.pair_target() is targets.AVX512_BF16
    return {
        "cpu": processor_name(),
        "llvm_cpu": targets.cpu_name_and_features()[0],
        "instruction_set": target.name,
        "vector_bits": target.vector_bytes * 8,
        "tile_float32": f"{target.tile_rows} x {2 * target.vector_bytes // 4}",
        "tile_float64": f"{target.tile_rows} x {2 * target.vector_bytes // 8}",
        "bfloat16": _bfloat16(),
        "threads": threads,
        "cache_folder": str(cache.cache_folder()),
        "fma_peak_gflops": peaks(("float32", "float64", *(["bfloat16"] if target_has_pairs else []))),
    }


def peaks(dtypes: Iterable[str]) -> dict[str, dict[int, float]]:
    """Measured GFLOP/s in FMAs, or in sums of pairs of bfloat16, by dtype and number of threads."""
    counts = sorted({1, team.default_threads()})
    return {dtype: {count: probe.fma_peak(dtype, count) for count in counts} for dtype in dtypes}


def _bfloat16() -> str:
    """What products in bfloat16 are made of here."""
    target = targets.pair_target()
    if target is None:
        return "no: precision='bfloat16' needs a CPU with AVX512-BF16"
    return "yes, by vdpbf16ps" if target is targets.AVX512_BF16 else "its twin, slowly, as FASTBP_TILE asks for"


def versions(rivals: Iterable[Rival]) -> dict[str, str]:
    """Versions of the rivals by their names, and of the libraries below them by theirs."""
    found = {rival.name.partition(",")[0]: rival.version() for rival in rivals}
    for library in _LIBRARIES:
        try:
            found.setdefault(library, metadata.version(library))
        except metadata.PackageNotFoundError:
            continue
    return found
