"""Arrays between unreadable pages: a kernel that leaves its buffer kills the process. Run by `test_guard_pages.py`."""

from __future__ import annotations

import ctypes
import dataclasses
import mmap
import sys
from typing import Any

import numpy as np
from optimizer_cases import ONE_A_RULE

import fastbp.engine
import fastbp.network
import fastbp.plan
import fastbp.splits
import fastbp.training
from fastbp import MLP, activations
from fastbp.losses import LOSSES

PAGE = mmap.PAGESIZE
Array = np.ndarray[Any, np.dtype[Any]]
_libc = ctypes.CDLL(None, use_errno=True)
_libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]


def guarded(n: int, dtype: Any, at_end: bool) -> Array:
    """n zeros that end where an unreadable page begins, or begin where one ends; NaN fills up the other side."""
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
    """NumPy, but that arrays made for the kernels are guarded."""

    def __init__(self, at_end: bool) -> None:
        self.at_end = at_end

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)

    def empty(self, shape: Any, dtype: Any = np.float64) -> Array:
        result = guarded(int(np.prod(shape)), dtype, self.at_end).reshape(shape)
        return result

    zeros = empty


def guard(at_end: bool) -> None:
    """Have every buffer that the kernels touch made by `guarded`."""
    make: Any = lambda n, dtype: guarded(n, dtype, at_end)  # noqa: E731
    fastbp.plan.allocate = fastbp.engine.allocate = make
    fastbp.plan.allocate_all = fastbp.engine.allocate_all = lambda counts, dtype: [make(n, dtype) for n in counts]
    for module in (fastbp.plan, fastbp.engine, fastbp.network, fastbp.training):  # records, outputs, order of rows
        module.np = _Numpy(at_end)  # type: ignore[attr-defined]
    split_rows, check_batch, scaling = fastbp.splits.split_rows, MLP._check_batch, MLP._kernel_scaling

    def guarded_rows(*args: Any, **options: Any) -> Any:
        return tuple(moved(rows, at_end) for rows in split_rows(*args, **options))

    def guarded_targets(*args: Any, **options: Any) -> Any:
        X, y = check_batch(*args, **options)
        return X, moved(y, at_end)

    def guarded_scaling(net: MLP) -> Any:
        found = scaling(net)
        return found and tuple(moved(part, at_end) for part in found)

    fastbp.splits.split_rows = guarded_rows
    MLP._check_batch, MLP._kernel_scaling = guarded_targets, guarded_scaling  # type: ignore[method-assign]


def random_network(rng: np.random.Generator) -> MLP:
    """Sizes about the vector widths, and far from them; any activation, loss and dtype."""
    edges = [1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 47, 63, 64, 65, 127, 129, 257, 300]
    sizes = [int(n) for n in rng.choice(edges, rng.integers(2, 6))]
    loss = LOSSES[str(rng.choice(list(LOSSES)))]
    output = None if loss.linked or rng.random() < 0.5 else str(rng.choice(list(activations.ACTIVATIONS)))
    hidden = [str(name) for name in rng.choice(list(activations.ACTIVATIONS), len(sizes) - 2)]
    dtype = str(rng.choice(["float32", "float64"]))
    return MLP(sizes, activation=hidden, output_activation=output, loss=loss(), dtype=dtype, seed=int(rng.integers(99)))


def random_data(rng: np.random.Generator, net: MLP, n: int, at_end: bool) -> tuple[Array, Array]:
    """Guarded samples of any dtype and strides, and guarded targets."""
    X = rng.standard_normal((n, net.sizes[0]))
    X = X.astype(rng.choice(["float32", "float64"])) if rng.random() < 0.7 else (X * 20 + 99).astype(np.uint8)
    if net.loss.target == "classes" and rng.random() < 0.5:
        y = rng.integers(0, net.sizes[-1], n)
    else:
        y = rng.random((n, net.sizes[-1])) + 0.01
        if net.loss.target == "classes":
            y /= y.sum(axis=1, keepdims=True)
        y = np.minimum(y, 1).astype(net.dtype)
    return moved(X, at_end, strided=rng.random() < 0.3), moved(y, at_end)


def use(rng: np.random.Generator, net: MLP, at_end: bool) -> None:
    """All that kernels do, on one network."""
    recipes = [dataclasses.replace(recipe, lr=1e-4) for recipe in ONE_A_RULE]
    recipe, threads = recipes[rng.integers(len(recipes))], int(rng.integers(1, 4))
    big = net._plan.n_parameters < 3000 and rng.random() < 0.5
    n = int(rng.integers(1024, 5000)) if big else int(rng.choice([1, 2, 3, 5, 8, 17, 33, 64, 130]))
    X, y = random_data(rng, net, n, at_end)
    if rng.random() < 0.5 or X.dtype == np.uint8:
        net.standardize(X, y if net.loss.target == "real" and rng.random() < 0.5 else None)
    batch = n if big else int(rng.integers(1, n + 1))
    split = 0.3 if net.loss.target != "classes" and n > 3 and rng.random() < 0.3 else 0.0
    weights = moved(rng.random(n) + 0.01, at_end) if rng.random() < 0.5 else None
    net.fit(
        X, y, epochs=2, batch_size=batch, optimizer=recipe, threads=threads, shuffle=bool(rng.integers(2)),
        validation_split=split, sample_weight=weights,
    )  # fmt: skip
    net.train_step(X, y, recipe, sample_weight=weights)
    recipe.update(net, net.backprop(X, y, sample_weight=weights))
    net.backprop(X, output_gradient=moved(np.ones((n, net.sizes[-1]), net.dtype), at_end))
    net.predict(X)
    found = [np.asarray(net.evaluate(X, y)["loss"]), net.forward(X), net.copy().forward(X[:1])]
    assert all(np.isfinite(array).all() for array in [*found, *net.weights, *net.biases])


def main(edge: str, seed: str, rounds: str, threads: str) -> None:
    """Use random networks, with every buffer at one edge of its pages."""
    at_end = edge == "end"
    guard(at_end)
    for number in range(int(rounds)):
        rng = np.random.default_rng([int(seed), number])
        net = random_network(rng)
        fastbp.team.default_threads = lambda: int(threads)
        fastbp.engine.BARRIER_SECONDS = 0.0  # any work is shared
        print(number, net, flush=True)
        use(rng, net, at_end)
    print("done")


if __name__ == "__main__":
    main(*sys.argv[1:])
