"""The threads that run a kernel together: parked between calls, borrowed for one call, new in a forked child."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

from fastbp.threads import default_threads as default_threads

Work = Callable[[int], Any]
# Signals that may be told to raise KeyboardInterrupt.
_ENDING = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


class _Worker:
    """A thread that waits for work. A lock is the lightest hand-over there is in Python."""

    def __init__(self) -> None:
        self.start, self.done = threading.Lock(), threading.Lock()
        self.start.acquire()
        self.done.acquire()
        self.busy = False
        self.job: tuple[Work, int, set[int]] | None = None
        self.error: BaseException | None = None
        self.thread = threading.Thread(target=self._loop, name="fastbp", daemon=True)
        self.thread.start()

    def _loop(self) -> None:
        while True:
            self.start.acquire()
            assert self.job is not None
            work, number, cpus = self.job
            self.job = None
            try:
                _stay_on(0, cpus)
                work(number)
            except BaseException as error:  # handed to the caller
                self.error = error
            del work
            self.busy = False
            with contextlib.suppress(RuntimeError):  # released already, if a signal ended the wait before this one
                self.done.release()

    def give(self, work: Work, number: int, cpus: set[int], caller: int) -> None:
        """Start work; from a CPU other than the caller's, where there is one, and then wherever the system likes."""
        self.job, self.error, self.busy = (work, number, cpus), None, True
        _stay_on(self.thread.native_id, cpus - {caller})
        self.start.release()

    def wait(self) -> None:
        while self.busy:  # the lock may be free since an earlier wait, which a signal ended
            self.done.acquire()


_idle: list[_Worker] = []


def _forget_workers() -> None:
    """A forked child has the list, but not the threads."""
    _idle.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_workers)


def run(work: Work, n_threads: int, *, detached: bool = False) -> None:
    """Call ``work(0)`` to ``work(n_threads - 1)`` at once, and wait for all.

    detached: leave none to the calling thread, so that it goes on seeing signals while the others compute.
    """
    if n_threads == 1 and not detached:
        work(0)
        return
    here = 0 if detached else 1
    workers = []
    for _ in range(n_threads - here):
        try:
            workers.append(_idle.pop())
        except IndexError:
            workers.append(_Worker())
    cpus, caller = _placement(detached)
    for number, worker in enumerate(workers, here):
        worker.give(work, number, cpus, caller)
    try:
        if not detached:
            work(0)
    finally:
        # A signal handler of the user's own may raise in the middle: the kernel still works on the caller's memory.
        raised: list[BaseException] = []
        while any(worker.busy for worker in workers):
            try:
                for worker in workers:
                    worker.wait()
            except BaseException as error:
                raised.append(error)
        _idle.extend(workers)
    for worker in workers:
        if worker.error is not None:
            raised.append(worker.error)
    if raised:
        raise raised[0]


@contextlib.contextmanager
def interruptible(stop: Callable[[], None]) -> Iterator[Callable[[], bool]]:
    """Turn Ctrl-C into a call of `stop` while the block runs; yields a function that tells whether it came.

    An exception between the hand-over to one worker and to the next would leave the first at a barrier for ever, so
    KeyboardInterrupt is raised by the caller, when the kernel has returned. A handler of the user's own is left alone.
    Other signals that do the same as Ctrl-C, as those to end the process on the command line, are treated alike.
    """
    came = False

    def on_interrupt(number: int, frame: Any) -> None:
        nonlocal came
        came = True
        stop()

    ours: list[int] = []
    if threading.current_thread() is threading.main_thread():
        ours = [number for number in _ENDING if signal.getsignal(number) is signal.default_int_handler]
    for number in ours:
        signal.signal(number, on_interrupt)
    try:
        yield lambda: came
    finally:
        for number in ours:
            signal.signal(number, signal.default_int_handler)


