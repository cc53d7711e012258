"""What y asks for: the loss that fits the targets of a table, classes as indices, and rows held out for the test."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fastbp import arrays, datasets, losses
from fastbp.data import checks, tables
from fastbp.data.tables import Array
from fastbp.links import Link

if TYPE_CHECKING:
    from fastbp.spec import Scaling

# Above this many classes, and more than one for every five rows, integers are probably quantities.
_MANY_CLASSES = 20


@dataclass(frozen=True, eq=False)
class PreparedData:
    """Rows to train on and to test on, ready for `fit`."""

    name: str
    X_train: Array  # (n, n_in)
    y_train: Array  # (n,) or (n, n_out); classes as 0..C-1
    X_test: Array | None
    y_test: Array | None
    loss: str
    n_in: int
    n_out: int
    class_labels: list[int] | list[str] | None  # None if classes are 0..C-1 already, or y are numbers
    notes: list[str]  # what was inferred, for people

    def scaled(self, scaling: Scaling | None, part: str) -> tuple[Array, Array]:
        """Return the training or test rows with a network's scaling applied, for a network that knows none."""
        X, y = (self.X_train, self.y_train) if part == "train" else (self.X_test, self.y_test)
        assert X is not None
        assert y is not None
        if scaling is None:
            return X, y
        X = (X - scaling.x_mean) / scaling.x_scale
        if scaling.y_mean is not None:
            y = ((y.reshape(len(y), -1) - scaling.y_mean) / scaling.y_scale).reshape(y.shape)
        return X, y


def prepare(
    table: tables.Table, loss: str | None, test_fraction: float, seed: int, *, name: str, notes: Sequence[str] = ()
) -> PreparedData:
    """Infer from a table what was not said, and hold rows out; `notes`: what there is to tell of it already."""
    told = list(notes)
    n_in = _check_inputs(table)
    chosen = _choose_loss(table, loss, told)
    table, labels, n_out = _as_targets(table, chosen, told)
    assert table.y is not None
    X_test, y_test = table.X_test, table.y_test
    X_train, y_train = table.X, table.y
    rare = ""
    if X_test is None and test_fraction > 0.0:
        kept, held_out_rows = datasets.split_rows(y_train, test_fraction, seed, stratify=labels is not None)
        rare = "" if labels is None else datasets.too_rare(y_train, kept, held_out_rows, labels)
        X_train, X_test, y_train, y_test = X_train[kept], X_train[held_out_rows], y_train[kept], y_train[held_out_rows]
    # Both parts now: a bad y_test must not wait until the training is over.
    for kind, rows, targets in (("y", X_train, y_train), ("y_test", X_test, y_test)):
        if rows is not None and targets is not None:
            checks.check_y(targets, losses.get(chosen), len(rows), n_out, np.dtype("float32"), name=kind)
    held_out = 0 if X_test is None else len(X_test)
    told.append(f"{len(X_train):,} rows to train on, {held_out:,} held out; inputs {n_in}, outputs {n_out}")
    if rare:
        told.append(rare)
    in_place = labels is None or labels == list(range(len(labels)))
    return PreparedData(
        name,
        X_train,
        y_train,
        X_test,
        y_test,
        chosen,
        n_in,
        n_out,
        None if in_place else labels,
        told,
    )


def _check_inputs(table: tables.Table) -> int:
    """The number of inputs; X must be a finite matrix, and X_test must fit it."""
    n_in = math.prod(table.X.shape[1:])
    for name, array in (("X", table.X), ("X_test", table.X_test)):
        if array is not None:
            checked = checks.check_X(array, n_in, name=name, dtype=np.dtype("float32"))
            arrays.check_finite(checked, name, np.dtype("float32"))
    if n_in == 0:
        raise ValueError(f"X has no columns: shape {table.X.shape}; expected one for each input")
    return n_in


def _choose_loss(table: tables.Table, loss: str | None, notes: list[str]) -> str:
    """The loss that was asked for, or the one that the kind of y suggests."""
    y = table.y
    assert y is not None
    if y.dtype.kind not in "fiubUS":
        raise TypeError(f"y has dtype {y.dtype}; expected integers or names for classes, floats for quantities")
    if loss is not None:
        return loss
    if y.dtype.kind == "f":
        notes.append("y holds floats: quantities, so the loss is mse (--loss cross_entropy for classes)")
        return "mse"
    if y.size != len(y):
        raise ValueError(
            f"y holds integers of shape {y.shape}; say what they are: --loss mse, binary_cross_entropy, ..."
        )
    kind = "names" if y.dtype.kind in "US" else "integers"
    quantities = "" if kind == "names" else " (--loss mse for quantities)"
    notes.append(f"y holds {kind}: classes, so the loss is cross_entropy{quantities}")
    return "cross_entropy"


def _as_targets(
    table: tables.Table, loss: str, notes: list[str]
) -> tuple[tables.Table, list[int] | list[str] | None, int]:
    """The table with targets as the loss takes them, the labels if they are classes, and the number of outputs."""
    y, y_test = table.y, table.y_test
    assert y is not None
    link = losses.get(loss).link
    one_column = y.ndim == 1 or (y.ndim == 2 and y.shape[1] == 1)
    whole = y.dtype.kind != "f" or tables.whole_numbers(y)
    if link.one_class and one_column and not whole:
        raise ValueError(f"y holds fractions, but {loss} takes classes; expected integers, or use --loss mse")
    if link.classifies and one_column and whole:
        y, y_test = (_flat_integers(one) for one in (y, y_test))
        labels = tables.class_labels(y, y_test)
        odd = tables.odd_integer(y)
        if odd is not None:
            twin = f": {odd} and {int(odd)} are two classes" if str(int(odd)) in labels else ""
            notes.append(f"labels such as {odd} are no ordinary integers, so all stay as they are written{twin}")
        _check_classes(labels, len(table.X), loss, link, notes)
        assert y is not None
        encoded = [None if one is None else tables.encode(one, labels) for one in (y, y_test)]
        shown = tables.Table(table.X, encoded[0], table.X_test, encoded[1])
        return shown, labels, len(labels) if link.one_class else 1
    hint = "; use --loss cross_entropy"
    y, y_test = (None if one is None else tables.numbers_of(one, loss, hint) for one in (y, y_test))
    assert y is not None
    return tables.Table(table.X, y, table.X_test, y_test), None, 1 if y.ndim == 1 else int(np.prod(y.shape[1:]))


def _flat_integers(y: Array | None) -> Any:
    if y is None:
        return None
    return y.ravel().astype(np.int64) if tables.whole_numbers(y) else y.ravel()


def _check_classes(labels: list[Any], n_rows: int, loss: str, link: Link, notes: list[str]) -> None:
    if len(labels) < 2:
        raise ValueError(f"y holds a single class, {labels[0]!r}; {loss} needs at least two")
    if not link.one_class and len(labels) > 2:
        raise ValueError(f"y holds {len(labels)} classes, but {loss} separates two; use --loss cross_entropy")
    if len(labels) > max(_MANY_CLASSES, n_rows // 5):
        notes.append(f"y has {len(labels):,} classes in {n_rows:,} rows: if it is a quantity, use --loss mse")
