"""What `fit(progress=True)` shows on a terminal, and in a notebook: there without ipywidgets, and without a warning."""

from __future__ import annotations

import re
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rich.console
import rich.progress

from fastbp import MLP
from fastbp.callbacks import Checkpoint
from fastbp.history import History
from fastbp.io.progress import PageLine
from fastbp.training.progress import Progress

X, Y = np.random.default_rng(0).standard_normal((60, 4)), np.arange(60) % 3


class Shown:
    """The place of a page that `IPython.display.display` returns; tests of notebooks have the real one."""

    def __init__(self) -> None:
        self.lines: list[PageLine] = []

    def display(self, line: PageLine, display_id: bool) -> Shown:
        assert display_id
        self.lines.append(line)
        return self

    def update(self, line: PageLine) -> None:
        self.lines.append(line)


@pytest.fixture
def notebook(monkeypatch: pytest.MonkeyPatch) -> Shown:
    monkeypatch.setattr(rich.console, "_is_jupyter", lambda: True)
    shown, module = Shown(), types.ModuleType("IPython.display")
    module.display = shown.display  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", types.ModuleType("IPython"))
    monkeypatch.setitem(sys.modules, "IPython.display", module)
    return shown


def test_a_line_of_the_page(notebook: Shown, capsys: pytest.CaptureFixture[str]) -> None:
    history = MLP([4, 5, 3], seed=0).fit(X, Y, epochs=3, validation_split=0.2, progress=True)
    assert "".join(capsys.readouterr()) == ""
    last = notebook.lines[-1]
    assert re.match(r"epoch 3/3  loss .* lr 0.001  [\d,]+ samples/s$", last.text)
    assert f"loss {history.loss[-1]:.4g}" in last.text
    assert f"val_accuracy {history.val_score[-1]:.4f}" in last.text
    assert last.share == 1.0
    assert repr(last) == last.text
    assert '<progress max="1" value="1.0000"' in last._repr_html_()


def test_names_in_the_line_are_escaped() -> None:
    assert "<b>" not in PageLine("<b>", 0.5)._repr_html_()
    assert PageLine("")._repr_html_() == ""
    assert "value=" not in PageLine("chunks of which nobody knows the number")._repr_html_()


def test_the_time_left_of_a_resumed_training(notebook: Shown, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("time.perf_counter", lambda: now[0])
    with Progress(100, 50, show=True) as progress:
        now[0] = 10.0
        progress.update(60.0, 0.0, History("r2"), 0.1)
        assert notebook.lines[-1].text == "epoch 60/100  lr 0.1  0 samples/s"
        now[0] = 20.0
        progress.update(70.0, 500.0, History("r2"), 0.1)
    assert notebook.lines[-1].text == "epoch 70/100  60 s left  lr 0.1  25 samples/s"


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


def test_what_is_no_result_is_logged(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    with caplog.at_level("DEBUG", logger="fastbp"):
        MLP([4, 5, 3], seed=0).fit(X, Y, epochs=2, callbacks=[Checkpoint(tmp_path)])
    said = [(record.name, record.getMessage()) for record in caplog.records]
    assert ("fastbp.training.loop", "fit ended after 2 epochs: all are done") in said
    assert ("fastbp.callbacks.checkpoint", f"checkpoint written: {tmp_path / 'last.safetensors'}") in said
