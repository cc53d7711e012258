"""What a network computes, as the formats of other programs need it: standardisation, layers, and the way back."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from fastbp.losses import Loss
from fastbp.model import Model
from fastbp.numerics import quiet
from fastbp.types import Array

# A float32 holds numbers that lie so many deviations from zero with four digits of the deviation left.
MOST_DEVIATIONS = 1000.0


class Layer(NamedTuple):
    """Weights ``(n_in, n_out)``, biases ``(n_out,)``, the name of the activation, and the share of dropped units."""

    weight: Array
    bias: Array
    activation: str
    dropout: float = 0.0


@dataclass(frozen=True)
class Outline:
    """A trained network without what belongs to training alone.

    Attributes
    ----------
    layers : tuple of Layer
        In the network's dtype. The scales of the inputs are in the weights of the first.
    loss : Loss
        Whose link follows on the layers.
    x_mean, x_scale : array or None
        Inputs are ``(x - mean) / scale``, in float64.
    y_mean, y_scale : array or None
        Predictions are ``outputs * scale + mean``, in float64.
    class_labels, feature_names : list or None
    """

    layers: tuple[Layer, ...]
    loss: Loss
    x_mean: Array | None = None
    x_scale: Array | None = None
    y_mean: Array | None = None
    y_scale: Array | None = None
    class_labels: list[Any] | None = None
    feature_names: list[str] | None = None

    @classmethod
    @quiet
    def of(cls, model: Model, feature_names: list[str] | None = None, dtype: np.dtype[Any] | None = None) -> Outline:
        """Of a network's values, with parameters in a dtype; by default in the network's."""
        spec, wanted = model.spec, model.spec.dtype if dtype is None else dtype
        weights = list(model.weights)
        if model.input_scale is not None:
            weights[0] = weights[0].astype(np.float64) * model.input_scale.astype(np.float64)[:, None]
        if not np.isfinite(weights[0].astype(wanted)).all():
            raise ValueError(f"input_scale times the weights of the first layer is too large for {wanted}: use float64")
        dropout = (*(spec.regularization.dropout or (0.0,) * len(spec.activations)), 0.0)
        layers = [
            Layer(weight.astype(wanted), bias.astype(wanted), activation, share)
            for weight, bias, activation, share in zip(
                weights, model.biases, spec.layer_activations, dropout, strict=True
            )
        ]
        made = cls(tuple(layers), spec.loss, class_labels=model.class_labels, feature_names=feature_names)
        if (scaling := model.scaling) is None:
            return made
        x, y = (scaling.x_mean, scaling.x_scale), (scaling.y_mean, scaling.y_scale)
        return dataclasses.replace(made, x_mean=x[0], x_scale=x[1], y_mean=y[0], y_scale=y[1])

    @property
    def sizes(self) -> tuple[int, ...]:
        """Units of each layer, inputs and outputs included."""
        return len(self.layers[0].weight), *(len(layer.bias) for layer in self.layers)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the parameters."""
        return self.layers[0].weight.dtype

    @property
    def needs_double(self) -> bool:
        """Whether its inputs have more digits than its float32."""
        return self.dtype == np.float32 and _far(self.x_mean, self.x_scale)

    @property
    def folds_badly(self) -> bool:
        """Whether the standardisation of inputs or targets has more digits than the float32 of weights would hold."""
        return self.needs_double or (self.dtype == np.float32 and _far(self.y_mean, self.y_scale))

    @quiet
    def folded(self) -> Outline:
        """The same function with all standardisation in weights and biases, in float64 where there is some."""
        if self.x_mean is None and self.y_mean is None:
            return self
        layers = [
            layer._replace(weight=layer.weight.astype(np.float64), bias=layer.bias.astype(np.float64))
            for layer in self.layers
        ]
        if self.x_mean is not None:
            first = layers[0]
            weight = first.weight / np.asarray(self.x_scale)[:, None]
            layers[0] = first._replace(weight=weight, bias=first.bias - self.x_mean @ weight)
        if self.y_mean is not None and self.y_scale is not None:
            last = layers[-1]
            if last.activation == "identity":
                layers[-1] = last._replace(
                    weight=last.weight * self.y_scale, bias=last.bias * self.y_scale + self.y_mean
                )
            else:
                layers.append(Layer(np.diag(self.y_scale), np.array(self.y_mean), "identity"))
        return dataclasses.replace(self, layers=tuple(layers), x_mean=None, x_scale=None, y_mean=None, y_scale=None)


def _far(mean: Array | None, scale: Array | None) -> bool:
    return mean is not None and scale is not None and bool((np.abs(mean) > MOST_DEVIATIONS * scale).any())
