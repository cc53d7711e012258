"""A result as tables for people, and as a JSON document for other programs."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from statistics import median
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from fastbp.bench import blas
from fastbp.bench.result import BenchResult, RivalResult, StartUp, WorkloadResult, figures, from_document
from fastbp.bench.workloads import SWEEP_EPOCHS, SWEEP_RATES
from fastbp.io.files import damaged, opened
from fastbp.io.tabular import write_json

FULL_WIDTH = 118  # columns that the whole table needs, with names of up to 12 letters
_COLUMNS = ("setting", "µs/step", "fastest to slowest", "samples/s", "GFLOP/s", "% of peak", "ratio")
#: What the parts of the NumPy baseline are called that are not called by their names.
BASELINE_PARTS = {"passes": "biases, activations and products on cold operands", "gather": "gathering and the loop"}
_ONLY_WIDE = ("fastest to slowest", "samples/s", "GFLOP/s")


def save(document: dict[str, Any], path: str | os.PathLike[str]) -> None:
    """Write the JSON document; the file is replaced as a whole or not at all."""
    write_json(path, document)


def load(path: str | os.PathLike[str]) -> BenchResult:
    """Read back what `save` wrote.

    Raises
    ------
    ValueError
        Not JSON, or not a benchmark document of this schema.
    """
    with opened(path) as file, damaged(path, "is no document of fastbp bench"):
        document = json.loads(file.read())
        if not isinstance(document, dict):
            raise ValueError(f"{os.fspath(path)} must hold a JSON object; got {type(document).__name__}")
        return from_document(document)


def render(result: BenchResult, *, width: int = FULL_WIDTH) -> RenderableType:
    """All tables of a run; on narrow screens some columns are left out."""
    parts: list[RenderableType] = [_heading(result)]
    parts += [Text(f"WARNING: {warning}", style="bold red") for warning in result.warnings]
    parts += [_workload_table(result, compact=width < _full_width(result)), _cores_table(result)]
    parts += [Text(line) for entry in result.workloads for line in _about_sweep(entry)]
    parts += [_baseline(entry) for entry in result.workloads if entry.baseline_ratio is not None]
    if result.startup:
        parts += [Text(), _startup_table(result.startup)]
    parts += [Text(f"note: {note}", style="yellow") for note in result.notes]
    return Group(*parts)


def _full_width(result: BenchResult) -> int:
    """Columns that the whole table needs."""
    workloads = [entry.workload.name for entry in result.workloads]
    rivals = [rival.rival for entry in result.workloads for rival in entry.rivals]
    return FULL_WIDTH + sum(max(0, max(map(len, names), default=0) - 12) for names in (workloads, rivals))


def _heading(result: BenchResult) -> Text:
    machine = result.machine
    peaks = ", ".join(f"{peak.dtype} {_count(peak.threads)} {peak.gflops:.1f}" for peak in result.peaks)
    versions = ", ".join(f"{name} {version}" for name, version in result.versions.items())
    return Text(
        f"{machine['processor']} ({machine['architecture']}, {machine['system']}), "
        f"Python {machine['python']}, {result.date}\n"
        f"{versions}\n"
        f"BLAS: {describe_blas(machine)}\n"
        f"FMA peak, GFLOP/s: {peaks}\n"
        f"up to {_count(result.threads)}; each rival in its better setting; "
        f"medians of up to {result.settings['blocks']} interleaved blocks "
        f"of at least {result.settings['block_seconds']:g} s"
    )


def describe_blas(machine: dict[str, Any]) -> str:
    """Each BLAS of the process with its kernel and threads, in a line."""
    found = machine.get("blas")
    if found is None:
        return blas.UNKNOWN
    said = []
    for one in found:
        name = " ".join(filter(None, (one["of"] and f"{one['of']}'s", one["library"], one["version"])))
        said.append(f"{name}, kernel {one['kernel'] or 'not told'}, {_count(one['threads'])}")
    return "; ".join(dict.fromkeys(said)) or "none that threadpoolctl knows"


def _cores_table(result: BenchResult) -> RenderableType:
    """Every workload by the state of the cores during its blocks."""
    table = Table(title="By the state of the cores, µs/step")
    for heading in ("workload", "cores", "ns a line", "blocks", "rivals"):
        table.add_column(heading, justify="right" if heading in ("ns a line", "blocks") else "left")
    for entry in result.workloads:
        for cores, blocks in entry.states.items():
            rivals = [part for rival in entry.rivals if (part := rival.within(cores)).blocks]
            times = ", ".join(f"{rival.rival} {_short(rival.seconds_per_step * 1e6)}" for rival in rivals)
            line = median(ns for block in blocks for ns in block.lines)
            table.add_row(entry.workload.name, cores, f"{line:.0f}", str(len(blocks)), times)
    return table if table.row_count else Text("cores: one, or a document of a version that did not look at them")


def _count(threads: int) -> str:
    return f"{threads} thread{'s' * (threads != 1)}"


def _workload_table(result: BenchResult, *, compact: bool) -> Table:
    table = Table(
        caption=f"ratio: time a step over that of fastbp. % of peak: of {_count(result.threads)}, in real flops; "
        "above 100 the probe is wrong."
    )
    table.add_column("workload", no_wrap=True)
    table.add_column("rival", no_wrap=True)
    columns = [heading for heading in _COLUMNS if not (compact and heading in _ONLY_WIDE)]
    for heading in columns:
        table.add_column(heading, justify="left" if heading == "setting" else "right", no_wrap=True)
    for entry in result.workloads:
        for row, rival in enumerate(entry.rivals):
            cells = _cells(result, entry, rival)
            table.add_row(
                entry.workload.name if row == 0 else "",
                rival.rival,
                *(cells.get(heading, "") for heading in columns),
                end_section=rival is entry.rivals[-1],
            )
    return table


def _cells(result: BenchResult, entry: WorkloadResult, rival: RivalResult) -> dict[str, RenderableType]:
    """Cell by column; a rival that missed the losses has nothing else to show."""
    values = figures(result, entry, rival)
    if values is None or rival.setting is None:
        off = rival.verification.difference if rival.verification else None
        return {"setting": Text("losses not finite" if off is None else f"losses off {off:.0e}", style="bold red")}
    percent, ratio = values["percent_of_peak"], values["ratio_to_fastbp"]
    return {
        "setting": rival.setting.label,
        "µs/step": _short(values["microseconds_per_step"]),
        "fastest to slowest": f"{_short(values['fastest_microseconds'])} to {_short(values['slowest_microseconds'])}",
        "samples/s": _short(values["samples_per_second"]),
        "GFLOP/s": _short(values["gflops"]),
        "% of peak": "" if percent is None else Text(f"{percent:.1f}", style="red" if percent > 100.0 else ""),
        "ratio": "" if ratio is None else f"{ratio:.2f}",
    }


def _baseline(entry: WorkloadResult) -> Text:
    numpy, bare, ratio = entry.find("numpy"), entry.bare_products, entry.baseline_ratio
    if numpy is None or bare is None or ratio is None:
        return Text()
    said = (
        f"NumPy baseline on {entry.workload.name}: {_short(numpy.seconds_per_step * 1e6)} µs/step, "
        f"{ratio:.2f}x its bare matrix products of {_short(bare.seconds_per_step * 1e6)}"
    )
    rest = entry.baseline_rest
    if rest:
        parts = ", ".join(f"{BASELINE_PARTS.get(name, name)} {_short(s * 1e6)}" for name, s in rest.items())
        said += f"; the rest: {parts}"
    return Text(said)


def _about_sweep(entry: WorkloadResult) -> Iterator[str]:
    """Figures of a sweep that compare its rows."""
    name, efficiency, half = entry.workload.name, entry.thread_efficiency, entry.half_diverging_ratio
    if entry.workload.task != "sweep" or entry.seconds_per_sweep is None:
        return
    found = f"{name}: {len(SWEEP_RATES)} rates, {SWEEP_EPOCHS} epochs in {entry.seconds_per_sweep:.3g} s"
    if efficiency is not None:
        found += f"; thread efficiency {100 * efficiency:.0f} %"
    if half is not None:
        kind = "losses stay finite" if entry.workload.activation == "tanh" else "losses turn non-finite"
        found += f"; with half of the rates diverging ({kind}): {100 * half:.0f} % of the time"
    yield found


def _startup_table(startup: StartUp) -> Table:
    table = Table(title="Start-up of a fresh process, seconds (steady state is the table above)")
    table.add_column("machine-code cache")
    for heading in ("import numba, numpy", "import fastbp after it", "first fit on digits"):
        table.add_column(heading, justify="right")
    for name, start in (("empty (cold)", startup.cold), ("filled (cached)", startup.cached)):
        seconds = (start.numba_seconds, start.import_seconds, start.fit_seconds)
        table.add_row(name, *(f"{value:.3f}" for value in seconds))
    return table


def _short(value: float | None) -> str:
    """Three significant digits, thousands separated, no exponent."""
    if value is None:
        return ""
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"
