"""Constants that decide how fast the kernels are, each with the measurement that chose it, where there is one.

No bit of a result depends on them, but for `NORM_VECTORS`, which is part of an order of summation. The shape of the
register tile, which depends on the CPU, is in `targets.py`.
"""

from __future__ import annotations

import numpy as np

# --- products -----------------------------------------------------------------------------------------------

# Steps of k that a tile takes before it jumps.
TILE_UNROLL = 4
# Rows of a weight panel kept in L1 while the rows of a block pass over it: 256 * 16 * 4 bytes is half of a 32 KiB L1.
K_BLOCK = 256
# Weights of more bytes come from the third-level cache or memory: a block is fetched while the one before is worked on.
# (1024x1024 weights, 126 rows: 0.93 instead of 0.88 of the speed of a tile in L1. For deltas it changed nothing.)
NEAR_BYTES = 128 * 1024
# Batches of up to so many rows have a weight gradient without a tile: see `few.py`.
FEW = 4
# Layers of up to so many units have a weight gradient with vectors along the inputs, for batches of at least so many
# rows: see `thin.py`.
THIN, THIN_ROWS = 4, 32
# Rows of the batch summed into a gradient block before its next part. Parts of 128 rows of deltas and activations, a
# cache line each, leave room in an L1: on `large`, two threads, a step took 34 to 39 ms, with 256 40 ms, with 512 42.
ROW_BLOCK = 128
# Weight blocks of a panel whose gradient is made in one go, before the update passes over it.
MAX_RUN = 4

# Bytes of activations that are rounded to bfloat16 at a time, right after they are made: with f'(z), half of an L1.
COPY_BYTES = np.uint64(8192)

# --- other loops --------------------------------------------------------------------------------------------

# Rows of so many cache lines are fetched while the row before is copied: the shuffled order hides them from the CPU.
PREFETCH_LINES = np.uint64(4)
# Vectors of the gradient whose squares are added up before they join the sum of the whole norm.
NORM_VECTORS = np.uint64(512)

# --- threads ------------------------------------------------------------------------------------------------

# Pauses at a barrier before a thread yields its CPU. Oversubscribed, a pure spin costs milliseconds a barrier; 64
# pauses and then sched_yield 3 to 9 microseconds.
SPINS = 64
# Percent of the work of a phase that threads claim in one round after the other, an even share each: threads do not run
# at one speed for long, and the small claims at the end level that out.
CLAIM_PERCENT = (70, 16, 9, 5)
# So many rows that are validated count as one that is trained, where a thread of a sweep has a budget of steps.
VALIDATED_PER_TRAINED = np.uint64(3)

# --- the compile --------------------------------------------------------------------------------------------

# A second process is started for at least so many leaves: fewer compile in less time than its start takes.
HELPER_MIN_LEAVES = 6
# After so long, a helper that has not ended is stuck. What it has not written is compiled here.
HELPER_PATIENCE_SECONDS = 120.0
# How often the thread that waits for a compile looks at signals and at what is on disk.
PAUSE_SECONDS = 0.05
