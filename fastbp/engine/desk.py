"""A desk: where one thread trains networks of any kinds, several in a native call, in memory that they borrow from it.

A network that is trained there needs moments of its own and nothing else: activations, deltas, scratch and the copies
to go back to belong to the desk. Each network of a call has a *seat*: its job and layers, bound by its own engine.
"""

from __future__ import annotations

import time
from typing import Any, NamedTuple

import numpy as np

from fastbp.engine.bindings import AT
from fastbp.engine.engine import Engine
from fastbp.engine.layout import Layout
from fastbp.engine.memory import address, allocate
from fastbp.engine.precisions import FLOAT32, kernel_dtype
from fastbp.kernels import many as kernel
from fastbp.kernels import records
from fastbp.kernels.build import entry
from fastbp.kernels.records import JOB, LAYER
from fastbp.types import Array

# Layouts whose memory a desk keeps, kinds of trainings that it can seat at once, and copies to go back to.
LAYOUTS, KINDS, COPIES = 8, 64, 512
_WORDS, _LAYER_WORDS = JOB.itemsize // 8, LAYER.itemsize // 8
_LAYER_WEIGHTS, _LAYER_TRANSPOSED = (LAYER.fields[name][1] // 8 for name in ("weights", "transposed"))  # type: ignore[index]
_X, _Y, _WEIGHTS, _SUBSET, _ORDER = (AT[name] for name in ("X", "y", "row_weights", "subset", "order"))
_SEED, _PARAMETERS, _SCALARS = (AT[name] for name in ("seed", "parameters", "scalars"))
_STATES = tuple(AT[name] for name in ("state1", "state2", "state3"))
_SNAPSHOT, _SNAPSHOT_SCALARS = AT["snapshot"], AT["snapshot_scalars"]
_POSITION, _EPOCH, _TIME, _SHUFFLE = (AT[name] for name in ("position", "epoch", "t", "shuffle"))
_LOSSES, _MEAN_WEIGHTS, _DONE = (AT[name] for name in ("losses", "mean_weights", "steps_done"))
_LRS, _MOMENTA = AT["lrs"], AT["momenta"]


class Steps(NamedTuple):
    """What a training is to do next."""

    n: int  # steps; with `rounds`, in each of them
    rounds: int  # epochs, with what is to be done after each; 0: none
    begins: bool  # by a copy to go back to
    position: int  # rows of the open epoch that are done
    epoch: int  # of the network's, from which the order of the rows follows
    t: int  # updates done
    shuffled: bool
    rates: Array | None
    momenta: Array | None
    orders: Array | None = None  # of the rows, in each epoch of the call; None: kernels shuffle, if at all
    validated: bool = False  # after each round
    copies: Array | None = None  # (rounds, n_parameters): the parameters after each


class Made(NamedTuple):
    """What a training has done in a call."""

    steps: int
    rounds: int  # validated
    kept: int | None  # steps after which the last copy was taken
    status: int  # of `records`
    validating: bool  # the status is that of a validation
    bad_row: int
    ruined: bool  # a parameter is not finite
    ticks: int


class _Kind(NamedTuple):
    """What trainings that differ in nothing but their numbers share: the job of the first of them, word by word."""

    job: memoryview
    layers: memoryview
    weights: list[int]  # bytes from the parameters to those of each layer
    transposed: list[int]
    alive: tuple[Any, ...]


class Desk:
    """The memory of one thread for networks of a dtype, trained in a precision.

    Parameters
    ----------
    dtype : dtype
    stop : array
        An int64 on a cache line of its own: what is written there ends all calls within a step.
    precision : str
        Of the operands of products in training; validation is in the dtype.
    """

    def __init__(self, dtype: np.dtype[Any], stop: Array, precision: str = FLOAT32) -> None:
        self.dtype, self.stop, self.paired = dtype, stop, precision != FLOAT32
        self._memory: dict[Layout, dict[str, Any]] = {}  # what networks of a layout borrow; the last used comes last
        self._order = allocate(0, np.dtype(np.int64))
        self._kernel: Any = entry(kernel.train_many, kernel_dtype(precision, dtype.name))
        self._tag = dtype.type(1)
        self._kinds: dict[Any, _Kind] = {}
        self._copies: dict[tuple[int, int, int], tuple[Array, Array]] = {}
        self.busy = 0.0  # seconds within calls
        self.ticks = 0
        self.set_seats(1, 1)

    def set_seats(self, n: int, deepest: int) -> None:
        """Make room for n networks of so many layers at most; what was there is forgotten."""
        self._jobs, self._layers = np.zeros((n, 2, 1), JOB), np.zeros((n, deepest), LAYER)
        self._words, self._layer_words = _words(self._jobs), _words(self._layers)
        self._trainees = np.zeros(n, kernel.TRAINEE)
        self._mirrors = [False] * n
        self._alive: list[Any] = []  # what jobs point at

    def lend(self, engine: Engine) -> dict[str, Any]:
        """Have a network work in the desk's memory; returns its own, for `take_back`."""
        return engine.borrow(self._memory.pop(engine.layout, None))

    def take_back(self, engine: Engine, own: dict[str, Any]) -> None:
        """Have it work in its own again."""
        self._memory[engine.layout] = engine.borrow(own)
        while len(self._memory) > LAYOUTS:
            del self._memory[next(iter(self._memory))]

    def bind(self, seat: int, which: int, engine: Engine, snapshots: tuple[int, int] = (0, 1)) -> None:
        """Give a seat the job that an engine is bound to."""
        training = which == kernel.TRAINING
        mode = records.TRAIN if training else records.EVALUATE
        layers = engine.set_up(mode, 1, snapshots=snapshots, paired=training and self.paired)
        job, alive = engine.lend()
        self._jobs[seat, which] = job
        self._jobs["stop"][seat, which] = address(self.stop)
        if training:
            self._layers[seat, : len(layers)] = layers
        self._alive += [alive, engine.workplace()]

    def copies(self, seat: int, engine: Engine) -> tuple[Array, Array]:
        """Memory of a seat for copies to go back to."""
        n = engine.layout.n_parameters * (1 + len(engine.moments))
        key = seat, n, engine.scalars.shape[1]
        found = self._copies.get(key)
        if found is None:
            if len(self._copies) >= COPIES:
                self._copies.clear()
            found = self._copies[key] = allocate(n, self.dtype), np.empty_like(engine.scalars)
        self._alive.append(found)
        return found

    def keep_at(self, engine: Engine, copies: tuple[Array, Array]) -> None:
        """Have copies to go back to there."""
        engine.snapshot, engine.snapshot_scalars = copies
        engine.snapshot_of = engine.moments

    def remember(self, key: Any, seat: int, engine: Engine, alive: tuple[Any, ...]) -> None:
        """Seat other trainings of this kind as the one that has just been bound."""
        if len(self._kinds) >= KINDS:
            self._kinds.clear()
        n, layout, item = len(engine.layout.layers), engine.layout, self.dtype.itemsize
        kept = (alive, engine, tuple(self._alive))
        self._kinds[key] = _Kind(
            _words(self._jobs[seat, kernel.TRAINING].copy()), _words(self._layers[seat, :n].copy()),
            [layer.offset * item for layer in layout.layers],
            [layer.transposed_offset * item for layer in layout.layers], kept,
        )  # fmt: skip

    def seat_like(
        self, key: Any, seat: int, engine: Engine, copies: tuple[Array, Array], data: tuple[Any, ...], seed: int
    ) -> bool:
        """Seat a training as another of its kind was; returns False where none was.

        data: X, y, weights and numbers of the rows.
        """
        kind = self._kinds.get(key)
        if kind is None:
            return False
        if self.paired:
            engine.forget_mirror()
        words, at = self._words, 2 * seat * _WORDS
        words[at : at + _WORDS] = kind.job
        X, y, weights, rows = data
        subset = 0 if rows is None else address(rows)
        if words[at + _ORDER] == words[at + _SUBSET]:  # rows in their order
            words[at + _ORDER] = subset
        words[at + _X], words[at + _Y], words[at + _SUBSET], words[at + _SEED] = address(X), address(y), subset, seed
        words[at + _WEIGHTS] = 0 if weights is None else address(weights)
        parameters, transposed = address(engine.parameters), address(engine.transposed)
        words[at + _PARAMETERS], words[at + _SCALARS] = parameters, address(engine.scalars)
        for place, moment in zip(_STATES, engine.moments, strict=False):
            words[at + place] = address(moment)
        words[at + _SNAPSHOT], words[at + _SNAPSHOT_SCALARS] = address(copies[0]), address(copies[1])
        words, at = self._layer_words, seat * self._layers.shape[1] * _LAYER_WORDS
        words[at : at + len(kind.layers)] = kind.layers
        for weights_at, transposed_at in zip(kind.weights, kind.transposed, strict=True):
            words[at + _LAYER_WEIGHTS] = parameters + weights_at
            words[at + _LAYER_TRANSPOSED] = transposed + transposed_at
            at += _LAYER_WORDS
        words[seat * self._layers.shape[1] * _LAYER_WORDS + _LAYER_TRANSPOSED] = 0  # no delta goes below layer 0
        self._mirrors[seat] = True
        self._alive += [data, engine]
        return True

    def go_back(self, engine: Engine, copies: tuple[Array, Array], counters: tuple[int, int]) -> None:
        """Have a network as it was when the last copy was taken, after so many steps and epochs."""
        own = engine.borrow(None)
        self.keep_at(engine, copies)
        engine.snapshot_counters = counters
        engine.go_back()
        engine.borrow(own)

    def order(self, n_rows: int) -> Array:
        """Room for the numbers of so many rows, which all seats share."""
        if self._order.size < n_rows:
            self._order = allocate(n_rows, np.dtype(np.int64))
        self._alive.append(self._order)
        return self._order

    def aim(self, seat: int, steps: Steps, losses: Array, weights: Array) -> None:
        """Tell a seat what to do in the next call: losses and mean weights of the steps go to these arrays."""
        words, at = self._words, 2 * seat * _WORDS
        words[at + _POSITION], words[at + _EPOCH], words[at + _TIME] = steps.position, steps.epoch, steps.t
        words[at + _LOSSES], words[at + _MEAN_WEIGHTS], words[at + _DONE] = address(losses), address(weights), 0
        if steps.orders is not None:
            words[at + _SUBSET], words[at + _SHUFFLE] = address(steps.orders), records.GIVEN
        elif steps.shuffled:
            words[at + _SHUFFLE] = records.SHUFFLE_NOW if steps.position else records.SHUFFLE
        if steps.rates is not None:
            words[at + _LRS] = address(steps.rates)
            words[at + _MOMENTA] = 0 if steps.momenta is None else address(steps.momenta)
        self._alive += [losses, weights, steps.rates, steps.momenta, steps.orders, steps.copies]
        copies = 0 if steps.copies is None else address(steps.copies)
        mirrors = steps.begins and self._mirrors[seat]
        self._trainees[seat] = (steps.n, steps.rounds, steps.validated, copies, steps.begins, mirrors, *([0] * 9))

    def aim_validation(self, seat: int, row_losses: Array, outputs: Array) -> None:
        """Have losses of rows and outputs of the validations to come written there."""
        check = self._jobs[seat, kernel.VALIDATION]
        check["row_losses"], check["outputs"] = address(row_losses), address(outputs)
        self._alive += [row_losses, outputs]

    def call(self) -> None:
        """Do what all seats are to do."""
        started = time.perf_counter()
        self._kernel(self._jobs, self._layers, self._trainees, 0, len(self._trainees), self._tag)
        self.busy += time.perf_counter() - started
        self.ticks += int(self._trainees["ticks"].sum())

    def made(self, seat: int) -> Made:
        """What a seat has done in the last call."""
        *_, made, done, kept, any_kept, status, validating, row, ticks, ruined = self._trainees[seat].item()
        return Made(made, done, kept if any_kept else None, status, bool(validating), row, bool(ruined), ticks)

    def rest(self, seat: int) -> None:
        """A seat has nothing to do in the next call."""
        self._trainees["wanted"][seat] = 0

    @property
    def tick_seconds(self) -> float:
        """Seconds of a tick."""
        return self.busy / max(1, self.ticks)


def _words(records: Array) -> memoryview:
    """Records word by word: written as such, they take a tenth of the time."""
    return memoryview(records.view(np.uint64).reshape(-1))  # type: ignore[arg-type]
