"""The rules of gradient descent, one function a family of optimisers, by PyTorch's formulas.

A rule takes the weight w, its gradient g, the moments it keeps (none to three) and the rates of the step, and
returns the new weight and moments; it costs one function here and one line of RULES. Padding has weights, gradients and
moments of zero, and a rule must leave them at zero there.
"""

from __future__ import annotations

from collections import namedtuple
from typing import Any, NamedTuple

import numpy as np

from fastbp.kernels.jit import element, jit
from fastbp.kernels.simd import ONE, cast, fma, view

# lr: learning rate; step: lr / (1 - beta1^t); decay: weight decay; shrink: 1 - lr * decay; mu, beta1, beta2 and
# their complements; eps; root: 1 / sqrt(1 - beta2^t); and four that the rule alone knows.
Rates = namedtuple("Rates", "lr step decay shrink beta1 rest1 beta2 rest2 eps root first second low high")
N_RATES = len(Rates._fields)
LR, DECAY = Rates._fields.index("lr"), Rates._fields.index("decay")
FIRST, SECOND = np.uint64(Rates._fields.index("first")), np.uint64(Rates._fields.index("second"))


# --- rules: rule(w, g, moments ..., rates) --------------------------------------------------------------------


@element
def sgd(w, g, r):
    """w - lr (g + decay w)"""
    return fma(-r.lr, fma(r.decay, w, g), w)


@element
def momentum(w, g, m, r):
    """m = mu m + g;  w - lr m"""
    m = fma(r.beta1, m, fma(r.decay, w, g))
    return fma(-r.lr, m, w), m


@element
def nesterov(w, g, m, r):
    """m = mu m + g;  w - lr (g + mu m)"""
    g = fma(r.decay, w, g)
    m = fma(r.beta1, m, g)
    return fma(-r.lr, fma(r.beta1, m, g), w), m


@element
def dampened(w, g, m, r):
    """m = mu m + (1 - dampening) g;  w - lr m"""
    m = fma(r.beta1, m, r.first * fma(r.decay, w, g))
    return fma(-r.lr, m, w), m


@element
def _mean(g, m, r):
    """beta1 m + (1 - beta1) g"""
    return fma(r.rest1, g - m, m)


@element
def _square_mean(g, v, r):
    """beta2 v + (1 - beta2) g^2"""
    return fma(r.rest2 * g, g, r.beta2 * v)


@element
def _decayed(w, g, r):
    """Weight and gradient after either kind of weight decay: the other one's rate is zero, and changes no bit."""
    w = w * r.shrink
    return w, fma(r.decay, w, g)


@element
def _sign(x):
    """-1, 0, 1, or NaN"""
    return cast(x, 1.0) if x > cast(x, 0.0) else (cast(x, -1.0) if x < cast(x, 0.0) else x)


@element
def _larger(a, b):
    return a if a > b else b


@element
def _adam_step(w, g, m, v, r):
    m, v = _mean(g, m, r), _square_mean(g, v, r)
    return w - r.step * (m / fma(np.sqrt(v), r.root, r.eps)), m, v


@element
def adam(w, g, m, v, r):
    """m, v: decayed means of g and g^2;  w - lr m' / (sqrt(v') + eps), bias-corrected (Kingma and Ba 2015)"""
    return _adam_step(w, fma(r.decay, w, g), m, v, r)


@element
def adamw(w, g, m, v, r):
    """Adam with the weights shrunk by lr * decay instead of a penalty (Loshchilov and Hutter 2019)"""
    return _adam_step(w * r.shrink, g, m, v, r)


@element
def rmsprop(w, g, v, r):
    """v = alpha v + (1 - alpha) g^2;  w - lr g / (sqrt(v) + eps) (Hinton 2012)"""
    g = fma(r.decay, w, g)
    v = _square_mean(g, v, r)
    return w - r.lr * (g / (np.sqrt(v) + r.eps)), v


@element
def _centered(g, v, a, r):
    """New mean square and mean, and the gradient over the root of their difference, which rounding may make negative"""
    v, a = _square_mean(g, v, r), fma(r.rest2, g - a, a)
    spread = fma(-a, a, v)
    spread = cast(g, 0.0) if spread < cast(g, 0.0) else spread
    return v, a, g / (np.sqrt(spread) + r.eps)


