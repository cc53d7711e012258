"""Files that are no files, disks that are full, file systems that can less: every writer, and every reader."""

from __future__ import annotations

import contextlib
import errno
import io
import json
import os
import stat
import struct
import sys
import threading
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from processes import python

import fastbp
from fastbp import MLP, History, LayerStatistics, lr_range_test, lr_stability, lr_sweep
from fastbp.bench import report
from fastbp.cli.main import main
from fastbp.data import tables
from fastbp.io import files

posix = pytest.mark.skipif(os.name != "posix", reason="devices, pipes and limits of POSIX")
linux = pytest.mark.skipif(sys.platform != "linux", reason="devices of Linux")

RNG = np.random.default_rng(1)
X, Y = RNG.standard_normal((60, 4)), np.arange(60) % 3


def net() -> MLP:
    return MLP([4, 5, 3], seed=0)


def looked_into() -> LayerStatistics:
    found = LayerStatistics(X, Y)
    net().fit(X, Y, epochs=1, callbacks=[found])
    return found


def results() -> dict[str, Any]:
    history = net().fit(X, Y, epochs=2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of the edge of so short a sweep
        sweep = lr_sweep(net(), X, Y, [1e-3, 1e-2, 1e-1], seeds=1, epochs=1)
    return {
        "history": history, "sweep": sweep, "layers": looked_into(),
        "range": lr_range_test(net(), X, Y, n_steps=20, seeds=1), "stability": lr_stability(net(), X, Y),
    }  # fmt: skip


@pytest.fixture(scope="module")
def made() -> dict[str, Any]:
    return results()


# Whatever writes a file: the ending it wants, and a call.
WRITERS: dict[str, tuple[str, Callable[[dict[str, Any], Path], Any]]] = {
    "model": (".safetensors", lambda made, path: net().save(path)),
    "history.csv": (".csv", lambda made, path: made["history"].to_csv(path)),
    "history.json": (".json", lambda made, path: made["history"].to_json(path)),
    "history.png": (".png", lambda made, path: made["history"].plot(path)),
    "layers.csv": (".csv", lambda made, path: made["layers"].to_csv(path)),
    "sweep.csv": (".csv", lambda made, path: made["sweep"].to_csv(path)),
    "sweep.json": (".json", lambda made, path: made["sweep"].to_json(path)),
    "sweep.svg": (".svg", lambda made, path: made["sweep"].plot(path)),
    "sweep.html": (".html", lambda made, path: made["sweep"].report(path)),
    "range.csv": (".csv", lambda made, path: made["range"].to_csv(path)),
    "range.pdf": (".pdf", lambda made, path: made["range"].plot(path)),
    "stability.json": (".json", lambda made, path: made["stability"].to_json(path)),
    "stability.png": (".png", lambda made, path: made["stability"].plot(path)),
    "predictions.csv": (".csv", lambda made, path: tables.write_predictions(path, {"p": X[:, 0]}, {})),
    "predictions.npz": (".npz", lambda made, path: tables.write_predictions(path, {}, {"p": X})),
    "bench.json": (".json", lambda made, path: report.save({"kind": "fastbp-bench", "notes": ["x"] * 2000}, path)),
}


@contextlib.contextmanager
def read_from(pipe: Path, into: bytearray) -> Iterator[None]:
    """What comes through a pipe while the block runs."""

    def drain() -> None:
        with open(pipe, "rb") as file:
            into.extend(file.read())

    reader = threading.Thread(target=drain, daemon=True)
    reader.start()
    yield
    if not stat.S_ISFIFO(os.stat(pipe).st_mode):
        return  # it has been replaced, and the reader waits for ever
    with contextlib.suppress(OSError):  # or the reader waits where nobody has written
        os.close(os.open(pipe, os.O_WRONLY | os.O_NONBLOCK))
    reader.join(60)
    assert not reader.is_alive()


@contextlib.contextmanager
def written_to(pipe: Path, content: bytes) -> Iterator[None]:
    """A pipe that somebody writes some bytes into, once, while the block runs."""

    def fill() -> None:
        with contextlib.suppress(BrokenPipeError), open(pipe, "wb") as file:
            file.write(content)

    threading.Thread(target=fill, daemon=True).start()
    yield


def device(folder: Path, name: str, numbers: tuple[int, int]) -> Path:
    """A device of our own; a link to the system's own only for users who could not put a file in its place."""
    path = folder / name
    if os.getuid():
        path.symlink_to(f"/dev/{name}")
        return path
    try:
        os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(*numbers))
        with open(path, "wb"):
            pass
    except OSError:
        pytest.skip("no device can be made here")
    return path


