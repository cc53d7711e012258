"""A cold compile shares its work with a second process, and does without one that fails."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from processes import succeed

COLD = """
import os, sys, time
from fastbp.kernels import helper, jit
from fastbp.kernels.run import run
import fastbp
if sys.argv[1] == "broken":
    sys.executable = sys.argv[2]
claim, own = helper._claim, []
def together(claims, name):  # not all before the helper, which may have been slow to start, has a leaf of its own
    while sys.argv[1] == "shared" and own and len(os.listdir(claims)) <= len(own):
        time.sleep(0.01)
    own.extend([name] * claim(claims, name))
    return name in own
helper._claim = together
compiled = []
compile = jit.Leaf.compile
def count(self, dtype):
    if not self.is_cached(dtype):
        compiled.append(self.name)
    return compile(self, dtype)
jit.Leaf.compile = count
reported = []
jit.entry(run, "float32", reported.append)
leaves = jit.leaves_of(run)
assert all(made.is_cached("float32") for made in leaves)
assert reported == sorted(reported), reported
X, y = fastbp.datasets.load_digits()
loss = fastbp.MLP([64, 16, 10], seed=0).fit(X, y, epochs=2).loss
assert loss[1] < loss[0]
print(len(compiled), len(leaves))
"""

CPUS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


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


@pytest.mark.parametrize("executable", ["/bin/false", "/no/such/file"])
def test_a_helper_that_fails_costs_only_its_share(executable: str, cold: tuple[Path, int, int], tmp_path: Path) -> None:
    files = lacking(cold[0], tmp_path / "cache", slice(0, 8))
    alone, _ = map(int, succeed(COLD, "broken", executable, FASTBP_CACHE_DIR=str(tmp_path / "cache")).split())
    assert alone == 8
    assert sorted((tmp_path / "cache").rglob("*.bin")) == files


def test_a_cache_that_lacks_every_second_file(cold: tuple[Path, int, int], tmp_path: Path) -> None:
    """What is compiled links to what is on disk, which must be loaded first: else the process would die."""
    files = lacking(cold[0], tmp_path / "cache", slice(None, None, 2))
    succeed(COLD, "whole", "", FASTBP_CACHE_DIR=str(tmp_path / "cache"))
    assert sorted((tmp_path / "cache").rglob("*.bin")) == files


def test_the_command_line_answers_to_python_m(tmp_path: Path) -> None:
    code = "import runpy, sys; sys.argv = ['fastbp', '--version']; runpy.run_module('fastbp', run_name='__main__')"
    assert succeed(code).startswith("fastbp")
