"""--precision: what it trains, what it says, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

import fastbp
from fastbp.bench import machine
from fastbp.cli.main import main
from fastbp.engine import precisions
from fastbp.kernels import targets
from fastbp.kernels.targets import TWIN, VARIABLE, pair_target


@pytest.fixture(autouse=True)
def _any_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    if pair_target() is None:
        monkeypatch.setenv(VARIABLE, TWIN.name)


def run(*arguments: str, code: int = 0) -> str:
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == code, done.output
    return done.output


def test_train_in_it(tmp_path: Path) -> None:
    out = tmp_path / "net.safetensors"
    how = ("--epochs", "1", "--hidden", "32", "--compare", "none")
    text = run("train", *how, "--precision", "bfloat16", "--out", str(out))
    assert "products in bfloat16" in text
    found = json.loads(run("train", *how, "--json", "--precision", "bfloat16"))
    assert found["precision"] == "bfloat16"
    assert found["train_loss"] != json.loads(run("train", *how, "--json"))["train_loss"]
    assert fastbp.load(out).dtype == "float32"
    assert "--compare numpy knows no --precision" in run(
        "train", "--precision", "bfloat16", "--compare", "numpy", code=2
    )


def test_sweeps_in_it() -> None:
    how = ("--hidden", "32", "--precision", "bfloat16", "--json")
    assert "val_loss" in run("sweep", "--lr", "0.001,0.01", "--seeds", "1", "--epochs", "1", *how)
    assert json.loads(run("range-test", "--steps", "40", "--seeds", "1", *how))["settings"]["precision"] == "bfloat16"


def test_warmup_and_info(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "float32 and bfloat16 ready" in run("warmup", "--dtype", "float32", "--precision", "bfloat16")
    assert machine.machine()["bfloat16"].startswith(("yes, by vdpbf16ps", "its twin"))
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setattr(targets, "AVX512_BF16", None)
    monkeypatch.setattr(targets, "_enabled", set)
    assert "no: precision='bfloat16' needs" in machine.machine()["bfloat16"]


def test_it_is_refused_before_the_data_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    for command in ("train", "sweep", "range-test"):
        text = run(command, "nothing.npz", "--precision", "bfloat16", "--dtype", "float64", code=2)
        assert "is for networks of dtype float32" in " ".join(text.split())
    monkeypatch.setattr(precisions, "pair_target", lambda: None)
    for command in (("train",), ("warmup",), ("bench", "--workload", "tiny")):
        assert "AVX512-BF16" in run(*command, "--precision", "bfloat16", code=2)
