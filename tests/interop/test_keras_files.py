"""`.keras` files read without Keras: those of `tests/data_files`, and damaged or malicious ones, which are refused."""

from __future__ import annotations

import io
import json
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from exported import close
from peers import h5py, needs

import fastbp

FILES = Path(__file__).parents[1] / "data_files"
TOLD = json.loads((FILES / "keras_predictions.json").read_text())
X = np.array(TOLD["X"])
pytestmark = needs("h5py")


def parts(path: Path = FILES / "classifier.keras") -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def written(path: Path, members: dict[str, bytes], how: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", how) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def changed(path: Path, change: Callable[[list[dict[str, Any]]], Any], name: str = "classifier") -> Path:
    """A file whose layers are described otherwise."""
    members = parts(FILES / f"{name}.keras")
    config = json.loads(members["config.json"])
    change(config["config"]["layers"])
    return written(path, members | {"config.json": json.dumps(config).encode()})


def with_weights(path: Path, change: Callable[[Any], Any]) -> Path:
    """A file whose weights are changed by h5py."""
    members = parts()
    weights = io.BytesIO(members["model.weights.h5"])
    with h5py.File(weights, "r+") as file:
        change(file)
    return written(path, members | {"model.weights.h5": weights.getvalue()})


def replaced(file: Any, name: str, **made: Any) -> None:
    del file[name]
    file.create_dataset(name, **made)


def test_files_of_keras_predict_what_keras_does() -> None:
    assert sys.modules.get("tensorflow") is None
    net = fastbp.from_keras(FILES / "classifier.keras", class_labels=["a", "b", "c"])
    assert repr(net) == "<fastbp.MLP 4-8-6-3 relu, leaky_relu, cross_entropy, float32, 115 parameters>"
    assert (net.regularization.dropout, net.class_labels) == ((0.25, 0.0), ["a", "b", "c"])
    assert close(net.predict_proba(X), np.float32(TOLD["classifier"]))
    assert not net.biases[1].any()  # it was made without
    net = fastbp.from_keras(str(FILES / "regression.keras"))
    assert (net.activations, net.loss.name) == (("gelu", "elu"), "mae")
    assert close(net.predict(X), np.float32(TOLD["regression"]))
    assert fastbp.from_keras(FILES / "regression.keras", loss="huber").loss.name == "huber"
    assert net.fit(X, np.zeros((10, 2)), epochs=2).loss[-1] < 1e6  # and it goes on


BATCH_NORM = {"class_name": "BatchNormalization", "config": {"name": "bn"}}
CUSTOM = {"class_name": "function", "config": "os.system", "module": "os"}
CHANGES: list[tuple[Callable[[Any], Any], str]] = [
    (
        lambda layers: layers.insert(3, BATCH_NORM),
        "bn (BatchNormalization) is a BatchNormalization, which fastbp has not",
    ),
    (lambda layers: layers[2]["config"].update(activation="leaky_relu"), "leaky_relu, of slope 0.2; fastbp's has 0.01"),
    (
        lambda layers: layers[2]["config"].update(activation="relu6"),
        "dense (Dense) has the activation 'relu6'; fastbp takes",
    ),
    (lambda layers: layers[2]["config"].update(activation=CUSTOM), "has the activation 'os.system'"),
    (lambda layers: layers[5]["config"].update(negative_slope=0.3), "leaky_re_lu (LeakyReLU) has negative_slope=0.3"),
    (lambda layers: layers[1]["config"].update(axis=[0]), "normalization (Normalization) has axis=[0]"),
    (lambda layers: layers[1]["config"].update(invert=True), "has invert=True"),
    (lambda layers: layers.insert(3, layers.pop(1)), "scales what is not the input of the network"),
    (lambda layers: layers[3].update(class_name="Lambda"), "dropout (Lambda) is a Lambda"),
    (
        lambda layers: layers[2]["config"].update(units=9),
        "layers/dense/vars/0 has shape (4, 8), but the layer asks for",
    ),
    (lambda layers: layers[2]["config"].pop("units"), "cannot be read as a model of Keras: KeyError: 'units'"),
    (lambda layers: layers.__setitem__(0, 3), "cannot be read as a model of Keras"),
    (lambda layers: layers.clear(), "there is no layer of weights in it"),
]


@pytest.mark.parametrize(("change", "says"), CHANGES, ids=[says[:40] for _, says in CHANGES])
def test_what_fastbp_has_not_is_refused_by_name(change: Any, says: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the text is looked at
        fastbp.from_keras(path := changed(tmp_path / "model.keras", change))
    assert says in str(caught.value)
    assert str(path) in str(caught.value)


def forked(layers: list[dict[str, Any]]) -> None:
    """The last layer takes the inputs instead of what is before it."""
    history = layers[-1]["inbound_nodes"][0]["args"][0]["config"]["keras_history"]
    history[0] = layers[0]["config"]["name"]


def test_a_functional_model_that_is_no_chain(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="leads to several layers; fastbp has layers in a row alone"):
        fastbp.from_keras(changed(tmp_path / "model.keras", forked, "regression"))
    with pytest.raises(ValueError, match="has several inputs"):
        fastbp.from_keras(
            changed(
                tmp_path / "model.keras",
                lambda layers: layers[-1]["inbound_nodes"][0]["args"].append(layers[-1]["inbound_nodes"][0]["args"][0]),
                "regression",
            )
        )


WEIGHTS: list[tuple[Callable[[Any], Any], str]] = [
    (lambda file: file["layers/dense/vars/0"].__setitem__((1, 2), np.nan), "dense (Dense): weights[1, 2] is nan"),
    (lambda file: file["layers/normalization/vars/1"].__setitem__(0, -1.0), "has a variance that is not at least 0"),
    (lambda file: file.__delitem__("layers/dense_1/vars/0"), "its weights have no layers/dense_1/vars/0"),
    (lambda file: replaced(file, "layers/dense/vars/0", shape=(4, 8), dtype="i4"), "is of int32"),
    (
        lambda file: replaced(file, "layers/dense/vars/0", shape=(1 << 40, 8), dtype="f4", chunks=(1024, 8)),
        "bytes, but the file has",
    ),
    (
        lambda file: replaced(file, "layers/dense/vars/0", shape=(4, 8), dtype="f4", compression="gzip"),
        "is stored as Keras never does",
    ),
    (
        lambda file: replaced(
            file, "layers/dense/vars/0", shape=(4, 8), dtype="f4", external=[("/etc/passwd", 0, 128)]
        ),
        "is stored as Keras never does",
    ),
    (lambda file: link(file, h5py.ExternalLink("/etc/passwd", "/")), "its weights have no layers/dense"),
    (lambda file: link(file, h5py.SoftLink("/layers/dense_1")), "its weights have no layers/dense"),
]


def link(file: Any, to: Any) -> None:
    del file["layers/dense"]
    file["layers/dense"] = to


@pytest.mark.parametrize(("change", "says"), WEIGHTS, ids=range(len(WEIGHTS)))
def test_weights_that_are_wrong_or_lie_elsewhere(change: Any, says: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the text is looked at
        fastbp.from_keras(with_weights(tmp_path / "model.keras", change))
    assert says in str(caught.value)


def test_archives_that_are_none_or_unpack_to_too_much(tmp_path: Path) -> None:
    path, members = tmp_path / "model.keras", parts()
    long = {"config.json": b" " * (17 << 20)}
    bomb = {"model.weights.h5": b"\0" * (4 << 20)}
    for made, says in [
        (lambda: path.write_bytes(b""), "it is no .keras file"),
        (lambda: path.write_bytes(members["model.weights.h5"]), "an HDF5 file of Keras 2"),
        (lambda: path.write_bytes((FILES / "classifier.keras").read_bytes()[:20_000]), "it is no .keras file"),
        (lambda: written(path, members | bomb, zipfile.ZIP_DEFLATED), "model.weights.h5 unpacks to 0.00419 GB"),
        (lambda: written(path, members | long, zipfile.ZIP_DEFLATED), "config.json unpacks"),
        (lambda: written(path, members, zipfile.ZIP_BZIP2), "is packed as Keras never does"),
        (lambda: written(path, members | {"metadata.json": b'{"keras_version": "2.13.1"}'}), "it is of Keras 2.13.1"),
        (lambda: written(path, {"metadata.json": members["metadata.json"]}), "it has no config.json"),
        (lambda: written(path, members | {"config.json": b"["}), "cannot be read as a model of Keras"),
        (lambda: written(path, members | {"config.json": b"[" * 100_000}), "cannot be read as a model of Keras"),
        (lambda: written(path, members | {"config.json": b"[1]"}), "describes no model"),
    ]:  # fmt: skip
        made()
        with pytest.raises(ValueError) as caught:  # noqa: PT011 - the text is looked at
            fastbp.from_keras(path)
        assert says in str(caught.value)
        assert str(path) in str(caught.value)
    with pytest.raises(TypeError, match=r"model must be a path or a keras\.Model, got 5 of type int"):
        fastbp.from_keras(5)
    with pytest.raises(FileNotFoundError):
        fastbp.from_keras(tmp_path / "missing.keras")


def test_no_changed_byte_does_more_than_an_error(tmp_path: Path) -> None:
    """The archive has checksums; behind them, in the HDF5 file, every change is refused or changes numbers alone."""
    members, rng = parts(), np.random.default_rng(0)
    whole = members["model.weights.h5"]
    refused = 0
    for _ in range(150):
        content = bytearray(whole)
        for place in rng.integers(0, len(whole), 4):
            content[place] = int(rng.integers(0, 256))
        try:
            net = fastbp.from_keras(written(tmp_path / "model.keras", members | {"model.weights.h5": bytes(content)}))
        except ValueError:
            refused += 1
        else:
            assert net.sizes == (4, 8, 6, 3)
    assert refused > 10
    content = bytearray((FILES / "classifier.keras").read_bytes())
    content[content.index(whole) + 5000] ^= 1
    (tmp_path / "model.keras").write_bytes(content)
    with pytest.raises(ValueError, match="Bad CRC-32"):
        fastbp.from_keras(tmp_path / "model.keras")


def test_a_plain_install_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(ImportError, match=r".keras files need h5py: pip install 'fastbp\[keras\]'"):
        fastbp.from_keras(FILES / "classifier.keras")
