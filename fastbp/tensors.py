"""Arrays and texts in one file: safetensors, which any of its readers can open, with a checksum over every byte.

Written and read here, not by the package of that name: that needs a path of its own choice beside the file, reads a
pipe three times, holds everything twice, and knows no checksum.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from typing import IO, Any, BinaryIO

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

_TYPES = {
    "BOOL": "?", "U8": "u1", "I8": "i1", "U16": "<u2", "I16": "<i2", "F16": "<f2", "U32": "<u4", "I32": "<i4",
    "F32": "<f4", "U64": "<u8", "I64": "<i8", "F64": "<f8", "C64": "<c8",
}  # fmt: skip
_NAMES = {np.dtype(code): name for name, code in _TYPES.items()}
_HEADER_BYTES = 100_000_000  # other readers refuse more
# Two texts of their own: a damaged byte can hide one of them, and the other tells.
_SUM, _KIND, _HASH = "checksum", "checksum by", "blake2b"
_NO_SUM = "0" * 32


def write(file: IO[bytes], arrays: dict[str, Array], texts: dict[str, str]) -> None:
    """Write arrays and texts, each by its name."""
    stored = {name: _storable(name, array) for name, array in arrays.items()}
    order = sorted(stored, key=lambda name: (-stored[name].itemsize, name))  # so that each is aligned in the file
    header: dict[str, Any] = {"__metadata__": {_SUM: _NO_SUM, _KIND: _HASH, **texts}}
    end = 0
    for name in order:
        start, end = end, end + stored[name].nbytes
        shape, kind = list(stored[name].shape), _NAMES[stored[name].dtype]
        header[name] = {"dtype": kind, "shape": shape, "data_offsets": [start, end]}
    head = json.dumps(header, separators=(",", ":")).encode()
    head += b" " * (-len(head) % 8)
    head = len(head).to_bytes(8, "little") + head
    digest = hashlib.blake2b(head, digest_size=16)
    for name in order:
        digest.update(_raw(stored[name]))
    file.write(head.replace(_field(_NO_SUM), _field(digest.hexdigest()), 1))
    for name in order:
        file.write(_raw(stored[name]))


def read(file: BinaryIO) -> tuple[dict[str, Array], dict[str, str]]:
    """Read what `write`, or another writer of safetensors, has written.

    Nothing is made that is larger than the file.

    Raises
    ------
    ValueError
        It is no such file, is cut short, or its checksum, if it has one, does not match.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    head = file.read(8)
    length = int.from_bytes(head, "little")
    if len(head) < 8 or length > min(size - 8, _HEADER_BYTES):
        raise ValueError(f"it begins with a length of {length} bytes, and has {size} in all")
    head += file.read(length)
    try:
        header = json.loads(head[8:], object_pairs_hook=_once)
    except RecursionError as error:
        raise ValueError("its head is nested too deeply") from error
    if not isinstance(header, dict):
        raise ValueError("its head is no JSON object")
    texts = header.pop("__metadata__", {})
    if not isinstance(texts, dict) or not all(isinstance(text, str) for text in texts.values()):
        raise ValueError("its texts are none")
    places = sorted((_place(name, entry) for name, entry in header.items()), key=lambda place: place[3:])
    at = 0
    for name, _, _, start, end in places:
        if start != at:
            raise ValueError(f"{name} begins at byte {start}, where {at} was expected")
        at = end
    if at != size - 8 - length:
        raise ValueError(f"its arrays take {at} bytes, of which {size - 8 - length} are there")
    return _arrays(file, head, places, texts), texts


def _arrays(
    file: BinaryIO, head: bytes, places: list[tuple[str, np.dtype[Any], list[int], int, int]], texts: dict[str, str]
) -> dict[str, Array]:
    """The arrays, where they and the head match the checksum, which is taken out of the texts."""
    given, kind = texts.pop(_SUM, None), texts.pop(_KIND, None)
    if (given is None) != (kind is None) or kind not in (None, _HASH):
        raise ValueError("its checksum is damaged")
    digest = hashlib.blake2b(head if given is None else head.replace(_field(given), _field(_NO_SUM), 1), digest_size=16)
    found = {}
    for name, dtype, shape, _, _ in places:
        array = np.empty(shape, dtype)
        raw = _raw(array)
        if file.readinto(raw) != raw.nbytes:  # type: ignore[attr-defined]
            raise ValueError(f"{name} is cut short")
        if given is not None:
            digest.update(raw)
        if dtype.kind == "b" and (array.view(np.uint8) > 1).any():
            raise ValueError(f"{name} holds other values than yes and no")
        found[name] = array.astype(dtype.newbyteorder("="), copy=False)
    if given is not None and digest.hexdigest() != given:
        raise ValueError("its checksum does not match: some of it has changed since it was written")
    return found


def _place(name: str, entry: Any) -> tuple[str, np.dtype[Any], list[int], int, int]:
    """What the head says of an array: (name, dtype, shape, first byte, last byte + 1)."""
    if not isinstance(entry, dict):
        raise ValueError(f"{name} is not described")
    kind, shape, offsets = entry.get("dtype"), _counts(entry.get("shape")), _counts(entry.get("data_offsets"))
    dtype = np.dtype(_TYPES[kind]) if isinstance(kind, str) and kind in _TYPES else None
    if dtype is None or shape is None or offsets is None or len(offsets) != 2:
        raise ValueError(f"{name} is described by {entry!r:.200}")
    start, end = offsets
    if end - start != math.prod(shape) * dtype.itemsize:
        raise ValueError(f"{name}, {kind} of shape {shape!r:.80}, takes other than the {end - start} bytes it is given")
    return name, dtype, shape, start, end


def _counts(values: Any) -> list[int] | None:
    """The values, if they are some integers that 64 bits can hold and NumPy might make a shape of."""
    if not isinstance(values, list) or len(values) > 64 or not all(type(x) is int and 0 <= x < 1 << 62 for x in values):
        return None
    return values


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("its head says something twice")
    return found


def _field(value: str) -> bytes:
    """The checksum as it stands in the head. Within a text or a name its quotes would be escaped."""
    return f'"{_SUM}":{json.dumps(value)}'.encode()


def _storable(name: str, array: Array) -> Array:
    """C-contiguous and in the byte order of the file."""
    dtype = array.dtype.newbyteorder("<")
    if dtype not in _NAMES:
        raise TypeError(f"{name} has dtype {array.dtype}, which safetensors has no name for")
    return np.array(array, dtype=dtype, order="C", copy=None)


def _raw(array: Array) -> memoryview:
    """The bytes of a C-contiguous array, in place."""
    return memoryview(array.reshape(-1).view(np.uint8))  # type: ignore[arg-type]