@element
def rmsprop_momentum(w, g, v, b, r):
    """RMSprop's step, gathered: b = mu b + g / (sqrt(v) + eps);  w - lr b"""
    g = fma(r.decay, w, g)
    v = _square_mean(g, v, r)
    b = fma(r.beta1, b, g / (np.sqrt(v) + r.eps))
    return fma(-r.lr, b, w), v, b


@element
def rmsprop_centered(w, g, v, a, r):
    """RMSprop by the deviation of g instead: sqrt(v - a^2), a being the decayed mean of g (Graves 2013)"""
    v, a, step = _centered(fma(r.decay, w, g), v, a, r)
    return fma(-r.lr, step, w), v, a


@element
def rmsprop_centered_momentum(w, g, v, a, b, r):
    """Both."""
    v, a, step = _centered(fma(r.decay, w, g), v, a, r)
    b = fma(r.beta1, b, step)
    return fma(-r.lr, b, w), v, a, b


@element
def amsgrad(w, g, m, v, x, r):
    """Adam or AdamW by the largest v so far (Reddi et al. 2018)"""
    w, g = _decayed(w, g, r)
    m, v = _mean(g, m, r), _square_mean(g, v, r)
    x = _larger(v, x)
    return w - r.step * (m / fma(np.sqrt(x), r.root, r.eps)), m, v, x


@element
def nadam(w, g, m, v, r):
    """Adam with Nesterov's look ahead: w - (first g + second m) / (sqrt(v') + eps) (Dozat 2016)"""
    w, g = _decayed(w, g, r)
    m, v = _mean(g, m, r), _square_mean(g, v, r)
    return w - fma(r.first, g, r.second * m) / fma(np.sqrt(v), r.root, r.eps), m, v


@element
def radam(w, g, m, v, r):
    """Adam, rectified: w - lr m' (first / (sqrt(v) + eps) + second) (Liu et al. 2020)"""
    w, g = _decayed(w, g, r)
    m, v = _mean(g, m, r), _square_mean(g, v, r)
    return w - r.step * (m * (r.first / (np.sqrt(v) + r.eps) + r.second)), m, v


@element
def adamax(w, g, m, u, r):
    """Adam by the largest gradient: u = max(beta2 u, |g| + eps);  w - lr m' / u (Kingma and Ba 2015)

    Where g is 0, beta2 u is kept: padding stays zero, and no later u can tell, for |g| + eps is larger than beta2 eps.
    """
    g = fma(r.decay, w, g)
    m, u = _mean(g, m, r), r.beta2 * u
    largest = _larger(np.abs(g) + r.eps, u)
    return w - r.step * (m / largest), m, largest if g != cast(g, 0.0) else u


@element
def adagrad(w, g, s, r):
    """s = s + g^2;  w - lr' g / (sqrt(s) + eps) (Duchi et al. 2011)"""
    g = fma(r.decay, w, g)
    s = fma(g, g, s)
    return w - r.first * (g / (np.sqrt(s) + r.eps)), s


@element
def adadelta(w, g, v, a, r):
    """d = g sqrt(a + eps) / sqrt(v + eps);  a: decayed mean of d^2;  w - lr d (Zeiler 2012)"""
    g = fma(r.decay, w, g)
    v = _square_mean(g, v, r)
    step = np.sqrt(a + r.eps) / np.sqrt(v + r.eps) * g
    return fma(-r.lr, step, w), v, _square_mean(step, a, r)


@element
def rprop(w, g, before, size, r):
    """w - size sign(g); size grows while g keeps its sign, shrinks where it turns, and there waits (Riedmiller 1993)"""
    zero = cast(g, 0.0)
    turned = g * before
    size = size * (r.second if turned > zero else (r.first if turned < zero else cast(g, 1.0)))
    held = r.low if size < r.low else (r.high if size > r.high else size)
    size = held if g != zero else size  # padding stays zero; elsewhere it is held before it is first used
    g = zero if turned < zero else g
    return fma(-size, _sign(g), w), g, size


