"""Transposition of a few rows or columns, in registers."""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from fastbp.kernels.simd import I32, I64, lanes_of, splat, vector_type

# Elements of 16 bytes: what is transposed within a quarter of a vector takes one instruction, across it more.
CHUNK_BYTES = 16


@intrinsic
def chunk(typingctx, tag):
    """Elements of the tag's type in 16 bytes, as a constant: the columns that `transpose_columns` transposes."""
    count = CHUNK_BYTES * 8 // tag.bitwidth
    return types.uintp(tag), lambda context, builder, signature, args: I64(count)


@intrinsic
def transpose_columns(typingctx, target, target_row, source, source_row, rows, tag):
    """Transpose `rows` rows of one chunk of columns into as many rows of one vector, zeros behind them.

    More rows than lanes count as so many. Strides are in bytes. Of a narrow layer, whole squares of lanes x lanes would
    be zeros for the most part.
    """
    signature = types.void(*[types.uintp] * 5, tag)

    def codegen(context, builder, signature, args):
        dtype = signature.args[-1]
        size, item, vector = lanes_of(dtype), dtype.bitwidth // 8, vector_type(dtype)
        target, target_row, source, source_row, rows, _ = args
        columns = CHUNK_BYTES // item
        part = ir.VectorType(vector.element, columns)
        lane = ir.VectorType(I32, size)

        def load(address):
            value = builder.load(builder.inttoptr(address, part.as_pointer()))
            value.align = item
            return value

        def join(parts):
            while len(parts) > 1:
                mask = ir.Constant(ir.VectorType(I32, 2 * parts[0].type.count), list(range(2 * parts[0].type.count)))
                parts = [builder.shuffle_vector(a, b, mask) for a, b in zip(parts[::2], parts[1::2], strict=True)]
            return parts[0]

        def interleave(a, b, upper):
            """Elements of a and b in turn, of the lower or upper halves of their chunks."""
            half = columns // 2
            places = [i for start in range(upper * half, size, columns) for i in range(start, start + half)]
            return builder.shuffle_vector(a, b, ir.Constant(lane, [i for one in places for i in (one, size + one)]))

        def transpose(addresses, keep):
            """Transpose rows at these addresses; `keep` is applied to each result."""
            whole = [join([load(address) for address in addresses[j::columns]]) for j in range(columns)]
            for _ in range(columns.bit_length() - 1):  # as often as a deck of cards is halved and shuffled perfectly
                pairs = list(zip(whole[: columns // 2], whole[columns // 2 :], strict=True))
                whole = [interleave(a, b, upper) for a, b in pairs for upper in (0, 1)]
            for j, one in enumerate(whole):
                pointer = builder.inttoptr(builder.add(target, builder.mul(target_row, I64(j))), vector.as_pointer())
                builder.store(keep(one), pointer).align = item

        with builder.if_else(builder.icmp_unsigned(">=", rows, I64(size))) as (full, partial):
            with full:
                transpose([builder.add(source, builder.mul(source_row, I64(i))) for i in range(size)], lambda one: one)
            with partial:  # the last row again and again: no row behind it is touched
                addresses = [source]
                for i in range(1, size):
                    step = builder.select(builder.icmp_unsigned("<", I64(i), rows), source_row, I64(0))
                    addresses.append(builder.add(addresses[-1], step))
                places = ir.Constant(lane, list(range(size)))
                inside = builder.icmp_unsigned("<", places, splat(builder, builder.trunc(rows, I32), lane))
                zeros = ir.Constant(vector, [0.0] * size)
                transpose(addresses, lambda one: builder.select(inside, one, zeros))
        return context.get_dummy_value()

    return signature, codegen
