"""Vector code: the table of tile shapes by CPU, and the intrinsics that say what Numba's type system cannot.

Everything that depends on the release of llvmlite stands in this file and in `tile.py`, which builds on it.
Addresses are plain `uintp` integers: an array that crosses Numba functions is reference-counted, an integer is not.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from fastbp.kernels.cache import cpu_name_and_features
from fastbp.kernels.jit import jit

I32, I64 = ir.IntType(32), ir.IntType(64)
# Counts and addresses are unsigned everywhere: an int literal beside one would make Numba compute in float64.
ZERO, ONE, TWO = np.uint64(0), np.uint64(1), np.uint64(2)


@dataclass(frozen=True)
class Target:
    """One row of the tile table.

    name: instruction set; vector_bytes: width of a vector register; tile_rows: rows of the register tile, which
    is two vectors wide (rows * 2 accumulators, 2 vectors of weights and 1 broadcast must fit the register file,
    and 8 accumulators are needed to hide the latency of two FMA units); fma: fused multiply-add in hardware.
    """

    name: str
    vector_bytes: int
    tile_rows: int
    fma: bool


# Order is preference. 12 of the 16 registers of AVX2 hold accumulators: on a Zen 3 6x16 ran at 96 to 100 GFLOP/s,
# 4x16 at 85 to 95 and 5x16 at 82 to 96 (K = 64 to 256, out of a peak of about 110).
AVX512 = Target("avx512", 64, 8, True)
AVX2 = Target("avx2", 32, 6, True)
NEON = Target("neon", 16, 8, True)
GENERIC = Target("generic", 16, 4, False)


def choose_target() -> Target:
    """Pick the row of the table for the CPU that Numba compiles for."""
    enabled = {f[1:] for f in cpu_name_and_features()[1].split(",") if f.startswith("+")}
    if "avx512f" in enabled:
        return AVX512
    if {"avx2", "fma"} <= enabled:
        return AVX2
    if "neon" in enabled:
        return NEON
    return GENERIC


TARGET = choose_target()


def scalar_type(dtype: types.Float) -> ir.Type:
    return ir.FloatType() if dtype.bitwidth == 32 else ir.DoubleType()


def lanes_of(dtype: types.Float) -> int:
    return TARGET.vector_bytes * 8 // dtype.bitwidth


def vector_type(dtype: types.Float) -> ir.VectorType:
    return ir.VectorType(scalar_type(dtype), lanes_of(dtype))


def declare_fma(module: ir.Module, kind: ir.Type) -> ir.Function:
    """`a * b + c`, rounded once where the CPU has it; the name is spelt out because llvmlite cannot mangle vectors."""
    op = "fma" if TARGET.fma else "fmuladd"
    scalar = kind.element if isinstance(kind, ir.VectorType) else kind
    suffix = ("f32" if isinstance(scalar, ir.FloatType) else "f64") if kind is scalar else ""
    if not suffix:
        suffix = f"v{kind.count}" + ("f32" if isinstance(scalar, ir.FloatType) else "f64")
    return cgutils.get_or_insert_function(module, ir.FunctionType(kind, [kind] * 3), f"llvm.{op}.{suffix}")


# --- addresses ----------------------------------------------------------------------------------------------


@intrinsic
def view(typingctx, address, n, tag):
    """Array of n elements of the tag's type at an address; owns nothing, counts no references."""
    result = types.Array(tag, 1, "C")

    def codegen(context, builder, signature, args):
        from numba.np.arrayobj import populate_array  # 75 ms to import, and only compiling needs it

        address, n = (context.cast(builder, args[i], signature.args[i], types.uintp) for i in (0, 1))
        array = context.make_array(result)(context, builder)
        element = context.get_data_type(tag)
        size = I64(context.get_abi_sizeof(element))
        pointer = builder.inttoptr(address, element.as_pointer())
        populate_array(array, data=pointer, shape=[n], strides=[size], itemsize=size, meminfo=None)
        return array._getvalue()

    return result(address, n, tag), codegen


