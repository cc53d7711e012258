"""What this machine is to fastbp, and its machine code made ready ahead of time."""

from __future__ import annotations

import platform
from collections.abc import Callable, Sequence
from typing import Any

from fastbp import validation
from fastbp.engine import team
from fastbp.kernels import cache, jit, probe, simd
from fastbp.kernels.sweep import sweep as _last_kernel


def warmup(dtypes: Sequence[str] = ("float32", "float64"), progress: Callable[[int, int], None] | None = None) -> None:
    """Compile everything, or load it from the cache on disk, so that no later call waits for it.

    Parameters
    ----------
    dtypes : sequence of str
        Of the networks to come.
    progress : callable, optional
        Called as ``progress(done, total)`` now and then, in pieces of code, and after the last.
    """
    names = [validation.check_dtype(dtype).name for dtype in dtypes]
    each = len(jit.leaves_of(_last_kernel))
    total = each * len(names)
    for number, name in enumerate(names):

        def report(done: int, before: int = number * each) -> None:
            if progress is not None:
                progress(before + done, total)

        report(0)
        jit.entry(_last_kernel, name, report)
    if progress is not None:
        progress(total, total)


def machine() -> dict[str, Any]:
    """CPU, vector width, register tile, threads, cache folder and measured FMA peak of this machine."""
    threads = team.default_threads()
    target = simd.TARGET
    return {
        "cpu": _cpu_model(),
        "llvm_cpu": cache.cpu_name_and_features()[0],
        "instruction_set": target.name,
        "vector_bits": target.vector_bytes * 8,
        "tile_float32": f"{target.tile_rows} x {2 * target.vector_bytes // 4}",
        "tile_float64": f"{target.tile_rows} x {2 * target.vector_bytes // 8}",
        "threads": threads,
        "cache_folder": str(cache.cache_folder()),
        "fma_peak_gflops": {  # threads -> measured
            dtype: {count: probe.fma_peak(dtype, count) for count in sorted({1, threads})}
            for dtype in ("float32", "float64")
        },
    }


def _cpu_model() -> str:
    try:
        with open("/proc/cpuinfo") as file:
            return next(line.split(":", 1)[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
