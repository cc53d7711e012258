"""For threads that compute together: atomic operations, pauses for loops that wait, and clocks."""

from __future__ import annotations

import platform
import sys

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from fastbp.kernels.simd import I32, I64


@intrinsic
def atomic_add(typingctx, address, n):
    """Add n to the int64 at an address; returns the value before. Acquire and release."""

    def codegen(context, builder, signature, args):
        return builder.atomic_rmw("add", builder.inttoptr(args[0], I64.as_pointer()), args[1], "acq_rel")

    return types.int64(types.uintp, types.int64), codegen


@intrinsic
def atomic_load(typingctx, address):
    """The int64 at an address, acquired; a plain load would be hoisted out of a spin loop."""

    def codegen(context, builder, signature, args):
        return builder.load_atomic(builder.inttoptr(args[0], I64.as_pointer()), "acquire", 8)

    return types.int64(types.uintp), codegen


@intrinsic
def atomic_store(typingctx, address, n):
    """Store n as the int64 at an address, released."""

    def codegen(context, builder, signature, args):
        builder.store_atomic(args[1], builder.inttoptr(args[0], I64.as_pointer()), "release", 8)
        return context.get_dummy_value()

    return types.void(types.uintp, types.int64), codegen


@intrinsic
def atomic_max(typingctx, address, n):
    """Raise the int64 at an address to n, if it is smaller. Acquire and release."""

    def codegen(context, builder, signature, args):
        builder.atomic_rmw("max", builder.inttoptr(args[0], I64.as_pointer()), args[1], "acq_rel")
        return context.get_dummy_value()

    return types.void(types.uintp, types.int64), codegen


@intrinsic
def cycle_counter(typingctx):
    """The time-stamp counter of the CPU."""

    def codegen(context, builder, signature, args):
        kind = ir.FunctionType(I64, [])
        return builder.call(cgutils.get_or_insert_function(builder.module, kind, "llvm.readcyclecounter"), [])

    return types.int64(), codegen


# On other CPUs the system may kill a program that reads the counter.
TICKS_ARE_CYCLES = platform.machine().lower() in ("x86_64", "amd64")


def _clock_gettime(builder, clock):
    """Nanoseconds of a POSIX clock, or 0 where the system does not know it."""
    pair = cgutils.alloca_once_value(builder, ir.Constant(ir.ArrayType(I64, 2), None))  # struct timespec
    kind = ir.FunctionType(I32, [I32, pair.type])
    function = cgutils.get_or_insert_function(builder.module, kind, "clock_gettime")
    builder.call(function, [clock, pair])
    parts = [builder.extract_value(builder.load(pair), number) for number in (0, 1)]
    return builder.add(builder.mul(parts[0], I64(1_000_000_000)), parts[1])


@intrinsic
def nanoseconds(typingctx):
    """The system's monotonic clock, where there is POSIX; else 0."""

    def codegen(context, builder, signature, args):
        if sys.platform == "win32":
            return I64(0)
        return _clock_gettime(builder, I32(6 if sys.platform == "darwin" else 1))

    return types.int64(), codegen


@intrinsic
def thread_nanoseconds(typingctx, number):
    """CPU time that a thread of this process has used, by the system's number of the thread.

    Linux alone can tell. Elsewhere the monotonic clock: a thread then looks as if it always worked.
    """

    def codegen(context, builder, signature, args):
        if sys.platform == "win32":
            return I64(0)
        if sys.platform != "linux":
            return _clock_gettime(builder, I32(6 if sys.platform == "darwin" else 1))
        # The kernel's own form of a per-thread clock: the inverted number, and 6 for "scheduled time of one thread".
        inverted = builder.xor(builder.trunc(args[0], I32), I32(-1))
        return _clock_gettime(builder, builder.or_(builder.shl(inverted, I32(3)), I32(6)))

    return types.int64(types.int64), codegen


@intrinsic
def sleep_microseconds(typingctx, n):
    """Sleep for so many microseconds, at most a second."""

    def codegen(context, builder, signature, args):
        if sys.platform != "win32":
            kind = ir.FunctionType(I32, [I32])
            function = cgutils.get_or_insert_function(builder.module, kind, "usleep")
            builder.call(function, [builder.trunc(args[0], I32)])
        return context.get_dummy_value()

    return types.void(types.int64), codegen


@intrinsic
def pause(typingctx):
    """Tell the CPU that this is a spin loop."""
    # Intrinsics, not inline assembly: Numba's LLVM has no assembly parser.
    machine = platform.machine().lower()

    def codegen(context, builder, signature, args):
        if machine in ("x86_64", "amd64"):
            kind = ir.FunctionType(ir.VoidType(), [])
            builder.call(cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.sse2.pause"), [])
        elif machine in ("aarch64", "arm64"):
            kind = ir.FunctionType(ir.VoidType(), [I32])
            builder.call(cgutils.get_or_insert_function(builder.module, kind, "llvm.aarch64.hint"), [I32(1)])
        return context.get_dummy_value()

    return types.void(), codegen


@intrinsic
def yield_cpu(typingctx):
    """Give the rest of the time slice to another thread."""

    def codegen(context, builder, signature, args):
        if sys.platform != "win32":
            kind = ir.FunctionType(I32, [])
            builder.call(cgutils.get_or_insert_function(builder.module, kind, "sched_yield"), [])
        return context.get_dummy_value()

    return types.void(), codegen
