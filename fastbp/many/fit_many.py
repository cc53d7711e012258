"""`fit_many`: networks of any kinds, trained side by side; cross-validation, ensembles and sweeps stand on it."""

from __future__ import annotations

import concurrent.futures
import os
from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from typing import Any

import numpy.typing as npt

from fastbp import optimizers, schedules
from fastbp.callbacks.base import Callback
from fastbp.engine import team
from fastbp.errors import NetworksFailed, SweepInterrupted
from fastbp.history import History
from fastbp.io.progress import ProgressBar
from fastbp.many import remote
from fastbp.many import tasks as _tasks
from fastbp.many.crew import Crew
from fastbp.many.remote import check_executor
from fastbp.many.task import Task
from fastbp.many.task_journal import TaskJournal
from fastbp.network import MLP
from fastbp.numerics import own
from fastbp.training.settings import check_threads
from fastbp.validation import check_flag


@own
def fit_many(
    nets: Sequence[MLP],
    X: npt.ArrayLike | Sequence[npt.ArrayLike],
    y: npt.ArrayLike | Sequence[npt.ArrayLike],
    *,
    rows: Sequence[npt.ArrayLike | None] | None = None,
    epochs: int | list[int] = 10,
    batch_size: int | list[int] = optimizers.BATCH_SIZE,
    optimizer: str | optimizers.Optimizer | list[Any] = "adam",
    schedule: schedules.Schedule | Callable[[int], float] | list[Any] | None = None,
    validation_data: tuple[npt.ArrayLike, ...] | list[Any] | None = None,
    validation_split: float | list[float] = 0.0,
    sample_weight: npt.ArrayLike | list[Any] | None = None,
    class_weight: Mapping[int, float] | str | list[Any] | None = None,
    shuffle: bool | list[bool] = True,
    drop_last: bool | list[bool] = False,
    precision: str | list[str] = "float32",
    callbacks: Sequence[Callback] | Sequence[Sequence[Callback]] = (),
    threads: int | None = None,
    journal: str | PathLike[str] | None = None,
    executor: concurrent.futures.Executor | None = None,
    progress: bool = False,
) -> list[History]:
    """Train many networks side by side, each on one thread.

    Each ends with the bits of its own ``net.fit``: weights, moments, history (but for its seconds). They may differ in
    everything: sizes, loss, dtype, data, rows and settings. Runs go to the threads longest first; one that stops early
    or diverges frees its thread at once. A network in training takes its parameters and moments; what else it needs,
    activations of a batch for one, belongs to the thread.

    Parameters
    ----------
    nets : sequence of MLP
        What to train; each once.
    X : array-like, (n, n_in), or list of arrays
        Rows for all networks, or of each.
    y : array-like or list of arrays
        Their targets, for all or of each.
    rows : sequence, optional
        For each network the numbers of the rows that it is trained on, or a mask; None: all.
    epochs, batch_size, optimizer, schedule, validation_split, class_weight, shuffle, drop_last, precision
        As `MLP.fit` takes them: one for all networks, or a list, tuple or array with one for each.
    validation_data : tuple, or list of tuples
        ``(X, y)`` or ``(X, y, sample_weight)``, for all or of each.
    sample_weight : array-like, (n,), or list of arrays
        Weights of the rows of X, for all networks or of each.
    callbacks : sequence, or sequence of sequences
        For all networks, each of which gets copies; or those of each. `EarlyStopping`, `StopStalled` and `MaxSeconds`
        cost next to nothing. With others, with a schedule that is a function or a `ReduceOnPlateau`, and with L-BFGS,
        a network is trained by its own `fit` on one of the threads, and takes the memory of that.
    threads : int, optional
        By default all that the process may use; with an executor, one in each task. Results do not depend on it.
    journal : path-like, optional
        File to which every network is appended when its training has ended, as a line of JSON. If it is there already,
        only what it lacks is trained: it knows a training by a digest of all that it depends on.
    executor : concurrent.futures.Executor, optional
        Trains them elsewhere: in a pool of processes, with Dask, Ray or MPI, to the same bits on machines of one kind.
    progress : bool
        Show a progress bar on stderr, of the networks that have ended.

    Returns
    -------
    list of History
        One a network, in their order; also kept as ``net.history``.

    Raises
    ------
    ValueError, TypeError
        If an argument is not as described: before anything is trained, by the number of the network.
    NetworksFailed
        If some networks diverged, say: all others have been trained, and those that failed are as `fit` leaves them.
    SweepInterrupted
        On Ctrl-C: a KeyboardInterrupt whose `result` has the histories of those that had finished. Networks that were
        at work have the epochs that they had finished in their `history`, as after a `fit` that was interrupted.

    Examples
    --------
    >>> nets = [fastbp.MLP([4, n, 3], seed=n) for n in (4, 8, 16)]
    >>> histories = fastbp.fit_many(nets, X, y, epochs=5, optimizer=[fastbp.Adam(lr) for lr in (0.1, 0.03, 0.01)])
    >>> [len(history.loss) for history in histories]
    [5, 5, 5]
    """
    arguments = {
        "epochs": epochs, "batch_size": batch_size, "optimizer": optimizer, "schedule": schedule,
        "validation_data": validation_data, "validation_split": validation_split, "sample_weight": sample_weight,
        "class_weight": class_weight, "shuffle": shuffle, "drop_last": drop_last, "callbacks": callbacks,
        "precision": precision,
    }  # fmt: skip
    nets = _tasks.check_nets(nets)
    todo = _tasks.of_arguments(nets, X, y, rows, arguments, named)
    completed = train(todo, threads, journal=journal, executor=executor, progress=progress)
    histories: list[Any] = [task.history if task.finished else None for task in todo]
    if not completed:
        raise interrupted(todo, journal, histories)
    raise_failures(todo, named, histories)
    return histories


