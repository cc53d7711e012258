"""`train --ensemble`, `--cross-validate` and `--by`, and `sweep --over`."""

from __future__ import annotations

import csv
import importlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

import fastbp
from fastbp.cli.main import main
from fastbp.tables import several

SMALL = ["--hidden", "8", "--epochs", "1"]


def run(*arguments: str, code: int = 0) -> str:
    done = CliRunner().invoke(main, list(arguments))
    assert done.exit_code == code, done.output
    return done.output


def test_an_ensemble_of_digits_is_saved(tmp_path: Path) -> None:
    path = str(tmp_path / "e.safetensors")
    found = json.loads(run("train", "--ensemble", "2", *SMALL, "--out", path, "--json"))
    ensemble = fastbp.Ensemble.load(path)
    assert len(ensemble) == found["members"] == len(found["members_test"]) == 2
    assert found["test"]["loss"] < np.mean([one["loss"] for one in found["members_test"]])
    assert "together: accuracy" in run("train", "--ensemble", "2", *SMALL)


def test_folds_of_digits() -> None:
    found = json.loads(run("train", "--cross-validate", "3", *SMALL, "--early-stopping", "1", "--json"))
    assert len(found["cross_validation"]["accuracy"]) == 3
    assert "never" not in found["cross_validation"]["notes"][0]
    assert "EarlyStopping looks at 10%" in run("train", "--cross-validate", "2", *SMALL, "--early-stopping", "1")


@pytest.mark.parametrize("mode", [("--cross-validate", "3"), ("--ensemble", "3")])
def test_a_journal_trains_only_what_is_missing(mode: tuple[str, str], tmp_path: Path) -> None:
    path = tmp_path / "nets.jsonl"
    given = ["train", *mode, *SMALL, "--journal", str(path), "--json"]
    first = json.loads(run(*given))
    lines = path.read_bytes().splitlines(keepends=True)
    assert len(lines) == 4
    path.write_bytes(b"".join(lines[:2]))
    again = json.loads(run(*given))
    assert path.read_bytes().splitlines()[:2] == [line.strip() for line in lines[:2]]
    assert len(path.read_bytes().splitlines()) == 4
    same = "cross_validation" if mode[0] == "--cross-validate" else "members_test"
    assert again[same] == first[same]
    assert "3 networks, 1 epochs each" in run(*given[:-1])
    assert path.read_bytes().count(b"\n") == 4


def shops(folder: Path, *, n: int = 150, others: int = 0, classes: bool = False) -> Path:
    """A table of three shops whose networks differ, and perhaps of shops that nobody knows."""
    path, rng = folder / f"shops{others}{classes}.csv", np.random.default_rng(0)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["shop", "a", "color", "weight", "y"])
        for k in range(n):
            a, red = float(rng.normal()), int(rng.integers(2))
            y = (1 + k % 3) * a + red
            shop = f"s{k % 3}" if k < n - others else f"t{k}"
            target = ["low", "high"][y > 0.5] if classes else round(y, 3)
            writer.writerow([shop, round(a, 3), ["red", "blue"][red], 1 + k % 2, target])
    return path


def renamed(data: Path, old: str, new: str) -> str:
    """A copy of a table with another word in it."""
    path = data.with_name("renamed.csv")
    path.write_text(data.read_text().replace(old, new))
    return str(path)


