"""Start-up times: what a fresh process pays before its first step, with an empty and a filled machine-code cache."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

import fastbp
from fastbp.bench.result import Start, StartUp
from fastbp.bench.workloads import WORKLOADS, Workload
from fastbp.io.files import replacing
from fastbp.kernels.build import interpreter
from fastbp.kernels.cache import user_cache_folder

CACHE_VARIABLE = "FASTBP_CACHE_DIR"
TIMEOUT = 300.0  # seconds; far above any cold compile

_SCRIPT = """
import json, sys, time
sizes, batch_size, n_samples = json.loads(sys.argv[1])
start = time.perf_counter()
import numba, numpy
numba_done = time.perf_counter()
import fastbp
fastbp.MLP  # names are loaded when they are first used
import_done = time.perf_counter()
rng = numpy.random.default_rng(0)
X = rng.random((n_samples, sizes[0]), dtype=numpy.float32)
y = rng.integers(sizes[-1], size=n_samples)
fit_start = time.perf_counter()
fastbp.MLP(sizes, seed=0).fit(X, y, epochs=1, batch_size=batch_size, optimizer="sgd")
fit_done = time.perf_counter()
print(json.dumps([numba_done - start, import_done - numba_done, fit_done - fit_start]))
"""


def measure(*, repeats: int = 3) -> StartUp | None:
    """One cold process, then `repeats` with the cache that it filled (medians of them); None without an interpreter.

    What the cold one compiled is kept for this process, if it has not got it yet: nothing is compiled twice.

    Raises
    ------
    RuntimeError
        The process failed (the message ends with its last line) or did not end.
    """
    if interpreter() is None:  # as in a frozen application, which would itself begin anew
        return None
    workload = WORKLOADS["digits"]
    with tempfile.TemporaryDirectory(prefix="fastbp-bench-") as folder:
        cold = start_process(workload, folder)
        cached = [start_process(workload, folder) for _ in range(repeats)]
        _fill_cache(Path(folder))
    return StartUp(
        cold,
        Start(
            median(start.numba_seconds for start in cached),
            median(start.import_seconds for start in cached),
            median(start.fit_seconds for start in cached),
        ),
    )


def _fill_cache(folder: Path) -> None:
    """Hand compiled files on to this user's cache; where that cannot be written, they are only compiled again."""
    with contextlib.suppress(OSError, RuntimeError):  # RuntimeError: this user has no home
        for path in folder.rglob("*.bin"):
            target = user_cache_folder() / path.relative_to(folder)
            if not target.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                with replacing(target, "wb") as file:
                    file.write(path.read_bytes())


def start_process(workload: Workload, cache_folder: str) -> Start:
    """Import fastbp and fit once in a fresh process that keeps its machine code in `cache_folder`."""
    root = str(Path(fastbp.__file__).absolute().parent.parent)  # the child must import the same fastbp
    path = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
    arguments = json.dumps([workload.sizes, workload.batch_size, workload.n_samples])
    try:
        child = subprocess.run(
            [sys.executable, "-c", _SCRIPT, arguments],
            env=os.environ | {CACHE_VARIABLE: cache_folder, "PYTHONPATH": path},
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise RuntimeError(f"the start-up process did not end within {TIMEOUT:g} s") from error
    if child.returncode:
        lines = child.stderr.strip().splitlines() or [f"exit code {child.returncode}"]
        raise RuntimeError(f"the start-up process failed: {lines[-1]}")
    return Start(*json.loads(child.stdout.splitlines()[-1]))
