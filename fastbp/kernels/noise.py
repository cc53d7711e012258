"""Dropout and input noise from a counter-based generator: every number is a function of where it is used.

The key of a step is mixed from seed and step, that of a row from it, the layer and the row's place in the batch; the
number of a unit from that. So the bits depend neither on the number of threads nor on where a training was resumed, and
nothing has to be stored.
"""

from __future__ import annotations

import numpy as np
from numba import types

from fastbp.kernels.activations import log
from fastbp.kernels.gather import mix
from fastbp.kernels.jit import element, jit, leaf
from fastbp.kernels.records import BlockType, Job, Layer, MatrixType
from fastbp.kernels.simd import ONE, cast, fma, polynomial, view

# sqrt(2) erfinv(x) by the polynomials in -log(1 - x^2) of Giles, "Approximating the erfinv function" (GPU Computing
# Gems 2, 2011), single precision: relative error below 4e-7, in either precision of the network.
NORMAL_CENTRE = (
    2.81022636e-08, 3.43273939e-07, -3.5233877e-06, -4.39150654e-06, 0.00021858087, -0.00125372503, -0.00417768164,
    0.246640727, 1.50140941,
)  # fmt: skip
NORMAL_TAIL = (
    -0.000200214257, 0.000100950558, 0.00134934322, -0.00367342844, 0.00573950773, -0.0076224613, 0.00943887047,
    1.00167406, 2.83297682,
)  # fmt: skip


@jit
def step_key(job, step):
    """Key of the random numbers of update number `step`, from 0; 0 if this call wants none."""
    if job.noisy == 0:
        return np.uint64(0)
    return mix(job.seed ^ mix(np.uint64(step) + np.uint64(0xD1B54A32D192ED03))) | ONE


@jit
def row_key(key, layer, place):
    """The key of a row of the batch in a layer; layer 0 are the inputs."""
    return mix(key ^ (np.uint64(layer) << np.uint64(48)) ^ np.uint64(place))


@jit
def draw(column, low, high):
    """32 random bits of a unit, by the halves of the row's key: the rounds of Wellons's lowbias32 hash."""
    x = np.uint32(np.uint32(column) + low)
    x = np.uint32(np.uint32(x ^ np.uint32(x >> np.uint32(16))) * np.uint32(0x7FEB352D))
    x = np.uint32(x ^ high)
    x = np.uint32(np.uint32(x ^ np.uint32(x >> np.uint32(15))) * np.uint32(0x846CA68B))
    return np.uint32(x ^ np.uint32(x >> np.uint32(16)))


@leaf(Layer, types.uintp, types.uintp, BlockType, types.uintp, types.uintp)
def drop(layer, number, key, block, first, end, tag):
    """Dropout: set random units of a hidden layer to zero and scale the others up, in f(z) and in f'(z).

    first, end: the units that are meant.

    This is the inverted form (Srivastava et al. 2014): inference needs no scaling.
    """
    zero, scale, below = cast(tag, 0.0), cast(tag, layer.dropout_scale), np.uint32(layer.drop_below)
    start = block.row * layer.output_row
    for r in range(block.rows):
        bits = row_key(key, number, block.place + r)
        low, high = np.uint32(bits), np.uint32(bits >> np.uint64(32))
        outputs = view(layer.outputs + start + r * layer.output_row, end, tag)
        slopes = view(layer.deltas + start + r * layer.output_row, end, tag)
        for j in range(first, end):
            factor = scale if draw(j, low, high) >= below else zero
            outputs[j] *= factor
            slopes[j] *= factor


_centre, _tail = polynomial(NORMAL_CENTRE, NORMAL_CENTRE), polynomial(NORMAL_TAIL, NORMAL_TAIL)


@element
def _normal(x):
    """A standard normal number from x, uniform in (-1, 1): sqrt(2) erfinv(x)."""
    w = -log((cast(x, 1.0) - x) * (cast(x, 1.0) + x))
    near, far = _centre(w - cast(x, 2.5)), _tail(np.sqrt(w) - cast(x, 3.0))
    return cast(x, 1.4142135623730951) * x * (near if w < cast(x, 5.0) else far)


@leaf(Job, MatrixType, types.uintp, BlockType, types.uintp)
def add_noise(job, inputs, key, block, n, tag):
    """Add normal noise of a given standard deviation to the gathered inputs, after their scaling."""
    spread = cast(tag, job.input_noise)
    half, step, one = cast(tag, 0.5), cast(tag, 2.0**-22), cast(tag, 1.0)
    for r in range(block.rows):
        bits = row_key(key, np.uint64(0), block.place + r)
        low, high = np.uint32(bits), np.uint32(bits >> np.uint64(32))
        x = view(inputs.address + r * inputs.row, n, tag)
        for j in range(n):
            # 23 bits, in the middle of their interval: exact in single precision, never -1 or 1
            uniform = fma(cast(tag, np.int32(draw(j, low, high) >> np.uint32(9))) + half, step, -one)
            x[j] = fma(spread, _normal(uniform), x[j])
