"""The team of threads: whose turn it is, what it does with errors, and how many threads a machine grants."""

from __future__ import annotations

import os
import sys
import threading
from typing import Any

import numpy as np
import pytest
from processes import succeed

from fastbp import MLP, SGD
from fastbp.engine import team
from fastbp.engine.chooser import Chooser


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


def test_more_threads_than_rows_and_weights() -> None:
    X, y = np.ones((2, 1), np.float32), np.ones((2, 1), np.float32)
    one, many = (MLP([1, 1], loss="mse", seed=0) for _ in range(2))
    assert one.fit(X, y, threads=1, optimizer=SGD(lr=0.1)).loss == many.fit(X, y, threads=9, optimizer=SGD(lr=0.1)).loss


# --- the number of threads


def simulate(chooser: Chooser, speeds: Any, seconds: float) -> tuple[float, dict[int, float]]:
    """Steps a second that a choice reaches, and the time spent on each number; speeds(time) -> {threads: s a step}."""
    now, steps, spent = 0.0, 0, dict.fromkeys(chooser.candidates, 0.0)
    while now < seconds:
        threads, length = chooser.next(0.05)
        each = speeds(now)[threads]
        known = chooser.seconds.get(threads, each)
        made = max(1, int(length / known))
        chooser.note(threads, made, made * each)
        now, steps = now + made * each, steps + made
        spent[threads] += made * each
    return steps / now, spent


@pytest.mark.parametrize(
    ("one", "two", "expected"),
    [
        *[(one, two, n) for one, two in [(1e-5, 5e-5), (1e-5, 1.1e-5), (1e-4, 6e-5), (1e-6, 3e-6)] for n in (1, 2)],
        (0.075, 0.04, 2),  # steps so long are never expected to run on one thread, and a trial takes a whole one
    ],
)
def test_the_choice_is_nearly_as_fast_as_the_better_number(one: float, two: float, expected: int) -> None:
    chooser = Chooser(None, expected, 2)
    speed, _ = simulate(chooser, lambda now: {1: one, 2: two}, 20.0)
    assert speed > 0.95 / min(one, two)


def test_the_choice_follows_a_neighbour_that_comes_and_goes() -> None:
    def speeds(now: float) -> dict[int, float]:
        return {1: 1e-3, 2: 4e-3 if 10 < now < 20 else 6e-4}

    chooser = Chooser(None, 2, 2)
    simulate(chooser, speeds, 10.0)
    busy, _ = simulate(chooser, lambda now: speeds(now + 10), 9.9)
    assert busy > 0.9 / 1e-3
    free, _ = simulate(chooser, lambda now: speeds(now + 20), 10.0)
    assert free > 0.8 / 6e-4


def test_the_choice_survives_bad_moments() -> None:
    """On a shared host, where either number of threads is slow for some hundredths of a second now and then."""
    rng = np.random.default_rng(0)
    slow = {n: 1 + (rng.random(2000) < 0.2) * rng.random(2000) for n in (1, 2)}  # by number, every 20 ms

    def speeds(now: float) -> dict[int, float]:
        moment = int(now / 0.02) % 2000
        return {1: 1e-4 * slow[1][moment], 2: 6.5e-5 * slow[2][moment]}

    speed, spent = simulate(Chooser(None, 2, 2), speeds, 30.0)
    assert spent[2] > 0.9 * 30
    assert speed > 0.9 / 6.5e-5 / 1.1  # 1.1: the mean of `slow`


def test_a_second_thread_must_gain_enough() -> None:
    _, spent = simulate(Chooser(None, 1, 2), lambda now: {1: 1e-5, 2: 0.9e-5}, 10.0)
    assert spent[1] > 0.95 * 10
    _, spent = simulate(Chooser(None, 1, 2), lambda now: {1: 1e-5, 2: 0.8e-5}, 10.0)
    assert spent[2] > 0.9 * 10


def test_a_lucky_trial_is_taken_back() -> None:
    chooser = Chooser(None, 1, 2)
    chooser.note(1, 100, 0.3)
    for seconds in (0.009, 0.001):  # the first half of a trial, whose caches are cold, does not count
        assert chooser.next(0.05)[0] == 2
        chooser.note(2, 1, seconds)
    assert chooser.next(0.05) == (2, 0.05)
    chooser.note(2, 10, 0.04)
    assert chooser.next(0.05) == (1, 0.05)


def test_a_number_that_was_asked_for_is_kept() -> None:
    for wanted in (1, 2, 5):
        chooser = Chooser(wanted, wanted, wanted)
        _, spent = simulate(chooser, lambda now: {1: 1e-3, 2: 9e-3, 5: 9e-3}, 3.0)
        assert spent.keys() == {wanted}
        assert chooser.next(0.05) == (wanted, 0.05)
