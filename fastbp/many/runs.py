"""`lr_sweep`: which runs to train, in what order, and where. The training itself is in `native.py`."""

from __future__ import annotations

import concurrent.futures
import os
import time
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from os import PathLike
from typing import Any

import numpy as np
import numpy.typing as npt

from fastbp import optimizers, schedules, validation
from fastbp.callbacks.base import Callback
from fastbp.data import sample_weights, splits
from fastbp.engine import precisions, team
from fastbp.errors import SweepInterrupted
from fastbp.kernels.notice import tell
from fastbp.many import endings, remote
from fastbp.many.halving import Runner, halve, rungs
from fastbp.many.journal import Journal
from fastbp.many.ledger import Ledger
from fastbp.many.metrics import LOSS, Metric
from fastbp.many.native import Native
from fastbp.many.progress import SweepProgress
from fastbp.many.result import LrSweep
from fastbp.many.run_spec import RunSpec, fresh
from fastbp.network import MLP
from fastbp.numerics import own
from fastbp.training.settings import check_threads
from fastbp.types import Array


@own
def lr_sweep(
    net: MLP,
    X: npt.ArrayLike,
    y: npt.ArrayLike,
    learning_rates: Iterable[float],
    *,
    seeds: int | Sequence[int] = 5,
    epochs: int = 5,
    batch_size: int = 32,
    optimizer: str | optimizers.Optimizer = "adam",
    schedule: schedules.Schedule | Callable[[int], float] | None = None,
    validation_data: tuple[npt.ArrayLike, ...] | None = None,
    sample_weight: npt.ArrayLike | None = None,
    class_weight: Mapping[int, float] | str | None = None,
    callbacks: Sequence[Callback] = (),
    metric: str | Callable[[Any, Any], float] = "loss",
    maximize: bool = True,
    halving: int | None = None,
    target_loss: float | None = None,
    threads: int | None = None,
    journal: str | PathLike[str] | None = None,
    executor: concurrent.futures.Executor | None = None,
    progress: bool = False,
    precision: str = "float32",
) -> LrSweep:
    """Train a network anew with each of some learning rates and seeds, and say which rate is best.

    A run with rate r and seed s is, bit for bit, ``MLP(..., seed=s).fit(X, y, optimizer=replace(optimizer, lr=r),
    validation_split=0.2, ...)``, or with `validation_data` that fit's: the seed decides initial weights, order of rows
    and what is held out. Runs are spread over threads, one thread a run. `net` itself is only read: its configuration
    and its scaling (`MLP.standardize`), not its weights.

    A run is judged by its end. One that turns non-finite has diverged, and ends at once. One whose last validation loss
    exceeds that of its initial weights, J0, is no better than untrained, and its rate not eligible. To save time, a run
    is given up whose loss has been above ``J0 + 10 max(|J0|, 1)`` at every step of an epoch, and of 50 steps, and does
    not fall: in the later half of that time neither steadily nor by a quarter, nor so that twice its fall would lead
    below that in time. Where the validation loss alone is not finite, the values held out are named, not the rate.

    Parameters
    ----------
    net : MLP
        What to train; stays as it is.
    X, y : array-like
        As `MLP.fit` takes them.
    learning_rates : iterable of float
        Positive; sorted, and each once.
    seeds : int or sequence of int
        So many seeds, counted from ``net.seed``; or the seeds themselves. With fewer than 5, intervals say little.
    epochs, batch_size : int
        Of every run.
    optimizer : str or Optimizer
        Its own rate is not used.
    schedule : Schedule or callable, optional
        Factors of the swept rate: a schedule, or a function from the number of the step to a factor.
    validation_data : tuple (X, y) or (X, y, sample_weight), optional
        What runs are compared on. Without it each seed holds out a fifth of the rows, by classes where y holds classes.
    sample_weight : array-like, (n,), optional
        How much each row counts, in training and, of rows held out, in losses and metrics.
    class_weight : mapping, or "balanced", optional
        How much each class counts in training, as in `MLP.fit`.
    callbacks : sequence of Callback
        What ends runs early, each by a copy of its own: `EarlyStopping`, `StopStalled`, and `MaxSeconds`, which counts
        the time of each run alone and ends it with an epoch. A run that `EarlyStopping` takes back to its best epoch
        counts by that one. Not with `halving`, which ends runs itself.
    metric : str or callable
        What rates are compared by, on the rows held out: "loss", "accuracy", "balanced_accuracy", "r2", "rmse", "mae",
        or ``f(y, predictions)``. Best rate, interval, `halving` and all advice then go by it; where larger is better,
        by ``1 - value``, for functions by ``-value``. Losses are in the result all the same.
    maximize : bool
        Whether more is better, of a function.
    halving : int, optional
        Successive halving (after Jamieson and Talwalkar 2016): all rates train for a share of the epochs, those worth
        it go on for about `halving` times as long, and so forth. Early epochs favour large rates. So a rate is
        eliminated only if it is worse than the best by more than its error, and if no trend leads it back: a smaller
        rate has time, in proportion, to arrive; a larger one stays if its loss falls steeply. The first comparison is
        after 2 epochs or a ninth of them, whichever is more, and by about half of the seeds; a schedule runs over its
        whole length. What is eliminated leaves the statistics, but for `best_by_epoch`. With 5 seeds it saves half of
        the epochs, and 1 in 20 sweeps eliminates the best rate (docs/explanation/sweeps.md).
    target_loss : float, optional
        Validation loss to which the time is taken.
    threads : int, optional
        By default all that the process may use; with an executor, one in each task. Results do not depend on it.
    journal : path-like, optional
        File to which every finished run is appended, as a line of JSON. If it is there already, only what it lacks is
        run; it must be of the same data and settings.
    executor : concurrent.futures.Executor, optional
        Trains the runs elsewhere: in a pool of processes, with Dask, Ray or MPI. The results are the same bits on
        machines of one kind. With `halving`, what survives a round is trained anew from its start.
    progress : bool
        Show a progress bar on stderr.
    precision : {"float32", "bfloat16"}
        Of the operands of products, as in `MLP.fit`.

    Returns
    -------
    LrSweep
        Losses by rate, seed and epoch; best rate, interval and recommendation; time and speed of every run.

    Raises
    ------
    ValueError, TypeError
        If an argument is not as described, or the journal is of another sweep.
    SweepInterrupted
        On Ctrl-C: a KeyboardInterrupt whose `result` holds the runs that had finished.

    Warns
    -----
    UserWarning
        If the best rate is the lowest or highest of those swept.

    Examples
    --------
    >>> sweep = fastbp.lr_sweep(net, X, y, learning_rates=[1e-3, 1e-2, 1e-1], seeds=2, epochs=5)
    >>> sweep.val_loss.shape  # rates, seeds, epochs
    (3, 2, 5)
    """
    if not isinstance(net, MLP):
        raise TypeError(f"net must be a fastbp.MLP, got {type(net).__name__}")
    rates = check_rates(learning_rates)
    chosen = check_seeds(seeds, net.seed)
    measure, followed = (
        Metric.get(metric, net.loss, validation.check_flag("maximize", maximize)),
        endings.check(callbacks),
    )
    spec = make_spec(
        net, X, y, epochs, batch_size, optimizer, schedule, validation_data, precision, sample_weight=sample_weight,
        class_weight=class_weight, metric=measure, callbacks=followed,
    )  # fmt: skip
    epochs, threads, halving = spec.epochs, check_threads(threads), check_halving(halving)
    if halving is not None and followed:
        raise ValueError(
            f"halving={halving} decides itself which runs end early: leave it or "
            f"callbacks=[{', '.join(type(one).__name__ for one in followed)}] out"
        )
    if target_loss is not None:
        target_loss = validation.check_finite_number("target_loss", target_loss)
    remote.check_executor(executor)
    ends = rungs(len(rates), epochs, halving)
    ledger = Ledger(np.repeat(rates, len(chosen)), chosen * len(rates), epochs, measure)
    with Journal(journal, spec) as log, SweepProgress(ledger, len(chosen), epochs, show=progress) as bar:
        log.read(ledger)

        def report(which: Array) -> None:
            log.write(ledger, which)
            bar.update()

        runner: Runner
        if executor is None:
            runner = Native(spec, ledger, threads or team.default_threads(), resumable=len(ends) > 1, report=report)
        else:
            runner = Remote(executor, spec, ledger, threads or 1, report)
        started = time.perf_counter()
        eliminated, completed = halve(runner, ledger, len(chosen), ends, bar.drop)
        wall = time.perf_counter() - started
    result = LrSweep.of(
        spec, ledger, chosen, eliminated, wall=wall, busy=runner.busy_seconds, threads=runner.n_threads,
        halving=halving, target_loss=target_loss,
    )  # fmt: skip
    if not completed:
        done = int((result.status != "open").sum())
        kept = f", and kept in {os.fspath(journal)}" if journal is not None else ""
        raise SweepInterrupted(f"{done} of {len(ledger)} runs had finished{kept}", result)
    if result.edge:
        tell(result.edge, UserWarning, stacklevel=3)
    return result


