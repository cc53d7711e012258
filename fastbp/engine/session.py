"""What a network holds and does inside: its engine, the calls on it, and how checked data reach it."""

from __future__ import annotations

import contextlib
import math
import operator
import os
import threading
import weakref
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fastbp import activations, arrays, optimizers, validation
from fastbp.attributes import Settled
from fastbp.data import checks, labels, sample_weights
from fastbp.engine import team
from fastbp.engine.engine import LONG_STEP_FLOPS, STAGE_SIZE, WAKE_SECONDS, Engine
from fastbp.engine.layout import Plan
from fastbp.kernels import records
from fastbp.losses import Loss
from fastbp.numerics import quiet
from fastbp.regularization import Regularization
from fastbp.spec import Gradient, Scaling
from fastbp.types import Array

# Counters beyond these come from a damaged file. What is computed from them in 64 bits has to stay there.
MOST_STEPS, MOST_EPOCHS = 1 << 62, 1 << 40


def _set_scaling(net: Any, scaling: Scaling | None) -> None:
    if scaling is not None and not isinstance(scaling, Scaling):
        raise TypeError(f"scaling must be None or a Scaling, as net.standardize makes one; got {scaling!r:.80}")
    net._refuse_in_training("scaling")
    net._scaling = None if scaling is None else scaling.check(net.sizes, net.loss)


def _get_labels(net: Any) -> list[Any] | None:
    return None if net._class_labels is None else list(net._class_labels)  # no element can be changed unseen


def _set_labels(net: Any, value: object) -> None:
    net._class_labels = labels.check(value, net.loss, net.sizes[-1])


_networks: weakref.WeakSet[Network] = weakref.WeakSet()


def _new_locks() -> None:
    """In a forked child: who held a lock is not there any more."""
    for net in _networks:
        net._lock, net._trainer = threading.RLock(), None
        net._engine.clear_stop()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_new_locks)


class _OptimizerState(NamedTuple):
    """What `MLP.optimizer_state` returns, checked."""

    layout: tuple[str, int] | None
    steps: int
    epochs: int
    product: float
    moments: list[tuple[list[Array], list[Array]]]


_NEW = "make a new one, MLP(..., {}=...), and give it the weights by set_weights"
_WEIGHTS = "write weights and biases with set_weights(weights, biases)"


