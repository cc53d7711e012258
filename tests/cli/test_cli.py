"""The command line, through CliRunner and as a real process: results, exit codes, one line for every failure."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
from click.testing import CliRunner, Result

import fastbp
from fastbp import datasets, optimizers, schedules
from fastbp.cli import build
from fastbp.cli.defaults import DIGITS
from fastbp.cli.main import COMMANDS, main
from fastbp.cli.options import FiniteRange
from fastbp.cli.output import LABEL_WIDTH
from fastbp.cli.train import TEST_FRACTION
from fastbp.kernels.targets import AVX512_BF16, pair_target
from fastbp.losses import LOSSES
from fastbp.optimizers import LBFGS

FASTBP = [sys.executable, "-m", "fastbp.cli.main"]


def run(*arguments: object) -> Result:
    """On a screen so wide that no line is wrapped; test_terminal.py has one of 80 columns."""
    return CliRunner().invoke(main, [str(one) for one in arguments], env={"COLUMNS": "1000"})


def succeed(*arguments: object) -> str:
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


def as_json(*arguments: object) -> Any:
    return json.loads(succeed(*arguments, "--json"))


def read_csv(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


@pytest.fixture
def rows() -> Any:
    return 50.0 + 10.0 * np.random.default_rng(0).standard_normal((300, 3))


def write_csv(path: Path, X: Any, y: Any, header: str = "a,b,c,goal") -> Path:
    lines = [",".join([*(f"{cell:.6g}" for cell in row), str(goal)]) for row, goal in zip(X, y, strict=True)]
    path.write_text("\n".join([header, *lines, ""]))
    return path


@pytest.fixture
def named(tmp_path: Path, rows: Any) -> Path:
    return write_csv(tmp_path / "named.csv", rows, np.array(["ant", "bee", "cow"])[rows.argmax(axis=1)])


@pytest.fixture
def priced(tmp_path: Path, rows: Any) -> Path:
    return write_csv(tmp_path / "priced.csv", rows, [f"{1000 + 3 * row[0] - row[1]:.3f}" for row in rows])


@pytest.fixture
def npz(tmp_path: Path, rows: Any) -> Path:
    y = rows.argmax(axis=1)
    np.savez(tmp_path / "data.npz", X=rows[:200], y=y[:200], X_test=rows[200:], y_test=y[200:])
    return tmp_path / "data.npz"


# --- the group


def test_help_names_every_command_and_imports_none() -> None:
    code = (
        "import sys; from click.testing import CliRunner; from fastbp.cli.main import main\n"
        "result = CliRunner().invoke(main, ['--help']); assert result.exit_code == 0, result.output\n"
        "print(result.stdout)\n"
        "loaded = {'fastbp.cli.train', 'fastbp.cli.apply', 'fastbp.bench', 'rich'} & set(sys.modules)\n"
        "assert not loaded, loaded"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    for name, (_, text) in COMMANDS.items():
        assert name in done.stdout
        assert text in done.stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(name: str) -> None:
    assert isinstance(main.get_command(click.Context(main), name), click.Command)
    assert "Usage:" in succeed(name, "--help")


def test_version() -> None:
    assert fastbp.__version__ in succeed("--version")


# --- train


def test_train_on_the_digits(tmp_path: Path) -> None:
    out = tmp_path / "digits.safetensors"
    text = succeed("train", "--out", out)
    labels = ["data", "", "", "network", "method", "trained", "test", "saved", "NumPy"]
    assert [line[:LABEL_WIDTH].strip() for line in text.splitlines()] == labels
    for part in ("embedded digits", "cross_entropy", "64-256-128-10", "samples/s", "accuracy 9", "times as long"):
        assert part in text
    assert fastbp.load(out).sizes[-1] == 10


def test_the_digits_recipe_reaches_97_per_cent() -> None:
    X, y = datasets.load_digits()
    scores = []
    for seed in range(10):
        X_train, X_test, y_train, y_test = datasets.train_test_split(X, y, TEST_FRACTION, seed=seed)
        net = fastbp.MLP([64, *DIGITS.hidden, 10], activation=DIGITS.activation, seed=seed)
        optimizer = optimizers.Adam(lr=DIGITS.lr)
        net.fit(X_train, y_train, epochs=DIGITS.epochs, batch_size=DIGITS.batch_size, optimizer=optimizer)
        scores.append(net.evaluate(X_test, y_test)["accuracy"])
    assert np.median(scores) >= 0.97


def test_train_prints_json_only() -> None:
    result = as_json("train", "--epochs", 2, "--compare", "none", "--hidden", "16,8", "--activation", "relu,tanh")
    assert result["sizes"] == [64, 16, 8, 10]
    assert result["activation"] == ["relu", "tanh"]
    assert (result["train_rows"], result["test_rows"]) == (1438, 359)
    assert len(result["train_loss"]) == 2
    assert result["test"].keys() == {"loss", "accuracy"}
    assert result["samples_per_second"] > 0
    assert result["standardize"] is False
    assert "numpy" not in result


def test_the_seed_decides_everything(tmp_path: Path) -> None:
    first, second, other = (
        as_json("train", "--epochs", 2, "--compare", "none", "--seed", seed)["train_loss"] for seed in (0, 0, 1)
    )
    assert first == second
    assert first != other


def test_names_as_classes(named: Path, tmp_path: Path) -> None:
    out = tmp_path / "model"
    text = succeed("train", named, "--target", "goal", "--epochs", 40, "--out", out)
    assert "goal holds 3 classes, ant, bee, cow: the loss is cross_entropy" in text
    assert as_json("evaluate", out, named, "--target", "goal")["accuracy"] > 0.9
    predicted = read_csv(succeed("predict", out, named, "--target", "goal", "--proba"))
    assert len(predicted) == 300
    for row in predicted:
        proba = {name: float(row[f"proba_{name}"]) for name in ("ant", "bee", "cow")}
        assert sum(proba.values()) == pytest.approx(1.0, abs=1e-5)
        assert max(proba, key=lambda name: proba[name]) == row["prediction"]


@pytest.mark.parametrize(("loss", "n_out"), [("cross_entropy", 2), ("binary_cross_entropy", 1)])
def test_integer_labels_keep_their_names(tmp_path: Path, rows: Any, loss: str, n_out: int) -> None:
    data = write_csv(tmp_path / "data.csv", rows, np.where(rows[:, 0] > 50, 7, 3))
    out = tmp_path / "model"
    result = as_json("train", data, "--target", "goal", "--loss", loss, "--epochs", 30, "--out", out)
    assert result["class_labels"] == [3, 7]
    assert result["sizes"][-1] == n_out
    assert result["test"]["accuracy"] > 0.9
    assert set(as_json("predict", out, data, "--target", "goal")["prediction"]) == {3, 7}
    assert as_json("evaluate", out, data, "--target", "goal")["accuracy"] > 0.9
    assert "proba_7" in succeed("predict", out, data, "--target", "goal", "--proba").splitlines()[0]


def test_floats_are_quantities_in_their_own_units(priced: Path, tmp_path: Path) -> None:
    out = tmp_path / "model"
    text = succeed("train", priced, "--target", "goal", "--epochs", 60, "--out", out, "--compare", "numpy")
    assert "goal holds quantities: the loss is mse" in text
    assert "test     r2" in text
    assert "NumPy    the same in" in text
    assert as_json("evaluate", out, priced, "--target", "goal")["r2"] > 0.9
    predicted = np.array(as_json("predict", out, priced, "--target", "goal")["prediction"])
    assert abs(predicted.mean() - 1100) < 10
    assert fastbp.TableModel.load(out).predict(priced)[0] == predicted[0]


def test_standardize_can_be_switched_off(priced: Path) -> None:
    assert as_json("train", priced, "--target", "goal", "--epochs", 1)["standardize"] is True
    off = ("--no-standardize", "--lr", 1e-4)
    assert as_json("train", priced, "--target", "goal", "--epochs", 1, *off)["standardize"] is False


def test_the_test_rows_of_an_npz_are_used(npz: Path, tmp_path: Path) -> None:
    out = tmp_path / "model"
    result = as_json("train", npz, "--epochs", 30, "--out", out)
    assert (result["train_rows"], result["test_rows"]) == (200, 100)
    evaluated = as_json("evaluate", out, npz)
    assert evaluated["rows"] == 100
    assert evaluated["accuracy"] == pytest.approx(result["test"]["accuracy"])


def test_several_targets_and_no_hidden_layer(tmp_path: Path, rows: Any) -> None:
    data, out = tmp_path / "data.npz", tmp_path / "model"
    np.savez(data, X=rows, y=rows[:, :2] * 2.0)
    result = as_json("train", data, "--hidden", "none", "--loss", "huber", "--lr", 0.01, "--epochs", 60, "--out", out)
    assert result["sizes"] == [3, 2]
    assert result["test"]["r2"] > 0.9
    assert succeed("predict", out, data).splitlines()[0] == "prediction_0,prediction_1"


def test_without_rows_held_out(named: Path) -> None:
    text = succeed("train", named, "--target", "goal", "--epochs", 1, "--test-fraction", 0)
    assert "test     none: no rows were held out" in text


def test_counts(tmp_path: Path, rows: Any) -> None:
    data = write_csv(tmp_path / "data.csv", rows, np.random.default_rng(1).poisson(np.exp(rows[:, 0] / 50)))
    result = as_json("train", data, "--target", "goal", "--loss", "poisson", "--epochs", 3)
    assert result["sizes"][-1] == 1
    assert result["class_labels"] is None


# --- predict


@pytest.mark.parametrize("ending", [".csv", ".npz"])
def test_predictions_to_a_file(npz: Path, tmp_path: Path, ending: str) -> None:
    model, out = tmp_path / "model", tmp_path / f"out{ending}"
    succeed("train", npz, "--epochs", 2, "--out", model)
    assert "wrote 200 predictions" in succeed("predict", model, npz, "--proba", "--out", out)
    net, X = fastbp.load(model), np.load(npz)["X"]
    if ending == ".csv":
        table = read_csv(out.read_text())
        predicted = [int(row["prediction"]) for row in table]
        proba = [[float(row[f"proba_{k}"]) for k in range(3)] for row in table]
    else:
        with np.load(out) as file:
            predicted, proba = file["prediction"], file["proba"]
    np.testing.assert_array_equal(predicted, net.predict(X))
    np.testing.assert_array_equal(np.asarray(proba, dtype=np.float32), net.predict_proba(X))


# --- failures

WRONG_USAGE: list[tuple[list[str], str]] = [
    (["nope"], "No such command"),
    (["trian"], "Did you mean 'train'"),
    (["train", "--epochs", "0"], "--epochs"),
    (["train", "--hidden", "3,x"], "128,64"),
    (["train", "--hidden", "0"], "128,64"),
    (["train", "--activation", "rleu"], "did you mean 'relu'"),
    (["train", "--loss", "msee"], "did you mean 'mse'"),
    (["train", "--optimizer", "adan"], "did you mean 'adam'"),
    (["train", "--lr", "-1"], "lr must be a finite number of at least 0"),
    (["train", "--lr", "nan"], "lr must be a finite number of at least 0"),
    (["train", "--seed", "-1"], "--seed"),
    (["train", "--test-fraction", "1"], "--test-fraction"),
    (["train", "--out", "no/such/folder/model"], "does not exist"),
    (["train", "--target", "goal"], "no DATA"),
    (["train", "named.csv"], "needs --target NAME"),
    (["evaluate", "model", "named.csv"], "needs --target NAME"),
    (["predict", "model"], "Missing argument 'DATA'"),
]
FAILURES: list[tuple[list[str], str]] = [
    (["train", "missing.npz"], "No such file"),
    (["train", "named.csv", "--target", "gaol"], "did you mean 'goal'"),
    (["train", "named.csv", "--target", "goal", "--loss", "mse"], "names such as"),
    (["train", "priced.csv", "--target", "goal", "--loss", "cross_entropy"], "fractions"),
    (["train", "named.csv", "--target", "goal", "--loss", "binary_cross_entropy"], "3 classes"),
    (["train", "priced.csv", "--target", "goal", "--activation", "relu,tanh"], "3 hidden layers"),
    (["train", "text.md"], "text.md: has no rows below its header"),
    (["train", "cut.npz"], "not an NPZ file"),
    (["train", "pickled.npz"], "Python objects"),
    (["train", "no_y.npz"], "has no array y; it holds X, Y"),
    (["train", "nan.npz"], "X[2, 1] is nan"),
    (["train", "images.npz"], "X.reshape(len(X), -1)"),
    (["train", "rows.npz"], "rows must match"),
    (["train", "one_class.npz"], "a single class"),
    (["train", "bad_test.npz"], "y_test has shape (3, 1)"),
    (["train", "many.npz"], "say what they are"),
    (["train", "empty.csv", "--target", "goal"], "is empty"),
    (["train", "header.csv", "--target", "b"], "no rows below its header"),
    (["train", "headless.csv", "--target", "b"], "must name the columns"),
    (["predict", "model", "hole.csv"], "line 3: column 'a' is empty"),
    (["train", "ragged.csv", "--target", "b"], "line 3: 1 cell, but the header names 2 columns"),
    (["predict", "model", "text.csv"], "line 3: column 'a' is 'x'"),
    (["predict", "model", "nan.csv"], "line 3: column 'a' is nan"),
    (["train", "index.csv", "--target", "b"], "column 1 has no name"),
    (["predict", "named.csv", "named.csv"], "is not a fastbp model"),
    (["predict", "missing", "named.csv"], "No such file"),
    (["predict", "model", "named.csv", "--target", "goal"], "3 columns, but the network takes 2 inputs"),
    (["predict", "model", "nan.npz"], "X[2, 1] is nan"),
    (["predict", "model", "good.npz", "--out", "out.txt"], "go to .csv or .npz"),
    (["evaluate", "model", "no_y.npz"], "no array y"),
]


@pytest.fixture
def folder(tmp_path: Path, rows: Any, named: Path, priced: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of broken files, and a model of two inputs."""
    X, y = rows[:10, :2], np.arange(10) % 2
    holed = X.copy()
    holed[2, 1] = np.nan
    files: dict[str, dict[str, Any]] = {
        "good": {"X": X, "y": y},
        "pickled": {"X": np.array([object()]), "y": y},
        "no_y": {"X": X, "Y": y},
        "nan": {"X": holed, "y": y},
        "images": {"X": np.zeros((10, 4, 4)), "y": y},
        "rows": {"X": X, "y": y[:9]},
        "one_class": {"X": X, "y": y * 0},
        "bad_test": {"X": X, "y": X, "X_test": X[:3], "y_test": X[:3, :1]},
        "many": {"X": X, "y": np.zeros((10, 2), dtype=int)},
    }
    for name, arrays in files.items():
        np.savez(tmp_path / f"{name}.npz", **arrays)
    (tmp_path / "cut.npz").write_bytes((tmp_path / "good.npz").read_bytes()[:100])
    texts = {
        "text.md": "hello",
        "empty.csv": "",
        "header.csv": "a,b\n",
        "headless.csv": "1,2\n3,4\n",
        "hole.csv": "a,b\n1,2\n,4\n",
        "ragged.csv": "a,b\n1,2\n3\n",
        "text.csv": "a,b\n1,2\nx,4\n",
        "nan.csv": "a,b\n1,2\nnan,4\n",
        "index.csv": ",a,b\n7,1,2\n1,3,4\n",
    }
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    fastbp.MLP([2, 3, 2], seed=0).save("model")
    return tmp_path


