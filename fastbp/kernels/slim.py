"""Products of a few columns, with the rows of A side by side in the lanes.

Where C has two columns, a vector of 16 of them would be padding for the most part. So 16 rows of A are transposed, four
columns at a time, on the way. Every element is the same chain of FMAs in the order of k.
"""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from fastbp.kernels.simd import I32, I64, declare_fma, hide, lanes_of, splat, vector_type
from fastbp.kernels.transpose import CHUNK_BYTES, interleave_chunks, join, transposed

COLUMNS = 4


def _emit_slim(module: ir.Module, dtype: types.Float) -> ir.Function:
    """C (groups of as many rows as lanes, one vector of four columns and zeros) = init + A . B."""
    name = f"fastbp_slim_f{dtype.bitwidth}"
    if name in module.globals:
        return module.globals[name]
    size, item, vector = lanes_of(dtype), dtype.bitwidth // 8, vector_type(dtype)
    per_chunk = CHUNK_BYTES // item
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), [I64] * 9), name)
    function.linkage = "linkonce_odr"
    function.attributes.add("noinline")
    c, c_row, init, a, a_row, b, b_row, groups, chunks = function.args
    entry, group, body, close, end = (
        function.append_basic_block(x) for x in ("entry", "group", "body", "close", "end")
    )
    builder = ir.IRBuilder(entry)
    fma = declare_fma(module, vector)

    def number(address, place):
        where = builder.inttoptr(builder.add(address, I64(place * item)), vector.element.as_pointer())
        return splat(builder, builder.load(where), vector)

    # Sixteen rows have four bases, each with three steps beyond it: LLVM would make a chain of additions otherwise.
    three = hide(builder, builder.mul(a_row, I64(3)))
    steps = [I64(0), a_row, builder.shl(a_row, I64(1)), three]
    builder.cbranch(builder.icmp_unsigned("!=", groups, I64(0)), group, end)
    builder.position_at_end(group)
    groups_left, a_now, c_now = (builder.phi(I64) for _ in range(3))
    starts = [number(init, j) for j in range(COLUMNS)]
    bases = [hide(builder, builder.add(a_now, builder.mul(a_row, I64(m)))) for m in range(0, size, 4)]
    builder.branch(body)
    builder.position_at_end(body)
    left, b_now = builder.phi(I64), builder.phi(I64)
    places, acc = [builder.phi(I64) for _ in bases], [builder.phi(vector) for _ in range(COLUMNS)]
    columns = transposed(builder, dtype, [builder.add(places[m // 4], steps[m % 4]) for m in range(size)])
    sums, b_next = list(acc), b_now
    for column in columns:
        sums = [builder.call(fma, [column, number(b_next, j), old]) for j, old in enumerate(sums)]
        b_next = builder.add(b_next, b_row)
    after = [builder.add(place, I64(CHUNK_BYTES)) for place in places]
    less = builder.sub(left, I64(1))
    for phi, first, later in zip(
        [left, b_now, *places, *acc], [chunks, b, *bases, *starts], [less, b_next, *after, *sums], strict=True
    ):
        phi.add_incoming(first, group)
        phi.add_incoming(later, body)
    builder.cbranch(builder.icmp_unsigned("!=", less, I64(0)), body, close)
    builder.position_at_end(close)
    parts = [interleave_chunks(builder, sums[j : j + per_chunk]) for j in range(0, COLUMNS, per_chunk)]
    zeros = ir.Constant(ir.VectorType(vector.element, per_chunk), [0.0] * per_chunk)
    for r in range(size):
        mask = ir.Constant(ir.VectorType(I32, per_chunk), [r // per_chunk * per_chunk + x for x in range(per_chunk)])
        pieces = [builder.shuffle_vector(part[r % per_chunk], part[r % per_chunk], mask) for part in parts]
        pieces = (pieces + [zeros] * (size // per_chunk))[: size // per_chunk]
        place = builder.add(c_now, builder.mul(c_row, I64(r)))
        builder.store(join(builder, pieces), builder.inttoptr(place, vector.as_pointer())).align = item
    fewer = builder.sub(groups_left, I64(1))
    for phi, first, later in [
        (groups_left, groups, fewer),
        (a_now, a, builder.add(a_now, builder.mul(a_row, I64(size)))),
        (c_now, c, builder.add(c_now, builder.mul(c_row, I64(size)))),
    ]:
        phi.add_incoming(first, entry)
        phi.add_incoming(later, close)
    builder.cbranch(builder.icmp_unsigned("!=", fewer, I64(0)), group, end)
    builder.position_at_end(end)
    builder.ret_void()
    return function


@intrinsic
def slim(typingctx, c, c_row, init, a, a_row, b, b_row, groups, chunks, tag):
    """The product of `_emit_slim`: `groups` times as many rows as lanes, `chunks` times 16 bytes of columns of A."""
    signature = types.void(*[types.uintp] * 9, tag)

    def codegen(context, builder, signature, args):
        builder.call(_emit_slim(builder.module, signature.args[-1]), args[:-1])
        return context.get_dummy_value()

    return signature, codegen
