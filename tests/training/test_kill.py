"""Trainings that are killed with kill -9, several times, at moments of chance; resumed, they end with the same bits."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from processes import FOLDERS, same_file

import fastbp
from fastbp import model
from fastbp.callbacks import EarlyStopping
from fastbp.cli.main import main
from fastbp.schedules import ReduceOnPlateau
from fastbp.training import checkpoints

pytestmark = pytest.mark.skipif(os.name != "posix", reason="kill -9")

RNG = np.random.default_rng(9)
X = RNG.standard_normal((16000, 64)).astype(np.float32)
Y = RNG.integers(0, 10, 16000)
KILLS = 3

# Kills its process some time after it has written its first checkpoint, at a moment of the seed's; never before, and
# always: who comes to the end waits for it. Seed 0: not at all.
KILLED = """
import atexit, os, random, signal, sys, threading, time
from fastbp.callbacks import Checkpoint
write, chance, killers = Checkpoint._write, random.Random(int(sys.argv[1])), []
def kill():
    time.sleep(chance.uniform(0.0, 0.15))
    os.kill(os.getpid(), signal.SIGKILL)
def written(self, fit, names):
    write(self, fit, names)
    if sys.argv[1] != "0" and not killers:
        killers.append(threading.Thread(target=kill))
        killers[0].start()
Checkpoint._write = written
"""

API = """
import numpy as np, fastbp
from fastbp.callbacks import Checkpoint, EarlyStopping
from fastbp.schedules import ReduceOnPlateau
folder = sys.argv[2]
data = np.load(folder + "/data.npz")
net = fastbp.MLP([64, 256, 10])  # a seed of chance, which the first run decides
net.fit(data["X"], data["y"], epochs=6, validation_split=0.1, resume=folder + "/run",
        schedule=ReduceOnPlateau(0.5, patience=0, monitor="val_loss"),
        callbacks=[EarlyStopping(patience=5), Checkpoint(folder + "/run", every_seconds=0.05, best="val_loss")])
net.save(folder + "/net.safetensors")
net.history.to_json(folder + "/history.json")
for killer in killers: killer.join()
"""

COMMAND = """
from fastbp.cli.main import main
main(sys.argv[2:], standalone_mode=False)
for killer in killers: killer.join()
"""


def run_with_kills(code: str, arguments: list[str], last: Path, out: Path) -> None:
    """Run the code, which is killed `KILLS` times, until it comes to its end."""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([*FOLDERS, os.environ.get("PYTHONPATH", "")])}
    for seed in [*range(1, KILLS + 1), 0]:
        command = [sys.executable, "-P", "-c", KILLED + code, str(seed), *arguments]
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == (-signal.SIGKILL if seed else 0), done
        found = checkpoints.find(last, [])  # never half of one
        assert found is not None
        model.from_file(found.tensors, found.description)
    assert out.exists()


def test_the_library(tmp_path: Path) -> None:
    np.savez(tmp_path / "data.npz", X=X, y=Y)
    folder = tmp_path / "run"
    run_with_kills(API, [str(tmp_path)], folder / checkpoints.LAST, tmp_path / "net.safetensors")
    assert {path.name for path in folder.iterdir()} == {"last.safetensors", "best.safetensors"}
    resumed = fastbp.load(tmp_path / "net.safetensors")
    net = fastbp.MLP([64, 256, 10], seed=checkpoints.find(folder, []).seed)  # type: ignore[union-attr]
    history = net.fit(
        X, Y, epochs=6, validation_split=0.1, callbacks=[EarlyStopping(patience=5)],
        schedule=ReduceOnPlateau(0.5, patience=0, monitor="val_loss"),
    )  # fmt: skip
    assert net.seed == resumed.seed
    net.save(tmp_path / "whole.safetensors")
    same_file(tmp_path / "whole.safetensors", tmp_path / "net.safetensors")
    found = json.loads((tmp_path / "history.json").read_text())
    assert {name: found[name] for name in history.columns() if name != "seconds"} == {
        name: values for name, values in history.columns().items() if name != "seconds"
    }
    assert len(found["seconds"]) == len(history.seconds)


def test_the_command(tmp_path: Path) -> None:
    np.savez(tmp_path / "data.npz", X=X, y=Y)
    folder = tmp_path / "run"
    command = ["train", str(tmp_path / "data.npz"), "--hidden", "256,64"]
    command += ["--epochs", "4", "--schedule", "cosine", "--early-stopping", "9", "--json"]

    def outputs(name: str) -> list[str]:
        return ["--out", str(tmp_path / f"{name}.safetensors"), "--history", str(tmp_path / f"{name}.json")]

    kept = ["--checkpoint", str(folder), "--checkpoint-minutes", "0.001", "--resume"]
    out = tmp_path / "killed.safetensors"
    run_with_kills(COMMAND, [*command, *kept, *outputs("killed")], folder / checkpoints.LAST, out)
    whole = CliRunner().invoke(main, [*command, *outputs("whole")])
    assert whole.exit_code == 0, whole.output
    same_file(out, tmp_path / "whole.safetensors")
    one, other = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("killed", "whole"))
    assert len(one.pop("seconds")) == len(other.pop("seconds"))
    assert one == other
