"""The command line as a process among others: signals that end it, and streams that are closed."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import fastbp
from fastbp.cli.main import main
from fastbp.training import checkpoints

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no signals for a single child process")

FASTBP = [sys.executable, "-m", "fastbp.cli.main"]


@pytest.fixture(scope="module", autouse=True)
def compiled() -> None:
    fastbp.warmup(["float32"])


def interrupted(command: list[str], begun: Callable[[Any], bool], number: int, **env: str) -> tuple[str, str]:
    """Start the command, send a signal once it has begun, and return what it then printed: output and errors."""
    with subprocess.Popen(
        command, env=os.environ | env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            while not begun(process):
                assert process.poll() is None, process.communicate()
                time.sleep(0.01)
            process.send_signal(number)
            text, errors = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 130, errors
    return text, errors


def endless(folder: Path, *options: object) -> tuple[list[str], Callable[[Any], bool]]:
    """A training of tiny epochs, with a checkpoint every hundredth of them or so; and whether the first is there."""
    command = [*FASTBP, "train", "--hidden", "4", "--epochs", "10000000", "--compare", "none"]
    often = ["--checkpoint", str(folder), "--checkpoint-minutes", "0.001"]
    return [*command, *often, *map(str, options)], lambda _: (folder / "last.safetensors").exists()


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_keeps_the_network_and_the_history(name: str, tmp_path: Path) -> None:
    out, history = tmp_path / "model", tmp_path / "history.csv"
    _, errors = interrupted(*endless(tmp_path / "run", "--out", out, "--history", history), getattr(signal, name))
    told = re.search(r"interrupted after (\d+) of", errors)
    assert told
    assert fastbp.load(out).sizes[0] == 64
    assert len(list(csv.DictReader(history.read_text().splitlines()))) == int(told[1])


# Ignores Ctrl-C, as a shell does for what it starts in the background.
BACKGROUND = ["sh", "-c", "trap '' INT; exec \"$@\"", "sh"]


@pytest.mark.parametrize("background", [False, True])
def test_kill_writes_a_checkpoint(background: bool, tmp_path: Path) -> None:
    """Of the very end, not only of some time before. Resumed, the training is as if nothing had been."""
    folder, out, whole = tmp_path / "run", tmp_path / "net.safetensors", tmp_path / "whole.safetensors"
    command, begun = endless(folder)
    _, errors = interrupted([*BACKGROUND * background, *command], begun, signal.SIGTERM)
    assert "; --resume goes on with it" in errors
    saved = checkpoints.progress_of(folder)
    assert saved is not None
    done = int(saved["epochs"])
    assert f"interrupted after {done} of 10000000 epochs" in errors
    again = [*FASTBP, "train", "--hidden", "4", "--epochs", str(done + 2), "--compare", "none", "--json"]
    resume = ["--checkpoint", str(folder), "--resume", "--out", str(out)]
    resumed = subprocess.run([*again, *resume], capture_output=True, check=True)
    assert json.loads(resumed.stdout)["resumed_epochs"] == done
    subprocess.run([*again, "--out", str(whole)], capture_output=True, check=True)
    one, other = fastbp.load(out), fastbp.load(whole)
    assert all((a == b).all() for a, b in zip(one.weights, other.weights, strict=True))


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_signal_while_compiling(name: str, tmp_path: Path) -> None:
    command = [*FASTBP, "warmup", "--dtype", "float32"]
    environment = {"FASTBP_CACHE_DIR": str(tmp_path / "cache"), "TMPDIR": str(tmp_path)}
    # the first piece is compiled, the second is on its way
    _, errors = interrupted(command, lambda _: any(tmp_path.rglob("*.bin")), getattr(signal, name), **environment)
    assert errors == "fastbp: interrupted while compiling; the next run goes on from there\n"
    assert [path.name for path in tmp_path.iterdir()] == ["cache"], "left behind"
    assert {path.suffix for path in (tmp_path / "cache").rglob("*") if path.is_file()} == {".bin"}


def test_handlers_are_as_before() -> None:
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.getsignal(number) for number in numbers]
    assert CliRunner().invoke(main, ["evaluate", "none.safetensors", "none.csv"]).exit_code != 0
    assert [signal.getsignal(number) for number in numbers] == before


# --- closed streams


@pytest.mark.parametrize("closed", ["2>&-", "1>&-", "1>&- 2>&-", "0<&- 1>&- 2>&-"])
def test_closed_streams(closed: str, tmp_path: Path) -> None:
    """As from a service without a console: the same exit codes, and nothing in files that came to be number 1 or 2."""
    data, out = tmp_path / "data.csv", tmp_path / "net.safetensors"
    data.write_text("a,b,goal\n" + "".join(f"{k / 2},{k % 7},{k % 2}\n" for k in range(60)))
    content = data.read_bytes()

    def code(*arguments: object) -> int:
        call = ["sh", "-c", f'exec "$@" {closed}', "sh", *FASTBP, *map(str, arguments)]
        return subprocess.run(call, timeout=120, check=False, capture_output=True).returncode

    table = (data, "--target", "goal")
    assert code("train", *table, "--epochs", "3", "--out", out) == 0
    assert fastbp.load(out).sizes[0] == 2
    assert code("evaluate", out, *table) == 0
    assert code("train", *table, "--epochs", "3", "--lr", "1e38") == 1
    assert code("train", "--no-such-option") == 2
    assert code("sweep", *table, "--epochs", "1", "--lr", "0.01,0.1", "--seeds", "1", "--csv", tmp_path / "s.csv") == 0
    assert code("range-test", *table, "--steps", "30", "--seeds", "1") == 0
    assert code("warmup", "--dtype", "float32") == 0
    assert data.read_bytes() == content


WITHOUT = """
import sys
sys.stdout = sys.stderr = None  # as under pythonw
import warnings, numpy as np, fastbp
X, y = np.random.default_rng(0).random((40, 4)), np.arange(40) % 2
net = fastbp.MLP([4, 3, 2], seed=0)
net.fit(X, y, epochs=3, progress=True)
fastbp.lr_sweep(net, X, y, [0.01, 0.1, 1.0], epochs=1, seeds=1, progress=True)
fastbp.lr_range_test(net, X, y, n_steps=30, seeds=1, progress=True)
warnings.warn("to nobody")
open(sys.argv[1], "w").write("done")
"""


def test_the_library_without_streams(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", WITHOUT, str(tmp_path / "told")], check=True, timeout=120)
    assert (tmp_path / "told").read_text() == "done"
