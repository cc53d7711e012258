"""Loops over rows of whole vectors, as intrinsics: maximum, sums and scaling of the rows of the output layer.

A row of ten outputs is too short for LLVM's vectoriser, which wants 32 elements before it leaves scalar code.
"""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from fastbp.kernels.simd import I32, I64, declare_fma, splat, vector_type
from fastbp.kernels.targets import TARGET


def _each_vector(builder: ir.IRBuilder, n_vectors: ir.Value, state: list[ir.Value], step) -> list[ir.Value]:
    """Over the vectors of a row, at least one: `step(address offset, state) -> state`, states being vectors.

    The first two without a loop: one of two rounds, row after row, is mispredicted in some processes and not in
    others, which made the loss of 32 rows of ten numbers take 3200 instead of 2100 cycles.
    """
    end = builder.function.append_basic_block("row_end")
    ends: list[tuple[ir.Block, list[ir.Value]]] = []
    for number in range(2):
        state = step(I64(number * TARGET.vector_bytes), state)
        ends.append((builder.block, state))
        further = builder.append_basic_block("row_further")
        builder.cbranch(builder.icmp_unsigned(">", n_vectors, I64(number + 1)), further, end)
        builder.position_at_end(further)
    before = builder.block
    body = builder.append_basic_block("row")
    builder.branch(body)
    builder.position_at_end(body)
    number, phis = builder.phi(I64), [builder.phi(value.type) for value in state]
    after = step(builder.mul(number, I64(TARGET.vector_bytes)), phis)
    following = builder.add(number, I64(1))
    for phi, first, later in [(number, I64(2), following), *zip(phis, state, after, strict=True)]:
        phi.add_incoming(first, before)
        phi.add_incoming(later, builder.block)
    ends.append((builder.block, after))
    builder.cbranch(builder.icmp_unsigned("<", following, n_vectors), body, end)
    builder.position_at_end(end)
    result = [builder.phi(value.type) for value in state]
    for block, values in ends:
        for phi, value in zip(result, values, strict=True):
            phi.add_incoming(value, block)
    return result


def _fold(builder: ir.IRBuilder, vector: ir.Value, combine) -> ir.Value:
    """One number from the lanes of a vector, halves first: an order of its own, always the same."""
    count = vector.type.count
    half = count // 2
    while half:
        mask = ir.Constant(ir.VectorType(I32, count), [(i + half) % count for i in range(count)])
        vector = combine(vector, builder.shuffle_vector(vector, vector, mask))
        half //= 2
    return builder.extract_element(vector, I32(0))


def _row_pointer(builder: ir.IRBuilder, address: ir.Value, offset: ir.Value, kind: ir.Type) -> ir.Value:
    return builder.inttoptr(builder.add(address, offset), kind.as_pointer())


