"""Fresh Python processes for tests: what a crash, a fork, a signal or a cache does shows only there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import fastbp
from fastbp.io import model_files

# The tests, and the very fastbp that is tested here.
HERE = Path(__file__).parent
FOLDERS = [*map(str, [HERE, *HERE.glob("*/")]), str(Path(fastbp.__file__).parents[1])]
# The lesser rows of the tile table that a CPU with more can be told to be.
ROWS = {
    "generic": {"NUMBA_CPU_NAME": "generic"},
    "avx2": {
        "NUMBA_CPU_NAME": "haswell",
        "NUMBA_CPU_FEATURES": "+sse3,+ssse3,+sse4.1,+sse4.2,+popcnt,+avx,+avx2,+fma,+bmi,+bmi2,+lzcnt",
    },
}
# A cold compile of both dtypes on a slow, busy machine; a hang is cut off here.
TIMEOUT = 300


def python(code: str, *arguments: object, timeout: float = TIMEOUT, **env: str) -> subprocess.CompletedProcess[str]:
    """Run `code`, from which the modules of the tests can be imported; `env` is added to the environment."""
    path = os.pathsep.join([*FOLDERS, os.environ.get("PYTHONPATH", "")]).strip(os.pathsep)
    return subprocess.run(
        [sys.executable, "-P", "-X", "faulthandler", "-c", code, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": path, **env}, capture_output=True, text=True, timeout=timeout, check=False,
    )  # fmt: skip


def succeed(code: str, *arguments: object, timeout: float = TIMEOUT, **env: str) -> str:
    """Run `code`, which must end well; returns what it printed."""
    done = python(code, *arguments, timeout=timeout, **env)
    assert done.returncode == 0, f"exit code {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return done.stdout


def same_file(one: Path, other: Path) -> None:
    (mine, about), (yours, about_other) = model_files.load(one), model_files.load(other)
    assert about == about_other
    assert mine.keys() == yours.keys()
    for name, array in mine.items():
        assert array.tobytes() == yours[name].tobytes(), name
