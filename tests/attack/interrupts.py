"""An interrupt at every line of fits, steps, sweeps, checkpoints and chunks, and what it leaves behind."""

from __future__ import annotations

import dis
import functools
import json
import sys
import time
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import numpy as np

import fastbp
from tests.attack import _apart, _scenes

FOLDER = str(Path(fastbp.__file__).parent)


def run(seconds: float, seed: int) -> dict[str, int]:
    """Lines in an order of chance, each once before any comes again, until all have been, or the time is over."""
    return _apart.run("tests.attack.interrupts", seconds, seed)


def child(seconds: float, seed: int) -> None:
    """`run`, in a process of its own."""
    rng, end = np.random.default_rng(seed), time.monotonic() + seconds
    plans = {name: _scenes.Plan(name) for name in _scenes.SCENES}
    lines = {name: lines_of(plan) for name, plan in plans.items()}
    counts = {"interrupts": 0, "lines of calls": sum(map(len, lines.values())), "different lines": 0}
    seen = set[str]()
    for name, number in _apart.in_turn(lines, rng):
        if time.monotonic() > end:
            break
        _apart.at(f"{name!r}, line {number}: {lines[name][number]}")
        counts["interrupts"] += interrupt(plans[name], number, rng)
        seen.add(lines[name][number])
    print(json.dumps(counts | {"different lines": len(seen)}))


def lines_of(plan: _scenes.Plan) -> list[str]:
    """The lines of fastbp that the call of a scene runs through."""
    trace = Trace(None)
    net = plan.scene.make()
    with trace:
        plan.play(net)
    return trace.places


def interrupt(plan: _scenes.Plan, number: int, rng: np.random.Generator) -> bool:
    """Attack one line; was it reached? (Where chunks of steps end depends on the clock.)"""
    trace = Trace(number)
    try:
        plan.attack(trace, rng)
    except Exception as error:
        raise AssertionError(f"{plan.name}: after an interrupt at {trace.places[-1]}: {error}") from error
    return trace.reached


class Trace:
    """Counts the lines that run in fastbp, and raises KeyboardInterrupt at one of them.

    Python itself sees signals at calls and jumps alone. Where a `with` block ends it sees none before the end is done,
    so there this sees none either.
    """

    def __init__(self, target: int | None) -> None:
        self.target, self.reached = target, False
        self.places: list[str] = []

    def __enter__(self) -> Trace:
        sys.settrace(self._call)
        return self

    def __exit__(self, *unused: object) -> None:
        sys.settrace(None)

    def _call(self, frame: FrameType, event: str, argument: Any) -> Any:
        return self._line if frame.f_code.co_filename.startswith(FOLDER) else None

    def _line(self, frame: FrameType, event: str, argument: Any) -> Any:
        if event == "line" and frame.f_lasti not in ends_of_blocks(frame.f_code):
            self.places.append(f"{frame.f_code.co_filename.removeprefix(FOLDER)}:{frame.f_lineno}")
            if len(self.places) - 1 == self.target:
                self.reached = True
                sys.settrace(None)
                raise KeyboardInterrupt
        return self._line


@functools.cache
def ends_of_blocks(code: CodeType) -> frozenset[int]:
    """Where in a function the ends of `with` blocks begin."""
    found, before = set[int](), None
    instructions = list(dis.get_instructions(code))
    for k, one in enumerate(instructions):
        names = [other.opname for other in instructions[k : k + 3]]
        nothing = [other.argval is None for other in instructions[k : k + 3]]
        if names == ["LOAD_CONST"] * 3 and all(nothing):
            found.add(one.offset)
            if before is not None and before.opname in ("SWAP", "NOP"):
                found.add(before.offset)
        if one.opname == "WITH_EXCEPT_START" and before is not None:
            found |= {one.offset, before.offset}
        before = one
    return frozenset(found)
