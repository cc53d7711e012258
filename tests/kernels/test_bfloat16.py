"""Products in bfloat16: what the instruction does, its twin, the three layouts, and the code for a CPU that has it."""

from __future__ import annotations

import functools
import re
from typing import Any

import numpy as np
import pytest
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from fastbp.engine import precisions
from fastbp.engine.memory import address, allocate
from fastbp.kernels import bfloat16, pairs, tile
from fastbp.kernels.build import prepare
from fastbp.kernels.epilogue import MULTIPLY, STORE
from fastbp.kernels.records import LAYER, Matrix
from fastbp.kernels.targets import AVX512_BF16, TARGET, TWIN, VARIABLE, pair_target
from tests.processes import succeed

LANES = TARGET.vector_bytes // 4
TWIN_NAME = "bfloat16_twin"
# Of the CPU, where it has the instruction; the twin everywhere.
HERE = ["bfloat16", TWIN_NAME] if pair_target() is AVX512_BF16 else [TWIN_NAME]
TAG = np.float32(1)


@functools.cache
def functions(name: str) -> tuple[Any, Any]:
    """(dots(sums, a, b, n), rounds(out, numbers, n)): loops over arrays by their addresses, n whole vectors."""
    tag = bfloat16.PAIRS[name]
    vector = ir.VectorType(ir.FloatType(), LANES)

    def load(builder: ir.IRBuilder, place: ir.Value) -> ir.Value:
        value = builder.load(builder.inttoptr(place, vector.as_pointer()))
        value.align = 4
        return value

    @intrinsic
    def dot(typingctx: Any, sums: Any, a: Any, b: Any) -> Any:
        def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
            result = bfloat16.add_products(builder, tag, *(load(builder, place) for place in args))
            builder.store(result, builder.inttoptr(args[0], vector.as_pointer())).align = 4
            return context.get_dummy_value()

        return types.void(*[types.uintp] * 3), codegen

    @intrinsic
    def one_round(typingctx: Any, out: Any, numbers: Any) -> Any:
        def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
            result = bfloat16.rounded(builder, tag, load(builder, args[1]))
            builder.store(result, builder.inttoptr(args[0], result.type.as_pointer())).align = 2
            return context.get_dummy_value()

        return types.void(*[types.uintp] * 2), codegen

    @njit
    def dots(sums: int, a: int, b: int, n: int) -> None:
        for i in range(0, n, LANES):
            dot(np.uintp(sums + 4 * i), np.uintp(a + 4 * i), np.uintp(b + 4 * i))

    @njit
    def rounds(out: int, numbers: int, n: int) -> None:
        for i in range(0, n, LANES):
            one_round(np.uintp(out + 2 * i), np.uintp(numbers + 4 * i))

    return dots, rounds


