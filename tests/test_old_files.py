"""Files that earlier versions wrote are read: models, checkpoints, a journal and a benchmark, in `tests/old`.

They were written by fastbp 0.1.0 and are never written anew; `expected.json` tells what came of them there. Data are
made of whole numbers, so that they have the same bits everywhere; results are compared within a tolerance, as theirs
depend on the CPU.
"""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from processes import FOLDERS

import fastbp
from fastbp import MLP, SGD, Adam, Huber, LrSweep, schedules
from fastbp.callbacks import Checkpoint, EarlyStopping

OLD = Path(__file__).parent / "old"
EXPECTED: dict[str, Any] = json.loads((OLD / "expected.json").read_text())

WHOLE = (np.arange(120 * 6) * 7919 % 1009).reshape(120, 6)
X = WHOLE / 1009
CLASSES = WHOLE[:, :3].argmax(axis=1)
REAL = np.column_stack([WHOLE[:, 0] - WHOLE[:, 1], WHOLE[:, 2]]) / 1009
HELD = X[:30], CLASSES[:30]
RATES = [1e-3, 1e-2, 1e-1]


def watched(**options: Any) -> MLP:
    """A training that remembers much: noise, the best weights, a rate that follows the losses."""
    net = MLP([6, 12, 3], dropout=0.1, input_noise=0.01, l2=1e-4, seed=7)
    net.fit(
        X, CLASSES, epochs=6, batch_size=16, optimizer=Adam(lr=0.02, clip_norm=1.0), validation_data=HELD,
        schedule=schedules.Warmup(1, schedules.ReduceOnPlateau(0.5, patience=0, threshold=0.3, monitor="val_loss")),
        **{"callbacks": [EarlyStopping(patience=4)], **options},
    )  # fmt: skip
    return net


def chunks() -> Iterator[tuple[Any, Any]]:
    for start in range(0, 120, 40):
        yield X[start : start + 40], CLASSES[start : start + 40]


def chunked(source: Any = chunks, **options: Any) -> MLP:
    """A training on chunks, in float64."""
    net = MLP([6, 8, 3], activation="tanh", dtype="float64", seed=4)
    net.fit(source, epochs=4, batch_size=16, optimizer=SGD(lr=0.2, momentum=0.9), **options)
    return net


def sweep(path: Path, rates: list[float]) -> LrSweep:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # the best rate may be at an end
        return fastbp.lr_sweep(
            MLP([6, 5, 3], dropout=0.1, seed=1), X, CLASSES, rates, seeds=2, epochs=2, batch_size=16,
            schedule=schedules.Step(1, 0.5), journal=path,
        )  # fmt: skip


def bench_result(path: Path) -> Any:
    """What a later command would compare with; there is no public reader yet, only the one of the reports."""
    from fastbp.bench import report

    return report.load(path)


def outcome(net: MLP) -> dict[str, Any]:
    """What a later version has to find in a model, or to come to with it."""
    targets = CLASSES if net.loss.target == "classes" else REAL
    found = {"outputs": net.forward(X[:20]).tolist(), "predictions": net.predict(X[:20]).tolist()}
    if net.history is not None:
        found |= {"loss": net.history.loss, "val_loss": net.history.val_loss, "lr": net.history.lr}
    return found | {"scores": net.evaluate(X, targets), "steps": net.optimizer_state()["steps"]}


def near(found: Any, expected: Any, tolerance: float) -> None:
    assert found.keys() == expected.keys()
    for name, value in found.items():
        assert np.shape(value) == np.shape(expected[name]), name
        if isinstance(value, dict):
            near(value, expected[name], tolerance)
        else:
            np.testing.assert_allclose(value, expected[name], rtol=tolerance, atol=tolerance, err_msg=name)


def test_a_classifier() -> None:
    net = fastbp.load(OLD / "classifier.safetensors")
    assert net.class_labels == ["ant", "bee", "cat, wild"]
    assert net.scaling is not None
    assert (net.sizes, net.activations, net.dtype.name, net.seed) == ((6, 16, 8, 3), ("gelu", "relu"), "float32", 11)
    near(outcome(net), EXPECTED["classifier"], 1e-4)
    before = net.evaluate(X, CLASSES)["loss"]
    net.fit(X, CLASSES, epochs=5, batch_size=16, optimizer=Adam(lr=5e-3))  # its moments go on
    assert net.optimizer_state()["steps"] == EXPECTED["classifier"]["steps"] + 5 * 8
    assert net.evaluate(X, CLASSES)["loss"] < before


