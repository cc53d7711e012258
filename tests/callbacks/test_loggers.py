"""Callbacks that write a training down: files after any end of it, and the readers of TensorBoard and MLflow."""

from __future__ import annotations

import csv
import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from peers import needs_heavy

import fastbp
from fastbp import MLP
from fastbp.callbacks import Checkpoint, CSVLogger, EpochState, JSONLogger, MLflow, TensorBoard

X, Y = np.random.default_rng(0).standard_normal((60, 4)), np.arange(60) % 3


def fit(*callbacks: Any, epochs: int = 4, **options: Any) -> fastbp.History:
    return MLP([4, 5, 3], seed=0).fit(X, Y, epochs=epochs, callbacks=callbacks, **{"validation_split": 0.2, **options})


def rows(path: Path, separator: str = ",") -> list[dict[str, float]]:
    with open(path, newline="", encoding="utf-8") as file:
        return [{name: float(cell) for name, cell in row.items()} for row in csv.DictReader(file, delimiter=separator)]


def lines(path: Path) -> list[dict[str, float]]:
    return [json.loads(line, parse_constant=pytest.fail) for line in path.read_text(encoding="utf-8").splitlines()]


def of(history: fastbp.History) -> list[dict[str, float]]:
    return [history.row(epoch) for epoch in range(1, len(history.loss) + 1)]


def test_files_hold_the_history(tmp_path: Path) -> None:
    history = fit(CSVLogger(tmp_path / "a.csv", separator=";"), JSONLogger(tmp_path / "a.jsonl"))
    assert list(rows(tmp_path / "a.csv", ";")[0]) == ["epoch", "loss", "val_loss", "val_accuracy", "lr", "seconds"]
    assert rows(tmp_path / "a.csv", ";") == lines(tmp_path / "a.jsonl") == of(history)


def test_a_fit_writes_its_files_anew_or_goes_on(tmp_path: Path) -> None:
    fresh, longer = CSVLogger(tmp_path / "a.csv"), CSVLogger(tmp_path / "b.csv", append=True)
    fit(fresh, longer)
    again = fit(fresh, longer, epochs=2)
    assert rows(tmp_path / "a.csv") == of(again)
    assert [row["epoch"] for row in rows(tmp_path / "b.csv")] == [1, 2, 3, 4, 1, 2]


class Stop:
    def __init__(self, error: BaseException) -> None:
        self.error = error

    def on_epoch_end(self, state: EpochState) -> None:
        if state.epoch == 3:
            raise self.error


@pytest.mark.parametrize("append", [False, True])
def test_a_training_that_is_resumed_has_every_epoch_once(append: bool, tmp_path: Path) -> None:
    path, folder = tmp_path / "a.csv", tmp_path / "run"
    fit(CSVLogger(path, append=append), Checkpoint(folder), epochs=3)
    assert [row["epoch"] for row in rows(path)] == [1, 2, 3]
    history = fit(CSVLogger(path, append=append), Checkpoint(folder), epochs=6, resume=folder)
    found = rows(path)
    assert [row["epoch"] for row in found] == [1, 2, 3, 4, 5, 6]
    assert [row["loss"] for row in found] == history.loss


def test_what_is_not_finite(tmp_path: Path) -> None:
    y = X[:, 0] * 1.0
    net = MLP([4, 3, 1], loss="mse", seed=0)
    loggers = [CSVLogger(tmp_path / "a.csv"), JSONLogger(tmp_path / "a.jsonl")]
    net.fit(X, y, epochs=2, validation_data=(X, np.full(60, 1e30)), callbacks=loggers)
    assert math.isinf(rows(tmp_path / "a.csv")[1]["val_loss"])
    assert lines(tmp_path / "a.jsonl")[1]["val_loss"] is None


def test_places_that_cannot_be_written_are_found_before_the_training(tmp_path: Path) -> None:
    for logger in (CSVLogger(tmp_path / "none" / "a.csv"), JSONLogger(tmp_path)):
        net = MLP([4, 5, 3], seed=0)
        with pytest.raises(OSError, match=r"none|directory|denied"):
            net.fit(X, Y, epochs=1, callbacks=[logger])
        assert net.history is None


