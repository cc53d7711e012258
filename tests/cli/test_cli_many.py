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


def test_one_network_a_group(tmp_path: Path) -> None:
    path = tmp_path / "shops.csv"
    rng = np.random.default_rng(0)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["shop", "a", "color", "y"])
        for k in range(150):
            a, red = float(rng.normal()), int(rng.integers(2))
            writer.writerow([f"s{k % 3}", round(a, 3), ["red", "blue"][red], round((1 + k % 3) * a + red, 3)])
    given = ["train", str(path), "--target", "y", "--by", "shop", *SMALL]
    found = json.loads(run(*given, "--optimizer", "adam", "--lr", "0.01", "--json"))
    assert found["groups"] == ["s0", "s1", "s2"] == sorted(found["test"])
    assert found["sizes"][0] == 2  # a and the colour: the group is no input
    assert "--out saves an ensemble" in run(*given, "--out", str(tmp_path / "x.safetensors"), code=2)
    assert "no column is named 'store'" in run(*given[:5], "store", code=2)


def test_sweeps_over_settings(tmp_path: Path) -> None:
    table = tmp_path / "s.csv"
    given = ["sweep", *SMALL, "--seeds", "2", "--metric", "accuracy"]
    found = json.loads(
        run(*given, "--over", "batch_size=32,128", "--over", "l2=0:0.1:2", "--csv", str(table), "--json")
    )
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
        (["train", "--by", "shop"], "--by names a column of a table"),
        (["sweep", "--over", "batch_size"], "is no NAME=VALUES"),
        (["sweep", "--over", "l2=1:0:3"], "from a smaller to a larger"),
        (["sweep", "--over", "l2=0:1"], "a range is LO:HI:N"),
        (["sweep", "--over", "l2=0,1", "--halving", "2"], "--halving is for sweeps over learning rates"),
        (["sweep", "--over", "l2=0,1", "--lr", "0.1"], "--over lr="),
        (["sweep", "--over", "l2=0:1", "--sampling", "sobol"], "say how many"),
    ],
)
def test_what_is_refused(arguments: list[str], says: str) -> None:
    assert says in run(*arguments, code=2)


def test_the_sweep_is_no_module() -> None:
    """Importing all modules leaves `fastbp.sweep` what it is."""
    root = Path(fastbp.__file__).parent
    for path in (root / "many").glob("*.py"):
        importlib.import_module(f"fastbp.many.{path.stem}")
    sweep: Any = fastbp.sweep
    assert callable(sweep)
    with pytest.raises(TypeError, match="net must be"):
        sweep(None, None, None, {})