def test_a_regression() -> None:
    net = fastbp.load(OLD / "regression.safetensors")
    assert net.loss == Huber(delta=0.5)
    assert net.regularization.as_arguments() == {
        "dropout": [0.05], "input_noise": 0.01, "l1": 1e-6, "l2": 1e-4, "max_norm": 3.0
    }  # fmt: skip
    assert (net.sizes, net.output_activation, net.dtype.name, net.init) == ((6, 9, 2), None, "float64", "lecun_uniform")
    near(outcome(net), EXPECTED["regression"], 1e-9)


def test_the_command_line_predicts_with_a_model(tmp_path: Path) -> None:
    table, out = tmp_path / "rows.csv", tmp_path / "out.csv"
    np.savetxt(table, X[:20], "%.17g", ",", header=",".join(f"x{k}" for k in range(6)), comments="")
    command = [sys.executable, "-m", "fastbp", "predict", str(OLD / "classifier.safetensors"), str(table)]
    path = os.pathsep.join([*FOLDERS, os.environ.get("PYTHONPATH", "")]).strip(os.pathsep)
    subprocess.run(
        [*command, "--out", str(out)],
        env={**os.environ, "PYTHONPATH": path},
        check=True,
        capture_output=True,
        timeout=300,
    )
    with out.open(newline="") as file:
        found = [row[-1] for row in csv.reader(file)][1:]
    assert found == [["ant", "bee", "cat, wild"][k] for k in EXPECTED["classifier"]["predictions"]]


@pytest.mark.parametrize(("name", "train", "done"), [("checkpoint", watched, 3), ("chunks", chunked, 1)])
def test_a_checkpoint_is_gone_on_with(name: str, train: Any, done: int, tmp_path: Path) -> None:
    """To what its training came to; the epochs before are those of the file, not made again."""
    expected = EXPECTED[name]
    near(outcome(fastbp.load(OLD / f"{name}.safetensors")), expected["then"], 1e-4)
    path = tmp_path / "last.safetensors"
    shutil.copy(OLD / f"{name}.safetensors", path)
    net = train(resume=path)
    near(outcome(net), expected["end"], 1e-3)
    assert net.history.loss[:done] == expected["end"]["loss"][:done]
    with pytest.raises(ValueError, match="is of another training"):
        MLP([6, 12, 3], seed=7).fit(X, CLASSES, epochs=6, resume=path)


def test_the_command_that_wrote_a_checkpoint_goes_on(tmp_path: Path) -> None:
    shutil.copy(OLD / "checkpoint.safetensors", tmp_path / "last.safetensors")
    net = watched(callbacks=[EarlyStopping(patience=4), Checkpoint(tmp_path)], resume=tmp_path)
    written = outcome(fastbp.load(tmp_path / "last.safetensors"))
    assert written == {name: value for name, value in outcome(net).items() if name in written}


def test_a_journal_is_gone_on_with(tmp_path: Path) -> None:
    """By the version and on the instruction set that wrote it; for others, these two are put right here."""
    old, path, fresh = (OLD / "journal.jsonl").read_bytes(), tmp_path / "old.jsonl", tmp_path / "fresh.jsonl"
    sweep(fresh, RATES[:1])
    head, *runs = old.splitlines(keepends=True)
    now, then = json.loads(fresh.read_text().splitlines()[0]), json.loads(head)
    places = {name: now[name] for name in ("version", "instruction_set")}
    if places != {name: then[name] for name in places}:
        then.pop("checksum")
        head = json.dumps(then | places).encode() + b"\n"
    path.write_bytes(head + b"".join(runs))
    before, expected = path.read_bytes(), EXPECTED["journal"]
    found = sweep(path, RATES)
    assert path.read_bytes() == before
    assert found.val_loss.tolist() == expected["val_loss"]
    assert found.train_loss.tolist() == expected["train_loss"]
    assert (found.status == "finished").all()
    more = sweep(path, [*RATES, 0.5])
    assert more.val_loss[:3].tolist() == expected["val_loss"]
    assert path.read_bytes().startswith(before)
    assert len(path.read_bytes().splitlines()) == len(before.splitlines()) + 2


def test_a_benchmark() -> None:
    document = json.loads((OLD / "bench.json").read_text())
    result = bench_result(OLD / "bench.json")
    assert [entry.workload.name for entry in result.workloads] == ["digits"]
    assert holds(result.to_document(), document)


def holds(new: Any, old: Any) -> bool:
    """Everything of the old document is in the new one, which may have more."""
    if isinstance(old, dict):
        return all(name in new and holds(new[name], value) for name, value in old.items())
    if isinstance(old, list):
        return len(new) == len(old) and all(map(holds, new, old))
    return bool(new == old)
