"""What goes wrong around a program: Ctrl-C, forks, leaks, copies, and machines that grant few CPUs."""

from __future__ import annotations

import copy
import io
import json
import multiprocessing
import pickle
import re
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from processes import succeed
from test_determinism import CASES, bits, data, train

import fastbp
from fastbp import MLP
from fastbp.kernels import build, cache
from fastbp.kernels.run import run

posix = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals and fork")
linux = pytest.mark.skipif(sys.platform != "linux", reason="reads Linux's figures")

# --- memory

ALLOCATIONS = """
import ctypes, json, os, threading, time, tracemalloc, numpy as np, fastbp
started, start = [], threading.Thread.start
def noted(thread):
    start(thread)
    started.append(f"/proc/self/task/{thread.native_id}")
threading.Thread.start = noted
fastbp.warmup(["float32"])
threading.Thread.start = start
while any(map(os.path.exists, started)):  # the thread that compiled still gives its memory back
    time.sleep(0.01)
from numba.core.registry import cpu_target
from numba.core.runtime import rtsys
rtsys.initialize(cpu_target.target_context)
class Info(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in
                "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost".split()]
mallinfo2 = ctypes.CDLL(None).mallinfo2
mallinfo2.restype = Info
found = []
for sizes, n, batch, threads in [([64, 64, 10], 1000, 32, 1), ([64, 64, 10], 1000, 32, 2), ([8, 16, 3], 4000, 3000, 2)]:
    net = fastbp.MLP(sizes, seed=0)
    X, y = np.random.default_rng(0).standard_normal((n, sizes[0]), np.float32), np.zeros(n, np.int64)
    net.fit(X, y, epochs=2, batch_size=batch, threads=threads)
    engine, call = net.session.engine, net.session.engine.call
    def measured(mode, n_threads, **options):
        asked, done = int(engine.job[0]["n_steps"]), int(engine.job[0]["steps_done"])
        call(mode, n_threads, **options)  # the first one may make room
        for steps in (2, 8000):
            engine.job[0]["n_steps"] = steps
            before, tracemalloc_before = (rtsys.get_allocation_stats(), mallinfo2()), tracemalloc.get_traced_memory()[0]
            tracemalloc.reset_peak()
            began = int(engine.job[0]["steps_done"])
            status = call(mode, n_threads, **options)
            peak = tracemalloc.get_traced_memory()[1] - tracemalloc_before
            after = rtsys.get_allocation_stats(), mallinfo2()
            found.append([steps, int(engine.job[0]["steps_done"]) - began, after[0].alloc - before[0].alloc,
                          after[0].mi_alloc - before[0].mi_alloc, after[1].uordblks - before[1].uordblks, peak])
        engine.job[0]["steps_done"] = done + asked  # as many as `fit` has learning rates for
        return status
    job, bind = engine.job[0], engine.bind_optimizer
    def roomy(*arguments):
        engine.prepare(batch, threads, n_steps=8000, whole=True)
        bind(*arguments)
    engine.bind_optimizer, engine.call = roomy, measured
    tracemalloc.start()
    net.fit(X, y, epochs=1, batch_size=batch, threads=threads)
    tracemalloc.stop()
print(json.dumps(found))
"""


@linux
def test_a_chunk_of_steps_allocates_nothing() -> None:
    """8,000 steps take no more memory than 2, neither from Numba, nor from malloc, nor from Python."""
    found = json.loads(succeed(ALLOCATIONS, NUMBA_NRT_STATS="1"))
    few, many = [row for row in found if row[0] == 2], [row for row in found if row[0] == 8000]
    assert len(few) == len(many) >= 3
    assert all(row[0] == row[1] for row in found), "not all steps were made"
    for short, long in zip(few, many, strict=True):
        assert long[2:4] == short[2:4] == [0, 0]
        assert abs(long[4] - short[4]) < 8000, "malloc: less than a byte a step"  # what a thread start leaves varies
        assert abs(long[5] - short[5]) < 4096


def test_compiled_code_knows_no_allocator() -> None:
    """No kernel holds the name of Numba's allocator, or of malloc, to link to."""
    fastbp.warmup()
    found = list(cache.cache_folder().glob("*.bin"))
    assert len(found) >= 2 * len(build.leaves_of(run))
    for path in found:
        assert not re.findall(rb"NRT_[A-Za-z_]*[Aa]lloc\w*|\0(?:m|c|re)alloc\0", path.read_bytes()), path.name


