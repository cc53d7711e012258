"""Results below the smallest normal number are zero in a kernel: CPUs take some hundred cycles for each of them.

Probabilities that saturate, gradients that vanish and moments that fade all pass through such denormal numbers. A
training on a table took 1.4 to 1.9 times as long with them, and its losses were the same to the last bit. Operands are
taken as they are: data may hold denormal numbers. Double precision keeps its own, which hardly come by chance: the
inverse of a number near its largest is one. CPUs other than x86 are fast enough with them.
"""

from __future__ import annotations

import platform

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from fastbp.kernels.simd import I32, I64

FLUSHES = platform.machine().lower() in ("x86_64", "amd64")
_FLUSH = 0x8000  # of MXCSR, the word that says how a thread computes: results are flushed to zero


def _mxcsr(builder, name, place):
    pointer = builder.bitcast(place, ir.IntType(8).as_pointer())
    kind = ir.FunctionType(ir.VoidType(), [pointer.type])
    builder.call(cgutils.get_or_insert_function(builder.module, kind, f"llvm.x86.sse.{name}"), [pointer])


def _set(builder, word):
    place = cgutils.alloca_once(builder, I32)
    builder.store(builder.trunc(word, I32), place)
    _mxcsr(builder, "ldmxcsr", place)


@intrinsic
def flush_denormals(typingctx, tag):
    """From here on this thread makes no denormal numbers, if it computes in single precision; returns how it was."""
    flushes = FLUSHES and tag != types.float64

    def codegen(context, builder, signature, args):
        if not flushes:
            return I64(0)
        place = cgutils.alloca_once(builder, I32)
        _mxcsr(builder, "stmxcsr", place)
        before = builder.zext(builder.load(place), I64)
        _set(builder, builder.or_(before, I64(_FLUSH)))
        return before

    return types.int64(tag), codegen


@intrinsic
def restore_denormals(typingctx, before, tag):
    """Compute as `flush_denormals` has found it."""
    flushes = FLUSHES and tag != types.float64

    def codegen(context, builder, signature, args):
        if flushes:
            _set(builder, args[0])
        return context.get_dummy_value()

    return types.void(types.int64, tag), codegen
