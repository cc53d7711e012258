"""A crew: the threads that take one task after the other, the longest first, until none is left or Ctrl-C comes."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fastbp.callbacks.base import EpochState, Training, Watcher
from fastbp.engine import team
from fastbp.engine.desk import Desk
from fastbp.engine.memory import allocate
from fastbp.errors import DivergenceError
from fastbp.many.task import Task
from fastbp.many.trainee import Trainee
from fastbp.numerics import quiet

# A native call lasts about so long, and carries no more networks: one by one, to come back to Python, where threads
# wait for each other, would take as long as the training of a small network.
CALL_SECONDS, MOST_SEATS = 4e-3, 64

Report = Callable[[Sequence[Task]], None]


class Crew:
    """Trains tasks on threads, each network on one of them.

    Parameters
    ----------
    tasks : sequence of Task
    threads : int
    report : callable
        Called with the tasks that have come to their end, from any thread, one call at a time.
    """

    def __init__(self, tasks: Sequence[Task], threads: int, report: Report) -> None:
        self.costs = {id(task): task.seconds for task in tasks}
        self.waiting = sorted(tasks, key=lambda task: self.costs[id(task)])  # taken from the end
        self.left = sum(self.costs.values())
        self.threads, self.report = max(1, min(threads, len(tasks))), report
        self.lock, self.stopped = threading.Lock(), False
        self.stop = allocate(16, np.dtype(np.int64))  # two cache lines: the first word counts
        self.busy = 0.0

    def run(self) -> bool:
        """Train all; returns False after Ctrl-C."""
        if not self.waiting:
            return True
        with team.interruptible(self.request_stop) as interrupted:
            team.run(self._work, self.threads, detached=True, stop=lambda word: self.request_stop())
        return not interrupted()

    def request_stop(self) -> None:
        """Have all threads come to their end within a step."""
        self.stopped = True
        self.stop[0] = 1

    def _take(self) -> list[Task]:
        """The tasks of the next native call: the longest that is left, and more if that is short."""
        with self.lock:
            if self.stopped or not self.waiting:
                return []
            batch = [self.waiting.pop()]
            took = self.costs[id(batch[0])]
            # Towards the end the calls get shorter, so that all threads come to it together.
            most = min(CALL_SECONDS, self.left / (2 * self.threads))
            kind = batch[0].kind
            while self.waiting and len(batch) < MOST_SEATS and not (batch[0].alone or batch[0].timed):
                other = self.waiting[-1]
                cost = self.costs[id(other)]
                if took + cost > most or other.kind != kind or other.alone or other.timed:
                    break
                batch.append(self.waiting.pop())
                took += cost
            self.left -= took
            return batch

    def _work(self, number: int) -> None:
        desks: dict[Any, Desk] = {}
        while batch := self._take():
            try:
                if batch[0].alone:
                    fit_alone(batch[0], self)
                else:
                    dtype, precision = kind = batch[0].kind
                    if kind not in desks:
                        desks[kind] = Desk(dtype, self.stop, precision)
                    self._train(batch, desks[kind])
                ended = [task for task in batch if task.finished]
                for task in ended:
                    task.end()
                with self.lock:
                    self.report(ended)
            except BaseException:  # of a full disk under the journal, of a bug
                self.request_stop()
                raise
        with self.lock:
            self.busy += sum(desk.busy for desk in desks.values())

    @quiet
    def _train(self, batch: list[Task], desk: Desk) -> None:
        """Train some networks, in native calls that carry all of them that have not ended."""
        with contextlib.ExitStack() as locks:
            desk.set_seats(len(batch), max(len(task.net.sizes) - 1 for task in batch))
            at_work: list[Trainee] = []
            for task in batch:
                try:
                    locks.enter_context(task.net.session.lock)
                    locks.enter_context(task.net.session.training())
                    at_work.append(Trainee(task, desk, len(at_work)))
                except (ValueError, RuntimeError, MemoryError) as error:
                    task.error, task.finished = error, True
            while at_work:
                for trainee in at_work:
                    trainee.aim()
                desk.call()
                for trainee in at_work:
                    trainee.settle()
                at_work = [one for one in at_work if not one.task.finished]
                if self.stopped:
                    break
            for trainee in at_work:
                trainee.leave()


@dataclasses.dataclass
class _Stop(Watcher):
    """Ends a `fit` within a chunk of steps when the crew is told to stop."""

    crew: Any
    brief = pauses = True

    def on_epoch_end(self, state: EpochState) -> str | None:
        return "interrupted" if self.crew.stopped else None

    def on_pause(self, fit: Training, final: bool) -> None:
        if self.crew.stopped and not final and not fit.history.stop_reason:
            fit.stop("interrupted", pauses=True)


def fit_alone(task: Task, crew: Crew) -> None:
    """Train by `MLP.fit`, on this thread alone."""
    given = {**task.given, "threads": 1, "progress": False}
    stop = _Stop(crew)
    callbacks = [one for one in given.get("callbacks", ())]
    try:
        task.history = task.net.fit(**{**given, "callbacks": [*callbacks, stop]})
        task.finished = not (crew.stopped and task.history.stop_reason == "_Stop: interrupted")
    except DivergenceError as error:
        task.history, task.error, task.finished = error.history, error, True
    except Exception as error:  # of a callback of the user's, above all
        task.history, task.error, task.finished = task.net.history, error, True