class Network(Settled):
    """The part of `MLP` that nobody calls from outside."""

    SETTABLE = ("history", "scaling", "class_labels", "seed")
    FIXED = (
        {name: _NEW.format(name) for name in ("sizes", "activation", "output_activation", "loss", "init", "dtype")}
        | {name: _NEW.format(name) for name in ("dropout", "input_noise", "l1", "l2", "max_norm")}
        | {"activations": _NEW.format("activation"), "regularization": _NEW.format("dropout=..., l2")}
        | {"weights": _WEIGHTS, "biases": _WEIGHTS, "n_parameters": "it follows from the sizes"}
    )

    sizes: tuple[int, ...]
    activations: tuple[str, ...]
    output_activation: str | None
    loss: Loss
    dtype: np.dtype[Any]
    seed: int
    regularization: Regularization
    # Read in the smallest calls, hence by C; written through a check, for kernels rely on their lengths.
    scaling: Scaling | None = property(  # type: ignore[assignment]
        operator.attrgetter("_scaling"), _set_scaling, doc="How inputs and targets are standardised; see `standardize`."
    )
    class_labels: list[Any] | None = property(  # type: ignore[assignment]
        _get_labels, _set_labels, doc="Names of the classes, in their order, or None."
    )
    _trainer: int | None = None  # the thread that runs `fit`

    def _build(self, weights: list[Array], biases: list[Array]) -> None:
        named = [*self.activations, self.output_activation or "identity"]
        self._plan = Plan(self.sizes, [activations.get(name) for name in named], self.dtype, self.regularization)
        self._engine = Engine(self._plan, self.loss)
        self._plan.pack(weights, biases, self._engine.parameters)
        self._lock = threading.RLock()
        self._scaled: tuple[Scaling | None, tuple[Array, ...] | None] | None = None
        _networks.add(self)
        self._settled = True

    @contextlib.contextmanager
    def _training(self) -> Iterator[None]:
        """Held with the lock by a `fit`, which gives up the lock while it calls code of the user."""
        here, before = threading.get_ident(), self._trainer
        if before not in (None, here):
            raise RuntimeError(
                "this network is being trained by another thread, which is in a callback or fetches a chunk; wait "
                "until it is done, or train net.copy()"
            )
        try:
            try:
                self._trainer = here
                yield
            finally:
                self._trainer = before
        finally:
            self._trainer = before  # if an exception has cut the first off

    def _refuse_in_training(self, what: str) -> None:
        """Raise where something is called that would pull the ground from under a `fit` that goes on."""
        if self._trainer is not None:
            raise RuntimeError(f"{what} must be left alone while the network is being trained: use it before fit")

    @property
    def _steps(self) -> int:
        """Updates that the optimiser has made."""
        return self._engine.steps

    @property
    def _epochs(self) -> int:
        """Epochs that the optimiser has seen to their end."""
        return self._engine.epochs

    @property
    def _layout(self) -> tuple[str, int] | None:
        """Of the optimiser's moments."""
        return self._engine.layout

    def _count(self, steps: int, epochs: int) -> None:
        """Set the counters."""
        self._engine.change(counters=self._engine.counters_from(steps, epochs))

    def _put(
        self, parameters: tuple[Sequence[npt.ArrayLike], Sequence[npt.ArrayLike]] | None = None,
        optimizer: dict[str, Any] | None = None,
    ) -> None:  # fmt: skip
        """Set all weights and biases, the optimiser's state, or both at the same time; nothing if anything is wrong."""
        checked = None if parameters is None else arrays.check_weights(*parameters, self.sizes, self.dtype)
        saved = None if optimizer is None else self._check_optimizer_state(optimizer)
        with self._lock:
            engine, parts = self._engine, dict[str, Any]()
            if checked is not None:
                parts["parameters"] = engine.packed(*checked)
            if saved is not None:
                products = np.ones(2)
                products[saved.steps & 1] = saved.product
                parts["moments"] = [engine.packed(*pair) for pair in saved.moments]
                parts |= {"products": products, "layout": saved.layout}
                parts["counters"] = engine.counters_from(saved.steps, saved.epochs)
            engine.change(**parts)

    def _check_optimizer_state(self, state: dict[str, Any]) -> _OptimizerState:
        """What `MLP.load_optimizer_state` was given, if it is what `MLP.optimizer_state` returns."""
        try:
            layout = None if state["layout"] is None else (str(state["layout"][0]), int(state["layout"][1]))
            saved, product = list(state["moments"]), float(state.get("product", 1.0))
            steps, epochs = (validation.check_non_negative_int(name, state[name]) for name in ("steps", "epochs"))
            pairs = [(one["weights"], one["biases"]) for one in saved]
        except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise ValueError(
                f"this is no optimizer state: {error!r}; give what net.optimizer_state() returned"
            ) from error
        wanted = 0 if layout is None else layout[1]
        counted = steps < MOST_STEPS and epochs < MOST_EPOCHS and math.isfinite(product)
        if len(pairs) != wanted or not counted:
            raise ValueError(
                f"the optimizer state of {layout} has {len(pairs)} moments instead of {wanted}, {steps} steps, "
                f"{epochs} epochs and product {product}; give what net.optimizer_state() returned"
            )
        moments = [arrays.check_weights(*pair, self.sizes, self.dtype) for pair in pairs]
        return _OptimizerState(layout, steps, epochs, product, moments)

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "seed" and self._settled:
            checked = validation.check_seed(value)
            if checked is None:
                raise TypeError("seed must be an integer in [0, 2**64), got None")
            value = checked
            self._engine.job[0]["seed"] = np.uint64(value)
        super().__setattr__(name, value)

    @quiet
    def _apply(self, recipe: optimizers.Optimizer, gradient: Gradient) -> None:
        """Update the parameters by a gradient: the work of `Optimizer.update`."""
        weights, biases = arrays.check_weights(list(gradient.weights), list(gradient.biases), self.sizes, self.dtype)
        with self._lock:
            self._use(recipe)
            engine = self._engine
            self._plan.pack(weights, biases, engine.need_gradient())
            engine.bind_rates(None, None)
            engine.bind_optimizer(recipe, engine.steps)
            engine.prepare(1, 1, whole=False)
            engine.count_steps()
            engine.call(records.UPDATE, 1)

    def _use(self, recipe: optimizers.Optimizer) -> None:
        """Keep the moments if they fit the optimiser, or start anew."""
        if recipe.layout != self._engine.layout or len(self._engine.moments) != recipe.n_moments:
            self._engine.begin(recipe.initial_state, recipe.layout)

    def reset_optimizer(self) -> None:
        """Forget moments, and the counts of steps and epochs."""
        with self._lock:
            self._engine.begin((), None)

    # --- inference ------------------------------------------------------------------------------------------

    def _evaluate(
        self, samples: Array, targets: Array, weights: Array | None = None, threads: int | None = None,
        rows: Array | None = None, *, scan: bool = False,
    ) -> dict[str, float]:  # fmt: skip
        """Loss and score of checked samples, or of the rows of these numbers."""
        if rows is not None and weights is not None:
            weights = weights[rows]
        outputs, loss = self._infer(samples, targets, weights, activated=True, threads=threads, rows=rows, scan=scan)
        wanted = targets if rows is None else targets[rows]
        return {"loss": loss, self.loss.score_name: self.loss.link.score(outputs, wanted, weights)}

    def _outputs(self, X: npt.ArrayLike, *, activated: bool = False, scan: bool = False) -> Array:
        """Outputs for samples as a user gives them; scan: those that are not finite are refused."""
        engine, plain = self._engine, type(X) is np.ndarray
        mode = records.EVALUATE if activated and self.output_activation is not None else records.FORWARD
        samples = X if plain else self._check_X(X)
        with self._lock:  # an array of the type and shape of the last needs no check: that was of no more than these
            ready = engine.call_again(mode, samples, None, None, self.scaling, scan=scan)  # type: ignore[arg-type]
            if ready is not None:
                if scan and engine.status == records.BAD_INPUT:
                    raise engine.bad_input(in_order=True)
                return ready.outputs.copy()  # type: ignore[union-attr]
        checked = self._check_X(X) if plain else samples
        with self._lock:
            samples, _, small = self._staged(checked, None)  # type: ignore[arg-type]
            outputs = self._infer(samples, None, activated=activated, scan=scan)[0]
            if not small:
                return outputs
            engine.stage(mode, samples, None, outputs, None, self.scaling)
            return outputs.copy()

    def _staged(self, samples: Array, targets: Array | None) -> tuple[Array, Any, bool]:
        """A small batch as arrays of our own, which later calls may copy theirs to; and whether it is a small one."""
        if samples.dtype != self.dtype or samples.size > STAGE_SIZE:
            return samples, targets, False
        return samples.copy(), None if targets is None else targets.copy(), True

    def _infer(
        self, samples: Array, targets: Array | None, weights: Array | None = None, *, activated: bool = False,
        threads: int | None = None, rows: Array | None = None, scan: bool = False,
    ) -> tuple[Array, float]:  # fmt: skip
        """Outputs of checked samples, or of the rows of these numbers; and their mean loss if there are targets."""
        engine, n = self._engine, len(samples if rows is None else rows)
        outputs = np.empty((n, self.sizes[-1]), self.dtype)
        scan = scan or (targets is not None and isinstance(samples, np.memmap))
        engine.bind_data(samples, targets, self._kernel_scaling(), scan=scan)
        if rows is not None:
            engine.job[0]["order"], engine.job[0]["n_samples"] = rows.ctypes.data, n
        chosen = engine.choose_threads(threads, n, self._plan.flops_per_row / 3, WAKE_SECONDS)
        engine.prepare(n, chosen, whole=False)
        engine.job[0]["outputs"] = outputs.ctypes.data
        active = activated and self.output_activation is not None
        mode = records.EVALUATE if active or targets is not None else records.FORWARD
        if self._call(mode, chosen, long=n * self._plan.flops_per_row > LONG_STEP_FLOPS) in records.BAD:
            raise engine.bad_input(in_order=rows is None)
        columns = int(engine.job[0]["loss_columns"])
        loss = sample_weights.mean(engine.row_losses[:n], weights, columns) if targets is not None else 0.0
        return outputs, loss

    # --- shared ---------------------------------------------------------------------------------------------

    def _check_X(self, X: npt.ArrayLike, *, exact: bool = False) -> Array:
        """Samples in the kernels' form, with all their digits if they are to be scaled."""
        return checks.check_X(X, self.sizes[0], dtype=self.dtype, exact=exact or self.scaling is not None)

    def _check_batch(
        self, X: npt.ArrayLike, y: npt.ArrayLike, *, scan: bool = False, names: tuple[str, str] = ("X", "y"),
        gathered: bool = False,
    ) -> tuple[Array, Array]:  # fmt: skip
        """Samples and targets in the kernels' form, targets scaled; see `checks.check_batch`."""
        scaling = self.scaling
        scaled = scaling is not None and scaling.y_mean is not None
        samples, targets = checks.check_batch(
            X, y, self.loss, self.sizes, self.dtype, names=names, scan=scan, gathered=gathered,
            scaling=self._kernel_scaling(), y_dtype=np.dtype(np.float64) if scaled else None,
        )  # fmt: skip
        if scaling is not None and scaled:
            targets = scaling.scaled_targets(targets, self.dtype, names[1] if scan else None)
        return samples, targets

    def _check_weighted(self, X: npt.ArrayLike, y: npt.ArrayLike, names: tuple[str, str, str]) -> None:
        """Refuse what `fit` would refuse; an ignored label is none of that."""
        sample_weights.check_batch(self, X, y, None, scan=True, names=names)

    def _kernel_scaling(self) -> tuple[Array, ...] | None:
        """What the engine needs to scale the inputs."""
        if self._scaled is None or self._scaled[0] is not self.scaling:
            self._scaled = self.scaling, None if self.scaling is None else self.scaling.for_kernels(self.dtype)
        return self._scaled[1]

    def _bind(self, samples: Array, targets: Array, weights: Array | None = None) -> tuple[int, bool]:
        """Point the engine at one batch; returns the threads to use, and whether the call can last long."""
        flops = self._plan.flops_per_row
        self._engine.bind_data(samples, targets, self._kernel_scaling(), weights)
        self._engine.job[0]["seed"] = np.uint64(self.seed)
        threads = self._engine.choose_threads(None, len(samples), flops, WAKE_SECONDS)
        return threads, len(samples) * flops > LONG_STEP_FLOPS

    def _call(self, mode: int, threads: int, long: bool) -> int:
        """Run the engine, answering Ctrl-C if that may take long; returns its status."""
        self._engine.clear_stop()  # of an earlier call that an exception cut off
        if threads == 1 and not long:
            return self._engine.call(mode, threads)
        with team.interruptible(self._engine.request_stop) as interrupted:
            status = self._engine.call(mode, threads, detached=long)
        self._engine.clear_stop()
        if interrupted():
            raise KeyboardInterrupt
        return status
