"""The end of a product: what is done with its finished accumulators."""

from __future__ import annotations

from llvmlite import ir

from fastbp.kernels.optimizers import DECAY, LR
from fastbp.kernels.simd import I64, splat
from fastbp.kernels.targets import TARGET

STORE = 0  # C = acc
MULTIPLY = 1  # C = C * acc: the deltas buffer holds f'(z), so the delta product needs no pass of its own
# Any other number, in the layout "columns", is the address of the rates of plain gradient descent: C are weights and
# acc their gradient. Of all rules this one alone does not wait for a pass of its own; the gradient is never stored.


def descend(builder: ir.IRBuilder, fma: ir.Function, rates: ir.Value, vector: ir.VectorType):
    """The function (gradient, weights) -> weights of `optimizers.sgd`, bit for bit; rates: address of the rates."""

    def rate(number: int) -> ir.Value:
        place = builder.add(rates, I64(number * TARGET.vector_bytes // vector.count))
        return splat(builder, builder.load(builder.inttoptr(place, vector.element.as_pointer())), vector)

    lr, decay = rate(LR), rate(DECAY)
    down = builder.fneg(lr)
    return lambda g, w: builder.call(fma, [down, builder.call(fma, [decay, w, g]), w])
