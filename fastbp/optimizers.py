"""The optimisers by name, as frozen descriptions with PyTorch's names, defaults and rules.

The rules are compiled in `fastbp.kernels.optimizers`, loaded when a network first uses one; the moments live in
the network.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from fastbp.regularization import PLAIN, Regularization
from fastbp.validation import (
    check_choice,
    check_flag,
    check_fraction,
    check_non_negative_finite,
    check_positive_finite,
    settle,
)

if TYPE_CHECKING:
    from fastbp.network import MLP
    from fastbp.spec import Gradient
    from fastbp.training.loop import Fit


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
        Before that, scale the gradient of the cost, the network's l1 and l2 included, down to this Euclidean norm (over
        all weights and biases), or hold each of its elements within plus and minus this value: PyTorch's
        `clip_grad_norm_` and `clip_grad_value_`. With both, the norm comes first.
    """

    lr: float
    weight_decay: float = 0.0
    clip_norm: float | None = field(default=None, kw_only=True)
    clip_value: float | None = field(default=None, kw_only=True)

    name: ClassVar[str]
    full_batch: ClassVar[bool] = False  # makes no single steps: for `fit` alone

    def __post_init__(self) -> None:
        settle(self, check_non_negative_finite, "lr", "weight_decay")
        settle(self, check_positive_finite, "clip_norm", "clip_value", optional=True)

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
        return _compiled(self.rule)[0]

    @property
    def state_layout(self) -> tuple[str, int]:
        """What moments mean, and how many are kept for each weight: another layout lets a network start them anew."""
        return self.name, self.n_moments

    @property
    def n_moments(self) -> int:
        """Numbers kept for each weight."""
        return _compiled(self.rule)[1]

    @property
    def initial_state(self) -> tuple[float, ...]:
        """What the moments begin with."""
        return (0.0,) * self.n_moments

    @property
    def decays(self) -> tuple[float, float]:
        """Weight decay (as a penalty, decoupled from the gradient)."""
        return self.weight_decay, 0.0

    @property
    def rates(self) -> tuple[float, float, float]:
        """(beta1, beta2, eps) of the rule."""
        return 0.0, 0.0, 0.0

    @property
    def coefficients(self) -> tuple[float, ...]:
        """The numbers that the compiled rule names as its own."""
        return tuple(getattr(self, name) for name in _compiled(self.rule)[2])

    def check_step(self) -> None:
        """Refuse single steps, if there are none."""

    def check_fit(self, n: int, batch_size: int, schedule: Any, held: Regularization = PLAIN) -> None:
        """Refuse arguments of a fit to n rows that would have no effect."""

    def trainer(self) -> type[Fit]:
        """What carries out a fit."""
        from fastbp.training.loop import Fit

        return Fit

    def update(self, net: MLP, gradient: Gradient) -> None:
        """Gradient descent alone: change the parameters of a network by a gradient that `net.backprop` made.

        Afterwards the network is, bit for bit, what `net.train_step` would have made of it.
        """
        self.check_step()
        net.session.apply(self, gradient)


@dataclass(frozen=True)
class SGD(Optimizer):
    """Stochastic gradient descent, ``w <- w - lr g``, with heavy-ball or Nesterov momentum (Sutskever et al. 2013).

    With momentum mu: ``m <- mu m + (1 - dampening) g`` and ``w <- w - lr m``, or ``w <- w - lr (g + mu m)`` with
    `nesterov`, which knows no dampening. The first m is the first g, undampened.
    """

    lr: float = 1e-3
    weight_decay: float = 0.0
    momentum: float = 0.0
    nesterov: bool = False
    dampening: float = 0.0

    name = "sgd"

    def __post_init__(self) -> None:
        super().__post_init__()
        settle(self, check_non_negative_finite, "momentum", "dampening")
        settle(self, check_flag, "nesterov")
        if self.dampening > 1.0:
            raise ValueError(f"dampening must be from 0 to 1, got {self.dampening!r}")
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
    def rates(self) -> tuple[float, float, float]:
        return self.momentum, 0.0, 0.0


@dataclass(frozen=True)
class _Betas(Optimizer):
    """What the relatives of Adam share: decay rates of two means, and the number that keeps a divisor above zero."""

    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8

    def __post_init__(self) -> None:
        super().__post_init__()
        settle(self, _check_betas, "betas")
        settle(self, check_non_negative_finite, "eps")

    @property
    def rates(self) -> tuple[float, float, float]:
        return self.betas[0], self.betas[1], self.eps


