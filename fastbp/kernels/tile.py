"""The register-tile product, written once as explicit vector code, and the loops that cover a matrix with it.

    C[m, v] = init[m, v] + sum_k A[m, k] * B[k, v]        m < tile rows, v < one or two vectors

Every element is one chain of FMAs in the order of k, whatever the shape of the tile it falls into: that is why the
bits depend neither on the batch size, nor on the blocking, nor on how rows and weights are shared among threads.

A is read one element at a time and broadcast, through two strides, so that one emitter serves the forward product
(A = activations, layout "rows") and the weight gradient (A = activations transposed, layout "columns").
B is read in whole vectors: a panel of weights, or deltas.

In pairs of bfloat16 (`bfloat16.py`), an element of A or B is a pair, k counts pairs, and the FMA is `add_products`.
"""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from fastbp.kernels.bfloat16 import Pairs, add_products
from fastbp.kernels.epilogue import STORE, descend
from fastbp.kernels.few import few
from fastbp.kernels.jit import element, leaf
from fastbp.kernels.records import Matrix, MatrixType
from fastbp.kernels.simd import (
    I64,
    ONE,
    TWO,
    ZERO,
    Tag,
    declare_fma,
    hide,
    in_pairs,
    itemsize,
    lanes,
    lanes_of,
    prefetch_part,
    scalar_type,
    splat,
    vector_type,
)
from fastbp.kernels.slim import COLUMNS, slim
from fastbp.kernels.targets import TARGET
from fastbp.kernels.transpose import chunk
from fastbp.kernels.tuning import FEW, K_BLOCK, NEAR_BYTES, TILE_UNROLL


def rows_of(tag: Tag) -> int:
    """Rows of the largest tile."""
    return tag.target.tile_rows if isinstance(tag, Pairs) else TARGET.tile_rows


@intrinsic
def most_rows(typingctx, tag):
    """Rows of the largest tile, as a constant."""
    rows = rows_of(tag)
    return types.uintp(tag), lambda context, builder, signature, args: I64(rows)


