"""Cost functions: the loss of every row, and dJ/dz of the output layer where its derivative was.

An element-wise loss is one function `(p, y, parameter) -> (loss, dloss/dp)` and one line of ELEMENT_LOSSES; one that
needs a whole row of outputs is a function like `cross_entropy` and one line of ROW_LOSSES.
Sources: Goodfellow et al., Deep Learning, 6.2; Huber 1964.
"""

from __future__ import annotations

import numpy as np
from numba import types

from fastbp.kernels.activations import exp, exp_in_place, expm1, log, log1p, log_in_place
from fastbp.kernels.few_classes import FOUR, cross_entropy_of_few, label_of
from fastbp.kernels.jit import element, jit, leaf, switch
from fastbp.kernels.records import LABELS, BatchType, BlockType, Job, Layer
from fastbp.kernels.rows import put_four, row_scale, row_shift, row_sum
from fastbp.kernels.simd import ONE, TWO, cast, fma, itemsize, lanes, row_number, view, whole
from fastbp.kernels.squeeze import four_of, squeeze


@element
def mse(p, y, parameter):
    """(p - y)^2"""
    difference = p - y
    return difference * difference, difference + difference


@element
def mae(p, y, parameter):
    """|p - y|, with derivative 0 at p = y"""
    difference = p - y
    zero = cast(p, 0.0)
    sign = cast(p, 1.0) if difference > zero else cast(p, -1.0)
    return abs(difference), (difference if difference == zero or difference != difference else sign)


@element
def huber(p, y, parameter):
    """d^2 / 2 for |d| <= delta, else delta (|d| - delta / 2), d = p - y"""
    difference = p - y
    size = abs(difference)
    inside = size <= parameter
    half = cast(p, 0.5)
    slope = parameter if difference > cast(p, 0.0) else -parameter
    slope = slope if difference == difference else difference
    return (
        half * difference * difference if inside else parameter * (size - half * parameter),
        difference if inside else slope,
    )


@element
def poisson(z, y, parameter):
    """e^z - y z: the negative log-likelihood of a count y at rate e^z, without its constant"""
    rate = exp(z)
    return rate - y * z, rate - y


@element
def binary_cross_entropy(z, y, parameter):
    """-y log s - (1 - y) log(1 - s) with s = 1 / (1 + e^-z), as max(z, 0) - z y + log(1 + e^-|z|)"""
    e = exp(-abs(z))
    zero, one = cast(z, 0.0), cast(z, 1.0)
    negative = z < zero
    s = (e if negative else one) / (one + e)
    return (zero if negative else z) - z * y + log1p(e), s - y


@element
def log_cosh(p, y, parameter):
    """log cosh(d) with derivative tanh(d), d = p - y, by s = e^-|d| - 1: near zero and far away nothing cancels"""
    difference = p - y
    size, one = abs(difference), cast(p, 1.0)
    s = expm1(-size)
    e = one + s
    near = size < one
    value = log1p(cast(p, 0.5) * s * s / e if near else e * e)
    slope = -s * (cast(p, 2.0) + s) / (one + e * e)
    return (
        value if near else value + (size - cast(p, 0.6931471805599453)),
        slope if difference > cast(p, 0.0) else -slope,
    )


@element
def quantile(p, y, parameter):
    """max((1 - q) d, -q d), d = p - y and q the parameter, with derivative 0 at d = 0"""
    difference = p - y
    zero = cast(p, 0.0)
    slope = cast(p, 1.0) - parameter if difference > zero else -parameter
    slope = difference if difference == zero or difference != difference else slope
    return slope * difference, slope


@element
def pseudo_huber(p, y, parameter):
    """delta^2 (sqrt(1 + (d / delta)^2) - 1), d = p - y, as |d| m / (1 + root), m the smaller of |d| and delta

    By the ratio of the smaller to the larger: no square overflows, and near zero nothing cancels.
    """
    difference = p - y
    size, one = abs(difference), cast(p, 1.0)
    far = size > parameter
    zero = cast(p, 0.0)
    smaller, larger = (parameter if far else size), (size if far else parameter)
    ratio = zero if larger == zero else smaller / larger  # a tiny delta is 0 in single precision
    root = np.sqrt(fma(ratio, ratio, one))
    slope = smaller / root
    return (
        size * (smaller / (root + (ratio if far else one))),
        -slope if difference < zero else slope,
    )


