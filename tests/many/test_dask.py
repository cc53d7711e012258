"""Sweeps on a real Dask cluster: a scheduler and worker processes, some of which are killed."""

from __future__ import annotations

import concurrent.futures
import gc
import json
import logging
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cloudpickle
import distributed
import numpy as np
import pytest
from click.testing import CliRunner

import fastbp
from fastbp.cli.main import main
from fastbp.many.dask import DaskExecutor
from fastbp.many.runs import make_spec

pytestmark = [
    pytest.mark.filterwarnings("ignore:the best learning rate:UserWarning"),  # at an edge of the few rates swept here
    # Sockets and loops that Dask leaves to the garbage collector.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
RATES = np.geomspace(1e-3, 1.0, 8)


def network() -> fastbp.MLP:
    return fastbp.MLP([64, 16, 10], seed=0)


def equal(a: fastbp.LrSweep, b: fastbp.LrSweep) -> bool:
    names = ("val_loss", "train_loss", "status", "epochs_done", "start_loss", "eliminated")
    return all(np.array_equal(getattr(a, name), getattr(b, name), equal_nan=name.endswith("loss")) for name in names)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Two worker processes, which are started again when they die."""
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0", silence_logs=logging.CRITICAL
    ) as found:
        yield found


@pytest.fixture(scope="module")
def client(cluster: Any) -> Iterator[Any]:
    with distributed.Client(cluster, set_as_default=False) as found:
        yield found


@pytest.mark.parametrize("options", [{}, {"halving": 2, "epochs": 4}], ids=["plain", "halving"])
def test_the_bits_are_those_of_a_local_sweep(client: Any, options: dict[str, Any]) -> None:
    arguments = {"seeds": 2, "epochs": 2} | options
    X, y = fastbp.datasets.load_digits()
    local = fastbp.lr_sweep(network(), X, y, RATES, **arguments)
    with DaskExecutor(client) as executor:
        assert executor.num_workers == 2
        assert equal(local, fastbp.lr_sweep(network(), X, y, RATES, executor=executor, **arguments))
    assert client.status == "running"  # it is the caller's
    assert equal(local, fastbp.lr_sweep(network(), X, y, RATES, executor=client.get_executor(), **arguments))


def test_networks_of_many_kinds_have_the_bits_of_a_local_training(client: Any) -> None:
    """Of other sizes, rows and settings; one diverges, and one needs its own `fit`."""
    X, y = fastbp.datasets.load_digits()

    def trained(executor: Any) -> tuple[list[Any], dict[int, str]]:
        nets = [fastbp.MLP([64, 8 + k, 10], seed=k, loss="mse" if k == 3 else "cross_entropy") for k in range(6)]
        targets = [np.eye(10)[y] if k == 3 else y for k in range(6)]
        rows = [np.arange(k, len(X), 4 + k) for k in range(6)]
        callbacks = [[fastbp.EarlyStopping(patience=1)] if k == 1 else [] for k in range(6)]
        failed: dict[int, str] = {}
        try:
            fastbp.fit_many(
                nets, X, targets, rows=rows, epochs=[2, 9, 2, 2, 1, 1], callbacks=callbacks, validation_split=0.2,
                optimizer=[fastbp.SGD(1e30 if k == 3 else 0.1) for k in range(6)],
                schedule=[(lambda step: 0.01) if k == 4 else None for k in range(6)], executor=executor,
            )  # fmt: skip
        except fastbp.NetworksFailed as error:
            failed = {number: str(one) for number, one in error.errors.items()}
        history = [one.history and (one.history.loss, one.history.val_loss, one.history.stop_reason) for one in nets]
        return [[one.tobytes() for one in (*net.weights, *net.biases)] for net in nets] + history, failed

    local, failed = trained(None)
    assert list(failed) == [3]
    with DaskExecutor(client) as executor:
        assert trained(executor) == (local, failed)


def test_the_data_are_sent_once(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    sent = []
    scatter = client.scatter
    monkeypatch.setattr(client, "scatter", lambda data, **options: sent.append(options) or scatter(data, **options))
    X, y = fastbp.datasets.load_digits()
    with DaskExecutor(client) as executor:
        fastbp.lr_sweep(network(), X, y, RATES, seeds=2, epochs=2, executor=executor)
    assert sent == [{"broadcast": True, "hash": False}]


def test_what_networks_share_is_sent_once(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not with each task: rows, targets and weights, for trainings by `fit` and by the metric too."""
    sent, tasks = [], []
    scatter, submit = client.scatter, client.submit
    monkeypatch.setattr(client, "scatter", lambda data, **how: sent.append(data) or scatter(data, **how))
    monkeypatch.setattr(client, "submit", lambda *given, **how: tasks.append(given) or submit(*given, **how))
    X, y = fastbp.datasets.load_digits()
    options: dict[str, Any] = {
        "over": {"lr": [0.01, 0.1], "schedule": [None, fastbp.schedules.ReduceOnPlateau()]}, "seeds": 3, "epochs": 1,
        "metric": "accuracy", "sample_weight": np.linspace(1, 2, len(y)),
    }  # fmt: skip
    local = fastbp.sweep(network(), X, y, **options)
    with DaskExecutor(client) as executor:
        found = fastbp.sweep(network(), X, y, executor=executor, **options)
    np.testing.assert_array_equal(found.scores, local.scores)
    assert len(sent) == 1
    assert len(tasks) > 1
    assert all(len(cloudpickle.dumps(given[2:])) < X.nbytes / 4 for given in tasks)


def test_workers_keep_no_data_of_calls_that_have_returned(client: Any) -> None:
    """Of many cross-validations over one executor, say."""
    X, y = fastbp.datasets.load_digits()
    with DaskExecutor(client) as executor:
        for _ in range(3):
            fastbp.fit_many([network() for _ in range(3)], X, y, epochs=1, executor=executor)
        end = time.monotonic() + 20
        while client.who_has() and time.monotonic() < end:
            gc.collect()
            time.sleep(0.05)
        assert not client.who_has()


def held(folder: str, function: Any, *arguments: Any) -> Any:
    """A worker's task that says that it has begun, and waits until it may go on."""
    Path(folder, str(os.getpid())).touch()
    while not Path(folder, "go on").exists():
        time.sleep(0.01)
    return function(*arguments)


class Holding(DaskExecutor):
    """Its tasks wait for a file in the folder."""

    folder = ""

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
        return super().submit(held, self.folder, fn, *args, **kwargs)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL")
@pytest.mark.parametrize("n_killed", [1, 2])
def test_the_runs_of_a_lost_worker_are_done_again(client: Any, n_killed: int, tmp_path: Path) -> None:
    """With both workers the last copy of the data is lost, too."""
    X, y = fastbp.datasets.load_digits()
    arguments = {"seeds": 2, "epochs": 2}
    client.wait_for_workers(2, timeout=120)
    victims = list(client.run(os.getpid).values())[:n_killed]

    def kill() -> None:
        end = time.monotonic() + 60
        while not all((tmp_path / str(pid)).exists() for pid in victims) and time.monotonic() < end:
            time.sleep(0.01)
        for pid in victims:  # in the middle of a task
            os.kill(pid, signal.SIGKILL)
        (tmp_path / "go on").touch()

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        with Holding(client) as executor:
            executor.folder = str(tmp_path)
            found = fastbp.lr_sweep(network(), X, y, RATES, executor=executor, **arguments)
    finally:
        killer.join()
    assert all((tmp_path / str(pid)).exists() for pid in victims)
    assert equal(found, fastbp.lr_sweep(network(), X, y, RATES, **arguments))
    client.wait_for_workers(2, timeout=120)
    assert not set(victims) & set(client.run(os.getpid).values())


class Unsteady:
    """A client whose tasks never end, and whose workers vanish now and then while they are sent data."""

    def __init__(self, losses: int = 0) -> None:
        self.losses, self.cancelled = losses, threading.Event()

    def wait_for_workers(self, n: int, timeout: float) -> None:
        pass

    def scatter(self, data: Any, **options: Any) -> str:
        self.losses -= 1
        if self.losses >= 0:
            raise distributed.comm.core.CommClosedError("Address removed.")
        return "there"

    def submit(self, fn: Any, *args: Any, **options: Any) -> Any:
        self.sent = args
        return SimpleNamespace(cancel=self.cancelled.set, add_done_callback=lambda call: None)


def test_a_cancelled_task_is_waited_for_no_longer() -> None:
    """As a sweep does with all that are left when one has failed."""
    client = Unsteady()
    future = DaskExecutor(client).submit(divmod, 7, 2)
    assert future.cancel()
    assert list(concurrent.futures.as_completed([future], timeout=10)) == [future]
    assert client.cancelled.is_set()


@pytest.mark.parametrize("losses", [0, 3, 99])
def test_a_worker_that_vanishes_while_it_is_sent_the_data(losses: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastbp.many.dask.PAUSE", 0.0)
    X, y = fastbp.datasets.load_digits()
    spec = make_spec(network(), X, y, 1, 32, "sgd", None, None)
    client = Unsteady(losses)
    executor = DaskExecutor(client)
    if losses > 5:
        with pytest.raises(OSError, match="Address removed"):
            executor.submit(len, spec)
    else:
        executor.submit(len, spec)
        assert client.sent == ("there",)


def test_an_error_of_a_task_is_passed_on(client: Any) -> None:
    with DaskExecutor(client) as executor:
        with pytest.raises(ZeroDivisionError):
            executor.submit(divmod, 1, 0).result(timeout=30)
        assert executor.submit(divmod, 7, 2).result(timeout=30) == (3, 1)


def test_the_command_line(cluster: Any) -> None:
    options = ["sweep", "--hidden", "16", "--epochs", "2", "--seeds", "2", "--lr", "1e-3:1:4", "--json"]
    found, local = (CliRunner().invoke(main, [*options, *more]) for more in (["--dask", cluster.scheduler_address], []))
    assert (found.exit_code, found.stderr) == (0, ""), found.output
    assert json.loads(found.stdout)["val_loss"] == json.loads(local.stdout)["val_loss"]


def test_no_scheduler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastbp.many.dask.DaskExecutor.__init__.__kwdefaults__", {"timeout": 0.5})
    result = CliRunner().invoke(main, ["sweep", "--dask", "tcp://127.0.0.1:9"])
    assert result.exit_code == 1
    assert "127.0.0.1:9" in result.stderr
    assert result.stderr.count("\n") == 1