# --- what is no file, as a place to write to


@posix
@pytest.mark.parametrize("linked", [False, True])
@pytest.mark.parametrize("name", WRITERS)
def test_a_pipe_stays_one(name: str, linked: bool, made: dict[str, Any], tmp_path: Path) -> None:
    ending, write = WRITERS[name]
    path = pipe = tmp_path / f"pipe{ending}"
    os.mkfifo(pipe)
    if linked:
        path = tmp_path / f"link{ending}"
        path.symlink_to(pipe.name)
    content = bytearray()
    with read_from(pipe, content):
        write(made, path)
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert len(content) > 20
    assert path.is_symlink() == linked
    assert {one.name for one in tmp_path.iterdir()} == {path.name, pipe.name}


@linux
@pytest.mark.parametrize("name", WRITERS)
def test_a_device_stays_one_and_a_full_one_is_named(name: str, made: dict[str, Any], tmp_path: Path) -> None:
    ending, write = WRITERS[name]
    null, full = device(tmp_path, "null", (1, 3)), device(tmp_path, "full", (1, 7))
    for path in (null, full):
        (tmp_path / f"{path.name}{ending}").symlink_to(path.name)
    write(made, tmp_path / f"null{ending}")
    with pytest.raises(OSError, match="No space left on device") as caught:
        write(made, tmp_path / f"full{ending}")
    assert caught.value.errno == errno.ENOSPC
    assert caught.value.filename == str(tmp_path / f"full{ending}")
    assert stat.S_ISCHR(null.stat().st_mode)
    assert stat.S_ISCHR(full.stat().st_mode)


@linux
def test_the_command_line_writes_to_devices(tmp_path: Path) -> None:
    null = device(tmp_path, "null", (1, 3))
    before = null.stat().st_rdev
    done = CliRunner().invoke(main, ["train", "--epochs", "1", "--compare", "none", "--out", str(null)])
    assert done.exit_code == 0, done.output
    (tmp_path / "link.csv").symlink_to("null")
    words = ["sweep", "--lr", "0.01,0.1", "--seeds", "1", "--epochs", "1", "--hidden", "4"]
    done = CliRunner().invoke(main, [*words, "--csv", str(tmp_path / "link.csv")])
    assert done.exit_code == 0, done.output
    assert (null.stat().st_rdev, stat.S_ISCHR(null.stat().st_mode)) == (before, True)
    full = device(tmp_path, "full", (1, 7))
    done = CliRunner().invoke(main, ["train", "--epochs", "1", "--compare", "none", "--out", str(full)])
    assert done.exit_code == 1
    assert done.stderr == f"fastbp: {full}: No space left on device; make room there\n"
    code = "import sys; from fastbp.cli.main import main; sys.stdout = open(sys.argv[1], 'w'); main(['info', '--json'])"
    said = python(code, full)
    assert said.returncode
    assert "fastbp: standard output: No space left on device" in said.stderr


@linux
def test_a_disk_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "disk"
    os.mkfifo(path)
    monkeypatch.setattr(stat, "S_ISBLK", lambda mode: True)
    with pytest.raises(OSError, match="disk, whose content would be lost"):
        net().save(path)


@posix
def test_a_journal_is_a_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "journal")
    with pytest.raises(ValueError, match="journal is a device or a pipe"):
        lr_sweep(net(), X, Y, [0.1], seeds=1, epochs=1, journal=tmp_path / "journal")


@posix
def test_a_checkpoint_is_a_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "last.safetensors")
    with pytest.raises(ValueError, match=r"last\.safetensors is a device or a pipe"):
        net().fit(X, Y, callbacks=[fastbp.Checkpoint(tmp_path)])


# --- what a system can refuse


