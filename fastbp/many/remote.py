"""Work dealt out to the tasks of an executor: a pool of processes, Dask, Ray or MPI."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import os
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fastbp.many.crew import Crew
from fastbp.many.task import Task
from fastbp.numerics import own
from fastbp.spec import Samples

# Tasks for each worker of an executor: enough that a slow worker delays the end by little.
TASKS_A_WORKER = 4


def check_executor(executor: Any) -> Any:
    """An executor, or None."""
    if executor is not None and not callable(getattr(executor, "submit", None)):
        raise TypeError(f"executor must be a concurrent.futures.Executor, got {executor!r}")
    return executor


def workers_of(executor: Any) -> int:
    """Tasks that an executor does at the same time."""
    # There is no public name for this: pools of the standard library have the one, `DaskExecutor` the other.
    workers = getattr(executor, "_max_workers", None) or getattr(executor, "num_workers", None)
    return workers if isinstance(workers, int) else os.cpu_count() or 1


def deal(
    executor: concurrent.futures.Executor, parts: Sequence[Any], arguments: Callable[[Any], tuple[Any, ...]],
    record: Callable[[Any, Any], None],
) -> bool:  # fmt: skip
    """Submit a task for each part and record what it returns; returns False after Ctrl-C.

    arguments: of `submit`, for a part. record: called with the part and the result, as tasks end.
    """
    tasks: dict[concurrent.futures.Future[Any], Any] = {}
    try:
        for part in parts:
            tasks[executor.submit(*arguments(part))] = part
        failed: BaseException | None = None
        for future in concurrent.futures.as_completed(list(tasks)):
            error = None if future.cancelled() else future.exception()
            if error is None:
                _record(future, tasks.pop(future), record)
                continue
            for other in tasks:  # tasks that are running finish, and are recorded
                other.cancel()
            failed = failed or error
        if failed is not None:
            raise failed
    except KeyboardInterrupt:
        for future in [one for one in tasks if one.done() and not one.cancelled() and one.exception() is None]:
            _record(future, tasks.pop(future), record)
        return False
    finally:
        for future in tasks:
            future.cancel()
    return True


def _record(future: concurrent.futures.Future[Any], part: Any, record: Callable[[Any, Any], None]) -> None:
    if not future.cancelled():
        record(part, future.result())


@dataclasses.dataclass(frozen=True)
class _Place:
    """Stands for data that are sent apart."""

    number: int


@dataclasses.dataclass(frozen=True, eq=False)
class Shared:
    """Arrays and tables that several tasks hold: `DaskExecutor` sends them to every worker once."""

    data: tuple[Any, ...]

    def restored(self, value: Any) -> Any:
        """The data at a place, and all else as it is."""
        return self.data[value.number] if isinstance(value, _Place) else value


def share(todo: Sequence[Task]) -> tuple[Shared, list[Task]]:
    """What several tasks have in common, and copies of the tasks that hold places of it."""
    found: dict[int, Any] = {}
    counts: Counter[int] = Counter()
    for task in todo:
        own_data: dict[int, Any] = {}

        def note(value: Any, here: dict[int, Any] = own_data) -> Any:
            if isinstance(value, np.ndarray) or hasattr(value, "iloc"):
                here[id(value)] = value
            return value

        _mapped(task, note)
        counts.update(own_data.keys())
        found |= own_data
    places = {key: _Place(number) for number, key in enumerate(key for key, n in counts.items() if n > 1)}
    light = [_mapped(task, lambda value: places.get(id(value), value)) for task in todo]
    return Shared(tuple(found[key] for key in places)), light


def _mapped(task: Task, change: Callable[[Any], Any]) -> Task:
    """A copy of a task with its data, wherever it holds some, as `change` makes them."""

    def changed(value: Any) -> Any:
        if isinstance(value, Samples):
            return Samples(*map(changed, value))
        return tuple(map(changed, value)) if type(value) is tuple else change(value)

    after: Any = task.after
    if dataclasses.is_dataclass(after) and not isinstance(after, type):
        after = dataclasses.replace(after, **{name: changed(value) for name, value in vars(after).items()})
    given = {name: changed(value) for name, value in task.given.items()}
    return dataclasses.replace(
        task, samples=changed(task.samples), validation=changed(task.validation), given=given, after=after
    )


def train(
    executor: concurrent.futures.Executor, todo: Sequence[Task], threads: int, report: Callable[[Sequence[Task]], None]
) -> bool:
    """Do tasks elsewhere, several at a time; what they leave is put into their networks here."""
    longest = sorted(todo, key=lambda task: -task.seconds)
    n = min(len(longest), TASKS_A_WORKER * workers_of(executor))

    def record(part: list[Task], found: list[Task]) -> None:
        for task, done in zip(part, found, strict=True):
            task.take(done)
        report(part)

    shared, light = share(longest)
    parts = {id(task): one for task, one in zip(longest, light, strict=True)}

    def arguments(part: list[Task]) -> tuple[Any, ...]:
        return train_there, shared, [parts[id(task)] for task in part], threads

    return deal(executor, [longest[k::n] for k in range(n)], arguments, record)


@own
def train_there(shared: Shared, light: list[Task], threads: int) -> list[Task]:
    """What an executor's task does; the data stay there."""
    todo = [_mapped(task, shared.restored) for task in light]
    if not Crew(todo, threads, lambda ended: None).run():
        raise KeyboardInterrupt
    return [task.without_data() for task in todo]
