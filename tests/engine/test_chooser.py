"""The choice of placements, on machines that are made up: what it loses against the best, in simulated time."""

from __future__ import annotations

import math

import numpy as np
import pytest
from simulated import COLUMNS, ONE, ROWS, Machine, Speeds, always, best_fixed, fixed

from fastbp.engine import tuning
from fastbp.engine.chooser import Chooser
from fastbp.engine.placement import Placement

THREE = [ONE, ROWS, COLUMNS]
# Seconds a step by one thread, by rows and by columns: with cores that are near, and that are far.
NETS = {
    "digits": ((4.1e-6, 3.0e-6, 3.0e-6), (4.1e-6, 9.1e-6, 7.5e-6)),
    "digits-deep": ((25e-6, 15.7e-6, 16.4e-6), (25e-6, 40.6e-6, 38.8e-6)),
    "sigmoid": ((284e-6, 154.5e-6, 160.5e-6), (284e-6, 254e-6, 258e-6)),
    "mnist": ((228e-6, 126e-6, 125.5e-6), (228e-6, 210e-6, 159e-6)),
    "mnist-deep": ((560e-6, 300e-6, 299e-6), (560e-6, 476e-6, 381e-6)),
}
STEADY = [
    (1e-5, 5e-5, 5e-5),
    (1e-5, 1.1e-5, 1.05e-5),
    (1e-5, 0.9e-5, 0.95e-5),
    (1e-6, 3e-6, 3e-6),
    *(times for near_and_far in NETS.values() for times in near_and_far),
]


def speeds(times: tuple[float, float, float]) -> Speeds:
    return always(ONE=times[0], ROWS=times[1], COLUMNS=times[2])


@pytest.mark.parametrize("noise", [0.0, 0.1])
@pytest.mark.parametrize("expected", [(1.0, 1.3, 1.6), (1.6, 1.3, 1.0)])
@pytest.mark.parametrize("times", STEADY)
def test_a_long_fit_is_within_3_percent_of_the_best(
    times: tuple[float, float, float], expected: tuple[float, float, float], noise: float
) -> None:
    """Whatever the model has expected; and within 2 % of one thread."""
    machine = Machine(speeds(times), noise)
    speed = machine.train(Chooser(THREE, expected), 10.0)
    assert speed > 0.97 * best_fixed(speeds(times), THREE, 10.0, noise)
    assert speed > 0.98 * Machine(speeds(times), noise).train(fixed(ONE), 10.0)


@pytest.mark.parametrize("seconds", [0.05, 0.1, 0.2, 0.4, 0.8, 1.6])
@pytest.mark.parametrize("times", [NETS["digits"][1], (5.5e-6, 14e-6, 11e-6), (1e-5, 1.1e-5, 1.05e-5)])
def test_a_fit_of_any_length_is_within_2_percent_of_one_thread(
    times: tuple[float, float, float], seconds: float
) -> None:
    """Where one thread is fastest, as the model expects."""
    speed = Machine(speeds(times)).train(Chooser(THREE, times), seconds)
    assert speed > 0.98 * Machine(speeds(times)).train(fixed(ONE), seconds)


@pytest.mark.parametrize("expected", [(1.0, 1.3, 1.6), (1.6, 1.0, 1.3), (1.6, 1.3, 1.0)])
@pytest.mark.parametrize("times", STEADY)
def test_short_calls_find_the_best_in_a_third_of_a_second(
    times: tuple[float, float, float], expected: tuple[float, float, float]
) -> None:
    """200 calls of 1.5 ms: what one learns serves the next."""
    steps = max(1, round(1.5e-3 / min(times)))
    machine, chooser = Machine(speeds(times)), Chooser(THREE, expected)
    machine.train(chooser, 0.3, steps)
    assert machine.train(chooser, 0.6, steps) > 0.95 * best_fixed(speeds(times), THREE, 0.3, call_steps=steps)


@pytest.mark.parametrize("noise", [0.0, 0.1])
@pytest.mark.parametrize("steps", [1, 2, 4, 8])
def test_calls_of_few_large_steps_lose_next_to_nothing(steps: int, noise: float) -> None:
    """A trial takes whole steps of 22 ms there, and the caches of the other thread fill for 6 ms after it.

    That looked like a change of the machine, which called for more trials.
    """
    times = speeds((22e-3, 11.4e-3, 11.1e-3))
    machine = Machine(times, noise, cold=6e-3)
    speed = machine.train(Chooser(THREE, [2.0, 1.05, 1.0]), 10.0, steps)
    best = max(Machine(times, noise, cold=6e-3).train(fixed(one), 10.0, steps) for one in THREE)
    assert speed > 0.975 * best
    assert machine.spent.get(ONE, 0.0) < 0.02 * 10.0


