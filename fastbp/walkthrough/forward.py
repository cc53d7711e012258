"""The first stages: the row, what prepares it, the layers one after the other, and how wrong the answer is."""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np

from fastbp.activations import ACTIVATIONS
from fastbp.types import Array
from fastbp.walkthrough.numbers import TERMS, long_sum, products, put_in, shown, signed
from fastbp.walkthrough.stages import Grid, Stage, Value
from fastbp.walkthrough.subject import Subject
from fastbp.walkthrough.trace import Layer, Trace
from fastbp.walkthrough.view import View

WRITTEN = 4  # units of a small layer whose sums are written out
_LINKS = {
    "classes": "softmax(z)_j = e^z_j / sum of e^z_k",
    "binary": "1 / (1 + e^-z_j)",
    "counts": "e^z_j",
}


def stages(subject: Subject, numbers: Trace, view: View) -> Iterator[Stage]:
    """From the row to the cost."""
    yield _row(subject, view)
    net = subject.net
    if net.scaling is not None:
        yield _standardised(subject, numbers, view)
    if net.input_scale is not None:
        yield _scaled(numbers, view, net.input_scale)
    for k, layer in enumerate(numbers.layers, 1):
        yield _layer(subject, k, layer, view)
    yield _error(subject, numbers, view)


def _row(subject: Subject, view: View) -> Stage:
    where = f"{subject.place}: " * bool(subject.place)
    wanted = subject.target if subject.cells else f"wanted: {subject.target}"
    title = "The row" if not subject.cells else "The row, as numbers"
    values = {**view.arrays(0, x=subject.x[0]), "y": subject.y}
    if not subject.cells:
        rows: list[list[Value]] = [
            [name, float(x)] for name, x in zip(view.names[0], subject.x[0][view.units[0]], strict=True)
        ]
        return Stage("row", title, f"{where}{wanted}", grids=[Grid(["input", "x"], rows)],
                     notes=[*subject.notes, *view.left_out(0)], values=values)  # fmt: skip
    table: list[list[Value]] = []
    written = []
    for cell in subject.cells:
        for number, (name, value) in enumerate(cell.inputs):
            table.append(
                [cell.column if not number else "", (cell.text or "(empty)") if not number else "", name, value]
            )
        if cell.others:
            table.append(["", "", f"{cell.others:,} other" + "s" * (cell.others != 1), 0.0])
        written.append(f"{cell.column}: {cell.rule}")
    return Stage("cells", title, f"{where}wanted: {wanted}", grids=[Grid(["column", "cell", "input", "number"], table)],
                 written=written, notes=subject.notes, values=values)  # fmt: skip


def _standardised(subject: Subject, numbers: Trace, view: View) -> Stage:
    scaling, units = subject.net.scaling, view.units[0]
    assert scaling is not None
    columns = view.arrays(0, x=subject.x[0], mean=scaling.x_mean, scale=scaling.x_scale, result=numbers.standardised)
    rows = _columns(view.names[0], columns)
    written = [
        f"{view.names[0][i]}: ({shown(columns['x'][i])} - {signed(columns['mean'][i])}) / {shown(columns['scale'][i])} "
        f"= {shown(columns['result'][i])}"
        for i in view.first(0, WRITTEN if len(units) <= TERMS else 1)
    ]
    notes = view.left_out(0)
    if scaling.y_mean is not None and scaling.y_scale is not None:
        notes.append(
            f"the target is standardised too: (y - {signed(scaling.y_mean[0])}) / {shown(scaling.y_scale[0])}"
            f" = {shown(numbers.target[0])}" + " ..." * (len(scaling.y_mean) > 1)
        )
    return Stage(
        "standardised", "Standardise: every input gets mean 0 and deviation 1, by the training rows",
        "The network does this by itself; mean and scale are in its file.", [("x'", "(x - mean) / scale")],
        [Grid(["input", "x", "mean", "scale", "x'"], rows)], written, notes, columns,
    )  # fmt: skip


def _scaled(numbers: Trace, view: View, scale: Array) -> Stage:
    columns = view.arrays(0, x=numbers.standardised, s=scale, result=numbers.scaled)
    rows = _columns(view.names[0], columns)
    written = [
        f"{view.names[0][i]}: {products([(columns['s'][i], columns['x'][i])])[0]} = {shown(columns['result'][i])}"
        for i in view.first(0, WRITTEN if len(rows) <= TERMS else 1)
    ]
    return Stage(
        "scaled", "Scale the inputs: each by a number that is learned like a weight",
        "It begins with 1; inputs that help little are turned down.", [("x_i", "s_i * x'_i")],
        [Grid(["input", "x'", "s", "x"], rows)], written, view.left_out(0), columns,
    )  # fmt: skip


def _columns(names: list[str], columns: dict[str, Array]) -> list[list[Value]]:
    parts = [one.tolist() for name, one in columns.items() if name != "units"]
    return [[name, *row] for name, *row in zip(names, *parts, strict=True)]


