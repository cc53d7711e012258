"""Denormal numbers are zero in the kernels, and what they always were outside."""

from __future__ import annotations

import numpy as np
import pytest

import fastbp
from fastbp.kernels import denormals


@pytest.mark.skipif(not denormals.FLUSHES, reason="only x86 CPUs are slow with them")
@pytest.mark.parametrize("threads", [1, 2])
def test_moments_that_fade_become_zero(threads: int) -> None:
    """Of an input that is zero from the second step on: nine tenths of the smallest denormal round to itself."""
    net = fastbp.MLP([3, 4, 2], seed=0)
    X, y = np.ones((4, 3)), np.array([0, 1, 0, 1])
    rule = fastbp.Adam(lr=1e-3, betas=(0.9, 0.9))
    net.train_step(X, y, rule)
    X[:, 1] = 0.0
    net.fit(X, y, epochs=1500, batch_size=4, shuffle=False, optimizer=rule, threads=threads)
    for moment in net.session.engine.moments:
        values = np.abs(moment[moment != 0])
        assert len(values)
        assert values.min() >= np.finfo(np.float32).tiny


def test_the_caller_goes_on_to_have_denormal_numbers() -> None:
    net = fastbp.MLP([3, 4, 2], seed=0)
    net.fit(np.ones((8, 3)), np.zeros(8, np.int64), epochs=2, threads=1)
    net.predict(np.ones((2, 3)))
    small = np.array([1e-39], np.float32)
    assert (small * np.float32(0.5))[0] > 0
    assert np.array([5e-324])[0] > 0
