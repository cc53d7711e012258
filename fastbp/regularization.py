"""Regularisation against overfitting: dropout, input noise, penalties and limits of the weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from fastbp.validation import check_fraction, check_non_negative_finite, check_positive_finite


@dataclass(frozen=True)
class Regularization:
    """How a network is regularised; made by `MLP` from its arguments of the same names.

    Attributes
    ----------
    dropout : tuple of float
        Chance that a unit is dropped in a step, for each hidden layer (Srivastava et al. 2014).
    input_noise : float
        Standard deviation of the normal noise added to the inputs, after their scaling (Bishop 1995).
    l1, l2 : float
        The gradient becomes that of ``J + l1 sum |w| + l2 sum w^2`` over all weights, biases apart: Keras's terms.
        Clipping sees it, reported losses do not. ``l2 = alpha / (2 n)`` is scikit-learn's alpha with batches of n rows.
    max_norm : float or None
        After each update, the incoming weights of every unit are scaled down to this Euclidean norm.
    """

    dropout: tuple[float, ...] = ()
    input_noise: float = 0.0
    l1: float = 0.0
    l2: float = 0.0
    max_norm: float | None = None

    @property
    def chances(self) -> tuple[float, ...]:
        """`dropout` as the 32 bits that are drawn for a unit can have it: one nearer to 1 would be drawn as 1, or 0."""
        return tuple(min(chance, 1.0 - 2.0**-32) for chance in self.dropout)

    @property
    def noisy(self) -> bool:
        """Training steps draw random numbers."""
        return self.input_noise > 0.0 or any(self.dropout)

    def __str__(self) -> str:
        chances = sorted({chance for chance in self.dropout if chance})
        named: dict[str, Any] = {"dropout": chances[-1] if chances else 0.0, "input noise": self.input_noise}
        named |= {"l1": self.l1, "l2": self.l2, "max norm": self.max_norm}
        return ", ".join(f"{name} {value:g}" for name, value in named.items() if value)

    def as_arguments(self) -> dict[str, Any]:
        """As `MLP` takes them."""
        return asdict(self) | {"dropout": list(self.dropout)}


PLAIN = Regularization()


def check(
    dropout: object, input_noise: object, l1: object, l2: object, max_norm: object, n_hidden: int
) -> Regularization:
    """The arguments of `MLP`, checked: one dropout for all hidden layers, or one each."""
    if isinstance(dropout, np.ndarray):
        dropout = dropout.tolist()
    if isinstance(dropout, Sequence) and not isinstance(dropout, str):
        if len(dropout) != n_hidden:
            raise ValueError(
                f"dropout lists {len(dropout)} numbers for {n_hidden} hidden layers; give one number for all of them, "
                "or one per hidden layer"
            )
        each = tuple(check_fraction(f"dropout[{k}]", one) for k, one in enumerate(dropout))
    else:
        each = (check_fraction("dropout", dropout),) * n_hidden
        if dropout and not n_hidden:
            raise ValueError(f"dropout={dropout!r} needs a hidden layer: outputs are not dropped; use input_noise")
    return Regularization(
        each,
        check_non_negative_finite("input_noise", input_noise),
        check_non_negative_finite("l1", l1),
        check_non_negative_finite("l2", l2),
        None if max_norm is None else check_positive_finite("max_norm", max_norm),
    )
