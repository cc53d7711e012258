"""Where the time of a step goes, by phase and layer, and what limits each: FMA units, memory, or neither.

The kernels count ticks of the CPU's clock for each thread (`fastbp.kernels.clock`); flops and bytes are counted here.
Roofline model: Williams, Waterman and Patterson, "Roofline", CACM 52(4), 2009.
"""

from __future__ import annotations

import itertools
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from fastbp.bench import cores, machine
from fastbp.bench.workloads import WORKLOADS, Array, Workload, select
from fastbp.engine import precisions, team, tuning
from fastbp.engine.placement import Placement
from fastbp.kernels import clock, probe, records
from fastbp.network import MLP
from fastbp.training.feeds import ArrayFeed
from fastbp.training.loop import Loop
from fastbp.training.settings import FitSettings
from fastbp.validation import check_positive_int

#: Working sets, in bytes a thread, whose speed is measured: first and second-level cache, third-level cache, memory.
LEVELS = {"L1": 16 << 10, "L2": 192 << 10, "L3": 4 << 20, "memory": 64 << 20}
#: A part that reaches less than this of both its roofs is held up by neither: by calls, latency, or the other threads.
NEAR_ROOF = 0.4
#: Chunks, each a call of the kernel, of which the first is left out; seconds and steps, at least, that are counted in
#: each; and seconds of warm-up before them, in the same call. Before all, seconds of training by itself, which chooses
#: the placement.
CHUNKS, SECONDS, LEAST_STEPS, WARM_UP, CHOICE = 12, 0.05, 5, 0.03, 0.5


@dataclass(frozen=True)
class Part:
    """One phase of a step in one layer (layer -1: of the whole network)."""

    phase: str  # gather, forward, loss, backward, update, waiting, barrier, other
    layer: int
    seconds: float  # a step, mean over the threads, median over the chunks
    flops: int  # a step, products only
    bytes: int  # a step: every operand read once, every result written once
    roof_seconds: float  # what flops and bytes need at the measured roofs, all threads together
    limit: str  # "FMA", a level of LEVELS, or "" where neither binds


@dataclass(frozen=True)
class Profile:
    """The time of a workload's step, by phase and layer."""

    workload: Workload
    threads: int
    seconds: float  # a step, wall clock, median over the chunks
    peak_gflops: float
    bandwidths: dict[str, float]  # bytes a second of all threads together, by level
    parts: tuple[Part, ...]
    chunks: int = 1  # that the medians are over
    line_nanoseconds: float | None = None  # from core to core, before these chunks; None where it is not known
    waiting: tuple[float, ...] = ()  # seconds a step that each thread waits for those that come later
    placement: tuple[int, int, int] | None = None  # threads, layers by columns, parts, as training chose them
    precision: str = precisions.FLOAT32  # of the operands of products

    @property
    def cores(self) -> str:
        """near, far, or between; "" where it is not known."""
        return cores.state([self.line_nanoseconds])

    def to_document(self) -> dict[str, Any]:
        """For JSON."""
        parts = [asdict(part) | {"share": part.seconds / self.seconds} for part in self.parts]
        return asdict(self) | {"parts": parts}


def run(
    workloads: Sequence[str] | None = None,
    *,
    threads: int | None = None,
    progress: Callable[[str], None] = lambda message: None,
    precision: str = precisions.FLOAT32,
) -> list[Profile]:
    """Profile some workloads, all of them by default, on this many threads, all there are by default.

    precision: of the operands of products; their roof is then the peak of sums of pairs.
    """
    precision = precisions.check(precision)
    count = machine.available_threads() if threads is None else check_positive_int("threads", threads)
    chosen = select(workloads or list(WORKLOADS))
    for workload in chosen:
        if workload.task != "train":
            raise ValueError(f"workload must be one that trains to be profiled, got {workload.name!r}")
    progress("measuring the speed of caches and memory")
    bandwidths = {level: probe.bandwidth(size, count) for level, size in LEVELS.items()}
    profiles = []
    for workload in chosen:
        progress(f"{workload.name}: profiling")
        kernel = precisions.kernel_dtype(precision, workload.dtype)
        peak = float(probe.fma_peak(kernel, threads=count, seconds=0.2))
        profiles.append(profile(workload, count, peak, bandwidths, precision))
    return profiles


@dataclass(frozen=True)
class Chunk:
    """One call of the kernel with the clock on."""

    seconds: Array  # (threads, slots of `fastbp.kernels.clock`), of a step
    line: float | None  # nanoseconds from core to core just before


def profile(
    workload: Workload, threads: int, peak: float, bandwidths: dict[str, float], precision: str = precisions.FLOAT32
) -> Profile:
    """Train a workload for a moment, with the clock on.

    In chunks, each one call of the kernel, and counted after its first steps only: threads that have just been woken
    wait for each other, some milliseconds long where two were put on one CPU, which is no part of a step. Of the
    chunks those count that ran in the state of the cores that most of them ran in.
    """
    optimizer = workload.make_optimizer()
    X, y = workload.data()
    net = MLP(workload.sizes, activation=workload.activation, loss=workload.loss, dtype=workload.dtype, seed=0)
    feed = ArrayFeed(net.session.check_batch(X, y), 1, workload.batch_size, shuffle=True)
    loop = Loop(net, feed, FitSettings(optimizer, batch_size=workload.batch_size, threads=threads, precision=precision))
    _run(loop, LEAST_STEPS, Placement(threads), 1.0)  # compiles, allocates, warms up
    end = time.perf_counter() + CHOICE
    while time.perf_counter() < end:
        how = {"batch_size": workload.batch_size, "optimizer": optimizer, "precision": precision}
        net.fit(X, y, epochs=1, threads=threads, **how)  # type: ignore[arg-type]
    loop.choose()
    placement = loop.threads.best
    step = _run(loop, LEAST_STEPS, placement, 1.0) / LEAST_STEPS
    step = min(step, _run(loop, round(WARM_UP / step) + 1, placement, step) / (round(WARM_UP / step) + 1))
    chunks = _in_one_state(_chunks(loop, placement, step)[1:])
    by_thread = np.median([chunk.seconds for chunk in chunks], axis=0)
    measured = by_thread.mean(axis=0)
    # The rest by a median of its own, and all together from these: parts of a profile add up.
    total = float(measured[int(clock.GATHER) :].sum() + np.median([_rest(chunk.seconds) for chunk in chunks]))
    parts = tuple(_parts(workload, threads, optimizer.n_moments, measured, total, peak, bandwidths))
    lines = [chunk.line for chunk in chunks if chunk.line is not None]
    waiting = tuple(map(float, by_thread[:, int(clock.WAITING)]))
    line = float(np.median(lines)) if lines else None
    return Profile(workload, threads, total, peak, bandwidths, parts, len(chunks), line, waiting, placement, precision)


