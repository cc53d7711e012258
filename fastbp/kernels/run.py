"""The compiled entry: one call carries a thread through many steps, or through inference, of any network.

Threads call it together with the same records and their own number; they meet at barriers.
"""

from __future__ import annotations

import numpy as np
from numba import types

import fastbp.kernels.clock as ticks
from fastbp.kernels.atomics import atomic_add, atomic_load, atomic_max
from fastbp.kernels.blocks import CLAIM_ROUNDS, all_from, cut, even_blocks, from_pair, share
from fastbp.kernels.columns import backward_columns, forward_columns, own_region, part_of, peers, row_share
from fastbp.kernels.denormals import flush_denormals, restore_denormals
from fastbp.kernels.gather import shuffle, take_order
from fastbp.kernels.input_scale import pass_input_scale
from fastbp.kernels.jit import by_precision, jit, leaf
from fastbp.kernels.losses import batch_weight
from fastbp.kernels.noise import step_key
from fastbp.kernels.pairs import copy_weights
from fastbp.kernels.penalty import limit_norms, row_penalty
from fastbp.kernels.products import refresh_all
from fastbp.kernels.records import (
    BACKPROP,
    DIVERGED,
    GIVEN,
    GO_ON,
    RUINED,
    RUNNING,
    SHUFFLE_NOW,
    STOPPED,
    TRAIN,
    UPDATE,
    Batch,
    Block,
    Job,
    Layers,
)  # fmt: skip
from fastbp.kernels.simd import ONE, ZERO, itemsize, lanes, view
from fastbp.kernels.snapshot import first_due, is_due, is_ruined, save
from fastbp.kernels.step import COMPLETE, FUSED, STORE_GRADIENT, USE_GRADIENT, pass_blocks, pass_group, pass_rows
from fastbp.kernels.team import (
    AT_COLUMNS,
    AT_COPIES,
    AT_GRADIENT,
    AT_NORMS,
    AT_ROWS,
    AT_SCALE,
    AT_SHUFFLE,
    AT_SNAPSHOT,
    AT_STEP,
    COMPUTING,
    GONE,
    LEAVE,
    ODD,
    STAY,
    barrier,
    come,
)  # fmt: skip
from fastbp.kernels.update import RATES_BYTES, clips, penalises, write_clip_scale, write_rates


@jit
def take(job, taken):
    """Number of the next claim of a phase; `taken` are those of all phases before."""
    return np.uintp(atomic_add(job.claims, 1) - taken)


@jit
def pass_range(job, layers, row, end, batch, clock, tag):
    """Phase 1 of rows `row` .. `end`, in blocks."""
    row, end = from_pair(row, batch.rows, tag), from_pair(end, batch.rows, tag)
    block_rows = even_blocks(end - row, job.block_rows)
    block_rows = from_pair(block_rows, block_rows + ONE, tag)
    while row < end and atomic_load(job.stop) == GO_ON:
        rows = min(block_rows, end - row)
        pass_rows(job, layers, Block(row, rows, row), batch, clock, tag)
        row += rows


@jit
def phase_one(job, layers, thread, batch, taken, tag):
    """This thread's share of the rows of a batch, or of its groups; returns the claims taken by all threads since."""
    slot, parts = np.uintp(thread), np.uintp(job.n_threads)
    clock = ticks.thread_clock(job, thread)
    if job.n_groups > 0:
        group = take(job, taken)
        while group < job.n_groups:
            if atomic_load(job.stop) == GO_ON:
                pass_group(job, layers, slot, group, batch, clock, tag)
            group = take(job, taken)
        return taken + np.int64(job.n_groups) + job.n_threads
    if job.dynamic == 0 or parts == ONE:
        if job.columns != ZERO:
            slot = row_share(job, thread)
        pass_range(job, layers, share(batch.rows, slot, parts), share(batch.rows, slot + ONE, parts), batch, clock, tag)
        return taken
    number = take(job, taken)
    while number < CLAIM_ROUNDS * parts:
        row, end = cut(batch.rows, number, parts), cut(batch.rows, number + ONE, parts)
        pass_range(job, layers, row, end, batch, clock, tag)
        number = take(job, taken)
    return taken + np.int64((CLAIM_ROUNDS + ONE) * parts)


@jit
def thread_rates(job, thread):
    """Address where a thread keeps the rates of the step: the head of its scratch."""
    return job.scratch + np.uintp(thread) * job.scratch_size


