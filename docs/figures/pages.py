"""Pages whose Python blocks are one program: run, and their outputs written into the page.

A block of Python may be followed by a block of text: what it prints. `filled` writes these, and a test compares them.
"""

from __future__ import annotations

import contextlib
import io
import re
from typing import Any

PYTHON = re.compile(r"^```python\n(.*?)^```\n(\n```text\n(.*?)^```\n)?", flags=re.DOTALL | re.MULTILINE)


def run(page: str, name: str) -> tuple[dict[str, Any], list[str]]:
    """The names that the blocks of a page leave behind, and what each block printed."""
    names: dict[str, Any] = {"__name__": name}
    printed = []
    for found in PYTHON.finditer(page):
        lines_before = page[: found.start(1)].count("\n")
        with contextlib.redirect_stdout(io.StringIO()) as said:
            exec(compile("\n" * lines_before + found[1], name, "exec"), names)
        printed.append(said.getvalue())
    return names, printed


def filled(page: str, printed: list[str]) -> str:
    """The page with what its blocks printed behind each of them."""
    left = iter(printed)

    def pair(found: re.Match[str]) -> str:
        said = next(left)
        return f"```python\n{found[1]}```\n" + (f"\n```text\n{said}```\n" if said else "")

    return PYTHON.sub(pair, page)
