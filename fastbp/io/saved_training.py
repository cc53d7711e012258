"""The training state in a checkpoint file, with every value checked before it is used."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fastbp.io import model_files
from fastbp.io.files import damaged

Array = npt.NDArray[Any]

LAST = "last.safetensors"
VERSION = 1  # of the entry `fit`
COLUMNS = ("loss", "val_loss", "val_score", "lr", "seconds")  # of the history


class Saved(NamedTuple):
    """What a checkpoint holds."""

    path: Path
    tensors: dict[str, Array]
    description: dict[str, Any]

    @property
    def fit(self) -> dict[str, Any]:
        """Where the training stood."""
        found: dict[str, Any] = self.description["fit"]
        return found

    @property
    def seed(self) -> int:
        """Of the network."""
        return int(self.description["seed"])


def read(path: Path) -> Saved:
    """Read a checkpoint.

    Raises
    ------
    ValueError
        The file is damaged, or no checkpoint, or one of a newer fastbp.
    """
    tensors, description = model_files.load(path)
    fit = description.get("fit")
    if not isinstance(fit, dict):
        raise ValueError(f"{path} is a model, but no checkpoint; load it with fastbp.load and call fit")
    with damaged(path, "is a damaged checkpoint"):
        version = fit["version"]
        if type(version) is int and version > VERSION:
            raise ValueError(f"{path} has checkpoint version {version}, this fastbp reads up to {VERSION}; upgrade")
        count("version", version, most=VERSION)
        count("seed", description["seed"], most=(1 << 64) - 1)
        history = column_lengths(model_files.unpack(fit["history"], tensors))
        if count("epochs", fit["epochs"]) != history["loss"]:
            raise ValueError(f"it has had {fit['epochs']} epochs, but {history['loss']} losses")
        for name, kind in {
            "settings": dict, "position": dict, "books": dict, "callbacks": list, "pending": bool, "finished": bool,
            "stop_reason": str,
        }.items():  # fmt: skip
            if not isinstance(fit[name], kind):
                raise ValueError(f"{name} is {fit[name]!r:.80}, expected {kind.__name__}")
    return Saved(path, tensors, description)


def column_lengths(history: dict[str, Any]) -> dict[str, int]:
    """Lengths of the columns of a history, which may lack the last validation."""
    found = {name: len(numbers(name, history[name])) for name in COLUMNS}
    epochs = found["loss"]
    validated = found["val_loss"]
    if not (found["lr"] == found["seconds"] == epochs and found["val_score"] == validated):
        raise ValueError(f"the columns of its history have {found} entries")
    if validated not in (0, epochs, epochs - 1):
        raise ValueError(f"its history has {validated} validations of {epochs} epochs")
    return found


def count(name: str, value: Any, *, most: int = 1 << 62) -> int:
    """`value`, an integer from 0 to `most`."""
    if type(value) is not int or not 0 <= value <= most:
        raise ValueError(f"{name} is {value!r:.80}, expected an integer from 0 to {most}")
    return value


def number(name: str, value: Any, *, finite: bool = True) -> float:
    """`value`, a number."""
    if type(value) not in (int, float) or (finite and not math.isfinite(value)):
        raise ValueError(f"{name} is {value!r:.80}, expected a {'finite ' * finite}number")
    return float(value)


def numbers(name: str, value: Any, length: int | None = None) -> Array:
    """`value`, some numbers in float64, ``(length,)``."""
    if not isinstance(value, np.ndarray) or value.dtype != np.float64 or value.ndim != 1:
        raise ValueError(f"{name} is no list of numbers")
    if length is not None and len(value) != length:
        raise ValueError(f"{name} holds {len(value)} numbers, expected {length}")
    return value
