"""The compiled entry: one call carries a thread through many steps, or through inference, of any network.

Threads call it together with the same records and their own number; they meet at barriers.
"""

from __future__ import annotations

import numpy as np
from numba import types

from fastbp.kernels import clock as ticks
from fastbp.kernels.atomics import atomic_add, atomic_load, atomic_store
from fastbp.kernels.gather import shuffle
from fastbp.kernels.jit import jit, leaf
from fastbp.kernels.loss import batch_weight
from fastbp.kernels.noise import step_key
from fastbp.kernels.penalty import hold_norms
from fastbp.kernels.records import BACKPROP, DIVERGED, RUNNING, SHUFFLE_NOW, STOPPED, TRAIN, UPDATE, Job, Layer
from fastbp.kernels.simd import ONE, ZERO, itemsize, view
from fastbp.kernels.step import FUSED, STORE_GRADIENT, USE_GRADIENT, pass_blocks, pass_group, pass_rows, share
from fastbp.kernels.team import barrier
from fastbp.kernels.update import CLIP_SCALE, write_clip_scale, write_rates

CLAIM_ROUNDS = np.uint64(4)
RATES_BYTES = 128  # two cache lines before the gradient block in a thread's scratch
assert (int(CLIP_SCALE) + 1) * 8 <= RATES_BYTES


