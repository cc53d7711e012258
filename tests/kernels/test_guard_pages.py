"""No kernel reads or writes outside its buffers, nor reads what it has not written: see `guarded.py`."""

from __future__ import annotations

import signal
import sys

import pytest
from processes import python, succeed

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs mprotect")

ROUNDS = 50
DEADLY = (-signal.SIGSEGV, -signal.SIGBUS)
RUN = "import sys, guarded; guarded.main(*sys.argv[1:])"
# Each address in turn moved by one vector, or one number, as if its buffer were shorter than the kernels think.
DIES = """
import os, faulthandler, itertools, numpy as np, guarded, fastbp
faulthandler.disable()
def work(at_end, what):
    guarded.guard(at_end)
    net = fastbp.MLP([5, 16, 16], seed=0)  # whole vectors on every CPU: what lies beyond is read
    X, y = guarded.moved(np.ones((4, 5), np.float32), at_end), guarded.moved(np.zeros(4, np.int64), at_end)
    net.fit(X, y, epochs=1, threads=1)
    engine, shift, bind = net.session.engine, 1 if at_end else -1, net.session.engine.bind_data
    job, layers = engine.job[0], engine.buffers.records
    def move(record, name, by):
        record[name] = int(record[name]) + shift * by
    def bind_moved(*args, **options):
        bind(*args, **options)
        move(job, what, 4)
    if what in ("X", "y"):
        engine.bind_data = bind_moved
    elif what in layers.dtype.names:
        move(layers[-1 if at_end else 0], what, 16)
    else:
        move(job, what, 16)
    os.write(1, b"alive ")
    net.backprop(X, y)
    net.train_step(X, y, "adam")
    os._exit(0)
names = ["X", "y", "zeros", "parameters", "weights", "inputs", "outputs", "deltas"]
for at_end, what in [(True, "transposed"), *itertools.product([True, False], names)]:
    child = os.fork()
    if child == 0:
        try:
            work(at_end, what)
        finally:
            os._exit(1)
    print(what, at_end, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("edge", ["end", "start"])
def test_no_buffer_is_overrun(edge: str, seed: int) -> None:
    done = python(RUN, edge, seed, ROUNDS, seed)
    assert done.returncode == 0, f"died at {done.stdout.splitlines()[-1:]}\n{done.stderr[-4000:]}"
    assert done.stdout.endswith("done\n")


# What must be zero, but is not: as if a kernel had read a buffer before it was written.
STALE = """
import guarded
fill = guarded.Poison.fill
def fill_too_much(engine, **options):
    fill(engine, **options)
    guarded.Poison.ruin(engine.zeros)
guarded.Poison.fill = fill_too_much
guarded.main("end", "1", "1", "1")
"""


def test_a_stale_read_is_noticed() -> None:
    done = python(STALE)
    assert done.returncode == 1, done.stderr  # by other bits, or by NaN
    assert done.stdout.splitlines()[-1].endswith("poisoned")


def test_an_overrun_dies() -> None:
    """The guard itself notices a buffer that is a little too short."""
    lines = succeed(DIES).splitlines()
    assert len(lines) == 17
    survived = [line for line in lines if not (line.startswith("alive ") and int(line.split()[-1]) in DEADLY)]
    assert not survived
