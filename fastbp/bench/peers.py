"""The peers of the extra `peers`, imported lazily: scikit-learn, PyTorch (eager), JAX (one jit of an epoch's scan)."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np

from fastbp.bench.result import Setting
from fastbp.bench.rivals import BlasThreads, MissingPeerError, Rival, Task
from fastbp.bench.workloads import Workload


def require(module: str, peer: str) -> Any:
    """Import a module of a peer, or say how to install it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingPeerError(f'peer "{peer}" is not installed: pip install "fastbp[peers]"') from error


def _not_written(workload: Workload) -> str | None:
    """What of a workload the programs below were not written for, if there is anything."""
    if workload.loss not in ("cross_entropy", "mse"):
        return f"is measured with cross_entropy and mse alone, not with {workload.loss}"
    if workload.optimizer not in ("sgd", "adam"):
        return f"is measured with sgd and adam alone, not with {workload.optimizer}"
    return None


class SklearnRival(BlasThreads):
    """scikit-learn's MLPClassifier or MLPRegressor: `fit` with `warm_start`, so that it starts from the given weights.

    Its squared error is half the mean over the outputs, and its gradient sums over them: (p - y) / N where ours is
    2 (p - y) / (N M). Its losses are doubled, and SGD's learning rate or Adam's eps rescaled, to train the same.
    """

    name = "sklearn"
    package = "scikit-learn"
    activations: ClassVar = {"identity": "identity", "sigmoid": "logistic", "tanh": "tanh", "relu": "relu"}

    def load(self) -> None:
        self.module = require("sklearn.neural_network", self.name)
        self.warning = require("sklearn.exceptions", self.name).ConvergenceWarning

    def unsupported(self, workload: Workload) -> str | None:
        if workload.activation not in self.activations:
            return f"has no activation {workload.activation}"
        return _not_written(workload)

    def setup(self, task: Task) -> None:
        self.task = task
        self.squared = task.workload.loss == "mse"
        # MLPRegressor wants (n,) when there is one output.
        self.y = task.y[:, 0] if self.squared and task.y.shape[1] == 1 else task.y
        self.reset()

    def reset(self) -> None:
        workload, n_out = self.task.workload, self.task.workload.sizes[-1]
        kind = self.module.MLPRegressor if self.squared else self.module.MLPClassifier
        scale = n_out / 2 if self.squared else 1.0  # its gradient over ours
        self.model = kind(
            hidden_layer_sizes=workload.sizes[1:-1],
            activation=self.activations[workload.activation],
            solver=workload.optimizer,
            alpha=0.0,
            batch_size=workload.batch_size,
            learning_rate_init=workload.lr / scale if workload.optimizer == "sgd" else workload.lr,
            momentum=0.0,
            nesterovs_momentum=False,
            epsilon=1e-8 * scale,
            n_iter_no_change=np.inf,
            warm_start=True,
            random_state=workload.seed,
        )
        self.train(1, shuffle=False)  # creates coefs_ and intercepts_
        for parameters, initial in ((self.model.coefs_, self.task.weights), (self.model.intercepts_, self.task.biases)):
            for parameter, value in zip(parameters, initial, strict=True):
                parameter[...] = value

    def train(self, epochs: int, *, shuffle: bool) -> list[float]:
        self.model.set_params(max_iter=epochs, shuffle=shuffle)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", self.warning)  # max_iter is what we asked for
            self.model.fit(self.task.X, self.y)
        factor = 2.0 if self.squared else 1.0
        return [factor * float(loss) for loss in self.model.loss_curve_[-epochs:]]

    def notes(self) -> tuple[str, ...]:
        mse = "sklearn minimises half the squared error: losses doubled, learning rate (Adam: eps) rescaled to match"
        return (*super().notes(), mse) if self.squared else super().notes()


