"""How data are standardised: the mean and the deviation of each column."""

from __future__ import annotations

import numpy as np

from fastbp.numerics import quiet
from fastbp.types import Array

# Rows summed at a time.
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