class _Tile:
    """Emits one variant of the tile as an LLVM function of its own (not inlined: three products share it)."""

    def __init__(self, module: ir.Module, dtype: Tag, rows: int, vectors: int, layout: str, column_sum: bool):
        self.rows, self.vectors, self.column_sum, self.layout = rows, vectors, column_sum, layout
        self.tag = dtype
        self.is_twin = isinstance(dtype, Pairs) and dtype.target.pairs == "twin"
        self.item = dtype.bitwidth // 8
        self.width = TARGET.vector_bytes
        self.scalar, self.vector = scalar_type(dtype), vector_type(dtype)
        self.lanes = lanes_of(dtype)
        self.module = module
        self.fma = declare_fma(module, self.vector)

    @property
    def name(self) -> str:
        kind = f"{self.tag.name if isinstance(self.tag, Pairs) else f'f{self.item * 8}'}x{self.lanes}"
        return f"fastbp_tile_{kind}_{self.rows}x{self.vectors}_{self.layout}" + ("_sum" if self.column_sum else "")

    def emit(self) -> ir.Function:
        if self.name in self.module.globals:
            return self.module.globals[self.name]
        kind = ir.FunctionType(ir.VoidType(), [I64] * 11)
        self.function = ir.Function(self.module, kind, self.name)
        self.function.linkage = "linkonce_odr"
        self.function.attributes.add("noinline")
        self.function.attributes.add("nounwind")
        c, c_row, init, init_row, a, a_row, a_k, b, self.b_k, k, mode = self.function.args
        self.b = builder = ir.IRBuilder(self.function.append_basic_block("entry"))
        # One of A's two strides is a constant, which frees a register and lets offsets fold into addresses.
        self.a_k = I64(self.item) if self.layout == "rows" else a_k
        a_row = I64(self.item) if self.layout == "columns" else a_row
        self.steps = self.row_steps(a_row)
        n_rows = self.rows + self.column_sum
        acc = [self.load_row(builder.add(init, builder.mul(init_row, I64(m)))) for m in range(n_rows)]
        offset = a
        if not self.is_twin:  # which is as slow as its arithmetic, and so is its compile
            unrolled = builder.udiv(k, I64(TILE_UNROLL))
            k = builder.and_(k, I64(TILE_UNROLL - 1))
            offset, b, acc = self.loop("main", unrolled, TILE_UNROLL, a, b, acc)
        _, _, acc = self.loop("rest", k, 1, offset, b, acc)
        self.finish(acc, c, c_row, mode)
        return self.function

    def row_steps(self, a_row: ir.Value) -> list[ir.Value]:
        """Bytes from A's first row to each of the rows of the tile.

        Loads of all rows have one base and an index of which the CPU takes up to four times as much. LLVM sees through
        multiples, and makes of them a chain of additions beside the FMAs, on the same ports: odd ones are hidden.
        """
        builder = self.b
        if isinstance(a_row, ir.Constant):
            return [builder.mul(a_row, I64(m)) for m in range(self.rows)]
        steps: list[ir.Value] = [I64(0)]
        for m in range(1, self.rows):
            if m == 1:
                steps.append(a_row)
            elif m % 2:
                steps.append(hide(builder, builder.mul(a_row, I64(m))))
            else:
                twice = (m & -m).bit_length() - 1
                steps.append(builder.shl(steps[m >> twice], I64(twice)))
        return steps

    def load_row(self, address: ir.Value) -> list[ir.Value]:
        return [self.load(self.b.add(address, I64(v * self.width)), self.vector) for v in range(self.vectors)]

    def load(self, address: ir.Value, kind: ir.Type) -> ir.Value:
        value = self.b.load(self.b.inttoptr(address, kind.as_pointer()))
        value.align = self.item
        return value

    def store_row(self, row: list[ir.Value], address: ir.Value) -> None:
        for v, value in enumerate(row):
            pointer = self.b.inttoptr(self.b.add(address, I64(v * self.width)), self.vector.as_pointer())
            self.b.store(value, pointer).align = self.item

    def one_k(self, offset: ir.Value, b: ir.Value, acc: list[list[ir.Value]]) -> list[list[ir.Value]]:
        builder = self.b
        weights = self.load_row(b)
        result = []
        for m in range(self.rows):
            x = splat(builder, self.load(builder.add(offset, self.steps[m]), self.scalar), self.vector)
            result.append([self.multiply(x, w, old) for w, old in zip(weights, acc[m], strict=True)])
        if self.column_sum:  # the bias gradient: a row of ones, on the adders that the FMAs leave free
            result.append([builder.fadd(old, w) for w, old in zip(weights, acc[-1], strict=True)])
        return result

    def multiply(self, x: ir.Value, w: ir.Value, old: ir.Value) -> ir.Value:
        """old + x w."""
        if isinstance(self.tag, Pairs):
            return add_products(self.b, self.tag, old, x, w)
        return self.b.call(self.fma, [x, w, old])

    def loop(self, tag: str, count: ir.Value, unroll: int, offset: ir.Value, b: ir.Value, acc: list[list[ir.Value]]):
        """`count` times `unroll` steps of k; returns the offset into A, the address in B and the accumulators after."""
        builder, before = self.b, self.b.block
        body, end = (self.function.append_basic_block(f"{tag}_{part}") for part in ("body", "end"))
        builder.cbranch(builder.icmp_unsigned(">", count, I64(0)), body, end)
        builder.position_at_end(body)
        state = [count, offset, b] + [value for row in acc for value in row]
        phis = [builder.phi(value.type) for value in state]
        new_offset, new_b, new_acc = phis[1], phis[2], self.fold(phis[3:])
        for _ in range(unroll):
            new_acc = self.one_k(new_offset, new_b, new_acc)
            new_offset, new_b = builder.add(new_offset, self.a_k), builder.add(new_b, self.b_k)
        left = builder.sub(phis[0], I64(1))
        after = [left, new_offset, new_b] + [value for row in new_acc for value in row]
        builder.cbranch(builder.icmp_unsigned(">", left, I64(0)), body, end)
        for phi, first, later in zip(phis, state, after, strict=True):
            phi.add_incoming(first, before)
            phi.add_incoming(later, body)
        builder.position_at_end(end)
        out = [builder.phi(value.type) for value in state]
        for phi, first, later in zip(out, state, after, strict=True):
            phi.add_incoming(first, before)
            phi.add_incoming(later, body)
        return out[1], out[2], self.fold(out[3:])

    def fold(self, values: list[ir.Value]) -> list[list[ir.Value]]:
        return [values[i : i + self.vectors] for i in range(0, len(values), self.vectors)]

    def finish(self, acc: list[list[ir.Value]], c: ir.Value, c_row: ir.Value, mode: ir.Value) -> None:
        builder = self.b
        addresses = [builder.add(c, builder.mul(c_row, I64(m))) for m in range(len(acc))]
        with builder.if_else(builder.icmp_unsigned("==", mode, I64(STORE))) as (store, combine):
            with store:
                for row, address in zip(acc, addresses, strict=True):
                    self.store_row(row, address)
            with combine:
                with_old = builder.fmul if self.layout == "rows" else descend(builder, self.fma, mode, self.vector)
                for row, address in zip(acc, addresses, strict=True):
                    old = self.load_row(address)
                    self.store_row([with_old(x, y) for x, y in zip(row, old, strict=True)], address)
        builder.ret_void()


