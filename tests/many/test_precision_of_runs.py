"""Sweeps, range tests and table models with products in bfloat16: the bits of `fit` in it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import fastbp
from fastbp import MLP, Adam
from fastbp.kernels.targets import TWIN, VARIABLE, pair_target


@pytest.fixture(autouse=True)
def _any_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """The instruction where there is one, its twin elsewhere."""
    if pair_target() is None:
        monkeypatch.setenv(VARIABLE, TWIN.name)


def data() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    X = rng.standard_normal((150, 40)).astype(np.float32)
    return X, X[:, :3].argmax(axis=1)


@pytest.mark.filterwarnings("ignore:the best learning rate:UserWarning")
@pytest.mark.parametrize("halving", [None, 2])
def test_a_run_of_a_sweep_is_the_fit(halving: int | None, tmp_path: Path) -> None:
    """Bit for bit, also where runs are continued; and its journal is of that precision alone."""
    X, y = data()
    # A layer in pairs, one too narrow, dropout, and an odd batch.
    net = MLP([40, 33, 5, 3], dropout=0.1, seed=5)
    how = {"epochs": 4, "batch_size": 19, "optimizer": Adam()}
    journal = tmp_path / "runs.jsonl"
    sweep = fastbp.lr_sweep(
        net, X, y, [1e-3, 1e-2], seeds=2, threads=2, halving=halving, precision="bfloat16", journal=journal, **how
    )
    finished = 0
    for i, rate in enumerate(sweep.learning_rates):
        for j, seed in enumerate(sweep.seeds):
            if sweep.status[i, j] != "finished":
                continue
            finished += 1
            alone = MLP([40, 33, 5, 3], dropout=0.1, seed=seed)
            settings = {**how, "optimizer": Adam(lr=rate)}
            history = alone.fit(X, y, validation_split=0.2, precision="bfloat16", **settings)
            np.testing.assert_array_equal(sweep.val_loss[i, j], history.val_loss)
            np.testing.assert_array_equal(sweep.train_loss[i, j], history.loss)
    assert finished >= 2
    with pytest.raises(ValueError, match="precision"):
        fastbp.lr_sweep(net, X, y, [1e-3, 1e-2], seeds=2, halving=halving, journal=journal, **how)


def test_the_range_test_is_a_fit() -> None:
    X, y = data()
    net = MLP([40, 33, 3], seed=5)
    found = {
        precision: fastbp.lr_range_test(
            net, X, y, n_steps=40, seeds=[0, 1], batch_size=15, fresh=False, precision=precision
        )
        for precision in ("float32", "bfloat16")
    }
    twin = net.copy()
    twin.seed = 1
    rates = found["bfloat16"].learning_rates
    twin.fit(X, y, epochs=1, batch_size=15, schedule=lambda step: float(rates[step]), precision="bfloat16")
    steps = found["bfloat16"].losses[1, :10]
    assert np.isclose(twin.history.loss[0], steps.mean(), rtol=1e-12)  # type: ignore[union-attr]
    assert (found["bfloat16"].losses != found["float32"].losses).any()
    assert found["bfloat16"].settings["precision"] == "bfloat16"


def test_a_table_model_trains_in_it() -> None:
    X, y = data()
    frame = {f"x{k}": X[:, k] for k in range(40)} | {"kind": np.array(["a", "b", "c"])[y]}
    models = {
        precision: fastbp.TableModel(
            seed=0, network={"hidden": (33,)}, training={"epochs": 12}, refit=True, precision=precision
        ).fit(frame, target="kind")
        for precision in ("float32", "bfloat16")
    }
    ours, single = (models[name].history.loss for name in ("bfloat16", "float32"))  # type: ignore[union-attr]
    assert ours != single
    np.testing.assert_allclose(ours, single, rtol=0.02)
    weights = [model.net.weights[0] for model in models.values()]  # type: ignore[union-attr]
    assert (weights[0] != weights[1]).any()  # trained once more, on all rows
    with pytest.raises(ValueError, match="for networks of dtype float32"):
        fastbp.TableModel(precision="bfloat16", dtype="float64")
