"""The one place that fixes JIT flags and says how machine code is put together.

Numba links the code of a callee into every caller and optimises it again: with all of the step in one tower of
functions, a cold compile took 43 s, 30 of them in LLVM. So heavy functions are *leaves*: compiled once for each dtype
with one signature, found by their symbol, called by all others as C functions are, and cached on disk.
"""

from __future__ import annotations

import contextlib
import gc
import os
import sys
import threading
from functools import cache
from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.core.codegen import CPUCodeLibrary
from numba.core.compiler_lock import global_compiler_lock
from numba.core.cpu import CPUContext
from numba.extending import intrinsic

from fastbp.kernels.cache import KernelCache
from fastbp.kernels.helper import beside, compile_together

# Never `reassoc` (bits would depend on buffer addresses), `nnan` or `ninf` (divergence must be seen), or `contract`
# (fused and separate updates must round alike; FMAs are written out where they are meant).
FASTMATH = {"nsz"}
FLAGS: dict[str, Any] = {
    "nogil": True,
    "fastmath": FASTMATH,
    "error_model": "numpy",
    "boundscheck": False,
    "_nrt": False,
}

# Called from compiled code only: no wrappers for Python or C.
jit = njit(**FLAGS, no_cpython_wrapper=True, no_cfunc_wrapper=True)
# For scalar functions called in a loop: LLVM vectorises a loop only when everything in it is inlined, and leaves the
# longer ones (gelu, softplus) out of line by its own cost model: 35 ns an element instead of 2.
element = njit(forceinline=True, **FLAGS, no_cpython_wrapper=True, no_cfunc_wrapper=True)

DTYPES = {"float32": types.float32, "float64": types.float64}
LEAVES: list[Leaf] = []
_lock = threading.RLock()


def _before_fork() -> None:
    """A child must not begin its life with half a compile, and a lock that nobody will ever open: wait for the end."""
    _lock.acquire()
    global_compiler_lock.acquire()


def _after_fork() -> None:
    global_compiler_lock.release()
    _lock.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork)


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


class Leaf:
    """A compiled function `f(*arguments, tag) -> None`, one signature a dtype; the tag is a number of that dtype."""

    def __init__(self, function, arguments, alone):
        self.name, self.alone = function.__name__, alone
        self.arguments = arguments
        self.dispatcher = njit(**FLAGS)(function)
        self.cache = self.dispatcher._cache = KernelCache(self.name)

    def is_cached(self, dtype: str) -> bool:
        """Is there code of a dtype on disk?"""
        return self.cache.file_of(dtype) is not None

    def compile(self, dtype: str):
        """Compile or load the code for a dtype and make its symbol known; returns what Python calls."""
        signature = (*self.arguments, DTYPES[dtype])
        with _inner_code_stays_open(self.name):
            self.dispatcher.compile(signature)
        compiled = self.dispatcher.overloads[signature]
        address = compiled.library.get_pointer_to_function(compiled.fndesc.llvm_func_name)
        llvm.add_symbol(self.symbol(DTYPES[dtype]), address)
        return compiled.entry_point

    def needs(self):
        """The leaves that it may call: those defined before it."""
        return [] if self.alone else [other for other in LEAVES[: LEAVES.index(self)] if not other.alone]

    def symbol(self, tag) -> str:
        return f"fastbp_{self.name}_{tag.name}"


def leaf(*arguments, alone=False):
    """Decorator: a heavy kernel, callable from compiled code as `f(*arguments, tag)`. alone: it calls no other leaf."""

    def decorate(function):
        made = Leaf(function, arguments, alone)
        LEAVES.append(made)

        @intrinsic
        def call(typingctx, *values):
            given = _argument_types(values)
            signature = types.void(types.Tuple(given))
            wanted = (*arguments, given[-1])
            if len(given) != len(wanted):
                raise TypeError(f"{made.name} takes {len(wanted)} arguments, not {len(given)}")

            def codegen(context, builder, signature, args):
                unpacked = cgutils.unpack_tuple(builder, args[0], len(given))
                converted = [
                    context.cast(builder, value, have, want)
                    for value, have, want in zip(unpacked, given, wanted, strict=True)
                ]
                kind = context.call_conv.get_function_type(types.none, wanted)
                target = cgutils.get_or_insert_function(builder.module, kind, made.symbol(given[-1]))
                context.call_conv.call_function(builder, target, types.none, wanted, converted)
                return context.get_dummy_value()

            return signature, codegen

        call.leaf = made
        return call

    return decorate


