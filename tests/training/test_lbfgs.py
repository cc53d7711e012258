"""L-BFGS: against SciPy on the oracle's gradient, its books, its stops, and what it refuses."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from processes import succeed
from scipy.optimize import minimize

import fastbp
from fastbp import LBFGS, schedules
from fastbp.callbacks import Checkpoint, stopping
from fastbp.data import splits
from fastbp.engine import tuning
from fastbp.reference import NumpyMLP

SIZES, ROWS = [5, 9, 3], 53


def make(loss: str = "mse", dtype: str = "float64", cls: Any = fastbp.MLP) -> Any:
    return cls(SIZES, loss=loss, activation="tanh", dtype=dtype, seed=3)


def draw(loss: str = "mse") -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    X = rng.standard_normal((ROWS, SIZES[0]))
    return X, rng.integers(0, SIZES[-1], ROWS) if loss == "cross_entropy" else rng.standard_normal((ROWS, SIZES[-1]))


def flat(weights: list[np.ndarray], biases: list[np.ndarray]) -> np.ndarray:
    return np.concatenate([array.ravel() for array in [*weights, *biases]])


def oracle(net: Any, X: np.ndarray, y: np.ndarray, decay: float, n: int) -> tuple[np.ndarray, list[float]]:
    """The point after n iterations, and the losses at their ends, by the NumPy network in another order of weights."""
    shapes = [array.shape for array in [*net.weights, *net.biases]]
    cuts = np.cumsum([int(np.prod(shape)) for shape in shapes])[:-1]

    def cost(point: np.ndarray) -> tuple[float, np.ndarray]:
        arrays = [part.reshape(shape) for part, shape in zip(np.split(point, cuts), shapes, strict=True)]
        net.set_weights(arrays[: len(shapes) // 2], arrays[len(shapes) // 2 :])
        gradient = net.backprop(X, y)
        slope = flat(gradient.weights, gradient.biases) + decay * point
        return gradient.loss + 0.5 * decay * float(point @ point), slope

    points: list[np.ndarray] = []
    start = flat(net.weights, net.biases)
    options = {"maxiter": n, "maxcor": 10, "gtol": 0.0, "ftol": 0.0}
    found = minimize(
        cost, start, jac=True, method="L-BFGS-B", callback=lambda x: points.append(x.copy()), options=options
    )
    losses = []
    for point in [start, *points]:
        cost(point)
        losses.append(net.evaluate(X, y)["loss"])
    return found.x, losses


@pytest.mark.parametrize("block", [10, 53, 4096])
@pytest.mark.parametrize("decay", [0.0, 0.01])
@pytest.mark.parametrize("loss", ["mse", "cross_entropy"])
def test_against_scipy_on_the_oracle(loss: str, decay: float, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same iterates, whatever the blocks; the history holds the loss before each iteration."""
    monkeypatch.setattr(tuning, "GRADIENT_ROWS", block)
    net, (X, y) = make(loss), draw(loss)
    history = net.fit(X, y, optimizer=LBFGS(weight_decay=decay, gtol=0.0, ftol=0.0), epochs=12)
    expected, losses = oracle(make(loss, cls=NumpyMLP), X, y, decay, 12)
    np.testing.assert_allclose(history.loss, losses[:-1], rtol=1e-6)
    np.testing.assert_allclose(flat(net.weights, net.biases), expected, rtol=1e-5, atol=1e-6)
    assert len(history.loss) == len(history.seconds) == 12
    assert history.lr == [1.0] * 12
    assert history.stop_reason == ""
    assert net.session.engine.steps == net.session.engine.epochs == 12
    assert net.evaluate(X, y)["loss"] < 0.5 * history.loss[0]


def test_it_converges_and_says_so() -> None:
    """On a linear network, to the solution of the normal equations."""
    X, _ = draw()
    y = X[:, :2] @ np.array([[1.0, 2.0], [3.0, -1.0]]) + 0.5
    net = fastbp.MLP([5, 2], loss="mse", dtype="float64", seed=0)
    history = net.fit(X, y, optimizer=LBFGS(gtol=1e-9, ftol=0.0), epochs=200)
    assert len(history.loss) < 200
    assert history.stop_reason.startswith("LBFGS: converged: ")
    np.testing.assert_allclose(net.predict(X), y, atol=1e-7)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_same_bits_on_any_threads(dtype: str) -> None:
    X, y = draw()
    nets = [make(dtype=dtype) for _ in range(3)]
    for net, threads in zip(nets, (1, 2, None), strict=True):
        net.fit(X.astype(dtype), y, optimizer="lbfgs", epochs=15, threads=threads)
        np.testing.assert_array_equal(net.session.engine.parameters, nets[0].session.engine.parameters)
    padding = np.ones(nets[0].session.layout.n_parameters, bool)
    padding[nets[0].session.layout.places()] = False
    assert not nets[0].session.engine.parameters[padding].any()
    assert_usable(nets[0], X, y)


