"""`fastbp explain`: the small network, rows of tables and of arrays, one stage at a time, and what is refused."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

import fastbp
from fastbp.cli.main import main


def run(*arguments: object, columns: int = 80) -> Result:
    return CliRunner().invoke(main, ["explain", *map(str, arguments)], env={"COLUMNS": str(columns)})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of a table, one of arrays, and several networks, with data."""
    folder = tmp_path_factory.mktemp("explain")
    rng = np.random.default_rng(0)
    X = rng.standard_normal((60, 3)).round(3)
    y = (X[:, 0] > 0).astype(int)
    lines = [
        f"{a},{'yes' if b > 0 else 'no'},{'' if k == 4 else c},{a + b:.3f}" for k, (a, b, c) in enumerate(X.tolist())
    ]
    (folder / "shop.csv").write_text("\n".join(["size,open,age,price", *lines[:9], "1.0,yes,2.0,", *lines[9:]]) + "\n")
    model = fastbp.TableModel(seed=0, network={"hidden": (4,)}, training={"epochs": 2})
    model.fit(folder / "shop.csv", "price").save(folder / "shop.safetensors")
    np.savez(folder / "arrays.npz", X=X, y=np.where(y, "high", "low"))
    net = fastbp.MLP([3, 4, 2], seed=0)
    net.standardize(X)
    net.class_labels = ["low", "high"]
    net.save(folder / "arrays.safetensors")
    (folder / "good.csv").write_text("a,b,c,goal\n1,2,3,low\n")
    (folder / "plain.csv").write_text("a,b,c,goal\n1,2,3,low\n4,nan,6,high\n")
    nets = fastbp.Ensemble(fastbp.MLP([3, 2], seed=0), 2)
    nets.fit(X, y, epochs=1)
    nets.save(folder / "several.safetensors")
    return folder


def test_the_small_network_is_told_in_plain_text() -> None:
    done = run()
    assert done.exit_code == 0, done.output
    assert "\x1b" not in done.stdout
    assert "h1: z = 1*1.4 + 2*0.3 + 0 = 2, a = f(2) = 2" in done.stdout
    assert "x2 -> h1: 0.3 - 0.01*2.8 = 0.272" in done.stdout
    assert done.stdout.rstrip() == str(fastbp.explain()).rstrip()
    assert "0.3 - 0.1*2.8 = 0.02" in run("--lr", 0.1).stdout
    assert run("--seed", 3).stdout != done.stdout


def test_a_row_of_a_table(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    done = run("shop.safetensors", "shop.csv", "--row", 5, "--optimizer", "adam")
    assert done.exit_code == 0, done.output
    assert "row 5 (line 6) of shop.csv: wanted: price = " in done.stdout
    assert "age: missing: the median" in done.stdout
    assert "Update by adam, learning rate 0.001" in done.stdout
    assert max(map(len, done.stdout.split("\n"))) <= 80
    assert max(map(len, run("shop.safetensors", "shop.csv", columns=60).stdout.split("\n"))) <= 60


def test_a_row_of_arrays_and_of_columns(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    found = json.loads(run("arrays.safetensors", "arrays.npz", "--row", 7, "--json").stdout)
    assert found["agrees"]
    assert [one["name"] for one in found["stages"]][:4] == ["row", "standardised", "forward 1", "forward 2"]
    X = np.load("arrays.npz")["X"]
    assert found["stages"][0]["values"]["x"] == pytest.approx(X[6].tolist())
    done = run("arrays.safetensors", "good.csv", "--target", "goal")
    assert "row 1 of good.csv: wanted: low" in done.stdout, done.output


def test_the_page(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    done = run("--html", path, columns=400)
    assert done.exit_code == 0
    assert f"wrote {path}: 2-2-1 relu" in done.stdout
    assert "<svg" in path.read_text(encoding="utf-8")
    assert json.loads(run("--html", path, "--json").stdout)["html"] == str(path)


REFUSED: list[tuple[list[Any], int, str]] = [
    (["shop.safetensors"], 2, "explain needs DATA too"),
    (["--row", 3], 2, "--row is about DATA"),
    (["--target", "y"], 2, "--target is about DATA"),
    (["shop.safetensors", "shop.csv", "--seed", 1], 2, "--seed draws the small network"),
    (["shop.safetensors", "shop.csv", "--row", 99], 2, "shop.csv has 61 rows; got 99"),
    (["shop.safetensors", "shop.csv", "--row", 0], 2, "--row"),
    (["shop.safetensors", "shop.csv", "--row", 10], 1, "line 11\\) of shop.csv has no 'price', the target"),
    (["shop.safetensors", "shop.csv", "--target", "size"], 2, "learns price"),
    (["shop.safetensors", "plain.csv"], 1, "no column 'price'|has no column"),
    (["arrays.safetensors", "plain.csv", "--target", "goal", "--row", 2], 1, "plain.csv.*nan"),
    (["arrays.safetensors", "plain.csv"], 2, "target"),
    (["arrays.safetensors", "arrays.npz", "--delimiter", ";"], 2, "--delimiter is for a model of a table"),
    (["several.safetensors", "arrays.npz"], 2, "several.safetensors holds several"),
    (["none.safetensors", "arrays.npz"], 1, "none.safetensors"),
    (["--optimizer", "none"], 2, "--optimizer"),
    (["--optimizer", "lbfgs"], 2, "no single steps"),
    (["--lr", "inf"], 2, "not a finite number"),
    (["--step"], 2, "needs a terminal"),
    (["--html", "no/such/folder/page.html"], 2, "no/such/folder"),
]


@pytest.mark.parametrize(("arguments", "code", "message"), REFUSED)
def test_what_is_refused(
    arguments: list[Any], code: int, message: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    monkeypatch.chdir(folder)
    done = run(*arguments, columns=400)
    assert (done.exit_code, done.stdout) == (code, ""), done.output
    assert re.search(message, done.stderr), done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="no terminals of this kind")
def test_one_stage_at_a_time_on_a_terminal(tmp_path: Path) -> None:
    """Each Enter shows one more, in colour."""
    import pty
    import subprocess

    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "fastbp", "explain", "--step"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "COLUMNS": "80", "TERM": "xterm-256color"}
    environment.pop("NO_COLOR", None)
    shown = b""
    with subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=theirs, cwd=tmp_path, env=environment
    ) as process:
        os.close(theirs)
        for number in range(1, 9):
            while f"-- {number} of 9".encode() not in shown:
                shown += os.read(ours, 65536)
            assert f"-- {number + 1} of 9".encode() not in shown
            os.write(ours, b"\n")
        try:
            while part := os.read(ours, 65536):
                shown += part
        except OSError:  # how Linux says that the other end is closed
            pass
    os.close(ours)
    assert process.returncode == 0
    assert b"\x1b[1;35m" in shown  # headings
    assert b"climbs" in shown