def named(number: int) -> str:
    """How errors call a network."""
    return f"nets[{number}]"


def train(
    todo: Sequence[Task], threads: int | None, *, journal: str | PathLike[str] | None = None, networks: bool = True,
    executor: concurrent.futures.Executor | None = None, progress: bool = False,
) -> bool:  # fmt: skip
    """Do all tasks; returns False after Ctrl-C. networks: the journal keeps them, too."""
    used, shown = check_threads(threads), check_flag("progress", progress)
    check_executor(executor)
    with TaskJournal(journal, networks=networks) as log, ProgressBar("networks", len(todo), show=shown) as bar:
        left = log.restore(todo)
        done = len(todo) - len(left)

        def report(ended: Sequence[Task]) -> None:
            nonlocal done
            log.write(ended)
            done += len(ended)
            if bar.shown:
                failed = sum(task.error is not None for task in todo)
                bar.update(done, f"{failed} failed" if failed else "")

        if executor is not None:
            return remote.train(executor, left, used or 1, report)
        return Crew(left, used or team.default_threads(), report).run()


def interrupted(todo: Sequence[Task], journal: Any, result: Any) -> SweepInterrupted:
    """What to raise after Ctrl-C."""
    n, kept = sum(task.finished for task in todo), "" if journal is None else f", and kept in {os.fspath(journal)}"
    return SweepInterrupted(f"{n:,} of {len(todo):,} networks had been trained{kept}", result)


def raise_failures(todo: Sequence[Task], named: Callable[[int], str], result: Any) -> None:
    """Raise an error that names the networks that failed, if there are any."""
    errors = {task.number: task.error for task in todo if task.error is not None}
    if errors:
        first, error = next(iter(errors.items()))
        others = f", and {len(errors) - 1:,} more" if len(errors) > 1 else ""
        text = f"{named(first)}: {error}{others} ({len(errors):,} of {len(todo):,} networks failed; all others are "
        raise NetworksFailed(text + "trained)", errors, result) from error
