"""The timing protocol: rivals interleaved in blocks, each block after idling and warming up, medians over blocks."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter, sleep

from fastbp.bench import cores
from fastbp.bench.result import Block, Setting, Trial
from fastbp.bench.rivals import Rival


@dataclass(frozen=True)
class Protocol:
    """Durations, in seconds, and counts.

    The idling is for the threads of OpenBLAS, OpenMP and Eigen, which spin on for a while after a call: whoever runs
    right after them finds the cores taken and loses up to 10x.
    """

    block_seconds: float = 0.5  # at least; a block ends with a whole number of epochs
    blocks: int = 5  # timed blocks of a rival on a workload
    idle_seconds: float = 0.3  # before the warm-up of every block
    warmup_seconds: float = 0.1  # at least, and at least one epoch
    trial_seconds: float = 0.15  # length of a block when settings are tried
    trial_rounds: int = 2  # the best of them counts, since noise only adds
    peak_seconds: float = 0.2  # one probe of the FMA peak
    run_seconds: float | None = None  # of a whole run of two rivals: what is left is shared by the workloads to come


FULL = Protocol()
#: Everything against NumPy in under a minute. The spread is wider than that of FULL.
QUICK = Protocol(
    block_seconds=0.12,
    blocks=3,
    idle_seconds=0.1,
    warmup_seconds=0.03,
    trial_seconds=0.04,
    trial_rounds=1,
    peak_seconds=0.1,
    run_seconds=55.0,  # an idle machine needs less; on a busy one, one or two blocks must do
)


@dataclass(frozen=True)
class Entry:
    """A rival that is set up for a workload, in the setting it will be timed in."""

    rival: Rival
    setting: Setting


def time_block(entry: Entry, protocol: Protocol, seconds: float) -> Block:
    """Reset the rival, idle, warm up, then train for at least `seconds`; look at the cores before and after.

    The warm-up says how many epochs that takes, and they are asked for in one call: `fit` scans its data once a call,
    which is part of what a user pays, but not once an epoch. The setting ends with the block: limits of two rivals on
    the threads of one BLAS, undone in another order than they were set in, would leave one of them behind.
    """
    rival = entry.rival
    rival.apply(entry.setting)
    try:
        return _time_block(rival, protocol, seconds)
    finally:
        rival.close()


def _time_block(rival: Rival, protocol: Protocol, seconds: float) -> Block:
    """`time_block` in the present setting."""
    rival.reset()
    sleep(protocol.idle_seconds)
    before = cores.look()
    epoch_seconds = _warm_up(rival, protocol.warmup_seconds)
    elapsed, epochs = 0.0, 0
    while elapsed < seconds:
        more = max(1, math.ceil((seconds - elapsed) / epoch_seconds))
        start = perf_counter()
        rival.train(more, shuffle=True)
        elapsed += perf_counter() - start
        epochs += more
        epoch_seconds = max(elapsed / epochs, 1e-9)
    return Block(elapsed, epochs * rival.steps_per_epoch, before, cores.look())


def _warm_up(rival: Rival, seconds: float) -> float:
    """Train untimed for at least `seconds`; seconds an epoch as the last call saw it."""
    elapsed, epochs = 0.0, 1
    while True:
        start = perf_counter()
        rival.train(epochs, shuffle=True)
        call = perf_counter() - start
        elapsed += call
        epoch_seconds = max(call / epochs, 1e-9)
        if elapsed >= seconds:
            return epoch_seconds
        # At most four times as many as before: the first call of a rival says little about the next.
        epochs = max(1, min(4 * epochs, math.ceil((seconds - elapsed) / epoch_seconds)))


def try_settings(rival: Rival, settings: Sequence[Setting], protocol: Protocol) -> tuple[Setting, tuple[Trial, ...]]:
    """The rival's better setting, found by short blocks that take turns, and what each of them took."""
    if len(settings) == 1:
        return settings[0], ()
    best = dict.fromkeys(settings, math.inf)
    for _ in range(protocol.trial_rounds):
        for setting in settings:
            block = time_block(Entry(rival, setting), protocol, protocol.trial_seconds)
            best[setting] = min(best[setting], block.seconds_per_step)
    trials = tuple(Trial(setting, seconds) for setting, seconds in best.items())
    return min(trials, key=lambda trial: trial.seconds_per_step).setting, trials


def interleave(
    entries: Sequence[Entry],
    protocol: Protocol,
    progress: Callable[[str], None] = lambda message: None,
    deadline: float = math.inf,
) -> list[tuple[Block, ...]]:
    """Time all the entries in turns; the turn rotates, so that nobody always runs after the same neighbour.

    Past `deadline`, a time of `perf_counter`, no turn but the first begins.
    """
    blocks: list[list[Block]] = [[] for _ in entries]
    for turn in range(protocol.blocks):
        if turn and perf_counter() > deadline:
            break
        for place in range(len(entries)):
            which = (turn + place) % len(entries)
            progress(f"block {turn + 1}/{protocol.blocks} {entries[which].rival.name}")
            blocks[which].append(time_block(entries[which], protocol, protocol.block_seconds))
    return [tuple(of_one) for of_one in blocks]