# The code of an element-wise loss is its position; those of ROW_LOSSES, at the end of this file, come after.
ELEMENT_LOSSES = {
    "mse": mse,
    "mae": mae,
    "huber": huber,
    "poisson": poisson,
    "binary_cross_entropy": binary_cross_entropy,
    "log_cosh": log_cosh,
    "quantile": quantile,
    "pseudo_huber": pseudo_huber,
}


def _loss_loop(function):
    @jit
    def loop(values, deltas, outputs, targets, parameter, scale, n, tag):
        p, y = view(outputs, n, tag), view(targets, n, tag)
        j, d = view(values, n, tag), view(deltas, n, tag)
        for i in range(whole(n, tag)):
            value, slope = function(p[i], y[i], parameter)
            j[i] = value
            d[i] = d[i] * (slope * scale)

    return loop


_loss_loops = switch([_loss_loop(function) for function in ELEMENT_LOSSES.values()])


@jit
def _gather_targets(targets, row_stride, y, order, first, rows, n_out, tag):
    """Copy the targets of some rows to (rows, row_stride)."""
    for r in range(rows):
        source = view(y + row_number(order, first + r) * n_out * itemsize(tag), n_out, tag)
        target = view(targets + r * row_stride, n_out, tag)
        for j in range(n_out):
            target[j] = source[j]


@jit
def _close_rows(row_losses, deltas, values, rows, n_out, row_stride, tag):
    """Sum the loss of each row, and set the padding of its delta to zero, since products read it."""
    stride = row_stride // itemsize(tag)
    totals = view(row_losses, rows, tag)
    for r in range(rows):
        value, delta = view(values + r * row_stride, stride, tag), view(deltas + r * row_stride, stride, tag)
        total = cast(tag, 0.0)
        for j in range(n_out):
            total += value[j]
        for j in range(n_out, stride):
            delta[j] = cast(tag, 0.0)
        totals[r] = total


@jit
def _targets_by_units(targets, y, order, first, rows, n_out, tag):
    """The targets of some rows of up to four numbers, unit by unit."""
    out = view(targets, rows * n_out, tag)
    for i in range(rows):
        r = np.uintp(i)
        source = view(y + row_number(order, first + r) * n_out * itemsize(tag), n_out, tag)
        out[r] = source[0]
        if n_out > ONE:
            out[rows + r] = source[1]
        if n_out > TWO:
            out[TWO * rows + r] = source[2]
        if n_out > TWO + ONE:
            out[(TWO + ONE) * rows + r] = source[3]


@jit
def _close_units(row_losses, deltas, values, slopes, rows, n_out, tag):
    """`_close_rows` of up to four numbers a row that stand unit by unit."""
    totals, j, d = view(row_losses, rows, tag), view(values, rows * n_out, tag), view(slopes, rows * n_out, tag)
    for i in range(rows):
        r, total = np.uintp(i), cast(tag, 0.0)
        for k in range(n_out):
            total += j[np.uintp(k) * rows + r]
        totals[r] = total
        a, b, c, e = four_of(d, r, rows, n_out, tag)
        put_four(deltas + r * lanes(tag) * itemsize(tag), a, b, c, e)


@leaf(Job, Layer, types.uintp, BlockType, types.uintp, types.float64)
def element_loss(job, layer, losses, block, first, scale, tag):
    """Element-wise loss of a block of rows; deltas hold f'(z) and receive dJ/dz = scale * dloss/dp * f'(z).

    Where a row is padding for the most part, its numbers are first brought together. (One output, 32 rows: 0.3.)
    """
    start, rows, stride, n_out = block.row * layer.output_row, block.rows, layer.output_row, layer.n_out
    targets, values, deltas = job.targets + start, job.loss_values + start, layer.deltas + start
    outputs, slopes, n = layer.outputs + start, deltas, rows * stride // itemsize(tag)
    half = (rows * n_out + lanes(tag)) * itemsize(tag)
    few = n_out <= min(FOUR, lanes(tag)) and TWO * half <= rows * stride
    if few:  # outputs behind the targets, slopes behind the losses
        outputs, slopes, n = targets + half, values + half, rows * n_out
        squeeze(outputs, layer.outputs + start, rows, n_out, tag)
        squeeze(slopes, deltas, rows, n_out, tag)
        _targets_by_units(targets, job.y, job.order, first, rows, n_out, tag)
    else:
        _gather_targets(targets, stride, job.y, job.order, first, rows, n_out, tag)
    _loss_loops(
        job.loss, values, slopes, outputs, targets, cast(tag, job.loss_parameter), cast(tag, scale), n, tag
    )  # fmt: skip
    if few:
        _close_units(losses, deltas, values, slopes, rows, n_out, tag)
    else:
        _close_rows(losses, deltas, values, rows, n_out, stride, tag)


