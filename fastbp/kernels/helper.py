"""A cold compile beside its caller, who can leave it; and with a second process, which takes leaves from the end.

Numba compiles on one core. Two processes that meet in the middle need little more than half the time; a helper that
cannot start or dies costs nothing but its share of the work.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from fastbp.kernels.cache import temporary_name, writable_folder

_CODE = (
    "import json, sys; path, claims, names, dtype = json.loads(sys.argv[1]); sys.path[:] = path; "
    "from fastbp.kernels.helper import compile_from_the_end; compile_from_the_end(claims, names, dtype)"
)
# A helper that is still at it then is stuck; what it has not written is compiled here.
PATIENCE_SECONDS = 120.0
# From one look at the clock, at signals and at what has been compiled to the next.
PAUSE_SECONDS = 0.05
# Set for the helper, which starts none itself, whatever runs at its start (a sitecustomize that trains, say).
_VARIABLE = "FASTBP_HELPER"


def beside(work, report) -> None:
    """Call ``work(stop)`` in a thread of its own; `report` is called here now and then while that goes on.

    Whatever ends the wait early, Ctrl-C above all, sets the event `stop` and is raised at once: in the middle of a
    compile it would be lost, where LLVM calls Python back, or leave Numba half done.
    """
    stop, failed = threading.Event(), []

    def run() -> None:
        try:
            work(stop)
        except BaseException as error:  # handed to the caller
            failed.append(error)

    # No daemon: the process must not end while LLVM is at work. It waits for a leaf at most.
    thread = threading.Thread(target=run, name="fastbp compiler", daemon=False)
    try:
        try:
            thread.start()
        except RuntimeError:  # no more threads may be started
            run()
        while thread.is_alive():
            report()
            thread.join(PAUSE_SECONDS)
    finally:
        stop.set()
    if failed:
        raise failed[0]


def interpreter() -> str | None:
    """The Python to start a second process with, or None.

    Of a frozen or embedding application, ``sys.executable`` may be the application, which would begin all over again.
    """
    name = os.path.basename(sys.executable or "")
    known = re.fullmatch(r"python(\d[\d.]*)?(t|d|w|-dbg|-intel64)?(\.exe)?", name, re.IGNORECASE)
    return None if getattr(sys, "frozen", False) or _VARIABLE in os.environ or not known else sys.executable


def _claim(claims: str, name: str) -> bool:
    """Make a leaf one's own; False if the other process has it."""
    try:
        os.close(os.open(Path(claims) / name, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    return True


def compile_together(leaves, dtype: str, prepare, stop) -> None:
    """Compile leaves, which are in the order of their needs, with the help of a second process, until `stop` is set."""
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    missing = [made for made in leaves if not made.is_cached(dtype)]
    python = interpreter()
    if cpus < 2 or len(missing) < 6 or python is None:  # less than its start would cost
        return
    folder = writable_folder()
    if folder is None:
        return
    with contextlib.suppress(OSError), tempfile.TemporaryDirectory(prefix="fastbp-") as claims:
        # Entries of other kinds, which importing ignores, cannot be handed over.
        path = [entry for entry in sys.path if isinstance(entry, str)]
        given = json.dumps([path, claims, [made.name for made in missing], dtype])
        # -P: a module in the current folder is none of the helper's.
        command, quiet = [python, "-P", "-c", _CODE, given], subprocess.DEVNULL
        shared = {**os.environ, "FASTBP_CACHE_DIR": str(folder.parent), _VARIABLE: "1"}
        helper = subprocess.Popen(command, stdin=quiet, stdout=quiet, stderr=quiet, env=shared)
        try:
            for made in leaves:  # those on disk too, in their turn: what is compiled links to them
                if stop.is_set() or (made in missing and not _claim(claims, made.name)):
                    break
                prepare(made, dtype)
            end = time.monotonic() + PATIENCE_SECONDS
            while helper.poll() is None and time.monotonic() < end and not stop.wait(PAUSE_SECONDS):
                pass
        finally:
            helper.kill()
            helper.wait()
            for left in folder.glob(temporary_name("*", helper.pid)):
                left.unlink(missing_ok=True)


def compile_from_the_end(claims: str, names: list[str], dtype: str) -> None:
    """The helper's part: compile leaves into the cache, last first, until the other process has claimed the rest."""
    import llvmlite.binding as llvm

    from fastbp.kernels import jit

    for made in jit.LEAVES:  # code is linked here but never run: any address will do for what is not compiled yet
        llvm.add_symbol(made.symbol(jit.DTYPES[dtype]), id(made))
    for name in reversed(names):
        if not _claim(claims, name):
            return
        jit.prepare(next(made for made in jit.LEAVES if made.name == name), dtype)
