"""The interface every rival of the benchmark implements, and the two that are always there: fastbp and NumPy."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np

from fastbp._version import __version__
from fastbp.bench import blas
from fastbp.bench.result import Setting
from fastbp.bench.workloads import Array, Workload
from fastbp.engine.team import default_threads

if TYPE_CHECKING:
    from fastbp.reference import NumpyMLP
    from fastbp.reference.timed import TimedMLP


class MissingPeerError(ImportError):
    """A peer was asked for that is not installed; the message says how to mend it."""


@dataclass(frozen=True)
class Task:
    """A workload made concrete: what every rival is handed, and must not write to."""

    workload: Workload
    X: Array  # (n_samples, n_in)
    y: Array  # (n_samples,) int64 or (n_samples, n_out)
    weights: list[Array]  # one (n_in, n_out) a layer
    biases: list[Array]  # one (n_out,) a layer

    @classmethod
    def of(cls, workload: Workload) -> Task:
        """Generate the data and the initial weights."""
        return cls(workload, *workload.data(), *workload.initial_weights())


class Rival(ABC):
    """One way to train a workload: `load` and `setup` once, then `apply`, `reset` and `train` any number of times."""

    name: str
    package: str  # the distribution whose version is reported
    precision: str = "float32"  # of the operands of its products, in float32 networks
    task: Task  # from `setup` on

    @property
    def steps_per_epoch(self) -> int:
        """Steps in an epoch of `train`."""
        return self.task.workload.steps_per_epoch

    def load(self) -> None:  # noqa: B027 (nothing to import is a valid answer)
        """Import what the rival needs; raises MissingPeerError."""

    def unsupported(self, workload: Workload) -> str | None:
        """Why it cannot run this workload, or None if it can."""
        return None

    @abstractmethod
    def setup(self, task: Task) -> None:
        """Prepare the data in the rival's own form; untimed."""

    @abstractmethod
    def reset(self) -> None:
        """Back to the task's initial weights and a fresh optimiser; untimed, so that every block does the same work."""

    @abstractmethod
    def train(self, epochs: int, *, shuffle: bool) -> list[float]:
        """Train on, and return the mean loss of each epoch; on return all work is done.

        With `shuffle=False` the batches are the rows in stored order, which is how rivals are compared. With
        `shuffle=True` each rival shuffles the way its users do, which is how they are timed. (The whole number of
        epochs comes in one call because that is how `MLP.fit` and scikit-learn are used.)
        """

    def settings(self, threads: int) -> tuple[Setting, ...]:
        """The settings worth trying with up to this many threads."""
        return tuple(Setting(n) for n in thread_counts(threads))

    def apply(self, setting: Setting) -> None:  # noqa: B027 (a rival without settings is valid)
        """Use this setting from the next `reset` on."""

    def close(self) -> None:  # noqa: B027
        """Undo what `apply` changed in the process."""

    def notes(self) -> tuple[str, ...]:
        """What a reader of its figures must know."""
        return ()

    def version(self) -> str:
        """The installed version."""
        return metadata.version(self.package)


