"""The three products of a layer, and the copies that they read: in the numbers of the network, or in pairs of bfloat16.

In pairs, a layer whose record has no `weights_in_pairs` is computed in float32, by the code for float32.
"""

from __future__ import annotations

import numpy as np

from fastbp.kernels.blocks import blocks_per_panel, panel_vectors
from fastbp.kernels.epilogue import STORE
from fastbp.kernels.jit import by_precision, element, jit, plain
from fastbp.kernels.pairs import copy_rows, copy_weights, halves, halves_down
from fastbp.kernels.records import Matrix
from fastbp.kernels.simd import ONE, TWO, ZERO, itemsize, lanes
from fastbp.kernels.thin import is_thin, thin_blocks
from fastbp.kernels.tile import product, product_columns
from fastbp.kernels.transpose import chunk, transpose_columns
from fastbp.kernels.tuning import ROW_BLOCK

# --- copies -------------------------------------------------------------------------------------------------


@element  # inlined, like what calls it: of a step of one row, 400 ns, a call with its spills took 18
def refresh_transposed(layer, panel, block, tag):
    """Copy a block of weights to the transposed weights, which `backward` reads."""
    size, item = lanes(tag), itemsize(tag)
    wide, one = TWO * size, ONE
    vectors = panel_vectors(layer.n_out, panel, size)
    source_row = vectors * size * item
    i0, j0 = block * wide, panel * wide
    n = min(wide, layer.n_in - i0)
    source = layer.weights + (panel * wide * (layer.n_in + one)) * item + i0 * source_row
    k_rows = (layer.n_out + size - one) // size * size
    target_row = panel_vectors(layer.n_in, block, size) * size * item
    target = layer.transposed + block * wide * k_rows * item + j0 * target_row
    columns = min(vectors * size, layer.n_out - j0)
    j = ZERO
    while j < columns:
        i = ZERO
        while i < n:
            transpose_columns(
                target + j * target_row + i * item, target_row, source + i * source_row + j * item, source_row,
                n - i, tag,
            )  # fmt: skip
            i += size
        j += chunk(tag)


@element
def _refresh(layer, panel, block, count, tag):
    if layer.transposed != 0:
        for b in range(count):
            refresh_transposed(layer, panel, block + b, tag)


@jit
def _refresh_pairs(layer, panel, block, count, tag):
    if layer.weights_in_pairs == ZERO:
        _refresh(layer, panel, block, count, plain(tag))
    else:
        for b in range(count):
            copy_weights(layer, panel, block + b, tag)


