"""Guarded and poisoned buffers over random networks: nothing is used outside, or read before it is written."""

from __future__ import annotations

import itertools
import json
import time

from processes import python

RUN = "import sys, guarded; guarded.main(*sys.argv[1:])"
SECONDS = 60.0  # of a process, in which a crash ends only itself
ROUNDS = 1_000_000


def run(seconds: float, seed: int) -> dict[str, int]:
    """Attack for about so long; each process has its buffers at one edge of their pages."""
    ends, counts = time.monotonic() + seconds, {"networks": 0, "operations": 0}
    for number in itertools.count():
        left = ends - time.monotonic()
        if number > 1 and left <= 0:  # both edges have had their turn
            return counts
        edge, last = ("end", "start")[number % 2], min(SECONDS, max(1.0, left if number else seconds / 2))
        done = python(RUN, edge, 1000 * seed + number, ROUNDS, 1 + number % 3, last, timeout=last + 300)
        if done.returncode != 0:
            where = "\n".join(done.stdout.splitlines()[-2:])
            raise AssertionError(f"exit code {done.returncode}, buffers at the {edge}, {where}\n{done.stderr[-4000:]}")
        for name, count in json.loads(done.stdout.splitlines()[-2]).items():
            counts[name] += count
    raise AssertionError  # the loop has no end of its own
