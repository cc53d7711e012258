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
    """

    name: str
    init: str = field(compare=False)
    formula: str = field(compare=False)

    @property
    def code(self) -> int:
        """Number of its case in the compiled switch."""
        return list(_KERNELS).index(self.name)


ACTIVATIONS: dict[str, Activation] = {
    name: Activation(name, kernel.init, kernel.formula) for name, kernel in _KERNELS.items()
}


def get(activation: str | Activation, argument: str = "activation") -> Activation:
    """The activation of a name; an `Activation` is returned as it is. `argument` is what errors call it."""
    if isinstance(activation, Activation):
        return activation
    return ACTIVATIONS[check_choice(argument, activation, ACTIVATIONS)]
