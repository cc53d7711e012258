"""Divergences and stops with delays of chance at every barrier, in any placement: threads that hang, or leave apart."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from processes import succeed

import fastbp
from fastbp import MLP, SGD, Adam
from fastbp.engine import watchdog

CODE = "import sys; from tests.attack.barriers import child; child(*map(int, sys.argv[1:4]), float(sys.argv[4]))"
LONGEST_DELAY = 2000  # pauses
SIZES = [16, 70, 40, 3]  # with vectors of 16, panels for three parts and for two, and none for others


def run(seconds: float, seed: int) -> dict[str, int]:
    """2 to 5 threads, on one CPU and on two, each for its share of the time, beside a busy process."""
    cpus = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    cases = list(itertools.product((2, 3, 4, 5), (1, 2) if len(cpus) > 1 else (len(cpus),)))
    counts = {"divergences": 0, "stops": 0, "fewest of each by threads and CPUs": 10**9}
    # Many threads on one CPU are slow: they get more of the time, for all cases to come often.
    shares = [threads * (4 if n_cpus == 1 else 1) for threads, n_cpus in cases]
    for (threads, n_cpus), share in zip(cases, shares, strict=True):
        with busy(cpus[:n_cpus]):
            given = threads, n_cpus, seed, seconds * share / sum(shares)
            said = json.loads(succeed(CODE, *given, timeout=10 * seconds + 300, FASTBP_WATCHDOG="20"))
        for name, count in said.items():
            counts[name] += count
        fewest = "fewest of each by threads and CPUs"
        counts[fewest] = min(counts[fewest], *said.values())
    return counts


@contextmanager
def busy(cpus: list[int]) -> Iterator[None]:
    """A process that never rests, on these CPUs."""
    place = f"os.sched_setaffinity(0, {cpus}); " if cpus else ""
    neighbour = subprocess.Popen([sys.executable, "-c", f"import os; {place}\nwhile True: pass"])
    try:
        yield
    finally:
        neighbour.kill()
        neighbour.wait()


def child(threads: int, n_cpus: int, seed: int, seconds: float) -> None:
    """Train networks that diverge, and networks that are stopped, by turns."""
    if n_cpus:
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:n_cpus])
    rng = np.random.default_rng([seed, threads, n_cpus])
    data = rng.standard_normal((500, 16), np.float32), rng.integers(0, 3, 500)
    MLP(SIZES, seed=0).fit(*data, epochs=1, threads=threads)  # compiles
    counts = {"divergences": 0, "stops": 0}
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        watchdog.delays = LONGEST_DELAY, int(rng.integers(1 << 20))
        place(rng, threads)
        for name, attack in (("divergences", diverge), ("stops", stop)):
            attack(rng, data, threads)
            counts[name] += 1
    print(json.dumps(counts))


def place(rng: np.random.Generator, threads: int) -> None:
    """Have the trainings to come by rows, or by columns: one layer or two, a part for each thread or for some peers."""
    parts = [n for n in range(2, threads + 1) if threads % n == 0]
    chosen = ["rows", *(f"columns:{layers}/{n}" for layers in (1, 2) for n in parts)]
    os.environ["FASTBP_PLACEMENT"] = str(rng.choice(chosen))


def check_place(net: MLP) -> None:
    """The last training was placed as was asked."""
    job, asked = net.session.engine.job[0], os.environ["FASTBP_PLACEMENT"]
    placed = "rows" if job["columns"] == 0 else f"columns:{job['columns']}/{job['parts']}"
    assert placed == asked


def network(rng: np.random.Generator) -> tuple[MLP, dict[str, Any]]:
    """A network and options that use this or that barrier."""
    net = MLP(SIZES, seed=int(rng.integers(99)), max_norm=1.0 if rng.integers(2) else None)
    return net, {"batch_size": int(rng.choice([32, 100, 500])), "shuffle": bool(rng.integers(2))}


def diverge(rng: np.random.Generator, data: tuple[Any, Any], threads: int) -> None:
    """A training that diverges; the weights before it stay."""
    net, options = network(rng)
    if rng.integers(2):
        net = MLP(SIZES, seed=net.seed)
        recipe = SGD(1e30, clip_value=1e30) if rng.integers(2) else SGD(1e30)
    else:  # whose norms are held: by its loss alone
        net, recipe = MLP(SIZES, loss="mse", seed=net.seed, max_norm=1e19, activation="identity"), SGD(1e20)
        data = data[0], np.full((500, 3), 1e19, np.float32)
    try:
        net.fit(*data, epochs=3, optimizer=recipe, threads=threads, **options)
    except fastbp.DivergenceError:
        check_place(net)
        assert all(np.isfinite(array).all() for array in [*net.weights, *net.biases])
        return
    raise AssertionError(f"{net} has not diverged with {recipe}, {options}")


def stop(rng: np.random.Generator, data: tuple[Any, Any], threads: int) -> None:
    """A training that Ctrl-C ends in the middle of a native call; its twin makes as many steps, to the same bits."""
    net, options = network(rng)
    recipe = Adam(clip_norm=0.5) if rng.integers(2) else Adam()
    call, delay = net.session.engine.call, float(rng.uniform(0.0, 0.01))

    def detached(mode: int, n: int, **_: Any) -> int:  # so that the calling thread sees the signal at once
        nonlocal timer
        if timer is None:
            timer = threading.Timer(delay, os.kill, (os.getpid(), signal.SIGINT))
            timer.start()
        return call(mode, n, detached=True)

    timer: threading.Timer | None = None
    net.session.engine.call = detached  # type: ignore[method-assign]
    try:
        net.fit(*data, epochs=10**6, optimizer=recipe, threads=threads, **options)
        raise AssertionError("it came to its end")
    except KeyboardInterrupt:
        check_place(net)
    X, y, size = *data, options["batch_size"]
    steps, per_epoch = net.optimizer_state()["steps"], -(-len(X) // size)
    assert net.optimizer_state()["epochs"] == steps // per_epoch
    assert all(np.isfinite(array).all() for array in [*net.weights, *net.biases])
    if not options["shuffle"]:
        twin = MLP(SIZES, seed=net.seed, max_norm=net.regularization.max_norm)
        for number in range(steps):
            rows = slice(number % per_epoch * size, (number % per_epoch + 1) * size)
            twin.train_step(X[rows], y[rows], recipe)
        assert all(np.array_equal(a, b) for a, b in zip(net.weights, twin.weights, strict=True)), (steps, options)
