"""The tile product by shape and each activation, through networks of one and two layers: `pytest benchmarks/`."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fastbp
from fastbp.activations import ACTIVATIONS

# (rows, n_in, n_out): the workloads' products, and widths at and beside the tile's 16 and 32 columns.
SHAPES = [
    (128, 784, 128),
    (128, 784, 256),
    (512, 1024, 1024),
    (32, 64, 64),
    (128, 256, 32),
    (128, 256, 33),
    (128, 256, 45),
    (128, 256, 48),
    (127, 251, 61),
    (128, 256, 1),
    (1, 20, 40),
]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: "x".join(map(str, shape)))
def test_product(benchmark: Any, shape: tuple[int, int, int], dtype: str) -> None:
    rows, n_in, n_out = shape
    net = fastbp.MLP([n_in, n_out], loss="mse", dtype=dtype, seed=0)
    X = np.random.default_rng(0).standard_normal((rows, n_in)).astype(dtype)
    benchmark.extra_info["flops"] = 2 * rows * n_in * n_out
    assert benchmark(net.forward, X).shape == (rows, n_out)


@pytest.mark.parametrize("direction", ["forward", "backprop"])
@pytest.mark.parametrize("activation", list(ACTIVATIONS))
def test_activation(benchmark: Any, activation: str, direction: str) -> None:
    # A layer this thin is nearly all activation: 8 inputs cost 16 flops an element.
    net = fastbp.MLP([8, 512, 1], activation=activation, loss="mse", seed=0)
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((256, 8), dtype=np.float32), rng.standard_normal((256, 1), dtype=np.float32)
    found = benchmark(net.forward, X) if direction == "forward" else benchmark(net.backprop, X, y).loss
    assert np.isfinite(found).all()
