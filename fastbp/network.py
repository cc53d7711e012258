"""`MLP`, the network: its methods are short calls of the modules below."""

from __future__ import annotations

import copy
import dataclasses
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from os import PathLike
from typing import Any

import numpy as np
import numpy.typing as npt

from fastbp import arrays, losses, model, numerics, optimizers, schedules, validation
from fastbp.activations import Activation
from fastbp.attributes import Settled
from fastbp.callbacks.base import Callback
from fastbp.data import checks, columns, sample_weights
from fastbp.data.scaling import moments
from fastbp.engine import precisions
from fastbp.engine.session import Session
from fastbp.history import History
from fastbp.interop.exports import Exports
from fastbp.io import model_files
from fastbp.io.files import damaged
from fastbp.kernels import records
from fastbp.losses import Loss
from fastbp.model import Model
from fastbp.regularization import Regularization
from fastbp.spec import Gradient, NetworkSpec, Samples, Scaling
from fastbp.training import fit
from fastbp.training.settings import FitSettings
from fastbp.types import Array


def _of_spec(name: str, doc: str) -> Any:
    """A property of `NetworkSpec`, read by C for the smallest calls."""
    return property(operator.attrgetter(f"session.spec.{name}"), doc=doc)


def _set_seed(net: MLP, seed: object) -> None:
    checked = validation.check_seed(seed)
    if checked is None:
        raise TypeError("seed must be an integer in [0, 2**64), got None")
    net.session.set_seed(checked)


def _set_scaling(net: MLP, scaling: Scaling | None) -> None:
    net.session.set_scaling(scaling)


def _set_labels(net: MLP, value: object) -> None:
    net.session.set_class_labels(value)


def _get_labels(net: MLP) -> list[Any] | None:
    found = net.session.class_labels
    return None if found is None else list(found)  # no element can be changed unseen


_NEW = "make a new one, MLP(..., {}=...), and give it the weights by set_weights"
_WEIGHTS = "write weights and biases with set_weights(weights, biases)"


