"""The name of the cache folder: whatever the machine code comes from is in it, with sources on disk and without."""

from __future__ import annotations

import compileall
import os
import shutil
import zipfile
from pathlib import Path

import numba
import pytest
from processes import FOLDERS, python, succeed

import fastbp
from fastbp.kernels import cache

PACKAGE = Path(fastbp.__file__).parent


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder with a copy of the package that may be edited."""
    shutil.copytree(PACKAGE, tmp_path / "old" / "fastbp", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path / "old"


EDITS = """
import os, sys
import fastbp.activations  # any module that needs the kernels
from fastbp.kernels import cache
root = sys.argv[1]
assert fastbp.__file__.startswith(root)

def now():
    cache.remember_code()
    cache.fingerprint.cache_clear()
    return cache.fingerprint()

seen, files = {now()}, [os.path.join(root, "fastbp", "_version.py")]
for folder, _, names in os.walk(os.path.join(root, "fastbp", "kernels")):
    files += [os.path.join(folder, name) for name in names if name.endswith(".py")]
for file in files:
    with open(file, "r+") as opened:
        before = opened.read()
        opened.write("\\nedited = 1\\n")
    seen.add(now())
    with open(file, "w") as opened:
        opened.write(before)
assert len(seen) == len(files) + 1, "a file is not part of the fingerprint"
print(len(files))
"""


def in_checkout(code: str, folder: Path, **env: str) -> str:
    """What code prints that imports the copy of fastbp."""
    return succeed(code, folder, PYTHONPATH=str(folder), PYTHONDONTWRITEBYTECODE="1", **env)


def test_every_module_is_loaded_with_the_first() -> None:
    """By the names of files here: what is not loaded would have no part in the fingerprint."""
    folder = PACKAGE / "kernels"
    wanted = {".".join(["fastbp", *path.relative_to(PACKAGE).with_suffix("").parts]) for path in folder.rglob("*.py")}
    wanted = {name.removesuffix(".__init__") for name in wanted}
    assert len(wanted) > 22
    for first in ("fastbp.kernels.notice", "fastbp.kernels.records"):
        loaded = succeed(f"import sys, {first}; print(*[name for name in sys.modules if '.kernels' in name])").split()
        assert set(loaded) == wanted


def test_an_edit_of_any_kernel_file_changes_the_fingerprint(checkout: Path) -> None:
    assert int(in_checkout(EDITS, checkout)) >= 22


def test_so_it_does_when_modules_move_to_folders(checkout: Path) -> None:
    """Two deep, and one of them without an `__init__`."""
    kernels = checkout / "fastbp" / "kernels"
    before = int(in_checkout(EDITS, checkout))
    (kernels / "parts" / "deep").mkdir(parents=True)
    (kernels / "parts" / "__init__.py").write_text('"""A folder."""\n')
    for old, new in {"penalty": "parts.norms", "gather": "parts.deep.rows", "optimizers": "parts.rules"}.items():
        (kernels / f"{old}.py").rename(kernels / f"{new.replace('.', '/')}.py")
        for path in (checkout / "fastbp").rglob("*.py"):
            path.write_text(path.read_text().replace(f"fastbp.kernels.{old} ", f"fastbp.kernels.{new} "))
    assert int(in_checkout(EDITS, checkout)) == before + 1


def test_it_is_of_what_was_loaded(checkout: Path) -> None:
    """A file that is edited, or upgraded, between import and first compile has no part in what is compiled."""
    code = """
import sys, pathlib
from fastbp.kernels import cache
kernel = pathlib.Path(sys.argv[1], "fastbp", "kernels", "tile.py")
kernel.write_text(kernel.read_text() + "edited = 1")
print(cache.fingerprint())
"""
    first, second = (in_checkout(code, checkout) for _ in range(2))
    assert first.strip() == cache.fingerprint()
    assert second != first


def test_it_is_the_same_in_every_process() -> None:
    code = "from fastbp.kernels import cache; print(cache.fingerprint())"
    for first in ("import fastbp.bench.machine", "import fastbp; fastbp.MLP", "import fastbp.kernels.build"):
        assert succeed(f"{first}\n{code}", PYTHONHASHSEED="7").strip() == cache.fingerprint()
    assert succeed(code, NUMBA_CPU_NAME="another").strip() != cache.fingerprint()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("CPU_NAME", "another"), ("CPU_FEATURES", "+sse2"), ("OPT", 1), ("LOOP_VECTORIZE", 0), ("BOUNDSCHECK", 1),
        ("DEBUGINFO_DEFAULT", 1), ("EXTEND_VARIABLE_LIFETIMES", 1),
    ],
)  # fmt: skip
def test_settings_of_numba_change_it(name: str, value: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numba.config, name, value)
    assert cache.fingerprint.__wrapped__() != cache.fingerprint()


# --- releases without sources. One small leaf, whose machine code tells which of two releases it is of.

SUM = """
import numpy as np
from fastbp.kernels import cache, probe
from fastbp.kernels.build import entry
x, y = np.full(4, 2, np.float32), np.full(4, 9, np.float32)
entry(probe.add_probe, "float32")(y.ctypes.data, x.ctypes.data, 4, 1, np.float32(0))
print(y[0], cache.fingerprint(), cache.cache_folder(), sep="|")
"""
# As in a frozen application: code that is in no file, and that the loader hands out as such, or not at all.
FROZEN = """
import importlib.abc, importlib.util, os, sys
root, hands_out = sys.argv[1:]
class Frozen(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, name, path=None, target=None):
        base = os.path.join(root, *name.split("."))
        for file in (base + ".py", os.path.join(base, "__init__.py")):
            if os.path.exists(file):
                package = file.endswith("__init__.py")
                spec = importlib.util.spec_from_loader(name, self, origin="frozen", is_package=package)
                spec.loader_state = file
                return spec
    def exec_module(self, module):
        exec(self.code(module.__spec__.name), vars(module))
    def code(self, name):
        file = self.find_spec(name).loader_state
        with open(file) as source:
            return compile(source.read(), "<frozen>", "exec")
    if hands_out == "code":
        get_code = code
