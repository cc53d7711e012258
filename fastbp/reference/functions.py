"""The arithmetic of `reference.py` in NumPy: activations, losses with their gradients, update rules, and their buffers.

Every operation writes into a buffer (`out=`); nothing here knows of epochs or batches.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def norm(x: Array) -> float:
    """Euclidean, in double precision; of numbers whose squares are beyond that, too."""
    with np.errstate(all="ignore"):
        found = float(np.linalg.norm(np.asarray(x, np.float64).ravel()))
    if math.isinf(found):
        largest = float(np.abs(x).max())
        found = largest * norm(x / largest) if math.isfinite(largest) else largest
    return found


# ---- Activations ----------------------------------------------------------------------------------------------------
# forward(z, a, scratch): a <- f(z); a may be z itself unless `needs_z`. `scratch`, of the same shape, is destroyed.
# derivative(z, a): a <- f'(z), in terms of the output where that is possible. NaN passes through all of them.

SELU_SCALE, SELU_ALPHA = 1.0507009873554805, 1.6732632423543772
_normal_tail = np.vectorize(math.erfc, otypes=[np.float64])  # NumPy has no erf; slow, and right to the last bits


def _relu(z: Array, a: Array, scratch: Array) -> None:
    # Against zeros of the same shape, not a scalar: half the time at every size, 8 us instead of 14 at 128 x 128.
    scratch.fill(0)
    np.maximum(z, scratch, out=a)


def _d_step(_: Array, a: Array) -> None:
    np.greater(a, 0, out=a)


def _leaky_relu(z: Array, a: Array, scratch: Array) -> None:
    np.multiply(z, 0.01, out=scratch)
    np.maximum(z, scratch, out=a)


def _d_leaky_relu(_: Array, a: Array) -> None:
    np.greater(a, 0, out=a)
    np.maximum(a, 0.01, out=a)


def _elu(z: Array, a: Array, scratch: Array) -> None:
    np.expm1(np.minimum(z, 0, out=scratch), out=scratch)
    np.add(np.maximum(z, 0, out=a), scratch, out=a)


def _d_elu(_: Array, a: Array) -> None:
    np.add(np.minimum(a, 0, out=a), 1, out=a)


def _selu(z: Array, a: Array, scratch: Array) -> None:
    np.expm1(np.minimum(z, 0, out=scratch), out=scratch)
    np.multiply(scratch, SELU_ALPHA, out=scratch)
    np.add(np.maximum(z, 0, out=a), scratch, out=a)
    np.multiply(a, SELU_SCALE, out=a)


def _d_selu(_: Array, a: Array) -> None:
    positive = a > 0
    np.add(a, SELU_SCALE * SELU_ALPHA, out=a)
    np.copyto(a, SELU_SCALE, where=positive)


def _tanh(z: Array, a: Array, _: Array) -> None:
    np.tanh(z, out=a)


def _d_tanh(_: Array, a: Array) -> None:
    np.subtract(1, np.multiply(a, a, out=a), out=a)


def sigmoid(z: Array, a: Array, _: Array | None = None) -> None:
    # exp may overflow to infinity, and then 1 / (1 + inf) is the right answer, 0.
    np.exp(np.negative(z, out=a), out=a)
    np.reciprocal(np.add(a, 1, out=a), out=a)


def _d_sigmoid(_: Array, a: Array) -> None:
    np.multiply(a, 1 - a, out=a)


def _softplus(z: Array, a: Array, scratch: Array) -> None:
    np.exp(np.negative(np.abs(z, out=scratch), out=scratch), out=scratch)
    np.add(np.maximum(z, 0, out=a), np.log1p(scratch, out=scratch), out=a)


def _d_softplus(_: Array, a: Array) -> None:
    np.negative(np.expm1(np.negative(a, out=a), out=a), out=a)


def _gelu(z: Array, a: Array, _: Array) -> None:
    # erfc, not 1 + erf: the left tail would cancel.
    np.multiply(z, 0.5 * _normal_tail(z * -math.sqrt(0.5)), out=a, casting="same_kind")


def _d_gelu(z: Array, a: Array) -> None:
    density = np.exp(-0.5 * z * z) / math.sqrt(2 * math.pi)
    np.add(0.5 * _normal_tail(z * -math.sqrt(0.5)), z * density, out=a, casting="same_kind")


def _silu(z: Array, a: Array, _: Array) -> None:
    sigmoid(z, a)
    np.multiply(a, z, out=a)


def _d_silu(z: Array, a: Array) -> None:
    s = np.empty_like(z)
    sigmoid(z, s)
    np.add(np.multiply(a, 1 - s, out=a), s, out=a)


class Activation(NamedTuple):
    forward: Callable[[Array, Array, Array], None]
    derivative: Callable[[Array, Array], None]
    needs_z: bool = False


ACTIVATIONS: dict[str, Activation | None] = {
    "identity": None,
    "relu": Activation(_relu, _d_step),
    "leaky_relu": Activation(_leaky_relu, _d_leaky_relu),
    "elu": Activation(_elu, _d_elu),
    "selu": Activation(_selu, _d_selu),
    "tanh": Activation(_tanh, _d_tanh),
    "sigmoid": Activation(sigmoid, _d_sigmoid),
    "softplus": Activation(_softplus, _d_softplus),
    "gelu": Activation(_gelu, _d_gelu, needs_z=True),
    "silu": Activation(_silu, _d_silu, needs_z=True),
}

# ---- Buffers ---------------------------------------------------------------------------------------------------------


class Layer(NamedTuple):
    weight: Array  # (n_in, n_out), a view of the flat parameters, as all below are of parameters or gradient
    bias: Array  # (n_out,)
    d_weight: Array  # (n_in, n_out)
    d_bias: Array  # (n_out,)
    activation: Activation | None  # None: identity


class Workspace:
    """Every buffer that a batch of `rows` rows passes through."""

    def __init__(self, rows: int, n_in: int, layers: Sequence[Layer], dtype: np.dtype[Any]) -> None:
        n_out = layers[-1].bias.size
        self.rows = rows
        self.inputs = np.empty((rows, n_in), dtype)  # where fit gathers a batch
        self.targets = np.empty((rows, n_out), dtype)
        self.z = [np.empty((rows, layer.bias.size), dtype) for layer in layers]
        self.a = [
            np.empty_like(z) if layer.activation and (layer.activation.needs_z or layer is layers[-1]) else z
            for layer, z in zip(layers, self.z, strict=True)
        ]  # an activation replaces z in place, unless its derivative or forward() wants z
        self.deltas = [np.empty_like(z) for z in self.z]  # dJ/dz
        self.output = self.a[-1]
        self.scratch = np.empty((rows, n_out), dtype)
        self.column = np.empty((rows, 1), dtype)
        self.ones_rows = np.ones(rows, dtype)
        self.ones_out = np.ones((n_out, 1), dtype)


# ---- Losses ---------------------------------------------------------------------------------------------------------
# loss(ws, description): returns the mean loss of ws.output (p, or z where the link is part of the loss) at ws.targets
# and leaves its gradient in ws.deltas[-1]; destroys ws.scratch and ws.column.


def _cross_entropy(ws: Workspace, description: Any) -> float:
    z, y, delta, column = ws.output, ws.targets, ws.deltas[-1], ws.column
    if description.label_smoothing:
        np.multiply(y, 1 - description.label_smoothing, out=y)
        np.add(y, description.label_smoothing / y.shape[1], out=y)
    np.maximum.reduce(z, axis=1, keepdims=True, out=column)
    np.subtract(z, column, out=delta)
    of_targets = np.vdot(y, delta)
    np.dot(np.exp(delta, out=delta), ws.ones_out, out=column)
    np.subtract(np.divide(delta, column, out=delta), y, out=delta)
    np.multiply(delta, 1 / ws.rows, out=delta)
    return float(np.log(column, out=column).sum() - of_targets) / ws.rows


def _binary_cross_entropy(ws: Workspace, _: Any) -> float:
    z, y, delta, scratch = ws.output, ws.targets, ws.deltas[-1], ws.scratch
    _softplus(z, delta, scratch)  # softplus(z) - z y = max(z, 0) - z y + log1p(exp(-|z|))
    loss = float(delta.sum() - np.vdot(z, y)) / z.size
    sigmoid(z, delta)
    np.multiply(np.subtract(delta, y, out=delta), 1 / z.size, out=delta)
    return loss


def _mse(ws: Workspace, _: Any) -> float:
    delta = np.subtract(ws.output, ws.targets, out=ws.deltas[-1])
    loss = float(np.vdot(delta, delta)) / delta.size
    np.multiply(delta, 2 / delta.size, out=delta)
    return loss


def _mae(ws: Workspace, _: Any) -> float:
    difference = np.subtract(ws.output, ws.targets, out=ws.scratch)
    delta = np.sign(difference, out=ws.deltas[-1])
    loss = float(np.vdot(difference, delta)) / delta.size
    np.multiply(delta, 1 / delta.size, out=delta)
    return loss


def _huber(ws: Workspace, description: Any) -> float:
    # With d = p - y and c = clip(d, -delta, delta), the gradient is c and the loss c d - c^2 / 2, on both branches.
    difference = np.subtract(ws.output, ws.targets, out=ws.scratch)
    delta = np.clip(difference, -description.delta, description.delta, out=ws.deltas[-1])
    loss = float(np.vdot(delta, difference) - 0.5 * np.vdot(delta, delta)) / delta.size
    np.multiply(delta, 1 / delta.size, out=delta)
    return loss


def _poisson(ws: Workspace, _: Any) -> float:
    z, y, delta = ws.output, ws.targets, ws.deltas[-1]
    np.exp(z, out=delta)
    loss = float(delta.sum() - np.vdot(z, y)) / z.size
    np.multiply(np.subtract(delta, y, out=delta), 1 / z.size, out=delta)
    return loss


LOSSES: dict[str, Callable[[Workspace, Any], float]] = {
    "cross_entropy": _cross_entropy,
    "binary_cross_entropy": _binary_cross_entropy,
    "mse": _mse,
    "mae": _mae,
    "huber": _huber,
    "poisson": _poisson,
}


def weighted(loss: Callable[[Workspace, Any], float], ws: Workspace, description: Any, weights: Array) -> float:
    """sum w J / sum w over the rows, with the gradient in ws.deltas[-1]: row by row, each a batch of its own."""
    total, found = float(weights.sum()), 0.0
    for r, weight in enumerate(weights):
        one, at = copy.copy(ws), slice(r, r + 1)
        one.rows, one.output, one.targets, one.deltas = 1, ws.output[at], ws.targets[at], [ws.deltas[-1][at]]
        one.scratch, one.column = ws.scratch[at], ws.column[at]
        if weight == 0:
            one.deltas[-1].fill(0)
            continue
        found += float(weight) / total * loss(one, description)
        np.multiply(one.deltas[-1], weight / total, out=one.deltas[-1])
    return found


LINKED = ("cross_entropy", "binary_cross_entropy", "poisson")  # softmax, sigmoid, exp: delta = p - y
CLASSIFIES = ("cross_entropy", "binary_cross_entropy")

# ---- Optimisers: PyTorch's update rules (Lion: its paper's), on the flat vectors p, g and m, v, with s to work in ----
# rule(recipe, step, p, g, state, s): one update of p in place, `step` counting from 1; destroys g and s.


def _decayed(recipe: Any, p: Array, g: Array, s: Array) -> None:
    if recipe.weight_decay:
        np.add(g, np.multiply(p, recipe.weight_decay, out=s), out=g)


def _sgd(recipe: Any, step: int, p: Array, g: Array, state: list[Array], s: Array) -> None:
    _decayed(recipe, p, g, s)
    out = g
    if recipe.momentum:
        (m,) = state
        np.multiply(m, recipe.momentum, out=m)
        np.add(m, g * (1 - recipe.dampening) if recipe.dampening and step > 1 else g, out=m)
        if recipe.nesterov:
            np.add(g, np.multiply(m, recipe.momentum, out=s), out=g)
        else:
            g, out = m, s
    np.subtract(p, np.multiply(g, recipe.lr, out=out), out=p)


def _mean(m: Array, beta: float, x: Array, s: Array) -> None:
    """m <- beta m + (1 - beta) x"""
    np.add(np.multiply(m, beta, out=m), np.multiply(x, 1 - beta, out=s), out=m)


def _adam_step(recipe: Any, step: int, p: Array, g: Array, state: list[Array], s: Array) -> None:
    m, v, *largest = state
    beta1, beta2 = recipe.betas
    _mean(m, beta1, g, s)
    _mean(v, beta2, np.multiply(g, g, out=g), s)
    if largest:
        v = np.maximum(largest[0], v, out=largest[0])
    # p -= lr / c1 * m / (sqrt(v) / sqrt(c2) + eps), multiplied out by sqrt(c2) to save a pass over s
    root = math.sqrt(1 - beta2**step)
    np.add(np.sqrt(v, out=s), recipe.eps * root, out=s)
    np.multiply(np.divide(m, s, out=s), recipe.lr * root / (1 - beta1**step), out=s)
    np.subtract(p, s, out=p)


def _adam(recipe: Any, step: int, p: Array, g: Array, state: list[Array], s: Array) -> None:
    _decayed(recipe, p, g, s)
    _adam_step(recipe, step, p, g, state, s)


def _adamw(recipe: Any, step: int, p: Array, g: Array, state: list[Array], s: Array) -> None:
    np.multiply(p, 1 - recipe.lr * recipe.weight_decay, out=p)
    _adam_step(recipe, step, p, g, state, s)


def _rmsprop(recipe: Any, _step: int, p: Array, g: Array, state: list[Array], s: Array) -> None:
    v, *more = state
    _decayed(recipe, p, g, s)
    np.multiply(np.multiply(g, g, out=s), 1 - recipe.alpha, out=s)
    np.add(np.multiply(v, recipe.alpha, out=v), s, out=v)
    if recipe.centered:
        a = more.pop(0)
        _mean(a, recipe.alpha, g, s)
        v = np.maximum(v - a * a, 0)
    np.add(np.sqrt(v, out=s), recipe.eps, out=s)
    step = np.divide(g, s, out=s)
    if recipe.momentum:
        (b,) = more
        step = np.add(np.multiply(b, recipe.momentum, out=b), step, out=b)
    np.subtract(p, np.multiply(step, recipe.lr, out=s), out=p)


def _shrunk_or_decayed(recipe: Any, p: Array, g: Array, s: Array) -> None:
    if recipe.decoupled_weight_decay:
        np.multiply(p, 1 - recipe.lr * recipe.weight_decay, out=p)
    else:
        _decayed(recipe, p, g, s)


def _nadam(recipe: Any, step: int, p: Array, g: Array, state: list[Array], s: Array) -> None:
    m, v = state
    beta1, beta2 = recipe.betas
    _shrunk_or_decayed(recipe, p, g, s)
    _mean(m, beta1, g, s)
    _mean(v, beta2, g * g, s)

    def mu(t: int) -> float:
        return float(beta1 * (1 - 0.5 * 0.96 ** (t * recipe.momentum_decay)))

    product = 1.0
    for t in range(1, step + 1):
        product *= mu(t)
        if product < 1e-30:  # from here on it changes nothing
            break
    following = mu(step + 1)
    look_ahead = (1 - mu(step)) / (1 - product) * g + following / (1 - product * following) * m
    np.subtract(p, recipe.lr * look_ahead / (np.sqrt(v / (1 - beta2**step)) + recipe.eps), out=p)


def _radam(recipe: Any, step: int, p: Array, g: Array, state: list[Array], s: Array) -> None:
    m, v = state
    beta1, beta2 = recipe.betas
    _shrunk_or_decayed(recipe, p, g, s)
    _mean(m, beta1, g, s)
    _mean(v, beta2, g * g, s)
    change = recipe.lr / (1 - beta1**step) * m
    most = 2 / (1 - beta2) - 1
    rho = most - 2 * step * beta2**step / (1 - beta2**step)
    if rho > 5:
        rectified = (rho - 4) * (rho - 2) * most / ((most - 4) * (most - 2) * rho)
        change *= math.sqrt(rectified * (1 - beta2**step)) / (np.sqrt(v) + recipe.eps)
    np.subtract(p, change, out=p)


def _adamax(recipe: Any, step: int, p: Array, g: Array, state: list[Array], s: Array) -> None:
    m, u = state
    _decayed(recipe, p, g, s)
    _mean(m, recipe.betas[0], g, s)
    np.maximum(u * recipe.betas[1], np.abs(g) + recipe.eps, out=u)
    np.subtract(p, recipe.lr / (1 - recipe.betas[0] ** step) * m / u, out=p)


def _lion(recipe: Any, _step: int, p: Array, g: Array, state: list[Array], s: Array) -> None:
    (m,) = state
    beta1, beta2 = recipe.betas
    np.subtract(p, recipe.lr * (np.sign(beta1 * m + (1 - beta1) * g) + recipe.weight_decay * p), out=p)
    _mean(m, beta2, g, s)


def _adagrad(recipe: Any, step: int, p: Array, g: Array, state: list[Array], s: Array) -> None:
    (total,) = state
    _decayed(recipe, p, g, s)
    np.add(total, g * g, out=total)
    rate = recipe.lr / (1 + (step - 1) * recipe.lr_decay)
    np.subtract(p, rate * g / (np.sqrt(total) + recipe.eps), out=p)


def _adadelta(recipe: Any, _step: int, p: Array, g: Array, state: list[Array], s: Array) -> None:
    v, a = state
    _decayed(recipe, p, g, s)
    _mean(v, recipe.rho, g * g, s)
    change = np.sqrt(a + recipe.eps) / np.sqrt(v + recipe.eps) * g
    _mean(a, recipe.rho, change * change, s)
    np.subtract(p, recipe.lr * change, out=p)


def _rprop(recipe: Any, _step: int, p: Array, g: Array, state: list[Array], _: Array) -> None:
    before, size = state
    turned = g * before
    size[turned > 0] *= recipe.etas[1]
    size[turned < 0] *= recipe.etas[0]
    np.clip(size, *recipe.step_sizes, out=size)
    g[turned < 0] = 0
    np.subtract(p, np.sign(g) * size, out=p)
    before[:] = g


OPTIMIZERS: dict[str, Callable[[Any, int, Array, Array, list[Array], Array], None]] = {
    "sgd": _sgd,
    "adam": _adam,
    "adamw": _adamw,
    "nadam": _nadam,
    "radam": _radam,
    "adamax": _adamax,
    "lion": _lion,
    "rmsprop": _rmsprop,
    "adagrad": _adagrad,
    "adadelta": _adadelta,
    "rprop": _rprop,
}


def initial_state(recipe: Any) -> tuple[float, ...]:
    """What the vectors of state begin with, one entry for each that the recipe needs."""
    match recipe.name:
        case "adagrad":
            return (recipe.initial_accumulator_value,)
        case "rprop":
            return 0.0, recipe.lr
        case "sgd":
            n = int(recipe.momentum > 0)
        case "rmsprop":
            n = 1 + recipe.centered + (recipe.momentum > 0)
        case "lion":
            n = 1
        case _:
            n = 2 + getattr(recipe, "amsgrad", False)
    return (0.0,) * n
