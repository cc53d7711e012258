"""Dense models of Keras 3 as networks: layers by their descriptions, weights from a file or the model itself."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from fastbp.interop import keras_files
from fastbp.interop.assembly import Assembly, refused, unknown
from fastbp.interop.keras_files import Fetch
from fastbp.io.extras import load
from fastbp.io.files import damaged, opened
from fastbp.losses import Loss
from fastbp.model import Model
from fastbp.types import Array

# Keras's name -> fastbp's, or that of an ending.
ACTIVATIONS = {
    "linear": "identity", "relu": "relu", "elu": "elu", "selu": "selu", "tanh": "tanh", "sigmoid": "sigmoid",
    "softplus": "softplus", "gelu": "gelu", "silu": "silu", "swish": "silu", "mish": "mish",
    "hard_sigmoid": "hard_sigmoid", "hard_silu": "hard_swish", "hard_swish": "hard_swish", "softmax": "softmax",
    "log_softmax": "softmax", "exponential": "exponential",
}  # fmt: skip
# keras.losses.Huber does not keep its delta: unlike the name, it is none of them.
_LOSSES = {
    "mse": "mse", "mean_squared_error": "mse", "MeanSquaredError": "mse", "mae": "mae", "mean_absolute_error": "mae",
    "MeanAbsoluteError": "mae", "huber": "huber", "log_cosh": "log_cosh", "logcosh": "log_cosh",
    "LogCosh": "log_cosh",
}  # fmt: skip
_OF_LOGITS = {
    "CategoricalCrossentropy": "cross_entropy", "SparseCategoricalCrossentropy": "cross_entropy",
    "BinaryCrossentropy": "binary_cross_entropy",
}  # fmt: skip
_KNOWN = [
    "Sequential", "InputLayer", "Dense", "Dropout", "Activation", "ReLU", "LeakyReLU", "ELU", "Softmax", "Flatten",
    "Identity", "Normalization", "Rescaling",
]  # fmt: skip
_EPSILON = 1e-7  # the least deviation of Keras's Normalization


class _Layer(NamedTuple):
    """A layer: its name in errors and in the file, its class, description and shape of inputs; what reads weights."""

    where: str
    path: str
    kind: str
    config: dict[str, Any]
    shape: list[int | None]
    fetch: Fetch


def model_of(source: Any, loss: str | Loss | None, class_labels: list[Any] | None) -> Model:
    """The work of `fastbp.from_keras`."""
    if hasattr(source, "to_json") and hasattr(source, "get_layer"):
        return _assemble(json.loads(source.to_json()), _fetch_from(source), loss, class_labels, in_file=False)
    if not isinstance(source, str | os.PathLike):
        raise TypeError(f"model must be a path or a keras.Model, got {source!r:.80} of type {type(source).__name__}")
    h5py = load("h5py", ".keras files need h5py", "keras")
    with opened(source) as file, damaged(source, "cannot be read as a model of Keras"):
        config, fetch = keras_files.read(file, h5py)
        return _assemble(config, fetch, loss, class_labels, in_file=True)


def _fetch_from(model: Any) -> Fetch:
    """What reads the weights of a model in memory; a path is then that of the names of layers."""

    def fetch(path: str, shape: tuple[int | None, ...]) -> Array:
        *names, _, number = path.split("/")
        found = model
        for name in names:
            found = found.get_layer(name)
        return np.asarray(found.get_weights()[int(number)])

    return fetch


def _assemble(
    config: dict[str, Any], fetch: Fetch, loss: str | Loss | None, class_labels: list[Any] | None, *, in_file: bool
) -> Model:
    found = Assembly()
    for layer in _chain(config, "", fetch, in_file):
        _take(found, layer)
    return found.model(loss, class_labels, _compiled(config.get("compile_config") or {}))


def _compiled(config: dict[str, Any]) -> str | None:
    """fastbp's name of the loss that a model was compiled with; None where it is not known, or goes with an ending."""
    given = config.get("loss")
    name, options = (
        (given, {}) if isinstance(given, str) else ((given or {}).get("class_name"), (given or {}).get("config"))
    )
    if name in _OF_LOGITS and isinstance(options, dict) and options.get("from_logits"):
        return _OF_LOGITS[name]
    return _LOSSES.get(name or "")


# --- layers in a row ----------------------------------------------------------------------------------------


def _chain(config: dict[str, Any], prefix: str, fetch: Fetch, in_file: bool) -> Iterator[_Layer]:
    """The layers in the order in which data go through them; models within models are taken apart."""
    kind, said = config["class_name"], config["config"]
    name = said.get("name", kind)
    if kind not in ("Sequential", "Functional"):
        raise unknown(f"{name}", kind, ["Sequential", "Functional"])
    layers, counts = {}, Counter[str]()
    for one in said["layers"]:
        word = _snake(one["class_name"])
        own, counts[word] = f"{word}_{counts[word]}" if counts[word] else word, counts[word] + 1
        layers[one["config"]["name"]] = (
            one,
            f"{prefix}layers/{own}/" if in_file else f"{prefix}{one['config']['name']}/",
        )
    for inner in list(layers) if kind == "Sequential" else _order(name, said):
        one, path = layers[inner]
        if one["class_name"] in ("Sequential", "Functional"):
            yield from _chain(one, path, fetch, in_file)
        else:
            shape = (one.get("build_config") or {}).get("input_shape") or [None, None]
            yield _Layer(f"{inner} ({one['class_name']})", path, one["class_name"], one["config"], shape, fetch)


def _snake(name: str) -> str:
    """The name of a class as Keras writes it in files: LeakyReLU is leaky_re_lu."""
    name = re.sub(r"(.)([A-Z][a-z0-9]+)", r"\1_\2", re.sub(r"\W+", "", name))
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()


