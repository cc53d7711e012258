"""Snapshots: copies of the parameters and moments, to go back to after a divergence.

When they are taken depends on the place in the data alone (`engine.layout` chooses the steps), never on the clock: the
same training leaves the same weights when it diverges.
"""

from __future__ import annotations

import numpy as np

from fastbp.kernels.blocks import share
from fastbp.kernels.jit import jit
from fastbp.kernels.simd import ONE, TWO, ZERO, cast, itemsize, view


@jit
def first_due(job, position):
    """Place in the epoch of the next snapshot after `position`; 0 where none is wanted."""
    stride = job.snapshot_steps * job.batch_size
    return (position // stride + ONE) * stride if stride != ZERO else ZERO


@jit
def is_due(job, position, epoch, due):
    """(whether a snapshot is due after the step that ended here, place of the next one).

    An epoch's end is place 0 of the next. Epochs are counted from the first one of the network.
    """
    stride = job.snapshot_steps * job.batch_size
    if position == ZERO:
        return stride != ZERO and epoch % job.snapshot_epochs == ZERO, stride
    return position == due, due + stride if position == due else due


@jit
def part(job, thread):
    """(first, elements) of the flat parameters that fall to a thread: whole cache lines."""
    lines = (job.n_parameters + np.uintp(15)) // np.uintp(16)
    first = share(lines, thread, job.n_threads) * np.uintp(16)
    end = min(share(lines, np.uintp(thread) + ONE, job.n_threads) * np.uintp(16), job.n_parameters)
    return first, end - first


@jit
def is_ruined(job, thread, tag):
    """Does a thread's part of the parameters hold NaN or infinity?"""
    first, n = part(job, thread)
    w, zero = view(job.parameters + first * itemsize(tag), n, tag), cast(tag, 0.0)
    wrong = False
    for i in range(n):
        wrong |= w[i] - w[i] != zero
    return wrong


@jit
def save(job, thread, tag):
    """Copy a thread's part of the parameters and moments; the first thread copies what belongs to all."""
    first, n = part(job, thread)
    skip = first * itemsize(tag)
    target = job.snapshot + skip
    for number in range(4):
        source = job.parameters if number == 0 else job.state1
        if number > 1:
            source = job.state2 if number == 2 else job.state3
        if source == ZERO:
            break
        x, out = view(source + skip, n, tag), view(target, n, tag)
        for i in range(n):
            out[i] = x[i]
        target += job.n_parameters * itemsize(tag)
    if thread == 0:
        n = TWO * job.n_scalars
        scalars, out = view(job.scalars, n, 0.0), view(job.snapshot_scalars, n, 0.0)
        for i in range(n):
            out[i] = scalars[i]
