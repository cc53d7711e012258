"""Fixtures of the pytest-benchmark suites; every suite runs over the one workloads table of `fastbp.bench`."""

from __future__ import annotations

import pytest

import fastbp
from fastbp.bench.rivals import Task
from fastbp.bench.workloads import WORKLOADS


@pytest.fixture(scope="module", params=list(WORKLOADS))
def task(request: pytest.FixtureRequest) -> Task:
    """A workload's data and initial weights, made once a module."""
    return Task.of(WORKLOADS[request.param])


@pytest.fixture
def net(task: Task) -> fastbp.MLP:
    """A network of its own for every test, so that one does not continue the training of another."""
    workload = task.workload
    net = fastbp.MLP(workload.sizes, activation=workload.activation, loss=workload.loss, dtype=workload.dtype, seed=0)
    net.set_weights(task.weights, task.biases)
    return net