@intrinsic
def prefetch(typingctx, address):
    """Have the line at an address brought to the second-level cache; never faults."""

    def codegen(context, builder, signature, args):
        byte = ir.IntType(8).as_pointer()
        kind = ir.FunctionType(ir.VoidType(), [byte, I32, I32, I32])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        builder.call(function, [builder.inttoptr(args[0], byte), I32(0), I32(2), I32(1)])
        return context.get_dummy_value()

    return types.void(types.uintp), codegen


@jit
def prefetch_part(address, stride, lines, part, parts):
    """Prefetch one part of `lines` cache lines that lie `stride` bytes apart."""
    each = (lines + parts - ONE) // parts
    for i in range(part * each, min(lines, (part + ONE) * each)):
        prefetch(address + i * stride)


@jit
def row_number(order, i):
    """Row that comes i-th in an epoch; order is the address of int64 numbers, or 0 for the order as it stands."""
    return i if order == ZERO else np.uintp(view(order, i + ONE, np.int64(0))[i])


@intrinsic
def itemsize(typingctx, tag):
    """Bytes of an element of the tag's type, as a constant."""
    size = tag.bitwidth // 8
    return types.uintp(tag), lambda context, builder, signature, args: I64(size)


@intrinsic
def lanes(typingctx, tag):
    """Elements of the tag's type in a vector, as a constant."""
    count = lanes_of(tag)
    return types.uintp(tag), lambda context, builder, signature, args: I64(count)


# --- scalars that vectorise ---------------------------------------------------------------------------------


@intrinsic
def fma(typingctx, a, b, c):
    """`a * b + c` in one rounding, where the CPU has it."""
    assert a == b == c, (a, b, c)

    def codegen(context, builder, signature, args):
        return builder.call(declare_fma(builder.module, args[0].type), args)

    return a(a, b, c), codegen


@intrinsic
def cast(typingctx, like, x):
    """The number x in the type of `like`: Numba would promote float32 with a float literal to float64."""
    return like(like, x), lambda context, builder, signature, args: context.cast(
        builder, args[1], signature.args[1], signature.args[0]
    )


@intrinsic
def bits(typingctx, x):
    """The bit pattern of a float as an integer of its width."""
    result = types.int32 if x == types.float32 else types.int64
    return result(x), lambda context, builder, signature, args: builder.bitcast(
        args[0], context.get_value_type(signature.return_type)
    )


@intrinsic
def power_of_two(typingctx, like, n, shift):
    """2^(n + shift), the integer n standing in the low bits of a pattern that `bits` returned."""

    def codegen(context, builder, signature, args):
        kind, mantissa, bias = (I32, 23, 127) if signature.args[0] == types.float32 else (I64, 52, 1023)
        shift = context.cast(builder, args[2], signature.args[2], types.Integer(f"int{kind.width}"))
        exponent = builder.add(builder.add(args[1], shift), kind(bias))
        return builder.bitcast(builder.shl(exponent, kind(mantissa)), args[0].type)

    return like(like, n, shift), codegen


@intrinsic
def split_exponent(typingctx, x):
    """(k, m) with x = 2^k m and m in [sqrt(1/2), sqrt(2)), k as a float; for positive normal x."""

    def codegen(context, builder, signature, args):
        single = signature.args[0] == types.float32
        kind, mantissa = (I32, 23) if single else (I64, 52)
        root, magic = (0x3F3504F3, 12582912.0) if single else (0x3FE6A09E667F3BCD, 6755399441055744.0)
        pattern = builder.bitcast(args[0], kind)
        exponent = builder.ashr(builder.sub(pattern, kind(root)), kind(mantissa))
        m = builder.bitcast(builder.sub(pattern, builder.shl(exponent, kind(mantissa))), args[0].type)
        # Integer to float through the low bits of a large float: AVX2 cannot convert vectors of int64.
        large = builder.bitcast(ir.Constant(args[0].type, magic), kind)
        k = builder.fsub(builder.bitcast(builder.add(large, exponent), args[0].type), ir.Constant(args[0].type, magic))
        return context.make_tuple(builder, signature.return_type, (k, m))

    return types.UniTuple(x, 2)(x), codegen