def thread_counts(threads: int) -> list[int]:
    """One thread, half of them (the physical cores where every core is two threads), and all."""
    return sorted({1, max(1, threads // 2), threads})


class FastbpRival(Rival):
    """`fastbp.MLP.fit`, many epochs in a call."""

    name = "fastbp"
    package = "fastbp"

    def __init__(self, network: Mapping[str, Any] | None = None, fit: Mapping[str, Any] | None = None) -> None:
        self.threads: int | None = None
        self.network_options, self.fit_options = dict(network or {}), dict(fit or {})  # beyond those of the workload

    def version(self) -> str:
        return __version__  # not the metadata: a source tree need not be installed

    def settings(self, threads: int) -> tuple[Setting, ...]:
        # Its own choice, made anew as it runs, is what users get, and what a short trial cannot know: on a shared
        # host a second thread that won the trial on `digits` took twice as long a second later.
        return (Setting(),) if threads == default_threads() else super().settings(threads)

    def setup(self, task: Task) -> None:
        self.task = task
        self.reset()

    def apply(self, setting: Setting) -> None:
        self.threads = setting.threads

    def reset(self) -> None:
        from fastbp.network import MLP

        workload = self.task.workload
        options: dict[str, Any] = {"activation": workload.activation, "loss": workload.loss, "dtype": workload.dtype}
        self.net = MLP(workload.sizes, seed=workload.seed, **(options | self.network_options))
        self.net.set_weights(self.task.weights, self.task.biases)

    def train(self, epochs: int, *, shuffle: bool) -> list[float]:
        workload = self.task.workload
        options: dict[str, Any] = {
            "batch_size": workload.batch_size,
            "optimizer": workload.make_optimizer(),
            "threads": self.threads,
        }
        history = self.net.fit(self.task.X, self.task.y, epochs=epochs, shuffle=shuffle, **(options | self.fit_options))
        return list(history.loss)


class BlasThreads(Rival):
    """A rival whose threads are those of NumPy's BLAS."""

    def __init__(self) -> None:
        self._limit = contextlib.ExitStack()

    def settings(self, threads: int) -> tuple[Setting, ...]:
        return super().settings(threads) if blas.can_limit() else (Setting(),)

    def apply(self, setting: Setting) -> None:
        self.close()
        self._limit.enter_context(blas.limit(setting.threads))

    def close(self) -> None:
        self._limit.close()

    def notes(self) -> tuple[str, ...]:
        return () if blas.can_limit() else (blas.MISSING,)


class NumpyRival(BlasThreads):
    """`fastbp.reference.NumpyMLP.fit`: the baseline, and in float64 the oracle of the verification."""

    name = "numpy"
    package = "numpy"

    def setup(self, task: Task) -> None:
        self.task = task
        self.reset()

    @property
    def network(self) -> type[NumpyMLP]:
        """What is trained."""
        from fastbp.reference import NumpyMLP

        return NumpyMLP

    def reset(self) -> None:
        workload = self.task.workload
        self.net = self.network(
            workload.sizes,
            activation=workload.activation,
            loss=workload.loss,
            dtype=workload.dtype,
            seed=workload.seed,
        )
        self.net.set_weights(self.task.weights, self.task.biases)

    def train(self, epochs: int, *, shuffle: bool) -> list[float]:
        workload = self.task.workload
        history = self.net.fit(
            self.task.X,
            self.task.y,
            epochs=epochs,
            batch_size=workload.batch_size,
            optimizer=workload.make_optimizer(),
            shuffle=shuffle,
        )
        return list(history.loss)


class NumpyParts(NumpyRival):
    """The baseline with a clock in it: what its step spends beyond the bare products, and on what."""

    name = "numpy, by parts"

    def setup(self, task: Task) -> None:
        self.epochs: list[dict[str, float]] = []
        super().setup(task)

    net: TimedMLP

    @property
    def network(self) -> type[TimedMLP]:
        from fastbp.reference.timed import TimedMLP

        return TimedMLP

    def train(self, epochs: int, *, shuffle: bool) -> list[float]:
        losses = super().train(epochs, shuffle=shuffle)
        self.epochs += self.net.epochs[-epochs:]
        return losses

    def parts(self) -> dict[str, float]:
        """Seconds a step by part: medians over the epochs trained so far."""
        names = self.epochs[0]
        return {name: median(epoch[name] for epoch in self.epochs) / self.steps_per_epoch for name in names}


class BareProducts(BlasThreads):
    """Only the matrix products of the steps, into preallocated arrays: what no NumPy implementation can beat."""

    name = "bare products"
    package = "numpy"

    def setup(self, task: Task) -> None:
        self.task = task
        workload = task.workload
        rng, dtype, rows = np.random.default_rng(workload.seed), workload.dtype, workload.batch_size

        def filled(*shape: int) -> Array:
            return rng.standard_normal(shape).astype(dtype)

        def empty(*shape: int) -> Array:
            return np.empty(shape, dtype)

        self.products: list[tuple[Array, Array, Array]] = []  # (left, right, out)
        for layer, (n_in, n_out) in enumerate(pairwise(workload.sizes)):
            A, W, delta = filled(rows, n_in), filled(n_in, n_out), filled(rows, n_out)
            self.products.append((A, W, empty(rows, n_out)))  # forward
            self.products.append((A.T, delta, empty(n_in, n_out)))  # weight gradient
            if layer:
                self.products.append((delta, W.T, empty(rows, n_in)))  # delta of the layer before

    def reset(self) -> None:
        pass

    def train(self, epochs: int, *, shuffle: bool) -> list[float]:
        matmul, products = np.matmul, self.products
        for _ in range(epochs * self.task.workload.steps_per_epoch):
            for left, right, out in products:
                matmul(left, right, out)
        return []
