"""Initial weights: one registry, and the one routine that every network draws its start from.

The variance of a weight is chosen so that signals (or gradients) keep their scale from layer to layer; what is right
depends on the activation, so the default follows it. Biases start at zero, but with "realmlp".
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from fastbp import activations as _activations
from fastbp.numerics import quiet
from fastbp.validation import check_choice, check_seed

Initializer = Callable[[int, int, np.random.Generator], NDArray[np.float64]]


def _normal(scale: float, n_in: int, n_out: int, rng: np.random.Generator) -> NDArray[np.float64]:
    return scale * rng.standard_normal((n_in, n_out))


def _uniform(limit: float, n_in: int, n_out: int, rng: np.random.Generator) -> NDArray[np.float64]:
    return rng.uniform(-limit, limit, (n_in, n_out))


def he_normal(n_in: int, n_out: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Normal, standard deviation sqrt(2 / n_in): keeps variance through relu and its relatives.

    He, Zhang, Ren and Sun, "Delving deep into rectifiers", ICCV 2015.
    """
    return _normal(math.sqrt(2.0 / n_in), n_in, n_out, rng)


def he_uniform(n_in: int, n_out: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Uniform on +-sqrt(6 / n_in): the variance of `he_normal`, 2 / n_in. He et al., ICCV 2015."""
    return _uniform(math.sqrt(6.0 / n_in), n_in, n_out, rng)


def glorot_normal(n_in: int, n_out: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Normal, standard deviation sqrt(2 / (n_in + n_out)): a compromise of forward and backward scale.

    Glorot and Bengio, "Understanding the difficulty of training deep feedforward neural networks", AISTATS 2010.
    """
    return _normal(math.sqrt(2.0 / (n_in + n_out)), n_in, n_out, rng)


def glorot_uniform(n_in: int, n_out: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Uniform on +-sqrt(6 / (n_in + n_out)): the variance of `glorot_normal`. Glorot and Bengio, AISTATS 2010."""
    return _uniform(math.sqrt(6.0 / (n_in + n_out)), n_in, n_out, rng)


def lecun_normal(n_in: int, n_out: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Normal, standard deviation sqrt(1 / n_in): what selu's self-normalisation assumes.

    LeCun, Bottou, Orr and Mueller, "Efficient BackProp", 1998; Klambauer et al., NeurIPS 2017, for selu.
    """
    return _normal(math.sqrt(1.0 / n_in), n_in, n_out, rng)


def lecun_uniform(n_in: int, n_out: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Uniform on +-sqrt(3 / n_in): the variance of `lecun_normal`. LeCun et al., 1998."""
    return _uniform(math.sqrt(3.0 / n_in), n_in, n_out, rng)


def zeros(n_in: int, n_out: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """All weights zero; draws nothing. Fit for a single layer only: hidden units that start equal stay equal."""
    del rng
    return np.zeros((n_in, n_out))


def realmlp(n_in: int, n_out: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """As `lecun_normal`, 1 / n_in; in a network besides: biases of variance 1, and all of the last layer zero.

    Hidden units bend at different places from the start, and the first outputs are those of the biases alone: means of
    targets that are standardised, equal chances of classes. Holzmueller, Grinsztajn and Steinwart, "Better by default",
    NeurIPS 2024.
    """
    return lecun_normal(n_in, n_out, rng)


INITIALIZERS: dict[str, Initializer] = {
    function.__name__: function
    for function in (he_normal, he_uniform, glorot_normal, glorot_uniform, lecun_normal, lecun_uniform, zeros, realmlp)
}


def get(name: str) -> Initializer:
    """The initializer of that name.

    Raises
    ------
    ValueError, TypeError
        If no initializer has that name.
    """
    return INITIALIZERS[check_choice("init", name, INITIALIZERS)]


@quiet
def initialize(
    name: str, n_in: int, n_out: int, rng: np.random.Generator, dtype: DTypeLike = np.float32
) -> NDArray[Any]:
    """Weights of one layer, `(n_in, n_out)`, drawn from `rng` in float64, then cast to `dtype`.

    Raises
    ------
    ValueError
        If no initializer has that name.
    """
    return get(name)(n_in, n_out, rng).astype(dtype)


@quiet
def initial_weights(
    sizes: Sequence[int],
    activations: Sequence[str],
    init: str | None = None,
    seed: int | None = None,
    dtype: DTypeLike = np.float32,
) -> tuple[list[NDArray[Any]], list[NDArray[Any]]]:
    """Weights and biases of a whole network, drawn layer by layer from one PCG64 stream.

    One seed gives one start, whatever trains it: float32 weights are the float64 ones, rounded.

    Parameters
    ----------
    sizes : sequence of int
        Units of each layer, inputs first: `[64, 128, 10]`.
    activations : sequence of str
        The activation of each layer of weights, so `len(sizes) - 1` names; the last is the output activation.
    init : str, optional
        One initializer for all layers. By default each layer takes that of its activation (`Activation.init`).
    seed : int, optional
        Seed of the stream; None draws one from the operating system.
    dtype : dtype
        float32 (default) or float64.

    Returns
    -------
    weights : list of (n_in, n_out) arrays
    biases : list of (n_out,) arrays, zero but with "realmlp"

    Raises
    ------
    ValueError
        If `init` is unknown, or the number of activations does not match `sizes`.
    """
    if len(activations) != len(sizes) - 1:
        raise ValueError(
            f"activations must hold one name per layer of weights ({len(sizes) - 1} for sizes {list(sizes)}); "
            f"got {len(activations)}: {list(activations)}"
        )
    rng = np.random.Generator(np.random.PCG64(check_seed(seed)))  # what `default_rng` makes
    weights, biases = [], []
    for n_in, n_out, activation in zip(sizes[:-1], sizes[1:], activations, strict=True):
        name = _activations.get(activation).init if init is None else init
        weights.append(get(name)(n_in, n_out, rng).astype(dtype))
        biases.append(rng.standard_normal(n_out).astype(dtype) if name == "realmlp" else np.zeros(n_out, dtype))
    if init == "realmlp":
        weights[-1][...], biases[-1][...] = 0.0, 0.0
    return weights, biases
