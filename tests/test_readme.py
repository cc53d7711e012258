"""The README tells the truth: its Python examples run, and the command line knows every command and option in it."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from players import played
from processes import FOLDERS, TIMEOUT

import fastbp
from fastbp.kernels import targets

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
DISTRIBUTED = (ROOT / "docs" / "how-to" / "distributed.md").read_text(encoding="utf-8")
PRECISION = (ROOT / "docs" / "explanation" / "precision.md").read_text(encoding="utf-8")
GUIDE = (ROOT / "docs" / "how-to" / "guide.md").read_text(encoding="utf-8")
MANY = (ROOT / "docs" / "how-to" / "many.md").read_text(encoding="utf-8")
SCHEDULER = "tcp://10.0.0.1:8786"  # of that page


def blocks(language: str, page: str = README) -> list[str]:
    """The fenced blocks of a language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", page, flags=re.DOTALL | re.MULTILINE)


def commands(start: str, page: str = README) -> list[str]:
    """Lines of the shell blocks that begin so, without their comments."""
    lines = [line.partition(" #")[0].strip() for block in blocks("sh", page) for line in block.splitlines()]
    return [line for line in lines if line.startswith(start)]


def test_the_example_does_what_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names, (_, said, *_) = played(README, "README.md")
    assert f"```text\n{said}```" in README
    net = names["net"]
    assert net.evaluate(names["X_test"], names["y_test"])["accuracy"] > 0.95
    X = np.asarray(names["X_test"])
    assert fastbp.load("digits.safetensors").predict(X).shape == (len(X),)
    assert "float" in Path("digits.c").read_text(encoding="utf-8")


def test_the_guide_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names, _ = played(GUIDE, "guide.md")
    assert names["net"].history.val_score[-1] > 0.9


def test_the_set_up_is_two_commands_that_ci_runs() -> None:
    assert len(commands("python3 -m venv")) == 2
    assert "README.md" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")


def test_what_the_pages_name_is_there() -> None:
    """They point to the registries, which are complete, and hold no lists that could lack an entry."""
    pages = [README, *(path.read_text(encoding="utf-8") for path in (ROOT / "docs").rglob("*.md"))]
    named = re.findall(r"`(fastbp(?:\.\w+)+)(?:\(|`)", "\n".join(pages))
    assert len(named) > 40
    for dotted in named:
        module, *rest = dotted.split(".")
        found: object = importlib.import_module(module)
        for name in [name for name in rest if name != "NAME"]:
            found = getattr(found, name)


def run_as_file(code: str, folder: Path, *arguments: object) -> str:
    """Run code in a file of its own, which workers that start afresh import."""
    script = folder / "example.py"
    script.write_text(code, encoding="utf-8")
    paths = os.pathsep.join([*FOLDERS, os.environ.get("PYTHONPATH", "")]).strip(os.pathsep)
    done = subprocess.run(
        [sys.executable, script, *map(str, arguments)], env={**os.environ, "PYTHONPATH": paths},
        capture_output=True, text=True, timeout=TIMEOUT, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout


def test_the_distributed_examples_run(tmp_path: Path) -> None:
    """But for Ray and MPI, which are not among the packages of the tests."""
    pool, dask, ray, mpi = blocks("python", DISTRIBUTED)
    assert "recommended" in run_as_file(pool, tmp_path)
    cluster = """
import sys, logging
from distributed import LocalCluster

if __name__ == "__main__":
    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": ":0", "silence_logs": logging.CRITICAL}
    with LocalCluster(**options) as cluster:
        block = open(sys.argv[1], encoding="utf-8").read()
        assert block.count(sys.argv[2]) == 1
        exec(compile(block.replace(sys.argv[2], cluster.scheduler_address), "block", "exec"))
"""
    (tmp_path / "dask.txt").write_text(dask, encoding="utf-8")
    assert "recommended" in run_as_file(cluster, tmp_path, tmp_path / "dask.txt", SCHEDULER)
    for block, package in ((ray, "ray"), (mpi, "mpi4py")):
        compile(block, package, "exec")
        assert package in block


def test_the_design_shows_the_code_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import design

    for path in design.PAGES:
        page = path.read_text(encoding="utf-8")
        assert design.filled(page) == page, "run python benchmarks/design.py"


def test_the_page_about_bfloat16_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    if targets.pair_target() is None:
        monkeypatch.setenv(targets.VARIABLE, targets.TWIN.name)
    for page in (PRECISION, (ROOT / "benchmarks" / "precision_notes.md").read_text(encoding="utf-8")):
        names: dict[str, object] = {}
        (block,) = blocks("python", page)
        exec(compile(block, "precision.md", "exec"), names)
        assert len(names["gradient"].weights) == 2  # type: ignore[attr-defined]
