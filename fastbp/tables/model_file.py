"""A `TableModel` as a file: the network's arrays, and beside its description that of columns, target and training."""

from __future__ import annotations

from os import PathLike
from typing import Any

import numpy as np

from fastbp import model as networks
from fastbp.io import model_files
from fastbp.io.files import damaged
from fastbp.network import MLP
from fastbp.tables.encoder import Encoder
from fastbp.tables.kinds import Reading
from fastbp.tables.prepared import Roles
from fastbp.tables.target import CLASSES, FLAGS, QUANTITIES, Target

VERSION = 1  # of the description of the table


def save(path: str | PathLike[str], model: Any) -> None:
    """Write a trained model."""
    if model.net is None or model.encoder is None or model.target is None:
        raise ValueError("the model is not trained: call fit first")
    tensors, metadata = networks.to_file(model.net.session.values())
    table = {
        "version": VERSION,
        "reading": model.reading.to_dict(),
        "file": model.file_options,
        "roles": model.roles.to_dict(),
        "encoder": model.encoder.to_dict(),
        "target": model.target.to_dict(),
        "trained": model.trained,
        "scores": model.scores,
        "notes": model.notes,
    }
    model_files.save(path, tensors, {**metadata, "table": table}, version=2)


def is_table(path: str | PathLike[str]) -> bool:
    """Whether a model's file is of a table model."""
    return "table" in model_files.load(path)[1]


def restore(path: str | PathLike[str], model: Any) -> None:
    """Make a new model what the file holds."""
    tensors, metadata = model_files.load(path)
    if "table" not in metadata:
        raise ValueError(f"{path} holds a network without the table it was trained on; read it by fastbp.load")
    with damaged(path, "does not describe a table model that this fastbp can build"):
        table = metadata["table"]
        if table["version"] != VERSION:
            raise ValueError(f"the table is described by version {table['version']!r}, not {VERSION}; upgrade fastbp")
        model.reading = Reading.of(table["reading"])
        model.file_options |= _texts(table.get("file", {}), model.file_options)
        model.roles = Roles.of(table["roles"])
        model.encoder = Encoder.of(table["encoder"])
        model.target = Target.of(table["target"])
        model.trained, model.scores, model.notes = dict(table["trained"]), dict(table["scores"]), list(table["notes"])
        model.net = MLP.of(networks.from_file(tensors, metadata))
        model.dtype, model.seed = model.net.dtype.name, model.net.seed
        _check(model)


def _texts(found: Any, known: Any) -> dict[str, str]:
    """Those of the known options that the file has, each a text."""
    chosen = {name: found[name] for name in known if found.get(name) is not None}
    if not all(isinstance(one, str) for one in chosen.values()):
        raise ValueError(f"delimiter and encoding must be text, got {chosen!r:.80}")
    return chosen


def _check(model: Any) -> None:
    """Refuse what does not fit together, before anything is predicted by it."""
    net, target = model.net, model.target
    if net.sizes[0] != len(model.encoder.inputs):
        raise ValueError(f"the columns make {len(model.encoder.inputs)} inputs, but the network takes {net.sizes[0]}")
    if target.kind not in (CLASSES, QUANTITIES, FLAGS):
        raise ValueError(f"the target is {target.kind!r}; expected classes, quantities or flags")
    one = target.kind == CLASSES and not net.loss.link.one_class
    if net.sizes[-1] != (1 if one else target.n_out) or (one and target.n_out != 2):
        raise ValueError(f"the target needs {target.n_out} outputs, but the network has {net.sizes[-1]}")
    if net.loss.link.classifies != (target.kind != QUANTITIES):
        raise ValueError(f"the target holds {target.kind}, but the network's loss is {net.loss.name}")
    if len(target.means) not in (0, target.n_out) or len(target.scales) != len(target.means):
        raise ValueError(
            f"there are {len(target.means)} means and {len(target.scales)} scales of {target.n_out} targets"
        )
    wanted = {CLASSES: target.n_out, FLAGS: target.n_out, QUANTITIES: target.n_out}[target.kind]
    if np.shape(model.trained["prior"]) != (wanted,):
        raise ValueError("the shares of the classes, or the means, are missing")
