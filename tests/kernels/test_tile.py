"""The register-tile product against NumPy: every shape of tile, panel and block of k, in buffers filled with NaN."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numba import njit

from fastbp import activations
from fastbp.engine.layout import Layout
from fastbp.engine.memory import address, allocate
from fastbp.kernels import tile
from fastbp.kernels.build import prepare
from fastbp.kernels.epilogue import MULTIPLY, STORE
from fastbp.kernels.jit import FLAGS
from fastbp.kernels.optimizers import DECAY, LR, Rates
from fastbp.kernels.records import Matrix
from fastbp.kernels.targets import TARGET
from fastbp.kernels.transpose import CHUNK_BYTES, transpose_columns

DTYPES = ["float32", "float64"]
TILE = TARGET.tile_rows
ROWS = sorted({1, TILE - 1, TILE, TILE + 1, 2 * TILE, 37})
DEPTHS = [1, 7, 255, 256, 257, 600]  # k, around the blocks of 256
# Columns, in vectors and elements beside: (0, 1) is 1, (1, -1) a vector less one.
COLUMNS = [(0, 1), (1, -1), (1, 0), (1, 1), (2, 0), (2, 1), (0, 101)]


def lanes(dtype: str) -> int:
    return TARGET.vector_bytes // np.dtype(dtype).itemsize


def integers(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Whole numbers so small that sums of 600 products are exact: any lost, doubled or misplaced term shows."""
    return rng.integers(-8, 9, shape).astype(float)


def buffer(rows: int, columns: int, dtype: str, contents: np.ndarray | None = None) -> np.ndarray:
    """(rows, columns), aligned, NaN but for its contents."""
    made = allocate(rows * columns, np.dtype(dtype)).reshape(rows, columns)
    made[:] = np.nan
    if contents is not None:
        made[: contents.shape[0], : contents.shape[1]] = contents
    return made


def matrix(array: np.ndarray) -> Matrix:
    return Matrix(address(array), array.strides[0])


def pack(weight: np.ndarray, bias: np.ndarray, dtype: str) -> tuple[np.ndarray, np.ndarray]:
    """Column panels of a layer, and those of its transpose."""
    layout = Layout(weight.shape, [activations.get("identity")], np.dtype(dtype))
    parameters, transposed = (allocate(n, layout.dtype) for n in (layout.n_parameters, layout.n_transposed))
    layout.pack([weight], [bias], parameters, transposed)
    return parameters, transposed


