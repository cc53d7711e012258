"""Where the time of a step goes: ticks by phase and layer, counted by each thread when a profile is wanted."""

from __future__ import annotations

import numpy as np

from fastbp.kernels.atomics import TICKS_ARE_CYCLES, cycle_counter, nanoseconds
from fastbp.kernels.jit import jit
from fastbp.kernels.simd import ZERO, view

# Slots of a thread's record: these, then three a layer.
GATHER, LOSS, BARRIER, LAYERS = (np.uint64(slot) for slot in range(4))
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
def start(clock):
    """The time now, if it is wanted."""
    return cycle_counter() if clock != ZERO else 0


@jit
def charge(clock, slot, since):
    """Add the ticks since a time to a slot; returns the time now."""
    if clock == ZERO:
        return since
    now = cycle_counter()
    view(clock, slot + np.uint64(1), 0)[slot] += now - since
    return now


@jit
def layer_slot(k, part):
    """Slot of one of the three parts of a layer's work."""
    return LAYERS + np.uint64(k) * SLOTS_A_LAYER + part
