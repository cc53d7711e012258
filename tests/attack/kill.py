"""Trainings and sweeps killed with kill -9 at moments of chance, and gone on with: the bits of untouched ones.

Also right after each kill: what is under the names of files is whole, and beside them lies at most one that was being
written, which the next training removes.
"""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from processes import same_file

import fastbp
from fastbp import MLP, SGD, Adam, lr_sweep, model, schedules
from fastbp.callbacks import Checkpoint, EarlyStopping
from fastbp.io import model_files
from fastbp.training import checkpoints

ROOT = Path(__file__).parents[2]
FOLDERS = [str(ROOT), str(ROOT / "tests"), str(Path(fastbp.__file__).parents[1])]
PATIENCE = 300  # seconds for one process
MOST_KILLS = 6  # of one training
LEFT = re.compile(r"\.(last|best|epoch-\d{6})\.safetensors\.[0-9a-f]{8}\.tmp")


def cases() -> dict[str, dict[str, Any]]:
    """Arguments of `fit`, and of the network; made anew for every use, for callbacks have a state."""
    plateau = schedules.ReduceOnPlateau(0.5, patience=0, monitor="val_loss")
    return {
        "early stopping": {
            "validation_split": 0.1, "schedule": plateau, "callbacks": [EarlyStopping(patience=5)], "epochs": 6,
        },
        "one cycle": {"schedule": schedules.OneCycle(5), "optimizer": SGD(0.05, momentum=0.9), "epochs": 5},
        "noise": {"network": {"dropout": 0.3, "input_noise": 0.1, "max_norm": 3.0}, "optimizer": "nadam", "epochs": 4},
        "clipped": {"optimizer": Adam(1e-2, clip_norm=0.5), "class_weight": "balanced", "epochs": 4, "shuffle": False},
        "chunks": {"in_chunks": True, "epochs": 4, "optimizer": "rmsprop"},
        "float64": {"network": {"dtype": "float64"}, "epochs": 3, "batch_size": 7, "optimizer": "adagrad"},
    }  # fmt: skip


def data(seed: int) -> tuple[Any, Any]:
    rng = np.random.default_rng(seed)
    return rng.standard_normal((9000, 40)).astype(np.float32), rng.integers(0, 5, 9000)


def train(folder: Path, case: str, seed: int, *, whole: bool = False) -> None:
    """What is killed: writes the network and its history when it comes to its end."""
    options = cases()[case]
    X, y = data(seed)
    samples: Any = (X, y)
    if options.pop("in_chunks", False):
        samples = ([(X[start : start + 1300], y[start : start + 1300]) for start in range(0, len(X), 1300)],)
    # Where nothing decides otherwise the seed is one of chance, which the first process draws; here it is known.
    net = MLP([40, 96, 5], seed=seed, **options.pop("network", {}))
    if not whole:
        monitor = "val_loss" if "validation_split" in options else "loss"
        saving = Checkpoint(folder / "run", every_seconds=1e-9, every_epochs=1, keep=1, best=monitor)
        options["callbacks"] = [*options.get("callbacks", []), saving]
        options["resume"] = folder / "run"
    history = net.fit(*samples, **options)
    net.save(folder / "net.safetensors")
    columns = history.columns()
    columns["seconds"] = [0.0] * len(columns["seconds"])
    (folder / "history.json").write_text(json.dumps([columns, history.stop_reason]))


def sweep(folder: Path, seed: int, *, whole: bool = False) -> None:
    """What is killed of a sweep."""
    X, y = data(seed)
    rates = np.geomspace(1e-4, 1e-1, 30)
    journal = None if whole else folder / "sweep.jsonl"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the last line was being written; the best rate is the last
        found = lr_sweep(MLP([40, 32, 5], seed=seed), X[:2000], y[:2000], rates, seeds=2, epochs=4, journal=journal)
    np.savez(folder / "out.npz", *(np.asarray(one) for one in (found.val_loss, found.train_loss, found.status)))


def one(folder: Path, case: str, seed: int, chance: random.Random, counts: Counter[str]) -> None:
    """One training, killed some times; then compared with one that was not."""
    swept = case == "sweep"
    last = folder / ("sweep.jsonl" if swept else f"run/{checkpoints.LAST}")
    end = folder / ("out.npz" if swept else "history.json")
    kills = 0
    while not end.exists():
        before = last.stat().st_mtime_ns if last.exists() else 0
        process = _started(folder, case, seed)
        try:
            if kills < MOST_KILLS:
                _wait_for(last, before, process)
                time.sleep(chance.uniform(0.0, 0.25))
                process.send_signal(signal.SIGKILL)  # where it has ended already, that is nothing
            said = process.communicate(timeout=PATIENCE)[1]
        finally:
            process.kill()
        if process.returncode != -signal.SIGKILL:
            assert process.returncode == 0, said[-4000:]
            break
        kills += 1
        if not swept:
            _look_at(folder / "run")
    counts["kills"] += kills
    other = folder / "whole"
    other.mkdir()
    if swept:
        sweep(other, seed, whole=True)
        with np.load(end) as mine, np.load(other / "out.npz") as yours:
            assert all(mine[name].tobytes() == yours[name].tobytes() for name in yours), f"sweep of seed {seed}"
        counts["sweeps"] += 1
        return
    train(other, case, seed, whole=True)
    names = {path.name for path in (folder / "run").iterdir() if not path.name.startswith("epoch-")}
    assert names == {"last.safetensors", "best.safetensors"}, f"{case}, seed {seed}: {names}"
    same_file(folder / "net.safetensors", other / "net.safetensors")
    assert (folder / "history.json").read_text() == (other / "history.json").read_text(), f"{case}, seed {seed}"
    counts["trainings"] += 1


def _started(folder: Path, case: str, seed: int) -> subprocess.Popen[str]:
    call = "kill.sweep(Path(sys.argv[1]), int(sys.argv[3]))"
    if case != "sweep":
        call = "kill.train(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))"
    code = f"import sys; from pathlib import Path; from tests.attack import kill; {call}"
    paths = os.pathsep.join([*FOLDERS, os.environ.get("PYTHONPATH", "")])
    return subprocess.Popen(
        [sys.executable, "-P", "-X", "faulthandler", "-c", code, str(folder), case, str(seed)], text=True,
        env={**os.environ, "PYTHONPATH": paths}, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )  # fmt: skip


def _wait_for(last: Path, before: int, process: subprocess.Popen[str]) -> None:
    """Until the process has written something new, or has ended."""
    limit = time.monotonic() + PATIENCE
    while process.poll() is None and not (last.exists() and last.stat().st_mtime_ns != before):
        assert time.monotonic() < limit, "nothing was written for a long time"
        time.sleep(0.001)


def _look_at(run: Path) -> None:
    """After a kill: whole files, and at most one that is not."""
    names = {path.name for path in run.iterdir()}
    left = {name for name in names if LEFT.fullmatch(name)}
    assert len(left) <= 1, left
    for name in names - left:
        tensors, description = model_files.load(run / name)
        model.from_file(tensors, description)
    assert checkpoints.find(run, []) is not None


def run(seconds: float, seed: int) -> dict[str, int]:
    """Kill trainings and sweeps of every kind in turn; raises where one does not end with the right bits."""
    counts: Counter[str] = Counter()
    names, chance = [*cases(), "sweep"], random.Random(seed)
    end, number = time.monotonic() + seconds, seed
    while time.monotonic() < end or not counts["kills"]:
        with tempfile.TemporaryDirectory() as folder:
            one(Path(folder), names[number % len(names)], chance.randrange(1 << 20), chance, counts)
        number += 1
    return dict(counts)