@posix
@pytest.mark.parametrize("name", [*WRITERS, "journal", "checkpoint"])
def test_what_could_not_be_written_is_named(name: str, made: dict[str, Any], tmp_path: Path) -> None:
    import resource

    others: dict[str, tuple[str, Callable[[dict[str, Any], Path], Any]]] = {
        "journal": (
            ".jsonl",
            lambda made, path: lr_sweep(net(), X, Y, np.geomspace(1e-3, 1, 9), seeds=1, epochs=1, journal=path),
        ),
        "checkpoint": (
            ".safetensors",
            lambda made, path: (
                MLP([4, 99, 3]).fit(X, Y, epochs=1, callbacks=[saving := fastbp.Checkpoint(path.parent)]),
                _raise(saving.error),
            ),
        ),
    }
    ending, write = (WRITERS | others)[name]
    path = tmp_path / ("last.safetensors" if name == "checkpoint" else f"file{ending}")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    most = 1500 if name in ("checkpoint", "journal") else 30
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, before[1]))
    try:
        context: Any = pytest.warns(RuntimeWarning) if name == "checkpoint" else contextlib.nullcontext()
        with context, pytest.raises(OSError, match="File too large") as caught:
            write(made, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert caught.value.filename == str(path)
    assert [one.name for one in tmp_path.iterdir()] == [path.name] * (name == "journal")


def _raise(error: BaseException | None) -> None:
    if error is not None:
        raise error


@posix
@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP, errno.ENOSYS])
def test_a_folder_without_fsync(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fsync = os.fsync

    def refusing(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(number, os.strerror(number))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", refusing)
    net().save(tmp_path / "net.safetensors")
    assert fastbp.load(tmp_path / "net.safetensors").sizes == (4, 5, 3)
    number = errno.EIO
    with pytest.raises(OSError, match="Input/output error"):
        net().save(tmp_path / "net.safetensors")


def test_a_file_system_without_permissions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    net().save(tmp_path / "net.safetensors")

    def refusing(*arguments: object, **more: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "chmod", refusing)
    net().save(tmp_path / "net.safetensors")


@posix
def test_what_replaces_a_private_file_is_never_public(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    path.chmod(0o400)  # not even to be written to
    with files.replacing(path) as file:
        modes = [stat.S_IMODE(one.stat().st_mode) for one in tmp_path.iterdir()]
        file.write("new")
    assert modes == [0o400, 0o400]
    assert (path.read_text(), stat.S_IMODE(path.stat().st_mode)) == ("new", 0o400)


def test_the_longest_name(tmp_path: Path) -> None:
    path = tmp_path / f"{'ä' * 121}.safetensors"  # 254 bytes
    net().save(path)
    assert [one.name for one in tmp_path.iterdir()] == [path.name]


def test_a_picture_without_an_ending_is_a_png(tmp_path: Path) -> None:
    history = History("accuracy", loss=[1.0], lr=[0.1], seconds=[1.0])
    history.plot(tmp_path / "picture")
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(ValueError, match="nonsense"):
        history.plot(tmp_path / "picture.nonsense")
    assert [one.name for one in tmp_path.iterdir()] == ["picture.png"]


# --- what is no file, as a place to read from


@posix
@pytest.mark.parametrize("ending", [".csv", ".npz"])
def test_data_through_a_pipe(ending: str, tmp_path: Path) -> None:
    whole, pipe = tmp_path / f"data{ending}", tmp_path / f"pipe{ending}"
    os.mkfifo(pipe)
    options = []
    if ending == ".npz":
        np.savez(whole, X=X, y=Y)
    else:
        rows = [",".join([*map(str, row), "abc"[goal]]) for row, goal in zip(X, Y, strict=True)]
        whole.write_text("\n".join(["p,q,r,s,goal", *rows, ""]))
        options = ["--target", "goal"]
    words = ["--epochs", "2", "--json", *options]
    with written_to(pipe, whole.read_bytes()):
        through = CliRunner().invoke(main, ["train", str(pipe), *words])
    assert through.exit_code == 0, through.output
    expected = CliRunner().invoke(main, ["train", str(whole), *words])
    losses = [json.loads(one.stdout)["train_loss"] for one in (through, expected)]
    assert losses[0] == losses[1]


@posix
def test_a_model_through_a_pipe(tmp_path: Path) -> None:
    first = net()
    first.save(tmp_path / "net.safetensors")
    os.mkfifo(tmp_path / "pipe")
    with written_to(tmp_path / "pipe", (tmp_path / "net.safetensors").read_bytes()):
        second = fastbp.load(tmp_path / "pipe")
    np.testing.assert_array_equal(first.predict(X), second.predict(X))


@posix
def test_a_pipe_that_never_ends_is_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "pipe.csv")
    monkeypatch.setattr(files, "memory", lambda: 5 << 20)
    with written_to(tmp_path / "pipe.csv", bytes(64 << 20)), pytest.raises(ValueError, match=r"pipe\.csv brings more"):
        tables.read_table(tmp_path / "pipe.csv", "y")


@linux
@pytest.mark.parametrize("name", ["zero", "null"])
def test_devices_are_no_input(name: str, tmp_path: Path) -> None:
    for ending, read in ((".csv", tables.read_table), (".npz", tables.read_table), (".safetensors", fastbp.load)):
        path = tmp_path / f"{name}{ending}"
        path.symlink_to(f"/dev/{name}")
        with pytest.raises(ValueError, match="is a device"):
            read(path)  # type: ignore[operator]


# --- archives


def zipped(path: Path, header: bytes, data: bytes, compression: int = zipfile.ZIP_STORED) -> Path:
    """An NPZ file whose X has such a header."""
    head = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("X.npy", head + data)
    return path


def described(shape: str, dtype: str = "<f8") -> bytes:
    return f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}\n".encode()


@pytest.mark.parametrize(
    ("header", "says"),
    [
        (described("(1000000000, 100)"), "but 8 bytes are there"),
        (described("(-1,)"), "but 8 bytes are there"),
        (described("(10000000000000,)", "<U0"), "but 8 bytes are there"),
        (described("(1,)", "|O"), "Python objects"),
        (b"{'descr': '<f8', 'shape': (1,", "array X is damaged: TokenError"),
        (b"{'descr': '''", ""),
        (b"(" * 5000, ""),
        (b"-" * 9000 + b"1", ""),
        (b"\xff\xfe", ""),
        (b"{'descr': [[[[]]]], 'fortran_order': False, 'shape': (1,), }\n", ""),
    ],
)  # fmt: skip
def test_an_array_that_is_not_what_it_says(header: bytes, says: str, tmp_path: Path) -> None:
    path = zipped(tmp_path / "data.npz", header, bytes(8))
    with pytest.raises(ValueError, match=rf"data\.npz cannot be read: .*{says}"):
        tables.read_table(path, needs_y=False)


def test_an_archive_larger_than_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """300 kB that are 300 MB; and what the files module says of this machine is no nonsense."""
    assert 1 << 20 < files.memory() <= sys.maxsize
    shape = (37_500_000,)
    path = zipped(tmp_path / "data.npz", described(str(shape)), bytes(8 * shape[0]), zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 1 << 20
    monkeypatch.setattr(files, "memory", lambda: 100_000_000)
    with pytest.raises(ValueError, match=r"data\.npz cannot be read: its arrays unpack to 0\.3 GB, but 0\.1 GB"):
        tables.read_table(path, needs_y=False)


def test_a_damaged_archive(tmp_path: Path) -> None:
    path = zipped(tmp_path / "data.npz", described("(1000,)"), RNG.bytes(8000), zipfile.ZIP_DEFLATED)
    whole = path.read_bytes()
    for place in range(0, len(whole) - 200, 101):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1 :])
        with contextlib.suppress(ValueError):  # what nobody reads, such as the date, may be wrong
            np.testing.assert_array_equal(tables.read_table(path, needs_y=False).X.tobytes(), whole_array(whole))
            continue
        with pytest.raises(ValueError, match=r"data\.npz cannot be read"):
            tables.read_table(path, needs_y=False)


