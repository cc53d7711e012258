"""What training changes: parameters, moments and counters of a network, which are always of the same step.

An exception may come between any two lines of Python: of Ctrl-C, of a signal handler, for want of memory. Kernels
change parameters and moments in place, and count their updates themselves; Python makes a new state first, and sets it
last.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from fastbp.arrays import check_input_scale, check_weights
from fastbp.engine import memory
from fastbp.engine.layout import Layout
from fastbp.kernels.optimizers import initial_scalars
from fastbp.types import Array
from fastbp.validation import check_non_negative_int


class Counters(NamedTuple):
    """How many updates and epochs shaped the parameters: those up to a moment, and those that kernels counted since."""

    steps: int = 0
    epochs: int = 0
    counted: int = 0  # by the kernels, at that moment
    first: int = 0  # steps that the epoch had then
    per_epoch: int = 0  # steps of an epoch; 0: what has been done since is none


class State(NamedTuple):
    """All that training changes, as one value."""

    parameters: Array
    moments: list[Array]
    scalars: Array  # (2, n) the optimiser's own, after even and odd numbers of updates, see `kernels.optimizers.Rule`
    state_layout: tuple[str, int] | None = None  # what the moments mean, see `Optimizer.state_layout`
    counters: Counters = Counters()


# Counters beyond these come from a damaged file. What is computed from them in 64 bits has to stay there.
MOST_STEPS, MOST_EPOCHS = 1 << 62, 1 << 40


class OptimizerState(NamedTuple):
    """Moments and counters by layer, as `MLP.optimizer_state` tells them and files keep them."""

    state_layout: tuple[str, int] | None
    steps: int
    epochs: int
    product: float  # the optimiser's own scalar, NAdam's product of momenta; 1 for those that have none
    moments: list[tuple[list[Array], list[Array], Array | None]]  # (weights, biases, input_scale) of each

    def to_dict(self) -> dict[str, Any]:
        """Plain values and arrays."""
        return {
            "layout": None if self.state_layout is None else list(self.state_layout),
            "steps": self.steps,
            "epochs": self.epochs,
            "product": self.product,
            "moments": [
                {"weights": list(weights), "biases": list(biases), **({} if scale is None else {"input_scale": scale})}
                for weights, biases, scale in self.moments
            ],
        }

    @classmethod
    def check(
        cls, state: dict[str, Any], sizes: Sequence[int], dtype: np.dtype[Any], input_scale: bool = False
    ) -> OptimizerState:
        """What `to_dict` made, checked against a network of these sizes."""
        try:
            layout = None if state["layout"] is None else (str(state["layout"][0]), int(state["layout"][1]))
            saved, product = list(state["moments"]), float(state.get("product", 1.0))
            steps, epochs = (check_non_negative_int(name, state[name]) for name in ("steps", "epochs"))
            pairs = [(one["weights"], one["biases"]) for one in saved]
            scales = [one["input_scale"] if input_scale else one.get("input_scale") for one in saved]
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
        moments = [
            (*check_weights(*pair, sizes, dtype), check_input_scale(scale, sizes[0], dtype, input_scale))
            for pair, scale in zip(pairs, scales, strict=True)
        ]
        return cls(layout, steps, epochs, product, moments)


class Store:
    """Holds the state of a network.

    Parameters
    ----------
    layout : Layout
        Of its memory.
    parameters : array
        Zeros.
    counted : memoryview
        The number of updates that kernels have made, ever.
    """

    def __init__(self, layout: Layout, parameters: Array, counted: memoryview) -> None:
        self.layout, self._counted = layout, counted
        self._state, self._changes = State(parameters, [], _scalars(None)), 0
        self.snapshot, self.snapshot_scalars = memory.allocate(0, layout.dtype), _scalars(None)
        self.snapshot_counters = 0, 0  # steps and epochs
        self.snapshot_of: list[Array] | None = None  # the moments that were kept with the parameters

    @property
    def parameters(self) -> Array:
        """All weights and biases, as `layout` says; kernels change them in place."""
        return self._state.parameters

    @property
    def moments(self) -> list[Array]:
        """Of the optimiser, each laid out as the parameters are."""
        return self._state.moments

    @property
    def scalars(self) -> Array:
        """Of the optimiser, for the network as a whole."""
        return self._state.scalars

    @property
    def state_layout(self) -> tuple[str, int] | None:
        """What the moments mean, see `Optimizer.state_layout`; None before the first update."""
        return self._state.state_layout

    @property
    def steps(self) -> int:
        """Updates that the optimiser has made."""
        count = self._state.counters
        return count.steps + self._counted[0] - count.counted

    @property
    def epochs(self) -> int:
        """Epochs that the optimiser has seen to their end."""
        count = self._state.counters
        since = count.first + self._counted[0] - count.counted
        return count.epochs + (since // count.per_epoch if count.per_epoch else 0)

    def change(self, **parts: Any) -> None:
        """Replace some parts of the state, all at the same time."""
        self._changes += 1
        self._state = self._state._replace(**parts)

    def set_counters(self, counters: Counters) -> None:
        """Replace the counters: `change`, for every fit."""
        now = self._state
        self._changes += 1
        self._state = State(now.parameters, now.moments, now.scalars, now.state_layout, counters)

    def counters_from(self, steps: int, epochs: int, first: int = 0, per_epoch: int = 0) -> Counters:
        """The count that goes on from these; with `per_epoch`, updates to come make epochs, the first open already."""
        return Counters(steps, epochs, self._counted[0], first, per_epoch)

    def count_epoch(self) -> None:
        """One more epoch has come to its end."""
        self.set_counters(self.counters_from(self.steps, self.epochs + 1))

    def count_epochs(self, first: int, per_epoch: int) -> None:
        """From here on, so many updates make an epoch (0: none do), of which `first` are done."""
        self.set_counters(self.counters_from(self.steps, self.epochs, first, per_epoch))

    def count_steps(self) -> None:
        """From here on, updates make no epochs."""
        if self._state.counters.per_epoch:
            self.set_counters(self.counters_from(self.steps, self.epochs))

    def begin(self, initial: Sequence[float], state_layout: tuple[str, int] | None) -> None:
        """Start an optimiser: moments with these initial values, and zero in their padding; nothing is counted yet."""
        moments = memory.allocate_all([self.layout.n_parameters] * len(initial), self.layout.dtype)
        for moment, value in zip(moments, initial, strict=True):
            if value:
                moment[self.layout.places()] = value
        parts = {"scalars": _scalars(state_layout), "state_layout": state_layout}
        self.change(moments=moments, counters=self.counters_from(0, 0), **parts)

    def packed(self, weights: Sequence[Array], biases: Sequence[Array], input_scale: Array | None) -> Array:
        """Weights, biases and scales, or a moment of theirs, as a new array."""
        made = memory.allocate(self.layout.n_parameters, self.layout.dtype)
        self.layout.pack(weights, biases, made, input_scale=input_scale)
        return made

    def put(
        self, parameters: tuple[Sequence[Array], Sequence[Array], Array | None] | None,
        optimizer: OptimizerState | None,
    ) -> None:  # fmt: skip
        """Set all parameters, the optimiser's state, or both at the same time; both are checked.

        Scales of the inputs that are None stay as they are.
        """
        parts = dict[str, Any]()
        if parameters is not None:
            weights, biases, scale = parameters
            kept = self.layout.unpack_scale(self.parameters) if scale is None else scale
            parts["parameters"] = self.packed(weights, biases, kept)
        if optimizer is not None:
            scalars = _scalars(optimizer.state_layout)
            scalars[optimizer.steps & 1] = optimizer.product
            parts["moments"] = [self.packed(*each) for each in optimizer.moments]
            parts |= {"scalars": scalars, "state_layout": optimizer.state_layout}
            parts["counters"] = self.counters_from(optimizer.steps, optimizer.epochs)
        self.change(**parts)

    def optimizer_state(self) -> OptimizerState:
        """Moments and counters by layer."""
        moments = [(*self.layout.unpack(moment), self.layout.unpack_scale(moment)) for moment in self.moments]
        scalars = self.scalars[self.steps & 1]
        product = float(scalars[0]) if scalars.size else 1.0
        return OptimizerState(self.state_layout, self.steps, self.epochs, product, moments)

    def mark(self) -> tuple[int, int]:
        """What is equal at two moments only if nothing has been changed between them."""
        return self._changes, self.steps

    @property
    def has_snapshot(self) -> bool:
        """Whether there is a snapshot, of the moments that there are."""
        return self.snapshot_of is self.moments

    def take_snapshot(self) -> None:
        """Remember the state. Kernels may do it, too; `note_snapshot` afterwards tells when."""
        self.snapshot_of = None
        now, n = [self.parameters, *self.moments], self.layout.n_parameters
        if self.snapshot.size != len(now) * n:
            self.snapshot = memory.allocate(len(now) * n, self.layout.dtype)
        for k, array in enumerate(now):
            self.snapshot[k * n : (k + 1) * n] = array
        if self.snapshot_scalars.shape != self.scalars.shape:
            self.snapshot_scalars = self.scalars.copy()
        self.snapshot_scalars[...] = self.scalars
        self.snapshot_counters = self.steps, self.epochs
        self.snapshot_of = self.moments

    def note_snapshot(self, done: int, steps: int, epochs: int, first: int, per_epoch: int) -> None:
        """Kernels have taken a snapshot after `done` steps of a call that began after so many steps and epochs.

        first: steps that the open epoch had then. per_epoch: steps of an epoch; 0: no step of the call ends one.
        """
        self.snapshot_counters = steps + done, epochs + ((first + done) // per_epoch if per_epoch else 0)

    def go_back(self) -> None:
        """Return to what was remembered last."""
        n = self.layout.n_parameters
        arrays = memory.allocate_all([n] * (self.snapshot.size // n), self.layout.dtype)
        for new, old in zip(arrays, self.snapshot.reshape(-1, n), strict=True):
            new[:] = old
        counters = self.counters_from(*self.snapshot_counters)
        self.change(parameters=arrays[0], moments=arrays[1:], scalars=self.snapshot_scalars.copy(), counters=counters)


def _scalars(state_layout: tuple[str, int] | None) -> Array:
    """Those of an optimiser that has made no update."""
    initial = () if state_layout is None else initial_scalars(state_layout[0])
    return np.array([initial, initial], np.float64)
