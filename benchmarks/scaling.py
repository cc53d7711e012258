"""How training scales with threads: measured in every placement at hand, and predicted for more cores.

    python benchmarks/scaling.py --out scaling.json

The prediction is that of `fastbp/engine/costs.py`: arithmetic at the speed that one thread has, lines that cross
between cores, and barriers.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import click
from rich.console import Console
from rich.table import Table

import fastbp
from fastbp.bench import cores, machine
from fastbp.bench.workloads import WORKLOADS, Workload
from fastbp.engine import costs, threads
from fastbp.engine.layout import Layout
from fastbp.engine.placement import VARIABLE, Placement
from fastbp.engine.topology import Topology
from fastbp.engine.traffic import barriers, crossing_lines, most_layers

NAMES = ("digits-deep", "mnist", "mnist-deep", "large")
COUNTS = (1, 2, 4, 8, 16, 32, 64)
DIE = 8  # cores of a die, where there are many
BLOCK_SECONDS, ROUNDS = 0.25, 5


def network(workload: Workload) -> fastbp.MLP:
    return fastbp.MLP(workload.sizes, activation=workload.activation, loss=workload.loss, seed=0)


def placements(workload: Workload, most: int) -> list[Placement]:
    """One thread, and with 2, 4, ... and all: by rows, and with each number of layers by columns."""
    counts = sorted({*(n for n in COUNTS if 1 < n <= most), most} - {1})
    layers = range(1, most_layers(network(workload).session.layout) + 1)
    return [Placement(1), *(each for n in counts for each in (Placement(n), *(Placement(n, k, n) for k in layers)))]


def measure(workload: Workload, most: int) -> list[dict[str, Any]]:
    """Seconds a step in each placement, medians of blocks in turns, beside what the model says."""
    X, y = workload.data()
    choice = placements(workload, most)
    nets = {each: network(workload) for each in choice}
    found: dict[Placement, list[float]] = {each: [] for each in choice}
    steps, lines = -(-len(X) // workload.batch_size), list[float | None]()
    for _ in range(ROUNDS):
        lines.append(cores.look())
        for each, net in nets.items():
            os.environ[VARIABLE] = f"columns:{each.layers}/{each.parts}" if each.layers else "rows"
            end, done, begin = time.perf_counter() + BLOCK_SECONDS, 0, 0.0
            while time.perf_counter() < end or not done:
                begin, done = begin or time.perf_counter(), done + 1
                net.fit(X, y, epochs=1, batch_size=workload.batch_size, optimizer=workload.make_optimizer(),
                        threads=each.threads)  # fmt: skip
            found[each].append((time.perf_counter() - begin) / done / steps)
    del os.environ[VARIABLE]
    seconds = {each: median(times) for each, times in found.items()}
    line = median(one for one in lines if one is not None) if any(lines) else None
    model = calibrated(workload, seconds[choice[0]], line)
    topology = Topology(most, (frozenset(range(most)),), (most,))
    layout = network(workload).session.layout
    return [
        {
            "workload": workload.name, "placement": list(each), "seconds": seconds[each], "line_nanoseconds": line,
            "predicted": model.step(layout, workload.batch_size, each, topology),
            "lines": round(crossing_lines(layout, workload.batch_size, each)), "barriers": barriers(each),
        }
        for each in choice
    ]  # fmt: skip


def calibrated(workload: Workload, one_thread: float, line: float | None) -> costs.Costs:
    """The model with the speed of one thread, and the nanoseconds of a line, that were measured."""
    layout, known = network(workload).session.layout, costs.Costs()
    overhead = known.step(layout, 0, Placement(1), Topology(1, (), ()))
    flops = workload.batch_size * layout.flops_per_row / (one_thread - overhead)
    return replace(known, flops=flops, line=known.line if line is None else 1e-9 * line)


def predict(workload: Workload, one_thread: float) -> Iterator[dict[str, Any]]:
    """The best step for 1 to 64 cores on one die, whose lines take as long as near ones do, and on dies of 8."""
    layout = network(workload).session.layout
    model = calibrated(workload, one_thread, None)
    for n in COUNTS:
        for dies in sorted({1, max(1, n // DIE)}):
            topology = Topology(n, tuple(frozenset([k]) for k in range(dies)), (n // dies,) * dies)
            best = min(
                candidates(layout, n, dies), key=lambda each: model.step(layout, workload.batch_size, each, topology)
            )
            yield {
                "workload": workload.name, "cores": n, "dies": dies, "placement": list(best),
                "seconds": model.step(layout, workload.batch_size, best, topology), "line": model.line,
                "far_line": model.far_line,
            }  # fmt: skip


def candidates(layout: Layout, most: int, dies: int) -> list[Placement]:
    found = []
    for n in (count for count in COUNTS if count <= most):
        parts = {n, dies} if n % dies == 0 and dies > 1 else {n}
        found += [Placement(n, k, p) for p in parts if p > 1 for k in range(1, most_layers(layout) + 1)]
        found.append(Placement(n))
    return found


@click.command()
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Write the figures as JSON.")
def main(out: Path | None) -> None:
    """Measure each placement with the threads at hand, and predict for more."""
    most, console = threads.default_threads(), Console()
    measured = [row for name in NAMES for row in measure(WORKLOADS[name], most)]
    alone = {row["workload"]: row["seconds"] for row in measured if row["placement"][0] == 1}
    predicted = [row for name in NAMES for row in predict(WORKLOADS[name], alone[name])]
    table = Table("workload", "threads, layers, parts", "µs a step", "predicted", "lines", "barriers", "ns a line")
    for row in measured:
        table.add_row(
            row["workload"], str(tuple(row["placement"])), f"{1e6 * row['seconds']:,.1f}",
            f"{1e6 * row['predicted']:,.1f}", f"{row['lines']:,}", str(row["barriers"]),
            "" if row["line_nanoseconds"] is None else f"{row['line_nanoseconds']:.0f}",
        )  # fmt: skip
    console.print(table)
    table = Table("workload", "cores", "dies", "predicted µs a step", "speed-up", "threads, layers, parts")
    for row in predicted:
        table.add_row(
            row["workload"], str(row["cores"]), str(row["dies"]), f"{1e6 * row['seconds']:,.1f}",
            f"{alone[row['workload']] / row['seconds']:.1f}x", str(tuple(row["placement"])),
        )  # fmt: skip
    console.print(table)
    if out is not None:
        document = {"machine": machine.describe(), "measured": measured, "predicted": predicted}
        out.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