class TorchRival(Rival):
    """PyTorch, eager: the standard loop over preloaded tensors, each batch indexed by a slice of a permutation."""

    name = "torch"
    package = "torch"

    def __init__(self) -> None:
        self.variant = ""

    def load(self) -> None:
        self.torch = require("torch", self.name)
        self.threads_before = self.torch.get_num_threads()

    def settings(self, threads: int) -> tuple[Setting, ...]:
        # The optimisers' fused CPU kernels save several dispatches a step; whether they win depends on the sizes.
        plain = super().settings(threads)
        return (*plain, *(Setting(setting.threads, "fused") for setting in plain))

    def apply(self, setting: Setting) -> None:
        self.torch.set_num_threads(setting.threads)
        self.variant = setting.variant

    def close(self) -> None:
        self.torch.set_num_threads(self.threads_before)

    def unsupported(self, workload: Workload) -> str | None:
        return _not_written(workload)

    def setup(self, task: Task) -> None:
        self.task = task
        self.X, self.y = self.torch.from_numpy(task.X), self.torch.from_numpy(task.y)
        self.reset()

    def reset(self) -> None:
        torch, workload = self.torch, self.task.workload
        torch.manual_seed(workload.seed)
        named = workload.activation.replace("_", "")
        activation = next(kind for name, kind in vars(torch.nn).items() if name.lower() == named)
        layers: list[Any] = []
        for weight, bias in zip(self.task.weights, self.task.biases, strict=True):
            linear = torch.nn.Linear(*weight.shape, dtype=getattr(torch, workload.dtype))
            with torch.no_grad():
                linear.weight.copy_(torch.tensor(weight.T))  # a copy; torch.from_numpy warns of read-only arrays
                linear.bias.copy_(torch.tensor(bias))
            layers += [linear, activation()]
        self.model = torch.nn.Sequential(*layers[:-1])
        self.loss = torch.nn.MSELoss() if workload.loss == "mse" else torch.nn.CrossEntropyLoss()
        kind = torch.optim.SGD if workload.optimizer == "sgd" else torch.optim.Adam
        # None, not False, leaves PyTorch its own default (foreach or a loop) in the plain variant.
        self.optimizer = kind(self.model.parameters(), lr=workload.lr, fused=True if self.variant == "fused" else None)

    def train(self, epochs: int, *, shuffle: bool) -> list[float]:
        torch, model, optimizer, loss_function = self.torch, self.model, self.optimizer, self.loss
        X, y, batch_size = self.X, self.y, self.task.workload.batch_size
        means = []
        for _ in range(epochs):
            order = torch.randperm(len(X)) if shuffle else torch.arange(len(X))
            total = torch.zeros((), dtype=torch.float64)
            for start in range(0, len(X), batch_size):
                rows = order[start : start + batch_size]
                optimizer.zero_grad()
                loss = loss_function(model(X[rows]), y[rows])
                loss.backward()
                optimizer.step()
                total += loss.detach()
            means.append(float(total) / self.task.workload.steps_per_epoch)
        return means


