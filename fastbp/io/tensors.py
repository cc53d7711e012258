"""Arrays and texts in one file: safetensors, which any of its readers can open, with a checksum over every byte."""

from __future__ import annotations

import hashlib
import json
from typing import IO, Any, BinaryIO

import numpy as np
import numpy.typing as npt
import safetensors
from safetensors.numpy import load, save

Array = npt.NDArray[Any]

# Two texts of their own: a damaged byte can hide one of them, and the other tells.
_SUM, _KIND, _HASH = "checksum", "checksum by", "blake2b"
_NO_SUM = "0" * 32


def write(file: IO[bytes], arrays: dict[str, Array], texts: dict[str, str]) -> None:
    """Write arrays and texts, each by its name."""
    stored = {name: np.ascontiguousarray(array).reshape(array.shape) for name, array in arrays.items()}
    try:
        content = save(stored, {_SUM: _NO_SUM, _KIND: _HASH, **texts})
    except safetensors.SafetensorError as error:
        raise TypeError(f"these arrays cannot be saved: {error}") from error
    content = _in_order(content)
    file.write(content.replace(_field(_NO_SUM), _field(_digest(content)), 1))


def read(file: BinaryIO) -> tuple[dict[str, Array], dict[str, str]]:
    """Read what `write`, or another writer of safetensors, has written.

    Nothing is made that is larger than the file.

    Raises
    ------
    ValueError
        It is no such file, is cut short, or its checksum, if it has one, does not match.
    """
    content = file.read()
    try:
        arrays = load(content)
    except (safetensors.SafetensorError, KeyError, TypeError) as error:  # a type that NumPy lacks is a KeyError
        raise ValueError(f"it is no safetensors file of NumPy arrays, or damaged: {error}") from error
    head = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    texts: dict[str, str] = head.get("__metadata__", {})
    given, kind = texts.pop(_SUM, None), texts.pop(_KIND, None)
    if (given is None) != (kind is None) or kind not in (None, _HASH):
        raise ValueError("its checksum is damaged")
    if given is not None and _digest(content.replace(_field(given), _field(_NO_SUM), 1)) != given:
        raise ValueError("its checksum does not match: some of it has changed since it was written")
    for name, array in arrays.items():
        if array.dtype.kind == "b" and (array.view(np.uint8) > 1).any():
            raise ValueError(f"{name} holds other values than yes and no")
    return arrays, texts


def _in_order(content: bytes) -> bytes:
    """The same file with the entries of its head sorted: equal networks make equal files."""
    end = 8 + int.from_bytes(content[:8], "little")
    head = json.dumps(json.loads(content[8:end]), separators=(",", ":"), sort_keys=True).encode()
    head += b" " * (-len(head) % 8)
    return len(head).to_bytes(8, "little") + head + content[end:]


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def _field(value: str) -> bytes:
    """The checksum as it stands in the head. Within a text or a name its quotes would be escaped."""
    return f'"{_SUM}":{json.dumps(value)}'.encode()
