"""Flipped bits, cuts and lies in every file that fastbp reads: a ValueError that names the file, or a sane object.

Models, checkpoints (of arrays and of chunks) and journals, with their checksums and as earlier versions wrote them;
NPZ, CSV, Parquet, Arrow, and what `fastbp bench` writes. A case is made by its seed and number
alone, which a failure tells.
"""

from __future__ import annotations

import contextlib
import faulthandler
import gzip
import json
import re
import shutil
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from click.testing import CliRunner
from safetensors.numpy import save_file

import fastbp
from fastbp import MLP, Adam, TableModel, lr_sweep, schedules
from fastbp.bench import report
from fastbp.callbacks import Checkpoint, EarlyStopping, LayerStatistics, MaxSeconds
from fastbp.cli.main import main
from fastbp.data import tables
from fastbp.engine import tuning
from fastbp.io import model_files
from fastbp.io.faults import TableError
from fastbp.tables.prepared import Roles
from fastbp.training import checkpoints

HANG = 120  # seconds that one case may last before a traceback of all threads ends the process
ROOM = 2 << 30  # bytes that it may ask for
DATA = np.random.default_rng(0)
X, Y = DATA.standard_normal((53, 4)), np.arange(53) % 3
RATES = [1e-3, 1e-2, 1e-1]
NASTY = [
    None, True, False, 0, 1, -1, 2, 5, 0.5, -0.0, 1e999, -1e999, float("nan"), 1e300, 2**31, 2**53, 2**62, 2**63, 2**64,
    -(2**63), 10**30, 10**300, "", "x", "relu", "adam", "\x1b[31m", "=cmd", "\ud800", "9" * 5000, [], {}, [[]], [None],
    ["a", "b", "c"], {"tensor": "weights.0"}, {"tensor": "none"}, {"tensor": []}, {"name": "mse"}, [10**9] * 3, [[1]],
]  # fmt: skip


@dataclass
class Kind:
    """One kind of file.

    read: opens the file at a path and uses what it holds, to see that it is sane.
    checked: a checksum covers all of it, so that nothing that has changed may be taken.
    """

    name: str
    content: bytes
    read: Callable[[Path], None]
    checked: bool = False
    structured: bool = False  # safetensors, whose description can be rewritten


# --- files as they should be ----------------------------------------------------------------------------------


def network() -> MLP:
    net = MLP([4, 5, 3], seed=1, dropout=0.1)
    net.standardize(X)
    net.class_labels = ["ant", "bee", "cow"]
    return net


def callbacks(folder: Path, *more: Any) -> list[Any]:
    watching = [EarlyStopping("loss", 3), LayerStatistics(X, Y), Checkpoint(folder, every_seconds=1e-9, best="loss")]
    return [*watching, *more]


ARRAYS: dict[str, Any] = {
    "epochs": 3, "batch_size": 10, "optimizer": Adam(lr=0.05), "schedule": schedules.ReduceOnPlateau(),
    "validation_split": 0.2,
}  # fmt: skip
CHUNKS: dict[str, Any] = {"epochs": 3, "batch_size": 10}


def chunks() -> list[tuple[Any, Any]]:
    return [(X[:30], Y[:30]), (X[30:], Y[30:])]


@contextlib.contextmanager
def short_chunks() -> Iterator[None]:
    """Checkpoints come after every third step."""
    before = tuning.MAX_STEPS, tuning.FIRST_STEPS
    tuning.MAX_STEPS = tuning.FIRST_STEPS = 3
    try:
        yield
    finally:
        tuning.MAX_STEPS, tuning.FIRST_STEPS = before


class Pause(MaxSeconds):
    """Stops in the middle of the second epoch."""

    def on_pause(self, fit: Any, final: bool) -> None:
        if not final and not fit.history.stop_reason and len(fit.history.loss) == 1 and fit.feed.done:
            fit.stop("enough", pauses=True)


