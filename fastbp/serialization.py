"""Models as files: safetensors with a JSON description, replaced atomically and never unpickled.

A model file holds the arrays ``weights.k``, ``biases.k``, ``scaling.*`` and ``optimizer.*``, and one metadata entry,
``fastbp``, with the rest as JSON. Any safetensors reader can open it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

if TYPE_CHECKING:
    from fastbp.network import MLP

FORMAT = "fastbp"
VERSION = 1  # raised when an older fastbp could no longer read the files of a newer one

Array = npt.NDArray[Any]
PathLike = str | os.PathLike[str]

_SCALING_FIELDS = ("x_mean", "x_scale", "y_mean", "y_scale")


def save(path: PathLike, tensors: dict[str, Array], metadata: dict[str, Any]) -> None:
    """Write arrays and JSON-able metadata to `path`, which afterwards holds the whole new file or still the old one.

    Raises
    ------
    TypeError
        If `metadata` is not JSON-able.
    OSError
        If the file cannot be written.
    """
    header = json.dumps({"format": FORMAT, "version": VERSION, **metadata})
    stored = {name: _storable(array) for name, array in tensors.items()}
    with replacing(path) as temporary:
        try:
            save_file(stored, temporary, metadata={FORMAT: header})
        except SafetensorError as error:  # a full disk, for one
            raise OSError(f"{path} cannot be written: {error}") from error


def load(path: PathLike) -> tuple[dict[str, Array], dict[str, Any]]:
    """Read what `save` wrote.

    Raises
    ------
    ValueError
        If the file is not a fastbp model, is truncated, or was written by a newer version of the format.
    OSError
        If there is no such file, or it cannot be read.
    """
    with open(path, "rb"):  # FileNotFoundError, IsADirectoryError and PermissionError in Python's own words
        pass
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = _description(path, file.metadata())
            tensors = {name: np.array(file.get_tensor(name)) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except SafetensorError as error:
        raise ValueError(
            f"{path} is not a fastbp model, or was cut short: {error}; write it again with net.save or train --out"
        ) from error
    return tensors, metadata


def describe(path: PathLike) -> dict[str, Any]:
    """Read the metadata of a file that `save` wrote, without its arrays; raises what `load` raises."""
    with open(path, "rb"):
        pass
    try:
        with safe_open(path, framework="numpy") as file:
            return _description(path, file.metadata())
    except SafetensorError as error:
        raise ValueError(f"{path} is not a fastbp model, or was cut short: {error}") from error


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
    try:
        return model_from_state(tensors, metadata)
    except KeyError as error:
        raise ValueError(f"{path} is not a complete fastbp model: {error.args[0]} is missing") from error
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path} does not describe a network that this fastbp can build: {error}") from error


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
    """Build the network that `model_state` described."""
    # Upward on purpose, and late: MLP.save calls this module, which alone knows the format of both directions.
    from fastbp import losses
    from fastbp.core import Scaling
    from fastbp.network import MLP

    loss = dict(metadata["loss"])
    description = losses.get(loss.pop("name"))
    net = MLP(
        metadata["sizes"],
        activation=list(metadata["activations"]),
        output_activation=metadata["output_activation"],
        loss=dataclasses.replace(description, **loss),
        init=metadata.get("init"),  # files of the first version lack it
        **metadata.get("regularization", {}),  # files of 0.1 have none
        dtype=metadata["dtype"],
        seed=metadata["seed"],
    )
    layers = range(len(metadata["sizes"]) - 1)
    net.set_weights([tensors[f"weights.{k}"] for k in layers], [tensors[f"biases.{k}"] for k in layers])
    if "scaling.x_mean" in tensors:
        scaling = {field: tensors[f"scaling.{field}"] for field in _SCALING_FIELDS if f"scaling.{field}" in tensors}
        net.scaling = Scaling(**scaling)
    net.class_labels = metadata["class_labels"]
    net.load_optimizer_state(unpack(metadata["optimizer"], tensors))
    return net


@contextlib.contextmanager
def replacing(path: PathLike) -> Iterator[Path]:
    """Give a temporary path beside `path` to write to; on success it takes the place of `path`, else it vanishes.

    The data reaches the disk before the name does (fsync), so a power cut cannot leave an empty file under it. A
    symbolic link is followed, and an existing file's permissions are kept.
    """
    target = Path(os.path.realpath(path))
    if target.is_dir():
        raise IsADirectoryError(f"{path} is a directory; give the name of a file")
    if not target.parent.is_dir():  # said here, or the error would name the temporary file
        raise FileNotFoundError(errno.ENOENT, "no such folder", str(target.parent))
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
    try:
        # Made here, not by the writer: O_EXCL follows no link, and 0o666 leaves the mode to the user's umask.
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        mode = target.stat().st_mode if target.exists() else temporary.stat().st_mode
        yield temporary
        os.chmod(temporary, mode & 0o7777)
        _flush(temporary, os.O_RDWR)
        os.replace(temporary, target)
    finally:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()
    if os.name == "posix":  # elsewhere a directory cannot be opened; there the rename is as durable as it gets
        _flush(target.parent, os.O_RDONLY)


def _flush(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _description(path: PathLike, metadata: dict[str, str] | None) -> dict[str, Any]:
    """The JSON metadata of a safetensors file, checked for format and version."""
    text = (metadata or {}).get(FORMAT)
    try:
        description = json.loads(text) if text is not None else None
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} has a damaged fastbp description: {error}; the file must be written again") from error
    if not isinstance(description, dict) or description.get("format") != FORMAT:
        raise ValueError(f"{path} is a safetensors file, but no fastbp model; expected one written by net.save")
    version = description.get("version")
    if not isinstance(version, int) or version < 1:
        raise ValueError(f"{path} has format version {version!r}; expected an integer from 1 to {VERSION}")
    if version > VERSION:
        raise ValueError(f"{path} has format version {version}, this fastbp reads up to {VERSION}; upgrade fastbp")
    return description


def _storable(array: Array) -> Array:
    """C-contiguous and in native byte order: safetensors stores the buffer as it lies in memory."""
    return np.array(array, dtype=array.dtype.newbyteorder("="), order="C", copy=None)


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
