"""Weight gradients of batches of a few rows.

With one to four terms a sum, a tile is all entry and exit. Here deltas stay in registers while weights stream by.
"""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from fastbp.kernels.epilogue import STORE, descend
from fastbp.kernels.optimizers import Rates
from fastbp.kernels.simd import I64, declare_fma, splat, vector_type
from fastbp.kernels.targets import TARGET
from fastbp.kernels.tuning import FEW


def _no_rates(module: ir.Module, element: ir.Type) -> ir.GlobalVariable:
    """Zeros in the place of the rates of `descend`."""
    name, kind = f"fastbp_no_rates_{element}", ir.ArrayType(element, len(Rates._fields))
    if name in module.globals:
        return module.globals[name]
    zeros = ir.GlobalVariable(module, kind, name)
    zeros.linkage, zeros.global_constant, zeros.initializer = "internal", True, ir.Constant(kind, None)
    return zeros


def _emit_few(module: ir.Module, dtype: types.Float, k: int, vectors: int) -> ir.Function:
    """C (rows, vectors) = init + A^T . B for k rows of A and B, and a last row init + sum of B if with_sum."""
    name = f"fastbp_few_f{dtype.bitwidth}_{k}x{vectors}"
    if name in module.globals:
        return module.globals[name]
    item, width, vector = dtype.bitwidth // 8, TARGET.vector_bytes, vector_type(dtype)
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), [I64] * 11), name)
    function.linkage = "linkonce_odr"
    function.attributes.add("noinline")
    c, c_row, init, init_row, a, a_k, b, b_k, n, with_sum, mode = function.args
    entry, last, end = (function.append_basic_block(part) for part in ("entry", "last", "end"))
    builder = ir.IRBuilder(entry)
    fma = declare_fma(module, vector)

    def load(address, offset, kind=vector):
        value = builder.load(builder.inttoptr(builder.add(address, I64(offset)), kind.as_pointer()))
        value.align = item
        return value

    def store(values, address):
        for v, value in enumerate(values):
            pointer = builder.inttoptr(builder.add(address, I64(v * width)), vector.as_pointer())
            builder.store(value, pointer).align = item

    # Loaded once, before stores that might change them for all LLVM knows: a step down is two loads and a store then.
    # Where there are no rates, zeros are read in their place and not used: a row of `b` may be shorter than the rates.
    stores = builder.icmp_unsigned("==", mode, I64(STORE))
    unused = builder.ptrtoint(_no_rates(module, vector.element), I64)
    down = descend(builder, fma, builder.select(stores, unused, mode), vector)
    first = [load(init, v * width) for v in range(vectors)]
    stays = builder.icmp_unsigned("==", init_row, I64(0))

    def finish(acc, address):
        with builder.if_else(stores) as (plain, combine):
            with plain:
                store(acc, address)
            with combine:
                store([down(g, load(address, v * width)) for v, g in enumerate(acc)], address)

    a_rows = [builder.add(a, builder.mul(a_k, I64(r))) for r in range(k)]
    terms = [[load(builder.add(b, builder.mul(b_k, I64(r))), v * width) for v in range(vectors)] for r in range(k)]

    def loop(begin):
        """All rows but that of the sum; returns the places of the next row of C and of init."""
        before, body = builder.block, function.append_basic_block("body")
        builder.branch(body)
        builder.position_at_end(body)
        left, offset, out, start = (builder.phi(I64) for _ in range(4))
        acc = begin(start)
        for r in range(k):
            x = splat(builder, load(builder.add(a_rows[r], offset), 0, vector.element), vector)
            acc = [builder.call(fma, [x, term, old]) for term, old in zip(terms[r], acc, strict=True)]
        finish(acc, out)
        steps = (I64(item), c_row, init_row)
        after = [builder.sub(left, I64(1)), *map(builder.add, (offset, out, start), steps)]
        for phi, initial, later in zip((left, offset, out, start), (n, I64(0), c, init), after, strict=True):
            phi.add_incoming(initial, before)
            phi.add_incoming(later, builder.block)
        tail = function.append_basic_block("tail")
        builder.cbranch(builder.icmp_unsigned(">", after[0], I64(0)), body, tail)
        builder.position_at_end(tail)
        return after[2:]

    some, none, tails = function.append_basic_block("some"), function.append_basic_block("none"), []
    tails.append((c, init, builder.block))
    builder.cbranch(builder.icmp_unsigned("!=", n, I64(0)), some, none)
    builder.position_at_end(some)
    with builder.if_else(stays) as (same, moves):
        with same:
            tails.append((*loop(lambda start: first), builder.block))
            builder.branch(none)
        with moves:
            tails.append((*loop(lambda start: [load(start, v * width) for v in range(vectors)]), builder.block))
            builder.branch(none)
    builder.unreachable()
    builder.position_at_end(none)
    out, start = builder.phi(I64), builder.phi(I64)
    for out_after, start_after, block in tails:
        out.add_incoming(out_after, block)
        start.add_incoming(start_after, block)
    builder.cbranch(builder.icmp_unsigned("!=", with_sum, I64(0)), last, end)
    builder.position_at_end(last)
    acc = [load(start, v * width) for v in range(vectors)]
    for r in range(k):
        acc = [builder.fadd(old, term) for term, old in zip(terms[r], acc, strict=True)]
    finish(acc, out)
    builder.branch(end)
    builder.position_at_end(end)
    builder.ret_void()
    return function


@intrinsic
def few(typingctx, k, vectors, c, c_row, init, init_row, a, a_k, b, b_k, n, with_sum, mode, tag):
    """The product of `_emit_few` for k of 1 to FEW."""
    signature = types.void(*[types.uintp] * 13, tag)

    def codegen(context, builder, signature, args):
        done = builder.append_basic_block("few_done")
        variant = builder.add(builder.mul(args[0], I64(2)), args[1])
        switch = builder.switch(variant, done)
        for k in range(1, FEW + 1):
            for vectors in (1, 2):
                block = builder.append_basic_block(f"few_{k}_{vectors}")
                switch.add_case(I64(2 * k + vectors), block)
                builder.position_at_end(block)
                builder.call(_emit_few(builder.module, signature.args[-1], k, vectors), args[2:-1])
                builder.branch(done)
        builder.position_at_end(done)
        return context.get_dummy_value()

    return signature, codegen
