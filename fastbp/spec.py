"""Values that travel together: what a network is, what it is trained on, and what backpropagation yields."""

from __future__ import annotations

import dataclasses
import itertools
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from fastbp import activations, arrays, initializers, losses, regularization, validation
from fastbp.activations import Activation
from fastbp.losses import Loss
from fastbp.numerics import quiet
from fastbp.regularization import Regularization
from fastbp.types import Array


class Packing(Protocol):
    """How the parameters of a network lie in memory."""

    @property
    def key(self) -> object:
        """Equal where the layout is."""

    def unpack(self, parameters: Array) -> tuple[list[Array], list[Array]]:
        """Weights and biases out of flat parameters."""

    def unpack_scale(self, parameters: Array) -> Array | None:
        """The scales of the inputs; None where a network has none."""


@dataclass(frozen=True)
class NetworkSpec:
    """What `MLP(...)` describes: all of a network but its parameters. Made by `check`, which knows the defaults.

    Attributes
    ----------
    sizes : tuple of int
        Units of each layer, inputs and outputs included.
    activations : tuple of str
        Of the hidden layers.
    output_activation : str or None
        Of the last layer; None where the loss has its own link, or none was asked for.
    loss : Loss
    init : str or None
        Initialiser of the weights; None: the one that suits each layer's activation.
    regularization : Regularization
    dtype : dtype
        Of the parameters and all arithmetic.
    seed : int
    input_scale : bool
        Each input is multiplied by a number that is trained.
    """

    sizes: tuple[int, ...]
    activations: tuple[str, ...]
    output_activation: str | None
    loss: Loss
    init: str | None
    regularization: Regularization
    dtype: np.dtype[Any]
    seed: int
    input_scale: bool = False

    @classmethod
    def check(
        cls,
        sizes: Sequence[int],
        *,
        activation: str | Activation | Sequence[str | Activation] = "relu",
        output_activation: str | Activation | None = None,
        loss: str | Loss = "cross_entropy",
        init: str | None = None,
        dropout: float | Sequence[float] = 0.0,
        input_noise: float = 0.0,
        l1: float = 0.0,
        l2: float = 0.0,
        max_norm: float | None = None,
        dtype: npt.DTypeLike = "float32",
        seed: int | None = None,
        input_scale: bool = False,
    ) -> NetworkSpec:
        """The arguments of `MLP`, checked; a seed is drawn if there is none."""
        units = validation.check_sizes(sizes)
        n_hidden = len(units) - 2
        hidden = validation.check_activations(activation, n_hidden, activations.ACTIVATIONS)
        cost = losses.get(loss)
        losses.check_softmax(cost, units[-1])
        if output_activation is not None and cost.linked:
            raise ValueError(
                f"output_activation must be None with loss={cost.name!r}, which has its own link from outputs to "
                f"predictions; got {output_activation!r}"
            )
        output = None if output_activation is None else activations.get(output_activation, "output_activation").name
        penalties = regularization.check(dropout, input_noise, l1, l2, max_norm, n_hidden)
        number_type, checked = validation.check_dtype(dtype), validation.check_seed(seed)
        drawn = int.from_bytes(os.urandom(4), "little") if checked is None else checked
        chosen = None if init is None else validation.check_choice("init", init, initializers.INITIALIZERS)
        scaled = validation.check_flag("input_scale", input_scale)
        return cls(units, hidden, output, cost, chosen, penalties, number_type, drawn, scaled)

    @property
    def layer_activations(self) -> tuple[str, ...]:
        """Of every layer of weights, the outputs last."""
        return *self.activations, self.output_activation or "identity"

    @property
    def n_in(self) -> int:
        """Inputs."""
        return self.sizes[0]

    @property
    def n_out(self) -> int:
        """Outputs."""
        return self.sizes[-1]

    @property
    def n_parameters(self) -> int:
        """Weights and biases, and the scales of the inputs."""
        layers = sum((n_in + 1) * n_out for n_in, n_out in itertools.pairwise(self.sizes))
        return layers + self.n_in * self.input_scale

    @property
    def n_layers(self) -> int:
        """Layers of weights."""
        return len(self.sizes) - 1

    def initial_parameters(self) -> tuple[list[Array], list[Array]]:
        """Weights and biases to begin with, drawn by the seed."""
        return initializers.initial_weights(self.sizes, self.layer_activations, self.init, self.seed, self.dtype)

    def with_seed(self, seed: int) -> NetworkSpec:
        """The same with another seed."""
        return dataclasses.replace(self, seed=seed)