def test_one_network_a_group(tmp_path: Path) -> None:
    table, out = shops(tmp_path), str(tmp_path / "g.safetensors")
    data = str(table)
    given = ["train", data, "--target", "y", "--by", "shop", "--weight", "weight", *SMALL]
    found = json.loads(run(*given, "--epochs", "60", "--early-stopping", "3", "--out", out, "--json"))
    assert found["groups"] == ["s0", "s1", "s2"] == sorted(found["test"])
    assert found["sizes"][0] == 2  # a and the colour: neither group nor weight is an input
    assert "no column is named 'store'" in run(*given[:5], "store", code=2)

    told = json.loads(run("evaluate", out, data, "--json"))
    assert sorted(told["groups"]) == found["groups"]
    assert sum(one["rows"] for one in told["groups"].values()) == told["rows"] == 150
    assert told["rmse"] < told["baseline"]["rmse"]
    assert "s1: r2" in run("evaluate", out, data)
    lines = run("predict", out, data).splitlines()
    # By another group's network the same row has another prediction.
    others = run("predict", out, renamed(table, "s0,", "s2,")).splitlines()
    assert [a != b for a, b in zip(lines, others, strict=True)] == [False, *(k % 3 == 0 for k in range(150))]
    unknown = run("predict", out, str(shops(tmp_path, others=2)), code=1)
    assert "no network was trained for the groups 't148', 't149'" in " ".join(unknown.split())
    assert "has no column 'shop'" in run("predict", out, renamed(table, "shop", "store"), code=1)
    assert "3, one for each shop: s0, s1, s2" in run("info", out)
    assert json.loads(run("info", out, "--json"))["groups"] == found["groups"]


def test_the_best_epoch_of_each_group(tmp_path: Path) -> None:
    """As `train` does it; of a group of few rows the last epoch is kept, and said."""
    data = str(shops(tmp_path, others=1))
    given = ["train", data, "--target", "y", "--by", "shop", "--test-fraction", "0", "--hidden", "8", "--lr", "0.1"]
    found = json.loads(run(*given, "--epochs", "40", "--early-stopping", "1", "--json"))
    assert found["epochs_trained"]["t149"] == 40 > max(found["epochs_trained"][name] for name in ("s0", "s1", "s2"))
    assert "of 1 with fewer than 10 rows the last epoch is kept" in " ".join(run(*given, "--epochs", "2").split())
    plain = json.loads(run(*given, "--epochs", "40", "--validation-split", "0", "--tol", "1", "--json"))
    assert max(plain["epochs_trained"].values()) < 40  # stopped by the training loss
    for option in ("--time", "--group"):
        assert f"leave {option} out" in " ".join(run(*given, option, "a", code=2).split())


@pytest.mark.parametrize("classes", [False, True])
def test_an_ensemble_of_a_table(tmp_path: Path, classes: bool) -> None:
    data, out = str(shops(tmp_path, classes=classes)), str(tmp_path / "e.safetensors")
    given = ["train", data, "--target", "y", "--id", "shop", "--hidden", "8", "--epochs", "20"]
    found = json.loads(run(*given, "--ensemble", "3", "--early-stopping", "5", "--out", out, "--json"))
    assert found["members"] == len(found["epochs_trained"]) == 3
    assert ("accuracy" if classes else "rmse") in found["test"]
    lines = [line.split(",") for line in run("predict", out, data).splitlines()]
    assert lines[0] == ["shop", "prediction", *(["proba_high", "proba_low"] if classes else [])]
    whole = several.load(out)
    assert isinstance(whole, fastbp.SeveralTables)
    assert repr(whole).startswith("<fastbp.SeveralTables of y, an ensemble: 3 x <fastbp.MLP")
    assert "TableModel of y" in str(whole)
    assert "Ensemble of 3" in str(whole)
    assert "<table" in whole._repr_html_()
    assert (fastbp.SeveralTables.load(out).predict(data) == whole.predict(data)).all()
    said = []
    for net in fastbp.Ensemble.load(out).nets:
        whole.table.net = net
        said.append(whole.table.predict_proba(data)[:, 0] if classes else whole.table.predict(data))
    together = [float(line[2 if classes else 1]) for line in lines[1:]]
    np.testing.assert_allclose(np.mean(said, axis=0), together, rtol=1e-4, atol=1e-5)
    told = json.loads(run("evaluate", out, data, "--json"))
    assert told["rows"] == 150
    assert "groups" not in told
    assert "3 that predict together" in run("info", out)
    shown = json.loads(run("info", out, "--json"))
    assert (shown["networks"], shown["scores"]["test"]) == (3, found["test"])
    for refused in (["export", out, "-o", str(tmp_path / "e.onnx")], ["info", out, "--plot", str(tmp_path / "e.png")]):
        assert "several" in run(*refused, code=2)
    with pytest.raises(ValueError, match=r"several networks \(fastbp ensemble\): read it by fastbp.SeveralTables.load"):
        fastbp.load(out)


