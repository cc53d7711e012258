"""How to train: the arguments of `MLP.fit` that do not depend on the data, checked once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from fastbp import optimizers, schedules, validation
from fastbp.engine import precisions
from fastbp.engine.threads import MOST as MOST_THREADS
from fastbp.io.saved_training import Saved
from fastbp.optimizers import Optimizer
from fastbp.optimizers.base import PYTORCHS, Conventions
from fastbp.schedules import Schedule
from fastbp.training import checkpoints


@dataclass(frozen=True)
class FitSettings:
    """How to train, whatever the data are. Made by `check`.

    Attributes
    ----------
    optimizer : Optimizer
    epochs, batch_size : int
    schedule : Schedule, callable or None
    shuffle : bool
    callbacks : tuple
    threads : int or None
        None: what is fastest.
    progress : bool
        Show a progress bar.
    drop_last : bool
        An epoch has whole batches only.
    precision : str
        Of the operands of products.
    conventions : Conventions
        PyTorch's, but for a fit by the estimators of `fastbp.sklearn`.
    saved : Saved or None
        The checkpoint to go on from.
    """

    optimizer: Optimizer
    epochs: int = 1
    batch_size: int = optimizers.BATCH_SIZE
    schedule: Schedule | Callable[[int], float] | None = None
    shuffle: bool = True
    callbacks: tuple[Any, ...] = ()
    threads: int | None = None
    progress: bool = False
    saved: Saved | None = None
    drop_last: bool = False
    conventions: Conventions = PYTORCHS
    precision: str = precisions.FLOAT32

    @classmethod
    def check(
        cls, optimizer: Any, *, epochs: Any, batch_size: Any, schedule: Any, shuffle: Any, callbacks: Any, threads: Any,
        progress: Any, resume: Any, drop_last: Any = False, precision: Any = precisions.FLOAT32,
    ) -> FitSettings:  # fmt: skip
        """The arguments of `MLP.fit` of these names, as plain values."""
        rule, rates = optimizers.get(optimizer), schedules.get(schedule)
        numbers = (
            validation.check_positive_int("epochs", epochs),
            validation.check_positive_int("batch_size", batch_size),
        )
        in_new_order, used = validation.check_flag("shuffle", shuffle), check_threads(threads)
        shown, given = validation.check_flag("progress", progress), validation.check_callbacks(callbacks)
        saved = checkpoints.find(resume, given)
        whole = validation.check_flag("drop_last", drop_last)
        products = precisions.check(precision)
        return cls(rule, *numbers, rates, in_new_order, given, used, shown, saved, whole, precision=products)

    def check_validation_is_not_needed(self) -> None:
        """Refuse callbacks and schedules that watch validation data, where there are none."""
        if not self.callbacks and self.schedule is None:
            return
        needy: Sequence[Any] = [one for one in self.callbacks if getattr(one, "needs_validation", False)]
        plateau = schedules.plateau_of(self.schedule)
        if plateau is not None and plateau.monitor == "val_loss":
            needy = [*needy, plateau]
        if needy:
            raise ValueError(f"{needy[0]!r} needs validation_data or validation_split, or another monitor, e.g. 'loss'")


def check_threads(threads: object) -> int | None:
    """None, or a positive number of threads."""
    if threads is None:
        return None
    number = validation.check_positive_int("threads", threads)
    if number > MOST_THREADS:
        raise ValueError(f"threads must be a positive integer up to {MOST_THREADS}, got {number}")
    return number
