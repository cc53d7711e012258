"""Train on a file that is read in place: 512 MB of rows, and a process that hardly grows."""

import os
import sys
import time
from pathlib import Path

import numpy as np

import fastbp

N, N_IN = int(sys.argv[1]) if len(sys.argv) > 1 else 2_000_000, 64  # rows of 64 float32: 256 bytes each
rng = np.random.default_rng(0)
direction = rng.standard_normal(N_IN)


def own_memory():
    """Bytes that are this process's alone; pages of files in the cache of the system do not count."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line.split()[1] for line in lines if line.startswith("RssAnon")))


# Written piece by piece, as a simulation or a conversion would do it.
X = np.lib.format.open_memmap("rows.npy", "w+", np.float32, (N, N_IN))
y = np.lib.format.open_memmap("targets.npy", "w+", np.int64, (N,))
for begin in range(0, N, 100_000):
    piece = slice(begin, min(begin + 100_000, N))
    X[piece] = rng.standard_normal((piece.stop - begin, N_IN), dtype=np.float32)
    y[piece] = np.abs(X[piece] @ direction) > 0.674 * np.linalg.norm(direction)  # no line parts these classes
del X, y

X, y = np.load("rows.npy", mmap_mode="r"), np.load("targets.npy", mmap_mode="r")
net = fastbp.MLP([N_IN, 64, 1], loss="binary_cross_entropy", seed=0)
net.fit(X[:1000], y[:1000], epochs=1)  # what is needed whatever the size of the file
before, begun = own_memory(), time.perf_counter()
# Batches are gathered from the map, in random order. What is held is that order, a few bytes a row.
net.fit(X, y, epochs=1, batch_size=256, optimizer=fastbp.Adam(0.003))
grown, seconds = own_memory() - before, time.perf_counter() - begun
accuracy = net.evaluate(X[:50_000], y[:50_000])["accuracy"]

size = os.path.getsize("rows.npy")
print(f"one epoch over a file of {size / 1e6:,.0f} MB: {seconds:.1f} s, {N / seconds:,.0f} rows/s")
print(f"the process grew by {grown / 1e6:.1f} MB, a batch has {256 * N_IN * 4 / 1e6:.2f} MB; accuracy {accuracy:.1%}")
for name in ("rows.npy", "targets.npy"):
    os.remove(name)

assert grown < size / 10 + 8 * N
assert accuracy > 0.85
