"""The barrier at which the threads of one call meet, and decide together whether to go on.

The protocol
------------
One int64, on a cache line of its own, counts arrivals in its lower 32 bits. Above them stand two counters of votes to
leave, one for barriers of even and one for those of odd number. A thread arrives by a single atomic addition: 1, and a
vote if it wants to leave. It waits until the arrivals of this barrier are complete, and leaves if its counter of votes
is not zero.

All threads come to the same answer, however late they read the word:

- The votes of barrier k are complete when its arrivals are, since each came in one addition with its arrival.
- They stay as they are until every thread has read them: the same counter is used again at barrier k + 2, and no thread
  arrives there before all have arrived at k + 1, and so have read them at k.
- A counter that is not zero makes every thread leave, so it need never be cleared within a call.

What else threads share (`stop`, `status`) may change at any time. A thread may turn what it has read there into a vote,
never into a decision of its own: one that left alone would be waited for at the next barrier for ever.

There is one exception. If a thread of the team never comes at all, since its caller was interrupted before it had
started, the stop word says ABANDON: the first barrier can never be complete then, and who waits there may leave.
"""

from __future__ import annotations

import numpy as np

from fastbp.kernels.atomics import (
    atomic_add,
    atomic_load,
    atomic_max,
    nanoseconds,
    pause,
    sleep_microseconds,
    thread_nanoseconds,
    yield_cpu,
)
from fastbp.kernels.gather import mix
from fastbp.kernels.jit import element, jit
from fastbp.kernels.records import ABANDON, STUCK
from fastbp.kernels.simd import ONE, ZERO, view
from fastbp.kernels.tuning import SPINS

ARRIVALS = 0xFFFFFFFF
EVEN, ODD = 32, 48  # the lowest bits of the two counters of votes
VOTES = 0x7FFF
MAX_THREADS = 4096  # all their votes fit into a counter
# Barriers of a call besides those of its steps: copies. Barriers of a step, at most: shuffle, rows, scale, gradient,
# norms, step, snapshot, and two for each layer by columns.
# That those of a call fit into the arrivals, `fastbp.engine.traffic` sees to.
CALL_BARRIERS, STEP_BARRIERS, LAYER_BARRIERS = 1, 7, 2
LEAVE = -1  # what a barrier returns where the threads leave
STAY = np.bool_(False)  # the vote of a thread that has no reason to leave

# The record of a thread in JOB["watch"], in int64 words: the system's number of the thread; where it is, see SITES;
# arrivals that it waits for; how long it has waited, of which patience (nanoseconds); the time and the CPU time of
# the team when it last checked; and the random state and longest delay (pauses) of tests.
THREAD, SITE, TARGET, PATIENCE, WAITED, LOOKED, CPU, STATE, DELAY = (np.uint64(word) for word in range(9))
WATCH_WORDS = np.uint64(16)
SITES = (
    "not come yet",
    "computing",
    "gone",
    "shuffle",
    "rows",
    "gradient",
    "norms",
    "step",
    "snapshot",
    "columns",
    "scale",
    "copies",
)
# Typed: Numba compiles a function once more for every plain number that it is called with.
OUTSIDE, COMPUTING, GONE, AT_SHUFFLE, AT_ROWS, AT_GRADIENT, AT_NORMS, AT_STEP, AT_SNAPSHOT, AT_COLUMNS = map(
    np.int64, range(10)
)
AT_SCALE, AT_COPIES = np.int64(10), np.int64(11)


@element
def barrier(job, thread, passed, leave, site):
    """Wait until all threads have come. Returns LEAVE if one of them wants to, else what to pass to the next barrier.

    passed: 0 at the first barrier of a call, then what the last one returned; site: the name of this one. Inlined, so
    that a thread alone pays for no call.
    """
    if job.n_threads == 1:
        return LEAVE if leave else passed
    return _meet(job, thread, passed, leave, site)


@jit
def _meet(job, thread, passed, leave, site):
    """`barrier` of more than one thread."""
    votes = EVEN if passed & 1 << ODD else ODD
    passed = (passed + job.n_threads) ^ 1 << ODD
    target = passed & ARRIVALS
    if job.watch != ZERO:
        linger(job, thread, site, target)
    mine = 1 + (np.int64(1) << votes if leave else 0)
    word = atomic_add(job.barrier, mine) + mine
    spins = 0
    while word & ARRIVALS < target:
        if spins < SPINS:
            spins += 1
            pause()
        else:
            yield_cpu()
            if atomic_load(job.stop) == ABANDON or (job.watch != ZERO and is_stuck(job, thread)):
                return LEAVE
        word = atomic_load(job.barrier)
    if job.watch != ZERO:
        linger(job, thread, COMPUTING, target)
        word = atomic_load(job.barrier)  # as late as can be: the answer must be the same
    return LEAVE if word >> votes & VOTES else passed


@jit
def record(job, thread):
    """Address of what is watched of a thread."""
    return job.watch + np.uintp(thread) * WATCH_WORDS * np.uintp(8)


@jit
def come(job, thread, site):
    """Note that a thread enters or leaves the kernel; for one that is stuck, the place where it waited stays noted."""
    if job.watch != ZERO and atomic_load(job.status) != STUCK:
        view(record(job, thread), WATCH_WORDS, 0)[SITE] = site


@jit
def linger(job, thread, site, target):
    """Note where a thread is. In tests, wait there for a random time, so that threads arrive and read late."""
    mine = view(record(job, thread), WATCH_WORDS, 0)
    mine[SITE], mine[TARGET], mine[LOOKED] = site, target, 0
    if mine[DELAY] > 0:
        mine[STATE] += 1
        chance = mix(np.uint64(mine[STATE]))
        if chance & np.uint64(15) == ZERO:
            sleep_microseconds(np.int64(chance >> np.uint64(40)) & 127)
        elif chance & ONE:
            for _ in range(np.int64(chance >> np.uint64(40)) % mine[DELAY]):
                pause()


@jit
def is_stuck(job, thread):
    """Has this thread waited too long at a barrier, while the threads that it waits for have used no CPU time?

    Time counts in small pieces, so that a process that was stopped for an hour has not waited for an hour.
    """
    mine = view(record(job, thread), WATCH_WORDS, 0)
    if atomic_load(job.status) == STUCK:
        return True
    now = nanoseconds()
    if mine[LOOKED] == 0:
        mine[LOOKED], mine[WAITED], mine[CPU] = now, 0, team_cpu(job)
        return False
    mine[WAITED] += min(now - mine[LOOKED], 10_000_000)
    mine[LOOKED] = now
    if mine[WAITED] > 50_000_000:  # no need to spin any more; and others may want the CPU
        sleep_microseconds(1000)
    if mine[PATIENCE] == 0 or mine[WAITED] < mine[PATIENCE]:
        return False
    cpu = team_cpu(job)
    if cpu != mine[CPU]:
        mine[CPU], mine[WAITED] = cpu, 0
        return False
    atomic_max(job.status, STUCK)
    return True


@jit
def team_cpu(job):
    """CPU time of all threads that neither wait nor have gone; it changes too when one of them begins to."""
    total = np.int64(0)
    for thread in range(job.n_threads):
        one = view(record(job, thread), WATCH_WORDS, 0)
        if one[SITE] <= COMPUTING:
            total += thread_nanoseconds(one[THREAD]) + 1
    return total
