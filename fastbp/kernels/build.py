"""The compile driver: which kernels are compiled or loaded, when, in what order and by whom.

An entry is compiled when it is first called, in a thread of its own, so that the caller can leave at any time. Numba
compiles on one core. A second process, the helper, therefore compiles leaves from the end of the list while this one
begins at the start: when they meet in the middle, little more than half the time has passed. A helper that cannot start
or dies costs nothing but its share of the work.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import llvmlite.binding as llvm
from numba.core.codegen import CPUCodeLibrary
from numba.core.compiler_lock import global_compiler_lock
from numba.core.cpu import CPUContext

from fastbp.kernels.bfloat16 import PAIRS
from fastbp.kernels.cache import temporary_name, writable_folder
from fastbp.kernels.jit import LEAVES, Leaf
from fastbp.kernels.lbfgs import minimize as _minimize
from fastbp.kernels.many import train_many as _train_many
from fastbp.kernels.sweep import sweep as _sweep
from fastbp.kernels.targets import TARGET
from fastbp.kernels.tuning import HELPER_MIN_LEAVES, HELPER_PATIENCE_SECONDS, PAUSE_SECONDS

_ENTRIES = _sweep, _train_many, _minimize  # of which each calls all that a training needs
_lock = threading.RLock()
_prepared: dict[tuple[str, str], Any] = {}  # (leaf, dtype) -> what Python calls


def _before_fork() -> None:
    """Wait for the end of a compile: a child must not begin with half of one, and with a lock that nobody opens."""
    _lock.acquire()
    global_compiler_lock.acquire()


def _after_fork() -> None:
    global_compiler_lock.release()
    _lock.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork)


# --- one leaf -----------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _inner_code_stays_open(name: str):
    """While a leaf of this name compiles, leave the functions inside it as they are: LLVM sees them once, there.

    Numba optimises every function to machine code before its caller takes it in, and once more inside the caller, and
    so on up: of a cold compile of 17 s, 5 went there.
    """
    finalize, get_executable = CPUCodeLibrary.finalize, CPUContext.get_executable

    def link_only(self):
        if self.name == name:
            return finalize(self)
        for library in dict.fromkeys(self._linking_libraries):
            self._reload_init.update(library._reload_init)
            self._final_module.link_in(library._get_module_for_linking(), preserve=True)
        self._finalized = True

    def not_from_python(self, library, fndesc, env):
        return get_executable(self, library, fndesc, env) if library.name == name else [].append

    CPUCodeLibrary.finalize, CPUContext.get_executable = link_only, not_from_python
    try:
        yield
    finally:
        CPUCodeLibrary.finalize, CPUContext.get_executable = finalize, get_executable


@contextlib.contextmanager
def _whole_vectors():
    """Meanwhile, let LLVM use vectors as wide as those of the tile in loops too.

    For Intel's CPUs with AVX-512 it prefers halves, for the sake of programs with few of them: these would lower the
    clock. Here the products do that anyway, where it is done at all.
    (Steps on a Xeon: 64-64-10 0.96, tanh 8-64-64-2 0.93, sigmoid 45-46-45-10 0.87 of their time.)
    """
    add_ir_module = CPUCodeLibrary.add_ir_module

    def add_with_width(self, module):
        for function in module.functions:
            if not function.is_declaration:  # past llvmlite's own list, which knows no attributes with values
                set.add(function.attributes, f'"prefer-vector-width"="{TARGET.vector_bytes * 8}"')
        add_ir_module(self, module)

    CPUCodeLibrary.add_ir_module = add_with_width
    try:
        yield
    finally:
        CPUCodeLibrary.add_ir_module = add_ir_module


@contextlib.contextmanager
def _no_collection():
    """Stop the garbage collector: Numba makes millions of objects and next to no cycles.

    Searching for them takes 5 to 10 % of a compile.
    """
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


@cache
def _start_numba() -> None:
    """Do what Numba does before its first compile: load the extensions that installed packages name, and SciPy.

    Numba finds them by reading every entry of sys.path as text. Entries of other types, such as bytes, which importing
    ignores, are taken out meanwhile.
    """
    path = sys.path
    sys.path = [entry for entry in path if isinstance(entry, str)]
    try:
        LEAVES[0].dispatcher.targetctx.refresh()
    finally:
        sys.path = path


def compile_leaf(leaf: Leaf, dtype: str):
    """Compile or load the code of a leaf for a dtype, and make its symbol known; returns what Python calls."""
    signature = leaf.signature(dtype)
    with _inner_code_stays_open(leaf.name), _whole_vectors():
        leaf.dispatcher.compile(signature)
    compiled = leaf.dispatcher.overloads[signature]
    address = compiled.library.get_pointer_to_function(compiled.fndesc.llvm_func_name)
    llvm.add_symbol(leaf.symbol(dtype), address)
    return compiled.entry_point


def prepare(leaf: Leaf, dtype: str):
    """Compile or load one leaf for a dtype, once a process; returns what Python calls. What it calls must be ready."""
    dtype = leaf.kind(dtype)
    key = leaf.name, dtype
    if key not in _prepared:
        with _lock, global_compiler_lock, _no_collection():
            if key not in _prepared:
                _start_numba()
                _prepared[key] = compile_leaf(leaf, dtype)
    return _prepared[key]


# --- an entry with all that it calls ------------------------------------------------------------------------


def leaves_of(function, dtype: str = "float32") -> list[Leaf]:
    """The leaf of an entry, after all those that it calls, in an order in which they can be linked."""
    return [*function.leaf.needs(dtype), function.leaf]


def entry(function, dtype: str, report: Callable[[int], None] = lambda done: None):
    """The compiled leaf of a dtype as Python calls it, with all that it calls ready.

    An exception that comes meanwhile, such as a KeyboardInterrupt, is raised at once. The leaves that are compiled by
    then are on disk, and the next call compiles the others.

    report: called with the number of leaves that are on disk, now and then while others are compiled.
    """
    key = function.leaf.name, dtype
    if key not in _prepared:
        if dtype in PAIRS:  # what has nothing to do with products is float32's
            entry(function, "float32", report)
        leaves = leaves_of(function, dtype)
        beside(
            lambda stop: _prepare_all(leaves, dtype, stop),
            lambda: report(sum(leaf.is_cached(dtype) for leaf in leaves)),
        )
    return _prepared[key]


def entries(dtype: str) -> tuple:
    """The entries that there are for a dtype: L-BFGS needs all digits of its gradients."""
    return tuple(one for one in _ENTRIES if one is not _minimize or dtype not in PAIRS)


def warmup(dtypes: Sequence[str], progress: Callable[[int, int], None] = lambda done, total: None) -> None:
    """Compile or load every kernel of a training for some dtypes; `progress(done, total)` counts leaves."""
    counts = [len(dict.fromkeys(leaf for one in entries(dtype) for leaf in leaves_of(one, dtype))) for dtype in dtypes]
    total = sum(counts)
    for number, dtype in enumerate(dtypes):

        def report(done: int, before: int = sum(counts[:number])) -> None:
            progress(before + done, total)

        report(0)
        for one in entries(dtype):
            entry(one, dtype, report)
    progress(total, total)


def beside(work, report) -> None:
    """Call ``work(stop)`` in a thread of its own; `report` is called here now and then until it ends.

    Whatever ends the wait early, Ctrl-C above all, sets the event `stop` and is raised at once. Raised in the middle of
    a compile it would be lost, where LLVM calls Python back, or leave Numba half done.
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


