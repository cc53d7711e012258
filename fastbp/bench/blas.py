"""The BLAS libraries of this process: kernels and threads, as threadpoolctl (extra `bench`) tells and sets them."""

from __future__ import annotations

import contextlib
import importlib.util
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

UNKNOWN = 'not known; pip install "fastbp[bench]" to have libraries, kernels and threads named'
MISSING = 'NumPy ran on its own number of threads; pip install "fastbp[bench]" to compare it in its better setting'


def can_limit() -> bool:
    """Is threadpoolctl there?"""
    return importlib.util.find_spec("threadpoolctl") is not None


def limit(threads: int | None) -> AbstractContextManager[Any]:
    """So many BLAS threads from now to the end of the context; None: as many as it takes by itself."""
    if threads is None or not can_limit():
        return contextlib.nullcontext()
    from threadpoolctl import threadpool_limits

    return threadpool_limits(threads, user_api="blas")  # type: ignore[no-any-return]


def loaded() -> list[dict[str, Any]] | None:
    """What can be told of each BLAS that is loaded now: `of` (whose), `library`, `version`, `kernel`, `threads`.

    None without threadpoolctl. A library that is linked into another, as MKL is into PyTorch, is not seen.
    """
    if not can_limit():
        return None
    from threadpoolctl import threadpool_info

    found = []
    for pool in threadpool_info():
        if pool["user_api"] != "blas":
            continue
        parts = Path(pool.get("filepath", "")).parts
        owner = next((owner for owner in ("numpy", "scipy") if {owner, f"{owner}.libs"} & set(parts)), "")
        one = {"of": owner, "library": pool["internal_api"], "version": pool.get("version") or ""}
        found.append(one | {"kernel": pool.get("architecture") or "", "threads": pool["num_threads"]})
    return found
