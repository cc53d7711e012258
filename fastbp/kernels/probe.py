"""The limits of the machine, measured: FMAs in registers, bytes moved, lines passed between cores, and its clock."""

from __future__ import annotations

import contextlib
import math
import os
import threading
import time
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from fastbp.kernels.atomics import atomic_load, atomic_store, nanoseconds, yield_cpu
from fastbp.kernels.bfloat16 import PAIRS, Pairs, add_products, number_of
from fastbp.kernels.build import entry
from fastbp.kernels.clock import now
from fastbp.kernels.jit import leaf
from fastbp.kernels.simd import I64, declare_fma, vector_type, view
from fastbp.kernels.targets import TARGET

# Two FMA units with 4 cycles of latency need 8 chains; more than that must not spill.
CHAINS = 2 * TARGET.tile_rows
UNROLL = 8
# Of the ping-pong: rounds that are timed together, the most of such blocks, and looks at a line before a thread that
# waits yields its CPU: it may be the one that the other waits for.
PING_ROUNDS, PING_BLOCKS, PING_LOOKS = 16, 256, 4096
PING_WORDS = 64 + PING_BLOCKS  # two lines far apart, then the times
# Nanoseconds after which either thread gives up, however far they have come: beside a busy neighbour a line passes once
# in a time slice, and 16 rounds of that took a tenth of a second.
PING_PATIENCE = 50_000_000


@intrinsic
def _fma_chains(typingctx, n, tag):
    """Run n * UNROLL FMAs in each chain, or sums of pairs; returns a number that depends on them all."""

    def codegen(context, builder, signature, args):
        kind = vector_type(signature.args[1])
        fma = declare_fma(builder.module, kind)
        # v = 0.999 v + 0.001 goes to 1: numbers that become denormal cost some CPUs a hundred cycles each.
        scale, x = (ir.Constant(kind, [number] * kind.count) for number in (0.999, 0.001))

        def step(value):
            if isinstance(tag, Pairs):
                return add_products(builder, tag, value, scale, x)
            return builder.call(fma, [value, scale, x])

        before = builder.block
        loop, done = builder.append_basic_block("chains"), builder.append_basic_block("chains_done")
        builder.branch(loop)
        builder.position_at_end(loop)
        left = builder.phi(I64)
        chains = [builder.phi(kind) for _ in range(CHAINS)]
        values = list(chains)
        for _ in range(UNROLL):
            values = [step(value) for value in values]
        less = builder.sub(left, I64(1))
        builder.cbranch(builder.icmp_unsigned(">", less, I64(0)), loop, done)
        left.add_incoming(args[0], before)
        left.add_incoming(less, loop)
        for number, (phi, value) in enumerate(zip(chains, values, strict=True)):
            phi.add_incoming(ir.Constant(kind, [1.0 + number] * kind.count), before)
            phi.add_incoming(value, loop)
        builder.position_at_end(done)
        total = values[0]
        for value in values[1:]:
            total = builder.fadd(total, value)
        return builder.extract_element(total, ir.IntType(32)(0))

    return number_of(tag)(types.uintp, tag), codegen


@leaf(types.uintp, types.uintp, pairs=())
def fma_probe(result, n, tag):
    """n rounds of the probe; the result is stored, so that the work cannot be dropped."""
    view(result, np.uintp(1), tag)[0] = _fma_chains(n, tag)


@leaf(types.uintp)
def tick_probe(result, tag):
    """The time in ticks, to an address."""
    view(result, np.uintp(1), np.int64(0))[0] = now()


@leaf(*[types.uintp] * 4)
def add_probe(target, source, n, rounds, tag):
    """Add n numbers to n others, again and again: two reads and a write, and next to no arithmetic."""
    x, y = view(source, n, tag), view(target, n, tag)
    for _ in range(rounds):
        for i in range(n):
            y[i] += x[i]


@leaf(*[types.uintp] * 3)
def ping_probe(lines, number, budget, tag):
    """Pass a number to the other thread and back, again and again: each writes one line, and reads the other's.

    Thread 0 stores the nanoseconds of each block of rounds, as many as `budget` nanoseconds allow; 0: no more.
    """
    other, own = lines + np.uintp(256) * (np.uintp(1) - number), lines + np.uintp(256) * number
    times = view(lines, np.uintp(PING_WORDS), np.int64(0))[64:]
    end, latest = np.int64(0), nanoseconds() + np.int64(PING_PATIENCE)
    for block in range(PING_BLOCKS):
        begin = nanoseconds()
        for k in range(block * PING_ROUNDS + 1, (block + 1) * PING_ROUNDS + 1):
            if number == np.uintp(0):
                atomic_store(own, np.int64(k))
            looks = 0
            seen = atomic_load(other)
            while seen != k:
                if seen < 0:  # the other has gone
                    return
                looks += 1
                if looks > PING_LOOKS:
                    yield_cpu()
                    now_is = nanoseconds()
                    if now_is > latest or (looks > PING_LOOKS << 8 and now_is == 0):
                        atomic_store(own, np.int64(-1))
                        return
                seen = atomic_load(other)
            if number == np.uintp(1):
                atomic_store(own, np.int64(k))
        if number == np.uintp(0):
            done = nanoseconds()
            times[block] = done - begin
            end = done + np.int64(budget) if block == 0 else end  # the first has waited for the other to come
            if done > end:
                atomic_store(own, np.int64(-1))
                return


