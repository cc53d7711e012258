"""What a step should take in a placement: its arithmetic, the lines that cross between cores, and its barriers."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from dataclasses import dataclass

from fastbp.engine import topology, tuning
from fastbp.engine.layout import Layout
from fastbp.engine.placement import VARIABLE, Forced, Placement
from fastbp.kernels import probe


@dataclass(frozen=True, slots=True)
class Costs:
    """Constants of the machine.

    Attributes
    ----------
    flops : float
        A second, of one thread.
    line : float
        Seconds in which one cache line passes from core to core.
    measured : float
        When, by `time.monotonic`; minus infinity: these are guesses.
    """

    flops: float = tuning.THREAD_FLOPS
    line: float = tuning.LINE_SECONDS
    measured: float = -math.inf

    def step(self, layout: Layout, batch: int, placement: Placement, n_moments: int) -> float:
        """Seconds that a step should take."""
        arithmetic = batch * layout.flops_per_row / self.flops / placement.threads
        overhead = tuning.LAYER_SECONDS * len(layout.layers)
        if placement.threads == 1:
            return overhead + arithmetic
        # Threads take their lines at the same time, several at once each; at a barrier they take one in turn.
        lines = tuning.STREAM * crossing_lines(layout, batch, placement, n_moments) / placement.threads
        meeting = barriers(placement, len(layout.layers)) * (tuning.BARRIER_LINES + placement.threads)
        return overhead + arithmetic + (lines + meeting) * self.line


_known = Costs()
BY_COLUMNS = False  # as long as the kernels know rows alone


def costs(seconds: float) -> Costs:
    """The constants, measured if a training of so many seconds is worth that, and if they are not too old."""
    global _known
    now = time.monotonic()
    if seconds >= tuning.PROBE_WORTH and now - _known.measured > tuning.PROBE_SECONDS:
        line = probe.line_nanoseconds(cpus=topology.topology().two_cores()) * 1e-9
        flops = _known.flops
        if _known.measured < 0.0:
            flops = tuning.PEAK_SHARE * 1e9 * probe.fma_peak(seconds=0.0)
        _known = Costs(flops, line if line > 0.0 else tuning.LINE_SECONDS, now)
    return _known


def candidates(
    layout: Layout, batch: int, n_moments: int, machine: topology.Topology, threads: Iterable[int],
    force: Forced | None = None,
) -> list[Placement]:  # fmt: skip
    """The placements worth trying with some numbers of threads, by rows and by columns."""
    found = []
    for n in threads:
        rows = Placement(n)
        columns = _by_columns(layout, batch, n_moments, machine, n, force)
        if n == 1 or columns is None or force is None:
            found.append(rows)
        if columns is not None:
            found.append(columns)
    return found


def thread_counts(most: int, machine: topology.Topology) -> list[int]:
    """1, 2, 4, ..., all, and the cores of one die."""
    powers = [1 << k for k in range(most.bit_length()) if 1 << k < most]
    die = [cores for cores in machine.die_cores[:1] if cores < most]
    return sorted({*powers, *die, most})


def _by_columns(
    layout: Layout, batch: int, n_moments: int, machine: topology.Topology, threads: int, force: Forced | None
) -> Placement | None:
    """The best placement by columns, if it should gain where cores are far from each other, or is forced."""
    if threads == 1 or not BY_COLUMNS or (force is not None and force.layers == 0):
        return None
    dies = len(machine.dies)
    parts = dies if 1 < dies < threads and threads > machine.die_cores[0] and threads % dies == 0 else threads
    if force is not None and force.parts is not None:
        parts = force.parts
        if threads % parts:
            raise ValueError(f"{VARIABLE} asks for {parts} parts, which does not divide {threads} threads")
    most = len(layout.layers)
    layers = range(1, most + 1)
    if force is not None and force.layers is not None:
        layers = range(min(force.layers, most), min(force.layers, most) + 1)
    far = Costs(line=tuning.FAR_LINE_SECONDS)
    times = {Placement(threads, n, parts): 0.0 for n in layers}
    for placement in times:
        times[placement] = far.step(layout, batch, placement, n_moments)
    best = min(times, key=times.__getitem__)
    if force is None and times[best] > tuning.WORTH_COLUMNS * far.step(layout, batch, Placement(threads), n_moments):
        return None
    return best


def crossing_lines(layout: Layout, batch: int, placement: Placement, n_moments: int) -> float:
    """Cache lines that one thread writes and another touches in a step (to come from `placement.py`)."""
    others, lines = placement.threads - 1, 0.0
    per_line = 64 // layout.dtype.itemsize
    for k, layer in enumerate(layout.layers):
        weights, inputs, outputs = layer.size / per_line, batch * layer.n_in / per_line, batch * layer.n_out / per_line
        if k < placement.layers:
            # Weights stay within a part; of the layers above, all inputs go to all parts.
            among, between = placement.threads / placement.parts, placement.parts
            lines += weights * (among - 1) / among + (inputs * (between - 1) / between if k else 0.0) + outputs / 2
        else:
            lines += (weights + inputs) * others / placement.threads * 2.0
    return lines


def barriers(placement: Placement, n_layers: int) -> int:
    """Of a step (to come from `placement.py`)."""
    return 2 + placement.layers
