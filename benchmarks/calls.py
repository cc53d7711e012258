"""What lies around short calls: Python from the caller's line to the kernel and back, in microseconds, on one thread.

    python benchmarks/calls.py
    python benchmarks/calls.py --against FOLDER     # beside another checkout, in processes that take turns

A round has a block of a millisecond for each call. A figure is a median over the rounds, a ratio that of two medians.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import IO, NamedTuple

import click
import numpy as np
from rich.console import Console
from rich.table import Table

BLOCK_SECONDS = 1e-3


class Call(NamedTuple):
    """One line of the table: what is called, on which network, and what it is to take at most beside 0.1.0."""

    name: str
    shape: str
    target: float
    make: Callable[[], Callable[[], object]]


def _classes(n: int, sizes: tuple[int, ...]) -> tuple[object, np.ndarray, np.ndarray]:
    import fastbp  # of the folder at hand

    random = np.random.default_rng(0)
    X, y = random.standard_normal((n, sizes[0])).astype(np.float32), random.integers(0, sizes[-1], n)
    return fastbp.MLP(list(sizes), seed=0), X, y


def _triple() -> Callable[[], object]:
    from fastbp import Adam

    (net, X, _), adam = _classes(16, (4, 64, 64, 2)), Adam(lr=1e-9)
    g = np.random.default_rng(1).standard_normal((16, 2)).astype(np.float32)

    def call() -> None:
        net.forward(X)
        adam.update(net, net.backprop(X, output_gradient=g))

    return call


def _backprop() -> Callable[[], object]:
    net, X, y = _classes(16, (4, 16, 3))
    return lambda: net.backprop(X, y)


def _update() -> Callable[[], object]:
    from fastbp import Adam

    (net, X, y), adam = _classes(16, (4, 64, 64, 2)), Adam(lr=1e-9)
    gradient = net.backprop(X, y)
    return lambda: adam.update(net, gradient)


def _step(sizes: tuple[int, ...]) -> Callable[[], Callable[[], object]]:
    def make() -> Callable[[], object]:
        from fastbp import Adam

        (net, X, y), adam = _classes(16, sizes), Adam(lr=1e-9)
        return lambda: net.train_step(X, y, adam)

    return make


def _fit() -> Callable[[], object]:
    net, X, y = _classes(150, (4, 16, 3))
    return lambda: net.fit(X, y, epochs=1)


def _new() -> Callable[[], object]:
    import fastbp

    return lambda: fastbp.MLP([4, 16, 3])


def _predict(rows: int) -> Callable[[], Callable[[], object]]:
    def make() -> Callable[[], object]:
        net, X, _ = _classes(rows, (4, 16, 3))
        return lambda: net.predict(X)

    return make


SMALL, DEEP = "4-16-3", "4-64-64-2"
CALLS = (
    Call("forward, backprop(output_gradient), update", f"{DEEP}, 16 rows, Adam", 1 / 10, _triple),
    Call("backprop(X, y)", f"{SMALL}, 16 rows", 1 / 5, _backprop),
    Call("update of an untouched gradient", f"{DEEP}, Adam", 1 / 25, _update),
    Call("train_step", f"{SMALL}, 16 rows, Adam", 0.8, _step((4, 16, 3))),
    Call("train_step", f"{DEEP}, 16 rows, Adam", 0.6, _step((4, 64, 64, 2))),
    Call("fit(epochs=1)", f"{SMALL}, 150 rows", 0.4, _fit),
    Call("MLP([4, 16, 3])", SMALL, 0.6, _new),
    Call("predict", f"{SMALL}, 1 row", 1.0, _predict(1)),
    Call("predict", f"{SMALL}, 150 rows", 1.0, _predict(150)),
)


def measure() -> Iterator[list[float]]:
    """Rounds without end: seconds of each call, the mean over a block."""
    made = [call.make() for call in CALLS]
    numbers = []
    for call in made:
        for _ in range(20):
            call()
        start = perf_counter()
        for _ in range(20):
            call()
        numbers.append(max(1, int(BLOCK_SECONDS / ((perf_counter() - start) / 20))))
    while True:
        seconds = []
        for call, number in zip(made, numbers, strict=True):
            call()  # what the others have driven out of the caches comes back
            start = perf_counter()
            for _ in range(number):
                call()
            seconds.append((perf_counter() - start) / number)
        yield seconds


class Worker:
    """A process that measures a checkout, a round whenever it is asked."""

    def __init__(self, folder: Path) -> None:
        environment = os.environ | {"PYTHONPATH": str(folder.resolve()), "FASTBP_NUM_THREADS": "1"}
        command = [sys.executable, "-P", str(Path(__file__).resolve()), "--serve"]
        self.process = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.rounds: list[list[float]] = []

    def round(self) -> None:
        """One more round."""
        self._pipe(self.process.stdin).write("\n")
        self._pipe(self.process.stdin).flush()
        line = self._pipe(self.process.stdout).readline()
        if not line:
            raise click.ClickException(f"the process that measures has ended with status {self.process.wait()}")
        self.rounds.append(json.loads(line))

    @staticmethod
    def _pipe(pipe: IO[str] | None) -> IO[str]:
        assert pipe is not None
        return pipe

    def medians(self) -> list[float]:
        """Microseconds of each call."""
        return [1e6 * median(column) for column in zip(*self.rounds, strict=True)]

    def close(self) -> None:
        """End the process."""
        self._pipe(self.process.stdin).close()
        self.process.wait()


def serve() -> None:
    """Measure a round for each line of stdin."""
    rounds = measure()
    for _ in sys.stdin:
        print(json.dumps(next(rounds)), flush=True)


@click.command(help=__doc__, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--against", type=click.Path(exists=True, file_okay=False, path_type=Path), help="Another checkout.")
@click.option("--rounds", type=click.IntRange(min=1), default=300, show_default=True, help="Of each checkout.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Write the figures as JSON, too.")
@click.option("--serve", "serves", is_flag=True, hidden=True)
def main(against: Path | None, rounds: int, out: Path | None, serves: bool) -> None:
    if serves:
        serve()
        return
    here = Worker(Path(__file__).resolve().parent.parent)
    other = None if against is None else Worker(against)
    workers = [here] if other is None else [here, other]
    for _ in range(rounds):
        for worker in workers:
            worker.round()
    table = Table("call", "network", title=f"microseconds a call, medians of {rounds} rounds, one thread")
    for title in ("here",) if other is None else ("there", "here", "ratio", "0.1.0 times at most"):
        table.add_column(title, justify="right")
    found, found_there = here.medians(), None if other is None else other.medians()
    for k, call in enumerate(CALLS):
        figures = [f"{found[k]:.3g}"]
        if found_there is not None:
            ratio = found[k] / found_there[k]
            figures = [f"{found_there[k]:.3g}", f"{found[k]:.3g}", f"{ratio:.3f}", f"{call.target:.2g}"]
        table.add_row(call.name, call.shape, *figures)
    for worker in workers:
        worker.close()
    Console(width=None if sys.stdout.isatty() else 120).print(table)
    if out is not None:
        names = [f"{call.name}, {call.shape}" for call in CALLS]
        document = {"here": dict(zip(names, found, strict=True))}
        if found_there is not None:
            document["there"] = dict(zip(names, found_there, strict=True))
        out.write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()
