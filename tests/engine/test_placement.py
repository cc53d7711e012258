"""What the environment may force, and what the model of costs proposes."""

from __future__ import annotations

import math
import threading
import time

import numpy as np
import pytest

from fastbp import MLP
from fastbp.callbacks import Callback, EpochState
from fastbp.engine import costs, team, topology, tuning
from fastbp.engine.layout import Layout
from fastbp.engine.placement import Forced, Placement, forced
from fastbp.kernels import probe

ONE_DIE = topology.Topology(8, (frozenset(range(8)),), (8,), (0, 1))
TWO_DIES = topology.Topology(8, (frozenset(range(4)), frozenset(range(4, 8))), (4, 4), (0, 1))


def layout(*sizes: int) -> Layout:
    return MLP(list(sizes), seed=0).session.layout


@pytest.fixture(autouse=True)
def nothing_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(costs, "_known", costs.Costs())


# --- the environment


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, None),
        ("", None),
        ("rows", Forced(0, 1)),
        ("columns", Forced(None, None)),
        ("columns:2", Forced(2, None)),
        ("columns:1/4", Forced(1, 4)),
        ("columns:9999/9999", Forced(9999, 9999)),
    ],
)
def test_a_forced_placement(text: str | None, expected: Forced | None) -> None:
    assert forced({} if text is None else {"FASTBP_PLACEMENT": text}) == expected


