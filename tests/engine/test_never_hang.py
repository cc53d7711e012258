"""Locks, threads and signals around a training: whatever the user's code does meanwhile, nobody waits for ever."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from processes import succeed

import fastbp
from fastbp import MLP, SGD
from fastbp.callbacks import EarlyStopping, MaxSeconds
from fastbp.engine import team

posix = pytest.mark.skipif(os.name != "posix", reason="POSIX signals and fork")
main_thread = pytest.mark.skipif(not hasattr(signal, "SIGALRM"), reason="SIGALRM")
RNG = np.random.default_rng(5)
X = RNG.standard_normal((300, 8)).astype(np.float32)
Y = RNG.integers(0, 3, 300)


def make(seed: int = 0, **options: Any) -> MLP:
    return MLP([8, 16, 3], seed=seed, **options)


class Calls:
    """A callback that calls a function at the end of every epoch."""

    def __init__(self, function: Any) -> None:
        self.function, self.found = function, []

    def on_epoch_end(self, state: Any) -> None:
        self.found.append(self.function(state))


# --- divergence and stops -----------------------------------------------------------------------------------


@pytest.mark.parametrize("threads", [2, 3, 5])
def test_many_divergences(threads: int) -> None:
    for seed in range(30):
        net = make(seed)
        with pytest.raises(fastbp.DivergenceError):
            net.fit(X, Y, batch_size=32, optimizer=SGD(1e30), threads=threads)
        assert all(np.isfinite(array).all() for array in [*net.weights, *net.biases])


@pytest.mark.parametrize("threads", [1, 3])
def test_what_a_divergence_keeps_depends_on_sizes_alone(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def left(**patches: Any) -> tuple[bytes, int, int]:
        for name, value in patches.items():
            monkeypatch.setattr(fastbp.engine.tuning, name, value)
        net = make()
        bad = lambda step: 1e30 if step == 2017 else 0.01  # noqa: E731
        with pytest.raises(fastbp.DivergenceError) as caught:
            net.fit(X, Y, epochs=300, batch_size=32, optimizer=SGD(), schedule=bad, threads=threads)
        state = net.optimizer_state()
        assert caught.value.step in (2017, 2018)
        return b"".join(array.tobytes() for array in net.weights), state["steps"], state["epochs"]

    found = left()
    assert 2018 - 10 <= found[1] <= 2017  # an epoch has ten steps
    assert found[1] // 10 == found[2]
    assert found == left(CHUNK_SECONDS=0.0)
    assert found == left(CHUNK_SECONDS=1e9, MAX_STEPS=7, FIRST_STEPS=3)
    twin = make()
    twin.fit(X, Y, epochs=found[2], batch_size=32, optimizer=SGD(lr=0.01), threads=1)
    assert found[1] % 10 or found[0] == b"".join(array.tobytes() for array in twin.weights)


def test_a_label_that_changes_meanwhile_is_an_error() -> None:
    y = Y.copy()

    def spoil(state: Any) -> None:
        y[17] = 99

    with pytest.raises(ValueError, match=r"y\[17\] is 99 now, but labels for 3 outputs run from 0 to 2"):
        make().fit(X, y, epochs=5, callbacks=[Calls(spoil)])


# --- the lock of a network ----------------------------------------------------------------------------------


@pytest.mark.parametrize("call", ["predict", "evaluate", "copy", "weights", "train_step", "pickle"])
def test_another_thread_may_use_the_network_during_a_callback(call: str) -> None:
    code = """
import pickle, sys
from concurrent.futures import ThreadPoolExecutor
from test_never_hang import *
net = make()
calls = {"predict": lambda: net.predict(X), "evaluate": lambda: net.evaluate(X, Y), "copy": net.copy,
         "weights": lambda: net.weights, "train_step": lambda: net.train_step(X, Y, "adam"),
         "pickle": lambda: pickle.dumps(net)}
with ThreadPoolExecutor() as pool:
    ask = Calls(lambda state: pool.submit(calls[sys.argv[1]]).result())
    net.fit(X, Y, epochs=3, callbacks=[ask])
assert len(ask.found) == 3
"""
    succeed(code, call, timeout=120)


def test_another_thread_may_use_the_network_while_a_chunk_is_fetched() -> None:
    code = """
from concurrent.futures import ThreadPoolExecutor
from test_never_hang import *
net = make()
def chunks():
    with ThreadPoolExecutor() as pool:
        for k in range(3):
            found = pool.submit(net.predict, X).result()
            assert found.shape == (300,)
            yield X, Y
