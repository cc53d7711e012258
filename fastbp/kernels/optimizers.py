"""The rules of gradient descent, one function a family of optimisers, by PyTorch's formulas.

A rule is one function here and one line of RULES. See `Rule` for what it is given, and for what it must do with
padding.
"""

from __future__ import annotations

from collections import namedtuple
from typing import Any, NamedTuple

import numpy as np

from fastbp.kernels.jit import element, jit
from fastbp.kernels.simd import ONE, cast, fma, view

# The rates of a step that every rule may read. lr: learning rate; step: lr / (1 - beta1^t); decay: weight decay;
# shrink: 1 - lr * decay; beta1, beta2 and their complements; eps; root: 1 / sqrt(1 - beta2^t); scale: the factor of
# `lr_scale` that lr already has, for rules that step without it; keep: what momentum keeps of itself, which is beta1,
# or beta1 times the last learning rate over this one where momentum is of steps, not of gradients.
Rates = namedtuple("Rates", "lr step decay shrink beta1 rest1 beta2 rest2 eps root scale keep")
LR, DECAY = Rates._fields.index("lr"), Rates._fields.index("decay")
# What a rule's own rates are computed from. t: number of the update, from 1; before, after: addresses of the rule's
# scalars, as the last update left them and as this one leaves them.
Step = namedtuple("Step", "t lr beta1 beta2 before after")


# --- rules: rule(w, g, moments ..., r) ------------------------------------------------------------------------


@element
def sgd(w, g, r):
    """w - lr (g + decay w)"""
    return fma(-r.lr, fma(r.decay, w, g), w)


@element
def momentum(w, g, m, r):
    """m = mu m + g;  w - lr m"""
    m = fma(r.keep, m, fma(r.decay, w, g))
    return fma(-r.lr, m, w), m


@element
def nesterov(w, g, m, r):
    """m = mu m + g;  w - lr (g + mu m)"""
    g = fma(r.decay, w, g)
    m = fma(r.keep, m, g)
    return fma(-r.lr, fma(r.beta1, m, g), w), m


@element
def dampened(w, g, m, r):
    """m = mu m + (1 - dampening) g;  w - lr m"""
    m = fma(r.beta1, m, r.undampened * fma(r.decay, w, g))
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
    """RMSprop by the deviation of g, its steps gathered as in `rmsprop_momentum`"""
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
    """Adam by Nesterov's momentum: w - (lr_gradient g + lr_mean m) / (sqrt(v') + eps) (Dozat 2016)"""
    w, g = _decayed(w, g, r)
    m, v = _mean(g, m, r), _square_mean(g, v, r)
    return w - fma(r.lr_gradient, g, r.lr_mean * m) / fma(np.sqrt(v), r.root, r.eps), m, v


@element
def radam(w, g, m, v, r):
    """Adam, rectified: w - lr m' (rectified / (sqrt(v) + eps) + plain) (Liu et al. 2020)"""
    w, g = _decayed(w, g, r)
    m, v = _mean(g, m, r), _square_mean(g, v, r)
    return w - r.step * (m * (r.rectified / (np.sqrt(v) + r.eps) + r.plain)), m, v


@element
def adamax(w, g, m, u, r):
    """Adam by the largest gradient: u = max(beta2 u, |g| + eps);  w - lr m' / u (Kingma and Ba 2015)

    Where g is 0, u becomes beta2 u: padding stays zero. No later u differs, as |g| + eps is larger than beta2 eps.
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
    return w - r.decayed_lr * (g / (np.sqrt(s) + r.eps)), s


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
    size = size * (r.growth if turned > zero else (r.shrinkage if turned < zero else cast(g, 1.0)))
    bounded = r.smallest if size < r.smallest else (r.largest if size > r.largest else size)
    size = bounded if g != zero else size  # padding stays zero; elsewhere the size is bounded before it is first used
    g = zero if turned < zero else g
    return fma(-size * r.scale, _sign(g), w), g, size


@element
def lion(w, g, m, r):
    """w (1 - lr decay) - lr sign(beta1 m + (1 - beta1) g);  m = beta2 m + (1 - beta2) g (Chen et al. 2023)"""
    direction = _sign(fma(r.beta1, m, r.rest1 * g))
    return fma(-r.lr, direction, w * r.shrink), fma(r.beta2, m, r.rest2 * g)


@element
def adabelief(w, g, m, s, r):
    """s: decayed mean of (g - m)^2;  w - lr m' / (sqrt(s' + eps / (1 - beta2)) + eps) (Zhuang et al. 2020)

    The paper adds eps to s in every step. That is the same: after bias correction, the sum of all is eps / (1 - beta2);
    but here padding stays zero.
    """
    w, m = w * r.shrink, _mean(g, m, r)
    s = _square_mean(g - m, s, r)
    spread = fma(s, r.root * r.root, r.eps / r.rest2)
    return w - r.step * (m / (np.sqrt(spread) + r.eps)), m, s


@element
def lookahead(w, g, m, v, way, r):
    """Adam; way: sum of its steps since the last k-th one, after which a share of it is taken back (Zhang et al. 2019)

    The way instead of the slow weights, which would not begin with zero: they are w - way.
    """
    new, m, v = _adam_step(w, fma(r.decay, w, g), m, v, r)
    way = way + (new - w)
    return fma(-r.back, way, new), m, v, way * r.goes_on


# --- rates of one rule's own: rates(coefficients, step) -> one number or more, in double precision ------------


@jit
def dampened_rates(c, step):
    """1 - dampening, but 1 for the first gradient"""
    return (1.0 if step.t == ONE else 1.0 - c.dampening,)


@jit
def adagrad_rates(c, step):
    """lr / (1 + (t - 1) lr_decay)"""
    return (step.lr / (1.0 + (float(step.t) - 1.0) * c.lr_decay),)


@jit
def nadam_rates(c, step):
    """lr (1 - mu) / (1 - product of all mu), and lr mu' / (1 - the same with mu'), mu' being that of the next step"""
    t = float(step.t)
    mu = step.beta1 * (1.0 - 0.5 * 0.96 ** (t * c.momentum_decay))
    later = step.beta1 * (1.0 - 0.5 * 0.96 ** ((t + 1.0) * c.momentum_decay))
    product = view(step.before, ONE, 0.0)[0] * mu
    view(step.after, ONE, 0.0)[0] = product
    return step.lr * (1.0 - mu) / (1.0 - product), step.lr * later / (1.0 - product * later)