def test_networks_of_arrays_in_one_file(tmp_path: Path) -> None:
    """An ensemble that `train` has made of digits, and groups that the library has: columns of numbers."""
    X, y = fastbp.datasets.load_digits()
    data, out = str(tmp_path / "d.npz"), str(tmp_path / "e.safetensors")
    np.savez(data, X=X[:200], y=y[:200])
    run("train", "--ensemble", "2", *SMALL, "--out", out, "--json")
    ensemble = fastbp.Ensemble.load(out)
    found = json.loads(run("predict", out, data, "--proba", "--json"))
    assert found["prediction"] == ensemble.predict(X[:200]).tolist()
    np.testing.assert_allclose(found["proba"], ensemble.predict_proba(X[:200]), rtol=1e-6)
    told = json.loads(run("evaluate", out, data, "--json"))
    assert told["loss"] == pytest.approx(ensemble.evaluate(X[:200], y[:200])["loss"])
    assert "2 that predict together" in run("info", out)
    assert "--by is for networks of groups" in run("predict", out, data, "--by", "shop", code=2)

    table, rng = tmp_path / "t.csv", np.random.default_rng(0)
    rows, target, names = rng.normal(size=(60, 2)).round(3), rng.integers(0, 2, 60), [7, 9] * 30
    cells = [f"{a},{name},{b},{t}\n" for (a, b), name, t in zip(rows, names, target, strict=True)]
    table.write_text("a,store,b,y\n" + "".join(cells))
    model = fastbp.fit_groups(fastbp.MLP([2, 4, 2], seed=0), rows, target, by=names, epochs=2)
    model.save(out)
    given = [out, str(table), "--target", "y"]
    assert "say by --by COLUMN" in run("predict", *given, code=2)
    found = json.loads(run("predict", *given, "--by", "store", "--json"))
    assert found["prediction"] == model.predict(rows, by=names).tolist()
    told = json.loads(run("evaluate", *given, "--by", "store", "--json"))
    expected = {str(name): one["loss"] for name, one in model.evaluate(rows, target, by=names).items()}
    assert {name: one["loss"] for name, one in told["groups"].items()} == pytest.approx(expected)
    assert told["loss"] == pytest.approx(np.mean(list(expected.values())))
    assert "2, one for each group: 7, 9" in run("info", out)


def test_sweeps_over_settings(tmp_path: Path) -> None:
    table, page, journal = tmp_path / "s.csv", tmp_path / "s.html", str(tmp_path / "s.jsonl")
    given = ["sweep", *SMALL, "--seeds", "2", "--metric", "accuracy"]
    over = ["--over", "batch_size=32,128", "--over", "l2=0:0.1:2", "--journal", journal]
    found = json.loads(run(*given, *over, "--csv", str(table), "--report", str(page), "--json"))
    assert "Data: the embedded digits, 1,438 rows of 64, sha256" in page.read_text()
    assert "fastbp sweep --hidden 8" in page.read_text()
    lines = Path(journal).read_text().splitlines()
    assert json.loads(run(*given, *over, "--json"))["points"] == found["points"]
    assert Path(journal).read_text().splitlines() == lines  # nothing was trained again
    assert [point["l2"] for point in found["points"]] == [0.0, 0.1] * 2
    assert found["metric"] == "accuracy"
    assert len(table.read_text().splitlines()) == 9
    drawn = run(*given, "--over", "lr=1e-3:1e-1", "--over", "hidden=8,8-4", "--sampling", "random", "--points", "2")
    assert "best" in drawn


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["train", "--ensemble", "2", "--cross-validate", "2"], "are two tasks"),
        (["train", "--ensemble", "2", "--resume", "--checkpoint", "x"], "is about one network"),
        (["train", "--journal", "x.jsonl"], "--journal is for several networks"),
        (["train", "--ensemble", "2", "--plot", "x.png"], "--plot draws one training"),
        (["train", "--by", "shop"], "--by names a column of a table"),
        (["train", "--cross-validate", "2", "--out", "x.safetensors"], "is measured, not saved"),
        (["sweep", "--over", "batch_size"], "is no NAME=VALUES"),
        (["sweep", "--over", "l2=1:0:3"], "from a smaller to a larger"),
        (["sweep", "--over", "l2=0,1", "--over", "l2=2"], "l2 is given twice"),
        (["sweep", "--over", "hidden=8,8x4"], "'8x4' is no hidden layers: 64 is one of 64 units, 64-32 are two"),
        (["sweep", "--over", "batchsize=8"], "did you mean 'batch_size'"),
        (["sweep", "--over", "l2=0:1"], "a range is LO:HI:N"),
        (["sweep", "--over", "l2=0,1", "--halving", "2"], "--halving is for sweeps over learning rates"),
        (["sweep", "--over", "l2=0,1", "--lr", "0.1"], "--over lr="),
        (["sweep", "--over", "l2=0:1", "--sampling", "sobol"], "say how many"),
    ],
)
def test_what_is_refused(arguments: list[str], says: str) -> None:
    assert says in run(*arguments, code=2)


