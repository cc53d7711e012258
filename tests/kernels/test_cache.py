"""Compiled code: one specialisation a dtype, never stale, never a crash from a damaged or unwritable folder."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numba import from_dtype, types
from oracles import COSTS, ONE_A_RULE
from processes import FOLDERS, ROWS, python, succeed

import fastbp
from fastbp import MLP, optimizers
from fastbp.activations import ACTIVATIONS
from fastbp.kernels import build, cache, targets
from fastbp.kernels.run import run

# --- specialisations


def counts() -> dict[str, int]:
    return {leaf.name: len(leaf.dispatcher.overloads) for leaf in build.leaves_of(run)}


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
        MLP([4, 3, 2], dtype=dtype, seed=0).fit(X, np.arange(30) % 2, epochs=1)
    first = counts()
    assert min(first.values()) >= 2  # other tests may have called leaves in ways of their own
    for dtype in ("float32", "float64"):
        for samples in inputs(X, tmp_path):
            net = MLP([4, 3, 2], dtype=dtype, seed=0)
            for labels in (np.arange(30) % 2, (np.arange(30) % 2).astype(np.uint8), np.eye(2)[np.arange(30) % 2]):
                net.fit(samples, labels, epochs=1)
                net.train_step(samples, labels, "adam")
            net.backprop(samples, labels)
            net.predict(samples)
        for activation in ACTIVATIONS:
            for cost in COSTS:
                output = None if cost.loss.linked else activation
                net = MLP(
                    [4, 5, 2], activation=activation, output_activation=output, loss=cost.loss, dtype=dtype, seed=0
                )
                net.fit(X, cost.draw(30, 2), epochs=1)
        for optimizer in ONE_A_RULE:
            net = MLP([4, 3, 2], dtype=dtype, seed=0)
            net.fit(X, np.arange(30) % 2, epochs=1, optimizer=optimizer, validation_split=0.2, threads=2)
            optimizers.get(optimizer).update(net, net.backprop(X, np.arange(30) % 2))
            net.backprop(X, output_gradient=X[:, :2])
    assert counts() == first


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


# --- the files: with one small leaf, `probe.peak`, that compiles in a second

PROBE = """
import os, sys, warnings
os.umask(int(sys.argv[1], 8))
if sys.argv[2]:
    exec(sys.argv[2])
from fastbp.kernels import cache, probe
warnings.simplefilter("always")
with warnings.catch_warnings(record=True) as caught:
    print(probe.fma_peak(seconds=0.001) > 0)
    print(probe.fma_peak("float64", seconds=0.001) > 0)
print(cache.cache_folder(), cache.writable_folder())
for warning in caught:
    print("warning:", warning.message)
"""


def peak(folder: Path | str, *, umask: int = 0o022, before: str = "", **env: str) -> tuple[list[str], list[Path]]:
    """Run the probe in a new process; returns its warnings, and the folders that it read and wrote."""
    truth, other, used, *said = succeed(
        PROBE, oct(umask), before, **{"FASTBP_CACHE_DIR": str(folder), **env}
    ).splitlines()
    assert truth == other == "True"
    return said, [Path(one) for one in used.split()]


def contents(folder: Path) -> dict[str, bytes]:
    """Path below the folder -> bytes, of every file, whole or not."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cache")
    said, used = peak(folder)
    assert not said
    assert used == [folder / cache.fingerprint()] * 2
    assert len(contents(folder)) == 2
    return folder


@pytest.fixture
def folder(filled: Path, tmp_path: Path) -> Path:
    shutil.copytree(filled, tmp_path / "cache")
    return tmp_path / "cache"


def code_of(folder: Path, dtype: str) -> Path:
    return folder / cache.fingerprint() / f"fma_probe-{dtype}.bin"


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


def test_a_file_under_the_name_of_another_is_none(folder: Path) -> None:
    """Of another type, of another leaf, of another build: whole, but not what its name says."""
    single, double = code_of(folder, "float32"), code_of(folder, "float64")
    shutil.copyfile(double, single)
    said, _ = peak(folder)
    assert len(said) == 1
    assert f"{single} is damaged" in said[0]
    tick = single.with_name("tick_probe-float32.bin")
    shutil.copyfile(single, tick)
    before = "from fastbp.kernels import probe; print(probe.read_ticks() > 0, file=sys.stderr)"
    done = python(PROBE, "022", before, FASTBP_CACHE_DIR=str(folder))
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[-1] == "True"
    assert f"{tick} is damaged" in done.stderr
    other = single.parent.rename(folder / "0123456789")
    peak(folder, NUMBA_OPT="1")
    for path in other.glob("fma*"):  # by a hand that moved the files of an older build
        target = next(one for one in folder.iterdir() if one != other) / path.name
        shutil.copyfile(path, target)
    assert len(peak(folder, NUMBA_OPT="1")[0]) == 2


