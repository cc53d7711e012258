"""The rivals of the task "sweep": fastbp's `lr_sweep`, JAX's `vmap` over the rates, and loops over them.

All train from the same weights on the same rows, shuffled by each in its own way. An epoch of `train` is a whole sweep,
for a loop one rate of it. What is compared are the losses at a few of the rates.
"""

from __future__ import annotations

import copy
import itertools
import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from fastbp._version import __version__
from fastbp.bench import verify
from fastbp.bench.peers import PEERS, JaxRival
from fastbp.bench.result import HALF_DIVERGING, ONE_THREAD, Setting
from fastbp.bench.rivals import FastbpRival, Rival, Task
from fastbp.bench.workloads import SWEEP_EPOCHS, SWEEP_RATES, Array, Workload

# Rates whose upper half diverges on all the workloads: losses turn non-finite in the networks of relu; in that of tanh
# they stay finite, and the runs are given up.
DIVERGING_RATES = np.concatenate([SWEEP_RATES[:16], np.geomspace(1e4, 1e6, 16)])
CHECKED = SWEEP_RATES[[0, len(SWEEP_RATES) // 2, -1]]  # the rates whose losses are compared


def at_rate(task: Task, rate: float) -> Task:
    """The training at one of the rates."""
    return replace(task, workload=replace(task.workload, task="train", lr=float(rate)))


def expected_losses(task: Task) -> tuple[float, ...]:
    """Mean loss of each epoch of the reference at each of the rates that are compared, rate by rate."""
    return tuple(loss for rate in CHECKED for loss in verify.expected_losses(at_rate(task, rate)))


class FastbpSweep(Rival):
    """`fastbp.lr_sweep`, whole calls of it, checks of the arguments and all.

    It needs rows to validate on, which the rivals do not do at all: it gets one batch of them.
    """

    name = "fastbp"
    package = "fastbp"
    rates = SWEEP_RATES

    def __init__(self) -> None:
        self.threads: int | None = None

    def version(self) -> str:
        return __version__

    def settings(self, threads: int) -> tuple[Setting, ...]:
        return (Setting(threads),)

    def apply(self, setting: Setting) -> None:
        self.threads = setting.threads

    def notes(self) -> tuple[str, ...]:
        return ("sweeps: fastbp validates on one batch after every epoch, the rivals not at all",)

    def setup(self, task: Task) -> None:
        from fastbp.network import MLP

        workload, self.task = task.workload, task
        self.net = MLP(workload.sizes, activation=workload.activation, loss=workload.loss, seed=workload.seed)
        batch = slice(0, workload.batch_size)
        self.held_out = task.X[batch], task.y[batch]

    def reset(self) -> None:
        pass  # every sweep begins at the initial weights

    def train(self, epochs: int, *, shuffle: bool) -> list[float]:
        if not shuffle:
            return self.losses(epochs)
        for _ in range(epochs):
            self.sweep(self.rates, SWEEP_EPOCHS)
        return []

    def sweep(self, rates: Array, epochs: int) -> Any:
        """The result of `lr_sweep`."""
        from fastbp.many.runs import lr_sweep

        workload = self.task.workload
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # the best rate at an edge: here nobody asks for it
            return lr_sweep(
                self.net, self.task.X, self.task.y, rates, seeds=[workload.seed], epochs=epochs,
                batch_size=workload.batch_size, optimizer=workload.make_optimizer(), validation_data=self.held_out,
                threads=self.threads,
            )  # fmt: skip

    def losses(self, n: int) -> list[float]:
        """Those of `fit`, once it is certain that a sweep has its bits; a sweep always shuffles."""
        fits = Loop(FastbpRival())
        fits.setup(self.task)
        fits.reset()
        found = self.sweep(CHECKED, n // len(CHECKED)).train_loss.ravel().tolist()
        if found != fits.losses(n, shuffle=True):
            return [float("nan")] * n
        fits.reset()
        return fits.losses(n, shuffle=False)


class OneThreadSweep(FastbpSweep):
    """The same on one thread, to see what the others are worth."""

    name = ONE_THREAD

    def settings(self, threads: int) -> tuple[Setting, ...]:
        return (Setting(1),)


class HalfDivergingSweep(FastbpSweep):
    """The same with rates of which half diverge, to see what ending these runs early saves."""

    name = HALF_DIVERGING
    rates = DIVERGING_RATES


class Loop(Rival):
    """One training after the other, by a rival of the task "train"; making the networks is not timed."""

    def __init__(self, rival: Rival) -> None:
        self.rival = rival
        self.name, self.package = f"{rival.name}, loop", rival.package

    @property
    def steps_per_epoch(self) -> int:
        """Of one rate: the loop takes as many times as long for all of them, and its trials are short."""
        return self.task.workload.steps_per_epoch // len(SWEEP_RATES)

    def load(self) -> None:
        self.rival.load()

    def unsupported(self, workload: Workload) -> str | None:
        return self.rival.unsupported(workload)

    def version(self) -> str:
        return self.rival.version()

    def settings(self, threads: int) -> tuple[Setting, ...]:
        return self.rival.settings(threads)

    def apply(self, setting: Setting) -> None:
        self.rival.apply(setting)

    def close(self) -> None:
        self.rival.close()

    def notes(self) -> tuple[str, ...]:
        return (*self.rival.notes(), "sweeps: the set-up of the loops is not timed")

    def setup(self, task: Task) -> None:
        self.task = task
        self.rival.setup(at_rate(task, SWEEP_RATES[0]))

    def reset(self) -> None:
        self.by_rate = [self._training(rate) for rate in SWEEP_RATES]
        self.turns = itertools.cycle(self.by_rate)

    def _training(self, rate: float) -> Rival:
        rival = copy.copy(self.rival)
        rival.setup(at_rate(self.task, rate))
        return rival

    def train(self, epochs: int, *, shuffle: bool) -> list[float]:
        if not shuffle:
            return self.losses(epochs, shuffle=False)
        for _ in range(epochs):
            next(self.turns).train(SWEEP_EPOCHS, shuffle=True)
        return []

    def losses(self, n: int, *, shuffle: bool) -> list[float]:
        """Mean loss of each epoch at the rates that are compared, rate by rate."""
        checked = [rival for rival, rate in zip(self.by_rate, SWEEP_RATES, strict=True) if rate in CHECKED]
        return [float(loss) for rival in checked for loss in rival.train(n // len(CHECKED), shuffle=shuffle)]


class JaxSweep(JaxRival):
    """JAX: `jit` of `vmap` over the rates of one `lax.scan` over all steps of all epochs.

    The rows of a batch are gathered once for all rates. Another number of rates or epochs is compiled anew.
    """

    name = "jax, vmap"

    def setup(self, task: Task) -> None:
        super().setup(task)
        jax, loss_function = self.jax, self.make_loss()

        def train(lr: Any, parameters: Any, X: Any, y: Any, order: Any) -> Any:
            def step(parameters: Any, rows: Any) -> Any:
                batch = [array.at[rows].get(mode="promise_in_bounds") for array in (X, y)]
                loss, gradient = jax.value_and_grad(loss_function)(parameters, *batch)
                return jax.tree.map(lambda p, g: p - lr * g, parameters, gradient), loss

            return jax.lax.scan(step, parameters, order)

        self.compiled = jax.jit(jax.vmap(train, in_axes=(0, None, None, None, None)))

    def train(self, epochs: int, *, shuffle: bool) -> list[float]:
        if not shuffle:
            steps = self.sweep(CHECKED, epochs // len(CHECKED), shuffle=False)
            found: list[float] = np.asarray(steps, np.float64).reshape(epochs, -1).mean(axis=1).tolist()
            return found
        for _ in range(epochs):
            self.sweep(SWEEP_RATES, SWEEP_EPOCHS, shuffle=True)
        return []

    def sweep(self, rates: Array, epochs: int, *, shuffle: bool) -> Any:
        """Losses of all steps, ``(K, steps)``, once they and the parameters are there."""
        workload = self.task.workload
        rows = np.arange(workload.n_samples, dtype=np.int32)
        order = np.stack([self.rng.permutation(rows) if shuffle else rows for _ in range(epochs)])
        lr = self.jnp.asarray(rates, workload.dtype)
        order = order.reshape(-1, workload.batch_size)
        return self.jax.block_until_ready(self.compiled(lr, self.parameters, self.X, self.y, order))[1]


def _loop_with(peer: Callable[[], Rival]) -> Callable[[], Rival]:
    return lambda: Loop(peer())


#: Peers by the names of `--peers`.
SWEEPERS: dict[str, Callable[[], Rival]] = {
    name: JaxSweep if name == "jax" else _loop_with(peer) for name, peer in PEERS.items()
}
