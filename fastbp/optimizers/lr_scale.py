"""Factors of the learning rate: by layer, and for weights, biases and the scale of the inputs apart."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fastbp.validation import Checked, check_non_negative_finite, checked_by

FAN_IN = "fan_in"
Factors = float | str | tuple[float, ...]


def _check_factors(name: str, value: Any) -> Factors:
    """One factor for all layers, a tuple of one each, or "fan_in"."""
    if isinstance(value, str):
        if value != FAN_IN:
            raise ValueError(f"{name} must be {FAN_IN!r}, a number or a list of numbers, got {value[:40]!r}")
        return value
    if isinstance(value, list | tuple | np.ndarray):
        if not len(value):
            raise ValueError(f"{name} is empty; give one factor for all layers, or one for each layer of weights")
        return tuple(check_non_negative_finite(f"{name}[{k}]", one) for k, one in enumerate(value))
    return check_non_negative_finite(name, value)


@dataclass(frozen=True)
class LrScale(Checked):
    """What the learning rate is multiplied by; 0 freezes.

    Attributes
    ----------
    weights, biases : float, tuple of float or "fan_in"
        One factor for all layers, or one for each, the layer next to the inputs first; or 1 / sqrt(n_in) of each layer,
        its number of inputs. Under Adam that is the step of a layer whose outputs are divided by sqrt(n_in).
    input_scale : float
        Of the trained scale of the inputs, for networks that have one.
    """

    weights: Factors = field(default=1.0, metadata=checked_by(_check_factors))
    biases: Factors = field(default=1.0, metadata=checked_by(_check_factors))
    input_scale: float = field(default=1.0, metadata=checked_by(check_non_negative_finite))

    def check_network(self, n_layers: int, has_input_scale: bool) -> None:
        """Raise ValueError if these are not the factors of a network of so many layers of weights."""
        for kind in ("weights", "biases"):
            given = getattr(self, kind)
            if isinstance(given, tuple) and len(given) != n_layers:
                raise ValueError(
                    f"lr_scale lists {len(given)} factors of {kind}, but the network has {n_layers} layers of weights; "
                    "give one for each, or one number for all"
                )
        if self.input_scale != 1.0 and not has_input_scale:
            raise ValueError(
                f"lr_scale has input_scale={self.input_scale!r}, but the network has no such scale; leave it out, or "
                "make the network by MLP(..., input_scale=True)"
            )

    def by_layer(self, fan_ins: Sequence[int]) -> list[tuple[float, float]]:
        """(factor of the weights, factor of the biases) of each layer, whose numbers of inputs are `fan_ins`."""
        kinds = (_for_layers(factors, fan_ins) for factors in (self.weights, self.biases))
        return list(zip(*kinds, strict=True))


def _for_layers(factors: Factors, fan_ins: Sequence[int]) -> tuple[float, ...]:
    if isinstance(factors, str):
        return tuple(1.0 / math.sqrt(n_in) for n_in in fan_ins)
    return factors if isinstance(factors, tuple) else (factors,) * len(fan_ins)


def check_lr_scale(name: str, value: Any) -> LrScale | None:
    """The factors that a user gives: None, a list by layer, or a mapping from what is scaled to a number or a list."""
    if value is None or isinstance(value, LrScale):
        return value
    if isinstance(value, Mapping):
        kinds = ("weights", "biases", "input_scale")
        for kind in value:
            if kind not in kinds:
                raise ValueError(f"{name} has a key {kind!r}; there are factors of {', '.join(kinds)}")
        return _made(name, value)
    if isinstance(value, list | tuple | np.ndarray):
        factors = _check_factors(name, value)
        return LrScale(factors, factors)
    raise TypeError(
        f"{name} must be None, a list of factors by layer, or a mapping such as "
        f"{{'weights': [0, 1, 1], 'biases': 0.1}}; got {value!r:.80}"
    )


def _made(name: str, value: Mapping[Any, Any]) -> LrScale:
    checked = {kind: _check_factors(f"{name}[{kind!r}]", one) for kind, one in value.items()}
    return LrScale(**checked)  # type: ignore[arg-type]