def test_the_checksum_covers_the_layout_of_records() -> None:
    records = [np.dtype([("n", "i8"), ("m", kind)], align=True) for kind in ("i8", "u8", "i4")]
    records.append(np.dtype([("m", "i8"), ("n", "i8")]))
    signatures = [(from_dtype(record), types.float32) for record in records]
    signatures += [(types.Array(one, 1, "C"), tag) for one, tag in signatures]
    found = {(name, cache.KernelCache(name)._checksum(one, b"code")) for name in ("f", "g") for one in signatures}
    assert len({checksum for _, checksum in found}) == 2 * len(signatures)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes on this system")
@pytest.mark.parametrize("kind", ["fifo", "endless"])
def test_a_name_that_is_no_file_does_not_hang(kind: str, folder: Path) -> None:
    for path in list(folder.rglob("*.bin")):
        path.unlink()
        os.mkfifo(path) if kind == "fifo" else path.symlink_to("/dev/zero")
    assert peak(folder)[0] == []
    assert all(path.is_file() and not path.is_symlink() for path in folder.rglob("*.bin"))
    assert len(contents(folder)) == 2


@pytest.mark.skipif(os.name != "posix", reason="no umask")
@pytest.mark.parametrize("umask", [0o022, 0o027, 0o077, 0o002])
def test_others_may_read_what_the_umask_grants(umask: int, tmp_path: Path) -> None:
    """As after `fastbp warmup` by root, for the users of an image."""
    peak(tmp_path / "cache", umask=umask)
    paths = [tmp_path / "cache", *(tmp_path / "cache").rglob("*")]
    assert {stat.S_IMODE(path.stat().st_mode) for path in paths if path.is_file()} == {0o666 & ~umask}
    assert {stat.S_IMODE(path.stat().st_mode) for path in paths if path.is_dir()} == {0o777 & ~umask}


# --- where it is, and where nothing can be written

NO_HOME = """
import pwd
os.environ.pop("HOME", None)
def nobody(number): raise KeyError(number)
pwd.getpwuid = nobody
"""
READ_ONLY = """
import errno, tempfile
def refuse(**_): raise OSError(errno.EROFS, "Read-only file system")
tempfile.TemporaryFile = refuse
"""


@pytest.fixture
def temporary(tmp_path: Path) -> Path:
    """A folder for temporary files, of its own."""
    (tmp_path / "tmp").mkdir()
    return tmp_path / "tmp"