class Remote:
    """Trains runs in the tasks of an executor; each task trains some of them natively, from their start."""

    def __init__(
        self, executor: concurrent.futures.Executor, spec: RunSpec, ledger: Ledger, threads: int,
        report: Callable[[Array], None],
    ) -> None:  # fmt: skip
        self.executor, self.spec, self.ledger, self.threads = executor, spec, ledger, threads
        self.report = report
        self.workers = remote.workers_of(executor)
        self.n_threads = self.workers * threads
        self.busy_seconds = 0.0

    def train(self, which: Array, end: int) -> bool:
        """Deal the runs out to tasks, so that each has small and large rates, and record the results."""
        n = min(len(which), remote.TASKS_A_WORKER * self.workers)

        def arguments(part: Array) -> tuple[Any, ...]:
            return run_chunk, self.spec, self.ledger.part(part), end, self.threads

        return remote.deal(self.executor, [which[k::n] for k in range(n)], arguments, self._record)

    def _record(self, part: Array, found: Ledger) -> None:
        """Copy the runs of a task into the ledger."""
        self.ledger.take(part, found)
        self.busy_seconds += float(found.seconds.sum())
        self.report(part)


@own
def run_chunk(spec: RunSpec, ledger: Ledger, end: int, threads: int = 1) -> Ledger:
    """Train all runs of a ledger from their start to the end of epoch `end`: what an executor's task does."""
    runner = Native(spec, ledger, threads, resumable=False, report=lambda which: None)
    if not runner.train(np.arange(len(ledger)), end):
        raise KeyboardInterrupt
    return ledger


