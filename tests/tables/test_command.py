"""Tables at the command line: options, what is said, all faults at once, and predictions that need the model alone."""

from __future__ import annotations

import csv
import gzip
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

import fastbp
from fastbp.cli.main import main


def run(*arguments: object, given: bytes | None = None) -> Result:
    return CliRunner().invoke(main, [str(one) for one in arguments], input=given)


def succeed(*arguments: object, given: bytes | None = None) -> str:
    result = run(*arguments, given=given)
    assert result.exit_code == 0, result.output
    return result.stdout


def as_json(*arguments: object) -> Any:
    return json.loads(succeed(*arguments, "--json"))


def rows_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


@pytest.fixture
def homes(tmp_path: Path) -> Path:
    """German fractions and dates, semicolons, holes, and a name a row."""
    rng, lines = np.random.default_rng(0), ["key;town;area;sold;who;price"]
    for k in range(240):
        town, area = ("Aix", "Bonn", "Cork")[rng.integers(3)], round(rng.uniform(30, 200), 1)
        price = round(1000 + 3 * area + 40 * (town == "Bonn") + rng.normal(), 2)
        shown = "" if k % 20 == 7 else f"{area}".replace(".", ",")
        lines.append(f"h{k};{town};{shown};{1 + k % 28}.{1 + k % 12}.2020;{k // 8};{f'{price}'.replace('.', ',')}")
    path = tmp_path / "homes.csv"
    path.write_text("\n".join([*lines, ""]))
    return path


QUICK = ("--epochs", 3)


def test_what_was_inferred_is_said(homes: Path, tmp_path: Path) -> None:
    model = tmp_path / "model.safetensors"
    text = succeed("train", homes, "--target", "price", "--id", "key", "--group", "who", "--out", model)
    for part in (
        "data     1 number: area (decimal comma, 12 missing)", "1 category: town (3)", "1 date: sold (%d.%m.%Y)",
        "price holds quantities: the loss is mse", "choose the best epoch", "held out, by who", "best     epoch ",
        "test     r2 0.", "(the mean alone ",
    ):  # fmt: skip
        assert part in text, text
    shown = succeed("info", model)
    for part in ("target   price: quantities", "town: category, ", "missing ones", "id       key", "scores   test: r2"):
        assert part in shown
    found = as_json("info", model)
    assert [column["name"] for column in found["columns"]] == ["town", "area", "sold"]
    assert found["scores"]["test"]["rmse"] > 0


def test_predictions_need_the_model_alone(homes: Path, tmp_path: Path) -> None:
    model, out = tmp_path / "model.safetensors", tmp_path / "out.csv"
    succeed("train", homes, "--target", "town", "--id", "key", "--drop", "price,who", *QUICK, "--out", model)
    assert "wrote 240 predictions" in succeed("predict", model, homes, "-o", out)
    found = rows_of(out.read_text())
    assert list(found[0]) == ["key", "prediction", "proba_Aix", "proba_Bonn", "proba_Cork"]
    assert [row["key"] for row in found] == [f"h{k}" for k in range(240)]
    swapped = tmp_path / "swapped.csv"
    lines = [line.split(";") for line in homes.read_text().splitlines()]
    swapped.write_text("\n".join(";".join(line[::-1]) for line in lines) + "\n")
    assert rows_of(succeed("predict", model, swapped)) == found
    lines[0][2] = "aera"
    swapped.write_text("\n".join(";".join(line) for line in lines) + "\n")
    result = run("predict", model, swapped)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "has no column 'area' (is it 'aera'?), which the model needs" in result.stderr


def test_the_model_keeps_how_its_files_are_written(homes: Path, tmp_path: Path) -> None:
    model, other = tmp_path / "model.safetensors", tmp_path / "other.csv"
    homes.write_bytes(homes.read_text().replace("Aix", "K\u00f6ln").encode("cp437"))
    options = ("--target", "price", "--id", "key", "--encoding", "cp437", "--delimiter", ";")
    succeed("train", homes, *options, *QUICK, "--out", model)
    expected = rows_of(succeed("predict", model, homes))
    other.write_bytes(homes.read_bytes().decode("cp437").replace(";", "\t").encode("cp437"))
    assert rows_of(succeed("predict", model, other, "--delimiter", "\\t")) == expected
    result = run("predict", model, homes, "--encoding", "cp1252")
    assert "of 'town' are not in the training rows: 'K\u201dln'" in result.stderr
    shown = succeed("info", model)
    assert "recipe   Adam(lr=" in shown
    assert ", 3 epochs, batches of " in shown
    fastbp.MLP([2, 3, 2], seed=0).save(model)
    assert "--encoding is for a model of a table" in run("predict", model, other, "--encoding", "utf-8").stderr