def written(folder: Path) -> dict[str, bytes]:
    """The content of a good file of each kind."""
    found: dict[str, bytes] = {}
    net = network()
    net.fit(X, Y, epochs=1)
    net.save(folder / "model.safetensors")
    found["model"] = (folder / "model.safetensors").read_bytes()
    with short_chunks():
        network().fit(X, Y, callbacks=callbacks(folder / "a", Pause(1e9)), **ARRAYS)
        network().fit(chunks(), callbacks=[Checkpoint(folder / "b", every_seconds=1e-9), Pause(1e9)], **CHUNKS)
    found["checkpoint"] = (folder / "a" / checkpoints.LAST).read_bytes()
    found["checkpoint of chunks"] = (folder / "b" / checkpoints.LAST).read_bytes()
    lr_sweep(network(), X, Y, RATES, seeds=2, epochs=2, journal=folder / "journal.jsonl")
    found["journal"] = (folder / "journal.jsonl").read_bytes()
    for name, save in (("npz", np.savez), ("npz deflated", np.savez_compressed)):
        save(folder / "data.npz", X=X, y=np.array(["ant", "bee", "cow"])[Y], X_test=X[:5], y_test=np.array(["ant"] * 5))
        found[name] = (folder / "data.npz").read_bytes()
    rows = [",".join([*(f"{one:.4g}" for one in row), "abc"[goal]]) for row, goal in zip(X, Y, strict=True)]
    found["csv"] = "\n".join(["p,q,r,s,goal", *rows, ""]).encode()
    frame = mixed()
    TableModel(seed=1, training={"epochs": 1}).fit(frame, "goal").save(folder / "table.safetensors")
    found["model of a table"] = (folder / "table.safetensors").read_bytes()
    frame.write_csv(folder / "mixed.csv", separator=";")
    frame.write_parquet(folder / "mixed.parquet")
    frame.write_ipc(folder / "mixed.arrow")
    for ending in ("csv", "parquet", "arrow"):
        found[f"table, {ending}"] = (folder / f"mixed.{ending}").read_bytes()
    found["table, gzip"] = gzip.compress(found["table, csv"])
    report.save(bench_document(), folder / "bench.json")
    found["bench"] = (folder / "bench.json").read_bytes()
    return found


def mixed() -> Any:
    """A table of all kinds of columns."""
    import datetime

    import polars as pl

    n = len(X)
    days = [datetime.date(2020, 1, 1) + datetime.timedelta(37 * k) for k in range(n)]
    town = [None if k % 11 == 0 else ("Aix", "Bonn, left", "Cork")[k % 3] for k in range(n)]
    half = [None if k % 7 == 0 else float(X[k, 0]) for k in range(n)]
    return pl.DataFrame(
        {"half": half, "whole": range(0, 3 * n, 3), "town": town, "flag": [k % 2 == 0 for k in range(n)], "day": days,
         "goal": ["abc"[one] for one in Y]}
    )  # fmt: skip


def bench_document() -> dict[str, Any]:
    from fastbp.bench.result import BenchResult, Block, Peak, RivalResult, Setting, WorkloadResult
    from fastbp.bench.workloads import WORKLOADS

    rival = RivalResult("fastbp", Setting(1), None, (), (Block(0.5, 1000),))
    entry = WorkloadResult(next(iter(WORKLOADS.values())), (rival,))
    return BenchResult("2026", {"processor": "x"}, {}, 1, {}, (Peak("float32", 1, 100.0),), (entry,)).to_document()


def without_checksum(content: bytes, folder: Path) -> bytes:
    """A model, checkpoint or journal as it was written before there were any."""
    if content.startswith(b"{"):
        return re.sub(rb', "checksum": "[0-9a-f]{16}"\}', b"}", content)
    path = folder / "old.safetensors"
    path.write_bytes(content)
    tensors, description = model_files.load(path)
    arrays = {name: np.ascontiguousarray(array) for name, array in tensors.items()}
    save_file(arrays, path, {"fastbp": json.dumps(description)})
    return path.read_bytes()


