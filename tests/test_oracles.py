"""Every name of the registries has its plain formula, its fast twin in NumPy and its entry in `tests/oracles.py`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import naive
import oracles
import pytest

from fastbp import activations, losses, optimizers
from fastbp.kernels.optimizers import RULES
from fastbp.reference import activations as reference_activations
from fastbp.reference import losses as reference_losses
from fastbp.reference import optimizers as reference_optimizers

KINDS: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any], dict[str, Any], Callable[[str], Any]]] = {
    "ACTIVATIONS": (
        activations.ACTIVATIONS, naive.ACTIVATIONS, reference_activations.ACTIVATIONS, oracles.ACTIVATIONS,
        oracles.activation,
    ),
    "LOSSES": (losses.LOSSES, naive.LOSSES, reference_losses.LOSSES, oracles.LOSSES, oracles.loss),
    "OPTIMIZERS": (
        optimizers.OPTIMIZERS, naive.OPTIMIZERS, reference_optimizers.OPTIMIZERS, oracles.OPTIMIZERS,
        oracles.optimizer,
    ),
}  # fmt: skip
FORMULAS = {
    "ACTIVATIONS": "the functions of z: f and its derivative",
    "LOSSES": "a function (outputs, y, options) -> (loss of each row, its derivative by the outputs)",
    "OPTIMIZERS": "a function (w, g, t, state, options) -> w",
}


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, found in KINDS.items() for name in found[0]])
def test_a_name_has_everything(kind: str, name: str) -> None:
    _, formulas, twins, _, entry = KINDS[kind]
    assert name in formulas, f"tests/naive.py lacks {name!r}: add {FORMULAS[kind]} to {kind}"
    assert name in twins, f"fastbp/reference/{kind.lower()}.py lacks {name!r}: add its functions, and a line to {kind}"
    entry(name)


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_left_of_a_name_that_is_gone(kind: str) -> None:
    registry, *others, _ = KINDS[kind]
    for other in others:
        assert not set(other) - set(registry)


def test_a_missing_entry_says_what_to_add() -> None:
    with pytest.raises(AssertionError, match=r"tests/oracles\.py lacks 'mush': add the line 'mush': ActivationCase"):
        oracles.activation("mush")


def test_every_compiled_rule_has_options_that_lead_to_it() -> None:
    missing = set(RULES) - {one.rule for one in oracles.ALL_OPTIMIZERS}
    assert not missing, f"add descriptions whose rule is one of {missing} to the options in tests/oracles.py"
