"""The clock of the profile: what it counts, and that no CPU is asked for what it would kill a program for."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import llvmlite.binding as llvm
import numpy as np
import pytest
from numba import njit
from processes import succeed

from fastbp import MLP, SGD, optimizers
from fastbp.bench import profile
from fastbp.bench.workloads import WORKLOADS
from fastbp.engine.memory import address
from fastbp.engine.placement import Placement
from fastbp.kernels import clock, probe
from fastbp.kernels.build import entry
from fastbp.kernels.records import JOB, RUNNING
from fastbp.training.feeds import ArrayFeed
from fastbp.training.loop import Loop
from fastbp.training.settings import FitSettings

TINY = WORKLOADS["tiny"]
# Compiles every kernel for another machine than this, from which only the name is changed, and prints what may not be.
CROSS_COMPILE = """
import platform
import llvmlite.binding as llvm
from numba.core.caching import NullCache
from numba.core.codegen import CPUCodeLibrary
from numba.core.compiler_lock import global_compiler_lock
from numba.core.cpu import CPUContext

platform.machine = lambda: "aarch64"
from fastbp.kernels import jit, probe as probes, sweep, targets

assert targets.TARGET.name == "neon"

def link_only(library):
    for other in dict.fromkeys(library._linking_libraries):
        library._final_module.link_in(other._get_module_for_linking(), preserve=True)
    library._finalized = True

CPUCodeLibrary.finalize, CPUContext.get_executable = link_only, lambda *unused: [].append
llvm.initialize_all_targets()
llvm.initialize_all_asmprinters()
triple = "aarch64-unknown-linux-gnu"
machine = llvm.Target.from_triple(triple).create_target_machine(features="+neon")

def assembly(text):
    kept = [line for line in text.splitlines() if not line.startswith(("target triple", "target datalayout"))]
    module = llvm.parse_assembly("\\n".join([f'target triple = "{triple}"', *kept]))
    module.verify()
    return machine.emit_assembly(module)

COUNTERS = ("pmccntr_el0", "cntvct_el0")  # of which some systems let no program read the first

def counters(code):
    return [name for name in COUNTERS if name in code.lower()]

probe = assembly("declare i64 @llvm.readcyclecounter()\\n"
                 "define i64 @f() {\\n %x = call i64 @llvm.readcyclecounter()\\n ret i64 %x\\n}")
assert counters(probe), probe
asked, clocked, waiting = [], [], []
for leaf in jit.LEAVES:
    leaf.dispatcher._cache = NullCache()
    signature = leaf.signature("bfloat16_twin" if leaf.only_pairs else "float32")
    with global_compiler_lock:
        leaf.dispatcher.compile(signature)
        library = leaf.dispatcher.overloads[signature].library
        library.finalize()
    text = str(library._final_module)
    code = assembly(text)
    if counters(code) or "llvm.x86" in text or "readcyclecounter" in text:
        asked.append(leaf.name)
    if "clock_gettime" in code:
        clocked.append(leaf.name)
    if "\\tyield" in code:
        waiting.append(leaf.name)
