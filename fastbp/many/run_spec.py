"""`RunSpec`: data, network and settings of a sweep in one value, which can be sent to another process."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastbp import schedules
from fastbp.callbacks.base import Watcher
from fastbp.data import sample_weights, splits
from fastbp.engine.precisions import FLOAT32
from fastbp.many.metrics import LOSS, Metric
from fastbp.network import MLP
from fastbp.optimizers import Optimizer
from fastbp.training.rate_table import RateTable
from fastbp.types import Array

_BLOCK = 1 << 20  # elements hashed at a time
# Share of the rows that is held out where no validation data are given.
HELD_OUT = 0.2


def checksum(array: Array) -> str:
    """The SHA-256 of an array with its type and shape, 32 digits of it."""
    digest = hashlib.sha256(f"{array.dtype.str}{array.shape}".encode())
    rows = max(1, _BLOCK // max(1, int(np.prod(array.shape[1:]))))
    for start in range(0, len(array), rows):
        digest.update(np.ascontiguousarray(array[start : start + rows]).tobytes())
    return digest.hexdigest()[:32]


def digest(*arrays: Array | None) -> str:
    """Data in a few words: rows, columns, and a checksum of samples, targets, weights and validation data."""
    total = hashlib.sha256()
    for array in arrays:
        total.update(b"none" if array is None else checksum(array).encode())
    X = arrays[0]
    assert X is not None
    return f"{len(X):,} rows of {X.shape[1]}, sha256 {total.hexdigest()[:16]}"


def fresh(net: MLP, seed: int) -> MLP:
    """An untrained network with the configuration and the scaling of `net`, and another seed."""
    # By the signature: an option that a network gains later is not forgotten here.
    regularization = net.regularization.as_arguments()
    names = set(inspect.signature(MLP).parameters) - {"sizes", "activation", "seed", *regularization}
    options = {name: getattr(net, name) for name in names}
    options["input_scale"] = net.input_scale is not None  # the attribute is the numbers themselves
    made = MLP(net.sizes, activation=list(net.activations), seed=seed, **options, **regularization)
    made.scaling = net.scaling
    return made


@dataclass(frozen=True)
class RunSpec:
    """All that a run depends on but its rate and seed; can be sent to another process.

    Attributes
    ----------
    net : MLP
        Never trained: a description.
    X, y : array
        Checked and in the kernels' form, targets scaled.
    weights : array or None
        Of the rows, by sample_weight: 0 where the loss ignores the label.
    strata : array
        By which rows are held out.
    held_out : tuple (X, y, weights) or None
        Validation data in the same form; None: `HELD_OUT` of the rows, drawn by the seed of each run.
    class_weight : mapping, str or None
        In training, beside `weights`; "balanced" by the rows that a run is trained on.
    metric : Metric
        What rates are compared by.
    given : tuple
        y as the user gave it, and that of the validation data: what class weights and metrics go by.
    callbacks : tuple
        What ends runs early, each of them by copies of its own.
    """

    net: MLP
    X: Array
    y: Array
    weights: Array | None
    strata: Array
    held_out: tuple[Array, Array, Array | None] | None
    epochs: int
    batch_size: int
    optimizer: Optimizer
    schedule: schedules.Schedule | Callable[[int], float] | None
    precision: str = FLOAT32
    class_weight: Any = None
    metric: Metric = LOSS
    given: tuple[Any, Any] = (None, None)
    callbacks: tuple[Watcher, ...] = ()

    @property
    def weighted(self) -> bool:
        """Rows count differently in training."""
        return self.weights is not None or self.class_weight is not None

    def training_weights(self, seed: int) -> Array | None:
        """Weights of all rows in the training of a seed."""
        if self.class_weight is None:
            return self.weights
        spec, rows = self.net.session.spec, self.rows(seed)[0]
        y = self.y if self.given[0] is None else self.given[0]
        found = sample_weights.apply_class_weight(self.class_weight, spec, y, self.y, self.weights, rows)
        return None if found is None else np.ascontiguousarray(found, np.float64)

    def held_out_targets(self, seed: int) -> Any:
        """Targets of the rows that a seed holds out, as the user gave them."""
        held = self.rows(seed)[1]
        return self.given[1] if held is None else self.given[0][held]

    def first_metric(self) -> float:
        """The metric of the first initial weights: the name of a function says nothing of it."""
        (X, _, weights), seed = self.held_out or (self.X, self.y, self.weights), self.net.seed
        held = self.rows(seed)[1]
        if held is not None:
            X, weights = X[held], None if weights is None else weights[held]
        return self.metric.of(self.net, X, self.held_out_targets(seed), weights)

    def rows(self, seed: int) -> tuple[Array | None, Array | None]:
        """Numbers of the rows that a seed trains on, and of those held out; None for all."""
        if self.held_out is not None:
            return None, None
        if seed not in self._splits:
            stratify = self.y.ndim == 1 and self.net.loss.link.one_class
            self._splits[seed] = splits.split_rows(self.strata, HELD_OUT, seed, stratify=stratify)
        return self._splits[seed]

    @functools.cached_property
    def _splits(self) -> dict[int, tuple[Array, Array]]:
        return {}

    def __getstate__(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)

    @functools.cached_property
    def n_train(self) -> int:
        """Rows that a run trains on; as many for every seed."""
        rows = self.rows(self.net.seed)[0]
        return len(self.X) if rows is None else len(rows)

    @property
    def steps(self) -> int:
        """Steps of an epoch."""
        return -(-self.n_train // self.batch_size)

    def tables(self, rates: Array) -> tuple[Array | None, Array | None]:
        """Learning rates of all steps ``(rates, epochs * steps)``, and momenta; None where they stay as they are."""
        n = self.epochs * self.steps
        if self.schedule is None or schedules.plateau_of(self.schedule) is not None:
            return None, None
        factors, momenta = RateTable(self.schedule, 1.0, self.steps).tables(0, 0, n, 0)
        return rates[:, None] * factors, None if momenta is None else np.ascontiguousarray(momenta, np.float64)

    def digest(self) -> str:
        """The data in a few words: rows, columns, and a checksum of samples, targets and validation data."""
        return digest(self.X, self.y, self.weights, *(self.held_out or ()))

    def with_batch(self, batch_size: int) -> RunSpec:
        """The same with another batch size."""
        return dataclasses.replace(self, batch_size=batch_size)

    def optimizer_at(self, rate: float) -> Optimizer:
        """The optimiser at a rate."""
        return dataclasses.replace(self.optimizer, lr=rate)

    def largest_value(self) -> str:
        """The largest number among the rows that may be held out, and where it is, in words."""
        X, y, _ = self.held_out or (self.X, self.y, None)
        found = []
        for name, array in (("X", X), ("y", y)):
            if array.dtype.kind == "f":
                place = np.unravel_index(np.argmax(np.abs(array)), array.shape)
                found.append((abs(float(array[place])), f"{name}[{', '.join(map(str, place))}] = {array[place]:.3g}"))
        return ("validation " if self.held_out else "") + max(found)[1]