def _chunks(loop: Loop, placement: Placement, step: float) -> list[Chunk]:
    """Every chunk, the cold ones too."""
    skip, steps = round(WARM_UP / step) + 1, max(LEAST_STEPS, round(SECONDS / step))
    counted: list[tuple[Array, float | None]] = []
    ticks, began = probe.read_ticks(), time.perf_counter()
    for _ in range(CHUNKS):
        line = cores.look()
        with loop.engine.clock(placement.threads, skip) as counts:
            _run(loop, skip + steps, placement, step)
            counted.append((counts.copy(), line))
    frequency = (probe.read_ticks() - ticks) / (time.perf_counter() - began)
    if not frequency:
        raise ValueError("--profile needs a clock that compiled code can read, and this system has none")
    return [Chunk(counts / frequency / steps, line) for counts, line in counted]


def _in_one_state(chunks: Sequence[Chunk]) -> list[Chunk]:
    """Those in the state of the cores that most of them are in."""
    words = [cores.state([chunk.line]) for chunk in chunks]
    (most, _), *_ = Counter(words).most_common(1)
    return [chunk for chunk, word in zip(chunks, words, strict=True) if word == most]


def _rest(seconds: Array) -> float:
    """Seconds a step, between the first and the last time noted, that are charged to nothing; mean over the threads."""
    taken = seconds[:, int(clock.END)] - seconds[:, int(clock.BEGIN)]
    return max(0.0, float((taken - seconds[:, int(clock.GATHER) :].sum(axis=1)).mean()))


def _run(loop: Loop, steps: int, placement: Placement, step: float) -> float:
    """Make some steps in one call of the kernel, across epochs; returns the seconds that it took."""
    began = time.perf_counter()
    with team.interruptible(loop.engine.request_stop) as interrupted:
        status, _ = loop.chunk(0, steps, placement, long=step > tuning.CHUNK_SECONDS)
    loop.engine.clear_stop()
    if interrupted():
        raise KeyboardInterrupt
    if status != records.RUNNING:
        raise ValueError(f"the training ended early, with status {status}: take a smaller lr for this workload")
    return time.perf_counter() - began


def _parts(
    workload: Workload, threads: int, moments: int, measured: Array, total: float, peak: float,
    bandwidths: dict[str, float],
) -> Iterator[Part]:  # fmt: skip
    """Phase by phase, the measured seconds of a step; `moments`: arrays of the optimiser beside the weights."""

    def part(phase: str, layer: int, slot: int, flops: int, moved: int) -> Part:
        # A thread's share of what the phase touches says which level it comes from.
        level = next((name for name, size in LEVELS.items() if moved / threads <= 2 * size), "memory")
        by_flops, by_bytes = flops / (peak * 1e9), moved / bandwidths[level]
        roof, seconds = max(by_flops, by_bytes), float(measured[slot])
        near = seconds > 0 and roof >= NEAR_ROOF * seconds
        limit = ("FMA" if by_flops >= by_bytes else level) if near else ""
        return Part(phase, layer, seconds, flops, moved, roof, limit)

    rows, sizes = workload.batch_size, workload.sizes
    item = np.dtype(workload.dtype).itemsize
    yield part("gather", -1, int(clock.GATHER), 0, 2 * rows * sizes[0] * item)
    layers = list(itertools.pairwise(sizes))
    for k, (n_in, n_out) in enumerate(layers):
        flops, weights = 2 * rows * n_in * n_out, n_in * n_out
        slot = int(clock.LAYERS) + k * int(clock.SLOTS_A_LAYER)
        last = k == len(layers) - 1
        # The forward pass leaves f(z), and f'(z) where the delta will be.
        written = rows * n_out * (1 if last else 2)
        yield part("forward", k, slot + int(clock.FORWARD), flops, (rows * n_in + weights + written) * item)
        if k:
            moved = (rows * n_out + weights + 2 * rows * n_in) * item
            yield part("backward", k, slot + int(clock.BACKWARD), flops, moved)
        moved = (rows * (n_in + n_out) + weights * (2 + 2 * moments + (1 if k else 0))) * item
        yield part("update", k, slot + int(clock.UPDATE), flops, moved)
    yield part("loss", -1, int(clock.LOSS), 0, 3 * rows * sizes[-1] * item)
    yield part("waiting", -1, int(clock.WAITING), 0, 0)
    yield part("barrier", -1, int(clock.BARRIER), 0, 0)
    rest = max(0.0, total - float(measured[int(clock.GATHER) :].sum()))
    yield Part("other", -1, rest, 0, 0, 0.0, "")
