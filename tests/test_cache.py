"""Compiled code: one specialisation a dtype, never stale, never a crash from a damaged or unwritable folder."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pytest
from optimizer_cases import ONE_A_RULE
from processes import FOLDERS, ROWS, python, succeed

import fastbp
from fastbp import MLP, optimizers
from fastbp.activations import ACTIVATIONS
from fastbp.kernels import cache, jit, simd
from fastbp.kernels.run import run
from fastbp.losses import LOSSES

# --- specialisations


def counts() -> dict[str, int]:
    return {leaf.name: len(leaf.dispatcher.overloads) for leaf in jit.leaves_of(run)}


def inputs(X: Any, folder: Path) -> Iterator[Any]:
    """One table in every form that a user may hand in."""
    for dtype in ("float32", "float64", "float16", "uint8", "int8", "int64", "bool", ">f4", "longdouble"):
        yield X.astype(dtype)
    yield np.asfortranarray(X)
    yield np.repeat(X, 2, axis=0)[::2]
    yield np.repeat(X, 3, axis=1)[:, ::3]
    yield X[::-1, ::-1]
    read_only = X.astype(np.float32)
    read_only.flags.writeable = False
    yield read_only
    X.astype(np.float32).tofile(folder / "X")
    yield np.memmap(folder / "X", np.float32, "r", shape=X.shape)
    yield X.tolist()
    unaligned = np.frombuffer(b"\0" + X.astype(np.float64).tobytes(), np.uint8)[1:].view(np.float64)
    yield unaligned.reshape(X.shape)


def test_one_specialisation_a_dtype(tmp_path: Path) -> None:
    """Whatever is handed in, and whatever the network: nothing is compiled after the first network of a dtype."""
    X = np.random.default_rng(0).integers(0, 2, (30, 4)).astype(float)
    for dtype in ("float32", "float64"):
        for samples in inputs(X, tmp_path):
            net = MLP([4, 3, 2], dtype=dtype, seed=0)
            for labels in (np.arange(30) % 2, (np.arange(30) % 2).astype(np.uint8), np.eye(2)[np.arange(30) % 2]):
                net.fit(samples, labels, epochs=1)
                net.train_step(samples, labels, "adam")
            net.backprop(samples, labels)
            net.predict(samples)
        for activation in ACTIVATIONS:
            for loss, kind in LOSSES.items():
                output = None if kind.linked else activation
                net = MLP([4, 5, 2], activation=activation, output_activation=output, loss=loss, dtype=dtype, seed=0)
                net.fit(X, np.arange(30) % 2 if kind.target == "classes" else X[:, :2], epochs=1)
        for optimizer in ONE_A_RULE:
            net = MLP([4, 3, 2], dtype=dtype, seed=0)
            net.fit(X, np.arange(30) % 2, epochs=1, optimizer=optimizer, validation_split=0.2, threads=2)
            optimizers.get(optimizer).update(net, net.backprop(X, np.arange(30) % 2))
            net.backprop(X, output_gradient=X[:, :2])
    assert counts() == dict.fromkeys(counts(), 2)


EVENTS = """
import sys, numpy as np, fastbp
from numba.core import event
class Count(event.Listener):
    def __init__(self): self.seen = []
    def on_start(self, e): self.seen.append(str(e.data.get("dispatcher")))
    def on_end(self, e): pass
compiled = Count()
event.register("numba:compile", compiled)
def use(sizes, **options):
    net = fastbp.MLP(sizes, seed=0, **options)
    X = np.random.default_rng(0).random((40, sizes[0]))
    y = np.arange(40) % 2 if net.loss.target == "classes" else X[:, :1]
    net.fit(X, y, epochs=2, validation_data=(X, y), threads=2)
    net.backprop(X, y); net.predict(X)
if sys.argv[1] == "cached":
    use([64, 64, 10])
    assert not compiled.seen, compiled.seen
else:
    fastbp.warmup()  # fills the cache, if need be
    compiled.seen.clear()