@pytest.mark.parametrize("value", ["~/x", "~", "deep/x"])
def test_the_folder_of_the_environment(value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("FASTBP_CACHE_DIR", value)
    expected = tmp_path / value.replace("~", "home")
    assert cache.user_cache_folder() == expected
    monkeypatch.delenv("FASTBP_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", value)
    if sys.platform == "linux":
        assert cache.user_cache_folder() == expected / "fastbp"
        monkeypatch.delenv("XDG_CACHE_HOME")
        assert cache.user_cache_folder() == tmp_path / "home" / ".cache" / "fastbp"


def test_no_home(temporary: Path) -> None:
    """In a container, a user with a number that is no one's."""
    said, used = peak("", before=NO_HOME, TMPDIR=str(temporary), XDG_CACHE_HOME="")
    assert len(said) == 1
    assert "home directory" in said[0]
    assert "FASTBP_CACHE_DIR" in said[0]
    assert all(temporary in folder.parents for folder in used)
    assert not any(temporary.iterdir()), "left behind"
    assert peak(temporary / "x", before=NO_HOME)[0] == []


TOGETHER = """
import threading, time, warnings
from fastbp.kernels import cache
def slow():  # so that all threads are in it
    gate.wait()
    raise RuntimeError("no home")
gate = threading.Barrier(4)
cache.user_cache_folder = slow
threads = [threading.Thread(target=lambda: found.append(cache.cache_folder())) for _ in range(4)]
found = []
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    for thread in threads: thread.start()
    for thread in threads: thread.join()
print(len(set(found)), len(caught))
"""


def test_threads_share_one_temporary_folder(temporary: Path) -> None:
    assert succeed(TOGETHER, TMPDIR=str(temporary)).split() == ["1", "1"]
    assert not any(temporary.iterdir()), "left behind"


def test_a_folder_that_cannot_be_written_costs_one_warning(tmp_path: Path, temporary: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("a file where a folder should be: not even root can write there")
    said, (_, used) = peak(blocked, TMPDIR=str(temporary))
    assert len(said) == 1
    assert str(blocked) in said[0]
    assert "FASTBP_CACHE_DIR" in said[0]
    assert temporary in used.parents
    assert not any(temporary.iterdir()), "left behind"


def test_nowhere_to_write_at_all(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    nowhere = "import tempfile\ndef refuse(**_): raise FileNotFoundError('no usable folder')\ntempfile.mkdtemp = refuse"
    said, used = peak(blocked, before=nowhere)
    assert len(said) == 1
    assert used[1] == Path("None")


def test_a_read_only_folder_is_used(folder: Path, temporary: Path) -> None:
    """As in an image where `fastbp warmup` ran: no warning, no new compile; but for what is missing there."""
    before = contents(folder)
    code = "from fastbp.kernels import cache, probe; probe.fma_peak(seconds=0.001); print(len(cache._temporary))"
    alone = f"import os\n{READ_ONLY}\n{code}"
    assert succeed(alone, FASTBP_CACHE_DIR=str(folder), TMPDIR=str(temporary)).strip() == "0"
    code_of(folder, "float64").unlink()
    said, (read, written) = peak(folder, before=READ_ONLY, TMPDIR=str(temporary))
    assert len(said) == 1
    assert "Read-only file system" in said[0]
    assert read == folder / cache.fingerprint()
    assert temporary in written.parents
    assert set(before) - set(contents(folder)) == {str(code_of(folder, "float64").relative_to(folder))}
    assert not any(temporary.iterdir()), "left behind"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_child_leaves_the_temporary_folder_to_its_parent(tmp_path: Path, temporary: Path) -> None:
    code = """
import os, sys, warnings
warnings.simplefilter("ignore")
from fastbp.kernels import cache, probe
probe.fma_peak(seconds=0.001)
child = os.fork()
if not child:
    sys.exit()  # with all that is done at exit
os.waitpid(child, 0)
print(len(list(cache.writable_folder().glob("*.bin"))))
"""
    (tmp_path / "file").write_text("")
    assert succeed(code, FASTBP_CACHE_DIR=str(tmp_path / "file"), TMPDIR=str(temporary)).strip() == "1"
    assert not any(temporary.iterdir()), "left behind"


FULL = """
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))  # a longer file is an error, as on a full disk
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no limits of processes")
def test_a_full_disk_costs_one_warning_and_leaves_nothing(tmp_path: Path) -> None:
    said, used = peak(tmp_path, before=FULL)
    assert len(said) == 1
    assert f"could not be written to {used[0]} (File too large)" in said[0]
    assert contents(tmp_path) == {}


def test_a_folder_in_the_place_of_a_file(folder: Path) -> None:
    path = code_of(folder, "float32")
    path.unlink()
    path.mkdir()
    said, _ = peak(folder)
    assert len(said) == 1
    assert "could not be written" in said[0]
    assert len(contents(folder)) == 1


def test_a_folder_that_vanishes_is_made_again(tmp_path: Path) -> None:
    before = "import shutil; from fastbp.kernels import cache; shutil.rmtree(cache.writable_folder())"
    assert peak(tmp_path, before=before)[0] == []
    assert len(contents(tmp_path)) == 2


def test_two_processes_at_once(tmp_path: Path) -> None:
    """Both compile, both work, and what they leave is whole."""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(FOLDERS), "FASTBP_CACHE_DIR": str(tmp_path)}
    both = [
        subprocess.Popen([sys.executable, "-P", "-c", PROBE, "022", ""], env=env, stdout=subprocess.PIPE, text=True)
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
from fastbp.kernels import targets
print(targets.TARGET.name)
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
            "avx2", marks=pytest.mark.skipif(not targets.TARGET.vector_bytes >= 32, reason="needs a CPU with AVX2")
        ),
    ],
)
def test_the_rows_of_the_tile_table_for_lesser_cpus(row: str, tmp_path: Path) -> None:
    """On a CPU with AVX-512, the row of AVX2 too. Slow: all of float32 is compiled."""
    done = python(GENERIC, FASTBP_CACHE_DIR=str(tmp_path), timeout=600, **ROWS[row])
    assert done.returncode == 0, done.stderr[-4000:]
    assert done.stdout.strip() == row