def polynomial(single, double):
    """Horner's scheme over FMAs, unrolled: coefficients by precision, highest power first."""

    @intrinsic
    def evaluate(typingctx, x):
        def codegen(context, builder, signature, args):
            kind = args[0].type
            head, *rest = single if signature.args[0] == types.float32 else double
            value = ir.Constant(kind, head)
            for coefficient in rest:
                value = builder.call(
                    declare_fma(builder.module, kind), [value, args[0], ir.Constant(kind, coefficient)]
                )
            return value

        return x(x), codegen

    return evaluate


@intrinsic
def pick(typingctx, like, single, double):
    """`single` in the type of a float32 `like`, `double` in that of a float64."""
    chosen = 1 if like == types.float32 else 2
    return like(like, single, double), lambda context, builder, signature, args: context.cast(
        builder, args[chosen], signature.args[chosen], signature.args[0]
    )


@intrinsic
def is_single(typingctx, like):
    """Is it a float32? A constant: of a choice by it, LLVM keeps one side."""
    return types.boolean(like), lambda context, builder, signature, args: ir.IntType(1)(like == types.float32)


# --- rows of whole vectors ----------------------------------------------------------------------------------
# A row of ten outputs is too short for LLVM's vectoriser, which wants 32 elements before it leaves scalar code.


def _each_vector(builder: ir.IRBuilder, n_vectors: ir.Value, state: list[ir.Value], step) -> list[ir.Value]:
    """Over the vectors of a row, at least one: `step(address offset, state) -> state`, states being vectors.

    The first two without a loop: one of two rounds, row after row, is mispredicted in some processes and not in
    others, which made the loss of 32 rows of ten numbers take 3200 instead of 2100 cycles.
    """
    end = builder.function.append_basic_block("row_end")
    ends: list[tuple[ir.Block, list[ir.Value]]] = []
    for number in range(2):
        state = step(I64(number * TARGET.vector_bytes), state)
        ends.append((builder.block, state))
        further = builder.append_basic_block("row_further")
        builder.cbranch(builder.icmp_unsigned(">", n_vectors, I64(number + 1)), further, end)
        builder.position_at_end(further)
    before = builder.block
    body = builder.append_basic_block("row")
    builder.branch(body)
    builder.position_at_end(body)
    number, phis = builder.phi(I64), [builder.phi(value.type) for value in state]
    after = step(builder.mul(number, I64(TARGET.vector_bytes)), phis)
    following = builder.add(number, I64(1))
    for phi, first, later in [(number, I64(2), following), *zip(phis, state, after, strict=True)]:
        phi.add_incoming(first, before)
        phi.add_incoming(later, builder.block)
    ends.append((builder.block, after))
    builder.cbranch(builder.icmp_unsigned("<", following, n_vectors), body, end)
    builder.position_at_end(end)
    result = [builder.phi(value.type) for value in state]
    for block, values in ends:
        for phi, value in zip(result, values, strict=True):
            phi.add_incoming(value, block)
    return result


def splat(builder: ir.IRBuilder, scalar: ir.Value, kind: ir.VectorType) -> ir.Value:
    """A vector of one number."""
    undefined = ir.Constant(kind, ir.Undefined)
    mask = ir.Constant(ir.VectorType(I32, kind.count), [0] * kind.count)
    return builder.shuffle_vector(builder.insert_element(undefined, scalar, I32(0)), undefined, mask)


def _fold(builder: ir.IRBuilder, vector: ir.Value, combine) -> ir.Value:
    """One number from the lanes of a vector, halves first: an order of its own, always the same."""
    count = vector.type.count
    half = count // 2
    while half:
        mask = ir.Constant(ir.VectorType(I32, count), [(i + half) % count for i in range(count)])
        vector = combine(vector, builder.shuffle_vector(vector, vector, mask))
        half //= 2
    return builder.extract_element(vector, I32(0))


def _row_pointer(builder: ir.IRBuilder, address: ir.Value, offset: ir.Value, kind: ir.Type) -> ir.Value:
    return builder.inttoptr(builder.add(address, offset), kind.as_pointer())