# --- and how they are read ----------------------------------------------------------------------------------


def read_model(path: Path) -> None:
    net = fastbp.load(path)
    assert net.class_labels is None or len(set(net.class_labels)) == 3
    try:
        assert net.predict(X).shape == (len(X),)
    except ValueError as error:  # these rows are far from means that have changed, which is a sane answer
        if "scaling" not in str(error):
            raise
    net.train_step(X, Y, "adam")
    if all(np.isfinite(array).all() for array in (*net.weights, *net.biases)):
        net.reset_optimizer()
        net.save(path.with_name("again"))
        fastbp.load(path.with_name("again"))


def read_checkpoint(path: Path) -> None:
    told = checkpoints.progress_of(path.parent)
    assert told is not None
    assert 0 <= told["epochs"] <= 3
    _resume(path, X, Y, callbacks=callbacks(path.parent), **ARRAYS)


def read_checkpoint_of_chunks(path: Path) -> None:
    _resume(path, chunks(), callbacks=[Checkpoint(path.parent)], **CHUNKS)


def _resume(path: Path, *data: Any, **options: Any) -> None:
    """Go on; a refused checkpoint has changed nothing."""
    net = network()
    before = [array.tobytes() for array in net.weights], net.seed
    try:
        net.fit(*data, resume=path.parent, **options)
    except fastbp.DivergenceError:  # of weights that are finite, but huge
        return
    except ValueError:
        assert net.history is not None or ([array.tobytes() for array in net.weights], net.seed) == before
        raise
    assert net.history is not None
    assert len(net.history.loss) <= 3


def read_journal(path: Path) -> None:
    found = lr_sweep(network(), X, Y, RATES, seeds=2, epochs=2, journal=path)
    assert found.val_loss.shape == (3, 2, 2)
    assert set(found.status.ravel().tolist()) <= {"finished", "diverged", "stopped"}


def read_npz(path: Path) -> None:
    table = tables.read_table(path)
    assert table.y is not None
    assert len(table.X) == len(table.y)
    tables.class_labels(table.y, table.y_test)


def read_csv(path: Path) -> None:
    table = tables.read_table(path, "goal")
    assert table.y is not None
    assert len(table.X) == len(table.y)
    assert np.isfinite(table.X).all()


def read_table(path: Path) -> None:
    """As a user would train on it: what is odd may be asked for, or be another table."""
    model = TableModel(seed=1, training={"epochs": 1})
    ready = model.prepare(path, Roles(("goal",)))
    assert np.isfinite(ready.train.X).all()


def read_table_model(path: Path) -> None:
    model = TableModel.load(path)
    try:
        assert len(model.predict(mixed())) == len(X)
    except TableError:  # its columns are other ones now
        return
    except ValueError as error:
        if "is not finite" not in str(error) and "beyond" not in str(error) and " is nan" not in str(error):
            raise


def read_bench(path: Path) -> None:
    report.load(path)


READERS: dict[str, tuple[str, Callable[[Path], None]]] = {
    "model": ("model.safetensors", read_model),
    "checkpoint": (checkpoints.LAST, read_checkpoint),
    "checkpoint of chunks": (checkpoints.LAST, read_checkpoint_of_chunks),
    "journal": ("journal.jsonl", read_journal),
    "npz": ("data.npz", read_npz),
    "npz deflated": ("data.npz", read_npz),
    "csv": ("data.csv", read_csv),
    "model of a table": ("table.safetensors", read_table_model),
    "table, csv": ("mixed.csv", read_table),
    "table, gzip": ("mixed.csv.gz", read_table),
    "table, parquet": ("mixed.parquet", read_table),
    "table, arrow": ("mixed.arrow", read_table),
    "bench": ("bench.json", read_bench),
}