class Chooser:
    """The number of threads for the next chunk of steps: what has been fastest of late, one or all.

    Results do not depend on it, so it may change at any chunk: that is how a busy neighbour is survived. The other
    candidate is tried now and then, for a time that is small beside what has passed since, and taken if it is faster
    than the present one was just then: on a shared host what was measured a second ago says little. Trials that fail
    come at ever longer pauses, until something changes.
    """

    SHARE = 0.025  # of the time since the last trial: what one may take, at the speed of the present choice
    LEAST, MOST = 0.001, 0.01  # seconds of a trial
    PAUSE, LONGEST = 0.2, 1.6  # seconds between two trials
    MARGIN = 1.15  # what more threads must gain: a moment's advantage of less is soon lost when one of them has to wait
    SLOWER = 1.25  # a chunk so much slower than those before: something has changed

    def __init__(self, wanted: int | None, expected: int, most: int) -> None:
        self.most = most
        self.candidates = [most] if wanted or most == 1 else [1, most]
        self.best = expected if expected in self.candidates else most
        self.seconds: dict[int, float] = {}  # a step, by number of threads
        self.since = 0.0  # seconds since the last trial
        self.pause = self.PAUSE
        self.trial: tuple[int, float] | None = None  # what `next` is to return for the second half of a trial
        self.cold = False  # the trial is in its first half, in which another thread's caches fill: it does not count
        self.doubtful = False  # the present choice rests on a trial alone

    def next(self, chunk_seconds: float) -> tuple[int, float]:
        """(threads, seconds) of the next chunk."""
        if self.trial is not None:
            return self.trial
        step = self.seconds.get(self.best)
        if step is not None and len(self.candidates) > 1:
            other = next(n for n in self.candidates if n != self.best)
            allowed = min(self.SHARE * self.since, max(self.MOST, 2.0 * step))
            if allowed >= max(self.LEAST, 2.0 * step) and (other not in self.seconds or self.since >= self.pause):
                self.since, self.cold = 0.0, True
                self.trial = other, 0.5 * allowed
                return self.trial
        return self.best, chunk_seconds

    def note(self, threads: int, steps: int, seconds: float) -> None:
        """Learn how long some steps took."""
        self.since += seconds
        now = seconds / steps
        if threads == self.best:
            self._note_best(threads, now)
        elif self.cold:
            self.cold = False
        else:
            self.trial = None
            self.seconds[threads] = now
            if now * (self.MARGIN if threads > self.best else 1.0) < self.seconds[self.best]:
                self.best, self.doubtful = threads, True
            else:
                self._wait_longer()

    def _note_best(self, threads: int, now: float) -> None:
        before = self.seconds.get(threads, now)
        self.seconds[threads] = min(now, 0.5 * (before + now))
        if self.doubtful:
            self.doubtful = False
            other = next(n for n in self.candidates if n != threads)
            if now > self.seconds[other]:  # a lucky trial
                self.best = other
                self._wait_longer()
            else:
                self.pause = self.PAUSE
        elif now > self.SLOWER * before:
            self.pause = self.PAUSE

    def _wait_longer(self) -> None:
        self.pause = min(2.0 * self.pause, self.LONGEST)


# --- placement ----------------------------------------------------------------------------------------------
# A freshly woken thread may be put on its waker's CPU, and wait there for a time slice of some milliseconds.

try:
    _getcpu: Callable[[], int] | None = ctypes.CDLL(None).sched_getcpu
    os.sched_getaffinity  # noqa: B018 - where it is missing, placement is the system's affair
except (AttributeError, OSError, TypeError):
    _getcpu = None


def _placement(detached: bool) -> tuple[set[int], int]:
    """(CPUs that the calling thread may use, the one that it is on): empty and -1 where nothing needs to be placed."""
    if _getcpu is None or detached:
        return set(), -1
    return os.sched_getaffinity(0), _getcpu()


def _stay_on(thread: int | None, cpus: set[int]) -> None:
    """Let a thread (0: this one) run on some CPUs alone, if there are any."""
    if cpus and thread is not None:
        with contextlib.suppress(OSError):
            os.sched_setaffinity(thread, cpus)
