"""Intrinsics for addresses, vectors and scalars: what Numba's type system cannot say.

What depends on the release of llvmlite stands here, in `rows.py`, `atomics.py`, `few.py` and `tile.py`.
Addresses are plain `uintp` integers: an array that crosses Numba functions is reference-counted, an integer is not.
"""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from fastbp.kernels.bfloat16 import Pairs, number_of
from fastbp.kernels.jit import jit
from fastbp.kernels.targets import TARGET

Tag = types.Float | Pairs
I32, I64 = ir.IntType(32), ir.IntType(64)
# Counts and addresses are unsigned everywhere: an int literal beside one would make Numba compute in float64.
ZERO, ONE, TWO = np.uint64(0), np.uint64(1), np.uint64(2)


def scalar_type(dtype: Tag) -> ir.Type:
    return ir.FloatType() if dtype.bitwidth == 32 else ir.DoubleType()


def lanes_of(dtype: Tag) -> int:
    return TARGET.vector_bytes * 8 // dtype.bitwidth


def vector_type(dtype: Tag) -> ir.VectorType:
    return ir.VectorType(scalar_type(dtype), lanes_of(dtype))


def declare_fma(module: ir.Module, kind: ir.Type) -> ir.Function:
    """`a * b + c`, rounded once where the CPU has it; the name is spelt out because llvmlite cannot mangle vectors."""
    op = "fma" if TARGET.fma else "fmuladd"
    scalar = kind.element if isinstance(kind, ir.VectorType) else kind
    suffix = ("f32" if isinstance(scalar, ir.FloatType) else "f64") if kind is scalar else ""
    if not suffix:
        suffix = f"v{kind.count}" + ("f32" if isinstance(scalar, ir.FloatType) else "f64")
    return cgutils.get_or_insert_function(module, ir.FunctionType(kind, [kind] * 3), f"llvm.{op}.{suffix}")


def splat(builder: ir.IRBuilder, scalar: ir.Value, kind: ir.VectorType) -> ir.Value:
    """A vector of one number."""
    undefined = ir.Constant(kind, ir.Undefined)
    mask = ir.Constant(ir.VectorType(I32, kind.count), [0] * kind.count)
    return builder.shuffle_vector(builder.insert_element(undefined, scalar, I32(0)), undefined, mask)


def hide(builder: ir.IRBuilder, value: ir.Value) -> ir.Value:
    """The same integer, but for LLVM a number of which it knows nothing: what an empty piece of assembly returns."""
    return builder.asm(ir.FunctionType(value.type, [value.type]), "", "=r,0", [value], side_effect=False)


# --- addresses ----------------------------------------------------------------------------------------------


@intrinsic
def view(typingctx, address, n, tag):
    """Array of n elements of the tag's type at an address; owns nothing, counts no references."""
    result = types.Array(number_of(tag), 1, "C")

    def codegen(context, builder, signature, args):
        from numba.np.arrayobj import populate_array  # 75 ms to import, and only compiling needs it

        address, n = (context.cast(builder, args[i], signature.args[i], types.uintp) for i in (0, 1))
        array = context.make_array(result)(context, builder)
        element = context.get_data_type(number_of(tag))
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


@intrinsic(prefer_literal=True)
def scratch(typingctx, vectors, tag):
    """Address of room for some vectors, a constant number, on the stack; it lasts until the function returns."""

    def codegen(context, builder, signature, args):
        room = cgutils.alloca_once(builder, vector_type(tag), vectors.literal_value)
        room.align = TARGET.vector_bytes
        return builder.ptrtoint(room, I64)

    return types.uintp(vectors, tag), codegen


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


@jit
def whole(n, tag):
    """n elements with the padding behind them: LLVM knows then that no loop remains behind the last whole vector."""
    return (np.uintp(n) + lanes(tag) - ONE) // lanes(tag) * lanes(tag)


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
    return number_of(like)(like, x), lambda context, builder, signature, args: context.cast(
        builder, args[1], signature.args[1], signature.return_type
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
    chosen = 1 if number_of(like) == types.float32 else 2
    return number_of(like)(like, single, double), lambda context, builder, signature, args: context.cast(
        builder, args[chosen], signature.args[chosen], signature.return_type
    )


@intrinsic
def is_single(typingctx, like):
    """Is it a float32? A constant: of a choice by it, LLVM keeps one side."""
    return types.boolean(like), lambda context, builder, signature, args: ir.IntType(1)(
        number_of(like) == types.float32
    )


@intrinsic
def in_pairs(typingctx, tag):
    """Are products in pairs of bfloat16? A constant."""
    return types.boolean(tag), lambda context, builder, signature, args: ir.IntType(1)(isinstance(tag, Pairs))
