"""`fastbp.warmup`: machine code made ready ahead of time."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence

from fastbp import validation
from fastbp.kernels import build

log = logging.getLogger(__name__)


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
    started = time.perf_counter()
    build.warmup(names, progress or (lambda done, total: None))
    log.info("machine code of %s ready in %.2f s", " and ".join(names), time.perf_counter() - started)
