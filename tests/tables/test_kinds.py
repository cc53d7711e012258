"""What the cells of a column are: numbers, names, dates; and the questions where two readings are as likely."""

from __future__ import annotations

import datetime
import io
from typing import Any

import pytest

from fastbp.io import frames
from fastbp.tables import kinds
from fastbp.tables.kinds import Reading, Typed


def look(*cells: str, **options: Any) -> Typed:
    text = "a\tz\n" + "".join(f"{cell}\t1\n" for cell in cells)
    return kinds.decide(frames.frame(io.BytesIO(text.encode()), delimiter="\t"), "a", Reading(**options))


@pytest.mark.parametrize(
    ("cells", "kind", "values"),
    [
        (["1", "2.5", "", " 3e2"], "number", [1.0, 2.5, None, 300.0]),
        (["+1", "-.5", "7."], "number", [1.0, -0.5, 7.0]),
        (["1", "NA", "?", "nan", "null"], "number", [1.0, None, None, None, None]),
        (["3,7", "4,25", "1"], "number", [3.7, 4.25, 1.0]),
        (["1.234,5", "2,0"], "number", [1234.5, 2.0]),
        (["1,234.5", "2,345"], "number", [1234.5, 2345.0]),
        (["-1,234,567", "12"], "number", [-1234567.0, 12.0]),
        (["007", "8"], "category", ["007", "8"]),
        (["007", "NA", "nan"], "category", ["007", None, None]),
        (["1_1", "11"], "category", ["1_1", "11"]),
        (["\u0667", "8"], "category", ["\u0667", "8"]),
        (["x ", " y", "NA"], "category", ["x", "y", None]),
        (["1.5 kg", "2 kg"], "category", ["1.5 kg", "2 kg"]),
        (["0", "0.5"], "number", [0.0, 0.5]),
        (["yes", "No", "", "NA"], "boolean", [True, False, None, None]),
        (["TRUE", "False"], "boolean", [True, False]),
        (["t", "f"], "boolean", [True, False]),
        (["0", "1"], "number", [0.0, 1.0]),
        (["yes", "maybe"], "category", ["yes", "maybe"]),
        (["", ""], "number", [None, None]),
    ],
)
def test_kinds(cells: list[str], kind: str, values: list[Any]) -> None:
    found = look(*cells)
    assert found.kind.name == kind
    assert found.values.to_list() == values
    assert found.faults == []


DATES = [
    (["2020-01-02", "2021-03-04", ""], (2020, 1, 2)), (["2.1.2020", "13.4.2005"], (2020, 1, 2)),
    (["2/1/2020", "13/4/2005"], (2020, 1, 2)), (["1/2/2020", "4/13/2005"], (2020, 1, 2)),
    (["1/2/20", "4/13/05"], (2020, 1, 2)), (["2 Jan 2020", "3 Feb 2020"], (2020, 1, 2)),
    (["Jan 2, 2020", "Feb 3, 2020"], (2020, 1, 2)), (["2020/1/2", "2020/3/14"], (2020, 1, 2)),
    (["2020-01-02T03:04:05Z", "2020-01-02T03:04:06Z"], (2020, 1, 2, 3, 4, 5)),
    (["2020-01-02 03:04", "2020-01-02 13:04"], (2020, 1, 2, 3, 4)),
    (["2020-01-02 03:04:05.250", "2020-01-02 13:04:05.5"], (2020, 1, 2, 3, 4, 5, 250_000)),
]  # fmt: skip


@pytest.mark.parametrize(("cells", "first"), DATES, ids=lambda value: str(value[0]))
def test_dates(cells: list[str], first: tuple[int, ...]) -> None:
    found = look(*cells)
    assert (found.kind.name, found.faults) == ("date", [])
    assert found.values[0] == datetime.datetime(*first)  # type: ignore[arg-type]


def test_days_without_signs_between() -> None:
    found = look("20240131", "", "19991231")
    assert (found.kind.name, found.kind.format) == ("date", "%Y%m%d")
    assert found.values.to_list() == [datetime.datetime(2024, 1, 31), None, datetime.datetime(1999, 12, 31)]
    assert "are dates" in found.note
    for cells in (("20240131", "20240132"), ("20240131", "1"), ("20240131.5", "20240131")):
        assert look(*cells).kind.name == "number"
    assert look("20240131", numeric=("a",)).kind.name == "number"


def test_day_and_month_are_asked_for() -> None:
    found = look("1/2/2003", "3/4/2005", shell=True)
    assert found.faults == [
        "line 2: column 'a' is '1/2/2003', which may be day and month or month and day: say --date a=%d/%m/%Y or "
        "--date a=%m/%d/%Y"
    ]
    assert "dates={'a': '%d/%m/%Y'}" in look("1/2/2003", "3/4/2005").faults[0]
    said = look("1/2/2003", "3/4/2005", dates={"a": "%d/%m/%Y"})
    assert (said.faults, said.values[0]) == ([], datetime.datetime(2003, 2, 1))
    assert (
        "line 3: column 'a' is 'x', which is no date as %d/%m/%Y"
        in look("1/2/2003", "x", dates={"a": "%d/%m/%Y"}).faults[0]
    )


def test_fractions_or_thousands_are_asked_for() -> None:
    assert "decimal=',' or thousands=','" in look("1,234", "2,345").faults[0]
    assert look("1,234", "2,345", decimal=",").values.to_list() == [1.234, 2.345]
    assert look("1,234", "2,345", thousands=",").values.to_list() == [1234.0, 2345.0]


def test_a_word_among_numbers_is_asked_for() -> None:
    """One NA more than is known would make a quantity a hundred categories."""
    cells = [str(k) for k in range(99)]
    found = look(*cells, "unknown", shell=True)
    assert found.faults == [
        "line 101: column 'a' is 'unknown', but 99 % of its values are numbers: say --missing unknown if that means a "
        "missing value, or --categorical a if the column holds names"
    ]
    mended = look(*cells, "unknown", missing=("unknown",))
    assert (mended.kind.name, mended.faults, mended.missing) == ("number", [], 1)
    assert look(*cells, "unknown", categorical=("a",)).kind.name == "category"
    assert look("1", "2", "unknown").kind.name == "category"  # few of them are names as well


def test_missing_marks_may_be_numbers() -> None:
    assert look("1", "-999", "3", missing=("-999",)).values.to_list() == [1.0, None, 3.0]


def test_numbers_that_are_asked_for() -> None:
    assert look("007", "8", numeric=("a",)).values.to_list() == [7.0, 8.0]
    assert "line 3: column 'a' is 'x', which is no number" in look("1", "x", numeric=("a",)).faults[0]
    assert "line 3: column 'a' is inf; fill or drop" in look("1", "inf").faults[0]


def test_what_is_typed_is_quoted() -> None:
    assert kinds.typed("a b") == '"a b"'
    assert kinds.typed('say "$5"') == '"say \\"\\$5\\""'
    assert kinds.typed("a=%d/%m/%Y") == "a=%d/%m/%Y"
