"""A task: one training of many, checked, and what it leaves."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from fastbp import schedules
from fastbp.callbacks.base import Watcher
from fastbp.callbacks.stopping import EarlyStopping, MaxSeconds
from fastbp.engine import tuning
from fastbp.history import History
from fastbp.network import MLP
from fastbp.spec import Samples
from fastbp.training.settings import FitSettings
from fastbp.types import Array

# Callbacks whose work is done between two native calls, beside those that go by the history; all others need `fit`.
KNOWN = (EarlyStopping, MaxSeconds)


@dataclasses.dataclass(eq=False)
class Task:
    """One training.

    Attributes
    ----------
    number : int
        Among all, as the caller counts.
    net : MLP
        What is trained.
    samples, validation : Samples
        Checked.
    settings : FitSettings
    given : mapping
        The arguments of `MLP.fit` that stand for it, for trainings that only `fit` can do; X and y among them.
    history : History or None
        As far as it came.
    error : Exception or None
        What it has ended by: a `DivergenceError`, most of the time.
    finished : bool
        It has come to its end, whatever that was.
    orders : callable, optional
        Of the rows, as `ArrayFeed` takes them; None: the kernels shuffle.
    watchers : tuple
        The callbacks that it was trained with, which are copies of those of the settings.
    """

    number: int
    net: MLP
    samples: Samples
    validation: Samples | None
    settings: FitSettings
    given: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    feature_names: list[str] | None = None
    history: History | None = None
    error: Exception | None = None
    finished: bool = False
    after: Callable[[Task], dict[str, Any]] | None = None
    found: dict[str, Any] = dataclasses.field(default_factory=dict)
    orders: Callable[[int], Array] | None = None
    watchers: tuple[Watcher, ...] = ()

    def end(self) -> None:
        """Have done what is to be done at the end."""
        if self.finished and self.error is None and self.after is not None:
            self.found = self.after(self)

    def without_data(self) -> Task:
        """What is sent back from elsewhere."""
        nothing: Any = Samples(np.empty((0, 0)), None)
        return dataclasses.replace(self, samples=nothing, validation=None, given={}, after=None)

    def take(self, other: Task) -> None:
        """Take in what another process has made of the task."""
        values = other.net.session.values()
        self.net.session.put((values.weights, values.biases, values.input_scale), values.optimizer)
        self.history = self.net.history = other.history
        vars(self.net)["feature_names"] = other.net.feature_names
        self.error, self.finished, self.found = other.error, other.finished, other.found

    @functools.cached_property
    def alone(self) -> bool:
        """Only `fit` can do it: what happens after an epoch depends on code that is not known here."""
        settings = self.settings
        return (
            settings.optimizer.full_batch
            or settings.saved is not None
            or any(not is_known(one) for one in settings.callbacks)
            or schedules.plateau_of(settings.schedule) is not None
            or not (settings.schedule is None or isinstance(settings.schedule, schedules.Schedule))
        )

    @property
    def kind(self) -> tuple[Any, str]:
        """What all networks of a native call have in common: their dtype, and the precision of their products."""
        return self.net.dtype, self.settings.precision

    @property
    def timed(self) -> bool:
        """It is to end at a time of day."""
        return any(isinstance(one, MaxSeconds) for one in self.settings.callbacks)

    @property
    def seconds(self) -> float:
        """About how long it will take."""
        n, batch = self.samples.n_rows, min(self.settings.batch_size, self.samples.n_rows)
        layout, epochs = self.net.session.layout, self.settings.epochs
        epoch = n * layout.flops_per_row / tuning.THREAD_FLOPS + -(-n // batch) * 1e-6
        if self.validation is not None:
            epoch += self.validation.n_rows * layout.flops_per_row / 3 / tuning.THREAD_FLOPS + 1e-5
        return epochs * epoch


def is_known(callback: Any) -> bool:
    """Whether its work can be done between two native calls."""
    return type(callback) in KNOWN or bool(vars(type(callback)).get("by_history"))
