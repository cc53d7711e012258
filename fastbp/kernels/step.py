"""The step: forward, loss and backward by rows of the batch, then weight gradients and update by blocks of weights.

    phase 1, rows shared among threads:     gather -> forward -> loss, output delta -> deltas down to layer 1
    barrier
    phase 2, weight blocks shared:          gradient block = A^T . delta over the batch -> update while it is hot
    barrier

Every number is computed by one thread in one order, and parameters change in phase 2 alone: the bits do not depend on
the number of threads. A big batch on a small net has too few weight blocks to share and activations that leave the
cache: there the batch is cut into `n_groups` shares; each is carried through to a gradient of its own (`partials`), and
phase 2 adds these up in their order.
"""

from __future__ import annotations

import numpy as np
from numba import types

import fastbp.kernels.clock as ticks
from fastbp.kernels.activations import activate
from fastbp.kernels.atomics import atomic_load
from fastbp.kernels.blocks import blocks_at, blocks_per_panel, blocks_place, share, weights_in
from fastbp.kernels.epilogue import MULTIPLY, STORE
from fastbp.kernels.gather import gather
from fastbp.kernels.input_scale import partial_sums, scale_inputs
from fastbp.kernels.jit import by_precision, element, jit, leaf
from fastbp.kernels.losses import FIRST_ROW_LOSS, element_loss, given_deltas, row_loss, weigh_rows
from fastbp.kernels.noise import add_noise, drop
from fastbp.kernels.optimizers import SGD
from fastbp.kernels.pairs import copy_rows, copy_weights
from fastbp.kernels.products import copy_deltas, copy_inputs, gradient_blocks, product_down, product_up, refresh_copies
from fastbp.kernels.records import (
    BACKPROP,
    DELTAS,
    FORWARD,
    NO_TARGETS,
    TRAIN,
    BatchType,
    Block,
    BlockType,
    Job,
    Layers,
    Matrix,
    RegionType,
)  # fmt: skip
from fastbp.kernels.simd import ONE, TWO, ZERO, cast, itemsize, lanes, view
from fastbp.kernels.thin import is_thin
from fastbp.kernels.tile import product, product_columns
from fastbp.kernels.tuning import COPY_BYTES
from fastbp.kernels.update import clip, clips, penalise, penalises, sum_partials, update, update_blocks

# What phase 2 does with the gradient of a block: update by it at once, only store it, update by the stored one, or make
# that the gradient of the whole cost, penalties included, which is what is clipped.
FUSED, STORE_GRADIENT, USE_GRADIENT, COMPLETE = (np.uint64(code) for code in range(4))


# --- phase 1 ------------------------------------------------------------------------------------------------


@element
def _activate(layers, k, key, block, tag):
    layer, start = layers[k], block.row * layers[k].output_row
    n = block.rows * layer.output_row // itemsize(tag)
    activate(layer.activation, layer.outputs + start, layer.deltas + start, ZERO, ONE, n, tag)
    if key != ZERO and layer.drop_below != ZERO:
        drop(layer, k + ONE, key, block, ZERO, layer.n_out, tag)


