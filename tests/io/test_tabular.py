"""Files, frame and picture of results, by the one mixin that writes them."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastbp.history import History
from fastbp.io.tabular import Columns, Tabular


class Result(Tabular):
    def columns(self) -> Columns:
        return {"n": np.array([1, 2, 3]), "x": np.array([0.1, math.nan, math.inf]), "name": ["a", "b,c", None]}


def test_what_is_missing_is_an_empty_field_and_infinity_is_not(tmp_path: Path) -> None:
    Result().to_csv(tmp_path / "result.csv")
    with open(tmp_path / "result.csv", newline="") as file:
        rows = list(csv.reader(file))
    assert rows == [["n", "x", "name"], ["1", "0.1", "a"], ["2", "", "b,c"], ["3", "inf", ""]]


def test_json_has_null_for_what_is_not_finite(tmp_path: Path) -> None:
    Result().to_json(tmp_path / "result.json")
    found = json.loads((tmp_path / "result.json").read_text(), parse_constant=lambda name: pytest.fail(name))
    assert found == {"n": [1, 2, 3], "x": [0.1, None, None], "name": ["a", "b,c", None]}


def test_a_frame_has_the_columns_of_the_file(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    history = History("accuracy", loss=[2.0, 1.0], val_loss=[3.0], val_score=[0.5], lr=[0.1, 0.1], seconds=[1.0, 1.0])
    history.to_csv(tmp_path / "history.csv")
    pandas.testing.assert_frame_equal(pandas.read_csv(tmp_path / "history.csv"), history.to_dataframe())


def test_files_are_as_they_were_if_they_cannot_be_written(tmp_path: Path) -> None:
    class Broken(Result):
        def columns(self) -> Columns:
            return {"n": [1, 2], "x": [1]}

    (tmp_path / "result.csv").write_text("before")
    with pytest.raises(ValueError, match="shorter"):
        Broken().to_csv(tmp_path / "result.csv")
    assert (tmp_path / "result.csv").read_text() == "before"


def test_a_result_without_a_picture_says_so() -> None:
    result: Any = Result()
    with pytest.raises(NotImplementedError):
        result.plot()
