"""Tables as the command line reads them: what is a number and what a name, headers, delimiters, and faults by place."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

import fastbp
from fastbp.cli.main import main

TRAIN = ("--target", "goal", "--epochs", "2", "--hidden", "4")


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(one) for one in arguments])


def as_json(*arguments: object) -> Any:
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def write(path: Path, labels: list[str], n: int = 60, header: str = "a,b,goal", delimiter: str = ",") -> Path:
    """Two inputs and these labels in turns."""
    rng = np.random.default_rng(0)
    rows = [delimiter.join([*(f"{x:.3f}" for x in rng.random(2)), labels[k % len(labels)]]) for k in range(n)]
    path.write_text("\n".join([header, *rows, ""]), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (["1_1", "11", "2"], ["11", "1_1", "2"]),
        (["007", "7", "8"], ["007", "7", "8"]),
        (["+7", "7", "8"], ["+7", "7", "8"]),
        (["-0", "0", "1"], ["-0", "0", "1"]),
        (["\u0667", "7", "8"], ["7", "8", "\u0667"]),  # an Arabic seven
        (["18446744073709551616", "18446744073709551617"], ["18446744073709551616", "18446744073709551617"]),
        (["7", "-8", "10"], [-8, 7, 10]),
    ],
)
def test_labels_are_text_unless_all_are_ordinary_integers(
    labels: list[str], expected: list[Any], tmp_path: Path
) -> None:
    data, model = write(tmp_path / "data.csv", labels), tmp_path / "model.safetensors"
    found = as_json("train", data, *TRAIN, "--out", model)
    assert found["class_labels"] == expected
    assert as_json("evaluate", model, data, "--target", "goal")["accuracy"] >= 0.0
    predicted = as_json("predict", model, data, "--target", "goal")["prediction"]
    assert set(predicted) <= set(expected)


def test_padded_labels_are_told(tmp_path: Path) -> None:
    data = write(tmp_path / "data.csv", ["7", "007", "8"])
    notes = as_json("train", data, *TRAIN)["notes"]
    said = "labels such as 007 are no ordinary integers, so all stay as they are written: 007 and 7 are two classes"
    assert said in notes
    assert as_json("train", data, *TRAIN, "--loss", "mse")["loss"] == "mse"  # as quantities they are numbers


@pytest.mark.parametrize("labels", [["1", "2", "2b"], ["1", "2.50", "x"]])
def test_a_model_knows_that_its_labels_are_text(labels: list[str], tmp_path: Path) -> None:
    data, model = write(tmp_path / "data.csv", labels), tmp_path / "model.safetensors"
    as_json("train", data, *TRAIN, "--out", model)
    part = write(tmp_path / "part.csv", labels[:2])
    assert as_json("evaluate", model, part, "--target", "goal")["rows"] == 60
    assert len(as_json("predict", model, part, "--target", "goal")["prediction"]) == 60
    if "2" in labels:
        np.savez(tmp_path / "part.npz", X=np.ones((4, 2)), y=np.array([1, 2, 2, 1]))
        assert as_json("evaluate", model, tmp_path / "part.npz")["rows"] == 4


@pytest.mark.parametrize("labels", [["1", "2", "3"], ["0", "1", "2"]])
def test_a_label_that_the_model_does_not_know_is_named(labels: list[str], tmp_path: Path) -> None:
    data, model = write(tmp_path / "data.csv", labels), tmp_path / "model.safetensors"
    as_json("train", data, *TRAIN, "--out", model)
    other = write(tmp_path / "other.csv", [labels[1], "01", labels[2]])
    result = run("evaluate", model, other, "--target", "goal")
    assert result.exit_code == 1
    assert f"line 3: target 'goal' is 01, which is none of the model's classes {', '.join(labels)}" in result.stderr


def test_names_as_bytes(tmp_path: Path) -> None:
    data, model = tmp_path / "data.npz", tmp_path / "model.safetensors"
    np.savez(data, X=np.random.default_rng(0).random((40, 2)), y=np.array([b"ant", "b\u00eae".encode()] * 20))
    assert as_json("train", data, "--epochs", "1", "--out", model)["class_labels"] == ["ant", "b\u00eae"]
    assert as_json("evaluate", model, data)["rows"] == 40
    np.savez(data, X=np.ones((2, 2)), y=np.array([b"a", b"\xff"]))
    result = run("train", data)
    assert result.exit_code == 1
    assert "y holds bytes that are no UTF-8 text" in result.stderr


def test_names_where_the_model_takes_numbers(tmp_path: Path) -> None:
    data, model = write(tmp_path / "data.csv", ["1.5", "2.5"]), tmp_path / "model.safetensors"
    as_json("train", data, *TRAIN, "--out", model)
    assert as_json("evaluate", model, write(tmp_path / "b.csv", ["001", "02"]), "--target", "goal")["rows"] == 60
    result = run("evaluate", model, write(tmp_path / "b.csv", ["1.5", "x"]), "--target", "goal")
    assert result.exit_code == 1
    assert "line 3: target 'goal' is 'x', which is no number (30 such cells)" in result.stderr


@pytest.mark.parametrize(
    ("name", "header", "delimiter", "target"),
    [
        ("data.csv", '"a, left",b,goal', ",", "goal"),
        ("data.csv", '"a, left","b, right",goal', ",", "goal"),
        ("data.csv", '"a, left";"b, right";goal', ";", "goal"),
        ("data.csv", "a, left;b, right, far;goal", ";", "goal"),
        ("data.csv", '"a\nleft",b,goal', ",", "goal"),
        ("data.csv", 'a,b,"the\ngoal"', ",", "the goal"),
        ("data.tsv", "a, left, top\tb, right\tgoal", "\t", "goal"),
        ("data.txt", "a,b|c,d,e|goal", "|", "goal"),
        ("data.csv", "\na,b,goal", ",", "goal"),
        ("data.csv", "\r\n  \r\n\r\na,b,goal", ",", "goal"),
    ],
)
def test_headers(name: str, header: str, delimiter: str, target: str, tmp_path: Path) -> None:
    data = write(tmp_path / name, ["ant", "bee"], header=header, delimiter=delimiter)
    found = as_json("train", data, "--target", target, "--epochs", "1", "--out", tmp_path / "model")
    assert (found["sizes"][0], found["class_labels"], found["train_rows"]) == (2, ["ant", "bee"], 48)
    assert len(as_json("predict", tmp_path / "model", data, "--target", target)["prediction"]) == 60


def test_a_tsv_of_fractions_with_commas_is_no_table_of_commas(tmp_path: Path) -> None:
    path = tmp_path / "data.tsv"
    path.write_text("a, x\tb\tgoal\n" + "1.5\t2,5\tx\n2.5\t3,5\ty\n" * 10)
    found = as_json("train", path, *TRAIN)
    assert (found["sizes"][0], found["class_labels"]) == (2, ["x", "y"])
    assert "2 numbers: a, x, b (decimal comma)" in found["notes"]


@pytest.mark.parametrize(
    ("cells", "mean"),
    [(["3,7", "4,25", "1"], 8.95 / 3), (["1.234,5", "2,0"], 618.25), (["-1,234,567", "12"], -617277.5)],
)
def test_commas_in_the_numbers_of_the_target(cells: list[str], mean: float, tmp_path: Path) -> None:
    data, model = write(tmp_path / "data.csv", cells, header="a;b;goal", delimiter=";"), tmp_path / "model"
    assert (
        as_json("train", data, *TRAIN, "--test-fraction", "0", "--validation-split", "0", "--out", model)["loss"]
        == "mse"
    )
    assert fastbp.TableModel.load(model).trained["prior"] == pytest.approx([mean])


def test_the_line_of_a_fault_counts_header_and_blank_lines(tmp_path: Path) -> None:
    path = tmp_path / "data.csv"
    path.write_text('\n"a\nleft",b\n1,2\n\n1_1,2\n')
    fastbp.MLP([2, 3, 2], seed=0).save(tmp_path / "model.safetensors")
    result = run("predict", tmp_path / "model.safetensors", path)
    assert result.exit_code == 1
    assert "line 6: column 'a left' is '1_1', but only the target may be text" in result.stderr


def test_a_table_of_blank_lines_is_empty(tmp_path: Path) -> None:
    path = tmp_path / "data.csv"
    path.write_text("\n \n\n")
    result = run("train", path, *TRAIN)
    assert result.exit_code == 1
    assert "is empty; expected a line of column names" in result.stderr


def test_predict_leaves_the_target_unread(tmp_path: Path) -> None:
    """It is what is not known yet."""
    fastbp.MLP([2, 3, 2], seed=0).save(tmp_path / "model.safetensors")
    data = write(tmp_path / "data.csv", ["", "ant"])
    assert len(as_json("predict", tmp_path / "model.safetensors", data, "--target", "goal")["prediction"]) == 60


@pytest.mark.parametrize("rare", [1, 2])
@pytest.mark.parametrize("options", [("--early-stopping", "9"), ("--validation-split", "0.2"), ()])
def test_rare_classes_are_trained_on(options: tuple[str, ...], rare: int, tmp_path: Path) -> None:
    data = write(tmp_path / "data.csv", ["ant", "bee"] * 30 + ["emu"] * rare, n=60 + rare)
    result = run("train", data, *TRAIN, *options)
    assert result.exit_code == 0, result.output
    said = "class emu has too few rows to hold any out: all of them are trained on"
    # The rows that choose the best epoch are drawn from those that are not tested on.
    assert result.stdout.count(said) == (rare == 1) + 1
    assert result.stderr == ""


@pytest.mark.filterwarnings("ignore:the best learning rate")
@pytest.mark.parametrize("rare", [1, 2])
def test_rare_classes_in_a_sweep(rare: int, tmp_path: Path) -> None:
    data = write(tmp_path / "data.csv", ["ant", "bee"] * 30 + ["emu"] * rare, n=60 + rare)
    options = ("--target", "goal", "--lr", "0.001,0.01,0.1", "--seeds", "2", "--epochs", "2", "--hidden", "4")
    result = run("sweep", data, *options)
    assert result.exit_code == 0, result.output
    assert result.stderr.count("class emu has too few rows to hold any out") == result.stderr.count("\n") == 1


def test_the_true_share_and_what_was_trained_are_told(tmp_path: Path) -> None:
    """A row of each of 240 classes would be a quarter of the rows, not the fiftieth that was asked for."""
    data = tmp_path / "data.npz"
    np.savez(data, X=np.random.default_rng(0).random((1000, 2)), y=np.arange(1000) % 240)
    options = ("--hidden", "4", "--epochs", "2", "--test-fraction", "0", "--validation-split", "0.02")
    found = as_json("train", data, *options)
    assert (found["train_rows"], found["validation_rows"]) == (1000, 20)
    assert found["samples_per_second"] == pytest.approx(980 * 2 / found["seconds"])
    result = run("train", data, *options)
    assert "20 of 1,000 training rows held out (2 %)" in result.stdout
    assert "validation_split=0.02: classes " in result.stderr
    assert "(20 of 1,000 rows are held out, 2 %)" in result.stderr