def switch(cases):
    """A compiled function `run(code, *args)` that calls `cases[code](*args)`; a machine-level switch over integers.

    The cases are jitted functions that return nothing. Nesting closures instead would compile one function a case.
    """

    @intrinsic
    def run(typingctx, code, *args):
        given = _argument_types(args)
        kinds = [typingctx.resolve_value_type(case) for case in cases]
        signatures = [typingctx.resolve_function_type(kind, given, {}) for kind in kinds]

        def codegen(context, builder, signature, values):
            unpacked = cgutils.unpack_tuple(builder, values[1], len(given))
            done = builder.append_basic_block("switch_done")
            branch = builder.switch(values[0], done)
            for number, (kind, case) in enumerate(zip(kinds, signatures, strict=True)):
                block = builder.append_basic_block(f"case_{number}")
                branch.add_case(ir.Constant(values[0].type, number), block)
                builder.position_at_end(block)
                converted = [
                    context.cast(builder, value, have, want)
                    for value, have, want in zip(unpacked, given, case.args, strict=True)
                ]
                context.get_function(kind, case)(builder, converted)
                builder.branch(done)
            builder.position_at_end(done)
            return context.get_dummy_value()

        return types.void(code, types.Tuple(given)), codegen

    return run


def _argument_types(args):
    """Numba hands the types of `*args` over as one tuple type."""
    return tuple(args[0]) if len(args) == 1 and isinstance(args[0], types.BaseTuple) else tuple(args)


_prepared: dict[tuple[str, str], Any] = {}


def leaves_of(function):
    """The leaf of an entry, after all those that it may call."""
    return [*function.leaf.needs(), function.leaf]


@contextlib.contextmanager
def _no_collection():
    """Numba makes millions of objects and next to no cycles: to look for them takes 5 to 10 % of a compile."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


@cache
def _start_numba() -> None:
    """What Numba does before its first compile: load extensions and SciPy, where their packages' metadata say they are.

    That reads every entry of sys.path as text; importing ignores others, such as bytes.
    """
    path = sys.path
    sys.path = [entry for entry in path if isinstance(entry, str)]
    try:
        LEAVES[0].dispatcher.targetctx.refresh()
    finally:
        sys.path = path


def prepare(made: Leaf, dtype: str):
    """Compile or load one leaf for a dtype, once a process; returns what Python calls."""
    key = made.name, dtype
    if key not in _prepared:
        with _lock, global_compiler_lock, _no_collection():
            if key not in _prepared:
                _start_numba()
                _prepared[key] = made.compile(dtype)
    return _prepared[key]


def _prepare_all(leaves, dtype: str, stop) -> None:
    """Compile or load leaves one after the other, until `stop` is set."""
    compile_together(leaves, dtype, prepare, stop)
    for made in leaves:
        if stop.is_set():
            return
        prepare(made, dtype)


def entry(function, dtype: str, report=lambda done: None):
    """The compiled leaf of a dtype as Python calls it, with all that it may call ready.

    An exception that comes meanwhile, such as a KeyboardInterrupt, is raised at once; what is compiled by then is kept,
    and the next call goes on with the rest.

    report: called with the number of leaves that are on disk, now and then while others are compiled.
    """
    key = function.leaf.name, dtype
    if key not in _prepared:
        leaves = leaves_of(function)
        beside(
            lambda stop: _prepare_all(leaves, dtype, stop),
            lambda: report(sum(made.is_cached(dtype) for made in leaves)),
        )
    return _prepared[key]
