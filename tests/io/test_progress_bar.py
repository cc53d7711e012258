"""The progress bar: when it appears, and what it costs where it is not shown."""

from __future__ import annotations

import subprocess
import sys

import pytest

from fastbp.io.progress import ProgressBar


def test_it_appears_after_its_delay(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    now = [0.0]
    monkeypatch.setattr("time.perf_counter", lambda: now[0])
    with ProgressBar("pieces", 0, show=True, delay=0.5) as bar:
        now[0] = 0.4
        bar.update(1)
        assert not bar.shown
        now[0], bar.total = 0.6, 8
        bar.update(3, "so far")
        assert bar.shown
    shown = capsys.readouterr().err
    assert "pieces 3/8" in shown
    assert "so far" in shown


def test_work_that_is_done_before_shows_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with ProgressBar("pieces", 2, show=True, delay=1e6) as bar:
        bar.update(2)
    assert capsys.readouterr().err == ""


def test_rich_is_loaded_only_when_it_is_shown() -> None:
    code = (
        "import sys; from fastbp.io.progress import ProgressBar\n"
        "with ProgressBar('pieces', 2, show=False) as bar: bar.update(1)\n"
        "assert 'rich' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
