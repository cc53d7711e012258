"""Attacks in a process of their own: a crash or a hang is a fault, told with the place where it happened."""

from __future__ import annotations

import faulthandler
import importlib
import json
import os
import sys
import tempfile
from collections.abc import Iterator

import numpy as np
from processes import python

LONGEST = 120  # seconds that a single attack may take


def run(module: str, seconds: float, seed: int) -> dict[str, int]:
    """Call ``child(seconds, seed)`` of a module elsewhere; the counts that it prints."""
    with tempfile.NamedTemporaryFile() as file:
        code = "import sys; from tests.attack import _apart; _apart.child(*sys.argv[1:])"
        done = python(code, module, seconds, seed, file.name, timeout=4 * seconds + 600)
        if done.returncode != 0:
            place = file.read().decode(errors="replace") or "before the first attack"
            raise AssertionError(f"exit code {done.returncode} at {place}, seed {seed}\n{done.stderr[-6000:]}")
        counts: dict[str, int] = json.loads(done.stdout.splitlines()[-1])
        return counts


_place = -1


def child(module: str, seconds: str, seed: str, place: str) -> None:
    """What `run` starts."""
    global _place
    _place = os.open(place, os.O_WRONLY)
    importlib.import_module(module).child(float(seconds), int(seed))


def in_turn(places: dict[str, list[str]], rng: np.random.Generator) -> Iterator[tuple[str, int]]:
    """(name, number) of all places in an order of chance; those that are called the same come once, and then again."""
    every = [(name, number) for name, found in places.items() for number in range(len(found))]
    rng.shuffle(every)
    seen, later = set[tuple[str, str]](), []
    for name, number in every:
        key = name, places[name][int(number)]
        if key in seen:
            later.append((name, int(number)))
        else:
            seen.add(key)
            yield name, int(number)
    yield from later


def at(place: str) -> None:
    """The next attack: where the process is, should it die or stop there."""
    if _place >= 0:
        os.ftruncate(_place, 0)
        os.pwrite(_place, place.encode(), 0)
    faulthandler.dump_traceback_later(LONGEST, exit=True, file=sys.stderr)
