"""Copies of activations, deltas and weights as pairs of bfloat16, two numbers along the sum of a product.

Three layouts, for three sums. Forward, over the inputs of a unit, and backward, over the units: rows as they are, each
number rounded (`by rows`), against panels of pairs of rows of weights, or of transposed weights. Gradient, over the
rows of the batch: pairs of rows (`in pairs`), element by element. An odd number of terms ends in a zero.

A panel of pairs has behind it the biases, in float32: `product` finds them as it does in a panel of weights.

    weights 3 x 2        panel of pairs                       in memory, 16 bits each
    w00 w01              (w00, w10) (w01, w11)
    w10 w11              (w20,   0) (w21,   0)
    w20 w21              b0          b1                       32 bits each
"""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from fastbp.kernels.bfloat16 import Pairs, interleaved, rounded
from fastbp.kernels.blocks import panel_vectors
from fastbp.kernels.jit import jit, leaf, plain
from fastbp.kernels.records import Layer, MatrixType
from fastbp.kernels.simd import I32, I64, ONE, TWO, ZERO, itemsize, lanes, lanes_of, scratch, splat, vector_type, view
from fastbp.kernels.targets import TARGET
from fastbp.kernels.transpose import CHUNK_BYTES, chunk, transpose_columns

# Vectors that hold a block of weights, rounded, and what a chunk of its last row reads beyond.
ROOM = TARGET.vector_bytes // 2 + 2
DOWN_ROWS = np.uint64(CHUNK_BYTES // 4)  # pairs of rows of transposed weights are written so many at a time


@jit
def halves(n):
    """Pairs of n numbers."""
    return (n + ONE) // TWO


@jit
def halves_down(n):
    """Rows of a panel of the transposed weights of n units."""
    return (halves(n) + DOWN_ROWS - ONE) // DOWN_ROWS * DOWN_ROWS


class _Copy:
    """Emits the copy of float32 rows: by rows, and in pairs of rows; columns beyond the last become zero."""

    def __init__(self, module: ir.Module, tag: Pairs) -> None:
        self.module, self.tag, self.vector, self.lanes = module, tag, vector_type(tag), lanes_of(tag)

    def emit(self) -> ir.Function:
        name = f"fastbp_copy_{self.tag.name}"
        if name in self.module.globals:
            return self.module.globals[name]
        self.function = ir.Function(self.module, ir.FunctionType(ir.VoidType(), [I64] * 8), name)
        self.function.linkage = "linkonce_odr"
        self.function.attributes.add("noinline")
        source, row, by_rows, by_rows_row, in_pairs, in_pairs_row, rows, n = self.function.args
        self.b = builder = ir.IRBuilder(self.function.append_basic_block("entry"))
        vectors, rest = builder.udiv(n, I64(self.lanes)), builder.urem(n, I64(self.lanes))
        kind = ir.VectorType(I32, self.lanes)
        places = ir.Constant(kind, list(range(self.lanes)))
        self.inside = builder.icmp_unsigned("<", places, splat(builder, builder.trunc(rest, I32), kind))
        pairs = builder.lshr(builder.add(rows, I64(1)), I64(1))

        def one_pair(number):
            even = builder.shl(number, I64(1))
            self.has_second = builder.icmp_unsigned("<", builder.add(even, I64(1)), rows)
            step = builder.select(self.has_second, row, I64(0))
            first = builder.add(source, builder.mul(even, row))
            place = builder.add(by_rows, builder.mul(even, by_rows_row))
            targets = place, builder.add(place, by_rows_row), builder.add(in_pairs, builder.mul(number, in_pairs_row))
            self.loop(vectors, lambda v: self.one_vector(v, first, step, targets, whole=True))
            with builder.if_then(builder.icmp_unsigned("!=", rest, I64(0))):
                self.one_vector(vectors, first, step, targets, whole=False)

        self.loop(pairs, one_pair)
        builder.ret_void()
        return self.function

    def loop(self, count: ir.Value, work) -> None:
        """Do `work(number)` for the numbers below `count`."""
        builder, before = self.b, self.b.block
        body, end = (self.function.append_basic_block(part) for part in ("body", "end"))
        builder.cbranch(builder.icmp_unsigned(">", count, I64(0)), body, end)
        builder.position_at_end(body)
        number = builder.phi(I64)
        work(number)
        after = builder.add(number, I64(1))
        number.add_incoming(I64(0), before)
        number.add_incoming(after, builder.block)
        builder.cbranch(builder.icmp_unsigned("<", after, count), body, end)
        builder.position_at_end(end)

    def one_vector(self, v: ir.Value, first: ir.Value, step: ir.Value, targets, *, whole: bool) -> None:
        """A vector of one pair of rows. Where there is no second row, zeros take its place."""
        builder, zeros = self.b, ir.Constant(self.vector, [0.0] * self.lanes)
        offset = builder.mul(v, I64(4 * self.lanes))
        address = builder.add(first, offset)
        numbers = []
        for place in (address, builder.add(address, step)):
            value = builder.load(builder.inttoptr(place, self.vector.as_pointer()))
            value.align = 4
            numbers.append(value if whole else builder.select(self.inside, value, zeros))
        numbers[1] = builder.select(self.has_second, numbers[1], zeros)
        halves = [rounded(builder, self.tag, value) for value in numbers]
        half = builder.lshr(offset, I64(1))
        for place, value in zip(targets, (*halves, interleaved(builder, *halves)), strict=True):
            at = builder.add(place, half if value in halves else offset)
            builder.store(value, builder.inttoptr(at, value.type.as_pointer())).align = 2


@intrinsic
def _copy(typingctx, source, row, by_rows, by_rows_row, in_pairs, in_pairs_row, rows, n, tag):
    signature = types.void(*[types.uintp] * 8, tag)

    def codegen(context, builder, signature, args):
        builder.call(_Copy(builder.module, signature.args[-1]).emit(), args[:-1])
        return context.get_dummy_value()

    return signature, codegen


@leaf(*[MatrixType] * 3, types.uintp, types.uintp, pairs=(), only_pairs=True)
def copy_rows(source, by_rows, in_pairs, rows, n, tag):
    """Copy rows of n numbers: by rows, with zeros up to a whole vector, and in pairs of rows.

    Of an odd number of rows, a row of zeros is written behind the last one.
    """
    _copy(
        source.address, source.row, by_rows.address, by_rows.row, in_pairs.address, in_pairs.row, rows, n, tag
    )  # fmt: skip


@leaf(Layer, types.uintp, types.uintp, pairs=(), only_pairs=True)
def copy_weights(layer, panel, block, tag):
    """Copy a block of weights to the pairs that products read, and the biases if it is the last of its panel."""
    size, item = lanes(tag), itemsize(tag)
    wide = TWO * size
    vectors = panel_vectors(layer.n_out, panel, size)
    width, i0, j0 = vectors * size * item, block * wide, panel * wide
    half = width // TWO
    n = min(wide, layer.n_in - i0)
    source = layer.weights + panel * wide * (layer.n_in + ONE) * item
    target = layer.weights_in_pairs + panel * wide * (halves(layer.n_in) + ONE) * item
    room = scratch(ROOM, tag)
    _copy(
        source + i0 * width, width, room, half, target + block * size * width, width, n, vectors * size, tag
    )  # fmt: skip
    if i0 + n == layer.n_in:
        biases = view(source + layer.n_in * width, vectors * size, tag)
        out = view(target + halves(layer.n_in) * width, vectors * size, tag)
        for j in range(vectors * size):
            out[j] = biases[j]
    if layer.transposed_in_pairs == ZERO:
        return
    target_row = panel_vectors(layer.n_in, block, size) * size * item
    target = layer.transposed_in_pairs + i0 * halves_down(layer.n_out) * item + panel * size * target_row
    columns = halves(min(vectors * size, layer.n_out - j0))
    j = ZERO
    while j < columns:
        i = ZERO
        while i < n:
            transpose_columns(
                target + j * target_row + i * item, target_row, room + i * half + j * item, half, n - i, plain(tag)
            )  # fmt: skip
            i += size
        j += chunk(plain(tag))
