"""The optimisers by name, as frozen descriptions with PyTorch's names, defaults and rules.

Each rule is one function in `fastbp.kernels.optimizers`, loaded when a network first uses one. The moments live in the
network.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from typing import Any

from fastbp.optimizers.base import BATCH_SIZE as BATCH_SIZE
from fastbp.optimizers.base import Optimizer as Optimizer
from fastbp.optimizers.base import check_betas, check_dampening, check_etas, check_step_sizes
from fastbp.optimizers.lbfgs import LBFGS as LBFGS
from fastbp.optimizers.lr_scale import LrScale as LrScale
from fastbp.regularization import PLAIN, Regularization
from fastbp.validation import (
    check_choice,
    check_flag,
    check_fraction,
    check_inner_fraction,
    check_non_negative_finite,
    check_positive_int,
    setting,
)

# The registry: what is named here is also a name of fastbp itself.
__all__ = [  # noqa: RUF022
    "SGD", "Adam", "AdamW", "NAdam", "RAdam", "Adamax", "Lion", "RMSprop", "Adagrad", "Adadelta", "Rprop", "AdaBelief",
    "Lookahead", "LBFGS",
]  # fmt: skip


@dataclass(frozen=True)
class SGD(Optimizer):
    """Stochastic gradient descent, ``w <- w - lr g``, with heavy-ball or Nesterov momentum (Sutskever et al. 2013).

    With momentum mu: ``m <- mu m + (1 - dampening) g`` and ``w <- w - lr m``, or ``w <- w - lr (g + mu m)`` with
    `nesterov`, which knows no dampening. The first m is the first g, undampened.

    Examples
    --------
    >>> net.fit(X, y, epochs=20, optimizer=fastbp.SGD(lr=0.1, momentum=0.9, nesterov=True)).loss[-1] < 1.0
    True
    """

    lr: float = 1e-3
    momentum: float = setting(0.0, check_non_negative_finite)
    nesterov: bool = setting(False, check_flag)
    dampening: float = setting(0.0, check_dampening)

    name = "sgd"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.nesterov and self.momentum == 0:
            raise ValueError(f"nesterov=True needs a positive momentum, got momentum={self.momentum!r}")
        if self.dampening and self.momentum == 0:
            raise ValueError(f"dampening={self.dampening!r} needs a positive momentum, got momentum={self.momentum!r}")
        if self.nesterov and self.dampening:
            raise ValueError(f"nesterov=True needs dampening=0, got dampening={self.dampening!r}")

    @property
    def rule(self) -> str:
        if self.momentum == 0:
            return "sgd"
        if self.dampening:
            return "dampened"
        return "nesterov" if self.nesterov else "momentum"

    @property
    def betas_and_eps(self) -> tuple[float, float, float]:
        return self.momentum, 0.0, 0.0


@dataclass(frozen=True)
class _Betas(Optimizer):
    """What the relatives of Adam share: decay rates of two means, and the number that keeps a divisor above zero."""

    betas: tuple[float, float] = setting((0.9, 0.999), check_betas)
    eps: float = setting(1e-8, check_non_negative_finite)

    @property
    def betas_and_eps(self) -> tuple[float, float, float]:
        return self.betas[0], self.betas[1], self.eps


@dataclass(frozen=True)
class Adam(_Betas):
    """Adam (Kingma and Ba 2015): steps of size lr, scaled by the gradient's own mean and spread.

    With `amsgrad` by the largest spread so far (Reddi et al. 2018).

    Examples
    --------
    >>> net.fit(X, y, epochs=20, optimizer=fastbp.Adam(lr=0.01)).loss[-1] < 1.0
    True
    """

    lr: float = 1e-3
    amsgrad: bool = setting(False, check_flag)

    name = "adam"

    @property
    def rule(self) -> str:
        return "amsgrad" if self.amsgrad else self.name


@dataclass(frozen=True)
class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019): ``w <- w (1 - lr weight_decay)`` first.

    Examples
    --------
    >>> net.fit(X, y, epochs=20, optimizer=fastbp.AdamW(lr=0.01, weight_decay=0.01)).loss[-1] < 1.0
    True
    """

    weight_decay: float = 1e-2

    name = "adamw"
    decoupled = True


@dataclass(frozen=True)
class _EitherDecay(_Betas):
    """Adam's relatives with weight decay of either kind."""

    decoupled_weight_decay: bool = setting(False, check_flag)

    @property
    def decays(self) -> tuple[float, float]:
        return (0.0, self.weight_decay) if self.decoupled_weight_decay else (self.weight_decay, 0.0)


