"""In which numbers products are computed: float32, or bfloat16 where the CPU has it."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastbp.kernels.targets import TWIN, VARIABLE, cpu_name_and_features, pair_target

FLOAT32, BFLOAT16 = "float32", "bfloat16"
NAMES = (FLOAT32, BFLOAT16)


def check(precision: object, dtype: np.dtype[Any] | None = None) -> str:
    """One of NAMES, which this CPU has, for networks of a dtype.

    Raises
    ------
    ValueError
        It is no such name; or this CPU has no products in bfloat16; or the network is float64.
    """
    if not isinstance(precision, str) or precision not in NAMES:
        raise ValueError(f"precision must be one of {', '.join(map(repr, NAMES))}, got {precision!r:.80}")
    if precision == FLOAT32:
        return FLOAT32
    if dtype is not None and dtype != np.dtype(np.float32):
        raise ValueError(
            f"precision={precision!r} is for networks of dtype float32, and this one is {dtype}: leave precision out, "
            "or make the network with dtype='float32'"
        )
    if pair_target() is None:
        raise ValueError(
            f"precision={precision!r} needs a CPU with the instructions AVX512-BF16 (AMD Zen 4, Intel Cooper Lake or "
            f"Sapphire Rapids, and later); this one, {cpu_name_and_features()[0]}, lacks them: leave precision out. "
            f"For tests, {VARIABLE}={TWIN.name} computes the same bits slowly on any CPU"
        )
    return precision


def has_bfloat16() -> bool:
    """Whether this CPU, or what FASTBP_TILE asks for, has products in bfloat16."""
    return pair_target() is not None


def kernel_dtype(precision: str, dtype: str) -> str:
    """What kernels are compiled for, see `fastbp.kernels.jit.DTYPES`."""
    if precision == FLOAT32:
        return dtype
    target = pair_target()
    assert target is not None, "check comes first"
    return target.name.replace("-", "_")
