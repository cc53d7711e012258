"""A cold compile shares its work with a second process, and does without one that fails."""

from __future__ import annotations

from pathlib import Path

import pytest
from processes import succeed

COLD = """
import sys
from fastbp.kernels import jit
from fastbp.kernels.run import run
import fastbp
if sys.argv[1] == "broken":
    sys.executable = sys.argv[2]
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


@pytest.mark.parametrize(
    ("state", "executable"), [("whole", ""), ("broken", "/bin/false"), ("broken", "/no/such/file")]
)
def test_a_cold_compile_ends_with_or_without_a_helper(state: str, executable: str, tmp_path: Path) -> None:
    alone, leaves = map(int, succeed(COLD, state, executable, FASTBP_CACHE_DIR=str(tmp_path)).split())
    if state == "broken":
        assert alone == leaves
    else:
        assert alone < leaves


def test_a_cache_that_lacks_every_second_file(tmp_path: Path) -> None:
    """What is compiled links to what is on disk, which must be loaded first: else the process would die."""
    succeed(COLD, "whole", "", FASTBP_CACHE_DIR=str(tmp_path))
    files = sorted(tmp_path.rglob("*.bin"))
    for path in files[::2]:
        path.unlink()
    succeed(COLD, "whole", "", FASTBP_CACHE_DIR=str(tmp_path))
    assert sorted(tmp_path.rglob("*.bin")) == files


def test_the_command_line_answers_to_python_m(tmp_path: Path) -> None:
    code = "import runpy, sys; sys.argv = ['fastbp', '--version']; runpy.run_module('fastbp', run_name='__main__')"
    assert succeed(code).startswith("fastbp")
