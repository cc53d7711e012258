"""A pure-NumPy network: the tests' oracle and the benchmark's baseline, so both obvious and as fast as good NumPy gets.

It shares no arithmetic with the kernels; its own is in `reference_math.py`. What makes it fast: every buffer is
allocated once per batch size, every operation writes into one (`out=`), parameters, gradient and optimiser state are
flat vectors of which the weights are views (an update is a handful of calls for the whole net), and targets are one
matrix, so losses need no indexing. Measured choices: `np.dot` has 1 us less overhead than `np.matmul` on small operands
and calls the same BLAS; sums over an axis are dot products with ones, 2 to 4 times faster than `np.add.reduce`.
"""

from __future__ import annotations

import importlib
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from fastbp import initializers, regularization, validation
from fastbp.attributes import Settled
from fastbp.datasets import split_rows
from fastbp.errors import DivergenceError
from fastbp.losses import check_softmax
from fastbp.numerics import quiet as _quiet
from fastbp.reference.functions import (
    ACTIVATIONS,
    CLASSIFIES,
    LINKED,
    LOSSES,
    OPTIMIZERS,
    Array,
    Layer,
    Workspace,
    initial_state,
    norm,
    sigmoid,
    weighted,
)
from fastbp.reference.noise import dropout_factors, hold_norms, normal, penalise, random_bits


@dataclass
class History:
    """One entry an epoch; `val_*` stay empty without validation data. `loss` is measured before each update."""

    loss: list[float] = field(default_factory=list)
    val_loss: list[float] = field(default_factory=list)
    val_score: list[float] = field(default_factory=list)
    lr: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    score_name: str = ""


class Gradient(NamedTuple):
    """What backpropagation finds, as copies: the loss and its derivatives."""

    loss: float
    weights: list[Array]  # (n_in, n_out) each
    biases: list[Array]  # (n_out,) each
    inputs: Array  # (rows, n_in)


def _describe(registry: str, choice: Any) -> Any:
    """The frozen description of a loss, optimiser or activation; a string means its defaults."""
    return importlib.import_module(f"fastbp.{registry}").get(choice) if isinstance(choice, str) else choice


def _r2(p: Array, y: Array, weights: Array | None) -> float:
    """Share of the variance explained, averaged over the targets; a constant target counts 1 if met exactly, else 0."""
    w = np.ones(len(y)) if weights is None else weights
    residual = w @ np.square(p - y, dtype=np.float64)
    total = w @ np.square(y - (y.mean(axis=0, dtype=np.float64) if weights is None else w @ y / w.sum()))
    varies = np.ptp(y[w > 0], axis=0) > 0  # told by the total, it would hang on the rounding of the mean
    return float(np.where(varies, 1 - residual / np.where(varies, total, 1), residual == 0).mean())


