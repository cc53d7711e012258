"""A training that was stopped anywhere goes on to the same bits; what is no checkpoint of it is refused."""

from __future__ import annotations

import json
import os
import shutil
import signal
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

import fastbp
from fastbp import MLP, SGD, Adam, schedules
from fastbp.callbacks import Checkpoint, EarlyStopping, LayerStatistics, MaxSeconds
from fastbp.callbacks.base import EpochState, Watcher
from fastbp.engine import tuning
from fastbp.io import model_files
from fastbp.training import checkpoints

RNG = np.random.default_rng(4)
X = RNG.standard_normal((103, 6))
Y = RNG.integers(0, 3, 103)


def bits(net: MLP) -> Any:
    """All that a training leaves, but for durations."""
    optimizer, history = net.optimizer_state(), net.history
    assert history is not None
    moments = [array.tobytes() for m in optimizer.pop("moments") for part in m.values() for array in part]
    arrays = [array.tobytes() for array in [*net.weights, *net.biases]]
    columns = {name: values for name, values in history.columns().items() if name != "seconds"}
    return arrays, moments, optimizer, columns, len(history.seconds), history.stop_reason, net.seed


class Copies(Watcher):
    """Keeps every checkpoint that was ever the last."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.n = folder, 0

    def on_epoch_end(self, state: EpochState) -> None:
        pass

    def on_pause(self, fit: Any, final: bool) -> None:
        shutil.copy(self.folder / "last.safetensors", self.folder.parent / f"{self.n:04d}.safetensors")
        self.n += 1


CASES: dict[str, Callable[[], dict[str, Any]]] = {
    "plain": lambda: {"epochs": 4},
    "in order": lambda: {"epochs": 3, "shuffle": False, "optimizer": SGD(lr=0.1, momentum=0.9)},
    "one cycle": lambda: {"epochs": 4, "schedule": schedules.OneCycle(4), "optimizer": SGD(lr=0.1, momentum=0.9)},
    "function": lambda: {"epochs": 3, "schedule": lambda step: 0.01 / (1 + step)},
    "validation": lambda: {
        "epochs": 6,
        "validation_split": 0.2,
        "schedule": schedules.ReduceOnPlateau(0.5, patience=0, monitor="val_loss"),
        "optimizer": Adam(lr=0.05),
    },
    "plateau after a warm-up": lambda: {
        "epochs": 6,
        "validation_split": 0.2,
        "schedule": schedules.Warmup(1.5, schedules.ReduceOnPlateau(0.5, patience=0, monitor="val_loss")),
        "optimizer": Adam(lr=0.05),
    },
    "function after a warm-up": lambda: {
        "epochs": 3,
        "schedule": schedules.Warmup(1, lambda step: 0.01 / (1 + step)),
    },
    "early stopping": lambda: {
        "epochs": 40,
        "validation_data": (X[:30], Y[:30][::-1]),
        "callbacks": [EarlyStopping(patience=3)],
        "optimizer": Adam(lr=0.05),
    },
    "noise": lambda: {"epochs": 3, "network": {"dropout": 0.4, "input_noise": 0.2, "l1": 1e-3, "max_norm": 2.0}},
    "weights": lambda: {"epochs": 3, "class_weight": "balanced", "sample_weight": np.linspace(0.1, 2.0, 103)},
    "NAdam": lambda: {"epochs": 3, "optimizer": "nadam"},
    "factors by layer": lambda: {"epochs": 3, "optimizer": Adam(lr=0.05, lr_scale={"weights": [0.5, 2], "biases": 0})},
    "clipped": lambda: {"epochs": 3, "optimizer": Adam(lr=0.05, clip_norm=0.1)},
}


def make(seed: int = 5, **options: Any) -> MLP:
    return MLP([6, 8, 3], seed=seed, **options)


@pytest.mark.parametrize("case", CASES)
def test_goes_on_from_anywhere(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From every checkpoint of a training that writes one after every chunk of three steps."""
    network = CASES[case]().get("network", {})

    def options() -> dict[str, Any]:
        return {name: value for name, value in CASES[case]().items() if name != "network"}

    whole = make(**network)
    whole.fit(X, Y, batch_size=10, **options())
    monkeypatch.setattr(tuning, "MAX_STEPS", 3)
    monkeypatch.setattr(tuning, "FIRST_STEPS", 3)
    watched, folder, given = make(**network), tmp_path / "run", options()
    given["callbacks"] = [*given.get("callbacks", []), Checkpoint(folder, every_seconds=1e-9), Copies(folder)]
    watched.fit(X, Y, batch_size=10, **given)
    assert bits(watched) == bits(whole)
    monkeypatch.undo()
    files = sorted(tmp_path.glob("*.safetensors"))
    assert len(files) > 8
    places = {checkpoints.find(path, []).fit["position"]["done"] for path in files}  # type: ignore[union-attr]
    assert any(done % 11 for done in places)
    for path in files:
        resumed = make(seed=99, **network)  # whose weights and seed must not matter
        resumed.fit(X, Y, batch_size=10, threads=1, resume=path, **options())
        assert bits(resumed) == bits(whole), path


