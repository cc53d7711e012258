"""An interrupt at every line of the first call of a process, which loads or compiles the kernels."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any

import numpy as np

from fastbp import MLP
from tests.attack import _apart
from tests.attack._scenes import X, Y, check_process, give, state_of
from tests.attack.interrupts import Trace


def run(seconds: float, seed: int) -> dict[str, int]:
    """Lines in an order of chance, each in a forked child that has no kernels yet."""
    if not hasattr(os, "fork"):
        return {"interrupts": 0}
    return _apart.run("tests.attack.cold", seconds, seed)


def child(seconds: float, seed: int) -> None:
    """`run`, in a process of its own."""
    rng, end = np.random.default_rng(seed), time.monotonic() + seconds
    with tempfile.NamedTemporaryFile() as file:
        in_a_fork(lambda: Path(file.name).write_text(json.dumps(first_calls())))
        wanted, lines = json.loads(Path(file.name).read_text())
    counts = {"interrupts": 0, "lines": len(lines)}
    for _, number in _apart.in_turn({"first call": lines}, rng):
        if time.monotonic() > end and counts["interrupts"]:
            break
        _apart.at(f"line {number}: {lines[number]}")
        in_a_fork(lambda number=number: interrupt(number, wanted))
        counts["interrupts"] += 1
    print(json.dumps(counts))


def in_a_fork(work: Any) -> None:
    """Do some work in a child, which must end well."""
    number = os.fork()
    if number == 0:
        signal.alarm(_apart.LONGEST)
        try:
            work()
        except BaseException:
            traceback.print_exc()
            sys.stderr.flush()
            os._exit(3)
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(number, 0)[1])
    assert code == 0, f"exit code {code}"


def call(net: MLP) -> list[float]:
    """What is interrupted."""
    return net.fit(X, Y, epochs=2, batch_size=16, validation_data=(X, Y)).loss


def first_calls() -> tuple[list[float], list[str]]:
    """The losses, and the lines of fastbp that a first call runs through in this thread."""
    trace = Trace(None)
    with trace:
        losses = call(MLP([9, 12, 5, 3], seed=4))
    return losses, trace.places


def interrupt(number: int, wanted: list[float]) -> None:
    """Attack one line; how many there are depends on how long the kernels take."""
    net = MLP([9, 12, 5, 3], seed=4)
    with contextlib.suppress(KeyboardInterrupt), Trace(number):
        call(net)
    check_process(net)
    other = MLP([9, 12, 5, 3], seed=4)
    assert call(other) == wanted, "other losses"
    give(net, state_of(MLP([9, 12, 5, 3], seed=4)))
    assert call(net) == wanted, "other losses of the network that was interrupted"
