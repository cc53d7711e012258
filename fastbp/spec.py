"""Values that travel together: what a network applies to its data, and what backpropagation yields."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from fastbp import arrays, losses
from fastbp.losses import Loss
from fastbp.numerics import quiet
from fastbp.types import Array


@dataclass
class Gradient:
    """What backpropagation yields: the loss and its derivative by every parameter, and by the inputs.

    Attributes
    ----------
    loss : float or None
        J of the batch; None where an output gradient was handed in.
    weights, biases : list of array
        dJ/dW ``(n_in, n_out)`` and dJ/db ``(n_out,)``, one a layer.
    inputs : array
        dJ/dX, ``(n, n_in)``; in float64 where the network standardises its inputs.
    """

    loss: float | None
    weights: list[Array]
    biases: list[Array]
    inputs: Array


@dataclass(frozen=True)
class Scaling:
    """Standardisation that a network applies by itself: ``x' = (x - mean) / scale``, and back for its predictions.

    It is computed in float64, or as exactly, whatever the dtype of the network.

    Attributes
    ----------
    x_mean, x_scale : array
        ``(n_in,)``, float64.
    y_mean, y_scale : array or None
        ``(n_out,)``, float64; None where targets stay as they are.
    """

    x_mean: Array
    x_scale: Array
    y_mean: Array | None = None
    y_scale: Array | None = None

    def __post_init__(self) -> None:
        for kind in ("x", "y"):
            names = f"{kind}_mean", f"{kind}_scale"
            if kind == "y" and all(getattr(self, name) is None for name in names):
                continue
            for name in names:
                # A copy that nobody can change: kernels read so many numbers as there are inputs.
                array = np.array(arrays.check_column(f"scaling.{name}", getattr(self, name)))
                array.flags.writeable = False
                object.__setattr__(self, name, array)
            mean, scale = (getattr(self, name) for name in names)
            if len(mean) != len(scale):
                raise ValueError(f"scaling.{names[0]} has {len(mean)} numbers, but scaling.{names[1]} {len(scale)}")
            if scale.min() <= 0.0:
                column = int(np.argmin(scale))
                raise ValueError(f"scaling.{names[1]}[{column}] is {scale[column]:g}; every scale must be above 0")

    def check(self, sizes: tuple[int, ...], loss: Loss) -> Scaling:
        """Itself, if it fits a network of these sizes and loss; ValueError otherwise."""
        if len(self.x_mean) != sizes[0]:
            raise ValueError(f"scaling is of {len(self.x_mean)} inputs, but the network takes {sizes[0]}")
        if self.y_mean is not None and not loss.link.can_scale_y:
            raise ValueError(f"y can be standardised for {losses.scalable()} only, not for {loss.name}")
        if self.y_mean is not None and len(self.y_mean) != sizes[-1]:
            raise ValueError(f"scaling is of {len(self.y_mean)} targets, but the network has {sizes[-1]} outputs")
        return self

    @quiet
    def scaled_targets(self, y: Array, dtype: np.dtype[Any], name: str | None) -> Array:
        """Targets in float64 as the network learns them; under a name they are refused where they become infinite."""
        assert self.y_mean is not None
        assert self.y_scale is not None
        scaled = (y - self.y_mean) / self.y_scale
        if name is not None and (found := arrays.first_not_finite(scaled, dtype)) is not None:
            offence = arrays.Offence(found.at, float(y[found.at]))
            raise ValueError(arrays.not_finite(offence, name, dtype, scaled=True))
        return scaled.astype(dtype)

    @quiet
    def unscaled(self, outputs: Array) -> Array:
        """Outputs as predictions, in float64: 1.7e9 and 70 together need more digits than a float32 has."""
        found: Array = outputs * self.y_scale + self.y_mean
        return found

    @quiet
    def for_kernels(self, dtype: np.dtype[Any]) -> tuple[Array, ...]:
        """Mean and 1 / scale of the inputs in float64; for float32 networks a third array, as `JOB["x_narrow"]` says.

        That is left out where a float32 cannot hold them, or where a mean in two parts would be wrong by more than a
        ten-millionth of the scale.
        """
        mean, scale = (np.ascontiguousarray(one, np.float64) for one in (self.x_mean, self.x_scale))
        factor = 1.0 / scale
        if dtype != np.float32 or not ((abs(np.log2(scale)) <= 60) & (abs(mean) <= 2.0**24 * scale)).all():
            return mean, factor
        single = mean.astype(np.float32)
        return mean, factor, np.stack([single, mean - single, factor]).astype(np.float32)
