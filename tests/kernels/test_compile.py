"""A cold compile inside a call: it can be left by Ctrl-C, goes on where it was, and bears Numba's own settings."""

from __future__ import annotations

import ast
import os
import sys
from pathlib import Path

import pytest
from processes import python, succeed

from fastbp import MLP
from fastbp.kernels import build, probe

# Every call is interrupted while a leaf compiles: the compiler waits in it until the caller has the exception. Then the
# same call again must give what it gives on an untouched network. One leaf of the compile is spent on each of them.
INTERRUPTED = """
import os, signal, sys, threading, numpy as np, fastbp
from fastbp.callbacks import stopping
from fastbp.kernels import build

X, y = np.random.default_rng(0).random((40, 4)), np.arange(40) % 3
caught = threading.Event()
armed = True
compile, begun = build.compile_leaf, []

def slowly(leaf, dtype):
    global armed
    begun.append(leaf.name)
    if armed:
        armed = False
        os.kill(os.getpid(), signal.SIGINT)
        if not caught.wait(60):
            os.write(2, b"Ctrl-C is answered only when the compile is done")
            os._exit(1)
    return compile(leaf, dtype)

build.compile_leaf = slowly

def new():
    return fastbp.MLP([4, 8, 3], seed=0)

def fit(net): return net.fit(X, y, epochs=3, batch_size=8, optimizer="adam").loss
def fit_in_threads(net): return net.fit(X, y, epochs=3, batch_size=8, threads=3, validation_split=0.2).val_loss
def chunks(net): return net.fit(lambda: iter([(X, y), (X, y)]), epochs=2, steps_per_epoch=10, batch_size=8).loss
def lbfgs(net): return net.fit(X, y, epochs=2, optimizer="lbfgs").loss
def step(net): return net.train_step(X, y, "adam")
def gradient(net): return net.backprop(X, y).weights
def update(net): return fastbp.SGD(0.1).update(net, fastbp.Gradient(0.0, net.weights, net.biases, X))
def predict(net): return net.predict_proba(X)
def evaluate(net): return net.evaluate(X, y)
def sweep(net): return fastbp.lr_sweep(net, X, y, [0.01, 0.1, 1.0], seeds=1, epochs=2).val_loss
def ramp(net): return fastbp.lr_range_test(net, X, y, n_steps=30, seeds=1).losses
def warm(net): return fastbp.warmup(["float32"])
calls = [fit, fit_in_threads, chunks, lbfgs, step, gradient, update, predict, evaluate, sweep, ramp, warm]

touched = {}
for call in calls:
    net, armed = new(), True
    caught.clear()
    try:
        call(net)
        sys.exit(f"{call.__name__} was not interrupted")
    except KeyboardInterrupt:
        assert any(one.name == "fastbp compiler" for one in threading.enumerate()), "it ended before the answer"
        caught.set()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    touched[call] = net
assert len(begun) == len(set(begun)) == len(calls), "every piece is compiled once"

import warnings
warnings.simplefilter("ignore")
for call, net in touched.items():
    twin = new()
    np.testing.assert_equal(call(net), call(twin), call.__name__)
    for one, other in zip(net.weights + net.biases, twin.weights + twin.biases, strict=True):
        np.testing.assert_array_equal(one, other, call.__name__)
assert len(begun) == len(set(begun)) == len({leaf for one in build._ENTRIES for leaf in build.leaves_of(one)})
print("done")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGINT for a single process")
def test_ctrl_c_while_a_call_compiles(tmp_path: Path) -> None:
    """Without a second process, so that every leaf is compiled in the thread that is watched."""
    assert succeed(INTERRUPTED, FASTBP_CACHE_DIR=str(tmp_path), FASTBP_HELPER="1") == "done\n"


FORKED = """
import os, threading, numpy as np, fastbp
from fastbp.kernels import build, probe
compile, inside = build.compile_leaf, threading.Event()
def slowly(leaf, dtype):
    inside.set()
    return compile(leaf, dtype)