def test_what_is_odd_is_said_on_stderr(homes: Path, tmp_path: Path) -> None:
    model = tmp_path / "model.safetensors"
    succeed("train", homes, "--target", "price", "--id", "key", *QUICK, "--out", model)
    homes.write_text(homes.read_text().replace("Cork", "Derry").replace("who", "whom"))
    result = run("predict", model, homes)
    assert result.exit_code == 1
    homes.write_text(
        homes.read_text().replace("whom", "who").replace("sold;", "sold;new;").replace(".2020;", ".2020;1;")
    )
    result = run("predict", model, homes)
    assert result.exit_code == 0, result.output
    assert "fastbp: columns that the model does not know are ignored: new" in result.stderr
    assert "of 'town' are not in the training rows: 'Derry'" in result.stderr
    assert len(rows_of(result.stdout)) == 240


def test_stdin_gzip_and_encodings(homes: Path, tmp_path: Path) -> None:
    content = homes.read_bytes()
    options = ("--target", "price", "--id", "key", *QUICK, "--json")
    expected = json.loads(succeed("train", homes, *options))["train_loss"]
    assert json.loads(succeed("train", "-", *options, given=content))["train_loss"] == expected
    for name, changed in (
        ("a.csv.gz", gzip.compress(content)), ("b.txt", content.decode().encode("utf-16")),
        ("c.dat", content.replace(b"\n", b"\r\n")),
    ):  # fmt: skip
        (tmp_path / name).write_bytes(changed)
        assert json.loads(succeed("train", tmp_path / name, *options))["train_loss"] == expected


def test_all_faults_are_told_at_once_a_line_each(tmp_path: Path) -> None:
    path = tmp_path / "bad.csv"
    rows = [f"n{k},{k},{k % 5},{k}" for k in range(40)]
    rows[7] = "n7,inf,x,7"
    path.write_text("\n".join(["name,size,code,goal", *rows, ""]))
    result = run("train", path, "--target", "goal", "--numeric", "code")
    assert result.exit_code == 1
    assert result.stderr.splitlines() == [
        f"fastbp: {path}: 4 faults",
        "  line 9: column 'size' is inf; fill or drop values that are not finite",
        "  line 9: column 'code' is 'x', which is no number; correct it, or say --missing x if it means that the value "
        "is not known",
        "  target 'goal' holds 40 different integers in 40 rows: say --numeric goal if they are quantities, "
        "--categorical goal if they are classes",
        "  column 'name' has 40 values in 40 rows, as 'n0': what identifies rows says nothing of others; say --drop "
        "name, --id name to have it beside the predictions, or --categorical name to use it all the same",
    ]
    path.write_text(path.read_text().replace("inf", "6").replace(",x,", ",?,"))
    assert run("train", path, "--target", "goal", "--numeric", "code,goal", "--drop", "name", *QUICK).exit_code == 0


def test_ragged_rows(tmp_path: Path) -> None:
    path = tmp_path / "bad.csv"
    path.write_text("a,b\n1,2\n3\n5,6,7\n")
    result = run("train", path, "--target", "b")
    assert result.stderr.splitlines()[1:] == [
        "  line 3: 1 cell, but the header names 2 columns", "  line 4: 3 cells, but the header names 2 columns",
    ]  # fmt: skip


def test_several_targets(homes: Path, tmp_path: Path) -> None:
    model = tmp_path / "model.safetensors"
    found = as_json("train", homes, "--target", "price", "--target", "area", "--drop", "key", *QUICK, "--out", model)
    assert (found["target"], found["sizes"][-1]) == (["price", "area"], 2)
    assert any("12 rows without a target left out" in note for note in found["notes"])
    assert succeed("predict", model, homes).splitlines()[0] == "prediction_price,prediction_area"


def test_options_reach_the_model(homes: Path, tmp_path: Path) -> None:
    model, test = tmp_path / "model.safetensors", tmp_path / "test.csv"
    lines = homes.read_text().splitlines()
    test.write_text("\n".join([lines[0], *lines[-40:], ""]))
    options = (
        "--target", "price", "--id", "key", "--features", "town,area,who", "--categorical", "who",
        "--missing", "Aix,-9",
        "--test", test, "--refit", "--log-target", "--dtype", "float64", "--time", "sold", "--hidden", "9",
        "--optimizer",
        "sgd", "--lr", "0.01", "--schedule", "constant", "--seed", "3", "--batch-size", "30", "--dropout", "0.1",
    )  # fmt: skip
    found = as_json("train", homes, *options, *QUICK, "--out", model)
    assert (found["test_rows"], found["optimizer"]["name"], found["optimizer"]["lr"]) == (40, "sgd", 0.01)
    assert (found["batch_size"], found["schedule"], found["lr"]) == (30, "constant", [0.01] * 3)
    made = fastbp.TableModel.load(model)
    assert made.net is not None
    assert (made.net.sizes[1], made.net.dtype, made.net.regularization.dropout) == (9, np.float64, (0.1,))
    assert made.target is not None
    assert made.target.log
    assert {column.name: column.kind.name for column in made.encoder.columns} == {
        "town": "category", "area": "number", "who": "category",
    }  # fmt: skip
    assert "refit_rows" in made.trained
    assert "Aix" not in made.encoder.columns[0].levels


