"""A network as an ONNX graph: standardisation, layers and the link of its loss, by operators of float32 and float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastbp.interop.onnx_graph import Graph, text_or_numbers
from fastbp.interop.outline import Outline
from fastbp.io.files import PathLike
from fastbp.kernels.activations import ERFCX_DOUBLE
from fastbp.links import EXPONENTIAL, SIGMOID
from fastbp.validation import check_dtype

# --- activations --------------------------------------------------------------------------------------------


def _exp_of_negative(g: Graph, z: str) -> str:
    """e^-|z|, which never overflows."""
    return g.op("Exp", g.op("Neg", g.op("Abs", z)))


def _expm1_below(g: Graph, z: str) -> str:
    """e^z - 1 below zero, 0 above."""
    return g.op("Sub", g.op("Exp", g.op("Min", z, g.array(0.0))), g.array(1.0))


def _elu(g: Graph, z: str) -> str:
    return g.op("Add", g.op("Relu", z), _expm1_below(g, z))


def _selu(g: Graph, z: str) -> str:
    below = g.op("Mul", g.array(1.7580993408473768599), _expm1_below(g, z))
    return g.op("Add", g.op("Mul", g.array(1.0507009873554804934), g.op("Relu", z)), below)


def _softplus(g: Graph, z: str) -> str:
    return g.op("Add", g.op("Relu", z), g.op("Log", g.op("Add", g.array(1.0), _exp_of_negative(g, z))))


def _gelu(g: Graph, z: str) -> str:
    if g.dtype == np.float32:
        erf = g.op("Erf", g.op("Mul", z, g.array(0.5**0.5)))
        return g.op("Mul", g.op("Mul", z, g.array(0.5)), g.op("Add", erf, g.array(1.0)))
    # ONNX Runtime has no Erf of float64: erfc by the fit of the kernels, in (x - 3) / (x + 3) with x = |z| / sqrt(2).
    x = g.op("Mul", g.op("Abs", z), g.array(0.5**0.5))
    t = g.op("Div", g.op("Sub", x, g.array(3.0)), g.op("Add", x, g.array(3.0)))
    fit = g.array(ERFCX_DOUBLE[0])
    for coefficient in ERFCX_DOUBLE[1:]:
        fit = g.op("Add", g.op("Mul", fit, t), g.array(coefficient))
    bell = g.op("Exp", g.op("Neg", g.op("Mul", x, x)))
    tail = g.op("Mul", g.op("Mul", g.array(0.5), bell), fit)
    share = g.op("Where", g.op("Less", z, g.array(0.0)), tail, g.op("Sub", g.array(1.0), tail))
    return g.op("Mul", z, share)


def _silu(g: Graph, z: str) -> str:
    return g.op("Mul", z, g.op("Sigmoid", z))


def _mish(g: Graph, z: str) -> str:
    return g.op("Mul", z, g.op("Tanh", _softplus(g, z)))


def _hard_sigmoid(g: Graph, z: str) -> str:
    raised = g.op("Relu", g.op("Add", z, g.array(3.0)))
    return g.op("Mul", g.op("Min", raised, g.array(6.0)), g.array(1.0 / 6.0))


def _hard_swish(g: Graph, z: str) -> str:
    return g.op("Mul", z, _hard_sigmoid(g, z))


ACTIVATIONS: dict[str, Callable[[Graph, str], str]] = {
    "identity": lambda g, z: z,
    "relu": lambda g, z: g.op("Relu", z),
    "leaky_relu": lambda g, z: g.op("Max", z, g.op("Mul", g.array(0.01), z)),
    "elu": _elu,
    "selu": _selu,
    "tanh": lambda g, z: g.op("Tanh", z),
    "sigmoid": lambda g, z: g.op("Sigmoid", z),
    "softplus": _softplus,
    "gelu": _gelu,
    "silu": _silu,
    "mish": _mish,
    "hard_sigmoid": _hard_sigmoid,
    "hard_swish": _hard_swish,
}

# --- the network --------------------------------------------------------------------------------------------


def layers(g: Graph, outline: Outline, x: str, dtype: Any) -> str:
    """The outputs of the last layer before the link, of inputs in a dtype."""
    if outline.x_mean is not None:
        x, dtype = (g.cast(x, np.float64) if dtype != np.float64 else x), np.float64
        x = g.op("Sub", x, g.array(outline.x_mean, np.float64))
        x = g.op("Div", x, g.array(outline.x_scale, np.float64))
    x = x if g.dtype == dtype else g.cast(x, g.dtype)
    for layer in outline.layers:
        x = ACTIVATIONS[layer.activation](g, g.op("Gemm", x, g.array(layer.weight), g.array(layer.bias)))
    return x


def values(g: Graph, outline: Outline, z: str) -> tuple[str, type[np.float64] | np.dtype[np.floating]]:
    """Predicted numbers ``(rows, n_out)``, and their dtype."""
    z = g.op("Exp", z) if outline.loss.link is EXPONENTIAL else z
    if outline.y_mean is None:
        return z, g.dtype
    z = g.op("Mul", g.cast(z, np.float64), g.array(outline.y_scale, np.float64))
    return g.op("Add", z, g.array(outline.y_mean, np.float64)), np.float64


def probabilities(g: Graph, outline: Outline, z: str) -> str:
    """Probabilities ``(rows, n_out)`` of a classifier."""
    return g.op("Sigmoid", z) if outline.loss.link is SIGMOID else g.op("Softmax", z, axis=1)


def classes(g: Graph, outline: Outline, z: str) -> str:
    """The numbers of the classes: ``(rows,)`` of one for each row, else ``(rows, n_out)`` of zeros and ones."""
    if outline.loss.link is SIGMOID:
        return g.cast(g.op("Greater", z, g.array(0.0)), np.int64)
    return g.op("ArgMax", z, axis=1, keepdims=0)


def flat(g: Graph, tensor: str) -> str:
    """A single column as ``(rows,)``."""
    return g.op("Squeeze", tensor, g.array([1], np.int64))


def write(outline: Outline, path: PathLike, input_dtype: object = None) -> None:
    """The work of `MLP.to_onnx`."""
    g = Graph(outline.dtype)
    wide = outline.needs_double if input_dtype is None else check_dtype(input_dtype) == np.float64
    x_dtype = np.float64 if wide or (outline.dtype == np.float64 and input_dtype is None) else np.float32
    n_out, link = outline.sizes[-1], outline.loss.link
    z = layers(g, outline, g.input("X", x_dtype, outline.sizes[0]), x_dtype)
    columns = None if n_out == 1 else n_out
    if link.classifies:
        found, proba = classes(g, outline, z), probabilities(g, outline, z)
        if columns is None:
            found, proba = flat(g, found), flat(g, proba)
        g.output("prediction", found, np.int64, None if link.one_class else columns)
        g.output("probabilities", proba, g.dtype, columns)
        if outline.class_labels is not None and (link.one_class or n_out == 1):
            names, kind = text_or_numbers(outline.class_labels)
            g.output("label", g.op("Gather", g.array(names, names.dtype), found), kind)
    else:
        found, dtype = values(g, outline, z)
        g.output("prediction", flat(g, found) if columns is None else found, dtype, columns)
    shape = "-".join(map(str, outline.sizes))
    told = {"loss": outline.loss.name, "class_labels": outline.class_labels, "feature_names": outline.feature_names}
    g.write(path, f"A feed-forward network of {shape} units.", told)
