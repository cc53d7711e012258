"""Products of numbers in bfloat16: their rounding, the sum of pairs of products (`vdpbf16ps`), and its portable twin.

A bfloat16 is the upper half of a float32: 8 bits of exponent, 8 of precision. Two of them, neighbours along the sum of
a product, make a *pair*, which takes the place of one float32 in all that follows: 4 bytes, the first number in the
lower half. So tiles, panels and strides of products in pairs are those of float32, with half as many terms.

What the instruction does, established by `tests/kernels/test_bfloat16.py` on the hardware (an Intel CPU of the
Sapphire Rapids family), for each lane: sum = fma(a1, b1, sum), then sum = fma(a0, b0, sum). So the second number of a
pair comes first, and the sum is rounded after each, to nearest, ties to even. Denormal operands, the sum among them,
count as zeros of their sign, and denormal results become such zeros. NaN stays NaN. The twin is this in plain vector
operations.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import NativeValue, models, register_model, unbox

from fastbp.kernels.targets import PAIR_TARGETS, Target

_I16, _I32 = ir.IntType(16), ir.IntType(32)


class Pairs(types.Type):
    """The tag of a kernel that multiplies in pairs of bfloat16: like float32 but for the products."""

    bitwidth = 32  # of the numbers in memory, and of a pair

    def __init__(self, target: Target):
        self.target = target
        super().__init__(name=target.name.replace("-", "_"))


@register_model(Pairs)
class _PairsModel(models.PrimitiveModel):
    def __init__(self, dmm, fe_type):
        super().__init__(dmm, fe_type, ir.FloatType())


@unbox(Pairs)
def _unbox(typ, obj, c):
    """Of a tag, only the type is read."""
    return NativeValue(ir.Constant(ir.FloatType(), 0.0))


PAIRS = {tag.name: tag for tag in map(Pairs, PAIR_TARGETS)}


def number_of(tag: Any) -> Any:
    """The type of the numbers in memory."""
    return types.float32 if isinstance(tag, Pairs) else tag


class _BFloats(ir.Type):
    """`<n x bfloat>`, which llvmlite does not know."""

    def __init__(self, count: int):
        self.count = count

    def _to_string(self) -> str:
        return f"<{self.count} x bfloat>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _BFloats) and other.count == self.count

    def __hash__(self) -> int:
        return hash((_BFloats, self.count))


def rounded(builder: ir.IRBuilder, tag: Pairs, numbers: ir.Value) -> ir.Value:
    """A vector of float32, rounded to nearest, ties to even, as bits in a vector of 16-bit integers."""
    count = numbers.type.count
    if tag.target.pairs == "vdpbf16ps":
        return builder.bitcast(builder.fptrunc(numbers, _BFloats(count)), ir.VectorType(_I16, count))
    bits = builder.bitcast(numbers, ir.VectorType(_I32, count))
    upper = builder.lshr(bits, _all(16, count))
    odd = builder.and_(upper, _all(1, count))
    nearest = builder.lshr(builder.add(bits, builder.add(odd, _all(0x7FFF, count))), _all(16, count))
    quiet = builder.or_(upper, _all(0x40, count))
    nearest = builder.select(builder.fcmp_unordered("uno", numbers, numbers), quiet, nearest)
    zero = builder.and_(upper, _all(0x8000, count))
    nearest = builder.select(_is_denormal(builder, bits), zero, nearest)
    return builder.trunc(nearest, ir.VectorType(_I16, count))


def interleaved(builder: ir.IRBuilder, first: ir.Value, second: ir.Value) -> ir.Value:
    """Pairs of the numbers of two vectors of `rounded`, as a vector of 32-bit integers."""
    wide = ir.VectorType(_I32, first.type.count)
    upper = builder.shl(builder.zext(second, wide), _all(16, wide.count))
    return builder.or_(upper, builder.zext(first, wide))


def add_products(builder: ir.IRBuilder, tag: Pairs, sums: ir.Value, a: ir.Value, b: ir.Value) -> ir.Value:
    """sums + a . b, each lane of a and b being a pair (of type float, which means nothing)."""
    count = sums.type.count
    if tag.target.pairs == "vdpbf16ps":
        pairs = _BFloats(2 * count)
        kind = ir.FunctionType(sums.type, [sums.type, pairs, pairs])
        name = f"llvm.x86.avx512bf16.dpbf16ps.{32 * count}"
        function = cgutils.get_or_insert_function(builder.module, kind, name)
        return builder.call(function, [sums, builder.bitcast(a, pairs), builder.bitcast(b, pairs)])
    fma = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(sums.type, [sums.type] * 3), f"llvm.fma.v{count}f32"
    )
    whole = ir.VectorType(_I32, count)
    a, b = builder.bitcast(a, whole), builder.bitcast(b, whole)
    sums = _flushed(builder, sums)
    for number in (1, 0):
        x, y = (_flushed(builder, _number(builder, pairs, number)) for pairs in (a, b))
        sums = _flushed(builder, builder.call(fma, [x, y, sums]))
    return sums


def _number(builder: ir.IRBuilder, pairs: ir.Value, number: int) -> ir.Value:
    """The first or second numbers of pairs, as float32."""
    count = pairs.type.count
    bits = builder.and_(pairs, _all(0xFFFF0000, count)) if number else builder.shl(pairs, _all(16, count))
    return builder.bitcast(bits, ir.VectorType(ir.FloatType(), count))


def _flushed(builder: ir.IRBuilder, numbers: ir.Value) -> ir.Value:
    """Zeros of their sign in the place of denormal numbers."""
    count = numbers.type.count
    bits = builder.bitcast(numbers, ir.VectorType(_I32, count))
    sign = builder.and_(bits, _all(0x80000000, count))
    return builder.bitcast(builder.select(_is_denormal(builder, bits), sign, bits), numbers.type)


def _is_denormal(builder: ir.IRBuilder, bits: ir.Value) -> ir.Value:
    count = bits.type.count
    return builder.icmp_unsigned("==", builder.and_(bits, _all(0x7F800000, count)), _all(0, count))


def _all(number: int, count: int) -> ir.Constant:
    return ir.Constant(ir.VectorType(_I32, count), [number] * count)
