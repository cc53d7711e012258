"""Dask as an executor of sweeps: data sent to every worker once, and the runs of a lost worker done again."""

from __future__ import annotations

import concurrent.futures
import contextlib
import functools
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any

from fastbp.many.remote import Shared
from fastbp.many.run_spec import RunSpec

# Seconds to wait for the scheduler, and for a first worker.
PATIENCE = 30.0
# How often a task is sent anew after its data were lost, and the data after a worker was; seconds between the latter.
RETRIES, PAUSE = 5, 0.2


class DaskExecutor(concurrent.futures.Executor):
    """The workers of a Dask cluster, for ``lr_sweep(..., executor=...)``, `fit_many` and what stands on it.

    ``Client.get_executor()`` does it too, but sends the data with every task.

    Parameters
    ----------
    client : distributed.Client or str
        A client, which stays open, or the address of a scheduler such as "tcp://host:8786".
    timeout : float
        Seconds to wait for the scheduler and for a first worker.

    Raises
    ------
    ImportError
        Dask is not installed (extra `dask`).
    OSError
        The scheduler does not answer, or has no workers.

    Notes
    -----
    A task whose worker vanishes is given to another one by Dask itself. Where the last copy of the data vanished with
    it, the task is sent anew here, with the data. An error in a task is not tried again, nor a task with which several
    workers have died.

    What comes back are pickles, which can run any code here: the scheduler and all workers must be trusted, and by
    default nothing keeps others away from their ports. ``docs/how-to/distributed.md`` tells more.
    """

    def __init__(self, client: Any, *, timeout: float = PATIENCE) -> None:
        try:
            from distributed import Client
        except ImportError as error:
            raise ImportError('a Dask cluster needs Dask: pip install "fastbp[dask]"') from error
        self.owned = isinstance(client, str)
        self.client: Any = _open(Client, client, timeout) if self.owned else client
        self._lock = threading.Lock()
        self._sent: dict[int, tuple[weakref.ref[RunSpec | Shared], Any]] = {}
        try:
            self.client.wait_for_workers(1, timeout=timeout)
        except TimeoutError as error:
            address = self.client.scheduler_info()["address"]
            self.shutdown()
            raise OSError(f"the Dask scheduler at {address} has no workers: start some with `dask worker`") from error

    @property
    def num_workers(self) -> int:
        """Tasks that the workers can do at the same time."""
        threads: int = sum(self.client.nthreads().values())
        return max(1, threads)

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> concurrent.futures.Future[Any]:
        """Have ``fn(*args, **kwargs)`` done by a worker; what tasks share is sent once to them all."""
        future: concurrent.futures.Future[Any] = concurrent.futures.Future()
        future.add_done_callback(_tell_cancelled)
        self._send(future, fn, args, kwargs, RETRIES)
        return future

    def _send(self, future: Any, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: Any, retries: int) -> None:
        there = [self._scattered(one) if isinstance(one, RunSpec | Shared) else one for one in args]

        def receive(task: Any) -> None:
            """Pass the result or the error on; called in a thread of Dask's."""
            if future.cancelled():
                return
            try:
                found = task.result()
            except concurrent.futures.CancelledError as error:
                try:
                    if not retries:
                        raise OSError(f"the Dask cluster lost a task {RETRIES} times") from error
                    self._forget(there)
                    self._send(future, fn, args, kwargs, retries - 1)
                except Exception as final:
                    _finish(future, final)
            except Exception as error:
                _finish(future, error)
            else:
                _finish(future, None, found)

        def cancel(done: Any) -> None:
            if done.cancelled():
                task.cancel()

        task = self.client.submit(fn, *there, pure=False, **kwargs)
        future.add_done_callback(cancel)
        task.add_done_callback(receive)

    def _scattered(self, spec: RunSpec | Shared) -> Any:
        """The future of what tasks share, which every worker has."""
        with self._lock:
            # Workers have it as long as there is such an object here: until a call of `fit_many` returns, say.
            for left in range(RETRIES, -1, -1):
                if id(spec) in self._sent:
                    break
                self.client.wait_for_workers(1, timeout=PATIENCE)
                try:
                    sent = self.client.scatter(spec, broadcast=True, hash=False)
                    self._sent[id(spec)] = weakref.ref(spec, functools.partial(_drop, self._sent, id(spec))), sent
                except OSError:  # a worker vanished meanwhile
                    if not left:
                        raise
                    time.sleep(PAUSE)
            return self._sent[id(spec)][1]

    def _forget(self, there: list[Any]) -> None:
        """Send data anew that a task had and lost, unless that has been done for another task."""
        with self._lock:
            for key, (_, sent) in self._sent.copy().items():
                if any(sent is one for one in there):
                    _drop(self._sent, key)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Forget the data; close the client if it was opened here."""
        with self._lock:
            self._sent.clear()
        if self.owned:
            self.client.close()


def _drop(sent: dict[int, Any], key: int, _: Any = None) -> None:
    """Forget what has been sent; without a lock, since it is called wherever an object comes to its end."""
    sent.pop(key, None)


def _open(kind: Any, address: str, timeout: float) -> Any:
    return kind(address, timeout=timeout, set_as_default=False)


def _tell_cancelled(future: Any) -> None:
    """Let those who wait for the future know that it was cancelled: `cancel` alone does not."""
    if future.cancelled():
        future.set_running_or_notify_cancel()


def _finish(future: Any, error: Exception | None, found: Any = None) -> None:
    """Give a future its result or error, unless it has been cancelled."""
    with contextlib.suppress(concurrent.futures.InvalidStateError):
        if error is None:
            future.set_result(found)
        else:
            future.set_exception(error)
