"""`TableModel`: from a messy frame to predictions, by names, the same from its file, and refusals with all places."""

from __future__ import annotations

import dataclasses
import itertools
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import fastbp
from fastbp.io.faults import TableError
from fastbp.tables import recipe as recipes_of_tables
from fastbp.tables.recipe import Recipe

TableModel = fastbp.TableModel
QUICK = {"training": {"epochs": 3}}


def homes(n: int = 400, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "area": rng.uniform(30, 200, n).round(1),
            "age": np.where(rng.random(n) < 0.1, np.nan, rng.integers(0, 100, n)),
            "town": rng.choice(["Aix", "Bonn", "Cork"], n),
            "garden": rng.random(n) > 0.5,
            "sold": pd.Timestamp("2020-01-01") + pd.to_timedelta(rng.integers(0, 900, n), "D"),
            "key": [f"h{k}" for k in range(n)],
        }
    )
    value = 3.0 * frame["area"] + 40.0 * (frame["town"] == "Bonn") + 30.0 * frame["garden"]
    frame["price"] = (1000 + value - frame["age"].fillna(50)).round(2)
    frame["dear"] = np.where(frame["price"] > frame["price"].median(), "yes", "no")
    return frame


HOMES = homes()


@pytest.fixture(scope="module")
def priced() -> Any:
    return TableModel(id="key", drop=["dear"]).fit(HOMES, "price", test_fraction=0.25)


@pytest.fixture(scope="module")
def classed() -> Any:
    return TableModel(id="key", drop=["price"]).fit(HOMES, "dear", test_fraction=0.25)


def test_quantities_are_learned_in_their_units(priced: Any) -> None:
    scores = priced.scores["test"]
    assert scores["r2"] > 0.95
    assert scores["rmse"] < 0.3 * scores["baseline"]["rmse"]
    assert scores["baseline"]["rmse"] == pytest.approx(HOMES["price"].std(), rel=0.2)
    predicted = priced.predict(HOMES)
    assert predicted.dtype == np.float64
    assert abs(predicted.mean() - HOMES["price"].mean()) < 20
    assert priced.evaluate(HOMES)["rows"] == 400
    assert "2 numbers: area, age (" in "\n".join(priced.notes)
    assert "240 rows to train on, 60 choose the best epoch, 100 held out; inputs " in "\n".join(priced.notes)


def test_classes(classed: Any) -> None:
    assert classed.classes == ["no", "yes"]
    assert classed.scores["test"]["accuracy"] > 0.9
    proba = classed.predict_proba(HOMES)
    np.testing.assert_allclose(proba.sum(axis=1), 1.0, atol=1e-6)
    np.testing.assert_array_equal(np.array(["no", "yes"])[proba.argmax(axis=1)], classed.predict(HOMES))


def test_columns_go_by_name(priced: Any) -> None:
    mixed = HOMES[HOMES.columns[::-1]]
    np.testing.assert_array_equal(priced.predict(mixed), priced.predict(HOMES))


@pytest.mark.parametrize("make", [pl.from_pandas, pa.Table.from_pandas, lambda frame: frame.to_dict("list")])
def test_every_frame_predicts_the_same(make: Any, priced: Any) -> None:
    np.testing.assert_array_equal(priced.predict(make(HOMES)), priced.predict(HOMES))


def test_a_file_predicts_as_the_frame_does(priced: Any, tmp_path: Path) -> None:
    path = tmp_path / "homes.csv"
    HOMES.to_csv(path, index=False)
    np.testing.assert_array_equal(priced.predict(path), priced.predict(HOMES))
    HOMES.to_csv(path, index=False, sep=";", decimal=",", encoding="utf-16")
    np.testing.assert_allclose(priced.predict(path), priced.predict(HOMES))


