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


def test_several_networks_in_it(tmp_path: Path) -> None:
    table = tmp_path / "shops.csv"
    lines = [f"{'ab'[k % 2]},{k * 37 % 101},{k * 53 % 89},{(k * 37 % 101 + k * 53 % 89) / 50}" for k in range(120)]
    table.write_text("\n".join(["shop,u,v,y", *lines]), encoding="utf-8")
    small = ("--hidden", "40,33", "--epochs", "2", "--json")
    for how in (
        ("train", "--ensemble", "2"),
        ("train", "--cross-validate", "2"),
        ("train", str(table), "--target", "y", "--by", "shop"),
        ("sweep", "--over", "batch_size=32,64", "--seeds", "1"),
    ):
        told = [json.loads(run(*how, *small, "--precision", name)) for name in ("bfloat16", "float32")]
        scores = [
            [one.get(key) for key in ("test", "cross_validation", "together", "points") if key in one] for one in told
        ]
        assert scores[0] != scores[1], how
        assert scores[0], how
    text = run("sweep", "--over", "precision=float32,bfloat16", "--seeds", "1", "--hidden", "33", "--epochs", "1")
    assert "bfloat16" in text


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
    for command in (("train",), ("train", "--ensemble", "2"), ("warmup",), ("bench", "--workload", "tiny")):
        assert "AVX512-BF16" in run(*command, "--precision", "bfloat16", code=2)
