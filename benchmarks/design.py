"""Write the generated parts of docs/explanation/design.md and kernels.md: what files are for, and the way of the data.

    python benchmarks/design.py

The way of the data is traced: every function of fastbp that is called with the samples of a small fit, in the order of
the calls. The packages are those of the first lines of their modules, from the top down.
"""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np

import fastbp

ROOT = Path(fastbp.__file__).parent
PAGES = [ROOT.parent / "docs" / "explanation" / name for name in ("design.md", "kernels.md")]


def first_line(path: Path) -> str:
    """The first line of the docstring of a module."""
    return (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").split("\n")[0]


def packages() -> str:
    """A table of the modules and packages of fastbp, and what each is for."""
    paths = sorted(path for path in ROOT.glob("*.py") if not path.name.startswith("_"))
    found = [(f"{path.name}", path) for path in paths]
    found += [(f"{path.parent.name}/", path) for path in sorted(ROOT.glob("*/__init__.py"))]
    rows = [f"| `{name}` | {first_line(path)} |" for name, path in found]
    return "\n".join(["| where | what |", "|---|---|", *rows])


class Trace:
    """Which functions of fastbp are called with the samples, and how deep below the first of them."""

    def __init__(self, X: np.ndarray[Any, Any]) -> None:
        self.X, self.stack, self.lines = X, list[FrameType](), list[str]()

    def __call__(self, frame: FrameType, event: str, _: Any) -> None:
        if event == "return" and self.stack and self.stack[-1] is frame:
            self.stack.pop()
        if event != "call" or not frame.f_code.co_filename.startswith(str(ROOT)):
            return
        names = frame.f_code.co_varnames[: frame.f_code.co_argcount + frame.f_code.co_kwonlyargcount]
        own = getattr(type(frame.f_locals.get("self")), frame.f_code.co_name, None)
        if not isinstance(own, property) and any(self._holds(frame.f_locals.get(name)) for name in names):
            module = Path(frame.f_code.co_filename).relative_to(ROOT).with_suffix("").as_posix().replace("/", ".")
            line = f"{'  ' * len(self.stack)}{module}: {frame.f_code.co_qualname}"
            if line not in self.lines:
                self.lines.append(line)
            self.stack.append(frame)

    def _holds(self, value: Any) -> bool:
        """Is this the samples, or does it have them as an element or as `samples`?"""
        if isinstance(value, np.ndarray):
            return np.may_share_memory(value, self.X)
        if isinstance(value, tuple):
            return any(self._holds(one) for one in value)
        return self._holds(getattr(value, "samples", None)) if hasattr(value, "samples") else False


def data_flow() -> str:
    """The functions that the samples of a fit go through, from `MLP.fit` to the compiled code."""
    X = np.linspace(0.0, 1.0, 320, dtype=np.float32).reshape(40, 8)
    y = np.arange(40) % 3
    net = fastbp.MLP([8, 16, 3], seed=0)
    net.fit(X, y, epochs=1)  # loads and compiles what there is
    trace = Trace(X)
    sys.setprofile(trace)
    try:
        net.fit(X, y, epochs=1)
    finally:
        sys.setprofile(None)
    return "\n".join(["```text", *trace.lines, "```"])


def kernels() -> str:
    """A table of the modules of the compiled code, and what each is for."""
    paths = sorted(path for path in (ROOT / "kernels").glob("*.py") if not path.name.startswith("_"))
    return "\n".join(["| file | what |", "|---|---|", *(f"| `{path.name}` | {first_line(path)} |" for path in paths)])


def filled(page: str) -> str:
    """The page with its generated parts made anew."""
    for name, make in {"packages": packages, "data flow": data_flow, "kernels": kernels}.items():
        begin, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->"
        if begin not in page:
            continue
        page = re.sub(f"{begin}.*?{end}", lambda _, b=begin, m=make, e=end: f"{b}{m()}\n{e}", page, flags=re.DOTALL)
    return page


if __name__ == "__main__":
    for path in PAGES:
        path.write_text(filled(path.read_text(encoding="utf-8")), encoding="utf-8")
        print(f"wrote {path}")