@pytest.mark.parametrize(
    "text",
    ["row", "ROWS", " rows", "columns:", "columns:0", "columns:1/0", "columns:1/", "columns/2", "columns:-1",
     "columns:1.5", "columns:\u0663", "columns:10000", "columns:1/2/3", "rows:1", "columns:1\n", "x" * 5000],
)  # fmt: skip
def test_nonsense_in_the_environment(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    said = r"FASTBP_PLACEMENT must be 'rows', 'columns', 'columns:LAYERS' or 'columns:LAYERS/PARTS' .*, got "
    with pytest.raises(ValueError, match=said) as caught:
        forced({"FASTBP_PLACEMENT": text})
    assert str(caught.value).endswith(f"got {text[:40]!r}")
    monkeypatch.setenv("FASTBP_PLACEMENT", text)
    net = MLP([4, 3, 2], seed=0)
    before = net.weights
    with pytest.raises(ValueError, match=said):
        net.fit(np.zeros((8, 4)), np.zeros(8, int), epochs=1)
    assert all(np.array_equal(one, other) for one, other in zip(before, net.weights, strict=True))


# --- candidates


@pytest.mark.parametrize(
    ("most", "machine", "expected"),
    [
        (1, ONE_DIE, [1]),
        (2, ONE_DIE, [1, 2]),
        (3, ONE_DIE, [1, 2, 3]),
        (8, ONE_DIE, [1, 2, 4, 8]),
        (8, TWO_DIES, [1, 2, 4, 8]),
        (12, topology.Topology(12, (frozenset(range(6)), frozenset(range(6, 12))), (6, 6)), [1, 2, 4, 6, 8, 12]),
        (64, ONE_DIE, [1, 2, 4, 8, 16, 32, 64]),
    ],
)
def test_numbers_of_threads(most: int, machine: topology.Topology, expected: list[int]) -> None:
    assert costs.thread_counts(most, machine) == expected


def test_by_columns_where_weights_are_what_is_large() -> None:
    found = costs.candidates(layout(784, 128, 10), 128, ONE_DIE, [1, 2])
    assert found[:2] == [Placement(1), Placement(2)]
    assert len(found) == 3
    assert found[2].threads == found[2].parts == 2
    assert found[2].layers >= 1


def test_parts_of_threads_that_span_several_dies() -> None:
    net = layout(4000, 128, 10)  # 128 units are four panels
    near = costs.Costs(2e11, 4e-8, 1.4e-7)
    rows, apart, dies = (near.step(net, 32, Placement(8, *rest), TWO_DIES) for rest in ((), (1, 8), (1, 2)))
    assert dies < rows < apart
    assert costs.candidates(net, 32, TWO_DIES, [8]) == [Placement(8), Placement(8, 1, 2)]
    found = costs.candidates(layout(784, 256, 128, 10), 128, TWO_DIES, [4, 8])
    assert [placement.parts for placement in found if placement.layers] == [4, 8]


def test_forced_candidates() -> None:
    net = layout(784, 128, 10)

    def names(force: Forced, *threads: int) -> list[Placement]:
        return costs.candidates(net, 128, ONE_DIE, threads, force)

    assert names(Forced(0, 1), 1, 2) == [Placement(1), Placement(2)]
    assert names(Forced(1, None), 1, 2, 4) == [Placement(1), Placement(2, 1, 2), Placement(4, 1, 4)]
    assert names(Forced(1, 2), 4) == [Placement(4, 1, 2)]
    assert names(Forced(7, None), 2) == [Placement(2, 1, 2)]  # the last of two layers is by rows
    assert names(Forced(None, None), 2)[0].layers >= 1
    with pytest.raises(ValueError, match=r"FASTBP_PLACEMENT asks for 3 parts, which does not divide 4 threads"):
        names(Forced(1, 3), 4)
    assert names(Forced(1, 2), 1, 2, 3, 4) == [Placement(1), Placement(2, 1, 2), Placement(4, 1, 2)]


@pytest.mark.parametrize(
    ("text", "columns", "parts"),
    [("rows", 0, 1), ("columns:1", 1, 4), ("columns:2/2", 2, 2), ("columns:9/4", 2, 4), ("columns", None, 4)],
)
def test_a_fit_by_a_forced_placement(
    text: str, columns: int | None, parts: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has the bits of one thread."""
    rng = np.random.default_rng(0)
    X, y = rng.random((96, 70), dtype=np.float32), rng.integers(0, 5, 96)
    one, four = (MLP([70, 200, 130, 5], seed=0) for _ in range(2))
    one.fit(X, y, epochs=2, batch_size=48, threads=1)
    monkeypatch.setenv("FASTBP_PLACEMENT", text)
    four.fit(X, y, epochs=2, batch_size=48, threads=4)
    job = four.session.engine.job[0]
    assert job["n_threads"] == 4
    assert job["parts"] == parts
    assert job["columns"] == columns if columns is not None else job["columns"] >= 1
    assert all(np.array_equal(one, other) for one, other in zip(one.weights, four.weights, strict=True))


def test_other_threads_while_a_training_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """The system grants fewer CPUs after an epoch: the next chunk has no more."""
    rng = np.random.default_rng(0)
    X, y = rng.random((96, 70), dtype=np.float32), rng.integers(0, 5, 96)
    monkeypatch.setenv("FASTBP_NUM_THREADS", "4")
    net, seen = MLP([70, 200, 130, 5], seed=0), []

    class Fewer(Callback):
        def on_epoch_end(self, state: EpochState) -> None:
            seen.append(net.session.engine.job[0]["n_threads"])
            monkeypatch.setenv("FASTBP_NUM_THREADS", "1")

    net.fit(X, y, epochs=3, batch_size=48, callbacks=[Fewer()])
    assert len(seen) == 3
    assert seen[1:] == [1, 1]


# --- costs


def test_costs_of_a_step() -> None:
    net, known = layout(784, 128, 10), costs.Costs(2.5e11, 1.4e-7)
    one, two = (known.step(net, 128, Placement(n), ONE_DIE) for n in (1, 2))
    assert one > two
    assert two > 0.5 * one
    near = costs.Costs(2.5e11, 3e-8)
    assert near.step(net, 128, Placement(2), ONE_DIE) < two
    assert near.step(net, 128, Placement(1), ONE_DIE) == one
    small = layout(4, 16, 3)
    assert known.step(small, 16, Placement(1), ONE_DIE) < known.step(small, 16, Placement(2), ONE_DIE)


def test_the_machine_is_measured_once_where_it_is_worth_it(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, now = [], [1e6]
    monkeypatch.setattr(probe, "line_nanoseconds", lambda **_: asked.append("line") or 140.0)
    monkeypatch.setattr(probe, "fma_peak", lambda **_: asked.append("peak") or 100.0)
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    assert costs.costs(0.0) == costs.Costs()
    assert not asked
    known = costs.costs(1.0)
    assert (known.line, known.flops) == (pytest.approx(1.4e-7), pytest.approx(tuning.PEAK_SHARE * 1e11))
    assert sorted(asked) == ["line", "peak"]
    assert costs.costs(1.0) is costs.costs(0.0) is known
    now[0] += tuning.PROBE_SECONDS + 1.0
    assert costs.costs(1.0).flops == known.flops
    assert asked.count("line") == 2


def test_a_machine_that_cannot_be_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "line_nanoseconds", lambda **_: math.nan)
    monkeypatch.setattr(probe, "fma_peak", lambda **_: 100.0)
    assert costs.costs(1.0).line == tuning.LINE_SECONDS


def test_a_machine_that_grants_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fit goes on with the one that there is."""

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    probe.fma_peak(seconds=0.0), probe.line_nanoseconds(1e-4)  # compiles
    net = MLP([64, 64, 10], seed=0)
    net.fit(np.zeros((64, 64), np.float32), np.zeros(64, int), epochs=1, threads=1)
    monkeypatch.setattr(costs, "_known", costs.Costs())
    monkeypatch.setattr(team, "_idle", [])
    monkeypatch.setattr(threading.Thread, "start", refuse)
    monkeypatch.setattr(tuning, "PROBE_WORTH", 0.0)
    monkeypatch.setenv("FASTBP_NUM_THREADS", "2")
    net.fit(np.zeros((64, 64), np.float32), np.zeros(64, int), epochs=2, batch_size=32)
    assert len(net.session.engine.chooser(None, 32).candidates) > 1
    assert costs.costs(0.0).line == tuning.LINE_SECONDS


# --- what a network asks


def test_a_small_network_has_nothing_to_choose(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTBP_NUM_THREADS", "4")
    monkeypatch.setattr(probe, "line_nanoseconds", lambda **_: pytest.fail("measured for nothing"))
    engine = MLP([4, 16, 3], seed=0).session.engine
    assert engine.chooser(None, 16, 1e6).candidates == [Placement(1)]


def test_the_choice_is_kept_by_what_it_was_made_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTBP_NUM_THREADS", "4")
    engine = MLP([784, 128, 10], seed=0).session.engine
    first = engine.chooser(None, 128)
    assert {placement.threads for placement in first.candidates} == {1, 2, 4}
    assert engine.chooser(2, 128) is not first
    assert {placement.threads for placement in engine.chooser(2, 128).candidates} == {2}
    assert engine.chooser(None, 128) is first
    monkeypatch.setenv("FASTBP_NUM_THREADS", "2")  # as if the quota had changed
    assert engine.chooser(None, 128).most == 2
    monkeypatch.setenv("FASTBP_PLACEMENT", "rows")
    assert not any(placement.layers for placement in engine.chooser(None, 128).candidates)
    for batch in range(1, 3 * tuning.CHOOSERS):
        engine.chooser(None, batch)
    assert engine.chooser(None, 128) is not first
