"""Several networks in one file: safetensors, written whole or not at all, with a checksum, read without trust."""

from __future__ import annotations

import json
from collections.abc import Sequence
from os import PathLike
from typing import Any

from fastbp import model
from fastbp.data import columns
from fastbp.io import tensors
from fastbp.io.files import damaged, opened, replacing
from fastbp.network import MLP
from fastbp.types import Array

VERSION = 1
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
        if not isinstance(document, dict) or document.get("format") != kind:
            raise ValueError(f"it holds no {kind}")
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
