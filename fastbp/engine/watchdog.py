"""The watchdog: threads that wait for each other for ever leave with an error, if FASTBP_WATCHDOG says so."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from fastbp.engine import memory
from fastbp.kernels.team import ARRIVALS, DELAY, PATIENCE, SITE, SITES, STATE, TARGET, THREAD, WAITED, WATCH_WORDS
from fastbp.types import Array

# Longest delay of a thread at a barrier, in pauses of the CPU, and the seed of these: for tests of the barrier.
delays: tuple[int, int] | None = None


def patience() -> float | None:
    """Seconds that a thread waits at a barrier for threads that use no CPU time; None: for ever."""
    given = os.environ.get("FASTBP_WATCHDOG")
    if not given:
        return None
    try:
        seconds = float(given)
    except ValueError:
        seconds = 0.0
    if not 0.0 < seconds < 1e9:
        raise ValueError(f"FASTBP_WATCHDOG must be a positive number of seconds, got {given!r}")
    return seconds


def records(threads: list[int], seconds: float | None) -> Array | None:
    """A record for each thread of a team, by the system's numbers of them; None where nothing is to be watched."""
    if seconds is None and delays is None:
        return None
    found = memory.allocate(len(threads) * int(WATCH_WORDS), np.dtype(np.int64)).reshape(len(threads), int(WATCH_WORDS))
    found[:, int(THREAD)] = threads
    found[:, int(PATIENCE)] = int(1e9 * (seconds or 0.0))
    if delays is not None:
        found[:, int(DELAY)] = delays[0]
        found[:, int(STATE)] = (delays[1] << 32) + (np.arange(len(threads)) << 24)
    return found


def dump(watched: Array, job: Any, word: int, seconds: float) -> str:
    """What to say of a team that is stuck: who waits where, and for how many arrivals; `word` is the barrier's."""
    where = "; ".join(
        f"thread {number} ({one[int(THREAD)]}): {SITES[one[int(SITE)]]}, for arrival {one[int(TARGET)]}, "
        f"{one[int(WAITED)] / 1e9:.1f} s"
        for number, one in enumerate(watched.tolist())
    )
    return (
        f"the threads of fastbp have waited for each other for {seconds:g} s (FASTBP_WATCHDOG), which is a fault of "
        f"fastbp: please report it. {word & ARRIVALS} arrivals, votes {word >> 32:x}, mode {job['mode']}, "
        f"{job['steps_done']} of {job['n_steps']} steps done; {where}. "
        "This network makes no further calls; its weights can still be read"
    )