@pytest.mark.parametrize("name", ["priced", "classed"])
def test_a_saved_model_is_the_same(name: str, request: Any, tmp_path: Path) -> None:
    model, path = request.getfixturevalue(name), tmp_path / "model.safetensors"
    model.save(path)
    other = TableModel.load(path)
    np.testing.assert_array_equal(other.predict(HOMES), model.predict(HOMES))
    for field in ("encoder", "target", "reading", "roles", "scores", "notes", "trained", "classes"):
        assert getattr(other, field) == getattr(model, field), field
    assert fastbp.load(path).sizes == model.net.sizes  # the bare network
    assert repr(other) == repr(model)
    fastbp.MLP([2, 2]).save(path)
    with pytest.raises(ValueError, match=r"read it by fastbp\.load"):
        TableModel.load(path)


def test_missing_columns_are_all_refused(priced: Any) -> None:
    with pytest.raises(TableError) as caught:
        priced.predict(HOMES.drop(columns=["area", "town"]).assign(arae=1))
    assert caught.value.faults[0].startswith("has no column 'area' (is it 'arae'?), which the model needs")
    assert caught.value.faults[1].startswith("has no column 'town'")


def test_what_is_odd_in_new_rows_is_told(priced: Any) -> None:
    odd = HOMES.assign(extra=1, town=HOMES["town"].replace("Cork", "Derry"))
    odd.loc[3, "area"] = np.nan
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        predicted = priced.predict(odd)
    said = "\n".join(str(one.message) for one in caught)
    n = (HOMES["town"] == "Cork").sum()
    assert "columns that the model does not know are ignored: extra" in said
    assert f"{n} values of 'town' are not in the training rows: 'Derry' ({n})" in said
    assert "1 missing value in 'area', which the training rows all had" in said
    assert np.isfinite(predicted).all()


def test_all_that_is_wrong_is_told_at_once(tmp_path: Path) -> None:
    path = tmp_path / "bad.csv"
    rows = [f"n{k},{k},{k % 3},1/{1 + k % 9}/2003,{k}" for k in range(40)]
    rows[7] = "n7,inf,x,1/2/2003,7"
    path.write_text("\n".join(["name,size,code,day,goal", *rows, ""]))
    with pytest.raises(TableError) as caught:
        TableModel(numeric=["code"]).fit(path, "goal")
    said = str(caught.value)
    assert f"{path}: 5 faults" in said
    for part in (
        "line 2: column 'day' is '1/1/2003', which may be day and month", "line 9: column 'size' is inf",
        "line 9: column 'code' is 'x', which is no number", "column 'name' has 40 values in 40 rows",
        "target 'goal' holds 40 different integers in 40 rows: say numeric=['goal'] if they are quantities, "
        "categorical=['goal'] if they are classes",
    ):  # fmt: skip
        assert part in said


def test_names_that_there_are_not(tmp_path: Path) -> None:
    with pytest.raises(TableError) as caught:
        TableModel(drop=["kye"], numeric=["areas"]).fit(HOMES, "prise")
    said = [fault.split(";")[0] for fault in caught.value.faults]
    assert said == [
        "has no column 'prise' (did you mean 'price'?)", "has no column 'kye' (did you mean 'key'?)",
        "has no column 'areas' (did you mean 'area'?)",
    ]  # fmt: skip
    with pytest.raises(TableError, match="column 'price' is the target, but also named by drop"):
        TableModel(drop=["price"]).fit(HOMES, "price")


def test_integers_are_asked_for_and_said() -> None:
    frame = pd.DataFrame({"a": np.random.default_rng(0).normal(size=200), "n": np.arange(200) % 50})
    with pytest.raises(TableError, match="50 different integers"):
        TableModel(**QUICK).fit(frame, "n")
    assert TableModel(numeric=["n"], **QUICK).fit(frame, "n").target.kind == "quantities"
    assert len(TableModel(categorical=["n"], **QUICK).fit(frame, "n").classes) == 50
    assert TableModel(loss="mse", **QUICK).fit(frame, "n").target.kind == "quantities"
    few = frame.assign(n=frame["n"] % 3)
    model = TableModel(**QUICK).fit(few, "n")
    assert model.classes == [0, 1, 2]
    assert "(numeric=['n'] for quantities)" in "\n".join(model.notes)
    assert set(model.predict(few)) <= {0, 1, 2}


