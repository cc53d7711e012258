"""The threads that run a kernel together: parked between calls, borrowed for one call, new in a forked child."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import contextlib
import ctypes
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from types import FrameType
from typing import Any

from fastbp.engine.threads import default_threads as default_threads
from fastbp.kernels.records import ABANDON, STOP

Work = Callable[[int], Any]
# Signals that may be told to raise KeyboardInterrupt.
_ENDING = [int(getattr(signal, name)) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


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
        self.job, self.error = (work, number, cpus), None
        _stay_on(self.thread.native_id, cpus - {caller})
        # On one line, so that no exception comes between: a thread that is busy without work is waited for for ever.
        self.busy = True; self.start.release()  # noqa: E702  # fmt: skip

    def wait(self, seconds: float | None) -> None:
        """Wait until the work is done, or for so long."""
        while self.busy:  # the lock may be free since an earlier wait, which a signal ended
            if not self.done.acquire(timeout=-1 if seconds is None else seconds):
                return


_idle: list[_Worker] = []
# Threads that never came back (see `FASTBP_WATCHDOG`), with the work whose memory they may still write to.
_lost: list[tuple[_Worker, Work]] = []


def _forget_workers() -> None:
    """A forked child has the list, but not the threads."""
    _idle.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_workers)


def _hire(workers: list[_Worker], n: int) -> None:
    """Make them n, of parked or new threads; fewer, where the system grants no more."""
    while len(workers) < n:
        try:
            workers.append(_idle.pop())
        except IndexError:
            try:
                workers.append(_Worker())
            except RuntimeError:  # can't start new thread
                break


def run(
    work: Work, n_threads: int, *, detached: bool = False, begin: Callable[[list[int]], None] | None = None,
    stop: Callable[[int], None] | None = None, patience: float | None = None, places: Sequence[set[int]] = (),
) -> None:  # fmt: skip
    """Call ``work(0)`` to ``work(n - 1)`` at once, and wait for all; n is `n_threads`, or what the system grants.

    Parameters
    ----------
    detached : bool
        Leave none to the calling thread, so that it goes on seeing signals while the others compute.
    begin : callable, optional
        Called before the work begins with the system's numbers of the n threads.
    stop : callable, optional
        Called with STOP where an exception (of a signal handler of the user's own) asks the work to come to its end
        early, or with ABANDON where one came before all threads had been started.
    patience : float, optional
        Seconds to wait for the others once this thread is done; then they are left alone for ever.
    places : sequence of set of int, optional
        CPUs of each of the n threads, such as those of one die; none: all that this process may use. The calling thread
        stays where it is.
    """
    workers: list[_Worker] = []
    raised: list[BaseException] = []
    come = False

    def settle() -> None:
        """Wait for all, and park them: a kernel works on the caller's memory, so nobody may leave before it."""
        while True:
            try:
                if any(worker.busy for worker in workers):
                    if stop is not None and (raised or not come):
                        stop(STOP if come else ABANDON)
                    for worker in workers:
                        worker.wait(patience)
                break
            except BaseException as error:
                raised.append(error)
        while workers:
            raised.extend(error for error in [workers[-1].error] if error is not None)
            if workers[-1].busy:
                _lost.append((workers.pop(), work))
            else:
                _idle.append(workers.pop())

    try:
        try:
            if n_threads > 1 or detached:
                _hire(workers, n_threads - (not detached))
            here = 0 if detached and workers else 1
            if begin is not None:
                own = [threading.get_native_id()] * here
                begin(own + [worker.thread.native_id or 0 for worker in workers])
            cpus, caller = _placement(detached) if workers else (set(), -1)
            for number, worker in enumerate(workers, here):
                own_cpus = cpus & places[number] if places else cpus
                worker.give(work, number, own_cpus or cpus, caller)
            if here:
                work(0)
            come = True
        except BaseException as error:
            raised.append(error)
        finally:
            settle()
    finally:
        settle()  # if an exception has cut the first off
    if raised:
        raise raised[0]


class interruptible:
    """Turn Ctrl-C into a call of `stop` while the block runs; called, it tells whether Ctrl-C came.

    What the block does to a network is of one piece then; KeyboardInterrupt is raised by the caller, when the kernel
    has returned. A handler of the user's own is left alone. Other signals that do the same as Ctrl-C, as those to end
    the process on the command line, are treated alike.
    """

    def __init__(self, stop: Callable[[], None]) -> None:
        self.stop, self.came = stop, False
        self._installed: list[int] = []  # signals that have been ours
        self._frame: FrameType | None = None

    def __call__(self) -> bool:
        return self.came

    def __enter__(self) -> interruptible:
        try:
            self._frame = sys._getframe(1)
            self._install()
            return self
        except BaseException:  # of a signal handler of the user's own, at this very moment
            self.__exit__()
            raise

    def __exit__(self, *error: object) -> None:
        # By the module under `signal`, whose own functions make enums of all numbers and handlers: 14 us a block, 20 %
        # of a short fit.
        for number in self._installed:
            if _signal.getsignal(number) == self._on_interrupt:
                _signal.signal(number, signal.default_int_handler)
        self._frame = None

    @contextlib.contextmanager
    def suspended(self) -> Iterator[None]:
        """Within, code of the user runs, and Ctrl-C does what it does elsewhere."""
        frame = self._frame
        if frame is None:  # the block has not been entered
            yield
            return
        self.__exit__()
        try:
            yield
        finally:
            self._frame = frame
            self._install()

    def _install(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        for number in _ENDING:
            present = _signal.getsignal(number)
            left_over = isinstance(getattr(present, "__self__", None), interruptible)
            if present is signal.default_int_handler or left_over:
                if number not in self._installed:
                    self._installed.append(number)
                _signal.signal(number, self._on_interrupt)

    def _on_interrupt(self, number: int, frame: FrameType | None) -> None:
        here = frame
        while here is not None and here is not self._frame:
            here = here.f_back
        if here is None:  # the block was left by an exception before it could put the old handler back
            signal.signal(number, signal.default_int_handler)
            signal.default_int_handler(number, frame)
        self.came = True
        self.stop()


@contextlib.contextmanager
def unlocked(lock: threading.RLock) -> Iterator[None]:
    """Give up a lock while the block runs, however often this thread holds it."""
    held: Any = None
    try:
        try:
            held = lock._release_save()  # type: ignore[attr-defined]
            yield
        finally:
            _hold(lock, held)
    finally:
        _hold(lock, held)  # if an exception has cut the first off


def _hold(lock: threading.RLock, held: Any) -> None:
    """Hold a lock as before, since our callers will release it, whatever exceptions come meanwhile."""
    raised: list[BaseException] = []
    while True:
        try:
            if not lock._is_owned():  # type: ignore[attr-defined]
                lock._acquire_restore(held)  # type: ignore[attr-defined]
            break
        except BaseException as error:  # of a signal handler
            raised.append(error)
    if raised:
        raise raised[0]


# --- placement ----------------------------------------------------------------------------------------------
# A freshly woken thread may be put on its waker's CPU, and wait there for a time slice of some milliseconds.

try:
    _getcpu: Callable[[], int] | None = ctypes.CDLL(None).sched_getcpu
    os.sched_getaffinity  # noqa: B018 - where it is missing, placement is the system's affair
except (AttributeError, OSError, TypeError):
    _getcpu = None


def caller_cpu() -> int:
    """The CPU that the calling thread is on; -1 where the system does not tell."""
    return -1 if _getcpu is None else _getcpu()


def _placement(detached: bool) -> tuple[set[int], int]:
    """(CPUs that the calling thread may use, the one that it is on): empty and -1 where nothing needs to be placed."""
    if _getcpu is None:
        return set(), -1
    return os.sched_getaffinity(0), -1 if detached else _getcpu()  # detached, the calling thread needs no CPU


def _stay_on(thread: int | None, cpus: set[int]) -> None:
    """Let a thread (0: this one) run on some CPUs alone, if there are any."""
    if cpus and thread is not None:
        with contextlib.suppress(OSError):
            os.sched_setaffinity(thread, cpus)
