"""Optimisers to test: each of the registry with its defaults, whatever is added there, and chosen option sets."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from peers import torch

from fastbp import SGD, Adadelta, Adagrad, Adam, Adamax, AdamW, Lion, NAdam, RAdam, RMSprop, Rprop, optimizers

_CHOSEN = [
    SGD(lr=0.1),
    SGD(lr=0.1, weight_decay=0.03),
    SGD(lr=0.05, momentum=0.9),
    SGD(lr=0.05, momentum=0.7, weight_decay=0.03),
    SGD(lr=0.05, momentum=0.9, dampening=0.3),
    SGD(lr=0.05, momentum=0.7, dampening=1.0, weight_decay=0.03),
    SGD(lr=0.05, momentum=0.9, nesterov=True),
    SGD(lr=0.05, momentum=0.5, nesterov=True, weight_decay=0.03),
    Adam(lr=0.02, betas=(0.8, 0.95), eps=1e-3),
    Adam(lr=0.02, betas=(0.0, 0.9), weight_decay=0.1),
    Adam(amsgrad=True),
    Adam(lr=0.02, betas=(0.8, 0.9), weight_decay=0.1, amsgrad=True),
    AdamW(lr=0.02, betas=(0.5, 0.9), eps=1e-6, weight_decay=0.3),
    AdamW(lr=0.02, weight_decay=0.0),
    AdamW(lr=0.02, betas=(0.8, 0.9), weight_decay=0.2, amsgrad=True),
    NAdam(lr=0.02, betas=(0.8, 0.95), eps=1e-3, weight_decay=0.1, momentum_decay=0.1),
    NAdam(lr=0.02, betas=(0.95, 0.9), weight_decay=0.1, momentum_decay=0.0, decoupled_weight_decay=True),
    RAdam(lr=0.02, betas=(0.8, 0.95), eps=1e-3, weight_decay=0.1),
    RAdam(lr=0.02, betas=(0.5, 0.6), weight_decay=0.1, decoupled_weight_decay=True),
    Adamax(lr=0.02, betas=(0.8, 0.95), eps=1e-3, weight_decay=0.1),
    Lion(lr=0.01, betas=(0.8, 0.95), weight_decay=0.3),
    RMSprop(lr=0.02, alpha=0.8, eps=1e-3, weight_decay=0.1),
    RMSprop(lr=0.005, alpha=0.9, momentum=0.8, weight_decay=0.1),
    RMSprop(lr=0.005, alpha=0.9, eps=1e-3, centered=True, weight_decay=0.1),
    RMSprop(lr=0.005, alpha=0.9, eps=1e-3, centered=True, momentum=0.8),
    Adagrad(lr=0.1, lr_decay=0.05, weight_decay=0.1, initial_accumulator_value=0.3, eps=1e-3),
    Adagrad(lr=0.1, lr_decay=0.2),
    Adadelta(lr=0.5, rho=0.8, eps=1e-3, weight_decay=0.1),
    Rprop(lr=0.02, etas=(0.4, 1.3), step_sizes=(1e-3, 0.2)),
]
RECIPES: list[Any] = [optimizers.get(name) for name in optimizers.OPTIMIZERS] + _CHOSEN
# One of each compiled rule, with weight decay where there is any.
ONE_A_RULE: list[Any] = list({recipe.rule: recipe for recipe in RECIPES}.values())


def options(recipe: Any) -> dict[str, Any]:
    """Those that PyTorch's optimisers take; it clips by functions of their own."""
    fields = (field.name for field in dataclasses.fields(recipe) if field.init)
    return {name: getattr(recipe, name) for name in fields if name not in ("clip_norm", "clip_value")}


class PaperLion(torch.optim.Optimizer):
    """Program 2 of Chen et al., "Symbolic discovery of optimization algorithms" (2023); PyTorch has none."""

    def __init__(self, params: Any, lr: float = 1e-4, weight_decay: float = 0.0, betas: Any = (0.9, 0.99)) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "betas": betas})

    def step(self) -> None:  # type: ignore[override]
        for group in self.param_groups:
            (beta1, beta2), lr, decay = group["betas"], group["lr"], group["weight_decay"]
            for p in group["params"]:
                m, g = self.state[p].setdefault("m", np.zeros(tuple(p.shape))), p.grad.numpy()
                update = np.sign(beta1 * m + (1 - beta1) * g)
                p.data = torch.tensor(p.detach().numpy() - lr * (update + decay * p.detach().numpy()))
                self.state[p]["m"] = beta2 * m + (1 - beta2) * g


def peer(recipe: Any) -> type[torch.optim.Optimizer]:
    """PyTorch's optimiser of the same name and options, or the rule of a paper."""
    name = type(recipe).__name__
    return PaperLion if name == "Lion" else getattr(torch.optim, name)