@dataclass(frozen=True)
class NAdam(_EitherDecay):
    """Adam with Nesterov's momentum (Dozat 2016).

    The momentum of step t is ``betas[0] (1 - 0.96^(t momentum_decay) / 2)``. With `decoupled_weight_decay` weights
    decay as AdamW's do.

    Examples
    --------
    >>> net.fit(X, y, epochs=20, optimizer=fastbp.NAdam(lr=0.01)).loss[-1] < 1.0
    True
    """

    lr: float = 2e-3
    momentum_decay: float = setting(4e-3, check_non_negative_finite)

    name = "nadam"


@dataclass(frozen=True)
class RAdam(_EitherDecay):
    """Adam that trusts the spread only once it has seen enough gradients (Liu et al. 2020).

    With `decoupled_weight_decay` weights decay as AdamW's do.

    Examples
    --------
    >>> net.fit(X, y, epochs=20, optimizer=fastbp.RAdam(lr=0.05)).loss[-1] < 1.0
    True
    """

    lr: float = 1e-3

    name = "radam"


@dataclass(frozen=True)
class Adamax(_Betas):
    """Adam by the largest gradient of late instead of the mean square (Kingma and Ba 2015).

    Examples
    --------
    >>> net.fit(X, y, epochs=20, optimizer=fastbp.Adamax(lr=0.01)).loss[-1] < 1.0
    True
    """

    lr: float = 2e-3

    name = "adamax"


@dataclass(frozen=True)
class Lion(Optimizer):
    """Steps of size lr in every weight, by the sign of a mean of gradients (Chen et al. 2023); decoupled weight decay.

    ``w <- w (1 - lr weight_decay) - lr sign(b1 m + (1 - b1) g)``, then ``m <- b2 m + (1 - b2) g``. A good lr is
    three to ten times smaller than AdamW's, weight decay as many times larger.

    Examples
    --------
    >>> net.fit(X, y, epochs=20, optimizer=fastbp.Lion(lr=0.01)).loss[-1] < 1.0
    True
    """

    lr: float = 1e-4
    betas: tuple[float, float] = setting((0.9, 0.99), check_betas)

    name = "lion"
    decoupled = True

    @property
    def betas_and_eps(self) -> tuple[float, float, float]:
        return self.betas[0], self.betas[1], 0.0


@dataclass(frozen=True)
class RMSprop(Optimizer):
    """RMSprop (Hinton 2012): the gradient divided by the root of its decayed mean square.

    With `centered` by its deviation from its decayed mean (Graves 2013); with `momentum` the steps add up:
    ``b <- momentum b + step`` and ``w <- w - lr b``.

    Examples
    --------
    >>> net.fit(X, y, epochs=20, optimizer=fastbp.RMSprop(lr=1e-3, momentum=0.9)).loss[-1] < 1.0
    True
    """

    lr: float = 1e-2
    alpha: float = setting(0.99, check_fraction)
    eps: float = setting(1e-8, check_non_negative_finite)
    momentum: float = setting(0.0, check_non_negative_finite)
    centered: bool = setting(False, check_flag)

    name = "rmsprop"

    @property
    def rule(self) -> str:
        return self.name + "_centered" * self.centered + "_momentum" * (self.momentum > 0)

    @property
    def state_layout(self) -> tuple[str, int]:
        return self.rule, self.n_moments  # two moments can be either of two pairs

    @property
    def betas_and_eps(self) -> tuple[float, float, float]:
        return self.momentum, self.alpha, self.eps


@dataclass(frozen=True)
class Adagrad(Optimizer):
    """The gradient divided by the root of the sum of all its squares (Duchi et al. 2011).

    That sum begins at `initial_accumulator_value`; the rate of step t is ``lr / (1 + (t - 1) lr_decay)``.

    Examples
    --------
    >>> net.fit(X, y, epochs=20, optimizer=fastbp.Adagrad(lr=0.05)).loss[-1] < 1.0
    True
    """

    lr: float = 1e-2
    lr_decay: float = setting(0.0, check_non_negative_finite)
    initial_accumulator_value: float = setting(0.0, check_non_negative_finite)
    eps: float = setting(1e-10, check_non_negative_finite)

    name = "adagrad"

    @property
    def initial_state(self) -> tuple[float, ...]:
        return (self.initial_accumulator_value,)

    @property
    def betas_and_eps(self) -> tuple[float, float, float]:
        return 0.0, 0.0, self.eps