def _variants(layout: str, tag: Tag) -> list[tuple[int, int, bool]]:
    """(rows, vectors, column_sum) of every variant of a layout; the position of one is its code."""
    most = rows_of(tag)
    plain = [(rows, vectors, False) for vectors in (1, 2) for rows in range(1, most + 1)]
    if layout == "rows" or isinstance(tag, Pairs):  # the sum of the deltas is no product: it is made in float32
        return plain
    return plain + [(rows, vectors, True) for vectors in (1, 2) for rows in range(most)]


def _make_tile(layout: str):
    @intrinsic
    def tile(typingctx, variant, c, c_row, init, init_row, a, a_row, a_k, b, b_k, k, mode, tag):
        signature = types.void(*[types.uintp] * 12, tag)

        def codegen(context, builder, signature, args):
            variant, rest = args[0], args[1:-1]
            done = builder.append_basic_block("tile_done")
            switch = builder.switch(variant, done)
            for code, (rows, vectors, column_sum) in enumerate(_variants(layout, signature.args[-1])):
                block = builder.append_basic_block(f"tile_{code}")
                switch.add_case(I64(code), block)
                builder.position_at_end(block)
                emitted = _Tile(builder.module, signature.args[-1], rows, vectors, layout, column_sum).emit()
                builder.call(emitted, rest)
                builder.branch(done)
            builder.position_at_end(done)
            return context.get_dummy_value()

        return signature, codegen

    return tile


_tile_rows, _tile_columns = _make_tile("rows"), _make_tile("columns")


@element
def product_rows(c, init, a, b, rows, vectors, k, mode, ahead, lines, tag):
    """C (rows, one panel) = init + A (rows, k) . B (k, one panel), or C * that; b: address of the panel.

    The rows are shared evenly among the tiles, so that no tile is left with one row and no latency hidden.
    Meanwhile `lines` cache lines from `ahead` on are fetched.
    """
    tile_rows, item, width = most_rows(tag), itemsize(tag), itemsize(tag) * lanes(tag)
    n_tiles = (rows + tile_rows - ONE) // tile_rows
    small = rows // n_tiles if n_tiles > ONE else rows
    n_large = rows - small * n_tiles
    first = (vectors - ONE) * tile_rows - ONE
    c_now, init_now, a_now = c.address, init.address, a.address
    for t in range(n_tiles):
        m = small + ONE if t < n_large else small
        if lines != ZERO:
            prefetch_part(ahead, np.uintp(64), lines, np.uintp(t), n_tiles)
        _tile_rows(
            first + m, c_now, c.row, init_now, init.row, a_now, a.row, item, b, vectors * width, k, mode, tag
        )  # fmt: skip
        a_now += m * a.row
        c_now += m * c.row
        init_now += m * init.row


