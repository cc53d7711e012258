"""Activation functions and their derivatives in NumPy, each into a buffer (`out=`).

    forward(z, a, scratch)      a <- f(z); a may be z itself unless `needs_z`; `scratch`, of z's shape, is destroyed
    derivative(z, a)            from a = f(z): a <- f'(z), in terms of the output where that is possible

NaN passes through all of them. An activation is two functions and one line of ACTIVATIONS.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from fastbp.types import Array

SELU_SCALE, SELU_ALPHA = 1.0507009873554805, 1.6732632423543772
_normal_tail = np.vectorize(math.erfc, otypes=[np.float64])  # NumPy has no erf; slow, and right to the last bits


def relu(z: Array, a: Array, scratch: Array) -> None:
    # Against zeros of the same shape, not a scalar: half the time at every size, 8 us instead of 14 at 128 x 128.
    scratch.fill(0)
    np.maximum(z, scratch, out=a)


def d_relu(_: Array, a: Array) -> None:
    np.greater(a, 0, out=a)


def leaky_relu(z: Array, a: Array, scratch: Array) -> None:
    np.multiply(z, 0.01, out=scratch)
    np.maximum(z, scratch, out=a)


def d_leaky_relu(_: Array, a: Array) -> None:
    np.greater(a, 0, out=a)
    np.maximum(a, 0.01, out=a)


def elu(z: Array, a: Array, scratch: Array) -> None:
    np.expm1(np.minimum(z, 0, out=scratch), out=scratch)
    np.add(np.maximum(z, 0, out=a), scratch, out=a)


def d_elu(_: Array, a: Array) -> None:
    np.add(np.minimum(a, 0, out=a), 1, out=a)


def selu(z: Array, a: Array, scratch: Array) -> None:
    np.expm1(np.minimum(z, 0, out=scratch), out=scratch)
    np.multiply(scratch, SELU_ALPHA, out=scratch)
    np.add(np.maximum(z, 0, out=a), scratch, out=a)
    np.multiply(a, SELU_SCALE, out=a)


def d_selu(_: Array, a: Array) -> None:
    positive = a > 0
    np.add(a, SELU_SCALE * SELU_ALPHA, out=a)
    np.copyto(a, SELU_SCALE, where=positive)


def tanh(z: Array, a: Array, _: Array) -> None:
    np.tanh(z, out=a)


def d_tanh(_: Array, a: Array) -> None:
    np.subtract(1, np.multiply(a, a, out=a), out=a)


def sigmoid(z: Array, a: Array, _: Array | None = None) -> None:
    # exp may overflow to infinity, and then 1 / (1 + inf) is the right answer, 0.
    np.exp(np.negative(z, out=a), out=a)
    np.reciprocal(np.add(a, 1, out=a), out=a)


def d_sigmoid(_: Array, a: Array) -> None:
    np.multiply(a, 1 - a, out=a)


def softplus(z: Array, a: Array, scratch: Array) -> None:
    np.exp(np.negative(np.abs(z, out=scratch), out=scratch), out=scratch)
    np.add(np.maximum(z, 0, out=a), np.log1p(scratch, out=scratch), out=a)


def d_softplus(_: Array, a: Array) -> None:
    np.negative(np.expm1(np.negative(a, out=a), out=a), out=a)


def gelu(z: Array, a: Array, _: Array) -> None:
    # erfc, not 1 + erf: the left tail would cancel.
    np.multiply(z, 0.5 * _normal_tail(z * -math.sqrt(0.5)), out=a, casting="same_kind")


def d_gelu(z: Array, a: Array) -> None:
    density = np.exp(-0.5 * z * z) / math.sqrt(2 * math.pi)
    np.add(0.5 * _normal_tail(z * -math.sqrt(0.5)), z * density, out=a, casting="same_kind")


def silu(z: Array, a: Array, _: Array) -> None:
    sigmoid(z, a)
    np.multiply(a, z, out=a)


def d_silu(z: Array, a: Array) -> None:
    s = np.empty_like(z)
    sigmoid(z, s)
    np.add(np.multiply(a, 1 - s, out=a), s, out=a)


def mish(z: Array, a: Array, scratch: Array) -> None:
    softplus(z, a, scratch)
    np.multiply(z, np.tanh(a, out=a), out=a)


def d_mish(z: Array, a: Array) -> None:
    s = np.empty_like(z)
    softplus(z, a, s)
    sigmoid(z, s)
    np.multiply(s, z, out=s)
    np.tanh(a, out=a)
    np.add(a, s * (1 - a * a), out=a)


def hard_sigmoid(z: Array, a: Array, _: Array) -> None:
    np.divide(np.clip(np.add(z, 3, out=a), 0, 6, out=a), 6, out=a)


def d_hard_sigmoid(_: Array, a: Array) -> None:
    np.divide((a > 0) & (a < 1), 6, out=a)


def hard_swish(z: Array, a: Array, scratch: Array) -> None:
    hard_sigmoid(z, a, scratch)
    np.multiply(a, z, out=a)


def d_hard_swish(z: Array, a: Array) -> None:
    hard_sigmoid(z, a, a)
    np.add(a, z * (np.abs(z) < 3) / 6, out=a)


class Functions(NamedTuple):
    """An activation: f, f', and whether f' wants z besides f(z)."""

    forward: Callable[[Array, Array, Array], None]
    derivative: Callable[[Array, Array], None]
    needs_z: bool = False


ACTIVATIONS: dict[str, Functions | None] = {
    "identity": None,
    "relu": Functions(relu, d_relu),
    "leaky_relu": Functions(leaky_relu, d_leaky_relu),
    "elu": Functions(elu, d_elu),
    "selu": Functions(selu, d_selu),
    "tanh": Functions(tanh, d_tanh),
    "sigmoid": Functions(sigmoid, d_sigmoid),
    "softplus": Functions(softplus, d_softplus),
    "gelu": Functions(gelu, d_gelu, needs_z=True),
    "silu": Functions(silu, d_silu, needs_z=True),
    "mish": Functions(mish, d_mish, needs_z=True),
    "hard_sigmoid": Functions(hard_sigmoid, d_hard_sigmoid),
    "hard_swish": Functions(hard_swish, d_hard_swish, needs_z=True),
}


def activate(name: str, z: Array) -> Array:
    """f(z), newly made."""
    functions = ACTIVATIONS[name]
    if functions is None:
        return z
    a = np.empty_like(z)
    functions.forward(z, a, np.empty_like(z))
    return a


def bounds(name: str) -> tuple[float, float]:
    """What f tends to on the left and on the right, infinite where it has no bound."""
    ends = activate(name, np.array([-500.0, 500.0]))  # whose exponentials a float64 still holds
    low, high = np.where(np.abs(ends) < 4, ends, np.copysign(np.inf, ends))
    return float(low), float(high)
