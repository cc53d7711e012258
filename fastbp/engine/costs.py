"""What a step should take in a placement: its arithmetic, the lines that cross between cores, and its barriers."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterable
from dataclasses import dataclass

from fastbp.engine import tuning
from fastbp.engine.layout import Layout
from fastbp.engine.placement import VARIABLE, Forced, Placement
from fastbp.engine.topology import Topology, topology
from fastbp.engine.traffic import LINE, barriers, crossing_lines, most_layers
from fastbp.kernels import probe


@dataclass(frozen=True, slots=True)
class Costs:
    """Constants of the machine.

    Attributes
    ----------
    flops : float
        A second, of one thread.
    line, far_line : float
        Seconds in which one cache line passes between the cores of one die, and of two dies.
    measured : float
        When, by `time.monotonic`; minus infinity: these are guesses.
    """

    flops: float = tuning.THREAD_FLOPS
    line: float = tuning.LINE_SECONDS
    far_line: float = tuning.FAR_LINE_SECONDS
    measured: float = -math.inf

    def step(self, layout: Layout, batch: int, placement: Placement, machine: Topology) -> float:
        """Seconds that a step should take."""
        threads, _, parts = placement
        overhead = tuning.LAYER_SECONDS * len(layout.layers)
        arithmetic = batch * _flops_of_one(layout, placement) / self.flops
        if threads == 1:
            return overhead + arithmetic
        lines, far, dies = crossing_lines(layout, batch, placement), 0.0, len(machine.dies)
        if dies > 1 and threads > machine.die_cores[0]:
            if parts == dies:
                far = min(lines, crossing_lines(layout, batch, Placement(parts, placement.layers, parts)))
            else:  # of the other threads, those on other dies
                far = lines * (threads - threads / dies) / (threads - 1)
        # Threads take their lines at the same time, several at once each; at a barrier they take one in turn.
        stream = tuning.STREAM * (far * self.far_line + (lines - far) * self.line) / threads
        meeting = barriers(placement) * (tuning.BARRIER_LINES + threads) * (self.far_line if far else self.line)
        # By columns, each part gathers all rows for itself.
        rows = batch * (parts - 1) / threads if placement.layers else 0.0
        gathering = rows * layout.sizes[0] * layout.dtype.itemsize / tuning.GATHER_BYTES
        return overhead + arithmetic + stream + meeting + gathering


def _flops_of_one(layout: Layout, placement: Placement) -> float:
    """Operations a row of the thread that has most to do: by columns, its part may have a panel more than others."""
    total = 0.0
    for k, layer in enumerate(layout.layers):
        share = 1.0 / placement.threads
        if k < placement.layers:
            panels = -(-layer.n_out // max(2 * layout.lanes, LINE // layout.dtype.itemsize))
            share = -(-panels // placement.parts) / panels * placement.parts / placement.threads
        total += share * (6 if k else 4) * layer.n_in * layer.n_out
    return total


_known = Costs()


def costs(seconds: float) -> Costs:
    """The constants, measured if a training of so many seconds is worth that, and if they are not too old."""
    global _known
    now = time.monotonic()
    if seconds >= tuning.PROBE_WORTH and now - _known.measured > tuning.PROBE_SECONDS:
        machine, flops = topology(), _known.flops
        if _known.measured < 0.0:
            with contextlib.suppress(RuntimeError):  # no further thread is granted
                flops = tuning.PEAK_SHARE * 1e9 * probe.fma_peak(seconds=0.0)
        line = far = 1e-9 * probe.line_nanoseconds(cpus=machine.pair)
        if len(machine.dies) > 1:
            far = 1e-9 * probe.line_nanoseconds(cpus=[min(die) for die in machine.dies[:2]])
        _known = Costs(
            flops, line if line > 0.0 else tuning.LINE_SECONDS, far if far > 0.0 else tuning.FAR_LINE_SECONDS, now
        )
    return _known


def candidates(
    layout: Layout, batch: int, machine: Topology, threads: Iterable[int],
    force: Forced | None = None,
) -> list[Placement]:  # fmt: skip
    """The placements worth trying with some numbers of threads, by rows and by columns.

    Numbers that a forced number of parts does not divide are left out, unless there is but one.
    """
    found, counts = [], list(threads)
    for n in counts:
        if force is not None and n > 1 and n % (force.parts or 1):
            if len(counts) > 1:
                continue
            raise ValueError(f"{VARIABLE} asks for {force.parts} parts, which does not divide {n} threads")
        rows = Placement(n)
        columns = _by_columns(layout, batch, machine, n, force)
        if n == 1 or columns is None or force is None:
            found.append(rows)
        if columns is not None:
            found.append(columns)
    return found


def thread_counts(most: int, machine: Topology) -> list[int]:
    """1, 2, 4, ..., all, and the cores of one die."""
    powers = [1 << k for k in range(most.bit_length()) if 1 << k < most]
    die = [cores for cores in machine.die_cores[:1] if cores < most]
    return sorted({*powers, *die, most})


def _by_columns(layout: Layout, batch: int, machine: Topology, threads: int, force: Forced | None) -> Placement | None:
    """The best placement by columns, if it should gain where cores are far from each other, or is forced."""
    if threads == 1 or (force is not None and force.layers == 0):
        return None
    dies = len(machine.dies)
    parts = [threads]
    if dies > 1 and threads > machine.die_cores[0] and threads % dies == 0 and threads // dies <= machine.die_cores[-1]:
        parts.append(dies)
    if force is not None and force.parts is not None:
        parts = [force.parts]
    most = most_layers(layout)
    if most == 0 or layout.n_groups(batch):  # groups of rows have gradients of their own, and no areas
        return None
    layers = range(1, most + 1)
    if force is not None and force.layers is not None:
        layers = range(min(force.layers, most), min(force.layers, most) + 1)
    # On one die, cores may come to lie far from each other at any time.
    far = Costs(tuning.FAST_FLOPS, tuning.LINE_SECONDS if dies > 1 else tuning.FAR_LINE_SECONDS)
    times = {each: far.step(layout, batch, each, machine) for each in _placements(threads, layers, parts)}
    best = min(times, key=times.__getitem__)
    if force is None and times[best] > tuning.WORTH_COLUMNS * far.step(layout, batch, Placement(threads), machine):
        return None
    return best


def _placements(threads: int, layers: Iterable[int], parts: Iterable[int]) -> list[Placement]:
    return [Placement(threads, n, some) for some in parts for n in layers]
