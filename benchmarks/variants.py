"""What each choice costs: optimisers, activations, features, precision, odd sizes beside the plain network.

    python benchmarks/variants.py --out variants.json

Blocks of a variant and of its plain network take turns in one process; a figure is the median ratio over the pairs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from statistics import median
from typing import Any

import click
import numpy as np
from rich.console import Console
from rich.table import Table

import fastbp
from fastbp.bench import machine, report
from fastbp.bench.protocol import Entry, Protocol, time_block
from fastbp.bench.result import Setting
from fastbp.bench.rivals import FastbpRival, NumpyRival, Rival, Task
from fastbp.bench.workloads import WORKLOADS, Workload
from fastbp.kernels import targets

PROTOCOL = Protocol(block_seconds=0.15, idle_seconds=0.05, warmup_seconds=0.05)
PAIRS = 7
SMALL = 1e7  # steps of fewer flops run on one thread


@dataclass(frozen=True)
class Variant:
    """Two workloads, and the most that the first can reach beside the second."""

    name: str
    measured: Workload
    against: Workload
    by: str  # "time" a step, or "flops": throughput in real flops
    limit: float | None  # the least time or the most throughput that the machine allows; None: not known
    rival: str = "fastbp"  # who runs `against`
    network: Mapping[str, Any] = field(default_factory=dict)  # more arguments of MLP for `measured`
    fit: Mapping[str, Any] = field(default_factory=dict)  # and of its fit


@dataclass(frozen=True)
class Found:
    """A variant, measured."""

    name: str
    by: str
    limit: float | None
    reached: float
    microseconds: float


def variants() -> Iterator[Variant]:
    """The table of choices."""
    for name in ("digits", "digits-deep", "mnist", "mnist-deep", "large"):
        plain = WORKLOADS[name]
        choices = {"adam": {"optimizer": "adam", "lr": 1e-3}, "momentum": {"optimizer": "momentum"}}
        choices |= {f: {"activation": f} for f in ("tanh", "sigmoid", "gelu")}
        for label, change in choices.items():
            yield Variant(f"{name}, {label}", replace(plain, **change), plain, "time", 1.0)
    for name in ("digits", "mnist"):
        yield from _features(WORKLOADS[name])
    for name in ("mnist", "large"):
        plain = WORKLOADS[name]
        yield Variant(f"{name}, float64", replace(plain, dtype="float64"), plain, "flops", 0.5)
    for width, other in ((45, 48), (33, 32), (33, 64)):
        limit = _useful(width) / _useful(other)
        yield Variant(f"width {width} beside {other}", _square(width), _square(other), "flops", limit)
    for width in (1, 7, 13, 31, 61, 127):
        yield Variant(f"width {width} beside NumPy", _square(width), _square(width), "flops", None, "numpy")
    one = Workload("one", (64, 64, 1), 32, 1_600, loss="mse")
    yield Variant("one output beside NumPy", one, one, "flops", None, "numpy")


def _features(plain: Workload) -> Iterator[Variant]:
    """What a trainer offers beyond the plain step, switched on."""
    sgd, weights = fastbp.SGD(lr=plain.lr), np.random.default_rng(0).uniform(0.5, 2.0, plain.n_samples)
    loss = fastbp.losses.CrossEntropy(label_smoothing=0.1)
    features: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
        ("dropout", {"dropout": 0.5}, {}),
        ("label smoothing", {"loss": loss}, {}),
        ("weight decay", {}, {"optimizer": replace(sgd, weight_decay=1e-4)}),
        ("a schedule", {}, {"schedule": fastbp.schedules.Cosine(1000)}),
        ("sample weights", {}, {"sample_weight": weights}),
        ("clipping by norm", {}, {"optimizer": replace(sgd, clip_norm=1.0)}),
    ]
    for label, network, fit in features:
        yield Variant(f"{plain.name}, {label}", plain, plain, "time", 1.0, network=network, fit=fit)


def _useful(width: int) -> float:
    """The part of the lanes that hold numbers, where rows are padded to vectors."""
    lanes = targets.TARGET.vector_bytes // 4
    return width / (-(-width // lanes) * lanes)


def _square(width: int) -> Workload:
    return Workload(f"{width}", (width, width, width, 10), 64, 3_200)


def measure(variant: Variant, threads: int) -> Found:
    """Interleave the two; the ratio of each pair, and the median of these."""
    if variant.rival == "numpy":
        ours = _entry(FastbpRival(variant.network, variant.fit), variant.measured, None)
        theirs = [_entry(NumpyRival(), variant.against, count) for count in {1, threads}]
    else:  # on as many threads: what is asked for is the cost of a choice, not the choice of threads
        same = 1 if variant.against.flops_per_step < SMALL else threads
        ours = _entry(FastbpRival(variant.network, variant.fit), variant.measured, same)
        theirs = [_entry(FastbpRival(), variant.against, same)]
    ratios, times = [], []
    for _ in range(PAIRS):
        mine = time_block(ours, PROTOCOL, PROTOCOL.block_seconds).seconds_per_step
        best = min(time_block(entry, PROTOCOL, PROTOCOL.block_seconds).seconds_per_step for entry in theirs)
        times.append(mine)
        scale = variant.measured.flops_per_step / variant.against.flops_per_step
        ratios.append(mine / best if variant.by == "time" else scale * best / mine)
    for entry in (ours, *theirs):
        entry.rival.close()
    return Found(variant.name, variant.by, variant.limit, median(ratios), median(times) * 1e6)


def _entry(rival: Rival, workload: Workload, threads: int | None) -> Entry:
    rival.setup(Task.of(workload))
    return Entry(rival, Setting(threads))


@click.command()
@click.option("--out", "path", type=click.Path(dir_okay=False), help="Write the figures to this file.")
@click.option("--only", default="", help="Only variants whose names contain this.")
def main(path: str | None, only: str) -> None:
    """Measure what each choice costs beside the plain network."""
    threads = machine.available_threads()
    table = Table("variant", "by", "limit", "reached", "µs/step")
    found = []
    for variant in variants():
        if only in variant.name:
            one = measure(variant, threads)
            found.append(one)
            limit = "" if one.limit is None else f"{one.limit:.2f}"
            table.add_row(one.name, one.by, limit, f"{one.reached:.2f}", f"{one.microseconds:,.1f}")
    if path is not None:
        document = {
            "kind": "fastbp-variants",
            "machine": machine.describe(),
            "variants": [asdict(one) for one in found],
        }
        report.save(document, path)
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
