"""What a network is: `MLP`, whose methods are short calls of the modules below it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from os import PathLike
from typing import Any

import numpy as np
import numpy.typing as npt

from fastbp import (
    activations,
    arrays,
    initializers,
    losses,
    metrics,
    numerics,
    optimizers,
    regularization,
    schedules,
    validation,
)
from fastbp.callbacks.base import Callback
from fastbp.data import checks, sample_weights
from fastbp.engine import team
from fastbp.engine.session import Network
from fastbp.io import model_files
from fastbp.kernels import records
from fastbp.spec import Gradient, Scaling
from fastbp.training import fit
from fastbp.training.history import History
from fastbp.types import Array


class MLP(Network):
    """A feed-forward network of dense layers, trained by backpropagation and gradient descent.

    Parameters
    ----------
    sizes : sequence of int
        Units of each layer, inputs and outputs included: ``[64, 128, 10]``.
    activation : str, Activation, or a list of them
        Of the hidden layers: one for all, or one each. identity, relu, leaky_relu, elu, selu, tanh, sigmoid, softplus,
        gelu or silu.
    output_activation : str or Activation, optional
        Of the last layer, for mse, mae and huber. The other losses bring their own link (softmax, sigmoid, exp).
    loss : str or Loss
        cross_entropy, binary_cross_entropy, mse, mae, huber or poisson; or a description such as ``Huber(delta=2)``.
    init : str, optional
        Initialiser of the weights; by default the one that suits each layer's activation. Biases start at zero.
    dropout : float or list of float
        Chance that a unit of a hidden layer is dropped in a training step: one for all layers, or one each.
    input_noise : float
        Standard deviation of the normal noise added to the inputs in training, after their scaling.
    l1, l2 : float
        Penalties ``l1 sum |w| + l2 sum w^2`` on the weights, biases apart, as in Keras; `Adam(weight_decay=...)` and
        its like are PyTorch's form. Reported losses and `backprop` are without them, what `clip_norm` clips is with.
    max_norm : float, optional
        Largest Euclidean norm of the incoming weights of a unit, kept after every update.
    dtype : {"float32", "float64"}
        Of the parameters and all arithmetic.
    seed : int, optional
        Of the initial weights, the order of the rows, dropout and noise, and the validation split; drawn, and kept in
        `seed`, if None.

    Attributes
    ----------
    history : History or None
        Of the last `fit`.
    scaling : Scaling or None
        See `standardize`. One of other columns is refused.
    class_labels : list or None
        Names of the classes, for whoever shows predictions; the network itself counts from 0. All text or all numbers,
        one a class, each once, without control characters; of binary_cross_entropy with several outputs, one an output.
    regularization : Regularization
        dropout, input_noise, l1, l2 and max_norm, as given.

    history, scaling, class_labels and seed (of what is drawn from then on) can be set; everything else is fixed once
    the network is made, and raises an AttributeError, as does a name that there is not.

    Raises
    ------
    ValueError, TypeError
        If an argument is not as described; the message says what was expected. cross_entropy with a single output is
        refused: a softmax over one output is always 1.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        *,
        activation: str | activations.Activation | Sequence[str | activations.Activation] = "relu",
        output_activation: str | activations.Activation | None = None,
        loss: str | losses.Loss = "cross_entropy",
        init: str | None = None,
        dropout: float | Sequence[float] = 0.0,
        input_noise: float = 0.0,
        l1: float = 0.0,
        l2: float = 0.0,
        max_norm: float | None = None,
        dtype: npt.DTypeLike = "float32",
        seed: int | None = None,
    ) -> None:
        self.sizes = validation.check_sizes(sizes)
        self.activations = validation.check_activations(activation, len(self.sizes) - 2, activations.ACTIVATIONS)
        self.loss = losses.get(loss)
        checks.check_softmax(self.loss, self.sizes[-1])
        if output_activation is not None and self.loss.linked:
            raise ValueError(
                f"output_activation must be None with loss={self.loss.name!r}, which has its own link from outputs to "
                f"predictions; got {output_activation!r}"
            )
        output = activations.get("identity" if output_activation is None else output_activation, "output_activation")
        self.output_activation = None if output_activation is None else output.name
        self.regularization = regularization.check(dropout, input_noise, l1, l2, max_norm, len(self.sizes) - 2)
        self.dtype = validation.check_dtype(dtype)
        checked = validation.check_seed(seed)
        self.seed: int = int(np.random.SeedSequence().generate_state(1)[0]) if checked is None else checked
        self.init = None if init is None else validation.check_choice("init", init, initializers.INITIALIZERS)
        named = [*self.activations, output.name]
        weights, biases = initializers.initial_weights(self.sizes, named, init, self.seed, self.dtype)
        self.history: History | None = None
        self.scaling = None
        self.class_labels = None
        self._build(weights, biases)

    def __repr__(self) -> str:
        shape = "-".join(str(n) for n in self.sizes)
        hidden = ", ".join(dict.fromkeys(self.activations)) or "linear"
        return f"<fastbp.MLP {shape} {hidden}, {self.loss.name}, {self.dtype}, {self.n_parameters:,} parameters>"

    # --- parameters -----------------------------------------------------------------------------------------

    @property
    def weights(self) -> list[Array]:
        """Read-only copies of the weights, ``(n_in, n_out)`` each; write with `set_weights`."""
        with self._lock:
            return self._plan.unpack(self._engine.parameters)[0]

    @property
    def biases(self) -> list[Array]:
        """Read-only copies of the biases, ``(n_out,)`` each; write with `set_weights`."""
        with self._lock:
            return self._plan.unpack(self._engine.parameters)[1]

    @property
    def n_parameters(self) -> int:
        """Number of weights and biases."""
        return sum((n_in + 1) * n_out for n_in, n_out in zip(self.sizes[:-1], self.sizes[1:], strict=True))

    def set_weights(self, weights: Sequence[npt.ArrayLike], biases: Sequence[npt.ArrayLike]) -> None:
        """Replace all weights ``(n_in, n_out)`` and biases ``(n_out,)``; moments and counters stay."""
        self._put((weights, biases))

    def standardize(self, X: npt.ArrayLike, y: npt.ArrayLike | None = None) -> None:
        """Make the network standardise its inputs, and with y its targets, by the mean and deviation of these rows.

        Both are applied while rows are gathered, and undone in predictions; they are saved with the network. A column
        that never changes, but for the last places of float64, keeps its scale. Losses are reported in standardised
        units.

        What has more digits than the network is subtracted and scaled in float64: time stamps such as 1.7e9 keep their
        seconds in a float32 network, from float64 and from integers of up to 64 bits (those beyond 2^53 are rounded
        to float64 first, as NumPy does: nanoseconds since 1970 to multiples of 256).

        Parameters
        ----------
        X : array-like, (n, n_in)
            Training rows.
        y : array-like, (n,) or (n, n_out), optional
            Training targets, for the losses of real targets.

        Raises
        ------
        RuntimeError
            In a callback of `fit`, which has its targets standardised already.
        ValueError, TypeError
            If X or y are not as `fit` takes them, or have a column that float64 cannot standardise.
        """
        self._refuse_in_training("standardize")
        rows = self._check_X(X, exact=True)
        arrays.check_finite(np.asarray(rows), "X", self.dtype)  # as an array: memory maps too
        if y is None:
            self.scaling = Scaling(*metrics.moments(rows, "X"))
            return
        if not self.loss.link.can_scale_y:
            raise ValueError(f"y can be standardised for {losses.scalable()} only, not for {self.loss.name}")
        targets = checks.check_y(y, self.loss, len(rows), self.sizes[-1], np.dtype(np.float64))
        self.scaling = Scaling(*metrics.moments(rows, "X"), *metrics.moments(targets, "y"))

    # --- training -------------------------------------------------------------------------------------------

    @numerics.own
    def fit(
        self,
        X: npt.ArrayLike | Iterable[Any] | Callable[[], Iterable[Any]],
        y: npt.ArrayLike | None = None,
        *,
        epochs: int = 10,
        batch_size: int = optimizers.BATCH_SIZE,
        optimizer: str | optimizers.Optimizer = "adam",
        schedule: schedules.Schedule | Callable[[int], float] | None = None,
        validation_data: tuple[npt.ArrayLike, ...] | None = None,
        validation_split: float = 0.0,
        sample_weight: npt.ArrayLike | None = None,
        class_weight: Mapping[int, float] | str | None = None,
        shuffle: bool = True,
        callbacks: Sequence[Callback] = (),
        resume: str | PathLike[str] | None = None,
        steps_per_epoch: int | None = None,
        threads: int | None = None,
        progress: bool = False,
    ) -> History:
        """Train by mini-batch gradient descent; goes on where an earlier call with the same optimiser stopped.

        Parameters
        ----------
        X : array-like, (n, n_in)
            Samples. float32, float64 and uint8 arrays of any strides are read in place, memory maps included; all else
            is converted once, such as a data frame whose columns are numbers or booleans. For data that do not fit: an
            iterable of chunks ``(X, y)``, or a function that returns one; see Notes.
        y : array-like
            Integer classes ``(n,)`` or probabilities ``(n, n_out)`` for cross_entropy; ``(n, n_out)`` otherwise, or
            ``(n,)`` if n_out is 1. None with chunks.
        epochs : int
            Passes over the data.
        batch_size : int
            Rows a step; the last batch of an epoch may be shorter, and averages over its own rows.
        optimizer : str or Optimizer
            sgd, adam, adamw, nadam, radam, adamax, lion, rmsprop, adagrad, adadelta, rprop or lbfgs with their
            defaults, or a description such as ``SGD(lr=0.1, momentum=0.9)``. lbfgs (extra `lbfgs`) takes all rows
            at once, an epoch being one of its iterations: `batch_size` must be left out, and `shuffle` means nothing.
        schedule : Schedule or callable, optional
            How the learning rate changes: one of `fastbp.schedules`, in epochs that this network has been trained
            since its optimiser began, or a function from the number of the step (from 0) to the rate.
        validation_data : tuple (X, y) or (X, y, sample_weight), optional
            Scored after every epoch.
        validation_split : float
            Share of the rows held out for that instead, drawn by the seed, by classes where y holds classes: a row of
            each, while that takes no more than twice the share. A warning names those that are trained on alone.
            Sample weights go with their rows.
        sample_weight : array-like, (n,), optional
            How much each row counts, at least 0. A batch's cost is ``sum w J / sum w``: a row of weight 2 counts as
            that row twice, and only the ratios within a batch matter (with batch_size=1, there are none: a warning
            says so). A batch whose weights are all 0 has loss 0 and no gradient; its step is made all the same
            (moments, weight decay).
        class_weight : mapping or "balanced", optional
            Weights by class, ``{class: weight}``, 1 for classes left out; "balanced" is ``n / (C * count)`` over the
            training rows, as scikit-learn. Multiplies `sample_weight`, in training only, not in validation. For
            cross_entropy with integer labels, and for binary_cross_entropy with one output. As every batch divides by
            its own weights (PyTorch does too), classes are balanced exactly in batches that hold all of them. With
            label smoothing the row's weight counts for all of its loss (PyTorch weighs the share of every class).
        shuffle : bool
            A new order of the rows in every epoch, by the seed and the number of the epoch. False: the order that they
            have, also of those that `validation_split` leaves.
        callbacks : sequence
            Objects with ``on_epoch_end(state)``, called after every epoch; what one returns, if it is true, stops the
            training. `fastbp.callbacks` has early stopping, checkpoints and others.
        resume : path-like, optional
            The folder of a `fastbp.callbacks.Checkpoint`, or one of its files: go on from there, as if the training had
            never stopped. Where a callback of this call writes to the folder, and nothing is there yet, start afresh:
            the same call begins a training and goes on with it. See Notes.
        steps_per_epoch : int, optional
            With chunks: the steps that an epoch takes, after which the next begins, whatever chunks are left (fewer
            are an error). Schedules that count in epochs need to be told.
        threads : int, optional
            By default what is fastest. The result does not depend on it, not in a single bit.
        progress : bool
            Show a progress bar.

        Returns
        -------
        History
            Also kept as `history`.

        Raises
        ------
        ValueError, TypeError
            If an argument is not as described, before anything is changed; or a chunk is not, before it is used.
            NaN and infinity in a memory map are found while its rows are gathered, before the step that would use
            them: the steps before it have been made.
        DivergenceError
            If the loss stops being finite. The network goes back to weights, moments and counters that were kept while
            all was finite: those of an epoch's end or of every k-th step, k by the sizes of network and batch alone, so
            that the same training always leaves the same; copying them costs less than 1 % of the time. Where
            `EarlyStopping` restores the best weights, it has those.
        KeyboardInterrupt
            On Ctrl-C, with a usable network and the finished epochs in `history`. In a callback, and while a chunk is
            fetched, it is raised there.
        RuntimeError
            If another thread trains this network already, and is in a callback or fetches a chunk.
        FileNotFoundError
            If there is nothing to resume from.

        Notes
        -----
        **Resuming.** Weights, moments, counters, seed and history are those of the checkpoint, and `epochs` counts from
        the start of the training, not from the checkpoint: repeat the call as it was. A training that was stopped
        anywhere, by Ctrl-C, `MaxSeconds` or a crash, ends with the same bits as one that never was (but for
        ``history.seconds``), on the same type of CPU and version of fastbp. What must be the same: the shape and loss
        of the network, its scaling, data and their order, validation data or split, optimiser, schedule, batch size,
        `shuffle`, and callbacks with a state (early stopping). A checkpoint that differs in one of them is refused; of
        a schedule that is a function it knows the name alone, of arrays above 64 MB and of memory maps 4,096 rows. What
        may differ: `epochs` (more of them), `threads`, `progress`, other callbacks. Callbacks of your own take part by
        methods ``state_dict()`` and ``load_state_dict(state)``.

        **Chunks.** Every chunk is trained on for one pass, in batches of `batch_size` (the last of a chunk may be
        shorter), its rows shuffled by the seed, the epoch and its number; moments go on from chunk to chunk. An epoch
        ends with the iterable, which is asked for anew in the next: a generator serves one epoch only, a function that
        makes one serves all. A bad chunk raises an error that tells its number, and leaves the network as it was before
        it. One in which nothing counts (by ignored labels or weights) has loss 0 and no gradient, as such a batch has.
        Resuming skips the chunks that are done, which must come in the same order again.
        """
        return fit.fit(
            self, X, y, epochs, batch_size, optimizer, schedule, validation_data, validation_split, sample_weight,
            class_weight, shuffle, callbacks, resume, steps_per_epoch, threads, progress,
        )  # fmt: skip

    def train_step(
        self,
        X: npt.ArrayLike,
        y: npt.ArrayLike,
        optimizer: str | optimizers.Optimizer,
        *,
        sample_weight: npt.ArrayLike | None = None,
    ) -> float:
        """One step of gradient descent on one batch; returns its loss before the update.

        Equal, bit for bit, to `backprop` followed by ``optimizer.update``. Inputs are not checked for NaN and infinity,
        which would spoil all weights. The weights of the rows, ``(n,)``, are those of `fit`.
        """
        recipe, engine = optimizers.get(optimizer), self._engine
        if sample_weight is None and type(X) is np.ndarray and type(y) is np.ndarray:
            with self._lock:  # what the last call has checked of its batch is true of this one, but for its labels
                engine.set_time(engine.steps)
                if (
                    engine.call_again(records.TRAIN, X, y, recipe, self.scaling, checked=False) is not None
                    and engine.status != records.BAD_LABEL
                ):
                    return float(engine.losses.item(0))
        recipe.check_step()
        samples, targets, weights = sample_weights.check_batch(self, X, y, sample_weight)
        n = len(samples)
        with self._lock:
            self._use(recipe)
            engine.set_time(engine.steps)
            if engine.call_again(records.TRAIN, samples, targets, recipe, self.scaling, weights) is not None:
                return float(engine.losses.item(0))
            samples, targets, small = self._staged(samples, targets)
            weights = weights.copy() if small and weights is not None else weights
            threads, long = self._bind(samples, targets, weights)
            engine.bind_rates(None, None)
            engine.bind_optimizer(recipe, engine.steps)
            engine.prepare(n, threads, whole=True)
            engine.count_steps()
            job, whole = engine.job[0], long or recipe.clips
            job["n_steps"], job["position"], job["epoch"], job["shuffle"], job["two_pass"] = 1, 0, 0, 0, whole
            if whole:
                engine.need_gradient()
            if self._call(records.TRAIN, threads, long) in records.BAD:
                raise engine.bad_input()
            if small:
                plain = self.loss.ignored_label is None and (self.scaling is None or self.scaling.y_mean is None)
                engine.stage(records.TRAIN, samples, targets, None, recipe, self.scaling, weights, plain=plain)
            return float(engine.losses.item(0))

    @numerics.quiet
    def backprop(
        self,
        X: npt.ArrayLike,
        y: npt.ArrayLike | None = None,
        *,
        output_gradient: npt.ArrayLike | None = None,
        sample_weight: npt.ArrayLike | None = None,
        training: bool = True,
    ) -> Gradient:
        """Backpropagation alone: the loss of a batch and its gradient. Changes nothing.

        Inputs are not checked for NaN and infinity, which spread to the whole gradient.

        Parameters
        ----------
        X : array-like, (n, n_in)
            The batch.
        y : array-like, optional
            Its targets, as `fit` takes them.
        output_gradient : array-like, (n, n_out), optional
            dJ/dz by what `forward` returns, instead of y: for costs that are computed elsewhere. `forward` knows no
            dropout, so there is none here either.
        sample_weight : array-like, (n,), optional
            Weights of the rows, as `fit` takes them; with y only.
        training : bool
            With the dropout and the input noise that the next `train_step` would draw. False: the gradient of what
            `evaluate` computes.
        """
        if (y is None) == (output_gradient is None):
            raise ValueError("backprop takes either y or output_gradient")
        by_row = None
        if y is not None:
            samples, targets, by_row = sample_weights.check_batch(self, X, y, sample_weight)
        elif sample_weight is not None:
            raise ValueError("sample_weight goes with y; an output_gradient has its weights in it already")
        else:
            samples, real = self._check_X(X), losses.MSE()
            targets = checks.check_y(
                output_gradient, real, len(samples), self.sizes[-1], self.dtype, name="output_gradient", scan=False  # type: ignore[arg-type]
            )  # fmt: skip
        with self._lock:
            engine, n = self._engine, len(samples)
            threads, long = self._bind(samples, targets, by_row)
            engine.set_time(engine.steps)
            if y is None:
                engine.job[0]["y_kind"] = records.DELTAS
            engine.clear_stop()  # of an earlier call that an exception cut off
            with team.interruptible(engine.request_stop) as interrupted:
                status, inputs = engine.backprop(n, threads, noisy=training and y is not None, detached=long)
            engine.clear_stop()
            if interrupted():
                raise KeyboardInterrupt
            if status in records.BAD:
                raise engine.bad_input()
            weights, biases = self._plan.unpack(engine.need_gradient())
            if self.scaling is not None:  # by a float64: columns of 1e-40 have derivatives that no float32 holds
                inputs = inputs / self.scaling.x_scale
            return Gradient(None if y is None else float(engine.losses[0]), weights, biases, inputs)

    # --- inference ------------------------------------------------------------------------------------------

    def forward(self, X: npt.ArrayLike) -> Array:
        """The outputs before their activation or link (logits), ``(n, n_out)``.

        A row's result is the same bits, whatever other rows come with it. Inputs are not checked for NaN and infinity,
        as `predict` does: such a row has outputs that mean nothing.
        """
        return self._outputs(X)

    def predict_proba(self, X: npt.ArrayLike) -> Array:
        """Probabilities: ``(n, n_out)`` by class for cross_entropy; for binary_cross_entropy by output, or ``(n,)``.

        Raises
        ------
        ValueError
            If X is not as `fit` takes it, or some value is not finite: the message names its row and column.
        """
        if not self.loss.link.classifies:
            raise ValueError(f"predict_proba is for classifiers; this network has loss={self.loss.name!r}: use predict")
        return self.loss.link.probabilities(self._outputs(X, scan=True))

    def predict(self, X: npt.ArrayLike) -> Array:
        """Class indices (int64) for cross_entropy, 0 or 1 for binary_cross_entropy, rates for poisson, else numbers.

        ``(n,)``, or ``(n, n_out)`` for several outputs; in the network's dtype, but in float64 where targets are
        standardised, since a mean of 1.7e9 and a deviation of 70 together have more digits than a float32.

        Raises
        ------
        ValueError
            If X is not as `fit` takes it, or some value is not finite: the message names its row and column.
        """
        predicted = self.loss.link.predictions(self._outputs(X, activated=True, scan=True))
        if self.scaling is not None and self.scaling.y_mean is not None:
            predicted = self.scaling.unscaled(predicted)
        return predicted[:, 0] if predicted.shape[1:] == (1,) else predicted

    def evaluate(
        self, X: npt.ArrayLike, y: npt.ArrayLike, sample_weight: npt.ArrayLike | None = None
    ) -> dict[str, float]:
        """``{"loss": ..., "accuracy": ...}`` for classes, ``{"loss": ..., "r2": ...}`` for numbers.

        Each row counts by its weight, ``(n,)``, if there are any; not all may be 0. Losses of standardised targets are
        in standardised units.

        Raises
        ------
        ValueError
            If X or y are not as `fit` takes them, or some value is not finite: the message names its row and column.
        """
        samples, targets, weights = sample_weights.check_batch(self, X, y, sample_weight, scan=True, gathered=True)
        sample_weights.check_total(weights)
        with self._lock:
            return self._evaluate(samples, targets, weights, scan=True)

    # --- keeping --------------------------------------------------------------------------------------------

    def summary(self) -> str:
        """A table of the layers: units, activation, parameters; flops of one row; and the memory that `fit` takes."""
        return metrics.summary(self)

    def copy(self) -> MLP:
        """An independent network with equal weights, moments and counters."""
        other: MLP = object.__new__(type(self))
        other.__setstate__(self.__getstate__())
        return other

    def astype(self, dtype: npt.DTypeLike) -> MLP:
        """A copy that computes in another dtype, without moments."""
        other = MLP(
            self.sizes, activation=list(self.activations), output_activation=self.output_activation, loss=self.loss,
            init="zeros", dtype=dtype, seed=self.seed, **self.regularization.as_arguments(),
        )  # fmt: skip
        with self._lock:  # of the same step
            other.set_weights(self.weights, self.biases)
        vars(other)["init"] = self.init  # it was made of zeros, for speed
        other.scaling, other.class_labels = self.scaling, self.class_labels
        return other

    __copy__ = copy

    def __deepcopy__(self, memo: dict[int, Any]) -> MLP:
        return self.copy()

    def save(self, path: str | PathLike[str]) -> None:
        """Write the network to a safetensors file, moments and scaling included, whole or not at all."""
        model_files.save_model(self, path)

    def optimizer_state(self) -> dict[str, Any]:
        """Moments and counters, as plain values and flat arrays by layer."""
        with self._lock:
            moments = [self._plan.unpack(moment) for moment in self._engine.moments]
            return {
                "layout": None if self._layout is None else list(self._layout),
                "steps": self._steps,
                "epochs": self._epochs,
                "product": float(self._engine.products[self._steps & 1]),
                "moments": [{"weights": list(weights), "biases": list(biases)} for weights, biases in moments],
            }

    def load_optimizer_state(self, state: dict[str, Any]) -> None:
        """Put back what `optimizer_state` returned.

        Raises
        ------
        ValueError
            If it is not of a network of these sizes, or incomplete; nothing is changed then.
        """
        self._put(optimizer={} if state is None else state)  # None would leave it as it is

    def __getstate__(self) -> dict[str, Any]:
        with self._lock:
            state = {name: value for name, value in self.__dict__.items() if not name.startswith("_")}
            state |= {"scaling": self.scaling, "class_labels": self.class_labels}
            state["history"] = copy.deepcopy(self.history)
            state["activations"] = list(self.activations)
            return {"public": state, "parameters": (self.weights, self.biases), "optimizer": self.optimizer_state()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._refuse_in_training("__setstate__")
        public = dict(state["public"], activations=tuple(state["public"]["activations"]))
        checked = {name: public.pop(name) for name in ("scaling", "class_labels")}
        self.__dict__.update(public)
        for name, value in checked.items():
            setattr(self, name, value)
        self._build(*state["parameters"])
        self.load_optimizer_state(state["optimizer"])
