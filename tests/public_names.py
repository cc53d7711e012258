"""The public names of fastbp, and those that the sources of the reference tell of."""

from __future__ import annotations

import importlib
import re
import types
from pathlib import Path

import fastbp

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "reference" / "api"
MODULES = (
    "fastbp", "fastbp.schedules", "fastbp.callbacks", "fastbp.optimizers", "fastbp.losses", "fastbp.plots",
    "fastbp.activations",
    "fastbp.datasets", "fastbp.sklearn", "fastbp.recipes", "fastbp.reference",
)  # fmt: skip


def public_names() -> set[str]:
    """Dotted names; what is in `fastbp` itself is counted there alone, and modules by what they hold."""
    found = set()
    for dotted in MODULES:
        module = importlib.import_module(dotted)
        for name in module.__all__:
            value = getattr(module, name)
            if isinstance(value, types.ModuleType) or name == "__version__":
                continue
            home = "fastbp" if getattr(fastbp, name, None) is value else dotted
            found.add(f"{home}.{name}")
    return found


def documented_names() -> set[str]:
    """What the pages of the reference list."""
    found = set()
    for path in FOLDER.glob("*.rst"):
        module = ""
        for line in path.read_text(encoding="utf-8").splitlines():
            said = re.fullmatch(r"\.\. (currentmodule|automodule|auto\w+):: ([\w.]+)", line)
            if said and said[1] in ("currentmodule", "automodule"):
                module = said[2]
            elif said:
                found.add(f"{module}.{said[2]}")
    return found