class MLP(Exports, Settled):
    """A feed-forward network of dense layers, trained by backpropagation and gradient descent.

    Parameters
    ----------
    sizes : sequence of int
        Units of each layer, inputs and outputs included: ``[64, 128, 10]``.
    activation : str, Activation, or a list of them
        Of the hidden layers: one for all, or one each. The names are those of `fastbp.activations.ACTIVATIONS`, such as
        "relu", "tanh" or "gelu".
    output_activation : str or Activation, optional
        Of the last layer, for losses of real targets such as mse. The others bring their own link (softmax, sigmoid,
        exp).
    loss : str or Loss
        A name of `fastbp.losses.LOSSES`, such as "cross_entropy" or "mse"; or a description such as
        ``Huber(delta=2)``.
    init : str, optional
        Initialiser of the weights; by default the one that suits each layer's activation. Biases start at zero,
        but with "realmlp".
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
    input_scale : bool
        Multiply each input, after its standardisation and noise, by a number that is trained and begins with 1: inputs
        that help little are turned down. Usually with a larger learning rate,
        ``Adam(lr_scale={"input_scale": 6})`` (Holzmueller et al. 2024).

    Attributes
    ----------
    history : History or None
        Of the last `fit`.
    scaling : Scaling or None
        See `standardize`. One of other columns is refused.
    class_labels : list or None
        Names of the classes, for whoever shows predictions; the network itself counts from 0. All text or all numbers,
        one a class, each once, without control characters; of binary_cross_entropy with several outputs, one an output.
    input_scale : array or None
        The scales of the inputs, ``(n_in,)``, as a read-only copy; written by `set_weights`.
    regularization : Regularization
        dropout, input_noise, l1, l2 and max_norm, as given.
    feature_names : list of str or None
        Columns of the data frame that `fit` was given; in other frames they are found by these names. Arrays go by
        position.

    Raises
    ------
    ValueError, TypeError
        If an argument is not as described; the message says what was expected. cross_entropy with a single output is
        refused: a softmax over one output is always 1.

    Notes
    -----
    history, scaling, class_labels and seed (of what is drawn from then on) can be set. Everything else is fixed once
    the network is made: to set it, or a name that does not exist, raises an AttributeError.

    Examples
    --------
    >>> net = fastbp.MLP([4, 16, 3], activation="tanh", seed=0)
    >>> net
    <fastbp.MLP 4-16-3 tanh, cross_entropy, float32, 131 parameters>
    >>> net.predict(X).shape, net.predict_proba(X).shape
    ((60,), (60, 3))
    """

    SETTABLE = ("history", "scaling", "class_labels", "seed")
    FIXED = (
        {name: _NEW.format(name) for name in ("sizes", "activation", "output_activation", "loss", "init", "dtype")}
        | {name: _NEW.format(name) for name in ("dropout", "input_noise", "l1", "l2", "max_norm")}
        | {"activations": _NEW.format("activation"), "regularization": _NEW.format("dropout=..., l2")}
        | {name: _WEIGHTS for name in ("weights", "biases", "input_scale")}
        | {"n_parameters": "it follows from the sizes", "session": "it is the network's own"}
        | {"feature_names": "they are the columns of the frame that fit was given"}
    )

    session: Session  # what other parts of fastbp work with
    sizes: tuple[int, ...] = _of_spec("sizes", "Units of each layer, inputs and outputs included.")
    activations: tuple[str, ...] = _of_spec("activations", "Of the hidden layers.")
    output_activation: str | None = _of_spec("output_activation", "Of the last layer, or None.")
    loss: Loss = _of_spec("loss", "The cost function.")
    init: str | None = _of_spec("init", "The initialiser asked for, or None.")
    regularization: Regularization = _of_spec("regularization", "dropout, input_noise, l1, l2 and max_norm.")
    dtype: np.dtype[Any] = _of_spec("dtype", "Of the parameters and all arithmetic.")
    n_parameters: int = _of_spec("n_parameters", "Number of weights, biases and scales of inputs.")
    seed: int = property(operator.attrgetter("session.spec.seed"), _set_seed, doc="Of all that is drawn.")  # type: ignore[assignment]
    scaling: Scaling | None = property(  # type: ignore[assignment]
        operator.attrgetter("session.scaling"), _set_scaling, doc="How data are standardised; see `standardize`."
    )
    class_labels: list[Any] | None = property(  # type: ignore[assignment]
        _get_labels, _set_labels, doc="Names of the classes, in their order, or None."
    )

    def __init__(
        self,
        sizes: Sequence[int],
        *,
        activation: str | Activation | Sequence[str | Activation] = "relu",
        output_activation: str | Activation | None = None,
        loss: str | Loss = "cross_entropy",
        init: str | None = None,
        dropout: float | Sequence[float] = 0.0,
        input_noise: float = 0.0,
        l1: float = 0.0,
        l2: float = 0.0,
        max_norm: float | None = None,
        dtype: npt.DTypeLike = "float32",
        seed: int | None = None,
        input_scale: bool = False,
    ) -> None:
        spec = NetworkSpec.check(
            sizes, activation=activation, output_activation=output_activation, loss=loss, init=init, dropout=dropout,
            input_noise=input_noise, l1=l1, l2=l2, max_norm=max_norm, dtype=dtype, seed=seed,
            input_scale=input_scale,
        )  # fmt: skip
        self._begin(Session(spec, *spec.initial_parameters()))

    def _begin(self, session: Session) -> None:
        vars(self)["session"] = session
        self.history: History | None = None
        self.feature_names: list[str] | None = None
        self._settled = True

    @classmethod
    def of(cls, values: Model) -> MLP:
        """A network of these values, those of a file for one."""
        net: MLP = object.__new__(cls)
        net._begin(Session.of(values))
        return net

    def __repr__(self) -> str:
        shape = "-".join(str(n) for n in self.sizes)
        hidden = ", ".join(dict.fromkeys(self.activations)) or "linear"
        return f"<fastbp.MLP {shape} {hidden}, {self.loss.name}, {self.dtype}, {self.n_parameters:,} parameters>"

    def _repr_html_(self) -> str:
        """What a notebook shows: a table of the layers."""
        return self.session.overview(repr(self)[len("<fastbp.") : -1]).html()

    # --- parameters -----------------------------------------------------------------------------------------

    @property
    def weights(self) -> list[Array]:
        """Read-only copies of the weights, ``(n_in, n_out)`` each; write with `set_weights`."""
        return self.session.parameters()[0]

    @property
    def biases(self) -> list[Array]:
        """Read-only copies of the biases, ``(n_out,)`` each; write with `set_weights`."""
        return self.session.parameters()[1]

    @property
    def input_scale(self) -> Array | None:
        """A read-only copy of the scales of the inputs, ``(n_in,)``; None without. Write with `set_weights`."""
        return self.session.input_scale()

    def set_weights(
        self, weights: Sequence[npt.ArrayLike], biases: Sequence[npt.ArrayLike],
        input_scale: npt.ArrayLike | None = None,
    ) -> None:  # fmt: skip
        """Replace all weights ``(n_in, n_out)`` and biases ``(n_out,)``; moments and counters stay.

        The scales of the inputs, ``(n_in,)``, of a network that has them, stay too, if they are not given.
        """
        self.session.put((weights, biases, input_scale))

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
        self.session.refuse_in_training("standardize")
        names = self.feature_names or columns.names_of(X)
        rows = self.session.check_X(columns.by_name(X, names), exact=True)
        arrays.check_finite(np.asarray(rows), "X", self.dtype)  # as an array: memory maps too
        if y is not None and not self.loss.link.can_scale_y:
            raise ValueError(f"y can be standardised for {losses.scalable()} only, not for {self.loss.name}")
        found: tuple[Array, ...] = moments(rows, "X")
        if y is not None:
            found += moments(checks.check_y(y, self.loss, len(rows), self.sizes[-1], np.dtype(np.float64)), "y")
        self.scaling = Scaling(*found)
        vars(self)["feature_names"] = names

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
        drop_last: bool = False,
        callbacks: Sequence[Callback] = (),
        resume: str | PathLike[str] | None = None,
        steps_per_epoch: int | None = None,
        threads: int | None = None,
        progress: bool = False,
        precision: str = "float32",
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
            A name of `fastbp.optimizers.NAMES`, such as "sgd" or "adam", with its defaults; or a description such as
            ``SGD(lr=0.1, momentum=0.9)``. "lbfgs" takes all rows at once, an epoch being one of its
            iterations: `batch_size` must be left out, and `shuffle` means nothing.
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
        drop_last : bool
            Every step has `batch_size` rows: those at the end of an epoch's order that would make a shorter one are
            left out of it (PyTorch's DataLoader calls it so). Fewer rows than `batch_size` are one batch. The epoch's
            loss is that of the rows that were trained on.
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
        precision : {"float32", "bfloat16"}
            Of the operands of products. "bfloat16", on CPUs that have it, rounds each to 8 bits and adds up in float32;
            all else stays float32: weights, moments, gradients, activations, losses. Faster where layers are wide, see
            docs/explanation/precision.md. Validation is in float32.

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

        Examples
        --------
        >>> history = net.fit(X, y, epochs=20, optimizer=fastbp.Adam(lr=0.01), validation_split=0.2)
        >>> len(history.loss), history.loss[-1] < history.loss[0]
        (20, True)
        >>> net.evaluate(X, y)["accuracy"] > 0.6
        True
        """
        if y is None and (sample_weight is not None or class_weight is not None):
            raise ValueError("with chunks, weights come with them: make each chunk (X, y, sample_weight)")
        if y is not None and steps_per_epoch is not None:
            raise ValueError(f"steps_per_epoch={steps_per_epoch!r} is for chunks: with X and y, the rows tell")
        settings = FitSettings.check(
            optimizer, epochs=epochs, batch_size=batch_size, schedule=schedule, shuffle=shuffle, callbacks=callbacks,
            threads=threads, progress=progress, resume=resume, drop_last=drop_last, precision=precision,
        )  # fmt: skip
        if y is None:
            history, names = fit.fit_chunks(
                self, X, settings, validation_data=validation_data, validation_split=validation_split,
                steps_per_epoch=steps_per_epoch, names=self.feature_names,
            )  # fmt: skip
            vars(self)["feature_names"] = names
            return history
        names = self.feature_names or columns.names_of(X)
        if names is not None:
            X = columns.by_name(X, names)
            if isinstance(validation_data, tuple) and validation_data:
                rows = columns.by_name(validation_data[0], names, "validation_data[0]")
                validation_data = (rows, *validation_data[1:])
        history = fit.fit(
            self, X, y, settings, validation_data=validation_data, validation_split=validation_split,
            sample_weight=sample_weight, class_weight=class_weight,
        )  # fmt: skip
        vars(self)["feature_names"] = names
        return history

    def train_step(
        self,
        X: npt.ArrayLike,
        y: npt.ArrayLike,
        optimizer: str | optimizers.Optimizer,
        *,
        sample_weight: npt.ArrayLike | None = None,
        precision: str = "float32",
    ) -> float:
        """One step of gradient descent on one batch; returns its loss before the update.

        Equal, bit for bit, to `backprop` followed by ``optimizer.update``. Inputs are not checked for NaN and infinity,
        which would spoil all weights. The weights of the rows, ``(n,)``, and the precision are those of `fit`.
        """
        if precision != "float32":
            precisions.check(precision, self.dtype)
        rule = optimizer if isinstance(optimizer, optimizers.Optimizer) else optimizers.get(optimizer)
        session = self.session
        single = precision == "float32"
        if sample_weight is None and type(X) is np.ndarray and type(y) is np.ndarray and single:
            engine = session.engine
            with session.lock:  # what an earlier call has checked of its batch is true of this one, but for its labels
                if engine.call_again(records.TRAIN, X, y, rule, session.scaling, checked=False) is not None:
                    return engine.loss
        rule.check_step()
        names = self.feature_names or columns.names_of(X)
        batch = session.check_batch(columns.by_name(X, names), y, sample_weight)
        with session.lock:
            loss = session.train_step(batch, rule, precision)
            vars(self)["feature_names"] = names
        return loss

    def backprop(
        self,
        X: npt.ArrayLike,
        y: npt.ArrayLike | None = None,
        *,
        output_gradient: npt.ArrayLike | None = None,
        sample_weight: npt.ArrayLike | None = None,
        training: bool = True,
        precision: str = "float32",
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
        precision : {"float32", "bfloat16"}
            Of the operands of products, as in `fit`.
        """
        if precision != "float32":
            precisions.check(precision, self.dtype)
        if (y is None) == (output_gradient is None):
            raise ValueError("backprop takes either y or output_gradient")
        given, deltas = (output_gradient, True) if y is None else (y, False)
        single = precision == "float32"
        if sample_weight is None and type(X) is np.ndarray and type(given) is np.ndarray and single:
            session = self.session
            with session.lock:
                made = session.backprop_again(X, given, deltas=deltas, noisy=not deltas and training)
            if made is not None:
                return made
        return self._backprop(X, given, sample_weight, precision, deltas=deltas, noisy=not deltas and training)

    @numerics.quiet
    def _backprop(
        self, X: npt.ArrayLike, y: Any, sample_weight: Any, precision: str, *, deltas: bool, noisy: bool
    ) -> Gradient:
        session, X = self.session, self._by_name(X)
        if not deltas:
            batch = session.check_batch(X, y, sample_weight)
        elif sample_weight is not None:
            raise ValueError("sample_weight goes with y; an output_gradient has its weights in it already")
        else:
            rows, real = session.check_X(X), losses.MSE()
            name = "output_gradient"
            checked = checks.check_y(y, real, len(rows), self.sizes[-1], self.dtype, name=name, scan=False)
            batch = Samples(rows, checked)
        with session.lock:
            return session.backprop(batch, deltas=deltas, noisy=noisy, precision=precision)

    # --- inference ------------------------------------------------------------------------------------------

    def forward(self, X: npt.ArrayLike, *, precision: str = "float32") -> Array:
        """The outputs before their activation or link (logits), ``(n, n_out)``.

        A row's result is the same bits, whatever other rows come with it. Inputs are not checked for NaN and infinity,
        as `predict` does: such a row has outputs that mean nothing. precision: see `predict`.
        """
        if precision != "float32":
            return self.session.outputs_in(self._by_name(X), precision)
        return self.session.outputs(X if type(X) is np.ndarray else self._by_name(X))

    def predict_proba(self, X: npt.ArrayLike, *, precision: str = "float32") -> Array:
        """Probabilities: ``(n, n_out)`` by class for cross_entropy; for binary_cross_entropy by output, or ``(n,)``.

        precision: see `predict`.

        Raises
        ------
        ValueError
            If X is not as `fit` takes it, or some value is not finite: the message names its row and column.
        """
        if not self.loss.link.classifies:
            raise ValueError(f"predict_proba is for classifiers; this network has loss={self.loss.name!r}: use predict")
        if precision != "float32":
            return self.loss.link.probabilities(self.session.outputs_in(self._by_name(X), precision, scan=True))
        return self.loss.link.probabilities(
            self.session.outputs(X if type(X) is np.ndarray else self._by_name(X), scan=True)
        )

    def predict(self, X: npt.ArrayLike, *, precision: str = "float32") -> Array:
        """Class indices (int64) for cross_entropy, 0 or 1 for binary_cross_entropy, rates for poisson, else numbers.

        ``(n,)``, or ``(n, n_out)`` for several outputs; in the network's dtype, but in float64 where targets are
        standardised, since a mean of 1.7e9 and a deviation of 70 together have more digits than a float32.

        precision: "bfloat16" rounds the operands of products, as `fit` does with it; for many rows and wide layers, on
        CPUs where that is faster.

        Raises
        ------
        ValueError
            If X is not as `fit` takes it, or some value is not finite: the message names its row and column.
        """
        session = self.session
        if precision != "float32":
            return session.predicted(session.outputs_in(self._by_name(X), precision, activated=True, scan=True))
        return session.unscaled(session.predictions(X if type(X) is np.ndarray else self._by_name(X)))

    def _by_name(self, X: Any) -> Any:
        """The columns of a frame in the order that the network takes."""
        return X if self.feature_names is None else columns.by_name(X, self.feature_names)

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
        rows = X if type(X) is np.ndarray else self._by_name(X)
        samples = self.session.check_batch(rows, y, sample_weight, scan=True, gathered=True)
        sample_weights.check_total(samples.weights)
        with self.session.lock:
            return self.session.evaluate(samples, scan=True)

    # --- keeping --------------------------------------------------------------------------------------------

    def summary(self) -> str:
        """A table of the layers: units, activation, parameters; flops of one row; and the memory that `fit` takes."""
        return self.session.summary()

    def copy(self) -> MLP:
        """An independent network with equal weights, moments and counters."""
        other: MLP = object.__new__(type(self))
        other.__setstate__(self.__getstate__())
        return other

    def astype(self, dtype: npt.DTypeLike) -> MLP:
        """A copy that computes in another dtype, without moments."""
        values = self.session.values()
        spec = dataclasses.replace(values.spec, dtype=validation.check_dtype(dtype))
        other = MLP.of(values._replace(spec=spec, optimizer=None))
        vars(other)["feature_names"] = self.feature_names
        return other

    __copy__ = copy

    def __deepcopy__(self, memo: dict[int, Any]) -> MLP:
        return self.copy()

    def save(self, path: str | PathLike[str]) -> None:
        """Write the network to a safetensors file, moments and scaling included, whole or not at all."""
        tensors, metadata = model.to_file(self.session.values())
        if self.feature_names is not None:
            metadata["feature_names"] = self.feature_names
        model_files.save(path, tensors, metadata)

    def optimizer_state(self) -> dict[str, Any]:
        """Moments and counters, as plain values and flat arrays by layer."""
        return self.session.optimizer_state()

    def load_optimizer_state(self, state: dict[str, Any]) -> None:
        """Put back what `optimizer_state` returned.

        Raises
        ------
        ValueError
            If it is not of a network of these sizes, or incomplete; nothing is changed then.
        """
        self.session.put(optimizer={} if state is None else state)  # None would leave it as it is

    def reset_optimizer(self) -> None:
        """Forget moments, and the counts of steps and epochs."""
        self.session.reset_optimizer()

    def __getstate__(self) -> dict[str, Any]:
        own = {name: value for name, value in vars(self).items() if not name.startswith("_") and name != "session"}
        own["history"] = copy.deepcopy(self.history)
        return {"values": self.session.values(), "own": own}

    def __setstate__(self, state: dict[str, Any]) -> None:
        if "session" in vars(self):
            self.session.refuse_in_training("__setstate__")
        self._begin(Session.of(state["values"]))
        vars(self).update(state["own"])


def load(path: str | PathLike[str]) -> MLP:
    """Read a network that `MLP.save` wrote; it predicts and goes on training as the saved one would.

    Raises
    ------
    ValueError
        If the file is not a fastbp model, is truncated or damaged, was written by a newer version of the format, or
        its arrays are missing or do not fit the network that it describes.
    OSError
        If there is no such file, or it cannot be read.
    """
    tensors, metadata = model_files.load(path)
    with damaged(path, "does not describe a network that this fastbp can build"):
        net = MLP.of(model.from_file(tensors, metadata))
        vars(net)["feature_names"] = columns.check(metadata.get("feature_names"), net.sizes[0])
        return net
