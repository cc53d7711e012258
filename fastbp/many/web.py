"""Web pages that need nothing else: one frame, filled with parts, the charting library and data within it."""

from __future__ import annotations

import html
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib import metadata, resources
from os import PathLike
from typing import Any

import numba
import numpy as np

from fastbp._version import __version__
from fastbp.io import documents
from fastbp.io.files import replacing
from fastbp.kernels.targets import TARGET

_SORTED = ' aria-sort="ascending"'


def part(name: str, package: str = "many") -> str:
    """A file of a page, in a package's folder, which need not lie on a disk: fastbp may be in an archive."""
    return resources.files("fastbp").joinpath(package, "page", name).read_text(encoding="utf-8")


def plotly_script() -> str:
    """The charting library's own source.

    Raises
    ------
    ImportError
        plotly is not installed (extra `report`).
    """
    try:
        from plotly.offline import get_plotlyjs
    except ImportError as error:
        raise ImportError('a report needs plotly: pip install "fastbp[report]"') from error
    script: str = get_plotlyjs()
    return script


def fill(template: str, parts: dict[str, str], package: str = "many") -> str:
    """A file of a package's folder with its places filled."""
    # Piece by piece, not by repeated replacement: a text that looks like a place to fill is left as it is.
    first, *rest = part(template, package).split("[[")
    filled = [first]
    for piece in rest:
        name, _, after = piece.partition("]]")
        filled += [parts[name], after]
    return "".join(filled)


def framed(
    body: str, script: str, view: dict[str, Any], scripts: Sequence[str], *, title: str, about: str = "",
    command: str | None = None, data_name: str = "", package: str = "many", style: str = "",
) -> str:  # fmt: skip
    """A whole page; `title`, `about` and the like are text, and escaped here.

    Parameters
    ----------
    body : str
        HTML.
    script : str
        The charting library; empty where there is none, and nothing of what its pages share.
    view : dict
        What the charts draw.
    scripts : sequence of str
        Files of the package's folder that draw them.
    style : str
        Beside that of all pages.
    """
    return fill("frame.html", {
        "css": part("page.css") + style, "title": html.escape(title), "about": html.escape(about), "body": body,
        "command": "" if command is None else f"<p>Made by</p><pre>{html.escape(command)}</pre>",
        "data name": html.escape(data_name), "versions": html.escape(versions(charts=bool(script))),
        # A "<" could end the script element, or begin a comment.
        "data": documents.text(view, indent=None).replace("<", "\\u003c"), "plotly": script,
        "js": "\n".join([part("common.js")] * bool(script) + [part(name, package) for name in scripts]),
    })  # fmt: skip


def write(path: str | PathLike[str], text: str) -> None:
    """Write a page, whole or not at all. A command that names files may hold bytes that are no UTF-8."""
    with replacing(path, "wb") as file:
        file.write(text.encode(errors="replace"))


def versions(charts: bool = True) -> str:
    """What made the page, and when; `charts`: by plotly."""
    try:
        plotly = f", plotly {metadata.version('plotly')}" if charts else ""
    except metadata.PackageNotFoundError:  # a copy without metadata can be imported all the same
        plotly = ""
    return (
        f"fastbp {__version__}, NumPy {np.__version__}, Numba {numba.__version__}{plotly}, "
        f"Python {platform.python_version()}, {platform.system()} {platform.machine()} ({TARGET.name}), "
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
    )


# --- parts ------------------------------------------------------------------------------------------------------


def data_name(about: dict[str, Any]) -> str:
    """Name and digest of the data, as far as they are known."""
    known = [str(one) for one in (about.get("data_name"), about.get("data")) if one]
    return f"Data: {', '.join(known)}" if known else ""


def tiles(found: Sequence[tuple[str, str, str]]) -> str:
    """Name, value and more of a few large figures."""
    return "\n".join(
        f'<div class="tile{" first" * (not number)}"><div class="name">{html.escape(name)}</div>'
        f'<div class="value">{html.escape(value)}</div><div class="more">{html.escape(more)}</div></div>'
        for number, (name, value, more) in enumerate(found)
    )


def against(lines: Sequence[str]) -> str:
    """The card that compares with an earlier sweep."""
    found = "".join(f"<li>{html.escape(line)}</li>" for line in lines)
    return f'<section class="card"><h2>Against the earlier sweep</h2><ul class="against">{found}</ul></section>'


def notes(found: Sequence[tuple[str, str]]) -> str:
    """Kind, "note" or "warning", and text of each."""
    items = "".join(f'<li class="{kind}">{html.escape(text)}</li>' for kind, text in found)
    return f'<ul class="notes">{items}</ul>' if items else ""


def head(columns: Sequence[tuple[str, str]], by: int | None = None) -> str:
    """Headings of a table to sort: name, and "number" or "text"; by: the column that it is sorted by."""
    return "".join(
        f'<th scope="col" data-kind="{kind}"{_SORTED * (number == by)}><button type="button">{html.escape(name)}'
        "</button></th>"
        for number, (name, kind) in enumerate(columns)
    )


def cell(value: float, form: str) -> str:
    """A number, sorted by its value."""
    return f'<td data-value="{value!r}">{form.format(value)}</td>' if np.isfinite(value) else '<td data-value="">-</td>'


def text_cell(words: str, value: float | str | None = None) -> str:
    """Words, sorted by a number or by themselves."""
    shown = words if value is None else value
    if isinstance(shown, float):
        shown = repr(shown) if np.isfinite(shown) else ""
    return f'<td data-value="{html.escape(str(shown))}">{html.escape(words)}</td>'


def tags(found: Sequence[tuple[str, str]]) -> str:
    """A cell of kinds and words."""
    words = html.escape(", ".join(text for _, text in found))
    shown = "".join(f'<span class="tag {kind}">{html.escape(text)}</span>' for kind, text in found)
    return f'<td class="tags" data-value="{words}">{shown}</td>'