@leaf(Job, Layer, types.uintp, BlockType, types.uintp)
def given_deltas(job, layer, losses, block, first, tag):
    """Copy dJ/dz of the output layer, which the caller gives instead of targets; the losses become zero."""
    start, rows, stride = block.row * layer.output_row, block.rows, layer.output_row
    _gather_targets(layer.deltas + start, stride, job.y, job.order, first, rows, layer.n_out, tag)
    zeros = view(job.loss_values + start, rows * stride // itemsize(tag), tag)
    for i in range(rows * stride // itemsize(tag)):
        zeros[i] = cast(tag, 0.0)
    _close_rows(losses, layer.deltas + start, job.loss_values + start, rows, layer.n_out, stride, tag)


@jit
def batch_weight(job, start, rows):
    """Sum of the weights of a batch, which begins at `start` of the epoch; 0 where rows have none.

    Added up by each thread for itself, in the order of the rows: the same bits in all of them, without a barrier.
    """
    total = 0.0
    if job.row_weights != 0:
        for r in range(rows):
            number = row_number(job.order, start + r)
            total += view(job.row_weights, number + ONE, 0.0)[number]
    return total


@leaf(Job, Layer, types.uintp, BlockType, BatchType)
def weigh_rows(job, layer, losses, block, batch, tag):
    """Multiply loss and delta of each row by its weight over the mean of the batch's weights.

    The mean over the rows thereby becomes sum w J / sum w. A loss kernel need not know of weights: this second pass is
    over the output layer alone, and hot in the cache. Of a row of weight 0, infinity and NaN go too.
    """
    stride, found = layer.output_row // itemsize(tag), view(losses, block.rows, tag)
    for r in range(block.rows):
        number = row_number(job.order, batch.start + block.place + r)
        weight = view(job.row_weights, number + ONE, 0.0)[number]
        delta = view(layer.deltas + (block.row + r) * layer.output_row, stride, tag)
        if weight == 0.0:
            for j in range(stride):
                delta[j] = cast(tag, 0.0)
            found[r] = cast(tag, 0.0)
        else:
            factor = cast(tag, weight * float(batch.rows) / batch.weight)
            for j in range(stride):
                delta[j] *= factor
            found[r] *= factor


@jit
def softmax(result, maxima, sums, outputs, rows, n_out, row_stride, tag):
    """result = e^(z - max z), unscaled; sums[r] = their sum over the row, at least 1; the padding becomes 0."""
    stride, n_vectors = row_stride // itemsize(tag), row_stride // (itemsize(tag) * lanes(tag))
    totals = view(sums, rows, tag)
    for r in range(rows):
        largest = row_shift(result + r * row_stride, outputs + r * row_stride, n_vectors, n_out, tag)
        view(maxima + r * row_stride, ONE, tag)[0] = largest
    exp_in_place(result, rows * stride, tag)
    for r in range(rows):
        totals[r] = row_sum(result + r * row_stride, n_vectors, tag)


@jit
def _softmax(job, layer, row_losses, block, scale, tag):
    """Deltas: scale * softmax(z); row_losses: log sum e^(z - max z); the first of a row's loss_values: max z."""
    rows, row_stride, start = block.rows, layer.output_row, block.row * layer.output_row
    outputs, deltas, maxima = layer.outputs + start, layer.deltas + start, job.loss_values + start
    n_vectors = row_stride // (itemsize(tag) * lanes(tag))
    softmax(deltas, maxima, row_losses, outputs, rows, layer.n_out, row_stride, tag)
    sums = view(row_losses, rows, tag)
    for r in range(rows):
        row_scale(deltas + r * row_stride, cast(tag, scale) / sums[r], n_vectors)
    log_in_place(row_losses, rows, tag)


@jit
def cross_entropy(job, layer, row_losses, block, first, scale, tag):
    """J = -sum_j y_j log softmax(z)_j by row; deltas receive dJ/dz = scale * (softmax(z) - y).

    The loss's parameter s smooths the targets: y becomes (1 - s) y + s / C.
    """
    smooth = cast(tag, job.loss_parameter)
    if (
        job.y_kind == np.uint64(LABELS)
        and block.rows >= FOUR
        and layer.n_out <= min(FOUR, lanes(tag))
        and smooth == cast(tag, 0.0)
    ):
        cross_entropy_of_few(job, layer, row_losses, block, first, scale, tag)
        return
    share, rest = smooth / cast(tag, float(layer.n_out)), cast(tag, 1.0) - smooth
    rows, n_out, row_stride, order, y = block.rows, layer.n_out, layer.output_row, job.order, job.y
    start = block.row * row_stride
    outputs, deltas, maxima = layer.outputs + start, layer.deltas + start, job.loss_values + start
    stride, losses = row_stride // itemsize(tag), view(row_losses, rows, tag)
    _softmax(job, layer, row_losses, block, scale, tag)
    for r in range(rows):
        z, d = view(outputs + r * row_stride, stride, tag), view(deltas + r * row_stride, stride, tag)
        largest = view(maxima + r * row_stride, ONE, tag)[0]
        number = row_number(order, first + r)
        if job.y_kind == np.uint64(LABELS):
            label = label_of(job, number, n_out)
            d[label] -= cast(tag, scale) * rest
            losses[r] += (largest - z[label]) * rest
        else:
            target = view(y + number * n_out * itemsize(tag), n_out, tag)
            total, mass = cast(tag, 0.0), cast(tag, 0.0)
            for j in range(n_out):
                total += target[j] * (largest - z[j])
                mass += target[j]
            mass = mass * rest + smooth
            for j in range(n_out):  # mass: 1, but for the rounding of the targets
                d[j] = d[j] * mass - cast(tag, scale) * rest * target[j]
            losses[r] = losses[r] * mass + total * rest
        if smooth != cast(tag, 0.0):
            spread = cast(tag, 0.0)
            for j in range(n_out):
                spread += largest - z[j]
                d[j] -= cast(tag, scale) * share
            losses[r] += spread * share


@element
def focal_term(log_p, gamma):
    """-(1 - p)^gamma log p, and its derivative by log p"""
    one, rest = cast(log_p, 1.0), -expm1(log_p)
    weight = exp(gamma * log(rest))
    weight = one if gamma == cast(log_p, 0.0) else weight
    ratio = -one if rest == cast(log_p, 0.0) else log_p / rest
    return -weight * log_p, weight * (gamma * (one - rest) * ratio - one)


@jit
def focal(job, layer, row_losses, block, first, scale, tag):
    """J = -sum_j y_j (1 - p_j)^gamma log p_j by row, p = softmax(z); deltas receive scale * dJ/dz.

    With a_j = y_j times the derivative by log p_j, dJ/dz = a - p sum_j a_j. The loss's parameter is gamma.
    """
    gamma, factor = cast(tag, job.loss_parameter), cast(tag, scale)
    rows, n_out, row_stride, start = block.rows, layer.n_out, layer.output_row, block.row * layer.output_row
    stride, losses = row_stride // itemsize(tag), view(row_losses, rows, tag)
    _softmax(job, layer, row_losses, block, 1.0, tag)
    for r in range(rows):
        place = start + r * row_stride
        z, d = view(layer.outputs + place, stride, tag), view(layer.deltas + place, stride, tag)
        a = view(job.loss_values + place, stride, tag)
        largest, log_sum, number = a[0], losses[r], row_number(job.order, first + r)
        if job.y_kind == np.uint64(LABELS):
            label = label_of(job, number, n_out)
            losses[r], slope = focal_term((z[label] - largest) - log_sum, gamma)
            for j in range(n_out):
                d[j] *= -slope * factor
            d[label] += slope * factor
        else:
            target = view(job.y + number * n_out * itemsize(tag), n_out, tag)
            total, slopes = cast(tag, 0.0), cast(tag, 0.0)
            for j in range(n_out):
                value, slope = focal_term((z[j] - largest) - log_sum, gamma)
                a[j] = target[j] * slope
                total += target[j] * value
                slopes += a[j]
            for j in range(n_out):
                d[j] = factor * (a[j] - d[j] * slopes)
            losses[r] = total


ROW_LOSSES = {"cross_entropy": cross_entropy, "focal": focal}
FIRST_ROW_LOSS = np.uint64(len(ELEMENT_LOSSES))
LOSS_CODES = {name: code for code, name in enumerate([*ELEMENT_LOSSES, *ROW_LOSSES])}
_row_losses = switch([*ROW_LOSSES.values()])


@leaf(Job, Layer, types.uintp, BlockType, types.uintp, types.float64, calls=[exp_in_place, log_in_place])
def row_loss(job, layer, losses, block, first, scale, tag):
    """A loss that needs whole rows, of a block of rows; deltas receive dJ/dz times scale."""
    _row_losses(job.loss - FIRST_ROW_LOSS, job, layer, losses, block, first, scale, tag)
