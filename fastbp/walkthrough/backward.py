"""The stages on the way back: deltas and gradients, layer by layer, and the gradient of the inputs' scales."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from fastbp.activations import ACTIVATIONS
from fastbp.types import Array
from fastbp.walkthrough.forward import WRITTEN
from fastbp.walkthrough.numbers import TERMS, long_sum, shown, signed
from fastbp.walkthrough.stages import Grid, Stage
from fastbp.walkthrough.subject import Subject
from fastbp.walkthrough.trace import Layer, Trace
from fastbp.walkthrough.view import View

NEARLY = 1e-3  # a slope below which a unit hardly learns


def stages(subject: Subject, numbers: Trace, view: View) -> Iterator[Stage]:
    """From the outputs to the first layer."""
    for k in range(len(numbers.layers), 0, -1):
        yield _layer(subject, numbers, k, view)
    if numbers.gradient.input_scale is not None:
        yield _scales(numbers, view, numbers.gradient.input_scale)


def _layer(subject: Subject, numbers: Trace, k: int, view: View) -> Stage:
    layer, last = numbers.layers[k - 1], k == len(numbers.layers)
    given = "x" if k == 1 else "a"
    derivative = ACTIVATIONS[layer.activation].derivative
    columns = view.arrays(k, d_a=layer.d_a, slope=layer.slope, delta=layer.delta)
    plain = layer.activation == "identity"
    if last and plain:
        formulas = [("delta_j", "dJ/dz_j, the error of the output")]
        deltas = Grid(
            ["output", "delta"], [[n, d] for n, d in zip(view.names[k], columns["delta"].tolist(), strict=True)]
        )
    else:
        before = "of the output, above" if last else f"sum of w_jk * delta_k, over the units k of layer {k + 1}"
        formulas = [
            ("dJ/da_j", before),
            ("delta_j", "dJ/da_j * f'(z_j)"),
            ("f'(z)", f"{derivative}  ({layer.activation})"),
        ]
        rows = [
            [name, *row] for name, *row in
            zip(view.names[k], *(columns[one].tolist() for one in ("d_a", "slope", "delta")), strict=True)
        ]  # fmt: skip
        deltas = Grid(["unit", "dJ/da", "f'(z)", "delta"], rows)
    formulas += [("dJ/dw_ij", f"{given}_i * delta_j"), ("dJ/db_j", "delta_j")]
    gradient = view.grid(k, layer.inputs, layer.d_weight, [("b", layer.delta)], "gradients")
    written = [] if last and plain else [
        _delta(numbers, k, j, view, last=last) for j in view.first(k, WRITTEN if view.others(k) == 0 else 1)
    ]  # fmt: skip
    written.append(_largest(layer, k, view))
    values = {**columns, "from": view.units[k - 1], "gradient": view.matrix(k, layer.d_weight)}
    what = "the output" + "s" * (len(layer.z) != 1) if last else f"{len(layer.z):,} hidden units"
    return Stage(
        f"backward {k}", f"Back, layer {k}: {what}",
        "How J changes with each sum z (delta), and so with each weight (its gradient).", formulas,
        [deltas, gradient], written, [*view.left_out(k - 1, k), *_silent(layer, subject.units(k))], values,
    )  # fmt: skip


def _delta(numbers: Trace, k: int, j: int, view: View, *, last: bool) -> str:
    """delta of a unit with its numbers."""
    layer, unit = numbers.layers[k - 1], view.units[k][j]
    d_a = shown(layer.d_a[unit])
    text = f"delta = {signed(layer.d_a[unit])} * {signed(layer.slope[unit])} = {shown(layer.delta[unit])}"
    if last:
        return f"{view.names[k][j]}: {text}"
    above = numbers.layers[k]
    pairs = list(zip(above.weight[unit].tolist(), above.delta.tolist(), strict=True))
    terms, after = long_sum(pairs)
    return f"{view.names[k][j]}: dJ/da = {terms} = {d_a}, {text}{after}"


def _largest(layer: Layer, k: int, view: View) -> str:
    """The weight with the largest gradient among those that are shown."""
    gradient = view.matrix(k, layer.d_weight)
    i, j = np.unravel_index(int(np.abs(np.nan_to_num(gradient)).argmax()), gradient.shape)
    value, delta = layer.inputs[view.units[k - 1][i]], layer.delta[view.units[k][j]]
    return (
        f"{view.names[k - 1][i]} -> {view.names[k][j]}: dJ/dw = {signed(value)} * {signed(delta)} "
        f"= {shown(float(gradient[i, j]))}"
    )


def _silent(layer: Layer, names: object) -> list[str]:
    """Units through which no error passes."""
    assert isinstance(names, list | tuple)
    if not np.isfinite(layer.z).all():
        return []
    silent, nearly = layer.slope == 0.0, (np.abs(layer.slope) < NEARLY) & (layer.slope != 0.0)
    found = []
    for which, text in (
        (silent, "passes nothing on: its f'(z) is 0, and so are its delta and the gradients of its weights"),
        (nearly, f"passes nearly nothing on: it is saturated, its f'(z) is below {NEARLY:g}"),
    ):
        units = np.flatnonzero(which)
        if units.size:
            some = ", ".join(names[j] for j in units[:6].tolist()) + f" and {units.size - 6:,} more" * (units.size > 6)
            found.append(f"{some}: {'this unit' if units.size == 1 else 'each of them'} {text}")
    return found


def _scales(numbers: Trace, view: View, gradient: Array) -> Stage:
    first = numbers.layers[0]
    columns = view.arrays(0, x=numbers.standardised, back=first.weight @ first.delta, gradient=gradient)
    rows = [
        [name, *row] for name, *row in
        zip(view.names[0], *(columns[one].tolist() for one in ("x", "back", "gradient")), strict=True)
    ]  # fmt: skip
    written = [
        f"{view.names[0][i]}: dJ/ds = {signed(columns['x'][i])} * {signed(columns['back'][i])} "
        f"= {shown(columns['gradient'][i])}"
        for i in view.first(0, WRITTEN if len(rows) <= TERMS else 1)
    ]
    return Stage(
        "backward scales", "Back, the scales of the inputs", "They are learned as weights are.",
        [("dJ/dx_i", "sum of w_ij * delta_j, over the units j of layer 1"), ("dJ/ds_i", "x'_i * dJ/dx_i")],
        [Grid(["input", "x'", "dJ/dx", "dJ/ds"], rows)], written, view.left_out(0), columns,
    )  # fmt: skip
