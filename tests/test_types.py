"""What users' type checkers see: a program passes mypy and pyright at their strictest, and a wrong one fails."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from peers import needs_heavy

import fastbp

PROGRAM = (Path(__file__).parent / "typed_user.py").read_text(encoding="utf-8")
ROOT = Path(fastbp.__file__).parents[1]
WRONG = [
    ("fastbp.Adam(lr=3e-3)", "fastbp.Adam(learning_rate=3e-3)"),
    ('activation="relu"', "activation=3"),
    ("assert_type(history.loss, list[float])", "history.losses"),
    ("-> float | None:", "-> int:"),
]


def test_mypy(tmp_path: Path) -> None:
    pytest.importorskip("mypy")
    wrong = PROGRAM
    for right, fault in WRONG:
        assert right in wrong
        wrong = wrong.replace(right, fault)
    (tmp_path / "right.py").write_text(PROGRAM, encoding="utf-8")
    (tmp_path / "wrong.py").write_text(wrong, encoding="utf-8")
    command = [sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent", "--config-file=", "."]
    done = subprocess.run(
        command, cwd=tmp_path, env={**os.environ, "MYPYPATH": str(ROOT), "MYPY_CACHE_DIR": str(tmp_path / "cache")},
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    faults = [line for line in done.stdout.splitlines() if ": error: " in line]
    assert [line for line in faults if not line.startswith("wrong.py")] == []
    assert len(faults) == len(WRONG), done.stdout + done.stderr


@needs_heavy("basedpyright")
def test_pyright(tmp_path: Path) -> None:
    """As its makers' own strict mode has it; the package on PyPI that brings all it needs is basedpyright."""
    (tmp_path / "user.py").write_text(PROGRAM, encoding="utf-8")
    settings = {"include": ["user.py"], "extraPaths": [str(ROOT)], "typeCheckingMode": "strict"}
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(settings), encoding="utf-8")
    command = [sys.executable, "-m", "basedpyright", "--outputjson", "--pythonpath", sys.executable]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    found = json.loads(done.stdout)
    assert found["summary"]["filesAnalyzed"] == 1
    assert [one["message"] for one in found["generalDiagnostics"] if one["severity"] == "error"] == []
