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


def test_every_way_to_train_goes_by_name() -> None:
    """A reordered frame gives the bits of the array, in steps, gradients, moments, chunks and range tests."""
    frame = pd.DataFrame(X, columns=NAMES)
    mixed = frame[["right", "left", "middle"]]
    made = []
    for rows, first in ((mixed, frame), (X, X)):
        net = fastbp.MLP([3, 5, 3], seed=0)
        net.standardize(first)
        net.standardize(rows)
        net.train_step(first, Y, "sgd")
        net.train_step(rows, Y, "sgd")
        net.fit([(first, Y), (rows, Y)], epochs=1, validation_data=(rows, Y))
        net.fit([(rows, Y)], epochs=1)
        assert net.feature_names == (None if rows is X else NAMES)
        tested = fastbp.lr_range_test(net, rows, Y, n_steps=20, validation_data=(rows, Y))
        made.append([*net.weights, *net.backprop(rows, Y).weights, tested.losses])
    for by_name, by_position in zip(*made, strict=True):
        np.testing.assert_array_equal(by_name, by_position)
    net = trained(frame)
    for make in (net.standardize, lambda rows: net.train_step(rows, Y, "sgd"), lambda rows: net.fit([(rows, Y)])):
        with pytest.raises(ValueError, match="has no column 'right'"):
            make(mixed.rename(columns={"right": "rihgt"}))
    two = [(frame, Y), (frame.rename(columns={"left": "l"}), Y)]
    with pytest.raises(ValueError, match="chunk 1 of epoch 0: X has no column 'left'"):
        fastbp.MLP([3, 5, 3], seed=0).fit(two, epochs=1)


def test_columns_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="the data frame has two columns 'a'"):
        trained(pd.DataFrame(X, columns=["a", "b", "a"]))


def test_what_has_no_names_has_none() -> None:
    for data in (X, X.tolist(), pd.DataFrame(X)):
        assert trained(data).feature_names is None
    with pytest.raises(AttributeError, match="feature_names cannot be set"):
        trained(X).feature_names = NAMES