def test_options_of_tables_are_for_tables(tmp_path: Path) -> None:
    for option in (("--drop", "a"), ("--weight", "w"), ("--log-target",), ("--refit",), ("--target", "y")):
        result = run("train", *option)
        assert result.exit_code == 2, result.output
        assert f"{option[0]} is for tables, but no DATA is given" in result.stderr
    assert "is no column and format" in run("train", "x.csv", "--target", "y", "--date", "day").stderr
    assert "is not one sign" in run("train", "x.csv", "--target", "y", "--delimiter", "ab").stderr


def test_an_npz_is_a_table_where_options_of_tables_are_given(tmp_path: Path) -> None:
    path, model = tmp_path / "data.npz", tmp_path / "model.safetensors"
    rng = np.random.default_rng(0)
    X, y = rng.random((90, 3)), np.arange(90) % 3
    np.savez(path, X=X, y=y)
    found = as_json("train", path, "--drop", "x1", "--weight", "x2", *QUICK)
    assert (found["target"], found["sizes"][0], found["sizes"][-1]) == ("y", 1, 3)
    assert as_json("train", path, "--target", "x0", "--categorical", "y", *QUICK)["target"] == "x0"
    assert "has no column 'a'; it has x0, x1, x2, y" in run("train", path, "--drop", "a").stderr
    np.savez(path, X=X, y=np.stack([X[:, 0], X[:, 1] + 1], axis=1), X_test=X[:7], y_test=X[:7, :2])
    found = as_json("train", path, "--refit", *QUICK)
    assert (found["target"], found["test_rows"]) == (["y0", "y1"], 7)
    np.savez(path, size=X[:, 0], town=np.array(["a", "b", "c"])[y], price=X[:, 1])
    found = as_json("train", path, "--target", "price", *QUICK, "--out", model)
    assert (found["target"], found["sizes"][0]) == ("price", 4)
    assert len(rows_of(succeed("predict", model, path))) == 90
    np.savez(path, size=X[:, 0], town=np.ones(3))
    assert "neither an array X nor columns of one length; it holds size (90,), town (3,)" in " ".join(
        run("train", path, "--target", "town").stderr.split()
    )


def test_a_network_of_arrays_tells_what_it_is(tmp_path: Path) -> None:
    fastbp.MLP([2, 3, 2], seed=0).save(tmp_path / "net.safetensors")
    assert "2-3-2, relu, 17 parameters, cross_entropy, float32" in succeed("info", tmp_path / "net.safetensors")
    assert as_json("info", tmp_path / "net.safetensors")["sizes"] == [2, 3, 2]


@pytest.mark.filterwarnings("ignore:the best learning rate")
def test_sweeps_read_tables_the_same_way(homes: Path) -> None:
    options = ("--target", "price", "--id", "key")
    found = as_json("sweep", homes, *options, "--lr", "1e-3:0.1:3", "--seeds", "1", "--epochs", "2")
    assert (found["sizes"][0], found["target"]) == (9, "price")
    assert as_json("range-test", homes, *options, "--steps", "40")["sizes"][0] == 9
    assert "at random (--group splits the rows for the test alone)" in succeed(
        "sweep", homes, *options, "--group", "who", "--lr", "0.01,0.1", "--seeds", 1, "--epochs", 1
    )


@pytest.mark.parametrize(
    ("command", "losses"),
    [
        (("sweep", "--lr", "0.01", "--seeds", "1", "--epochs", "1"), "val_loss"),
        (("range-test", "--steps", "20"), "losses"),
    ],
)
def test_rates_are_compared_with_the_weights_of_rows(command: tuple[str, ...], losses: str, homes: Path) -> None:
    found, plain = (
        as_json(command[0], homes, *command[1:], "--target", "price", "--id", "key", *options)
        for options in (("--weight", "who"), ("--drop", "who"))
    )
    assert found["sizes"] == plain["sizes"]
    assert found[losses] != plain[losses]
