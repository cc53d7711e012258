"""The architecture: imports run downward only, kernels stand alone, and only the command line prints."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from processes import succeed

import fastbp

ROOT = Path(fastbp.__file__).parent
# From the bottom up; a package counts as one, and may import within itself. A new module gets its place here.
LAYERS = [
    {"arrays", "attributes", "numerics"},
    {
        "documents",
        "files",
        "kernels",
        "validation",
        "errors",
        "_version",
        "progress",
        "descriptions",
        "tensors",
        "threads",
        "watching",
    },
    {
        "datasets",
        "figures",
        "labels",
        "npz",
        "reference_math",
        "reference_noise",
        "regularization",
        "serialization",
        "team",
    },
    {"saved"},
    {"activations", "checkpoints", "history", "inspection", "losses", "optimizers", "schedules", "tables"},
    {"callbacks", "plan", "initializers"},
    {"state", "scoring", "reference", "watch", "weighting"},
    {"engine"},
    {"training", "splits"},
    {"core", "lbfgs", "streams"},
    {"fitting"},
    {"network"},
    {"gradients", "info"},
    {"sweep"},
    {"__init__"},
    {"bench"},
    {"commands"},
    {"cli"},
    {"__main__"},
]
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}
# Upward, inside a function: a file that holds a network makes one; the bench command looks like the others.
# An optimiser knows what carries out its fit.
EXCEPTIONS = {
    ("serialization", "network"),
    ("serialization", "core"),
    ("serialization", "losses"),
    ("optimizers", "training"),
    ("optimizers", "lbfgs"),
    ("bench/command", "commands"),
}
CORE_DEPENDENCIES = {"numba", "llvmlite", "numpy", "safetensors"}
# Loaded when they are needed.
EXTRAS = {
    "progress": {"rich"}, "figures": {"matplotlib"}, "lbfgs": {"scipy"},
    "sweep/export": {"pandas"},
    "sweep/range_test": {"rich"}, "sweep/hessian": {"scipy"}, "sweep/stability": {"matplotlib"},
    "sweep/pictures": {"matplotlib"}, "sweep/progress": {"rich"}, "sweep/report": {"plotly"},
    "sweep/dask": {"distributed"},
}  # fmt: skip


def modules() -> dict[str, ast.Module]:
    """Path without ending -> syntax tree, of every module."""
    paths = {path.relative_to(ROOT).with_suffix("").as_posix(): path for path in ROOT.rglob("*.py")}
    return {name: ast.parse(path.read_text()) for name, path in paths.items()}


MODULES = modules()


def unit(name: str) -> str:
    """The package below fastbp that a module is in, or the module."""
    return name.split("/")[0]


def imported(tree: ast.AST) -> Iterator[str]:
    """Dotted names of all that is imported, in functions too, but not for type checkers alone."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            base = node.module or ""
            yield from (f"fastbp.{alias.name}" for alias in node.names) if base == "fastbp" else [base]
        else:
            yield from imported(node)


def own(name: str) -> set[str]:
    """Units of fastbp that a module imports."""
    found = [dotted.split(".") for dotted in imported(MODULES[name]) if dotted.split(".")[0] == "fastbp"]
    return {parts[1] if len(parts) > 1 and parts[1] in LEVEL else "__init__" for parts in found} - {unit(name)}


def test_every_module_has_its_place() -> None:
    assert {unit(name) for name in MODULES} == set(LEVEL)
    assert sum(len(names) for names in LAYERS) == len(LEVEL)


@pytest.mark.parametrize("name", MODULES)
def test_imports_run_downward(name: str) -> None:
    upward = {other for other in own(name) if LEVEL[other] >= LEVEL[unit(name)]}
    assert upward <= {other for module, other in EXCEPTIONS if module == name}


def test_no_exception_is_stale() -> None:
    assert all(other in own(name) and LEVEL[other] >= LEVEL[unit(name)] for name, other in EXCEPTIONS)


@pytest.mark.parametrize("name", [name for name in MODULES if unit(name) == "kernels"])
def test_kernels_stand_alone(name: str) -> None:
    """Nothing of fastbp outside the kernels, and nothing from elsewhere but the compiler and NumPy."""
    names = {tuple(dotted.split(".")) for dotted in imported(MODULES[name])}
    assert all(parts[1] == "kernels" for parts in names if parts[0] == "fastbp")
    assert {parts[0] for parts in names} <= CORE_DEPENDENCIES | set(sys.stdlib_module_names) | {"fastbp"}


@pytest.mark.parametrize("name", [name for name in MODULES if unit(name) not in ("bench", "commands", "cli")])
def test_the_library_needs_no_command_line(name: str) -> None:
    packages = {dotted.split(".")[0] for dotted in imported(MODULES[name])}
    allowed = CORE_DEPENDENCIES | set(sys.stdlib_module_names) | {"fastbp"}
    extra = EXTRAS.get(name, set())
    assert packages <= allowed | extra


PRINTERS = {"print", "click.echo", "click.secho", "sys.stdout", "sys.stderr", "sys.__stdout__", "sys.__stderr__"}


def prints(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        text = ast.unparse(node) if isinstance(node, ast.Call | ast.Attribute) else ""
        called = ast.unparse(node.func) if isinstance(node, ast.Call) else text
        if called in PRINTERS or called.endswith("onsole.print"):
            yield text


@pytest.mark.parametrize("name", MODULES)
def test_only_commands_print(name: str) -> None:
    found = list(prints(MODULES[name]))
    assert not found or unit(name) in ("cli", "commands") or name == "bench/command"


def test_the_search_for_prints_finds_some() -> None:
    assert any(list(prints(tree)) for name, tree in MODULES.items() if unit(name) == "commands")
    assert list(prints(ast.parse("def f(): print(1)")))
    assert list(imported(ast.parse("if x:\n  def f():\n    from fastbp.engine import layout"))) == [
        "fastbp.engine.layout"
    ]


def test_importing_fastbp_loads_and_compiles_little() -> None:
    """What makes the import slow: other packages, and code that is compiled or loaded before it is needed."""
    code = """
import sys, numba, numpy
from numba.core import event
seen = []
class Listen(event.Listener):
    def on_start(self, e): seen.append(e)
    def on_end(self, e): pass
event.register("numba:compile", Listen())
before = set(sys.modules)
import fastbp
from fastbp.kernels import build
assert not seen and not build._prepared
print(*sorted({name.split(".")[0] for name in set(sys.modules) - before} - set(sys.stdlib_module_names)))
"""
    found = set(succeed(code).split())
    assert found <= {"fastbp", "numba", "numpy", "llvmlite", "__mp_main__"}, found


@pytest.mark.parametrize("name", sorted(MODULES.keys() - {"_version"}))
def test_modules_say_why_they_exist(name: str) -> None:
    docstring = ast.get_docstring(MODULES[name])
    assert docstring
    assert len(docstring.splitlines()[0]) > 20
