"""Figures of matplotlib, an optional dependency: how they are made, and how they are saved."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from fastbp.io.files import PathLike, is_special, replacing


def new_figure(width: float, height: float) -> Any:
    """A figure of some inches that belongs to no window.

    Raises
    ------
    ImportError
        matplotlib is not installed (extra `plot`).
    """
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        raise ImportError('a picture needs matplotlib: pip install "fastbp[plot]"') from error
    from fastbp.io.pictures import Picture

    return Picture(figsize=(width, height), layout="constrained")


def save_figure(figure: Any, path: PathLike, **options: Any) -> None:
    """Write a picture in the format that the ending of `path` names; without one as PNG, under a name that has it."""
    ending = Path(path).suffix[1:]
    if not ending and not is_special(path):
        ending, path = "png", f"{os.fspath(path)}.png"
    with replacing(path, "wb") as file:
        figure.savefig(file, format=ending or "png", **options)
