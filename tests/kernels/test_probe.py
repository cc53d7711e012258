"""The ping-pong of one cache line between two cores: it ends, whoever is missing."""

from __future__ import annotations

import math
import os
import threading

import numpy as np
import pytest

from fastbp.kernels import probe
from fastbp.kernels.build import entry

needs_affinity = pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="no affinity on this system")


def test_a_line_passes() -> None:
    taken = probe.line_nanoseconds(1e-4)
    several = hasattr(os, "sched_getaffinity") and len(os.sched_getaffinity(0)) > 1
    assert 0.0 < taken < math.inf if several else math.isnan(taken) or taken > 0.0


@needs_affinity
def test_both_threads_on_one_cpu_yield_to_each_other() -> None:
    cpu = min(os.sched_getaffinity(0))
    assert probe.line_nanoseconds(1e-4, (cpu, cpu)) > 0.0


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


@pytest.mark.parametrize("number", [0, 1])
def test_a_thread_alone_gives_up(number: int) -> None:
    memory = np.zeros(probe.PING_WORDS + 16, np.int64)
    entry(probe.ping_probe, "float32")(memory.ctypes.data, number, 10**6, np.float32(0))
    assert not memory[64:].any()
    assert memory[32 * number] == -1  # so that the other, should it come late, leaves too