build.compile_leaf = slowly
compiling = threading.Thread(target=probe.fma_peak, kwargs={"seconds": 0.001})
compiling.start()
inside.wait()
child = os.fork()  # in the middle of a compile by another thread
if not child:
    assert probe.read_ticks() > 0
    assert probe.fma_peak("float64", seconds=0.001) > 0
    os._exit(7)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
compiling.join()
assert probe.read_ticks() > 0
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_fork_in_the_middle_of_a_compile(tmp_path: Path) -> None:
    succeed(FORKED, FASTBP_CACHE_DIR=str(tmp_path), timeout=120)


def test_without_a_thread_the_caller_compiles(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(build.threading.Thread, "start", refuse)
    monkeypatch.setattr(build, "_prepared", {})
    assert build.entry(probe.tick_probe, "float32") is not None


def test_an_error_of_the_compiler_reaches_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise MemoryError("no room for code")

    monkeypatch.setattr(build, "_prepared", {})
    monkeypatch.setattr(build, "compile_leaf", fail)
    with pytest.raises(MemoryError, match="no room for code"):
        MLP([4, 3, 2], seed=0).predict([[1.0, 2.0, 3.0, 4.0]])


def test_what_a_report_raises_ends_the_wait() -> None:
    """As what a handler of the user's own raises; the work is told, and may end in peace."""
    seen = []

    def report() -> None:
        raise TimeoutError("from a signal handler")

    with pytest.raises(TimeoutError, match="from a signal handler"):
        build.beside(lambda stop: seen.append(stop.wait(60)), report)
    for thread in build.threading.enumerate():
        if thread.name == "fastbp compiler":
            thread.join()
    assert seen == [True]


# --- Numba's settings

FIT = """
import numpy as np, fastbp
net = fastbp.MLP([4, 8, 3], seed=0)
print(net.fit(np.eye(4), np.arange(4) % 3, epochs=3, optimizer="adam", threads=2).loss)
"""
UPDATE = "from fastbp.kernels import build, update; build.prepare(update.update.leaf, 'float32')"


def test_no_kernel_is_a_docstring_alone() -> None:
    """Numba looks for a line after it when it writes debug information."""
    found = []
    for path in Path(build.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef) and ast.get_docstring(node) and len(node.body) == 1:
                found.append(f"{path.name}:{node.name}")
    assert not found


def test_profiling(tmp_path: Path) -> None:
    """Which brings debug information with it: the same bits. Slow: all of float32 is compiled."""
    assert succeed(FIT, NUMBA_ENABLE_PROFILING="1", FASTBP_CACHE_DIR=str(tmp_path)) == succeed(FIT)


@pytest.mark.parametrize("setting", ["NUMBA_DEBUGINFO", "NUMBA_BOUNDSCHECK", "NUMBA_EXTEND_VARIABLE_LIFETIMES"])
def test_settings_that_change_the_code(setting: str, tmp_path: Path) -> None:
    for _ in range(2):  # compiled, and read again
        succeed(UPDATE, FASTBP_CACHE_DIR=str(tmp_path), **{setting: "1"})
    assert len(list(tmp_path.rglob("*.bin"))) == 1


@pytest.mark.parametrize("what", ["library", "command line"])
def test_a_disabled_compiler_is_named(what: str) -> None:
    command = "import runpy, sys; sys.argv = ['fastbp', 'train']; runpy.run_module('fastbp', run_name='__main__')"
    done = python(FIT if what == "library" else command, NUMBA_DISABLE_JIT="1")
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith("ImportError: " if what == "library" else "fastbp: ")
    assert (
        "NUMBA_DISABLE_JIT is set, but fastbp is machine code, which only Numba's compiler can make: unset it" in last
    )
    assert last.endswith("use fastbp.reference.NumpyMLP, the same in plain NumPy")
    succeed("import fastbp; assert fastbp.__version__ and dir(fastbp)", NUMBA_DISABLE_JIT="1")