@jit
def even_blocks(n, limit):
    """Rows a block, at most `limit`, so that n rows fall into blocks of one size, or nearly so."""
    blocks = max(ONE, (n + limit - ONE) // limit)
    return max(ONE, (n + blocks - ONE) // blocks)


@jit
def cut(n, number, parts):
    """Where claim `number` of n things begins: a round of large claims, one a thread, and three of ever smaller ones.

    Threads do not run at one speed for long; the small claims at the end level that out.
    """
    turn, place = number // parts, number % parts
    if turn == ZERO:
        begin, size = np.uintp(0), np.uintp(70)
    elif turn == ONE:
        begin, size = np.uintp(70), np.uintp(16)
    elif turn == np.uintp(2):
        begin, size = np.uintp(86), np.uintp(9)
    elif turn == np.uintp(3):
        begin, size = np.uintp(95), np.uintp(5)
    else:  # where the last claim ends
        begin, size = np.uintp(100), np.uintp(0)
    return n * (begin * parts + size * place) // (np.uintp(100) * parts)


@jit
def take(job, taken):
    """Number of the next claim of a phase; `taken` are those of all phases before."""
    return np.uintp(atomic_add(job.claims, 1) - taken)


@jit
def pass_range(tag, job, layers, row, end, start, batch_rows, key, weight, clock):
    """Phase 1 of rows `row` .. `end`, in blocks."""
    block_rows = even_blocks(end - row, job.block_rows)
    while row < end and atomic_load(job.stop) == 0:
        rows = min(block_rows, end - row)
        pass_rows(job, layers, row, rows, start, row, batch_rows, key, weight, clock, tag)
        row += rows


@jit
def phase_one(tag, job, layers, thread, start, batch_rows, key, weight, taken):
    """This thread's share of the rows of a batch, or of its groups; returns the claims taken by all threads since."""
    slot, parts = np.uintp(thread), np.uintp(job.n_threads)
    clock = ticks.thread_clock(job, thread)
    if job.n_groups > 0:
        group = take(job, taken)
        while group < job.n_groups:
            if atomic_load(job.stop) == 0:
                pass_group(job, layers, slot, group, start, batch_rows, key, weight, clock, tag)
            group = take(job, taken)
        return taken + np.int64(job.n_groups) + job.n_threads
    if job.dynamic == 0 or parts == ONE:
        row, end = share(batch_rows, slot, parts), share(batch_rows, slot + ONE, parts)
        pass_range(tag, job, layers, row, end, start, batch_rows, key, weight, clock)
        return taken
    number = take(job, taken)
    while number < CLAIM_ROUNDS * parts:
        row, end = cut(batch_rows, number, parts), cut(batch_rows, number + ONE, parts)
        pass_range(tag, job, layers, row, end, start, batch_rows, key, weight, clock)
        number = take(job, taken)
    return taken + np.int64((CLAIM_ROUNDS + ONE) * parts)


@jit
def thread_rates(job, thread):
    """Address where a thread keeps the rates of the step: the head of its scratch."""
    return job.scratch + np.uintp(thread) * job.scratch_size


@jit
def phase_two(tag, job, layers, thread, batch_rows, rates, use, taken):
    """This thread's share of the weight blocks; returns the claims taken by all threads since."""
    slot, parts = np.uintp(thread), np.uintp(job.n_threads)
    scratch, clock = thread_rates(job, thread) + np.uintp(RATES_BYTES), ticks.thread_clock(job, thread)
    if job.dynamic == 0 or parts == ONE:
        first, end = share(job.n_blocks, slot, parts), share(job.n_blocks, slot + ONE, parts)
        pass_blocks(job, layers, first, end, batch_rows, rates, use, scratch, clock, tag)
        return taken
    number = take(job, taken)
    while number < CLAIM_ROUNDS * parts:
        first, end = cut(job.n_blocks, number, parts), cut(job.n_blocks, number + ONE, parts)
        pass_blocks(job, layers, first, end, batch_rows, rates, use, scratch, clock, tag)
        number = take(job, taken)
    return taken + np.int64((CLAIM_ROUNDS + ONE) * parts)


@jit
def constrain(job, layers, thread, tag):
    """After an update: this thread's share of the panels, held to the largest norm of a unit's weights."""
    scratch = thread_rates(job, thread) + np.uintp(RATES_BYTES)
    hold_norms(layers, job.max_norm, np.uintp(thread), np.uintp(job.n_threads), scratch, tag)


@jit
def sum_losses(tag, job, batch_rows):
    """J of a batch: the row losses added in double precision, in their order."""
    losses = view(job.row_losses, batch_rows, tag)
    total = 0.0
    for r in range(batch_rows):
        total += np.float64(losses[r])
    return total / float(batch_rows * job.loss_columns)


@jit
def check(job):
    """Before a barrier: make a wish to stop known to all threads, who read the same status after it."""
    if atomic_load(job.stop) != 0:
        atomic_store(job.status, STOPPED)


@jit
def train(tag, job, layers, thread):
    """n_steps of gradient descent, across the ends of epochs, with the losses written as they come."""
    passed = taken = np.int64(0)
    position, epoch = job.position, job.epoch
    lead = thread == 0
    rates, clock = thread_rates(job, thread), ticks.thread_clock(job, thread)
    losses = view(job.losses, job.n_steps, 0.0)
    late = job.shuffle == SHUFFLE_NOW  # an epoch goes on whose order is not there
    for s in range(job.n_steps):
        if job.shuffle != 0 and (position == 0 or late):
            late = False
            if lead:
                shuffle(job.order, job.subset, job.n_samples, job.seed, epoch)
            passed = barrier(job.barrier, job.n_threads, passed)
        rows = min(job.batch_size, job.n_samples - position)
        weight = batch_weight(job, position, rows)
        key = step_key(job, job.t + s)
        taken = phase_one(tag, job, layers, thread, position, rows, key, weight, taken)
        check(job)
        since = ticks.start(clock)
        passed = barrier(job.barrier, job.n_threads, passed)
        ticks.charge(clock, ticks.BARRIER, since)
        if atomic_load(job.status) != RUNNING:
            return
        if lead:
            loss = sum_losses(tag, job, rows)
            losses[s] = loss
            if job.row_weights != 0:
                view(job.mean_weights, job.n_steps, 0.0)[s] = weight / float(rows)
        write_rates(tag, job, job.t + s + ONE, s, rates)
        if job.two_pass != 0:
            taken = phase_two(tag, job, layers, thread, rows, rates, STORE_GRADIENT, taken)
            check(job)
            passed = barrier(job.barrier, job.n_threads, passed)
            if atomic_load(job.status) != RUNNING:
                return
            write_clip_scale(tag, job, rates)
            taken = phase_two(tag, job, layers, thread, rows, rates, USE_GRADIENT, taken)
        else:
            taken = phase_two(tag, job, layers, thread, rows, rates, FUSED, taken)
        if job.max_norm > 0.0:
            passed = barrier(job.barrier, job.n_threads, passed)
            constrain(job, layers, thread, tag)
        if lead:
            job.steps_done = s + ONE
            if loss - loss != 0.0:
                atomic_store(job.status, DIVERGED)
        since = ticks.start(clock)
        passed = barrier(job.barrier, job.n_threads, passed)
        ticks.charge(clock, ticks.BARRIER, since)
        if atomic_load(job.status) == DIVERGED:
            return
        position += rows
        if position == job.n_samples:
            position = ZERO
            epoch += ONE


@jit
def backprop(tag, job, layers, thread):
    """Loss and gradient of all samples as one batch; parameters stay as they are."""
    weight, key = batch_weight(job, ZERO, job.n_samples), step_key(job, job.t)
    taken = phase_one(tag, job, layers, thread, ZERO, job.n_samples, key, weight, np.int64(0))
    check(job)
    barrier(job.barrier, job.n_threads, np.int64(0))
    if atomic_load(job.status) == RUNNING:
        phase_two(tag, job, layers, thread, job.n_samples, ZERO, STORE_GRADIENT, taken)
        if thread == 0:
            view(job.losses, 1, 0.0)[0] = sum_losses(tag, job, job.n_samples)


@jit
def infer(tag, job, layers, thread):
    """Outputs of the last layer before its activation, or the loss of every row, without gradients."""
    slot = np.uintp(thread)
    row = slot * job.block_rows
    top = layers[job.n_layers - ONE]
    item = itemsize(tag)
    place = take(job, np.int64(0)) * job.block_rows
    while place < job.n_samples and atomic_load(job.stop) == 0:
        rows = min(job.block_rows, job.n_samples - place)
        clock = ticks.thread_clock(job, thread)
        pass_rows(job, layers, row, rows, ZERO, place, job.n_samples, ZERO, 0.0, clock, tag)
        if job.outputs != 0:
            for r in range(rows):
                source = view(top.outputs + (row + r) * top.output_row, top.n_out, tag)
                target = view(job.outputs + (place + r) * top.n_out * item, top.n_out, tag)
                for j in range(top.n_out):
                    target[j] = source[j]
        place = take(job, np.int64(0)) * job.block_rows
    check(job)


@leaf(types.Array(Job, 1, "C"), types.Array(Layer, 1, "C"), types.int64)
def run(jobs, layers, thread, tag):
    """Carry one thread through the job; see `fastbp.kernels.records` for what it holds."""
    job = jobs[0]
    if job.mode == TRAIN:
        train(tag, job, layers, thread)
    elif job.mode == BACKPROP:
        backprop(tag, job, layers, thread)
    elif job.mode == UPDATE:
        rates = thread_rates(job, thread)
        write_rates(tag, job, job.t + ONE, ZERO, rates)
        write_clip_scale(tag, job, rates)
        phase_two(tag, job, layers, thread, ZERO, rates, USE_GRADIENT, np.int64(0))
        if job.max_norm > 0.0:
            barrier(job.barrier, job.n_threads, np.int64(0))
            constrain(job, layers, thread, tag)
    else:
        infer(tag, job, layers, thread)
