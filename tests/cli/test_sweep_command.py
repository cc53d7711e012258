"""`fastbp sweep`: what it prints and writes, what it refuses before it begins, and how it is interrupted."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

import fastbp
from fastbp.cli.main import main
from fastbp.many.journal import FORMAT

QUICK = ("--hidden", "16", "--epochs", "2", "--seeds", "2", "--lr", "1e-3:1:4")
SIZE = 4 * 2  # runs of it


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["sweep", *map(str, arguments)])


def succeed(*arguments: object) -> str:
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    return result.stdout


def as_json(*arguments: object) -> Any:
    return json.loads(succeed(*arguments, "--json"))


def test_the_digits_by_default() -> None:
    text = succeed(*QUICK)
    assert "embedded digits" in text
    assert re.search(r"^recommended lr \S+, the best; as good from", text, flags=re.MULTILINE)
    assert len(re.findall(r"^ *\S+ .* [0-2]/2( |$)", text, flags=re.MULTILINE)) == 4  # the table
    assert "█" in text
    assert "2 seeds: the interval is indicative" in text


@pytest.mark.filterwarnings("ignore:the best learning rate:UserWarning")
def test_the_result_is_that_of_the_library() -> None:
    found = as_json(*QUICK, "--schedule", "cosine", "--optimizer", "sgd", "--label-smoothing", 0.1, "--seed", 3)
    X, y = fastbp.datasets.load_digits()
    rows, _, labels, _ = fastbp.datasets.train_test_split(X, y, 0.2, seed=3, stratify=True)
    net = fastbp.MLP([64, 16, 10], loss=fastbp.CrossEntropy(label_smoothing=0.1), seed=3)
    expected = fastbp.lr_sweep(
        net, rows, labels, np.geomspace(1e-3, 1, 4), seeds=2, epochs=2, optimizer="sgd",
        schedule=fastbp.schedules.Cosine(2),
    )  # fmt: skip
    assert found["val_loss"] == expected.val_loss.tolist()
    assert found["seeds"] == [3, 4]
    assert found["recommended_lr"] == expected.recommended_lr
    assert (found["data"], found["sizes"]) == ("digits", [64, 16, 10])


@pytest.mark.filterwarnings("ignore:the best learning rate:UserWarning")
def test_options_of_the_optimizer_and_a_plateau() -> None:
    options = ("--optimizer", "sgd", "--momentum", 0.8, "--weight-decay", 1e-4, "--clip-value", 0.5)
    found = as_json(*QUICK, "--epochs", 5, "--schedule", "plateau", *options)
    X, y = fastbp.datasets.load_digits()
    rows, _, labels, _ = fastbp.datasets.train_test_split(X, y, 0.2, seed=0, stratify=True)
    expected = fastbp.lr_sweep(
        fastbp.MLP([64, 16, 10], loss="cross_entropy", seed=0), rows, labels, np.geomspace(1e-3, 1, 4), seeds=2,
        epochs=5, optimizer=fastbp.SGD(momentum=0.8, weight_decay=1e-4, clip_value=0.5),
        schedule=fastbp.schedules.ReduceOnPlateau(0.2, 2, monitor="val_loss"),
    )  # fmt: skip
    assert found["val_loss"] == expected.val_loss.tolist()
    assert "ReduceOnPlateau" in found["about"]["schedule"]
    assert (found["standardize"], found["label_smoothing"], found["regularization"]["dropout"]) == (False, 0.0, [0.0])


def test_a_csv_with_a_list_of_rates(tmp_path: Path) -> None:
    X = np.random.default_rng(0).standard_normal((80, 2))
    lines = [f"{a},{b},{3 * a - b}" for a, b in X]
    (tmp_path / "data.csv").write_text("\n".join(["a,b,goal", *lines, ""]))
    found = as_json(tmp_path / "data.csv", "--target", "goal", "--lr", "0.1,0.01,0.05", "--epochs", 3, "--halving", 2)
    assert found["learning_rates"] == [0.01, 0.05, 0.1]
    assert found["halving"] == 2
    assert (found["sizes"][0], found["sizes"][-1]) == (2, 1)
    assert run(tmp_path / "data.csv").exit_code == 2  # without --target


def test_files(tmp_path: Path) -> None:
    paths = {name: tmp_path / f"out.{ending}" for name, ending in
             (("report", "html"), ("plot", "png"), ("csv", "csv"), ("journal", "jsonl"))}  # fmt: skip
    options = [word for name, path in paths.items() for word in (f"--{name}", path)]
    text = succeed(*QUICK, *options, "--target-loss", "0.5")
    for path in paths.values():
        assert f"in {path}" in text
    page = paths["report"].read_text(encoding="utf-8")
    command = " ".join(map(str, ["fastbp sweep", *QUICK, *options, "--target-loss 0.5"]))
    assert f"<pre>{command}</pre>" in page
    assert paths["plot"].read_bytes().startswith(b"\x89PNG")
    with open(paths["csv"], newline="") as file:
        assert len(list(csv.DictReader(file))) == SIZE
    header, *runs = map(json.loads, paths["journal"].read_text().splitlines())
    assert header["format"] == FORMAT
    assert len(runs) == SIZE
    # The same command does nothing again; one of other settings is refused.
    again = as_json(*QUICK, *options, "--target-loss", "0.5")
    assert again["profile"]["wall_seconds"] < 0.1 or again["profile"]["busy_seconds"] == 0.0
    assert len(paths["journal"].read_text().splitlines()) == 1 + SIZE
    refused = run(*QUICK, "--journal", paths["journal"], "--batch-size", 64)
    assert (refused.exit_code, "batch_size" in refused.stderr) == (1, True)


def test_a_journal_cut_short_is_told(tmp_path: Path) -> None:
    journal = tmp_path / "sweep.jsonl"
    succeed(*QUICK, "--journal", journal)
    journal.write_bytes(journal.read_bytes()[:-20])
    result = run(*QUICK, "--journal", journal)
    assert result.exit_code == 0
    assert re.fullmatch(r"fastbp: .*sweep\.jsonl: the last line is cut short.*\n", result.stderr)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--lr", "x"], "neither a range"),
        (["--lr", "1:0.1:5"], "neither a range"),
        (["--lr", "0.1:1:1"], "neither a range"),
        (["--lr", "0.1:inf:3"], "neither a range"),
        (["--lr", "0.1,-1"], "neither a range"),
        (["--lr", "0.1:1"], "neither a range"),
        (["--lr", ""], "neither a range"),
        (["--seeds", "0"], "--seeds"),
        (["--halving", "1"], "--halving"),
        (["--target-loss", "nan"], "--target-loss"),
        (["--optimizer", "sdg"], "--optimizer"),
        (["--optimizer", "lbfgs"], "it has no learning rate to look for"),
        (["--optimizer", "rprop", "--schedule", "cosine"], "Invalid value for --schedule"),
        (["--optimizer", "adam", "--momentum", "0.9"], "Invalid value for --momentum"),
        (["--dropout", "nan"], "is not a finite number"),
        (["--dropout", "0.5", "--hidden", "none"], "needs a hidden layer"),
        (["--dask", "host:8786"], "tcp://host:8786"),
        (["--report", "missing/sweep.html"], "does not exist"),
        (["--report", "sweep.png"], ".html"),
        (["--plot", "sweep.txt"], ".png"),
        (["--csv", "same", "--journal", "./same"], "the same file"),
        (["--csv", "."], "directory"),
        (["--target", "y"], "no DATA is given"),
    ],
)
def test_wrong_usage_is_refused_before_the_work(
    arguments: list[str], text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("fastbp.many.runs.lr_sweep", lambda *_, **__: pytest.fail("it has begun"))
    result = run(*arguments)
    assert result.exit_code == 2, result.output
    assert text in result.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("option", "value"), [("report", "s.html"), ("plot", "s.png"), ("dask", "tcp://host:1")])
def test_a_missing_extra_is_named_before_the_work(
    option: str, value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    result = run(f"--{option}", value)
    assert result.exit_code == 1
    assert f'pip install "fastbp[{option}]"' in result.stderr


def test_all_rates_diverge() -> None:
    text = succeed(*QUICK, "--lr", "1e9,1e10", "--optimizer", "sgd")
    assert "no rate has finished" in text


@pytest.mark.skipif(sys.platform == "win32", reason="no signals for a single child process")
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_ctrl_c_keeps_what_has_finished(name: str, tmp_path: Path) -> None:
    """Runs of a second or so: some have finished when the signal comes."""
    journal, page = tmp_path / "sweep.jsonl", tmp_path / "sweep.html"
    command = [
        *(
            sys.executable,
            "-m",
            "fastbp.cli.main",
            "sweep",
            "--hidden",
            "16",
            "--epochs",
            "200",
            "--seeds",
            "40",
            "--lr",
        ),
        *("1e-4:0.1:50", "--journal", str(journal), "--report", str(page)),
    ]
    environment = dict(os.environ)  # which has no COLUMNS, that readline has set behind Python's back
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, env=environment, text=True, **pipes) as process:
        try:
            started = time.monotonic()
            while not journal.exists() or journal.read_bytes().count(b"\n") < 4:
                assert process.poll() is None
                assert time.monotonic() - started < 120
                time.sleep(0.05)
            process.send_signal(getattr(signal, name))
            text, errors = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 130
    told = re.fullmatch(r"fastbp: interrupted: (\d+) of 2000 runs had finished, and kept in .*sweep\.jsonl\n", errors)
    assert told
    assert journal.read_bytes().count(b"\n") == 1 + int(told[1])
    assert "runs are missing" in " ".join(text.split())
    assert "runs are missing" in page.read_text(encoding="utf-8")