def line_nanoseconds(seconds: float = 0.003, cpus: Sequence[int] = ()) -> float:
    """Nanoseconds in which one cache line passes from one core to another: written there, read here; a median.

    cpus: the two CPUs; none: the first two that this process may use. Returns NaN where there is no second CPU, thread
    or POSIX clock, or where a busy neighbour made it too slow.
    """
    allowed = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    pair = list(cpus) or allowed[:2]
    if len(pair) < 2 and (allowed or (os.cpu_count() or 1) < 2):
        return math.nan
    kernel, memory = entry(ping_probe, "float32"), np.zeros(PING_WORDS + 16, np.int64)

    def run(number: int) -> None:
        if pair:
            with contextlib.suppress(OSError):  # not allowed any more: wherever the system likes
                os.sched_setaffinity(0, {pair[number]})
        # Held by the thread: an exception of a signal handler may end our wait before it ends.
        kernel(_lines(memory), number, int(seconds * 1e9), np.float32(0))

    team = [threading.Thread(target=run, args=(number,), name="fastbp probe", daemon=True) for number in (1, 0)]
    try:
        for thread in team:
            thread.start()
    except RuntimeError:  # the system grants no more; a thread that has started leaves when its patience is over
        team = [thread for thread in team if thread.ident is not None]
    for thread in team:
        thread.join()
    first = (_lines(memory) - memory.ctypes.data) // 8 + 64
    times = memory[first : first + PING_BLOCKS]
    times = times[1:][times[1:] > 0]
    return float(np.median(times)) / (2.0 * PING_ROUNDS) if len(times) else math.nan


def _lines(memory: npt.NDArray[np.int64]) -> int:
    """Address in an array from which two lines that are fetched together begin."""
    return (int(memory.ctypes.data) + 127) // 128 * 128


def bandwidth(size: int, threads: int = 1, seconds: float = 0.1) -> float:
    """Bytes a second that some threads move together, each in a working set of `size` bytes; the best round."""
    kernel, n = entry(add_probe, "float32"), size // 8
    pairs = [np.ones((2, n), np.float32) for _ in range(threads)]  # zeros would be pages that are not there yet
    rounds = max(1, (8 << 20) // size)

    def work(number: int) -> None:
        source, target = pairs[number]
        kernel(target.ctypes.data, source.ctypes.data, n, rounds, np.float32(0))

    best, end = 0.0, time.perf_counter() + seconds
    while best == 0.0 or time.perf_counter() < end:
        best = max(best, threads * rounds * 12.0 * n / _together(work, threads))
    return best


def read_ticks() -> int:
    """Ticks now, of the clock that `fastbp.kernels.clock` counts by."""
    result = np.zeros(1, np.int64)
    entry(tick_probe, "float32")(result.ctypes.data, np.float32(0))
    return int(result[0])


def fma_peak(dtype: str = "float32", threads: int = 1, seconds: float = 0.2) -> float:
    """GFLOP/s that some threads reach together in nothing but FMAs, or sums of pairs; the best of several rounds.

    dtype: one of `jit.DTYPES`.
    """
    kernel, paired = entry(fma_probe, dtype), dtype in PAIRS
    numbers = np.dtype("float32" if paired else dtype)
    flops = 2.0 * (1 + paired) * CHAINS * UNROLL * (TARGET.vector_bytes // numbers.itemsize)
    results = np.zeros((threads, 64), numbers)
    tag = results.dtype.type(1)
    rounds = 20_000
    best, end = 0.0, time.perf_counter() + seconds
    while best == 0.0 or time.perf_counter() < end:

        def work(number: int, rounds: int = rounds) -> None:
            kernel(results[number].ctypes.data, rounds, tag)

        elapsed = _together(work, threads)
        best = max(best, threads * rounds * flops / elapsed / 1e9)
        rounds = int(rounds * min(4.0, max(1.0, 0.02 / elapsed)))
    return best


def _together(work, threads: int) -> float:
    """Seconds that `work(number)` takes in some threads, from the first start to the last end, each on its own CPU."""
    cpus = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    gate = threading.Barrier(threads)
    # Read by the workers: this thread may get no CPU while they run, and would see a shorter time than they took.
    begins, ends = [0.0] * threads, [0.0] * threads

    def run(number: int) -> None:
        if cpus:  # pinned, and not let go: the waker's CPU takes a woken thread for longer than a probe lasts
            os.sched_setaffinity(0, {cpus[number % len(cpus)]})
        try:
            gate.wait()
        except threading.BrokenBarrierError:
            return
        begins[number] = time.perf_counter()
        work(number)
        ends[number] = time.perf_counter()

    team = [threading.Thread(target=run, args=(number,), name="fastbp probe") for number in range(threads)]
    try:
        for thread in team:
            thread.start()
    except RuntimeError:  # the system grants no more: those that wait would wait for ever
        gate.abort()
        raise
    for thread in team:
        thread.join()
    return max(ends) - min(begins)
