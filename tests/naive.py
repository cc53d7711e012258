"""Plain formulas that share nothing with the package: the place to read the mathematics.

Everything that fastbp computes is said here once more in the simplest way, slowly and in NumPy's widest floats. z is
what a layer adds up, p = f(z) what it puts out, y the target, J the loss, w a parameter, g its gradient dJ/dw.
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import mpmath
import numpy as np

Array = np.ndarray
Wide = np.longdouble

# --- activations: f(z) and f'(z), without cancellation --------------------------------------------------------

SELU_SCALE, SELU_ALPHA = Wide("1.05070098735548049341933498529"), Wide("1.67326324235437728481704299167")


def sigmoid(z: Array) -> Array:
    return 1 / (1 + np.exp(-z))


def hard_sigmoid(z: Array) -> Array:
    return np.clip(z + 3, 0, 6) / 6


def softplus(z: Array) -> Array:
    return np.maximum(z, 0) + np.log1p(np.exp(-np.abs(z)))


def _normal_cdf(z: Any) -> Wide:
    with mpmath.workdps(30):
        p = mpmath.ncdf(float(z))
        return Wide(mpmath.nstr(p, 25)) if p > 1e-300 or mpmath.isnan(p) else Wide(0)  # what a float can hold


normal_cdf = np.vectorize(_normal_cdf, otypes=[Wide])


def normal_density(z: Array) -> Array:
    return np.exp(-z * z / 2) / np.sqrt(2 * Wide("3.14159265358979323846264338328"))


ACTIVATIONS: dict[str, tuple[Callable[[Array], Array], Callable[[Array], Array]]] = {
    "identity": (lambda z: z, lambda z: 0 * z + 1),
    "relu": (lambda z: np.maximum(z, 0), lambda z: np.where(z > 0, Wide(1), 0)),
    "leaky_relu": (lambda z: np.where(z > 0, z, z / 100), lambda z: np.where(z > 0, Wide(1), Wide(1) / 100)),
    "elu": (
        lambda z: np.where(z > 0, z, np.expm1(np.minimum(z, 0))),
        lambda z: np.where(z > 0, 1, np.exp(np.minimum(z, 0))),
    ),
    "selu": (
        lambda z: SELU_SCALE * np.where(z > 0, z, SELU_ALPHA * np.expm1(np.minimum(z, 0))),
        lambda z: SELU_SCALE * np.where(z > 0, 1, SELU_ALPHA * np.exp(np.minimum(z, 0))),
    ),
    "tanh": (np.tanh, lambda z: 1 / np.cosh(z) ** 2),
    "sigmoid": (sigmoid, lambda z: sigmoid(z) * sigmoid(-z)),
    "softplus": (softplus, sigmoid),
    "gelu": (lambda z: z * normal_cdf(z), lambda z: normal_cdf(z) + z * normal_density(z)),
    "silu": (lambda z: z * sigmoid(z), lambda z: sigmoid(z) * (1 + z * sigmoid(-z))),
    "mish": (
        lambda z: z * np.tanh(softplus(z)),
        lambda z: np.tanh(softplus(z)) + z * sigmoid(z) / np.cosh(softplus(z)) ** 2,
    ),
    "hard_sigmoid": (hard_sigmoid, lambda z: np.where(np.abs(z) < 3, Wide(1) / 6, 0)),
    "hard_swish": (lambda z: z * hard_sigmoid(z), lambda z: hard_sigmoid(z) + np.where(np.abs(z) < 3, z / 6, 0)),
}

# --- losses: J of each row, and its derivative by the row's outputs -------------------------------------------
# The outputs are p, or z where the loss has its own link (softmax, sigmoid, exp). Targets are a matrix like them.


def cross_entropy(z: Array, y: Array, *, label_smoothing: float = 0.0) -> tuple[Array, Array]:
    y = (1 - label_smoothing) * y + label_smoothing / Wide(y.shape[1])
    z = z - z.max(axis=1, keepdims=True)
    log_softmax = z - np.log(np.exp(z).sum(axis=1, keepdims=True))
    return -(y * log_softmax).sum(axis=1), np.exp(log_softmax) * y.sum(axis=1, keepdims=True) - y


def binary_cross_entropy(z: Array, y: Array) -> tuple[Array, Array]:
    return (softplus(z) - y * z).mean(axis=1), (sigmoid(z) - y) / y.shape[1]


def mse(p: Array, y: Array) -> tuple[Array, Array]:
    return ((p - y) ** 2).mean(axis=1), 2 * (p - y) / y.shape[1]


def mae(p: Array, y: Array) -> tuple[Array, Array]:
    return np.abs(p - y).mean(axis=1), np.sign(p - y) / y.shape[1]


def huber(p: Array, y: Array, *, delta: float = 1.0) -> tuple[Array, Array]:
    d = p - y
    J = np.where(np.abs(d) <= delta, d**2 / 2, delta * (np.abs(d) - Wide(delta) / 2))
    return J.mean(axis=1), np.clip(d, -delta, delta) / y.shape[1]


def poisson(z: Array, y: Array) -> tuple[Array, Array]:
    return (np.exp(z) - y * z).mean(axis=1), (np.exp(z) - y) / y.shape[1]


def log_cosh(p: Array, y: Array) -> tuple[Array, Array]:
    return (np.logaddexp(p - y, y - p) - np.log(Wide(2))).mean(axis=1), np.tanh(p - y) / y.shape[1]


def quantile(p: Array, y: Array, *, quantile: float = 0.5) -> tuple[Array, Array]:
    d = p - y
    slope = np.where(d > 0, 1 - quantile, -quantile) * (d != 0)
    return (slope * d).mean(axis=1), slope / y.shape[1]


def focal(z: Array, y: Array, *, gamma: float = 2.0) -> tuple[Array, Array]:
    e = np.exp(z - z.max(axis=1, keepdims=True))
    p = e / e.sum(axis=1, keepdims=True)
    d_p = y * (gamma * (1 - p) ** (gamma - 1) * np.log(p) - (1 - p) ** gamma / p)
    J = -(y * (1 - p) ** gamma * np.log(p)).sum(axis=1)
    return J, p * (d_p - (d_p * p).sum(axis=1, keepdims=True))


def pseudo_huber(p: Array, y: Array, *, delta: float = 1.0) -> tuple[Array, Array]:
    d, root = p - y, np.sqrt(1 + ((p - y) / delta) ** 2)
    return (Wide(delta) ** 2 * (root - 1)).mean(axis=1), d / root / y.shape[1]


LOSSES: dict[str, Callable[..., tuple[Array, Array]]] = {
    f.__name__: f
    for f in (cross_entropy, binary_cross_entropy, mse, mae, huber, poisson, log_cosh, quantile, focal, pseudo_huber)
}

# --- update rules: the new w, in step t = 1, 2, ...; `s` keeps what the next step needs, `o` has the options ----


def mean(s: dict[str, Any], name: str, beta: float, x: Array) -> Array:
    """The decayed mean of all x so far, which began with 0."""
    s[name] = beta * s.get(name, 0) + (1 - beta) * x
    return s[name]


def decayed(w: Array, g: Array, o: Any, decoupled: bool = False) -> tuple[Array, Array]:
    """Weight decay: a penalty, whose gradient is added, or weights that shrink by themselves."""
    return (w - o.lr * o.weight_decay * w, g) if decoupled else (w, g + o.weight_decay * w)


def sgd(w: Array, g: Array, t: int, s: Any, o: Any) -> Array:
    w, g = decayed(w, g, o)
    if o.momentum:
        s["m"] = g if t == 1 else o.momentum * s["m"] + (1 - o.dampening) * g
        g = g + o.momentum * s["m"] if o.nesterov else s["m"]
    return w - o.lr * g


def adam(w: Array, g: Array, t: int, s: Any, o: Any, decoupled: bool = False) -> Array:
    w, g = decayed(w, g, o, decoupled)
    m, v = mean(s, "m", o.betas[0], g), mean(s, "v", o.betas[1], g * g)
    if o.amsgrad:
        v = s["largest"] = np.maximum(v, s.get("largest", 0))
    return w - o.lr * m / (1 - o.betas[0] ** t) / (np.sqrt(v / (1 - o.betas[1] ** t)) + o.eps)


def adamw(w: Array, g: Array, t: int, s: Any, o: Any) -> Array:
    return adam(w, g, t, s, o, decoupled=True)


def nadam(w: Array, g: Array, t: int, s: Any, o: Any) -> Array:
    w, g = decayed(w, g, o, o.decoupled_weight_decay)
    m, v = mean(s, "m", o.betas[0], g), mean(s, "v", o.betas[1], g * g)
    mu, mu_next = (o.betas[0] * (1 - 0.96 ** (i * o.momentum_decay) / 2) for i in (t, t + 1))
    s["product"] = s.get("product", 1) * mu
    m = mu_next * m / (1 - s["product"] * mu_next) + (1 - mu) * g / (1 - s["product"])
    return w - o.lr * m / (np.sqrt(v / (1 - o.betas[1] ** t)) + o.eps)


def radam(w: Array, g: Array, t: int, s: Any, o: Any) -> Array:
    w, g = decayed(w, g, o, o.decoupled_weight_decay)
    m, v = mean(s, "m", o.betas[0], g) / (1 - o.betas[0] ** t), mean(s, "v", o.betas[1], g * g)
    limit = 2 / (1 - o.betas[1]) - 1
    rho = limit - 2 * t * o.betas[1] ** t / (1 - o.betas[1] ** t)
    if rho <= 5:  # too few gradients to trust their spread
        return w - o.lr * m
    r = np.sqrt((rho - 4) * (rho - 2) * limit / ((limit - 4) * (limit - 2) * rho))
    return w - o.lr * m * r * np.sqrt(1 - o.betas[1] ** t) / (np.sqrt(v) + o.eps)


def adamax(w: Array, g: Array, t: int, s: Any, o: Any) -> Array:
    w, g = decayed(w, g, o)
    m, s["u"] = mean(s, "m", o.betas[0], g), np.maximum(o.betas[1] * s.get("u", 0), np.abs(g) + o.eps)
    return w - o.lr / (1 - o.betas[0] ** t) * m / s["u"]


def lion(w: Array, g: Array, t: int, s: Any, o: Any) -> Array:
    """Program 2 of Chen et al., "Symbolic discovery of optimization algorithms" (2023)."""
    update = np.sign(o.betas[0] * s.get("m", 0) + (1 - o.betas[0]) * g)
    mean(s, "m", o.betas[1], g)
    return w - o.lr * (update + o.weight_decay * w)


def rmsprop(w: Array, g: Array, t: int, s: Any, o: Any) -> Array:
    w, g = decayed(w, g, o)
    v = mean(s, "v", o.alpha, g * g)
    if o.centered:
        v = v - mean(s, "a", o.alpha, g) ** 2
    s["b"] = o.momentum * s.get("b", 0) + g / (np.sqrt(v) + o.eps)
    return w - o.lr * s["b"]


def adagrad(w: Array, g: Array, t: int, s: Any, o: Any) -> Array:
    w, g = decayed(w, g, o)
    s["sum"] = s.get("sum", o.initial_accumulator_value) + g * g
    return w - o.lr / (1 + (t - 1) * o.lr_decay) * g / (np.sqrt(s["sum"]) + o.eps)


def adadelta(w: Array, g: Array, t: int, s: Any, o: Any) -> Array:
    w, g = decayed(w, g, o)
    v = mean(s, "v", o.rho, g * g)
    step = np.sqrt(s.get("a", 0) + o.eps) / np.sqrt(v + o.eps) * g
    mean(s, "a", o.rho, step * step)
    return w - o.lr * step


def rprop(w: Array, g: Array, t: int, s: Any, o: Any) -> Array:
    turned = np.sign(g * s.get("g", 0))
    factor = np.where(turned > 0, o.etas[1], np.where(turned < 0, o.etas[0], 1))
    s["size"] = np.clip(s.get("size", o.lr) * factor, *o.step_sizes)
    s["g"] = np.where(turned < 0, 0, g)  # a weight whose gradient has turned waits for a step
    return w - s["size"] * np.sign(s["g"])


def adabelief(w: Array, g: Array, t: int, s: Any, o: Any) -> Array:
    """Algorithm 2 of Zhuang et al., "AdaBelief optimizer: adapting stepsizes by the belief in gradients" (2020)."""
    w, g = decayed(w, g, o, decoupled=True)
    m = mean(s, "m", o.betas[0], g)
    s["s"] = mean(s, "s", o.betas[1], (g - m) ** 2) + o.eps
    return w - o.lr * m / (1 - o.betas[0] ** t) / (np.sqrt(s["s"] / (1 - o.betas[1] ** t)) + o.eps)


def lookahead(w: Array, g: Array, t: int, s: Any, o: Any) -> Array:
    """Algorithm 1 of Zhang et al., "Lookahead optimizer: k steps forward, 1 step back" (2019), around Adam."""
    s.setdefault("slow", w)
    w = adam(w, g, t, s, SimpleNamespace(**vars(o), amsgrad=False))
    if t % o.k == 0:
        w = s["slow"] = s["slow"] + o.alpha * (w - s["slow"])
    return w


OPTIMIZERS: dict[str, Callable[..., Array]] = {
    f.__name__: f
    for f in (sgd, adam, adamw, nadam, radam, adamax, lion, rmsprop, adagrad, adadelta, rprop, adabelief, lookahead)
}

# --- a network: backpropagation ------------------------------------------------------------------------------


def forward(net: Any, X: Any) -> tuple[list[Array], list[Array], Array]:
    """The inputs a and the sums z of each layer, and the outputs; of `net` only weights, biases and names are read."""
    a, inputs, sums = np.asarray(X, Wide), [], []
    for W, b, name in zip(net.weights, net.biases, names(net), strict=True):
        inputs.append(a)
        sums.append(a @ W + b)
        a = ACTIVATIONS[name][0](sums[-1])
    return inputs, sums, a


def names(net: Any) -> list[str]:
    return [*net.activations, net.output_activation or "identity"]


def cost(
    name: str, outputs: Array, y: Any, row_weights: Any = 1, ignore_index: int | None = None, **options: Any
) -> tuple[Wide, Array]:
    """J = sum_r w_r J_r / sum_r w_r, and dJ/d(outputs). Classes become rows of 0 and 1; ignored ones have no weight."""
    y = np.asarray(y)
    w = np.ones(len(y), Wide) * row_weights
    if y.ndim == 1 and outputs.shape[1] > 1:
        w, y = w * (y != ignore_index), np.eye(outputs.shape[1])[np.where(y == ignore_index, 0, y)]
    J, d_outputs = LOSSES[name](outputs, y.reshape(outputs.shape).astype(Wide), **options)
    return w @ J / w.sum(), (w / w.sum())[:, None] * d_outputs


def backprop(net: Any, X: Any, y: Any, **options: Any) -> tuple[Wide, list[Array], list[Array], Array]:
    """J, dJ/dW and dJ/db of every layer, and dJ/dX."""
    inputs, sums, outputs = forward(net, X)
    J, delta = cost(net.loss.name, outputs, y, **options)
    d_weights, d_biases = [], []
    for W, name, a, z in list(zip(net.weights, names(net), inputs, sums, strict=True))[::-1]:
        delta = delta * ACTIVATIONS[name][1](z)  # dJ/dz
        d_weights.insert(0, a.T @ delta)
        d_biases.insert(0, delta.sum(axis=0))
        delta = delta @ W.T  # dJ/da, a being what the layer below puts out
    return J, d_weights, d_biases, delta


# --- the order of the rows -----------------------------------------------------------------------------------

MASK = 2**64 - 1


def mix(x: int) -> int:
    """The finaliser of splitmix64."""
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 & MASK
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB & MASK
    return x ^ (x >> 31)


def shuffled(rows: Any, seed: int, epoch: int) -> np.ndarray:
    """The order of an epoch: Fisher and Yates's shuffle by the numbers of splitmix64."""
    order, golden = list(rows), 0x9E3779B97F4A7C15
    state = mix(seed ^ mix((epoch + golden) & MASK))
    for i in range(len(order) - 1, 0, -1):
        state = (state + golden) & MASK
        j = (mix(state) >> 32) * (i + 1) >> 32
        order[i], order[j] = order[j], order[i]
    return np.array(order)