def product(
    A: np.ndarray, panels: np.ndarray, panel_rows: int, n: int, dtype: str, *, mode: int = STORE, init: Any = None,
    old: np.ndarray | None = None,
) -> np.ndarray:  # fmt: skip
    """The whole output buffer, a row and a vector larger than the kernel may write."""
    size, (rows, k) = lanes(dtype), A.shape
    a, c = buffer(rows, k + 3, dtype, A), buffer(rows + 1, -(-n // size) * size + size, dtype, old)
    prepare(tile.product.leaf, dtype)(
        matrix(c), matrix(a), address(panels), panel_rows, 0 if init is None else address(init), rows, n, k, mode,
        np.dtype(dtype).type(1),
    )  # fmt: skip
    return c


def columns_product(
    A: np.ndarray, B: np.ndarray, dtype: str, *, with_sum: bool, start: np.ndarray | None = None,
    weights: np.ndarray | None = None, rates: np.ndarray | None = None,
) -> np.ndarray:  # fmt: skip
    """A^T . B of one panel, from zeros or added to `start`: the buffer, a row and a vector larger than need be.

    With rates: the weights after a step down that gradient.
    """
    size, (k, rows), vectors = lanes(dtype), A.shape, B.shape[1] // lanes(dtype)
    a, b = buffer(k, rows + 3, dtype, A), buffer(k, B.shape[1] + size, dtype, B)
    c, zeros = buffer(rows + with_sum + 1, B.shape[1] + size, dtype, start), allocate(B.shape[1], np.dtype(dtype))
    init = Matrix(address(zeros), 0) if start is None else matrix(c)
    end = c if weights is None else buffer(*c.shape, dtype, weights)
    prepare(tile.product_columns.leaf, dtype)(
        matrix(end), init, matrix(a), matrix(b), rows, vectors, k, STORE if rates is None else address(rates),
        with_sum, np.dtype(dtype).type(1),
    )  # fmt: skip
    return end


@pytest.mark.parametrize("mode", [STORE, MULTIPLY], ids=["store", "multiply"])
@pytest.mark.parametrize("columns", COLUMNS, ids=lambda c: f"n={c[0]}v{c[1]:+}")
@pytest.mark.parametrize("k", DEPTHS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_product_is_exact_on_whole_numbers(dtype: str, k: int, columns: tuple[int, int], mode: int) -> None:
    size, n = lanes(dtype), columns[0] * lanes(dtype) + columns[1]
    padded, rng = -(-n // size) * size, np.random.default_rng(k)
    for rows in ROWS:
        A, W, bias = integers(rng, rows, k), integers(rng, k, n), integers(rng, n)
        old = integers(rng, rows, padded) if mode == MULTIPLY else None
        c = product(A, pack(W, bias, dtype)[0], k + 1, n, dtype, mode=mode, old=old)
        expected = A @ W + bias
        np.testing.assert_array_equal(c[:rows, :n], expected if old is None else expected * old[:, :n])
        assert (c[:rows, n:padded] == 0).all()
        assert np.isnan(c[rows:]).all()
        assert np.isnan(c[:, padded:]).all()


@pytest.mark.parametrize("k", DEPTHS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_product_starts_from_given_numbers(dtype: str, k: int) -> None:
    rng, n, size = np.random.default_rng(k), 37, lanes(dtype)
    A, W = integers(rng, 11, k), integers(rng, k, n)
    init = buffer(1, -(-n // size) * size, dtype, integers(rng, 1, n))
    c = product(A, pack(W, np.full(n, 99.0), dtype)[0], k + 1, n, dtype, init=init)
    np.testing.assert_array_equal(c[:11, :n], A @ W + init[0, :n])


@pytest.mark.parametrize(("n_in", "n_out"), [(1, 1), (17, 5), (64, 33), (31, 600), (257, 10)])
@pytest.mark.parametrize("dtype", DTYPES)
def test_product_down_by_the_transposed_copy(dtype: str, n_in: int, n_out: int) -> None:
    rng, size = np.random.default_rng(n_out), lanes(dtype)
    W, delta = integers(rng, n_in, n_out), integers(rng, 13, n_out)
    zeros = allocate(n_in + 2 * size, np.dtype(dtype))
    c = product(
        delta, pack(W, np.full(n_out, 99.0), dtype)[1], -(-n_out // size) * size, n_in, dtype, init=zeros
    )  # fmt: skip
    np.testing.assert_array_equal(c[:13, :n_in], delta @ W.T)


@pytest.mark.parametrize("k", DEPTHS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_product_rounds_as_a_chain_of_fmas_may(dtype: str, k: int) -> None:
    """Error of k roundings, each at most half an ULP of a partial sum; twice as many where products round as well."""
    rng = np.random.default_rng(k)
    A, W, bias = (rng.standard_normal(shape).astype(dtype) for shape in ((19, k), (k, 41), (41,)))
    c = product(A, pack(W, bias, dtype)[0], k + 1, 41, dtype)[:19, :41]
    wide = np.longdouble if dtype == "float64" else np.float64
    exact = A.astype(wide) @ W.astype(wide) + bias
    sizes = np.abs(A).astype(float) @ np.abs(W).astype(float) + np.abs(bias)
    roundings = k if TARGET.fma else 2 * k
    assert (np.abs(c - exact) <= roundings * np.finfo(dtype).eps / 2 * sizes * 1.01).all()


@pytest.mark.parametrize("k", [3, 300])
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_row_has_the_same_bits_whatever_rows_come_with_it(dtype: str, k: int) -> None:
    rng, n, rows = np.random.default_rng(0), 53, 3 * TILE + 5
    A, W, bias = (rng.standard_normal(shape) for shape in ((rows, k), (k, n), (n,)))
    panels = pack(W, bias, dtype)[0]
    whole = product(A, panels, k + 1, n, dtype)[:rows, :n]
    for count in range(1, 2 * TILE + 2):
        for first in (0, 1, rows - count):
            part = product(A[first : first + count], panels, k + 1, n, dtype)[:count, :n]
            np.testing.assert_array_equal(part, whole[first : first + count])


@pytest.mark.parametrize("with_sum", [False, True])
@pytest.mark.parametrize("vectors", [1, 2])
@pytest.mark.parametrize("k", DEPTHS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_product_columns_is_exact_on_whole_numbers(dtype: str, k: int, vectors: int, with_sum: bool) -> None:
    rng, width = np.random.default_rng(k), vectors * lanes(dtype)
    for rows in [*ROWS, 2 * lanes(dtype)]:
        A, B = integers(rng, k, rows), integers(rng, k, width)
        expected = np.vstack([A.T @ B, B.sum(axis=0)]) if with_sum else A.T @ B
        for start in (None, integers(rng, *expected.shape)):
            c = columns_product(A, B, dtype, with_sum=with_sum, start=start)
            np.testing.assert_array_equal(c[: len(expected), :width], expected + (0 if start is None else start))
            assert np.isnan(c[len(expected) :]).all()
            assert np.isnan(c[:, width:]).all()


@pytest.mark.parametrize("with_sum", [False, True])
@pytest.mark.parametrize("vectors", [1, 2])
@pytest.mark.parametrize("k", [1, 2, 3, 4, 5, 77])
@pytest.mark.parametrize("dtype", DTYPES)
def test_descent_is_exact_on_whole_numbers(dtype: str, k: int, vectors: int, with_sum: bool) -> None:
    """w - lr (g + decay w), where the product would have been stored; the start of its sums stays as it is."""
    rng, width = np.random.default_rng(k), vectors * lanes(dtype)
    rates = allocate(len(Rates._fields), np.dtype(dtype))
    rates[:] = np.nan
    rates[LR], rates[DECAY] = 0.5, 0.25
    for rows in [*ROWS, 2 * lanes(dtype)]:
        A, B = integers(rng, k, rows), integers(rng, k, width)
        gradient = np.vstack([A.T @ B, B.sum(axis=0)]) if with_sum else A.T @ B
        w, start = integers(rng, *gradient.shape), integers(rng, *gradient.shape)
        for begin in (None, start):
            c = columns_product(A, B, dtype, with_sum=with_sum, start=begin, weights=w, rates=rates)
            g = gradient + (0 if begin is None else begin)
            np.testing.assert_array_equal(c[: len(g), :width], w - 0.5 * (g + 0.25 * w))
            assert np.isnan(c[len(g) :]).all()
            assert np.isnan(c[:, width:]).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_columns_have_the_same_bits_whatever_columns_come_with_them(dtype: str) -> None:
    rng, rows, width = np.random.default_rng(0), 2 * TILE + 3, 2 * lanes(dtype)
    A, B = rng.standard_normal((77, rows)), rng.standard_normal((77, width))
    whole = columns_product(A, B, dtype, with_sum=True)[: rows + 1, :width]
    for first in range(rows):
        part = columns_product(A[:, first:], B, dtype, with_sum=True)[: rows - first + 1, :width]
        np.testing.assert_array_equal(part, whole[first:])
    narrow = columns_product(A, B[:, : width // 2], dtype, with_sum=False)[:rows, : width // 2]
    np.testing.assert_array_equal(narrow, whole[:-1, : width // 2])


@pytest.mark.parametrize("dtype", DTYPES)
def test_adding_up_blocks_of_rows_gives_the_bits_of_one_pass(dtype: str) -> None:
    rng, width = np.random.default_rng(0), lanes(dtype)
    A, B = rng.standard_normal((600, 9)), rng.standard_normal((600, width))
    first = columns_product(A[:256], B[:256], dtype, with_sum=True)[:10, :width]
    both = columns_product(A[256:], B[256:], dtype, with_sum=True, start=first)[:10, :width]
    np.testing.assert_array_equal(both, columns_product(A, B, dtype, with_sum=True)[:10, :width])


@pytest.mark.parametrize("dtype", DTYPES)
def test_transpose_columns(dtype: str) -> None:
    @njit(**FLAGS)
    def transpose(source, source_row, target, target_row, rows, tag):
        transpose_columns(target, target_row, source, source_row, rows, tag)

    size, columns = lanes(dtype), CHUNK_BYTES // np.dtype(dtype).itemsize
    for rows in range(1, size + 2):
        source = buffer(rows, columns + 3, dtype, np.arange(1.0, rows * columns + 1).reshape(rows, columns))
        target = buffer(columns + 1, size + 5, dtype)
        places = (address(source), source.strides[0], address(target), target.strides[0], rows)
        transpose(*(np.uint64(place) for place in places), np.dtype(dtype).type(1))
        n = min(rows, size)
        np.testing.assert_array_equal(target[:columns, :n], source[:n, :columns].T)
        assert (target[:columns, n:size] == 0.0).all()  # no row behind the last one is touched: the buffer ends there
        assert np.isnan(target[columns:]).all()
        assert np.isnan(target[:, size:]).all()
