"""Which units are shown: all of a layer of up to 32, of wider ones those with the largest part in the error."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastbp.types import Array
from fastbp.walkthrough.stages import Grid, Value
from fastbp.walkthrough.subject import Subject
from fastbp.walkthrough.trace import Trace

FEW = 8  # units that are shown of a wider layer


@dataclass(frozen=True)
class View:
    """The units of each layer that are shown, the inputs being layer 0.

    Attributes
    ----------
    sizes : sequence of int
        All units of each layer.
    units : list of array of int
        Their numbers.
    names : list of list of str
    parts : list of array
        |a dJ/da| of all units of a layer, |delta| of the outputs: how much J hangs on each, to first order.
    """

    sizes: Sequence[int]
    units: list[Array]
    names: list[list[str]]
    parts: list[Array]

    def others(self, layer: int) -> int:
        """How many units of a layer are not shown."""
        return self.sizes[layer] - len(self.units[layer])

    def left_out(self, *layers: int) -> list[str]:
        """What to say of the units that are not shown."""
        words = []
        for layer in layers:
            if n := self.others(layer):
                what = (
                    "inputs" if layer == 0 else "outputs" if layer == len(self.sizes) - 1 else f"units of layer {layer}"
                )
                shown = f"{len(self.units[layer])} of {self.sizes[layer]:,} {what} shown"
                words.append(f"{shown}, those with the largest part in the error; {n:,} others")
        return words

    def first(self, layer: int, most: int) -> list[int]:
        """Places in `units` of those shown with the largest part, at most so many."""
        parts = self.parts[layer][self.units[layer]]
        return sorted(np.argsort(-np.nan_to_num(parts), kind="stable")[:most].tolist())

    def arrays(self, layer: int, **values: Array) -> dict[str, Any]:
        """Numbers by unit of a layer, cut to those that are shown."""
        cut = {name: one[self.units[layer]] for name, one in values.items()}
        return {"units": self.units[layer], **cut}

    def matrix(self, layer: int, values: Array) -> Array:
        """Of an array ``(n_in, n_out)`` of the weights between this layer and the one before, what is shown."""
        found: Array = values[np.ix_(self.units[layer - 1], self.units[layer])]
        return found

    def grid(
        self, layer: int, inputs: Array, values: Array, below: Sequence[tuple[str, Array]], caption: str,
        rest: Array | None = None,
    ) -> Grid:  # fmt: skip
        """A table with a row for each unit of the layer before, and a column for each of this one.

        inputs: what those units give; below: more rows, by unit of this layer; rest: the products of inputs and
        weights, added up over the units that are not shown.
        """
        shown = self.matrix(layer, values)
        rows: list[list[Value]] = [
            [name, float(given), *row]
            for name, given, row in zip(
                self.names[layer - 1], inputs[self.units[layer - 1]], shown.tolist(), strict=True
            )
        ]
        if rest is not None and self.others(layer - 1):
            rows.append([f"{self.others(layer - 1):,} others", "products", *rest[self.units[layer]].tolist()])
        rows += [[name, "", *one[self.units[layer]].tolist()] for name, one in below]
        return Grid(["from", "value", *self.names[layer]], rows, caption, fixed=2)


def look(subject: Subject, numbers: Trace, limit: int) -> View:
    """Choose the units; a layer of up to `limit` is shown whole."""
    first = numbers.layers[0]
    parts = [np.abs(numbers.scaled * (first.weight @ first.delta))]
    parts += [np.abs(one.a * one.d_a) for one in numbers.layers[:-1]]
    parts.append(np.abs(numbers.layers[-1].delta))
    units = []
    for part in parts:
        order = np.argsort(-np.nan_to_num(part), kind="stable")
        units.append(np.sort(order[: min(FEW, limit)]) if len(part) > limit else np.arange(len(part)))
    names = [[subject.units(layer)[j] for j in chosen.tolist()] for layer, chosen in enumerate(units)]
    return View(subject.net.sizes, units, names, parts)
