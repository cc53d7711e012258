"""Update rules in NumPy, on flat vectors: PyTorch's, and for Lion that of its paper.

    rule(optimizer, step, p, g, state, s)

makes one update of the parameters p in place, by the gradient g. `optimizer` is the description, `step` counts from 1,
`state` holds the moments, which begin with the description's `initial_state`; g and the scratch vector s are destroyed.
An optimiser is one function and one line of OPTIMIZERS.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fastbp.optimizers import LrScale
from fastbp.types import Array


def _decayed(optimizer: Any, p: Array, g: Array, s: Array) -> None:
    if optimizer.weight_decay:
        np.add(g, np.multiply(p, optimizer.weight_decay, out=s), out=g)


def sgd(optimizer: Any, step: int, p: Array, g: Array, state: list[Array], s: Array) -> None:
    _decayed(optimizer, p, g, s)
    out = g
    if optimizer.momentum:
        (m,) = state
        np.multiply(m, optimizer.momentum, out=m)
        np.add(m, g * (1 - optimizer.dampening) if optimizer.dampening and step > 1 else g, out=m)
        if optimizer.nesterov:
            np.add(g, np.multiply(m, optimizer.momentum, out=s), out=g)
        else:
            g, out = m, s
    np.subtract(p, np.multiply(g, optimizer.lr, out=out), out=p)


def _mean(m: Array, beta: float, x: Array, s: Array) -> None:
    """m <- beta m + (1 - beta) x"""
    np.add(np.multiply(m, beta, out=m), np.multiply(x, 1 - beta, out=s), out=m)


def _adam_step(optimizer: Any, step: int, p: Array, g: Array, state: list[Array], s: Array) -> None:
    m, v, *largest = state
    beta1, beta2 = optimizer.betas
    _mean(m, beta1, g, s)
    _mean(v, beta2, np.multiply(g, g, out=g), s)
    if largest:
        v = np.maximum(largest[0], v, out=largest[0])
    # p -= lr / c1 * m / (sqrt(v) / sqrt(c2) + eps), multiplied out by sqrt(c2) to save a pass over s
    root = math.sqrt(1 - beta2**step)
    np.add(np.sqrt(v, out=s), optimizer.eps * root, out=s)
    np.multiply(np.divide(m, s, out=s), optimizer.lr * root / (1 - beta1**step), out=s)
    np.subtract(p, s, out=p)


def adam(optimizer: Any, step: int, p: Array, g: Array, state: list[Array], s: Array) -> None:
    _decayed(optimizer, p, g, s)
    _adam_step(optimizer, step, p, g, state, s)


def adamw(optimizer: Any, step: int, p: Array, g: Array, state: list[Array], s: Array) -> None:
    np.multiply(p, 1 - optimizer.lr * optimizer.weight_decay, out=p)
    _adam_step(optimizer, step, p, g, state, s)


def rmsprop(optimizer: Any, _step: int, p: Array, g: Array, state: list[Array], s: Array) -> None:
    v, *more = state
    _decayed(optimizer, p, g, s)
    np.multiply(np.multiply(g, g, out=s), 1 - optimizer.alpha, out=s)
    np.add(np.multiply(v, optimizer.alpha, out=v), s, out=v)
    if optimizer.centered:
        a = more.pop(0)
        _mean(a, optimizer.alpha, g, s)
        v = np.maximum(v - a * a, 0)
    np.add(np.sqrt(v, out=s), optimizer.eps, out=s)
    step = np.divide(g, s, out=s)
    if optimizer.momentum:
        (b,) = more
        step = np.add(np.multiply(b, optimizer.momentum, out=b), step, out=b)
    np.subtract(p, np.multiply(step, optimizer.lr, out=s), out=p)


def _shrunk_or_decayed(optimizer: Any, p: Array, g: Array, s: Array) -> None:
    if optimizer.decoupled_weight_decay:
        np.multiply(p, 1 - optimizer.lr * optimizer.weight_decay, out=p)
    else:
        _decayed(optimizer, p, g, s)


def nadam(optimizer: Any, step: int, p: Array, g: Array, state: list[Array], s: Array) -> None:
    m, v = state
    beta1, beta2 = optimizer.betas
    _shrunk_or_decayed(optimizer, p, g, s)
    _mean(m, beta1, g, s)
    _mean(v, beta2, g * g, s)

    def mu(t: int) -> float:
        return float(beta1 * (1 - 0.5 * 0.96 ** (t * optimizer.momentum_decay)))

    product = 1.0
    for t in range(1, step + 1):
        product *= mu(t)
        if product < 1e-30:  # from here on it changes nothing
            break
    following = mu(step + 1)
    look_ahead = (1 - mu(step)) / (1 - product) * g + following / (1 - product * following) * m
    np.subtract(p, optimizer.lr * look_ahead / (np.sqrt(v / (1 - beta2**step)) + optimizer.eps), out=p)


def radam(optimizer: Any, step: int, p: Array, g: Array, state: list[Array], s: Array) -> None:
    m, v = state
    beta1, beta2 = optimizer.betas
    _shrunk_or_decayed(optimizer, p, g, s)
    _mean(m, beta1, g, s)
    _mean(v, beta2, g * g, s)
    change = optimizer.lr / (1 - beta1**step) * m
    most = 2 / (1 - beta2) - 1
    rho = most - 2 * step * beta2**step / (1 - beta2**step)
    if rho > 5:
        rectified = (rho - 4) * (rho - 2) * most / ((most - 4) * (most - 2) * rho)
        change *= math.sqrt(rectified * (1 - beta2**step)) / (np.sqrt(v) + optimizer.eps)
    np.subtract(p, change, out=p)


def adamax(optimizer: Any, step: int, p: Array, g: Array, state: list[Array], s: Array) -> None:
    m, u = state
    _decayed(optimizer, p, g, s)
    _mean(m, optimizer.betas[0], g, s)
    np.maximum(u * optimizer.betas[1], np.abs(g) + optimizer.eps, out=u)
    np.subtract(p, optimizer.lr / (1 - optimizer.betas[0] ** step) * m / u, out=p)


def lion(optimizer: Any, _step: int, p: Array, g: Array, state: list[Array], s: Array) -> None:
    (m,) = state
    beta1, beta2 = optimizer.betas
    np.subtract(p, optimizer.lr * (np.sign(beta1 * m + (1 - beta1) * g) + optimizer.weight_decay * p), out=p)
    _mean(m, beta2, g, s)


def adagrad(optimizer: Any, step: int, p: Array, g: Array, state: list[Array], s: Array) -> None:
    (total,) = state
    _decayed(optimizer, p, g, s)
    np.add(total, g * g, out=total)
    rate = optimizer.lr / (1 + (step - 1) * optimizer.lr_decay)
    np.subtract(p, rate * g / (np.sqrt(total) + optimizer.eps), out=p)


def adadelta(optimizer: Any, _step: int, p: Array, g: Array, state: list[Array], s: Array) -> None:
    v, a = state
    _decayed(optimizer, p, g, s)
    _mean(v, optimizer.rho, g * g, s)
    change = np.sqrt(a + optimizer.eps) / np.sqrt(v + optimizer.eps) * g
    _mean(a, optimizer.rho, change * change, s)
    np.subtract(p, optimizer.lr * change, out=p)


def rprop(optimizer: Any, _step: int, p: Array, g: Array, state: list[Array], _: Array) -> None:
    before, size = state
    turned = g * before
    size[turned > 0] *= optimizer.etas[1]
    size[turned < 0] *= optimizer.etas[0]
    np.clip(size, *optimizer.step_sizes, out=size)
    g[turned < 0] = 0
    factor = optimizer.lr_scale.weights if optimizer.lr_scale else 1.0  # one number: see `_at_scale`
    np.subtract(p, np.sign(g) * size * factor, out=p)
    before[:] = g


def adabelief(optimizer: Any, step: int, p: Array, g: Array, state: list[Array], s: Array) -> None:
    m, spread = state
    beta1, beta2 = optimizer.betas
    np.multiply(p, 1 - optimizer.lr * optimizer.weight_decay, out=p)
    _mean(m, beta1, g, s)
    np.subtract(g, m, out=g)
    _mean(spread, beta2, np.multiply(g, g, out=g), s)
    np.add(spread, optimizer.eps, out=spread)
    np.add(np.sqrt(spread / (1 - beta2**step), out=s), optimizer.eps, out=s)
    np.subtract(p, np.multiply(np.divide(m, s, out=s), optimizer.lr / (1 - beta1**step), out=s), out=p)


def lookahead(optimizer: Any, step: int, p: Array, g: Array, state: list[Array], s: Array) -> None:
    *moments, way = state
    np.subtract(way, p, out=way)
    adam(optimizer, step, p, g, moments, s)
    np.add(way, p, out=way)
    if step % optimizer.k == 0:
        np.subtract(p, np.multiply(way, 1 - optimizer.alpha, out=s), out=p)
        way.fill(0)


def by_rate(optimizer: Any, layers: Sequence[Any]) -> list[tuple[slice, Any]]:
    """The parts of the flat parameters that have a learning rate of their own, with the optimiser at that rate.

    layers: objects with `weight` and `bias`, which lie one behind the other; scales of the inputs come last.
    """
    scale = optimizer.lr_scale
    if scale is None:
        return [(slice(None), optimizer)]
    found, start = [], 0
    for layer, factors in zip(layers, scale.by_layer([len(layer.weight) for layer in layers]), strict=True):
        for part, factor in zip((layer.weight, layer.bias), factors, strict=True):
            found.append((slice(start, start + part.size), _at_scale(optimizer, factor)))
            start += part.size
    return [*found, (slice(start, None), _at_scale(optimizer, scale.input_scale))]


def _at_scale(optimizer: Any, factor: float) -> Any:
    return dataclasses.replace(optimizer, lr=optimizer.lr * factor, lr_scale=LrScale(factor, factor))


OPTIMIZERS: dict[str, Callable[[Any, int, Array, Array, list[Array], Array], None]] = {
    "sgd": sgd,
    "adam": adam,
    "adamw": adamw,
    "nadam": nadam,
    "radam": radam,
    "adamax": adamax,
    "lion": lion,
    "rmsprop": rmsprop,
    "adagrad": adagrad,
    "adadelta": adadelta,
    "rprop": rprop,
    "adabelief": adabelief,
    "lookahead": lookahead,
}
