"""A user's program, which type checkers read as strictly as they can: see test_types.py. It is never run."""

from __future__ import annotations

from typing import Any, assert_type

import numpy as np
import numpy.typing as npt

import fastbp
from fastbp.callbacks import CSVLogger, EarlyStopping, EpochState, JSONLogger


class Watch:
    """A callback of one's own."""

    def on_epoch_end(self, state: EpochState) -> bool:
        return state.loss < 0.1


def train() -> dict[str, float]:
    X, y = fastbp.datasets.load_digits()
    net = fastbp.MLP([64, 32, 10], activation="relu", loss=fastbp.CrossEntropy(label_smoothing=0.1), seed=0)
    assert_type(net.sizes, tuple[int, ...])
    history = net.fit(
        X, y, epochs=3, optimizer=fastbp.Adam(lr=3e-3), schedule=fastbp.schedules.Cosine(3), validation_split=0.2,
        callbacks=[EarlyStopping(patience=3), CSVLogger("training.csv"), JSONLogger("training.jsonl"), Watch()],
    )  # fmt: skip
    assert_type(history, fastbp.History)
    assert_type(history.loss, list[float])
    assert_type(net.train_step(X[:8], y[:8], "sgd"), float)
    gradient = net.backprop(X[:8], y[:8])
    shapes = [weight.shape for weight in gradient.weights]
    fastbp.SGD(lr=0.1).update(net, gradient)
    predicted: npt.NDArray[Any] = net.predict(X)
    net.save("digits.safetensors")
    again = fastbp.load("digits.safetensors")
    assert_type(again, fastbp.MLP)
    fastbp.plots.learning_curves(history, "curves.png")
    print(len(shapes), predicted.shape, history.best_epoch)
    return again.evaluate(X, y)


def sweep(rates: list[float]) -> float | None:
    X, y = np.ones((20, 3)), np.arange(20) % 2
    found = fastbp.lr_sweep(fastbp.MLP([3, 4, 2], seed=0), X, y, rates, seeds=2)
    assert_type(found, fastbp.LrSweep)
    print(fastbp.lr_range_test(fastbp.MLP([3, 4, 2]), X, y).suggestions["valley"].value)
    print(fastbp.lr_stability(fastbp.MLP([3, 4, 2]), X, y).lines.max())
    return found.best_lr


def table(path: str) -> list[str]:
    model = fastbp.TableModel(seed=0, training={"epochs": 5}).fit(path, target="price", test_fraction=0.2)
    importance = model.importance(path)
    assert_type(importance, dict[str, float])
    return sorted(importance, key=importance.__getitem__)