def _order(name: str, config: dict[str, Any]) -> list[str]:
    """The layers of a functional model, if they are one chain from one input to one output."""
    follows: dict[str, str] = {}
    for one in config["layers"]:
        inner = one["config"]["name"]
        for node in one["inbound_nodes"]:
            before = re.findall(r'"keras_history": \["((?:[^"\\]|\\.)*)"', json.dumps(node))
            if len(before) != 1 or len(one["inbound_nodes"]) != 1:
                raise refused(
                    f"{inner} ({one['class_name']})", "has several inputs", "fastbp has layers in a row alone"
                )
            if (other := json.loads(f'"{before[0]}"')) in follows:
                raise refused(f"{other}", "leads to several layers", "fastbp has layers in a row alone")
            follows[other] = inner
    starts = [one["config"]["name"] for one in config["layers"] if not one["inbound_nodes"]]
    if len(starts) != 1:
        raise refused(f"{name}", f"has {len(starts)} inputs", "fastbp has layers in a row alone")
    chain = starts
    while chain[-1] in follows and len(chain) <= len(config["layers"]):
        chain.append(follows[chain[-1]])
    end = config["output_layers"]
    last = end[0] if isinstance(end[0], str) else end[0][0]
    if len(chain) != len(config["layers"]) or last != chain[-1]:
        raise refused(f"{name}", "is no chain of layers to one output", "fastbp has layers in a row alone")
    return chain


# --- one layer ----------------------------------------------------------------------------------------------


def _take(found: Assembly, layer: _Layer) -> None:
    where, kind, config = layer.where, layer.kind, layer.config
    if kind in ("InputLayer", "Flatten", "Identity"):
        return
    if kind in ("Dense", "Normalization") and len(layer.shape) != 2:
        raise refused(where, f"takes inputs of shape {layer.shape}, not rows of numbers", "put a Flatten before it")
    if kind == "Dense":
        weight = layer.fetch(f"{layer.path}vars/0", (None, config["units"]))
        bias = layer.fetch(f"{layer.path}vars/1", (config["units"],)) if config["use_bias"] else None
        found.dense(where, weight, bias)
        _activate(found, where, config["activation"])
    elif kind == "Dropout":
        if config.get("noise_shape") is not None:
            raise refused(where, f"has noise_shape={config['noise_shape']}", "fastbp drops each unit by itself")
        found.dropout(where, float(config["rate"]))
    elif kind == "Activation":
        _activate(found, where, config["activation"])
    elif kind in ("ReLU", "LeakyReLU"):
        slope = float(config.get("negative_slope", 0.3 if kind == "LeakyReLU" else 0.0))
        limits = [f"{name}={config[name]!r}" for name in ("max_value", "threshold") if config.get(name)]
        if limits or slope not in (0.0, 0.01):
            odd = limits[0] if limits else f"negative_slope={slope:g}"
            raise refused(where, f"has {odd}", "fastbp has relu, and leaky_relu with a slope of 0.01")
        found.activation(where, "leaky_relu" if slope else "relu")
    elif kind == "ELU":
        if float(config["alpha"]) != 1.0:
            raise refused(where, f"has alpha={config['alpha']:g}", "fastbp has elu with alpha=1")
        found.activation(where, "elu")
    elif kind == "Softmax":
        if config["axis"] not in (-1, 1):
            raise refused(where, f"goes along axis={config['axis']!r}", "fastbp has it along the classes, axis=-1")
        found.activation(where, "softmax")
    elif kind in ("Normalization", "Rescaling"):
        _scale(found, layer)
    else:
        raise unknown(where, kind, _KNOWN)


def _activate(found: Assembly, where: str, activation: Any) -> None:
    name = "linear" if activation is None else activation
    if isinstance(name, dict):
        name = name.get("config") if isinstance(name.get("config"), str) else name.get("class_name")
    if name == "leaky_relu":
        raise refused(where, "has the activation leaky_relu, of slope 0.2", "fastbp's has 0.01: LeakyReLU(0.01)")
    if name not in ACTIVATIONS or isinstance(activation, dict):
        raise refused(where, f"has the activation {name!r:.60}", f"fastbp takes {', '.join(ACTIVATIONS)}")
    found.activation(where, ACTIVATIONS[name])


def _scale(found: Assembly, layer: _Layer) -> None:
    """A layer that standardises the inputs."""
    where, config = layer.where, layer.config
    if layer.kind == "Rescaling":
        scale, offset = (np.atleast_1d(np.asarray(config[name], np.float64)) for name in ("scale", "offset"))
        if not (scale > 0).all():
            raise refused(where, "has a scale that is not above 0", "scale the data, and leave it out")
        found.standardize(where, -offset / scale, 1.0 / scale)
        return
    axis = config["axis"] if isinstance(config["axis"], list) else [config["axis"]]
    if axis not in ([-1], [1]) or config.get("invert"):
        odd = "invert=True" if config.get("invert") else f"axis={config['axis']!r}"
        raise refused(where, f"has {odd}", "fastbp standardises each input by itself: axis=-1")
    if config.get("mean") is not None:
        mean, variance = (np.asarray(config[name], np.float64).ravel() for name in ("mean", "variance"))
    else:
        mean = layer.fetch(f"{layer.path}vars/0", (None,)).astype(np.float64)
        variance = layer.fetch(f"{layer.path}vars/1", (len(mean),)).astype(np.float64)
    if not (variance >= 0).all():
        raise ValueError(f"{where} has a variance that is not at least 0")
    found.standardize(where, mean, np.maximum(np.sqrt(variance), _EPSILON))
