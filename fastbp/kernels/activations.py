"""exp, log, tanh, erf and the activation functions, as scalar code without branches that LLVM turns into vectors.

An activation is one function `z -> (f(z), f'(z))`, and one line of ACTIVATIONS. The forward pass stores f'(z) where
the delta will be, the delta product multiplies by it: the backward pass knows nothing of activations.
NaN passes through everything: divergence must be seen.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import types

from fastbp.kernels.jit import element, jit, leaf, switch
from fastbp.kernels.simd import bits, cast, fma, is_single, pick, polynomial, power_of_two, split_exponent, view, whole

# exp(r) = 1 + r + r^2 P(r) for |r| <= ln(2) / 2: in single precision the minimax coefficients of Cephes (expf.c), in
# double precision the Taylor series to r^13, whose remainder is below 5e-18. Highest power first.
EXP_SINGLE = (1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1)
EXP_DOUBLE = (
    1.6059043836821613e-10, 2.08767569878681e-09, 2.505210838544172e-08, 2.755731922398589e-07, 2.7557319223985893e-06,
    2.48015873015873e-05, 0.0001984126984126984, 0.001388888888888889, 0.008333333333333333, 0.041666666666666664,
    0.16666666666666666, 0.5,
)  # fmt: skip
# log(1 + f) with s = f / (2 + f), as in FreeBSD's e_logf.c and e_log.c. Highest power of s^2 first.
LOG_SINGLE = (0.24279078841, 0.28498786688, 0.40000972152, 0.66666662693)
LOG_DOUBLE = (
    1.479819860511658591e-01, 1.531383769920937332e-01, 1.818357216161805012e-01, 2.222219843214978396e-01,
    2.857142874366239149e-01, 3.999999999940941908e-01, 6.666666666666735130e-01,
)  # fmt: skip
# erfc(x) = exp(-x^2) R(x): Chebyshev fits of R, the scaled complementary error function, in t = (x - k) / (x + k), made
# with mpmath.chebyfit; largest error 2.8e-9 on [0, 4] (single, k = 2.5), 1.6e-18 on [0, 6] (double, k = 3).
ERFCX_SINGLE = (
    0.00033285065, 0.000860993589, -0.00269543508, -0.00401048297, 0.0399251624, -0.12503165, 0.251713162,
    -0.371736759, 0.210806364,
)  # fmt: skip
ERFCX_DOUBLE = (
    3.8586817261072708e-9, 1.3542522026437045e-8, -4.3242885755161644e-8, -3.0186721581180048e-7,
    -3.1836764619324975e-7, 1.2619298511591867e-6, 2.1324602802122101e-6, -7.9752031526049299e-6,
    -1.2861870547738595e-5, 6.4055782019685882e-5, 4.5255305769290289e-5, -0.00059706187871138642,
    0.00070774644621120705, 0.0042691363298719246, -0.024392499319113662, 0.071665837198038191,
    -0.15011593650076829, 0.24560380171233039, -0.32623356004303728, 0.17900115118138995,
)  # fmt: skip
# tanh(z) = z P(z^2) / Q(z^2) on [-9, 9]: a least-squares fit of the relative error, reweighted until it was even
# (Lawson's iteration); largest error of the fit 2.1e-8, of the function 4.7 ULP. Highest power first.
TANH_ABOVE = (1.3354648e-08, 2.0609072e-05, 0.0034955873, 0.13381025, 1.0)
TANH_BELOW = (7.7765526e-07, 0.00032856336, 0.025876978, 0.46714342, 1.0)


_exp_tail = polynomial(EXP_SINGLE, EXP_DOUBLE)
_log_tail = polynomial(LOG_SINGLE, LOG_DOUBLE)
_erfcx = polynomial(ERFCX_SINGLE, ERFCX_DOUBLE)
_tanh_above, _tanh_below = polynomial(TANH_ABOVE, TANH_ABOVE), polynomial(TANH_BELOW, TANH_BELOW)


# --- exponential and logarithm ------------------------------------------------------------------------------


@element
def _reduce(x):
    """x = n ln(2) + r, |r| <= ln(2) / 2: returns exp(r) - 1 and the bits that hold n.

    Adding 1.5 * 2^(mantissa bits) rounds to the nearest integer and leaves it in the low bits: no conversion, which
    would be undefined for NaN.
    """
    t = fma(x, pick(x, 1.4426950408889634, 1.4426950408889634), pick(x, 12582912.0, 6755399441055744.0))
    n = t - pick(x, 12582912.0, 6755399441055744.0)
    r = fma(n, pick(x, -0.693359375, -6.93147180369123816490e-01), x)
    r = fma(n, pick(x, 2.12194440e-4, -1.90821492927058770002e-10), r)
    return fma(_exp_tail(r), r * r, r), bits(t)


@element
def exp(x):
    """e^x; overflows to infinity, and to zero below e^-86.6 (single) or e^-707.7 (double), above the denormals."""
    low, high = pick(x, -86.6, -707.7), pick(x, 88.72283935546875, 709.782712893384)
    clamped = low if x < low else x
    clamped = high if clamped > high else clamped
    p, n = _reduce(clamped)
    half = power_of_two(x, n, -1)  # the largest results need 2^(n - 1) * 2
    y = fma(half, p, half) * cast(x, 2.0)
    y = cast(x, 0.0) if x < low else y
    return cast(x, np.inf) if x > high else y


@element
def expm1(x):
    """e^x - 1 for x up to 80; -1 below -80."""
    low, high = cast(x, -80.0), cast(x, 80.0)
    clamped = low if x < low else x
    clamped = high if clamped > high else clamped
    p, n = _reduce(clamped)
    scale = power_of_two(x, n, 0)
    return fma(scale, p, scale - cast(x, 1.0))


@element
def log(x):
    """Natural logarithm of a normal number; -inf at zero, NaN below."""
    exponent, mantissa = split_exponent(x)  # mantissa in [sqrt(1/2), sqrt(2))
    f = mantissa - cast(x, 1.0)
    s = f / (cast(x, 2.0) + f)
    z = s * s
    half_square = cast(x, 0.5) * f * f
    y = s * (half_square + z * _log_tail(z)) + exponent * pick(x, 9.0580006145e-06, 1.90821492927058770002e-10)
    y = exponent * pick(x, 6.9313812256e-01, 6.93147180369123816490e-01) - ((half_square - y) - f)
    y = y if x < cast(x, np.inf) else x
    y = y if x > cast(x, 0.0) else (cast(x, -np.inf) if x == cast(x, 0.0) else cast(x, np.nan))
    return y if x == x else x


@element
def log1p(u):
    """log(1 + u) for 0 <= u <= 1."""
    w = cast(u, 1.0) + u
    return log(w) + (u - (w - cast(u, 1.0))) / w


# --- activations --------------------------------------------------------------------------------------------


@element
def identity(z):
    """f(z) = z"""
    return z, cast(z, 1.0)


@element
def relu(z):
    """f(z) = max(z, 0); f'(0) = 0"""
    zero = cast(z, 0.0)
    return zero if zero > z else z, zero if z <= zero else cast(z, 1.0)