def _prepare_all(leaves: list[Leaf], dtype: str, stop: threading.Event) -> None:
    """Compile or load leaves one after the other, until `stop` is set."""
    _compile_with_helper(leaves, dtype, stop)
    for leaf in leaves:
        if stop.is_set():
            return
        prepare(leaf, dtype)


# --- the second process -------------------------------------------------------------------------------------

# What the helper runs. It names this module.
_CODE = (
    "import json, sys; path, claims, names, dtype = json.loads(sys.argv[1]); sys.path[:] = path; "
    f"from {__name__} import compile_from_the_end; compile_from_the_end(claims, names, dtype)"
)
# Set for the helper: it must start none itself, whatever runs when it starts (a sitecustomize that trains, say).
_VARIABLE = "FASTBP_HELPER"


def interpreter() -> str | None:
    """The Python to start a second process with, or None.

    Of a frozen or embedding application, ``sys.executable`` may be the application, which would begin all over again.
    """
    name = os.path.basename(sys.executable or "")
    known = re.fullmatch(r"python(\d[\d.]*)?(t|d|w|-dbg|-intel64)?(\.exe)?", name, re.IGNORECASE)
    return None if getattr(sys, "frozen", False) or _VARIABLE in os.environ or not known else sys.executable


def _claim(claims: str, name: str) -> bool:
    """Claim a leaf for this process, by a file of its name in a folder; False if the other process has it."""
    try:
        os.close(os.open(Path(claims) / name, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    return True


def _compile_with_helper(leaves: list[Leaf], dtype: str, stop: threading.Event) -> None:
    """Compile leaves, which are in an order for linking, with the help of a second process, until `stop` is set."""
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    missing = [leaf for leaf in leaves if not leaf.is_cached(dtype)]
    python = interpreter()
    if cpus < 2 or len(missing) < HELPER_MIN_LEAVES or python is None:
        return
    folder = writable_folder()
    if folder is None:
        return
    with contextlib.suppress(OSError), tempfile.TemporaryDirectory(prefix="fastbp-") as claims:
        # Entries of other types, which importing ignores, cannot be handed over.
        path = [entry for entry in sys.path if isinstance(entry, str)]
        given = json.dumps([path, claims, [leaf.name for leaf in missing], dtype])
        # -P: without the current folder, where a module may have the name of one that the helper imports.
        command, quiet = [python, "-P", "-c", _CODE, given], subprocess.DEVNULL
        shared = {**os.environ, "FASTBP_CACHE_DIR": str(folder.parent), _VARIABLE: "1"}
        helper = subprocess.Popen(command, stdin=quiet, stdout=quiet, stderr=quiet, env=shared)
        try:
            for leaf in leaves:  # those on disk too, in their turn: what is compiled links to them
                if stop.is_set() or (leaf in missing and not _claim(claims, leaf.name)):
                    break
                prepare(leaf, dtype)
            end = time.monotonic() + HELPER_PATIENCE_SECONDS
            while helper.poll() is None and time.monotonic() < end and not stop.wait(PAUSE_SECONDS):
                pass
        finally:
            helper.kill()
            helper.wait()
            for left in folder.glob(temporary_name("*", helper.pid)):
                left.unlink(missing_ok=True)


def compile_from_the_end(claims: str, names: list[str], dtype: str) -> None:
    """In the helper: compile leaves into the cache, last first, until the other process has claimed the rest."""
    by_name = {leaf.name: leaf for leaf in LEAVES}
    for leaf in LEAVES:  # code is linked here but never run: any address will do for what is not compiled yet
        llvm.add_symbol(leaf.symbol(dtype), id(leaf))
    for name in reversed(names):
        if not _claim(claims, name):
            return
        prepare(by_name[name], dtype)
