"""Inference of every workload's network: one row, where the call costs most, and all rows: `pytest benchmarks/`."""

from __future__ import annotations

from typing import Any

import pytest

import fastbp
from fastbp.bench.rivals import Task


@pytest.mark.parametrize("rows", ["one", "all"])
def test_predict(benchmark: Any, task: Task, net: fastbp.MLP, rows: str) -> None:
    X = task.X[:1] if rows == "one" else task.X
    benchmark.extra_info["flops"] = task.workload.flops_forward // task.workload.batch_size * len(X)
    assert len(benchmark(net.predict, X)) == len(X)
