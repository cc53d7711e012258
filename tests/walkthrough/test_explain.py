"""`fastbp.explain`: its numbers against central differences, for all kinds of networks; and what it refuses."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fastbp
from fastbp import losses
from fastbp.activations import ACTIVATIONS
from fastbp.walkthrough.stages import Stage
from fastbp.walkthrough.text import lines

NAN, INF = float("nan"), float("inf")


def stage(story: fastbp.Explanation, name: str) -> Stage:
    return next(one for one in story.stages if one.name == name)


# --- by hand


def test_the_small_network_is_that_of_the_tutorial() -> None:
    """The numbers of docs/tutorial/two-roles.md, which are checked by hand there."""
    story = fastbp.explain()
    assert story.agrees
    assert stage(story, "forward 1").values["w"].tolist() == [[1.4, 0.1], [0.3, 1.1]]
    assert stage(story, "forward 1").values["a"] == pytest.approx([2.0, 2.3])
    assert stage(story, "error").values["J"] == pytest.approx(0.49)
    assert stage(story, "backward 1").values["gradient"] == pytest.approx(np.array([[1.4, -1.4], [2.8, -2.8]]))
    assert stage(story, "backward 2").values["gradient"] == pytest.approx(np.array([[-2.8], [-3.22]]))
    assert stage(story, "update").values["after"][2] == pytest.approx(0.272)
    descent = stage(story, "descent").values
    assert descent["costs"][descent["rates"].tolist().index(0.01)][1] == pytest.approx(0.1502, abs=1e-4)
    assert fastbp.explain(seed=1).stages[1].values["w"].tolist() != [[1.4, 0.1], [0.3, 1.1]]


def test_every_sum_that_is_written_out_is_right() -> None:
    """As a reader with Python or a calculator would check them."""
    rng = np.random.default_rng(0)
    net = fastbp.MLP([7, 9, 3, 2], activation=["tanh", "elu"], loss="mse", seed=0, input_scale=True)
    X, y = rng.standard_normal((20, 7)), rng.standard_normal((20, 2))
    net.standardize(X)
    found = 0
    for story in (fastbp.explain(), fastbp.explain(net, X, y, row=3)):
        for one in story.stages:
            for line in one.written:
                for left, right in re.findall(r"(?<![\w(.-])([-0-9(][-+*/() .e\d]*) = (-?[\d.e-]+)", line):
                    assert eval(left) == pytest.approx(float(right), rel=2e-3, abs=2e-4), line
                    found += 1
    assert found > 40


# --- all kinds of networks


def drawn(loss: losses.Loss, n_out: int, rng: Any) -> Any:
    """A target."""
    if loss.link.one_class:
        return rng.integers(n_out)
    y = rng.standard_normal(n_out)
    return {"binary": (y > 0).astype(float), "counts": np.floor(np.abs(3 * y))}.get(loss.link.target, y)


LOSSES = [
    *(losses.get(name) for name in losses.LOSSES),
    fastbp.CrossEntropy(label_smoothing=0.1),
    fastbp.Huber(delta=0.3),
]


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from(LOSSES), st.lists(st.integers(1, 5), max_size=3), st.sampled_from(list(ACTIVATIONS)),
    st.integers(1, 6), st.integers(2, 4), st.booleans(), st.booleans(), st.booleans(),
    st.sampled_from(["float32", "float64"]), st.integers(0, 2**32 - 1),
)  # fmt: skip
def test_all_numbers_agree(
    loss: losses.Loss, hidden: list[int], activation: str, n_in: int, n_out: int, scaled: bool, standardised: bool,
    activated: bool, dtype: str, seed: int,
) -> None:  # fmt: skip
    rng = np.random.default_rng(seed)
    output = activation if activated and not loss.linked else None
    net = fastbp.MLP([n_in, *hidden, n_out], activation=activation, output_activation=output, loss=loss, dtype=dtype,
                     dropout=0.5 if hidden else 0.0, seed=seed, input_scale=scaled)  # fmt: skip
    net.set_weights(net.weights, [rng.standard_normal(len(one)) for one in net.biases])
    X = 3 + 2 * rng.standard_normal((9, n_in))
    if standardised:
        y = rng.standard_normal((9, n_out))
        net.standardize(X, y if loss.link.can_scale_y else None)
    x, y = X[4].astype(dtype), drawn(loss, n_out, rng)
    story = fastbp.explain(net, x, y)
    assert story.agrees, story
    assert story.numbers.cost == pytest.approx(net.evaluate(x[None], np.asarray(y)[None])["loss"], rel=1e-4, abs=1e-5)
    for k, layer in enumerate(story.numbers.layers, 1):
        assert layer.delta == pytest.approx(layer.d_a * layer.slope, rel=1e-9, abs=1e-12)
        assert stage(story, f"backward {k}").values["gradient"] == pytest.approx(np.outer(layer.inputs, layer.delta))
    assert ("backward scales" in [one.name for one in story.stages]) == scaled
    assert ("standardised" in [one.name for one in story.stages]) == standardised
    assert max(map(len, str(story).split("\n"))) <= 80


@pytest.mark.parametrize("name", [*fastbp.optimizers.OPTIMIZERS])
def test_the_step_is_the_optimizers_own(name: str) -> None:
    net = fastbp.MLP([2, 3, 1], activation="tanh", loss="mse", l2=0.01, dtype="float64", seed=0)
    x, y = np.array([[0.5, -1.0]]), np.array([[2.0]])
    for _ in range(3):
        net.train_step(x, y, name)
    before = net.copy()
    story = fastbp.explain(net, x, y, optimizer=name)
    after = stage(story, "update").values["after"]
    net.train_step(x, y, name)
    assert after == pytest.approx(np.concatenate([one.ravel() for one in (*net.weights, *net.biases)]), rel=1e-12)
    assert all((one == other).all() for one, other in zip(before.weights, story.subject.net.weights, strict=True))
    said = " ".join(stage(story, "update").notes)
    assert "penalties" in said
    assert ("moments of 3 steps" in said) == bool(fastbp.optimizers.get(name).n_moments)


def test_wide_layers_are_shown_by_their_units_with_the_largest_part() -> None:
    X, y = fastbp.datasets.load_digits()
    net = fastbp.MLP([64, 40, 10], seed=0)
    story = fastbp.explain(net, X, y, row=7)
    numbers, part = story.numbers, np.abs(story.numbers.layers[0].a * story.numbers.layers[0].d_a)
    units = stage(story, "forward 1").values["units"]
    assert set(units) == set(np.argsort(part)[-8:])
    assert [len(one) for one in story.view.units] == [8, 8, 10]
    # The rows of a column add up to z: those shown, the others, and the bias.
    grid = stage(story, "forward 1").grids[0]
    rows = [row for row in grid.rows if isinstance(row[1], float)]
    shown = sum(row[1] * row[2] for row in rows)  # type: ignore[operator]
    others, bias = (next(row[2] for row in grid.rows if str(row[0]).endswith(end)) for end in ("others", "b"))
    assert shown + others + bias == pytest.approx(numbers.layers[0].z[units[0]])  # type: ignore[operator]
    assert "8 of 64 inputs shown, those with the largest part in the error; 56 others" in " ".join(str(story).split())
    assert [len(one) for one in fastbp.explain(net, X, y, row=7, units=64).view.units] == [64, 40, 10]
    assert "class 7" in stage(story, "row").about


def test_silent_and_saturated_units_are_told() -> None:
    net = fastbp.MLP([1, 2, 1], activation=["relu"], loss="mse", seed=0)
    net.set_weights([[[1.0, -1.0]], [[1.0], [1.0]]], [[0.0, 0.0], [0.0]])
    notes = " ".join(stage(fastbp.explain(net, [2.0], 1.0), "backward 1").notes)
    assert "h2: this unit passes nothing on: its f'(z) is 0" in notes
    net = fastbp.MLP([1, 2, 1], activation="sigmoid", loss="mse", seed=0)
    net.set_weights([[[20.0, 0.1]], [[1.0], [1.0]]], [[0.0, 0.0], [0.0]])
    notes = " ".join(stage(fastbp.explain(net, [1.0], 1.0), "backward 1").notes)
    assert "h1: this unit passes nearly nothing on: it is saturated" in notes
    story = fastbp.explain(net, [1.0], float(net.predict([[1.0]])[0]))
    assert set(stage(fastbp.explain(_still(), [1.0], 0.0), "descent").values["verdicts"]) == {"stays"}
    assert story.agrees


def _still() -> fastbp.MLP:
    net = fastbp.MLP([1, 1], loss="mse", seed=0)
    net.set_weights([[[0.0]]], [[0.0]])
    return net


def test_a_kink_is_told_and_not_taken_for_an_error() -> None:
    net = fastbp.MLP([1, 1, 1], activation="relu", loss="mse", seed=0)
    net.set_weights([[[1.0]], [[1.0]]], [[-1.0], [0.0]])
    story = fastbp.explain(net, [1.0], 3.0)  # z is 0
    assert story.agrees
    assert "at a kink of J" in str(story)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_network_that_has_grown_without_bound(dtype: str, tmp_path: Path) -> None:
    net = fastbp.MLP([2, 2, 1], activation="relu", loss="mse", dtype=dtype, seed=0)
    huge = 1e30 if dtype == "float32" else 1e300
    net.set_weights([np.full((2, 2), huge), np.full((2, 1), huge)], [[0.0, 0.0], [0.0]])
    story = fastbp.explain(net, [1.0, 2.0], 1.0)
    text = " ".join(str(story).split())
    assert not story.agrees
    if dtype == "float64":
        assert "1 of 1 are not finite, out for one: the weights have grown without bound" in text
        assert "no step can be made of it" in text
        assert [one.name for one in story.stages][-1] == "update"
    else:
        assert "in float32 it is not finite" in text
    assert story.to_dict()["agrees"] is False
    story.to_html(tmp_path / "page.html")


def test_the_verdicts_of_the_rates() -> None:
    """On a parabola of one weight, (w + b - 2)^2, whose steps multiply the distance by 1 - 4 lr."""
    net = fastbp.MLP([1, 1], loss="mse", dtype="float64", seed=0)
    net.set_weights([[[0.0]]], [[0.0]])
    story = fastbp.explain(net, [1.0], 2.0, optimizer=fastbp.SGD(lr=0.1))
    found = dict(zip(story.descent.rates.round(5).tolist(), story.descent.verdicts, strict=True))  # type: ignore[union-attr]
    assert (found[0.001], found[0.1], found[1.0]) == ("crawls", "comes down", "climbs")
    at = min(found, key=lambda rate: abs(rate - 0.4))
    assert found[at] == "jumps over"


# --- tables


@pytest.fixture(scope="module")
def shop() -> tuple[fastbp.TableModel, Any]:
    import polars as pl

    rng = np.random.default_rng(0)
    n = 300
    area, city = rng.uniform(20, 90, n).round(1), rng.choice(["Bern", "Basel", "Genf"], n)
    frame = pl.DataFrame({
        "area": [None if k % 50 == 49 else one for k, one in enumerate(area.tolist())], "city": city,
        "lift": rng.random(n) > 0.5, "weight": np.full(n, 2.0), "price": (3 * area + 10 * (city == "Bern")).round(2),
    })  # fmt: skip
    model = fastbp.TableModel(seed=0, network={"hidden": (6,)}, training={"epochs": 5})
    return model.fit(frame, target="price", weight="weight"), frame


def test_a_table_shows_what_becomes_of_its_cells(shop: tuple[fastbp.TableModel, Any]) -> None:
    model, frame = shop
    story = fastbp.explain(model, frame, row=7)
    assert story.agrees
    first = stage(story, "cells")
    cells = {str(row[2]): row[3] for row in first.grids[0].rows}
    assert cells[f"city={frame['city'][7]}"] == 1.0
    assert cells["lift"] == (1.0 if frame["lift"][7] else -1.0)
    assert "weight is 2" in " ".join(first.notes)
    assert str(frame["price"][7]) in first.about
    answer = float(re.search(r"own units (-?[\d.]+)", stage(story, "error").about)[1])  # type: ignore[index]
    assert answer == pytest.approx(float(model.predict(frame[7:8])[0]), rel=1e-3)
    assert "missing: the median" in str(fastbp.explain(model, frame[49:50]))
    assert max(map(len, str(story).split("\n"))) <= 80


def test_tables_of_classes(shop: tuple[fastbp.TableModel, Any]) -> None:
    _, frame = shop
    for target in ("city", "lift"):
        model = fastbp.TableModel(seed=0, network={"hidden": (6,)}, training={"epochs": 2}).fit(
            frame.drop("weight"), target=target
        )
        story = fastbp.explain(model, frame.drop("weight"), row=3)
        assert story.agrees
        assert str(frame[target][3]) in stage(story, "cells").about


# --- what is refused


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (([1.0, 2.0], None), {}, "needs x and y"),
        (([1.0], [1.0]), {}, r"a row of 2 inputs.*\(1, 1\)"),
        (([[1.0, 2.0]] * 3, [1.0] * 3), {}, "one row, but there are 3: say which, from row=0 to row=2"),
        (([[1.0, 2.0]] * 3, [1.0] * 3), {"row": 3}, "row must be from 0 to 2, as there are 3 rows; got 3"),
        (([[1.0, 2.0]] * 3, [1.0] * 2), {"row": 1}, "x has 3 rows, but y has 2"),
        (([1.0, NAN], [1.0]), {}, "is nan; every value must be finite"),
        (([1.0, 2.0], [INF]), {}, "inf"),
        (([1.0, 2.0], [1.0]), {"units": 0}, "units"),
        (([1.0, 2.0], [1.0]), {"seed": 3}, "seed=3 draws the small network"),
        (([1.0, 2.0], [1.0]), {"optimizer": "lbfgs"}, "lbfgs|LBFGS"),
        ((np.empty((0, 2)), np.empty(0)), {}, "no rows"),
    ],
)
def test_bad_input_is_refused(arguments: tuple[Any, ...], options: dict[str, Any], message: str) -> None:
    net = fastbp.MLP([2, 1], loss="mse", seed=0)
    with pytest.raises(ValueError, match=message):
        fastbp.explain(net, *arguments, **options)


def test_what_is_no_network_is_refused(shop: tuple[fastbp.TableModel, Any]) -> None:
    net = fastbp.MLP([2, 3], loss=fastbp.CrossEntropy(ignore_index=-1), seed=0)
    with pytest.raises(ValueError, match="label of this row is -1"):
        fastbp.explain(net, [1.0, 2.0], -1)
    with pytest.raises(ValueError, match="no x, y or row without a network"):
        fastbp.explain(None, [1.0, 2.0])
    with pytest.raises(TypeError, match="one network"):
        fastbp.explain([net, net], [1.0, 2.0], 1)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="TableModel"):
        fastbp.explain(fastbp.TableModel())
    model, frame = shop
    with pytest.raises(ValueError, match="has no 'price', the target"):
        fastbp.explain(model, frame.with_columns(price=None), row=7)
    with pytest.raises(ValueError, match="no column 'price'"):
        fastbp.explain(model, frame.drop("price"), row=7)
    with pytest.raises(ValueError, match="no y"):
        fastbp.explain(model, frame, [1.0])
    with pytest.raises(TypeError, match="row must be an integer"):
        fastbp.explain(model, frame, row=1.5)  # type: ignore[arg-type]


def test_an_explanation_in_a_notebook_and_as_values() -> None:
    story = fastbp.explain()
    assert "<script" not in story._repr_html_()
    assert "Forward, layer 1" in story._repr_html_()
    assert repr(story).startswith("<fastbp.Explanation of 2-2-1 relu")
    found = story.to_dict()
    assert found["stages"][1]["values"]["w"] == [[1.4, 0.1], [0.3, 1.1]]


@pytest.mark.parametrize("width", [40, 80, 120])
def test_no_line_is_wider_than_the_screen(width: int) -> None:
    net = fastbp.MLP([40, 33, 12], seed=0)
    net.class_labels = [f"a class with a very long name {k}" for k in range(12)]
    story = fastbp.explain(net, np.ones(40), 3)
    longest = max(len(line) for _, line in lines(story.title, story.stages, width))
    assert longest <= max(width, 60)  # two names and a number side by side are as narrow as it gets