assert not asked, asked
print(*clocked)
print(*waiting)
"""


def test_off_x86_no_kernel_reads_a_counter_of_the_cpu() -> None:
    llvm.initialize_all_targets()
    try:
        llvm.Target.from_triple("aarch64-unknown-linux-gnu")
    except RuntimeError:
        pytest.skip("this build of LLVM makes no code for aarch64")
    found = succeed(CROSS_COMPILE, NUMBA_CPU_NAME="generic", NUMBA_CPU_FEATURES="+neon").splitlines()
    assert {"tick_probe", "pass_rows", "pass_blocks", "run", "sweep"} <= set(found[0].split())
    assert "run" in found[1].split()  # which waits for other threads


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("skip", [0, 7, 39])
def test_the_first_steps_are_not_counted(threads: int, skip: int) -> None:
    net = MLP([6, 8, 3], seed=0)
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((80, 6)), rng.integers(0, 3, 80)
    feed = ArrayFeed(net.session.check_batch(X, y), 1, 8, shuffle=True)
    fit = Loop(net, feed, FitSettings(SGD(), batch_size=8, threads=threads))
    with net.session.engine.clock(threads, skip) as counts:
        counts[:] = 1 << 60  # what was counted until then
        before = probe.read_ticks()
        assert fit.chunk(0, 40, Placement(threads), long=False) == (RUNNING, 40)
        after = probe.read_ticks()
    begin, end = counts[:, int(clock.BEGIN)], counts[:, int(clock.END)]
    assert (before < begin).all()
    assert (begin < end).all()
    assert (end < after).all()
    parts = counts[:, int(clock.GATHER) :]
    assert (parts >= 0).all()
    assert (parts.sum(axis=1) <= end - begin).all()
    assert parts.sum() > 0
    quiet = fit.chunk(0, 40, Placement(threads), long=False)
    assert quiet == (RUNNING, 40)
    np.testing.assert_array_equal(counts[:, int(clock.END)], end)


@njit
def met(jobs: Any, counted: Any, odd: Any, since: Any) -> None:
    clock.met(jobs[0], counted, odd, since)


@njit
def arrive(counted: Any, odd: Any) -> Any:
    return clock.arrive(counted, odd)


@pytest.mark.parametrize("odd", [0, 1])
def test_waiting_for_the_last_thread_is_no_part_of_the_barrier(odd: int) -> None:
    """Three threads come at 100, 700 and 400 ticks; what they noted of the barrier before is no matter."""
    room = int(clock.LAYERS) + 1
    counts = np.zeros((3, room), np.int64)
    job = np.zeros(1, JOB)
    job["profile"], job["profile_size"], job["n_threads"] = address(counts), room * 8, 3
    arrivals = [100, 700, 400]
    for record, since in zip(counts, arrivals, strict=True):
        record[int(clock.ARRIVED) + odd], record[int(clock.ARRIVED) + 1 - odd] = since, 1 << 50
    for record, since in zip(counts, arrivals, strict=True):
        met(job, np.uint64(address(record)), np.int64(odd), np.int64(since))
        assert record[int(clock.WAITING)] == 700 - since
        assert record[int(clock.BARRIER)] == record[int(clock.END)] - 700 > 0
    counts[0, int(clock.ARRIVED) + odd] = 1 << 60  # a clock that is ahead of this one: nobody comes after the barrier
    met(job, np.uint64(address(counts[1])), np.int64(odd), np.int64(700))
    assert counts[1, int(clock.WAITING)] == counts[1, int(clock.END)] - 700
    met(job, np.uint64(0), np.int64(odd), np.int64(0))  # nothing is counted: nothing to write to


def test_a_thread_notes_its_arrival_where_the_barrier_before_is_not_noted() -> None:
    record = np.zeros(int(clock.LAYERS), np.int64)
    for odd in (0, 1):
        since = arrive(np.uint64(address(record)), np.int64(odd))
        assert record[int(clock.ARRIVED) + odd] == since > 0
    assert record[int(clock.ARRIVED)] < record[int(clock.ARRIVED) + 1]
    assert arrive(np.uint64(0), np.int64(0)) == 0


def test_medians_are_over_chunks_in_one_state_and_cold_ones_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = iter([45.0, 130.0, 130.0, 45.0, 45.0, 50.0, 45.0, 45.0, 45.0, 45.0, 45.0, 45.0])
    kept: list[list[profile.Chunk]] = []
    chunks, in_one_state = profile._chunks, profile._in_one_state
    made: list[profile.Chunk] = []

    def keep(found: list[profile.Chunk]) -> list[profile.Chunk]:
        kept.append(found)
        return in_one_state(found)

    def make(*arguments: Any) -> list[profile.Chunk]:
        made.extend(chunks(*arguments))
        made[0] = replace(made[0], seconds=made[0].seconds + 1e9)  # a cold chunk
        return made

    monkeypatch.setattr(profile, "SECONDS", 0.001)
    monkeypatch.setattr(profile, "WARM_UP", 0.001)
    monkeypatch.setattr(profile.cores, "look", lambda: next(lines))
    monkeypatch.setattr(profile, "_chunks", make)
    monkeypatch.setattr(profile, "_in_one_state", keep)
    found = profile.profile(TINY, 1, 100.0, dict.fromkeys(profile.LEVELS, 1e9))
    assert kept == [made[1:]]
    assert (found.chunks, found.cores, found.line_nanoseconds) == (profile.CHUNKS - 3, "near", 45.0)
    assert found.seconds < 1.0
    near = [one.seconds[0, int(clock.UPDATE) + int(clock.LAYERS)] for one in made[3:]]
    assert next(part.seconds for part in found.parts if part.phase == "update") == np.median(near)
    assert found.waiting == (0.0,)


@pytest.mark.parametrize("name", optimizers.NAMES)
def test_the_profile_knows_every_optimiser(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profile, "SECONDS", 0.001)
    monkeypatch.setattr(profile, "WARM_UP", 0.001)
    bandwidths = dict.fromkeys(profile.LEVELS, 1e9)
    workload = replace(TINY, optimizer=name, lr=1e-3)
    if name == "lbfgs":
        with pytest.raises(ValueError, match="makes no single steps"):
            profile.profile(workload, 1, 100.0, bandwidths)
        return
    found = profile.profile(workload, 1, 100.0, bandwidths)
    assert found.seconds > 0
    moved = [part.bytes for part in found.parts if part.phase == "update"]
    plain = profile.profile(replace(workload, optimizer="sgd"), 1, 100.0, bandwidths)
    without = [part.bytes for part in plain.parts if part.phase == "update"]
    weights = [4 * 16, 16 * 3]
    n_moments = optimizers.get(name).n_moments
    assert moved == [base + 4 * 2 * n_moments * n for base, n in zip(without, weights, strict=True)]
    assert sum(part.seconds for part in found.parts) == pytest.approx(found.seconds)


def test_a_profile_of_a_training_that_diverges() -> None:
    with pytest.raises(ValueError, match="ended early"):
        profile.profile(replace(TINY, loss="mse", lr=1e9), 1, 100.0, dict.fromkeys(profile.LEVELS, 1e9))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_numbers_of_the_fma_probe_stay_near_one(dtype: str) -> None:
    """Denormal ones made it a hundred times too slow on some CPUs, and the machine's limit with it."""
    result = np.zeros(1, dtype)
    entry(probe.fma_probe, dtype)(result.ctypes.data, 100_000, result.dtype.type(1))
    assert result[0] == pytest.approx(probe.CHAINS, rel=1e-3)