@pytest.mark.parametrize(("arguments", "says"), WRONG_USAGE, ids=lambda value: str(value)[:60])
@pytest.mark.usefixtures("folder")
def test_wrong_usage_exits_with_2(arguments: list[str], says: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert says in result.stderr
    assert not result.stdout


@pytest.mark.parametrize(("arguments", "says"), FAILURES, ids=lambda value: str(value)[:60])
@pytest.mark.usefixtures("folder")
def test_failures_exit_with_1_and_one_line(arguments: list[str], says: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 1, result.output
    assert says in result.stderr
    assert result.stderr.startswith("fastbp: ")
    assert result.stderr.count("\n") == 1


@pytest.mark.usefixtures("folder")
def test_a_failure_leaves_no_file() -> None:
    before = sorted(Path.cwd().iterdir())
    run("train", "nan.npz", "--out", "out")
    run("predict", "model", "nan.npz", "--out", "out.csv")
    assert sorted(Path.cwd().iterdir()) == before


def test_divergence_names_the_learning_rate() -> None:
    result = run("train", "--optimizer", "sgd", "--lr", 1e18, "--compare", "none")
    assert result.exit_code == 1
    assert result.stderr.count("\n") == 1
    assert "epoch 0, step" in result.stderr
    assert "a smaller --lr" in result.stderr


def test_divergence_advises_what_can_be_done(npz: Path, priced: Path, tmp_path: Path) -> None:
    def said(*options: object) -> str:
        result = run("train", *options)
        assert result.exit_code == 1, result.output
        return result.stderr

    wild = ("--optimizer", "sgd", "--lr", 1e18, "--threads", 1)
    assert said(npz, *wild, "--no-standardize").endswith("try a smaller --lr, or scale the data by --standardize\n")
    assert said(npz, *wild).endswith("; try a smaller --lr\n")
    assert said(priced, "--target", "goal", *wild).endswith("; try a smaller --lr\n")
    huge = tmp_path / "huge.npz"
    np.savez(huge, X=np.full((20, 2), 1e38), y=np.full((20, 1), 1e38))
    assert said(huge, "--optimizer", "lbfgs", "--no-standardize").endswith("step 0; scale the data by --standardize\n")


def test_a_divergence_keeps_what_early_stopping_found(
    npz: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "schedule", lambda *_, **__: lambda step: 0.01 if step < 30 else 1e30)
    kept, history = tmp_path / "model", tmp_path / "history.csv"
    options = ("--optimizer", "sgd", "--epochs", 30, "--threads", 1, "--out", kept, "--history", history)
    assert run("train", npz, *options).exit_code == 1
    assert not kept.exists()  # the weights of some step before
    result = run("train", npz, *options, "--early-stopping", 30)
    assert result.exit_code == 1
    assert f"the best, is in {kept}; the losses are in {history}\n" in result.stderr
    losses = [float(row["val_loss"]) for row in read_csv(history.read_text())]
    assert f"the network of epoch {int(np.argmin(losses)) + 1}, " in result.stderr
    assert fastbp.load(kept).sizes[0] == 3


def test_bugs_are_told_from_bad_input(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr(fastbp.MLP, "fit", broken)
    monkeypatch.delenv("FASTBP_DEBUG", raising=False)
    result = run("train")
    assert result.exit_code == 1
    assert "unexpected ZeroDivisionError: division by zero; run again with FASTBP_DEBUG=1" in result.stderr
    monkeypatch.setenv("FASTBP_DEBUG", "1")
    assert isinstance(run("train").exception, ZeroDivisionError)


# --- interruption


def test_an_interrupted_training_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fit = fastbp.MLP.fit

    def interrupted(net: Any, X: Any, y: Any, **options: Any) -> None:
        fit(net, X, y, **options | {"epochs": 2})
        raise KeyboardInterrupt

    monkeypatch.setattr(fastbp.MLP, "fit", interrupted)
    out = tmp_path / "model"
    result = run("train", "--epochs", 9, "--out", out)
    assert result.exit_code == 130
    assert f"interrupted after 2 of 9 epochs; the network as it stood is in {out}" in result.stderr
    assert result.stderr.count("\n") == 1
    X, y = datasets.load_digits()
    assert fastbp.load(out).evaluate(X, y)["accuracy"] > 0.5
    result = run("train", "--epochs", 9)
    assert result.exit_code == 130
    assert "nothing was kept" in result.stderr


@pytest.mark.parametrize("ending", [".csv", ".json"])
@pytest.mark.parametrize("where", ["fit", "evaluate"])
def test_an_interruption_keeps_the_history(
    ending: str, where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit, history = fastbp.MLP.fit, tmp_path / f"history{ending}"

    def interrupted(net: Any, *arguments: Any, **options: Any) -> None:
        if where == "fit":
            fit(net, *arguments, **options | {"epochs": 2})
        raise KeyboardInterrupt

    monkeypatch.setattr(fastbp.MLP, where, interrupted)
    result = run("train", "--epochs", 4, "--history", history)
    assert result.exit_code == 130
    done = 2 if where == "fit" else 4
    assert f"interrupted after {done} of 4 epochs; its losses are in {history}" in result.stderr
    assert "nothing was kept" not in result.stderr
    text = history.read_text()
    losses = [row["loss"] for row in read_csv(text)] if ending == ".csv" else json.loads(text)["loss"]
    assert len(losses) == done


def test_an_interruption_before_the_first_epoch_writes_no_history(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(fastbp.MLP, "fit", interrupted)
    result = run("train", "--history", tmp_path / "history.csv")
    assert result.exit_code == 130
    assert "nothing was kept" in result.stderr
    assert not list(tmp_path.iterdir())


# --- a real process


def test_a_real_process(tmp_path: Path, named: Path) -> None:
    def call(*arguments: object) -> subprocess.CompletedProcess[str]:
        command = [*FASTBP, *map(str, arguments)]
        environment = dict(os.environ)  # which has no COLUMNS, that readline has set behind Python's back
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=180, check=False)

    out = tmp_path / "model"
    trained = call("train", named, "--target", "goal", "--epochs", 3, "--out", out)
    assert trained.returncode == 0, trained.stderr
    assert trained.stderr == ""
    assert "test     accuracy" in trained.stdout
    predicted = call("predict", out, named, "--target", "goal")
    assert predicted.stdout.splitlines()[0] == "prediction,proba_ant,proba_bee,proba_cow"
    assert len(predicted.stdout.splitlines()) == 301
    failed = call("evaluate", out, "missing.csv")
    assert (failed.returncode, failed.stdout, failed.stderr.count("\n")) == (1, "", 1)
    assert call("train", "--lr", "x").returncode == 2


# --- info and warmup


def test_info() -> None:
    found = as_json("info")
    text = succeed("info")
    assert found["cache_folder"] in text
    here = ["float32", "float64", *(["bfloat16"] if pair_target() is AVX512_BF16 else [])]
    assert [dtype for dtype, peaks in found["fma_peak_gflops"].items() if min(peaks.values()) > 0] == here
    assert "FMA peak float64" in text


def test_warmup() -> None:
    assert "float32 ready in" in succeed("warmup", "--dtype", "float32")
    assert as_json("warmup", "--dtype", "float32")["dtypes"] == ["float32"]


# --- schedules and stopping


def test_a_schedule_and_early_stopping(npz: Path, tmp_path: Path) -> None:
    history = tmp_path / "history.csv"
    options = ("--hidden", "16", "--lr", "0.05", "--epochs", "300", "--history", history)
    text = succeed("train", npz, *options, "--early-stopping", "3", "--schedule", "cosine", "--warmup-epochs", "2")
    rows = read_csv(history.read_text())
    assert len(rows) < 300
    assert f"stopped  after {len(rows)} epochs: val_loss has not improved for 3 epochs" in text
    rates = [float(row["lr"]) for row in rows]
    assert rates[0] < rates[1] <= 0.05
    assert rates[-1] <= max(rates) <= 0.05
    best = min(range(len(rows)), key=lambda k: float(rows[k]["val_loss"]))
    assert best == len(rows) - 4


@pytest.mark.parametrize("schedule", ["cosine", "linear", "exponential", "one-cycle", "step"])
def test_every_schedule_ends_lower_than_it_stood(npz: Path, tmp_path: Path, schedule: str) -> None:
    found = as_json("train", npz, "--epochs", "10", "--schedule", schedule)
    assert len(found["lr"]) == 10
    assert found["lr"][-1] < max(found["lr"])


def test_clipping_and_smoothing(npz: Path, priced: Path, tmp_path: Path) -> None:
    plain = as_json("train", npz, "--epochs", "3")
    other = as_json("train", npz, "--epochs", "3", "--clip-norm", "0.1", "--label-smoothing", "0.2")
    assert other["optimizer"]["clip_norm"] == 0.1
    assert other["train_loss"] != plain["train_loss"]
    assert run("train", priced, "--target", "goal", "--label-smoothing", "0.1").exit_code == 2


def test_class_weights_from_the_command_line(tmp_path: Path, priced: Path) -> None:
    """Nine rows in ten are of one class, and nothing tells the classes apart: balanced, the two come out even."""
    rng, path = np.random.default_rng(0), tmp_path / "uneven.npz"
    np.savez(path, X=np.ones((200, 2), np.float32), y=rng.permutation(np.arange(200) < 20).astype(int))
    options = ("--epochs", "200", "--hidden", "none", "--lr", "0.05", "--no-standardize", "--test-fraction", "0")
    options += ("--batch-size", "200")  # smaller batches each divide by the weights that they happen to hold
    shares = []
    for more in ((), ("--class-weight", "balanced")):
        found = as_json("train", path, *options, *more, "--out", tmp_path / "net.safetensors")
        shares.append(fastbp.load(tmp_path / "net.safetensors").predict_proba(np.ones((1, 2)))[0, 1])
        assert found["class_weight"] == (more[1] if more else None)
    assert shares == pytest.approx([0.1, 0.5], abs=0.05)
    assert run("train", priced, "--target", "goal", "--class-weight", "balanced").exit_code == 2


def test_max_seconds_from_the_command_line(npz: Path) -> None:
    found = as_json("train", npz, "--epochs", "10000000", "--max-seconds", "0.2")
    assert found["stop_reason"] == "MaxSeconds: 0.2 s have passed"
    assert found["samples_per_second"] > 0


@pytest.mark.parametrize(
    "options",
    [
        ("--history", "x.txt"),
        ("--history", "no/such/folder/x.csv"),
        ("--schedule", "sine"),
        ("--early-stopping", "0"),
        ("--compare", "numpy", "--schedule", "cosine"),
        ("--compare", "numpy", "--early-stopping", "3"),
        ("--compare", "numpy", "--class-weight", "balanced"),
        ("--class-weight", "heavy"),
    ],
)
def test_wrong_use_of_schedules_and_stopping(options: tuple[str, ...], npz: Path) -> None:
    assert run("train", npz, *options).exit_code == 2


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--compare", "numpy", "--validation-split", "0.2"), "--compare numpy knows no --validation-split"),
        (("--checkpoint-minutes", "5"), "--checkpoint-minutes is about the checkpoints in a folder"),
        (("--resume",), "--resume is about the checkpoints in a folder"),
        (("--epochs", "5", "--warmup-epochs", "5"), "a warm-up of 5 in --epochs 5 leaves none"),
        (("--warmup-epochs", "20", "--schedule", "cosine"), "a warm-up of 20 in --epochs 20 leaves none"),
        (("--validation-split", "1"), "1.0 is not in the range"),
        (("--validation-split", "0", "--early-stopping", "3"), "leave --validation-split 0 out"),
        (("--nesterov", "--optimizer", "sgd"), "Invalid value for --nesterov: goes with a --momentum above 0"),
        (("--momentum", "1", "--optimizer", "sgd"), "1.0 is not in the range"),
    ],
)
def test_options_that_contradict_each_other(options: tuple[str, ...], says: str, tmp_path: Path) -> None:
    result = run("train", tmp_path / "none.npz", *options)
    assert result.exit_code == 2
    assert says in " ".join(result.stderr.split())


FINITE = ("test-fraction", "warmup-epochs", "validation-split", "tol", "max-seconds", "checkpoint-minutes", "dropout",
          "input-noise", "l1", "l2", "max-norm", "weight-decay", "momentum", "clip-norm", "clip-value",
          "label-smoothing")  # fmt: skip


@pytest.mark.parametrize("value", ["nan", "inf"])
@pytest.mark.parametrize("option", FINITE)
def test_numbers_are_finite(option: str, value: str, tmp_path: Path) -> None:
    """Refused as usage: the data, which are not there, are not asked for."""
    result = run("train", tmp_path / "none.npz", f"--{option}", value)
    assert result.exit_code == 2, result.output
    assert f"--{option}" in result.stderr
    assert "is not" in result.stderr


def test_all_ranges_are_of_finite_numbers() -> None:
    for name in ("train", "sweep", "range-test"):
        command = main.get_command(click.Context(main), name)
        assert command is not None
        ranges = [one for one in command.params if isinstance(one.type, click.FloatRange)]
        assert len(ranges) > 8
        assert [one.name for one in ranges if not isinstance(one.type, FiniteRange)] == []


def test_a_checkpoint_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file" / "run", tmp_path / ("x" * 300)):
        result = run("train", tmp_path / "none.npz", "--checkpoint", folder)
        assert result.exit_code == 2, result.output
        assert "--checkpoint" in result.stderr
    refused = run("train", tmp_path / "none.npz", "--checkpoint", tmp_path / "a" / "b")
    assert refused.exit_code == 1  # the folder could be made, the data are missing
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("held", [(), ("--validation-split", "0.25")])
def test_a_plateau_from_the_command_line(held: tuple[str, ...], npz: Path) -> None:
    """As the library has it, with the share and the epochs that the help says."""
    options = ("--epochs", "7", "--schedule", "plateau", "--warmup-epochs", "1", *held)
    found = as_json("train", npz, *options, "--lr", "1e-9", "--dropout", "0.5")
    assert len(found["val_loss"]) == (7 if held else 0)
    net = fastbp.MLP([3, 128, 64, 3], dropout=0.5, seed=0)
    with np.load(npz) as file:
        net.standardize(file["X"])
        recipe = schedules.ReduceOnPlateau(0.2, 2, monitor="val_loss" if held else "loss")
        history = net.fit(
            file["X"], file["y"], epochs=7, batch_size=64, optimizer=optimizers.Adam(lr=1e-9),
            schedule=schedules.Warmup(1, recipe), validation_split=0.25 if held else 0.0,
        )  # fmt: skip
    assert (found["lr"], found["train_loss"], found["val_loss"]) == (history.lr, history.loss, history.val_loss)
    assert min(found["lr"]) < 1e-9  # of dropout, the loss goes up and down


def test_steps_from_the_command_line(npz: Path) -> None:
    found = as_json("train", npz, "--epochs", "6", "--schedule", "step", "--lr", "0.1")
    assert found["lr"] == pytest.approx([0.1, 0.1, 0.01, 0.01, 0.001, 0.001])


def test_everything_chosen_is_in_the_json(npz: Path, tmp_path: Path) -> None:
    options = {
        "schedule": "cosine", "warmup_epochs": 1.5, "label_smoothing": 0.1, "early_stopping": 3, "tol": 0.01,
        "max_seconds": 100.0, "checkpoint": str(tmp_path / "run"), "checkpoint_minutes": 2.0,
        "class_weight": "balanced", "validation_split": 0.2, "threads": 1, "seed": 4, "epochs": 5,
        "history": str(tmp_path / "history.csv"),
    }  # fmt: skip
    found = as_json("train", npz, *(w for k, v in options.items() for w in (f"--{k.replace('_', '-')}", v)))
    assert {name: found[name] for name in options} == options
    assert len(found["val_score"]) == len(found["train_loss"])
    assert found["score"] == "accuracy"
    plain = as_json("train", npz, "--epochs", "2")
    assert plain.keys() == found.keys()
    assert (plain["schedule"], plain["checkpoint"], plain["validation_split"]) == ("constant", None, 0.0)


def test_the_method_says_what_differs_from_the_defaults(npz: Path) -> None:
    plain = succeed("train", npz, "--epochs", "2").splitlines()
    at = next(k for k, line in enumerate(plain) if line.startswith("method"))
    assert plain[at + 1].startswith("trained")
    text = succeed(
        "train", npz, "--epochs", "3", "--optimizer", "sgd", "--momentum", "0.9", "--nesterov",
        "--weight-decay", "1e-4", "--clip-norm", "1", "--clip-value", "0.5", "--schedule", "step",
        "--warmup-epochs", "1", "--label-smoothing", "0.1", "--class-weight", "balanced", "--early-stopping", "9",
    )  # fmt: skip
    said = (
        "weight decay 0.0001, momentum 0.9, nesterov, clip norm 1, clip value 0.5, schedule step, warm-up epochs 1, "
        "label smoothing 0.1, class weight balanced, 20 of 200 training rows held out (10 %), early stopping 9"
    )
    lines = text.splitlines()
    at = next(k for k, line in enumerate(lines) if line.startswith("method"))
    parts = set(lines[at + 1].strip().split(", "))
    assert parts == set(said.split(", "))


# --- optimisers


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("sgd", "--lr", "0.1", "--momentum", "0.9"), optimizers.SGD(lr=0.1, momentum=0.9)),
        (("sgd", "--momentum", "0.9", "--nesterov"), optimizers.SGD(momentum=0.9, nesterov=True)),
        (("rmsprop", "--momentum", "0.5"), optimizers.RMSprop(momentum=0.5)),
        (("adamw", "--weight-decay", "0"), optimizers.AdamW(weight_decay=0.0)),
        (("adam", "--lr", "0", "--clip-value", "0.1"), optimizers.Adam(lr=0.0, clip_value=0.1)),
        (("lbfgs", "--weight-decay", "0.01"), LBFGS(weight_decay=0.01)),
    ],
)
def test_options_of_the_optimizer(options: tuple[str, ...], expected: Any, npz: Path) -> None:
    found = as_json("train", npz, "--epochs", "2", "--optimizer", *options)["optimizer"]
    assert found == json.loads(json.dumps({"name": expected.name, **dataclasses.asdict(expected)}))


