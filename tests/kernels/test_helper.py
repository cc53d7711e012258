"""A cold compile shares its work with a second process, and does without one that fails."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest
from processes import succeed

from fastbp.kernels import build

COLD = """
import os, sys, time
if sys.argv[1] == "broken":
    sys.executable = sys.argv[2]
exec(sys.argv[3] if len(sys.argv) > 3 else "")
from fastbp.kernels import build
from fastbp.kernels.run import run
import fastbp
whose, own = build._claim, []
def together(claims, name):  # not all before the helper, which may have been slow to start, has a leaf of its own
    while sys.argv[1] == "shared" and own and len(os.listdir(claims)) <= len(own):
        time.sleep(0.01)
    own.extend([name] * whose(claims, name))
    return name in own
build._claim = together
compiled = []
compile = build.compile_leaf
def count(leaf, dtype):
    if not leaf.is_cached(dtype):
        compiled.append(leaf.name)
    return compile(leaf, dtype)
build.compile_leaf = count
reported = []
build.entry(run, "float32", reported.append)
leaves = build.leaves_of(run)
assert all(made.is_cached("float32") for made in leaves)
assert reported == sorted(reported), reported
X, y = fastbp.datasets.load_digits()
loss = fastbp.MLP([64, 16, 10], seed=0).fit(X, y, epochs=2).loss
assert loss[1] < loss[0]
print(len(compiled), len(leaves))
"""

CPUS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
two_cpus = pytest.mark.skipif(CPUS < 2, reason="a helper is started where there is a second CPU")


@pytest.fixture(scope="module")
def cold(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int, int]:
    """A cache filled from nothing, leaves that the process compiled itself, and all."""
    folder = tmp_path_factory.mktemp("cache")
    how = "shared" if CPUS > 1 else "whole"
    alone, leaves = map(int, succeed(COLD, how, "", FASTBP_CACHE_DIR=str(folder)).split())
    return folder, alone, leaves


def lacking(folder: Path, target: Path, lost: slice) -> list[Path]:
    """A copy of a cache without some of its files; returns all that it should hold."""
    shutil.copytree(folder, target)
    files = sorted(target.rglob("*.bin"))
    for path in files[lost]:
        path.unlink()
    return files


def test_two_processes_share_a_cold_compile(cold: tuple[Path, int, int]) -> None:
    """Where there is a second CPU to do it."""
    _, alone, leaves = cold
    assert (alone < leaves) == (CPUS > 1)


@pytest.mark.skipif(sys.platform == "win32", reason="no scripts as executables")
@pytest.mark.parametrize("works", [True, False])
def test_a_helper_that_fails_costs_only_its_share(works: bool, cold: tuple[Path, int, int], tmp_path: Path) -> None:
    files = lacking(cold[0], tmp_path / "cache", slice(0, 8))
    executable = script(tmp_path / "python3", tmp_path / "log") if works else tmp_path / "python3"
    alone, _ = map(int, succeed(COLD, "broken", executable, FASTBP_CACHE_DIR=str(tmp_path / "cache")).split())
    assert alone == 8
    assert sorted((tmp_path / "cache").rglob("*.bin")) == files
    assert starts(tmp_path / "log") == (works and CPUS > 1)


def script(path: Path, log: Path) -> Path:
    """A program that writes down that it was started, and fails."""
    path.write_text(f"#!/bin/sh\necho started >> {log}\nexit 1\n")
    path.chmod(0o755)
    return path


def starts(log: Path) -> int:
    """How often it was."""
    return len(log.read_text().splitlines()) if log.exists() else 0


@pytest.mark.skipif(sys.platform == "win32", reason="no scripts as executables")
@pytest.mark.parametrize(
    ("name", "before"),
    [
        ("trainer", ""),  # an application that embeds Python
        ("python-trainer", ""),
        ("python3", "sys.frozen = True"),
        ("python3", "os.environ['FASTBP_HELPER'] = '1'"),  # a helper whose sitecustomize trains
        ("", "sys.executable = ''"),
        ("", "sys.executable = None"),
    ],
)
def test_an_application_is_not_started_anew(
    name: str, before: str, cold: tuple[Path, int, int], tmp_path: Path
) -> None:
    files = lacking(cold[0], tmp_path / "cache", slice(0, 8))
    executable = script(tmp_path / (name or "unused"), tmp_path / "log")
    told = succeed(COLD, "broken", executable, before, FASTBP_CACHE_DIR=str(tmp_path / "cache"))
    assert int(told.split()[0]) == 8
    assert starts(tmp_path / "log") == 0
    assert sorted((tmp_path / "cache").rglob("*.bin")) == files


@pytest.mark.parametrize(
    ("name", "is_one"),
    [
        ("python", True), ("python3", True), ("python3.11", True), ("python3.13t", True), ("Python.exe", True),
        ("pythonw.exe", True), ("python3.11-dbg", True), ("python3-intel64", True), ("pythonic", False),
        ("python-app", False), ("app.exe", False), ("python3.11.app", False), ("blender", False), ("uwsgi", False),
    ],
)  # fmt: skip
def test_what_is_an_interpreter(name: str, is_one: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", f"{os.sep}some folder{os.sep}{name}")
    assert (build.interpreter() is not None) == is_one


# The first leaf waits for the helper to leave one in the cache: so both have a part, however slow it starts.
SHARED = """
import pathlib, time
from fastbp.kernels import build, cache
claim = build._claim
def patient(claims, name):
    end = time.monotonic() + 120
    while not list(cache.writable_folder().glob("*.bin")) and time.monotonic() < end:
        time.sleep(0.02)
    build._claim = claim
    return claim(claims, name)
