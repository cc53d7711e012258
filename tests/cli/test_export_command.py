"""`fastbp export`: files that predict as the model does, and usage that is refused before anything is written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from peers import needs, onnxruntime

import fastbp
from fastbp.cli.main import main

X = np.random.default_rng(0).standard_normal((30, 4)).astype("f")


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(one) for one in arguments])


@pytest.fixture
def model(tmp_path: Path) -> Path:
    net = fastbp.MLP([4, 6, 3], seed=0)
    net.standardize(X)
    net.save(tmp_path / "net.safetensors")
    return tmp_path / "net.safetensors"


@needs("onnx", "onnxruntime")
def test_onnx_of_a_network_and_of_a_table(model: Path, tmp_path: Path) -> None:
    done = run("export", model, "-o", out := tmp_path / "net.onnx")
    assert done.output.split() == f"wrote {out} ({out.stat().st_size:,} bytes)".split()  # in lines of 80 columns
    found = onnxruntime.InferenceSession(str(out)).run(["prediction"], {"X": X})[0]
    assert (found == fastbp.load(model).predict(X)).all()
    columns: dict[str, Any] = {"a": X[:, 0].astype(float), "b": list("xyz") * 10, "y": X[:, 1].astype(float)}
    table = fastbp.TableModel(training={"epochs": 3}).fit(columns, "y")
    table.save(tmp_path / "table.safetensors")
    told = json.loads(run("export", tmp_path / "table.safetensors", "-o", tmp_path / "table.onnx", "--json").output)
    assert told == {
        "out": str(tmp_path / "table.onnx"),
        "to": "onnx",
        "bytes": (tmp_path / "table.onnx").stat().st_size,
    }
    feed = {"a": columns["a"][:, None], "b": np.array(columns["b"], object)[:, None]}
    found = onnxruntime.InferenceSession(str(tmp_path / "table.onnx")).run(None, feed)[0]
    assert np.abs(found - table.predict(columns)).max() < 1e-5
    refused = run("export", tmp_path / "table.safetensors", "-o", tmp_path / "table.c")
    assert (refused.exit_code, "whose columns C does not know: say --to onnx" in refused.output) == (2, True)


def test_c(model: Path, tmp_path: Path) -> None:
    assert run("export", model, "--to", "c", "-o", tmp_path / "plain", "--name", "iris").exit_code == 0
    assert "int iris_class(const double x[]);" in (tmp_path / "plain").read_text()
    assert run("export", model, "-o", tmp_path / "net.c", "--dtype", "float64").exit_code == 0
    assert "static const double net_weight0[24]" in (tmp_path / "net.c").read_text()


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["net.safetensors", "-o", "net.pt"], 2, "'net.pt' ends in none of .onnx, .c: say --to onnx or --to c"),
        (["net.safetensors"], 2, "Missing option '-o'"),
        (["net.safetensors", "-o", "net.onnx", "--name", "a"], 2, "--name is about C"),
        (["net.safetensors", "-o", "net.c", "--name", "int"], 1, "name must be a name of C"),
        (["net.safetensors", "--to", "c", "-o", "net.safetensors"], 2, "MODEL and --out name the same file"),
        (["net.safetensors", "-o", "nowhere/net.c"], 2, "the folder"),
        (["other.safetensors", "-o", "net.c"], 1, "other.safetensors: No such file"),
        (["broken.safetensors", "-o", "net.c"], 1, "broken.safetensors is not a fastbp model"),
    ],
)
def test_what_is_refused(
    arguments: list[str], code: int, says: str, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("broken.safetensors").write_bytes(model.read_bytes()[:100])
    done = run("export", *arguments)
    assert (done.exit_code, says in done.output) == (code, True), done.output
    assert sorted(path.name for path in tmp_path.iterdir()) == ["broken.safetensors", "net.safetensors"]
    fastbp.load(model)
