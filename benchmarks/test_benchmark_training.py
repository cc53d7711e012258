"""One step and one epoch of every workload, as called from Python: `pytest benchmarks/ -k "step or epoch"`."""

from __future__ import annotations

from typing import Any

import numpy as np

import fastbp
from fastbp.bench.rivals import Task


def test_step(benchmark: Any, task: Task, net: fastbp.MLP) -> None:
    workload = task.workload
    X, y = task.X[: workload.batch_size], task.y[: workload.batch_size]
    benchmark.extra_info["flops"] = workload.flops_per_step
    assert np.isfinite(benchmark(net.train_step, X, y, workload.make_optimizer()))


def test_epoch(benchmark: Any, task: Task, net: fastbp.MLP) -> None:
    workload = task.workload
    recipe = {"epochs": 1, "batch_size": workload.batch_size, "optimizer": workload.make_optimizer()}
    benchmark.extra_info["flops"] = workload.flops_per_step * workload.steps_per_epoch
    assert np.isfinite(benchmark(net.fit, task.X, task.y, **recipe).loss[-1])
