"""The result of a benchmark run: frozen measurements, and figures derived from them."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from statistics import median
from typing import Any

from fastbp.bench.cores import state
from fastbp.bench.workloads import Workload

# Names of the rivals of a sweep that are fastbp itself, on one thread and with rates of which half diverge.
ONE_THREAD, HALF_DIVERGING = "fastbp, 1 thread", "fastbp, half diverging"
SCHEMA = 1  # raise it when a key changes its meaning or goes away; new keys need no new number


@dataclass(frozen=True)
class Setting:
    """How a rival is run: a thread count (None: whatever its library does by itself) and a variant, if it has any."""

    threads: int | None = None
    variant: str = ""

    @property
    def label(self) -> str:
        threads = "own threads" if self.threads is None else f"{self.threads} thread{'s' * (self.threads != 1)}"
        return f"{threads}, {self.variant}" if self.variant else threads


@dataclass(frozen=True)
class Block:
    """One timed block."""

    seconds: float  # wall clock
    steps: int  # optimiser steps done in it
    line_before: float | None = None  # nanoseconds of a cache line from core to core, before its warm-up
    line_after: float | None = None  # and after its end; None where there is one core, and in documents up to 0.1

    @property
    def seconds_per_step(self) -> float:
        return self.seconds / self.steps

    @property
    def lines(self) -> tuple[float, ...]:
        """What was measured of the cores."""
        return tuple(one for one in (self.line_before, self.line_after) if one is not None)

    @property
    def cores(self) -> str:
        """near, far, between, or mixed; "" where it is not known."""
        return state(self.lines)


@dataclass(frozen=True)
class Trial:
    """One setting of a rival, tried briefly."""

    setting: Setting
    seconds_per_step: float


@dataclass(frozen=True)
class Verification:
    """The comparison of a rival's epoch losses with those of the float64 NumPy reference."""

    passed: bool
    tolerance: float  # largest relative difference allowed
    difference: float | None  # largest relative difference found; None if a loss was not finite, which JSON cannot say
    setting: Setting  # the worst one
    losses: tuple[float | None, ...]  # (epochs,) of that setting
    expected: tuple[float, ...]  # (epochs,)


@dataclass(frozen=True)
class RivalResult:
    """One rival on one workload."""

    rival: str
    setting: Setting | None  # the one that was timed; None when verification failed
    verification: Verification | None  # None for bare matrix products, which have no losses
    trials: tuple[Trial, ...] = ()
    blocks: tuple[Block, ...] = ()
    precision: str = "float32"  # of the operands of products, in float32 networks

    @property
    def seconds_per_step(self) -> float:
        """Median over the blocks."""
        return median(block.seconds_per_step for block in self.blocks)

    @property
    def fastest(self) -> float:
        """Seconds a step of the fastest block."""
        return min(block.seconds_per_step for block in self.blocks)

    @property
    def slowest(self) -> float:
        """Seconds a step of the slowest block."""
        return max(block.seconds_per_step for block in self.blocks)

    def within(self, cores: str) -> RivalResult:
        """Of its blocks those in this state of the cores."""
        return replace(self, blocks=tuple(block for block in self.blocks if block.cores == cores))