def test_weights_of_rows_and_a_callback_that_only_looks() -> None:
    """Whether Python or the kernel goes on, the loss is not multiplied by a share of the rows that is nearly 1."""
    X, y = draw()
    for seed in range(8):
        weights = np.random.default_rng(seed).random(ROWS)
        nets = [make(), make()]
        losses = [
            net.fit(X, y, sample_weight=weights, optimizer="lbfgs", epochs=6, callbacks=watching).loss
            for net, watching in zip(nets, ([], [stopping.EarlyStopping("loss", restore_best=False)]), strict=True)
        ]
        assert losses[0] == losses[1]
        assert nets[0].weights[0].tobytes() == nets[1].weights[0].tobytes()


def assert_usable(net: Any, X: np.ndarray, y: np.ndarray) -> None:
    """The transposed weights are fresh: the network trains on as one built from its weights does."""
    twin = make(dtype=net.dtype)
    twin.set_weights(net.weights, net.biases)
    for one in (net, twin):
        one.fit(X, y, epochs=2, batch_size=8)
    np.testing.assert_array_equal(net.weights[0], twin.weights[0])


def test_the_end_of_single_precision_is_no_error() -> None:
    """Where rounding hides every descent, the line search gives up."""
    X, y = draw()
    net = fastbp.MLP([5, 3], loss="mse", seed=0)
    history = net.fit(X, y, optimizer=LBFGS(gtol=0.0, ftol=0.0), epochs=3000)
    assert len(history.loss) < 3000
    assert history.stop_reason.startswith("LBFGS: found no lower point")
    best = np.linalg.lstsq(np.c_[X, np.ones(ROWS)], y, rcond=None)[0]
    np.testing.assert_allclose(np.vstack([net.weights[0], net.biases[0]]), best, atol=1e-3)


def test_validation_split_callbacks_and_scaling(tmp_path: Path) -> None:
    """The split trains on its rows alone, in place, also from a memory map; callbacks see every iteration."""
    X, y = draw()
    np.save(tmp_path / "X.npy", X)
    net, apart, seen = make(), make(), []

    class Watch:
        def on_epoch_end(self, state: Any) -> str | None:
            seen.append((state.epoch, state.gradient_norm(), state.net.evaluate(X, y)["loss"]))
            return "enough" if state.epoch == 6 else None

    for one in (net, apart):
        one.standardize(X, y)
    history = net.fit(
        np.load(tmp_path / "X.npy", mmap_mode="r"), y, optimizer="lbfgs", epochs=50, validation_split=0.25,
        callbacks=[Watch()],
    )  # fmt: skip
    assert history.stop_reason == "Watch: enough"
    assert [epoch for epoch, _, _ in seen] == [1, 2, 3, 4, 5, 6]
    assert len(history.loss) == len(history.val_loss) == 6
    rows, held = splits.split_rows(y, 0.25, net.seed, stratify=False)
    expected = apart.fit(X[rows], y[rows], optimizer="lbfgs", epochs=6, validation_data=(X[held], y[held]))
    assert history.loss == expected.loss
    assert history.val_loss == expected.val_loss
    np.testing.assert_array_equal(net.weights[0], apart.weights[0])


def test_early_stopping_restores_the_best() -> None:
    X, y = draw()
    net = make()
    history = net.fit(
        X[:20], y[:20], optimizer="lbfgs", epochs=300, validation_data=(X[20:], y[20:]),
        callbacks=[stopping.EarlyStopping(patience=5)],
    )  # fmt: skip
    assert history.stop_reason.startswith("EarlyStopping")
    assert net.evaluate(X[20:], y[20:])["loss"] == min(history.val_loss)


def test_divergence_leaves_the_last_iterate() -> None:
    X, y = draw()
    net = make()
    net.fit(X, y, optimizer="lbfgs", epochs=3)
    before = net.weights[0]
    net.set_weights([net.weights[0], np.full((9, 3), 1e200)], net.biases)
    with pytest.raises(fastbp.DivergenceError) as caught:
        net.fit(X, y, optimizer="lbfgs")
    assert caught.value.lr is None  # it has none that might be smaller
    assert "at epoch 3, step 3: scale the data by net.standardize;" in str(caught.value)
    np.testing.assert_array_equal(net.weights[0], before)
    assert net.weights[1][0, 0] == 1e200


def test_bad_rows_of_a_memory_map_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning, "GRADIENT_ROWS", 10)
    X, y = draw()
    X[37, 2] = np.nan
    np.save(tmp_path / "X.npy", X)
    net = make()
    before = net.weights[0]
    with pytest.raises(ValueError, match=r"X.*37"):
        net.fit(np.load(tmp_path / "X.npy", mmap_mode="r"), y, optimizer="lbfgs")
    np.testing.assert_array_equal(net.weights[0], before)


