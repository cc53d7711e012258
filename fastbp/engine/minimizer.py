"""The compiled L-BFGS on the parameters of one network: its vectors, and the calls of its kernel."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastbp.engine.engine import Engine
from fastbp.engine.memory import address, allocate, allocate_all
from fastbp.kernels import lbfgs as kernel
from fastbp.kernels.build import entry
from fastbp.kernels.records import JOB
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
        self.meetings, self._sync = np.zeros(1, JOB), allocate(8, np.dtype(np.int64))  # a cache line of its own
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
        self._kernel: Any = entry(kernel.minimize, engine.layout.dtype.name, engine.end_if_asked)
        self._tag = engine.layout.dtype.type(1)

    @property
    def status(self) -> int:
        """One of those in `fastbp.kernels.lbfgs`."""
        return int(self.record["status"])

    def take(self, loss: float) -> None:
        """Go to the next point from the loss at this one, whose gradient stands in `slope`."""
        self.record["loss"] = loss
        self._kernel(self.records, self.engine.job, self.meetings, self._layers(), 0, 0, self._tag)

    def run(self, budget: int, threads: int, *, detached: bool) -> None:
        """Evaluate the cost at so many points, with all bound as when the engine last did so."""
        self.record["budget"] = budget
        engine, layers, tag, kernel = self.engine, self._layers(), self._tag, self._kernel
        if threads == 1 and not detached:
            self._begin(1)
            kernel(self.records, engine.job, self.meetings, layers, 0, 1, tag)
        else:
            engine.call_together(
                lambda thread: kernel(self.records, engine.job, self.meetings, layers, thread, 1, tag), threads,
                detached, self._begin,
            )  # fmt: skip

    def _begin(self, threads: int) -> None:
        """Have so many threads meet between evaluations."""
        self.meetings[:] = self.engine.job
        self._sync[0] = 0
        self.meetings["barrier"], self.meetings["n_threads"] = address(self._sync), threads
        self.meetings["watch"] = 0

    def _layers(self) -> Array:
        assert self.engine.buffers is not None
        return self.engine.buffers.records