# --- checks -------------------------------------------------------------------------------------------------


def make_spec(
    net: MLP, X: npt.ArrayLike, y: npt.ArrayLike, epochs: int, batch_size: int, optimizer: str | optimizers.Optimizer,
    schedule: Any, validation_data: Any, precision: Any = precisions.FLOAT32, *, sample_weight: Any = None,
    class_weight: Any = None, metric: Metric = LOSS, callbacks: tuple[Any, ...] = (),
) -> RunSpec:  # fmt: skip
    """What the runs of a sweep depend on, from arguments as `MLP.fit` takes them, all checked."""
    optimizer, schedule = optimizers.get(optimizer), schedules.get(schedule)
    precision = precisions.check(precision, net.dtype)
    epochs = validation.check_positive_int("epochs", epochs)
    batch_size = validation.check_positive_int("batch_size", batch_size)
    samples, targets, weights, _ = net.session.check_batch(X, y, sample_weight, scan=True)
    held_out = None
    given: tuple[Any, Any] = None, None
    if metric.function is not None or class_weight is not None:
        given = np.asarray(y), None if validation_data is None else np.asarray(sample_weights.parts(validation_data)[1])
    if validation_data is not None:
        names = "validation X", "validation y", "validation sample_weight"
        held_out = net.session.check_batch(*sample_weights.parts(validation_data), scan=True, names=names)[:3]
        sample_weights.check_total(held_out[2], what="validation rows")
    strata = sample_weights.strata(net.loss, y, targets)
    spec = RunSpec(
        fresh(net, net.seed), samples, targets, weights, strata, held_out, epochs, batch_size, optimizer, schedule,
        precision, class_weight, metric, given, callbacks,
    )  # fmt: skip
    if class_weight is not None or sample_weight is not None:
        sample_weights.check_effect(spec.training_weights(net.seed), spec.rows(net.seed)[0], batch_size)
    if optimizer.full_batch:
        raise ValueError(
            f"optimizer={optimizer!r} finds the lengths of its steps itself: it has no learning rate to sweep"
        )
    if held_out is None:
        rare = splits.rare_classes(net.session.spec, net.class_labels, strata, *spec.rows(net.seed))  # type: ignore[arg-type]
        if rare:
            warnings.warn(f"rows that each seed holds out: {rare}", UserWarning, stacklevel=4)
    optimizer.check_fit(spec.n_train, batch_size, schedule, net.regularization)
    return spec if batch_size <= spec.n_train else spec.with_batch(spec.n_train)


def check_rates(learning_rates: object) -> Array:
    """The rates, checked, sorted, and without repetitions."""
    if isinstance(learning_rates, str) or not isinstance(learning_rates, Iterable):
        raise TypeError(f"learning_rates must be a sequence of numbers, got {learning_rates!r}")
    values = list(learning_rates)
    if not values:
        raise ValueError("learning_rates is empty: give some, e.g. numpy.geomspace(1e-4, 1, 13)")
    return np.unique(
        [validation.check_positive_finite(f"learning_rates[{k}]", value) for k, value in enumerate(values)]
    )


def check_seeds(seeds: object, first: int) -> list[int]:
    """The seeds, checked: those given, or so many from `first` on."""
    if isinstance(seeds, Iterable) and not isinstance(seeds, str):
        values = []
        for k, seed in enumerate(seeds):
            checked = validation.check_seed(seed)
            if checked is None:
                raise TypeError(f"seeds[{k}] must be an integer, got None")
            values.append(checked)
        if not values or len(set(values)) != len(values):
            raise ValueError(f"seeds must be different integers, at least one, got {values}")
        return values
    return [(first + k) % (1 << 64) for k in range(validation.check_positive_int("seeds", seeds))]


def check_halving(halving: int | None) -> int | None:
    """None, or an integer of at least 2."""
    if halving is None:
        return None
    factor = validation.check_positive_int("halving", halving)
    if factor < 2:
        raise ValueError(
            f"halving must be at least 2: after each round one in so many of the rates trains on; got {factor}"
        )
    return factor
