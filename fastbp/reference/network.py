"""A network in pure NumPy: the baseline of the benchmark, and in float64 an oracle of the tests.

It shares no arithmetic with the kernels, and is as fast as good NumPy gets (for the mathematics alone read
`tests/naive.py`): every buffer is allocated once per batch size, every operation writes into one (`out=`), parameters,
gradient and moments are flat vectors of which the weights are views (an update is a handful of calls for the whole
net), and targets are one matrix, so losses need no indexing. Measured choices: `np.dot` has 1 us less overhead than
`np.matmul` on small operands and calls the same BLAS; sums over an axis are dot products with ones, 2 to 4 times faster
than `np.add.reduce`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from fastbp import optimizers, validation
from fastbp.attributes import Settled
from fastbp.datasets import split_rows
from fastbp.errors import DivergenceError
from fastbp.numerics import norm, quiet
from fastbp.reference.buffers import Workspace, layer_views, target_matrix
from fastbp.reference.losses import LOSSES, weighted
from fastbp.reference.noise import dropout_factors, normal, random_bits
from fastbp.reference.optimizers import OPTIMIZERS, by_rate
from fastbp.reference.penalty import limit_norms, penalise
from fastbp.reference.scores import NumpyHistory, predictions, probabilities, score
from fastbp.spec import Gradient, NetworkSpec
from fastbp.types import Array


class NumpyMLP(Settled):
    """A feed-forward network in pure NumPy, with the meaning (and the initial weights) of `fastbp.MLP`.

    Constructor and methods are those of `fastbp.MLP`, as far as they are here; `fit(order=...)` is extra, to replay the
    batches of another trainer. Input is converted, its shapes and labels are checked, and no more: NaN and infinity go
    in and come out, in predictions too, so that activations can be compared over all numbers.
    """

    SETTABLE = ("seed",)
    FIXED = dict.fromkeys(("sizes", "loss", "dtype", "spec", "dropout", "weights", "biases"), "make a new one")

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
        input_scale: bool = False,
    ) -> None:
        self.spec = spec = NetworkSpec.check(
            sizes, activation=activation, output_activation=output_activation, loss=loss, init=init, dropout=dropout,
            input_noise=input_noise, l1=l1, l2=l2, max_norm=max_norm, dtype=dtype, seed=seed,
            input_scale=input_scale,
        )  # fmt: skip
        self.sizes, self.loss, self.dtype, self.seed = spec.sizes, spec.loss, spec.dtype, spec.seed
        self.n_parameters = spec.n_parameters
        self._parameters = np.empty(self.n_parameters, self.dtype)
        self._bind()
        self._layout: tuple[str, int] | None = None
        self._state: list[Array] = []
        self.set_weights(*spec.initial_parameters(), np.ones(self.sizes[0]) if spec.input_scale else None)
        self.reset_optimizer()
        self._settled = True

    def _bind(self) -> None:
        """Make what depends on the flat parameters: gradient, the layers' views of both, an empty set of buffers."""
        self._gradient, self._spare = np.empty_like(self._parameters), np.empty_like(self._parameters)
        self._workspaces: dict[int, Workspace] = {}
        self._layers = layer_views(self.sizes, self.spec.layer_activations, self._parameters, self._gradient)
        n = self.n_parameters - self.sizes[0] * self.spec.input_scale  # the scales of the inputs come last
        self._scale, self._d_scale = self._parameters[n:], self._gradient[n:]

    def __getstate__(self) -> dict[str, Any]:
        # Views of the flat vectors, pickled or copied one by one, would no longer be views.
        views = ("_gradient", "_spare", "_workspaces", "_layers", "_scale", "_d_scale")
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

    @quiet
    def set_weights(
        self, weights: Sequence[ArrayLike], biases: Sequence[ArrayLike], input_scale: ArrayLike | None = None
    ) -> None:
        """Replace all weights and biases, and the scales of the inputs if they are given."""
        if input_scale is not None:
            self._scale[...] = input_scale
        for layer, *values in zip(self._layers, weights, biases, strict=True):
            for parameter, value in zip((layer.weight, layer.bias), values, strict=True):
                if np.shape(value) != parameter.shape:
                    raise ValueError(f"weights and biases must fit sizes {self.sizes}; expected an array of shape "
                                     f"{parameter.shape}, got {np.shape(value)}")  # fmt: skip
                parameter[...] = value

    @property
    def input_scale(self) -> Array | None:
        """A copy of the scales of the inputs, `(n_in,)`; None without."""
        return self._scale.copy() if self.spec.input_scale else None

    def reset_optimizer(self) -> None:
        """Forget the optimiser's state and the step and epoch counters."""
        self._layout, self._state = None, []
        self._step = self._epoch = 0

    # -- one batch --

    def _forward(self, ws: Workspace, inputs: Array, factors: dict[int, Array] | None = None) -> list[Array]:
        """Fill z and a of every layer; `factors` are those of dropout, by layer. Returns the inputs of each layer."""
        each = [inputs * self._scale if self.spec.input_scale else inputs]
        for k, (layer, z, a, delta) in enumerate(zip(self._layers, ws.z, ws.a, ws.deltas, strict=True)):
            np.add(np.dot(each[k], layer.weight, out=z), layer.bias, out=z)
            if layer.activation:
                layer.activation.forward(z, a, delta)
            each.append(a * factors[k] if factors and k in factors else a)
        return each

    def _backward(self, ws: Workspace, each: list[Array], factors: dict[int, Array]) -> None:
        """From dJ/dp in the last delta to the flat gradient; destroys the activations."""
        for k in range(len(self._layers) - 1, -1, -1):
            layer, delta = self._layers[k], ws.deltas[k]
            if layer.activation:
                layer.activation.derivative(ws.z[k], ws.a[k])
                np.multiply(delta, ws.a[k], out=delta)
            if k in factors:
                np.multiply(delta, factors[k], out=delta)
            np.dot(each[k].T, delta, out=layer.d_weight)
            np.dot(ws.ones_rows, delta, out=layer.d_bias)
            if k:
                np.dot(delta, layer.weight.T, out=ws.deltas[k - 1])

    def _differentiate(
        self, ws: Workspace, inputs: Array, weights: Array | None = None, *, training: bool = True
    ) -> float:
        factors: dict[int, Array] = {}
        if training and self.spec.regularization.noisy:
            inputs, factors = self._draw(inputs)
        each = self._forward(ws, inputs, factors)
        loss = self._cost(ws, weights)
        self._backward(ws, each, factors)
        if self.spec.input_scale:  # the gradient of the effective weights makes both
            effective = np.dot(inputs.T, ws.deltas[0])
            np.multiply(effective, self._scale[:, None], out=self._layers[0].d_weight)
            self._d_scale[...] = (effective * self._layers[0].weight).sum(axis=1)
        return loss

    def _draw(self, inputs: Array) -> tuple[Array, dict[int, Array]]:
        """The inputs with the noise of the next step, and its factors of dropout by layer."""

        def bits(layer: int, units: int) -> Array:
            return random_bits(self.seed, self._step, layer, len(inputs), units)

        given = self.spec.regularization
        if given.input_noise:
            noise = normal(bits(0, inputs.shape[1]))
            inputs = inputs + (given.input_noise * noise).astype(self.dtype)
        return inputs, {
            k: dropout_factors(chance, bits(k + 1, self.sizes[k + 1])).astype(self.dtype)
            for k, chance in enumerate(given.chances)
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
        """The optimiser's description, with its moments in place: those of before while the layout stays, else new."""
        described = optimizers.get(optimizer)
        if described.name not in OPTIMIZERS:
            raise ValueError(f"optimizer must be one of {', '.join(OPTIMIZERS)} here, got {described.name}")
        described.check_network(len(self._layers), self.spec.input_scale)
        if described.state_layout != self._layout:
            self.reset_optimizer()
            self._layout = described.state_layout
            self._state = [np.full_like(self._parameters, value) for value in described.initial_state]
        return described

    def _update(self, optimizer: Any) -> None:
        vars(self)["_step"] += 1  # past `__setattr__`, which costs 0.2 us
        penalties = self.spec.regularization
        for layer in self._layers if penalties.l1 or penalties.l2 else ():
            penalise(penalties, layer.weight, layer.d_weight)
        if optimizer.clip_norm is not None:
            scale = min(1.0, optimizer.clip_norm / (norm(self._gradient) + 1e-6))
            np.multiply(self._gradient, np.float64(scale), out=self._gradient, casting="same_kind")
        if optimizer.clip_value is not None:
            np.clip(self._gradient, -optimizer.clip_value, optimizer.clip_value, out=self._gradient)
        rule = OPTIMIZERS[optimizer.name]
        for which, described in by_rate(optimizer, self._layers):
            state = [moment[which] for moment in self._state]
            rule(described, self._step, self._parameters[which], self._gradient[which], state, self._spare[which])
        for layer in self._layers if penalties.max_norm else ():
            limit_norms(penalties.max_norm or 0.0, layer.weight)

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

    def _load(self, X: ArrayLike, y: ArrayLike) -> tuple[Workspace, Array]:
        inputs = self._inputs(X)
        ws = self._workspace(len(inputs))
        ws.targets[...] = target_matrix(self.loss, y, len(inputs), self.sizes[-1], self.dtype)
        return ws, inputs

    @quiet
    def apply(self, optimizer: Any, gradient: Gradient) -> None:
        """One update of the parameters by a gradient: what `optimizer.update(net, gradient)` does for `fastbp.MLP`."""
        described = self._prepare(optimizer)
        for layer, d_weight, d_bias in zip(self._layers, gradient.weights, gradient.biases, strict=True):
            layer.d_weight[...], layer.d_bias[...] = d_weight, d_bias
        self._d_scale[...] = 0 if gradient.input_scale is None else gradient.input_scale
        self._update(described)

    @quiet
    def train_step(
        self, X: ArrayLike, y: ArrayLike, optimizer: Any, *, sample_weight: ArrayLike | None = None
    ) -> float:
        """One step of gradient descent on one batch; the loss before it."""
        described = self._prepare(optimizer)
        y, weights = self._weights(y, sample_weight)
        loss = self._differentiate(*self._load(X, y), weights)
        self._update(described)
        return loss

    @quiet
    def backprop(
        self, X: ArrayLike, y: ArrayLike, *, sample_weight: ArrayLike | None = None, training: bool = True
    ) -> Gradient:
        """Backpropagation alone, with the noise of the next training step or without; changes nothing."""
        y, weights = self._weights(y, sample_weight)
        loss = self._differentiate(*self._load(X, y), weights, training=training)
        first = self._layers[0].weight
        inputs = np.dot(self._workspace(len(np.asarray(X))).deltas[0], first.T)
        layers = self._layers
        scale = None
        if self.spec.input_scale:
            inputs, scale = inputs * self._scale, self._d_scale.copy()
        return Gradient(loss, [x.d_weight.copy() for x in layers], [x.d_bias.copy() for x in layers], inputs, scale)

    # -- many batches --

    @quiet
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
        drop_last: bool = False,
        order: Callable[[int], NDArray[np.integer[Any]]] | None = None,
    ) -> NumpyHistory:
        """Train by mini-batches, as `fastbp.MLP.fit` does.

        `order(epoch)` gives the row indices of an epoch, which are cut into batches; `epoch` goes on counting over
        calls. The default shuffles by `(seed, epoch)`, or takes rows as they come with `shuffle=False`; with
        `drop_last`, rows at the end of the order that make no whole batch are left out. A `validation_split` is drawn
        by the seed, and by classes where y holds classes.
        """
        if validation_split:
            if sample_weight is not None:
                raise ValueError("sample_weight with validation_split: split the rows first, and give validation_data")
            X, y = np.asarray(X), np.asarray(y)
            by_class = y.ndim == 1 and y.dtype.kind in "iub"
            rows, held_out = split_rows(y, validation_split, self.seed, stratify=by_class)
            if not shuffle:
                rows.sort()
            X, y, validation_data = X[rows], y[rows], (X[held_out], y[held_out])
        epochs = validation.check_positive_int("epochs", epochs)
        batch_size = validation.check_positive_int("batch_size", batch_size)
        inputs = self._inputs(X)
        y, weights = self._weights(y, sample_weight)
        targets, described = (
            target_matrix(self.loss, y, len(inputs), self.sizes[-1], self.dtype),
            self._prepare(optimizer),
        )
        history = NumpyHistory(score_name=self.loss.score_name)
        for _ in range(epochs):
            started = time.perf_counter()
            rows = self._order(len(inputs), shuffle, order)
            rows = rows[: max(batch_size, len(rows) // batch_size * batch_size)] if drop_last else rows
            history.loss.append(self._train_epoch(inputs, targets, weights, rows, batch_size, described, history))
            history.lr.append(described.lr)
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
        self, X: Array, y: Array, w: Array | None, rows: Array, batch_size: int, optimizer: Any, history: NumpyHistory
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
                raise DivergenceError(self._epoch, self._step, optimizer.lr, history)
            self._update(optimizer)
            total += loss * (len(batch) if w is None else w[batch].sum())
        return float(total / (len(rows) if w is None else w[rows].sum()))

    # -- inference --

    @quiet
    def _infer(self, X: ArrayLike) -> Workspace:
        inputs = self._inputs(X)
        ws = self._workspace(len(inputs))
        self._forward(ws, inputs)
        return ws

    def forward(self, X: ArrayLike) -> Array:
        """The pre-activation output (logits), `(n, n_out)`."""
        logits: Array = self._infer(X).z[-1].copy()
        return logits

    @quiet
    def predict_proba(self, X: ArrayLike) -> Array:
        """Probabilities `(n, C)`, `(n, L)` multi-label, `(n,)` binary."""
        if not self.loss.link.classifies:
            raise ValueError(
                f"predict_proba needs a loss with probabilities (of classes, or of yes and no); got {self.loss!r}"
            )
        return probabilities(self.loss, self.forward(X))

    @quiet
    def predict(self, X: ArrayLike) -> Array:
        """Classes, 0/1 labels, rates (poisson) or values; `(n,)` where there is one output or one class a row."""
        return predictions(self.loss, self._infer(X).output)

    @quiet
    def evaluate(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> dict[str, float]:
        """The loss, and accuracy for the two cross entropies or r2 for the others."""
        inputs = self._inputs(X)
        y, weights = self._weights(y, sample_weight)
        targets = target_matrix(self.loss, y, len(inputs), self.sizes[-1], self.dtype)
        predicted = self.predict(inputs)
        ws = self._workspace(len(inputs))
        ws.targets[...] = targets
        loss = self._cost(ws, weights)
        return {"loss": loss, self.loss.score_name: score(self.loss, predicted, targets, weights)}