@element
def lion(w, g, m, r):
    """w (1 - lr decay) - lr sign(beta1 m + (1 - beta1) g);  m = beta2 m + (1 - beta2) g (Chen et al. 2023)"""
    direction = _sign(fma(r.beta1, m, r.rest1 * g))
    return fma(-r.lr, direction, w * r.shrink), fma(r.beta2, m, r.rest2 * g)


# --- rates that only one rule needs: rates(tag, job, t, lr, beta1, address) -----------------------------------


@jit
def no_rates(tag, job, t, lr, beta1, address):
    """What stands in the job is all."""
    return  # for Numba, which looks for a line after the docstring when it writes debug information


@jit
def write_first(tag, address, value):
    view(address, N_RATES, tag)[FIRST] = cast(tag, value)


@jit
def dampened_rates(tag, job, t, lr, beta1, address):
    """1 - dampening, but all of the first gradient"""
    write_first(tag, address, 1.0 if t == ONE else 1.0 - job.first)


@jit
def adagrad_rates(tag, job, t, lr, beta1, address):
    """lr / (1 + (t - 1) lr_decay)"""
    write_first(tag, address, lr / (1.0 + (float(t) - 1.0) * job.first))


@jit
def nadam_rates(tag, job, t, lr, beta1, address):
    """lr (1 - mu) / (1 - product of all mu), and lr mu' / (1 - the same with mu'), mu' being that of the next step

    The product lies in two places in turn: every thread reads the old one and writes the new one, at its own time.
    """
    products, r = view(job.products, 2, 0.0), view(address, N_RATES, tag)
    mu = beta1 * (1.0 - 0.5 * 0.96 ** (float(t) * job.first))
    later = beta1 * (1.0 - 0.5 * 0.96 ** ((float(t) + 1.0) * job.first))
    product = products[(t - ONE) & ONE] * mu
    products[t & ONE] = product
    r[FIRST] = cast(tag, lr * (1.0 - mu) / (1.0 - product))
    r[SECOND] = cast(tag, lr * later / (1.0 - product * later))


@jit
def radam_rates(tag, job, t, lr, beta1, address):
    """Rectification times sqrt(1 - beta2^t), and 0; or 0 and 1 as long as the variance is not to be trusted"""
    r, steps = view(address, N_RATES, tag), float(t)
    power = job.beta2**steps
    most = 2.0 / (1.0 - job.beta2) - 1.0
    rho = most - 2.0 * steps * power / (1.0 - power)
    first, second = 0.0, 1.0
    if rho > 5.0:
        rectified = (rho - 4.0) * (rho - 2.0) * most / ((most - 4.0) * (most - 2.0) * rho)
        first, second = np.sqrt(rectified * (1.0 - power)), 0.0
    r[FIRST], r[SECOND] = cast(tag, first), cast(tag, second)


# --- the table ------------------------------------------------------------------------------------------------


class Rule(NamedTuple):
    """One row of RULES: the function of an element, the moments it keeps, and what writes its own rates."""

    function: Any
    n_moments: int
    rates: Any = no_rates


# The code of a rule is its position.
RULES = {
    "sgd": Rule(sgd, 0),
    "momentum": Rule(momentum, 1),
    "nesterov": Rule(nesterov, 1),
    "adam": Rule(adam, 2),
    "adamw": Rule(adamw, 2),
    "rmsprop": Rule(rmsprop, 1),
    "dampened": Rule(dampened, 1, dampened_rates),
    "amsgrad": Rule(amsgrad, 3),
    "nadam": Rule(nadam, 2, nadam_rates),
    "radam": Rule(radam, 2, radam_rates),
    "adamax": Rule(adamax, 2),
    "adagrad": Rule(adagrad, 1, adagrad_rates),
    "adadelta": Rule(adadelta, 2),
    "rmsprop_momentum": Rule(rmsprop_momentum, 2),
    "rmsprop_centered": Rule(rmsprop_centered, 2),
    "rmsprop_centered_momentum": Rule(rmsprop_centered_momentum, 3),
    "rprop": Rule(rprop, 2),
    "lion": Rule(lion, 1),
}
SGD = np.uint64(list(RULES).index("sgd"))