@jit
def _activate_and_copy(layers, k, key, block, tag):
    """A few rows at a time, which are copied while they are in the first-level cache."""
    most, r = max(TWO, COPY_BYTES // layers[k].output_row // TWO * TWO), ZERO
    while r < block.rows:
        some = Block(block.row + r, min(most, block.rows - r), block.place + r)
        _activate(layers, k, key, some, tag)
        if k + ONE < np.uintp(len(layers)):
            copy_inputs(layers[k + ONE], some, tag)
        r += most


# f(z) and f'(z) of a block of rows of layer k, with dropout; and the copy that the next layer reads.
#     activate_rows(layers, k, key, block, tag)
activate_rows = by_precision(_activate, _activate_and_copy)


@element
def forward(job, layers, block, key, with_output_activation, clock, tag):
    """Carry a block of rows through the layers by rows, to the outputs of the last; key: of dropout, or 0."""
    last = job.n_layers - ONE
    since = ticks.start(clock)
    for k in range(job.columns, job.n_layers):
        layer = layers[k]
        outputs, deltas = layer.outputs + block.row * layer.output_row, layer.deltas + block.row * layer.output_row
        active = k < last or with_output_activation
        result = Matrix(deltas if active else outputs, layer.output_row)
        product_up(layer, result, block, tag)
        if active:
            activate_rows(layers, np.uintp(k), key, block, tag)
        since = ticks.charge(clock, ticks.layer_slot(k, ticks.FORWARD), since)


@element
def output_loss(job, layer, losses, block, batch, tag):
    """Loss of each row of a block to an address, and dJ/dz of the output layer."""
    scale = job.slope_factor / float(batch.rows * job.loss_columns)
    first = batch.start + block.place
    if job.y_kind == np.uint64(DELTAS):
        given_deltas(job, layer, losses, block, first, tag)
    elif job.loss >= FIRST_ROW_LOSS:
        row_loss(job, layer, losses, block, first, scale, tag)
    else:
        element_loss(job, layer, losses, block, first, scale, tag)
    if job.row_weights != 0:
        weigh_rows(job, layer, losses, block, batch, tag)


@element
def backward(job, layers, block, clock, tag):
    """Carry the deltas down through the layers by rows, delta_k = (delta_k+1 . W^T) * f'(z_k); to dJ/dX if wanted."""
    since = ticks.start(clock)
    for k in range(job.n_layers - ONE, job.columns, -1):
        layer = layers[k]
        below = layers[np.uintp(k) - ONE]
        product_down(layer, below.deltas + block.row * below.output_row, block, job.zeros, np.uintp(MULTIPLY), tag)
        copy_deltas(below, block, tag)
        since = ticks.charge(clock, ticks.layer_slot(k, ticks.BACKWARD), since)
    if job.input_deltas != 0:
        bottom = layers[0]
        result = job.input_deltas + block.place * bottom.input_row
        product_down(bottom, result, block, job.zeros, np.uintp(STORE), tag)
        if job.input_scale != ZERO:
            scale_inputs(job, Matrix(result, bottom.input_row), block.rows, bottom.n_in, tag)


@leaf(
    Job, Layers, BlockType, BatchType, types.uintp,
    calls=[
        gather, add_noise, scale_inputs, product, activate, drop, given_deltas, row_loss, element_loss, weigh_rows
    ],
    pairs=[copy_rows],
)  # fmt: skip
def pass_rows(job, layers, block, batch, clock, tag):
    """Phase 1 of a block of rows, in the layers by rows."""
    bottom, top = layers[0], layers[job.n_layers - ONE]
    if job.columns == ZERO:
        since = ticks.start(clock)
        inputs = Matrix(bottom.inputs + block.row * bottom.input_row, bottom.input_row)
        gather(job, inputs, batch.start + block.place, block.rows, bottom.n_in, tag)
        if batch.key != ZERO and job.input_noise > 0.0:
            add_noise(job, inputs, batch.key, block, bottom.n_in, tag)
        if job.input_scale != ZERO:
            scale_inputs(job, inputs, block.rows, bottom.n_in, tag)
        copy_inputs(bottom, block, tag)
        ticks.charge(clock, ticks.GATHER, since)
    forward(job, layers, block, batch.key, job.mode != FORWARD and job.loss < FIRST_ROW_LOSS, clock, tag)
    since = ticks.start(clock)
    if job.y_kind != np.uint64(NO_TARGETS):
        output_loss(job, top, job.row_losses + block.place * itemsize(tag), block, batch, tag)
        ticks.charge(clock, ticks.LOSS, since)
    if job.mode == TRAIN or job.mode == BACKPROP:
        copy_deltas(top, block, tag)
        backward(job, layers, block, clock, tag)


# --- phase 2 ------------------------------------------------------------------------------------------------


@jit
def is_plain(job):
    """Is the update plain gradient descent, by a gradient that needs no clipping, penalty or sum of groups?"""
    return job.optimizer == SGD and job.n_groups == 0 and not clips(job) and not penalises(job)


@leaf(
    Job, Layers, RegionType, *[types.uintp] * 7, calls=[product_columns, partial_sums, penalise, clip, update],
    pairs=[copy_weights],
)  # fmt: skip
def pass_blocks(job, layers, region, first, end, rows, rates, use, scratch, clock, tag):
    """Phase 2 of the weight blocks first .. end: compute or read their gradient, store it or update by it.

    They are counted within the region; where that is of many layers, among the blocks of the whole network.
    """
    item, wide = itemsize(tag), TWO * lanes(tag)
    descend = rates if use == FUSED and is_plain(job) else ZERO
    clipping, penalties = clips(job), penalises(job)
    completes = use == COMPLETE or (use == STORE_GRADIENT and job.mode == TRAIN and clipping and penalties)
    k, number, local = region.layer, first, first
    panels, blocks, inputs = region.panels, region.blocks, region.inputs
    since = ticks.start(clock)
    while number < end:
        if region.panels == ZERO:
            while k + ONE < job.n_layers and layers[k + ONE].first_block <= number:
                k += ONE
            local, inputs = number - layers[k].first_block, layers[k].inputs
            panels, blocks = (layers[k].n_out + wide - ONE) // wide, blocks_per_panel(layers[k], tag)
        else:
            local = number
        layer = layers[k]
        layer_rates, scaled = ZERO, k == ZERO and job.input_scale != ZERO
        if descend != ZERO and not is_thin(layer, rows, tag) and layer.weight_rates == layer.bias_rates and not scaled:
            layer_rates = descend + layer.weight_rates  # else the update is a pass of its own
        panel, block, count = blocks_at(panels, blocks, local)
        panel, block = panel + region.panel, block + region.block
        count = min(count, end - number)
        offset, n = blocks_place(layer, panel, block, count, tag)
        gradient = scratch if use == FUSED else job.gradient + offset * item
        if use in (FUSED, STORE_GRADIENT):
            if job.n_groups == 0:
                weights = job.parameters + offset * item
                gradient_blocks(
                    layer, gradient, inputs, panel, block, count, ZERO, rows, False, job.zeros, weights, layer_rates,
                    tag,
                )  # fmt: skip
            else:
                sum_partials(job, gradient, offset, n, tag)
            if scaled:
                below = block * wide
                partial_sums(
                    job, layer, panel, below, min(count * wide, layer.n_in - below), job.parameters + offset * item,
                    gradient, tag,
                )  # fmt: skip
        if completes or (penalties and not clipping and use != STORE_GRADIENT):
            n_weights, result = weights_in(layer, panel, block, count, tag), gradient if completes else scratch
            penalise(job, result, job.parameters + offset * item, gradient, n_weights, n, tag)
            gradient = result
        if use in (FUSED, USE_GRADIENT):
            if clipping:
                clip(job, scratch, gradient, rates, n, tag)
                gradient = scratch
            if layer_rates == ZERO:
                n_weights = weights_in(layer, panel, block, count, tag)
                update_blocks(job, layer, gradient, rates, offset, n, n_weights, tag)
            refresh_copies(layer, panel, block, count, tag)
        elif use == STORE_GRADIENT and atomic_load(job.stop) != 0:
            break
        since = ticks.charge(clock, ticks.layer_slot(k, ticks.UPDATE), since)
        number += count


# --- shares of a big batch ----------------------------------------------------------------------------------


@leaf(Job, Layers, types.uintp, types.uintp, BatchType, types.uintp, calls=[pass_rows, product_columns], pairs=[])
def pass_group(job, layers, slot, group, batch, clock, tag):
    """Phase 1 and the weight gradient of one group of the batch, in the buffers of one thread.

    Block by block of rows, each added to the group's own gradient while its activations are in the cache.
    """
    row, item = slot * job.block_rows, itemsize(tag)
    wide = TWO * lanes(tag)
    begin, end = share(batch.rows, group, job.n_groups), share(batch.rows, group + ONE, job.n_groups)
    place = begin
    if begin == end:  # fewer rows than groups: the last, short batch
        part = view(job.partials + group * job.n_parameters * item, job.n_parameters, tag)
        for i in range(job.n_parameters):
            part[i] = cast(tag, 0.0)
    while place < end and atomic_load(job.stop) == 0:
        rows = min(job.block_rows, end - place)
        pass_rows(job, layers, Block(row, rows, place), batch, clock, tag)
        since = ticks.start(clock)
        for k in range(job.n_layers):
            layer = layers[k]
            for panel in range((layer.n_out + wide - ONE) // wide):
                count = blocks_per_panel(layer, tag)
                offset = blocks_place(layer, panel, ZERO, count, tag)[0]
                result = job.partials + (group * job.n_parameters + offset) * item
                gradient_blocks(
                    layer, result, layer.inputs, panel, ZERO, count, row, rows, place > begin, job.zeros, ZERO, ZERO,
                    tag,
                )  # fmt: skip
            since = ticks.charge(clock, ticks.layer_slot(k, ticks.UPDATE), since)
        place += rows
