"""Cross-entropy of a few classes, with rows side by side in the lanes of vectors."""

from __future__ import annotations

import numpy as np

from fastbp.kernels.activations import exp, log
from fastbp.kernels.atomics import atomic_max
from fastbp.kernels.jit import element, jit
from fastbp.kernels.records import BAD_LABEL
from fastbp.kernels.rows import put_four
from fastbp.kernels.simd import ONE, TWO, ZERO, cast, itemsize, lanes, row_number, scratch, view
from fastbp.kernels.transpose import chunk, transpose_columns

THREE, FOUR, FIVE = (np.uint64(number) for number in (3, 4, 5))


@jit
def label_of(job, number, n_out):
    """The class of a row, by the row's number."""
    label = np.uintp(view(job.y, number + ONE, np.int64(0))[number])
    if label >= n_out:  # unchecked, in a small call; or changed since
        job.bad_row = number
        atomic_max(job.status, BAD_LABEL)
        label = np.uintp(0)
    return label


@element
def _larger(x, y):
    return x if x > y else y


@jit
def _few_classes(x, n_out, scale, tag):
    """Cross-entropy of as many rows as there are lanes, side by side.

    x: four vectors of outputs, class by class, which become dJ/dz, and one of labels, which become the losses. The same
    bits as of a row on its own.
    """
    size, lowest = lanes(tag), cast(tag, -np.inf)
    for i in range(size):
        z0 = x[i]
        z1 = x[size + i] if n_out > ONE else lowest
        z2 = x[TWO * size + i] if n_out > TWO else lowest
        z3 = x[THREE * size + i] if n_out > THREE else lowest
        label = x[FOUR * size + i]
        largest = _larger(_larger(z0, lowest), _larger(z1, lowest))
        largest = _larger(_larger(z2, z3), largest) if n_out > TWO else largest
        e0, e1, e2, e3 = exp(z0 - largest), exp(z1 - largest), exp(z2 - largest), exp(z3 - largest)
        total = (e0 + e2) + (e1 + e3)
        factor = scale / total
        d0, d1, d2, d3 = e0 * factor, e1 * factor, e2 * factor, e3 * factor
        zero, one, two = cast(tag, 0.0), cast(tag, 1.0), cast(tag, 2.0)
        z = z0 if label == zero else (z1 if label == one else (z2 if label == two else z3))
        x[i] = d0 - scale if label == zero else d0
        x[size + i] = d1 - scale if label == one else d1
        x[TWO * size + i] = d2 - scale if label == two else d2
        x[THREE * size + i] = d3 - scale if label > two else d3
        x[FOUR * size + i] = log(total) + (largest - z)


@jit
def cross_entropy_of_few(job, layer, row_losses, block, first, scale, tag):
    """`cross_entropy` of labels of up to four classes, unsmoothed: row by row, most of a vector would be padding."""
    size, item, start = lanes(tag), itemsize(tag), block.row * layer.output_row
    room, losses = scratch(5, tag), view(row_losses, block.rows, tag)
    x, r0 = view(room, FIVE * size, tag), ZERO
    while r0 < block.rows:
        n, place = min(size, block.rows - r0), start + r0 * layer.output_row
        for r in range(n):
            x[FOUR * size + r] = cast(tag, float(label_of(job, row_number(job.order, first + r0 + r), layer.n_out)))
        for r in range(n, size):
            x[FOUR * size + r] = cast(tag, 0.0)
        j = ZERO
        while j < layer.n_out:
            transpose_columns(
                room + j * size * item, size * item, layer.outputs + place + j * item, layer.output_row, n, tag
            )  # fmt: skip
            j += chunk(tag)
        _few_classes(x, layer.n_out, cast(tag, scale), tag)
        for r in range(n):
            row = layer.deltas + place + r * layer.output_row
            put_four(row, x[r], x[size + r], x[TWO * size + r], x[THREE * size + r])
            losses[r0 + r] = x[FOUR * size + r]
        r0 += size
