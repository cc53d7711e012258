"""`bench --workload sweep`: a learning-rate sweep of fastbp beside what else there is for it.

The rivals are JAX's `vmap` over rates of a `jit` of one `lax.scan` over all steps, and loops over the rates with
PyTorch, scikit-learn and NumPy. All train from the same weights on the same rows, shuffled by each in its own way.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from statistics import median
from typing import Any

import numpy as np

from fastbp.bench import machine
from fastbp.bench.peers import PEERS
from fastbp.bench.protocol import FULL, QUICK, Protocol
from fastbp.bench.result import Setting
from fastbp.bench.rivals import MissingPeerError, NumpyRival, Task
from fastbp.bench.sweep_rivals import FastbpSweep, JaxSweep, Loop, SweepRival
from fastbp.bench.verify import TOLERANCE, expected_losses, largest_difference
from fastbp.bench.workloads import Workload
from fastbp.validation import check_choice, check_flag, check_positive_int

Progress = Callable[[str], None]

NAME = "sweep"
SCHEMA = 1
EPOCHS = 5
# None of these diverges on the workloads below; the second set differs in its upper half, where all of them do: losses
# turn non-finite in the networks of relu; in that of tanh they stay finite, and the runs are given up.
RATES = np.geomspace(1e-3, 1e-1, 32)
HALF_DIVERGING = np.concatenate([RATES[:16], np.geomspace(1e4, 1e6, 16)])
#: Rows of `digits` and the sizes of the issue; batches are whole, or JAX would compile the last one on its own.
SWEEPS = (
    Workload("sweep 64-64-10", (64, 64, 10), 32, 1_792),
    Workload("sweep 64-256-128-10", (64, 256, 128, 10), 64, 1_792),
    Workload("sweep 64-64-10 tanh", (64, 64, 10), 32, 1_792, activation="tanh"),
)
CHECKED = (0, len(RATES) // 2, len(RATES) - 1)  # the rates whose losses are compared
# The loops' setting is found, and their caches are warmed, on a few rates.
TRIAL_RATES = 2
ONE_THREAD, HALF = "fastbp, 1 thread", "fastbp, half diverging"


# --- the run --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SweepRow:
    """One rival on one workload; without blocks if it missed the reference's losses."""

    rival: str
    setting: Setting | None
    difference: float | None  # largest relative difference from the reference; None where nothing was compared
    passed: bool
    blocks: tuple[float, ...] = ()  # seconds a sweep, by block

    @property
    def seconds(self) -> float | None:
        """Median over blocks."""
        return median(self.blocks) if self.blocks else None


@dataclass(frozen=True)
class SweepTable:
    """All rivals on one workload."""

    workload: Workload
    rows: tuple[SweepRow, ...]
    threads: int

    def seconds(self, name: str) -> float | None:
        """Of a rival, a sweep."""
        return next((row.seconds for row in self.rows if row.rival == name), None)

    def ratio(self, name: str) -> float | None:
        """Time of a rival over that of fastbp."""
        ours, theirs = self.seconds("fastbp"), self.seconds(name)
        return theirs / ours if ours and theirs else None

    @property
    def efficiency(self) -> float | None:
        """Of the threads: time on one over time on all, by their number."""
        ratio = self.ratio(ONE_THREAD)
        return ratio / self.threads if ratio and self.threads > 1 else None

    def to_document(self) -> dict[str, Any]:
        """Plain values, derived figures included."""
        rows = [asdict(row) | {"seconds": row.seconds, "ratio": self.ratio(row.rival)} for row in self.rows]
        return {
            "workload": asdict(self.workload), "rivals": rows, "thread_efficiency": self.efficiency,
            "half_diverging_ratio": self.ratio(HALF),
        }  # fmt: skip


