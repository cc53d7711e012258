"""Rows of the data, gathered into the batch in the order of the epoch: any strides, three element types, scaled."""

from __future__ import annotations

import numpy as np
from numba import types

from fastbp.kernels.atomics import atomic_max
from fastbp.kernels.jit import jit, leaf, switch
from fastbp.kernels.records import BAD_INPUT, Job
from fastbp.kernels.simd import ONE, ZERO, cast, prefetch_part, row_number, view

LINE = np.uint64(64)
# Rows of so many cache lines are fetched while the row before is copied: the shuffled order hides them from the CPU.
FEW_LINES = np.uint64(4)


def _gather_loop(sample):
    """Copy of n elements `stride` bytes apart, of the type of `sample`."""

    size = np.dtype(sample).itemsize

    @jit
    def loop(tag, n, source, stride, target):
        kind = sample(0)
        out = view(target, n, tag)
        if stride == size:
            x = view(source, n, kind)
            for c in range(n):
                out[c] = cast(tag, x[c])
        else:
            for c in range(n):
                out[c] = cast(tag, view(source + np.uintp(c) * np.uintp(stride), 1, kind)[0])

    return loop


# By JOB["X_kind"].
_copy_row = switch([_gather_loop(kind) for kind in (np.float32, np.float64, np.uint8)])


@jit
def shuffle(order, subset, n, seed, epoch):
    """A permutation of 0 .. n - 1, or of the n row numbers in `subset`, that depends on seed and epoch alone.

    Fisher and Yates's shuffle (Knuth, The Art of Computer Programming 2, 3.4.2 P) with the random numbers of
    splitmix64 (Steele et al. 2014).
    """
    rows = view(order, n, np.int64(0))
    for i in range(n):
        rows[i] = row_number(subset, i)
    state = mix(np.uint64(seed) ^ mix(np.uint64(epoch) + np.uint64(0x9E3779B97F4A7C15)))
    for left in range(np.uintp(n), ONE, -1):
        i = np.uintp(left) - ONE
        state += np.uint64(0x9E3779B97F4A7C15)
        # The upper 32 bits as a fraction of 2^32: exact for fewer than 2^32 rows, biased by less than 2^-32 * n.
        j = np.uintp(((mix(state) >> np.uint64(32)) * (i + ONE)) >> np.uint64(32))
        rows[i], rows[j] = rows[j], rows[i]


@jit
def mix(x):
    """The finaliser of splitmix64: every bit of x reaches every bit of the result."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@leaf(Job, *[types.uintp] * 5)
def gather(job, n_in, first, rows, target, target_row, tag):
    """Bring rows first .. first + rows of the epoch to (rows, target_row), scaled; seek NaN and infinity if asked."""
    lines = n_in * np.uintp(abs(job.X_column)) // LINE if job.order != 0 else ZERO
    if lines < FEW_LINES:
        lines = ZERO
    for r in range(rows):
        row = row_number(job.order, first + r)
        out = target + r * target_row
        if lines != ZERO and r + ONE < rows:
            ahead = row_number(job.order, first + r + ONE)
            prefetch_part(job.X + np.uintp(np.int64(ahead) * job.X_row), LINE, lines, ZERO, ONE)
        _copy_row(job.X_kind, tag, n_in, job.X + np.uintp(np.int64(row) * job.X_row), job.X_column, out)
        x = view(out, n_in, tag)
        if job.x_mean != 0:
            mean, scale = view(job.x_mean, n_in, tag), view(job.x_scale, n_in, tag)
            for c in range(n_in):
                x[c] = (x[c] - mean[c]) * scale[c]
        if job.scan != 0:
            wrong = False
            for c in range(n_in):
                wrong |= x[c] - x[c] != cast(tag, 0.0)  # NaN is unequal to all
            if wrong:
                job.bad_row = row
                atomic_max(job.status, BAD_INPUT)