def whole_array(content: bytes) -> bytes:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return archive.read("X.npy")[-8000:]


@pytest.mark.parametrize("compression", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_an_archive_that_numpy_does_not_write(compression: int, tmp_path: Path) -> None:
    """Their decompressors take what the file says that they need, before they have seen any of it."""
    path = zipped(tmp_path / "data.npz", described("(1000,)"), RNG.bytes(8000), compression)
    for damage in (False, True):
        content = bytearray(path.read_bytes())
        content[60] ^= 0x55 * damage
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"data\.npz cannot be read: array X is packed as numpy\.savez"):
            tables.read_table(path, needs_y=False)


@pytest.mark.parametrize("y", [np.array([b"ant", b"bee"]), np.array(["ant", "bee"])])
def test_names_in_an_archive(y: Any, tmp_path: Path) -> None:
    np.savez(tmp_path / "data.npz", X=X[:2], y=y)
    found = tables.read_table(tmp_path / "data.npz").y
    assert found is not None
    assert found.tolist() == ["ant", "bee"]
    np.savez(tmp_path / "data.npz", X=X[:2], y=np.array([0xD800, 65], np.uint32).view("U1"))
    with pytest.raises(ValueError, match=r"data\.npz cannot be read: array y holds names that are no text"):
        tables.read_table(tmp_path / "data.npz")