def dots(name: str, sums: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """sums + a . b by lanes; a and b are pairs, as uint32."""
    n = -(-len(sums) // LANES) * LANES
    room = [np.zeros(n, kind) for kind in (np.float32, np.uint32, np.uint32)]
    for one, values in zip(room, (sums, a, b), strict=True):
        one[: len(values)] = values
    functions(name)[0](*(one.ctypes.data for one in room), n)
    return room[0][: len(sums)]


def rounds(name: str, numbers: np.ndarray) -> np.ndarray:
    out = np.zeros(len(numbers), np.uint16)
    functions(name)[1](out.ctypes.data, numbers.ctypes.data, len(numbers))
    return out


def rounded(numbers: Any) -> np.ndarray:
    """Nearest bfloat16, ties to even, of finite numbers, as float32: by integers, in NumPy."""
    bits = np.ascontiguousarray(numbers, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16 << 16).astype(np.uint32).view(np.float32)


def pair(first: Any, second: Any) -> np.ndarray:
    upper = [np.atleast_1d(np.asarray(x, np.float32)).view(np.uint32) >> 16 for x in (first, second)]
    return (upper[0] | upper[1] << 16).astype(np.uint32)


# (sum, (a0, a1), (b0, b1), what comes out), each a detail that another order or rounding would show.
TINY = 2.0**-126
CASES = {
    "the second number first": (2.0**24, (1, -(2.0**24)), (1, 1), 1.0),  # the first first: 2^24 + 1 is 2^24, then 0
    "rounded after the second": (2.0**24, (-(2.0**24), 1), (1, 1), 0.0),  # rounded once, it were 1
    "ties to even": (2.0**24 + 2, (0, 1), (0, 1), 2.0**24 + 4),
    "the product is exact": (-1.0, (0, 1 + 2.0**-7), (0, 1 - 2.0**-7), -(2.0**-14)),
    "a denormal sum is zero": (TINY / 2, (0, 0), (0, 0), 0.0),
    "of its sign": (-TINY / 2, (-0.0, -0.0), (1, 1), -0.0),
    "a denormal factor is zero": (0.0, (TINY / 2, TINY / 2), (2.0**100, 2.0**100), 0.0),
    "a denormal result is zero": (1.5 * TINY, (-TINY, 0), (1, 0), 0.0),
    "between, too": (0.0, (TINY, TINY / 2), (1, 1), TINY),
    "too large a product": (0.0, (0, 2.0**100), (0, 2.0**100), np.inf),
    "is added before it is rounded": (-(2.0**127), (0, 2.0**64), (0, 2.0**64), 2.0**127),
    "infinity less infinity": (0.0, (-np.inf, np.inf), (1, 1), np.nan),
    "zero times infinity": (0.0, (0, 0), (1, np.inf), np.nan),
    "NaN stays": (np.nan, (1, 1), (1, 1), np.nan),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", HERE)
def test_what_the_instruction_does(name: str, case: str) -> None:
    start, a, b, expected = CASES[case]
    found = dots(name, np.array([start], np.float32), pair(*a), pair(*b))
    np.testing.assert_array_equal(found, np.float32(expected))
    assert np.isnan(expected) or np.signbit(found[0]) == np.signbit(expected)


@pytest.mark.parametrize("name", HERE)
def test_rounding_is_to_nearest_even(name: str) -> None:
    numbers = np.random.default_rng(0).integers(0, 1 << 32, 1 << 18, np.uint32).view(np.float32)
    ties = (np.arange(1 << 16, dtype=np.uint32) << 16 | 0x8000).view(np.float32)
    for some in (numbers, ties):
        finite = some[np.isfinite(some) & ((np.abs(some) >= TINY) | (some == 0))]
        finite = finite[: len(finite) // LANES * LANES]
        assert (rounds(name, finite).astype(np.uint32) << 16).tobytes() == rounded(finite).tobytes()
    odd = np.array([TINY / 2, -TINY / 2, np.inf, -np.inf, np.nan, 3.4e38, -3.4e38, -0.0] * LANES, np.float32)
    with np.errstate(invalid="ignore"):
        found = (rounds(name, odd).astype(np.uint32) << 16).view(np.float32)[:8]
    np.testing.assert_array_equal(found, [0.0, -0.0, np.inf, -np.inf, np.nan, np.inf, -np.inf, -0.0])
    assert np.signbit(found[[1, 7]]).all()


@pytest.mark.skipif(len(HERE) == 1, reason="needs the instruction that the twin is compared with")
def test_the_twin_has_the_bits_of_the_instruction() -> None:
    """On any pattern of bits, and on those whose sums cancel, overflow, or come near to zero."""
    rng, n = np.random.default_rng(1), 1 << 18
    for scale in (None, 1.0, 1e-19, 1e-10, 1e18):
        if scale is None:
            sums, a, b = (rng.integers(0, 1 << 32, n, np.uint32) for _ in range(3))
        else:
            factors = rng.standard_normal((4, n)) * np.exp2(rng.integers(-8, 8, (4, n))) * scale
            a, b = pair(*factors[:2]), pair(*factors[2:])
            sums = (rng.standard_normal(n) * scale * scale).astype(np.float32).view(np.uint32)
        found = [dots(name, sums.view(np.float32), a, b).view(np.uint32) for name in HERE]
        np.testing.assert_array_equal(*found)
        numbers = sums.view(np.float32)
        np.testing.assert_array_equal(*(rounds(name, numbers) for name in HERE))


# --- products -----------------------------------------------------------------------------------------------


def buffer(rows: int, columns: int, contents: np.ndarray) -> np.ndarray:
    """(rows, columns), aligned, NaN but for its contents."""
    made = allocate(rows * columns, np.dtype(np.float32)).reshape(rows, columns)
    made[:] = np.nan
    made[: contents.shape[0], : contents.shape[1]] = contents
    return made


def up(n: int, multiple: int) -> int:
    return -(-n // multiple) * multiple


def copies(A: np.ndarray, name: str) -> tuple[np.ndarray, np.ndarray]:
    """What `copy_rows` makes of the rows of A: by rows, and in pairs, each 4 bytes an element."""
    rows, n = A.shape
    row = up(n, LANES)
    source = buffer(rows, row, A)
    even = up(rows, 2)
    by_rows, in_pairs = buffer(even, row // 2, np.empty((0, 0))), buffer(even // 2, row, np.empty((0, 0)))
    matrices = (Matrix(address(one), one.strides[0]) for one in (source, by_rows, in_pairs))
    prepare(pairs.copy_rows.leaf, name)(*matrices, rows, n, TAG)
    return by_rows, in_pairs


def weight_copies(W: np.ndarray, bias: np.ndarray, name: str) -> tuple[np.ndarray, np.ndarray]:
    """What `copy_weights` makes of a layer: the panels in pairs, and those of the transposed weights."""
    from fastbp import activations
    from fastbp.engine.layout import Layout

    (n_in, n_out), wide = W.shape, 2 * LANES
    layout = Layout(W.shape, [activations.get("identity")], np.dtype(np.float32))
    parameters = allocate(layout.n_parameters, layout.dtype)
    layout.pack([W], [bias], parameters)
    sizes = (up(n_in, 2) // 2 + 1) * up(n_out, LANES), up(up(n_out, 2) // 2, 4) * up(n_in, LANES)
    made = [buffer(1, size, np.empty((0, 0))) for size in sizes]
    layers = np.zeros(1, LAYER)
    layers[0]["n_in"], layers[0]["n_out"], layers[0]["weights"] = n_in, n_out, address(parameters)
    layers[0]["weights_in_pairs"], layers[0]["transposed_in_pairs"] = map(address, made)
    copy = prepare(pairs.copy_weights.leaf, name)
    for panel in range(-(-n_out // wide)):
        for block in range(-(-n_in // wide)):
            copy(layers[0], panel, block, TAG)
    return made[0], made[1]


def bound(A: np.ndarray, B: np.ndarray) -> np.ndarray:
    """Of the error of each element of A . B: two roundings to 8 bits, and those of the sum."""
    terms = np.abs(A.astype(float)) @ np.abs(B.astype(float))
    return (2.0**-7 + 2.0**-16 + A.shape[1] * 2.0**-23) * terms


SHAPES = [(1, 32, 8), (7, 33, 9), (9, 65, 31), (40, 784, 33), (16, 600, 101), (131, 64, 64)]


@pytest.mark.parametrize(("rows", "k", "n"), SHAPES)
@pytest.mark.parametrize("name", HERE)
def test_the_three_products(name: str, rows: int, k: int, n: int) -> None:
    """Exact on whole numbers, within the bound on others, in buffers whose padding is NaN; the twin has their bits."""
    rng, product = np.random.default_rng(rows * k), prepare(tile.product.leaf, name)
    gradient = prepare(tile.product_columns.leaf, name)
    for whole in (True, False):
        A, W, D = (
            rng.integers(-8, 9, shape).astype(np.float32) if whole else rng.standard_normal(shape).astype(np.float32)
            for shape in ((rows, k), (k, n), (rows, n))
        )
        bias = np.arange(n, dtype=np.float32)
        a_rows, a_pairs = copies(A, name)
        d_rows, d_pairs = copies(D, name)
        panels, down = weight_copies(W, bias, name)

        def check(found: np.ndarray, X: np.ndarray, Y: np.ndarray, more: Any = 0.0, exact: bool = whole) -> None:
            assert np.isfinite(found).all()
            expected = X.astype(float) @ Y.astype(float) + more
            limit = 0.0 if exact else bound(X, Y) + np.abs(more) * 2.0**-20
            assert (np.abs(found - expected) <= limit).all()

        c = buffer(rows, up(n, LANES), np.empty((0, 0)))
        half = up(k, 2) // 2
        product(
            Matrix(address(c), c.strides[0]), Matrix(address(a_rows), a_rows.strides[0]), address(panels), half + 1, 0,
            rows, n, half, STORE, TAG,
        )  # fmt: skip
        check(c[:, :n], A, W, bias)

        below, zeros = (
            buffer(rows, up(k, LANES), np.full((rows, up(k, LANES)), 2.0)),
            allocate(up(k, 2 * LANES), c.dtype),
        )
        half = up(n, 2) // 2
        product(
            Matrix(address(below), below.strides[0]), Matrix(address(d_rows), d_rows.strides[0]), address(down),
            up(half, 4), address(zeros), rows, k, half, MULTIPLY, TAG,
        )  # fmt: skip
        check(below[:, :k] / 2, D, W.T)

        inputs, item = Matrix(address(a_pairs), a_pairs.strides[0]), 4
        for panel in range(-(-n // (2 * LANES))):
            first = 2 * LANES * panel
            vectors = 1 if n - first <= LANES else 2
            g = buffer(k, vectors * LANES, np.empty((0, 0)))
            deltas = Matrix(address(d_pairs) + item * first, d_pairs.strides[0])
            gradient(
                Matrix(address(g), g.strides[0]), Matrix(address(zeros), 0), inputs, deltas, k, vectors,
                up(rows, 2) // 2, STORE, False, TAG,
            )  # fmt: skip
            columns = D[:, first : first + vectors * LANES]
            check(g[:, : columns.shape[1]], A.T, columns)
            assert (g[:, columns.shape[1] :] == 0).all()


# --- rows of the tile table ---------------------------------------------------------------------------------


def test_the_row_is_that_of_the_cpu_or_the_twin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    assert pair_target() in (AVX512_BF16, None)
    monkeypatch.setenv(VARIABLE, "bfloat16-twin")
    assert pair_target() is TWIN
    assert precisions.kernel_dtype("bfloat16", "float32") == TWIN_NAME
    assert precisions.kernel_dtype("float32", "float64") == "float64"
    monkeypatch.setenv(VARIABLE, "avx1024")
    with pytest.raises(ValueError, match=r"FASTBP_TILE must be 'bfloat16-twin'.*got 'avx1024'"):
        pair_target()


CROSS_COMPILE = """
from numba.core.caching import NullCache
from fastbp.kernels import build, pairs, tile
from fastbp.kernels.targets import AVX512_BF16, pair_target

assert pair_target() is AVX512_BF16
for leaf in (tile.product.leaf, tile.product_columns.leaf, pairs.copy_rows.leaf):
    leaf.dispatcher._cache = NullCache()
    signature = leaf.signature("bfloat16")
    with build._inner_code_stays_open(leaf.name), build._whole_vectors():
        leaf.dispatcher.compile(signature)
    print(leaf.dispatcher.overloads[signature].library.get_asm_str())
"""
ZEN5 = "+sse3,+ssse3,+sse4.1,+sse4.2,+popcnt,+avx,+avx2,+fma,+bmi,+bmi2,+lzcnt,+f16c,+avx512f,+avx512bw,+avx512cd,"
ZEN5 += "+avx512dq,+avx512vl,+avx512bf16"


def test_code_for_a_zen_5_multiplies_pairs_and_spills_nothing() -> None:
    """In the main loop of the largest tile: 4 steps of 8 x 2 of these instructions, no register saved on the stack."""
    text = succeed(CROSS_COMPILE, NUMBA_CPU_NAME="znver5", NUMBA_CPU_FEATURES=ZEN5, FASTBP_TILE="")
    for layout in ("rows", "columns"):
        body = re.search(rf"^fastbp_tile_bfloat16x16_8x2_{layout}:\n(.*?)^\s*\.size", text, re.DOTALL | re.MULTILINE)
        assert body is not None
        loops = re.split(r"^\.LBB\w+:", body.group(1), flags=re.MULTILINE)
        main = max(loops, key=lambda part: part.count("vdpbf16ps"))
        assert main.count("vdpbf16ps") == 4 * 8 * 2
        assert not re.search(r"zmm.*\(%rsp\)|\(%rsp\).*zmm", main)
        assert "vfmadd" not in main
    body = re.search(r"^fastbp_copy_bfloat16:\n(.*?)^\s*\.size", text, re.DOTALL | re.MULTILINE)
    assert body is not None
    loops = re.split(r"^\.LBB\w+:", body.group(1), flags=re.MULTILINE)
    copy = max(loops, key=lambda part: part.count("vpermt2w"))
    # Of two vectors: each loaded and rounded by one instruction, one that interleaves, and three stores.
    vectors = copy.count("vcvtneps2bf16")
    assert len(re.findall(r"vcvtneps2bf16\s+\d*\(", copy)) == vectors == 2 * copy.count("vpermt2w") >= 8
    assert len(re.findall(r"vmov\w+\s+%[yz]mm\d+, ", copy)) == 3 * vectors // 2
    assert len(re.findall(r"^\tv", copy, re.MULTILINE)) == 3 * vectors