def test_a_disk_that_is_full_for_a_while(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"

    class Full:
        def on_epoch_end(self, state: EpochState) -> None:
            if state.epoch == 1:
                path.rename(tmp_path / "b.csv")
                path.mkdir()
            elif state.epoch == 2:
                path.rmdir()
                (tmp_path / "b.csv").rename(path)

    with pytest.warns(RuntimeWarning, match="make room"):
        history = fit(CSVLogger(path), Full())
    assert rows(path) == of(history)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: CSVLogger(3), "filename must be a path"),
        (lambda: CSVLogger("a.csv", separator=";;"), "separator must be one character"),
        (lambda: JSONLogger("a.jsonl", append="yes"), "append must be True or False"),
        (lambda: TensorBoard(log_dir=None), "log_dir must be a path"),
    ],
)
def test_bad_arguments_are_named(make: Any, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        make()


@pytest.mark.parametrize(("kind", "module"), [(TensorBoard, "tensorboard.summary"), (MLflow, "mlflow")])
def test_without_its_package_the_extra_is_named(kind: Any, module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=rf"pip install 'fastbp\[{kind.__name__.lower()}\]'"):
        kind()


@pytest.mark.parametrize("error", [None, KeyboardInterrupt(), LookupError()])
def test_tensorboard_reads_it(error: BaseException | None, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    logger = TensorBoard(tmp_path / "logs")
    if error is not None:
        with pytest.raises(type(error)):
            fit(logger, Stop(error))
    history = fit(logger)
    found = {}
    for run in ("train", "validation"):
        events = EventAccumulator(str(tmp_path / "logs" / run))
        events.Reload()
        for tag in events.Tags()["tensors"]:
            points = {one.step: float(one.tensor_proto.float_val[0]) for one in events.Tensors(tag)}
            found[f"{run} {tag}"] = [points[step] for step in sorted(points)]
    expected = {
        "train epoch_loss": history.loss, "train epoch_learning_rate": history.lr,
        "validation epoch_loss": history.val_loss, "validation epoch_accuracy": history.val_score,
    }  # fmt: skip
    assert found.keys() == expected.keys()
    for tag, values in expected.items():
        assert found[tag] == pytest.approx(values, rel=1e-6)


@needs_heavy("mlflow")
@pytest.mark.filterwarnings("ignore")  # of its own packages
def test_mlflow_reads_it(tmp_path: Path) -> None:
    import mlflow

    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    history = fit(MLflow("digits", run_name="first", tracking_uri=uri))
    client = mlflow.MlflowClient(uri)
    experiment = client.get_experiment_by_name("digits")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.run_name == "first"
    assert run.info.status == "FINISHED"
    assert run.data.params["sizes"] == "4-5-3"
    for name, values in {"loss": history.loss, "val_accuracy": history.val_score, "lr": history.lr}.items():
        points = client.get_metric_history(run.info.run_id, name)
        assert {point.step: point.value for point in points} == dict(enumerate(values, 1))
    with pytest.raises(KeyboardInterrupt):
        fit(MLflow("digits", run_name="second", tracking_uri=uri), Stop(KeyboardInterrupt()))
    assert len(client.search_runs([experiment.experiment_id])) == 2


@needs_heavy("mlflow")
@pytest.mark.filterwarnings("ignore")  # of its own packages
def test_an_active_run_of_mlflow_is_logged_into(tmp_path: Path) -> None:
    import mlflow

    mlflow.set_tracking_uri(f"sqlite:///{tmp_path / 'mlflow.db'}")
    with mlflow.start_run() as run:
        history = fit(MLflow())
    found = mlflow.get_run(run.info.run_id)
    assert found.data.metrics["val_loss"] == pytest.approx(history.val_loss[-1])
    assert found.info.status == "FINISHED"
