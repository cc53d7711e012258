"""Model files: exact round trips, atomic replacement, and refusal of whatever is not a whole fastbp model."""

from __future__ import annotations

import json
import os
import pickle
import stat
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

import fastbp
from fastbp import losses, model, optimizers
from fastbp.io import model_files
from fastbp.spec import Scaling

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
    model_files.save(path, TENSORS, {"what": ["anything", 1, None]})
    tensors, metadata = model_files.load(path)
    assert metadata == {"format": "fastbp", "version": 1, "what": ["anything", 1, None]}
    assert tensors.keys() == TENSORS.keys()
    for name, array in TENSORS.items():
        np.testing.assert_array_equal(tensors[name], array)
        assert tensors[name].shape == array.shape
        assert tensors[name].dtype == array.dtype.newbyteorder("=")
        assert tensors[name].flags.writeable


def test_any_safetensors_reader_opens_it(path: Path) -> None:
    model_files.save(path, {"w": np.ones(3)}, {"n": 1})
    with safe_open(path, framework="numpy") as file:
        assert json.loads(file.metadata()["fastbp"])["n"] == 1
        np.testing.assert_array_equal(file.get_tensor("w"), np.ones(3))


@pytest.mark.parametrize("keep", [0, 1, 7, 8, 20, 0.5, -1])
def test_a_truncated_file_is_refused(path: Path, keep: float) -> None:
    model_files.save(path, TENSORS, {})
    whole = path.read_bytes()
    path.write_bytes(whole[: int(keep * len(whole)) if isinstance(keep, float) else keep])
    with pytest.raises(ValueError, match="is not a fastbp model, or was cut short"):
        model_files.load(path)


def test_other_files_are_refused(path: Path) -> None:
    path.write_text("a,b,c\n1,2,3\n" * 20)
    with pytest.raises(ValueError, match="is not a fastbp model"):
        model_files.load(path)
    save_file({"w": np.ones(3)}, path)
    with pytest.raises(ValueError, match="is a safetensors file, but no fastbp model"):
        model_files.load(path)
    for text in ("[1, 2]", '{"format": "other"}', "null"):
        save_file({"w": np.ones(3)}, path, metadata={"fastbp": text})
        with pytest.raises(ValueError, match="no fastbp model"):
            model_files.load(path)
    save_file({"w": np.ones(3)}, path, metadata={"fastbp": "{not json"})
    with pytest.raises(ValueError, match="damaged"):
        model_files.load(path)


@pytest.mark.parametrize(
    ("version", "says"),
    [(3, "reads up to 2; upgrade fastbp"), (0, "expected an integer"), ("1", "'1'"), (None, "None")],
)
def test_other_versions_are_refused(path: Path, version: Any, says: str) -> None:
    save_file({"w": np.ones(3)}, path, metadata={"fastbp": json.dumps({"format": "fastbp", "version": version})})
    with pytest.raises(ValueError, match=says):
        model_files.load(path)


def test_missing_files_keep_their_own_error(path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"model\.safetensors"):
        model_files.load(path)
    with pytest.raises(FileNotFoundError, match="no such folder"):
        model_files.save(path.parent / "nowhere" / "model", {}, {})
    with pytest.raises(IsADirectoryError, match="is a directory"):
        model_files.save(path.parent, {}, {})


# --- atomic replacement


