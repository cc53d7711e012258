"""`fastbp.warmup`: machine code made ready ahead of time."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence

from fastbp import validation
from fastbp.engine import precisions
from fastbp.kernels import build

log = logging.getLogger(__name__)


def warmup(
    dtypes: Sequence[str] = ("float32", "float64"), progress: Callable[[int, int], None] | None = None, *,
    precision: str = precisions.FLOAT32,
) -> None:  # fmt: skip
    """Compile everything, or load it from the cache on disk, so that no later call waits for it.

    Parameters
    ----------
    dtypes : sequence of str
        Of the networks to come.
    progress : callable, optional
        Called as ``progress(done, total)`` now and then, in pieces of code, and after the last.
    precision : {"float32", "bfloat16"}
        "bfloat16": also what trains float32 networks with products in bfloat16, see `MLP.fit`.
    """
    names = [validation.check_dtype(dtype).name for dtype in dtypes]
    started = time.perf_counter()
    if precisions.check(precision) != precisions.FLOAT32:
        names.append(precisions.kernel_dtype(precision, "float32"))
    build.warmup(names, progress or (lambda done, total: None))
    log.info("machine code of %s ready in %.2f s", " and ".join(names), time.perf_counter() - started)