def test_floats_without_fractions_are_asked_for() -> None:
    frame = pd.DataFrame({"a": np.random.default_rng(0).normal(size=200), "n": np.arange(200) % 3 * 1.0})
    with pytest.raises(TableError, match="3 different numbers without fractions in 200 rows: say numeric="):
        TableModel(**QUICK).fit(frame, "n")
    assert TableModel(categorical=["n"], **QUICK).fit(frame, "n").classes == [0, 1, 2]
    assert TableModel(loss="cross_entropy", **QUICK).fit(frame, "n").classes == [0, 1, 2]
    assert TableModel(numeric=["n"], **QUICK).fit(frame, "n").target.kind == "quantities"
    holed = frame.assign(n=frame["n"].where(frame.index > 9))  # integers with a hole are floats to pandas
    assert TableModel(**QUICK).fit(holed, "n").classes == [0, 1, 2]
    with pytest.raises(TableError, match="target 'n' is the same in every row"):
        TableModel(**QUICK).fit(frame.assign(n=1.5), "n")
    with pytest.raises(TableError, match="no target is named"):
        TableModel().fit(frame, [])


def test_few_rows_are_all_trained_on() -> None:
    model = TableModel(drop=["key", "dear"], **QUICK).fit(HOMES[:6], "price")
    assert model.trained["rows"] == 6
    assert model.scores == {}


def test_booleans_are_predicted_as_booleans() -> None:
    model = TableModel(drop=["key"], **QUICK).fit(HOMES, "garden")
    assert model.classes == [False, True]
    assert model.predict(HOMES).dtype == np.bool_


def test_rows_without_a_target_are_left_out_and_counted() -> None:
    frame = HOMES.copy()
    frame.loc[:9, "dear"] = None
    model = TableModel(id="key", drop=["price"], **QUICK).fit(frame, "dear")
    assert "10 rows without a target left out" in model.notes
    with pytest.warns(UserWarning, match="10 rows without a target left out"):
        assert model.evaluate(frame)["rows"] == 390


def test_weights_reach_training_and_scores() -> None:
    """Rows of weight 0 may hold anything."""
    frame = HOMES.assign(w=np.where(np.arange(400) % 2, 1.0, 0.0))
    other = frame.assign(price=np.where(frame["w"] == 0, 1e6, frame["price"]))
    options = {"id": "key", "drop": ["dear"], "training": {"epochs": 60}}
    model = TableModel(**options).fit(other, "price", weight="w", test_fraction=0.25)
    assert model.scores["test"]["mae"] < 1e5
    assert "w" not in model.encoder.spans
    with pytest.raises(TableError, match=r"row 1: weight 'w' is -1.0, not at least 0"):
        TableModel(**options).fit(frame.assign(w=[1.0, -1.0] * 200), "price", weight="w")


def by(model: TableModel, **asked: str) -> Any:
    """The roles of columns where the price is the target."""
    return dataclasses.replace(model.roles, target=("price",), **({"group": None, "time": None} | asked))


