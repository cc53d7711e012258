"""Arrays of an NPZ file, with sizes checked against the file: `numpy.load` allocates whatever a header claims."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Sequence
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from fastbp.io import files

Array = npt.NDArray[Any]

_PIECE = 1 << 20
_PACKED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


def read(file: BinaryIO, wanted: Sequence[str]) -> tuple[dict[str, Array], list[str]]:
    """Those of the wanted arrays that the file has, and the names of all that it has.

    Raises
    ------
    ValueError
        An array is damaged, holds Python objects, is of another size than it says, or all are larger than memory. From
        a damaged file also whatever `zipfile` raises.
    """
    if not zipfile.is_zipfile(file):
        raise ValueError("it is not an NPZ file, or was cut short; write it with numpy.savez(path, X=X, y=y)")
    with zipfile.ZipFile(file) as archive:
        members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
        chosen = {name: members[name] for name in wanted if name in members}
        total, most = sum(info.file_size for info in chosen.values()), files.memory()
        if total > most:
            raise ValueError(
                f"its arrays unpack to {total / 1e9:.3g} GB, but {most / 1e9:.3g} GB of memory are left; use fewer rows"
            )
        found = {}
        for name, info in chosen.items():
            with files.damaged(what := f"array {name}", "is damaged"):
                found[name] = _array(archive, what, info)
        return found, list(members)


def _array(archive: zipfile.ZipFile, name: str, info: zipfile.ZipInfo) -> Array:
    """One of them."""
    if info.compress_type not in _PACKED:  # an LZMA header claims up to 4 GB, bzip2 unpacks to the millionfold
        raise ValueError(f"{name} is packed as numpy.savez and savez_compressed never do; write it with one of them")
    with archive.open(info) as file:
        version = np.lib.format.read_magic(file)
        if version not in _HEADERS:
            raise ValueError(f"{name} is in version {version} of NPY; save plain numeric arrays")
        try:
            shape, by_column, dtype = _HEADERS[version](file)
        except MemoryError as error:  # of Python's parser, from a header of brackets
            raise ValueError(f"the header of {name} cannot be read") from error
        if dtype.hasobject:
            raise ValueError(f"{name} holds Python objects; save plain numeric arrays")
        there = info.file_size - file.tell()
        if min(shape, default=0) < 0 or not dtype.itemsize or math.prod(shape) * dtype.itemsize != there:
            raise ValueError(f"{name} is to be of shape {shape} and {dtype}, but {there} bytes are there")
        raw = np.empty(there, np.uint8)
        for start in range(0, there, _PIECE):
            piece = file.read(min(_PIECE, there - start))
            raw[start : start + len(piece)] = np.frombuffer(piece, np.uint8)
            if len(piece) < min(_PIECE, there - start):
                raise ValueError(f"{name} was cut short")
        file.read(1)  # the checksum is looked at behind the last byte
    return _as_text(name, raw.view(dtype).reshape(shape, order="F" if by_column else "C"))


def _as_text(name: str, array: Array) -> Array:
    """Names as Python's text; numbers as they are."""
    if array.dtype.kind == "S":
        try:
            return np.char.decode(array, "utf-8")
        except UnicodeDecodeError as error:
            raise ValueError(f"{name} holds bytes that are no UTF-8 text; save names as strings") from error
    if array.dtype.kind == "U" and array.size:
        letters = np.ascontiguousarray(array.astype(array.dtype.newbyteorder("="))).reshape(-1).view(np.uint32)
        if letters.max() > 0x10FFFF or ((letters >= 0xD800) & (letters < 0xE000)).any():
            raise ValueError(f"{name} holds names that are no text")
    return array
