"""Models as files: safetensors with a JSON description and a checksum, replaced atomically and never unpickled.

A model file holds the arrays ``weights.k``, ``biases.k``, ``scaling.*`` and ``optimizer.*``, and one metadata entry,
``fastbp``, with the rest as JSON. Any safetensors reader can open it.
"""

from __future__ import annotations

import json
import os
from typing import Any

import numpy as np

from fastbp.io import tensors as _tensors
from fastbp.io.files import damaged, opened, replacing
from fastbp.types import Array

FORMAT = "fastbp"
# What this fastbp reads: 1 is a network; 2 one that knows the columns of its table, or has an input_scale, of which an
# older fastbp would be silent.
VERSION = 2

PathLike = str | os.PathLike[str]

_BROKEN = "is not a fastbp model, or was cut short or damaged", "write it again with net.save or train --out"


def save(path: PathLike, tensors: dict[str, Array], metadata: dict[str, Any], *, version: int = 1) -> None:
    """Write arrays and JSON-able metadata to `path`, which afterwards holds the whole new file or still the old one.

    Raises
    ------
    TypeError
        If `metadata` is not JSON-able, or an array of a type that safetensors does not know.
    OSError
        If the file cannot be written.
    """
    header = json.dumps({"format": FORMAT, "version": version, **metadata})
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


def _description(path: PathLike, texts: dict[str, str]) -> dict[str, Any]:
    """The JSON metadata of a safetensors file, checked for format and version."""
    text = texts.get(FORMAT)
    try:
        description = json.loads(text) if text is not None else None
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} has a damaged fastbp description: {error}; the file must be written again") from error
    kind = description.get("format") if isinstance(description, dict) else None
    if isinstance(kind, str) and kind.startswith(f"{FORMAT} "):
        several = "fastbp.Ensemble.load" if kind.endswith("ensemble") else "fastbp.GroupModel.load"
        several = "fastbp.SeveralTables.load" if description and "table" in description else several
        raise ValueError(f"{path} holds several networks ({kind}): read it by {several}, or apply it by fastbp predict")
    if not isinstance(description, dict) or kind != FORMAT:
        raise ValueError(f"{path} is a safetensors file, but no fastbp model; expected one written by net.save")
    version = description.get("version")
    if type(version) is not int or version < 1:
        raise ValueError(f"{path} has format version {version!r}; expected an integer from 1 to {VERSION}")
    if version > VERSION:
        raise ValueError(f"{path} has format version {version}, this fastbp reads up to {VERSION}; upgrade fastbp")
    return description


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
