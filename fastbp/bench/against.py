"""Two runs of the benchmark, row by row: what has changed, and what is noise."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from statistics import median
from typing import Any

import numpy as np
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from fastbp.bench.result import BenchResult, Block, RivalResult, WorkloadResult

#: A change below this is noise whatever the rounds say: memory lies elsewhere, the CPU's clock is another. More than
#: this the rivals tell alone: in three pairs of quick runs of the same code on a shared host, medians of fastbp were 2
#: to 10 % apart (`digits`, `mnist`), those of NumPy 2 to 15 %, three times of six by more than its rounds were.
FLOOR = 0.02
RESAMPLES, CONFIDENCE = 2_000, 0.95
FULL_WIDTH = 110  # columns that the whole table needs
KNOWN = ("near", "between", "far")  # states of the cores in which blocks can be compared


@dataclass(frozen=True)
class Row:
    """One rival on one workload in both runs."""

    workload: str
    rival: str
    cores: str  # the state whose blocks were compared; "" for all blocks
    old_seconds: float  # a step, median
    new_seconds: float
    low: float  # new over old lies between these in 95 of 100 resamplings of the rounds of both
    high: float
    rivals: float | None  # new over old of the rivals of the same version, median; None: there were none
    verdict: str  # "noise", "faster", "slower", "the machine", "unclear" or "other cores"

    @property
    def change(self) -> float:
        """New over old."""
        return self.new_seconds / self.old_seconds


@dataclass(frozen=True)
class Comparison:
    """Two runs."""

    old_date: str
    new_date: str
    rows: tuple[Row, ...]
    peaks: tuple[tuple[str, int, float, float], ...]  # dtype, threads, GFLOP/s in the old and in the new run
    notes: tuple[str, ...]  # why the two may not be comparable

    def to_document(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self) | {"rows": [asdict(row) | {"change": row.change} for row in self.rows]}


def compare(old: BenchResult, new: BenchResult) -> Comparison:
    """Each rival of the new run on each of its workloads beside what the old run has of it."""
    found: list[Row] = []
    notes = list(_differences(old, new))
    for entry in new.workloads:
        before = next((one for one in old.workloads if one.workload.name == entry.workload.name), None)
        if before is None:
            notes.append(f"{entry.workload.name} is in the new run alone")
        elif replace(before.workload, seed=0) != replace(entry.workload, seed=0):
            notes.append(f"{entry.workload.name} is another task now: not compared")
        else:
            found += _rows(before, entry, {name for name, of in new.versions.items() if old.versions.get(name) == of})
    ran = {entry.workload.name for entry in new.workloads}
    notes += [f"{one.workload.name} is in the old run alone" for one in old.workloads if one.workload.name not in ran]
    peaks = [
        (peak.dtype, peak.threads, before.gflops, peak.gflops)
        for peak in new.peaks
        for before in old.peaks
        if (before.dtype, before.threads) == (peak.dtype, peak.threads)
    ]
    return Comparison(old.date, new.date, tuple(found), tuple(peaks), tuple(notes))


def _rows(old: WorkloadResult, new: WorkloadResult, unchanged: set[str]) -> Iterator[Row]:
    """The rivals of one workload; `unchanged` are those whose versions are the same."""
    rows = [
        _row(new.workload.name, before, now)
        for now in new.rivals
        if now.blocks and (before := old.find(now.rival)) is not None
    ]
    still = {row.rival: row.change for row in rows if _package(row.rival) in unchanged - {"fastbp"}}
    for row in rows:
        drift = median(still.values()) if still and row.rival not in still else None
        yield replace(row, rivals=drift, verdict=_verdict(row, drift, unchanged=row.rival in still))


def _package(rival: str) -> str:
    """The name that versions are told by: that of a sweep's rival has its method behind it."""
    return rival.partition(",")[0]


def _row(workload: str, old: RivalResult, new: RivalResult) -> Row:
    """A row, in which what the rivals did is not known yet."""
    cores = _common_state(old, new)
    if cores in KNOWN:
        old, new = old.within(cores), new.within(cores)
    low, high = interval(old.blocks, new.blocks)
    seconds = old.seconds_per_step, new.seconds_per_step
    return Row(workload, new.rival, cores, *seconds, low, high, None, "other cores" if cores == "differ" else "")


def _common_state(old: RivalResult, new: RivalResult) -> str:
    """The state of the cores with most blocks in both; "" where it makes no difference or is not known, or "differ"."""
    alone = all(one.setting is not None and one.setting.threads == 1 for one in (old, new))
    counts = [{word: len(one.within(word).blocks) for word in KNOWN} for one in (old, new)]
    if alone or not all(any(of_one.values()) for of_one in counts):
        return ""
    best = max(KNOWN, key=lambda word: min(of_one[word] for of_one in counts))
    return best if min(of_one[best] for of_one in counts) else "differ"


