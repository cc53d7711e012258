"""Mean and deviation of columns, and the summary of a network."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fastbp.numerics import quiet
from fastbp.types import Array

if TYPE_CHECKING:
    from fastbp.network import MLP

_BLOCK = 1 << 14


@quiet
def moments(array: Array, name: str) -> tuple[Array, Array]:
    """Mean and standard deviation of each column in float64, by blocks of rows; deviation 1 where nothing varies.

    Computed in half-ranges from the middle of the column, where no finite number overflows or underflows. A column
    that varies by some units in the last place of float64, as one does that is computed in two ways, does not vary.

    Raises
    ------
    ValueError
        A column cannot be divided by its deviation, or its mean not be subtracted, in float64.
    """
    n = len(array)
    blocks = [slice(start, start + _BLOCK) for start in range(0, n, _BLOCK)]
    low = np.min([array[block].min(axis=0) for block in blocks], axis=0).astype(np.float64)
    high = np.max([array[block].max(axis=0) for block in blocks], axis=0).astype(np.float64)
    middle, half = low / 2 + high / 2, high / 2 - low / 2
    still = half <= 2 * np.spacing(np.maximum(np.abs(low), np.abs(high)))
    half[still] = 1.0
    mean, squares = np.zeros(array.shape[1]), np.zeros(array.shape[1])
    # In C order, whatever that of the array is: the order of a sum decides its last bits.
    for block in blocks:
        mean += (np.subtract(array[block], middle, order="C") / half).sum(axis=0) / n
    for block in blocks:
        squares += ((np.subtract(array[block], middle, order="C") / half - mean) ** 2).sum(axis=0)
    mean, scale = middle + mean * half, np.sqrt(squares / n) * half
    mean[still], scale[still] = middle[still], 1.0
    wrong = ~(np.isfinite(1.0 / scale) & np.isfinite(high - mean) & np.isfinite(mean - low))
    if wrong.any():
        column = int(np.argmax(wrong))
        raise ValueError(
            f"column {column} of {name} runs from {low[column]:g} to {high[column]:g}, which float64 cannot "
            "standardise: multiply it by a number first, such that its values are moderate"
        )
    return mean, scale


def summary(net: MLP) -> str:
    """A table of layers, parameters and flops, and the memory that training takes."""
    rows = [("layer", "shape", "activation", "parameters")]
    names = [*net.activations, net.output_activation or "identity"]
    for k, layer in enumerate(net._plan.layers):
        rows.append((str(k), f"{layer.n_in} x {layer.n_out}", names[k], f"{(layer.n_in + 1) * layer.n_out:,}"))
    widths = [max(len(row[c]) for row in rows) for c in range(4)]
    lines = ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    if held := str(net.regularization):
        lines.append(held)
    flops = sum(2 * layer.n_in * layer.n_out for layer in net._plan.layers)
    lines.append(
        f"{net.n_parameters:,} parameters, {flops:,} flops a row forward, {net._plan.flops_per_row:,} a training row"
    )
    plain, adam = (net._plan.memory(0, n_moments) for n_moments in (0, 2))
    row = net._plan.memory(1, 0) - plain
    lines.append(
        f"memory of fit: {plain / 1e6:,.3g} MB with SGD, {adam / 1e6:,.3g} MB with Adam, and {row / 1e3:,.3g} kB for "
        "each row of a batch"
    )
    return "\n".join(lines)
