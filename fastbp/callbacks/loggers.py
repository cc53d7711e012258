"""Callbacks that write a training down, epoch by epoch: as CSV, as JSON lines, for TensorBoard, for MLflow."""

from __future__ import annotations

import csv
import io
import math
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fastbp.callbacks.base import EpochState, Training, Watcher
from fastbp.engine.network import Network
from fastbp.errors import DivergenceError
from fastbp.history import History
from fastbp.io import documents
from fastbp.io.extras import load
from fastbp.kernels.notice import tell
from fastbp.validation import check_flag, checked_by, optional, setting


def _check_path(name: str, path: object) -> Path:
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"{name} must be a path, such as 'runs/a', got {path!r}")
    return Path(path)


def _check_text(name: str, text: object) -> str:
    if not isinstance(text, str):
        raise TypeError(f"{name} must be a text, got {text!r}")
    return text


def _check_sign(name: str, sign: object) -> str:
    if not isinstance(sign, str) or len(sign) != 1 or sign in '"\r\n':
        raise ValueError(f"{name} must be one character such as ',' or ';', got {sign!r}")
    return sign


class _FileLogger(Watcher):
    """A file to which every epoch adds a line; it is closed in between, so that a crash loses none."""

    brief = True
    filename: str | os.PathLike[str]
    append: bool

    def on_fit_begin(self, net: Network) -> None:
        self._place, self._written = Path(self.filename).absolute(), -1  # epochs of this fit that the file has
        with open(self._place, "a" if self.append else "w", encoding="utf-8", newline=""):
            pass  # a file that cannot be written is found before the training, not after its first epoch

    def on_epoch_end(self, state: EpochState) -> None:
        if self._written < 0:  # a training that is resumed has earlier epochs, which a file of its own lacks
            self._written = state.epoch - 1 if self.append else 0
        text = "".join(self._line(state.history, epoch) for epoch in range(self._written + 1, state.epoch + 1))
        try:
            with open(self._place, "a", encoding="utf-8", newline="") as file:
                file.write(text if file.tell() else self._head(state.history) + text)
            self._written = state.epoch
        except OSError as error:
            tell(f"{self._place}: {error.strerror}; make room there, it is tried again", RuntimeWarning, stacklevel=2)

    def _head(self, history: History) -> str:
        return ""

    def _line(self, history: History, epoch: int) -> str:
        raise NotImplementedError


@dataclass
class CSVLogger(_FileLogger):
    """Write a line an epoch to a CSV file, under a line of names.

    The columns are those of `History.to_csv`: epoch, loss, val_loss and val_accuracy (or val_r2) where there are
    validation data, lr, seconds. A training that is resumed leaves a file of all its epochs.

    Parameters
    ----------
    filename : path-like
        Written anew by every fit, unless `append`.
    separator : str
        Between the cells.
    append : bool
        Add to the file that is there.

    Raises
    ------
    OSError
        When the training begins, if the file cannot be written.

    Examples
    --------
    >>> history = net.fit(X, y, epochs=2, callbacks=[fastbp.callbacks.CSVLogger("training.csv")])
    >>> import pathlib
    >>> pathlib.Path("training.csv").read_text().split()[0]
    'epoch,loss,lr,seconds'
    """

    filename: str | os.PathLike[str] = field(metadata=checked_by(_check_path))
    separator: str = setting(",", _check_sign)
    append: bool = setting(False, check_flag)

    def _head(self, history: History) -> str:
        return self._cells(history.row(1))

    def _line(self, history: History, epoch: int) -> str:
        return self._cells("" if math.isnan(value) else value for value in history.row(epoch).values())

    def _cells(self, cells: Any) -> str:
        text = io.StringIO()
        csv.writer(text, delimiter=self.separator).writerow(cells)
        return text.getvalue()


@dataclass
class JSONLogger(_FileLogger):
    """Write a line of JSON an epoch (JSON lines): ``{"epoch":1,"loss":0.5,"lr":0.001,"seconds":0.01}``.

    The names are those of `CSVLogger`; what is not finite is null.

    Parameters
    ----------
    filename : path-like
        Written anew by every fit, unless `append`.
    append : bool
        Add to the file that is there.

    Raises
    ------
    OSError
        When the training begins, if the file cannot be written.

    Examples
    --------
    >>> history = net.fit(X, y, epochs=2, callbacks=[fastbp.callbacks.JSONLogger("training.jsonl")])
    >>> import json, pathlib
    >>> [json.loads(line)["epoch"] for line in pathlib.Path("training.jsonl").read_text().splitlines()]
    [1, 2]
    """

    filename: str | os.PathLike[str] = field(metadata=checked_by(_check_path))
    append: bool = setting(False, check_flag)

    def _line(self, history: History, epoch: int) -> str:
        return documents.text(history.row(epoch), indent=None) + "\n"