assert len(net.fit(chunks, epochs=2).loss) == 2
"""
    succeed(code, timeout=120)


def test_a_second_fit_from_another_thread_is_an_error_at_once() -> None:
    net = make()
    with ThreadPoolExecutor() as pool:
        ask = Calls(lambda state: pool.submit(net.fit, X, Y).exception())
        net.fit(X, Y, epochs=2, callbacks=[ask])
    assert [type(error) for error in ask.found] == [RuntimeError] * 2
    assert "being trained by another thread" in str(ask.found[0])
    net.fit(X, Y, epochs=1)


def test_what_another_thread_does_during_a_callback_changes_no_bits() -> None:
    plain, asked = make(), make()
    with ThreadPoolExecutor() as pool:
        asked.fit(X, Y, epochs=3, callbacks=[Calls(lambda state: pool.submit(asked.evaluate, X[:7], Y[:7]).result())])
    plain.fit(X, Y, epochs=3)
    assert all(np.array_equal(a, b) for a, b in zip(plain.weights, asked.weights, strict=True))


@pytest.mark.parametrize("callback", [EarlyStopping("loss", patience=99), MaxSeconds(99.0)])
def test_a_callback_serves_one_fit_at_a_time(callback: Any) -> None:
    errors: list[Any] = []

    def nested(state: Any) -> None:
        try:
            make(1).fit(X, Y, epochs=1, callbacks=[callback])
        except ValueError as error:
            errors.append(str(error))

    make().fit(X, Y, epochs=2, callbacks=[callback, Calls(nested)])
    assert len(errors) == 2
    assert "in use by another fit" in errors[0]
    make().fit(X, Y, epochs=1, callbacks=[callback])  # given back


# --- signals ------------------------------------------------------------------------------------------------


@posix
def test_ctrl_c_raises_in_a_callback_at_once() -> None:
    def interrupted(state: Any) -> None:
        signal.raise_signal(signal.SIGINT)
        never.append(1)

    never: list[int] = []
    net = make()
    with pytest.raises(KeyboardInterrupt):
        net.fit(X, Y, epochs=3, callbacks=[Calls(interrupted)])
    assert not never
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert net.fit(X, Y, epochs=1).loss


@posix
def test_ctrl_c_raises_while_a_chunk_is_fetched() -> None:
    def chunks() -> Iterator[Any]:
        yield X, Y
        signal.raise_signal(signal.SIGINT)
        raise AssertionError("not at once")

    net = make()
    with pytest.raises(KeyboardInterrupt):
        net.fit(chunks, epochs=1)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert net.optimizer_state()["steps"] == 10


def test_a_handler_that_was_left_over_heals_itself() -> None:
    block = team.interruptible(lambda: None)
    block.__enter__()
    block._frame = None  # as if an exception had come at the first line of __exit__
    try:
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.mark.parametrize("at", range(1, 12))
def test_an_exception_at_any_line_of_the_hand_over(at: int) -> None:
    """As a signal handler of the user's own raises it."""
    code = """
import sys
from test_never_hang import *
at, count = int(sys.argv[1]), 0
net, twin = make(), make()
for one in (net, twin):
    one.fit(X, Y, epochs=1, threads=3)
class Alarm(BaseException): pass
def trace(frame, event, arg):
    global count
    if frame.f_code.co_filename != team.__file__ or frame.f_code.co_name not in ("run", "give", "_hire", "_placement"):
        return None
    if event == "line":
        count += 1
        if count == at * 3:
            raise Alarm
    return trace
sys.settrace(trace)
try:
    net.fit(X, Y, epochs=3, threads=3)
except Alarm:
    sys.settrace(None)
else:
    sys.settrace(None)
    print("not reached")
state = net.optimizer_state()
twin.set_weights(net.weights, net.biases)
twin.load_optimizer_state(state)
assert net.fit(X, Y, epochs=2, threads=3).loss == twin.fit(X, Y, epochs=2, threads=3).loss
assert all(np.array_equal(a, b) for a, b in zip(net.weights, twin.weights))
"""
    assert succeed(code, at, timeout=120, FASTBP_WATCHDOG="10") in ("", "not reached\n")


# --- fork ---------------------------------------------------------------------------------------------------


@posix
@pytest.mark.skipif(sys.version_info >= (3, 12) and sys.platform == "darwin", reason="fork of threads")
def test_a_child_that_is_forked_while_another_thread_trains() -> None:
    code = """
import threading, warnings
from test_never_hang import *
warnings.simplefilter("ignore")  # Python 3.12 warns of any fork beside a thread
net = make()
net.fit(X, Y, epochs=1)
going = threading.Event()
class Go:
    def on_epoch_end(self, state):
        going.set()
        return stopped.is_set()
stopped = threading.Event()
thread = threading.Thread(target=net.fit, args=(X, Y), kwargs={"epochs": 10**6, "callbacks": [Go()]})
thread.start()
for _ in range(20):
    going.wait()
    child = os.fork()
    if child == 0:
        net.predict(X)
        net.fit(X, Y, epochs=1, threads=2)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
stopped.set()
thread.join()
"""
    succeed(code, timeout=120)