@dataclass(frozen=True)
class SweepBench:
    """One run of the benchmark of sweeps."""

    date: str
    machine: dict[str, Any]
    versions: dict[str, str]
    threads: int
    settings: dict[str, Any]
    tables: tuple[SweepTable, ...]
    notes: tuple[str, ...]

    @property
    def wrong(self) -> list[str]:
        """Rivals that missed the reference's losses."""
        return [
            f"{row.rival} on {table.workload.name}" for table in self.tables for row in table.rows if not row.passed
        ]

    def to_document(self) -> dict[str, Any]:
        """What `--out` and `--json` write."""
        return {
            "kind": "fastbp-sweep-bench", "schema": SCHEMA, "date": self.date, "machine": self.machine,
            "versions": self.versions, "threads": self.threads, "settings": self.settings, "rates": RATES.tolist(),
            "epochs": EPOCHS, "sweeps": [table.to_document() for table in self.tables], "notes": list(self.notes),
        }  # fmt: skip


def run(
    *,
    peers: Sequence[str] = (),
    threads: int | None = None,
    quick: bool = False,
    protocol: Protocol | None = None,
    workloads: Sequence[Workload] = SWEEPS,
    progress: Progress = lambda message: None,
) -> SweepBench:
    """Verify, then time, sweeps of fastbp beside NumPy and the peers; the arguments are those of `runner.run`."""
    peers, quick = [check_choice("peer", name, PEERS) for name in peers], check_flag("quick", quick)
    threads = machine.available_threads() if threads is None else check_positive_int("threads", threads)
    protocol = protocol or (QUICK if quick else FULL)
    factories: list[Callable[[], SweepRival]] = [
        lambda: FastbpSweep(threads=threads),
        lambda: FastbpSweep(ONE_THREAD, 1),
        lambda: FastbpSweep(HALF, threads, HALF_DIVERGING),
        lambda: Loop(NumpyRival()),
    ]
    notes = []
    for name in dict.fromkeys(peers):
        try:
            PEERS[name]().load()
        except MissingPeerError as error:
            notes.append(str(error))
        else:
            factories.append(JaxSweep if name == "jax" else lambda name=name: Loop(PEERS[name]()))  # type: ignore[misc]
    notes.append(
        "fastbp validates on one batch after every epoch, the rivals not at all; the loops' set-up is not timed"
    )
    tables = tuple(_table(workload, factories, threads, protocol, progress) for workload in workloads)
    return SweepBench(
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        machine=machine.describe(),
        versions={rival.package: rival.version() for rival in (factory() for factory in factories)},
        threads=threads,
        settings={"quick": quick} | asdict(protocol),
        tables=tables,
        notes=tuple(notes),
    )


def _table(
    workload: Workload,
    factories: Sequence[Callable[[], SweepRival]],
    threads: int,
    protocol: Protocol,
    progress: Progress,
) -> SweepTable:
    """All rivals on one workload: check, choose settings, time in turns."""
    progress(f"{workload.name}: data and reference losses")
    task, rates = Task.of(workload), RATES[list(CHECKED)]
    expected = [expected_losses(replace(task, workload=replace(workload, lr=float(rate)))) for rate in rates]
    entries: list[tuple[SweepRival, Setting]] = []
    rows: dict[str, SweepRow] = {}
    rivals = [factory() for factory in factories]
    try:
        for rival in rivals:
            progress(f"{workload.name}: verifying {rival.name}")
            rival.setup(task)
            differences = []
            for setting in rival.settings(threads):
                rival.apply(setting)
                found = rival.losses(rates, len(expected[0]))
                differences += [largest_difference(*pair) for pair in zip(found, expected, strict=True)]
            worst = max(differences)
            passed = worst <= TOLERANCE[workload.dtype]
            rows[rival.name] = SweepRow(rival.name, None, worst if np.isfinite(worst) else None, passed)
            if passed:
                progress(f"{workload.name}: trying the settings of {rival.name}")
                entries.append((rival, _better(rival, rival.settings(threads), protocol)))
        for rival, setting, seconds in _interleave(workload, entries, protocol, progress):
            rows[rival.name] = replace(rows[rival.name], setting=_shown(rival, setting), blocks=tuple(seconds))
    finally:
        for rival in rivals:
            rival.close()
    return SweepTable(workload, tuple(rows.values()), threads)


