"""Text files of columns: encodings, delimiters, quotes, and rows that do not fit the header, by their lines."""

from __future__ import annotations

import csv
import gzip
import io
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastbp.io import frames
from fastbp.io.faults import TableError


def read(text: str | bytes, **options: Any) -> frames.Frame:
    content = text.encode() if isinstance(text, str) else text
    return frames.frame(io.BytesIO(content), **options)


def columns(text: str | bytes, **options: Any) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = read(text, **options).data.to_dict(as_series=False)
    return found


def refused(text: str | bytes, **options: Any) -> str:
    with pytest.raises(TableError) as caught:
        read(text, **options)
    return str(caught.value)


TABLE = {"a": ["1", "x y"], "b": ["2", "é"]}


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|", ":"])
@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
def test_delimiters_and_line_ends(delimiter: str, ending: str) -> None:
    text = ending.join(delimiter.join(row) for row in (("a", "b"), ("1", "2"), ("x y", "é"))) + ending
    assert columns(text) == TABLE
    assert columns(text.removesuffix(ending)) == TABLE
    assert columns(text, delimiter=delimiter) == TABLE


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "cp1252"])
def test_encodings_are_found(encoding: str) -> None:
    found = read("a,b\n1,2\nx y,é\n".encode(encoding))
    assert found.data.to_dict(as_series=False) == TABLE
    assert any("cp1252" in note for note in found.notes) == (encoding == "cp1252")


def test_an_encoding_is_named() -> None:
    assert columns("a,b\n1,2\nx y,é\n".encode("cp437"), encoding="cp437") == TABLE
    assert "--encoding" in refused("a,b\n1,é\n".encode("cp1252"), encoding="utf-8")
    with pytest.raises(ValueError, match="encoding='utf-99' is unknown"):
        read("a,b\n1,2\n", encoding="utf-99")


def test_spaces_between_cells() -> None:
    assert columns("a b\n1   2\n 'x' 4 \n") == {"a": ["1", "'x'"], "b": ["2", "4"]}
    assert columns('"a" "b"\n"1 1" 2\n') == {"a": ["1 1"], "b": ["2"]}


def test_quotes_hold_delimiters_and_line_ends() -> None:
    found = read('a,b\n"1,5","x\ny"\n"say ""no""",\n7,8')
    assert found.data["a"].to_list() == ["1,5", 'say "no"', "7"]
    assert found.data["b"].to_list() == ["x\ny", None, "8"]
    assert [found.place(row) for row in range(3)] == ["line 2", "line 4", "line 5"]
    assert columns('size,b\n5" pipe,2\nx,3\n') == {"size": ['5" pipe', "x"], "b": ["2", "3"]}


def test_gzip_and_empty_cells() -> None:
    assert columns(gzip.compress(b"a,b\n1,\n,2\n")) == {"a": ["1", None], "b": [None, "2"]}
    assert "was cut short" in refused(gzip.compress(b"a,b\n1,2\n" * 99)[:20])


def test_blank_lines_are_no_rows() -> None:
    found = read("\n \na,b\n1,2\n\n  \n3,\n")
    assert found.data.to_dict(as_series=False) == {"a": ["1", "3"], "b": ["2", None]}
    assert [found.place(row) for row in range(2)] == ["line 4", "line 7"]


def test_rows_with_a_cell_too_many_or_too_few_are_all_told() -> None:
    said = refused("a,b\n1,2\n3\n\n5,6,7\n8,9\n10\n")
    assert "3 faults" in said
    for line in ("line 3: 1 cell", "line 5: 3 cells", "line 7: 1 cell"):
        assert f"{line}, but the header names 2 columns" in said
    many = refused("a,b\n" + "1\n" * 50)
    assert "50 faults" in many
    assert "... and 30 more" in many


@pytest.mark.parametrize("at", [0, 1, 5_000, 19_999])
@pytest.mark.parametrize("bad", ["1", "1,2,3", '"1,2"'])
def test_a_bad_row_is_found_anywhere(at: int, bad: str) -> None:
    """Also where Polars would fill the row up, and beyond the block that is counted at a time."""
    rows = [f'{"x" * (k % 90)},"{k}"' if k % 3 else f"{k}," for k in range(20_000)]
    rows[at] = bad
    said = "3 cells" if bad == "1,2,3" else "1 cell"
    assert f"line {at + 2}: {said}, but the header names 2 columns" in refused("\n".join(["a,b", *rows, ""]))


def test_names_of_rows_without_a_name() -> None:
    said = refused('"x" "y"\n"1" 2 3\n"2" 4 5\n')
    assert "line 2: 3 cells" in said
    assert "R's write.table" in said


def test_row_numbers_of_pandas_are_left_out() -> None:
    found = read(",x\n0,2\n1,4\n")
    assert found.names == ["x"]
    assert "numbers the rows" in found.notes[0]
    assert "column 1 has no name" in refused(",x\n3,2\n1,4\n")


def test_all_that_is_wrong_with_a_header() -> None:
    said = refused("a,b,,a,\n1,2,3,4,5\n")
    for part in ("3 faults", "column 3 has no name", "column 5 has no name", "names column 'a' twice"):
        assert part in said


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "is empty"), ("\n\n", "is empty"), ("a,b\n", "has no rows"), ("a,b\n\n \n", "has no rows"),
        ("1,2\n3,4\n", "must name the columns"), (b"a,b\n1,\0\n" + b"x" * 5000, "holds zero bytes"),
        (b"\xd0\xcf\x11\xe0" + bytes(99), "Excel"), (b"FEA1" + bytes(99), "version 1"),
        (b"PAR1" + bytes(99), "damaged"), (b"ARROW1" + bytes(99), "damaged"),
    ],
)  # fmt: skip
def test_what_is_no_table(text: str | bytes, says: str) -> None:
    assert says in refused(text)


cell = st.text(st.characters(codec="utf-8", exclude_characters="\0", exclude_categories=("Cs",)), max_size=12)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(cell, cell, cell), min_size=1, max_size=8), st.sampled_from(",;\t|"), st.booleans())
def test_what_csv_writes_is_read(rows: list[tuple[str, ...]], delimiter: str, always: bool) -> None:
    """Python's writer is the oracle; what is not told apart are blank lines and the ends of lines within cells."""
    rows = [tuple(one.replace("\r", "") for one in row) for row in rows]
    buffer = io.StringIO(newline="")
    quoting = csv.QUOTE_ALL if always else csv.QUOTE_MINIMAL
    writer = csv.writer(buffer, delimiter=delimiter, lineterminator="\n", quoting=quoting)
    writer.writerow(["first", "second", "third"])
    writer.writerows(rows)
    found = columns(buffer.getvalue(), delimiter=delimiter)
    for k, name in enumerate(("first", "second", "third")):
        assert [one or "" for one in found[name]] == [row[k] for row in rows]


def test_places_of_rows_that_are_taken() -> None:
    found = read("a,b\n" + "".join(f"{k},{k}\n" for k in range(9))).take(np.array([7, 2]))
    assert [found.place(row) for row in range(2)] == ["line 9", "line 4"]
