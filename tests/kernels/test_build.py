"""What kernels say of each other: which leaves one calls, and in which order they are linked and imported."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from fastbp.kernels import build
from fastbp.kernels.jit import LEAVES, Leaf
from fastbp.kernels.many import train_many
from fastbp.kernels.run import run
from fastbp.kernels.sweep import sweep

FOLDER = Path(build.__file__).parent


def called(leaf: Leaf, dtype: str) -> set[str]:
    """Names of the leaves whose symbols a leaf's machine code, as it is on disk, holds."""
    for callee in (*leaf.needs(), leaf):
        build.prepare(callee, dtype)
    path = leaf.cache.file_of(dtype)
    assert path is not None
    symbols = re.findall(rb"fastbp_([a-z_]+)_(float32|float64|bfloat16\w*)\b", path.read_bytes())
    assert {kind.decode() for _, kind in symbols} <= {dtype}
    return {name.decode() for name, _ in symbols}


@pytest.mark.parametrize("leaf", [leaf for leaf in LEAVES if not leaf.only_pairs], ids=lambda leaf: leaf.name)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_leaf_says_what_it_calls(dtype: str, leaf: Leaf) -> None:
    assert called(leaf, dtype) == {callee.name for callee in leaf.calls}
    assert len(set(leaf.calls)) == len(leaf.calls)


def test_in_pairs_only_leaves_that_multiply_are_compiled_anew() -> None:
    """And the code of float32 knows nothing of pairs: see the test above."""
    own = {leaf.name for entry in (sweep, train_many) for leaf in build.leaves_of(entry, "bfloat16_twin")}
    assert {"product", "product_columns", "copy_rows", "copy_weights", "pass_rows", "pass_blocks", "run"} < own
    assert own == {leaf.name for leaf in LEAVES if leaf.pairs is not None} - {"fma_probe"}
    assert not own & {"gather", "activate", "update", "row_loss"}


@pytest.mark.parametrize("entry", [run, sweep], ids=["run", "sweep"])
def test_leaves_come_after_what_they_call(entry: object) -> None:
    leaves = build.leaves_of(entry)
    assert len(set(leaves)) == len(leaves) > 15
    for number, leaf in enumerate(leaves):
        assert set(leaf.calls) <= set(leaves[:number])


def test_names_of_leaves_are_different() -> None:
    """Each is the name of a symbol and of a file."""
    assert len({leaf.name for leaf in LEAVES}) == len(LEAVES)


def imports() -> dict[str, set[str]]:
    """Module -> modules of the kernels that it imports, inside functions too; the package counts as its `__init__`."""
    found = {}
    for path in FOLDER.rglob("*.py"):
        names = set()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom):
                names.add(str(node.module))
                if path.name == "__init__.py":
                    names |= {f"{node.module}.{alias.name}" for alias in node.names}
            elif isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
        module = ".".join(["fastbp.kernels", *path.relative_to(FOLDER).with_suffix("").parts])
        found[module.removesuffix(".__init__")] = names
    return {name: others & found.keys() - {name} for name, others in found.items()}


def test_imports_make_no_circle() -> None:
    left = imports()
    assert sum(map(len, left.values())) > 60
    while free := [name for name, others in left.items() if not others & left.keys()]:
        for name in free:
            del left[name]
    assert not left, f"a circle among {sorted(left)}"
