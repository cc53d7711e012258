"""What `fit(progress=True)` shows: on a terminal, in a notebook with widgets, and in one without."""

from __future__ import annotations

import importlib.util
import io
import re
from typing import Any

import numpy as np
import pytest
import rich.console
import rich.progress

from fastbp import MLP
from fastbp.history import History
from fastbp.training.progress import Progress

X, Y = np.random.default_rng(0).standard_normal((60, 4)), np.arange(60) % 3


def notebook(monkeypatch: pytest.MonkeyPatch, *, widgets: bool) -> None:
    monkeypatch.setattr(rich.console, "_is_jupyter", lambda: True)
    find = importlib.util.find_spec

    def found(name: str, *rest: Any) -> Any:
        return (object() if widgets else None) if name == "ipywidgets" else find(name, *rest)

    monkeypatch.setattr(importlib.util, "find_spec", found)


def test_a_line_in_a_notebook_without_widgets(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """rich would only warn that ipywidgets is missing, and warnings are errors here."""
    notebook(monkeypatch, widgets=False)
    history = MLP([4, 5, 3], seed=0).fit(X, Y, epochs=3, validation_split=0.2, progress=True)
    shown = capsys.readouterr().err
    assert shown.endswith("\n")
    last = shown.rstrip().split("\r")[-1]
    assert re.match(r"epoch 3/3 .* samples/s  lr 0.001  loss ", last)
    assert f"loss {history.loss[-1]:.4g}" in last
    assert f"val_accuracy {history.val_score[-1]:.4f}" in last


def test_richs_bar_in_a_notebook_with_widgets(monkeypatch: pytest.MonkeyPatch) -> None:
    notebook(monkeypatch, widgets=True)
    started = []
    monkeypatch.setattr(rich.progress.Progress, "start", lambda self: started.append(self.console.is_jupyter))
    monkeypatch.setattr(rich.progress.Progress, "stop", lambda self: None)
    MLP([4, 5, 3], seed=0).fit(X, Y, epochs=3, progress=True)
    assert started == [True]


def test_the_time_left_of_a_resumed_training(monkeypatch: pytest.MonkeyPatch) -> None:
    notebook(monkeypatch, widgets=False)
    now = [0.0]
    monkeypatch.setattr("time.perf_counter", lambda: now[0])
    with Progress(100, 50, show=True) as progress:
        progress.bar.lines = io.StringIO()
        now[0] = 10.0
        progress.update(60.0, 0.0, History("r2"), 0.1)
        assert progress.bar.text == "epoch 60/100  0 samples/s  lr 0.1"
        now[0] = 20.0
        progress.update(70.0, 500.0, History("r2"), 0.1)
    assert progress.bar.text == "epoch 70/100  60 s left  25 samples/s  lr 0.1"


@pytest.mark.parametrize("epochs", [1, 2])
def test_chunks_on_a_terminal(epochs: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The end of the only epoch is unknown: a bar without a total."""
    totals = []
    add = rich.progress.Progress.add_task

    def record(self: Any, name: str, **options: Any) -> Any:
        totals.append(options["total"])
        return add(self, name, **options)

    monkeypatch.setattr(rich.progress.Progress, "add_task", record)
    MLP([4, 5, 3], seed=0).fit([(X, Y), (X, Y)], epochs=epochs, progress=True)
    assert totals == [None if epochs == 1 else epochs]
    assert f"epoch {epochs}/{epochs}" in capsys.readouterr().err