@posix
def test_a_child_that_is_forked_while_another_thread_compiles() -> None:
    code = """
import tempfile, threading, warnings
from test_never_hang import *
from fastbp.kernels import build
warnings.simplefilter("ignore")
compiling = threading.Event()
compile_ = build.compile_leaf
def told(leaf, dtype):
    compiling.set()
    return compile_(leaf, dtype)
build.compile_leaf = told
thread = threading.Thread(target=make().fit, args=(X, Y))
thread.start()
compiling.wait()
child = os.fork()
if child == 0:
    make().fit(X, Y, epochs=1)
    os._exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
thread.join()
"""
    succeed(code)


# --- threads ------------------------------------------------------------------------------------------------


def test_threads_that_cannot_start(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = make()
    expected.fit(X, Y, epochs=2, threads=1)
    start, granted = threading.Thread.start, 1

    def refuse(self: threading.Thread) -> None:
        nonlocal granted
        if self.name == "fastbp":
            granted -= 1
            if granted < 0:
                raise RuntimeError("can't start new thread")
        start(self)

    monkeypatch.setattr(team, "_idle", [])
    monkeypatch.setattr(threading.Thread, "start", refuse)
    for _ in range(3):  # the one that could be started is given back, and serves the next fit
        net = make()
        net.fit(X, Y, epochs=2, threads=4)
        assert all(np.array_equal(a, b) for a, b in zip(net.weights, expected.weights, strict=True))
        assert len(team._idle) == 1
    team._idle.clear()
    net = make()
    net.fit(X, Y, epochs=2, threads=4)
    assert all(np.array_equal(a, b) for a, b in zip(net.weights, expected.weights, strict=True))
    done: list[int] = []
    team.run(done.append, 2, detached=True)
    assert done == [0]


# --- the watchdog -------------------------------------------------------------------------------------------


def test_the_watchdog_tells_who_waits_where() -> None:
    code = """
from test_never_hang import *
net = make()
net.fit(X, Y, epochs=1, threads=3)
give = team._Worker.give
team._Worker.give = lambda self, work, number, *rest: None if number == 2 else give(self, work, number, *rest)
try:
    net.fit(X, Y, epochs=1, threads=3)
except RuntimeError as error:
    print(error)
team._Worker.give = give
try:
    net.predict(X)
except RuntimeError as error:
    print(error)
assert make().fit(X, Y, epochs=1, threads=3).loss and net.weights[0].shape == (8, 16)
"""
    first, second = succeed(code, timeout=120, FASTBP_WATCHDOG="0.3").splitlines()
    assert first == second
    assert "thread 2" in first
    assert "not come yet" in first
    assert "shuffle" in first


@posix
def test_a_network_whose_threads_are_stuck_repeats_no_small_call() -> None:
    code = """
from test_never_hang import *
net, give, rows = make(), team._Worker.give, np.tile(X, (200, 1))
labels = np.tile(Y, 200)
net.train_step(rows, labels, "adam")
net.predict(X[:3])
team._Worker.give = lambda self, work, number, *rest: None if number == 2 else give(self, work, number, *rest)
try:
    net.train_step(rows, labels, "adam")
except RuntimeError as error:
    print(error)
try:
    net.predict(X[:3])
except RuntimeError as error:
    print(error)
"""
    first, second = succeed(code, timeout=120, FASTBP_WATCHDOG="0.3", FASTBP_NUM_THREADS="3").splitlines()
    assert first == second


@posix
def test_the_watchdog_knows_patience() -> None:
    """A thread that computes for long, and a process that was stopped for long, are not stuck."""
    code = """
import threading, time
from test_never_hang import *
net = MLP([1, 2, 1], loss="mse", seed=0)
rows = np.zeros((3_000_000, 1), np.float32)  # the order of so many rows is made by one thread, the others wait
net.fit(rows, rows, epochs=1, batch_size=100_000, threads=3)
def freeze():
    pid = os.fork()
    if pid == 0:
        os.kill(os.getppid(), signal.SIGSTOP)
        time.sleep(1.0)
        os.kill(os.getppid(), signal.SIGCONT)
        os._exit(0)
    os.waitpid(pid, 0)
thread = threading.Thread(target=freeze)
thread.start()
while thread.is_alive():
    net.fit(rows[:2000], rows[:2000], epochs=20, batch_size=100, threads=3)
thread.join()
"""
    succeed(code, timeout=120, FASTBP_WATCHDOG="0.05", PYTHONWARNINGS="ignore::DeprecationWarning")


@pytest.mark.parametrize("given", ["0", "-1", "soon", "nan"])
def test_a_wrong_watchdog(given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTBP_WATCHDOG", given)
    with pytest.raises(ValueError, match=f"FASTBP_WATCHDOG must be a positive number of seconds, got '{given}'"):
        make().fit(X, Y, threads=2)
