"""Gradient descent: the rates of a step, clipping, and the loops around the rules.

The loops are shared by all rules, and so is the function itself between the fused pass and the separate
`optimizer.update`: both give the same bits. Plain SGD, when fused, is an epilogue of the tile instead (`epilogue.py`),
by the same two FMAs.
"""

from __future__ import annotations

from collections import namedtuple

import numpy as np
from numba import types

from fastbp.kernels.jit import jit, leaf, switch
from fastbp.kernels.optimizers import N_RATES, RULES, SGD, Rates, Step
from fastbp.kernels.records import Job
from fastbp.kernels.rows import row_square_sum
from fastbp.kernels.simd import ONE, TWO, ZERO, cast, fma, itemsize, lanes, scratch, view, whole
from fastbp.kernels.squeeze import spread, squeeze
from fastbp.kernels.tuning import MAX_RUN, NORM_VECTORS


def _own_rates_of(rule):
    """A case of the switch: what computes and writes the rates that a rule has beside `Rates`."""
    if not rule.rates and not rule.coefficients:
        return _no_rates
    Coefficients, n = namedtuple("Coefficients", rule.coefficients), len(rule.coefficients)
    function, n_own = rule.rates or _as_they_are, len(rule.rate_names) - len(Rates._fields)

    @jit
    def write(coefficients, step, address, tag):  # without a loop, whose index would make a switch of the tuple
        r = view(address, N_RATES, tag)
        values = function(Coefficients(*coefficients[:n]), step)
        r[OWN] = cast(tag, values[0])
        if n_own > 1:
            r[OWN + ONE] = cast(tag, values[1])
        if n_own > 2:
            r[OWN + TWO] = cast(tag, values[2])
        if n_own > 3:
            r[OWN + TWO + ONE] = cast(tag, values[3])

    return write


@jit
def _as_they_are(coefficients, step):
    return coefficients


@jit
def _no_rates(coefficients, step, address, tag):
    return


OWN = np.uint64(len(Rates._fields))  # place of a rule's own rates
_own_rates = switch([_own_rates_of(rule) for rule in RULES.values()])


RATES_BYTES = 192  # three cache lines before the gradient block in a thread's scratch, and for each scale behind it


@jit
def write_rates(job, t, s, rates, tag):
    """Write the rates of update number t (from 1), step s of the call: those of factor 1, and of each of `lr_scale`."""
    if job.optimizer == SGD and job.lrs == ZERO and s != ZERO:  # those of the step before
        return
    scales = view(job.lr_scales, job.n_scales, 0.0)
    for number in range(job.n_scales + ONE):  # one call of the function, which is inlined
        first = number == ZERO
        scale = 1.0 if first else scales[number - ONE]
        skip = ZERO if first else job.scaled_rates + (number - ONE) * np.uintp(RATES_BYTES)
        _write_rates(job, t, s, scale, rates + skip, tag)


@jit
def _write_rates(job, t, s, scale, address, tag):
    """The rates for one factor of the learning rate, computed in double precision."""
    lr = (job.lr if job.lrs == 0 else view(job.lrs, job.n_steps, 0.0)[s]) * scale
    beta1 = job.beta1 if job.momenta == 0 else view(job.momenta, job.n_steps, 0.0)[s]
    corrected1 = 1.0 - beta1**t if beta1 > 0.0 else 1.0
    corrected2 = 1.0 - job.beta2**t if job.beta2 > 0.0 else 1.0
    r = view(address, N_RATES, tag)
    r[0] = cast(tag, lr)
    r[1] = cast(tag, lr / corrected1)
    r[2] = cast(tag, job.weight_decay)
    r[3] = cast(tag, 1.0 - lr * job.decoupled)
    r[4] = cast(tag, beta1)
    r[5] = cast(tag, 1.0 - beta1)
    r[6] = cast(tag, job.beta2)
    r[7] = cast(tag, 1.0 - job.beta2)
    root = 1.0 / np.sqrt(corrected2)
    r[8] = cast(tag, job.eps * root if job.eps_first != 0 else job.eps)
    r[9] = cast(tag, root)
    r[10] = cast(tag, scale)
    before = job.lr_before if s == ZERO or job.lrs == 0 else view(job.lrs, job.n_steps, 0.0)[s - ONE]
    r[11] = cast(tag, beta1 * before * scale / lr if job.lr_before > 0.0 else beta1)
    # Every thread reads the scalars of the last update and writes those of this one, in its own time: two places.
    size = job.n_scalars * np.uint64(8)
    step = Step(t, lr, beta1, job.beta2, job.scalars + (t - ONE & ONE) * size, job.scalars + (t & ONE) * size)
    c = job.coefficients
    _own_rates(job.optimizer, (c[0], c[1], c[2], c[3]), step, address, tag)


