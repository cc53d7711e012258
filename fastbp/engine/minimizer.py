"""The compiled L-BFGS on the parameters of one network: its vectors, and the calls of its kernel."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastbp.engine.engine import Engine
from fastbp.engine.memory import address, allocate_all
from fastbp.kernels import lbfgs as kernel
from fastbp.kernels.build import entry
from fastbp.types import Array

VECTORS = "point", "slope", "iterate", "iterate_slope", "direction", "decay"


class Minimizer:
    """Where a minimisation stands.

    Parameters
    ----------
    engine : Engine
        Of the network.
    decay : array, (n_parameters,)
        Half of it times the square of each parameter is added to the cost.
    memory : int
        Pairs at most.
    limits : number
        The fields of `fastbp.kernels.lbfgs.MINIMUM` that say when to end.

    Attributes
    ----------
    record : record
        See `fastbp.kernels.lbfgs.MINIMUM`.
    point, slope, iterate : array, (n_parameters,), float64
        Where the cost is to be evaluated next, its gradient, and the last iterate.
    """

    def __init__(self, engine: Engine, decay: Array, memory: int, **limits: Any) -> None:
        n = engine.layout.n_parameters
        self.engine, self.records = engine, np.zeros(1, kernel.MINIMUM)
        self.record = self.records[0]
        made = allocate_all([n] * len(VECTORS) + [memory * n] * 2 + [memory] * 2, np.dtype(np.float64))
        self.losses = np.zeros(limits["most_iterations"] + 1)
        self.point, self.slope, self.iterate = made[:3]
        names = *VECTORS, "steps", "changes", "curvatures", "factors", "losses"
        for name, array in zip(names, (*made, self.losses), strict=True):
            self.record[name] = address(array)
        self.record["n"], self.record["memory"] = n, memory
        for name, value in limits.items():
            self.record[name] = value
        self._alive = made
        self.point[:], made[VECTORS.index("decay")][:] = engine.parameters, decay
        self._kernel: Any = entry(kernel.minimize, engine.layout.dtype.name)
        self._tag = engine.layout.dtype.type(1)

    @property
    def status(self) -> int:
        """One of those in `fastbp.kernels.lbfgs`."""
        return int(self.record["status"])

    def take(self, loss: float) -> None:
        """Go to the next point from the loss at this one, whose gradient stands in `slope`."""
        self.record["loss"] = loss
        self._call(0)

    def run(self, budget: int) -> None:
        """Evaluate the cost at so many points: by one thread, as the engine was when it last did so."""
        self.record["budget"] = budget
        self._call(1)

    def _call(self, evaluates: int) -> None:
        assert self.engine.buffers is not None
        self._kernel(self.records, self.engine.job, self.engine.buffers.records, evaluates, self._tag)
