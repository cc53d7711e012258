"""Data frames of real packages, and binary files: each gives the same table."""

from __future__ import annotations

import datetime
import io
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet
import pytest
from processes import python, succeed

from fastbp.io import frames
from fastbp.io.faults import TableError

DAYS = [datetime.datetime(2020, 1, 2), None, datetime.datetime(2021, 3, 4, 5, 6)]
COLUMNS: dict[str, list[Any]] = {
    "whole": [1, 2, -3], "gaps": [1, None, 3], "real": [0.5, None, 2.0], "text": ["x", None, "007"],
    "flag": [True, False, None], "day": DAYS,
}  # fmt: skip


def expected() -> dict[str, list[Any]]:
    return COLUMNS


def as_polars() -> Any:
    return pl.DataFrame(COLUMNS, strict=False)


def as_pandas() -> Any:
    return pd.DataFrame(COLUMNS)


def as_arrow() -> Any:
    return pa.table(COLUMNS)


def parquet(table: Any) -> Any:
    buffer = io.BytesIO()
    pa.parquet.write_table(table, buffer)
    return io.BytesIO(buffer.getvalue())


def feather(table: Any) -> Any:
    buffer = io.BytesIO()
    pa.feather.write_feather(table, buffer, compression="uncompressed")
    return io.BytesIO(buffer.getvalue())


SOURCES = {
    "polars": as_polars, "lazy": lambda: as_polars().lazy(), "pandas": as_pandas, "arrow": as_arrow,
    "dict": lambda: COLUMNS, "pandas nullable": lambda: as_pandas().convert_dtypes(),
    "pandas objects": lambda: as_pandas().astype(object), "parquet": lambda: parquet(as_arrow()),
    "feather": lambda: feather(as_arrow()),
}  # fmt: skip


@pytest.mark.parametrize("name", SOURCES)
def test_every_source_is_one_table(name: str) -> None:
    found = frames.frame(SOURCES[name]()).data
    assert found.columns == list(COLUMNS)
    for column, values in COLUMNS.items():
        assert found[column].to_list() == values, column
    assert found["text"].dtype == pl.String
    assert found["day"].dtype == pl.Datetime("us")


def test_categories_stay_categories() -> None:
    for frame in (
        pd.DataFrame({"c": pd.Categorical(["b", "a", None])}),
        pl.DataFrame({"c": pl.Series(["b", "a", None], dtype=pl.Categorical)}),
        pl.DataFrame({"c": pl.Series(["b", "a", None], dtype=pl.Enum(["a", "b"]))}),
        pa.table({"c": pa.array(["b", "a", None]).dictionary_encode()}),
    ):
        found = frames.frame(frame).data["c"]
        assert found.dtype in (pl.Categorical, pl.Enum) or isinstance(found.dtype, pl.Enum)
        assert found.cast(pl.String).to_list() == ["b", "a", None]


def test_an_npz_has_columns_by_position(tmp_path: Path) -> None:
    path = tmp_path / "data.npz"
    np.savez(path, X=np.arange(6.0).reshape(3, 2), y=np.array(["a", "b", "a"]))
    found = frames.frame(path, target="kind")
    assert (found.names, found.positional) == (["x0", "x1", "kind"], True)
    assert found.data["kind"].to_list() == ["a", "b", "a"]


def test_what_is_no_table() -> None:
    for bad in ([1, 2], 7, np.ones((3, 2)), None):
        with pytest.raises(TypeError, match="expected a file's name or a data frame"):
            frames.frame(bad)
    with pytest.raises(TypeError, match="column names must be text, got 0"):
        frames.frame(pd.DataFrame(np.ones((3, 2))))
    with pytest.raises(TableError, match=r"column 'a' holds List\(Int64\), which is no value a cell"):
        frames.frame(pl.DataFrame({"a": [[1], [2]]}))
    with pytest.raises(TableError, match="has no rows"):
        frames.frame(pl.DataFrame({"a": []}))


def test_the_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "bad.parquet"
    path.write_bytes(parquet(as_arrow()).read()[:-40])
    with pytest.raises(TableError, match=r"bad\.parquet: is damaged, or was cut short"):
        frames.frame(path)


def test_a_damaged_file_is_one_error_and_nothing_else(tmp_path: Path) -> None:
    """Rust prints a page for a panic, which some damages of a Parquet file set off, before Python can catch it."""
    buffer = io.BytesIO()
    pl.DataFrame({"l": [f"text {k % 90}" for k in range(500)]}).write_parquet(buffer, compression="uncompressed")
    (tmp_path / "good.parquet").write_bytes(buffer.getvalue())
    done = python(
        "import io, sys; from fastbp.io import frames; from fastbp.io.faults import TableError\n"
        "good, told = open(sys.argv[1], 'rb').read(), set()\n"
        "for k in range(1040, 1050):\n"
        "    bad = bytearray(good); bad[k] = 0x8f\n"
        "    try: frames.frame(io.BytesIO(bytes(bad)))\n"
        "    except TableError as error: told.add(str(error))\n"
        "print(*told, sep='\\n')",
        tmp_path / "good.parquet",
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "the input: is damaged, or was cut short" in done.stdout


def test_a_row_is_a_table() -> None:
    rows = pd.DataFrame({"a": ["x", "y"], "b": [1.5, 2.0]})
    for row in ({"a": "x", "b": 1.5}, rows.iloc[0], pl.DataFrame(rows.to_dict("list")).row(0, named=True)):
        assert frames.frame(row).data.to_dict(as_series=False) == {"a": ["x"], "b": [1.5]}


def test_without_the_extra_it_is_named(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("a,b\n1,2\n")
    printed = succeed(
        "import sys; sys.modules['polars'] = None\n"
        "from click.testing import CliRunner; from fastbp.cli.main import main\n"
        "done = CliRunner().invoke(main, ['train', sys.argv[1], '--target', 'b'])\n"
        "print(done.exit_code, done.stderr)",
        tmp_path / "rows.csv",
    )
    assert printed.startswith("1 ")
    assert "pip install 'fastbp[data]'" in printed
