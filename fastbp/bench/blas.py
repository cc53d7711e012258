"""The threads of NumPy's BLAS, which threadpoolctl (extra `bench`) can set; NumPy itself has no call for it."""

from __future__ import annotations

import contextlib
import importlib.util
from contextlib import AbstractContextManager
from typing import Any

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
