"""Write fastbp/__init__.pyi, by which type checkers and editors know the names that fastbp loads late.

    python benchmarks/stub.py

A new entry of a registry needs no new stub: that takes all names in the `__all__` of the module.
"""

from __future__ import annotations

from pathlib import Path

import fastbp

TARGET = Path(fastbp.__file__).with_suffix(".pyi")


def text() -> str:
    """The stub that belongs to the lists in fastbp/__init__.py."""
    modules = [f"from fastbp import {name} as {name}" for name, names in fastbp.HOMES.items() if name in names]
    found = {"_version": ["__version__"], **{module: [*names] for module, names in fastbp.HOMES.items()}}
    names = [
        f"from fastbp.{module} import {name} as {name}"
        for module, names in found.items()
        for name in names
        if name != module
    ]
    names += [f"from fastbp.{module} import *" for module in fastbp.REGISTRIES]
    heading = ["# Made by `python benchmarks/stub.py`.", "# ruff: noqa: F403"]
    variables = ["HOMES: dict[str, tuple[str, ...]]", "REGISTRIES: tuple[str, ...]"]
    return "\n".join([*heading, "", *sorted(modules), *sorted(names), "", *variables, ""])


if __name__ == "__main__":
    TARGET.write_text(text(), encoding="utf-8")
    print(f"wrote {TARGET}")
