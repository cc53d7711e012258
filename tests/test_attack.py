"""The short form of the attack: every part for a few seconds, in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PARTS = sorted(path.stem for path in (Path(__file__).parent / "attack").glob("[!_]*.py"))


@pytest.mark.parametrize("part", PARTS)
def test_a_part(part: str) -> None:
    command = [sys.executable, "-X", "faulthandler", "-m", "tests.attack", part, "--minutes", "0.1"]
    root = Path(__file__).parents[1]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run(command, cwd=root, env=env, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, f"exit code {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    assert "no fault" in done.stdout
