"""A `TableModel` as an ONNX file: an input for each column, what prepares it, the network, and the user's classes.

Numbers and the parts of dates are one matrix in float64, in which NaN is what is missing.
"""

from __future__ import annotations

from os import PathLike
from typing import Any

import numpy as np

from fastbp.interop import onnx_network
from fastbp.interop.onnx_graph import Graph, text_or_numbers
from fastbp.interop.outline import Outline
from fastbp.tables.encoder import Scale
from fastbp.tables.target import CLASSES, FLAGS, QUANTITIES

_HOW = {
    "number": "float64, NaN where it is missing",
    "category": "text without spaces around it, empty where it is missing",
    "boolean": "float64, 1 or 0, NaN where it is missing",
    "date": "int64, microseconds since 1970, -2^63 where it is missing, as NumPy has datetime64[us]",
}
_TYPES: dict[str, Any] = {"number": np.float64, "category": str, "boolean": np.float64, "date": np.int64}
_DAY = 86_400e6  # microseconds


def write(path: str | PathLike[str], model: Any) -> None:
    """The work of `TableModel.to_onnx`."""
    if model.net is None or model.encoder is None or model.target is None:
        raise ValueError("the model is not trained: call fit first")
    g, columns = Graph(model.net.dtype), model.encoder.columns
    names = [g.input(one.name, _TYPES[one.kind_name], 1) for one in columns]
    outline = Outline.of(model.net.session.values())
    z = onnx_network.layers(g, outline, _Inputs(g, model.reading.missing).of(columns, names), g.dtype)
    _answers(g, outline, z, model.target)
    told = {
        "target": model.target.to_dict(),
        "columns": [
            {"input": name, "column": one.name, "kind": one.kind_name, "type": _HOW[one.kind_name]}
            for name, one in zip(names, columns, strict=True)
        ],
    }
    g.write(path, f"A model of a table: {', '.join(model.target.names)} by {len(columns)} columns.", told)


class _Inputs:
    """The inputs of the network, out of the columns."""

    def __init__(self, g: Graph, missing: tuple[str, ...]) -> None:
        self.g, self.missing = g, [value for value in map(_number, missing) if value is not None]
        self.numbers: list[tuple[int, str, float, Scale]] = []  # place among the inputs, tensor, median, scale
        self.others: list[tuple[list[int], str]] = []  # places, tensor in the network's dtype

    def of(self, columns: tuple[Any, ...], names: list[str]) -> str:
        """All inputs ``(rows, n_in)`` in their order."""
        g, at = self.g, 0
        for column, name in zip(columns, names, strict=True):
            places = list(range(at, at := at + len(column.inputs)))
            getattr(self, f"_{column.kind_name}")(column, name, places)
        parts = [([place for place, *_ in self.numbers], self._scaled())] if self.numbers else []
        parts += self.others
        placed = [place for places, _ in parts for place in places]
        joined = g.op("Concat", *(tensor for _, tensor in parts), axis=1)
        if placed == sorted(placed):
            return joined
        return g.op("Gather", joined, g.array(np.argsort(placed), np.int64), axis=1)

    def _scaled(self) -> str:
        """Numbers: filled, then scaled as `Scale` does."""
        g, scales = self.g, [scale for *_, scale in self.numbers]
        values = g.op("Concat", *(tensor for _, tensor, _, _ in self.numbers), axis=1)
        fill = g.array([[fill for _, _, fill, _ in self.numbers]], np.float64)
        values = g.op("Where", g.op("IsNaN", values), fill, values)
        z = g.op("Sub", values, g.array([[one.center for one in scales]], np.float64))
        z = g.op("Div", z, g.array([[one.scale for one in scales]], np.float64))
        if any(one.smooth for one in scales):
            near = g.op("Max", g.op("Min", z, g.array(1e150, np.float64)), g.array(-1e150, np.float64))
            third = g.op("Div", near, g.array(3.0, np.float64))
            root = g.op("Sqrt", g.op("Add", g.op("Mul", third, third), g.array(1.0, np.float64)))
            z = g.op("Where", g.array([[one.smooth for one in scales]], np.bool_), g.op("Div", near, root), z)
        return g.cast(z, g.dtype)

    def _mark(self, values: str, place: int) -> None:
        self.others.append(([place], self.g.cast(self.g.op("IsNaN", values), self.g.dtype)))

    def _number(self, column: Any, name: str, places: list[int]) -> None:
        g = self.g
        for mark in self.missing:
            same = g.op("Equal", name, g.array(mark, np.float64))
            name = g.op("Where", same, g.array(np.nan, np.float64), name)
        self.numbers.append((places[0], name, column.fill, column.scale))
        if column.marked:
            self._mark(name, places[1])

    def _category(self, column: Any, name: str, places: list[int]) -> None:
        g = self.g
        keys, two = [*column.levels, *column.rare], len(places) == 1 and len(column.levels) == 2
        encoder: dict[str, Any] = {"domain": "ai.onnx.ml", "keys_strings": keys}
        if two:
            code = g.op("LabelEncoder", name, values_floats=[-1.0, 1.0], default_float=0.0, **encoder)
            self.others.append((places, g.cast(code, g.dtype)))
            return
        numbers = [min(number, len(column.levels)) for number in range(len(keys))]
        code = g.op("LabelEncoder", name, values_int64s=numbers, default_int64=-1, **encoder)
        each = g.array([list(range(len(places)))], np.int64)
        self.others.append((places, g.cast(g.op("Equal", code, each), g.dtype)))

    def _boolean(self, _: Any, name: str, places: list[int]) -> None:
        g = self.g
        yes, no = (g.cast(g.op("Equal", name, g.array(value, np.float64)), g.dtype) for value in (1.0, 0.0))
        self.others.append((places, g.op("Sub", yes, no)))

    def _date(self, column: Any, name: str, places: list[int]) -> None:
        g = self.g
        missing = g.op("Equal", name, g.array(np.iinfo(np.int64).min, np.int64))
        days = g.op("Div", g.cast(name, np.float64), g.array(_DAY, np.float64))
        days = g.op("Where", missing, g.array(np.nan, np.float64), days)
        parts = _parts_of_date(g, days)
        for place, (part, fill, scale) in zip(places, column.parts, strict=False):
            self.numbers.append((place, parts[part], fill, scale))
        if column.marked:
            self._mark(days, places[-1])


