"""A trained scale on each input: x_i becomes s_i x_i, after standardisation and noise.

Its gradient needs no product of its own. With G = x^T delta, that of the effective weights s_i W_ij, the gradient of
W_ij is s_i G_ij, which phase 2 makes of the scaled inputs anyway, and that of s_i is the sum over j of W_ij G_ij: of
each panel a partial sum (`partial_sums`), which are added in the order of the panels after a barrier and divided by s_i
(`pass_input_scale`). So the bits depend neither on threads nor on placements. A scale of exactly 0 counts as ZERO_SCALE
in a product: too little to be seen there, but its gradient can be told.
"""

from __future__ import annotations

import numpy as np
from numba import types

from fastbp.kernels.jit import element, leaf
from fastbp.kernels.records import Job, Layer, MatrixType
from fastbp.kernels.rows import row_dot
from fastbp.kernels.simd import ONE, TWO, ZERO, cast, itemsize, lanes, view
from fastbp.kernels.update import clip, clips, update

ZERO_SCALE = 2.0**-96


@element
def _effective(s):
    return cast(s, ZERO_SCALE) if s == cast(s, 0.0) else s


@leaf(Job, MatrixType, types.uintp, types.uintp)
def scale_inputs(job, target, rows, n_in, tag):
    """Multiply rows of inputs, or of dJ/d(scaled inputs), by the scale of each input."""
    s = view(job.parameters + job.input_scale * itemsize(tag), n_in, tag)
    for r in range(rows):
        x = view(target.address + r * target.row, n_in, tag)
        for i in range(n_in):
            x[i] = x[i] * _effective(s[i])


@leaf(Job, Layer, *[types.uintp] * 5)
def partial_sums(job, layer, panel, first, n, weights, gradient, tag):
    """Of n rows of a panel of layer 0, from input `first` on: the sums over its units of W times the gradient of W."""
    size, item = lanes(tag), itemsize(tag)
    wide = TWO * size
    vectors = TWO if layer.n_out - panel * wide > size else ONE
    width = vectors * size * item
    padded = (layer.n_in + size - ONE) // size * size
    out = view(job.scale_partials + (panel * padded + first) * item, n, tag)
    for i in range(n):
        out[i] = row_dot(weights, gradient, vectors, tag)
        weights += width
        gradient += width


@leaf(Job, Layer, *[types.uintp] * 3)
def gradient_of_scale(job, layer, result, first, n, tag):
    """dJ/ds of n inputs from `first` on, out of the partial sums of all panels."""
    size, item = lanes(tag), itemsize(tag)
    wide, padded = TWO * size, (layer.n_in + size - ONE) // size * size
    g, s = view(result, n, tag), view(job.parameters + (job.input_scale + first) * item, n, tag)
    for i in range(n):
        g[i] = cast(tag, 0.0)
    for panel in range((layer.n_out + wide - ONE) // wide):
        part = view(job.scale_partials + (panel * padded + first) * item, n, tag)
        for i in range(n):
            g[i] += part[i]
    for i in range(n):
        g[i] = g[i] / _effective(s[i])


@leaf(Job, Layer, *[types.uintp] * 6, calls=[gradient_of_scale, clip, update])
def pass_input_scale(job, layer, first, end, rates, scratch, makes, uses, tag):
    """Phase 2 of the scales of the inputs first .. end, whole vectors of them.

    makes: their gradient is computed. uses: they are updated by it; with both 1 it is stored nowhere.
    """
    most, item = np.uintp(16) * lanes(tag), itemsize(tag)  # a gradient of weights in the scratch is larger
    while first < end:
        n = min(most, end - first)
        offset = job.input_scale + first
        gradient = scratch if makes + uses == TWO else job.gradient + offset * item
        if makes == ONE:
            gradient_of_scale(job, layer, gradient, first, n, tag)
        if uses == ONE:
            if clips(job):
                clip(job, scratch, gradient, rates, n, tag)
                gradient = scratch
            update(job, gradient, rates + job.input_rates, offset, n, ZERO, tag)
        first += n
