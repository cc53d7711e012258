"""The callback that records activations and gradients of every layer, epoch by epoch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from os import PathLike
from typing import Any

import numpy as np
import numpy.typing as npt

from fastbp.arrays import numeric
from fastbp.callbacks.base import EpochState, Watcher
from fastbp.engine.network import Network
from fastbp.io.tabular import write_csv
from fastbp.numerics import norm, quiet
from fastbp.validation import check_positive_int, setting

Array = npt.NDArray[Any]

# Activations that can fall silent: below this, a unit passes no gradient back.
SILENT = {"relu": 0.0}
NEAR_BOUND = 0.01  # of the range: a unit so near to either end passes next to no gradient
SATURATED_SHARE = 0.95  # of the rows, for a unit to count as saturated
# Root mean square of a layer's gradient, over that of the layer with the largest: it vanishes where it falls by
# orders of magnitude towards the inputs (Glorot and Bengio 2010).
VANISHING = 1e-3
# A step whose gradient is as long as this many times the weights themselves overthrows what was learnt.
EXPLODING = 10.0


@dataclass(eq=False)
class LayerStatistics(Watcher):
    """Record activations and gradients of every layer on a sample of rows, at the end of epochs.

    Parameters
    ----------
    X, y : array-like
        The sample, as `fit` takes them: some hundred rows tell enough.
    every : int
        Epochs from one look to the next. A look costs about as much as the sample's rows in training, and twice.

    Attributes
    ----------
    records : list of dict
        One a layer and look: epoch, layer (from 0, the outputs last) and activation; ``mean`` and ``std`` of its
        activations; ``dead``, the share of relu units that no row of the sample activates; ``saturated``, the share of
        units with bounds on both sides, such as tanh and sigmoid, that are within 1 % of either end on 95 % of the rows
        (None for activations that cannot be either); ``gradient_norm``, Euclidean, of weights and biases;
        ``weight_norm``; ``update_ratio``, how far the parameters have moved since the last look (or the start), over
        their norm; and ``verdict``.

        The verdict is "exploding" where the gradient is longer than 10 times the parameters or not finite, "vanishing"
        where its root mean square is less than 0.1 % of that of the layer with the largest, or zero, else "".

    Examples
    --------
    >>> statistics = fastbp.LayerStatistics(X, y)
    >>> history = net.fit(X, y, epochs=1, callbacks=[statistics])
    >>> [record["verdict"] for record in statistics.records]
    ['', '']
    """

    X: npt.ArrayLike
    y: npt.ArrayLike
    every: int = setting(1, check_positive_int)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.records: list[dict[str, Any]] = []
        self._before: list[Array] = []

    def on_fit_begin(self, net: Network) -> None:
        net.session.check_batch(self.X, self.y, names=("X of LayerStatistics", "y of LayerStatistics", ""))
        self.records, self._before = [], _flat(net.weights, net.biases)

    def on_epoch_end(self, state: EpochState) -> None:
        if state.epoch % self.every == 0:
            self.records += self._look(state.net, state.epoch)

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint has to keep."""
        return {"records": self.records, "before": self._before}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        records, before = list(state["records"]), list(state["before"])
        if [one.shape for one in before] != [one.shape for one in self._before]:
            raise ValueError("its parameters are of another network")
        self.records, self._before = [dict(record) for record in records], before

    @quiet
    def _look(self, net: Network, epoch: int) -> list[dict[str, Any]]:
        gradient = net.backprop(self.X, self.y, training=False)
        gradients = _flat(gradient.weights, gradient.biases)
        parameters = _flat(net.weights, net.biases)
        sizes = [_root_mean_square(one) for one in gradients]
        largest = max(sizes)
        names = [*net.activations, net.output_activation or "identity"]
        records = []
        for k, activations in enumerate(_activations(net, self.X, names)):
            slope, length = norm(gradients[k]), norm(parameters[k])
            record = {"epoch": epoch, "layer": k, "activation": names[k], **_describe(activations, names[k])}
            moved = norm(parameters[k] - self._before[k])
            record |= {"gradient_norm": slope, "weight_norm": length, "update_ratio": moved / length if length else 0.0}
            record["verdict"] = ""
            if not np.isfinite(slope) or slope > EXPLODING * max(length, 1e-30):
                record["verdict"] = "exploding"
            elif sizes[k] <= VANISHING * largest:
                record["verdict"] = "vanishing"
            records.append(record)
        self._before = parameters
        return records

    def to_csv(self, path: str | PathLike[str]) -> None:
        """Write a line a record, under a line of names."""
        if not self.records:
            raise ValueError("there are no records yet: fit with this callback first")
        write_csv(path, {name: [record[name] for record in self.records] for name in self.records[0]})


def _activations(net: Network, X: npt.ArrayLike, names: list[str]) -> list[Array]:
    """What every layer puts out for these rows, computed in NumPy, in float64."""
    from fastbp.reference.activations import activate  # late, here and below: few trainings look into their layers

    a = numeric(X, "X").astype(np.float64)
    if net.scaling is not None:
        a = (a - net.scaling.x_mean) / net.scaling.x_scale
    found = []
    for weight, bias, name in zip(net.weights, net.biases, names, strict=True):
        a = activate(name, a @ weight.astype(np.float64) + bias)
        found.append(a)
    return found


def _describe(a: Array, name: str) -> dict[str, Any]:
    from fastbp.reference.activations import bounds

    dead = saturated = None
    if name in SILENT:
        dead = float((a <= SILENT[name]).all(axis=0).mean())
    low, high = bounds(name)
    if math.isfinite(high - low):
        margin = NEAR_BOUND * (high - low)
        near = (a <= low + margin) | (a >= high - margin)
        saturated = float((near.mean(axis=0) >= SATURATED_SHARE).mean())
    mean = float(a.mean())
    return {"mean": mean, "std": _root_mean_square(a - mean), "dead": dead, "saturated": saturated}


def _flat(weights: list[Array], biases: list[Array]) -> list[Array]:
    """The parameters of each layer as one vector, in float64."""
    pairs = zip(weights, biases, strict=True)
    return [np.concatenate([w.ravel(), b]).astype(np.float64) for w, b in pairs]


def _root_mean_square(array: Array) -> float:
    with np.errstate(over="ignore", invalid="ignore"):
        return norm(array) / math.sqrt(array.size)