def test_help_names_every_optimizer_and_loss() -> None:
    text = " ".join(succeed("train", "--help").split())
    assert ", ".join(optimizers.NAMES) + "." in text
    assert ", ".join(LOSSES) + "." in text
    assert "For sgd and rmsprop." in text
    assert "adamw, lion and adabelief apart from the gradient" in text


@pytest.mark.parametrize("name", optimizers.NAMES)
def test_every_optimizer_trains(name: str, npz: Path) -> None:
    found = as_json("train", npz, "--epochs", "4", "--optimizer", name)
    assert found["optimizer"]["name"] == name
    assert found["train_loss"][-1] < found["train_loss"][0]
    assert (found["batch_size"] is None) == (name == "lbfgs")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("lbfgs", "--lr", "0.1"), "lbfgs finds the lengths of its steps itself"),
        (("lbfgs", "--clip-norm", "1"), "lbfgs finds the lengths of its steps itself"),
        (("lbfgs", "--batch-size", "64"), "leave --batch-size out"),
        (("lbfgs", "--clip-value", "1"), "lbfgs finds the lengths of its steps itself"),
        (("lbfgs", "--schedule", "cosine"), "Invalid value for --schedule: lbfgs adapts the lengths of its steps"),
        (("lbfgs", "--compare", "numpy"), "--compare numpy knows no lbfgs"),
        (("lbfgs", "--dropout", "0.2"), "Invalid value for --dropout: lbfgs needs a smooth cost"),
        (("lbfgs", "--input-noise", "0.2"), "leave --input-noise out"),
        (("lbfgs", "--l1", "0.2"), "leave --l1 out"),
        (("lbfgs", "--max-norm", "2"), "leave --max-norm out"),
        (("lbfgs", "--checkpoint", "run"), "Invalid value for --checkpoint: lbfgs cannot go on to the same bits"),
        (("rprop", "--warmup-epochs", "1"), "Invalid value for --warmup-epochs: rprop adapts the lengths of its steps"),
        (("rprop", "--schedule", "step"), "Invalid value for --schedule: rprop adapts the lengths of its steps"),
        (("rprop", "--weight-decay", "0.1"), "Invalid value for --weight-decay: rprop has none"),
        (("adam", "--momentum", "0.9"), "Invalid value for --momentum: is for sgd and rmsprop, not for adam"),
        (("rmsprop", "--momentum", "0.9", "--nesterov"), "Invalid value for --nesterov: is for sgd, not for rmsprop"),
    ],
)
def test_options_that_an_optimizer_would_ignore(options: tuple[str, ...], says: str, tmp_path: Path) -> None:
    """Refused as usage: the data, which are not there, are not asked for."""
    result = run("train", tmp_path / "none.npz", "--optimizer", *options)
    assert result.exit_code == 2
    assert says in " ".join(result.stderr.replace("\n", " ").split())
    assert not list(tmp_path.iterdir())


