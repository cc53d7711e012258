"""Models of tables as ONNX files: ONNX Runtime says of raw columns what the model says of the frame, to 1e-5."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from peers import needs, onnx, onnxruntime

import fastbp
from fastbp.tables.recipe import Recipe

TableModel = fastbp.TableModel
pytestmark = needs("onnx", "onnxruntime")


def table(n: int = 300, seed: int = 0) -> pd.DataFrame:
    """Every kind of column, with and without missing values, rare and unseen categories, dates far back."""
    rng = np.random.default_rng(seed)
    gone = rng.random(n) < 0.1
    stamps = pd.Timestamp("1890-01-01") + pd.to_timedelta(rng.integers(0, 1_900_000, n), "h")
    frame = pd.DataFrame(
        {
            "plain": rng.normal(50.0, 9.0, n),
            "when": stamps,
            "size of it": np.where(gone, np.nan, rng.lognormal(3.0, 2.0, n)),
            "two": rng.choice(["left", "right"], n),
            "größe": rng.choice(["ü", "b", "c"], n),
            "rare": np.where(rng.random(n) < 0.05, [f"r{k % 40}" for k in range(n)], rng.choice(list("xyz"), n)),
            "prediction": np.where(rng.random(n) < 0.1, None, rng.choice(["p", "q", "r", "s"], n)),
            "flag": rng.random(n) < 0.5,
            "maybe": pd.array(np.where(rng.random(n) < 0.2, None, rng.random(n) < 0.5), dtype="boolean"),
            "seen": pd.Series(stamps).where(rng.random(n) > 0.1).dt.floor("D"),
            "code": np.where(rng.random(n) < 0.1, -999.0, rng.integers(0, 90, n) / 4),
            "zip": rng.choice([1010, 2020, 3030], n),
        }
    )
    signal = frame["plain"] + 20 * (frame["two"] == "left") + 9 * frame["flag"] + frame["code"].clip(0, 9)
    frame["y"] = 1e5 + 100.0 * signal
    frame["kind"] = np.array(["low", "middle", "high"])[np.digitize(signal, [60, 70])]
    frame["over"] = signal > 65
    frame["level"] = np.digitize(signal, [60, 70]) * 10
    return frame


TARGETS = ["y", "kind", "over", "level"]
FRAME, OTHER = table(), table(80, seed=1)
OTHER.loc[:9, "two"], OTHER.loc[:4, "plain"] = "elsewhere", np.nan
OPTIONS = {"categorical": ["zip"], "missing": ["-999", "gone"], "training": {"epochs": 3}}


def feed(model: Any, path: Path, frame: pd.DataFrame) -> dict[str, Any]:
    """The columns as the file's own metadata says that they are wanted."""
    told = json.loads({one.key: one.value for one in onnx.load(path).metadata_props}["fastbp"])
    made = {}
    for one in told["columns"]:
        column = frame[one["column"]]
        if one["kind"] == "category":
            values = column.map(lambda cell: "" if cell is None or cell is pd.NA else str(cell)).to_numpy(object)
        elif one["kind"] == "date":
            values = column.to_numpy().astype("datetime64[us]").astype("int64")
        else:
            values = column.astype("Float64").to_numpy(np.float64, na_value=np.nan)
        made[one["input"]] = values[:, None]
    return made


def checked(model: Any, path: Path, frame: pd.DataFrame) -> dict[str, Any]:
    """The outputs, compared with what the model says."""
    model.to_onnx(path)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [one.name for one in session.get_outputs()]
    found = dict(zip(names, session.run(None, feed(model, path, frame)), strict=True))
    predicted = found[next(name for name in names if name.startswith("prediction"))]
    expected = model.predict(frame)
    assert predicted.shape == expected.shape
    if model.classes is None:
        assert predicted.dtype == np.float64
        assert np.abs(predicted - expected).max() <= 1e-5 * np.abs(expected).max()
    else:
        assert predicted.tolist() == expected.tolist()
        assert np.abs(found["probabilities"] - model.predict_proba(frame)).max() <= 1e-5
    return found


@pytest.mark.filterwarnings("ignore::UserWarning")  # of unseen categories and columns, which are meant
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_kind_of_column_and_target(target: str, dtype: str, tmp_path: Path) -> None:
    drop = [name for name in TARGETS if name != target]
    model = TableModel(drop=drop, dtype=dtype, **OPTIONS).fit(FRAME, target)  # type: ignore[arg-type]
    found = checked(model, tmp_path / "model.onnx", OTHER)
    assert ("prediction_2" in found) == ("prediction" in FRAME)
    assert model.encoder is not None
    assert {one.kind_name for one in model.encoder.columns} == {"number", "category", "boolean", "date"}


def scaled(scaling: str) -> Any:
    return lambda *_: Recipe(hidden=(4,), scaling=scaling, training={"epochs": 2})


def test_parts_of_dates_over_four_centuries(tmp_path: Path) -> None:
    days = pd.Series(np.arange("1583-01-01", "2400-12-31", 17, dtype="datetime64[D]").astype("datetime64[us]"))
    frame = pd.DataFrame({"day": days, "y": days.dt.month + days.dt.year / 1e3})
    checked(TableModel(dtype="float64", recipe=scaled("standard")).fit(frame, "y"), tmp_path / "model.onnx", frame)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_other_scalings_targets_and_losses(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    few = {"features": ["plain", "size of it", "two"], "training": {"epochs": 2}}
    for scaling in ("standard", "robust", "none"):
        checked(TableModel(recipe=scaled(scaling), **few).fit(FRAME, "y"), path, OTHER)  # type: ignore[arg-type]
    checked(TableModel(log_target=True, **few).fit(FRAME, "y"), path, OTHER)  # type: ignore[arg-type]
    checked(TableModel(**few).fit(FRAME, ["y", "code"]), path, OTHER)  # type: ignore[arg-type]
    checked(TableModel(**few, loss="binary_cross_entropy").fit(FRAME, "over"), path, OTHER)  # type: ignore[arg-type]
    flags = TableModel(**few).fit(FRAME.assign(side=FRAME["two"].map({"left": "l", "right": "r"})), ["over", "flag"])  # type: ignore[arg-type]
    checked(flags, path, OTHER)
    checked(TableModel(**few, loss="poisson").fit(FRAME, "level"), path, OTHER)  # type: ignore[arg-type]


def test_a_loaded_model_and_one_that_is_not_trained(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="the model is not trained: call fit first"):
        TableModel().to_onnx(tmp_path / "model.onnx")
    model = TableModel(features=["plain"], training={"epochs": 2}).fit(FRAME, "kind")
    model.to_onnx(tmp_path / "a.onnx")
    model.save(tmp_path / "model.safetensors")
    TableModel.load(tmp_path / "model.safetensors").to_onnx(tmp_path / "b.onnx")
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()