@leaf(*[MatrixType] * 4, *[types.uintp] * 4, types.boolean, pairs=())
def product_columns(c, init, a, b, rows, vectors, k, mode, with_sum, tag):
    """C (rows, one panel) = init + A^T (rows, k) . B (k, one panel); with_sum adds a last row, the sum over k of B.

    mode: STORE, or the address of rates by which that gradient changes C.
    """
    if k <= np.uintp(FEW) and not in_pairs(tag):
        few(
            k, vectors, c.address, c.row, init.address, init.row, a.address, a.row, b.address, b.row, rows,
            ONE if with_sum else ZERO, mode, tag,
        )  # fmt: skip
        return
    tile_rows, item, one = most_rows(tag), itemsize(tag), ONE
    all_rows = rows + one if with_sum else rows
    n_tiles = (all_rows + tile_rows - one) // tile_rows
    small = all_rows // n_tiles if n_tiles > one else all_rows
    n_large = all_rows - small * n_tiles
    plain = (vectors - one) * tile_rows - one
    summing = TWO * tile_rows + (vectors - one) * tile_rows - one
    c_now, init_now, a_now = c.address, init.address, a.address
    for t in range(n_tiles):
        m = small + one if t < n_large else small
        variant = summing + m if with_sum and t == n_tiles - one else plain + m
        _tile_columns(
            variant, c_now, c.row, init_now, init.row, a_now, item, a.row, b.address, b.row, k, mode, tag
        )  # fmt: skip
        a_now += m * item
        c_now += m * c.row
        init_now += m * init.row


@leaf(MatrixType, MatrixType, *[types.uintp] * 7, pairs=())
def product(c, a, panels, panel_rows, init, rows, n, k, mode, tag):
    """C (rows, n) = init + A (rows, k) . B, B in column panels of `panel_rows` rows each, starting at `panels`.

    init: address of n numbers that every row starts from (a bias), or 0: the row `k` of each panel, where the bias
    of a layer is kept. Long k is cut into blocks, so that a block of a panel stays in L1 while all rows pass over it.
    """
    size, wide = lanes(tag), TWO
    width = size * itemsize(tag)
    slim_here = n <= np.uintp(COLUMNS) <= size <= rows and k % chunk(tag) == ZERO and not in_pairs(tag)
    if slim_here and mode == np.uintp(STORE):
        groups = rows // size
        slim(
            c.address, c.row, init if init != 0 else panels + k * width, a.address, a.row, panels, width, groups,
            k // chunk(tag), tag,
        )  # fmt: skip
        done = groups * size
        c, a = Matrix(c.address + done * c.row, c.row), Matrix(a.address + done * a.row, a.row)
        rows -= done
        if rows == ZERO:
            return
    blocks = (k + np.uintp(K_BLOCK - 1)) // np.uintp(K_BLOCK) if mode == np.uintp(STORE) else ONE
    k_block = (k + blocks - ONE) // blocks if blocks > ONE else k
    far = k * n * itemsize(tag) > np.uintp(NEAR_BYTES)
    k0 = ZERO
    while k0 < k:
        k_now = min(k_block, k - k0)
        panel, out, start = panels, c.address, init
        column = ZERO
        while column < n:
            vectors = wide if n - column > size else ONE
            panel_row = vectors * width
            b = panel + k0 * panel_row
            if k0 == 0:
                first, first_row = (start, ZERO) if init != 0 else (panel + k * panel_row, ZERO)
            else:
                first, first_row = out, c.row
            column += vectors * size
            # The panel after the last one may be another thread's: to fetch it would be a conflict with its updates.
            lines = min(wide, (n - min(n, column) + size - ONE) // size) * k_now * width // np.uintp(64)
            product_rows(
                Matrix(out, c.row), Matrix(first, first_row), Matrix(a.address + k0 * itemsize(tag), a.row), b, rows,
                vectors, k_now, mode, b + panel_rows * panel_row, lines if far else ZERO, tag,
            )  # fmt: skip
            panel += panel_rows * panel_row
            out += panel_row
            start += panel_row
        k0 += k_now