def test_a_failed_write_leaves_the_old_file_and_nothing_else(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model_files.save(path, {"w": np.ones(3)}, {})
    before = path.read_bytes()
    with pytest.raises(TypeError, match="JSON"):
        model_files.save(path, {"w": np.zeros(3)}, {"bad": object()})

    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        model_files.save(path, {"w": np.zeros(3)}, {})
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
    model_files.save(path, {"w": np.ones(3)}, {})
    assert calls[:2] == ["fsync", "replace"]


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX permissions and links")
def test_permissions_and_links_survive(path: Path) -> None:
    umask = os.umask(0o027)
    try:
        model_files.save(path, {}, {})
    finally:
        os.umask(umask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    path.chmod(0o604)
    link = path.with_name("link")
    link.symlink_to(path.name)
    model_files.save(link, {"w": np.ones(2)}, {})
    assert link.is_symlink()
    assert stat.S_IMODE(path.stat().st_mode) == 0o604
    assert "w" in model_files.load(path)[0]


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
    tensors, metadata = model.to_file(make_net().session.values())
    missing = {name: array for name, array in tensors.items() if name != "weights.1"}
    model_files.save(path, missing, metadata)
    with pytest.raises(ValueError, match=r"weights\.1 is missing"):
        fastbp.load(path)
    for change in (
        {"sizes": [4, 6, 4, 3]},
        {"sizes": "4,3"},
        {"dtype": "float16"},
        {"activations": ["relu", "none"]},
        {"loss": {"name": "mse", "power": 3}},
    ):
        model_files.save(path, tensors, metadata | change)
        with pytest.raises(ValueError, match=r"model\.safetensors does not describe a network"):
            fastbp.load(path)


# --- damage


def old_file(path: Path, tensors: dict[str, Any], metadata: dict[str, Any]) -> None:
    """As fastbp wrote it before there was a checksum."""
    header = json.dumps({"format": "fastbp", "version": 1, **metadata})
    save_file({name: np.ascontiguousarray(array) for name, array in tensors.items()}, path, {"fastbp": header})


def scaled_net() -> Any:
    X, _ = some_data()
    net = fastbp.MLP([4, 3, 1], loss="mse", seed=0)
    net.standardize(X, X[:, 0])
    net.train_step(X, X[:, 0], "adam")
    return net


def test_every_flipped_bit_is_refused(path: Path) -> None:
    net = scaled_net()
    net.save(path)
    whole = path.read_bytes()
    for place in range(len(whole)):
        for bit in [place % 8] if place > 400 else range(8):
            path.write_bytes(whole[:place] + bytes([whole[place] ^ (1 << bit)]) + whole[place + 1 :])
            with pytest.raises(ValueError, match=r"model\.safetensors"):
                fastbp.load(path)
    path.write_bytes(whole)
    assert fastbp.load(path).scaling is not None


def test_a_model_without_a_checksum_is_read(path: Path) -> None:
    net, X = scaled_net(), some_data()[0]
    old_file(path, *model.to_file(net.session.values()))
    np.testing.assert_array_equal(fastbp.load(path).predict(X), net.predict(X))
    tensors, metadata = model.to_file(net.session.values())
    metadata.pop("init")
    metadata.pop("regularization")
    old_file(path, tensors, metadata)  # of the first version
    np.testing.assert_array_equal(fastbp.load(path).predict(X), net.predict(X))


HALF = np.full(4, 0.5)
SCALINGS: dict[str, dict[str, Any]] = {
    "a single mean": {"x_mean": np.zeros(1), "x_scale": np.ones(1)},
    "no mean": {"x_mean": np.zeros(0), "x_scale": np.ones(0)},
    "two dimensions": {"x_mean": np.zeros((4, 1)), "x_scale": np.ones((4, 1))},
    "other lengths": {"x_mean": np.zeros(4), "x_scale": np.ones(3)},
    "NaN": {"x_mean": np.array([0, 0, np.nan, 0]), "x_scale": np.ones(4)},
    "an infinite scale": {"x_mean": np.zeros(4), "x_scale": np.array([1, np.inf, 1, 1])},
    "a scale of 0": {"x_mean": np.zeros(4), "x_scale": np.array([1, 0.0, 1, 1])},
    "a negative scale": {"x_mean": np.zeros(4), "x_scale": -np.ones(4)},
    "two targets": {"x_mean": HALF, "x_scale": HALF, "y_mean": np.zeros(2), "y_scale": np.ones(2)},
    "half of a target": {"x_mean": HALF, "x_scale": HALF, "y_mean": np.zeros(1)},
    "complex": {"x_mean": np.zeros(4, np.complex64), "x_scale": np.ones(4, np.complex64)},
}


@pytest.mark.parametrize("case", SCALINGS)
def test_a_scaling_that_does_not_fit_is_refused(case: str, path: Path) -> None:
    net = fastbp.MLP([4, 3, 1], loss="mse", seed=0)
    tensors, metadata = model.to_file(net.session.values())
    arrays = {f"scaling.{name}": array for name, array in SCALINGS[case].items()}
    for write in (model_files.save, old_file):
        write(path, tensors | arrays, metadata)
        with pytest.raises(ValueError, match=r"model\.safetensors does not describe .*scaling"):
            fastbp.load(path)
    with pytest.raises((ValueError, TypeError), match="scaling"):
        net.scaling = Scaling(**SCALINGS[case])
    assert net.scaling is None


def test_a_scaling_of_another_network_is_refused(path: Path) -> None:
    wide, real = Scaling(np.zeros(9), np.ones(9)), Scaling(HALF, HALF, np.zeros(3), np.ones(3))
    net = make_net()
    with pytest.raises(ValueError, match="scaling is of 9 inputs, but the network takes 4"):
        net.scaling = wide
    with pytest.raises(ValueError, match=r"y can be standardised for mse, .* only"):
        net.scaling = real
    with pytest.raises(TypeError, match="scaling must be None or a Scaling"):
        net.scaling = (HALF, HALF)
    net.scaling = Scaling(HALF, HALF.tolist())  # type: ignore[arg-type]
    mean = net.scaling.x_mean
    with pytest.raises(ValueError, match="read-only"):
        mean[0] = np.nan
    HALF_TOO = HALF.copy()
    net.scaling = Scaling(HALF_TOO, HALF)
    HALF_TOO[:] = np.nan  # the caller's array, not the network's
    for other in (net.copy(), pickle.loads(pickle.dumps(net)), net.astype("float64")):
        np.testing.assert_array_equal(other.scaling.x_mean, HALF)
    tensors, metadata = model.to_file(net.session.values())
    tensors.pop("scaling.x_mean")
    model_files.save(path, tensors, metadata)
    with pytest.raises(ValueError, match=r"scaling\.x_mean is missing"):
        fastbp.load(path)


LABELS: dict[str, Any] = {
    "one too few": ["ant", "bee"],
    "one too many": ["ant", "bee", "cow", "dog"],
    "twice the same": ["ant", "bee", "ant"],
    "twice the same number": [1, 2, 1.0],
    "an escape sequence": ["ant", "\x1b[2J", "cow"],
    "back to the start of the line": ["ant", "b\ree", "cow"],
    "half a letter": ["ant", "\ud800", "cow"],
    "mixed": ["ant", 2, "cow"],
    "not finite": [1.0, 2.0, float("nan")],
    "truth": [True, False, 2],
    "nested": [["ant"], ["bee"], ["cow"]],
    "nothing": [None, None, None],
    "text": "abc",
    "a mapping": {"ant": 0, "bee": 1, "cow": 2},
    "a number": 3,
}


@pytest.mark.parametrize("case", LABELS)
def test_class_labels_that_do_not_fit_are_refused(case: str, path: Path) -> None:
    net = make_net()
    with pytest.raises((ValueError, TypeError), match="class_labels"):
        net.class_labels = LABELS[case]
    assert net.class_labels is None
    tensors, metadata = model.to_file(net.session.values())
    for write in (model_files.save, old_file):
        write(path, tensors, metadata | {"class_labels": LABELS[case]})
        with pytest.raises(ValueError, match=r"model\.safetensors does not describe .*class_labels"):
            fastbp.load(path)


def test_class_labels_of_other_networks() -> None:
    with pytest.raises(ValueError, match="class_labels are for classifiers"):
        scaled_net().class_labels = ["cheap"]
    yes = fastbp.MLP([4, 1], loss="binary_cross_entropy")
    yes.class_labels = np.array([3, 7])
    assert yes.class_labels == [3, 7]
    assert type(yes.class_labels[0]) is int
    yes.class_labels.append(9)  # of a copy
    assert yes.copy().class_labels == pickle.loads(pickle.dumps(yes)).class_labels == [3, 7]
    tags = fastbp.MLP([4, 3], loss="binary_cross_entropy")
    tags.class_labels = ["hot", "sweet", "sour"]
    with pytest.raises(ValueError, match="tells 3 classes apart"):
        tags.class_labels = ["no", "yes"]


def test_a_small_file_that_claims_a_large_network(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tensors, metadata = model.to_file(make_net().session.values())

    def built(*arguments: Any, **more: Any) -> None:
        raise AssertionError("a network is built")

    monkeypatch.setattr(fastbp.network.MLP, "__init__", built)
    for sizes in ([28000, 28000, 3], [4, 6, 5, 10**30], [2**62, 2**62], [4] * 100_000):
        model_files.save(path, tensors, metadata | {"sizes": sizes, "activations": ["relu"] * (len(sizes) - 2)})
        with pytest.raises(ValueError, match=r"model\.safetensors does not describe .*(ask for|is missing)"):
            fastbp.load(path)


def head(texts: Any = None, **tensors: Any) -> bytes:
    """The beginning of a safetensors file."""
    metadata = {} if texts is None else {"__metadata__": texts}
    return framed(json.dumps(metadata | tensors).encode())


def framed(text: bytes) -> bytes:
    return len(text).to_bytes(8, "little") + text


def entry(dtype: Any = "F32", shape: Any = (2,), offsets: Any = (0, 8)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


DEEP = b'{"a":' * 100_000
FILES: dict[str, bytes] = {
    "a long head": (1 << 62).to_bytes(8, "little") + b"{}",
    "nested": framed(DEEP + b"1" + b"}" * 100_000),
    "nested within": framed(b'{"w":' + b"[" * 900 + b"]" * 900 + b"}"),
    "no object": framed(b"[1]"),
    "a list of texts": head([1]),
    "texts that are numbers": head({"fastbp": 1}),
    "no description": head({}, w=5),
    "an unknown type": head({}, w=entry("F8_E4M3")) + bytes(8),
    "a type that is a list": head({}, w=entry(["F32"])) + bytes(8),
    "a shape that is a number": head({}, w=entry(shape=2)) + bytes(8),
    "a negative shape": head({}, w=entry(shape=[-1, -2])) + bytes(8),
    "a shape of truth": head({}, w=entry(shape=[True, 2])) + bytes(8),
    "a shape of fractions": head({}, w=entry(shape=[2.0])) + bytes(8),
    "a huge shape": head({}, w=entry(shape=[10**30, 0], offsets=[0, 0])),
    "a huge shape of nothing": head({}, w=entry(shape=[2**61, 2**61, 0], offsets=[0, 0])),
    "many dimensions": head({}, w=entry(shape=[1] * 100_000, offsets=[0, 4])) + bytes(4),
    "a hole": head({}, v=entry(), w=entry(offsets=[16, 24])) + bytes(24),
    "shared bytes": head({}, v=entry(), w=entry(offsets=[4, 12])) + bytes(12),
    "backwards": head({}, w=entry(offsets=[8, 0])) + bytes(8),
    "more bytes": head({}, w=entry()) + bytes(9),
    "twice the same name": framed(b'{"w":1,"w":2}'),
    "another truth": head({}, w=entry("BOOL", [2], [0, 2])) + b"\x00\x02",
    "no text": framed(b"\xff\xfe\x00"),
    "long digits": framed(b'{"w":' + b"9" * 5000 + b"}"),
    "half a checksum": head({"checksum": "0" * 32}, w=entry()) + bytes(8),
    "the other half": head({"checksum by": "blake2b"}, w=entry()) + bytes(8),
    "another checksum": head({"checksum": "0" * 32, "checksum by": "crc32"}, w=entry()) + bytes(8),
}


@pytest.mark.parametrize("case", FILES)
def test_what_is_no_such_file(case: str, path: Path) -> None:
    path.write_bytes(FILES[case])
    with pytest.raises(ValueError, match=r"model\.safetensors"):
        model_files.load(path)


DESCRIPTIONS: dict[str, dict[str, Any]] = {
    "nothing of the loss": {"loss": None},
    "a loss by number": {"loss": {"name": 5}},
    "a list of losses": {"loss": [["name"]]},
    "sizes in a mapping": {"sizes": {"4": 3}},
    "sizes of fractions": {"sizes": [4.0, 6.0, 5.0, 3.0]},
    "no sizes": {"sizes": None},
    "no activations": {"activations": None},
    "nested activations": {"activations": [["relu"], ["tanh"]]},
    "regularization in a list": {"regularization": [1]},
    "a seed in the regularization": {"regularization": {"seed": 5}},
    "a long dropout": {"regularization": {"dropout": [0.1] * 9}},
    "a huge seed": {"seed": 2**64},
    "a seed of text": {"seed": "1"},
    "an infinite dtype": {"dtype": float("inf")},
    "an initialiser in a list": {"init": ["he_normal"]},
    "no optimizer": {"optimizer": None},
    "an optimizer of numbers": {"optimizer": [1, 2]},
    "infinite steps": {"optimizer": {"layout": None, "steps": float("inf"), "epochs": 0, "moments": []}},
    "too many steps": {"optimizer": {"layout": None, "steps": 2**63, "epochs": 0, "moments": []}},
    "too many epochs": {"optimizer": {"layout": None, "steps": 1, "epochs": 2**40, "moments": []}},
    "steps before the first": {"optimizer": {"layout": None, "steps": -(2**63), "epochs": 0, "moments": []}},
    "fractions of steps": {"optimizer": {"layout": None, "steps": 1.5, "epochs": 0, "moments": []}},
    "no product": {
        "optimizer": {"layout": None, "steps": 1, "epochs": 0, "moments": [], "product": float("nan")}
    },
    "moments of nothing": {"optimizer": {"layout": ["adam", 2], "steps": 1, "epochs": 0, "moments": [None, 3]}},
    "an infinite layout": {"optimizer": {"layout": ["adam", float("inf")], "steps": 1, "epochs": 0, "moments": []}},
    "a tensor that is none": {"optimizer": {"tensor": ["weights.0"]}},
}  # fmt: skip


@pytest.mark.parametrize("case", DESCRIPTIONS)
def test_a_description_that_makes_no_sense(case: str, path: Path) -> None:
    tensors, metadata = model.to_file(make_net().session.values())
    for write in (model_files.save, old_file):
        write(path, tensors, metadata | DESCRIPTIONS[case])
        with pytest.raises(ValueError, match=r"model\.safetensors does not describe a network"):
            fastbp.load(path)


def test_a_description_nested_too_deeply(path: Path) -> None:
    tensors, metadata = model.to_file(make_net().session.values())
    text = json.dumps({"format": "fastbp", "version": 1, **metadata, "optimizer": 0})
    for depth in (500, 900, 100_000):
        nested = text[:-2] + "[" * depth + "]" * depth + "}"
        save_file({name: np.ascontiguousarray(one) for name, one in tensors.items()}, path, {"fastbp": nested})
        with pytest.raises(ValueError, match=r"model\.safetensors"):
            fastbp.load(path)


def test_equal_networks_make_equal_files(tmp_path: Path) -> None:
    net = fastbp.MLP([3, 8, 2], seed=0)
    net.fit(np.ones((4, 3)), np.array([0, 1, 0, 1]), epochs=1)
    for number in range(3):
        net.copy().save(tmp_path / f"{number}.safetensors")
    assert len({(tmp_path / f"{number}.safetensors").read_bytes() for number in range(3)}) == 1
