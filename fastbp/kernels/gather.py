"""Copies the rows of a batch from the data, in the order of the epoch: any strides, three types, scaled if wanted."""

from __future__ import annotations

import numpy as np
from numba import types

from fastbp.kernels.atomics import atomic_max
from fastbp.kernels.jit import element, jit, leaf, switch
from fastbp.kernels.records import BAD_INPUT, FLOAT32, FLOAT64, Job, MatrixType
from fastbp.kernels.rows import copy_row
from fastbp.kernels.simd import ONE, TWO, ZERO, cast, is_single, itemsize, prefetch_part, row_number, view
from fastbp.kernels.tuning import PREFETCH_LINES

LINE = np.uint64(64)
KINDS = np.uint64(3)  # values of JOB["X_kind"]


def _copy_loop(sample):
    """Copy of n elements `stride` bytes apart, of the type of `sample`."""

    size = np.dtype(sample).itemsize

    @jit
    def loop(target, source, stride, n, tag):
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


# --- scaling ------------------------------------------------------------------------------------------------
# Equal numbers give equal bits, whatever their type. In double precision alone, that would take 4 ns more a
# row of 64, which is 6 % of a small network's prediction: so a float32 network scales in single precision what a
# float32 can hold, wherever that is as exact.


@element
def _wide(x, c, n, mean, scale, narrow, tag):
    """(x - mean) * scale in double precision: float32 leaves of a number like 1.7e9 no more than multiples of 128."""
    return cast(tag, (np.float64(x) - view(mean, n, 0.0)[c]) * view(scale, n, 0.0)[c])


@element
def _narrow(x, c, n, mean, scale, narrow, tag):
    """The same in float32, for what float32 can hold: next to a mean in two parts the first subtraction is exact."""
    parts = view(narrow, np.uintp(3) * n, tag)
    return ((cast(tag, x) - parts[c]) - parts[n + c]) * parts[TWO * n + c]


@element
def _narrow_or_wide(x, c, n, mean, scale, narrow, tag):
    """For float64: subtract in double precision what float32 cannot hold."""
    parts = view(narrow, np.uintp(3) * n, tag)
    single = cast(tag, x)
    difference = (single - parts[c]) - parts[n + c]
    if np.float64(single) != x:
        difference = cast(tag, x - view(mean, n, 0.0)[c])
    return difference * parts[TWO * n + c]


def _scale_loop(sample, one):
    """As `_copy_loop`, each element scaled on the way by the function `one`."""

    size = np.dtype(sample).itemsize

    @jit
    def loop(target, source, stride, mean, scale, narrow, n, tag):
        kind = sample(0)
        out = view(target, n, tag)
        if stride == size:
            x = view(source, n, kind)
            for c in range(n):
                out[c] = one(x[c], c, n, mean, scale, narrow, tag)
        else:
            for c in range(n):
                x = view(source + np.uintp(c) * np.uintp(stride), 1, kind)
                out[c] = one(x[0], c, n, mean, scale, narrow, tag)

    return loop


# By JOB["X_kind"]; rows that are scaled in double precision come after those that are not.
_KINDS = np.float32, np.float64, np.uint8
_WAYS = [(np.float32, _narrow), (np.float64, _narrow_or_wide), (np.uint8, _narrow), *((kind, _wide) for kind in _KINDS)]
_copy_row = switch([_copy_loop(kind) for kind in _KINDS])
_scale_row = switch([_scale_loop(kind, one) for kind, one in _WAYS])


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
def take_order(order, orders, n, number):
    """The order of row numbers that stands at place `number` among some."""
    rows, source = view(order, n, np.int64(0)), view(orders + np.uintp(number) * n * np.uintp(8), n, np.int64(0))
    for i in range(n):
        rows[i] = source[i]


@jit
def mix(x):
    """The finaliser of splitmix64: every bit of x reaches every bit of the result."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@jit
def _gather_rows(target, x, x_row, order, first, rows, n_in, tag):
    """`gather` of rows that are copied as they are; what it reads of the job is an argument, and in registers."""
    for r in range(rows):
        source = x + np.uintp(np.int64(row_number(order, first + r)) * x_row)
        copy_row(target.address + r * target.row, source, n_in, tag)


@leaf(Job, MatrixType, *[types.uintp] * 3)
def gather(job, target, first, rows, n_in, tag):
    """Bring rows first .. first + rows of the epoch to `target`, scaled; look for NaN and infinity if asked."""
    lines = n_in * np.uintp(abs(job.X_column)) // LINE if job.order != 0 else ZERO
    if lines < PREFETCH_LINES:
        lines = ZERO
    kind = np.uint64(FLOAT32) if is_single(tag) else np.uint64(FLOAT64)
    as_it_is = job.x_mean == 0 and job.X_kind == kind and job.X_column == np.int64(itemsize(tag))
    if as_it_is and job.scan == 0 and lines == ZERO:
        _gather_rows(target, job.X, job.X_row, job.order, first, rows, n_in, tag)
        return
    way = job.X_kind if job.x_narrow != 0 else job.X_kind + KINDS
    for r in range(rows):
        row = row_number(job.order, first + r)
        out = target.address + r * target.row
        if lines != ZERO and r + ONE < rows:
            ahead = row_number(job.order, first + r + ONE)
            prefetch_part(job.X + np.uintp(np.int64(ahead) * job.X_row), LINE, lines, ZERO, ONE)
        source = job.X + np.uintp(np.int64(row) * job.X_row)
        if job.x_mean != 0:
            _scale_row(way, out, source, job.X_column, job.x_mean, job.x_scale, job.x_narrow, n_in, tag)
        else:
            _copy_row(job.X_kind, out, source, job.X_column, n_in, tag)
        if job.scan != 0:
            x = view(out, n_in, tag)
            wrong = False
            for c in range(n_in):
                wrong |= x[c] - x[c] != cast(tag, 0.0)  # NaN is unequal to all
            if wrong:
                job.bad_row = row
                atomic_max(job.status, BAD_INPUT)