build._claim = patient
"""


@two_cpus
def test_paths_that_importing_ignores(cold: tuple[Path, int, int], tmp_path: Path) -> None:
    """As a `Path` or bytes in sys.path; a module in the current folder, which is not among them, is left alone, too."""
    files = lacking(cold[0], tmp_path / "cache", slice(0, 8))
    (tmp_path / "json.py").write_text(f"open({str(tmp_path / 'log')!r}, 'w').write('imported')")
    before = f"""
from pathlib import Path
sys.path[:0] = [Path.home(), b"bytes", None]
os.chdir({str(tmp_path)!r})
{SHARED.replace('list(cache.writable_folder().glob("*.bin"))', 'len(list(cache.writable_folder().glob("*.bin"))) > 12')}
"""
    told = succeed(COLD, "whole", "", before, FASTBP_CACHE_DIR=str(tmp_path / "cache"))
    assert int(told.split()[0]) < 8, "the helper could not import fastbp"
    assert not (tmp_path / "log").exists()
    assert sorted((tmp_path / "cache").rglob("*.bin")) == files


@two_cpus
def test_a_helper_shares_the_temporary_folder(cold: tuple[Path, int, int], tmp_path: Path) -> None:
    lacking(cold[0], tmp_path / "cache", slice(0, 8))
    (tmp_path / "tmp").mkdir()
    before = f"""
import errno, tempfile, warnings
warnings.simplefilter("ignore")
def refuse(**_): raise OSError(errno.EROFS, "Read-only file system")
tempfile.TemporaryFile = refuse
{SHARED}
"""
    folders = {"FASTBP_CACHE_DIR": str(tmp_path / "cache"), "TMPDIR": str(tmp_path / "tmp")}
    told = succeed(COLD, "whole", "", before, **folders)
    assert int(told.split()[0]) < 8, "what the helper compiled was thrown away"
    assert not any((tmp_path / "tmp").iterdir()), "left behind"


def test_a_cache_that_lacks_every_second_file(cold: tuple[Path, int, int], tmp_path: Path) -> None:
    """What is compiled links to what is on disk, which must be loaded first: else the process would die."""
    files = lacking(cold[0], tmp_path / "cache", slice(None, None, 2))
    succeed(COLD, "whole", "", FASTBP_CACHE_DIR=str(tmp_path / "cache"))
    assert sorted((tmp_path / "cache").rglob("*.bin")) == files


def test_the_command_line_answers_to_python_m(tmp_path: Path) -> None:
    code = "import runpy, sys; sys.argv = ['fastbp', '--version']; runpy.run_module('fastbp', run_name='__main__')"
    assert succeed(code).startswith("fastbp")