@element
def leaky_relu(z):
    """f(z) = z for z > 0, else 0.01 z"""
    slope = cast(z, 0.01)
    scaled = slope * z
    return scaled if scaled > z else z, slope if z <= cast(z, 0.0) else cast(z, 1.0)


@element
def elu(z):
    """f(z) = z for z > 0, else e^z - 1 (Clevert et al. 2016)"""
    zero = cast(z, 0.0)
    e = expm1(zero if zero < z else z)  # 0 for z > 0
    return e + (zero if zero > z else z), e + cast(z, 1.0)


@element
def selu(z):
    """f(z) = 1.0507 z for z > 0, else 1.0507 * 1.6733 (e^z - 1) (Klambauer et al. 2017)"""
    zero, scale, scaled_alpha = cast(z, 0.0), cast(z, 1.0507009873554804934), cast(z, 1.7580993408473768599)
    e = expm1(zero if zero < z else z)
    value = fma(scaled_alpha, e, scale * (zero if zero > z else z))
    return value, fma(scaled_alpha, e, scaled_alpha) if z <= zero else scale


@element
def _tanh_by_exp(z):
    """(e^2|z| - 1) / (e^2|z| + 1) with the sign of z"""
    limit = pick(z, 9.1, 19.1)
    a = abs(z)
    a = limit if a > limit else a
    e = expm1(a + a)
    t = e / (e + cast(z, 2.0))
    return -t if z < cast(z, 0.0) else t


@element
def _tanh_by_ratio(z):
    """z P(z^2) / Q(z^2), for single precision: 10 instead of 15 cycles a vector of 8."""
    one, limit = cast(z, 1.0), cast(z, 9.0)
    a = limit if z > limit else z
    a = -limit if a < -limit else a
    square = a * a
    t = a * _tanh_above(square) / _tanh_below(square)
    t = one if t > one else t  # the fit exceeds 1 by up to 2 ULP
    return -one if t < -one else t


@element
def tanh(z):
    """f(z) = tanh(z)"""
    t = _tanh_by_ratio(z) if is_single(z) else _tanh_by_exp(z)
    return t, fma(-t, t, cast(z, 1.0))


@element
def sigmoid(z):
    """f(z) = 1 / (1 + e^-z)"""
    s = cast(z, 1.0) / (cast(z, 1.0) + exp(-z))
    return s, s * (cast(z, 1.0) - s)


@element
def softplus(z):
    """f(z) = log(1 + e^z) = max(z, 0) + log(1 + e^-|z|)"""
    e = exp(-abs(z))
    negative = z < cast(z, 0.0)
    s = (e if negative else cast(z, 1.0)) / (cast(z, 1.0) + e)
    return (cast(z, 0.0) if negative else z) + log1p(e), s