def _number(text: str) -> float | None:
    """A mark of missing values as a number, if it is one."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if "_" not in text and np.isfinite(value) else None


def _parts_of_date(g: Graph, days: str) -> dict[str, str]:
    """Days since 1970, year, month, weekday and hour, by whole days and the proleptic Gregorian calendar.

    A year that begins with March has its leap day at the end: months begin on day (153 m + 2) // 5 of it, centuries and
    leap years are counted off from the 400 years that repeat (146,097 days).
    """

    def number(value: float) -> str:
        return g.array(value, np.float64)

    def divided(a: str, b: float) -> tuple[str, str]:
        """The whole quotient, and the rest."""
        whole = g.op("Floor", g.op("Div", a, number(b)))
        return whole, g.op("Sub", a, g.op("Mul", whole, number(b)))

    def sum_of(*terms: tuple[str, float]) -> str:
        found = None
        for tensor, factor in terms:
            term = tensor if factor == 1 else g.op("Mul", tensor, number(factor))
            found = term if found is None else g.op("Add", found, term)
        assert found is not None
        return found

    whole = g.op("Floor", days)
    hour = g.op("Mul", g.op("Sub", days, whole), number(24.0))
    weekday = g.op("Add", divided(g.op("Add", whole, number(3.0)), 7)[1], number(1.0))
    era, day = divided(g.op("Add", whole, number(719_468.0)), 146_097)  # since 1 March of year 0
    leaps = sum_of(
        (day, 1), (divided(day, 1460)[0], -1), (divided(day, 36_524)[0], 1), (divided(day, 146_096)[0], -1)
    )  # fmt: skip
    year_of_era = divided(leaps, 365)[0]
    before = sum_of((year_of_era, 365), (divided(year_of_era, 4)[0], 1), (divided(year_of_era, 100)[0], -1))
    day_of_year = g.op("Sub", day, before)
    from_march = divided(g.op("Add", g.op("Mul", day_of_year, number(5.0)), number(2.0)), 153)[0]
    late = g.op("Greater", from_march, number(9.5))  # January and February of the next year
    month = g.op("Add", from_march, g.op("Where", late, number(-9.0), number(3.0)))
    year = g.op("Add", sum_of((year_of_era, 1), (era, 400)), g.op("Where", late, number(1.0), number(0.0)))
    return {"days": days, "year": year, "month": month, "weekday": weekday, "hour": hour}


# --- what the model says ------------------------------------------------------------------------------------


def _answers(g: Graph, outline: Outline, z: str, target: Any) -> None:
    """The outputs, as `predict` and `predict_proba` return them."""
    if target.kind == QUANTITIES:
        _quantities(g, outline, z, target)
        return
    proba, classes = onnx_network.probabilities(g, outline, z), onnx_network.classes(g, outline, z)
    if target.kind == CLASSES:
        if not outline.loss.link.one_class:  # one output for two classes
            proba = g.op("Concat", g.op("Sub", g.array(1.0), proba), proba, axis=1)
            classes = onnx_network.flat(g, classes)
        labels = [bool(one) for one in range(2)] if target.boolean else list(target.labels)
    else:
        assert target.kind == FLAGS
        labels = [one for pair in target.labels for one in pair]
        classes = g.op("Add", classes, g.array([range(0, len(labels), 2)], np.int64))
    names, kind = text_or_numbers(labels)
    columns = len(target.names) if target.kind == FLAGS else None
    g.output("prediction", g.op("Gather", g.array(names, names.dtype), classes), kind, columns)
    g.output("probabilities", proba, g.dtype, target.n_out)


def _quantities(g: Graph, outline: Outline, z: str, target: Any) -> None:
    found = g.cast(onnx_network.values(g, outline, z)[0], np.float64)
    if target.means:
        found = g.op("Mul", found, g.array([target.scales], np.float64))
        found = g.op("Add", found, g.array([target.means], np.float64))
    if target.log:
        found = g.op("Sub", g.op("Exp", found), g.array(1.0, np.float64))
    one = target.n_out == 1
    g.output("prediction", onnx_network.flat(g, found) if one else found, np.float64, None if one else target.n_out)