def test_bad_moments_of_large_steps() -> None:
    """Two threads are three times slower for a tenth of every second; best is to know."""

    def times(now: float) -> dict[Placement, float]:
        slow = 3.0 if now % 1.0 > 0.9 else 1.0
        return {ONE: 22e-3, ROWS: 11.4e-3 * slow, COLUMNS: 11.1e-3 * slow}

    speed = Machine(times, 0.05, cold=6e-3).train(Chooser(THREE, [2.0, 1.05, 1.0]), 20.0, 4)
    assert speed > 0.95 * max(Machine(times, 0.05, cold=6e-3).train(fixed(one), 20.0, 4) for one in THREE)


# --- changes


@pytest.mark.parametrize("name", NETS)
def test_the_choice_follows_within_50_ms_when_cores_come_to_lie_far(name: str) -> None:
    near, far = (dict(zip(THREE, times, strict=True)) for times in NETS[name])
    taken = []
    for trial in range(20):
        change = 3.0 + 0.0137 * trial

        def times(now: float, change: float = change) -> dict[Placement, float]:
            return far if now > change else near

        machine, chooser = Machine(times, 0.03, seed=trial), Chooser(THREE, list(near.values()))
        machine.train(chooser, change - 1e-4)
        while far[chooser.best] > 1.02 * min(far.values()):
            machine.train(chooser, machine.now + 1e-9)
            assert machine.now < change + 1.0
        taken.append(machine.now - change)
    assert np.median(taken) < 0.05
    assert max(taken) < 0.07


@pytest.mark.parametrize(("period", "least"), [(1.0, 0.94), (5.0, 0.96), (30.0, 0.98)])
@pytest.mark.parametrize("name", NETS)
def test_states_that_come_and_go(name: str, period: float, least: float) -> None:
    """The share of what one would reach that knows at once what is best."""
    near, far = (dict(zip(THREE, times, strict=True)) for times in NETS[name])

    def times(now: float) -> dict[Placement, float]:
        return far if int(now / period) % 2 else near

    until = 8.0 * period
    speed = Machine(times, 0.05).train(Chooser(THREE, list(near.values())), until)
    oracle = Machine(lambda now: {ONE: min(times(now).values())}, 0.05).train(fixed(ONE), until)
    assert speed > least * oracle
    assert speed > 0.98 * Machine(times, 0.05).train(fixed(ONE), until)


def test_a_neighbour_that_comes_and_goes() -> None:
    def times(now: float) -> dict[Placement, float]:
        busy = 10.0 < now < 20.0
        return {ONE: 1e-3, ROWS: 4e-3 if busy else 6e-4, COLUMNS: 3.9e-3 if busy else 6.1e-4}

    machine, chooser = Machine(times), Chooser(THREE, [1e-3, 6e-4, 6.1e-4])
    assert machine.train(chooser, 10.0) > 0.97 / 6e-4
    assert machine.train(chooser, 20.0) > 0.97 / 1e-3
    assert machine.train(chooser, 30.0) > 0.9 / 6e-4


def test_bad_moments_on_a_shared_host() -> None:
    """Any placement is up to twice as slow for 20 ms now and then."""
    rng = np.random.default_rng(0)
    slow = {placement: 1 + (rng.random(2000) < 0.2) * rng.random(2000) for placement in THREE}

    def times(now: float) -> dict[Placement, float]:
        moment = int(now / 0.02) % 2000
        plain = {ONE: 1e-4, ROWS: 6.5e-5, COLUMNS: 6.6e-5}
        return {placement: each * slow[placement][moment] for placement, each in plain.items()}

    machine = Machine(times)
    speed = machine.train(Chooser(THREE, [1e-4, 6.5e-5, 6.6e-5]), 30.0)
    assert speed > 0.95 / 6.5e-5 / 1.1  # 1.1: the mean of `slow`
    assert machine.spent[ONE] < 0.05 * 30.0


# --- many cores