@dataclass(frozen=True)
class Adam(_Betas):
    """Adam (Kingma and Ba 2015): steps of size lr, scaled by the gradient's own mean and spread.

    With `amsgrad` by the largest spread so far (Reddi et al. 2018).
    """

    lr: float = 1e-3
    amsgrad: bool = False

    name = "adam"

    def __post_init__(self) -> None:
        super().__post_init__()
        settle(self, check_flag, "amsgrad")

    @property
    def rule(self) -> str:
        return "amsgrad" if self.amsgrad else self.name


@dataclass(frozen=True)
class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019): ``w <- w (1 - lr weight_decay)`` first."""

    weight_decay: float = 1e-2

    name = "adamw"

    @property
    def decays(self) -> tuple[float, float]:
        return 0.0, self.weight_decay


@dataclass(frozen=True)
class _EitherDecay(_Betas):
    """Adam's relatives with weight decay of either kind."""

    decoupled_weight_decay: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        settle(self, check_flag, "decoupled_weight_decay")

    @property
    def decays(self) -> tuple[float, float]:
        return (0.0, self.weight_decay) if self.decoupled_weight_decay else (self.weight_decay, 0.0)


@dataclass(frozen=True)
class NAdam(_EitherDecay):
    """Adam with Nesterov's momentum (Dozat 2016).

    The momentum of step t is ``betas[0] (1 - 0.96^(t momentum_decay) / 2)``. With `decoupled_weight_decay` weights
    decay as AdamW's do.
    """

    lr: float = 2e-3
    momentum_decay: float = 4e-3

    name = "nadam"

    def __post_init__(self) -> None:
        super().__post_init__()
        settle(self, check_non_negative_finite, "momentum_decay")


@dataclass(frozen=True)
class RAdam(_EitherDecay):
    """Adam that trusts the spread only once it has seen enough gradients (Liu et al. 2020).

    With `decoupled_weight_decay` weights decay as AdamW's do.
    """

    lr: float = 1e-3

    name = "radam"


@dataclass(frozen=True)
class Adamax(_Betas):
    """Adam by the largest gradient of late instead of the mean square (Kingma and Ba 2015)."""

    lr: float = 2e-3

    name = "adamax"


@dataclass(frozen=True)
class Lion(Optimizer):
    """Steps of size lr in every weight, by the sign of a mean of gradients (Chen et al. 2023); decoupled weight decay.

    ``w <- w (1 - lr weight_decay) - lr sign(b1 m + (1 - b1) g)``, then ``m <- b2 m + (1 - b2) g``. A good lr is
    three to ten times smaller than AdamW's, weight decay as many times larger.
    """

    lr: float = 1e-4
    weight_decay: float = 0.0
    betas: tuple[float, float] = (0.9, 0.99)

    name = "lion"

    def __post_init__(self) -> None:
        super().__post_init__()
        settle(self, _check_betas, "betas")

    @property
    def decays(self) -> tuple[float, float]:
        return 0.0, self.weight_decay

    @property
    def rates(self) -> tuple[float, float, float]:
        return self.betas[0], self.betas[1], 0.0


@dataclass(frozen=True)
class RMSprop(Optimizer):
    """RMSprop (Hinton 2012): the gradient divided by the root of its decayed mean square.

    With `centered` by its deviation from its decayed mean (Graves 2013); with `momentum` the steps add up:
    ``b <- momentum b + step`` and ``w <- w - lr b``.
    """

    lr: float = 1e-2
    weight_decay: float = 0.0
    alpha: float = 0.99
    eps: float = 1e-8
    momentum: float = 0.0
    centered: bool = False

    name = "rmsprop"

    def __post_init__(self) -> None:
        super().__post_init__()
        settle(self, check_fraction, "alpha")
        settle(self, check_non_negative_finite, "eps", "momentum")
        settle(self, check_flag, "centered")

    @property
    def rule(self) -> str:
        return self.name + "_centered" * self.centered + "_momentum" * (self.momentum > 0)

    @property
    def state_layout(self) -> tuple[str, int]:
        return self.rule, self.n_moments  # two moments can be either of two pairs

    @property
    def rates(self) -> tuple[float, float, float]:
        return self.momentum, self.alpha, self.eps