@dataclass
class TensorBoard(Watcher):
    """Write losses, scores and learning rates for TensorBoard (extra `tensorboard`): ``tensorboard --logdir logs``.

    Names and folders are those of Keras: ``epoch_loss``, ``epoch_accuracy`` (or ``epoch_r2``) and
    ``epoch_learning_rate`` in ``log_dir/train`` and ``log_dir/validation``, so that both are drawn into one chart.

    Parameters
    ----------
    log_dir : path-like
        Made if it is missing. Give every training a folder of its own, such as ``logs/a``.

    Raises
    ------
    ImportError
        TensorBoard is not installed.

    Examples
    --------
    >>> history = net.fit(X, y, epochs=2, callbacks=[fastbp.callbacks.TensorBoard("logs/a")])
    """

    log_dir: str | os.PathLike[str] = field(default="logs", metadata=checked_by(_check_path))

    def __post_init__(self) -> None:
        super().__post_init__()
        self._writers: dict[str, Any] = {}
        self._module()

    def on_fit_begin(self, net: Network) -> None:
        self._place = Path(self.log_dir).absolute()
        self._place.mkdir(parents=True, exist_ok=True)
        self._close()  # of a training that another callback has ended by an exception

    def on_epoch_end(self, state: EpochState) -> None:
        score = state.history.score_name
        values = {"train": {"loss": state.loss, "learning_rate": state.lr}}
        if state.val_loss is not None and state.val_score is not None:
            values["validation"] = {"loss": state.val_loss, score: state.val_score}
        for run, found in values.items():
            if run not in self._writers:
                self._writers[run] = self._module().Writer(str(self._place / run))
            for name, value in found.items():
                self._writers[run].add_scalar(f"epoch_{name}", value, state.epoch)
            self._writers[run].flush()

    def on_pause(self, fit: Training, final: bool) -> None:
        if final:
            self._close()

    def on_divergence(self, net: Network, error: DivergenceError) -> None:
        self._close()

    def _close(self) -> None:
        while self._writers:
            self._writers.popitem()[1].close()

    def _module(self) -> Any:
        return load("tensorboard.summary", "the callback TensorBoard needs TensorBoard", "tensorboard")


@dataclass
class MLflow(Watcher):
    """Log losses, scores and learning rates to MLflow (extra `mlflow`), and what the network is.

    Into the active run, where there is one (``with mlflow.start_run():``); else into a new one. Metrics are loss,
    val_loss, val_accuracy (or val_r2), lr and seconds, with the epoch as their step; parameters are sizes, activation,
    loss, dtype, seed and the number of parameters.

    Parameters
    ----------
    experiment_name : str, optional
        Of a new run; made if it is missing. By default MLflow's own choice.
    run_name : str, optional
        Of a new run.
    tracking_uri : str, optional
        Where to; by default what MLflow is set to.

    Raises
    ------
    ImportError
        MLflow is not installed.

    Examples
    --------
    >>> logger = fastbp.callbacks.MLflow("digits", tracking_uri="sqlite:///mlflow.db")
    >>> history = net.fit(X, y, epochs=2, callbacks=[logger])
    """

    experiment_name: str | None = setting(None, optional(_check_text))
    run_name: str | None = setting(None, optional(_check_text))
    tracking_uri: str | None = setting(None, optional(_check_text))

    def __post_init__(self) -> None:
        super().__post_init__()
        self._run: str | None = None
        self._module()

    def on_fit_begin(self, net: Network) -> None:
        mlflow = self._module()
        self._client = mlflow.MlflowClient(self.tracking_uri)
        active = mlflow.active_run()
        self._own = active is None or self.tracking_uri is not None or self.experiment_name is not None
        self._run = self._begin() if self._own else active.info.run_id
        spec = net.session.spec
        parameters = {
            "sizes": "-".join(map(str, spec.sizes)), "activation": ", ".join(dict.fromkeys(spec.activations)),
            "loss": spec.loss.name, "dtype": spec.dtype.name, "seed": spec.seed, "n_parameters": spec.n_parameters,
        }  # fmt: skip
        entities = mlflow.entities
        self._client.log_batch(self._run, params=[entities.Param(name, str(one)) for name, one in parameters.items()])

    def _begin(self) -> str:
        """A new run."""
        found = None
        if self.experiment_name is not None:
            found = self._client.get_experiment_by_name(self.experiment_name)
        if found is None and self.experiment_name is not None:
            number = self._client.create_experiment(self.experiment_name)
        else:
            number = "0" if found is None else found.experiment_id
        return str(self._client.create_run(number, run_name=self.run_name).info.run_id)

    def on_epoch_end(self, state: EpochState) -> None:
        now, epoch, metric = int(1000 * time.time()), state.epoch, self._module().entities.Metric
        found = [(name, value) for name, value in state.history.row(epoch).items() if name != "epoch"]
        known = [metric(name, value, now, epoch) for name, value in found if math.isfinite(value)]
        self._client.log_batch(self._run, metrics=known)

    def on_pause(self, fit: Training, final: bool) -> None:
        if final:
            self._end("FINISHED")

    def on_divergence(self, net: Network, error: DivergenceError) -> None:
        self._end("FAILED")

    def _end(self, status: str) -> None:
        if self._run is not None and self._own:
            self._client.set_terminated(self._run, status)
        self._run = None

    def _module(self) -> Any:
        return load("mlflow", "the callback MLflow needs MLflow", "mlflow")