def test_groups_and_times_reach_all_splits() -> None:
    frame = HOMES.assign(price=np.arange(400) + 0.5)  # which tells the rows
    frame["who"] = np.arange(400) // 8
    model = TableModel(drop=["key", "dear"], **QUICK)

    def rows(ready: Any) -> list[Any]:
        return [part.y[:, 0].astype(int) for part in (ready.train, ready.validation, ready.test)]

    parts = rows(model.prepare(frame, by(model, group="who"), test_fraction=0.25))
    assert sorted(np.concatenate(parts)) == list(range(400))
    assert not any(set(a // 8) & set(b // 8) for a, b in itertools.combinations(parts, 2))
    train, validation, test = rows(model.prepare(frame, by(model, time="sold"), test_fraction=0.25))
    assert frame["sold"][train].max() < frame["sold"][validation].min()
    assert frame["sold"][validation].max() < frame["sold"][test].min()


def test_preprocessing_learns_from_training_rows_alone() -> None:
    frame = HOMES.sort_values("sold").reset_index(drop=True)
    frame.loc[350:, "area"] = 1e9
    frame.loc[350:, "town"] = "Xanadu"
    model = TableModel(drop=["key", "dear"], **QUICK)
    model.prepare(frame, by(model, time="sold"), test_fraction=0.2)
    columns = {column.name: column for column in model.encoder.columns}
    assert columns["area"].scale.center < 300
    assert "Xanadu" not in columns["town"].levels


def test_several_targets() -> None:
    frame = HOMES.assign(twice=2 * HOMES["price"])
    model = TableModel(drop=["key", "dear"]).fit(frame, ["price", "twice"], test_fraction=0.25)
    assert model.predict(frame).shape == (400, 2)
    assert [one["r2"] > 0.9 for one in model.scores["test"]["outputs"]] == [True, True]
    flags = TableModel(drop=["key", "price"], **QUICK).fit(HOMES, ["dear", "garden"])
    assert flags.predict(HOMES).shape == (400, 2)
    assert flags.predict_proba(HOMES).shape == (400, 2)
    assert flags.scores["validation"]["outputs"][0]["accuracy"] > 0
    with pytest.raises(TableError, match="train a model a target"):
        TableModel(drop=["key"]).fit(HOMES, ["price", "town"])


def test_a_skewed_target_by_its_logarithm(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"a": rng.normal(size=500)})
    frame["y"] = np.exp(3 * frame["a"])
    plain = TableModel().fit(frame, "y", test_fraction=0.25).scores["test"]
    model = TableModel(log_target=True).fit(frame, "y", test_fraction=0.25)
    ratio = np.log1p(model.predict(frame)) - np.log1p(frame["y"])
    assert np.abs(ratio).mean() < 0.1
    assert plain["rmse"] > 0
    with pytest.raises(TableError, match="goes down to -1"):
        TableModel(log_target=True).fit(frame.assign(y=frame["y"] - 2), "y")


def test_refit_trains_on_all_rows() -> None:
    model = TableModel(drop=["key", "dear"], refit=True, training={"epochs": 12}).fit(
        HOMES, "price", test_fraction=0.25
    )
    assert model.trained["refit_rows"] == 300
    assert model.trained["best_epoch"] <= 12
    assert set(model.scores) == {"test"}
    assert len(model.history.loss) == 12


def test_the_seed_decides_everything() -> None:
    def predicted(seed: int) -> Any:
        return TableModel(drop=["key", "dear"], seed=seed, **QUICK).fit(HOMES, "price").predict(HOMES)

    np.testing.assert_array_equal(predicted(1), predicted(1))
    assert (predicted(1) != predicted(2)).any()


def test_float64() -> None:
    model = TableModel(drop=["key", "dear"], dtype="float64", **QUICK).fit(HOMES, "price")
    assert model.net.dtype == np.float64


def test_a_recipe_of_ones_own() -> None:
    seen = []

    def recipe(n_rows: int, n_inputs: int, kind: str) -> Recipe:
        seen.append((n_rows, n_inputs, kind))
        return Recipe((7,), {"activation": "tanh"}, {"epochs": 2, "batch_size": 50}, "robust", 0.0)

    model = TableModel(drop=["key", "dear"], recipe=recipe).fit(HOMES, "price")
    assert (model.net.sizes, model.net.activations, len(model.history.loss)) == (
        (model.net.sizes[0], 7, 1),
        ("tanh",),
        2,
    )
    assert seen[-1] == (400, model.net.sizes[0], "quantities")
    assert model.scores == {}


def test_importance_and_attribution(priced: Any, classed: Any) -> None:
    found = priced.importance(HOMES)
    assert next(iter(found)) == "area"
    assert abs(found["sold"]) < 0.2 * found["area"]
    assert priced.importance(HOMES) == found
    parts = priced.attribution(HOMES[:3])
    assert {name: part.shape for name, part in parts.items()} == dict.fromkeys(priced.encoder.spans, (3,))
    linear = TableModel(drop=["key", "dear"], network={"hidden": ()}).fit(HOMES, "price")
    total = sum(linear.attribution(HOMES).values())
    spread = total - linear.predict(HOMES)  # of a linear network all but the bias
    np.testing.assert_allclose(spread, spread[0], atol=1e-2)
    assert (classed.attribution(HOMES, "yes")["area"] != classed.attribution(HOMES, "no")["area"]).any()
    with pytest.raises(ValueError, match="output must be one of the classes no, yes"):
        classed.attribution(HOMES, "maybe")


def test_a_model_that_is_not_trained() -> None:
    for call in (lambda m: m.predict(HOMES), lambda m: m.evaluate(HOMES), lambda m: m.save("x")):
        with pytest.raises(ValueError, match="the model is not trained"):
            call(TableModel())


def test_a_test_table_of_its_own() -> None:
    model = TableModel(id="key", drop=["dear"], training={"epochs": 30}).fit(HOMES, "price", test=homes(100, 1))
    assert model.scores["test"]["r2"] > 0.8
    assert "100 held out" in model.notes[-1]


@pytest.mark.parametrize(
    ("fault", "says"), [("test", "has no column 'area'"), ("table", "'price'"), ("loss", "4 classes")]
)
def test_a_fault_leaves_the_model_as_it_was(fault: str, says: str) -> None:
    model = TableModel(id="key", drop=["dear"], **QUICK).fit(HOMES, "price")
    before, other = model.predict(HOMES), homes(100, 1)
    if fault == "loss":
        model.loss = fastbp.losses.get("binary_cross_entropy")
        other["price"] = np.array(["a", "b", "c", "d"])[np.arange(100) % 4]
    kept = dict(vars(model))
    with pytest.raises(ValueError, match=says):
        model.fit(
            other.drop(columns="price") if fault == "table" else other,
            "price",
            test=other.drop(columns="area") if fault == "test" else None,
        )
    assert all(vars(model)[name] is value for name, value in kept.items())
    assert vars(model).keys() == kept.keys()
    assert (model.predict(HOMES) == before).all()


def test_a_loss_that_still_falls_is_told() -> None:
    falling, flat = [1.0 / (1 + k) for k in range(20)], [1.0, 0.5] + [0.3] * 18
    assert recipes_of_tables.still_falls(falling)
    assert not recipes_of_tables.still_falls(flat)
    assert not recipes_of_tables.still_falls(falling, [0.9] * 20)  # no more rows are right
    assert recipes_of_tables.still_falls(falling, [0.9] * 19 + [0.91])
    model = TableModel(drop=["key", "dear"], training={"epochs": 20}).fit(HOMES, "price")
    assert model.notes[-1] == (
        "the validation loss still fell when 20 epochs were over; training={'epochs': 40} may do better"
    )


def test_the_recipe_goes_by_the_size_of_the_table() -> None:
    for rows, epochs, batch in ((100, 256, 100), (1000, 256, 256), (10_000, 52, 256), (1_000_000, 32, 256)):
        found = recipes_of_tables.default(rows, 9, "classes")
        assert (found.training["epochs"], found.training["batch_size"]) == (epochs, batch)
        assert found.training["schedule"].epochs == epochs
        assert found.training["optimizer"].lr == 0.02
    assert recipes_of_tables.default(100, 9, "quantities").training["optimizer"].lr == 0.035
    few = recipes_of_tables.stretched(fastbp.schedules.CosLog(256), 3)
    assert few == fastbp.schedules.Cosine(3)  # each cycle would be shorter than an epoch


def test_rows_that_choose_the_best_epoch() -> None:
    given = TableModel(drop=["key", "dear"], **QUICK).fit(HOMES[:300], "price", validation_data=HOMES[300:])
    assert "300 rows to train on, 100 choose the best epoch; " in "\n".join(given.notes)
    assert given.scores["validation"] == {k: v for k, v in given.evaluate(HOMES[300:]).items() if k != "rows"}


def test_a_network_of_nan_is_no_best_one() -> None:
    """Its accuracy is that of its first class, which may be the best so far."""
    model = TableModel(drop=["key", "price"], training={"epochs": 20, "optimizer": fastbp.Adam(lr=1e38)})
    with pytest.raises(fastbp.DivergenceError):
        model.fit(HOMES, "dear")
