"""docs/how-to/explain.md: its commands run, and what it shows is what they print."""

from __future__ import annotations

import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

import fastbp
from fastbp.cli.main import main

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "how-to" / "explain.md").read_text(encoding="utf-8")
# Roundings, which differ from CPU to CPU.
ROUNDING = re.compile(r"apart by less than 1e-\d+ of the largest slope|the same to the last bit|~0|\d\.\de-1\d")


def blocks(kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```$", PAGE, flags=re.DOTALL | re.MULTILINE)


def test_the_commands_run_and_print_what_the_page_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    lines = [line.removeprefix("$ ") for block in blocks("console") for line in block.splitlines()]
    assert len(lines) == 5
    for number, line in enumerate(lines):
        program, *arguments = shlex.split(line)
        if program == "python":
            subprocess.run([sys.executable, *arguments], check=True)
            continue
        done = CliRunner().invoke(main, arguments, env={"COLUMNS": "80"})
        assert done.exit_code == 0, f"{line}\n{done.output}"
        if number == 0:
            shown, printed = (ROUNDING.sub("_", " ".join(one.split())) for one in (blocks("text")[0], done.stdout))
            assert shown == printed, "python docs/figures/explain.py writes it anew"
    assert (tmp_path / "digits.html").exists()


def test_the_python_prints_what_the_page_shows() -> None:
    pages = runpy.run_path(str(ROOT / "docs" / "figures" / "pages.py"))
    names, printed = pages["run"](PAGE, "explain.md")
    assert isinstance(names["story"], fastbp.Explanation)
    assert pages["filled"](PAGE, printed) == PAGE