GROWTH = """
import psutil, numpy as np, fastbp
X, y = np.random.default_rng(0).standard_normal((60, 6)), np.arange(60) % 3
memory = psutil.Process().memory_info
old = fastbp.MLP([6, 40, 3], seed=0)
def work(times):
    for number in range(times):
        new = fastbp.MLP([6, 300, 3], seed=number)
        for net in (old, new):
            net.fit(X, y, epochs=1, threads=1 + number % 2, optimizer=("adam", "sgd")[number // 2 % 2],
                    validation_data=(X, y))
        net.backprop(X, y)
        net.copy().predict(X)
work(150)
before = memory().rss
work(1000)
print(memory().rss - before)
"""


def test_memory_does_not_grow_over_1000_fits() -> None:
    assert int(succeed(GROWTH)) < 2 << 20  # one leaked network a fit would be 30 MB


PEAK = """
import sys, threading, time, numpy as np, fastbp
def anonymous():
    return next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith("RssAnon"))
class Peak(threading.Thread):  # the kernel keeps no peak of anonymous memory alone
    def run(self):
        self.most, self.stop = 0, False
        while not self.stop:
            self.most = max(self.most, anonymous())
            time.sleep(0.002)
def peak_of(work):
    watch = Peak()
    watch.start()
    work()
    watch.stop = True
    watch.join()
    return watch.most
"""

FIT = (
    PEAK
    + """
sizes, batch, moments = [784, 1024, 1024, 10], 512, int(sys.argv[1])
X = np.random.default_rng(0).standard_normal((8 * batch, 784), dtype=np.float32)
y = np.arange(len(X)) % 10
fastbp.warmup(["float32"])
fastbp.MLP([784, 8, 10], seed=0).fit(X, y, epochs=1, batch_size=batch, threads=2)
before = anonymous()
net = fastbp.MLP(sizes, seed=0)
optimizer = "adam" if moments else "sgd"
most = peak_of(lambda: net.fit(X, y, epochs=1, batch_size=batch, optimizer=optimizer, threads=2))
print(most - before, net.session.layout.memory(batch, moments), X.nbytes)
"""
)


@linux
@pytest.mark.parametrize("moments", [0, 2])
def test_fit_takes_the_memory_that_the_summary_tells(moments: int) -> None:
    taken, told, data_bytes = map(int, succeed(FIT, moments).split())
    # Of large buffers, pages of 2 MiB are taken whole; and machine code is loaded.
    assert 0.7 * told < taken < told + min(data_bytes, 12 << 20)


def test_the_summary_tells_the_memory_of_fit() -> None:
    """Rows are padded by the width of the CPU's vectors: a hundredth more or less."""
    last = MLP([784, 1024, 1024, 10], seed=0).summary().splitlines()[-1]
    told = re.fullmatch(
        r"memory of fit: (\S+) MB with SGD, (\S+) MB with Adam, and (\S+) kB for each row of a batch", last
    )
    assert told
    assert [float(figure) for figure in told.groups()] == pytest.approx([22.4, 52.3, 19.9], rel=0.01)


MAPPED = (
    PEAK
    + """
rows = (4 << 30) // (784 * 4) + 1
with open(sys.argv[1], "wb") as file:
    file.truncate(rows * 784 * 4)  # zeros that take no room on the disk
X = np.memmap(sys.argv[1], np.float32, "r", shape=(rows, 784))
y = np.zeros(rows, np.int64)
net = fastbp.MLP([784, 8, 10], seed=0)
most = peak_of(lambda: net.fit(X, y, epochs=1, batch_size=4096, optimizer="sgd"))
assert net.history.loss[0] < 2.4 and X.nbytes >= 4 << 30
print(most)
"""
)


@linux
def test_four_gigabytes_from_a_memory_map_in_300_megabytes(tmp_path: Path) -> None:
    assert int(succeed(MAPPED, tmp_path / "X")) < 300e6


# --- forks

FORK = """
import multiprocessing, os, signal, sys, threading
import test_determinism as t
def child(case):
    return t.bits(t.train(case, threads=2))
names = ["digits", "groups", "fp64"]
expected = [child(case) for case in names]  # the parent has used threads
other = threading.Thread(target=lambda: [child("digits") for _ in range(40)])
other.start()  # and uses them while it forks
for _ in range(10):
    number = os.fork()
    if number == 0:
        signal.alarm(60)
        os._exit(0 if [child(case) for case in names] == expected else 3)
    assert os.waitstatus_to_exitcode(os.waitpid(number, 0)[1]) == 0
other.join()
with multiprocessing.get_context("fork").Pool(2) as pool:
    assert pool.map_async(child, names * 3).get(60) == expected * 3
assert [child(case) for case in names] == expected
"""