@dataclass(frozen=True)
class WorkloadResult:
    """Every rival on one workload."""

    workload: Workload
    rivals: tuple[RivalResult, ...]
    bare_products: RivalResult | None = None  # only where the NumPy baseline is checked
    baseline_parts: dict[str, float] | None = None  # there too: seconds a step by part
    others: float | None = None  # processors' worth that everybody else took meanwhile; None where nobody tells

    def find(self, rival: str) -> RivalResult | None:
        """The timed result of this rival, or None."""
        return next((result for result in self.rivals if result.rival == rival and result.blocks), None)

    def ratio(self, result: RivalResult) -> float | None:
        """Its time a step over that of fastbp."""
        ours = self.find("fastbp")
        return result.seconds_per_step / ours.seconds_per_step if ours and result.blocks else None

    @property
    def states(self) -> dict[str, tuple[Block, ...]]:
        """State of the cores -> the blocks of all rivals in it; a state that is not known is none."""
        blocks = [block for rival in self.rivals for block in rival.blocks if block.cores]
        order = [word for word in ("near", "between", "far", "mixed") if any(block.cores == word for block in blocks)]
        return {word: tuple(block for block in blocks if block.cores == word) for word in order}

    @property
    def baseline_rest(self) -> dict[str, float] | None:
        """Seconds a step of NumPy beyond its bare products: in both passes, and in its other parts."""
        if not self.baseline_parts or not self.bare_products:
            return None
        rest = dict(self.baseline_parts)
        return {"passes": rest.pop("forward") + rest.pop("backward") - self.bare_products.seconds_per_step} | rest

    @property
    def baseline_ratio(self) -> float | None:
        """NumPy's time a step over that of its bare matrix products."""
        numpy = self.find("numpy")
        return numpy.seconds_per_step / self.bare_products.seconds_per_step if numpy and self.bare_products else None

    @property
    def seconds_per_sweep(self) -> float | None:
        """Of fastbp."""
        ours = self.find("fastbp")
        return ours.seconds_per_step * self.workload.steps_per_epoch if ours else None

    @property
    def thread_efficiency(self) -> float | None:
        """Of a sweep's threads: time on one over time on all, by their number."""
        ours, alone = self.find("fastbp"), self.find(ONE_THREAD)
        if ours is None or alone is None or ours.setting is None or (ours.setting.threads or 1) == 1:
            return None
        return alone.seconds_per_step / ours.seconds_per_step / (ours.setting.threads or 1)

    @property
    def half_diverging_ratio(self) -> float | None:
        """Time of a sweep of whose rates half diverge over that of one without."""
        half = self.find(HALF_DIVERGING)
        return None if half is None else self.ratio(half)


@dataclass(frozen=True)
class Peak:
    """The measured FMA rate of this machine, the best probe of the run."""

    dtype: str
    threads: int
    gflops: float


@dataclass(frozen=True)
class Start:
    """One fresh process: imports, then the first fit on the shape of digits."""

    numba_seconds: float  # import numba, numpy
    import_seconds: float  # import fastbp after that
    fit_seconds: float  # first fit, one epoch


@dataclass(frozen=True)
class StartUp:
    """The three start-up figures that must not be mixed with steady state."""

    cold: Start  # empty machine-code cache
    cached: Start  # median over the processes that followed, on the folder the cold one filled


@dataclass(frozen=True)
class BenchResult:
    """One run of the benchmark."""

    date: str  # ISO 8601, UTC
    machine: dict[str, Any]
    versions: dict[str, str]
    threads: int
    settings: dict[str, Any]  # the timing protocol
    peaks: tuple[Peak, ...]
    workloads: tuple[WorkloadResult, ...]
    startup: StartUp | None = None
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()  # what made figures untrue

    @property
    def passed(self) -> bool:
        """True when every rival reached the losses of the reference."""
        results = (result for workload in self.workloads for result in workload.rivals)
        return all(result.verification is None or result.verification.passed for result in results)

    def peak(self, dtype: str) -> float | None:
        """GFLOP/s of all the threads of the run."""
        return next((peak.gflops for peak in self.peaks if (peak.dtype, peak.threads) == (dtype, self.threads)), None)

    def to_document(self) -> dict[str, Any]:
        """The JSON document: the measurements, and beside each rival its derived `figures`, for other programs."""
        document: dict[str, Any] = {"kind": "fastbp-bench", "schema": SCHEMA, "passed": self.passed} | asdict(self)
        for entry, workload in zip(document["workloads"], self.workloads, strict=True):
            entry["workload"]["steps_per_epoch"] = workload.workload.steps_per_epoch
            entry["workload"]["flops_per_step"] = workload.workload.flops_per_step
            entry["baseline_ratio"] = workload.baseline_ratio
            if workload.workload.task == "sweep":
                names = ("seconds_per_sweep", "thread_efficiency", "half_diverging_ratio")
                entry |= {name: getattr(workload, name) for name in names}
            for rival_entry, result in zip(entry["rivals"], workload.rivals, strict=True):
                rival_entry["figures"] = figures(self, workload, result)
        return document