def test_ctrl_c_writes_a_checkpoint_and_the_same_call_goes_on(tmp_path: Path) -> None:
    class Interrupt:
        def __init__(self, epoch: int) -> None:
            self.epoch = epoch

        def on_epoch_end(self, state: EpochState) -> None:
            if state.epoch == self.epoch:
                signal.raise_signal(signal.SIGINT)

    whole = make()
    whole.fit(X, Y, epochs=5)
    saving = Checkpoint(tmp_path / "run", every_seconds=None, every_epochs=1)
    with pytest.raises(KeyboardInterrupt):
        make().fit(X, Y, epochs=5, callbacks=[saving, Interrupt(3)], resume=tmp_path / "run")
    assert checkpoints.progress_of(tmp_path / "run") == {"epochs": 2, "finished": False}  # the third was not finished
    net = make(seed=1)
    net.fit(X, Y, epochs=5, callbacks=[saving], resume=tmp_path / "run")
    assert bits(net) == bits(whole)


@pytest.mark.parametrize("warmup", [0, 1.5])
@pytest.mark.parametrize("chunks", [False, True])
@pytest.mark.parametrize("epoch", [1, 3, 5])
def test_ctrl_c_during_validation(
    epoch: int, chunks: bool, warmup: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The epoch is done, its validation is not: that comes after resuming."""
    samples: Any = ([(X, Y), (X, Y)],) if chunks else (X, Y)
    plateau = schedules.ReduceOnPlateau(0.5, patience=0, monitor="val_loss")

    def options() -> dict[str, Any]:
        return {
            "epochs": 5, "validation_data": (X[:30], Y[:30]), "optimizer": Adam(lr=0.05),
            "schedule": schedules.Warmup(warmup, plateau) if warmup else plateau,
            "steps_per_epoch": 8 if chunks else None,
            "callbacks": [Checkpoint(tmp_path, every_seconds=None, best="val_loss"), EarlyStopping(patience=9)],
        }  # fmt: skip

    whole = make()
    whole.fit(*samples, **options())
    best = (tmp_path / "best.safetensors").read_bytes()
    for path in tmp_path.iterdir():
        path.unlink()
    net = make()
    evaluate = net.session.evaluate

    def interrupted(*args: Any, **more: Any) -> Any:
        if len(net.history.val_loss) == epoch - 1:  # type: ignore[union-attr]
            signal.raise_signal(signal.SIGINT)
        return evaluate(*args, **more)

    with monkeypatch.context() as patch:
        patch.setattr(net.session, "evaluate", interrupted)
        with pytest.raises(KeyboardInterrupt):
            net.fit(*samples, **options())
    assert checkpoints.progress_of(tmp_path) == {"epochs": epoch, "finished": False}
    resumed = make(seed=1)
    resumed.fit(*samples, resume=tmp_path, **options())
    assert bits(resumed) == bits(whole)
    one, other = (model_files.load(path)[0] for path in (tmp_path / "best.safetensors", _written(tmp_path, best)))
    weights = [name for name in one if name.startswith("weights")]
    assert all((one[name] == other[name]).all() for name in weights)


def _written(folder: Path, content: bytes) -> Path:
    path = folder / "expected.safetensors"
    path.write_bytes(content)
    return path


CTRL_C = """
import os, signal, sys, numpy as np, fastbp
from fastbp.callbacks import Checkpoint, Watcher
class Interrupt(Watcher):
    sent = False
    def on_epoch_end(self, state): pass
    def on_pause(self, fit, final):  # in the middle of the second epoch or a later one
        if not self.sent and fit.history.loss and not fit.between_epochs:
            self.sent = True
            os.kill(os.getpid(), signal.SIGINT)
rng = np.random.default_rng(0)
X, y = rng.standard_normal((20000, 64), np.float32), rng.integers(0, 10, 20000)
fastbp.MLP([2, 2])  # loads what follows
tuning = sys.modules["fastbp.engine.tuning"]
tuning.MAX_STEPS = tuning.FIRST_STEPS = 100  # an epoch of 625 steps takes several chunks
net = fastbp.MLP([64, 256, 10], seed=1)
try:
    net.fit(X, y, epochs=1000, callbacks=[Checkpoint(sys.argv[1], every_seconds=None), Interrupt()])
except KeyboardInterrupt:
    pass
found = fastbp.training.checkpoints.find(sys.argv[1], [])
done = found.fit["position"]["done"]
whole, resumed = fastbp.MLP([64, 256, 10], seed=1), fastbp.MLP([64, 256, 10], seed=1)
epochs = done // 625 + 1
whole.fit(X, y, epochs=epochs)
resumed.fit(X, y, epochs=epochs, resume=sys.argv[1])
assert whole.history.loss == resumed.history.loss
assert all((a == b).all() for a, b in zip(whole.weights, resumed.weights))
print(done % 625)
"""


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_ctrl_c_within_an_epoch(tmp_path: Path) -> None:
    from processes import succeed

    assert int(succeed(CTRL_C, tmp_path / "run")) > 0


def test_max_seconds_pauses_and_early_stopping_ends(tmp_path: Path) -> None:
    def run(net: MLP, callbacks: list[Any], **more: Any) -> MLP:
        net.fit(X, Y[::-1], epochs=300, validation_split=0.3, optimizer=Adam(lr=0.02), callbacks=callbacks, **more)
        return net

    whole = run(make(), [EarlyStopping(patience=40)])
    assert whole.history is not None
    assert whole.history.stop_reason.startswith("EarlyStopping")
    runs, folder = 0, tmp_path / "run"
    while (checkpoints.progress_of(folder) or {"finished": False})["finished"] is False:
        saving = Checkpoint(folder, every_seconds=None)
        net = run(make(), [MaxSeconds(1e-6), saving, EarlyStopping(patience=40)], resume=folder)
        runs += 1
    assert runs == len(whole.history.loss)  # every one stopped after an epoch
    assert bits(net) == bits(whole)
    again = run(make(seed=3), [EarlyStopping(patience=40)], resume=folder)  # nothing is left to do
    assert bits(again) == bits(whole)


def test_more_epochs_go_on_and_fewer_are_refused(tmp_path: Path) -> None:
    whole = make()
    whole.fit(X, Y, epochs=7)
    make().fit(X, Y, epochs=4, callbacks=[Checkpoint(tmp_path)])
    net = make()
    net.fit(X, Y, epochs=7, resume=tmp_path)
    assert bits(net) == bits(whole)
    with pytest.raises(ValueError, match="epochs=3, but the checkpoint has had 4 of them"):
        net.fit(X, Y, epochs=3, resume=str(tmp_path))


def test_a_fit_after_others_goes_on_too(tmp_path: Path) -> None:
    whole, net = make(), make()
    for one, more in ((whole, {}), (net, {"callbacks": [Checkpoint(tmp_path)]})):
        one.fit(X[:50], Y[:50], epochs=2)
        one.fit(X, Y, epochs=3, **more)
    other = make()
    other.fit(X[:50], Y[:50], epochs=2)
    other.fit(X, Y, epochs=6, resume=tmp_path)
    whole.fit(X, Y, epochs=3)
    assert [a.tobytes() for a in other.weights] == [a.tobytes() for a in whole.weights]


def test_the_files(tmp_path: Path) -> None:
    net = make()
    saving = Checkpoint(tmp_path / "a" / "b", every_seconds=None, every_epochs=2, best="val_loss", keep=2)
    net.fit(X, Y, epochs=9, validation_split=0.3, optimizer=Adam(lr=0.1), callbacks=[saving])
    names = {path.name for path in Path(saving.folder).iterdir()}
    assert names == {"last.safetensors", "best.safetensors", "epoch-000006.safetensors", "epoch-000008.safetensors"}
    best = fastbp.load(Path(saving.folder) / "best.safetensors")
    assert net.history is not None
    epoch = int(np.argmin(net.history.val_loss)) + 1
    twin = make()
    twin.fit(X, Y, epochs=epoch, validation_split=0.3, optimizer=Adam(lr=0.1))
    assert [a.tobytes() for a in best.weights] == [a.tobytes() for a in twin.weights]
    third = make()
    third.fit(
        X, Y, epochs=9, validation_split=0.3, optimizer=Adam(lr=0.1), resume=saving.folder / "epoch-000006.safetensors"
    )
    assert bits(third) == bits(net)


OTHERS: dict[str, dict[str, Any]] = {
    "batch_size were 32, now 16": {"batch_size": 16},
    "optimizer were": {"optimizer": Adam(lr=0.5)},
    "optimizer were.*LrScale": {"optimizer": Adam(lr_scale={"biases": 0.1})},
    "schedule were": {"schedule": schedules.Cosine(5)},
    "shuffle were True, now False": {"shuffle": False},
    "the data differ": {"X": X + 1e-9},
    "rows were 103, now 102": {"X": X[:-1], "y": Y[:-1]},
    "validation data differ": {"validation_split": 0.1, "rows": 0},
    "callbacks were": {"callbacks": [EarlyStopping("loss")]},
    "sizes were": {"net": MLP([6, 9, 3])},
    "dtype were 'float32', now 'float64'": {"net": MLP([6, 8, 3], dtype="float64")},
}


@pytest.mark.parametrize("says", OTHERS)
def test_another_training_is_refused(says: str, tmp_path: Path) -> None:
    make().fit(X, Y, epochs=2, callbacks=[Checkpoint(tmp_path)])
    options = {"X": X, "y": Y, "net": make(1), "epochs": 4} | OTHERS[says]
    if options.pop("rows", 1) == 0:
        says = "were"  # the rows to train on are fewer, and named first
    net = options.pop("net")
    before = [a.tobytes() for a in net.weights]
    with pytest.raises(ValueError, match=rf"is of another training: .*{says}.*fastbp\.load"):
        net.fit(options.pop("X"), options.pop("y"), resume=tmp_path, **options)
    assert [a.tobytes() for a in net.weights] == before
    assert net.history is None


SAME: dict[str, list[dict[str, Any]]] = {
    "optimizer": [
        {"optimizer": SGD(lr)}
        for lr in (1, 1.0, np.float64(1), np.float32(1))  # type: ignore[arg-type]
    ],
    "betas": [{"optimizer": Adam(betas=betas)} for betas in ((0.9, 0.999), (np.float64(0.9), 0.999))],
    "single": [{"optimizer": SGD(lr)} for lr in (np.float32(0.1), float(np.float32(0.1)))],  # type: ignore[arg-type]
    "schedule": [{"schedule": schedules.Cosine(epochs)} for epochs in (10, 10.0, np.float64(10))],
    "milestones": [{"schedule": schedules.MultiStep(milestones)} for milestones in ([1, 2], (1.0, np.float64(2)))],
    "warm-up": [{"schedule": schedules.Warmup(e, schedules.Cosine(9)), "optimizer": SGD(0.1)} for e in (1, 1.0)],
    "function": [{"schedule": schedules.Warmup(epochs, lambda step: 0.1)} for epochs in (1, 1.0)],
    "callback": [{"callbacks": [EarlyStopping("loss", 9, delta)]} for delta in (0, 0.0, np.float64(0))],
}


@pytest.mark.parametrize("case", SAME)
def test_values_are_compared_however_they_are_written(case: str, tmp_path: Path) -> None:
    first, *others = SAME[case]
    given = {**first, "callbacks": [*first.get("callbacks", []), Checkpoint(tmp_path)]}
    make().fit(X, Y, epochs=2, **given)
    for options in others:
        assert len(make().fit(X, Y, epochs=3, resume=tmp_path, **options).loss) == 3


def test_single_precision_is_another_value(tmp_path: Path) -> None:
    make().fit(X, Y, epochs=2, optimizer=SGD(0.1), callbacks=[Checkpoint(tmp_path)])
    with pytest.raises(ValueError, match="is of another training: optimizer were"):
        make().fit(X, Y, epochs=3, optimizer=SGD(np.float32(0.1)), resume=tmp_path)  # type: ignore[arg-type]


def test_another_scaling_is_refused(tmp_path: Path) -> None:
    make().fit(X, Y, epochs=2, callbacks=[Checkpoint(tmp_path)])
    net = make()
    net.standardize(X)
    with pytest.raises(ValueError, match="scaling differ"):
        net.fit(X, Y, resume=tmp_path)


def test_large_arrays_are_known_by_some_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints, "HASH_BYTES", 100)
    monkeypatch.setattr(checkpoints, "HASH_ROWS", 10)
    assert checkpoints.digest(X) == checkpoints.digest(X.copy())
    assert checkpoints.digest(X) != checkpoints.digest(X[::-1])
    assert checkpoints.digest(X) != checkpoints.digest(X.astype(np.float32))
    mapped = np.memmap(tmp_path / "X", X.dtype, "w+", shape=X.shape)
    mapped[:] = X
    assert checkpoints.digest(mapped) == checkpoints.digest(X)


def test_what_is_no_checkpoint(tmp_path: Path) -> None:
    net = make()
    with pytest.raises(FileNotFoundError, match=r"there is no checkpoint in .*nowhere"):
        net.fit(X, Y, resume=tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError):
        net.fit(X, Y, resume=tmp_path / "gone.safetensors")
    with pytest.raises(TypeError, match="resume must be the folder"):
        net.fit(X, Y, resume=True)
    net.save(tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match="is a model, but no checkpoint"):
        net.fit(X, Y, resume=tmp_path / "model.safetensors")
    net.fit(X, Y, epochs=1, callbacks=[Checkpoint(tmp_path)])
    cut = (tmp_path / "last.safetensors").read_bytes()
    for length in (0, 7, 300, len(cut) - 1):
        (tmp_path / "cut.safetensors").write_bytes(cut[:length])
        with pytest.raises(ValueError, match=r"was cut short|is not a fastbp model"):
            net.fit(X, Y, resume=tmp_path / "cut.safetensors")
    tensors, description = model_files.load(tmp_path / "last.safetensors")
    description["fit"]["version"] = 99
    model_files.save(tmp_path / "newer.safetensors", tensors, description)
    with pytest.raises(ValueError, match="checkpoint version 99"):
        net.fit(X, Y, resume=tmp_path / "newer.safetensors")


def test_an_unfinished_training_is_not_overwritten(tmp_path: Path) -> None:
    saving = Checkpoint(tmp_path)
    net = make()
    net.fit(X, Y, epochs=4, callbacks=[saving, MaxSeconds(1e-6)])
    with pytest.raises(ValueError, match="holds an unfinished training, stopped after 1 epochs"):
        make().fit(X, Y, epochs=4, callbacks=[saving])
    net.fit(X, Y, epochs=4, callbacks=[saving], resume=tmp_path)
    make().fit(X, Y, epochs=4, callbacks=[saving])  # that one was finished


def test_what_a_killed_process_leaves_is_cleared_away(tmp_path: Path) -> None:
    for name in ("last", "best", "epoch-000002"):
        (tmp_path / f".{name}.safetensors.0123abcd.tmp").write_bytes(b"half")
    make().fit(X, Y, epochs=1, callbacks=[Checkpoint(tmp_path)], resume=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["last.safetensors"]


def test_a_folder_that_cannot_be_written_to_is_found_before_the_training(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    net = make()
    with pytest.raises(OSError, match="file"):
        net.fit(X, Y, callbacks=[Checkpoint(tmp_path / "file" / "run")])
    assert net.history is None


def test_a_full_disk_does_not_end_the_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saving, net, whole = Checkpoint(tmp_path, every_epochs=1), make(), make()
    save, calls = model_files.save, []

    def full(*arguments: Any) -> None:
        calls.append(arguments)
        if len(calls) > 2:
            raise OSError(28, "No space left on device", str(arguments[0]))
        save(*arguments)

    monkeypatch.setattr(model_files, "save", full)
    with pytest.warns(RuntimeWarning, match="no checkpoint was written, the training goes on: .*No space left"):
        net.fit(X, Y, epochs=5, callbacks=[saving])
    whole.fit(X, Y, epochs=5)
    assert bits(net) == bits(whole)
    assert isinstance(saving.error, OSError)
    monkeypatch.undo()
    assert checkpoints.progress_of(tmp_path) == {"epochs": 2, "finished": False}
    with warnings.catch_warnings():
        make().fit(X, Y, epochs=5, callbacks=[saving], resume=tmp_path)
    assert saving.error is None


def test_a_callback_of_the_users_own_takes_part(tmp_path: Path) -> None:
    class Mean:
        def __init__(self) -> None:
            self.sum = np.zeros(3)

        def on_epoch_end(self, state: EpochState) -> None:
            self.sum += state.net.biases[-1]

        def state_dict(self) -> dict[str, Any]:
            return {"sum": self.sum}

        def load_state_dict(self, state: dict[str, Any]) -> None:
            self.sum = state["sum"]

    whole, first, second = Mean(), Mean(), Mean()
    make().fit(X, Y, epochs=6, callbacks=[whole])
    make().fit(X, Y, epochs=2, callbacks=[first, Checkpoint(tmp_path)])
    make().fit(X, Y, epochs=6, callbacks=[second], resume=tmp_path)
    np.testing.assert_array_equal(second.sum, whole.sum)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"every_seconds": 0}, "every_seconds"),
        ({"every_epochs": 0}, "every_epochs"),
        ({"best": "accuracy"}, "best='accuracy' is unknown"),
        ({"keep": -1}, "keep must be an integer of at least 0, got -1"),
        ({"keep": 2}, "keep=2 is for the checkpoints by every_epochs"),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Checkpoint("folder", **arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"keep": None}, "keep must be an integer of at least 0, got None"),
        ({"keep": 1.5}, "keep must be an integer of at least 0, got 1.5"),
        ({"folder": 5}, r"folder must be a path, such as 'runs/a', got 5"),
        ({"folder": None}, "folder must be a path"),
    ],
)
def test_arguments_of_a_wrong_type(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        Checkpoint(**{"folder": "folder", **arguments})


def test_best_by_validation_needs_it(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="needs validation_data"):
        make().fit(X, Y, callbacks=[Checkpoint(tmp_path, best="val_loss")])


# --- damage


def saved_at(folder: Path, **options: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """A checkpoint after 5 of the 11 steps of the second epoch."""
    given = {"epochs": 4, "batch_size": 10, "optimizer": Adam(lr=0.05), "validation_split": 0.0} | options
    monitored = Checkpoint(folder, every_seconds=1e-9, best="loss")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tuning, "MAX_STEPS", 4)
        patch.setattr(tuning, "FIRST_STEPS", 4)
        kept: list[bytes] = []

        class Keep(Copies):
            def on_pause(self, fit: Any, final: bool) -> None:
                if fit.feed.done == 15 and not kept:
                    kept.append((folder / "last.safetensors").read_bytes())

        callbacks = [EarlyStopping("loss", 3), LayerStatistics(X, Y), monitored, Keep(folder)]
        make().fit(X, Y, callbacks=callbacks, schedule=schedules.ReduceOnPlateau(), **given)
    (folder / "last.safetensors").write_bytes(kept[0])
    return model_files.load(folder / "last.safetensors")


def resume(folder: Path, net: MLP, **options: Any) -> None:
    given = {"epochs": 4, "batch_size": 10, "optimizer": Adam(lr=0.05)} | options
    callbacks = [EarlyStopping("loss", 3), LayerStatistics(X, Y), Checkpoint(folder, best="loss")]
    net.fit(X, Y, callbacks=callbacks, schedule=schedules.ReduceOnPlateau(), resume=folder, **given)


BAD_COUNTS = (-(2**63), -1, 2**63, 10**30, 1.0, "1", True, None, [1], {"tensor": "weights.0"}, {"tensor": "none"})
GONE = object()


def damages() -> dict[str, tuple[str, Any]]:
    """Place in the description of a checkpoint, and what is put there."""
    found: dict[str, tuple[str, Any]] = {}
    for place in ("fit.position.done", "fit.epochs", "fit.version", "optimizer.steps", "optimizer.epochs", "seed"):
        for value in BAD_COUNTS:
            if (place, value) not in (("seed", 2**63), ("seed", None)):
                found[f"{place}={value!r}"] = place, value
    for name in ("settings", "epochs", "finished", "stop_reason", "position", "pending", "books", "history", "plateau"):
        for value in (GONE, [], {}, 5, "x", None):
            if (name, value) not in (("stop_reason", "x"), ("plateau", "x")):
                found[f"fit.{name}={'gone' if value is GONE else repr(value)}"] = f"fit.{name}", value
    for name in ("fit.books.open", "fit.history.loss", "fit.history.lr", "fit.history.seconds", "fit.history.val_loss"):
        for value in (GONE, None, 3, [1.0], {"tensor": "weights.0"}, {"tensor": "none"}):
            found[f"{name}={'gone' if value is GONE else repr(value)}"] = name, value
    others = {
        "fit.position.done": (0, 14, 16, 45, 44), "fit.pending": (True, 1), "fit.books.open_seconds": (None, "1"),
        "fit.plateau.best": ("x", [1]), "fit.plateau.bad": (-1, 0.5, None), "fit.plateau.factor": (None, "1", 1e999),
        "fit.callbacks": (5, [5], [[]], [["EarlyStopping"]], [["EarlyStopping", None]], [["EarlyStopping", {}]],
                          [["Checkpoint", {"best": "loss", "lowest": "x", "epochs": 1}]],
                          [["Checkpoint", {"best": "loss", "lowest": None, "epochs": -1}]],
                          [["Checkpoint", {"best": "loss", "lowest": None, "epochs": 1, "kept": [-(2**63)]}]],
                          [["EarlyStopping", {"best": None, "best_epoch": -(2**63), "weights": None}]],
                          [["EarlyStopping", {"best": "low", "best_epoch": 1, "weights": None}]],
                          [["EarlyStopping", {"best": None, "best_epoch": 1, "weights": [[], []]}]],
                          [["EarlyStopping", {"best": None, "best_epoch": 1, "weights": 5}]],
                          [["LayerStatistics", {"records": [5], "before": []}]],
                          [["LayerStatistics", {"records": [], "before": [3]}]]),
        "optimizer.moments": ([], 3, [None, None]), "optimizer.product": (None, "x", 1e999), "sizes": ([6, 8], None),
    }  # fmt: skip
    for place, values in others.items():
        for value in values:
            found[f"{place}={value!r}"] = place, value
    return found


def put(description: dict[str, Any], place: str, value: Any) -> dict[str, Any]:
    changed = json.loads(json.dumps(description))
    *way, last = place.split(".")
    inner = changed
    for name in way:
        inner = inner[name]
    if value is GONE:
        del inner[last]
    else:
        inner[last] = value
    return changed


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], dict[str, Any]]:
    return saved_at(tmp_path_factory.mktemp("run"))


@pytest.mark.parametrize("case", damages())
def test_a_damaged_checkpoint_is_refused_and_changes_nothing(case: str, checkpoint: Any, tmp_path: Path) -> None:
    place, value = damages()[case]
    tensors, description = checkpoint
    changed = put(description, place, value)
    assert json.dumps(changed) != json.dumps(description)
    model_files.save(tmp_path / "last.safetensors", tensors, changed)
    before = (tmp_path / "last.safetensors").read_bytes()
    net = make()
    net.fit(X, Y, epochs=1)
    was = bits(net)
    with pytest.raises(ValueError, match=r"last\.safetensors"):
        resume(tmp_path, net)
    assert bits(net) == was
    assert (tmp_path / "last.safetensors").read_bytes() == before


def test_the_undamaged_checkpoint_is_gone_on_with(checkpoint: Any, tmp_path: Path) -> None:
    model_files.save(tmp_path / "last.safetensors", *checkpoint)
    assert checkpoint[1]["fit"]["position"] == {"done": 15}
    whole, net = make(), make(seed=9)
    resume(tmp_path / "other", whole)
    resume(tmp_path, net)
    assert bits(net) == bits(whole)


def test_a_flipped_bit_of_a_checkpoint_is_refused(checkpoint: Any, tmp_path: Path) -> None:
    path = tmp_path / "last.safetensors"
    model_files.save(path, *checkpoint)
    whole, net = path.read_bytes(), make()
    for place in range(0, len(whole), 37):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ (1 << place % 8)]) + whole[place + 1 :])
        with pytest.raises(ValueError, match=r"last\.safetensors"):
            net.fit(X, Y, resume=tmp_path)
        with pytest.raises(ValueError, match=r"last\.safetensors"):
            checkpoints.progress_of(tmp_path)


def test_a_checkpoint_without_a_checksum_is_gone_on_with(checkpoint: Any, tmp_path: Path) -> None:
    """As they were before, and without what they lacked."""
    tensors, description = checkpoint
    states = description["fit"]["callbacks"]
    states = [[name, {key: one for key, one in state.items() if key != "kept"}] for name, state in states]
    description = put(description, "fit.callbacks", states)
    texts = {"fastbp": json.dumps(description)}
    save_file({name: np.ascontiguousarray(one) for name, one in tensors.items()}, tmp_path / "last.safetensors", texts)
    whole, net = make(), make(seed=9)
    resume(tmp_path / "other", whole)
    resume(tmp_path, net)
    assert bits(net) == bits(whole)


def chunks() -> list[tuple[Any, Any]]:
    return [(X[:40], Y[:40]), (X[40:70], Y[40:70]), (X[70:], Y[70:])]


def test_a_damaged_checkpoint_of_chunks(tmp_path: Path) -> None:
    """The position within an epoch of chunks; what cannot be known before they come is refused when they do."""
    options: dict[str, Any] = {"epochs": 3, "batch_size": 10}
    whole = make()
    whole.fit(chunks(), **options)
    path, kept = tmp_path / "last.safetensors", []

    class Keep(Copies):
        def on_pause(self, fit: Any, final: bool) -> None:
            if (fit.feed.epoch, fit.feed.part) == (1, 1) and fit.feed.done == 2 and not kept:
                kept.append(path.read_bytes())

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tuning, "MAX_STEPS", 1)
        patch.setattr(tuning, "FIRST_STEPS", 1)
        make().fit(chunks(), callbacks=[Checkpoint(tmp_path, every_seconds=1e-9), Keep(tmp_path)], **options)
    path.write_bytes(kept[0])
    tensors, description = model_files.load(path)
    position = description["fit"]["position"]
    assert {name: position[name] for name in ("epoch", "chunk", "before", "done")} == {
        "epoch": 1, "chunk": 1, "before": 4, "done": 2,
    }  # fmt: skip
    for name in ("epoch", "chunk", "before", "done"):
        for value in [*BAD_COUNTS, GONE, position[name] + 1]:
            model_files.save(path, tensors, put(description, f"fit.position.{name}", value))
            with pytest.raises(ValueError, match=r"last\.safetensors|is not the one"):
                make().fit(chunks(), resume=tmp_path, **options)
    for place, value in (
        ("fit.position.digest", 5), ("fit.position.digest", GONE), ("fit.books.losses", None), ("fit.books.rows", []),
        ("fit.books.rate", None), ("fit.books.seconds", "x"), ("fit.books.losses", {"tensor": "biases.1"}),
    ):  # fmt: skip
        model_files.save(path, tensors, put(description, place, value))
        with pytest.raises(ValueError, match=r"last\.safetensors"):
            make().fit(chunks(), resume=tmp_path, **options)
    model_files.save(path, tensors, description)
    with pytest.raises(ValueError, match="steps_per_epoch were None, now 5"):
        make().fit(chunks(), resume=tmp_path, steps_per_epoch=5, **options)
    with pytest.raises(ValueError, match="chunk 1 is not the one that the training was interrupted in"):
        make().fit(chunks()[1:], resume=tmp_path, **options)
    with pytest.raises(ValueError, match="1 chunks of epoch 1 were done, but now only 0 came"):
        make().fit(lambda: [], resume=tmp_path, **options)
    net = make(seed=9)
    net.fit(chunks(), resume=tmp_path, **options)
    assert bits(net) == bits(whole)


# --- the folder


def test_only_what_was_written_here_is_removed(tmp_path: Path) -> None:
    """Names like ours, and like those that the safetensors package gives, but of the user."""
    mine = (
        ".tmpabcdef", ".last.safetensors.tmp", ".last.safetensors.0123abcd.tmp.txt", ".net.safetensors.0123abcd.tmp",
        "epoch-000000.safetensors", "epoch-000001.safetensors", "epoch-1.safetensors", "epoch-notes.safetensors",
        ".best.safetensors.notours1.tmp",
    )  # fmt: skip
    for name in mine:
        (tmp_path / name).write_text("mine")
    saving = Checkpoint(tmp_path, every_epochs=2, keep=1)
    make().fit(X, Y, epochs=3, callbacks=[saving, MaxSeconds(1e-9)])
    make().fit(X, Y, epochs=7, callbacks=[saving], resume=tmp_path)
    for name in mine:
        assert (tmp_path / name).read_text() == "mine"
    names = {path.name for path in tmp_path.iterdir()} - set(mine)
    assert names == {"last.safetensors", "epoch-000006.safetensors"}


def test_the_next_training_leaves_the_last_ones_epochs(tmp_path: Path) -> None:
    make().fit(X, Y, epochs=4, callbacks=[Checkpoint(tmp_path, every_epochs=4, keep=1)])
    make().fit(X, Y, epochs=9, callbacks=[Checkpoint(tmp_path, every_epochs=3, keep=1)])
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"last.safetensors", "epoch-000004.safetensors", "epoch-000009.safetensors"}


def test_the_place_is_settled_when_the_training_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)

    class Wander:
        def on_epoch_end(self, state: EpochState) -> None:
            os.chdir(tmp_path / "elsewhere")

    saving = Checkpoint("runs", every_epochs=1, keep=1, best="loss")
    make().fit(X, Y, epochs=3, callbacks=[Wander(), saving])
    names = {path.name for path in (tmp_path / "runs").iterdir()}
    assert names == {"last.safetensors", "best.safetensors", "epoch-000003.safetensors"}
    assert checkpoints.progress_of(tmp_path / "runs") == {"epochs": 3, "finished": True}
    assert not list((tmp_path / "elsewhere").iterdir())
    assert saving.last == Path("runs/last.safetensors")  # as it was given
