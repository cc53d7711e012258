"""The activation functions by name. Formulas and derivatives are those of `fastbp.kernels.activations`."""

from __future__ import annotations

from dataclasses import dataclass, field

from fastbp.kernels.activations import ACTIVATIONS as _KERNELS
from fastbp.validation import check_choice

__all__ = ["ACTIVATIONS", "Activation"]


@dataclass(frozen=True)
class Activation:
    """An activation function.

    Attributes
    ----------
    name : str
        What `MLP(activation=...)` takes.
    init : str
        The initialiser of layers that use it, unless another is asked for.
    formula : str
        Its definition.
    derivative : str
        f'(z), by z and a = f(z).
    """

    name: str
    init: str = field(compare=False)
    formula: str = field(compare=False)
    derivative: str = field(compare=False)

    @property
    def code(self) -> int:
        """Number of its case in the compiled switch."""
        return list(_KERNELS).index(self.name)


# For readers; a test computes them. Kernels return f and f' together, and need no name for the second.
_DERIVATIVES = {
    "identity": "1",
    "relu": "1 for z > 0, else 0",
    "leaky_relu": "1 for z > 0, else 0.01",
    "elu": "1 for z > 0, else a + 1",
    "selu": "1.0507 for z > 0, else a + 1.0507 * 1.6733",
    "tanh": "1 - a^2",
    "sigmoid": "a * (1 - a)",
    "softplus": "1 - e^-a",
    "gelu": "P(z) + z * p(z), p the normal density",
    "silu": "s + a * (1 - s), s = 1 / (1 + e^-z)",
    "mish": "t + z * s * (1 - t^2), t = tanh(log(1 + e^z)), s = 1 / (1 + e^-z)",
    "hard_sigmoid": "1 / 6 for |z| < 3, else 0",
    "hard_swish": "h + z / 6 for |z| < 3, else h, h = min(max(z + 3, 0), 6) / 6",
}

ACTIVATIONS: dict[str, Activation] = {
    name: Activation(name, kernel.init, kernel.formula, _DERIVATIVES[name]) for name, kernel in _KERNELS.items()
}


def get(activation: str | Activation, argument: str = "activation") -> Activation:
    """The activation of a name; an `Activation` is returned as it is. `argument` is what errors call it."""
    if isinstance(activation, Activation):
        return activation
    return ACTIVATIONS[check_choice(argument, activation, ACTIVATIONS)]
