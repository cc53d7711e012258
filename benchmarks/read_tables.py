"""Time and memory of reading and encoding a table of 100,000 rows, beside what Polars takes to read it alone.

    python benchmarks/read_tables.py

The table is seeded: 25 numbers with holes, 15 categories of up to 10 values, 5 booleans, 3 dates, 2 texts. The peak is
that of a process of its own, beyond its imports.
"""

from __future__ import annotations

import argparse
import datetime
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import polars as pl

from fastbp.tables import large
from fastbp.tables.encoder import Encoder
from fastbp.tables.kinds import Reading
from fastbp.tables.prepared import Roles

ROWS = 100_000
ROUNDS = 7


def table(n: int = ROWS, seed: int = 0) -> pl.DataFrame:
    """The table."""
    rng = np.random.default_rng(seed)
    columns: dict[str, pl.Series] = {}
    for k in range(25):
        values = np.round(rng.normal(size=n) * 10.0 ** (k % 4), 4)
        columns[f"number{k}"] = pl.Series(values).set(pl.Series(rng.random(n) < 0.02), None)
    for k in range(15):
        levels = np.array([f"level{j}" for j in range(2 + k % 9)])
        columns[f"category{k}"] = pl.Series(levels[rng.integers(0, len(levels), n)])
    for k in range(5):
        columns[f"flag{k}"] = pl.Series(rng.random(n) > 0.5)
    for k in range(3):
        days = [datetime.date(2020, 1, 1) + datetime.timedelta(int(day)) for day in rng.integers(0, 1500, n)]
        columns[f"day{k}"] = pl.Series(days)
    words = np.array(["red fox", "lazy dog", "quick, brown", "jump over", "the moon"])
    for k in range(2):
        pairs = zip(words[rng.integers(0, 5, n)], words[rng.integers(0, 5, n)], strict=True)
        columns[f"text{k}"] = pl.Series([f"{a} {b}" for a, b in pairs])
    columns["target"] = pl.Series(rng.integers(0, 2, n))
    return pl.DataFrame(columns)


def encode(path: Path) -> tuple[np.ndarray, float]:
    """The inputs, and the seconds that they took."""
    begin = time.perf_counter()
    looked = large.look(path, Roles(("target",)), Reading(), None, False)
    assert looked is not None
    encoder = Encoder.learn(looked.columns, "robust")  # as the recipe scales numbers
    X = encoder.encode(looked.columns)[0]
    return X, time.perf_counter() - begin


def peak() -> int:
    """Bytes of memory that this process has had at most."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(lines["VmHWM"].split()[0]) * 1024


def main() -> None:
    """See ``python benchmarks/read_tables.py --help``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peak", metavar="FILE", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peak:
        before = peak()
        X, _ = encode(Path(options.peak))
        print(json.dumps({"peak": peak() - before, "matrix": X.nbytes}))
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "table.csv"
        table().write_csv(path)
        alone, ours = [], []
        for _ in range(ROUNDS):
            begin = time.perf_counter()
            pl.read_csv(path, try_parse_dates=True)
            alone.append(time.perf_counter() - begin)
            ours.append(encode(path)[1])
        ratio = statistics.median(b / a for a, b in zip(alone, ours, strict=True))
        print(f"Polars reads {path.stat().st_size / 1e6:.0f} MB in {1e3 * statistics.median(alone):.0f} ms; read and "
              f"encoded in {1e3 * statistics.median(ours):.0f} ms: {ratio:.2f} times as long (goal: 3)")  # fmt: skip
        done = subprocess.run(
            [sys.executable, __file__, "--peak", str(path)], capture_output=True, text=True, check=True
        )
        found = json.loads(done.stdout)
        goal = found["matrix"] + 3 * path.stat().st_size
        print(f"peak memory {found['peak'] / 1e6:.0f} MB (goal: {goal / 1e6:.0f}, the matrix and three times the file)")


if __name__ == "__main__":
    main()
