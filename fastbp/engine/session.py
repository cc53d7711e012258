"""A session: the spec, the memory and the lock of one network, and the calls of the engine on checked data."""

from __future__ import annotations

import contextlib
import os
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fastbp import arrays
from fastbp.data import checks, labels, sample_weights
from fastbp.engine import precisions, stages, team, tuning
from fastbp.engine.engine import Engine
from fastbp.engine.layout import layout_of
from fastbp.engine.placement import Placement
from fastbp.engine.precisions import FLOAT32
from fastbp.engine.state import OptimizerState
from fastbp.engine.summary import overview, summary
from fastbp.io.overview import Overview
from fastbp.kernels import records
from fastbp.model import Model
from fastbp.numerics import quiet
from fastbp.optimizers import Optimizer
from fastbp.spec import Gradient, NetworkSpec, Samples, Scaling
from fastbp.types import Array

_sessions: weakref.WeakSet[Session] = weakref.WeakSet()


def _new_locks() -> None:
    """In a forked child: who held a lock is not there any more."""
    for session in _sessions:
        session.lock, session.trainer = threading.RLock(), None
        session.engine.clear_stop()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_new_locks)


class Session:
    """What a network holds: its spec, its engine, its lock, and how it standardises data.

    "Checked" data are in the form that kernels read; see `check_batch`. Methods that work on the engine are called
    with the lock held, but for those that take data as a user gives them.

    Parameters
    ----------
    spec : NetworkSpec
    weights, biases : list of array
        Parameters to begin with.

    Attributes
    ----------
    layout : Layout
        Of the memory.
    engine : Engine
    lock : RLock
        Held while the engine works.
    trainer : int or None
        The thread that runs `fit`.
    """

    def __init__(
        self, spec: NetworkSpec, weights: Sequence[Array], biases: Sequence[Array], input_scale: Array | None = None
    ) -> None:
        self.spec = spec
        self.layout = layout_of(spec.sizes, spec.layer_activations, spec.dtype, spec.regularization, spec.input_scale)
        self.engine = Engine(self.layout, spec.loss)
        if spec.input_scale and input_scale is None:
            input_scale = np.ones(spec.n_in, spec.dtype)
        self.layout.pack(weights, biases, self.engine.parameters, input_scale=input_scale)
        self.lock = threading.RLock()
        self.trainer: int | None = None
        self.scaling: Scaling | None = None
        self.class_labels: list[Any] | None = None
        self._for_kernels: tuple[Scaling | None, tuple[Array, ...] | None] | None = None
        self._used: tuple[Optimizer | None, list[Array] | None] = None, None  # moments that are known to fit
        _sessions.add(self)

    # --- what a network is ----------------------------------------------------------------------------------

    def set_seed(self, seed: int) -> None:
        """Draw by this seed from now on."""
        self.spec = self.spec.with_seed(seed)
        self.engine.set_seed(seed)

    def set_scaling(self, scaling: Scaling | None) -> None:
        """Standardise data by these means and deviations from now on, or not at all."""
        if scaling is not None and not isinstance(scaling, Scaling):
            raise TypeError(f"scaling must be None or a Scaling, as net.standardize makes one; got {scaling!r:.80}")
        self.refuse_in_training("scaling")
        self.scaling = None if scaling is None else scaling.check(self.spec.sizes, self.spec.loss)

    def set_class_labels(self, class_labels: object) -> None:
        """Name the classes, or not."""
        self.class_labels = labels.check(class_labels, self.spec.loss, self.spec.n_out)

    def kernel_scaling(self) -> tuple[Array, ...] | None:
        """What the engine needs to standardise the inputs."""
        if self._for_kernels is None or self._for_kernels[0] is not self.scaling:
            made = None if self.scaling is None else self.scaling.for_kernels(self.spec.dtype)
            self._for_kernels = self.scaling, made
        return self._for_kernels[1]

    @property
    def standardizes(self) -> bool:
        """Whether the network standardises all that can be."""
        scaling = self.scaling
        return scaling is not None and (not self.spec.loss.link.can_scale_y or scaling.y_mean is not None)

    @contextlib.contextmanager
    def training(self) -> Iterator[None]:
        """Held with the lock by a `fit`, which gives up the lock while it calls code of the user."""
        here, before = threading.get_ident(), self.trainer
        if before not in (None, here):
            raise RuntimeError(
                "this network is being trained by another thread, which is in a callback or fetches a chunk; wait "
                "until it is done, or train net.copy()"
            )
        try:
            try:
                self.trainer = here
                yield
            finally:
                self.trainer = before
        finally:
            self.trainer = before  # if an exception has cut the first off

    def refuse_in_training(self, what: str) -> None:
        """Raise where something is called that would pull the ground from under a `fit` that goes on."""
        if self.trainer is not None:
            raise RuntimeError(f"{what} must be left alone while the network is being trained: use it before fit")

    # --- parameters and the optimiser's state ---------------------------------------------------------------

    def parameters(self) -> tuple[list[Array], list[Array]]:
        """Read-only copies of weights and biases."""
        with self.lock:
            return self.layout.unpack(self.engine.parameters)

    def input_scale(self) -> Array | None:
        """A read-only copy of the scales of the inputs, or None."""
        with self.lock:
            return self.layout.unpack_scale(self.engine.parameters)

    def put(
        self, parameters: tuple[Sequence[npt.ArrayLike], Sequence[npt.ArrayLike], npt.ArrayLike | None] | None = None,
        optimizer: dict[str, Any] | None = None,
    ) -> None:  # fmt: skip
        """Set all parameters (scales that are None stay), the optimiser's state or both; nothing if any is wrong."""
        sizes, dtype = self.spec.sizes, self.spec.dtype
        checked = None
        if parameters is not None:
            weights, biases, scale = parameters
            checked = *arrays.check_weights(weights, biases, sizes, dtype), self._check_scale(scale)
        has_scale = self.spec.input_scale
        saved = None if optimizer is None else OptimizerState.check(optimizer, sizes, dtype, has_scale)
        with self.lock:
            self.engine.put(checked, saved)

    def _check_scale(self, scale: npt.ArrayLike | None) -> Array | None:
        return arrays.check_input_scale(scale, self.spec.n_in, self.spec.dtype, self.spec.input_scale)

    def check_optimizer(self, optimizer: Optimizer) -> None:
        """Raise ValueError if an optimiser is for networks of another kind."""
        optimizer.check_network(self.spec.n_layers, self.spec.input_scale)

    def optimizer_state(self) -> dict[str, Any]:
        """Moments and counters, as plain values and flat arrays by layer."""
        with self.lock:
            return self.engine.optimizer_state().to_dict()

    def use(self, optimizer: Optimizer) -> None:
        """Keep the moments if they fit the optimiser, or start anew."""
        engine = self.engine
        if self._used[0] is optimizer and self._used[1] is engine.moments:
            return
        self.check_optimizer(optimizer)
        if optimizer.state_layout != engine.state_layout or len(engine.moments) != optimizer.n_moments:
            engine.begin(optimizer.initial_state, optimizer.state_layout)
        self._used = optimizer, engine.moments

    def values(self) -> Model:
        """All of the network, of one moment."""
        with self.lock:
            pair, state, scale = self.parameters(), self.optimizer_state(), self.input_scale()
            return Model(self.spec, *pair, self.scaling, self.class_labels, state, scale)

    @classmethod
    def of(cls, values: Model) -> Session:
        """The session of a network of these values."""
        spec = values.spec
        pair = arrays.check_weights(values.weights, values.biases, spec.sizes, spec.dtype)
        scale = arrays.check_input_scale(values.input_scale, spec.n_in, spec.dtype, spec.input_scale)
        session = cls(spec, *pair, scale)
        session.set_scaling(values.scaling)
        session.set_class_labels(values.class_labels)
        if values.optimizer is not None:
            session.put(optimizer=values.optimizer)
        return session

    def reset_optimizer(self) -> None:
        """Forget moments, and the counts of steps and epochs."""
        with self.lock:
            self.engine.begin((), None)

    def overview(self, title: str) -> Overview:
        """The layers, for notebooks."""
        return overview(self.spec, self.layout, title)

    def summary(self) -> str:
        """A table of layers, parameters and flops, and the memory that training takes."""
        return summary(self.spec, self.layout)

    # --- data -----------------------------------------------------------------------------------------------

    def check_X(self, X: npt.ArrayLike, *, exact: bool = False) -> Array:
        """Samples in the kernels' form, with all their digits if they are to be scaled."""
        spec = self.spec
        return checks.check_X(X, spec.n_in, dtype=spec.dtype, exact=exact or self.scaling is not None)

    def check_batch(
        self, X: npt.ArrayLike, y: npt.ArrayLike, sample_weight: npt.ArrayLike | None = None, *, scan: bool = False,
        names: tuple[str, str, str] = ("X", "y", "sample_weight"), gathered: bool = False,
    ) -> Samples:  # fmt: skip
        """Samples, targets and weights in the kernels' form, targets standardised; see `sample_weights.check_batch`."""
        return sample_weights.check_batch(
            self.spec, self.scaling, X, y, sample_weight, scan=scan, names=names, gathered=gathered
        )

    # --- training steps -------------------------------------------------------------------------------------

    def bind(self, samples: Samples) -> tuple[int, bool]:
        """Point the engine at one checked batch; returns the threads to use, and whether the call can last long."""
        flops, n = self.layout.flops_per_row, len(samples.X)
        self.engine.bind_data(samples.X, samples.y, self.kernel_scaling(), samples.weights)
        self.engine.set_seed(self.spec.seed)
        return self.engine.choose_threads(None, n, flops, tuning.WAKE_SECONDS), n * flops > tuning.LONG_STEP_FLOPS

    def train_step(self, samples: Samples, optimizer: Optimizer, precision: str = FLOAT32) -> float:
        """One step on a checked batch; returns its loss before the update."""
        engine, single = self.engine, precision == FLOAT32
        again = (records.TRAIN, samples.X, samples.y, optimizer, self.scaling, samples.weights)
        if not single or engine.call_again(*again) is None:
            self.use(optimizer)
            batch, small = self._staged(samples)
            threads, long = self.bind(batch)
            engine.bind_step(optimizer, len(batch.X), threads, two_pass=long or optimizer.clips)
            if self._call(records.TRAIN, threads, long, precision) in records.BAD:
                raise engine.bad_input()
            if small and single:
                self._stage(records.TRAIN, batch, optimizer=optimizer)
        return engine.loss

    def backprop(self, samples: Samples, *, deltas: bool, noisy: bool, precision: str = FLOAT32) -> Gradient:
        """Loss and gradient of a checked batch.

        deltas: `samples.y` holds dJ/dz of the outputs instead of targets. noisy: with the dropout and the input noise
        that the next step would draw.
        """
        engine, n = self.engine, len(samples.X)
        batch, small = self._staged(samples)
        threads, long = self.bind(batch)
        engine.set_time(engine.steps)
        if deltas:
            engine.bind_output_gradient()
        made: list[tuple[int, Array]] = []
        how = {"noisy": noisy, "detached": long, "precision": precision}
        self._interruptibly(lambda: made.append(engine.backprop(n, threads, **how)), threads, long)  # type: ignore[arg-type]
        status, inputs = made[0]
        if status in records.BAD:
            raise engine.bad_input()
        if small and precision == FLOAT32:
            self._stage(_kind_of_backprop(deltas, noisy), batch, inputs=inputs, deltas=deltas)
            inputs = inputs.copy()
        return self._gradient(inputs, deltas=deltas)

    def backprop_again(self, X: Array, y: Array, *, deltas: bool, noisy: bool) -> Gradient | None:
        """Loss and gradient of a batch that differs in nothing but its numbers from an earlier one; or None."""
        stage = self.engine.call_again(_kind_of_backprop(deltas, noisy), X, y, None, self.scaling, checked=False)
        if stage is None:
            return None
        return self._gradient(stage.inputs.copy(), deltas=deltas)  # type: ignore[union-attr]

    def _gradient(self, inputs: Array, *, deltas: bool) -> Gradient:
        """What the engine has just computed."""
        engine = self.engine
        if self.scaling is not None:
            inputs = _by_scale(inputs, self.scaling)
        loss = None if deltas else engine.loss
        return Gradient.of_packed(loss, engine.need_gradient().copy(), self.layout, inputs)

    def apply(self, optimizer: Optimizer, gradient: Gradient) -> None:
        """Update the parameters by a gradient: the work of `Optimizer.update`."""
        flat = gradient.packed(self.layout)
        if flat is not None and arrays.all_finite(flat):
            with self.lock:
                if self.engine.update_again(optimizer, flat):
                    return
        else:
            flat = None
        self._apply(optimizer, gradient, flat)

    @quiet
    def _apply(self, optimizer: Optimizer, gradient: Gradient, flat: Array | None) -> None:
        if flat is None:  # the check says where it is not finite, if that is so
            given = list(gradient.weights), list(gradient.biases)
            scale = self._check_scale(getattr(gradient, "input_scale", None))
            if scale is None and self.spec.input_scale:
                raise ValueError(
                    "the gradient has no input_scale, but the network trains one: set gradient.input_scale"
                )
            flat = self.engine.packed(*arrays.check_weights(*given, self.spec.sizes, self.spec.dtype), scale)
        with self.lock:
            self.use(optimizer)
            self.engine.update(optimizer, flat)

    # --- inference ------------------------------------------------------------------------------------------

    def evaluate(self, samples: Samples, threads: int | None = None, *, scan: bool = False) -> dict[str, float]:
        """Loss and score of checked samples."""
        outputs, loss = self.infer(samples, activated=True, threads=threads, scan=scan)
        score = self.spec.loss.link.score(outputs, samples.own_targets, samples.own_weights)
        return {"loss": loss, self.spec.loss.score_name: score}

    def outputs_in(self, X: npt.ArrayLike, precision: str, *, activated: bool = False, scan: bool = False) -> Array:
        """`outputs` with products in a precision."""
        products = precisions.check(precision, self.spec.dtype)
        samples = Samples(self.check_X(X), None)
        with self.lock:
            return self.infer(samples, activated=activated, scan=scan, precision=products)[0]

    def outputs(self, X: npt.ArrayLike, *, activated: bool = False, scan: bool = False) -> Array:
        """Outputs for samples as a user gives them; scan: those that are not finite are refused."""
        engine, plain = self.engine, type(X) is np.ndarray
        mode = records.EVALUATE if activated and self.spec.output_activation is not None else records.FORWARD
        given = X if plain else self.check_X(X)
        with self.lock:  # an array of the type and shape of the last needs no check: that was of no more than these
            ready = engine.call_again(mode, given, None, None, self.scaling, scan=scan)  # type: ignore[arg-type]
            if ready is not None:
                if scan and engine.status == records.BAD_INPUT:
                    raise engine.bad_input(in_order=True)
                return ready.outputs.copy()  # type: ignore[union-attr]
        checked = self.check_X(X) if plain else given
        with self.lock:
            samples, small = self._staged(Samples(checked, None))  # type: ignore[arg-type]
            outputs = self.infer(samples, activated=activated, scan=scan)[0]
            if not small:
                return outputs
            self._stage(mode, samples, outputs=outputs)
            return outputs.copy()

    def predictions(self, X: npt.ArrayLike) -> Array:
        """What the link makes of the outputs for samples as a user gives them; not finite ones are refused."""
        engine, link = self.engine, self.spec.loss.link
        if type(X) is np.ndarray:
            mode = records.FORWARD if self.spec.output_activation is None else records.EVALUATE
            with self.lock:
                ready = engine.call_again(mode, X, None, None, self.scaling, scan=True)
                if ready is not None and engine.status != records.BAD_INPUT:
                    found = link.predictions(ready.outputs)  # type: ignore[arg-type]
                    return found.copy() if found is ready.outputs else found
        return link.predictions(self.outputs(X, activated=True, scan=True))

    def predicted(self, outputs: Array) -> Array:
        """What `MLP.predict` returns, by what the network has put out."""
        return self.unscaled(self.spec.loss.link.predictions(outputs))

    def unscaled(self, predictions: Array) -> Array:
        """What the link makes of outputs in the units of y; one column as ``(n,)``."""
        if self.scaling is not None and self.scaling.y_mean is not None:
            predictions = self.scaling.unscaled(predictions)
        return predictions[:, 0] if predictions.ndim == 2 and predictions.shape[1] == 1 else predictions

    def infer(
        self, samples: Samples, *, activated: bool = False, threads: int | None = None, scan: bool = False,
        precision: str = FLOAT32,
    ) -> tuple[Array, float]:  # fmt: skip
        """Outputs of checked samples; and their mean loss, if they have targets."""
        engine, n, rows = self.engine, samples.n_rows, samples.rows
        X, y = samples.X, samples.y
        outputs = np.empty((n, self.spec.n_out), self.spec.dtype)
        scan = scan or (y is not None and isinstance(X, np.memmap))
        engine.bind_data(X, y, self.kernel_scaling(), scan=scan, rows=rows, outputs=outputs)
        chosen = engine.choose_threads(threads, n, self.layout.flops_per_row / 3, tuning.WAKE_SECONDS)
        engine.prepare(n, chosen, whole=False)
        active = activated and self.spec.output_activation is not None
        mode = records.EVALUATE if active or y is not None else records.FORWARD
        long = n * self.layout.flops_per_row > tuning.LONG_STEP_FLOPS
        if self._call(mode, chosen, long, precision) in records.BAD:
            raise engine.bad_input(in_order=rows is None)
        if y is None:
            return outputs, 0.0
        loss = sample_weights.mean(engine.row_losses[:n], samples.own_weights, engine.loss_columns)
        return outputs, loss * self.spec.loss.factor

    # --- shared ---------------------------------------------------------------------------------------------

    def _staged(self, samples: Samples) -> tuple[Samples, bool]:
        """A small batch as arrays of our own, which later calls may copy theirs to; and whether it is a small one."""
        if samples.X.size > tuning.STAGE_SIZE:
            return samples, False
        return Samples(*(None if one is None else _copy(one) for one in samples[:3])), True  # type: ignore[arg-type]

    def _stage(
        self, kind: int, batch: Samples, *, optimizer: Optimizer | None = None, outputs: Array | None = None,
        inputs: Array | None = None, deltas: bool = False,
    ) -> None:  # fmt: skip
        """Keep a small batch, on which the engine has just been called, for later calls."""
        plain = deltas or (
            self.spec.loss.ignored_label is None and (self.scaling is None or self.scaling.y_mean is None)
        )
        self.engine.stage(
            kind, batch.X, batch.y, batch.weights, outputs=outputs, inputs=inputs, optimizer=optimizer,
            scaling=self.scaling, plain=plain,
        )  # fmt: skip

    def _call(self, mode: int, threads: int, long: bool, precision: str = FLOAT32) -> int:
        """Run the engine, answering Ctrl-C if that may take long; returns its status."""
        self._interruptibly(
            lambda: self.engine.call(mode, Placement(threads), detached=long, precision=precision), threads, long
        )
        return self.engine.status

    def _interruptibly(self, work: Callable[[], Any], threads: int, long: bool) -> None:
        """Do some work of the engine, which Ctrl-C ends if it may take long; a short call is over before it matters."""
        self.engine.clear_stop()  # of an earlier call that an exception cut off
        if threads == 1 and not long:
            work()
            return
        with team.interruptible(self.engine.request_stop) as interrupted:
            work()
        self.engine.clear_stop()
        if interrupted():
            raise KeyboardInterrupt


def _copy(array: Array) -> Array:
    """By `np.empty`, which tests replace by one with guards around what it makes."""
    made = np.empty(array.shape, array.dtype)
    made[...] = array
    return made


def _kind_of_backprop(deltas: bool, noisy: bool) -> int:
    return records.BACKPROP + deltas * stages.DELTAS + noisy * stages.NOISY


@quiet
def _by_scale(inputs: Array, scaling: Scaling) -> Array:
    """dJ/dX of inputs before their standardisation, in float64: columns of 1e-40 have more than a float32 holds."""
    found: Array = inputs / scaling.x_scale
    return found
