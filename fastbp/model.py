"""A network as values, and as the arrays and the JSON of a file: what `MLP.save` writes and `fastbp.load` reads."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any, NamedTuple

import numpy as np

from fastbp import losses
from fastbp.data import labels
from fastbp.io import model_files
from fastbp.spec import NetworkSpec, Scaling
from fastbp.types import Array
from fastbp.validation import check_sizes

_SCALING_FIELDS = ("x_mean", "x_scale", "y_mean", "y_scale")


class Model(NamedTuple):
    """All that makes a network equal to another."""

    spec: NetworkSpec
    weights: list[Array]
    biases: list[Array]
    scaling: Scaling | None = None
    class_labels: list[Any] | None = None
    optimizer: dict[str, Any] | None = None  # what `MLP.optimizer_state` returns; None: nothing is counted yet
    input_scale: Array | None = None  # (n_in,), of networks that have it; None: all 1


def to_file(model: Model) -> tuple[dict[str, Array], dict[str, Any]]:
    """Arrays by name, and JSON-able values, for `from_file`."""
    tensors: dict[str, Array] = {}
    for k, (weight, bias) in enumerate(zip(model.weights, model.biases, strict=True)):
        tensors[f"weights.{k}"] = weight
        tensors[f"biases.{k}"] = bias
    if model.input_scale is not None:
        tensors["input_scale"] = model.input_scale
    if model.scaling is not None:
        for field in _SCALING_FIELDS:
            if (array := getattr(model.scaling, field)) is not None:
                tensors[f"scaling.{field}"] = np.asarray(array)
    spec = model.spec
    metadata = {
        "sizes": list(spec.sizes),
        "activations": list(spec.activations),
        "output_activation": spec.output_activation,
        "loss": {"name": spec.loss.name, **_options(spec.loss)},
        "init": spec.init,
        "regularization": spec.regularization.as_arguments(),
        "dtype": spec.dtype.name,
        "seed": spec.seed,
        "class_labels": model.class_labels,
        "optimizer": model_files.pack(model.optimizer, "optimizer", tensors),
    }
    if spec.input_scale:  # others stay readable for every version of fastbp
        metadata |= {"input_scale": True, "version": model_files.VERSION}
    return tensors, metadata


def from_file(tensors: dict[str, Array], metadata: dict[str, Any]) -> Model:
    """What `to_file` was given.

    Raises
    ------
    ValueError
        Arrays are missing or of other shapes than described: found before anything of that size is made.
    """
    metadata, tensors = _Named(metadata, "its description"), _Named(tensors, "its arrays")
    sizes = check_sizes(metadata["sizes"])
    shapes: dict[str, tuple[int, ...]] = {f"weights.{k}": pair for k, pair in enumerate(itertools.pairwise(sizes))}
    shapes |= {f"biases.{k}": (n,) for k, n in enumerate(sizes[1:])}
    scaled = metadata.get("input_scale", False)
    if scaled:
        shapes["input_scale"] = sizes[:1]
    for name, shape in shapes.items():
        if tensors[name].shape != shape:
            raise ValueError(f"{name} has shape {tensors[name].shape}, but sizes {list(sizes)} ask for {shape}")
    options = dict(metadata["loss"])
    loss = dataclasses.replace(losses.get(options.pop("name")), **options)
    # A softmax over one output, which is refused now, stands in files of 0.1: such a network comes back as it was.
    old = loss.link.one_class and sizes[-1] == 1
    spec = NetworkSpec.check(
        sizes,
        activation=list(metadata["activations"]),
        output_activation=metadata["output_activation"],
        loss=losses.MSE() if old else loss,
        init=metadata.get("init"),  # files of the first version lack it
        **metadata.get("regularization", {}),  # files of 0.1 have none
        dtype=metadata["dtype"],
        seed=metadata["seed"],
        input_scale=scaled,
    )
    if old:
        spec = dataclasses.replace(spec, loss=loss)
    scaling = None
    if any(name.startswith("scaling.") for name in tensors):
        names = [field for field in _SCALING_FIELDS if f"scaling.{field}" in tensors or field.startswith("x_")]
        scaling = Scaling(**{field: tensors[f"scaling.{field}"] for field in names}).check(spec.sizes, spec.loss)
    layers = range(len(sizes) - 1)
    return Model(
        spec, [tensors[f"weights.{k}"] for k in layers], [tensors[f"biases.{k}"] for k in layers], scaling,
        labels.check(metadata["class_labels"], spec.loss, spec.n_out),
        model_files.unpack(metadata["optimizer"], tensors) or {},  # what says nothing is refused
        tensors["input_scale"] if scaled else None,
    )  # fmt: skip


class _Named(dict[str, Any]):
    """What a file holds by name; what it lacks is told as that."""

    def __init__(self, found: dict[str, Any], what: str) -> None:
        super().__init__(found)
        self.what = what

    def __missing__(self, name: str) -> Any:
        raise ValueError(f"{name} is missing among {self.what}")


def _options(description: Any) -> dict[str, Any]:
    return {f.name: getattr(description, f.name) for f in dataclasses.fields(description) if f.init}
