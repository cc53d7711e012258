"""Arrays between unreadable pages, and full of NaN: who leaves a buffer, or reads what was never written, is found.

A kernel that leaves its buffer kills the process, so `test_guard_pages.py` and the attack run this in others. Every
network is used twice, the second time with NaN in all that a call should write before it reads: the same bits.
"""

from __future__ import annotations

import ctypes
import dataclasses
import itertools
import json
import mmap
import sys
import time
import warnings
from typing import Any

import numpy as np
from oracles import ONE_A_RULE

import fastbp.data.splits
import fastbp.engine.engine
import fastbp.engine.layout
import fastbp.engine.many
import fastbp.engine.session
import fastbp.engine.state
import fastbp.engine.tuning
import fastbp.training.loop
from fastbp import MLP, activations, schedules
from fastbp.engine import memory
from fastbp.engine.engine import Engine
from fastbp.engine.session import Session as NetworkSession
from fastbp.kernels import records
from fastbp.losses import LOSSES
from fastbp.many import native
from fastbp.many.run_spec import RunSpec
from fastbp.training.rate_table import RateTable

PAGE = mmap.PAGESIZE
Array = np.ndarray[Any, np.dtype[Any]]
_libc = ctypes.CDLL(None, use_errno=True)
_libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]


def guarded(n: int, dtype: Any, at_end: bool, *, clear: bool = True) -> Array:
    """n zeros that end where an unreadable page begins, or begin where one ends; NaN fills up the other side.

    clear: otherwise these are NaN as well, or -1.
    """
    dtype = np.dtype(dtype)
    size = n * dtype.itemsize
    pages = max(1, -(-size // PAGE))
    whole = np.frombuffer(mmap.mmap(-1, (pages + 2) * PAGE), np.uint8)
    for first in (0, (pages + 1) * PAGE):
        if _libc.mprotect(whole.ctypes.data + first, PAGE, 0):
            raise OSError(ctypes.get_errno(), "mprotect")
    inside = whole[PAGE:-PAGE]
    inside[:] = 0xFF
    start = pages * PAGE - size if at_end else 0
    found = inside[start : start + size].view(dtype)
    if clear:
        found[:] = np.zeros((), dtype)
    return found


def moved(array: Array, at_end: bool, strided: bool = False) -> Array:
    """A guarded copy; strided: with gaps between rows and columns, the last element at the edge of its page."""
    if not strided:
        result = guarded(array.size, array.dtype, at_end).reshape(array.shape)
    else:
        n, m = array.shape
        row, column = m * 3 + 1, 3
        buffer = guarded((n - 1) * row + (m - 1) * column + 1, array.dtype, at_end)
        item = array.itemsize
        result = np.lib.stride_tricks.as_strided(buffer, (n, m), (row * item, column * item))
        if not at_end:  # walked backwards, the first row comes last
            result[...] = array[::-1, ::-1]
            return result[::-1, ::-1]
    result[...] = array
    return result


class _Numpy:
    """NumPy, but that arrays made for the kernels are guarded, and those that are empty poisoned."""

    def __init__(self, at_end: bool) -> None:
        self.at_end = at_end

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)

    def zeros(self, shape: Any, dtype: Any = np.float64) -> Array:
        return guarded(int(np.prod(shape)), dtype, self.at_end).reshape(shape)

    def empty(self, shape: Any, dtype: Any = np.float64) -> Array:
        return guarded(int(np.prod(shape)), dtype, self.at_end, clear=not Poison.on).reshape(shape)

    def empty_like(self, array: Array) -> Array:
        return self.empty(array.shape, array.dtype)


def guard(at_end: bool) -> None:
    """Have every buffer that the kernels touch made by `guarded`."""
    make: Any = lambda n, dtype: guarded(n, dtype, at_end)  # noqa: E731
    memory.allocate_all = lambda counts, dtype: [make(n, dtype) for n in counts]
    # records, outputs, order of rows, losses of sweeps
    for module in (
        fastbp.engine.layout,
        fastbp.engine.engine,
        fastbp.engine.state,
        fastbp.engine.session,
        fastbp.engine.memory,
        fastbp.training.loop,
        fastbp.engine.many,
    ):
        module.np = _Numpy(at_end)  # type: ignore[attr-defined]

    def moves(owner: Any, name: str) -> None:
        """Have a function's arrays moved."""
        function = getattr(owner, name)

        def wrapped(*args: Any, **options: Any) -> Any:
            found = function(*args, **options)
            return found and tuple(moved(np.asarray(one), at_end) if one is not None else None for one in found)

        setattr(owner, name, wrapped)

    moves(fastbp.data.splits, "split_rows")
    moves(NetworkSession, "kernel_scaling")
    moves(RateTable, "tables")
    moves(RunSpec, "tables")
    check_batch = NetworkSession.check_batch

    def guarded_targets(*args: Any, **options: Any) -> Any:
        samples = check_batch(*args, **options)
        return samples._replace(y=moved(samples.y, at_end))

    NetworkSession.check_batch = guarded_targets  # type: ignore[method-assign]


class Poison:
    """Fills with NaN what a call of the kernels has to write before it may read it."""

    on = False

    @classmethod
    def spread(cls) -> None:
        """Have all calls do so, while `on`."""
        call, again, update, sweep = Engine.call, Engine.call_again, Engine.update_again, native.Native._call

        def poisoned_call(engine: Engine, mode: int, *args: Any, **options: Any) -> Any:
            cls.fill(engine, gradient=mode != records.UPDATE)
            return call(engine, mode, *args, **options)

        def poisoned_again(engine: Engine, *args: Any, **options: Any) -> Any:
            cls.fill(engine)
            return again(engine, *args, **options)

        def poisoned_update(engine: Engine, *args: Any) -> Any:
            cls.fill(engine)
            return update(engine, *args)

        def poisoned_sweep(runner: native.Native, n: int) -> Any:
            for net in [*runner.nets, *(fit.net for fit in runner.loops)]:
                cls.fill(net.session.engine)
            cls.ruin(runner.runs.held_out_losses)
            return sweep(runner, n)

        Engine.call, Engine.call_again = poisoned_call, poisoned_again  # type: ignore[method-assign]
        Engine.update_again = poisoned_update  # type: ignore[method-assign]
        native.Native._call = poisoned_sweep  # type: ignore[method-assign]

    @classmethod
    def fill(cls, engine: Engine, *, gradient: bool = True) -> None:
        """Poison what belongs to an engine; the gradient is read by an update."""
        found: list[Array | None] = [engine.scratch, engine.partials, engine.row_losses, engine.losses]
        found += [engine.mean_weights, engine.gradient if gradient else None]
        if engine.buffers is not None:
            buffers = engine.buffers
            found += [*buffers.activations, *buffers.deltas, buffers.targets, buffers.loss_values]
        for array in found:
            if array is not None:
                cls.ruin(array)

    @classmethod
    def ruin(cls, array: Array) -> None:
        """All bits set: NaN."""
        if cls.on:
            array.view(np.uint8)[...] = 0xFF


def random_network(rng: np.random.Generator) -> MLP:
    """Sizes about the vector widths, and far from them; any activation, loss, dtype and regularisation."""
    edges = [1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 47, 63, 64, 65, 127, 129, 257, 300]
    sizes = [int(n) for n in rng.choice(edges, rng.integers(2, 6))]
    loss = LOSSES[str(rng.choice(list(LOSSES)))]
    sizes[-1] += loss.link.target == "classes" and sizes[-1] == 1  # a softmax over one output is refused
    output = None if loss.link.built_in or rng.random() < 0.5 else str(rng.choice(list(activations.ACTIVATIONS)))
    hidden = [str(name) for name in rng.choice(list(activations.ACTIVATIONS), len(sizes) - 2)]
    dtype = str(rng.choice(["float32", "float64"]))
    held: dict[str, Any] = {
        "dropout": [float(chance) for chance in rng.choice([0.0, 0.3], len(hidden))], "input_noise": 0.1, "l1": 1e-4,
        "l2": 1e-3, "max_norm": 2.0,
    }  # fmt: skip
    chosen = {name: value for name, value in held.items() if rng.random() < 0.25}
    seed = int(rng.integers(99))
    return MLP(sizes, activation=hidden, output_activation=output, loss=loss(), dtype=dtype, seed=seed, **chosen)


def random_data(rng: np.random.Generator, net: MLP, n: int, at_end: bool) -> tuple[Array, Array]:
    """Guarded samples of any dtype and strides, and guarded targets."""
    X = rng.standard_normal((n, net.sizes[0]))
    X = X.astype(rng.choice(["float32", "float64"])) if rng.random() < 0.7 else (X * 20 + 99).astype(np.uint8)
    if net.loss.link.target == "classes" and rng.random() < 0.5:
        y = rng.integers(0, net.sizes[-1], n)
    else:
        y = rng.random((n, net.sizes[-1])) + 0.01
        if net.loss.link.target == "classes":
            y /= y.sum(axis=1, keepdims=True)
        y = np.minimum(y, 1).astype(net.dtype)
    return moved(X, at_end, strided=rng.random() < 0.3), moved(y, at_end)


class Session:
    """All that kernels do, on one network: `found` is what they have made, `operations` how often they were asked."""

    def __init__(self, seed: list[int], at_end: bool) -> None:
        self.rng, self.at_end = np.random.default_rng(seed), at_end
        self.net, self.found, self.operations = random_network(self.rng), list[Array](), 0

    def run(self) -> None:
        """The same calls with the same seed, whatever else is the case."""
        rng, net = self.rng, self.net
        big = net.session.layout.n_parameters < 3000 and rng.random() < 0.5
        n = int(rng.integers(1024, 5000)) if big else int(rng.choice([1, 2, 3, 5, 8, 17, 33, 64, 130]))
        X, y = random_data(rng, net, n, self.at_end)
        if rng.random() < 0.5 or X.dtype == np.uint8:
            net.standardize(X, y if net.loss.link.target == "real" and rng.random() < 0.5 else None)
        weights = moved(rng.random(n) + 0.01, self.at_end) if rng.random() < 0.5 else None
        recipe = self.recipe()
        batch = n if big else int(rng.integers(1, n + 1))
        self.fit(X, y, weights, recipe, batch)
        for _ in range(2):  # the second finds the stage of the first
            self.take(net.train_step(X, y, recipe, sample_weight=weights))
        gradient = net.backprop(X, y, sample_weight=weights)
        recipe.update(net, gradient)
        self.take(*gradient.weights, *gradient.biases, gradient.inputs)
        self.take(net.backprop(X, output_gradient=moved(np.ones((n, net.sizes[-1]), net.dtype), self.at_end)).inputs)
        self.take(net.predict(X), net.evaluate(X, y)["loss"], net.forward(X), net.forward(X), net.copy().forward(X[:1]))
        self.take(
            *net.weights, *net.biases, *(moment[net.session.layout.places()] for moment in net.session.engine.moments)
        )
        assert all(np.isfinite(array).all() for array in self.found)
        if rng.random() < 0.4 and n * net.session.layout.n_parameters < 1e7:
            self.sweep(X, y, recipe, batch)

    def recipe(self) -> Any:
        """An optimiser with any rule; a clipped one now and then."""
        recipe = ONE_A_RULE[self.rng.integers(len(ONE_A_RULE))]
        clips = {"clip_norm": 0.1, "clip_value": 0.01}
        chosen = {name: value for name, value in clips.items() if self.rng.random() < 0.25}
        return dataclasses.replace(recipe, lr=1e-4, **chosen)

    def fit(self, X: Array, y: Array, weights: Array | None, recipe: Any, batch: int) -> None:
        """By an array, by rows of it, or by chunks."""
        rng, n = self.rng, len(X)
        split = 0.3 if self.net.loss.link.target != "classes" and n > 3 and rng.random() < 0.3 else 0.0
        schedule = None if recipe.name == "rprop" or rng.random() < 0.5 else schedules.OneCycle(2)
        options: dict[str, Any] = {
            "epochs": 2, "batch_size": batch, "optimizer": recipe, "threads": int(rng.integers(1, 4)),
            "shuffle": bool(rng.integers(2)),
        }  # fmt: skip
        if rng.random() < 0.2:
            self.take(*self.net.fit([(X, y, weights), (X[: n // 2 + 1], y[: n // 2 + 1])], **options).loss)
        else:
            options |= {"validation_split": split, "sample_weight": weights, "schedule": schedule}
            self.take(*self.net.fit(X, y, **options).loss)

    def sweep(self, X: Array, y: Array, recipe: Any, batch: int) -> None:
        """Some rates, of which one diverges."""
        schedule = None if recipe.name == "rprop" or self.rng.random() < 0.5 else schedules.OneCycle(2)
        held = None if self.net.loss.link.target != "classes" and len(X) > 4 else (X, y)
        found = fastbp.lr_sweep(
            self.net, X, y, [1e-4, 1e-3, 1e20], seeds=int(self.rng.integers(1, 3)), epochs=2, batch_size=batch,
            optimizer=recipe, schedule=schedule, validation_data=held, threads=int(self.rng.integers(1, 4)),
            halving=2 if self.rng.random() < 0.3 else None,
        )  # fmt: skip
        self.take(found.train_loss, found.val_loss, found.start_loss, found.status == "finished")

    def take(self, *found: Any) -> None:
        """Keep what a call has made."""
        self.operations += 1
        self.found += [np.array(one) for one in found]


def main(edge: str, seed: str, rounds: str, threads: str, seconds: str = "inf") -> None:
    """Use random networks, with every buffer at one edge of its pages, until all rounds are done or time is over."""
    at_end, ends = edge == "end", time.monotonic() + float(seconds)
    guard(at_end)
    Poison.spread()
    fastbp.engine.team.default_threads = lambda: int(threads)
    fastbp.engine.tuning.BARRIER_SECONDS = 0.0  # any work is shared
    warnings.filterwarnings("ignore", "with batch_size=1 the weights|the best learning rate", UserWarning)
    operations = number = 0
    while number < int(rounds) and (number == 0 or time.monotonic() < ends):
        sessions = []
        for Poison.on in (False, True):
            sessions.append(Session([int(seed), number], at_end))
            print(number, sessions[-1].net, "poisoned" if Poison.on else "", flush=True)
            sessions[-1].run()
            operations += sessions[-1].operations
        for clean, poisoned in itertools.zip_longest(*(session.found for session in sessions)):
            np.testing.assert_array_equal(clean, poisoned)
        number += 1
    print(json.dumps({"networks": number, "operations": operations}))
    print("done")


if __name__ == "__main__":
    main(*sys.argv[1:])