class Samples(NamedTuple):
    """Rows to train on or to score, checked and in the form that kernels read.

    Attributes
    ----------
    X : array, (n, n_in)
    y : array or None
        ``(n,)`` labels or ``(n, n_out)``, standardised where the network does that; None where nothing is known.
    weights : array or None
        ``(n,)``, float64: how much each row counts; None: all the same.
    rows : array or None
        The numbers of the rows that are meant, int64; None: all.
    """

    X: Array
    y: Any  # an array, or None
    weights: Array | None = None
    rows: Array | None = None

    @property
    def n_rows(self) -> int:
        """How many rows are meant."""
        return len(self.X if self.rows is None else self.rows)

    @property
    def own_weights(self) -> Array | None:
        """Weights of the rows that are meant."""
        return self.weights if self.weights is None or self.rows is None else self.weights[self.rows]

    @property
    def own_targets(self) -> Any:
        """Targets of the rows that are meant."""
        return self.y if self.y is None or self.rows is None else self.y[self.rows]


class Gradient:
    """What backpropagation yields: the loss and its derivative by every parameter, and by the inputs.

    Parameters
    ----------
    loss : float or None
        J of the batch; None where an output gradient was handed in.
    weights, biases : list of array
        dJ/dW ``(n_in, n_out)`` and dJ/db ``(n_out,)``, one a layer.
    inputs : array
        dJ/dX, ``(n, n_in)``; in float64 where the network standardises its inputs.
    input_scale : array or None
        dJ/ds of the scale of each input, ``(n_in,)``; None where the network has none.

    All of them are attributes that can be set.
    """

    def __init__(
        self, loss: float | None, weights: list[Array], biases: list[Array], inputs: Array,
        input_scale: Array | None = None,
    ) -> None:  # fmt: skip
        self.loss, self.inputs = loss, inputs
        self._parts: tuple[list[Array], list[Array], Array | None] | None = (weights, biases, input_scale)
        self._packed: tuple[Array, Packing] | None = None

    @classmethod
    def of_packed(cls, loss: float | None, flat: Array, packing: Packing, inputs: Array) -> Gradient:
        """A gradient in the memory layout of a network: taken apart when it is looked at, and not before."""
        made = cls(loss, [], [], inputs)
        made._parts, made._packed = None, (flat, packing)
        return made

    def packed(self, packing: Packing) -> Array | None:
        """The gradient in this memory layout, if it was made in it and nobody has looked at its parts since."""
        if self._packed is None:
            return None
        flat, own = self._packed
        return flat if own is packing or own.key == packing.key else None

    @property
    def weights(self) -> list[Array]:
        """dJ/dW, one a layer."""
        return self._apart()[0]

    @weights.setter
    def weights(self, weights: list[Array]) -> None:
        self._parts = (weights, *self._apart()[1:])

    @property
    def biases(self) -> list[Array]:
        """dJ/db, one a layer."""
        return self._apart()[1]

    @biases.setter
    def biases(self, biases: list[Array]) -> None:
        weights, _, scale = self._apart()
        self._parts = weights, biases, scale

    @property
    def input_scale(self) -> Array | None:
        """dJ/ds by input, or None."""
        return self._apart()[2]

    @input_scale.setter
    def input_scale(self, input_scale: Array | None) -> None:
        self._parts = (*self._apart()[:2], input_scale)

    def _apart(self) -> tuple[list[Array], list[Array], Array | None]:
        """Weights, biases and scales, which from now on may be changed by whoever has them."""
        if self._parts is None:
            assert self._packed is not None
            flat, packing = self._packed
            self._parts, self._packed = (*packing.unpack(flat), packing.unpack_scale(flat)), None
        return self._parts

    def __reduce__(self) -> tuple[Any, ...]:
        return Gradient, (self.loss, self.weights, self.biases, self.inputs, self.input_scale)

    def __repr__(self) -> str:
        return f"Gradient(loss={self.loss!r}, weights={self.weights!r}, biases={self.biases!r}, inputs={self.inputs!r})"