def figures(bench: BenchResult, workload: WorkloadResult, result: RivalResult) -> dict[str, float | None] | None:
    """The derived figures of one rival on one workload; None when it was not timed."""
    if not result.blocks:
        return None
    seconds = result.seconds_per_step
    gflops = workload.workload.flops_per_step / seconds * 1e-9
    peak = bench.peak(workload.workload.dtype if result.precision == "float32" else result.precision)
    return {
        "microseconds_per_step": seconds * 1e6,
        "fastest_microseconds": result.fastest * 1e6,
        "slowest_microseconds": result.slowest * 1e6,
        "samples_per_second": workload.workload.batch_size / seconds,
        "gflops": gflops,
        "percent_of_peak": 100.0 * gflops / peak if peak else None,
        "ratio_to_fastbp": workload.ratio(result),
    }


def from_document(document: dict[str, Any]) -> BenchResult:
    """The inverse of `BenchResult.to_document`; derived entries are dropped and unknown keys ignored.

    Raises
    ------
    ValueError
        Not a benchmark document, or one of another schema.
    """
    if document.get("kind") == "fastbp-sweep-bench":
        document = _from_sweeps(document)
    if document.get("kind") != "fastbp-bench" or document.get("schema") != SCHEMA:
        found = f"kind {document.get('kind')!r}, schema {document.get('schema')!r}"
        raise ValueError(f"document must be of kind 'fastbp-bench', schema {SCHEMA}; got {found}")
    startup = document["startup"]
    return BenchResult(
        date=document["date"],
        machine=document["machine"],
        versions=document["versions"],
        threads=document["threads"],
        settings=document["settings"],
        peaks=tuple(_build(Peak, entry) for entry in document["peaks"]),
        workloads=tuple(_workload(entry) for entry in document["workloads"]),
        startup=startup and StartUp(_build(Start, startup["cold"]), _build(Start, startup["cached"])),
        notes=tuple(document["notes"]),
        warnings=tuple(document.get("warnings", ())),
    )


def _build(kind: type[Any], entry: dict[str, Any]) -> Any:
    return kind(**{name: entry[name] for name in kind.__dataclass_fields__ if name in entry})


def _workload(entry: dict[str, Any]) -> WorkloadResult:
    workload = _build(Workload, entry["workload"] | {"sizes": tuple(entry["workload"]["sizes"])})
    bare = entry["bare_products"]
    rivals = tuple(_rival(item) for item in entry["rivals"])
    return WorkloadResult(workload, rivals, bare and _rival(bare), entry.get("baseline_parts"), entry.get("others"))


def _from_sweeps(document: dict[str, Any]) -> dict[str, Any]:
    """A document of sweeps, which up to version 0.1 had a form of their own, in the form of all others."""

    def rival(workload: Workload, entry: dict[str, Any]) -> dict[str, Any]:
        setting = entry["setting"] or {}
        verification = {name: entry[name] for name in ("passed", "difference")}
        verification |= {"tolerance": math.nan, "setting": setting, "losses": (), "expected": ()}
        steps = workload.steps_per_epoch
        blocks = [{"seconds": seconds, "steps": steps} for seconds in entry["blocks"]]
        return {
            **entry,
            "setting": setting if blocks else None,
            "verification": verification,
            "trials": (),
            "blocks": blocks,
        }

    workloads = []
    for sweep in document["sweeps"]:
        described = sweep["workload"] | {"task": "sweep"}
        workload = _build(Workload, described | {"sizes": tuple(described["sizes"])})
        rivals = [rival(workload, entry) for entry in sweep["rivals"]]
        workloads.append({"workload": described, "rivals": rivals, "bare_products": None})
    return document | {"kind": "fastbp-bench", "peaks": (), "startup": None, "workloads": workloads}


def _rival(entry: dict[str, Any]) -> RivalResult:
    verification = entry["verification"]
    if verification:
        expected, losses = tuple(verification["expected"]), tuple(verification["losses"])
        setting = _build(Setting, verification["setting"])
        verification = _build(Verification, verification | {"expected": expected, "losses": losses, "setting": setting})
    return RivalResult(
        rival=entry["rival"],
        setting=entry["setting"] and _build(Setting, entry["setting"]),
        verification=verification,
        trials=tuple(Trial(_build(Setting, item["setting"]), item["seconds_per_step"]) for item in entry["trials"]),
        blocks=tuple(_build(Block, item) for item in entry["blocks"]),
        precision=entry.get("precision", "float32"),
    )
