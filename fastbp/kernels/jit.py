"""Decorators: how the functions of a kernel are compiled, and with which flags.

Numba links the code of a callee into every caller and optimises it again: with all of the step in one tower of
functions, a cold compile took 43 s, 30 of them in LLVM. So heavy functions are *leaves*: compiled once for each dtype
with one signature, found by their symbol, called by all others as C functions are, and cached on disk. When and in
what order they are compiled is the matter of `build.py`.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from fastbp.kernels.bfloat16 import PAIRS, Pairs, number_of
from fastbp.kernels.cache import KernelCache

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

# Called from compiled code only: no wrappers for Python or C. `forceinline` is said, for Numba would take it over from
# the caller in whose compile a function is compiled.
jit = njit(forceinline=False, **FLAGS, no_cpython_wrapper=True, no_cfunc_wrapper=True)
# For scalar functions called in a loop: LLVM vectorises a loop only when everything in it is inlined, and leaves the
# longer ones (gelu, softplus) out of line by its own cost model: 35 ns an element instead of 2.
element = njit(forceinline=True, **FLAGS, no_cpython_wrapper=True, no_cfunc_wrapper=True)

# By what a leaf is compiled for: a dtype, or float32 with products in pairs of bfloat16.
DTYPES = {"float32": types.float32, "float64": types.float64, **PAIRS}
LEAVES: list[Leaf] = []  # all that have been defined


class Leaf:
    """A function `f(*arguments, tag) -> None` with one signature a dtype; the tag is a number of that dtype.

    arguments: their types, but for that of the tag; calls: the leaves that it calls itself; pairs: those that it calls
    besides where products are in pairs of bfloat16, or None: what it does has nothing to do with that, so that its code
    for float32 serves; only_pairs: it is for such products alone.
    """

    def __init__(self, function, arguments, calls, pairs, only_pairs):
        self.name, self.arguments, self.calls = function.__name__, arguments, calls
        self.pairs, self.only_pairs = pairs, only_pairs
        self.dispatcher = njit(no_cfunc_wrapper=True, **FLAGS)(function)  # called from Python and by its symbol
        self.cache = self.dispatcher._cache = KernelCache(self.name)

    def kind(self, dtype: str) -> str:
        """The dtype whose code serves for this one."""
        return "float32" if dtype in PAIRS and self.pairs is None else dtype

    def is_cached(self, dtype: str) -> bool:
        """Is there code of a dtype on disk?"""
        return self.cache.file_of(self.kind(dtype)) is not None

    def signature(self, dtype: str):
        """The types that it is compiled for."""
        return (*self.arguments, DTYPES[self.kind(dtype)])

    def symbol(self, dtype: str) -> str:
        """The name by which compiled code calls it."""
        return f"fastbp_{self.name}_{self.kind(dtype)}"

    def needs(self, dtype: str = "float32") -> list[Leaf]:
        """All leaves that it calls, themselves or through others, each after those that it calls in its turn.

        In pairs: those that are compiled for that alone. Those of float32 must be ready, all of them.
        """
        calls = self.calls if dtype not in PAIRS else (*self.calls, *(self.pairs or ()))
        found = {one: None for callee in calls for one in (*callee.needs(dtype), callee)}
        return [one for one in found if one.kind(dtype) == dtype]


def leaf(*arguments, calls=(), pairs=None, only_pairs=False):
    """Decorator: a heavy kernel, callable from compiled code as `f(*arguments, tag)`.

    calls: the leaves that it calls, directly or in a jitted function. They must be there when its code is linked: LLVM
    ends the process at a symbol that it does not know. `tests/kernels/test_build.py` compares with the symbols in the
    machine code. pairs, only_pairs: see `Leaf`.
    """

    def decorate(function):
        besides = None if pairs is None else tuple(callee.leaf for callee in pairs)
        made = Leaf(function, arguments, tuple(callee.leaf for callee in calls), besides, only_pairs)
        LEAVES.append(made)

        @intrinsic
        def call(typingctx, *values):
            given = _argument_types(values)
            signature = types.void(types.Tuple(given))
            kind = given[-1].name
            wanted = made.signature(kind)
            if len(given) != len(wanted):
                raise TypeError(f"{made.name} takes {len(wanted)} arguments, not {len(given)}")

            def codegen(context, builder, signature, args):
                unpacked = cgutils.unpack_tuple(builder, args[0], len(given))
                converted = [
                    context.cast(builder, value, have, want)
                    for value, have, want in zip(unpacked[:-1], given[:-1], wanted[:-1], strict=True)
                ]
                converted.append(unpacked[-1])  # a tag in pairs is a float32, too
                function = context.call_conv.get_function_type(types.none, wanted)
                target = cgutils.get_or_insert_function(builder.module, function, made.symbol(kind))
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


def by_precision(plain, pairs):
    """A compiled function `call(*arguments, tag)`: `pairs` where products are in pairs of bfloat16, else `plain`.

    Both are jitted functions; only the one that is meant is compiled.
    """

    @intrinsic
    def call(typingctx, *args):
        given = _argument_types(args)
        kind = typingctx.resolve_value_type(pairs if isinstance(given[-1], Pairs) else plain)
        case = typingctx.resolve_function_type(kind, given, {})

        def codegen(context, builder, signature, values):
            unpacked = cgutils.unpack_tuple(builder, values[0], len(given))
            converted = [
                context.cast(builder, value, have, want)
                for value, have, want in zip(unpacked, given, case.args, strict=True)
            ]
            return context.get_function(kind, case)(builder, converted)

        return case.return_type(types.Tuple(given)), codegen

    return call


@intrinsic
def plain(typingctx, tag):
    """The tag of the numbers in memory: of a kernel in pairs, that of float32, whose leaves it may call."""
    return number_of(tag)(tag), lambda context, builder, signature, args: args[0]


def _argument_types(args):
    """Numba hands the types of `*args` over as one tuple type."""
    return tuple(args[0]) if len(args) == 1 and isinstance(args[0], types.BaseTuple) else tuple(args)
