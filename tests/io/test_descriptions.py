"""Texts of descriptions are compared by what they say."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fastbp import Huber
from fastbp.io import descriptions


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("SGD(lr=1)", "SGD(lr=np.float64(1.0))"),
        ("SGD(lr=-1e-3, nesterov=True)", "SGD(nesterov=np.True_, lr=-0.001)"),
        ("(0.9, 1)", "[0.9, 1.0]"),
        (repr(Huber(2)), repr(Huber(np.float64(2.0)))),
        ("Warmup(epochs=1, then=f.<locals>.<lambda>)", "Warmup(epochs=1.0, then=f.<locals>.<lambda>)"),
        ({"a": ["1", 2]}, {"a": ["1.0", 2.0]}),
    ],
)
def test_same(one: Any, other: Any) -> None:
    assert descriptions.same(one, other)
    assert descriptions.same(one, one)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("SGD(lr=1)", "SGD(lr=2)"),
        ("SGD(lr=1)", "SGD(lr=1, momentum=0.9)"),
        ("SGD(lr=1)", "Lion(lr=1)"),
        ("SGD(lr=0.1)", "SGD(lr=np.float32(0.1))"),
        ("Warmup(epochs=1, then=f)", "Warmup(epochs=1, then=g)"),
        ("12e45678901234567890123456789012", "12e45678901234567890123456789013"),  # a hash
        ("<object at 0x1>", "<object at 0x2>"),
        ("-" * 100_000, "(" * 100_000),
        ("os.system('x')", "os.system('y')"),  # is only read
        ("x[0]", "x[1]"),
        ("relu", None),
    ],
)
def test_different(one: Any, other: Any) -> None:
    assert not descriptions.same(one, other)
    assert descriptions.same(one, one)