def _shown(rival: SweepRival, setting: Setting) -> Setting:
    return Setting(rival.threads) if isinstance(rival, FastbpSweep) else setting


def _better(rival: SweepRival, settings: Sequence[Setting], protocol: Protocol) -> Setting:
    """The setting that does a few rates fastest, by the best of a few trials, since noise only adds."""
    best = dict.fromkeys(settings, float("inf"))
    for _ in range(protocol.trial_rounds if len(settings) > 1 else 0):
        for setting in settings:
            rival.apply(setting)
            time.sleep(protocol.idle_seconds)
            best[setting] = min(best[setting], rival.sweep(RATES[:TRIAL_RATES], 1))
    return min(best, key=lambda setting: best[setting])


def _interleave(
    workload: Workload, entries: Sequence[tuple[SweepRival, Setting]], protocol: Protocol, progress: Progress
) -> list[tuple[SweepRival, Setting, list[float]]]:
    """Seconds a sweep of each rival, block by block in turns, each after idling and a warm-up."""
    found: list[tuple[SweepRival, Setting, list[float]]] = [(*entry, []) for entry in entries]
    for turn in range(protocol.blocks):
        for place in range(len(found)):
            rival, setting, seconds = found[(turn + place) % len(found)]
            progress(f"{workload.name}: block {turn + 1}/{protocol.blocks} {rival.name}")
            rival.apply(setting)
            time.sleep(protocol.idle_seconds)
            # What is compiled for its shapes has to see those of the sweep; a loop is warm after a few rates.
            rival.sweep(RATES[:TRIAL_RATES] if isinstance(rival, Loop) else RATES, EPOCHS)
            each: list[float] = []
            while sum(each) < protocol.block_seconds:
                each.append(rival.sweep(RATES, EPOCHS))
            seconds.append(sum(each) / len(each))
    return found


# --- for people -----------------------------------------------------------------------------------------------


COLUMNS = ("setting", "seconds", "fastest to slowest", "sweeps/s", "over fastbp")


def render(result: SweepBench) -> Any:
    """Tables and what follows from them, for rich."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    about = result.machine
    parts: list[Any] = [
        Text(
            f"{about['processor']} ({about['architecture']}, {about['system']}), Python {about['python']}, "
            f"{result.date}\n"
            f"{', '.join(f'{name} {version}' for name, version in result.versions.items())}\n"
            f"{len(RATES)} rates, {EPOCHS} epochs, SGD; medians of {result.settings['blocks']} interleaved blocks"
        )
    ]
    for table in result.tables:
        workload = table.workload
        title = f"{workload.name}, batches of {workload.batch_size}, {workload.n_samples:,} rows"
        shown = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
        shown.add_column("")
        for name in COLUMNS:
            shown.add_column(name, justify="left" if name == "setting" else "right")
        for row in table.rows:
            shown.add_row(row.rival, *_cells(table, row))
        parts += [Text(), shown]
        if table.efficiency is not None:
            parts.append(Text(f"thread efficiency, 1 to {table.threads}: {100 * table.efficiency:.0f} %"))
        if (half := table.ratio(HALF)) is not None:
            kind = "losses stay finite" if workload.activation == "tanh" else "losses turn non-finite"
            parts.append(Text(f"with half of the rates diverging ({kind}): {100 * half:.0f} % of the time"))
    parts += [Text(f"note: {note}", style="yellow") for note in result.notes]
    return Group(*parts)


def _cells(table: SweepTable, row: SweepRow) -> list[str]:
    if row.seconds is None or row.setting is None:
        missed = "not finite" if row.difference is None else f"off by {row.difference:.1e}"
        return ["losses differ", missed, "", "", ""]
    ratio = table.ratio(row.rival)
    return [
        row.setting.label, f"{row.seconds:.3g}", f"{min(row.blocks):.3g} to {max(row.blocks):.3g}",
        f"{1 / row.seconds:.3g}", "" if ratio is None else f"{ratio:.3g}x",
    ]  # fmt: skip