@dataclass(frozen=True)
class Scaling:
    """Standardisation that a network applies by itself: ``x' = (x - mean) / scale``, and back for its predictions.

    It is computed in float64, or as exactly, whatever the dtype of the network.

    Attributes
    ----------
    x_mean, x_scale : array
        ``(n_in,)``, float64.
    y_mean, y_scale : array or None
        ``(n_out,)``, float64; None where targets stay as they are.
    """

    x_mean: Array
    x_scale: Array
    y_mean: Array | None = None
    y_scale: Array | None = None

    def __post_init__(self) -> None:
        for kind in ("x", "y"):
            names = f"{kind}_mean", f"{kind}_scale"
            if kind == "y" and all(getattr(self, name) is None for name in names):
                continue
            for name in names:
                # A copy that nobody can change: kernels read so many numbers as there are inputs.
                array = np.array(arrays.check_column(f"scaling.{name}", getattr(self, name)))
                array.flags.writeable = False
                object.__setattr__(self, name, array)
            mean, scale = (getattr(self, name) for name in names)
            if len(mean) != len(scale):
                raise ValueError(f"scaling.{names[0]} has {len(mean)} numbers, but scaling.{names[1]} {len(scale)}")
            if scale.min() <= 0.0:
                column = int(np.argmin(scale))
                raise ValueError(f"scaling.{names[1]}[{column}] is {scale[column]:g}; every scale must be above 0")

    def check(self, sizes: tuple[int, ...], loss: Loss) -> Scaling:
        """Itself, if it fits a network of these sizes and loss; ValueError otherwise."""
        if len(self.x_mean) != sizes[0]:
            raise ValueError(f"scaling is of {len(self.x_mean)} inputs, but the network takes {sizes[0]}")
        if self.y_mean is not None and not loss.link.can_scale_y:
            raise ValueError(f"y can be standardised for {losses.scalable()} only, not for {loss.name}")
        if self.y_mean is not None and len(self.y_mean) != sizes[-1]:
            raise ValueError(f"scaling is of {len(self.y_mean)} targets, but the network has {sizes[-1]} outputs")
        return self

    @quiet
    def scaled_targets(self, y: Array, dtype: np.dtype[Any], name: str | None) -> Array:
        """Targets in float64 as the network learns them; under a name they are refused where they become infinite."""
        assert self.y_mean is not None
        assert self.y_scale is not None
        scaled = (y - self.y_mean) / self.y_scale
        if name is not None and (found := arrays.first_not_finite(scaled, dtype)) is not None:
            offence = arrays.Offence(found.at, float(y[found.at]))
            raise ValueError(arrays.not_finite(offence, name, dtype, scaled=True))
        return scaled.astype(dtype)

    @quiet
    def unscaled(self, outputs: Array) -> Array:
        """Outputs as predictions, in float64: 1.7e9 and 70 together need more digits than a float32 has."""
        found: Array = outputs * self.y_scale + self.y_mean
        return found

    def arrays(self) -> tuple[Array | None, ...]:
        """Its four arrays, in the order of the attributes."""
        return self.x_mean, self.x_scale, self.y_mean, self.y_scale

    @quiet
    def for_kernels(self, dtype: np.dtype[Any]) -> tuple[Array, ...]:
        """Mean and 1 / scale of the inputs in float64; for float32 networks a third array, as `JOB["x_narrow"]` says.

        That is left out where a float32 cannot hold them, or where a mean in two parts would be wrong by more than a
        ten-millionth of the scale.
        """
        mean, scale = (np.ascontiguousarray(one, np.float64) for one in (self.x_mean, self.x_scale))
        factor = 1.0 / scale
        if dtype != np.float32 or not ((abs(np.log2(scale)) <= 60) & (abs(mean) <= 2.0**24 * scale)).all():
            return mean, factor
        single = mean.astype(np.float32)
        return mean, factor, np.stack([single, mean - single, factor]).astype(np.float32)
