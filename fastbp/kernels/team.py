"""The barrier at which the threads of one call meet."""

from __future__ import annotations

from fastbp.kernels.atomics import atomic_add, atomic_load, pause, yield_cpu
from fastbp.kernels.jit import jit

# Oversubscribed, a pure spin costs milliseconds a barrier; 64 pauses and then sched_yield 3 to 9 microseconds.
SPINS = 64


@jit
def barrier(address, n_threads, passed):
    """Wait until all threads have come; `passed` is the number of arrivals before this barrier. Returns it after."""
    if n_threads == 1:
        return passed
    passed += n_threads
    atomic_add(address, 1)
    spins = 0
    while atomic_load(address) < passed:
        if spins < SPINS:
            spins += 1
            pause()
        else:
            yield_cpu()
    return passed
