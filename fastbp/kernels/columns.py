"""Layers by columns: the units of a layer, their weights, moments and a copy of its inputs stay with some threads.

By rows, a thread reads all weights of a layer, most of which other threads have written in the step before: where
cores are far from each other, these lines are what a step waits for. By columns, the threads fall into parts, and a
part has a share of the panels of each leading layer for good. Its threads, the peers, gather all rows of the batch into
an area of the part's own, multiply them by its panels, and update just these. What passes between parts are activations
and deltas, which are small beside the weights of a wide layer. The layers above are by rows.

    columns   for each layer k < JOB["columns"]: forward, own units, all rows (shared among peers); barrier
    rows      the layers above: forward, loss, and deltas down to the lowest of them; barrier
    columns   for k = JOB["columns"] down to 1: deltas of the own units of layer k - 1; and a barrier, where there are
              more such layers (what one part still reads of transposed weights, another is about to update) or peers
    columns   gradient and update: of the own panels of these layers; of the lowest layer by rows, what its own units
              below feed; then the weight blocks of the layers above that, shared among all; barrier

So f'(z) and the deltas of the topmost layer by columns never leave their part. Of a layer, the activations pass to
other parts, where they are multiplied by rows, and the deltas of the layer above.

Every number is made by the same chain of operations as by rows: the bits are the same.
"""

from __future__ import annotations

import numpy as np
from numba import types

import fastbp.kernels.clock as ticks
from fastbp.kernels.activations import activate
from fastbp.kernels.blocks import blocks_per_panel, even_blocks, share
from fastbp.kernels.epilogue import MULTIPLY, STORE
from fastbp.kernels.gather import gather
from fastbp.kernels.input_scale import scale_inputs
from fastbp.kernels.jit import jit, leaf
from fastbp.kernels.noise import add_noise, drop
from fastbp.kernels.records import BatchType, Block, Job, Layers, Matrix, Region
from fastbp.kernels.simd import ONE, TWO, ZERO, itemsize, lanes
from fastbp.kernels.tile import product

LINE = np.uint64(64)


@jit
def peers(job):
    """Threads of a part."""
    return np.uintp(job.n_threads) // job.parts


@jit
def part_of(job, thread):
    """(the part of a thread, its number among the peers)."""
    each = peers(job)
    part = np.uintp(thread) // each
    return part, np.uintp(thread) - part * each


@jit
def row_share(job, thread):
    """Which share of the rows a thread has in the layers by rows: near those that it had in the layers by columns."""
    part, peer = part_of(job, thread)
    return peer * job.parts + part


@jit
def own_panels(job, n_out, part, tag):
    """(first, end) of the panels of n_out units that a part has: whole cache lines of a row of outputs."""
    wide = TWO * lanes(tag)
    group = max(ONE, LINE // (wide * itemsize(tag)))
    panels = (n_out + wide - ONE) // wide
    groups = (panels + group - ONE) // group
    first, end = share(groups, part, job.parts) * group, share(groups, part + ONE, job.parts) * group
    return min(first, panels), min(end, panels)


@jit
def part_inputs(job, layers, k, part):
    """Address of what a part reads of the inputs of layer k: the rows that it has gathered itself, or the outputs."""
    return job.areas + part * job.area_size if k == ZERO else layers[k].inputs


@jit
def own_region(job, layers, k, part, tag):
    """The weight blocks of layer k that belong to a part.

    Of a layer by columns, its panels; of the lowest layer by rows, what is below its own units in all panels.
    """
    layer, wide = layers[k], TWO * lanes(tag)
    blocks, inputs = blocks_per_panel(layer, tag), part_inputs(job, layers, k, part)
    if k < job.columns:
        first, end = own_panels(job, layer.n_out, part, tag)
        return Region(k, first, end - first, ZERO, blocks, inputs)
    first, end = own_panels(job, layer.n_in, part, tag)
    return Region(k, ZERO, (layer.n_out + wide - ONE) // wide, first, end - first, inputs)


@leaf(
    Job, Layers, types.uintp, types.uintp, BatchType, types.uintp,
    calls=[gather, add_noise, scale_inputs, product, activate, drop],
)  # fmt: skip
def forward_columns(job, layers, k, thread, batch, clock, tag):
    """Forward through layer k: the units of this thread's part, for the rows of this peer."""
    part, peer = part_of(job, thread)
    layer, item, wide = layers[k], itemsize(tag), TWO * lanes(tag)
    first, end = own_panels(job, layer.n_out, part, tag)
    begin, n = first * wide, min(end * wide, layer.n_out) - first * wide
    skip = begin * item
    inputs = part_inputs(job, layers, k, part)
    row, last = share(batch.rows, peer, peers(job)), share(batch.rows, peer + ONE, peers(job))
    block_rows = even_blocks(last - row, job.block_rows)
    while row < last:
        rows = min(block_rows, last - row)
        block = Block(row, rows, row)
        since = ticks.start(clock)
        a = Matrix(inputs + row * layer.input_row, layer.input_row)
        if k == ZERO:
            gather(job, a, batch.start + row, rows, layer.n_in, tag)
            if batch.key != ZERO and job.input_noise > 0.0:
                add_noise(job, a, batch.key, block, layer.n_in, tag)
            if job.input_scale != ZERO:
                scale_inputs(job, a, rows, layer.n_in, tag)
            since = ticks.charge(clock, ticks.GATHER, since)
        if end > first:
            outputs, deltas = layer.outputs + row * layer.output_row, layer.deltas + row * layer.output_row
            panel = layer.weights + begin * (layer.n_in + ONE) * item
            product(
                Matrix(deltas + skip, layer.output_row), a, panel, layer.n_in + ONE, ZERO, rows, n, layer.n_in,
                np.uintp(STORE), tag,
            )  # fmt: skip
            activate(layer.activation, outputs + skip, deltas + skip, layer.output_row, rows, n, tag)
            if batch.key != ZERO and layer.drop_below != ZERO:
                drop(layer, k + ONE, batch.key, block, begin, begin + n, tag)
        ticks.charge(clock, ticks.layer_slot(k, ticks.FORWARD), since)
        row += rows


@leaf(Job, Layers, types.uintp, types.uintp, types.uintp, types.uintp, calls=[product])
def backward_columns(job, layers, k, thread, rows, clock, tag):
    """Deltas of layer k - 1 by those of layer k: the units of this thread's part, for the rows of this peer."""
    since = ticks.start(clock)
    part, peer = part_of(job, thread)
    layer, below, item = layers[k], layers[k - ONE], itemsize(tag)
    size = lanes(tag)
    wide = TWO * size
    first, end = own_panels(job, below.n_out, part, tag)
    begin = first * wide
    n = min(end * wide, below.n_out) - begin
    k_rows = (layer.n_out + size - ONE) // size * size
    row, last = share(rows, peer, peers(job)), share(rows, peer + ONE, peers(job))
    block_rows = even_blocks(last - row, job.block_rows)
    while row < last and end > first:
        now = min(block_rows, last - row)
        product(
            Matrix(below.deltas + row * below.output_row + begin * item, below.output_row),
            Matrix(layer.deltas + row * layer.output_row, layer.output_row),
            layer.transposed + begin * k_rows * item, k_rows, job.zeros, now, n, layer.n_out, np.uintp(MULTIPLY), tag,
        )  # fmt: skip
        row += now
    ticks.charge(clock, ticks.layer_slot(k, ticks.BACKWARD), since)