def _layer(subject: Subject, k: int, layer: Layer, view: View) -> Stage:
    last = k == len(subject.net.sizes) - 1
    n = len(layer.z)
    what = ("output" if last else "hidden unit") + "s" * (n != 1)
    given = "x" if k == 1 else "a"
    plain = layer.activation == "identity"
    formulas = [("z_j", f"sum of {given}_i * w_ij + b_j")]
    below = [("b", layer.bias), ("z", layer.z)]
    if not plain:
        formulas.append(("a_j", f"f(z_j), {layer.activation}: {ACTIVATIONS[layer.activation].formula}"))
        below.append(("a = f(z)", layer.a))
    units = view.units[k - 1]
    rest = layer.z - layer.bias - layer.inputs[units] @ layer.weight[units]
    grid = view.grid(k, layer.inputs, layer.weight, below, "weights", rest)
    notes = view.left_out(k - 1, k)
    if dropped := not last and subject.net.regularization.chances[k - 1]:
        notes.append(f"dropout ({dropped:g} in training) is off: every unit is there")
    if k == 1 and subject.net.regularization.input_noise:
        notes.append(f"input noise ({subject.net.regularization.input_noise:g} in training) is off")
    values = {
        **view.arrays(k, b=layer.bias, z=layer.z, a=layer.a), "from": view.units[k - 1],
        "inputs": layer.inputs[view.units[k - 1]], "w": view.matrix(k, layer.weight),
    }  # fmt: skip
    return Stage(
        f"forward {k}", f"Forward, layer {k}: {n:,} {what}" + f", {layer.activation}" * (not plain),
        "Each unit adds up what it is given, times its weights, and its bias.", formulas, [grid],
        [_sum(layer, k, j, view) for j in view.first(k, WRITTEN if len(layer.inputs) <= TERMS else 1)],
        notes + _not_finite(layer, view.names[k], view.units[k]), values,
    )  # fmt: skip


def _sum(layer: Layer, k: int, j: int, view: View) -> str:
    """z of a unit with its numbers: the largest terms, what the others add up to, and the bias."""
    unit = view.units[k][j]
    pairs = list(zip(layer.inputs.tolist(), layer.weight[:, unit].tolist(), strict=True))
    terms, after = long_sum(pairs)
    text = f"{view.names[k][j]}: z = {terms} + {signed(layer.bias[unit])} = {shown(layer.z[unit])}"
    if layer.activation != "identity":
        after = f", a = f({shown(layer.z[unit])}) = {shown(layer.a[unit])}" + after
    return text + after


def _not_finite(layer: Layer, names: list[str], units: Array) -> list[str]:
    odd = np.flatnonzero(~np.isfinite(layer.a))
    if not odd.size:
        return []
    first = names[units.tolist().index(odd[0])] if odd[0] in units else f"unit {odd[0] + 1}"
    return [
        f"{odd.size:,} of {layer.a.size:,} are not finite, {first} for one: the weights have grown without bound, or "
        "the input is too large. From here on no number means anything"
    ]


def _error(subject: Subject, numbers: Trace, view: View) -> Stage:
    net, last, k = subject.net, numbers.layers[-1], len(numbers.layers)
    loss, linked = net.loss, net.loss.linked
    error, name = (last.delta, "dJ/dz") if linked else (last.d_a, "dJ/dp")
    target, notes = numbers.target, view.left_out(k)
    if smoothing := getattr(loss, "label_smoothing", 0.0):
        target = (1 - smoothing) * target + smoothing / len(target)
        notes.append(f"labels are smoothed: y = {1 - smoothing:g} * y + {smoothing:g} / {len(target)}")
    answer = numbers.answer
    columns = view.arrays(k, z=last.z, p=answer, y=target, error=error)
    rows = _columns(view.names[k], columns)
    formulas = [
        ("p_j", _LINKS[loss.target] if linked else "a_j, the output" if last.activation != "identity" else "z_j")
    ]
    formulas += [("J", loss.formula.removeprefix("J = ")), (name, loss.derivative)]
    columns_of_loss = loss.columns(len(answer))
    if re.search(r"\bM\b", loss.derivative):
        formulas.append(("M", f"{columns_of_loss} output{'s' * (columns_of_loss != 1)}, N = 1 row"))
    written = []
    for j in view.first(k, WRITTEN):
        p, y, z, d = (float(columns[one][j]) for one in ("p", "y", "z", "error"))
        letters = {"p": p, "y": y, "z": z, "d": p - y, "M": columns_of_loss, "delta": loss.parameter}
        if loss.target == "binary":
            letters["s"] = p
        if (text := put_in(loss.derivative, letters)) is not None:
            written.append(f"{view.names[k][j]}: {name} = {text} = {shown(d)}")
    written.append(f"J = {shown(numbers.cost)}")
    return Stage(
        "error", "The answer, its error, and the cost J", _verdict(subject, numbers), formulas,
        [Grid(["output", "z", "p", "wanted y", name], rows)], written, notes, {**columns, "J": numbers.cost},
    )  # fmt: skip


def _verdict(subject: Subject, numbers: Trace) -> str:
    """The answer in words."""
    names, answer, loss = subject.outputs, numbers.answer, subject.net.loss
    if not np.isfinite(answer).all():
        return "The answer is no number any more."
    if loss.link.one_class:
        best, wanted = int(answer.argmax()), int(numbers.target.argmax())
        right = "right" if best == wanted else f"wrong: wanted {names[wanted]}, with {answer[wanted]:.1%}"
        return f"The answer is {names[best]}, with {answer[best]:.1%}; that is {right}."
    said = [f"{name} {shown(one)}" for name, one in zip(names[:WRITTEN], answer.tolist(), strict=False)]
    text = f"The answer is {', '.join(said)}{', ...' * (len(names) > WRITTEN)}; wanted " + ", ".join(
        shown(one) for one in numbers.target[:WRITTEN].tolist()
    )
    if subject.back is not None:
        own = ", ".join(map(shown, np.ravel(subject.back(answer[None]))[:WRITTEN].tolist()))
        return f"{text}; in the target's own units {own}, wanted {re.sub(r'^.* = ', '', subject.target)}."
    return f"{text}."
