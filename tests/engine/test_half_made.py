"""An exception at any line leaves a network whole; `tests.attack` goes through all lines of all calls, this some."""

from __future__ import annotations

import errno
import inspect
import mmap
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))

import fastbp.engine.engine
import fastbp.engine.memory
import fastbp.engine.state
from fastbp import MLP
from fastbp.training.loop import Loop
from tests.attack import _scenes, interrupts

RNG = np.random.default_rng(30)
X, Y = RNG.standard_normal((80, 7)), RNG.integers(0, 3, 80)


@pytest.mark.parametrize(
    ("scene", "files"),
    [
        (
            "train_step of another optimiser",
            {"/engine/engine.py", "/engine/state.py", "/engine/session.py", "/network.py"},
        ),
        (
            "backprop and update",
            {"/engine/engine.py", "/engine/stages.py", "/engine/bindings.py", "/engine/session.py", "/network.py"},
        ),
        ("set_weights and load_optimizer_state", {"/engine/engine.py", "/engine/state.py", "/engine/session.py"}),
        ("fit that diverges", {"/training/loop.py", "/engine/state.py"}),
        ("fit on chunks", {"/training/chunks.py"}),
        ("fit with L-BFGS", {"/training/lbfgs.py"}),
        ("fit on two threads", {"/engine/team.py"}),
    ],
)
def test_an_interrupt_at_any_line(scene: str, files: set[str]) -> None:
    """Where a line runs more than once, one of these times."""
    attack(scene, lambda line: line.split(":")[0] in files)


def test_an_interrupt_at_the_end_of_an_epoch() -> None:
    """What had not been validated, shown or written then comes when the training goes on."""
    inside = set[str]()
    for method in (Loop.run_steps, Loop.end_epoch, Loop.call_back, Loop.validate, Loop.on_pause):
        source, first = inspect.getsourcelines(method)
        inside |= {f"/training/loop.py:{first + k}" for k in range(len(source))}
    attack("fit that resumes", inside.__contains__)


def attack(scene: str, wanted: Callable[[str], bool]) -> None:
    """An interrupt at some lines of a call."""
    plan, rng = _scenes.Plan(scene), np.random.default_rng(0)
    last = {line: number for number, line in enumerate(interrupts.lines_of(plan)) if wanted(line)}
    reached = [interrupts.interrupt(plan, number, rng) for number in last.values()]
    assert sum(reached) > 20


def test_memory_that_cannot_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same call again makes room anew: it computed on buffers that were too small."""
    allocate_all, left = fastbp.engine.memory.allocate_all, [0]

    def allocate(counts: Any, dtype: Any) -> Any:
        left[0] -= 1
        if left[0] == 0:
            raise MemoryError("no more")
        return allocate_all(counts, dtype)

    monkeypatch.setattr(fastbp.engine.memory, "allocate_all", allocate)
    failed = 0
    for number in range(1, 99):
        net, twin = MLP([7, 9, 3], seed=0), MLP([7, 9, 3], seed=0)
        for one in (net, twin):
            one.train_step(X[:8], Y[:8], "sgd")
        left[0] = number
        try:
            net.train_step(X, Y, "adam")
            break
        except MemoryError:
            failed += 1
        assert net.train_step(X, Y, "adam") == twin.train_step(X, Y, "adam")
        assert net.fit(X, Y, epochs=1, optimizer="adam").loss == twin.fit(X, Y, epochs=1, optimizer="adam").loss
    assert failed > 2


def test_without_memory_for_layers_by_columns_a_fit_goes_by_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTBP_PLACEMENT", "columns:1/2")
    allocate, refused = fastbp.engine.memory.allocate, list[int]()
    nets = [MLP([7, 90, 3], seed=0) for _ in range(2)]
    area = (16 + fastbp.engine.tuning.GAP_ROWS) * nets[0].session.layout.stride(7)

    def refuse(n: int, dtype: Any) -> Any:
        if n == 2 * area:
            refused.append(n)
            raise MemoryError("no more")
        return allocate(n, dtype)

    losses = [nets[0].fit(X, Y, epochs=2, batch_size=16, threads=2).loss]
    assert nets[0].session.engine.job[0]["columns"] == 1
    monkeypatch.setattr(fastbp.engine.memory, "allocate", refuse)
    losses.append(nets[1].fit(X, Y, epochs=2, batch_size=16, threads=2).loss)
    assert refused
    assert nets[1].session.engine.job[0]["columns"] == 0
    assert losses[0] == losses[1]
    monkeypatch.setattr(fastbp.engine.memory, "allocate", allocate)
    assert nets[0].fit(X, Y, epochs=1, batch_size=16).loss == nets[1].fit(X, Y, epochs=1, batch_size=16).loss


@pytest.mark.skipif(not hasattr(mmap, "MADV_HUGEPAGE"), reason="large buffers come from NumPy here")
def test_a_large_buffer_that_cannot_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    """A MemoryError, as for a small one."""

    def refuse(*arguments: Any) -> None:
        raise OSError(errno.ENOMEM, "Cannot allocate memory")

    monkeypatch.setattr(fastbp.engine.memory, "mmap", SimpleNamespace(**{**vars(mmap), "mmap": refuse}))
    with pytest.raises(MemoryError, match=r"[\d,]+ bytes cannot be had: Cannot allocate memory"):
        MLP([1000, 1000, 3], seed=0)


def test_what_is_in_use_by_a_fit_stays() -> None:
    net = MLP([7, 9, 3], seed=0)
    net.standardize(X)
    scaling, messages = net.scaling, []

    class Meddler:
        def on_epoch_end(self, state: Any) -> None:
            for meddle in (
                lambda: state.net.standardize(X * 2),
                lambda: setattr(state.net, "scaling", None),
                lambda: state.net.__setstate__(state.net.__getstate__()),
            ):
                with pytest.raises(
                    RuntimeError, match="must be left alone while the network is being trained"
                ) as caught:
                    meddle()
                messages.append(str(caught.value))

    net.fit(X, Y, epochs=2, callbacks=[Meddler()])
    assert len(messages) == 6
    assert net.scaling is scaling
    net.standardize(X * 2)
    assert net.scaling is not scaling
