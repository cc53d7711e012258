"""Transposition of a few rows or columns, in registers."""

from __future__ import annotations

from collections.abc import Sequence

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from fastbp.kernels.simd import I32, I64, lanes_of, splat, vector_type

# What is transposed within 16 bytes, a quarter of the largest vectors, takes one instruction, across them more.
CHUNK_BYTES = 16


def join(builder: ir.IRBuilder, parts: Sequence[ir.Value]) -> ir.Value:
    """One vector of some short ones, whose number is a power of two."""
    while len(parts) > 1:
        mask = ir.Constant(ir.VectorType(I32, 2 * parts[0].type.count), list(range(2 * parts[0].type.count)))
        parts = [builder.shuffle_vector(a, b, mask) for a, b in zip(parts[::2], parts[1::2], strict=True)]
    return parts[0]


def interleave_chunks(builder: ir.IRBuilder, vectors: Sequence[ir.Value]) -> list[ir.Value]:
    """Transpose each chunk of 16 bytes of as many vectors as a chunk has elements."""
    size, columns = vectors[0].type.count, len(vectors)
    half = columns // 2

    def interleave(a, b, upper):
        """Elements of a and b in turn, of the lower or upper halves of their chunks."""
        places = [i for start in range(upper * half, size, columns) for i in range(start, start + half)]
        mask = ir.Constant(ir.VectorType(I32, size), [i for one in places for i in (one, size + one)])
        return builder.shuffle_vector(a, b, mask)

    result = list(vectors)
    for _ in range(columns.bit_length() - 1):  # as often as a deck of cards is halved and shuffled perfectly
        pairs = list(zip(result[:half], result[half:], strict=True))
        result = [interleave(a, b, upper) for a, b in pairs for upper in (0, 1)]
    return result


def transposed(builder: ir.IRBuilder, dtype: types.Float, addresses: Sequence[ir.Value]) -> list[ir.Value]:
    """The columns of one chunk of as many rows as a vector has lanes, which begin at these addresses."""
    item = dtype.bitwidth // 8
    columns = CHUNK_BYTES // item
    part = ir.VectorType(vector_type(dtype).element, columns)

    def load(address):
        value = builder.load(builder.inttoptr(address, part.as_pointer()))
        value.align = item
        return value

    whole = [join(builder, [load(address) for address in addresses[j::columns]]) for j in range(columns)]
    return interleave_chunks(builder, whole)


@intrinsic
def chunk(typingctx, tag):
    """Elements of the tag's type in 16 bytes, as a constant: the columns that `transpose_columns` transposes."""
    count = CHUNK_BYTES * 8 // tag.bitwidth
    return types.uintp(tag), lambda context, builder, signature, args: I64(count)


def _emit_transpose(module: ir.Module, dtype: types.Float) -> ir.Function:
    """A function of its own: inlined, its addresses are computed ahead of loops that make one round or two."""
    name = f"fastbp_transpose_f{dtype.bitwidth}"
    if name in module.globals:
        return module.globals[name]
    size, item, vector = lanes_of(dtype), dtype.bitwidth // 8, vector_type(dtype)
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), [I64] * 5), name)
    function.linkage = "linkonce_odr"
    function.attributes.add("noinline")
    target, target_row, source, source_row, rows = function.args
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    lane = ir.VectorType(I32, size)

    def store(columns):
        for j, column in enumerate(columns):
            pointer = builder.inttoptr(builder.add(target, builder.mul(target_row, I64(j))), vector.as_pointer())
            builder.store(column, pointer).align = item

    with builder.if_else(builder.icmp_unsigned(">=", rows, I64(size))) as (full, partial):
        with full:
            addresses = [builder.add(source, builder.mul(source_row, I64(i))) for i in range(size)]
            store(transposed(builder, dtype, addresses))
        with partial:  # the last row again and again: no row behind it is touched
            addresses = [source]
            for i in range(1, size):
                step = builder.select(builder.icmp_unsigned("<", I64(i), rows), source_row, I64(0))
                addresses.append(builder.add(addresses[-1], step))
            places = ir.Constant(lane, list(range(size)))
            inside = builder.icmp_unsigned("<", places, splat(builder, builder.trunc(rows, I32), lane))
            zeros = ir.Constant(vector, [0.0] * size)
            store([builder.select(inside, one, zeros) for one in transposed(builder, dtype, addresses)])
    builder.ret_void()
    return function


@intrinsic
def transpose_columns(typingctx, target, target_row, source, source_row, rows, tag):
    """Transpose `rows` rows of one chunk of columns into as many rows of one vector, zeros behind them.

    More rows than lanes count as so many. Strides are in bytes. Of a narrow layer, whole squares of lanes x lanes would
    be zeros for the most part.
    """
    signature = types.void(*[types.uintp] * 5, tag)

    def codegen(context, builder, signature, args):
        builder.call(_emit_transpose(builder.module, signature.args[-1]), args[:-1])
        return context.get_dummy_value()

    return signature, codegen