def test_arrays_by_column_and_of_a_later_header(tmp_path: Path) -> None:
    for array in (np.asfortranarray(X), X[:, ::2], np.zeros((0, 4)), np.array(3.0), X.astype(">f4")):
        np.savez_compressed(tmp_path / "data.npz", X=array)
        found = tables.read_table(tmp_path / "data.npz", needs_y=False).X
        np.testing.assert_array_equal(found, array)
        assert found.shape == array.shape
    with zipfile.ZipFile(tmp_path / "data.npz", "w") as archive, archive.open("X.npy", "w") as file:
        np.lib.format.write_array(file, X, version=(2, 0))
    np.testing.assert_array_equal(tables.read_table(tmp_path / "data.npz", needs_y=False).X, X)


# --- tables of text


def test_a_cell_too_long_for_the_reader_is_placed(tmp_path: Path) -> None:
    path = tmp_path / "data.csv"
    path.write_text("a,b,goal\n1,2,x\n1," + "z" * 140_000 + ",y\n")
    with pytest.raises(ValueError, match=r"data\.csv, line 3: column 'b' is 'z{79}, but") as caught:
        tables.read_table(path, "goal")
    assert len(str(caught.value)) < 400
    path.write_text("a," + "z" * 140_000 + ",goal\n1,2,x\n")
    with pytest.raises(ValueError, match=r"data\.csv, line 1: field larger"):
        tables.read_table(path, "goal")


def test_a_long_name_does_not_widen_all_others(tmp_path: Path) -> None:
    """One name of 100,000 letters among 100,000 of one would take 40 GB as an array of names."""
    path = tmp_path / "data.csv"
    path.write_text("a,goal\n" + "1,x\n" * 100_000 + "1," + "y" * 100_000 + "\n")
    with pytest.raises(ValueError, match=r"data\.csv: target 'goal' has 100,000 characters in row 100001"):
        tables.read_table(path, "goal")


def test_a_wide_header_is_read_in_no_time(tmp_path: Path) -> None:
    path, n = tmp_path / "data.csv", 200_000  # comparing each with each would take an hour
    path.write_text(",".join(f"c{k}" for k in range(n)) + "\n" + ",".join(["1"] * n) + "\n")
    assert tables.read_table(path, "c7").X.shape == (1, n - 1)


# --- what stands in a file, on its way to a terminal or a spreadsheet


def test_no_escape_sequence_reaches_the_terminal(tmp_path: Path) -> None:
    path = tmp_path / "data.npz"
    np.savez(path, X=X[:30], y=np.array(["ant", "b\x1b[31mee", "cow"])[Y[:30]])
    done = CliRunner().invoke(main, ["train", str(path), "--epochs", "1"])
    assert done.exit_code == 1
    assert "class_labels[1]" in done.stderr
    assert "\x1b" not in done.output
    np.savez(path, X=X[:30], y=np.array(["ant", "bee", "cow"])[Y[:30]])
    model = tmp_path / "net.safetensors"
    assert CliRunner().invoke(main, ["train", str(path), "--epochs", "1", "--out", str(model)]).exit_code == 0
    np.savez(path, X=X[:30], y=np.array(["ant", "\x1b[31mbee", "cow"])[Y[:30]])
    done = CliRunner().invoke(main, ["evaluate", str(model), str(path)])
    assert done.exit_code == 1
    assert r"\x1b[31mbee" in done.stderr
    assert "\x1b" not in done.output


def test_no_formula_reaches_a_spreadsheet(tmp_path: Path) -> None:
    labels = np.array(["=cmd|' /C calc'!A0", "-5", "+"])
    tables.write_predictions(tmp_path / "p.csv", {"p": labels, "n": np.array([-1.5, 2, 3]), "k": np.arange(-1, 2)}, {})
    lines = (tmp_path / "p.csv").read_text().splitlines()
    assert lines == ["p,n,k", "'=cmd|' /C calc'!A0,-1.5,-1", "-5,2.0,0", "+,3.0,1"]
