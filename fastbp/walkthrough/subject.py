"""What is explained: a network and one row, its target, and the names of inputs and outputs; or why it cannot be."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastbp import arrays
from fastbp.data import columns
from fastbp.io.frames import Frame
from fastbp.network import MLP
from fastbp.tables import apply
from fastbp.tables.model import TableModel
from fastbp.tables.target import CLASSES
from fastbp.types import Array
from fastbp.walkthrough import cells
from fastbp.walkthrough.cells import Cell, clean
from fastbp.walkthrough.numbers import shown, signed

_LISTED = 8  # targets of a row that are told


@dataclass(frozen=True)
class Subject:
    """A network and one row.

    Attributes
    ----------
    net : MLP
        A copy.
    x : array, (1, n_in)
        The row as the network takes it, before it is standardised; float64.
    y : array
        Its target, ``(1,)`` or ``(1, n_out)``.
    inputs, outputs : sequence of str
        Names.
    place : str
        Where the row is; empty where that is not known.
    target : str
        What was wanted, as the user has it.
    cells : sequence of Cell
        Of a table: what became the inputs.
    notes : sequence of str
    back : callable or None
        Outputs ``(1, n_out)`` in the units of the target, where it is learned in others.
    """

    net: MLP
    x: Array
    y: Array
    inputs: Sequence[str]
    outputs: Sequence[str]
    place: str
    target: str
    cells: Sequence[Cell] = ()
    notes: Sequence[str] = ()
    back: Callable[[Array], Array] | None = None

    def units(self, layer: int) -> Sequence[str]:
        """Names of the units of a layer, 0 being the inputs."""
        last = len(self.net.sizes) - 1
        if layer in (0, last):
            return self.outputs if layer else self.inputs
        start = "h" if last == 2 else f"h{layer}."
        return [f"{start}{j + 1}" for j in range(self.net.sizes[layer])]


def row_number(row: int | None, n: int) -> int:
    """The number of the row, from 0; None is the only one.

    Raises
    ------
    ValueError
        There is no such row, or several of which none is named.
    """
    if n == 0:
        raise ValueError("there are no rows of which one could be explained")
    if row is None:
        if n > 1:
            raise ValueError(f"explain takes one row, but there are {n:,}: say which, from row=0 to row={n - 1}")
        return 0
    if isinstance(row, bool) or not hasattr(row, "__index__"):
        raise TypeError(f"row must be an integer, got {row!r}")
    k = operator.index(row)
    if not 0 <= k < n:
        raise ValueError(f"row must be from 0 to {n - 1}, as there are {n:,} rows; got {k}")
    return k


# --- networks of numbers ------------------------------------------------------------------------------------


def of_network(net: MLP, x: Any, y: Any, row: int | None, place: str) -> Subject:
    """Of a network of numbers; `row` counts from 0, None where there is one row alone."""
    if x is None or y is None:
        raise ValueError(
            "explain needs x and y, a row and its target: without a target there is no error to go back from"
        )
    rows = np.asarray(columns.by_name(x, net.feature_names or columns.names_of(x)))
    rows = rows[None] if rows.ndim == 1 else rows
    if rows.ndim != 2 or rows.shape[1] != net.sizes[0]:
        raise ValueError(f"x must be a row of {net.sizes[0]} inputs, or rows of them; got the shape {rows.shape}")
    targets = np.asarray(y)
    whole = len(rows) == 1 and targets.ndim == 1 and len(targets) == net.sizes[-1] > 1
    targets = targets[None] if targets.ndim == 0 or whole else targets
    if len(targets) != len(rows):
        raise ValueError(f"x has {len(rows):,} rows, but y has {len(targets):,}")
    k = row_number(row, len(rows))
    chosen, target = rows[k : k + 1].astype(np.float64), targets[k : k + 1]
    arrays.check_finite(chosen, "x" if len(rows) == 1 else f"x[{k}:{k + 1}]", None if net.scaling else net.dtype)
    ignored = net.loss.ignored_label
    if ignored is not None and target.ndim == 1 and target[0] == ignored:
        raise ValueError(f"the label of this row is {ignored}, which {net.loss!r} leaves out: choose another row")
    inputs = net.feature_names or [f"x{i + 1}" for i in range(net.sizes[0])]
    wanted = _wanted(net, target)
    scaled = net.scaling is not None and net.scaling.y_mean is not None
    back = net.scaling.unscaled if scaled and net.scaling is not None else None
    return Subject(net.copy(), chosen, target, clean(inputs), _outputs(net), place, wanted, back=back)


def _outputs(net: MLP) -> list[str]:
    n, labels = net.sizes[-1], net.class_labels
    if labels is not None and len(labels) == n:
        return clean(one if isinstance(one, str) else f"class {one}" for one in labels)
    if n == 1:
        return ["out"]
    return [f"class {j}" if net.loss.link.one_class else f"out{j + 1}" for j in range(n)]


def _wanted(net: MLP, target: Array) -> str:
    if net.loss.link.one_class and target.ndim == 1:
        label = target[0] if net.class_labels is None else net.class_labels[int(target[0])]
        return clean([label])[0] if isinstance(label, str) else f"class {label}"
    values = np.ravel(target).tolist()
    return ", ".join(map(shown, values[:_LISTED])) + ", ..." * (len(values) > _LISTED)


# --- tables -------------------------------------------------------------------------------------------------


def of_table(model: TableModel, frame: Frame, row: int | None, place: str) -> Subject:
    """Of a model of a table, whose preprocessing is part of the story."""
    net, encoder, target = model.net, model.encoder, model.target
    if net is None or encoder is None or target is None:
        raise ValueError("the model is not trained: call fit first, or load one")
    one = frame.take(np.array([row_number(row, frame.rows)]))
    place = place or one.place(0)
    empty = [name for name in target.names if name in one.names and one.data[name][0] in (None, "")]
    if empty:
        raise ValueError(f"{place} has no {empty[0]!r}, the target, and so no error: choose another row")
    part, said = apply.part(model, one)
    typed, _ = apply.columns(model, one)
    x, _ = encoder.encode(typed, np.float64)
    notes = list(said)
    if part.weight is not None:
        notes.append(
            f"its weight is {part.weight[0]:g}: so much it counts beside other rows; alone, its cost is the same"
        )
    if target.means:
        inner = "log(1 + y)" if target.log else "y"
        notes.append(f"the target is learned as ({inner} - {signed(target.means[0])}) / {shown(target.scales[0])}")
    names = [str(label) for label in target.labels] if target.kind == CLASSES else list(target.names)
    outputs = names if len(names) == net.sizes[-1] else [f"{target.names[0]}={names[-1]}"]
    wanted = ", ".join(f"{name} = {one.data[name][0]}" for name in target.names)
    return Subject(
        net.copy(), x, model.rows(part)[1], clean(encoder.inputs), clean(outputs), place, clean([wanted])[0],
        cells.of_row(encoder, one, typed, x[0]), notes, target.unscaled if target.means else None,
    )  # fmt: skip