@jit
def phase_two_columns(job, layers, thread, batch_rows, rates, use, scratch, clock, tag):
    """Phase 2 of the weight blocks that stay with this thread's part; returns those that are left, and the first."""
    part, peer = part_of(job, thread)
    for layer in range(job.columns + ONE):
        k = np.uintp(layer)
        own = own_region(job, layers, k, part, tag)
        blocks = own.panels * own.blocks
        first, end = share(blocks, peer, peers(job)), share(blocks, peer + ONE, peers(job))
        if first < end:
            pass_blocks(job, layers, own, first, end, batch_rows, rates, use, scratch, clock, tag)
    above = job.columns + ONE
    if above == job.n_layers:
        return all_from(ZERO), job.n_blocks
    return all_from(above), layers[above].first_block


@jit
def phase_two(job, layers, thread, batch_rows, rates, use, taken, tag):
    """This thread's share of the weight blocks; returns the claims taken by all threads since."""
    slot, parts = np.uintp(thread), np.uintp(job.n_threads)
    scratch, clock = thread_rates(job, thread) + np.uintp(RATES_BYTES), ticks.thread_clock(job, thread)
    rest, skip = all_from(ZERO), ZERO
    if job.columns != ZERO:
        rest, skip = phase_two_columns(job, layers, thread, batch_rows, rates, use, scratch, clock, tag)
    blocks = job.n_blocks - skip
    if job.dynamic == 0 or parts == ONE:
        first, end = skip + share(blocks, slot, parts), skip + share(blocks, slot + ONE, parts)
        pass_blocks(job, layers, rest, first, end, batch_rows, rates, use, scratch, clock, tag)
        return taken
    number = take(job, taken)
    while number < CLAIM_ROUNDS * parts:
        first, end = skip + cut(blocks, number, parts), skip + cut(blocks, number + ONE, parts)
        pass_blocks(job, layers, rest, first, end, batch_rows, rates, use, scratch, clock, tag)
        number = take(job, taken)
    return taken + np.int64((CLAIM_ROUNDS + ONE) * parts)


@jit
def constrain(job, layers, thread, tag):
    """After an update: limit the norms of the weights in this thread's share of the panels."""
    limit_norms(job, layers, thread_rates(job, thread) + np.uintp(RATES_BYTES), np.uintp(thread), tag)


@jit
def descend_inputs(job, layers, thread, rates, makes, uses, tag):
    """Phase 2 of this thread's share of the scales of the inputs; see `pass_input_scale`."""
    size, parts = lanes(tag), job.n_threads
    n = (layers[0].n_in + size - ONE) // size
    first, end = share(n, thread, parts) * size, share(n, np.uintp(thread) + ONE, parts) * size
    scratch = thread_rates(job, thread) + np.uintp(RATES_BYTES)
    pass_input_scale(job, layers[0], first, end, rates, scratch, makes, uses, tag)


@jit
def _no_copies(job, layers, thread, passed, tag):
    return passed


@jit
def _copies(job, layers, thread, passed, tag):
    if job.copy_weights != 0:
        refresh_all(layers, thread, job.n_threads, tag)
        passed = barrier(job, thread, passed, STAY, AT_COPIES)
    return passed


# Make what kernels in pairs read of the weights, where others have changed these; returns the barriers passed or LEAVE.
#     fresh_copies(job, layers, thread, passed, tag)
fresh_copies = by_precision(_no_copies, _copies)


@jit
def sum_losses(job, batch_rows, tag):
    """J of a batch: the row losses added in double precision, in their order."""
    losses = view(job.row_losses, batch_rows, tag)
    total = 0.0
    for r in range(batch_rows):
        total += np.float64(losses[r])
    return total / float(batch_rows * job.loss_columns) * job.loss_factor


@jit
def wants_to_leave(job):
    """The vote of a thread at a barrier: True if a stop is asked for, or the data are bad."""
    if atomic_load(job.stop) != GO_ON:
        atomic_max(job.status, STOPPED)
        return True
    return atomic_load(job.status) != RUNNING


@jit
def timed_barrier(job, thread, passed, leave, site, clock):
    """`barrier`, its time charged to the profile: that of waiting for the last thread, and that of the barrier."""
    odd = passed >> ODD & 1
    since = ticks.arrive(clock, odd)
    passed = barrier(job, thread, passed, leave, site)
    ticks.met(job, clock, odd, since)
    return passed