@intrinsic
def row_shift(typingctx, target, source, n_vectors, n, tag):
    """target = source - max(source) over the n numbers of a row, -inf beyond; returns the maximum. NaN stays NaN.

    The padding is masked in registers: written with scalar stores, it would stall the vector loads behind them.
    """

    def codegen(context, builder, signature, args):
        kind = vector_type(signature.return_type)
        # Lane numbers as wide as the lanes and signed: one instruction compares a vector of them.
        number = ir.IntType(TARGET.vector_bytes * 8 // kind.count)
        numbers = ir.VectorType(number, kind.count)
        target, source, n_vectors, n, _ = args
        lowest = ir.Constant(kind, [float("-inf")] * kind.count)
        end = splat(builder, builder.trunc(n, number) if number != I64 else n, numbers)
        places = ir.Constant(numbers, list(range(kind.count)))

        def masked(offset, vector):
            first = builder.udiv(offset, I64(TARGET.vector_bytes // kind.count))
            first = builder.trunc(first, number) if number != I64 else first
            inside = builder.icmp_signed("<", builder.add(splat(builder, first, numbers), places), end)
            return builder.select(inside, vector, lowest)

        def load(offset):
            return builder.load(_row_pointer(builder, source, offset, kind))

        def larger(x, y):
            return builder.select(builder.fcmp_ordered(">", x, y), x, y)

        def seek(offset, state):
            return [larger(masked(offset, load(offset)), state[0])]

        largest = _fold(builder, _each_vector(builder, n_vectors, [lowest], seek)[0], larger)
        all_largest = splat(builder, largest, kind)

        def shift(offset, state):
            shifted = masked(offset, builder.fsub(load(offset), all_largest))
            builder.store(shifted, _row_pointer(builder, target, offset, kind))
            return []

        _each_vector(builder, n_vectors, [], shift)
        return largest

    return tag(*[types.uintp] * 4, tag), codegen


@intrinsic
def row_sum(typingctx, source, n_vectors, tag):
    """Sum of a row of whole vectors: lane by lane, then the lanes by halves."""

    def codegen(context, builder, signature, args):
        kind = vector_type(signature.return_type)

        def step(offset, state):
            return [builder.fadd(state[0], builder.load(_row_pointer(builder, args[0], offset, kind)))]

        total = _each_vector(builder, args[1], [ir.Constant(kind, [0.0] * kind.count)], step)[0]
        return _fold(builder, total, builder.fadd)

    return tag(types.uintp, types.uintp, tag), codegen


@intrinsic
def row_dot(typingctx, a, b, n_vectors, tag):
    """Sum of the products of two rows of whole vectors: lane by lane, then the lanes by halves."""

    def codegen(context, builder, signature, args):
        kind = vector_type(signature.return_type)
        fma = declare_fma(builder.module, kind)

        def load(address, offset):
            value = builder.load(_row_pointer(builder, address, offset, kind))
            value.align = TARGET.vector_bytes // kind.count
            return value

        def step(offset, state):
            return [builder.call(fma, [load(args[0], offset), load(args[1], offset), state[0]])]

        total = _each_vector(builder, args[2], [ir.Constant(kind, [0.0] * kind.count)], step)[0]
        return _fold(builder, total, builder.fadd)

    return tag(*[types.uintp] * 3, tag), codegen


@intrinsic
def row_square_sum(typingctx, source, n_vectors, tag):
    """Sum of the squares of a row of whole vectors, in double precision: lane by lane, then the lanes by halves.

    Of single precision no square overflows there. It takes no longer: of two halves of a vector in turn, one is added
    while the other waits for its last sum.
    """

    def codegen(context, builder, signature, args):
        kind = vector_type(signature.args[-1])
        double = ir.VectorType(ir.DoubleType(), kind.count)
        fma = declare_fma(builder.module, double)

        def step(offset, state):
            x = builder.load(_row_pointer(builder, args[0], offset, kind))
            x = x if kind == double else builder.fpext(x, double)
            return [builder.call(fma, [x, x, state[0]])]

        total = _each_vector(builder, args[1], [ir.Constant(double, [0.0] * kind.count)], step)[0]
        return _fold(builder, total, builder.fadd)

    return types.float64(types.uintp, types.uintp, tag), codegen


@intrinsic
def row_scale(typingctx, target, factor, n_vectors):
    """Multiply a row of whole vectors by a number."""

    def codegen(context, builder, signature, args):
        kind = vector_type(signature.args[1])
        factors = splat(builder, args[1], kind)

        def step(offset, state):
            pointer = _row_pointer(builder, args[0], offset, kind)
            builder.store(builder.fmul(builder.load(pointer), factors), pointer)
            return []

        _each_vector(builder, args[2], [], step)
        return context.get_dummy_value()

    return types.void(types.uintp, factor, types.uintp), codegen


@intrinsic
def put_four(typingctx, target, a, b, c, d):
    """Write four numbers and zeros behind them as one vector, or the first of them where it has fewer lanes."""

    def codegen(context, builder, signature, args):
        kind = vector_type(signature.args[1])
        row = ir.Constant(kind, [0.0] * kind.count)
        for place, value in enumerate(args[1 : 1 + kind.count]):
            row = builder.insert_element(row, value, I32(place))
        builder.store(row, builder.inttoptr(args[0], kind.as_pointer()))
        return context.get_dummy_value()

    return types.void(types.uintp, a, a, a, a), codegen


@intrinsic
def copy_row(typingctx, target, source, n, tag):
    """Copy n numbers in whole vectors, the last of which may begin within the one before; fewer than lanes in halves.

    Numba's loop decides anew in each row how it copies: a row of eight numbers takes 15 cycles, by this 4.
    """

    def codegen(context, builder, signature, args):
        target, source, n, _ = args
        kind = vector_type(signature.args[-1])
        size, item = kind.count, TARGET.vector_bytes // kind.count

        def copy(place, count):
            """Copy `count` numbers, a power of two, from a place on."""
            part = ir.VectorType(kind.element, count).as_pointer()
            offset = builder.mul(place, I64(item))
            value = builder.load(builder.inttoptr(builder.add(source, offset), part))
            value.align = item
            builder.store(value, builder.inttoptr(builder.add(target, offset), part)).align = item

        with builder.if_else(builder.icmp_unsigned(">=", n, I64(size))) as (long, short):
            with long:
                last = builder.sub(n, I64(size))
                before, body = builder.block, builder.append_basic_block("copy_body")
                end = builder.append_basic_block("copy_end")
                builder.cbranch(builder.icmp_unsigned("!=", last, I64(0)), body, end)
                builder.position_at_end(body)
                place = builder.phi(I64)
                copy(place, size)
                after = builder.add(place, I64(size))
                place.add_incoming(I64(0), before)
                place.add_incoming(after, builder.block)
                builder.cbranch(builder.icmp_unsigned("<", after, last), body, end)
                builder.position_at_end(end)
                copy(last, size)
            with short:
                half = size // 2
                while half:
                    with builder.if_then(builder.icmp_unsigned("!=", builder.and_(n, I64(half)), I64(0))):
                        copy(builder.and_(n, I64(-2 * half)), half)
                    half //= 2
        return context.get_dummy_value()

    return types.void(types.uintp, types.uintp, types.uintp, tag), codegen
