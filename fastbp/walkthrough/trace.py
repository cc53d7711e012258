"""One row forward and back in float64, layer by layer, by the reference network, with all digits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from fastbp.network import MLP
from fastbp.numerics import quiet
from fastbp.reference import NumpyMLP
from fastbp.reference.activations import ACTIVATIONS, activate
from fastbp.reference.buffers import target_matrix
from fastbp.spec import Gradient
from fastbp.types import Array
from fastbp.walkthrough.subject import Subject


@dataclass(frozen=True)
class Layer:
    """A layer of weights at one row.

    Attributes
    ----------
    activation : str
    inputs : array, (n_in,)
    weight, d_weight : array, (n_in, n_out)
    bias, z, a, slope, d_a, delta : array, (n_out,)
        slope: f'(z); d_a: dJ/da; delta: dJ/dz, which is dJ/db too.
    """

    activation: str
    inputs: Array
    weight: Array
    bias: Array
    z: Array
    a: Array
    slope: Array
    d_a: Array
    delta: Array
    d_weight: Array


@dataclass(frozen=True)
class Trace:
    """All numbers of one row.

    Attributes
    ----------
    standardised : array, (n_in,)
        The row, standardised where the network does that.
    scaled : array, (n_in,)
        The same times the scales of the inputs.
    layers : list of Layer
    answer : array, (n_out,)
        Probabilities, rates or numbers, as the network learns them.
    target : array, (n_out,)
        In the same units.
    cost : float
        J.
    gradient : Gradient
        dJ by all parameters.
    """

    standardised: Array
    scaled: Array
    layers: list[Layer]
    answer: Array
    target: Array
    cost: float
    gradient: Gradient

    @property
    def finite(self) -> bool:
        """Whether all of it is."""
        parts = [self.scaled, *(one.z for one in self.layers), *(one.delta for one in self.layers)]
        return bool(np.isfinite(self.cost)) and all(np.isfinite(one).all() for one in parts)


@quiet
def trace(subject: Subject, twin: MLP) -> Trace:
    """The numbers of a row; `twin` is the network in float64."""
    net = subject.net
    spec = net.session.spec
    y = twin.session.check_batch(subject.x, subject.y, scan=True).y
    standardised = subject.x[0]
    if net.scaling is not None:
        standardised = (standardised - net.scaling.x_mean) / net.scaling.x_scale
    reference = NumpyMLP(
        net.sizes, activation=net.activations or "relu", output_activation=net.output_activation, loss=net.loss,
        dtype="float64", seed=0, input_scale=spec.input_scale,
    )  # fmt: skip
    reference.set_weights(twin.weights, twin.biases, twin.input_scale)
    gradient = reference.backprop(standardised[None], y)
    scaled = standardised if twin.input_scale is None else standardised * twin.input_scale
    layers, a = [], scaled
    for weight, bias, name in zip(twin.weights, twin.biases, spec.layer_activations, strict=True):
        z = a @ weight + bias
        layers.append((name, a, weight, bias, z, a := activate(name, z.copy())))
    target = target_matrix(net.loss, y, 1, net.sizes[-1], np.dtype(np.float64))
    d_a = _by_output(net.loss, layers[-1], y, gradient.biases[-1])
    found: list[Layer] = []
    for k in range(len(layers) - 1, -1, -1):
        name, inputs, weight, bias, z, a = layers[k]
        delta = gradient.biases[k]
        found.insert(0, Layer(name, inputs, weight, bias, z, a, slope(name, z, a), d_a, delta, gradient.weights[k]))
        d_a = weight @ delta
    return Trace(standardised, scaled, found, answer(net, found[-1]), target[0], float(gradient.loss or 0.0), gradient)


def slope(name: str, z: Array, a: Array) -> Array:
    """f'(z)."""
    functions = ACTIVATIONS[name]
    if functions is None:
        return np.ones_like(z)
    found = a.copy()
    functions.derivative(z, found)
    return found


def answer(net: MLP, last: Layer) -> Array:
    """Probabilities, rates or numbers, before targets are scaled back."""
    link, outputs = net.loss.link, last.a[None].copy()
    return np.ravel(link.probabilities(outputs) if link.classifies else link.predictions(outputs))


def _by_output(loss: Any, last: tuple[Any, ...], y: Array, delta: Array) -> Array:
    """dJ/da of the outputs: by a network that is nothing but the loss, where an activation stands between."""
    name, *_, a = last
    if name == "identity":
        return delta
    alone = NumpyMLP([len(a), len(a)], loss=loss, dtype="float64", seed=0)
    alone.set_weights([np.eye(len(a))], [np.zeros(len(a))])
    return alone.backprop(a[None], y).biases[0]
