"""What the command line prints, on streams of all kinds, after its files are written; and JSON, strict everywhere."""

from __future__ import annotations

import ast
import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from test_layers import MODULES

from fastbp import MLP
from fastbp.bench import report
from fastbp.cli import output, run, sweep
from fastbp.cli.main import main
from fastbp.history import History
from fastbp.io import documents

SWEEP = ["sweep", "--lr", "0.003,0.01,0.03", "--seeds", "2", "--epochs", "1", "--hidden", "16"]


def command(*arguments: object, **env: str) -> subprocess.CompletedProcess[bytes]:
    path = os.pathsep.join(sys.path)
    return subprocess.run(
        [sys.executable, "-m", "fastbp", *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": path, **env}, capture_output=True, check=False, timeout=300,
    )  # fmt: skip


# --- streams ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["cp1252", "cp437", "latin-1", "shift_jis", "ascii", "utf-8"])
def test_a_sweep_on_a_terminal_of_any_encoding(encoding: str, tmp_path: Path) -> None:
    files = {name: tmp_path / f"sweep.{end}" for name, end in (("csv", "csv"), ("report", "html"), ("plot", "png"))}
    options = [word for name, path in files.items() for word in (f"--{name}", path)]
    done = command(*SWEEP, *options, PYTHONIOENCODING=encoding)
    assert done.returncode == 0, done.stderr
    assert done.stderr == b""
    assert all(path.stat().st_size > 100 for path in files.values())
    text = done.stdout.decode(encoding if encoding != "ascii" else "utf-8")
    assert "recommended lr" in text
    bars = {"cp1252": "?", "latin-1": "?", "shift_jis": "?", "utf-8": "█"}.get(encoding, "")
    assert bars in text.partition("|")[2]


def test_a_sweep_as_json_on_a_narrow_stream(tmp_path: Path) -> None:
    done = command(*SWEEP, "--json", "--csv", tmp_path / "sweep.csv", PYTHONIOENCODING="cp1252")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["best_lr"] > 0
    assert (tmp_path / "sweep.csv").exists()


@pytest.mark.parametrize(
    ("given", "kept"),
    [("strict", "replace"), ("surrogateescape", "replace"), ("xmlcharrefreplace", "xmlcharrefreplace")],
)
def test_how_characters_are_replaced_may_be_said(given: str, kept: str) -> None:
    code = (
        "import sys; from fastbp.cli.main import main; main(['--version'], standalone_mode=False);"
        "print(sys.stdout.errors)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path),
        "PYTHONIOENCODING": f"cp1252:{given}"}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.splitlines()[-1] == kept


def test_labels_that_the_stream_does_not_know(tmp_path: Path) -> None:
    rows = "\n".join(f"{k % 7},{k % 5},{'жаба' if k % 7 > 3 else 'кот'}" for k in range(60))
    (tmp_path / "data.csv").write_text(f"a,b,kind\n{rows}\n", encoding="utf-8")
    out = tmp_path / "net.safetensors"
    trained = command("train", tmp_path / "data.csv", "--target", "kind", "--epochs", 1, "--out", out,
                      PYTHONIOENCODING="cp1252")  # fmt: skip
    assert trained.returncode == 0, trained.stderr
    assert out.exists()
    told = command("predict", out, tmp_path / "data.csv", "--target", "kind", PYTHONIOENCODING="cp1252")
    assert told.returncode == 0, told.stderr
    assert {line.split(b",")[0] for line in told.stdout.split()[1:]} <= {b"????", b"???"}


def test_a_report_made_by_a_command_with_bytes_that_are_no_text(tmp_path: Path) -> None:
    name = tmp_path / os.fsdecode(b"caf\xe9.csv")
    done = command(*SWEEP, "--csv", name, "--report", tmp_path / "sweep.html")
    assert done.returncode == 0, done.stderr
    assert name.exists()
    assert "caf?.csv" in (tmp_path / "sweep.html").read_text(encoding="utf-8")


# --- files first --------------------------------------------------------------------------------------------


def broken(*unused: object) -> None:
    raise BrokenPipeError


def test_a_sweep_whose_reader_has_gone_is_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = [tmp_path / "sweep.csv", tmp_path / "sweep.html", tmp_path / "runs.jsonl"]
    monkeypatch.setattr(sweep, "_show", broken)
    monkeypatch.setattr(sweep, "print_json", broken)
    for more in ((), ("--json",)):
        CliRunner().invoke(main, [*SWEEP, "--csv", str(files[0]), "--report", str(files[1]), "--journal", str(files[2]),
                                  *more])  # fmt: skip
        assert all(path.exists() for path in files)
        for path in files:
            path.unlink()


def test_a_sweep_that_cannot_be_written_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Any, path: object) -> None:
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr("fastbp.many.result.LrSweep.to_csv", full)
    done = CliRunner().invoke(main, [*SWEEP, "--csv", str(tmp_path / "sweep.csv")])
    assert done.exit_code == 1
    assert "recommended lr" in done.stdout
    assert "No space left" in done.stderr