# --- damage -------------------------------------------------------------------------------------------------


def damaged(content: bytes, other: bytes, rng: np.random.Generator) -> tuple[str, bytes]:
    """What was done, and what came of it."""
    place, length = int(rng.integers(len(content))), int(min(rng.geometric(0.05), 300))
    end = min(place + length, len(content))
    kind = int(rng.integers(9))
    if kind <= 2:
        return "bits", _flipped(content, rng, 1 if kind < 2 else int(rng.integers(2, 20)))
    if kind == 3:
        return "cut", content[:place]
    if kind == 4:
        return "deleted", content[:place] + content[end:]
    if kind == 5:
        return "overwritten", content[:place] + [bytes(end - place), b"\xff" * (end - place), rng.bytes(end - place)][
            int(rng.integers(3))
        ] + content[end:]
    if kind == 6:
        return "repeated", content[:end] + content[place:]
    if kind == 7:
        start = int(rng.integers(max(1, len(other) - length)))
        return "spliced", content[:place] + other[start : start + length] + content[end:]
    numbers = list(re.finditer(rb"[0-9]+", content))
    chosen = numbers[int(rng.integers(len(numbers)))]
    new = str(NASTY[int(rng.integers(3, 22))]).encode()
    return "renumbered", content[: chosen.start()] + new + content[chosen.end() :]


def _flipped(content: bytes, rng: np.random.Generator, n: int) -> bytes:
    found = bytearray(content)
    for place in rng.choice(len(found), min(n, len(found)), replace=False):
        found[place] ^= 1 << int(rng.integers(8))
    return bytes(found)


