"""`.keras` files of Keras 3 without Keras: a ZIP archive of a JSON description and HDF5 weights, read without trust."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from typing import Any, BinaryIO

import numpy as np

from fastbp.io.files import memory
from fastbp.types import Array

_WEIGHTS = "model.weights.h5"
_MOST_TEXT = 16 << 20
# Keras stores weights as they are; who packs them gains a tenth.
_MOST_TIMES, _SMALL = 8, 1 << 20
_PACKED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)

Fetch = Callable[[str, tuple[int | None, ...]], Array]  # of a path and a shape, None for any size


def read(file: BinaryIO, h5py: Any) -> tuple[dict[str, Any], Fetch]:
    """The description of a model, and a function that reads an array of its weights.

    Nothing is made that is larger than the file, but for texts of at most 16 MB.

    Raises
    ------
    ValueError
        It is no such file, or damaged; from a damaged one also whatever `zipfile`, `json` and h5py raise.
    """
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    if not zipfile.is_zipfile(file):
        file.seek(0)
        old = file.read(4) == b"\x89HDF"
        hint = "an HDF5 file of Keras 2: load it in Keras, and save it under a name that ends in .keras"
        raise ValueError(f"it is {hint if old else 'no .keras file, or was cut short: write it with model.save(path)'}")
    with zipfile.ZipFile(file) as archive:
        version = str(json.loads(_member(archive, "metadata.json", _MOST_TEXT)).get("keras_version"))
        if not version.startswith("3."):
            raise ValueError(f"it is of Keras {version}: load it in Keras 3, and save it again")
        config = json.loads(_member(archive, "config.json", _MOST_TEXT))
        if not isinstance(config, dict):
            raise ValueError("its config.json describes no model")
        content = _member(archive, _WEIGHTS, min(_MOST_TIMES * size + _SMALL, memory()))
    weights = h5py.File(io.BytesIO(content), "r")

    def fetch(path: str, shape: tuple[int | None, ...]) -> Array:
        return _array(weights, path, shape, len(content), h5py)

    return config, fetch


def _member(archive: zipfile.ZipFile, name: str, most: int) -> bytes:
    """A file of the archive, whose checksum is looked at."""
    try:
        info = archive.getinfo(name)
    except KeyError as error:
        raise ValueError(f"it has no {name}: write it with model.save(path)") from error
    if info.compress_type not in _PACKED:
        raise ValueError(f"{name} is packed as Keras never does; write it with model.save(path)")
    if info.file_size > most:
        raise ValueError(
            f"{name} unpacks to {info.file_size / 1e9:.3g} GB, more than the {most / 1e9:.3g} GB that it may"
        )
    with archive.open(info) as member:
        return member.read()


def _array(weights: Any, path: str, shape: tuple[int | None, ...], size: int, h5py: Any) -> Array:
    """A dataset of this shape that lies in the file itself."""
    found = weights
    for part in path.split("/"):
        link = found.get(part, getlink=True) if isinstance(found, h5py.Group) else None
        if not isinstance(link, h5py.HardLink):  # others lead out of the file
            raise ValueError(f"its weights have no {path}")
        found = found[part]
    if not isinstance(found, h5py.Dataset) or found.is_virtual or found.external or found.compression or found.shuffle:
        raise ValueError(f"its {path} is stored as Keras never does; write it with model.save(path)")
    if len(found.shape) != len(shape) or any(b not in (None, a) for a, b in zip(found.shape, shape, strict=True)):
        shown = tuple("any" if one is None else one for one in shape)
        raise ValueError(f"its {path} has shape {found.shape}, but the layer asks for {shown}".replace("'", ""))
    if found.dtype.kind != "f" or found.nbytes > size:
        raise ValueError(f"its {path} is of {found.dtype} and {found.nbytes:,} bytes, but the file has {size:,}")
    return np.asarray(found[()])
