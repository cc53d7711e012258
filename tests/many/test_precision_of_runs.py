"""Sweeps, many networks, range tests, estimators and tables with products in bfloat16: the bits of `fit` in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastbp
from fastbp import MLP, Adam, EarlyStopping
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


def flat(net: MLP) -> bytes:
    return b"".join(array.tobytes() for array in (*net.weights, *net.biases))


def test_each_of_many_networks_is_its_own_fit(tmp_path: Path) -> None:
    """Bit for bit, among others in float32, with validations and callbacks; and float32 goes on from there."""
    X, y = data()
    stopping = [EarlyStopping(patience=1)]
    # Several of one kind, which share a job; other shapes, one with groups of rows; and what only `fit` can do.
    kinds: list[tuple[list[int], dict[str, Any]]] = [
        *[([40, 33, 5, 3], {"epochs": 3}) for _ in range(4)],
        ([40, 33, 5, 3], {"epochs": 3, "validation_split": 0.2, "optimizer": Adam(0.05), "callbacks": stopping}),
        ([40, 64, 3], {"epochs": 2, "batch_size": 7, "schedule": lambda step: 0.01 / (1 + step)}),
        ([40, 9, 3], {"epochs": 2, "validation_split": 0.5}),
    ]
    given = [(sizes, {"precision": how, **arguments}) for how in ("bfloat16", "float32") for sizes, arguments in kinds]
    nets = [MLP(sizes, seed=number, dropout=0.1) for number, (sizes, _) in enumerate(given)]
    nets[0].fit(X, y, epochs=1)  # its transposed weights are at hand, and stale afterwards
    twins = [net.copy() for net in nets]
    names = ("epochs", "batch_size", "schedule", "optimizer", "validation_split", "callbacks", "precision")
    default = {"epochs": 1, "batch_size": 19, "schedule": None, "optimizer": "adam", "validation_split": 0.0}
    default["callbacks"] = []
    lists: dict[str, Any] = {name: [{**default, **arguments}[name] for _, arguments in given] for name in names}
    journal = tmp_path / "many.jsonl"
    fastbp.fit_many(nets, X, y, threads=2, journal=journal, **lists)
    for number, (net, twin) in enumerate(zip(nets, twins, strict=True)):
        arguments = {name: values[number] for name, values in lists.items()}
        twin.fit(X, y, threads=1, **arguments)
        assert flat(net) == flat(twin), number
        assert net.history.val_loss == twin.history.val_loss  # type: ignore[union-attr]
        for precision in ("float32", "bfloat16"):
            steps = [one.train_step(X[:30], y[:30], Adam(), precision=precision) for one in (net, twin)]
            assert steps[0] == steps[1]
        assert flat(net) == flat(twin)
    half = len(kinds)
    assert all(flat(one) != flat(other) for one, other in zip(nets[:half], nets[half:], strict=True))
    lines = len(journal.read_text().splitlines())
    again = [MLP([40, 33, 5, 3], dropout=0.1, seed=2)]
    shared = {"epochs": 3, "batch_size": 19, "journal": journal}
    fastbp.fit_many(again, X, y, precision="bfloat16", **shared)  # which the journal has; in float32 it has not
    assert len(journal.read_text().splitlines()) == lines
    fastbp.fit_many([MLP([40, 33, 5, 3], dropout=0.1, seed=2)], X, y, **shared)
    assert len(journal.read_text().splitlines()) == lines + 1


def test_folds_members_groups_and_points_are_fits_in_it() -> None:
    X, y = data()
    net, how = MLP([40, 33, 3], seed=3), {"epochs": 2, "precision": "bfloat16"}
    folds = fastbp.cross_validate(net, X, y, folds=2, **how)
    ensemble = fastbp.Ensemble(net, 2)
    ensemble.fit(X, y, **how)
    by = ["a", "b"] * 75
    groups = fastbp.fit_groups(net, X, y, by=by, **how)
    found = fastbp.sweep(net, X, y, {"precision": ["bfloat16", "float32"]}, seeds=1, epochs=2)
    rows = [folds.folds[0][0], np.arange(150), np.arange(0, 150, 2)]
    for made, own in zip((folds.nets[0], ensemble.nets[0], groups.nets["a"]), rows, strict=True):
        twin = MLP([40, 33, 3], seed=3)
        twin.fit(X[own], y[own], **how)
        assert flat(made) == flat(twin)
    twins = [MLP([40, 33, 3], seed=3) for _ in range(2)]
    losses = [
        twin.fit(X, y, epochs=2, validation_split=0.2, precision=precision).val_loss[-1]
        for twin, precision in zip(twins, ("bfloat16", "float32"), strict=True)
    ]
    assert found.scores[:, 0].tolist() == losses
    assert losses[0] != losses[1]
    again = fastbp.sweep(net, X, y, {"batch_size": [32]}, seeds=1, **how)
    assert again.scores[0, 0] == losses[0]


def test_what_many_networks_cannot_do_in_it_is_refused_before_any_is_trained() -> None:
    X, y = data()
    nets = [MLP([40, 3], seed=0), MLP([40, 3], seed=0, dtype="float64")]
    before = flat(nets[0])
    with pytest.raises(ValueError, match=r"nets\[1\]: precision='bfloat16' is for networks of dtype float32"):
        fastbp.fit_many(nets, X, y, precision="bfloat16")
    with pytest.raises(ValueError, match=r"nets\[0\]: L-BFGS needs all digits"):
        fastbp.fit_many(nets[:1], X, y, optimizer="lbfgs", precision="bfloat16")
    with pytest.raises(ValueError, match=r"nets\[0\]: precision must be one of 'float32', 'bfloat16', got 'half'"):
        fastbp.fit_many(nets[:1], X, y, precision="half")
    assert flat(nets[0]) == before