@dataclass(frozen=True)
class Adagrad(Optimizer):
    """The gradient divided by the root of the sum of all its squares (Duchi et al. 2011).

    That sum begins at `initial_accumulator_value`; the rate of step t is ``lr / (1 + (t - 1) lr_decay)``.
    """

    lr: float = 1e-2
    weight_decay: float = 0.0
    lr_decay: float = 0.0
    initial_accumulator_value: float = 0.0
    eps: float = 1e-10

    name = "adagrad"

    def __post_init__(self) -> None:
        super().__post_init__()
        settle(self, check_non_negative_finite, "lr_decay", "initial_accumulator_value", "eps")

    @property
    def initial_state(self) -> tuple[float, ...]:
        return (self.initial_accumulator_value,)

    @property
    def rates(self) -> tuple[float, float, float]:
        return 0.0, 0.0, self.eps


@dataclass(frozen=True)
class Adadelta(Optimizer):
    """The gradient times the ratio of two decayed root mean squares: of past steps and of gradients (Zeiler 2012)."""

    lr: float = 1.0
    weight_decay: float = 0.0
    rho: float = 0.9
    eps: float = 1e-6

    name = "adadelta"

    def __post_init__(self) -> None:
        super().__post_init__()
        settle(self, check_fraction, "rho")
        settle(self, check_non_negative_finite, "eps")

    @property
    def rates(self) -> tuple[float, float, float]:
        return 0.0, self.rho, self.eps


@dataclass(frozen=True)
class Rprop(Optimizer):
    """Steps by the gradient's sign, each weight with a size of its own (Riedmiller and Braun 1993); for full batches.

    The size begins at lr. It is multiplied by ``etas[1]`` where the sign stays and by ``etas[0]`` where it turns, and
    held within `step_sizes`; a weight whose sign has turned waits for one step. A later lr changes nothing, and
    therefore `fit` refuses a schedule.
    """

    lr: float = 1e-2
    weight_decay: float = field(default=0.0, init=False, repr=False)
    etas: tuple[float, float] = (0.5, 1.2)
    step_sizes: tuple[float, float] = (1e-6, 50.0)

    name = "rprop"

    def __post_init__(self) -> None:
        super().__post_init__()
        settle(self, _two_numbers, "etas", "step_sizes")
        if not 0.0 < self.etas[0] < 1.0 < self.etas[1]:
            raise ValueError(f"etas must be one number between 0 and 1 and one above 1, got {self.etas!r}")
        if not self.step_sizes[0] <= self.step_sizes[1]:
            raise ValueError(f"step_sizes must be the smallest and the largest, got {self.step_sizes!r}")

    @property
    def initial_state(self) -> tuple[float, ...]:
        return 0.0, self.lr

    @property
    def coefficients(self) -> tuple[float, ...]:
        return *self.etas, *self.step_sizes

    def check_fit(self, n: int, batch_size: int, schedule: Any, held: Regularization = PLAIN) -> None:
        if schedule is not None:
            raise ValueError(f"Rprop adapts the sizes of its steps by itself; schedule must be None, got {schedule!r}")


OPTIMIZERS: dict[str, type[Optimizer]] = {
    kind.name: kind
    for kind in (SGD, Adam, AdamW, NAdam, RAdam, Adamax, Lion, RMSprop, Adagrad, Adadelta, Rprop)
}  # fmt: skip
NAMES = (*OPTIMIZERS, "lbfgs")  # the last, in a module of its own, takes no steps on batches


def get(optimizer: str | Optimizer) -> Optimizer:
    """The optimiser of a name with its defaults; a description is returned as it is."""
    if isinstance(optimizer, Optimizer):
        return optimizer
    return _by_name(check_choice("optimizer", optimizer, NAMES))


@functools.cache
def _by_name(name: str) -> Optimizer:
    """Always the same one, by which a network knows that nothing has changed."""
    if name == "lbfgs":
        from fastbp.training.lbfgs import LBFGS

        return LBFGS()
    return OPTIMIZERS[name]()  # type: ignore[call-arg]


@functools.cache
def _compiled(rule: str) -> tuple[int, int, tuple[str, ...]]:
    """Number, moments and names of the own coefficients of a rule."""
    from fastbp.kernels.optimizers import RULES

    return list(RULES).index(rule), RULES[rule].n_moments, RULES[rule].coefficients


def _two_numbers(name: str, value: Any) -> tuple[float, float]:
    try:
        first, second = value
    except (TypeError, ValueError):
        raise ValueError(f"{name} must be two numbers, got {value!r}") from None
    return check_non_negative_finite(f"{name}[0]", first), check_non_negative_finite(f"{name}[1]", second)


def _check_betas(name: str, betas: Any) -> tuple[float, float]:
    beta1, beta2 = _two_numbers(name, betas)
    return check_fraction(f"{name}[0]", beta1), check_fraction(f"{name}[1]", beta2)
