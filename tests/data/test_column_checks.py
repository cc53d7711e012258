"""Frames given to a network go by the names of their columns, arrays by position."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest

import fastbp

DATA = np.random.default_rng(0)
X, Y = DATA.standard_normal((60, 3)), np.arange(60) % 3
NAMES = ["left", "middle", "right"]


def trained(frame: Any) -> fastbp.MLP:
    net = fastbp.MLP([3, 5, 3], seed=0)
    net.fit(frame, Y, epochs=2)
    return net


@pytest.mark.parametrize("make", [pd.DataFrame, lambda X, columns: pl.DataFrame(X, schema=columns)])
def test_columns_go_by_name(make: Any, tmp_path: Path) -> None:
    frame, net = make(X, columns=NAMES), trained(make(X, columns=NAMES))
    assert net.feature_names == NAMES
    expected = net.predict_proba(X)  # an array goes by position
    mixed = frame[["right", "left", "middle"]]
    np.testing.assert_array_equal(net.predict_proba(mixed), expected)
    np.testing.assert_array_equal(net.forward(mixed), net.forward(X))
    assert net.evaluate(mixed, Y) == net.evaluate(X, Y)
    net.save(tmp_path / "net.safetensors")
    for other in (
        fastbp.load(tmp_path / "net.safetensors"),
        net.copy(),
        copy.deepcopy(net),
        pickle.loads(pickle.dumps(net)),
    ):
        assert other.feature_names == NAMES
        np.testing.assert_array_equal(other.predict_proba(mixed), expected)
    assert net.astype("float64").feature_names == NAMES
    again, twice = trained(frame), trained(frame)
    again.fit(mixed, Y, epochs=1, validation_data=(mixed, Y))
    twice.fit(X, Y, epochs=1, validation_data=(X, Y))
    np.testing.assert_array_equal(again.predict_proba(X), twice.predict_proba(X))


def test_missing_columns_are_refused_and_others_named() -> None:
    frame = pd.DataFrame(X, columns=NAMES)
    net = trained(frame)
    with pytest.raises(ValueError, match=r"X has no column 'right' \(is it 'rihgt'\?\), which"):
        net.predict(frame.rename(columns={"right": "rihgt"}))
    with pytest.warns(UserWarning, match="not trained on are ignored: more"):
        assert (net.predict(frame.assign(more=1)) == net.predict(X)).all()


def test_what_has_no_names_has_none() -> None:
    for data in (X, X.tolist(), pd.DataFrame(X)):
        assert trained(data).feature_names is None
    with pytest.raises(AttributeError, match="feature_names cannot be set"):
        trained(X).feature_names = NAMES
