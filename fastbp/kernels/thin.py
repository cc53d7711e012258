"""Weight gradients of layers of a few units, with vectors along the inputs.

One or two deltas in a vector of 16 lanes take as long as 16. So inputs and deltas exchange their roles, and the result
is turned round at the end. Every element is the same chain of sums as in `product_columns`.
"""

from __future__ import annotations

import numpy as np

from fastbp.kernels.epilogue import STORE
from fastbp.kernels.jit import jit
from fastbp.kernels.records import Matrix
from fastbp.kernels.rows import put_four
from fastbp.kernels.simd import ONE, TWO, ZERO, cast, itemsize, lanes, scratch, view
from fastbp.kernels.tile import product_columns
from fastbp.kernels.transpose import chunk, transpose_columns
from fastbp.kernels.tuning import MAX_RUN, ROW_BLOCK, THIN, THIN_ROWS

SUMS_VECTORS = 2 * MAX_RUN  # of a unit: one number for each input of a run of blocks
ROOM = THIN * SUMS_VECTORS


@jit
def is_thin(layer, rows, tag):
    """Does the gradient of a layer's weights come from `thin_blocks`?"""
    units = min(np.uintp(THIN), lanes(tag))
    return layer.n_out <= units and layer.n_in >= lanes(tag) and rows >= np.uintp(THIN_ROWS)


@jit
def thin_blocks(layer, result, inputs, n, row, rows, with_bias, add, zeros, tag):
    """The gradient of weights from n inputs, which begin at `inputs`; with_bias: and of the biases, behind it."""
    most, width = np.uintp(SUMS_VECTORS) * lanes(tag), lanes(tag) * itemsize(tag)
    i = ZERO
    while i < n:
        now = min(most, n - i)
        last = with_bias and i + now == n
        _thin_run(layer, result + i * width, inputs + i * itemsize(tag), now, row, rows, last, add, zeros, tag)
        i += now


@jit
def _thin_run(layer, result, inputs, n, row, rows, with_bias, add, zeros, tag):
    """`thin_blocks` of up to one run of blocks."""
    size, item = lanes(tag), itemsize(tag)
    width = size * item
    room, room_row = scratch(ROOM, tag), np.uintp(SUMS_VECTORS) * width
    b = layer.deltas + row * layer.output_row
    i = ZERO
    while i < n and add:
        j = ZERO
        while j < layer.n_out:
            transpose_columns(
                room + j * room_row + i * item, room_row, result + i * width + j * item, width, n - i, tag
            )  # fmt: skip
            j += chunk(tag)
        i += size
    r0 = ZERO
    while r0 < rows:
        now, more = min(np.uintp(ROW_BLOCK), rows - r0), add or r0 > ZERO
        deltas = Matrix(b + r0 * layer.output_row, layer.output_row)
        i = ZERO
        while i < n:
            here = Matrix(room + i * item, room_row)
            product_columns(
                here, here if more else Matrix(zeros, ZERO), deltas,
                Matrix(inputs + (row + r0) * layer.input_row + i * item, layer.input_row), layer.n_out,
                TWO if n - i > size else ONE, now, np.uintp(STORE), False, tag,
            )  # fmt: skip
            i += TWO * size
        if with_bias:
            bias = Matrix(result + n * width, ZERO)
            product_columns(
                bias, bias if more else Matrix(zeros, ZERO), deltas, deltas, ZERO, ONE, now, np.uintp(STORE), True, tag
            )  # fmt: skip
        r0 += now
    sums = view(room, np.uintp(ROOM) * size, tag)
    unit = np.uintp(SUMS_VECTORS) * size
    for i in range(n):
        put_four(
            result + i * width, sums[i], sums[unit + i] if layer.n_out > ONE else cast(tag, 0.0),
            sums[TWO * unit + i] if layer.n_out > TWO else cast(tag, 0.0),
            sums[(TWO + ONE) * unit + i] if layer.n_out > TWO + ONE else cast(tag, 0.0),
        )  # fmt: skip