@intrinsic
def row_shift(typingctx, tag, source, target, n_vectors, n):
    """target = source - max(source) over the n numbers of a row, -inf beyond; returns the maximum. NaN stays NaN.

    The padding is masked in registers: written with scalar stores, it would stall the vector loads behind them.
    """

    def codegen(context, builder, signature, args):
        kind = vector_type(signature.args[0])
        # Lane numbers as wide as the lanes and signed: one instruction compares a vector of them.
        number = ir.IntType(TARGET.vector_bytes * 8 // kind.count)
        numbers = ir.VectorType(number, kind.count)
        _, source, target, n_vectors, n = args
        lowest = ir.Constant(kind, [float("-inf")] * kind.count)
        end = splat(builder, builder.trunc(n, number) if number != I64 else n, numbers)
        places = ir.Constant(numbers, list(range(kind.count)))

        def masked(offset, vector):
            first = builder.udiv(offset, I64(TARGET.vector_bytes // kind.count))
            first = builder.trunc(first, number) if number != I64 else first
            inside = builder.icmp_signed("<", builder.add(splat(builder, first, numbers), places), end)
            return builder.select(inside, vector, lowest)

        def load(offset):
            return builder.load(_row_pointer(builder, source, offset, kind))

        def larger(x, y):
            return builder.select(builder.fcmp_ordered(">", x, y), x, y)

        def seek(offset, state):
            return [larger(masked(offset, load(offset)), state[0])]

        largest = _fold(builder, _each_vector(builder, n_vectors, [lowest], seek)[0], larger)
        all_largest = splat(builder, largest, kind)

        def shift(offset, state):
            shifted = masked(offset, builder.fsub(load(offset), all_largest))
            builder.store(shifted, _row_pointer(builder, target, offset, kind))
            return []

        _each_vector(builder, n_vectors, [], shift)
        return largest

    return tag(tag, *[types.uintp] * 4), codegen


@intrinsic
def row_sum(typingctx, tag, source, n_vectors):
    """Sum of a row of whole vectors: lane by lane, then the lanes by halves."""

    def codegen(context, builder, signature, args):
        kind = vector_type(signature.args[0])

        def step(offset, state):
            return [builder.fadd(state[0], builder.load(_row_pointer(builder, args[1], offset, kind)))]

        total = _each_vector(builder, args[2], [ir.Constant(kind, [0.0] * kind.count)], step)[0]
        return _fold(builder, total, builder.fadd)

    return tag(tag, types.uintp, types.uintp), codegen


@intrinsic
def row_square_sum(typingctx, tag, source, n_vectors):
    """Sum of the squares of a row of whole vectors, in double precision: lane by lane, then the lanes by halves.

    Of single precision no square overflows there. It takes no longer: of two halves of a vector in turn, one is added
    while the other waits for its last sum.
    """

    def codegen(context, builder, signature, args):
        kind = vector_type(signature.args[0])
        double = ir.VectorType(ir.DoubleType(), kind.count)
        fma = declare_fma(builder.module, double)

        def step(offset, state):
            x = builder.load(_row_pointer(builder, args[1], offset, kind))
            x = x if kind == double else builder.fpext(x, double)
            return [builder.call(fma, [x, x, state[0]])]

        total = _each_vector(builder, args[2], [ir.Constant(double, [0.0] * kind.count)], step)[0]
        return _fold(builder, total, builder.fadd)

    return types.float64(tag, types.uintp, types.uintp), codegen


@intrinsic
def row_scale(typingctx, factor, target, n_vectors):
    """Multiply a row of whole vectors by a number."""

    def codegen(context, builder, signature, args):
        kind = vector_type(signature.args[0])
        factors = splat(builder, args[0], kind)

        def step(offset, state):
            pointer = _row_pointer(builder, args[1], offset, kind)
            builder.store(builder.fmul(builder.load(pointer), factors), pointer)
            return []

        _each_vector(builder, args[2], [], step)
        return context.get_dummy_value()

    return types.void(factor, types.uintp, types.uintp), codegen
