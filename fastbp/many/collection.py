"""Several networks in one file: safetensors, written whole or not at all, with a checksum, read without trust."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence
from os import PathLike
from typing import Any

from fastbp import model
from fastbp.data import columns
from fastbp.io import tensors
from fastbp.io.files import damaged, opened, replacing
from fastbp.network import MLP
from fastbp.types import Array

VERSION = 1
# What a file holds that says so, and by what it is read.
_HELD: Mapping[Any, str] = {
    "fastbp": "one network (fastbp.load)", "fastbp ensemble": "an ensemble (fastbp.Ensemble.load)",
    "fastbp groups": "networks of groups (fastbp.GroupModel.load)",
}  # fmt: skip
_BROKEN = "is cut short or damaged", "write it again"


def save(path: str | PathLike[str], kind: str, nets: Sequence[MLP], about: dict[str, Any]) -> None:
    """Write networks, and what else is known of them, as JSON values."""
    arrays: dict[str, Array] = {}
    described = []
    for number, net in enumerate(nets):
        own, metadata = model.to_file(net.session.values())
        arrays |= {f"nets.{number}.{name}": array for name, array in own.items()}
        # The names of the optimiser's arrays are relative to the network.
        described.append({**metadata, "feature_names": net.feature_names})
    document = {"format": kind, "version": VERSION, "nets": described, **about}
    with replacing(path, "wb") as file:
        tensors.write(file, arrays, {"fastbp": json.dumps(document)})


def kind_of(path: str | PathLike[str]) -> str | None:
    """What a file says that it holds; None if it says nothing that can be read.

    Raises
    ------
    OSError
        There is no such file, or it cannot be read.
    """
    with opened(path) as file, contextlib.suppress(ValueError):
        document = json.loads(tensors.read(file)[1].get("fastbp", "null"))
        return document.get("format") if isinstance(document, dict) else None
    return None


def load(path: str | PathLike[str], kind: str) -> tuple[list[MLP], dict[str, Any]]:
    """Read what `save` wrote.

    Raises
    ------
    ValueError
        The file holds something else, is damaged, or was written by a newer version.
    OSError
        There is no such file, or it cannot be read.
    """
    with opened(path) as file, damaged(path, *_BROKEN):
        arrays, texts = tensors.read(file)
        document = json.loads(texts.get("fastbp", "null"))
        found = document.get("format") if isinstance(document, dict) else None
        if found != kind:
            raise ValueError(f"{path} holds {_HELD.get(found, 'nothing that fastbp wrote')}, not {_HELD[kind]}")
        if document.get("version") != VERSION:
            raise ValueError(f"it has format version {document.get('version')!r}, this fastbp reads {VERSION}")
        nets = []
        for number, metadata in enumerate(document.pop("nets")):
            start = f"nets.{number}."
            own = {name[len(start) :]: array for name, array in arrays.items() if name.startswith(start)}
            net = MLP.of(model.from_file(own, metadata))
            vars(net)["feature_names"] = columns.check(metadata.get("feature_names"), net.sizes[0])
            nets.append(net)
        return nets, document