sys.meta_path.insert(0, Frozen())
"""


def as_zip(folder: Path, suffix: str) -> Path:
    target = folder.with_suffix(".zip")
    with zipfile.ZipFile(target, "w") as archive:
        for path in sorted(folder.rglob(f"*{suffix}")):
            archive.write(path, path.relative_to(folder))
    return target


def without_sources(folder: Path) -> Path:
    assert compileall.compile_dir(folder, quiet=1, legacy=True)
    for path in [*folder.rglob("*.py")]:
        path.unlink()
    return folder


FORMS = {
    "sources": lambda folder: folder,
    "an archive": lambda folder: as_zip(folder, ".py"),
    "bytecode": without_sources,
    "an archive of bytecode": lambda folder: as_zip(without_sources(folder), ".pyc"),
}


@pytest.mark.parametrize("form", [*FORMS, "a frozen application"])
def test_a_new_release_runs_its_own_machine_code(form: str, checkout: Path, tmp_path: Path) -> None:
    new = checkout.with_name("new")
    shutil.copytree(checkout, new)
    probe = new / "fastbp" / "kernels" / "probe.py"
    assert probe.read_text().count("+= x[i]") == 1
    probe.write_text(probe.read_text().replace("+= x[i]", "-= x[i]"))
    for path in (*checkout.rglob("*.py"), *new.rglob("*.py")):  # which bytecode names as its origin
        os.utime(path, (1e9, 1e9))
    found = []
    for release in (checkout, new):
        code, at = (SUM, FORMS[form](release)) if form in FORMS else (FROZEN + SUM, release)
        folders = os.pathsep.join([str(at)] * (form in FORMS))
        done = [
            succeed(code, at, "code", PYTHONPATH=folders, FASTBP_CACHE_DIR=str(tmp_path / "cache"), **env)
            for env in ({"PYTHONHASHSEED": "1"}, {"PYTHONHASHSEED": "2"})
        ]
        assert done[0] == done[1], "another process must find what this one has compiled"
        found.append(done[0].split("|"))
    (first, name, _), (second, other, _) = found
    assert (first, second) == ("11.0", "7.0")
    assert name != other
    assert sorted(path.name for path in (tmp_path / "cache").iterdir()) == sorted([name, other])


def test_code_that_cannot_be_told_apart_is_not_kept(checkout: Path, tmp_path: Path) -> None:
    (tmp_path / "tmp").mkdir()
    folders = {"FASTBP_CACHE_DIR": str(tmp_path / "cache"), "TMPDIR": str(tmp_path / "tmp")}
    done = python(FROZEN + SUM, checkout, "nothing", PYTHONPATH="", **folders)
    assert done.returncode == 0, done.stderr
    number, _, used = done.stdout.strip().split("|")
    assert number == "11.0"
    assert tmp_path / "tmp" in Path(used).parents
    assert done.stderr.count("Warning") == 1
    assert "the loader of fastbp does not hand out its code" in done.stderr
    assert not (tmp_path / "cache").exists()
    assert not any((tmp_path / "tmp").iterdir())


def test_fastbp_works_from_an_archive(checkout: Path, tmp_path: Path) -> None:
    """With the machine code of this very release; data and the page of a report come out of it, too."""
    code = """
import sys, fastbp
from fastbp.kernels import cache
assert fastbp.__file__.startswith(sys.argv[1])
X, y = fastbp.datasets.load_digits()
sweep = fastbp.lr_sweep(fastbp.MLP([64, 8, 10], seed=0), X[:200], y[:200], [0.01, 0.1, 1.0], seeds=1, epochs=1)
sweep.report(sys.argv[2])
print(cache.fingerprint())
"""
    at, page = as_zip(checkout, ""), tmp_path / "page.html"
    assert succeed(code, at, page, PYTHONPATH=str(at)).strip() == cache.fingerprint()
    text = page.read_text(encoding="utf-8")
    assert (PACKAGE / "many" / "page" / "page.css").read_text(encoding="utf-8") in text


def test_the_package_is_the_one_under_test() -> None:
    assert str(PACKAGE.parent) in FOLDERS
