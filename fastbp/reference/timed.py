"""The network in NumPy with a clock: how long the parts of its steps take."""

from __future__ import annotations

from time import perf_counter
from typing import Any

from fastbp.reference.network import NumpyMLP

PARTS = ("gather", "forward", "loss", "backward", "update")


class TimedMLP(NumpyMLP):
    """A `NumpyMLP` that keeps the seconds of each epoch by part; what is none of the others counts as gathering."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self.epochs: list[dict[str, float]] = []
        super().__init__(*arguments, **options)

    def _timed(self, part: str, method: Any, *arguments: Any) -> Any:
        began = perf_counter()
        found = method(*arguments)
        if self.epochs:  # not while it is evaluated without having been trained
            self.epochs[-1][part] += perf_counter() - began
        return found

    def _forward(self, *arguments: Any) -> Any:
        return self._timed("forward", super()._forward, *arguments)

    def _cost(self, *arguments: Any) -> Any:
        return self._timed("loss", super()._cost, *arguments)

    def _backward(self, *arguments: Any) -> Any:
        return self._timed("backward", super()._backward, *arguments)

    def _update(self, *arguments: Any) -> Any:
        return self._timed("update", super()._update, *arguments)

    def _train_epoch(self, *arguments: Any) -> Any:
        self.epochs.append(dict.fromkeys(PARTS, 0.0))
        began = perf_counter()
        found = super()._train_epoch(*arguments)
        mine = self.epochs[-1]
        mine["gather"] = perf_counter() - began - sum(mine.values())
        return found
