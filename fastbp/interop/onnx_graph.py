"""An ONNX graph under construction: names that are used once, constants, operators of one type of numbers.

Operators are those that ONNX Runtime has for float32 and float64 alike; the others are written out.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fastbp._version import __version__
from fastbp.io.extras import load
from fastbp.io.files import PathLike, replacing
from fastbp.types import Array

# Of 2022; read by ONNX Runtime from 1.12 on.
OPSET, ML_OPSET, IR_VERSION = 17, 2, 8
_MOST_BYTES = 2_000_000_000  # a file of protocol buffers holds 2 GiB
ROWS = "rows"


class Graph:
    """Nodes, constants, inputs and outputs; `dtype` is that of the network's numbers."""

    def __init__(self, dtype: np.dtype[Any]) -> None:
        self.onnx = load("onnx", "ONNX files need onnx", "onnx")
        load("onnx.checker", "ONNX files need onnx", "onnx")
        self.dtype = dtype
        self.inputs: list[Any] = []
        self.outputs: list[Any] = []
        self._nodes: list[Any] = []
        self._constants: list[Any] = []
        self._known: dict[tuple[Any, ...], str] = {}
        self._taken: set[str] = set()

    def name(self, wanted: str) -> str:
        """This name, or one with a number where it is taken."""
        found, number = wanted, 1
        while found in self._taken:
            number += 1
            found = f"{wanted}_{number}"
        self._taken.add(found)
        return found

    def input(self, wanted: str, dtype: Any, columns: int) -> str:
        """An input ``(rows, columns)``; `dtype` is NumPy's, `str` for text."""
        name = self.name(wanted)
        self.inputs.append(self.onnx.helper.make_tensor_value_info(name, self._type(dtype), [ROWS, columns]))
        return name

    def output(self, wanted: str, tensor: str, dtype: Any, columns: int | None = None) -> str:
        """Make a tensor ``(rows,)`` or ``(rows, columns)`` an output."""
        name = self.name(wanted)
        self._nodes.append(self.onnx.helper.make_node("Identity", [tensor], [name]))
        shape = [ROWS] if columns is None else [ROWS, columns]
        self.outputs.append(self.onnx.helper.make_tensor_value_info(name, self._type(dtype), shape))
        return name

    def op(self, kind: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        """The output of an operator."""
        output = self.name(f"fastbp/{kind}")
        self._nodes.append(self.onnx.helper.make_node(kind, list(inputs), [output], domain=domain, **attributes))
        return output

    def array(self, values: Any, dtype: Any = None) -> str:
        """A constant, in the network's dtype unless another is given; equal small ones are kept once."""
        array: Array = np.asarray(values, dtype=self.dtype if dtype is None else dtype)
        key = (array.dtype.str, array.shape, array.tobytes()) if array.size < 64 and array.dtype.kind != "O" else None
        if key is not None and key in self._known:
            return self._known[key]
        name = self.name("fastbp/constant")
        if array.dtype.kind in "OU":
            texts = [str(one).encode() for one in array.ravel()]
            made = self.onnx.helper.make_tensor(name, self.onnx.TensorProto.STRING, array.shape, texts)
        else:
            made = self.onnx.numpy_helper.from_array(np.ascontiguousarray(array).reshape(array.shape), name)
        self._constants.append(made)
        if key is not None:
            self._known[key] = name
        return name

    def cast(self, tensor: str, dtype: Any) -> str:
        """A tensor as another type."""
        return self.op("Cast", tensor, to=self._type(dtype))

    def _type(self, dtype: Any) -> int:
        if dtype is str:
            return int(self.onnx.TensorProto.STRING)
        return int(self.onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))

    def write(self, path: PathLike, description: str, metadata: Mapping[str, Any]) -> None:
        """Check the graph, and write it to a file.

        Raises
        ------
        ValueError
            It is larger than an ONNX file can be.
        """
        if (size := sum(one.ByteSize() for one in self._constants)) > _MOST_BYTES:
            raise ValueError(f"the network takes {size / 1e9:.3g} GB, but an ONNX file holds 2 GB: use float32")
        helper = self.onnx.helper
        graph = helper.make_graph(
            self._nodes, "fastbp", self.inputs, self.outputs, self._constants, doc_string=description
        )
        opsets = [helper.make_opsetid("", OPSET)]
        if any(node.domain for node in self._nodes):
            opsets.append(helper.make_opsetid("ai.onnx.ml", ML_OPSET))
        model = helper.make_model(
            graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="fastbp", producer_version=__version__
        )
        helper.set_model_props(model, {"fastbp": json.dumps(metadata)})
        self.onnx.checker.check_model(model, full_check=True)
        with replacing(path, "wb") as file:
            file.write(model.SerializeToString(deterministic=True))


def text_or_numbers(labels: Sequence[Any]) -> tuple[Array, Any]:
    """Labels as an array that ONNX knows, and its type: integers, floats, booleans or text."""
    if all(type(one) is int and -(1 << 63) <= one < 1 << 63 for one in labels):
        return np.array(labels, np.int64), np.int64
    if all(type(one) is bool for one in labels):
        return np.array(labels, np.bool_), np.bool_
    if all(type(one) in (int, float) for one in labels):
        return np.array(labels, np.float64), np.float64
    return np.array([str(one) for one in labels], object), str