def test_what_a_table_lacks_is_said(tmp_path: Path) -> None:
    data = shops(tmp_path, classes=False)
    header, *lines = data.read_text(encoding="utf-8").splitlines()
    place = header.split(",").index("shop")
    cells = lines[0].split(",")
    cells[place] = ""
    data.write_text("\n".join([header, ",".join(cells), *lines[1:], ""]), encoding="utf-8")
    given = ["train", str(data), "--target", "y", "--hidden", "4", "--epochs", "2"]
    assert "left out: 1 row without shop or y" in json.loads(run(*given, "--by", "shop", "--json"))["notes"]
    assert "--by: y is the target" in run(*given, "--by", "y", code=2)
    assert "--cross-validate: 999 folds of" in run(*given, "--cross-validate", "999", code=2)
    assert json.loads(run(*given, "--cross-validate", "2", "--json"))["cross_validation"]["fold"] == [1, 2]


def test_the_sweep_is_no_module() -> None:
    """Importing all modules leaves `fastbp.sweep` what it is."""
    root = Path(fastbp.__file__).parent
    for path in (root / "many").glob("*.py"):
        importlib.import_module(f"fastbp.many.{path.stem}")
    sweep: Any = fastbp.sweep
    assert callable(sweep)
    with pytest.raises(TypeError, match="net must be"):
        sweep(None, None, None, {})


def test_a_sweep_of_rates_by_a_metric() -> None:
    """With weights of classes, and trainings that end early."""
    given = ["sweep", "--hidden", "8", "--lr", "1e-3:0.1:3", "--seeds", "2", "--epochs", "6"]
    by = ["--metric", "balanced_accuracy", "--class-weight", "balanced", "--early-stopping", "1"]
    found = json.loads(run(*given, *by, "--json"))
    assert found["metric"] == "balanced_accuracy"
    assert found["larger"]
    assert "balanced" in found["about"]["class_weight"]
    assert np.shape(found["val_metric"]) == (3, 2, 6)
    assert np.min(found["kept_epoch"]) < 6
    assert "balanced_accuracy" in run(*given, *by)
    assert "does not fit" in run(*given, "--metric", "r2", code=1)
    assert "leave --early-stopping out" in run(*given, "--early-stopping", "2", "--halving", "3", code=2)


def test_a_range_test_by_a_metric() -> None:
    given = ["range-test", "--hidden", "8", "--steps", "40", "--seeds", "1"]
    found = json.loads(run(*given, "--held-out", "--metric", "accuracy", "--class-weight", "balanced", "--json"))
    assert found["settings"]["metric"] == "accuracy"
    assert np.shape(found["metric"]) == (1, len(found["steps"]))
    assert "add --held-out" in run(*given, "--metric", "accuracy", code=2)
