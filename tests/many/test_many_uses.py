"""Cross-validation, ensembles, groups and sweeps over anything: many networks, each as `fit` leaves it."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastbp
from fastbp import (
    MLP,
    SGD,
    Adam,
    EarlyStopping,
    Ensemble,
    GroupModel,
    NetworksFailed,
    cross_validate,
    fit_groups,
    lr_sweep,
    schedules,
    sweep,
)
from fastbp.many.folds import of as folds_of
from fastbp.many.metrics import METRICS
from fastbp.many.variants import variant

X, Y = fastbp.datasets.make_classification(240, 6, 3, seed=2)
REAL = (X[:, 0] * X[:, 1] + X[:, 2]).astype(np.float64) + 5.0


def right(y: Any, predicted: Any) -> float:
    return float((y == predicted).mean())


def same(one: MLP, other: MLP) -> bool:
    pairs = zip(one.weights + one.biases, other.weights + other.biases, strict=True)
    return all((a == b).all() for a, b in pairs)


# --- cross-validation ---------------------------------------------------------------------------------------


def test_folds_are_trained_as_fit_does_and_tested_apart() -> None:
    net = MLP([6, 8, 3], seed=4)
    net.standardize(X[:100] * 3)
    found = cross_validate(net, X, Y, folds=4, repeats=2, metrics=["loss", "accuracy", right], epochs=3)
    assert found.scores["loss"].shape == (8,)
    assert [str(note) for note in found.notes] == ["each fold standardises by its own training rows"]
    for number, (train, test) in enumerate(found.folds):
        twin = variant(net, 4 + number, {})
        twin.standardize(X[train])
        twin.fit(X[train], Y[train], epochs=3)
        assert same(twin, found.nets[number])
        assert found.scores["loss"][number] == twin.evaluate(X[test], Y[test])["loss"]
        assert (
            found.scores["accuracy"][number] == found.scores["right"][number] == right(Y[test], twin.predict(X[test]))
        )
        assert sorted([*train, *test]) == list(range(240))
        assert np.bincount(Y[test]).tolist() == pytest.approx([20, 20, 20], abs=1)
    assert found.probabilities is not None
    np.testing.assert_allclose(found.probabilities.sum(axis=1), 1.0, atol=1e-6)
    first = [found.nets[k].predict_proba(X[test]) for k, (_, test) in enumerate(found.folds[:4])]
    mean = np.empty((240, 3))
    for (_, test), p in zip(found.folds[:4], first, strict=True):
        mean[test] = p / 2
    for k, (_, test) in enumerate(found.folds[4:], 4):
        mean[test] += found.nets[k].predict_proba(X[test]) / 2
    np.testing.assert_allclose(found.probabilities, mean, atol=1e-6)
    assert (found.predictions == mean.argmax(axis=1)).all()
    scores = found.scores["accuracy"]
    assert found.error["accuracy"] == pytest.approx(scores.std(ddof=1) * np.sqrt(1 / 8 + 1 / 3))
    assert "accuracy" in str(found)


def test_early_stopping_never_sees_the_test_fold() -> None:
    net = MLP([6, 8, 1], loss="mse", seed=4)
    stopping = EarlyStopping(patience=2)
    found = cross_validate(net, X, REAL, folds=3, epochs=40, callbacks=[stopping], optimizer=Adam(0.05))
    assert "EarlyStopping looks at 20% of the training rows" in found.notes[0]
    for number, (train, _) in enumerate(found.folds):
        twin = variant(net, 4 + number, {})
        twin.fit(X[train], REAL[train], epochs=40, callbacks=[EarlyStopping(patience=2)], optimizer=Adam(0.05),
                 validation_split=0.2)  # fmt: skip
        assert same(twin, found.nets[number])
    with pytest.raises(ValueError, match="validation_data is not for here"):
        cross_validate(net, X, REAL, validation_data=(X, REAL))


def test_splitters_groups_and_journals(tmp_path: Path) -> None:
    from sklearn.model_selection import KFold

    net, groups = MLP([6, 4, 1], loss="mse", seed=0), np.repeat(np.arange(24), 10)
    pairs = list(KFold(3).split(X))
    by_splitter = cross_validate(net, X, REAL, folds=KFold(3), epochs=1, journal=tmp_path / "cv.jsonl")
    by_pairs = cross_validate(net, X, REAL, folds=pairs, epochs=1, journal=tmp_path / "cv.jsonl")
    assert len((tmp_path / "cv.jsonl").read_text().splitlines()) == 4
    assert by_splitter.scores["r2"].tolist() == by_pairs.scores["r2"].tolist()
    assert (by_splitter.predictions == by_pairs.predictions).all()
    for train, test in folds_of(5, X, REAL, groups, 2, 0, by_class=False):
        assert not set(groups[train]) & set(groups[test])
        assert 40 <= len(test) <= 50
    with pytest.raises(ValueError, match="24 different values"):
        folds_of(25, X, REAL, groups, 1, 0, by_class=False)
    with pytest.raises(TypeError, match="unexpected argument 'epoch'"):
        cross_validate(net, X, REAL, epoch=1)


# --- ensembles ----------------------------------------------------------------------------------------------


def test_an_ensemble_is_its_members(tmp_path: Path) -> None:
    net = MLP([6, 16, 3], seed=1)
    ensemble = Ensemble(net, 4)
    ensemble.fit(X, Y, epochs=4)
    twins = [variant(net, 1 + k, {}) for k in range(4)]
    for twin, member in zip(twins, ensemble.nets, strict=True):
        twin.fit(X, Y, epochs=4)
        assert same(twin, member)
    members = np.stack([twin.predict_proba(X) for twin in twins])
    np.testing.assert_array_equal(ensemble.predict_proba(X), members.mean(axis=0))
    np.testing.assert_array_equal(ensemble.spread(X), members.std(axis=0, ddof=1))
    p = members.mean(axis=0)[np.arange(240), Y]
    found = ensemble.evaluate(X, Y)
    assert found["loss"] == pytest.approx(-np.log(p.astype(np.float64)).mean())
    assert found["accuracy"] == right(Y, ensemble.predict(X))
    ensemble.save(tmp_path / "e.safetensors")
    again = Ensemble.load(tmp_path / "e.safetensors")
    np.testing.assert_array_equal(again.predict_proba(X), ensemble.predict_proba(X))
    for load in (fastbp.load, GroupModel.load):
        with pytest.raises(ValueError, match=r"e\.safetensors"):
            load(tmp_path / "e.safetensors")
    content = (tmp_path / "e.safetensors").read_bytes()
    (tmp_path / "e.safetensors").write_bytes(content[:-40] + b"x" + content[-39:])
    with pytest.raises(ValueError, match=r"e\.safetensors"):
        Ensemble.load(tmp_path / "e.safetensors")


def test_bagging_means_and_numbers() -> None:
    net = MLP([6, 8, 1], loss="mse", seed=1)
    net.standardize(X, REAL)
    ensemble = Ensemble(net, 3, bagging=True)
    ensemble.fit(X, REAL, epochs=2)
    rows = np.random.default_rng(2).integers(0, 240, 240)
    twin = variant(net, 2, {})
    twin.fit(X[rows], REAL[rows], epochs=2)
    assert same(twin, ensemble.nets[1])
    np.testing.assert_allclose(ensemble.predict(X), np.mean([one.predict(X) for one in ensemble.nets], axis=0))
    assert ensemble.evaluate(X, REAL)["loss"] == pytest.approx(np.square(ensemble.predict(X) - REAL).mean())
    with pytest.raises(ValueError, match="give validation_data"):
        ensemble.fit(X, REAL, validation_split=0.2)
    logits = Ensemble(MLP([6, 4, 3], seed=0), 2, combine="mean")
    outputs = np.mean([one.forward(X) for one in logits.nets], axis=0)
    np.testing.assert_allclose(logits.predict_proba(X), np.exp(outputs) / np.exp(outputs).sum(1, keepdims=True), 1e-5)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_an_ensemble_is_better_calibrated(seed: int) -> None:
    """On three data sets: its log loss is below that of its members by more than the error of their mean."""
    rows, y = fastbp.datasets.make_classification(900, 8, 3, seed=seed)
    ensemble = Ensemble(MLP([8, 64, 3], seed=0), 10)
    ensemble.fit(rows[:300], y[:300], epochs=40, optimizer=Adam(0.01))
    members = np.array([one.evaluate(rows[300:], y[300:])["loss"] for one in ensemble.nets])
    gain = members.mean() - ensemble.evaluate(rows[300:], y[300:])["loss"]
    assert gain > 2 * members.std(ddof=1) / np.sqrt(10)


def test_pictures_of_ensembles() -> None:
    ensemble = Ensemble(MLP([6, 8, 3], seed=0), 3)
    ensemble.fit(X, Y, epochs=2)
    accuracy = ensemble.evaluate(X, Y)["accuracy"]
    axes = fastbp.plots.confusion_matrix(ensemble, X, Y).axes[0]
    assert axes.get_title() == f"accuracy {accuracy:.2%} of 240 rows"
    numbers = Ensemble(MLP([6, 4, 1], loss="mse", seed=0), 2)
    rmse = np.sqrt(numbers.evaluate(X, REAL)["loss"])
    assert fastbp.plots.evaluation(numbers, X, REAL).axes[0].get_title() == f"RMSE {rmse:.4g} of 240 rows"


# --- groups -------------------------------------------------------------------------------------------------


def test_groups_have_networks_of_their_own(tmp_path: Path) -> None:
    import pandas

    net, by = MLP([6, 8, 1], loss="mse", seed=3), np.array(["b", "a", "c"])[np.arange(240) % 3]
    net.standardize(X, REAL)
    model = fit_groups(net, X, REAL, by=by, epochs=3)
    assert model.groups == ["a", "b", "c"]
    for name in model.groups:
        twin, rows = variant(net, 3, {}), by == name
        twin.standardize(X[rows], REAL[rows])
        twin.fit(X[rows], REAL[rows], epochs=3)
        assert same(twin, model.nets[name])
        np.testing.assert_array_equal(model.predict(X, by)[rows], twin.predict(X[rows]))
    model.save(tmp_path / "g.safetensors")
    again = GroupModel.load(tmp_path / "g.safetensors")
    np.testing.assert_array_equal(again.predict(X, by), model.predict(X, by))
    with pytest.raises(ValueError, match=r"no network was trained for the groups 'x', 'y' \(2 unknown\)"):
        again.predict(X[:3], ["x", "a", "y"])
    frame = pandas.DataFrame(X, columns=list("uvwxyz")).assign(shop=np.arange(240) % 3)
    framed = fit_groups(net, frame, REAL, by="shop", epochs=3)
    np.testing.assert_array_equal(framed.predict(frame[::-1]), model.predict(X, by)[::-1])
    with pytest.raises(ValueError, match="'store' is no column of X"):
        fit_groups(net, frame, REAL, by="store")
    with pytest.raises(TypeError, match=r"by\[0\] is 0.5"):
        fit_groups(net, X, REAL, by=np.full(240, 0.5))
    bad = REAL.copy()
    bad[by == "c"] *= 1e30
    net.scaling = None
    with pytest.raises(NetworksFailed, match="group 'c'") as error:
        fit_groups(net, X, bad, by=by, optimizer=SGD(0.01))
    assert error.value.result.groups == ["a", "b"]


def test_what_several_networks_look_like() -> None:
    """A short repr, a table within 80 columns, and the same for notebooks."""
    net = MLP([6, 8, 3], seed=0)
    folds = cross_validate(net, X, Y, folds=4, epochs=2, metrics=["loss", "accuracy"])
    ensemble = Ensemble(net, 12)
    assert "each: MLP 6-8-3" in str(ensemble)  # not trained yet
    ensemble.fit(X, Y, epochs=3, validation_split=0.2)
    groups = fit_groups(net, X, Y, by=["north", "south", "<west>"] * 80, epochs=4)
    for found, short in (
        (folds, f"<fastbp.CrossValidation of 4 folds: loss {folds.mean['loss']:.4g} +- "),
        (ensemble, "<fastbp.Ensemble of 12: <fastbp.MLP 6-8-3"),
        (groups, "<fastbp.GroupModel of 3 groups: <fastbp.MLP 6-8-3"),
        (sweep(net, X, Y, {"lr": [0.01, 0.1]}, seeds=2, epochs=1), "<fastbp.Sweep of 2 points x 2 seeds, best lr 0."),
    ):
        assert repr(found).startswith(short)
        assert max(map(len, str(found).splitlines())) <= 80
        assert "<table" in found._repr_html_()  # type: ignore[attr-defined]
    worst, best = folds.scores["accuracy"].min(), folds.scores["accuracy"].max()
    assert f"{worst:.4g}" in str(folds).split("accuracy")[1].split()[2]
    assert f"{best:.4g}" in str(folds).split("accuracy")[1].split()[3]
    lines = str(ensemble).splitlines()
    shown = [float(line.split()[-1]) for line in lines if line.split()[0].isdigit()]
    assert len(shown) == 10
    assert shown == sorted(shown, reverse=True)  # the worst first, and how many are left out
    assert "... and 2 more, with lower losses" in lines
    assert "&lt;west&gt;" in groups._repr_html_()


# --- sweeps -------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:the best learning rate")
def test_learning_rates_alone_are_lr_sweeps() -> None:
    net = MLP([6, 8, 3], seed=2)
    found = sweep(net, X, Y, {"lr": [1e-3, 1e-2, 1e-1]}, seeds=3, epochs=3)
    rates = lr_sweep(net, X, Y, [1e-3, 1e-2, 1e-1], seeds=3, epochs=3)
    assert found.scores.tolist() == rates.val_loss[:, :, -1].tolist()
    assert [[one.loss for one in line] for line in found.histories if line] == rates.train_loss.tolist()


OVER = {
    "momentum": [0.0, 0.9], "hidden": [(4,), (5, 6)], "activation": ["relu", "tanh"], "dropout": [0.0, 0.2],
    "batch_size": [16, 48], "schedule": [None, schedules.Cosine(2)], "l2": [0.0, 1e-3],
}  # fmt: skip


def test_every_run_of_a_sweep_is_fits(tmp_path: Path) -> None:
    net = MLP([6, 8, 3], seed=2)
    options: dict[str, Any] = {"seeds": [5, 9], "epochs": 2, "optimizer": SGD(0.1), "metric": "accuracy"}
    found = sweep(net, X, Y, OVER, sampling="random", n=6, journal=tmp_path / "s.jsonl", **options)
    for config, line in zip(found.configs, found.scores.tolist(), strict=True):
        for seed, score in zip(found.seeds, line, strict=True):
            network = {name: config[name] for name in ("hidden", "activation", "dropout", "l2")}
            twin = MLP([6, *network.pop("hidden"), 3], seed=seed, **network)
            rule = dataclasses.replace(SGD(0.1), momentum=config["momentum"])
            history = twin.fit(
                X, Y, epochs=2, batch_size=config["batch_size"], schedule=config["schedule"], optimizer=rule,
                validation_split=0.2,
            )  # fmt: skip
            assert score == history.val_score[-1]
    assert found.best_index == int(np.argmax(found.mean))
    assert found.best_net is not None
    assert found.as_good[found.best_index]
    again = sweep(net, X, Y, OVER, sampling="random", n=6, journal=tmp_path / "s.jsonl", **options)
    assert len((tmp_path / "s.jsonl").read_text().splitlines()) == 13
    assert again.scores.tolist() == found.scores.tolist()
    assert same(again.best_net, found.best_net)  # type: ignore[arg-type]
    refitted = found.refit(X, Y)
    assert refitted.history is not None
    assert len(refitted.history.loss) == 2
    found.to_json(tmp_path / "s.json")
    assert len(json.loads((tmp_path / "s.json").read_text())["points"]) == 6
    assert "best" in str(found)


def test_budgets_ranges_and_diverging_runs() -> None:
    net = MLP([6, 8, 1], loss="mse", seed=2)
    found = sweep(
        net, X, REAL, {"lr": (1e-3, 1e-1, "log"), "batch_size": (8, 64)}, sampling="sobol", n=4, seeds=1, steps=60
    )  # fmt: skip
    for config, (history,) in zip(found.configs, found.histories, strict=True):
        assert 1e-3 < config["lr"] < 1e-1
        assert isinstance(config["batch_size"], int)
        assert history is not None
        assert len(history.loss) == max(1, round(60 / -(-192 // config["batch_size"])))
    found = sweep(net, X, REAL, {"lr": [0.01, 1e9], "optimizer": ["sgd"]}, seeds=2, epochs=4)
    assert found.status.tolist() == [["finished"] * 2, ["diverged"] * 2]
    assert found.best == {"lr": 0.01, "optimizer": "sgd"}


@pytest.mark.parametrize(
    ("over", "options", "says"),
    [
        ({"rate": [1]}, {}, "did you mean|rate"),
        ({"lr": []}, {}, "is empty"),
        ({"lr": 0.1}, {}, "must be a list of values"),
        ({"lr": (0.1, 0.01)}, {}, "from a smaller to a larger"),
        ({"lr": (0.1, 1.0)}, {}, "a grid takes lists"),
        ({"lr": (0.1, 1.0)}, {"sampling": "random"}, "needs n"),
        ({"momentum": [0.9]}, {}, r"at .*has no momentum"),
        ({"hidden": [(0,)]}, {}, r"at \{'hidden'"),
        ({"batch_size": [0]}, {}, "at .*batch_size"),
        ({"lr": [0.1]}, {"metric": "r2"}, "does not fit"),
        ({"lr": [0.1]}, {"steps": 5, "epochs": 3}, "not both"),
    ],
)
def test_what_a_sweep_refuses(over: Any, options: Any, says: str) -> None:
    with pytest.raises((ValueError, TypeError), match=says):
        sweep(MLP([6, 4, 3], seed=0), X, Y, over, **options)


def test_metrics_are_scikit_learns() -> None:
    from sklearn import metrics

    w, y = np.random.default_rng(0).random(240) + 0.1, Y
    guess = np.where(np.arange(240) % 3, Y, 0)
    assert METRICS["accuracy"][0](y, guess, w) == pytest.approx(metrics.accuracy_score(y, guess, sample_weight=w))
    wanted = metrics.balanced_accuracy_score(y, guess, sample_weight=w)
    assert METRICS["balanced_accuracy"][0](y, guess, w) == pytest.approx(wanted)
    numbers = REAL + np.sin(np.arange(240))
    assert METRICS["r2"][0](REAL, numbers, w) == pytest.approx(metrics.r2_score(REAL, numbers, sample_weight=w))
    squares = metrics.mean_squared_error(REAL, numbers, sample_weight=w)
    assert METRICS["rmse"][0](REAL, numbers, w) == pytest.approx(np.sqrt(squares))
    assert METRICS["mae"][0](REAL, numbers, w) == pytest.approx(
        metrics.mean_absolute_error(REAL, numbers, sample_weight=w)
    )
