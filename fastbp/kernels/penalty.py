"""Penalties and limits that look at all weights of a step; biases are left alone."""

from __future__ import annotations

import numpy as np
from numba import types

from fastbp.kernels.blocks import blocks_per_panel, panel_vectors
from fastbp.kernels.columns import own_panels, part_of, peers
from fastbp.kernels.jit import jit, leaf
from fastbp.kernels.pairs import copy_weights
from fastbp.kernels.products import refresh_copies
from fastbp.kernels.records import Job, Layers
from fastbp.kernels.rows import row_square_sum
from fastbp.kernels.simd import ONE, TWO, ZERO, cast, itemsize, lanes, pick, view
from fastbp.kernels.tuning import NORM_VECTORS
from fastbp.kernels.update import SMALL_FACTOR, factor_of_large


@jit
def row_penalty(job, layers, batch, tag):
    """alpha / 2 |w|^2 over the weight of a batch (its rows, where they have none); leaves alpha over it in the job.

    By one thread before the step, while the others may begin: weights change in phase 2 alone, and the rate is read
    there, behind a barrier.
    """
    weight = batch.weight if job.row_weights != 0 else float(batch.rows)
    rate = job.alpha / weight if weight > 0.0 else 0.0
    job.alpha_rate = rate
    size, total = lanes(tag), 0.0
    for k in range(np.uintp(len(layers))):
        layer = layers[k]
        for panel in range((layer.n_out + TWO * size - ONE) // (TWO * size)):
            vectors = layer.n_in * panel_vectors(layer.n_out, panel, size)
            place, done = layer.weights + panel * TWO * size * (layer.n_in + ONE) * itemsize(tag), ZERO
            while done < vectors:
                n = min(np.uintp(NORM_VECTORS), vectors - done)
                total += row_square_sum(place + done * size * itemsize(tag), n, tag)
                done += n
    return 0.5 * rate * total


@leaf(Job, Layers, types.uintp, types.uintp, pairs=[copy_weights])
def limit_norms(job, layers, scratch, thread, tag):
    """Scale the incoming weights of each unit down to a Euclidean norm, in the panels of one thread.

    A projection after the update (Srebro and Shraibman 2005; Srivastava et al. 2014, 5.1).
    """
    size, largest, threads = lanes(tag), job.max_norm, np.uintp(job.n_threads)
    part, peer = part_of(job, thread)
    wide, number = TWO * size, ZERO
    for k in range(np.uintp(len(layers))):
        layer = layers[k]
        first, end = own_panels(job, layer.n_out, part, tag)
        for panel in range((layer.n_out + wide - ONE) // wide):
            if k < job.columns:
                mine = first <= panel and panel < end and (panel - first) % peers(job) == peer
            else:
                mine = number % threads == thread
            if mine:
                width = panel_vectors(layer.n_out, panel, size) * size
                weights = layer.weights + panel * wide * (layer.n_in + ONE) * itemsize(tag)
                _limit_panel(weights, scratch, largest, layer.n_in, width, tag)
                refresh_copies(layer, np.uintp(panel), ZERO, blocks_per_panel(layer, tag), tag)
            number += ONE


@jit
def _limit_panel(weights, scratch, limit, n_in, width, tag):
    factors, row, one = view(scratch, width, tag), width * itemsize(tag), cast(tag, 1.0)
    for j in range(width):
        factors[j] = cast(tag, 0.0)
    for i in range(n_in):
        w = view(weights + np.uintp(i) * row, width, tag)
        for j in range(width):
            factors[j] += w[j] * w[j]
    bound = cast(tag, limit)
    squares_underflow = bound * bound < pick(tag, 1e-37, 1e-307)
    for j in range(width):
        norm = np.sqrt(factors[j])
        factors[j] = bound / norm if norm > bound else one
        if squares_underflow or norm - norm != cast(tag, 0.0) or factors[j] < cast(tag, SMALL_FACTOR):
            _limit_column(weights + np.uintp(j) * itemsize(tag), limit, n_in, width, tag)
            factors[j] = one
    for i in range(n_in):
        w = view(weights + np.uintp(i) * row, width, tag)
        for j in range(width):
            w[j] *= factors[j]


@jit
def _limit_column(weights, limit, n_in, width, tag):
    """The same for one unit, in double precision: its squares, or the factor, are beyond that of the network."""
    factor = factor_of_large(weights, limit, n_in, width, tag)
    for i in range(n_in):
        w = view(weights + np.uintp(i) * width * itemsize(tag), ONE, tag)
        w[0] = cast(tag, np.float64(w[0]) * factor)
