"""The formulas that registries tell readers, computed: they are what the networks do."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
import pytest

import fastbp
from fastbp import losses
from fastbp.activations import ACTIVATIONS
from fastbp.reference import NumpyMLP
from fastbp.reference.activations import activate
from fastbp.types import Array
from fastbp.walkthrough.numbers import long_sum, put_in, shown
from fastbp.walkthrough.trace import slope

NORMAL = {
    "P": np.vectorize(lambda z: 0.5 * math.erfc(-z / math.sqrt(2))),
    "p": lambda z: np.exp(-z * z / 2) / math.sqrt(2 * math.pi),
}
KNOWN = {
    "e": np.e, "min": np.minimum, "max": np.maximum, "tanh": np.tanh, "log": np.log, "sqrt": np.sqrt, "sign": np.sign,
    "sum": np.sum, "softmax": lambda z: np.exp(z) / np.exp(z).sum(),
}  # fmt: skip


def computed(formula: str, values: dict[str, Any]) -> Array:
    """What a formula as people write it comes to."""
    text = re.sub(r"\|(\w+)\|", r"abs(\1)", formula.partition(", p the")[0].replace("^", "**"))
    main, *meanings = re.split(r", (?=\w+ = )", text)
    known = KNOWN | values
    for meaning in reversed(meanings):
        name, _, value = meaning.partition(" = ")
        known[name] = eval(value, {}, known)
    if cases := re.fullmatch(r"(.+) for (.+), else (.+)", main):
        first, where, second = (eval(one, {}, known) for one in cases.groups())
        return np.where(where, first, second)
    return np.asarray(eval(main, {}, known))


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_the_derivative_that_is_told_is_that_of_the_network(name: str) -> None:
    z = np.random.default_rng(0).uniform(-4, 4, 50)
    a = activate(name, z.copy())
    found = computed(ACTIVATIONS[name].derivative, {"z": z, "a": a, **(NORMAL if name == "gelu" else {})})
    assert np.broadcast_to(found, z.shape) == pytest.approx(slope(name, z, a), abs=1e-4)  # selu tells five digits


@pytest.mark.parametrize("loss", [losses.get(name) for name in losses.LOSSES], ids=lambda loss: loss.name)
def test_the_slope_of_a_loss_that_is_told_is_that_of_the_network(loss: losses.Loss) -> None:
    rng = np.random.default_rng(1)
    net = NumpyMLP([3, 3], loss=loss, dtype="float64", seed=0)
    net.set_weights([np.eye(3)], [np.zeros(3)])
    z, target = 2 * rng.standard_normal((1, 3)), rng.standard_normal((1, 3))
    y = np.eye(3)[:1] if loss.link.classifies else np.abs(target) if loss.link.target == "counts" else target
    values = {"z": z[0], "p": z[0], "y": y[0], "M": loss.columns(3), "delta": loss.parameter, "gamma": loss.parameter,
              "q": loss.parameter}  # fmt: skip
    assert computed(loss.derivative, values) == pytest.approx(net.backprop(z, y).biases[0])
    assert re.match(r"J = -?(1/N|1/\(NM\)) sum", loss.formula)


@pytest.mark.parametrize("name", losses.LOSSES)
def test_the_slope_of_a_loss_is_written_out_rightly(name: str) -> None:
    net = fastbp.MLP([2, 3], loss=name, seed=3)
    y = 1 if net.loss.link.one_class else [1.0, 0.0, 1.0]
    story = fastbp.explain(net, [0.7, -0.4], y)
    lines = next(one.written for one in story.stages if one.name == "error")
    found = [
        re.fullmatch(r"out\d: dJ/d[pz] = (.+) = (\S+)|class \d: dJ/dz = (.+) = (\S+)", line) for line in lines[:-1]
    ]
    assert len(found) == (0 if name in ("focal", "quantile") else 3)  # of which a line is too little
    for one in found:
        assert one
        text, value = [part for part in one.groups() if part is not None]
        assert eval(text.replace("^", "**"), {}, dict(KNOWN)) == pytest.approx(float(value), rel=1e-3, abs=1e-4)


def test_numbers_are_put_into_formulas() -> None:
    letters = {"p": 0.3, "y": -1.0, "M": 2.0, "d": 1.3, "delta": 1.0}
    assert put_in("2 * (p - y) / M", letters) == "2 * (0.3 - (-1)) / 2"
    assert put_in("min(max(d, -delta), delta) / M, d = p - y", letters) == "min(max(1.3, -1), 1) / 2"
    assert put_in("1 for z > 0, else 0", letters) is None
    assert put_in("s - p * sum(s), s = y", letters) is None
    assert long_sum([(1.0, -2.0), (3.0, 4.0)]) == ("1*(-2) + 3*4", "")
    terms, rest = long_sum([(float(k), 1.0) for k in range(9)])
    assert eval(terms) == 36
    assert rest == "  (3: 3 other terms)"
    assert [shown(one) for one in (-0.0, 1e-5, 123456.0, 123456789.0, float("nan"))] == [
        "0",
        "1e-5",
        "123456",
        "1.2346e+8",
        "nan",
    ]
    assert fastbp.Huber(delta=2.0).formula.startswith("J = ")