# In the scratch of a thread, behind the rates; two factors, since 1 / 1e38 has few digits in single precision.
CLIP_SCALE = np.uint64(N_RATES)
CLIP_REST = CLIP_SCALE + ONE
assert (int(CLIP_REST) + 1) * 8 <= RATES_BYTES
# Below this a factor is split, or applied in double precision.
SMALL_FACTOR = 2.0**-96


@jit
def clips(job):
    """True if the gradient is clipped."""
    return job.clip_norm > 0.0 or job.clip_value > 0.0


@jit
def penalises(job):
    """True if the cost has penalties on the weights."""
    return job.l1 > 0.0 or job.l2 > 0.0 or job.alpha > 0.0


@jit
def factor_of_large(address, limit, n, stride, tag):
    """The factor, at most 1, that brings n numbers, `stride` elements apart, to a norm of `limit`.

    For numbers whose squares may overflow. If NaN or infinity is among them, it is returned: divergence must be seen.
    """
    largest, total = 0.0, 0.0
    for i in range(n):
        x = abs(np.float64(view(address + np.uintp(i) * stride * itemsize(tag), ONE, tag)[0]))
        largest = x if x > largest or x != x else largest
    if largest - largest != 0.0:
        return largest
    if largest == 0.0:
        return 1.0
    for i in range(n):
        x = np.float64(view(address + np.uintp(i) * stride * itemsize(tag), ONE, tag)[0]) / largest
        total += x * x
    return min(1.0, limit / largest / np.sqrt(total))


@jit
def write_clip_scale(job, address, tag):
    """Write the factor that clips the norm of the whole gradient, which is stored, as PyTorch's clip_grad_norm_ does.

    Every thread sums all of it, in one order: cheaper than another barrier, and the same bits on any number of threads.
    """
    scale = 1.0
    if job.clip_norm > 0.0:
        total, done = 0.0, ZERO
        vectors = job.n_parameters // lanes(tag)
        while done < vectors:
            n = min(NORM_VECTORS, vectors - done)
            total += row_square_sum(job.gradient + done * lanes(tag) * itemsize(tag), n, tag)
            done += n
        if total - total == 0.0:
            scale = min(1.0, job.clip_norm / (np.sqrt(total) + 1e-6))
        else:
            scale = factor_of_large(job.gradient, job.clip_norm, job.n_parameters, ONE, tag)
    factors = view(address, CLIP_REST + ONE, tag)
    factors[CLIP_REST] = cast(tag, SMALL_FACTOR if scale < SMALL_FACTOR else 1.0)
    factors[CLIP_SCALE] = cast(tag, scale / SMALL_FACTOR if scale < SMALL_FACTOR else scale)


@leaf(Job, *[types.uintp] * 4)
def clip(job, result, gradient, rates, n, tag):
    """Scale n numbers of the gradient to the norm allowed, then clip them to the value allowed.

    Not in place: other threads may still be summing the gradient's squares.
    """
    source, g, factors = view(gradient, n, tag), view(result, n, tag), view(rates, CLIP_REST + ONE, tag)
    scale, rest = factors[CLIP_SCALE], factors[CLIP_REST]
    for i in range(n):
        g[i] = source[i] * rest * scale
    if job.clip_value > 0.0:
        high = cast(tag, job.clip_value)
        for i in range(n):
            x = g[i] if g[i] >= -high else (-high if g[i] < -high else g[i])  # NaN stays NaN
            g[i] = high if x > high else x


@leaf(Job, *[types.uintp] * 5)
def penalise(job, result, weights, gradient, n_weights, n, tag):
    """Add the gradient of l1 |w| + l2 w^2 to that of n_weights weights, and leave those of the biases behind them.

    In place before clipping, which is of the gradient of the whole cost. A gradient that is stored elsewhere stays as
    it is.
    """
    w, g = view(weights, n_weights, tag), view(result, n, tag)
    by_rows = job.alpha_rate if job.alpha > 0.0 else 0.0
    l1, l2, zero = cast(tag, job.l1), cast(tag, 2.0 * job.l2 + by_rows), cast(tag, 0.0)
    if gradient != result:
        source = view(gradient, n, tag)
        for i in range(n):
            g[i] = source[i]
    # In place: a loop from one view to another of the same numbers would not become vectors (1.5 times a step).
    for i in range(n_weights):
        sign = l1 if w[i] > zero else (-l1 if w[i] < zero else zero)
        g[i] = fma(l2, w[i], g[i]) + sign


@jit
def sum_partials(job, result, offset, n, tag):
    """Add up the gradients of the groups, in the order of the groups."""
    out = view(result, n, tag)
    for g in range(job.n_groups):
        part = view(job.partials + (g * job.n_parameters + offset) * itemsize(tag), n, tag)
        if g == 0:
            for i in range(n):
                out[i] = part[i]
        else:
            for i in range(n):
                out[i] += part[i]


