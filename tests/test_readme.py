"""The README tells the truth: its Python examples run, and the command line knows every command and option in it."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import numpy as np
import pytest

import fastbp
from fastbp.bench.command import bench
from fastbp.cli import COMMANDS, main

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    """The fenced blocks of a language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", README, flags=re.DOTALL | re.MULTILINE)


def commands(start: str) -> list[str]:
    """Lines of the shell blocks that begin so, without their comments."""
    lines = [line.partition(" #")[0].strip() for block in blocks("sh") for line in block.splitlines()]
    return [line for line in lines if line.startswith(start)]


def test_the_python_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    assert len(blocks("python")) == 3
    for block in blocks("python"):
        exec(compile(block, "README.md", "exec"), names)
    net = names["net"]
    assert isinstance(net, fastbp.MLP)
    assert net.evaluate(names["X_test"], names["y_test"])["accuracy"] > 0.95  # type: ignore[arg-type]
    X = np.asarray(names["X_test"])
    assert fastbp.load("digits.safetensors").predict(X).shape == (len(X),)


@pytest.mark.parametrize("line", commands("fastbp "))
def test_the_command_line_examples_parse(line: str) -> None:
    _, name, *arguments = shlex.split(line)
    command = main.get_command(click.Context(main), name)
    assert command is not None
    assert command.make_context(name, arguments).params


@pytest.mark.parametrize("line", commands("python bench.py"))
def test_the_benchmark_examples_parse(line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert bench.make_context("bench.py", shlex.split(line)[2:]).params


def test_every_command_is_told() -> None:
    assert set(re.findall(r"^\| `fastbp ([\w-]+)", README, flags=re.MULTILINE)) == set(COMMANDS)


def test_the_set_up_is_two_commands_that_ci_runs() -> None:
    assert len(commands("python3 -m venv")) == 2
    assert "README.md" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")


@pytest.mark.parametrize("registry", ["ACTIVATIONS", "LOSSES"])
def test_every_name_is_told(registry: str) -> None:
    module = getattr(__import__(f"fastbp.{registry.lower()}"), registry.lower())
    told = next(line for line in README.splitlines() if line.startswith(f"| {registry.lower()} "))
    assert told.split("|")[2].strip().split(", ") == list(getattr(module, registry))
