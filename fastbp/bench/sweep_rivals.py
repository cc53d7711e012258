"""The rivals of `bench --workload sweep`: fastbp's sweep, JAX's `vmap`, and loops over the rates."""

from __future__ import annotations

import time
import warnings
from abc import ABC, abstractmethod
from dataclasses import replace
from typing import Any

import numpy as np

from fastbp.bench.peers import JaxRival
from fastbp.bench.result import Setting
from fastbp.bench.rivals import FastbpRival, Rival, Task
from fastbp.bench.workloads import Array


class SweepRival(ABC):
    """One way to train a network at many rates."""

    name: str
    package: str

    @abstractmethod
    def setup(self, task: Task) -> None:
        """Prepare data and whatever is compiled; untimed."""

    @abstractmethod
    def sweep(self, rates: Array, epochs: int) -> float:
        """Train at all the rates, each from the task's weights; returns the seconds that this took."""

    @abstractmethod
    def losses(self, rates: Array, epochs: int) -> list[list[float]]:
        """Mean loss of each epoch at each rate, of batches in stored order; untimed."""

    def settings(self, threads: int) -> tuple[Setting, ...]:
        """The settings worth trying."""
        return (Setting(),)

    def apply(self, setting: Setting) -> None:  # noqa: B027 (a rival without settings is valid)
        """Use this setting from now on."""

    def close(self) -> None:  # noqa: B027
        """Undo what `apply` changed in the process."""

    def version(self) -> str:
        """The installed version."""
        raise NotImplementedError


class FastbpSweep(SweepRival):
    """`fastbp.lr_sweep`, whole calls of it, checks of the arguments and all.

    It needs rows to validate on, which the rivals do not do at all: it gets one batch of them.
    """

    package = "fastbp"

    def __init__(self, name: str = "fastbp", threads: int | None = None, rates: Array | None = None) -> None:
        self.name, self.threads, self.rates = name, threads, rates

    def version(self) -> str:
        return FastbpRival().version()

    def setup(self, task: Task) -> None:
        from fastbp.network import MLP

        workload, self.task = task.workload, task
        self.net = MLP(workload.sizes, activation=workload.activation, loss=workload.loss, seed=workload.seed)
        batch = slice(0, workload.batch_size)
        self.held = task.X[batch], task.y[batch]

    def run(self, rates: Array, epochs: int) -> Any:
        """The result of `lr_sweep`."""
        from fastbp.many.runs import lr_sweep

        workload = self.task.workload
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # the best rate at an edge: here nobody asks for it
            return lr_sweep(
                self.net, self.task.X, self.task.y, rates, seeds=[workload.seed], epochs=epochs,
                batch_size=workload.batch_size, optimizer=workload.make_optimizer(), validation_data=self.held,
                threads=self.threads,
            )  # fmt: skip

    def sweep(self, rates: Array, epochs: int) -> float:
        chosen = rates if self.rates is None or len(rates) != len(self.rates) else self.rates
        started = time.perf_counter()
        self.run(chosen, epochs)
        return time.perf_counter() - started

    def losses(self, rates: Array, epochs: int) -> list[list[float]]:
        """Those of `fit`, once it is certain that a sweep has its bits; a sweep always shuffles."""
        loop = Loop(FastbpRival())
        loop.setup(self.task)
        found = self.run(rates, epochs).train_loss[:, 0].tolist()
        if found != loop.train(rates, epochs, shuffle=True)[0]:
            return [[float("nan")] * epochs for _ in rates]
        return loop.losses(rates, epochs)


class Loop(SweepRival):
    """One training after the other, by a rival of the other workloads; making the networks is not timed."""

    def __init__(self, rival: Rival) -> None:
        self.rival = rival
        self.name, self.package = f"{rival.name}, loop", rival.package

    def version(self) -> str:
        return self.rival.version()

    def setup(self, task: Task) -> None:
        self.rival.load()
        self.task = task
        self.rival.setup(task)

    def settings(self, threads: int) -> tuple[Setting, ...]:
        return self.rival.settings(threads)

    def apply(self, setting: Setting) -> None:
        self.rival.apply(setting)

    def close(self) -> None:
        self.rival.close()

    def train(self, rates: Array, epochs: int, *, shuffle: bool) -> tuple[list[list[float]], float]:
        """Losses by rate and epoch, and the seconds."""
        found, seconds = [], 0.0
        for rate in rates.tolist():
            self.rival.setup(replace(self.task, workload=replace(self.task.workload, lr=rate)))
            started = time.perf_counter()
            found.append([float(loss) for loss in self.rival.train(epochs, shuffle=shuffle)])
            seconds += time.perf_counter() - started
        return found, seconds

    def sweep(self, rates: Array, epochs: int) -> float:
        return self.train(rates, epochs, shuffle=True)[1]

    def losses(self, rates: Array, epochs: int) -> list[list[float]]:
        return self.train(rates, epochs, shuffle=False)[0]


class JaxSweep(SweepRival):
    """JAX: `jit` of `vmap` over the rates of one `lax.scan` over all steps of all epochs.

    The rows of a batch are gathered once for all rates. Another number of rates or epochs is compiled anew.
    """

    name, package = "jax, vmap", "jax"

    def __init__(self) -> None:
        self.inner = JaxRival()

    def version(self) -> str:
        return self.inner.version()

    def setup(self, task: Task) -> None:
        self.inner.load()
        self.inner.setup(task)
        self.task, jax = task, self.inner.jax
        loss_function = self.inner._loss_function()

        def train(lr: Any, parameters: Any, X: Any, y: Any, order: Any) -> Any:
            def step(parameters: Any, rows: Any) -> Any:
                batch = [array.at[rows].get(mode="promise_in_bounds") for array in (X, y)]
                loss, gradient = jax.value_and_grad(loss_function)(parameters, *batch)
                return jax.tree.map(lambda p, g: p - lr * g, parameters, gradient), loss

            return jax.lax.scan(step, parameters, order)

        self.compiled = jax.jit(jax.vmap(train, in_axes=(0, None, None, None, None)))
        self.rng = np.random.default_rng(task.workload.seed)

    def run(self, rates: Array, epochs: int, *, shuffle: bool) -> Any:
        """Losses of all steps, ``(K, steps)``, and the parameters, once they are there."""
        workload, inner = self.task.workload, self.inner
        rows = np.arange(workload.n_samples, dtype=np.int32)
        order = np.stack([self.rng.permutation(rows) if shuffle else rows for _ in range(epochs)])
        lr = inner.jnp.asarray(rates, workload.dtype)
        order = order.reshape(-1, workload.batch_size)
        return inner.jax.block_until_ready(self.compiled(lr, inner.parameters, inner.X, inner.y, order))

    def sweep(self, rates: Array, epochs: int) -> float:
        started = time.perf_counter()
        self.run(rates, epochs, shuffle=True)
        return time.perf_counter() - started

    def losses(self, rates: Array, epochs: int) -> list[list[float]]:
        steps = np.asarray(self.run(rates, epochs, shuffle=False)[1], np.float64)
        found: list[list[float]] = steps.reshape(len(rates), epochs, -1).mean(axis=2).tolist()
        return found