@jit
def ascend(job, layers, thread, batch, passed, taken, tag):
    """Phase 1 of a step and the barrier at its end; returns (barriers passed or LEAVE, claims taken)."""
    clock = ticks.thread_clock(job, thread)
    for k in range(job.columns):
        forward_columns(job, layers, k, np.uintp(thread), batch, clock, tag)
        passed = timed_barrier(job, thread, passed, STAY, AT_COLUMNS, clock)
        if passed == LEAVE:
            return passed, taken
    taken = phase_one(job, layers, thread, batch, taken, tag)
    passed = timed_barrier(job, thread, passed, wants_to_leave(job), AT_ROWS, clock)
    for k in range(job.columns, ZERO, -1):
        if passed == LEAVE:
            return passed, taken
        backward_columns(job, layers, np.uintp(k), np.uintp(thread), batch.rows, clock, tag)
        if job.columns > ONE or job.parts < np.uintp(job.n_threads):
            passed = timed_barrier(job, thread, passed, STAY, AT_COLUMNS, clock)
    return passed, taken


@jit
def descend(job, layers, thread, rows, rates, passed, taken, tag):
    """Phase 2 of a step: the gradient, and the update by it; returns (barriers passed or LEAVE, claims taken)."""
    if job.two_pass != 0:
        taken = phase_two(job, layers, thread, rows, rates, STORE_GRADIENT, taken, tag)
        if job.input_scale != ZERO:
            passed = barrier(job, thread, passed, STAY, AT_SCALE)
            if passed == LEAVE:
                return passed, taken
            descend_inputs(job, layers, thread, rates, ONE, ZERO, tag)
        passed = barrier(job, thread, passed, wants_to_leave(job), AT_GRADIENT)
        if passed == LEAVE:
            return passed, taken
        write_clip_scale(job, rates, tag)
        taken = phase_two(job, layers, thread, rows, rates, USE_GRADIENT, taken, tag)
        if job.input_scale != ZERO:
            descend_inputs(job, layers, thread, rates, ZERO, ONE, tag)
    else:
        taken = phase_two(job, layers, thread, rows, rates, FUSED, taken, tag)
        if job.input_scale != ZERO:
            passed = barrier(job, thread, passed, STAY, AT_SCALE)
            if passed == LEAVE:
                return passed, taken
            descend_inputs(job, layers, thread, rates, ONE, ONE, tag)
    if job.max_norm > 0.0:
        passed = barrier(job, thread, passed, STAY, AT_NORMS)
        if passed != LEAVE:
            constrain(job, layers, thread, tag)
    return passed, taken


@jit
def take_snapshot(job, thread, passed, steps, tag):
    """Copy the parameters after so many steps of this call, if all of them are finite; if not, all threads leave."""
    ruined = is_ruined(job, thread, tag)
    if ruined:
        atomic_max(job.status, RUINED)
    passed = barrier(job, thread, passed, ruined, AT_SNAPSHOT)
    if passed != LEAVE:
        save(job, thread, tag)
        if thread == 0:
            job.snapshot_step = steps
    return passed


@jit
def train(job, layers, thread, tag):
    """n_steps of gradient descent, across the ends of epochs, with the losses written as they come."""
    passed = taken = np.int64(0)
    position, epoch, used = job.position, job.epoch, job.n_samples - job.n_dropped
    due, orders = first_due(job, position), ZERO
    lead = thread == 0
    rates, clock = thread_rates(job, thread), ticks.thread_clock(job, thread)
    losses = view(job.losses, job.n_steps, 0.0)
    late = job.shuffle == SHUFFLE_NOW  # an epoch goes on whose order is not there
    passed = fresh_copies(job, layers, thread, passed, tag)
    if passed == LEAVE:
        return
    for s in range(job.n_steps):
        if s == job.profile_from:
            ticks.begin(job, clock)
        if job.shuffle != 0 and (position == 0 or late):
            late = False
            if lead and job.shuffle == GIVEN:
                take_order(job.order, job.subset, job.n_samples, orders)
                orders += ONE
            elif lead:
                shuffle(job.order, job.subset, job.n_samples, job.seed, epoch)
            passed = barrier(job, thread, passed, STAY, AT_SHUFFLE)
            if passed == LEAVE:
                return
        rows = min(job.batch_size, used - position)
        batch = Batch(position, rows, batch_weight(job, position, rows), step_key(job, job.t + s))
        penalty = row_penalty(job, layers, batch, tag) if lead and job.alpha > 0.0 else 0.0
        passed, taken = ascend(job, layers, thread, batch, passed, taken, tag)
        if passed == LEAVE:
            return
        diverged = False
        if lead:
            loss = sum_losses(job, rows, tag) + penalty
            losses[s] = loss
            diverged = loss - loss != 0.0
            if job.row_weights != 0:
                view(job.mean_weights, job.n_steps, 0.0)[s] = batch.weight / float(rows)
        write_rates(job, job.t + s + ONE, s, rates, tag)
        passed, taken = descend(job, layers, thread, rows, rates, passed, taken, tag)
        if passed == LEAVE:
            return
        if lead:
            job.steps_done += ONE
            if diverged:
                atomic_max(job.status, DIVERGED)
        passed = timed_barrier(job, thread, passed, diverged, AT_STEP, clock)
        if passed == LEAVE:
            return
        position += rows
        if position == used:
            position = ZERO
            epoch += ONE
        now, due = is_due(job, position, epoch, due)
        if now:
            passed = take_snapshot(job, thread, passed, s + ONE, tag)
            if passed == LEAVE:
                return