def test_checkpoints_and_resuming(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    options = ["train", "--checkpoint", folder, "--resume", "--compare", "none"]
    first = run(*options, "--epochs", 2)
    assert first.exit_code == 0, first.output
    assert f"no checkpoint in {folder}: starting afresh" in first.output
    second = run(*options, "--epochs", 4, "--out", tmp_path / "resumed.safetensors")
    assert second.exit_code == 0, second.output
    assert f"after 2 epochs, from {folder}" in second.output
    whole = run("train", "--epochs", 4, "--compare", "none", "--out", tmp_path / "whole.safetensors")
    assert whole.exit_code == 0
    one, other = (fastbp.load(tmp_path / f"{name}.safetensors") for name in ("resumed", "whole"))
    assert all((a == b).all() for a, b in zip(one.weights, other.weights, strict=True))
    third = json.loads(run(*options, "--epochs", 4, "--json").output)
    assert (third["resumed_epochs"], len(third["train_loss"])) == (4, 4)
    changed = run(*options, "--epochs", 4, "--batch-size", 7)
    assert changed.exit_code == 1
    assert "batch_size were 32, now 7" in changed.output
    assert run("train", "--resume").exit_code == 2
    (tmp_path / "file").write_text("")


def test_an_unfinished_training_is_kept(tmp_path: Path) -> None:
    stopped = run("train", "--max-seconds", 0.0001, "--checkpoint", tmp_path)
    assert stopped.exit_code == 0, stopped.output
    again = run("train", "--checkpoint", tmp_path)
    assert again.exit_code == 1
    assert "holds an unfinished training, stopped after 1 epochs" in again.output
    assert run("train", "--max-seconds", 0.0001, "--checkpoint", tmp_path, "--resume").exit_code == 0


def test_a_checkpoint_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line on stderr; the training goes on and the network is saved."""
    from fastbp.io import model_files

    save = model_files.save

    def full(path: Path, *rest: Any) -> None:
        if Path(path).parent.name == "run":
            raise OSError(28, "No space left on device")
        save(path, *rest)

    monkeypatch.setattr(model_files, "save", full)
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        result = run("train", "--epochs", 2, "--checkpoint", tmp_path / "run", "--out", tmp_path / "net.safetensors")
    assert result.exit_code == 0, result.output
    said = [line for line in result.output.splitlines() if "no checkpoint was written" in line]
    assert len(said) == 1
    assert said[0].startswith("fastbp: ")
    assert (tmp_path / "net.safetensors").exists()


def test_tol(tmp_path: Path) -> None:
    result = json.loads(run("train", "--tol", 100, "--epochs", 40, "--json").output)
    assert len(result["train_loss"]) == 11
    assert result["stop_reason"] == "EarlyStopping: loss has not improved for 10 epochs"


# --- regularisation


def test_regularization_is_said_and_saved(npz: Path, tmp_path: Path) -> None:
    out = tmp_path / "net.safetensors"
    options = ("--dropout", "0.2", "--input-noise", "0.1", "--l1", "1e-4", "--l2", "1e-3", "--max-norm", "2")
    found = as_json("train", npz, "--epochs", "3", *options, "--compare", "numpy", "--out", out)
    expected = {"dropout": [0.2, 0.2], "input_noise": 0.1, "l1": 1e-4, "l2": 1e-3, "max_norm": 2.0}
    assert found["regularization"] == expected
    assert fastbp.load(out).regularization.as_arguments() == expected
    assert "dropout 0.2, input noise 0.1, l1 0.0001, l2 0.001, max norm 2" in succeed("train", npz, *options)


def test_dropout_needs_a_hidden_layer(npz: Path) -> None:
    assert run("train", npz, "--hidden", "none", "--dropout", "0.5").exit_code == 2


def test_a_limit_of_time_within_the_first_epoch(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "big.npz", X=rng.standard_normal((60000, 8)).astype(np.float32), y=rng.integers(0, 3, 60000))
    options = ("--max-seconds", "0.001", "--batch-size", "2", "--epochs", "50", "--hidden", "64,64")
    text = succeed("train", tmp_path / "big.npz", *options, "--out", tmp_path / "net.safetensors")
    assert "on a part of the first epoch" in text
    assert "0.001 s have passed" in text
    found = as_json("train", tmp_path / "big.npz", *options, "--history", tmp_path / "h.json")
    assert found["train_loss"] == []
    assert found["stop_reason"].startswith("MaxSeconds")