def _update_loop(rule):
    """A case of the switch: the loop around a rule."""
    function, n_rates = rule.function, len(rule.rate_names)
    # One type for all rules without rates of their own: what they share is compiled once.
    kind = Rates if n_rates == len(Rates._fields) else namedtuple("OwnRates", rule.rate_names)
    if rule.n_moments == 0:

        @jit
        def loop(weights, state1, state2, state3, gradient, values, n, tag):
            w, g, r = view(weights, n, tag), view(gradient, n, tag), kind(*values[:n_rates])
            for i in range(whole(n, tag)):
                w[i] = function(w[i], g[i], r)

    elif rule.n_moments == 1:

        @jit
        def loop(weights, state1, state2, state3, gradient, values, n, tag):
            w, g, r = view(weights, n, tag), view(gradient, n, tag), kind(*values[:n_rates])
            m = view(state1, n, tag)
            for i in range(whole(n, tag)):
                w[i], m[i] = function(w[i], g[i], m[i], r)

    elif rule.n_moments == 2:

        @jit
        def loop(weights, state1, state2, state3, gradient, values, n, tag):
            w, g, r = view(weights, n, tag), view(gradient, n, tag), kind(*values[:n_rates])
            m, v = view(state1, n, tag), view(state2, n, tag)
            for i in range(whole(n, tag)):
                w[i], m[i], v[i] = function(w[i], g[i], m[i], v[i], r)

    else:

        @jit
        def loop(weights, state1, state2, state3, gradient, values, n, tag):
            w, g, r = view(weights, n, tag), view(gradient, n, tag), kind(*values[:n_rates])
            m, v, x = view(state1, n, tag), view(state2, n, tag), view(state3, n, tag)
            for i in range(whole(n, tag)):
                w[i], m[i], v[i], x[i] = function(w[i], g[i], m[i], v[i], x[i], r)

    return loop


_rules = switch([_update_loop(rule) for rule in RULES.values()])


# Layers of so few units that they fill up to a quarter of a vector; vectors for those of a run of blocks, and biases.
QUARTER, SQUEEZED = np.uint64(4), 8 * MAX_RUN + 2
SQUEEZED_ROOM = 5 * SQUEEZED  # for gradient, weights and three moments
# Fewer vectors are updated as they stand.
WORTH_SQUEEZING = np.uint64(4)


@leaf(Job, *[types.uintp] * 5)
def update(job, gradient, rates, offset, n, units, tag):
    """Update n parameters from element `offset` on, by the gradient and the rates of the step at their addresses.

    units: of the layer, where each vector holds one row of its weights. If these are few, a vector is padding for the
    most part: then they are brought together. (Adam, 16 inputs and one unit: 30 cycles a vector, 17 vectors.)
    """
    r = view(rates, N_RATES, tag)
    values = (r[0], r[1], r[2], r[3], r[4], r[5], r[6], r[7], r[8], r[9], r[10], r[11], r[12], r[13], r[14], r[15])
    skip, item, rows = offset * itemsize(tag), itemsize(tag), n // lanes(tag)
    weights, state1, state2, state3 = job.parameters + skip, job.state1 + skip, job.state2 + skip, job.state3 + skip
    few = units * QUARTER <= lanes(tag) and rows >= WORTH_SQUEEZING and units != ZERO
    if few:
        each = np.uintp(SQUEEZED) * lanes(tag) * item
        room = scratch(SQUEEZED_ROOM, tag)
        squeeze(room, gradient, rows, units, tag)
        squeeze(room + each, weights, rows, units, tag)
        gradient, weights, n = room, room + each, rows * units
        if job.state1 != ZERO:
            squeeze(room + TWO * each, state1, rows, units, tag)
            state1 = room + TWO * each
        if job.state2 != ZERO:
            squeeze(room + (TWO + ONE) * each, state2, rows, units, tag)
            state2 = room + (TWO + ONE) * each
        if job.state3 != ZERO:
            squeeze(room + TWO * TWO * each, state3, rows, units, tag)
            state3 = room + TWO * TWO * each
    _rules(job.optimizer, weights, state1, state2, state3, gradient, values, n, tag)
    if few:
        spread(job.parameters + skip, weights, rows, units, tag)
        if job.state1 != ZERO:
            spread(job.state1 + skip, state1, rows, units, tag)
        if job.state2 != ZERO:
            spread(job.state2 + skip, state2, rows, units, tag)
        if job.state3 != ZERO:
            spread(job.state3 + skip, state3, rows, units, tag)


@jit
def update_blocks(job, layer, gradient, rates, offset, n, n_weights, tag):
    """Update n parameters of a layer: n_weights weights, and behind them biases, which may have rates of their own."""
    first = n if layer.weight_rates == layer.bias_rates else n_weights
    update(job, gradient, rates + layer.weight_rates, offset, first, layer.n_out, tag)
    if first < n:
        skip = first * itemsize(tag)
        update(job, gradient + skip, rates + layer.bias_rates, offset + first, n - first, layer.n_out, tag)
