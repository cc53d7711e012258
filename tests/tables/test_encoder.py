"""Columns as inputs: scaled in float64, missing ones marked, categories and dates; the same from a file."""

from __future__ import annotations

import datetime
import json
from typing import Any

import numpy as np
import polars as pl
import pytest

from fastbp.io import frames
from fastbp.tables import kinds
from fastbp.tables.encoder import Encoder, Scale
from fastbp.tables.kinds import Reading, Typed


def typed(**columns: Any) -> dict[str, Typed]:
    frame = frames.frame({name: pl.Series(name, values, strict=False) for name, values in columns.items()})
    return {name: kinds.decide(frame, name, Reading(categorical=("code",))) for name in frame.names}


def learn(scaling: str = "standard", **columns: Any) -> tuple[Encoder, Any]:
    found = typed(**columns)
    encoder = Encoder.learn(found, scaling)
    return encoder, encoder.encode(found, np.float64)[0]


def test_numbers_are_scaled_and_missing_ones_marked() -> None:
    encoder, X = learn(a=[1.0, 2.0, None, 4.0, 5.0], b=[7, 7, 8, 8, 9])
    assert encoder.inputs == ["a", "a missing", "b"]
    filled = np.array([1, 2, 3, 4, 5.0])  # the median of those that are there
    np.testing.assert_allclose(X[:, 0], (filled - filled.mean()) / filled.std())
    np.testing.assert_array_equal(X[:, 1], [0, 0, 1, 0, 0])
    b = np.array([7, 7, 8, 8, 9.0])
    np.testing.assert_allclose(X[:, 2], (b - b.mean()) / b.std())


def test_time_stamps_keep_their_seconds() -> None:
    seconds = np.array([0.0, 1.0, 2.0, 3.0])
    X = learn(t=1.7e9 + seconds)[1]
    np.testing.assert_allclose(X[:, 0], (seconds - 1.5) / seconds.std(), rtol=1e-6)


def test_robust_scaling_bends_smoothly() -> None:
    """RealMLP's: (x - median) / (q3 - q1), then z / sqrt(1 + (z/3)^2)."""
    x = np.array([0.0, 1, 2, 3, 4, 1e300])
    X = learn("robust", a=x)[1]
    z = (x[:5] - 2.5) / (np.quantile(x, 0.75) - np.quantile(x, 0.25))
    np.testing.assert_allclose(X[:5, 0], z / np.sqrt(1 + (z / 3) ** 2))
    assert X[5, 0] == pytest.approx(3.0)
    assert learn("none", a=x)[1][:, 0].tolist() == x.tolist()


def test_nothing_overflows() -> None:
    big = np.finfo(np.float64).max
    scale = Scale.of(np.array([-big, big, 0.0]), "standard")
    assert scale is not None
    assert np.isfinite(scale(np.array([-big, 0.0, big]))).all()


def test_two_categories_are_one_input() -> None:
    encoder, X = learn(a=["x", "y", "x", None, "x"])
    assert encoder.inputs == ["a=y"]
    assert X[:, 0].tolist() == [-1, 1, -1, 0, -1]


def test_categories_are_inputs_and_unseen_ones_are_counted() -> None:
    encoder, X = learn(a=["x", "y", "z", "x", None])
    assert encoder.inputs == ["a=x", "a=y", "a=z"]
    np.testing.assert_array_equal(X, [[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 0, 0], [0, 0, 0]])
    X, unseen = encoder.encode(typed(a=["new", "z", "new", None, "odd"]))
    np.testing.assert_array_equal(X, [[0, 0, 0], [0, 0, 1], [0, 0, 0], [0, 0, 0], [0, 0, 0]])
    assert unseen == {"a": {"new": 2, "odd": 1}}


def test_rare_categories_are_pooled() -> None:
    values = ["x"] * 300 + ["y"] * 200 + ["p", "q", "r"]
    encoder, X = learn(a=values)
    assert encoder.inputs == ["a=x", "a=y", "a rare"]
    np.testing.assert_array_equal(X[-3:], [[0, 0, 1]] * 3)
    assert encoder.encode(typed(a=["q", "s"]))[1] == {"a": {"s": 1}}  # which is not one of the rare ones


def test_integers_as_categories_are_as_they_are_written() -> None:
    encoder, _ = learn(code=[1, 2, 3, 1, 2, 3])
    assert encoder.inputs == ["code=1", "code=2", "code=3"]
    for column in ([3.0], ["3"], [3]):
        assert encoder.encode(typed(code=column))[0].tolist() == [[0, 0, 1]]


def test_booleans() -> None:
    encoder, X = learn(a=[True, False, None], b=["yes", "no", "no"])
    assert (encoder.inputs, X.tolist()) == (["a", "b"], [[1, 1], [-1, -1], [0, -1]])
    frame = frames.frame({"a": ["true", "perhaps", "0"], "b": [True, None, False]})
    other = {column.name: kinds.convert(frame, column.name, column.kind, Reading()) for column in encoder.columns}
    assert encoder.encode(other)[0].tolist() == [[1, 1], [0, 0], [-1, -1]]
    assert encoder.encode(other)[1] == {"a": {"perhaps": 1}}


def test_dates_are_days_year_month_weekday_and_hour() -> None:
    days = [datetime.datetime(2020, 1, 1, 12), datetime.datetime(2021, 6, 3, 6), None, datetime.datetime(2020, 1, 3)]
    encoder, X = learn("none", d=days)
    assert encoder.inputs == ["d days", "d year", "d month", "d weekday", "d hour", "d missing"]
    np.testing.assert_allclose(X[0], [18262.5, 2020, 1, 3, 12, 0])
    np.testing.assert_allclose(X[1], [18781.25, 2021, 6, 4, 6, 0])
    assert X[2, -1] == 1
    assert learn(d=[datetime.datetime(2020, 1, k) for k in (1, 2, 3)])[0].inputs == ["d days", "d weekday"]


def test_what_never_varies_is_left_out() -> None:
    encoder, X = learn(a=[1, 2], b=[3, 3], c=["x", "x"], d=[True, True], e=[None, None])
    assert (encoder.inputs, encoder.constant) == (["a"], ("b", "c", "d", "e"))
    assert X.shape == (2, 1)


def test_an_encoder_comes_back_from_json() -> None:
    columns = {
        "a": [1.5, None, 3.25], "b": ["x", "y", "z"], "c": [True, False, True],
        "d": [datetime.datetime(2020, 1, k) for k in (1, 2, 3)],
    }  # fmt: skip
    encoder, X = learn("robust", **columns)
    again = Encoder.of(json.loads(json.dumps(encoder.to_dict())))
    assert again == encoder
    np.testing.assert_array_equal(again.encode(typed(**columns), np.float64)[0], X)
