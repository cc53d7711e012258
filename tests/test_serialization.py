"""Model files: exact round trips, atomic replacement, and refusal of whatever is not a whole fastbp model."""

from __future__ import annotations

import json
import os
import stat
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

import fastbp
from fastbp import losses, optimizers, serialization
from fastbp.core import Scaling

TENSORS = {
    "a": np.arange(6, dtype=np.float32).reshape(2, 3),
    "column major": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "strided": np.arange(20, dtype=np.int64)[::3],
    "swapped": np.arange(3, dtype=">f8"),
    "nothing": np.zeros((0, 4), dtype=np.float32),
    "scalar": np.array(2.5),
    "not finite": np.array([np.nan, np.inf, -0.0]),
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "model.safetensors"


def make_net(**options: Any) -> Any:
    settings = {"activation": ["relu", "tanh"], "seed": 3} | options
    return fastbp.MLP([4, 6, 5, 3], **settings)


def some_data() -> tuple[Any, Any]:
    rng = np.random.default_rng(0)
    return rng.standard_normal((40, 4)), rng.integers(0, 3, 40)


# --- the container


def test_arrays_come_back_equal_in_native_order(path: Path) -> None:
    serialization.save(path, TENSORS, {"what": ["anything", 1, None]})
    tensors, metadata = serialization.load(path)
    assert metadata == {"format": "fastbp", "version": 1, "what": ["anything", 1, None]}
    assert tensors.keys() == TENSORS.keys()
    for name, array in TENSORS.items():
        np.testing.assert_array_equal(tensors[name], array)
        assert tensors[name].shape == array.shape
        assert tensors[name].dtype == array.dtype.newbyteorder("=")
        assert tensors[name].flags.writeable


def test_any_safetensors_reader_opens_it(path: Path) -> None:
    serialization.save(path, {"w": np.ones(3)}, {"n": 1})
    with safe_open(path, framework="numpy") as file:
        assert json.loads(file.metadata()["fastbp"])["n"] == 1
        np.testing.assert_array_equal(file.get_tensor("w"), np.ones(3))


@pytest.mark.parametrize("keep", [0, 1, 7, 8, 20, 0.5, -1])
def test_a_truncated_file_is_refused(path: Path, keep: float) -> None:
    serialization.save(path, TENSORS, {})
    whole = path.read_bytes()
    path.write_bytes(whole[: int(keep * len(whole)) if isinstance(keep, float) else keep])
    with pytest.raises(ValueError, match="is not a fastbp model, or was cut short"):
        serialization.load(path)


def test_other_files_are_refused(path: Path) -> None:
    path.write_text("a,b,c\n1,2,3\n" * 20)
    with pytest.raises(ValueError, match="is not a fastbp model"):
        serialization.load(path)
    save_file({"w": np.ones(3)}, path)
    with pytest.raises(ValueError, match="is a safetensors file, but no fastbp model"):
        serialization.load(path)
    for text in ("[1, 2]", '{"format": "other"}', "null"):
        save_file({"w": np.ones(3)}, path, metadata={"fastbp": text})
        with pytest.raises(ValueError, match="no fastbp model"):
            serialization.load(path)
    save_file({"w": np.ones(3)}, path, metadata={"fastbp": "{not json"})
    with pytest.raises(ValueError, match="damaged"):
        serialization.load(path)


@pytest.mark.parametrize(
    ("version", "says"),
    [(2, "reads up to 1; upgrade fastbp"), (0, "expected an integer"), ("1", "'1'"), (None, "None")],
)
def test_other_versions_are_refused(path: Path, version: Any, says: str) -> None:
    save_file({"w": np.ones(3)}, path, metadata={"fastbp": json.dumps({"format": "fastbp", "version": version})})
    with pytest.raises(ValueError, match=says):
        serialization.load(path)


def test_missing_files_keep_their_own_error(path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"model\.safetensors"):
        serialization.load(path)
    with pytest.raises(FileNotFoundError, match="no such folder"):
        serialization.save(path.parent / "nowhere" / "model", {}, {})
    with pytest.raises(IsADirectoryError, match="is a directory"):
        serialization.save(path.parent, {}, {})


# --- atomic replacement


def test_a_failed_write_leaves_the_old_file_and_nothing_else(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    serialization.save(path, {"w": np.ones(3)}, {})
    before = path.read_bytes()
    with pytest.raises(TypeError, match="JSON"):
        serialization.save(path, {"w": np.zeros(3)}, {"bad": object()})

    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        serialization.save(path, {"w": np.zeros(3)}, {})
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_the_data_is_on_disk_before_its_name(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def recorded(name: str) -> Any:
        function = getattr(os, name)

        def record(*arguments: Any) -> Any:
            calls.append(name)
            return function(*arguments)

        return record

    for name in ("fsync", "replace"):
        monkeypatch.setattr(os, name, recorded(name))
    serialization.save(path, {"w": np.ones(3)}, {})
    assert calls[:2] == ["fsync", "replace"]


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX permissions and links")
def test_permissions_and_links_survive(path: Path) -> None:
    umask = os.umask(0o027)
    try:
        serialization.save(path, {}, {})
    finally:
        os.umask(umask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    path.chmod(0o604)
    link = path.with_name("link")
    link.symlink_to(path.name)
    serialization.save(link, {"w": np.ones(2)}, {})
    assert link.is_symlink()
    assert stat.S_IMODE(path.stat().st_mode) == 0o604
    assert "w" in serialization.load(path)[0]


# --- models


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_model_comes_back_as_it_was(path: Path, dtype: str) -> None:
    X, y = some_data()
    net = make_net(dtype=dtype)
    net.fit(X, y, epochs=3)
    net.save(path)
    loaded = fastbp.load(path)
    assert (loaded.sizes, list(loaded.activations), loaded.output_activation) == (
        net.sizes,
        list(net.activations),
        net.output_activation,
    )
    assert (loaded.loss, np.dtype(loaded.dtype), loaded.seed) == (net.loss, np.dtype(net.dtype), net.seed)
    for ours, theirs in zip((*net.weights, *net.biases), (*loaded.weights, *loaded.biases), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    np.testing.assert_array_equal(net.predict_proba(X), loaded.predict_proba(X))


def test_options_that_are_easy_to_lose(path: Path) -> None:
    net = fastbp.MLP([4, 3], loss=losses.LOSSES["huber"](delta=2.5), output_activation="tanh", seed=2**64 - 1)
    net.save(path)
    loaded = fastbp.load(path)
    assert loaded.loss == net.loss
    assert loaded.seed == 2**64 - 1
    assert getattr(loaded.output_activation, "name", loaded.output_activation) == "tanh"
    assert loaded.scaling is None
    assert loaded.class_labels is None


@pytest.mark.parametrize("labels", [["ant", "bee", "käfer"], [3, 7, 9], None])
def test_class_labels(path: Path, labels: Any) -> None:
    net = make_net()
    net.class_labels = labels
    net.save(path)
    assert fastbp.load(path).class_labels == labels


@pytest.mark.parametrize("with_y", [True, False])
def test_scaling_comes_back_and_applies(path: Path, with_y: bool) -> None:
    X, _ = some_data()
    X = 100.0 + 5.0 * X
    y = X[:, 0] * 3.0
    net = fastbp.MLP([4, 5, 1], loss="mse", seed=0)
    net.standardize(X, y if with_y else None)
    net.fit(X, y, epochs=2)
    net.save(path)
    loaded = fastbp.load(path)
    assert isinstance(loaded.scaling, Scaling)
    assert (loaded.scaling.y_mean is None) == (not with_y)
    for field in ("x_mean", "x_scale", "y_mean", "y_scale"):
        np.testing.assert_array_equal(getattr(loaded.scaling, field), getattr(net.scaling, field))
    np.testing.assert_array_equal(loaded.predict(X), net.predict(X))


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_training_goes_on_as_if_never_saved(path: Path, optimizer: str) -> None:
    X, y = some_data()
    recipe = optimizers.SGD(lr=0.05, momentum=0.9) if optimizer == "sgd" else optimizers.Adam(lr=0.01)
    net = make_net()
    net.fit(X, y, epochs=2, batch_size=8, optimizer=recipe)
    net.save(path)
    loaded = fastbp.load(path)
    for one in (net, loaded):
        one.fit(X, y, epochs=2, batch_size=8, optimizer=recipe)
    for ours, theirs in zip((*net.weights, *net.biases), (*loaded.weights, *loaded.biases), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_incomplete_or_contradictory_models_are_refused(path: Path) -> None:
    tensors, metadata = serialization.model_state(make_net())
    missing = {name: array for name, array in tensors.items() if name != "weights.1"}
    serialization.save(path, missing, metadata)
    with pytest.raises(ValueError, match=r"weights\.1 is missing"):
        fastbp.load(path)
    for change in (
        {"sizes": [4, 6, 4, 3]},
        {"sizes": "4,3"},
        {"dtype": "float16"},
        {"activations": ["relu", "none"]},
        {"loss": {"name": "mse", "power": 3}},
    ):
        serialization.save(path, tensors, metadata | change)
        with pytest.raises(ValueError, match=r"model\.safetensors does not describe a network"):
            fastbp.load(path)