@dataclass(frozen=True)
class Adadelta(Optimizer):
    """The gradient times the ratio of two decayed root mean squares: of past steps and of gradients (Zeiler 2012).

    Examples
    --------
    >>> net.fit(X, y, epochs=20, optimizer=fastbp.Adadelta()).loss[-1] < 1.0
    True
    """

    lr: float = 1.0
    rho: float = setting(0.9, check_fraction)
    eps: float = setting(1e-6, check_non_negative_finite)

    name = "adadelta"

    @property
    def betas_and_eps(self) -> tuple[float, float, float]:
        return 0.0, self.rho, self.eps


@dataclass(frozen=True)
class Rprop(Optimizer):
    """Steps by the gradient's sign, each weight with a size of its own (Riedmiller and Braun 1993); for full batches.

    The size begins at lr. It is multiplied by ``etas[1]`` where the sign stays and by ``etas[0]`` where it turns, and
    held within `step_sizes`; a weight whose sign has turned waits for one step. A later lr changes nothing, and
    therefore `fit` refuses a schedule.

    Examples
    --------
    >>> net.fit(X, y, epochs=20, batch_size=len(X), optimizer=fastbp.Rprop()).loss[-1] < 1.0
    True
    """

    lr: float = 1e-2
    weight_decay: float = field(default=0.0, init=False, repr=False)
    etas: tuple[float, float] = setting((0.5, 1.2), check_etas)
    step_sizes: tuple[float, float] = setting((1e-6, 50.0), check_step_sizes)

    name = "rprop"

    @property
    def initial_state(self) -> tuple[float, ...]:
        return 0.0, self.lr

    @property
    def coefficients(self) -> tuple[float, ...]:
        return *self.etas, *self.step_sizes

    def check_fit(self, n: int, batch_size: int, schedule: Any, regularization: Regularization = PLAIN) -> None:
        if schedule is not None:
            raise ValueError(f"Rprop adapts the sizes of its steps by itself; schedule must be None, got {schedule!r}")


@dataclass(frozen=True)
class AdaBelief(_Betas):
    """Adam by the spread of the gradient around its own mean (Zhuang et al. 2020); decoupled weight decay.

    ``s <- b2 s + (1 - b2) (g - m)^2 + eps`` stands in the place of the mean square: steps are long where gradients are
    what their mean predicts. Defaults are those of the authors' package for PyTorch, without its rectification.

    Examples
    --------
    >>> net.fit(X, y, epochs=20, optimizer=fastbp.AdaBelief(lr=0.01)).loss[-1] < 1.0
    True
    """

    lr: float = 1e-3
    eps: float = 1e-16

    name = "adabelief"
    decoupled = True


@dataclass(frozen=True)
class Lookahead(_Betas):
    """Adam that goes `k` steps forward, and then back to a share of the way (Zhang, Lucas, Hinton and Ba 2019).

    The share is `alpha`: after every k-th step, ``slow <- slow + alpha (w - slow)`` and ``w <- slow``. Adam's moments
    stay as they are.

    Examples
    --------
    >>> net.fit(X, y, epochs=20, optimizer=fastbp.Lookahead(lr=0.05)).loss[-1] < 1.0
    True
    """

    lr: float = 1e-3
    k: int = setting(5, check_positive_int)
    alpha: float = setting(0.5, check_inner_fraction)

    name = "lookahead"


_KINDS: list[type[Optimizer]] = [globals()[name] for name in __all__]
OPTIMIZERS = {kind.name: kind for kind in _KINDS if not kind.full_batch}
FULL_BATCH = {kind.name: kind for kind in _KINDS if kind.full_batch}  # which make no single steps
NAMES = (*OPTIMIZERS, *FULL_BATCH)


def get(optimizer: str | Optimizer) -> Optimizer:
    """The optimiser of a name with its defaults; a description is returned as it is."""
    if isinstance(optimizer, Optimizer):
        return optimizer
    return _by_name(check_choice("optimizer", optimizer, NAMES))


@functools.cache
def _by_name(name: str) -> Optimizer:
    """One object for each name: small calls with the same optimiser object skip its set-up."""
    return (OPTIMIZERS | FULL_BATCH)[name]()  # type: ignore[call-arg]
