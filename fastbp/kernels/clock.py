"""The profile of a step: each thread counts ticks by phase and layer, when a profile is wanted.

The caller chooses the first step that is counted: threads that have just been woken wait for each other, and for a CPU.
"""

from __future__ import annotations

import numpy as np

from fastbp.kernels.atomics import TICKS_ARE_CYCLES, cycle_counter, nanoseconds
from fastbp.kernels.jit import jit
from fastbp.kernels.simd import ZERO, view

# Slots of a thread's record. On a line of their own, which the others read: when it came to the last barriers of even
# and of odd number. Then when counting began and when something was last counted; ticks by phase, three a layer.
ARRIVED, ARRIVED_ODD = (np.uint64(slot) for slot in range(2))
BEGIN, END, GATHER, LOSS, WAITING, BARRIER, LAYERS = (np.uint64(slot) for slot in range(8, 15))
FORWARD, BACKWARD, UPDATE = (np.uint64(slot) for slot in range(3))
SLOTS_A_LAYER = np.uint64(3)


@jit
def now():
    """The time in ticks of some length, on any system: a program may not read the cycles of every CPU."""
    if TICKS_ARE_CYCLES:
        return cycle_counter()
    return nanoseconds()


@jit
def thread_clock(job, thread):
    """Address of a thread's record, or 0 where nothing is to be counted."""
    if job.profile == ZERO:
        return ZERO
    return job.profile + np.uintp(thread) * job.profile_size


@jit
def begin(job, clock):
    """Forget what a thread has counted so far."""
    if clock != ZERO:
        record = view(clock, job.profile_size // np.uint64(8), 0)
        for slot in range(len(record)):
            record[slot] = 0
        record[BEGIN] = now()


@jit
def start(clock):
    """The time now, if it is wanted."""
    return now() if clock != ZERO else 0


@jit
def charge(clock, slot, since):
    """Add the ticks since a time to a slot; returns the time now."""
    if clock == ZERO:
        return since
    record, until = view(clock, slot + np.uint64(1), 0), now()
    record[slot] += until - since
    record[END] = until
    return until


@jit
def arrive(clock, odd):
    """Note, for the others, that a thread comes to a barrier of even or odd number; returns the time now."""
    since = start(clock)
    if clock != ZERO:
        view(clock, BEGIN, 0)[ARRIVED_ODD if odd else ARRIVED] = since
    return since


@jit
def met(job, clock, odd, since):
    """Charge a barrier that all have passed: waiting until the last thread came, and the barrier from then on.

    A thread notes its next arrival in the other of its two slots, and the one after that only when all have come to the
    next barrier, and so have read this one.
    """
    if clock == ZERO:
        return
    until, last = now(), since
    for thread in range(job.n_threads):
        arrived = view(thread_clock(job, thread), BEGIN, 0)[ARRIVED_ODD if odd else ARRIVED]
        last = max(last, min(arrived, until))
    record = view(clock, LAYERS, 0)
    record[WAITING] += last - since
    record[BARRIER] += until - last
    record[END] = until


@jit
def layer_slot(k, part):
    """Slot of one of the three parts of a layer's work."""
    return LAYERS + np.uint64(k) * SLOTS_A_LAYER + part
