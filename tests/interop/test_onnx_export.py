"""ONNX files: what ONNX Runtime makes of them is what the network predicts, to 1e-5."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from exported import ROWS, close, named, network, networks, predictions
from peers import needs, onnx, onnxruntime

import fastbp
from fastbp.activations import ACTIVATIONS
from fastbp.interop import onnx_network

pytestmark = needs("onnx", "onnxruntime")


def run(path: Path, feed: dict[str, Any]) -> dict[str, Any]:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return dict(zip([one.name for one in session.get_outputs()], session.run(None, feed), strict=True))


def test_every_activation_and_loss(tmp_path: Path) -> None:
    for name, net in networks().items():
        net.to_onnx(path := tmp_path / f"{name}.onnx")
        X = ROWS.astype(net.dtype)
        found, expected = run(path, {"X": X}), predictions(net, X)
        assert found.keys() == expected.keys(), name
        for output, values in expected.items():
            assert found[output].dtype == values.dtype, name
            tol = 1e-5 if net.dtype == np.float32 or "poisson" in name else 1e-13
            assert close(found[output], values, tol), (name, output)
    assert onnx_network.ACTIVATIONS.keys() == ACTIVATIONS.keys()


def test_far_out_nothing_overflows(tmp_path: Path) -> None:
    far = np.array([[-1e4], [-300.0], [-50.0], [0.0], [50.0], [300.0], [1e4]])
    for dtype in ("float32", "float64"):
        for name in ACTIVATIONS:
            net = fastbp.MLP([1, 1], loss="mse", output_activation=name, dtype=dtype)
            net.set_weights([np.ones((1, 1))], [np.zeros(1)])
            net.to_onnx(tmp_path / "far.onnx")
            X = far.astype(dtype)
            assert close(run(tmp_path / "far.onnx", {"X": X})["prediction"], net.predict(X), 1e-6), name


def test_labels_and_what_the_file_tells(tmp_path: Path) -> None:
    net = named()
    net.to_onnx(path := tmp_path / "named.onnx")
    X = ROWS.astype("f")
    assert run(path, {"X": X})["label"].tolist() == np.array(net.class_labels)[net.predict(X)].tolist()
    model = onnx.load(path)
    told = json.loads({one.key: one.value for one in model.metadata_props}["fastbp"])
    assert told == {"loss": "cross_entropy", "class_labels": net.class_labels, "feature_names": None}
    assert (model.producer_name, model.producer_version) == ("fastbp", fastbp.__version__)
    for labels in ([3, 1, 2], [0.5, 1.5, 2]):
        net.class_labels = labels
        net.to_onnx(path)
        assert run(path, {"X": X})["label"].tolist() == np.array(labels)[net.predict(X)].tolist()


def test_time_stamps_keep_their_seconds(tmp_path: Path) -> None:
    stamps = 1.7e9 + np.arange(0, 80, 2.0)[:, None]
    net = fastbp.MLP([1, 8, 1], loss="mse", activation="tanh", seed=0)
    net.standardize(stamps, stamps)
    net.to_onnx(tmp_path / "stamps.onnx")
    found = run(tmp_path / "stamps.onnx", {"X": stamps})["prediction"]  # float64: others are refused by the runtime
    assert np.abs(found - net.predict(stamps)).max() < 1e-3
    net.to_onnx(tmp_path / "stamps.onnx", input_dtype="float32")
    assert run(tmp_path / "stamps.onnx", {"X": stamps.astype("f")})["prediction"].dtype == np.float64
    with pytest.raises(ValueError, match="dtype must be 'float32' or 'float64'"):
        net.to_onnx(tmp_path / "other.onnx", input_dtype="int8")
    assert not (tmp_path / "other.onnx").exists()


def test_a_plain_install_says_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ImportError, match=r"ONNX files need onnx: pip install 'fastbp\[onnx\]'"):
        network([5, 3]).to_onnx(tmp_path / "net.onnx")
