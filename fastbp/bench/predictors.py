"""Inference side by side: fastbp, NumPy and, where installed, PyTorch and ONNX Runtime, each as its users call it."""

from __future__ import annotations

import tempfile
from abc import abstractmethod
from collections.abc import Callable
from pathlib import Path

import numpy as np

from fastbp._version import __version__
from fastbp.bench.peers import TorchRival, require
from fastbp.bench.result import Setting
from fastbp.bench.rivals import BlasThreads, NumpyRival, Rival, Task, thread_counts
from fastbp.bench.workloads import Array

CHECKED_ROWS = 2_000  # whose loss is compared


class Predictor(Rival):
    """A rival whose step is one call of the forward pass over all rows."""

    def setup(self, task: Task) -> None:
        self.task = task

    def reset(self) -> None:
        pass

    @abstractmethod
    def outputs(self) -> Array:
        """The logits of all rows, ready for NumPy."""

    def train(self, epochs: int, *, shuffle: bool) -> list[float]:
        """With `shuffle` only the calls, as they are timed; without, the loss of the first rows, as it is compared."""
        if shuffle:
            call = self.outputs
            for _ in range(epochs):
                call()
            return []
        return [cross_entropy(self.outputs()[:CHECKED_ROWS], self.task.y[:CHECKED_ROWS])] * epochs


def cross_entropy(logits: Array, classes: Array) -> float:
    """Mean cross-entropy in float64."""
    z = np.asarray(logits, np.float64)
    z = z - z.max(axis=1, keepdims=True)
    picked = np.take_along_axis(z, np.asarray(classes)[:, None], axis=1)[:, 0]
    return float(np.mean(np.log(np.exp(z).sum(axis=1)) - picked))


def expected_losses_of_rows(task: Task) -> tuple[float, ...]:
    """The loss of the first rows by NumPy in float64."""
    a = task.X[:CHECKED_ROWS].astype(np.float64)
    for k, (weight, bias) in enumerate(zip(task.weights, task.biases, strict=True)):
        z = a @ weight.astype(np.float64) + bias
        a = np.maximum(z, 0.0) if k < len(task.weights) - 1 else z
    return (cross_entropy(a, task.y[:CHECKED_ROWS]),)


class FastbpPredictor(Predictor):
    """`net.forward`, which chooses its threads by itself."""

    name = "fastbp"
    package = "fastbp"

    def version(self) -> str:
        return __version__

    def settings(self, threads: int) -> tuple[Setting, ...]:
        return (Setting(),)  # inference takes no number of threads

    def setup(self, task: Task) -> None:
        from fastbp.network import MLP

        super().setup(task)
        workload = task.workload
        self.net = MLP(workload.sizes, activation=workload.activation, dtype=workload.dtype, seed=0)
        self.net.set_weights(task.weights, task.biases)

    def outputs(self) -> Array:
        return self.net.forward(self.task.X)


class NumpyPredictor(BlasThreads, Predictor):
    """Products, biases and maxima into buffers made once, as fast NumPy code would do it."""

    name = NumpyRival.name
    package = NumpyRival.package

    def setup(self, task: Task) -> None:
        super().setup(task)
        rows = len(task.X)
        self.layers = [
            (weight, bias, np.empty((rows, len(bias)), weight.dtype))
            for weight, bias in zip(task.weights, task.biases, strict=True)
        ]

    def outputs(self) -> Array:
        a = self.task.X
        for weight, bias, z in self.layers[:-1]:
            np.add(np.dot(a, weight, out=z), bias, out=z)
            a = np.maximum(z, 0.0, out=z)
        weight, bias, z = self.layers[-1]
        return np.add(np.dot(a, weight, out=z), bias, out=z)


class TorchPredictor(TorchRival, Predictor):
    """A `Sequential` under `inference_mode`."""

    train = Predictor.train

    def settings(self, threads: int) -> tuple[Setting, ...]:
        return tuple(Setting(n) for n in thread_counts(threads))

    def outputs(self) -> Array:
        with self.torch.inference_mode():
            found: Array = self.model(self.X).numpy()
        return found


class OnnxRuntimePredictor(Predictor):
    """One session over the same network, as `net.to_onnx` writes it."""

    name = "onnxruntime"
    package = "onnxruntime"

    def load(self) -> None:
        self.runtime = require("onnxruntime", self.name)
        require("onnx", self.name)

    def setup(self, task: Task) -> None:
        from fastbp.network import MLP

        super().setup(task)
        workload = task.workload
        net = MLP(workload.sizes, activation=workload.activation, loss="mse", dtype=workload.dtype, seed=0)
        net.set_weights(task.weights, task.biases)
        with tempfile.TemporaryDirectory() as folder:
            net.to_onnx(path := Path(folder) / "net.onnx")
            self.model = path.read_bytes()
        self.apply(Setting(1))

    def apply(self, setting: Setting) -> None:
        options = self.runtime.SessionOptions()
        options.intra_op_num_threads = setting.threads
        self.session = self.runtime.InferenceSession(self.model, options, providers=["CPUExecutionProvider"])

    def outputs(self) -> Array:
        found: Array = self.session.run(None, {"X": self.task.X})[0]
        return found.reshape(len(found), -1)


#: Peers by the names of `--peers`; the others have no inference of their own.
PREDICTORS: dict[str, Callable[[], Rival]] = {"torch": TorchPredictor, "onnxruntime": OnnxRuntimePredictor}