INTERRUPT = """
import os, signal, numpy as np, fastbp
X = np.random.default_rng(0).standard_normal((3000, 20)); y = X[:, :2] ** 2
net = fastbp.MLP([20, 50, 2], loss="mse", activation="tanh", seed=0)
points = []
class Interrupt:
    def on_epoch_end(self, state):
        points.append(net.weights[0])
        if state.epoch == 3 and WHEN == "callback":
            os.kill(os.getpid(), signal.SIGINT)
engine, call, count = net.session.engine, net.session.engine.call, 0
def interrupting(*arguments, **options):
    global count
    count += 1
    if count == 9 and WHEN == "evaluation":
        os.kill(os.getpid(), signal.SIGINT)
    return call(*arguments, **options)
engine.call = interrupting
try:
    net.fit(X, y, optimizer="lbfgs", epochs=100, callbacks=[Interrupt()])
except KeyboardInterrupt:
    print("interrupted", len(net.history.loss) == len(points) > 0, np.array_equal(net.weights[0], points[-1]))
engine.call = call
net.fit(X, y, epochs=1, optimizer="lbfgs")
print(len(net.history.loss), signal.getsignal(signal.SIGINT) is signal.default_int_handler)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")
@pytest.mark.parametrize("when", ["callback", "evaluation"])
def test_interruption_leaves_the_last_iterate(when: str) -> None:
    assert succeed(f"WHEN = {when!r}\n{INTERRUPT}").split() == ["interrupted", "True", "True", "1", "True"]


# --- what it refuses, before anything is changed


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"batch_size": 8}, "leave batch_size out, got 8"),
        ({"schedule": schedules.Cosine(3)}, "schedule must be None, got Cosine"),
        ({"schedule": lambda step: 0.1}, "schedule must be None"),
    ],
)
def test_arguments_without_effect(options: dict[str, Any], says: str) -> None:
    X, y = draw()
    net = make()
    net.train_step(X, y, "adam")
    with pytest.raises(ValueError, match=says):
        net.fit(X, y, optimizer="lbfgs", **options)
    assert net.session.engine.state_layout == ("adam", 2)
    net.fit(X, y, optimizer="lbfgs", epochs=1, batch_size=ROWS)


def test_no_single_steps() -> None:
    X, y = draw()
    net = make()
    net.train_step(X, y, "adam")
    with pytest.raises(ValueError, match="L-BFGS makes no single steps"):
        net.train_step(X, y, "lbfgs")
    with pytest.raises(ValueError, match="L-BFGS makes no single steps"):
        LBFGS().update(net, net.backprop(X, y))
    with pytest.raises(ValueError, match=r"optimizer must be one of sgd.* got lbfgs"):
        make(cls=NumpyMLP).train_step(X, y, "lbfgs")
    assert net.session.engine.state_layout == ("adam", 2)


@pytest.mark.parametrize("name", ["memory", "max_line_search", "gtol", "ftol", "weight_decay"])
def test_bad_options(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} must be"):
        LBFGS(**{name: -1})


def test_penalties_and_weights_belong_to_the_cost() -> None:
    """l2 (on weights, not on biases) and sample weights: SciPy on the NumPy network, which knows both."""
    X, y = draw()
    weights = np.random.default_rng(4).uniform(0.0, 3.0, ROWS)
    weights[:10] = 0.0
    net = fastbp.MLP(SIZES, loss="mse", activation="tanh", dtype="float64", seed=3, l2=0.02)
    twin = make(cls=NumpyMLP)
    shapes = [array.shape for array in [*twin.weights, *twin.biases]]
    cuts = np.cumsum([int(np.prod(shape)) for shape in shapes])[:-1]
    on_weights = np.concatenate([np.full(int(np.prod(s)), 0.02 if len(s) == 2 else 0.0) for s in shapes])

    def cost(point: np.ndarray) -> tuple[float, np.ndarray]:
        arrays = [part.reshape(shape) for part, shape in zip(np.split(point, cuts), shapes, strict=True)]
        twin.set_weights(arrays[:2], arrays[2:])
        gradient = twin.backprop(X, y, sample_weight=weights)
        penalty = float(on_weights @ np.square(point))
        return gradient.loss + penalty, flat(gradient.weights, gradient.biases) + 2 * on_weights * point

    start = flat(twin.weights, twin.biases)
    found = minimize(cost, start, jac=True, method="L-BFGS-B", options={"maxiter": 8, "gtol": 0.0, "ftol": 0.0})
    net.fit(X, y, sample_weight=weights, optimizer=LBFGS(gtol=0.0, ftol=0.0), epochs=8)
    np.testing.assert_allclose(flat(net.weights, net.biases), found.x, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("held", [{"dropout": 0.1}, {"input_noise": 0.1}, {"l1": 0.1}, {"max_norm": 2.0}], ids=str)
def test_what_has_no_smooth_cost_is_refused(held: dict[str, float]) -> None:
    X, y = draw()
    net = fastbp.MLP(SIZES, loss="mse", seed=0, **held)
    net.fit(X, y, epochs=1)
    before = net.optimizer_state()["steps"]
    with pytest.raises(ValueError, match=f"{next(iter(held))} must be off"):
        net.fit(X, y, optimizer="lbfgs")
    assert net.optimizer_state()["steps"] == before


def test_it_cannot_be_resumed(tmp_path: Path) -> None:
    X, y = draw()
    net = make()
    with pytest.raises(ValueError, match="leave Checkpoint and resume out"):
        net.fit(X, y, optimizer="lbfgs", callbacks=[Checkpoint(tmp_path / "run")])
    assert not (tmp_path / "run").exists()