@element
def gelu(z):
    """f(z) = z P(z), P the normal distribution function, by erf (Hendrycks and Gimpel 2016)"""
    limit, middle = pick(z, 4.0, 6.0), pick(z, 2.5, 3.0)
    x = abs(z) * cast(z, 0.70710678118654752440)
    far = x > limit
    bell = exp(cast(z, -0.5) * z * z)  # of the tail and of the density
    t = (x - middle) / (x + middle)
    tail = cast(z, 0.5) * bell * _erfcx(t)
    tail = cast(z, 0.0) if far else tail
    p = tail if z < cast(z, 0.0) else cast(z, 1.0) - tail
    density = cast(z, 0.39894228040143267794) * bell
    return z * p, fma(z, density, p)


@element
def silu(z):
    """f(z) = z / (1 + e^-z), also called swish (Elfwing et al. 2018)"""
    s = cast(z, 1.0) / (cast(z, 1.0) + exp(-z))
    return z * s, s * fma(z, cast(z, 1.0) - s, cast(z, 1.0))


@element
def mish(z):
    """f(z) = z tanh(log(1 + e^z)) (Misra 2019)"""
    e = exp(-abs(z))
    one, two = cast(z, 1.0), cast(z, 2.0)
    negative = z < cast(z, 0.0)
    # tanh(log(1 + e^z)) = ((1 + e^z)^2 - 1) / ((1 + e^z)^2 + 1), over e^2z where that could overflow: nothing cancels.
    above = e * (e + two) if negative else fma(two, e, one)
    rest = two if negative else two * e * e
    t = above / (above + rest)
    s = (e if negative else one) / (one + e)
    slope = rest * (above + above + rest) / ((above + rest) * (above + rest))  # 1 - t^2
    return z * t, fma(z * slope, s, t)


@element
def hard_sigmoid(z):
    """f(z) = min(max(z + 3, 0), 6) / 6 (Howard et al. 2019)"""
    zero, six, sixth = cast(z, 0.0), cast(z, 6.0), cast(z, 0.16666666666666666)
    a = z + cast(z, 3.0)
    a = zero if a < zero else a
    a = six if a > six else a
    return a * sixth, sixth if abs(z) < cast(z, 3.0) else zero


@element
def hard_swish(z):
    """f(z) = z min(max(z + 3, 0), 6) / 6 (Howard et al. 2019)"""
    s, slope = hard_sigmoid(z)
    return z * s, fma(z, slope, s)


class Kernel(NamedTuple):
    """An activation: its function, and the initialiser that keeps signals at their scale through it."""

    function: Any
    init: str

    @property
    def formula(self) -> str:
        return self.function.py_func.__doc__


# The code of an activation is its position.
ACTIVATIONS = {
    "identity": Kernel(identity, "glorot_uniform"),
    "relu": Kernel(relu, "he_normal"),
    "leaky_relu": Kernel(leaky_relu, "he_normal"),
    "elu": Kernel(elu, "he_normal"),
    "selu": Kernel(selu, "lecun_normal"),
    "tanh": Kernel(tanh, "glorot_uniform"),
    "sigmoid": Kernel(sigmoid, "glorot_uniform"),
    "softplus": Kernel(softplus, "he_normal"),
    "gelu": Kernel(gelu, "he_normal"),
    "silu": Kernel(silu, "he_normal"),
    "mish": Kernel(mish, "he_normal"),
    "hard_sigmoid": Kernel(hard_sigmoid, "glorot_uniform"),
    "hard_swish": Kernel(hard_swish, "he_normal"),
}


def _activation_loop(function):
    # z is read where f'(z) goes, and f(z) goes elsewhere: stored over z itself, LLVM makes of relu's choice between z
    # and 0 a masked store, which is microcoded on AMD (0.6 ns an element instead of 0.1).
    @jit
    def loop(values, deltas, row, rows, n, tag):
        for r in range(rows):
            d, a = view(deltas + r * row, n, tag), view(values + r * row, n, tag)
            for i in range(whole(n, tag)):  # unsigned: a signed index costs a wrap-around select
                a[i], d[i] = function(d[i])

    return loop


_activate = switch([_activation_loop(kernel.function) for kernel in ACTIVATIONS.values()])


@leaf(*[types.uintp] * 6)
def activate(code, values, deltas, row, rows, n, tag):
    """From n pre-activations z in each row of `deltas`: values = f(z), and f'(z) in the place of z.

    row: bytes from one row to the next, in both.
    """
    _activate(code, values, deltas, row, rows, n, tag)


@leaf(types.uintp, types.uintp)
def exp_in_place(values, n, tag):
    """Replace n numbers by their exponentials."""
    x = view(values, n, tag)
    for i in range(n):
        x[i] = exp(x[i])


@leaf(types.uintp, types.uintp)
def log_in_place(values, n, tag):
    """Replace n numbers by their logarithms."""
    x = view(values, n, tag)
    for i in range(n):
        x[i] = log(x[i])