def lied(content: bytes, path: Path, rng: np.random.Generator) -> tuple[str, bytes]:
    """A safetensors file with a right checksum, whose description or arrays are wrong in one place."""
    path.write_bytes(content)
    tensors, description = model_files.load(path)
    if rng.random() < 0.3:
        name = list(tensors)[int(rng.integers(len(tensors)))]
        array = tensors[name]
        tensors[name] = [
            array.reshape(-1)[:-1], array.reshape(1, -1), array.astype(np.float16), array.astype(np.int64), -array,
            np.zeros(()), np.zeros((0, 3)), array > 0, array.astype(np.complex64), array * np.nan, array * 1e30,
        ][int(rng.integers(11))]  # fmt: skip
        what = f"array {name}"
    else:
        what = _lie(description, rng)
    for name in ("format", "version"):
        description.pop(name, None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model_files.save(path, tensors, description)
    return f"lie about {what}", path.read_bytes()


def _lie(value: Any, rng: np.random.Generator) -> str:
    """Change one place of a nest of lists and dictionaries; returns which."""
    keys: list[Any] = list(value) if isinstance(value, dict) else list(range(len(value)))
    key = keys[int(rng.integers(len(keys)))]
    inner = value[key]
    if isinstance(inner, dict | list) and inner and rng.random() < 0.85:
        return f"{key}.{_lie(inner, rng)}"
    if rng.random() < 0.2:
        del value[key]
        return f"{key}, gone"
    value[key] = NASTY[int(rng.integers(len(NASTY)))]
    return f"{key}, now {value[key]!r:.40}"


# --- the attack ---------------------------------------------------------------------------------------------


def run(seconds: float, seed: int) -> dict[str, int]:
    """Damage files one after the other; raises where one is taken that should not, or sets anything else off."""
    counts: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as name, warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        kinds = _kinds(Path(name))
        with _little_memory():
            end, number = time.monotonic() + seconds, 0
            while time.monotonic() < end or number < 2 * len(kinds):
                _one(kinds, Path(name) / "case", seed, number, counts)
                number += 1
    return dict(counts)


def _kinds(folder: Path) -> list[Kind]:
    """All kinds, each read once as it should be."""
    found = []
    for name, content in written(folder).items():
        read = READERS[name][1]
        sums = name in ("model", "model of a table", "checkpoint", "checkpoint of chunks", "journal")
        found.append(Kind(name, content, read, checked=sums, structured=sums and name != "journal"))
        if sums:
            found.append(Kind(f"{name}, old", without_checksum(content, folder), read))
    for kind in found:
        path = _place(kind, folder / "whole")
        path.write_bytes(kind.content)
        kind.read(path)
    return found


def _place(kind: Kind, folder: Path) -> Path:
    """Where the reader looks for it: an empty folder, and a name in it."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return folder / READERS[kind.name.removesuffix(", old")][0]


def _one(kinds: list[Kind], folder: Path, seed: int, number: int, counts: Counter[str]) -> None:
    """One case."""
    rng = np.random.default_rng([seed, number])
    kind, other = kinds[number % len(kinds)], kinds[int(rng.integers(len(kinds)))]
    path = _place(kind, folder)
    lies = kind.structured and rng.random() < 0.5
    what, content = lied(kind.content, path, rng) if lies else damaged(kind.content, other.content, rng)
    if content == kind.content:
        return
    path.write_bytes(content)
    faulthandler.dump_traceback_later(HANG, exit=True)
    try:
        refused = _refused(kind, path)
        if number % 10 == 0:
            counts["commands"] += _commands(kind, path, content)
    except BaseException:
        kept = Path(tempfile.mkdtemp()) / path.name
        kept.write_bytes(content)
        print(f"case {number} of seed {seed}: {kind.name}, {what}; the file is kept as {kept}", flush=True)
        raise
    finally:
        faulthandler.cancel_dump_traceback_later()
    counts["files"] += 1
    counts["refused" if refused else "taken"] += 1
    # The line of a journal that has no end is one that was being written: it is left out, and told.
    torn = kind.name == "journal" and content[: content.rfind(b"\n") + 1] == kind.content[: content.rfind(b"\n") + 1]
    lines = kind.name == "journal" and set(content.splitlines()) <= set(kind.content.splitlines())
    if kind.checked and not lies and not refused and not torn and not lines:
        kept = Path(tempfile.mkdtemp()) / path.name
        kept.write_bytes(content)
        raise AssertionError(f"case {number} of seed {seed}: {kind.name}, {what}: taken, in {kept}")


def _refused(kind: Kind, path: Path) -> bool:
    try:
        kind.read(path)
    except ValueError as error:
        if str(path) not in str(error) and "is not the one that the training was interrupted in" not in str(error):
            raise AssertionError("the file is not named") from error
        return True
    return False


def _commands(kind: Kind, path: Path, content: bytes) -> int:
    """The command line on a damaged model or table: an exit code, and at most one line that says why."""
    good = path.with_name("good")
    good.mkdir()
    if kind.name.startswith("model"):
        np.savez(good / "data.npz", X=X)
        words = ["predict", str(path), str(good / "data.npz"), "--proba"]
    elif path.suffix in (".npz", ".csv", ".gz", ".parquet", ".arrow"):
        words = [
            "train",
            str(path),
            "--epochs",
            "1",
            "--hidden",
            "4",
            *(["--target", "goal"] * (path.suffix != ".npz")),
        ]
    else:
        return 0
    path.write_bytes(content)
    done = CliRunner().invoke(main, words)
    assert done.exit_code in (0, 1, 2), done
    first, *faults = done.stderr.splitlines() or [""]  # several faults of a table have a line each
    assert done.exit_code != 1 or (first.startswith("fastbp: ") and all(one[:2] == "  " for one in faults)), done.stderr
    assert not done.stderr.startswith("fastbp: unexpected"), done.stderr
    assert "\x1b" not in done.stdout
    return 1


@contextlib.contextmanager
def _little_memory() -> Iterator[None]:
    """No case may ask for much: what would fill the machine is a MemoryError here."""
    try:
        import resource

        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    except (ImportError, OSError):
        yield
        return
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + ROOM, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