use([3, 300, 2], activation="gelu", dtype="float64")
use([9, 8, 7, 6, 5, 4, 1], activation="tanh", loss="mse", output_activation="softplus")
assert not compiled.seen, compiled.seen
from numba import njit
njit(lambda x: x + 1)(1)
assert compiled.seen, "the listener is deaf"
"""


@pytest.mark.parametrize("state", ["warmed up", "cached"])
def test_another_network_compiles_nothing(state: str) -> None:
    """Not even in a new process, once the cache is filled; the first call there compiles nothing either."""
    fastbp.warmup()
    succeed(EVENTS, state)


# --- the fingerprint

KERNELS = Path(cache.__file__).parent


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of the package that may be edited."""
    shutil.copytree(KERNELS.parent, tmp_path / "fastbp", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def fingerprint(kernels: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(cache, "__file__", str(kernels / "cache.py"))
    return cache.fingerprint.__wrapped__()


def test_an_edit_of_any_kernel_file_changes_the_fingerprint(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kernels = checkout / "fastbp" / "kernels"
    files = sorted(kernels.glob("*.py"))
    assert {"simd.py", "tile.py", "jit.py", "cache.py"} <= {file.name for file in files}
    seen = {fingerprint(kernels, monkeypatch)}
    assert seen == {cache.fingerprint()}
    for number, file in enumerate(files, 1):
        before = file.read_bytes()
        file.write_bytes(before.replace(b"1", b"2", 1) if b"1" in before else before + b"#")
        seen.add(fingerprint(kernels, monkeypatch))
        file.write_bytes(before)
        assert len(seen) == number + 1, f"{file.name} is not part of the fingerprint"
    (kernels / "new.py").write_text("")
    assert fingerprint(kernels, monkeypatch) not in seen


def test_the_fingerprint_is_the_same_in_every_process() -> None:
    code = "from fastbp.kernels import cache; print(cache.fingerprint())"
    assert succeed(code, PYTHONHASHSEED="7").strip() == cache.fingerprint()
    assert succeed(code, NUMBA_CPU_NAME="generic").strip() != cache.fingerprint()


@pytest.mark.parametrize(
    ("name", "value"), [("CPU_NAME", "generic"), ("CPU_FEATURES", "+sse2"), ("OPT", 1), ("LOOP_VECTORIZE", 0)]
)
def test_settings_of_numba_change_the_fingerprint(name: str, value: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numba.config, name, value)
    assert cache.fingerprint.__wrapped__() != cache.fingerprint()


TARGET_OF_NUMBA = """
from fastbp.kernels import cache
from numba.core.registry import cpu_target
codegen = cpu_target.target_context.codegen()
print(cache.cpu_name_and_features() == (codegen._get_host_cpu_name(), codegen._get_host_cpu_features()))
"""


@pytest.mark.parametrize(
    "settings", [{}, *ROWS.values(), {"NUMBA_CPU_NAME": "haswell"}, {"NUMBA_CPU_FEATURES": "+sse2"}], ids=str
)
def test_the_row_is_chosen_by_what_numba_compiles_for(settings: dict[str, str]) -> None:
    """A name alone brings no features of its own: the code would not be what the fingerprint says."""
    assert succeed(TARGET_OF_NUMBA, **settings) == "True\n"


# --- the files: with one small leaf, `probe.peak`, that compiles in a second

PROBE = """
import warnings
from fastbp.kernels import cache, probe
warnings.simplefilter("always")
with warnings.catch_warnings(record=True) as caught:
    print(probe.fma_peak(seconds=0.001) > 0)
    print(probe.fma_peak("float64", seconds=0.001) > 0)
print(cache.cache_folder())
for warning in caught:
    print("warning:", warning.message)
"""


def peak(folder: Path) -> tuple[list[str], Path]:
    """Run the probe in a new process; returns its warnings, and the folder that it used."""
    truth, other, used, *said = succeed(PROBE, FASTBP_CACHE_DIR=str(folder)).splitlines()
    assert truth == other == "True"
    return said, Path(used)


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cache")
    said, used = peak(folder)
    assert not said
    assert used == folder / cache.fingerprint()
    assert len(list(used.glob("*.bin"))) == 2
    return folder


@pytest.fixture
def folder(filled: Path, tmp_path: Path) -> Path:
    shutil.copytree(filled, tmp_path / "cache")
    return tmp_path / "cache"


def test_a_good_cache_is_read_and_left_alone(folder: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*.bin")}
    assert peak(folder)[0] == []
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*.bin")} == before


@pytest.mark.parametrize("damage", ["truncated", "empty", "flipped bit"])
def test_a_damaged_file_is_compiled_anew_with_one_warning(damage: str, folder: Path) -> None:
    path = min(folder.rglob("*.bin"))
    good = path.read_bytes()
    flipped = bytearray(good)
    flipped[len(good) // 2] ^= 1
    path.write_bytes({"truncated": good[:-100], "empty": b"", "flipped bit": bytes(flipped)}[damage])
    said, _ = peak(folder)
    assert len(said) == 1
    assert f"{path} is damaged: it is compiled anew" in said[0]
    assert path.stat().st_size > 1000
    assert peak(folder)[0] == []


def test_a_folder_that_cannot_be_written_costs_one_warning(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("a file where a folder should be: not even root can write there")
    said, used = peak(blocked)
    assert len(said) == 1
    assert str(blocked) in said[0]
    assert "FASTBP_CACHE_DIR" in said[0]
    assert blocked not in used.parents


def test_a_read_only_folder_is_used_if_it_is_filled(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in an image where `fastbp warmup` ran: no warning, no new compile."""

    def refuse(**_: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(cache.tempfile, "TemporaryFile", refuse)
    monkeypatch.setenv("FASTBP_CACHE_DIR", str(folder))
    assert cache.cache_folder.__wrapped__() == folder / cache.fingerprint()
    shutil.rmtree(folder)
    with pytest.warns(RuntimeWarning, match="Read-only file system.*FASTBP_CACHE_DIR"):
        assert folder not in cache.cache_folder.__wrapped__().parents


def test_a_file_that_cannot_be_written_costs_one_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Result:
        def _reduce(self) -> tuple[()]:
            return ()

    class Signature:
        name = "float32"

    monkeypatch.setattr(cache, "cache_folder", lambda: tmp_path / "gone")
    with pytest.warns(RuntimeWarning, match="could not be written") as caught:
        cache.KernelCache("f").save_overload((Signature,), Result())
    assert len(caught) == 1
    monkeypatch.setattr(cache, "cache_folder", lambda: tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cache.KernelCache("f").save_overload((Signature,), Result())
    assert [path.name for path in tmp_path.iterdir()] == ["f-float32.bin"], "a temporary file was left behind"


def test_two_processes_at_once(tmp_path: Path) -> None:
    """Both compile, both work, and what they leave is whole."""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(FOLDERS), "FASTBP_CACHE_DIR": str(tmp_path)}
    both = [
        subprocess.Popen([sys.executable, "-P", "-c", PROBE], env=env, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    for process in both:
        out, _ = process.communicate(timeout=120)
        assert process.returncode == 0
        assert out.splitlines()[:2] == ["True", "True"]
        assert "warning" not in out
    assert peak(tmp_path)[0] == []
    assert sorted(path.suffix for path in tmp_path.rglob("*") if path.is_file()) == [".bin", ".bin"]


# --- another CPU

GENERIC = """
import numpy as np, fastbp
from fastbp.kernels import simd
print(simd.TARGET.name)
X, y = np.random.default_rng(0).standard_normal((90, 7)), np.arange(90) % 3
X[np.arange(90), y] += 3
net = fastbp.MLP([7, 19, 3], activation="tanh", seed=0)
twin = fastbp.reference.NumpyMLP([7, 19, 3], activation="tanh", seed=0)
ours = net.fit(X, y, epochs=12, batch_size=16, threads=2, shuffle=False).loss
np.testing.assert_allclose(ours, twin.fit(X, y, epochs=12, batch_size=16, shuffle=False).loss, rtol=2e-4)
np.testing.assert_allclose(net.forward(X), twin.forward(X), rtol=1e-3, atol=1e-4)
other = fastbp.MLP([7, 19, 3], activation="tanh", seed=0)
assert other.fit(X, y, epochs=12, batch_size=16, threads=1, shuffle=False).loss == ours
assert net.evaluate(X, y)["accuracy"] > 0.8
"""


@pytest.mark.parametrize(
    "row",
    [
        "generic",
        pytest.param(
            "avx2", marks=pytest.mark.skipif(not simd.TARGET.vector_bytes >= 32, reason="needs a CPU with AVX2")
        ),
    ],
)
def test_the_rows_of_the_tile_table_for_lesser_cpus(row: str, tmp_path: Path) -> None:
    """On a CPU with AVX-512, the row of AVX2 too. Slow: all of float32 is compiled."""
    done = python(GENERIC, FASTBP_CACHE_DIR=str(tmp_path), timeout=600, **ROWS[row])
    assert done.returncode == 0, done.stderr[-4000:]
    assert done.stdout.strip() == row