class JaxRival(Rival):
    """JAX: one jit of a whole epoch's `lax.scan`, buffers donated, the permutation made on the host.

    (JAX's own permutation costs milliseconds on the CPU.) Targets are one-hot: the gather of a class's logit has a
    scatter for its gradient, which XLA runs as a serial loop on the CPU.
    """

    name = "jax"
    package = "jax"

    def load(self) -> None:
        self.jax = require("jax", self.name)
        self.jnp = require("jax.numpy", self.name)

    def settings(self, threads: int) -> tuple[Setting, ...]:
        return (Setting(),)

    def notes(self) -> tuple[str, ...]:
        return (f"{self.name}: runs on its own threads; XLA reads their number from the environment, once",)

    def unsupported(self, workload: Workload) -> str | None:
        return _not_written(workload)

    def setup(self, task: Task) -> None:
        jnp, workload = self.jnp, task.workload
        if workload.dtype == "float64":
            self.jax.config.update("jax_enable_x64", True)
        self.task = task
        targets = np.eye(workload.sizes[-1])[task.y] if workload.loss == "cross_entropy" else task.y
        self.X, self.y = jnp.asarray(task.X), jnp.asarray(targets, workload.dtype)
        self.epoch = self.jax.jit(self._epoch_function(), donate_argnums=(0, 1))
        self.rng = np.random.default_rng(workload.seed)
        self.reset()

    def reset(self) -> None:
        jax, jnp = self.jax, self.jnp

        # Copies, since asarray may borrow NumPy's memory, which must not be donated.
        def array(value: Any) -> Any:
            return jnp.array(value, self.task.workload.dtype, copy=True)

        self.parameters = [(array(W), array(b)) for W, b in zip(self.task.weights, self.task.biases, strict=True)]
        moments = [jax.tree.map(jnp.zeros_like, self.parameters) for _ in range(2)]
        self.state = (jnp.zeros((), "int32"), *moments) if self.task.workload.optimizer == "adam" else ()

    def train(self, epochs: int, *, shuffle: bool) -> list[float]:
        workload = self.task.workload
        shape, stored = (workload.steps_per_epoch, workload.batch_size), np.arange(workload.n_samples, dtype=np.int32)
        losses = []
        for _ in range(epochs):
            order = (self.rng.permutation(stored) if shuffle else stored).reshape(shape)
            self.parameters, self.state, loss = self.epoch(self.parameters, self.state, self.X, self.y, order)
            losses.append(loss)
        self.jax.block_until_ready((self.parameters, losses))
        return [float(loss) for loss in losses]

    def _epoch_function(self) -> Callable[..., Any]:
        """(parameters, state, X, y, order (steps, batch_size)) -> (parameters, state, mean loss)."""
        jax = self.jax
        loss_function, update = self.make_loss(), self._update_function()

        def epoch(parameters: Any, state: Any, X: Any, y: Any, order: Any) -> Any:
            def step(carry: Any, rows: Any) -> Any:
                parameters, state = carry
                # The rows are in range; the default mode would mask every one of them.
                batch = [array.at[rows].get(mode="promise_in_bounds") for array in (X, y)]
                loss, gradient = jax.value_and_grad(loss_function)(parameters, *batch)
                return update(parameters, state, gradient), loss

            (parameters, state), losses = jax.lax.scan(step, (parameters, state), order)
            return parameters, state, losses.mean()

        return epoch

    def make_loss(self) -> Callable[..., Any]:
        jax, jnp, workload = self.jax, self.jnp, self.task.workload
        functions = {"identity": lambda z: z, "tanh": jnp.tanh, "gelu": lambda z: jax.nn.gelu(z, approximate=False)}
        activation = functions.get(workload.activation) or getattr(jax.nn, workload.activation)
        squared = workload.loss == "mse"

        def loss_function(parameters: Any, X: Any, y: Any) -> Any:
            for weight, bias in parameters[:-1]:
                X = activation(X @ weight + bias)
            z = X @ parameters[-1][0] + parameters[-1][1]
            return jnp.mean((z - y) ** 2) if squared else -jnp.mean(jnp.sum(y * jax.nn.log_softmax(z), axis=1))

        return loss_function

    def _update_function(self) -> Callable[..., Any]:
        jax, jnp, lr = self.jax, self.jnp, self.task.workload.lr
        tree_map = jax.tree.map

        def sgd(parameters: Any, state: Any, gradient: Any) -> Any:
            return tree_map(lambda p, g: p - lr * g, parameters, gradient), state

        def adam(parameters: Any, state: Any, gradient: Any) -> Any:
            step, m, v = state
            step = step + 1
            m = tree_map(lambda m, g: 0.9 * m + 0.1 * g, m, gradient)
            v = tree_map(lambda v, g: 0.999 * v + 0.001 * g * g, v, gradient)
            power = step.astype(self.task.workload.dtype)
            size, root = lr / (1 - 0.9**power), jnp.sqrt(1 - 0.999**power)
            change = tree_map(lambda m, v: size * m / (jnp.sqrt(v) / root + 1e-8), m, v)
            return tree_map(lambda p, c: p - c, parameters, change), (step, m, v)

        return sgd if self.task.workload.optimizer == "sgd" else adam


PEERS: dict[str, Callable[[], Rival]] = {"sklearn": SklearnRival, "torch": TorchRival, "jax": JaxRival}
