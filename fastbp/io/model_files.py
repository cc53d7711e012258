"""Models as files: safetensors with a JSON description and a checksum, replaced atomically and never unpickled.

A model file holds the arrays ``weights.k``, ``biases.k``, ``scaling.*`` and ``optimizer.*``, and one metadata entry,
``fastbp``, with the rest as JSON. Any safetensors reader can open it.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fastbp.io import tensors as _tensors
from fastbp.io.files import damaged, opened, replacing
from fastbp.validation import check_sizes

if TYPE_CHECKING:
    from fastbp.network import MLP

FORMAT = "fastbp"
VERSION = 1  # raised when an older fastbp could no longer read the files of a newer one

Array = npt.NDArray[Any]
PathLike = str | os.PathLike[str]

_SCALING_FIELDS = ("x_mean", "x_scale", "y_mean", "y_scale")
_BROKEN = "is not a fastbp model, or was cut short or damaged", "write it again with net.save or train --out"


def save(path: PathLike, tensors: dict[str, Array], metadata: dict[str, Any]) -> None:
    """Write arrays and JSON-able metadata to `path`, which afterwards holds the whole new file or still the old one.

    Raises
    ------
    TypeError
        If `metadata` is not JSON-able, or an array of a type that safetensors does not know.
    OSError
        If the file cannot be written.
    """
    header = json.dumps({"format": FORMAT, "version": VERSION, **metadata})
    with replacing(path, "wb") as file:
        _tensors.write(file, tensors, {FORMAT: header})


def load(path: PathLike) -> tuple[dict[str, Array], dict[str, Any]]:
    """Read what `save` wrote.

    Raises
    ------
    ValueError
        If the file is not a fastbp model, is truncated or damaged, or was written by a newer version of the format.
    OSError
        If there is no such file, or it cannot be read.
    """
    with opened(path) as file, damaged(path, *_BROKEN):
        tensors, texts = _tensors.read(file)
        return tensors, _description(path, texts)


def save_model(net: MLP, path: PathLike) -> None:
    """Write a network, with its scaling, class labels and optimiser state, to `path`."""
    save(path, *model_state(net))


def load_model(path: PathLike) -> MLP:
    """Read a network that `save_model` wrote; it predicts and goes on training as the saved one would.

    Raises
    ------
    ValueError
        As `load`, and if arrays are missing or do not fit the described network.
    """
    tensors, metadata = load(path)
    with damaged(path, "does not describe a network that this fastbp can build"):
        return model_from_state(tensors, metadata)


def model_state(net: MLP) -> tuple[dict[str, Array], dict[str, Any]]:
    """All that `model_from_state` needs to build an equal network: arrays by name, and JSON-able values."""
    tensors: dict[str, Array] = {}
    for k, (weight, bias) in enumerate(zip(net.weights, net.biases, strict=True)):
        tensors[f"weights.{k}"] = weight
        tensors[f"biases.{k}"] = bias
    if net.scaling is not None:
        for field in _SCALING_FIELDS:
            if (array := getattr(net.scaling, field)) is not None:
                tensors[f"scaling.{field}"] = np.asarray(array)
    metadata = {
        "sizes": [int(n) for n in net.sizes],
        "activations": [getattr(activation, "name", activation) for activation in net.activations],
        "output_activation": getattr(net.output_activation, "name", net.output_activation),
        "loss": {"name": net.loss.name, **_init_fields(net.loss)},
        "init": net.init,
        "regularization": net.regularization.as_arguments(),
        "dtype": np.dtype(net.dtype).name,
        "seed": None if net.seed is None else int(net.seed),
        "class_labels": None if net.class_labels is None else [_plain(label) for label in net.class_labels],
        "optimizer": pack(net.optimizer_state(), "optimizer", tensors),
    }
    return tensors, metadata


def model_from_state(tensors: dict[str, Array], metadata: dict[str, Any]) -> MLP:
    """Build the network that `model_state` described.

    Raises
    ------
    ValueError
        Arrays are missing or of other shapes than described: found before anything of that size is made.
    """
    # Upward on purpose, and late: MLP.save calls this module, which alone knows the format of both directions.
    from fastbp import losses
    from fastbp.network import MLP
    from fastbp.spec import Scaling

    metadata, tensors = _Named(metadata, "its description"), _Named(tensors, "its arrays")
    sizes = check_sizes(metadata["sizes"])
    shapes: dict[str, tuple[int, ...]] = {f"weights.{k}": pair for k, pair in enumerate(itertools.pairwise(sizes))}
    shapes |= {f"biases.{k}": (n,) for k, n in enumerate(sizes[1:])}
    for name, shape in shapes.items():
        if tensors[name].shape != shape:
            raise ValueError(f"{name} has shape {tensors[name].shape}, but sizes {list(sizes)} ask for {shape}")
    loss = dict(metadata["loss"])
    description = dataclasses.replace(losses.get(loss.pop("name")), **loss)
    # A softmax over one output, which is refused now, stands in files of 0.1: such a network comes back as it was.
    old = description.link.one_class and metadata["sizes"][-1] == 1
    net = MLP(
        sizes,
        activation=list(metadata["activations"]),
        output_activation=metadata["output_activation"],
        loss=losses.MSE() if old else description,
        init=metadata.get("init"),  # files of the first version lack it
        **metadata.get("regularization", {}),  # files of 0.1 have none
        dtype=metadata["dtype"],
        seed=metadata["seed"],
    )
    if old:
        vars(net)["loss"] = description
        net._build(net.weights, net.biases)
    layers = range(len(sizes) - 1)
    net.set_weights([tensors[f"weights.{k}"] for k in layers], [tensors[f"biases.{k}"] for k in layers])
    if any(name.startswith("scaling.") for name in tensors):
        names = [field for field in _SCALING_FIELDS if f"scaling.{field}" in tensors or field.startswith("x_")]
        net.scaling = Scaling(**{field: tensors[f"scaling.{field}"] for field in names})
    net.class_labels = metadata["class_labels"]
    net.load_optimizer_state(unpack(metadata["optimizer"], tensors))
    return net


class _Named(dict[str, Any]):
    """What a file holds by name; what it lacks is told as that."""

    def __init__(self, held: dict[str, Any], what: str) -> None:
        super().__init__(held)
        self.what = what

    def __missing__(self, name: str) -> Any:
        raise ValueError(f"{name} is missing among {self.what}")


def _description(path: PathLike, texts: dict[str, str]) -> dict[str, Any]:
    """The JSON metadata of a safetensors file, checked for format and version."""
    text = texts.get(FORMAT)
    try:
        description = json.loads(text) if text is not None else None
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} has a damaged fastbp description: {error}; the file must be written again") from error
    if not isinstance(description, dict) or description.get("format") != FORMAT:
        raise ValueError(f"{path} is a safetensors file, but no fastbp model; expected one written by net.save")
    version = description.get("version")
    if type(version) is not int or version < 1:
        raise ValueError(f"{path} has format version {version!r}; expected an integer from 1 to {VERSION}")
    if version > VERSION:
        raise ValueError(f"{path} has format version {version}, this fastbp reads up to {VERSION}; upgrade fastbp")
    return description


def _init_fields(description: Any) -> dict[str, Any]:
    return {f.name: _plain(getattr(description, f.name)) for f in dataclasses.fields(description) if f.init}


def _plain(value: Any) -> Any:
    """NumPy scalars as Python's, which JSON knows."""
    return value.item() if isinstance(value, np.generic) else value


def pack(value: Any, name: str, tensors: dict[str, Array]) -> Any:
    """`value` with each array, at any depth, moved to `tensors` and replaced by ``{"tensor": its name}``."""
    if isinstance(value, np.ndarray):
        tensors[name] = value
        return {"tensor": name}
    if isinstance(value, dict):
        return {key: pack(one, f"{name}.{key}", tensors) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [pack(one, f"{name}.{k}", tensors) for k, one in enumerate(value)]
    return _plain(value)


def unpack(value: Any, tensors: dict[str, Array]) -> Any:
    """What `pack` was given; tuples are lists now."""
    if isinstance(value, dict):
        if value.keys() == {"tensor"}:
            return tensors[value["tensor"]]
        return {key: unpack(one, tensors) for key, one in value.items()}
    return [unpack(one, tensors) for one in value] if isinstance(value, list) else value
