"""The network drawn as SVG: units as circles, weights as lines, each with its numbers in words."""

from __future__ import annotations

import html
import itertools
from collections.abc import Iterator

import numpy as np

from fastbp.types import Array
from fastbp.walkthrough.numbers import shown, signed
from fastbp.walkthrough.trace import Trace
from fastbp.walkthrough.view import View

LABELLED = 24  # lines that have their numbers beside them
_ROOMY = 8  # units of a layer that are drawn large
_ALONG = 0.3  # where a label stands on its line
_THIN, _THICK, _MANY = 1.0, 7.0, 3.0  # widths of lines: the largest weight's, and that where there are many
_STOPS = 60  # units up to which the Tab key stops at each


class Drawing:
    """Where everything goes."""

    def __init__(self, numbers: Trace, view: View) -> None:
        self.numbers, self.view = numbers, view
        counts = [len(units) for units in view.units]
        most = max(counts)
        self.large = most <= _ROOMY
        lines = sum(a * b for a, b in itertools.pairwise(counts))
        self.labelled = self.large and lines <= LABELLED
        self.radius = 25 if self.large else 9
        gap = 112 if self.labelled else 66 if self.large else 26
        across = 250 if self.labelled else 190
        margin = 110
        self.width = across * (len(counts) - 1) + 2 * margin
        self.height = (
            gap * (most - 1)
            + 2 * self.radius
            + (44 if self.large else 20)
            + 28 * any(map(view.others, range(len(counts))))
        )
        middle = gap * (most - 1) / 2 + self.radius + (26 if self.large else 8)
        self.places = [
            [(margin + layer * across, middle + gap * (k - (n - 1) / 2)) for k in range(n)]
            for layer, n in enumerate(counts)
        ]

    def svg(self) -> str:
        """The element."""
        name = f"Network of {' - '.join(str(n) for n in self.view.sizes)} units; the tables below hold its numbers"
        labelled = " labelled" * self.labelled
        parts = [*self._edges(), *self._units()]
        return (
            f'<svg class="network weights{labelled}" viewBox="0 0 {self.width} {self.height}" role="group" '
            f'style="max-width:{self.width}px" aria-label="{html.escape(name)}">\n' + "\n".join(parts) + "\n</svg>"
        )

    def _edges(self) -> Iterator[str]:
        first = 0
        for k, layer in enumerate(self.numbers.layers, 1):
            weight, gradient = self.view.matrix(k, layer.weight), self.view.matrix(k, layer.d_weight)
            widths = [_width(one, _THICK if self.labelled else _MANY) for one in (weight, gradient)]
            for i, source in enumerate(self.view.units[k - 1].tolist()):
                for j, target in enumerate(self.view.units[k].tolist()):
                    told = (
                        f"{self.view.names[k - 1][i]} to {self.view.names[k][j]}: weight {shown(weight[i, j])}, "
                        f"gradient {signed(layer.inputs[source])} * {signed(layer.delta[target])} "
                        f"= {shown(gradient[i, j])}"
                    )
                    number = first + source * layer.weight.shape[1] + target
                    kinds = ("wn" if weight[i, j] < 0 else "wp") + (" gn" if gradient[i, j] < 0 else " gp")
                    yield self._edge(
                        k, i, j, told, number, kinds, [one[i, j] for one in widths],
                        f"w {shown(weight[i, j])}, g {shown(gradient[i, j])}",
                    )  # fmt: skip
            first += layer.weight.size

    def _edge(
        self, k: int, i: int, j: int, told: str, number: int, kinds: str, widths: list[float], label: str
    ) -> str:  # fmt: skip
        (x1, y1), (x2, y2) = self.places[k - 1][i], self.places[k][j]
        length = float(np.hypot(x2 - x1, y2 - y1))
        dx, dy = self.radius * (x2 - x1) / length, self.radius * (y2 - y1) / length
        line = f'x1="{x1 + dx:.0f}" y1="{y1 + dy:.0f}" x2="{x2 - dx:.0f}" y2="{y2 - dy:.0f}"'
        words = html.escape(told)
        stop = f' tabindex="0" role="img" aria-label="{words}"' if self.labelled else ""
        text = ""
        if self.labelled:
            at = _ALONG + 0.04
            text = (
                f'<text class="on-line" x="{x1 + at * (x2 - x1):.0f}" y="{y1 + at * (y2 - y1) - 5:.0f}">{label}</text>'
            )
        return (
            f'<g class="edge" data-told="{words}" data-k="{number}"{stop}><line class="hit" {line}/>'
            f'<line class="thick {kinds}" style="--w:{widths[0]:.1f};--g:{widths[1]:.1f}" {line}/>{text}</g>'
        )

    def _units(self) -> Iterator[str]:
        stops = sum(map(len, self.view.units)) <= _STOPS
        last = len(self.view.units) - 1
        for layer, units in enumerate(self.view.units):
            for k, unit in enumerate(units.tolist()):
                x, y = self.places[layer][k]
                name, value = html.escape(self.view.names[layer][k]), self._value(layer, unit)
                words = html.escape(self._told(layer, k, unit))
                silent = layer > 0 and self.numbers.layers[layer - 1].slope[unit] == 0.0
                stop = f' tabindex="0" role="img" aria-label="{words}"' if stops else ""
                inside = f'<text x="{x:.0f}" y="{y + 4:.0f}">{value:.3g}</text>' if self.large else ""
                side, at = ("left", x - self.radius - 8) if layer == 0 else ("right", x + self.radius + 8)
                outside = (
                    f'<text class="{side}" x="{at:.0f}" y="{y + 4:.0f}">{_cut(name)}</text>' if layer in (0, last) else
                    f'<text x="{x:.0f}" y="{y - self.radius - 7:.0f}">{name}</text>' * self.large
                )  # fmt: skip
                yield (
                    f'<g class="unit{" silent" * bool(silent)}" data-told="{words}"{stop}>'
                    f'<circle cx="{x:.0f}" cy="{y:.0f}" r="{self.radius}"/>{inside}{outside}</g>'
                )
            if others := self.view.others(layer):
                x, y = self.places[layer][-1]
                yield f'<text class="soft" x="{x:.0f}" y="{y + self.radius + 20:.0f}">+ {others:,} others</text>'

    def _value(self, layer: int, unit: int) -> float:
        return float(self.numbers.scaled[unit] if layer == 0 else self.numbers.layers[layer - 1].a[unit])

    def _told(self, layer: int, k: int, unit: int) -> str:
        name = self.view.names[layer][k]
        if layer == 0:
            return f"Input {name}: {shown(self._value(layer, unit))}"
        found = self.numbers.layers[layer - 1]
        text = f"{name}: z = {shown(found.z[unit])}"
        if found.activation != "identity":
            text += f", a = {found.activation}(z) = {shown(found.a[unit])}, f'(z) = {shown(found.slope[unit])}"
        if found.slope[unit] == 0.0:
            text += ", so this unit passes nothing on"
        return f"{text}; bias {shown(found.bias[unit])}, delta and gradient of the bias {shown(found.delta[unit])}"


def _cut(name: str) -> str:
    return name if len(name) <= 12 else f"{name[:11]}.."


def _width(values: Array, thick: float) -> Array:
    """Widths of lines: by size, the largest of the layer the thickest."""
    size = np.abs(np.nan_to_num(values, posinf=0.0, neginf=0.0))
    width: Array = _THIN + (thick - _THIN) * size / (size.max(initial=0.0) or 1.0)
    return width
