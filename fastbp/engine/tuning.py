"""Constants that decide speed, and nothing else but speed; each with the measurement that chose it.

What they decide follows from sizes alone where it decides the order of a sum: bits must not depend on the machine.
"""

# Rows go through all layers in blocks whose activations take a part of the second-level cache, but in no fewer than
# these, or weights that come from further away are read too often.
BLOCK_BYTES, MIN_BLOCK = 256 * 1024, 128
# A batch whose activations leave the second-level cache is cut into shares with a gradient of their own (`step.py`),
# if adding these up costs less than reading the activations again.
CACHE_BYTES = 512 * 1024
N_GROUPS = 16
# Layers of fewer inputs or units stay float32 where products are in bfloat16: see `Layer.paired`.
PAIRED_INPUTS, PAIRED_UNITS = 32, 8
# A batch of no more numbers than this is copied to a stage.
STAGE_SIZE = 4096
# Steps with more flops than this can last long enough to delay Ctrl-C.
LONG_STEP_FLOPS = 5e9
# Steps of more flops last longer than a time slice: threads then claim their work bit by bit, because one of them may
# have to wait. Beside a busy loop on one of two cores, `large` ran 1.1x faster so, but `mnist` 1.25x slower.
DYNAMIC_FLOPS = 1e9
# What the choice of the number of threads assumes: flop/s of one thread, and seconds a step for two barriers.
THREAD_FLOPS, BARRIER_SECONDS = 5e10, 1.5e-6
# What is assumed of a step before anything is measured: seconds of a layer besides its arithmetic; seconds in which a
# line passes between cores, where these are near and where they are far; the share of that which a line of a stream
# takes (7 to 13 of 140 ns); and the lines that a barrier of two threads takes as long as (1.8 of 0.14 us).
LAYER_SECONDS, LINE_SECONDS, FAR_LINE_SECONDS = 2e-7, 6e-8, 1.4e-7
STREAM, BARRIER_LINES = 0.1, 8.0
# Bytes a second that a thread gathers of rows in a new order (400 kB in 20 to 37 us).
GATHER_BYTES = 1.6e10
# A placement by columns is worth a trial where, on cores that are far, the model gives it this share of the time.
WORTH_COLUMNS = 0.98
# The choices that a network remembers, by batch sizes and what the system grants.
CHOOSERS = 16
# The machine is measured (2 ms) for a training of so many seconds, and again after so many; the share of the FMA peak
# that steps reach.
PROBE_WORTH, PROBE_SECONDS, PEAK_SHARE = 0.2, 10.0, 0.75
# What the choice of steps after which parameters are kept assumes: the share of the time that this may cost; seconds of
# a copy of nothing, and bytes/s of one within the caches and beyond; flop/s and overhead of a step of the fastest
# machine. Kept at every step, as without those seconds, `tiny` took 4 % longer.
SNAPSHOT_SHARE, COPY_SECONDS = 0.01, 8e-8
NEAR_BYTES, FAR_BYTES = 1e11, 2e10
FAST_FLOPS, STEP_SECONDS = 4e11, 1e-6
# A call of one step or one prediction also wakes the parked threads: 45 us, more where they are put on one CPU.
WAKE_SECONDS = 1e-4
# Seconds of a chunk of steps: the progress bar and Ctrl-C wait no longer; and the most steps of one.
CHUNK_SECONDS, MAX_STEPS = 0.05, 1 << 16
# Steps of the first chunk on a number of threads, whose speed is a guess: 40 thin layers, 5 threads on 2 CPUs took a
# hundred times longer, and Ctrl-C 6 s.
FIRST_STEPS = 64
# Rows that the whole gradient is summed over at a time.
GRADIENT_ROWS = 4096
# Trials of other placements, see `chooser.py`. What they may lose, as a share of the time that passes, while a training
# is young and later (with 5 % at first, fits of 0.2 s of 64-64-10, which one thread trains fastest, took 2.9 % longer
# than with one thread); the most that may be saved up, and what of it is kept for a change of the machine. Seconds of a
# trial, and what it costs besides its steps.
TRIAL_YOUTH, TRIAL_YOUNG_SHARE, TRIAL_SHARE = 0.15, 0.015, 0.01
CREDIT_MOST, CREDIT_RESERVE = 0.012, 0.004
TRIAL_LEAST, TRIAL_SECONDS = 0.002, 0.0001
# Seconds between two trials of a candidate, at first and at most; and of one behind others that are clearly slower.
TRIAL_PAUSE, TRIAL_LONGEST, TRIAL_RARE, CLEARLY = 0.05, 1.6, 6.4, 1.25
# What a single trial must gain, with more threads, and with no more; what two that agree must: a moment's advantage of
# more threads is soon lost when one of them has to wait.
TRIAL_MARGIN, TRIAL_MARGIN_FEWER, GAIN_MORE, GAIN = 1.15, 1.08, 0.975, 0.99
# What has never been tried is expected to be slower than the present choice by this; a first look at a candidate that
# is slower by so much is enough.
UNKNOWN, HOPELESS = 1.3, 4.0
# Seconds of a chunk of more than one thread, and of the pieces of time that are compared; and by how much such a piece
# is slower or faster than those before where the machine has changed.
WATCH_SECONDS, WINDOW_SECONDS, CHANGED = 0.015, 0.004, 1.25
# Rows between the areas of two parts: the prefetcher of one core runs on from the last row of an area, and would take
# lines that another core is about to write (without them, 18 us of 159 in a step of 784-128-10, batch 128).
GAP_ROWS = 64
# Rows of at least so many bytes lie an odd number of vectors apart, see `Layout.stride`.
WIDE_ROW = 256
# Arrays allocated together lie on huge pages from this many bytes on: fewer would waste most of one.
HUGE = 1 << 19