@jit
def backprop(job, layers, thread, tag):
    """Loss and gradient of all samples as one batch; parameters stay as they are."""
    n = job.n_samples
    batch = Batch(ZERO, n, batch_weight(job, ZERO, n), step_key(job, job.t))
    passed = fresh_copies(job, layers, thread, np.int64(0), tag)
    if passed == LEAVE:
        return
    passed, taken = ascend(job, layers, thread, batch, passed, np.int64(0), tag)
    if passed != LEAVE:
        phase_two(job, layers, thread, job.n_samples, ZERO, STORE_GRADIENT, taken, tag)
        if job.input_scale != ZERO and barrier(job, thread, passed, STAY, AT_SCALE) != LEAVE:
            descend_inputs(job, layers, thread, ZERO, ONE, ZERO, tag)
        if thread == 0:
            view(job.losses, 1, 0.0)[0] = sum_losses(job, job.n_samples, tag)


@jit
def infer(job, layers, thread, tag):
    """Outputs of the last layer before its activation, or the loss of every row, without gradients."""
    if fresh_copies(job, layers, thread, np.int64(0), tag) == LEAVE:
        return
    slot = np.uintp(thread)
    row = slot * job.block_rows
    top = layers[job.n_layers - ONE]
    item = itemsize(tag)
    place = take(job, np.int64(0)) * job.block_rows
    while place < job.n_samples and atomic_load(job.stop) == GO_ON:
        rows = min(job.block_rows, job.n_samples - place)
        clock = ticks.thread_clock(job, thread)
        pass_rows(job, layers, Block(row, rows, place), Batch(ZERO, job.n_samples, 0.0, ZERO), clock, tag)
        if job.outputs != 0:
            for r in range(rows):
                source = view(top.outputs + (row + r) * top.output_row, top.n_out, tag)
                target = view(job.outputs + (place + r) * top.n_out * item, top.n_out, tag)
                for j in range(top.n_out):
                    target[j] = source[j]
        place = take(job, np.int64(0)) * job.block_rows
    wants_to_leave(job)  # for the status: there is no barrier


@leaf(
    types.Array(Job, 1, "C"),
    Layers,
    types.int64,
    calls=[pass_rows, pass_group, pass_blocks, pass_input_scale, limit_norms, forward_columns, backward_columns],
    pairs=[copy_weights],
)
def run(jobs, layers, thread, tag):
    """Carry one thread through the job; see `fastbp.kernels.records` for what it holds."""
    job = jobs[0]
    come(job, thread, COMPUTING)
    before = flush_denormals(tag)
    if job.mode == TRAIN:
        train(job, layers, thread, tag)
    elif job.mode == BACKPROP:
        backprop(job, layers, thread, tag)
    elif job.mode == UPDATE:
        rates = thread_rates(job, thread)
        write_rates(job, job.t + ONE, ZERO, rates, tag)
        if clips(job) and penalises(job):  # an update has one thread: none to wait for
            phase_two(job, layers, thread, ZERO, rates, COMPLETE, np.int64(0), tag)
        write_clip_scale(job, rates, tag)
        phase_two(job, layers, thread, ZERO, rates, USE_GRADIENT, np.int64(0), tag)
        if job.input_scale != ZERO:
            descend_inputs(job, layers, thread, rates, ZERO, ONE, tag)
        if job.max_norm > 0.0 and barrier(job, thread, np.int64(0), STAY, AT_NORMS) != LEAVE:
            constrain(job, layers, thread, tag)
        job.steps_done += ONE  # by the one thread that an update has
    else:
        infer(job, layers, thread, tag)
    restore_denormals(before, tag)
    come(job, thread, GONE)
