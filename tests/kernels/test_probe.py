"""The ping-pong of one cache line between two cores: it ends, whoever is missing."""

from __future__ import annotations

import gc
import math
import os
import threading
import weakref
from typing import Any

import numpy as np
import pytest

from fastbp.kernels import probe
from fastbp.kernels.build import entry

needs_affinity = pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="no affinity on this system")


def test_a_line_passes() -> None:
    tries = (probe.line_nanoseconds(1e-4) for _ in range(100))  # where others hold the CPUs it gives up
    taken = next((taken for taken in tries if taken > 0.0), math.nan)
    several = hasattr(os, "sched_getaffinity") and len(os.sched_getaffinity(0)) > 1
    assert 0.0 < taken < math.inf if several else math.isnan(taken) or taken > 0.0


@needs_affinity
def test_both_threads_on_one_cpu_yield_to_each_other() -> None:
    """Or give up, where others hold the CPU for long: both come back, and nothing else than a time is told."""
    cpu = min(os.sched_getaffinity(0))
    taken = probe.line_nanoseconds(1e-4, (cpu, cpu))
    assert taken > 0.0 or math.isnan(taken)
    assert not [thread for thread in threading.enumerate() if thread.name == "fastbp probe"]


def test_an_interrupted_wait_leaves_the_threads_their_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[weakref.ref[Any]] = []
    zeros, go_on, alive = np.zeros, threading.Event(), []

    def noted(*arguments: Any) -> Any:
        found = zeros(*arguments)
        made.append(weakref.ref(found))
        return found

    def kernel(*_: Any) -> None:
        go_on.wait(60)
        alive.append(made[0]() is not None)

    def interrupted(thread: threading.Thread) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(probe, "entry", lambda *_: kernel)
    monkeypatch.setattr(np, "zeros", noted)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "join", interrupted)
        try:  # an exception that is kept would keep the memory
            probe.line_nanoseconds(1e-4, (0, 0))
            pytest.fail("no interrupt")
        except KeyboardInterrupt:
            pass
    gc.collect()
    team = [thread for thread in threading.enumerate() if thread.name == "fastbp probe"]
    go_on.set()
    for thread in team:
        thread.join()
    assert alive == [True, True]


@needs_affinity
def test_no_second_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3})
    assert math.isnan(probe.line_nanoseconds())


@pytest.mark.parametrize("granted", [0, 1])
def test_no_second_thread(granted: int, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[object] = []
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if thread.name == "fastbp probe":
            if len(started) == granted:
                raise RuntimeError("can't start new thread")
            started.append(thread)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert math.isnan(probe.line_nanoseconds(1e-4, (0, 0)))
    assert len(started) == granted


def test_a_peak_of_more_threads_than_are_granted(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error is told, and nobody is left waiting."""
    probe.fma_peak(seconds=0.0)  # compiles
    start, started = threading.Thread.start, list[threading.Thread]()

    def refuse(thread: threading.Thread) -> None:
        if started:
            raise RuntimeError("can't start new thread")
        started.append(thread)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(RuntimeError, match="can't start new thread"):
        probe.fma_peak(threads=2, seconds=0.0)
    started[0].join(60)
    assert not started[0].is_alive()


@pytest.mark.parametrize("number", [0, 1])
def test_a_thread_alone_gives_up(number: int) -> None:
    memory = np.zeros(probe.PING_WORDS + 16, np.int64)
    entry(probe.ping_probe, "float32")(memory.ctypes.data, number, 10**6, np.float32(0))
    assert not memory[64:].any()
    assert memory[32 * number] == -1  # so that the other, should it come late, leaves too
