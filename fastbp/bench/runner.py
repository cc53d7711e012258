"""One benchmark run from start to end: set up, verify, find settings, time in turns, and collect the result."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, NamedTuple

from fastbp.bench import blas, environment, machine, startup
from fastbp.bench.low_precision import beside
from fastbp.bench.peers import PEERS, TorchRival
from fastbp.bench.predictors import PREDICTORS, FastbpPredictor, NumpyPredictor, expected_losses_of_rows
from fastbp.bench.protocol import FULL, QUICK, Entry, Protocol, interleave, try_settings
from fastbp.bench.result import BenchResult, Peak, RivalResult, Setting, Verification, WorkloadResult
from fastbp.bench.rivals import BareProducts, FastbpRival, MissingPeerError, NumpyParts, NumpyRival, Rival, Task
from fastbp.bench.sweeps import SWEEPERS, FastbpSweep, HalfDivergingSweep, Loop, OneThreadSweep
from fastbp.bench.sweeps import expected_losses as expected_losses_of_rates
from fastbp.bench.verify import expected_losses, verify
from fastbp.bench.workloads import Workload, select
from fastbp.engine import precisions
from fastbp.validation import check_choice, check_flag, check_positive_int

Progress = Callable[[str], None]
Factory = Callable[[], Rival]


class TaskKind(NamedTuple):
    """What a `Workload.task` comes to."""

    rivals: tuple[Factory, ...]  # that are always there
    peers: dict[str, Factory]  # by the names of `--peers`
    expected: Callable[[Task], tuple[float, ...]]  # losses of the reference


TASKS = {
    "train": TaskKind((FastbpRival, NumpyRival), PEERS, expected_losses),
    "predict": TaskKind((FastbpPredictor, NumpyPredictor), PREDICTORS, expected_losses_of_rows),
    "sweep": TaskKind(
        (FastbpSweep, OneThreadSweep, HalfDivergingSweep, lambda: Loop(NumpyRival())),
        SWEEPERS,
        expected_losses_of_rates,
    ),
}
Factories = dict[str, list[Factory]]  # by the task of a workload

PEER_NAMES = tuple(dict.fromkeys(name for kind in TASKS.values() for name in kind.peers))

BASELINE_WORKLOAD = "mnist"  # where NumPy is held against its own bare matrix products
STARTUP_WORKLOAD = "digits"


def run(
    workloads: Sequence[str] | None = None,
    *,
    peers: Sequence[str] = (),
    threads: int | None = None,
    quick: bool = False,
    protocol: Protocol | None = None,
    progress: Progress = lambda message: None,
    precision: str = precisions.FLOAT32,
) -> BenchResult:
    """Verify, then time, fastbp beside NumPy and the peers.

    Parameters
    ----------
    workloads : sequence of str, optional
        Names of `fastbp.bench.workloads`; by default all but the sweeps. Start-up is measured when `digits` is among
        them.
    peers : sequence of str
        Names from `PEER_NAMES`. One that is not installed is left out, with a note.
    threads : int, optional
        The most threads any rival may use; by default the processors this process may run on.
    quick : bool, default False
        Shorter blocks: everything against NumPy in under a minute.
    protocol : Protocol, optional
        Block lengths, instead of those of `quick`.
    progress : callable
        Receives a line of text now and then, between timed blocks.
    precision : {"float32", "bfloat16"}
        "bfloat16": trainings in it too, beside those in float32; with the peer torch, PyTorch's autocast.

    Returns
    -------
    BenchResult
        `passed` is False when a rival missed the reference's losses; such a rival is not timed.

    Raises
    ------
    ValueError, TypeError
        Unknown workload or peer, or `threads` no positive integer.
    """
    began, chosen = time.perf_counter(), select(workloads)
    peers, quick = [check_choice("peer", name, PEER_NAMES) for name in peers], check_flag("quick", quick)
    threads = machine.available_threads() if threads is None else check_positive_int("threads", threads)
    protocol = protocol or (QUICK if quick else FULL)
    precision = precisions.check(precision)
    factories, notes = _installed(peers, {workload.task for workload in chosen})
    if "train" in factories:
        torch_is_there = TorchRival in factories["train"]
        factories["train"] += beside(precision, ["torch"] if torch_is_there else [])
    dtypes = sorted({workload.dtype for workload in chosen} | {precision} - {precisions.FLOAT32})
    start_up = None
    if any(workload.name == STARTUP_WORKLOAD for workload in chosen):
        progress("start-up: fresh processes, one of which compiles everything")
        start_up = startup.measure(repeats=1 if quick else 3)
    progress("measuring the FMA peak")
    peaks = _probe(dtypes, threads, protocol)
    results = []
    ends = (
        math.inf
        if protocol.run_seconds is None
        else began + protocol.run_seconds * max(map(len, factories.values())) / 2
    )
    for number, workload in enumerate(chosen):
        now = time.perf_counter()
        deadline = now + (ends - now) / (len(chosen) - number)
        results.append(run_workload(workload, factories[workload.task], threads, protocol, notes, progress, deadline))
    again = _probe(dtypes, threads, protocol)  # the better of both: a peak disturbed once would flatter everybody
    best = [max(pair, key=lambda peak: peak.gflops) for pair in zip(peaks, again, strict=True)]
    libraries = blas.loaded()  # by now all that the peers bring with them
    return BenchResult(
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        machine=machine.describe() | {"blas": libraries},
        versions=machine.versions(factory() for kind in factories.values() for factory in kind),
        threads=threads,
        settings={"quick": quick} | asdict(protocol),
        peaks=tuple(best),
        workloads=tuple(results),
        startup=start_up,
        notes=tuple(dict.fromkeys(notes)),  # each once, in order
        warnings=tuple(_warnings(threads, libraries, results)),
    )


def run_workload(
    workload: Workload,
    factories: Sequence[Callable[[], Rival]],
    threads: int,
    protocol: Protocol,
    notes: list[str],
    progress: Progress = lambda message: None,
    deadline: float = math.inf,
) -> WorkloadResult:
    """All rivals on one workload; appends to `notes` what their figures need to be read.

    Past `deadline`, a time of `perf_counter`, one timed block for each must do.
    """
    progress(f"{workload.name}: data and reference losses")
    task = Task.of(workload)
    expected = TASKS[workload.task].expected(task)
    verdicts: dict[str, Verification] = {}
    running: list[Rival] = []
    parts: NumpyParts | None = None
    try:
        for factory in factories:
            rival = factory()
            reason = rival.unsupported(workload)
            if reason:
                notes.append(f"{workload.name}: without {rival.name}, which {reason}")
                continue
            running.append(rival)
            rival.load()
            rival.setup(task)
            notes += rival.notes()
            progress(f"{workload.name}: verifying {rival.name}")
            verdicts[rival.name] = verify(rival, task, expected, rival.settings(threads))
        entrants = [rival for rival in running if (verdict := verdicts[rival.name]) and verdict.passed]
        if workload.name == BASELINE_WORKLOAD and any(isinstance(rival, NumpyRival) for rival in entrants):
            helpers: list[Rival] = [BareProducts(), parts := NumpyParts()]
            for helper in helpers:
                helper.setup(task)
            running += helpers
            entrants += helpers
        began = environment.CpuTimes.now()
        timed = _time(workload, entrants, verdicts, threads, protocol, progress, deadline)
        ended = environment.CpuTimes.now()
    finally:
        for rival in running:
            rival.close()
    precision = {rival.name: rival.precision for rival in running}
    results = tuple(
        timed.get(name) or RivalResult(name, None, verdicts[name], precision=precision[name]) for name in verdicts
    )
    return WorkloadResult(
        workload,
        results,
        timed.get(BareProducts.name),
        parts.parts() if parts else None,
        began.others(ended) if began and ended else None,
    )


def _time(
    workload: Workload,
    rivals: Sequence[Rival],
    verdicts: dict[str, Verification],
    threads: int,
    protocol: Protocol,
    progress: Progress,
    deadline: float,
) -> dict[str, RivalResult]:
    """Each rival in its better setting, in turns; name -> result."""
    entries, trials = [], []
    chosen: dict[str, Setting] = {}
    for rival in rivals:
        progress(f"{workload.name}: trying the settings of {rival.name}")
        # The bare products and the parts are those of NumPy: in its setting, whatever would suit them alone.
        of_numpy = isinstance(rival, BareProducts | NumpyParts)
        settings = [chosen["numpy"]] if of_numpy else rival.settings(threads)
        setting, tried = try_settings(rival, settings, protocol)
        chosen[rival.name] = setting
        entries.append(Entry(rival, setting))
        trials.append(tried)
    blocks = interleave(entries, protocol, lambda message: progress(f"{workload.name}: {message}"), deadline)
    return {
        entry.rival.name: RivalResult(
            entry.rival.name, entry.setting, verdicts.get(entry.rival.name), tried, of_one, entry.rival.precision
        )
        for entry, tried, of_one in zip(entries, trials, blocks, strict=True)
    }


def _installed(peers: Sequence[str], tasks: set[str]) -> tuple[Factories, list[str]]:
    """Factories of fastbp, NumPy and the peers that can be imported, by task; a note for each that cannot."""
    factories: Factories = {name: list(kind.rivals) for name, kind in TASKS.items() if name in tasks}
    notes = []
    for peer in dict.fromkeys(peers):
        for task, rivals in factories.items():
            factory = TASKS[task].peers.get(peer)
            if factory is None:
                continue
            try:
                factory().load()
            except MissingPeerError as error:
                notes.append(str(error))
            else:
                rivals.append(factory)
    return factories, notes


def _warnings(
    threads: int, libraries: list[dict[str, Any]] | None, workloads: Sequence[WorkloadResult]
) -> Iterator[str]:
    """What of the environment made the figures of this run untrue."""
    yield from environment.warnings(threads)
    yield from environment.narrow_kernels(libraries or ())
    for entry in workloads:
        said = environment.neighbour(entry.others or 0.0, f"during {entry.workload.name}")
        if said:
            yield said


def _probe(dtypes: Sequence[str], threads: int, protocol: Protocol) -> list[Peak]:
    """The FMA peak for one thread and for all, after the idling that a timed block gets too."""
    from fastbp.kernels.probe import fma_peak

    peaks = []
    for dtype in dtypes:
        for count in sorted({1, threads}):
            time.sleep(protocol.idle_seconds)
            kernel = precisions.kernel_dtype(dtype, "float32") if dtype == precisions.BFLOAT16 else dtype
            peaks.append(Peak(dtype, count, float(fma_peak(kernel, threads=count, seconds=protocol.peak_seconds))))
    return peaks
