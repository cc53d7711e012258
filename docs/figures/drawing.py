"""Figures of the documentation: SVG, the same bytes from the same numbers, which each file carries with it."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

FOLDER = Path(__file__).parent
#: Ink on white, whatever the theme of the page: dark pages show a bright card. Colours differ in lightness too.
INK, FAINT, BLUE, ORANGE, GREEN, RED = "#1f2328", "#6e7781", "#0550ae", "#bc4c00", "#116329", "#a40e26"
STYLE = {
    "svg.hashsalt": "fastbp", "svg.fonttype": "path", "font.size": 10, "axes.titlesize": 10.5, "text.color": INK,
    "axes.edgecolor": FAINT, "axes.labelcolor": INK, "xtick.color": FAINT, "ytick.color": FAINT,
    "axes.spines.top": False, "axes.spines.right": False, "axes.facecolor": "white", "figure.facecolor": "white",
}  # fmt: skip


def new_figure(width: float, height: float) -> Figure:
    """A figure of some inches; its drawing belongs within `matplotlib.rc_context(STYLE)`."""
    return Figure(figsize=(width, height), layout="constrained")


def save(figure: Figure, name: str, data: Any) -> None:
    """Write `name`.svg with the numbers that it shows."""
    text = json.dumps(rounded(data), separators=(",", ":"))
    with matplotlib.rc_context(STYLE):
        figure.savefig(FOLDER / f"{name}.svg", metadata={"Date": None, "Description": text})
    path = FOLDER / f"{name}.svg"
    lines = path.read_text(encoding="utf-8").splitlines()
    path.write_text("\n".join(line.rstrip() for line in lines) + "\n", encoding="utf-8")


def data_of(name: str) -> Any:
    """The numbers that a figure shows, from its file."""
    found = re.search(r"<dc:description>(.*?)</dc:description>", (FOLDER / f"{name}.svg").read_text("utf-8"), re.DOTALL)
    if found is None:
        raise ValueError(f"{name}.svg carries no numbers: make it anew by its command")
    return json.loads(html.unescape(found[1]))


def rounded(data: Any) -> Any:
    """Numbers in six digits, arrays as lists, keys as text: as a file keeps them."""
    if isinstance(data, dict):
        return {str(key): rounded(value) for key, value in data.items()}
    if isinstance(data, list | tuple | np.ndarray):
        return [rounded(value) for value in data]
    return data if isinstance(data, str) else float(f"{float(data):.6g}")
