"""What an optimiser is: the base of all descriptions, from which networks and `fit` read what to do."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

from fastbp.optimizers.lr_scale import check_lr_scale
from fastbp.regularization import PLAIN, Regularization
from fastbp.types import Array
from fastbp.validation import (
    Checked,
    check_fraction,
    check_non_negative_finite,
    check_positive_finite,
    checked_by,
    optional,
    setting,
    shown_fields,
)

BATCH_SIZE = 32  # rows a step, unless a fit is told


@dataclass(frozen=True)
class Conventions:
    """How a fit counts where PyTorch and scikit-learn do it in different ways. The defaults are PyTorch's.

    Attributes
    ----------
    alpha : float
        Adds ``alpha / 2 |w|^2``, over the rows of the batch or the sum of their weights, to the cost of every step and
        to the losses that are reported. Of weights, biases apart.
    lr_before : float
        0: momentum gathers gradients, and a new learning rate is that of all of them. Otherwise it gathers steps, each
        by the rate of its time; this was the rate of the last step before the fit.
    eps_first : bool
        Adam's eps is added to the root of the mean square before its bias is corrected.
    """

    alpha: float = 0.0
    lr_before: float = 0.0
    eps_first: bool = False


PYTORCHS = Conventions()


class Updatable(Protocol):
    """A network, as far as an optimiser has to know."""

    @property
    def session(self) -> Any:
        """What applies gradients to its parameters."""


class Derivatives(Protocol):
    """The part of a `Gradient` that belongs to the parameters."""

    @property
    def weights(self) -> list[Array]:
        """dJ/dW by layer."""

    @property
    def biases(self) -> list[Array]:
        """dJ/db by layer."""


@dataclass(frozen=True)
class Optimizer(Checked):
    """Gradient descent, in one of its forms.

    Attributes
    ----------
    lr : float
        Learning rate: positive, finite.
    weight_decay : float
        Coefficient of the l2 penalty, added to the gradient of weights and biases as PyTorch does.
    clip_norm, clip_value : float, optional
        Before that, scale the gradient of the cost, the network's l1 and l2 included, down to this Euclidean norm (over
        all weights and biases), or hold each of its elements within plus and minus this value: PyTorch's
        `clip_grad_norm_` and `clip_grad_value_`. With both, the norm comes first.
    lr_scale : list or mapping, optional
        Factors of the learning rate: a list by layer, the one next to the inputs first, or
        ``{"weights": [0, 0, 1], "biases": 0.1}``, each one number or a list, and "input_scale" for networks that have
        one. It is what PyTorch's parameter groups do. 0 freezes: neither gradient nor decay changes these parameters.
        Kept as a `LrScale`.
    """

    lr: float = field(metadata=checked_by(check_non_negative_finite))
    weight_decay: float = setting(0.0, check_non_negative_finite)
    clip_norm: float | None = field(default=None, kw_only=True, metadata=checked_by(optional(check_positive_finite)))
    clip_value: float | None = field(default=None, kw_only=True, metadata=checked_by(optional(check_positive_finite)))
    lr_scale: Any = field(default=None, kw_only=True, metadata={**checked_by(check_lr_scale), "later": True})

    name: ClassVar[str]
    full_batch: ClassVar[bool] = False  # makes no single steps, only whole fits
    decoupled: ClassVar[bool] = False  # weights shrink by lr * weight_decay, instead of a penalty

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "__repr__" not in vars(cls):  # before `dataclass` makes one
            cls.__repr__ = _shown  # type: ignore[method-assign,assignment]

    @property
    def clips(self) -> bool:
        """Whether the gradient is clipped, which needs all of it before the update."""
        return self.clip_norm is not None or self.clip_value is not None

    @property
    def rule(self) -> str:
        """Name of the compiled rule that makes the updates."""
        return self.name

    @property
    def code(self) -> int:
        """Number of its case in the compiled switch."""
        return _compiled(self.rule)[0]

    @property
    def state_layout(self) -> tuple[str, int]:
        """What the moments of each weight mean, and their number. A network with others begins with new moments."""
        return self.name, self.n_moments

    @property
    def n_moments(self) -> int:
        """How many moments there are for each weight."""
        return _compiled(self.rule)[1]

    @property
    def initial_state(self) -> tuple[float, ...]:
        """The first value of each moment."""
        return (0.0,) * self.n_moments

    @property
    def decays(self) -> tuple[float, float]:
        """Weight decay: added to the gradient as a penalty, and decoupled from it as in AdamW."""
        return (0.0, self.weight_decay) if self.decoupled else (self.weight_decay, 0.0)

    @property
    def betas_and_eps(self) -> tuple[float, float, float]:
        """beta1, beta2 and eps, or what the rule uses in their place."""
        return 0.0, 0.0, 0.0

    @property
    def coefficients(self) -> tuple[float, ...]:
        """The numbers that only this rule reads, by the names in `fastbp.kernels.optimizers.Rule`."""
        return tuple(getattr(self, name) for name in _compiled(self.rule)[2])

    def check_network(self, n_layers: int, has_input_scale: bool = False) -> None:
        """Raise ValueError if a network of so many layers of weights is not what this optimiser is for."""
        if self.lr_scale is not None:
            self.lr_scale.check_network(n_layers, has_input_scale)

    def check_step(self) -> None:
        """Raise ValueError if this optimiser makes no single steps."""

    def check_fit(self, n: int, batch_size: int, schedule: Any, regularization: Regularization = PLAIN) -> None:
        """Raise ValueError if a fit to n rows has arguments that this optimiser would ignore, or cannot honour."""

    def update(self, net: Updatable, gradient: Derivatives) -> None:
        """Gradient descent alone: change the parameters of a network by a gradient that `net.backprop` made.

        Afterwards the network is, bit for bit, what `net.train_step` would have made of it.
        """
        self.check_step()
        net.session.apply(self, gradient)


def _shown(optimizer: Optimizer) -> str:
    """The description as it is typed; without `lr_scale` where there is none, as files of before have it."""
    values = [f"{name}={getattr(optimizer, name)!r}" for name in shown_fields(optimizer)]
    return f"{type(optimizer).__qualname__}({', '.join(values)})"


@functools.cache
def _compiled(rule: str) -> tuple[int, int, tuple[str, ...]]:
    """Code of a rule in the compiled switch, its number of moments, and the names of its own coefficients."""
    from fastbp.kernels.optimizers import RULES

    return list(RULES).index(rule), RULES[rule].n_moments, RULES[rule].coefficients


def two_numbers(name: str, value: Any) -> tuple[float, float]:
    try:
        first, second = value
    except (TypeError, ValueError):
        raise ValueError(f"{name} must be two numbers, got {value!r}") from None
    return check_non_negative_finite(f"{name}[0]", first), check_non_negative_finite(f"{name}[1]", second)


def check_betas(name: str, value: Any) -> tuple[float, float]:
    beta1, beta2 = two_numbers(name, value)
    return check_fraction(f"{name}[0]", beta1), check_fraction(f"{name}[1]", beta2)


def check_dampening(name: str, value: Any) -> float:
    dampening = check_non_negative_finite(name, value)
    if dampening > 1.0:
        raise ValueError(f"{name} must be from 0 to 1, got {dampening!r}")
    return dampening


def check_etas(name: str, value: Any) -> tuple[float, float]:
    etas = two_numbers(name, value)
    if not 0.0 < etas[0] < 1.0 < etas[1]:
        raise ValueError(f"{name} must be one number between 0 and 1 and one above 1, got {etas!r}")
    return etas


def check_step_sizes(name: str, value: Any) -> tuple[float, float]:
    sizes = two_numbers(name, value)
    if not sizes[0] <= sizes[1]:
        raise ValueError(f"{name} must be the smallest and the largest, got {sizes!r}")
    return sizes