@jit
def radam_rates(c, step):
    """The rectification times sqrt(1 - beta2^t), and 0; or 0 and 1 while the variance rests on too few gradients"""
    steps = float(step.t)
    power = step.beta2**steps
    most = 2.0 / (1.0 - step.beta2) - 1.0
    rho = most - 2.0 * steps * power / (1.0 - power)
    if rho > 5.0:
        factor = (rho - 4.0) * (rho - 2.0) * most / ((most - 4.0) * (most - 2.0) * rho)
        return np.sqrt(factor * (1.0 - power)), 0.0
    return 0.0, 1.0


@jit
def lookahead_rates(c, step):
    """1 - alpha and 0 in every k-th step; otherwise 0 and 1"""
    if float(step.t) % c.k == 0.0:
        return 1.0 - c.alpha, 0.0
    return 0.0, 1.0


# --- the table ------------------------------------------------------------------------------------------------


class Rule(NamedTuple):
    """One row of RULES.

    The function takes the weight w, its gradient g, the moments (`n_moments` of them, 0 to 3) and the rates r of the
    step, all of the network's dtype. It returns the new weight and moments. `r` has the fields of `Rates` and, where
    the rule has rates of its own, these too.

    Padding: where the weight, the gradient and all moments are zero, they must be zero afterwards, whatever the rates
    are; `r.eps` is positive. Products read the padding of weights, and files leave it out: another number there would
    change results, and be lost. A moment that begins with another number than zero begins with zero in the padding.
    `tests/kernels/test_update.py` asks it of every rule.

    coefficients: names of up to N_COEFFICIENTS numbers of the optimiser, constant in a training, for this rule alone.
    rates, own: a function that computes numbers from them in every step, and the names that these have as fields of
    `r`. Without the function, the coefficients themselves are fields of `r`.
    scalars: what the numbers (float64) begin with that the rule keeps for the whole network, from update to update.
    """

    function: Any
    n_moments: int
    coefficients: tuple[str, ...] = ()
    rates: Any = None
    own: tuple[str, ...] = ()
    scalars: tuple[float, ...] = ()

    @property
    def n_scalars(self) -> int:
        """Numbers that it keeps for the whole network."""
        return len(self.scalars)

    @property
    def rate_names(self) -> tuple[str, ...]:
        """The fields of `r`."""
        return (*Rates._fields, *(self.own if self.rates else self.coefficients))


# The code of a rule is its position.
RULES = {
    "sgd": Rule(sgd, 0),
    "momentum": Rule(momentum, 1),
    "nesterov": Rule(nesterov, 1),
    "adam": Rule(adam, 2),
    "adamw": Rule(adamw, 2),
    "rmsprop": Rule(rmsprop, 1),
    "dampened": Rule(dampened, 1, ("dampening",), dampened_rates, ("undampened",)),
    "amsgrad": Rule(amsgrad, 3),
    "nadam": Rule(nadam, 2, ("momentum_decay",), nadam_rates, ("lr_gradient", "lr_mean"), scalars=(1.0,)),
    "radam": Rule(radam, 2, (), radam_rates, ("rectified", "plain")),
    "adamax": Rule(adamax, 2),
    "adagrad": Rule(adagrad, 1, ("lr_decay",), adagrad_rates, ("decayed_lr",)),
    "adadelta": Rule(adadelta, 2),
    "rmsprop_momentum": Rule(rmsprop_momentum, 2),
    "rmsprop_centered": Rule(rmsprop_centered, 2),
    "rmsprop_centered_momentum": Rule(rmsprop_centered_momentum, 3),
    "rprop": Rule(rprop, 2, ("shrinkage", "growth", "smallest", "largest")),
    "lion": Rule(lion, 1),
    "adabelief": Rule(adabelief, 2),
    "lookahead": Rule(lookahead, 3, ("k", "alpha"), lookahead_rates, ("back", "goes_on")),
}
SGD = np.uint64(list(RULES).index("sgd"))
N_COEFFICIENTS = 4
N_RATES = len(Rates._fields) + N_COEFFICIENTS  # room for those of any rule
assert all(len(rule.coefficients) <= N_COEFFICIENTS for rule in RULES.values())
assert all(len(rule.rate_names) <= N_RATES for rule in RULES.values())


def initial_scalars(name: str) -> tuple[float, ...]:
    """What a rule's own scalars begin with; none for a name that is not in the table."""
    return RULES[name].scalars if name in RULES else ()