BIG_FORK = """
import os, signal, numpy as np, fastbp
X, y = np.random.default_rng(0).standard_normal((512, 784)), np.arange(512) % 10
net = fastbp.MLP([784, 700, 10], seed=0)  # buffers of more than a mebibyte
net.fit(X, y, epochs=1, batch_size=512)
before = net.forward(X[:3])
number = os.fork()
if number == 0:
    signal.alarm(60)
    net.fit(X, y, epochs=3, batch_size=512)
    os._exit(0 if not np.array_equal(net.forward(X[:3]), before) else 3)
assert os.waitstatus_to_exitcode(os.waitpid(number, 0)[1]) == 0
assert np.array_equal(net.forward(X[:3]), before)
"""


@posix
def test_a_forked_child_trains_a_copy_of_a_big_network() -> None:
    succeed(BIG_FORK)


@posix
def test_a_forked_child_trains() -> None:
    succeed(FORK)


def go_on(net: MLP) -> MLP:
    """Train a bit longer; what a worker process does."""
    _, rows, fit = CASES["digits"]
    net.fit(*data(net, rows), epochs=2, **fit)
    return net


def test_a_network_travels_to_another_process_and_back() -> None:
    net = train("digits")
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        there = pool.apply_async(go_on, (net,)).get(200)
    assert bits(there) == bits(go_on(net))


# --- Ctrl-C

CTRL_C = """
import os, signal, sys, threading, time, numpy as np, fastbp
from fastbp.kernels import records
case, threads = sys.argv[1], int(sys.argv[2])
sizes, n, batch = {
    "short steps": ([64, 64, 10], 1800, 32), "thin": ([4] * 40, 1000, 4), "validation": ([64, 64, 10], 20000, 500),
    "long step": ([2048, 2048, 2048, 10], 10240, 10240), "long groups": ([64, 64, 10], 3_000_000, 3_000_000),
    "evaluate": ([1024, 2048, 2048, 10], 40000, 8), "backprop": ([1024, 2048, 2048, 10], 10240, 8),
    "train_step": ([1024, 2048, 2048, 10], 10240, 8),
}[case]
net = fastbp.MLP(sizes, seed=0)
X, y = np.random.default_rng(0).integers(0, 3, (n, sizes[0]), np.uint8), np.arange(n) % sizes[-1]
net.fit(X[:64], y[:64], epochs=1, batch_size=8)
before = signal.getsignal(signal.SIGINT)
long = case not in ("short steps", "thin", "validation")  # a call of the kernels is longer than anyone would wait
call = net.session.engine.call
def watched(mode, *arguments, **options):
    if (mode == records.EVALUATE) == (case in ("validation", "evaluate")) and (long or len(statuses) > 1):
        inside.set()
    statuses.append(call(mode, *arguments, **options))
    return statuses[-1]
def interrupt():
    inside.wait()
    time.sleep(0.02)  # most likely, the kernel has begun now; nothing depends on it
    os.kill(os.getpid(), signal.SIGINT)
net.session.engine.call = watched
calls = {"evaluate": lambda: net.evaluate(X, y), "backprop": lambda: net.backprop(X, y),
         "train_step": lambda: net.train_step(X, y, "adam")}
fit = lambda: net.fit(X, y, epochs=10**6, batch_size=batch, threads=threads,
                      validation_data=(X, y) if case == "validation" else None)
for attempt in range(5):  # on a busy machine, the signal may be sent when all but the last part of a step is done
    inside, statuses = threading.Event(), []
    sender = threading.Thread(target=interrupt)
    try:
        sender.start()
        calls.get(case, fit)()
        sys.exit("finished before it could be interrupted")
    except KeyboardInterrupt:
        sender.join()
    if statuses[-1] == records.STOPPED or not long:
        break
else:
    sys.exit("the kernel was waited for")
net.session.engine.call = call
history = net.history
assert signal.getsignal(signal.SIGINT) is before
assert all(np.isfinite(a).all() for a in [*net.weights, *net.biases])
assert len(history.val_loss) in (0, len(history.loss), len(history.loss) - 1)
assert np.isfinite(history.val_loss).all()
small = net.copy()
small.fit(X[:64], y[:64], epochs=2, threads=threads)
twice = net.fit(X[:64], y[:64], epochs=2, threads=threads)  # trains on, and as a network that was never interrupted
assert len(twice.loss) == 2 and all(np.array_equal(a, b) for a, b in zip(net.weights, small.weights))
assert net.predict(X[:64]).shape == (64,) and net.backprop(X[:64], y[:64]).loss > 0
"""