@jit
def refresh_all(layers, thread, threads, tag):
    """Make one thread's share of the copies of all weights."""
    wide, number = TWO * lanes(tag), ZERO
    for k in range(np.uintp(len(layers))):
        layer = layers[k]
        for panel in range((layer.n_out + wide - ONE) // wide):
            for block in range(blocks_per_panel(layer, tag)):
                if number % np.uintp(threads) == np.uintp(thread):
                    refresh_copies(layer, np.uintp(panel), np.uintp(block), ONE, tag)
                number += ONE


@jit
def _no_copy(layer, block, tag):
    return


@jit
def _copy_inputs(layer, block, tag):
    if layer.weights_in_pairs != ZERO:
        by_rows, pairs = layer.inputs_by_rows, layer.inputs_in_pairs
        _copy(layer.inputs, layer.input_row, by_rows, pairs, layer.n_in, block, tag)


@jit
def _copy_deltas(layer, block, tag):
    if layer.weights_in_pairs != ZERO:
        by_rows, pairs = layer.deltas_by_rows, layer.deltas_in_pairs
        _copy(layer.deltas, layer.output_row, by_rows, pairs, layer.n_out, block, tag)


@jit
def _copy(source, row, by_rows, in_pairs, n, block, tag):
    half = row // TWO
    copy_rows(
        Matrix(source + block.row * row, row), Matrix(by_rows + block.row * half, half),
        Matrix(in_pairs + block.row // TWO * row, row), block.rows, n, tag,
    )  # fmt: skip


# --- forward ------------------------------------------------------------------------------------------------


@element
def _up(layer, result, block, tag):
    product(
        result, Matrix(layer.inputs + block.row * layer.input_row, layer.input_row), layer.weights, layer.n_in + ONE,
        ZERO, block.rows, layer.n_out, layer.n_in, np.uintp(STORE), tag,
    )  # fmt: skip


@jit
def _up_in_pairs(layer, result, block, tag):
    if layer.weights_in_pairs == ZERO:
        _up(layer, result, block, plain(tag))
        return
    half = layer.input_row // TWO
    k = halves(layer.n_in)
    product(
        result, Matrix(layer.inputs_by_rows + block.row * half, half), layer.weights_in_pairs, k + ONE, ZERO,
        block.rows, layer.n_out, k, np.uintp(STORE), tag,
    )  # fmt: skip


# --- backward -----------------------------------------------------------------------------------------------


@jit
def _down(layer, result, block, zeros, mode, tag):
    size = lanes(tag)
    k_rows = (layer.n_out + size - ONE) // size * size
    deltas = Matrix(layer.deltas + block.row * layer.output_row, layer.output_row)
    product(
        Matrix(result, layer.input_row), deltas, layer.transposed, k_rows, zeros, block.rows, layer.n_in, layer.n_out,
        mode, tag,
    )  # fmt: skip


@jit
def _down_in_pairs(layer, result, block, zeros, mode, tag):
    if layer.weights_in_pairs == ZERO:
        _down(layer, result, block, zeros, mode, plain(tag))
        return
    half = layer.output_row // TWO
    product(
        Matrix(result, layer.input_row), Matrix(layer.deltas_by_rows + block.row * half, half),
        layer.transposed_in_pairs, halves_down(layer.n_out), zeros, block.rows, layer.n_in, halves(layer.n_out), mode,
        tag,
    )  # fmt: skip


# --- gradient -----------------------------------------------------------------------------------------------


@element
def _gradient(layer, result, inputs, panel, block, count, row, rows, add, zeros, weights, rates, tag):
    size, item = lanes(tag), itemsize(tag)
    wide = TWO * size
    vectors = panel_vectors(layer.n_out, panel, size)
    width = vectors * size * item
    i0 = block * wide
    n = min(count * wide, layer.n_in - i0)
    a = inputs + row * layer.input_row + i0 * item
    if rates == ZERO and is_thin(layer, rows, tag):
        with_bias = i0 + n == layer.n_in
        thin_blocks(layer, result, inputs + i0 * item, n, row, rows, with_bias, add, zeros, tag)
        return
    b = layer.deltas + row * layer.output_row + panel * wide * item
    r0 = ZERO
    while r0 < rows:
        now = min(np.uintp(ROW_BLOCK), rows - r0)
        begin, begin_row = (result, width) if add or r0 > 0 else (zeros, ZERO)
        end, mode = (weights, rates) if rates != ZERO and r0 + now == rows else (result, np.uintp(STORE))
        product_columns(
            Matrix(end, width), Matrix(begin, begin_row), Matrix(a, layer.input_row), Matrix(b, layer.output_row),
            n, vectors, now, mode, i0 + n == layer.n_in, tag,
        )  # fmt: skip
        a += now * layer.input_row
        b += now * layer.output_row
        r0 += now


@jit
def _gradient_in_pairs(layer, result, inputs, panel, block, count, row, rows, add, zeros, weights, rates, tag):
    if layer.weights_in_pairs == ZERO:
        _gradient(
            layer, result, inputs, panel, block, count, row, rows, add, zeros, weights, rates, plain(tag)
        )  # fmt: skip
        return
    size, item = lanes(tag), itemsize(tag)
    wide = TWO * size
    vectors = panel_vectors(layer.n_out, panel, size)
    width = vectors * size * item
    i0 = block * wide
    n = min(count * wide, layer.n_in - i0)
    a = layer.inputs_in_pairs + row // TWO * layer.input_row + i0 * item
    b = layer.deltas_in_pairs + row // TWO * layer.output_row + panel * wide * item
    pairs, done = halves(rows), ZERO
    while done < pairs:
        now = min(np.uintp(ROW_BLOCK), pairs - done)
        begin, begin_row = (result, width) if add or done > 0 else (zeros, ZERO)
        end, mode = (weights, rates) if rates != ZERO and done + now == pairs else (result, np.uintp(STORE))
        product_columns(
            Matrix(end, width), Matrix(begin, begin_row), Matrix(a, layer.input_row), Matrix(b, layer.output_row),
            n, vectors, now, mode, False, tag,
        )  # fmt: skip
        a += now * layer.input_row
        b += now * layer.output_row
        done += now
    if i0 + n == layer.n_in:
        skip, b = n * width, layer.deltas + row * layer.output_row + panel * wide * item
        _bias_gradient(layer, result + skip, b, vectors, rows, add, zeros, weights + skip, rates, plain(tag))


@jit
def _bias_gradient(layer, result, deltas, vectors, rows, add, zeros, weights, rates, tag):
    """The sum of the deltas of one panel, in float32: it is no product."""
    r0 = ZERO
    while r0 < rows:
        now = min(np.uintp(ROW_BLOCK), rows - r0)
        begin = result if add or r0 > 0 else zeros
        end, mode = (weights, rates) if rates != ZERO and r0 + now == rows else (result, np.uintp(STORE))
        b = Matrix(deltas + r0 * layer.output_row, layer.output_row)
        product_columns(Matrix(end, ZERO), Matrix(begin, ZERO), b, b, ZERO, vectors, now, mode, True, tag)
        r0 += now


# --- by precision -------------------------------------------------------------------------------------------

# After an update of some blocks of a panel of weights: the copies that products read of them.
#     refresh_copies(layer, panel, block, count, tag)
refresh_copies = by_precision(_refresh, _refresh_pairs)
# After a block of rows has its inputs, or its deltas, of a layer: their copies.
#     copy_inputs(layer, block, tag), copy_deltas(layer, block, tag)
copy_inputs, copy_deltas = by_precision(_no_copy, _copy_inputs), by_precision(_no_copy, _copy_deltas)
# result (rows, n_out) = inputs . W + biases
#     product_up(layer, result, block, tag)
product_up = by_precision(_up, _up_in_pairs)
# result (rows, n_in) = delta . W^T, or result times that.
#     product_down(layer, result, block, zeros, mode, tag)
product_down = by_precision(_down, _down_in_pairs)
# Gradient of some blocks of a panel of weights, one below the other; the bias is the last row at the panel's end.
# inputs: address of what the layer reads. Over `rows` rows of the buffers from `row` on; added to what is there, or
# not. With `rates`, plain gradient descent changes `weights` by it, and `result` is a scratch.
#     gradient_blocks(layer, result, inputs, panel, block, count, row, rows, add, zeros, weights, rates, tag)
gradient_blocks = by_precision(_gradient, _gradient_in_pairs)