class NumpyMLP(Settled):
    """A feed-forward network in pure NumPy, with the meaning (and the initial weights) of `fastbp.MLP`.

    Constructor and methods are those of `fastbp.MLP`, as far as they are here; `fit(order=...)` is extra, to replay the
    batches of another trainer. Input is converted, its shapes and labels are checked, and no more: NaN and infinity go
    in and come out, in predictions too, so that activations can be compared over all numbers.
    """

    SETTABLE = ("seed",)
    FIXED = dict.fromkeys(("sizes", "loss", "dtype", "held", "dropout", "weights", "biases"), "make a new one")

    def __init__(
        self,
        sizes: Sequence[int],
        *,
        activation: Any = "relu",
        output_activation: Any = None,
        loss: Any = "cross_entropy",
        init: str | None = None,
        dropout: float | Sequence[float] = 0.0,
        input_noise: float = 0.0,
        l1: float = 0.0,
        l2: float = 0.0,
        max_norm: float | None = None,
        dtype: DTypeLike = "float32",
        seed: int | None = None,
    ) -> None:
        self.sizes = validation.check_sizes(sizes)
        self.dtype = np.dtype(dtype)
        checked = validation.check_seed(seed)
        self.seed = int(np.random.SeedSequence().generate_state(1)[0]) if checked is None else checked
        self.loss = _describe("losses", loss)
        check_softmax(self.loss, self.sizes[-1])
        if output_activation is not None and self.loss.name in LINKED:
            raise ValueError(f"output_activation must be None for {self.loss.name}; got {output_activation!r}")
        self.held = regularization.check(dropout, input_noise, l1, l2, max_norm, len(self.sizes) - 2)
        hidden = list(activation) if isinstance(activation, list | tuple) else [activation] * (len(self.sizes) - 2)
        named = [*hidden, "identity" if output_activation is None else output_activation]
        self._activations = [_describe("activations", choice).name for choice in named]
        weights, biases = initializers.initial_weights(self.sizes, self._activations, init, self.seed, self.dtype)
        self.n_parameters = sum(w.size + b.size for w, b in zip(weights, biases, strict=True))
        self._parameters = np.empty(self.n_parameters, self.dtype)
        self._bind()
        self._layout: tuple[str, int] | None = None
        self._state: list[Array] = []
        self.set_weights(weights, biases)
        self.reset_optimizer()
        self._settled = True

    def _bind(self) -> None:
        """Make what depends on the flat parameters: gradient, the layers' views of both, an empty set of buffers."""
        self._gradient, self._spare = np.empty_like(self._parameters), np.empty_like(self._parameters)
        self._workspaces: dict[int, Workspace] = {}
        self._layers: list[Layer] = []
        start = 0
        for n_in, n_out, name in zip(self.sizes[:-1], self.sizes[1:], self._activations, strict=True):
            middle, end = start + n_in * n_out, start + n_in * n_out + n_out
            p, g = self._parameters, self._gradient
            weight, d_weight = p[start:middle].reshape(n_in, n_out), g[start:middle].reshape(n_in, n_out)
            self._layers.append(Layer(weight, p[middle:end], d_weight, g[middle:end], ACTIVATIONS[name]))
            start = end

    def __getstate__(self) -> dict[str, Any]:
        # Views of the flat vectors, pickled or copied one by one, would no longer be views.
        views = ("_gradient", "_spare", "_workspaces", "_layers")
        return {name: value for name, value in self.__dict__.items() if name not in views}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        # copy.copy hands over the very arrays of the original.
        self._parameters, self._state = self._parameters.copy(), [part.copy() for part in self._state]
        self._bind()

    @property
    def weights(self) -> list[Array]:
        """Copies of the weights, `(n_in, n_out)` each."""
        return [layer.weight.copy() for layer in self._layers]

    @property
    def biases(self) -> list[Array]:
        """Copies of the biases, `(n_out,)` each."""
        return [layer.bias.copy() for layer in self._layers]

    @_quiet
    def set_weights(self, weights: Sequence[ArrayLike], biases: Sequence[ArrayLike]) -> None:
        """Replace all weights and biases."""
        for layer, *values in zip(self._layers, weights, biases, strict=True):
            for parameter, value in zip((layer.weight, layer.bias), values, strict=True):
                if np.shape(value) != parameter.shape:
                    raise ValueError(f"weights and biases must fit sizes {self.sizes}; expected an array of shape "
                                     f"{parameter.shape}, got {np.shape(value)}")  # fmt: skip
                parameter[...] = value

    def reset_optimizer(self) -> None:
        """Forget the optimiser's state and the step and epoch counters."""
        self._layout, self._state = None, []
        self._step = self._epoch = 0

    # -- one batch --

    def _forward(self, ws: Workspace, inputs: Array, kept: dict[int, Array] | None = None) -> list[Array]:
        """Fill z and a of every layer; `kept` are the factors of dropout. Returns the inputs of each layer."""
        each = [inputs]
        for k, (layer, z, a, delta) in enumerate(zip(self._layers, ws.z, ws.a, ws.deltas, strict=True)):
            np.add(np.dot(each[k], layer.weight, out=z), layer.bias, out=z)
            if layer.activation:
                layer.activation.forward(z, a, delta)
            each.append(a * kept[k] if kept and k in kept else a)
        return each

    def _backward(self, ws: Workspace, each: list[Array], kept: dict[int, Array]) -> None:
        """From dJ/dp in the last delta to the flat gradient; destroys the activations."""
        for k in range(len(self._layers) - 1, -1, -1):
            layer, delta = self._layers[k], ws.deltas[k]
            if layer.activation:
                layer.activation.derivative(ws.z[k], ws.a[k])
                np.multiply(delta, ws.a[k], out=delta)
            if k in kept:
                np.multiply(delta, kept[k], out=delta)
            np.dot(each[k].T, delta, out=layer.d_weight)
            np.dot(ws.ones_rows, delta, out=layer.d_bias)
            if k:
                np.dot(delta, layer.weight.T, out=ws.deltas[k - 1])

    def _differentiate(
        self, ws: Workspace, inputs: Array, weights: Array | None = None, *, training: bool = True
    ) -> float:
        kept: dict[int, Array] = {}
        if training and self.held.noisy:
            inputs, kept = self._draw(inputs)
        each = self._forward(ws, inputs, kept)
        loss = self._cost(ws, weights)
        self._backward(ws, each, kept)
        return loss

    def _draw(self, inputs: Array) -> tuple[Array, dict[int, Array]]:
        """The inputs with the noise of the next step, and its factors of dropout by layer."""

        def bits(layer: int, units: int) -> Array:
            return random_bits(self.seed, self._step, layer, len(inputs), units)

        if self.held.input_noise:
            noise = normal(bits(0, inputs.shape[1]))
            inputs = inputs + (self.held.input_noise * noise).astype(self.dtype)
        factors = dropout_factors
        return inputs, {
            k: factors(chance, bits(k + 1, self.sizes[k + 1])).astype(self.dtype)
            for k, chance in enumerate(self.held.chances)
            if chance
        }

    def _cost(self, ws: Workspace, weights: Array | None) -> float:
        """J of the outputs in the workspace, and dJ/dp in its last delta."""
        loss = LOSSES[self.loss.name]
        return loss(ws, self.loss) if weights is None else weighted(loss, ws, self.loss, weights)

    def _weights(self, y: ArrayLike, sample_weight: ArrayLike | None) -> tuple[ArrayLike, Array | None]:
        """Targets, ignored labels made class 0, and the weights of the rows, 0 for these; None if all are equal."""
        weights = None if sample_weight is None else np.asarray(sample_weight, np.float64)
        if weights is not None and (weights.shape != (len(np.asarray(y)),) or not np.all(weights >= 0)):
            raise ValueError(f"sample_weight must hold a number of at least 0 for each row; got {weights}")
        labels, ignored = np.asarray(y), self.loss.ignored_label
        if ignored is None or labels.ndim != 1 or not np.any(labels == ignored):
            return y, weights
        counted = labels != ignored
        return np.where(counted, labels, 0), np.where(counted, 1.0 if weights is None else weights, 0.0)

    def _prepare(self, optimizer: Any) -> Any:
        """The optimiser's description, with the state that it needs in place: kept while the layout stays, else new."""
        recipe = _describe("optimizers", optimizer)
        if recipe.name not in OPTIMIZERS:
            raise ValueError(f"optimizer must be one of {', '.join(OPTIMIZERS)} here, got {recipe.name}")
        if recipe.state_layout != self._layout:
            self.reset_optimizer()
            self._layout = recipe.state_layout
            self._state = [np.full_like(self._parameters, value) for value in initial_state(recipe)]
        return recipe

    def _update(self, recipe: Any) -> None:
        vars(self)["_step"] += 1  # past `__setattr__`, which costs 0.2 us
        rule = OPTIMIZERS[recipe.name]
        for layer in self._layers if self.held.l1 or self.held.l2 else ():
            penalise(self.held, layer.weight, layer.d_weight)
        if recipe.clip_norm is not None:
            scale = min(1.0, recipe.clip_norm / (norm(self._gradient) + 1e-6))
            np.multiply(self._gradient, np.float64(scale), out=self._gradient, casting="same_kind")
        if recipe.clip_value is not None:
            np.clip(self._gradient, -recipe.clip_value, recipe.clip_value, out=self._gradient)
        rule(recipe, self._step, self._parameters, self._gradient, self._state, self._spare)
        for layer in self._layers if self.held.max_norm else ():
            hold_norms(self.held.max_norm or 0.0, layer.weight)

    def _workspace(self, rows: int) -> Workspace:
        if rows not in self._workspaces:
            if len(self._workspaces) == 4:  # two batch sizes, validation, and one to spare
                del self._workspaces[next(iter(self._workspaces))]
            self._workspaces[rows] = Workspace(rows, self.sizes[0], self._layers, self.dtype)
        return self._workspaces[rows]

    def _inputs(self, X: ArrayLike) -> Array:
        inputs = np.ascontiguousarray(X, self.dtype)
        if inputs.ndim != 2 or inputs.shape[1] != self.sizes[0]:
            raise ValueError(f"X must have shape (n, {self.sizes[0]}); got {inputs.shape}")
        return inputs

    def _targets(self, y: ArrayLike, rows: int) -> Array:
        """Targets as a matrix `(rows, n_out)`; classes become one-hot rows."""
        y, n_out = np.asarray(y), self.sizes[-1]
        if self.loss.name == "cross_entropy" and y.shape == (rows,):
            if y.dtype.kind not in "iub":
                raise TypeError(f"y must hold integer classes or probabilities (n, {n_out}); got {y.dtype} {y.shape}")
            if rows and not (y.min() >= 0 and y.max() < n_out):
                raise ValueError(f"y must hold classes 0 to {n_out - 1}; got {y.min()} to {y.max()}")
            targets = np.zeros((rows, n_out), self.dtype)
            targets[np.arange(rows), y.astype(np.intp)] = 1
            return targets
        if y.shape != (rows, n_out) and not (n_out == 1 and y.shape == (rows,)):
            raise ValueError(f"y must have shape ({rows}, {n_out}){' or (n,)' * (n_out == 1)}; got {y.shape}")
        return np.ascontiguousarray(y, self.dtype).reshape(rows, n_out)

    def _load(self, X: ArrayLike, y: ArrayLike) -> tuple[Workspace, Array]:
        inputs = self._inputs(X)
        ws = self._workspace(len(inputs))
        ws.targets[...] = self._targets(y, len(inputs))
        return ws, inputs

    @_quiet
    def train_step(
        self, X: ArrayLike, y: ArrayLike, optimizer: Any, *, sample_weight: ArrayLike | None = None
    ) -> float:
        """One step of gradient descent on one batch; the loss before it."""
        recipe = self._prepare(optimizer)
        y, weights = self._weights(y, sample_weight)
        loss = self._differentiate(*self._load(X, y), weights)
        self._update(recipe)
        return loss

    @_quiet
    def backprop(
        self, X: ArrayLike, y: ArrayLike, *, sample_weight: ArrayLike | None = None, training: bool = True
    ) -> Gradient:
        """Backpropagation alone, with the noise of the next training step or without; changes nothing."""
        y, weights = self._weights(y, sample_weight)
        loss = self._differentiate(*self._load(X, y), weights, training=training)
        first = self._layers[0].weight
        inputs = np.dot(self._workspace(len(np.asarray(X))).deltas[0], first.T)
        layers = self._layers
        return Gradient(loss, [x.d_weight.copy() for x in layers], [x.d_bias.copy() for x in layers], inputs)

    # -- many batches --

    @_quiet
    def fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        *,
        epochs: int = 10,
        batch_size: int = 32,
        optimizer: Any = "adam",
        validation_data: tuple[ArrayLike, ...] | None = None,
        validation_split: float = 0.0,
        sample_weight: ArrayLike | None = None,
        shuffle: bool = True,
        order: Callable[[int], NDArray[np.integer[Any]]] | None = None,
    ) -> History:
        """Train by mini-batches, as `fastbp.MLP.fit` does.

        `order(epoch)` gives the row indices of an epoch, which are cut into batches; `epoch` goes on counting over
        calls. The default shuffles by `(seed, epoch)`, or takes rows as they come with `shuffle=False`. A
        `validation_split` is drawn by the seed, and by classes where y holds classes.
        """
        if validation_split:
            if sample_weight is not None:
                raise ValueError("sample_weight with validation_split: split the rows first, and give validation_data")
            X, y = np.asarray(X), np.asarray(y)
            by_class = y.ndim == 1 and y.dtype.kind in "iub"
            rows, held = split_rows(y, validation_split, self.seed, stratify=by_class)
            if not shuffle:
                rows.sort()
            X, y, validation_data = X[rows], y[rows], (X[held], y[held])
        epochs = validation.check_positive_int("epochs", epochs)
        batch_size = validation.check_positive_int("batch_size", batch_size)
        inputs = self._inputs(X)
        y, weights = self._weights(y, sample_weight)
        targets, recipe = self._targets(y, len(inputs)), self._prepare(optimizer)
        history = History(score_name="accuracy" if self.loss.name in CLASSIFIES else "r2")
        for _ in range(epochs):
            started = time.perf_counter()
            rows = self._order(len(inputs), shuffle, order)
            history.loss.append(self._train_epoch(inputs, targets, weights, rows, batch_size, recipe, history))
            history.lr.append(recipe.lr)
            history.seconds.append(time.perf_counter() - started)
            self._epoch += 1
            if validation_data is not None:
                found = self.evaluate(*validation_data)
                history.val_loss.append(found["loss"])
                history.val_score.append(found[history.score_name])
        return history

    def _order(self, n: int, shuffle: bool, order: Callable[[int], Array] | None) -> Array:
        if order is not None:
            rows = np.asarray(order(self._epoch), dtype=np.intp)
            if rows.ndim != 1 or not rows.size or rows.min() < 0 or rows.max() >= n:
                raise ValueError(f"order({self._epoch}) must give row indices from 0 to {n - 1}; got {rows}")
            return rows
        return np.random.default_rng((self.seed, self._epoch)).permutation(n) if shuffle else np.arange(n)

    def _train_epoch(
        self, X: Array, y: Array, w: Array | None, rows: Array, batch_size: int, recipe: Any, history: History
    ) -> float:
        total = 0.0
        for start in range(0, len(rows), batch_size):
            batch = rows[start : start + batch_size]
            ws = self._workspace(len(batch))
            # mode="clip": the default, "raise", gathers into a temporary first, so that out survives an error.
            X.take(batch, axis=0, out=ws.inputs, mode="clip")
            y.take(batch, axis=0, out=ws.targets, mode="clip")
            loss = self._differentiate(ws, ws.inputs, None if w is None else w[batch])
            if not math.isfinite(loss):
                raise DivergenceError(self._epoch, self._step, recipe.lr, history)
            self._update(recipe)
            total += loss * (len(batch) if w is None else w[batch].sum())
        return float(total / (len(rows) if w is None else w[rows].sum()))

    # -- inference --

    @_quiet
    def _infer(self, X: ArrayLike) -> Workspace:
        inputs = self._inputs(X)
        ws = self._workspace(len(inputs))
        self._forward(ws, inputs)
        return ws

    def forward(self, X: ArrayLike) -> Array:
        """The pre-activation output (logits), `(n, n_out)`."""
        logits: Array = self._infer(X).z[-1].copy()
        return logits

    @_quiet
    def predict_proba(self, X: ArrayLike) -> Array:
        """Probabilities `(n, C)`, `(n, L)` multi-label, `(n,)` binary."""
        z = self.forward(X)
        if self.loss.name not in CLASSIFIES:
            raise ValueError(f"predict_proba needs a loss with probabilities, one of {CLASSIFIES}; got {self.loss!r}")
        if self.loss.name == "cross_entropy":
            np.exp(z - z.max(axis=1, keepdims=True), out=z)
            np.divide(z, z.sum(axis=1, keepdims=True), out=z)
            return z
        sigmoid(z, z)
        return z[:, 0] if self.sizes[-1] == 1 else z

    @_quiet
    def predict(self, X: ArrayLike) -> Array:
        """Classes, 0/1 labels, rates (poisson) or values; `(n,)` where there is one output or one class a row."""
        output = self._infer(X).output
        if self.loss.name == "cross_entropy":
            return np.asarray(output.argmax(axis=1), np.int64)
        if self.loss.name == "binary_cross_entropy":
            p = np.asarray(output > 0, np.int64)
        else:
            p = np.exp(output) if self.loss.name == "poisson" else output.copy()
        return p[:, 0] if self.sizes[-1] == 1 else p

    @_quiet
    def evaluate(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> dict[str, float]:
        """The loss, and accuracy for the two cross entropies or r2 for the others."""
        inputs = self._inputs(X)
        y, weights = self._weights(y, sample_weight)
        targets = self._targets(y, len(inputs))
        predicted = self.predict(inputs)
        ws = self._workspace(len(inputs))
        ws.targets[...] = targets
        loss = self._cost(ws, weights)
        if self.loss.name not in CLASSIFIES:
            return {"loss": loss, "r2": _r2(predicted.reshape(targets.shape), targets, weights)}
        if self.loss.name == "cross_entropy":
            right = (predicted == targets.argmax(axis=1))[:, None]
        else:
            right = predicted.reshape(targets.shape) == targets
        return {"loss": loss, "accuracy": float(np.average(right.mean(axis=1), weights=weights))}
