"""The FMA peak of the machine, measured: independent chains of vector FMAs that live in registers."""

from __future__ import annotations

import os
import threading
import time

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from fastbp.kernels.jit import entry, leaf
from fastbp.kernels.simd import I64, TARGET, declare_fma, vector_type, view

# Two FMA units with 4 cycles of latency need 8 chains; more than that must not spill.
CHAINS = 2 * TARGET.tile_rows
UNROLL = 8


@intrinsic
def _fma_chains(typingctx, n, tag):
    """Run n * UNROLL FMAs in each chain; returns a number that depends on them all."""

    def codegen(context, builder, signature, args):
        kind = vector_type(signature.args[1])
        fma = declare_fma(builder.module, kind)
        # Values that the optimiser cannot know, near 1 so that nothing becomes denormal or infinite.
        base = builder.uitofp(builder.and_(args[0], I64(0)), kind.element)
        splat = ir.Constant(ir.VectorType(ir.IntType(32), kind.count), [0] * kind.count)
        first = builder.insert_element(ir.Constant(kind, ir.Undefined), base, ir.IntType(32)(0))
        x = builder.shuffle_vector(first, ir.Constant(kind, ir.Undefined), splat)
        before = builder.block
        loop, done = builder.append_basic_block("chains"), builder.append_basic_block("chains_done")
        builder.branch(loop)
        builder.position_at_end(loop)
        left = builder.phi(I64)
        chains = [builder.phi(kind) for _ in range(CHAINS)]
        scale = ir.Constant(kind, [0.999] * kind.count)
        values = list(chains)
        for _ in range(UNROLL):
            values = [builder.call(fma, [value, scale, x]) for value in values]
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

    return tag(types.uintp, tag), codegen


@leaf(types.uintp, types.uintp, alone=True)
def fma_probe(n, result, tag):
    """n rounds of the probe; the result is stored, so that the work cannot be dropped."""
    view(result, np.uintp(1), tag)[0] = _fma_chains(n, tag)


def fma_peak(dtype: str = "float32", threads: int = 1, seconds: float = 0.2) -> float:
    """GFLOP/s that some threads reach together in nothing but FMAs; the best of several rounds."""
    kernel = entry(fma_probe, dtype)
    item = np.dtype(dtype).itemsize
    flops = 2.0 * CHAINS * UNROLL * (TARGET.vector_bytes // item)
    results = np.zeros((threads, 64), dtype)
    tag = results.dtype.type(1)
    cpus = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    rounds = 20_000
    best, end = 0.0, time.perf_counter() + seconds
    while best == 0.0 or time.perf_counter() < end:
        gate = threading.Barrier(threads)
        # Read by the workers: this thread may get no CPU while they run, and would see a shorter time than they took.
        begins, ends = [0.0] * threads, [0.0] * threads

        def work(
            number: int, gate: threading.Barrier = gate, rounds: int = rounds, begins: list = begins, ends: list = ends
        ) -> None:
            if cpus:  # pinned, and not let go: the waker's CPU takes a woken thread for longer than the probe lasts
                os.sched_setaffinity(0, {cpus[number % len(cpus)]})
            gate.wait()
            begins[number] = time.perf_counter()
            kernel(rounds, results[number].ctypes.data, tag)
            ends[number] = time.perf_counter()

        team = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
        for thread in team:
            thread.start()
        for thread in team:
            thread.join()
        elapsed = max(ends) - min(begins)
        best = max(best, threads * rounds * flops / elapsed / 1e9)
        rounds = int(rounds * min(4.0, max(1.0, 0.02 / elapsed)))
    return best
