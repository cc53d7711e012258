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
# From the bottom up: a module or a package imports from floors below its own alone, and within a package no two modules
# import each other; inside functions and for type checkers too. A new module gets its place here.
FLOORS = """
types attributes errors _version
numerics validation
arrays
kernels
io
links
activations losses schedules regularization
optimizers initializers
spec
datasets
data
model
reference
engine
history
interop
callbacks
recipes
training
network
convert gradients
many
tables sklearn
walkthrough
plots
__init__
bench
cli
__main__
"""
FLOOR = {name: number for number, names in enumerate(FLOORS.split("\n")) for name in names.split()}
CORE_DEPENDENCIES = {"numba", "llvmlite", "numpy", "safetensors"}
# Loaded when they are needed.
EXTRAS = {
    "io/progress": {"rich", "IPython"}, "io/extras": {"polars", "narwhals"},
    "io/tabular": {"pandas"}, "io/figures": {"matplotlib"}, "io/pictures": {"matplotlib"},
    "many/hessian": {"scipy"}, "many/stability": {"matplotlib"},
    "many/pictures": {"matplotlib"}, "many/web": {"plotly"},
    "many/dask": {"distributed"}, "many/space": {"scipy"},
    **{f"sklearn/{name}": {"sklearn"} for name in ("__init__", "base", "classifier", "regressor", "descent", "search")},
    "sklearn/rows": {"scipy"},
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
    """Dotted names of all that is imported, in functions too, and for type checkers alone."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def own(name: str) -> set[str]:
    """Modules of fastbp that a module imports."""
    found = set()
    for dotted in imported(MODULES[name]):
        first, *rest = dotted.split(".")
        if first == "fastbp":
            known = ["/".join(rest[:n]) for n in range(len(rest), 0, -1)]
            known = [one for path in known for one in (path, f"{path}/__init__")] + ["__init__"]
            found.add(next(path for path in known if path in MODULES))
    return found - {name}


IMPORTS = {name: own(name) for name in MODULES}


def circles(graph: dict[str, set[str]]) -> list[set[str]]:
    """Sets of modules that import each other, by way of others perhaps."""
    below: dict[str, set[str]] = {}
    for name in graph:
        seen, waiting = set[str](), [name]
        while waiting:
            new = graph[waiting.pop()] - seen
            seen |= new
            waiting.extend(new)
        below[name] = seen
    found = [{other for other in below[name] if name in below[other]} for name in graph if name in below[name]]
    return [one for number, one in enumerate(found) if one not in found[:number]]


def test_every_module_has_its_place() -> None:
    assert {unit(name) for name in MODULES} == set(FLOOR)


@pytest.mark.parametrize("name", MODULES)
def test_imports_run_downward(name: str) -> None:
    others = {unit(other) for other in IMPORTS[name]} - {unit(name)}
    assert {other for other in others if FLOOR[other] >= FLOOR[unit(name)]} == set()


def test_no_modules_import_each_other() -> None:
    assert circles(IMPORTS) == []


def test_the_search_for_circles_finds_them() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [{"a", "b", "c"}]


# Of Python's own objects, whose underscores are documented or have no other name.
PYTHONS = {"_replace", "_fields", "_asdict", "_getframe", "_release_save", "_acquire_restore", "_is_owned"}


JOBS = ("job", "jobs", "job[0]")


def defined(tree: ast.AST) -> Iterator[str]:
    """Names of attributes, functions and variables that a module makes."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute | ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.attr if isinstance(node, ast.Attribute) else node.id
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name


def private_reaches(tree: ast.AST, *, engine: bool = False) -> Iterator[str]:
    """Where a module touches what another keeps for itself: a leading underscore, or the engine's job."""
    mine = set(defined(tree)) | PYTHONS
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.startswith("__"):
            if node.attr not in mine and ast.unparse(node.value) not in ("self", "cls"):
                yield f"{node.lineno}: {ast.unparse(node)}"
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "fastbp":
            names = [alias.name for alias in node.names if alias.name[0] == "_" != alias.name[1]]
            yield from (f"{node.lineno}: import {name}" for name in names if name != "_version")
        elif isinstance(node, ast.Subscript) and not engine and ast.unparse(node.value).split(".")[-1] in JOBS:
            yield f"{node.lineno}: {ast.unparse(node)}"


def test_the_search_for_private_reaches_finds_them() -> None:
    code = "class A:\n def f(self, net): self._x = self._y; net._x; net._z; net.engine.job[0]['lr']"
    assert list(private_reaches(ast.parse(code))) == ["2: net._z", "2: net.engine.job[0]['lr']", "2: net.engine.job[0]"]


@pytest.mark.parametrize("name", [name for name in MODULES if unit(name) != "kernels"])
def test_nobody_reaches_into_another(name: str) -> None:
    assert list(private_reaches(MODULES[name], engine=unit(name) == "engine")) == []


@pytest.mark.parametrize("name", [name for name in MODULES if unit(name) == "kernels"])
def test_kernels_stand_alone(name: str) -> None:
    """Nothing of fastbp outside the kernels, and nothing from elsewhere but the compiler and NumPy."""
    names = {tuple(dotted.split(".")) for dotted in imported(MODULES[name])}
    assert all(parts[1] == "kernels" for parts in names if parts[0] == "fastbp")
    assert {parts[0] for parts in names} <= CORE_DEPENDENCIES | set(sys.stdlib_module_names) | {"fastbp"}


@pytest.mark.parametrize("name", [name for name in MODULES if unit(name) not in ("bench", "cli")])
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
    assert not found or unit(name) == "cli" or name.startswith("sklearn/")  # whose `verbose` prints, as theirs does


def test_the_search_for_prints_finds_some() -> None:
    assert any(list(prints(tree)) for name, tree in MODULES.items() if unit(name) == "cli")
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