def interval(old: Sequence[Block], new: Sequence[Block]) -> tuple[float, float]:
    """Where new over old lies in 95 of 100 resamplings of the rounds; medians, as everywhere."""
    rng = np.random.default_rng(0)

    def medians(blocks: Sequence[Block]) -> Any:
        seconds = np.array([block.seconds_per_step for block in blocks])
        return np.median(rng.choice(seconds, (RESAMPLES, len(seconds))), axis=1)

    rest = (1.0 - CONFIDENCE) / 2.0
    low, high = np.quantile(medians(new) / medians(old), [rest, 1.0 - rest])
    return float(low), float(high)


def _verdict(row: Row, drift: float | None, *, unchanged: bool) -> str:
    """Noise where the rounds do not tell the runs apart; the machine where the code is the same, or nothing is left
    beside the rivals; unclear where less is left than what these changed by."""
    if row.verdict:
        return row.verdict
    if row.low <= 1.0 <= row.high or abs(row.change - 1.0) < FLOOR:
        return "noise"
    if unchanged:
        return "the machine"
    if drift is not None:
        beyond, same_way = row.change / drift, (row.change < 1.0) == (row.change < drift)
        if not same_way or abs(beyond - 1.0) < FLOOR:
            return "the machine"
        if abs(math.log(beyond)) < abs(math.log(drift)):
            return "unclear"
    return "faster" if row.change < 1.0 else "slower"


def _differences(old: BenchResult, new: BenchResult) -> Iterator[str]:
    """Why times of the two runs may not be comparable."""
    for key in ("processor", "available_threads", "python"):
        before, now = old.machine.get(key), new.machine.get(key)
        if before != now and None not in (before, now):
            yield f"another machine: {key} was {before}, is {now}; ratios to rivals travel, times do not"
    if old.threads != new.threads:
        yield f"up to {old.threads} threads in the old run, up to {new.threads} in the new one"
    for name in sorted(old.versions.keys() & new.versions.keys()):
        if old.versions[name] != new.versions[name]:
            yield f"{name} was {old.versions[name]}, is {new.versions[name]}"
    kernels = [[one["kernel"] for one in run.machine.get("blas") or ()] for run in (old, new)]
    if all(kernels) and kernels[0] != kernels[1]:
        yield f"kernels of the BLAS were {', '.join(kernels[0])}, are {', '.join(kernels[1])}"
    for which, run in (("old", old), ("new", new)):
        yield from (f"in the {which} run: {warning}" for warning in run.warnings)


def render(found: Comparison, *, width: int = FULL_WIDTH) -> RenderableType:
    """The rows as a table, and how to read it; on narrow screens without the intervals."""
    table = Table(title=f"New run of {found.new_date} beside that of {found.old_date}")
    for heading in ("workload", "rival", "cores"):
        table.add_column(heading, no_wrap=True)
    for heading in ("old µs", "new µs", "new/old", "95 % of it", "rivals", "verdict"):
        if heading != "95 % of it" or width >= FULL_WIDTH:
            table.add_column(heading, justify="left" if heading == "verdict" else "right", no_wrap=True)
    style = {"slower": "bold red", "faster": "bold green"}
    for row in found.rows:
        table.add_row(
            *(row.workload, row.rival, row.cores or "all"),
            *(_microseconds(row.old_seconds), _microseconds(row.new_seconds), f"{row.change:.3f}"),
            *([f"{row.low:.3f} to {row.high:.3f}"] if width >= FULL_WIDTH else []),
            "" if row.rivals is None else f"{row.rivals:.3f}",
            Text(row.verdict, style=style.get(row.verdict, "")),
        )
    parts: list[RenderableType] = [
        table,
        Text(
            f"noise: the rounds of the two runs do not tell them apart, or by less than {FLOOR:.0%}, as two runs of "
            "the same code.\nthe machine: rivals of the same version (rivals: their new/old) changed as much, or it is "
            "one; unclear: it changed by more than they did, but by less than twice that.\ncores: the blocks that were "
            "compared, by the state of the cores."
        ),
    ]
    if found.peaks:
        peaks = ", ".join(f"{dtype} {n}: {old:.1f} then, {new:.1f} now" for dtype, n, old, new in found.peaks)
        parts.append(Text(f"FMA peak, GFLOP/s, by threads: {peaks}"))
    return Group(*parts, *(Text(f"note: {note}", style="yellow") for note in found.notes))


def _microseconds(seconds: float) -> str:
    """Four digits, thousands separated."""
    return f"{seconds * 1e6:,.0f}" if seconds >= 1e-3 else f"{seconds * 1e6:.4g}"