def test_a_training_is_on_disk_before_it_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def say(label: str, text: str) -> None:
        if label == "trained":
            raise BrokenPipeError

    out, history = tmp_path / "net.safetensors", tmp_path / "history.csv"
    monkeypatch.setattr(run, "say", say)
    CliRunner().invoke(main, ["train", "--epochs", "1", "--out", str(out), "--history", str(history)])
    assert out.exists()
    assert history.exists()


def test_a_range_test_is_on_disk_before_it_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "range.csv"
    monkeypatch.setattr("fastbp.cli.range_test.say", broken)
    CliRunner().invoke(main, ["range-test", "--steps", "20", "--seeds", "1", "--csv", str(path)])
    assert path.exists()


# --- JSON ---------------------------------------------------------------------------------------------------


def strict(text: str) -> Any:
    return json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))


@pytest.mark.parametrize("x", [math.nan, math.inf, -math.inf, np.float32("inf"), np.float64("nan")])
def test_what_is_not_finite_is_null_wherever_it_stands(x: float, tmp_path: Path) -> None:
    document = {"a": x, "b": [1.5, (x,)], "c": {"d": np.array([[1.0, x]])}, 3: {x}, "e": np.int64(7)}
    expected = {"a": None, "b": [1.5, [None]], "c": {"d": [[1.0, None]]}, "3": [None], "e": 7}
    assert strict(documents.text(document)) == expected
    assert strict(documents.text(document, indent=None)) == expected
    report.save(document, tmp_path / "bench.json")
    assert strict((tmp_path / "bench.json").read_text()) == expected


@pytest.mark.parametrize("x", [math.nan, math.inf])
def test_a_history_that_overflowed(x: float, tmp_path: Path) -> None:
    history = History("r2", loss=[1.0, x], val_loss=[x, 2.0], val_score=[-x, 0.5], lr=[0.1, 0.1], seconds=[1.0, 1.0])
    history.to_json(tmp_path / "history.json")
    found = strict((tmp_path / "history.json").read_text())
    assert (found["loss"], found["val_loss"], found["val_r2"]) == ([1.0, None], [None, 2.0], [None, 0.5])


def test_a_training_whose_validation_overflows_prints_json(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((60, 3)).astype(np.float32), rng.standard_normal(60)
    net = MLP([3, 4, 1], loss="mse", seed=0)
    history = net.fit(X, y, epochs=2, validation_data=(X, np.full(60, 1e30)))
    assert math.isinf(history.val_loss[0])
    history.to_json(tmp_path / "history.json")
    assert strict((tmp_path / "history.json").read_text())["val_loss"] == [None, None]


def test_one_function_writes_json(capsys: pytest.CaptureFixture[str]) -> None:
    """Besides files in formats of their own, and what our processes tell each other."""
    callers = {
        name for name, tree in MODULES.items() for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and ast.unparse(node) in ("json.dumps", "json.dump")
    }  # fmt: skip
    assert callers == {
        "io/documents", "io/model_files", "io/tensors", "training/checkpoints", "many/lines", "many/task_journal",
        "many/collection", "interop/keras_layers", "interop/onnx_graph", "kernels/build", "bench/startup",
    }  # fmt: skip
    output.print_json({"a": math.inf})
    assert strict(capsys.readouterr().out) == {"a": None}
