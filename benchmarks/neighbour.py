"""What a busy neighbour costs: a loop that never ends, pinned to one of the processors that fastbp may use.

    python benchmarks/neighbour.py

One thread and fastbp's own choice take turns, beside the neighbour and without it.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import time
from collections.abc import Iterator
from statistics import median

import click
from rich.console import Console
from rich.table import Table

from fastbp.bench.protocol import Entry, Protocol, time_block
from fastbp.bench.result import Setting
from fastbp.bench.rivals import FastbpRival, Task
from fastbp.bench.workloads import WORKLOADS

PROTOCOL = Protocol(block_seconds=1.5, idle_seconds=0.05, warmup_seconds=0.05)
PAIRS = 5


def _spin(cpu: int) -> None:
    os.sched_setaffinity(0, {cpu})
    while True:
        pass


@contextlib.contextmanager
def neighbour(present: bool) -> Iterator[None]:
    """A process that takes the last processor for itself."""
    if not present:
        yield
        return
    process = multiprocessing.get_context("spawn").Process(
        target=_spin, args=(max(os.sched_getaffinity(0)),), daemon=True
    )
    process.start()
    time.sleep(0.5)
    try:
        yield
    finally:
        process.kill()
        process.join()


def measure(name: str) -> float:
    """Time a step on fastbp's own choice of threads over that on one: the median of pairs."""
    workload = WORKLOADS[name]
    entries = []
    for threads in (1, None):
        rival = FastbpRival()
        rival.setup(Task.of(workload))
        entries.append(Entry(rival, Setting(threads)))
    ratios = []
    for _ in range(PAIRS):
        one, own = (time_block(entry, PROTOCOL, PROTOCOL.block_seconds).seconds_per_step for entry in entries)
        ratios.append(own / one)
    return median(ratios)


@click.command()
@click.argument("names", nargs=-1)
def main(names: tuple[str, ...]) -> None:
    """Measure some workloads; by default a small, a middling and a large one."""
    table = Table("workload", "alone", "beside a busy neighbour", title="own choice of threads, time over that of one")
    for name in names or ("digits", "digits-deep", "mnist", "large"):
        cells = []
        for present in (False, True):
            with neighbour(present):
                cells.append(f"{measure(name):.2f}")
        table.add_row(name, *cells)
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
