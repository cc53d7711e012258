"""A second process for a cold compile: it takes leaves from the end of the list, and leaves them in the cache.

Numba compiles on one core. Two processes that meet in the middle need little more than half the time; a helper that
cannot start or dies costs nothing but its share of the work.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

_CODE = (
    "import json, sys; path, claims, names, dtype = json.loads(sys.argv[1]); sys.path[:] = path; "
    "from fastbp.kernels.helper import compile_from_the_end; compile_from_the_end(claims, names, dtype)"
)
# A helper that is still at it then is stuck; what it has not written is compiled here.
PATIENCE_SECONDS = 120.0


def _claim(claims: str, name: str) -> bool:
    """Make a leaf one's own; False if the other process has it."""
    try:
        os.close(os.open(Path(claims) / name, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    return True


def compile_together(leaves, dtype: str, prepare, report) -> None:
    """Compile leaves, which are in the order of their needs, with the help of a second process.

    `report` is called now and then while that goes on.
    """
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    missing = [made for made in leaves if not made.is_cached(dtype)]
    if cpus < 2 or len(missing) < 6 or not sys.executable:  # less than its start would cost
        return
    with tempfile.TemporaryDirectory(prefix="fastbp-") as claims, contextlib.suppress(OSError):
        names = [made.name for made in missing]
        command = [sys.executable, "-c", _CODE, json.dumps([sys.path, claims, names, dtype])]
        quiet = subprocess.DEVNULL
        helper = subprocess.Popen(command, stdin=quiet, stdout=quiet, stderr=quiet)
        try:
            for made in leaves:  # those on disk too, in their turn: what is compiled links to them
                if made in missing and not _claim(claims, made.name):
                    break
                report()
                prepare(made, dtype)
            end = time.monotonic() + PATIENCE_SECONDS
            while helper.poll() is None and time.monotonic() < end:
                report()
                time.sleep(0.02)
        finally:
            helper.kill()
            helper.wait()


def compile_from_the_end(claims: str, names: list[str], dtype: str) -> None:
    """The helper's part: compile leaves into the cache, last first, until the other process has claimed the rest."""
    import llvmlite.binding as llvm

    import fastbp.kernels.sweep  # noqa: F401 - defines the leaves, as it builds on all the others
    from fastbp.kernels import jit

    for made in jit.LEAVES:  # code is linked here but never run: any address will do for what is not compiled yet
        llvm.add_symbol(made.symbol(jit.DTYPES[dtype]), id(made))
    for name in reversed(names):
        if not _claim(claims, name):
            return
        jit.prepare(next(made for made in jit.LEAVES if made.name == name), dtype)
