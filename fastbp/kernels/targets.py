"""The CPU that Numba compiles for, and the shape of the register tile that suits it: one table, one row a kind."""

from __future__ import annotations

import os
from dataclasses import dataclass

import llvmlite.binding as llvm
import numba


def cpu_name_and_features() -> tuple[str, str]:
    """The CPU that Numba compiles for, honouring NUMBA_CPU_NAME and NUMBA_CPU_FEATURES.

    As in Numba, a name alone brings no features: they are those of this machine, but for "generic", which has none.
    """
    name, features = numba.config.CPU_NAME, numba.config.CPU_FEATURES
    if features is None:
        features = llvm.get_host_cpu_features().flatten()
    return name or llvm.get_host_cpu_name(), features


@dataclass(frozen=True)
class Target:
    """One row of the tile table.

    name: instruction set; vector_bytes: width of a vector register; tile_rows: rows of the register tile, which
    is two vectors wide (rows * 2 accumulators, 2 vectors of weights and 1 broadcast must fit the register file,
    and 8 accumulators are needed to hide the latency of two FMA units); fma: fused multiply-add in hardware;
    pairs: "", or what adds up the products of pairs of bfloat16: the instruction "vdpbf16ps", or its "twin".
    """

    name: str
    vector_bytes: int
    tile_rows: int
    fma: bool
    pairs: str = ""


# Order is preference. 12 of the 16 registers of AVX2 hold accumulators: on a Zen 3 6x16 ran at 96 to 100 GFLOP/s,
# 4x16 at 85 to 95 and 5x16 at 82 to 96 (K = 64 to 256, out of a peak of about 110).
AVX512 = Target("avx512", 64, 8, True)
AVX2 = Target("avx2", 32, 6, True)
NEON = Target("neon", 16, 8, True)
GENERIC = Target("generic", 16, 4, False)


def _enabled() -> set[str]:
    return {f[1:] for f in cpu_name_and_features()[1].split(",") if f.startswith("+")}


def choose_target() -> Target:
    """Pick the row of the table for the CPU that Numba compiles for."""
    enabled = _enabled()
    if "avx512f" in enabled:
        return AVX512
    if {"avx2", "fma"} <= enabled:
        return AVX2
    if "neon" in enabled:
        return NEON
    return GENERIC


TARGET = choose_target()

# The rows for products in bfloat16. The twin has the same bits on any CPU, far more slowly: it is for tests, and its
# tile small, to be compiled soon.
AVX512_BF16 = Target("bfloat16", 64, 8, True, "vdpbf16ps")
TWIN = Target("bfloat16-twin", TARGET.vector_bytes, 2, TARGET.fma, "twin")
PAIR_TARGETS = (AVX512_BF16, TWIN)
VARIABLE = "FASTBP_TILE"


def pair_target() -> Target | None:
    """The row for products in bfloat16: that of this CPU, or the one that FASTBP_TILE asks for; None: there is none.

    Raises
    ------
    ValueError
        FASTBP_TILE is no row of the table.
    """
    wanted = os.environ.get(VARIABLE)
    if wanted:
        if wanted != TWIN.name:
            raise ValueError(f"{VARIABLE} must be {TWIN.name!r}, for tests, or unset; got {wanted[:40]!r}")
        return TWIN
    return AVX512_BF16 if TARGET is AVX512 and "avx512bf16" in _enabled() else None