def scaling(cores: int, far: float = 0.0, serial: float = 0.02, barrier: float = 0.01) -> dict[Placement, float]:
    """Seconds a step for 1, 2, 4, ..., in which barriers cost more with every thread, by rows and by columns."""
    found = {}
    for k in range(cores.bit_length()):
        n = 1 << k
        each = serial + (1.0 - serial) / n + barrier * (n - 1) / 8.0
        found[Placement(n)] = 1e-3 * (each + far * (n > 1))
        if n > 1:
            found[Placement(n, 1, n)] = 1e-3 * (1.04 * each + 0.3 * far)
    return found


@pytest.mark.parametrize("expected", ["right", "all", "one", "reversed"])
@pytest.mark.parametrize("barrier", [0.0, 0.01, 0.1, 1.0])
@pytest.mark.parametrize("far", [0.0, 0.2])
@pytest.mark.parametrize("cores", [4, 16, 64])
def test_many_cores(cores: int, far: float, barrier: float, expected: str) -> None:
    """Within 3 % of the best of up to 13 candidates after a while, whatever the model has expected."""
    plain = scaling(cores, far, barrier=barrier)
    guess = {
        "right": plain.values(),
        "all": [1.0 / placement.threads for placement in plain],
        "one": [1.0 * placement.threads for placement in plain],
        "reversed": [1.0 / each for each in plain.values()],
    }[expected]
    machine, chooser = Machine(lambda _: plain, 0.03), Chooser(list(plain), list(guess))
    first = machine.train(chooser, 10.0)
    best = best_fixed(lambda _: plain, list(plain), 5.0, 0.03)
    if expected == "right":
        assert first > 0.97 * best
    assert machine.train(chooser, 15.0) > 0.96 * best


# --- single rules


def test_few_threads_and_a_fixed_number() -> None:
    for placement in (Placement(1), Placement(5), Placement(4, 2, 2)):
        chooser = Chooser([placement], [1.0])
        assert (chooser.best, chooser.most) == (placement, placement.threads)
        for _ in range(100):
            assert chooser.next(0.05) == (placement, 0.05)
            chooser.note(placement, 10, 0.05)
        assert chooser.seconds == {placement: 0.005}


def test_candidates_of_a_fixed_number_of_threads() -> None:
    """`fit(threads=2)` fixes the threads, not the placement."""
    machine = Machine(always(ROWS=2.1e-4, COLUMNS=1.59e-4))
    machine.train(Chooser([ROWS, COLUMNS], [1.0, 1.01]), 5.0)
    assert machine.spent[COLUMNS] > 0.95 * 5.0


def test_a_young_training_makes_no_trial() -> None:
    """Of 15 ms: it would be over before it has paid."""
    machine = Machine(speeds((2.28e-4, 1.27e-4, 1.25e-4)))
    machine.train(Chooser(THREE, [2.0, 1.0, 1.1]), 0.015)
    assert machine.spent.keys() == {ROWS}


def test_what_trials_lose_is_limited() -> None:
    """Others that are a hundred times slower take a small share of the time; but no trial is shorter than a step."""
    for scale, least in ((1e-6, 0.98), (1e-4, 0.98), (1e-3, 0.98), (1e-2, 0.94)):
        machine = Machine(speeds((scale, 100.0 * scale, 90.0 * scale)))
        machine.train(Chooser(THREE, [1.0, 2.0, 2.0]), 30.0)
        assert machine.spent[ONE] > least * 30.0


def test_a_lucky_trial_is_taken_back() -> None:
    """Two threads are fast for the time of one trial alone."""
    chooser = Chooser([ONE, ROWS], [1.0, 1.5])
    for _ in range(20):
        assert chooser.next(0.05)[0] == ONE
        chooser.note(ONE, 100, 0.004)
        if chooser.best == ONE and chooser.next(0.05)[0] == ROWS:
            break
    while chooser.best == ONE:
        assert chooser.next(0.05)[0] == ROWS
        chooser.note(ROWS, 100, 0.002)
    chooser.note(ROWS, 100, 0.008)
    assert chooser.best == ONE


def test_constants_hang_together() -> None:
    assert tuning.CREDIT_MOST > tuning.CREDIT_RESERVE > tuning.TRIAL_LEAST
    assert tuning.TRIAL_LEAST < tuning.WINDOW_SECONDS < tuning.WATCH_SECONDS
    assert math.isclose(tuning.TRIAL_SHARE, 0.01)
