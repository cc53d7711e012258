"""The optimisers by name, as frozen descriptions with PyTorch's names, defaults and rules.

The rules are compiled in `fastbp.kernels.update`; the moments live in the network.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from fastbp.kernels.update import RULE_CODES, RULES
from fastbp.validation import check_choice, check_non_negative_finite, check_positive_finite

if TYPE_CHECKING:
    from fastbp.network import MLP, Gradient


@dataclass(frozen=True)
class Optimizer:
    """Gradient descent, in one of its forms.

    Attributes
    ----------
    lr : float
        Learning rate: positive, finite.
    weight_decay : float
        Coefficient of the l2 penalty, added to the gradient of weights and biases as PyTorch does.
    clip_norm, clip_value : float, optional
        Before that, scale the gradient down to this Euclidean norm (over all weights and biases), or hold each of its
        elements within plus and minus this value: PyTorch's `clip_grad_norm_` and `clip_grad_value_`. With both, the
        norm comes first.
    """

    lr: float
    weight_decay: float = 0.0
    clip_norm: float | None = field(default=None, kw_only=True)
    clip_value: float | None = field(default=None, kw_only=True)

    name: ClassVar[str]

    def __post_init__(self) -> None:
        check_non_negative_finite("lr", self.lr)
        check_non_negative_finite("weight_decay", self.weight_decay)
        for name in ("clip_norm", "clip_value"):
            if getattr(self, name) is not None:
                check_positive_finite(name, getattr(self, name))

    @property
    def clips(self) -> bool:
        """The gradient is wanted whole before the update."""
        return self.clip_norm is not None or self.clip_value is not None

    @property
    def rule(self) -> str:
        """The compiled rule that does the work."""
        return self.name

    @property
    def code(self) -> int:
        """Number of its case in the compiled switch."""
        return RULE_CODES[self.rule]

    @property
    def n_moments(self) -> int:
        """Numbers kept for each weight."""
        return RULES[self.rule][1]

    @property
    def rates(self) -> tuple[float, float, float]:
        """(beta1, beta2, eps) of the rule."""
        return 0.0, 0.0, 0.0

    def update(self, net: MLP, gradient: Gradient) -> None:
        """Gradient descent alone: change the parameters of a network by a gradient that `net.backprop` made.

        Afterwards the network is, bit for bit, what `net.train_step` would have made of it.
        """
        net._apply(self, gradient)


@dataclass(frozen=True)
class SGD(Optimizer):
    """Stochastic gradient descent, ``w <- w - lr g``, with heavy-ball or Nesterov momentum (Sutskever et al. 2013).

    With momentum mu: ``m <- mu m + g`` and ``w <- w - lr m``, or ``w <- w - lr (g + mu m)`` with `nesterov`.
    """

    lr: float = 1e-3
    weight_decay: float = 0.0
    momentum: float = 0.0
    nesterov: bool = False

    name = "sgd"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_non_negative_finite("momentum", self.momentum)
        if self.nesterov and self.momentum == 0:
            raise ValueError(f"nesterov=True needs a positive momentum, got momentum={self.momentum!r}")

    @property
    def rule(self) -> str:
        if self.momentum == 0:
            return "sgd"
        return "nesterov" if self.nesterov else "momentum"

    @property
    def rates(self) -> tuple[float, float, float]:
        return self.momentum, 0.0, 0.0


@dataclass(frozen=True)
class Adam(Optimizer):
    """Adam (Kingma and Ba 2015): steps of size lr, scaled by the gradient's own mean and spread."""

    lr: float = 1e-3
    weight_decay: float = 0.0
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8

    name = "adam"

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "betas", _check_betas(self.betas))
        check_non_negative_finite("eps", self.eps)

    @property
    def rates(self) -> tuple[float, float, float]:
        return self.betas[0], self.betas[1], self.eps


@dataclass(frozen=True)
class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019): ``w <- w (1 - lr weight_decay)`` first."""

    weight_decay: float = 1e-2

    name = "adamw"


@dataclass(frozen=True)
class RMSprop(Optimizer):
    """RMSprop (Hinton 2012): the gradient divided by the root of its decayed mean square."""

    lr: float = 1e-2
    weight_decay: float = 0.0
    alpha: float = 0.99
    eps: float = 1e-8

    name = "rmsprop"

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_decay("alpha", self.alpha)
        check_non_negative_finite("eps", self.eps)

    @property
    def rates(self) -> tuple[float, float, float]:
        return 0.0, self.alpha, self.eps


OPTIMIZERS: dict[str, type[Optimizer]] = {kind.name: kind for kind in (SGD, Adam, AdamW, RMSprop)}


def get(optimizer: str | Optimizer) -> Optimizer:
    """The optimiser of a name with its defaults; a description is returned as it is."""
    if isinstance(optimizer, Optimizer):
        return optimizer
    return _by_name(check_choice("optimizer", optimizer, OPTIMIZERS))


@functools.cache
def _by_name(name: str) -> Optimizer:
    """Always the same one, by which a network knows that nothing has changed."""
    return OPTIMIZERS[name]()  # type: ignore[call-arg]


def _check_decay(name: str, value: float) -> float:
    if not 0.0 <= check_non_negative_finite(name, value) < 1.0:
        raise ValueError(f"{name} must be at least 0 and below 1, got {value!r}")
    return value


def _check_betas(betas: tuple[float, float]) -> tuple[float, float]:
    try:
        beta1, beta2 = betas
    except (TypeError, ValueError):
        raise ValueError(f"betas must be two numbers, got {betas!r}") from None
    return _check_decay("betas[0]", beta1), _check_decay("betas[1]", beta2)
