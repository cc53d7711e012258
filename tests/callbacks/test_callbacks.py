"""Callbacks: who is asked, when, and what stops a training; the history's faces."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastbp
from fastbp import MLP, SGD, schedules
from fastbp.callbacks import Checkpoint, EarlyStopping, EpochState, MaxSeconds, StopGradientNorm, Watcher, stopping
from fastbp.history import History
from fastbp.training.rate_table import Plateau

RNG = np.random.default_rng(3)
X = RNG.standard_normal((90, 5))
Y = RNG.integers(0, 3, 90)


class Recorder:
    """Keeps what it is shown, and stops at an epoch."""

    def __init__(self, stop: int = 10**9, answer: bool | str = True) -> None:
        self.stop, self.answer = stop, answer
        self.seen: list[tuple[int, float, float | None]] = []

    def on_epoch_end(self, state: EpochState) -> bool | str | None:
        self.seen.append((state.epoch, state.loss, state.val_loss))
        assert state.lr == state.history.lr[-1]
        assert state.seconds > 0
        return self.answer if state.epoch == self.stop else None


def test_every_epoch_is_shown_and_nothing_else_changes() -> None:
    watched, alone = MLP([5, 7, 3], seed=0), MLP([5, 7, 3], seed=0)
    recorder = Recorder()
    history = watched.fit(X, Y, epochs=5, validation_data=(X, Y), callbacks=[recorder])
    assert [epoch for epoch, _, _ in recorder.seen] == [1, 2, 3, 4, 5]
    assert [loss for _, loss, _ in recorder.seen] == history.loss
    assert [loss for _, _, loss in recorder.seen] == history.val_loss
    assert alone.fit(X, Y, epochs=5).loss == history.loss
    assert history.stop_reason == ""


@pytest.mark.parametrize(("answer", "reason"), [(True, "Recorder"), ("enough", "Recorder: enough")])
def test_a_true_answer_stops_and_fit_goes_on_from_there(answer: bool | str, reason: str) -> None:
    net, whole = MLP([5, 7, 3], seed=0), MLP([5, 7, 3], seed=0)
    history = net.fit(X, Y, epochs=9, callbacks=[Recorder(3, answer), Recorder()])
    assert (len(history.loss), history.stop_reason) == (3, reason)
    later = net.fit(X, Y, epochs=2)
    assert history.loss + later.loss == whole.fit(X, Y, epochs=5).loss


def test_a_callback_may_use_the_network() -> None:
    class Meddler:
        def on_epoch_end(self, state: EpochState) -> None:
            state.net.predict(X[:3])
            state.net.backprop(X[:9], Y[:9])
            state.net.evaluate(X, Y)
            state.net.summary()

    meddled, alone = MLP([5, 7, 3], seed=0), MLP([5, 7, 3], seed=0)
    assert meddled.fit(X, Y, epochs=4, callbacks=[Meddler()]).loss == alone.fit(X, Y, epochs=4).loss


def test_an_exception_of_a_callback_leaves_a_usable_network() -> None:
    class Broken:
        def on_epoch_end(self, state: EpochState) -> None:
            raise LookupError("mine")

    net = MLP([5, 7, 3], seed=0)
    with pytest.raises(LookupError, match="mine"):
        net.fit(X, Y, epochs=4, callbacks=[Broken()], schedule=schedules.Step(1))
    assert net.history is not None
    assert len(net.history.loss) == 1
    other = MLP([5, 7, 3], seed=0)
    other.fit(X, Y, epochs=1)
    assert net.train_step(X, Y, "adam") == other.train_step(X, Y, "adam")


def test_early_stopping_goes_back_to_the_best_weights() -> None:
    net = MLP([5, 64, 3], seed=0)
    stopping = EarlyStopping(patience=4)
    history = net.fit(X, Y, epochs=400, validation_split=0.3, optimizer=SGD(lr=0.5, momentum=0.9), callbacks=[stopping])
    best = int(np.argmin(history.val_loss))
    assert len(history.loss) == best + 1 + 4
    assert stopping.best == history.val_loss[best]
    assert history.stop_reason == "EarlyStopping: val_loss has not improved for 4 epochs"
    twin = MLP([5, 64, 3], seed=0)
    twin.fit(X, Y, epochs=best + 1, validation_split=0.3, optimizer=SGD(lr=0.5, momentum=0.9))
    for one, other in zip(net.weights, twin.weights, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("restore", [True, False])
def test_a_divergence_leaves_the_best_weights(restore: bool) -> None:
    """What early stopping has found is not lost."""
    calls = []

    def rate(step: int) -> float:
        calls.append(step)
        return 0.05 if step < 30 else 1e20

    nets = [MLP([5, 7, 3], loss="mse", seed=0) for _ in range(2)]
    stopping = EarlyStopping("loss", restore_best=restore)
    y = np.eye(3)[Y]
    for net, epochs, watching in zip(nets, (20, 10), ([stopping], []), strict=True):
        options: dict[str, Any] = {"batch_size": 30, "optimizer": SGD(), "schedule": rate, "threads": 1}
        options["callbacks"] = watching
        if net is nets[0]:
            with pytest.raises(fastbp.DivergenceError) as caught:
                net.fit(X, y, epochs=epochs, **options)
        else:
            net.fit(X, y, epochs=epochs, **options)
    assert stopping.best_epoch == 10
    assert caught.value.best_epoch == (10 if restore else None)
    assert str(caught.value).endswith(f"the network has its {'best (epoch 10)' if restore else 'last finite'} weights")
    same = all(np.array_equal(a, b) for a, b in zip(nets[0].weights, nets[1].weights, strict=True))
    assert same or not restore
    assert all(np.isfinite(a).all() for a in nets[0].weights)


@pytest.mark.parametrize("batch", [90, 10], ids=["seen by the next step", "seen at once"])
@pytest.mark.parametrize("many", [False, True], ids=["fit", "fit_many"])
def test_an_epoch_whose_last_step_ruins_the_weights_is_not_the_best(many: bool, batch: int) -> None:
    """Its loss, of the weights before that step, is the best so far; with more steps, a copy to go back to is due."""
    net, twin = MLP([5, 3], loss="mse", seed=0), MLP([5, 3], loss="mse", seed=0)
    stopping, optimizer = EarlyStopping("loss"), SGD(0.01)
    y, jump = 100 * np.eye(3)[Y], schedules.MultiStep([4 - batch / 90], 3e40)
    options: dict[str, Any] = {"batch_size": batch, "epochs": 8, "schedule": jump, "callbacks": [stopping]}
    if many:
        with pytest.raises(fastbp.NetworksFailed) as failed:
            fastbp.fit_many([net], X, y, optimizer=optimizer, **options)
        error: Any = failed.value.errors[0]
    else:
        with pytest.raises(fastbp.DivergenceError) as caught:
            net.fit(X, y, optimizer=optimizer, **options)
        error = caught.value
    twin.fit(X, y, batch_size=batch, epochs=3, optimizer=optimizer)
    assert error.best_epoch == 3
    for one, other in zip([*net.weights, *net.biases], [*twin.weights, *twin.biases], strict=True):
        np.testing.assert_array_equal(one, other)


def test_early_stopping_counts_small_gains_as_none_and_starts_afresh() -> None:
    stopping = EarlyStopping("loss", patience=2, min_delta=100.0, restore_best=False)
    for _ in range(2):
        net = MLP([5, 7, 3], seed=0)
        assert len(net.fit(X, Y, epochs=9, callbacks=[stopping]).loss) == 3


def test_early_stopping_by_score() -> None:
    stopping = EarlyStopping("val_score", patience=3)
    history = MLP([5, 7, 3], seed=0).fit(X, Y, epochs=60, validation_split=0.3, callbacks=[stopping])
    assert -stopping.best == max(history.val_score)


@pytest.mark.parametrize("monitor", ["loss", "val_loss", "val_score"])
def test_nan_is_worse_than_any_number(monitor: str, tmp_path: Path) -> None:
    """At the first epoch too, in everything that watches; and a second NaN is no improvement on the first."""
    costs = [np.nan, np.nan, 3.0, np.nan, 2.0, 2.5]
    told = [-cost if monitor == "val_score" else cost for cost in costs]

    class Say:
        def on_epoch_end(self, state: EpochState) -> None:
            getattr(state.history, monitor)[-1] = told[state.epoch - 1]

    class Names(Watcher):
        def __init__(self) -> None:
            self.written: list[int] = []
            self.before = 0

        def on_epoch_end(self, state: EpochState) -> None:
            pass

        def on_pause(self, fit: Any, final: bool) -> None:
            done = fastbp.load(tmp_path / "best.safetensors").optimizer_state()["epochs"]
            if not self.written or self.written[-1] != done:
                self.written.append(done)

    names, stopping = Names(), EarlyStopping(monitor, patience=9)
    watching = [Say(), stopping, Checkpoint(tmp_path, best=monitor), names]
    net = MLP([5, 7, 3], seed=0)
    net.fit(X, Y, epochs=6, validation_data=(X, Y), callbacks=watching)
    assert names.written == [1, 3, 5]
    assert (stopping.best, stopping.best_epoch) == (2.0, 5)
    best = fastbp.load(tmp_path / "best.safetensors")
    for one, other in zip(net.weights, best.weights, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_plateau_waits_through_nan() -> None:
    plateau = Plateau(schedules.ReduceOnPlateau(0.5, patience=1))
    factors = []
    for value in (np.nan, 3.0, np.nan, 2.0, np.nan, np.nan):
        plateau.observe(value)
        factors.append(plateau.factor)
    assert factors == [1, 1, 1, 1, 1, 0.5]
    assert plateau.best == 2.0


def test_a_picture_with_nan_is_as_one_without(tmp_path: Path) -> None:
    for losses in ([np.nan, 2.0, 1.0], [2.0, np.nan, 1.0]):
        history = History("accuracy", losses, lr=[0.1] * 3, seconds=[0.1] * 3)
        assert history.plot().axes[0].get_yscale() == "log"


def test_max_seconds() -> None:
    history = MLP([5, 7, 3], seed=0).fit(X, Y, epochs=10**6, callbacks=[MaxSeconds(0.05)])
    assert 0 < len(history.loss) < 10**6
    assert history.stop_reason == "MaxSeconds: 0.05 s have passed"


def test_the_gradient_norm_is_that_of_all_rows() -> None:
    norms = []

    class Look:
        def on_epoch_end(self, state: EpochState) -> None:
            norms.append(state.gradient_norm())

    net = MLP([5, 7, 3], seed=0, dtype="float64")
    net.fit(X, Y, epochs=2, callbacks=[Look()])
    gradient = net.backprop(X, Y)
    exact = np.sqrt(sum(float((g**2).sum()) for g in [*gradient.weights, *gradient.biases]))
    assert norms[-1] == pytest.approx(exact, rel=1e-12)
    many = np.tile(X, (60, 1))  # more than one block
    net.fit(many, np.tile(Y, 60), epochs=1, optimizer=SGD(lr=0.0), callbacks=[Look()])
    assert norms[-1] == pytest.approx(exact, rel=1e-9)


def test_a_vanishing_gradient_stops() -> None:
    net = MLP([5, 3], loss="mse", seed=0, dtype="float64")
    stop = StopGradientNorm(1e-6, every=5)
    history = net.fit(X, X[:, :3], epochs=5000, batch_size=90, optimizer=SGD(lr=0.5), callbacks=[stop])
    assert len(history.loss) % 5 == 0
    assert len(history.loss) < 5000
    assert history.stop_reason.startswith("StopGradientNorm: the gradient's norm is ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"callbacks": [EarlyStopping()]}, "needs validation_data"),
        ({"schedule": schedules.ReduceOnPlateau(monitor="val_loss")}, "needs validation_data"),
        ({"callbacks": [EarlyStopping]}, r"callbacks\[0\] must be an object"),
        ({"callbacks": EarlyStopping("loss")}, "callbacks must be a sequence"),
        ({"callbacks": [print]}, r"callbacks\[0\] must be an object"),
        ({"schedule": "cosine"}, "schedule must be None, one of"),
    ],
)
def test_bad_arguments_change_nothing(arguments: dict[str, Any], message: str) -> None:
    net = MLP([5, 7, 3], seed=0)
    before = net.weights
    with pytest.raises((ValueError, TypeError), match=message):
        net.fit(X, Y, **arguments)
    for one, other in zip(before, net.weights, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: EarlyStopping("acc"), "monitor=.acc. is unknown"),
        (lambda: EarlyStopping(patience=0), "patience"),
        (lambda: EarlyStopping(min_delta=-1.0), "min_delta"),
        (lambda: MaxSeconds(0.0), "seconds"),
        (lambda: StopGradientNorm(-1.0), "threshold"),
    ],
)
def test_bad_settings(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_history_to_files_and_picture(tmp_path: Path) -> None:
    net = MLP([5, 7, 3], seed=0)
    history = net.fit(X, Y, epochs=3, validation_split=0.2, callbacks=[Recorder(2)])
    history.to_csv(tmp_path / "h.csv")
    rows = list(csv.DictReader((tmp_path / "h.csv").read_text(encoding="utf-8").splitlines()))
    assert [float(row["loss"]) for row in rows] == history.loss
    assert [float(row["val_accuracy"]) for row in rows] == history.val_score
    assert [row["epoch"] for row in rows] == ["1", "2"]
    history.to_json(tmp_path / "h.json")
    document = json.loads((tmp_path / "h.json").read_text())
    assert (document["stop_reason"], document["val_loss"]) == ("Recorder", history.val_loss)
    history.plot(tmp_path / "h.png")
    assert (tmp_path / "h.png").read_bytes().startswith(b"\x89PNG")
    assert stopping.EarlyStopping is EarlyStopping