@posix
@pytest.mark.parametrize(
    ("case", "threads"),
    [("short steps", 1), ("short steps", 2), ("thin", 1), ("thin", 5), ("validation", 2), ("long step", 1)]
    + [(case, 2) for case in ("long step", "long groups", "evaluate", "backprop", "train_step")],
)
def test_ctrl_c(case: str, threads: int) -> None:
    """Endless trainings end, and a kernel that computes for seconds is left before its end."""
    succeed(CTRL_C, case, threads, timeout=120, FASTBP_NUM_THREADS=str(threads))


@posix
def test_ctrl_c_during_validation(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half an evaluation is not written down."""
    net = MLP([4, 8, 3], seed=0)
    samples, evaluate = data(net, 60), net.session.evaluate

    def interrupted(*args: Any, **options: Any) -> Any:
        if len(net.history.val_loss) == 2:  # type: ignore[union-attr]
            signal.raise_signal(signal.SIGINT)
        return evaluate(*args, **options)

    monkeypatch.setattr(net.session, "evaluate", interrupted)
    with pytest.raises(KeyboardInterrupt):
        net.fit(*samples, epochs=9, validation_data=samples)
    assert net.history is not None
    assert (len(net.history.loss), len(net.history.val_loss)) == (3, 2)


HANDLERS = """
import signal, threading, os, numpy as np, fastbp
net = fastbp.MLP([2048, 2048, 10], seed=0)
X, y = np.zeros((1536, 2048), np.float32), np.zeros(1536, np.int64)
net.fit(X, y, epochs=1, batch_size=1536)
class Enough(Exception): pass
seen, call = [], net.session.engine.call
def count(*_): seen.append(1)
def leave(*_): raise Enough
for handler in (signal.SIG_IGN, count, leave):
    signal.signal(signal.SIGINT, handler)
    inside = threading.Event()
    def watched(*arguments, **options):
        inside.set()
        return call(*arguments, **options)
    def interrupt():
        inside.wait()
        os.kill(os.getpid(), signal.SIGINT)
    net.session.engine.call = watched
    sender = threading.Thread(target=interrupt)
    sender.start()
    try:
        while sender.is_alive(): net.fit(X, y, epochs=1, batch_size=1536, threads=2)
        assert handler is not leave
    except Enough:
        assert handler is leave
    sender.join()
    net.session.engine.call = call
    assert signal.getsignal(signal.SIGINT) is handler
    other = net.copy()
    assert net.train_step(X[:9], y[:9], "adam") == other.train_step(X[:9], y[:9], "adam")
    assert all(np.array_equal(a, b) for a, b in zip(net.weights, other.weights))
assert seen == [1]
"""


@posix
def test_a_handler_of_the_user_stays_in_charge() -> None:
    succeed(HANDLERS)


# --- copies


def _joblib(net: MLP, folder: Path) -> MLP:
    joblib = pytest.importorskip("joblib")
    file = io.BytesIO()
    joblib.dump(net, file)
    file.seek(0)
    found: MLP = joblib.load(file)
    return found


def _save(net: MLP, folder: Path) -> MLP:
    net.save(folder / "net.safetensors")
    return fastbp.load(folder / "net.safetensors")


COPIES: dict[str, Callable[[MLP, Path], MLP]] = {
    "pickle": lambda net, folder: pickle.loads(pickle.dumps(net)),
    "copy": lambda net, folder: copy.copy(net),
    "deepcopy": lambda net, folder: copy.deepcopy(net),
    "method": lambda net, folder: net.copy(),
    "joblib": _joblib,
    "save and load": _save,
}


@pytest.mark.parametrize("case", ["digits", "fp64", "groups", "one batch", "one row a step"])
@pytest.mark.parametrize("how", COPIES)
def test_a_copy_goes_on_bit_for_bit(how: str, case: str, tmp_path: Path) -> None:
    _, rows, fit = CASES[case]
    net = train(case)
    X, y = data(net, rows)
    net.standardize(X)
    twin = COPIES[how](net, tmp_path)
    assert twin is not net
    assert type(twin) is MLP
    untouched = bits(net)
    twin.history = net.history
    assert bits(twin) == untouched
    np.testing.assert_array_equal(twin.forward(X), net.forward(X))
    twin.fit(X, y, epochs=3, **fit)
    net.history, moved_on = twin.history, bits(twin)
    assert bits(net) != untouched  # the history alone
    net.fit(X, y, epochs=3, **fit)
    assert bits(net) == moved_on
