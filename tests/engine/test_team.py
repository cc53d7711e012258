"""The team of threads: whose turn it is, what it does with errors, and how many threads a machine grants."""

from __future__ import annotations

import os
import sys
import threading

import numpy as np
import pytest
from processes import succeed

from fastbp import MLP, SGD
from fastbp.engine import team


def test_an_error_of_a_worker_reaches_the_caller() -> None:
    def work(number: int) -> None:
        if number == 2:
            raise RuntimeError("from thread 2")

    for _ in range(3):
        with pytest.raises(RuntimeError, match="from thread 2"):
            team.run(work, 4)
    seen: list[int] = []
    team.run(seen.append, 4)
    assert sorted(seen) == [0, 1, 2, 3]


def test_detached_work_leaves_the_calling_thread_free() -> None:
    names: list[str] = []
    team.run(lambda number: names.append(threading.current_thread().name), 2, detached=True)
    assert names == ["fastbp", "fastbp"]


# --- placement


@pytest.mark.skipif(sys.platform != "linux", reason="sets the affinity")
def test_affinity_limits_a_fit() -> None:
    code = """
import os, fastbp, numpy as np
from fastbp.engine import team
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
assert team.default_threads() == 1
net = fastbp.MLP([300, 300, 3], seed=0)
net.fit(np.zeros((600, 300)), np.zeros(600, int), epochs=1, batch_size=300)
assert net.session.engine.job[0]["n_threads"] == 1 and not team._idle
assert len(os.sched_getaffinity(0)) == 1
"""
    succeed(code, FASTBP_NUM_THREADS="")


def test_placement_gives_the_affinity_back() -> None:
    if not hasattr(os, "sched_getaffinity"):
        pytest.skip("no affinity on this system")
    masks: list[set[int]] = []
    team.run(lambda _: masks.append(os.sched_getaffinity(0)), 3)
    assert masks == [os.sched_getaffinity(0)] * 3


def test_detached_work_does_not_stay_where_earlier_work_was() -> None:
    if not hasattr(os, "sched_getaffinity"):
        pytest.skip("no affinity on this system")
    masks: list[set[int]] = []
    here, found = os.sched_getaffinity(0), threading.Event()
    try:
        os.sched_setaffinity(0, {min(here)})
        team.run(lambda _: found.wait(0.01), 3)
    finally:
        os.sched_setaffinity(0, here)
    team.run(lambda _: masks.append(os.sched_getaffinity(0)), 2, detached=True)
    assert masks == [here] * 2


def test_threads_of_a_part_stay_on_their_die(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine that is made up: two dies of two CPUs each, the caller on CPU 1."""
    given: dict[int, list[set[int]]] = {}
    dies = {0, 1}, {2, 3}
    monkeypatch.setattr(team, "_getcpu", lambda: 1)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3}, raising=False)

    def set_affinity(thread: int, cpus: set[int]) -> None:
        given.setdefault(thread or threading.get_native_id(), []).append(set(cpus))

    monkeypatch.setattr(os, "sched_setaffinity", set_affinity, raising=False)
    numbers: dict[int, int] = {}

    def work(number: int) -> None:
        numbers[number] = threading.get_native_id()

    team.run(work, 4, places=[dies[0], dies[0], dies[1], dies[1]])
    assert numbers[0] == threading.get_native_id()
    assert numbers[0] not in given  # the caller stays where it is
    assert given[numbers[1]] == [{0}, {0, 1}]  # off the caller's CPU at first
    assert given[numbers[2]] == given[numbers[3]] == [{2, 3}, {2, 3}]
    given.clear()
    team.run(work, 2, places=[{0}, {7}])  # not allowed any more: anywhere
    assert given[numbers[1]] == [{0, 2, 3}, {0, 1, 2, 3}]


def test_more_threads_than_rows_and_weights() -> None:
    X, y = np.ones((2, 1), np.float32), np.ones((2, 1), np.float32)
    one, many = (MLP([1, 1], loss="mse", seed=0) for _ in range(2))
    assert one.fit(X, y, threads=1, optimizer=SGD(lr=0.1)).loss == many.fit(X, y, threads=9, optimizer=SGD(lr=0.1)).loss
