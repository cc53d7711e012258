"""What tests know of each activation, loss and optimiser beyond its formula (which is in `tests/naive.py`).

One entry a name of the registries of fastbp, over which all tests run. A name without an entry fails
`tests/test_oracles.py`, which says what to add.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from peers import torch

from fastbp import (
    SGD,
    AdaBelief,
    Adadelta,
    Adagrad,
    Adam,
    Adamax,
    AdamW,
    Lion,
    Lookahead,
    NAdam,
    RAdam,
    RMSprop,
    Rprop,
    losses,
    optimizers,
)
from fastbp.kernels.simd import TARGET

Array = np.ndarray
Case = TypeVar("Case")


def _entry(table: Mapping[str, Case], name: str, called: str, form: str) -> Case:
    if name not in table:
        raise AssertionError(f"tests/oracles.py lacks {name!r}: add the line {name!r}: {form} to {called}")
    return table[name]


def options(description: Any) -> dict[str, Any]:
    """Of a loss or an optimiser, as `tests/naive.py` and PyTorch take them; clipping, `lr_scale` are no part of it."""
    fields = (field.name for field in dataclasses.fields(description) if field.init)
    return {name: getattr(description, name) for name in fields if name not in ("clip_norm", "clip_value", "lr_scale")}


# --- activations ----------------------------------------------------------------------------------------------

Bounds = tuple[float, float, float, float]


@dataclass(frozen=True)
class ActivationCase:
    """An activation as tests need it.

    Attributes
    ----------
    ulp : tuple of float
        Largest errors in units in the last place: (of f, floor of f, of f', floor of f'), measured on 800,000 points
        and rounded up. A result below its floor has the unit of the floor: where it is a difference of numbers near 1
        (1 - s for sigmoid), no more can be had than ULPs of 1.
    torch : callable
        The same function in PyTorch.
    kinks : tuple of float
        Where the derivative jumps, or bends so sharply that central differences do not see it.
    points : int
        On how many times four points the errors are tested.
    ulp_float32 : tuple of float, optional
        The bounds in single precision, where these are others.
    without_fma : tuple of (ulp, ulp_float32), optional
        The bounds on a CPU without fused multiply-adds (which AVX-512, AVX2 and NEON have), where these are others.
    """

    ulp: Bounds
    torch: Callable[[Any], Any]
    kinks: tuple[float, ...] = ()
    points: int = 20_000
    ulp_float32: Bounds | None = None
    without_fma: tuple[Bounds, Bounds] | None = None

    def bounds(self, dtype: str) -> Bounds:
        """Of a dtype, on this CPU."""
        double, single = self.ulp, self.ulp_float32 or self.ulp
        if self.without_fma and not TARGET.fma:
            double, single = self.without_fma
        return single if dtype == "float32" else double


ACTIVATIONS = {
    "identity": ActivationCase((0, 0, 0, 0), lambda z: z * 1),
    "relu": ActivationCase((0, 0, 0, 0), torch.relu, kinks=(0,)),
    "leaky_relu": ActivationCase((1, 0, 0.5, 0), torch.nn.functional.leaky_relu, kinks=(0,)),
    "elu": ActivationCase((1.25, 0, 0.5, 1), torch.nn.functional.elu, kinks=(0,)),
    "selu": ActivationCase(
        (1.75, 0, 1.25, 1), torch.selu, kinks=(0,), without_fma=((1.75, 0, 1.5, 1), (1.75, 0, 1.5, 1))
    ),
    "tanh": ActivationCase(
        (2.75, 0, 1.5, 1),
        torch.tanh,
        ulp_float32=(4.75, 0, 4.75, 1),  # a rational fit: two roundings more, and 1 - f^2 doubles the error of f
        without_fma=((2.75, 0, 1.75, 1), (5.25, 0, 5.25, 1)),
    ),
    "sigmoid": ActivationCase((2.5, 0, 0.75, 1), torch.sigmoid),
    # PyTorch's own softplus is the identity from 20 on.
    "softplus": ActivationCase((2, 0, 2.5, 0), lambda z: torch.logaddexp(z, torch.zeros_like(z))),
    "gelu": ActivationCase((1.5, 1, 1.5, 1), torch.nn.functional.gelu, points=1_500),  # mpmath takes its time
    "silu": ActivationCase((3, 0, 20, 1), torch.nn.functional.silu),  # f': the half ULP of 1 in 1 - s, times z
    "mish": ActivationCase((4.25, 0, 1.75, 1), torch.nn.functional.mish),
    # PyTorch's own has a derivative of float32 precision.
    "hard_sigmoid": ActivationCase((1.5, 0, 0.5, 0), lambda z: torch.nn.functional.relu6(z + 3) / 6, kinks=(-3, 3)),
    "hard_swish": ActivationCase((2.5, 0, 1.5, 1), lambda z: z * (torch.nn.functional.relu6(z + 3) / 6), kinks=(-3, 3)),
}


def activation(name: str) -> ActivationCase:
    """The entry of an activation."""
    return _entry(ACTIVATIONS, name, "ACTIVATIONS", "ActivationCase(errors in ULP, the function of PyTorch, kinks=...)")


def distance_to_kinks(name: str, z: Array) -> float:
    """How near to a kink of an activation any of these numbers is."""
    return min((float(np.abs(z - kink).min()) for kink in activation(name).kinks), default=np.inf)


# --- losses ---------------------------------------------------------------------------------------------------

Draw = Callable[[np.random.Generator, int, int], Array]  # (rng, rows, outputs) -> y, exact in float32


def _real(rng: np.random.Generator, rows: int, n: int) -> Array:
    return rng.standard_normal((rows, n)).astype("f4").astype(float)


def _classes(rng: np.random.Generator, rows: int, n: int) -> Array:
    return rng.integers(0, n, rows)


def _probabilities(rng: np.random.Generator, rows: int, n: int) -> Array:
    return rng.multinomial(64, np.full(n, 1 / n), rows) / 64  # whose sum is exactly 1


def _yes_or_no(rng: np.random.Generator, rows: int, n: int) -> Array:
    return rng.integers(0, 2, (rows, n)).astype(float)


def _chances(rng: np.random.Generator, rows: int, n: int) -> Array:
    return rng.integers(0, 5, (rows, n)) / 4


def _counts(rng: np.random.Generator, rows: int, n: int) -> Array:
    return rng.poisson(2.0, (rows, n)).astype(float)


def _focal(gamma: float, z: Any, y: Any) -> Any:
    log_p = torch.log_softmax(z, dim=1)
    y = torch.nn.functional.one_hot(y, z.shape[1]) if y.ndim == 1 else y
    return -(y * (1 - log_p.exp()) ** gamma * log_p).sum(dim=1).mean()


@dataclass(frozen=True)
class LossCase:
    """A loss as tests need it.

    Attributes
    ----------
    torch : callable
        From a description to the function (outputs, y) of PyTorch.
    targets : mapping of str to callable
        Ways to draw y: (rng, rows, outputs) -> y. Numbers are exact in float32.
    options : tuple
        Descriptions to test besides that with defaults.
    kinks : callable
        From a description to the numbers p - y at which the derivative by p jumps.
    least_outputs : int
        A network with fewer is refused.
    """

    torch: Callable[[Any], Callable[[Any, Any], Any]]
    targets: Mapping[str, Draw]
    options: tuple[Any, ...] = ()
    kinks: Callable[[Any], tuple[float, ...]] = lambda loss: ()
    least_outputs: int = 1


LOSSES = {
    "cross_entropy": LossCase(
        lambda loss: torch.nn.CrossEntropyLoss(label_smoothing=loss.label_smoothing),
        {"classes": _classes, "probabilities": _probabilities},
        options=(losses.CrossEntropy(label_smoothing=0.1),),
        least_outputs=2,
    ),
    "binary_cross_entropy": LossCase(
        lambda loss: torch.nn.BCEWithLogitsLoss(), {"yes or no": _yes_or_no, "chances": _chances}
    ),
    "mse": LossCase(lambda loss: torch.nn.MSELoss(), {"real": _real}),
    "mae": LossCase(lambda loss: torch.nn.L1Loss(), {"real": _real}, kinks=lambda loss: (0.0,)),
    "huber": LossCase(
        lambda loss: torch.nn.HuberLoss(delta=loss.delta),
        {"real": _real},
        options=(losses.Huber(delta=0.7),),
        kinks=lambda loss: (-loss.delta, loss.delta),
    ),
    "poisson": LossCase(lambda loss: torch.nn.PoissonNLLLoss(log_input=True), {"counts": _counts}),
    "log_cosh": LossCase(lambda loss: lambda p, y: torch.log(torch.cosh(p - y)).mean(), {"real": _real}),
    "quantile": LossCase(
        lambda loss: lambda p, y: torch.maximum((1 - loss.quantile) * (p - y), loss.quantile * (y - p)).mean(),
        {"real": _real},
        options=(losses.Quantile(quantile=0.9),),
        kinks=lambda loss: (0.0,),
    ),
    "focal": LossCase(
        lambda loss: lambda z, y: _focal(loss.gamma, z, y),
        {"classes": _classes, "probabilities": _probabilities},
        options=(losses.Focal(gamma=0.5), losses.Focal(gamma=0.0)),
        least_outputs=2,
    ),
    "pseudo_huber": LossCase(
        lambda loss: lambda p, y: (loss.delta**2 * (torch.sqrt(1 + ((p - y) / loss.delta) ** 2) - 1)).mean(),
        {"real": _real},
        options=(losses.PseudoHuber(delta=0.7),),
    ),
}


def loss(name: str) -> LossCase:
    """The entry of a loss."""
    return _entry(LOSSES, name, "LOSSES", "LossCase(the loss of PyTorch, how to draw y, options=..., kinks=...)")


@dataclass(frozen=True)
class Cost:
    """A loss with options, and a kind of target: what tests of losses are parametrised over."""

    loss: Any
    targets: str

    @property
    def case(self) -> LossCase:
        return loss(self.loss.name)

    def draw(self, rows: int, n_out: int, seed: int = 0) -> Array:
        return self.case.targets[self.targets](np.random.default_rng([seed, 5]), rows, n_out)

    def allows(self, n_out: int) -> bool:
        return self.loss.name not in LOSSES or n_out >= self.case.least_outputs

    def distance_to_kinks(self, outputs: Array, y: Array) -> float:
        kinks = self.case.kinks(self.loss)
        return min((float(np.abs(outputs - y.reshape(outputs.shape) - kink).min()) for kink in kinks), default=np.inf)

    def torch(self, outputs: Any, y: Any) -> Any:
        return self.case.torch(self.loss)(outputs, torch.tensor(y))

    def __repr__(self) -> str:
        given = ", ".join(f"{name}={value!r}" for name, value in options(self.loss).items() if value not in (None, 0.0))
        several = self.loss.name in LOSSES and len(self.case.targets) > 1
        return f"{self.loss.name}{f'({given})' * bool(given)}{f' of {self.targets}' * several}"


def _costs() -> list[Cost]:
    found = []
    for name, kind in losses.LOSSES.items():
        case = LOSSES.get(name)  # the tests of one that is not there will say so
        described = (kind(), *(case.options if case else ()))
        found += [Cost(one, targets) for one in described for targets in (case.targets if case else ["?"])]
    return found


COSTS = _costs()
BY_NAME = {repr(cost): cost for cost in COSTS}
DEFAULT_COSTS = {name: next(cost for cost in COSTS if cost.loss.name == name) for name in losses.LOSSES}

# --- optimisers -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class OptimizerCase:
    """An optimiser as tests need it.

    Attributes
    ----------
    options : tuple
        Descriptions to test besides that with defaults: each option alone and together, steps that are not too small.
    torch : str, optional
        Name of PyTorch's, whose arguments are those of the description; None where PyTorch has none.
    """

    options: tuple[Any, ...]
    torch: str | None


OPTIMIZERS = {
    "sgd": OptimizerCase(
        (
            SGD(lr=0.1),
            SGD(lr=0.1, weight_decay=0.03),
            SGD(lr=0.05, momentum=0.9),
            SGD(lr=0.05, momentum=0.7, weight_decay=0.03),
            SGD(lr=0.05, momentum=0.9, dampening=0.3),
            SGD(lr=0.05, momentum=0.7, dampening=1.0, weight_decay=0.03),
            SGD(lr=0.05, momentum=0.9, nesterov=True),
            SGD(lr=0.05, momentum=0.5, nesterov=True, weight_decay=0.03),
        ),
        torch="SGD",
    ),
    "adam": OptimizerCase(
        (
            Adam(lr=0.02, betas=(0.8, 0.95), eps=1e-3),
            Adam(lr=0.02, betas=(0.0, 0.9), weight_decay=0.1),
            Adam(amsgrad=True),
            Adam(lr=0.02, betas=(0.8, 0.9), weight_decay=0.1, amsgrad=True),
        ),
        torch="Adam",
    ),
    "adamw": OptimizerCase(
        (
            AdamW(lr=0.02, betas=(0.5, 0.9), eps=1e-6, weight_decay=0.3),
            AdamW(lr=0.02, weight_decay=0.0),
            AdamW(lr=0.02, betas=(0.8, 0.9), weight_decay=0.2, amsgrad=True),
        ),
        torch="AdamW",
    ),
    "nadam": OptimizerCase(
        (
            NAdam(lr=0.02, betas=(0.8, 0.95), eps=1e-3, weight_decay=0.1, momentum_decay=0.1),
            NAdam(lr=0.02, betas=(0.95, 0.9), weight_decay=0.1, momentum_decay=0.0, decoupled_weight_decay=True),
        ),
        torch="NAdam",
    ),
    "radam": OptimizerCase(
        (
            RAdam(lr=0.02, betas=(0.8, 0.95), eps=1e-3, weight_decay=0.1),
            RAdam(lr=0.02, betas=(0.5, 0.6), weight_decay=0.1, decoupled_weight_decay=True),
        ),
        torch="RAdam",
    ),
    "adamax": OptimizerCase((Adamax(lr=0.02, betas=(0.8, 0.95), eps=1e-3, weight_decay=0.1),), torch="Adamax"),
    "lion": OptimizerCase((Lion(lr=0.01, betas=(0.8, 0.95), weight_decay=0.3),), torch=None),
    "rmsprop": OptimizerCase(
        (
            RMSprop(lr=0.02, alpha=0.8, eps=1e-3, weight_decay=0.1),
            RMSprop(lr=0.005, alpha=0.9, momentum=0.8, weight_decay=0.1),
            RMSprop(lr=0.005, alpha=0.9, eps=1e-3, centered=True, weight_decay=0.1),
            RMSprop(lr=0.005, alpha=0.9, eps=1e-3, centered=True, momentum=0.8),
        ),
        torch="RMSprop",
    ),
    "adagrad": OptimizerCase(
        (
            Adagrad(lr=0.1, lr_decay=0.05, weight_decay=0.1, initial_accumulator_value=0.3, eps=1e-3),
            Adagrad(lr=0.1, lr_decay=0.2),
        ),
        torch="Adagrad",
    ),
    "adadelta": OptimizerCase((Adadelta(lr=0.5, rho=0.8, eps=1e-3, weight_decay=0.1),), torch="Adadelta"),
    "adabelief": OptimizerCase(
        (AdaBelief(lr=0.02, betas=(0.8, 0.95), eps=1e-3, weight_decay=0.1), AdaBelief(lr=0.02, betas=(0.5, 0.9))),
        torch=None,
    ),
    "lookahead": OptimizerCase(
        (
            Lookahead(lr=0.02, betas=(0.8, 0.95), eps=1e-3, weight_decay=0.1, k=3, alpha=0.8),
            Lookahead(lr=0.02, k=1, alpha=0.25),
        ),
        torch=None,
    ),
    "rprop": OptimizerCase((Rprop(lr=0.02, etas=(0.4, 1.3), step_sizes=(1e-3, 0.2)),), torch="Rprop"),
}


def optimizer(name: str) -> OptimizerCase:
    """The entry of an optimiser."""
    return _entry(OPTIMIZERS, name, "OPTIMIZERS", "OptimizerCase(descriptions to test, torch=its name there, or None)")


def make_torch(described: Any, parameters: list[Any]) -> Any:
    """PyTorch's optimiser of the same options."""
    name = optimizer(described.name).torch
    assert name is not None
    return getattr(torch.optim, name)(parameters, **options(described))


DEFAULT_OPTIMIZERS: list[Any] = [optimizers.get(name) for name in optimizers.OPTIMIZERS]
CHOSEN_OPTIMIZERS: list[Any] = [
    chosen for name, case in OPTIMIZERS.items() if name in optimizers.OPTIMIZERS for chosen in case.options
]
ALL_OPTIMIZERS: list[Any] = DEFAULT_OPTIMIZERS + CHOSEN_OPTIMIZERS
# One of each compiled rule, with weight decay where there is any.
ONE_A_RULE: list[Any] = list({one.rule: one for one in ALL_OPTIMIZERS}.values())
# Those that PyTorch has too.
IN_TORCH: list[Any] = [one for one in ALL_OPTIMIZERS if one.name not in OPTIMIZERS or OPTIMIZERS[one.name].torch]
