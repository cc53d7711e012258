"""Large files, whose numbers are read as such: the same columns as of the other way, or that way is gone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from fastbp.io import frames, plain
from fastbp.io.faults import TableError
from fastbp.tables import encoder, large
from fastbp.tables.encoder import Encoder
from fastbp.tables.kinds import Reading
from fastbp.tables.prepared import Looked, Roles, look

ROLES, PLAIN = Roles(("goal",), drop=("left",), weight="w"), Reading()
ROWS = 3_000


@pytest.fixture(autouse=True)
def _small_files_are_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plain, "SMALLEST", 0)


def rows() -> list[list[str]]:
    rng = np.random.default_rng(0)
    words = np.array(["red", "quick, brown", "a b", "x-y", "", "NA"])
    days = np.array([f"{1 + k % 28}.{1 + k % 12}.2020" for k in range(ROWS)])
    columns = [
        rng.normal(size=ROWS).round(3).astype(str), rng.integers(0, 9, ROWS).astype(str),
        words[rng.integers(0, 6, ROWS)], np.where(rng.random(ROWS) < 0.5, "yes", "No"), days,
        np.array([f"{k % 5:03d}" for k in range(ROWS)]), np.full(ROWS, "2.5"), rng.random(ROWS).astype(str),
        rng.integers(0, 2, ROWS).astype(str),
    ]  # fmt: skip
    columns[0][5] = ""
    return np.stack([one.astype(object) for one in columns], axis=1).tolist()


NAMES = ["size", "count", "word", "flag", "day", "code", "w", "left", "goal"]
BODY = rows()


def write(path: Path, body: list[list[str]], names: list[str] = NAMES) -> Path:
    pl.DataFrame(body, schema=names, orient="row").with_columns(pl.all().replace("", None)).write_csv(path)
    return path


def both(path: Path, reading: Reading = PLAIN) -> tuple[Looked | None, Looked]:
    return large.look(path, ROLES, reading, None, False), look(frames.frame(path), ROLES, reading, None, False)


def assert_same(found: Looked | None, expected: Looked) -> None:
    assert found is not None
    assert (found.target, found.notes, list(found.columns)) == (expected.target, expected.notes, list(expected.columns))
    np.testing.assert_array_equal(found.y, expected.y)
    np.testing.assert_array_equal(found.weight, expected.weight)
    for name, one in expected.columns.items():
        assert found.columns[name].kind == one.kind, name
        values = [each.values.cast(pl.String) for each in (found.columns[name], one)]
        assert values[0].equals(values[1]), name
    encoders = [Encoder.learn(one.columns, "robust") for one in (found, expected)]
    assert encoders[0] == encoders[1]
    matrices = [encoders[0].encode(one.columns)[0] for one in (found, expected)]
    assert matrices[0].tobytes() == matrices[1].tobytes()


def test_it_is_the_same_table(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.csv", BODY)
    assert_same(*both(path))
    assert_same(*both(path, Reading(categorical=("count",), missing=("red", "-999"))))
    assert_same(*both(path, Reading(dates={"day": "%d.%m.%Y"}, numeric=("code",))))
    missing = [[*row[:-1], "" if k == 7 else row[-1]] for k, row in enumerate(BODY)]
    write(path, [[*row[-1:], *row[:-1]] for row in missing], [NAMES[-1], *NAMES[:-1]])
    assert_same(*both(path))


CELLS = [
    *("7", "007", "00", "0.5", " 1.5", "1.5 ", "+1.5", ".5", "5.", "1e5", "1E5", "nan", "NaN", "inf", "-inf", "1e400"),
    *("NA", "?", "x", "1,5", '"', "1_0", "0x10", "1.5f", "\u0661.5", "\u22121.5", "5%", "1 000.5", "-0", "1.2.3", "é"),
    *("\r", "\n", "1d5", "20200101", "true", "infinity", "1e", "--1.5", "0", "-007", "1.50000000000000000000001"),
]


@pytest.mark.parametrize("cell", CELLS)
def test_a_cell_that_is_no_plain_number(cell: str, tmp_path: Path) -> None:
    """Far from the first rows, by which it is planned what is a number."""
    body = [list(row) for row in BODY]
    body[ROWS - 9][0] = cell
    path = write(tmp_path / "rows.csv", body)
    found = large.look(path, ROLES, PLAIN, None, False)  # so nothing is wrong with the file, or it has said so itself
    if found is not None:
        assert_same(found, look(frames.frame(path), ROLES, PLAIN, None, False))


def test_what_is_not_plain_is_read_the_other_way(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.csv", BODY)
    content = path.read_bytes()

    def refused(changed: bytes, **options: Any) -> bool:
        path.write_bytes(changed)
        return large.look(path, ROLES, PLAIN, None, False, **options) is None

    assert not refused(content)
    assert not refused(content.removesuffix(b"\n"))
    assert refused(content, encoding="utf-8")
    assert refused(content.replace(b"\n", b"\r\n"))
    assert refused(content + b"\n")
    assert refused(content.replace(b"red", b"r\n", 1))
    assert refused(content.replace(b"red", b'"r\ned"', 1))
    assert refused(content.replace(b"red", b"r\xe9d", 1))
    assert refused(content.replace(b"red", b"red,1", 1))
    with pytest.raises(TableError, match="has no column 'goal' \\(did you mean 'gaol'"):
        refused(content.replace(b",goal", b",gaol"))
    assert large.look(path.read_bytes(), ROLES, PLAIN, None, False) is None


def test_medians_and_quartiles_are_those_of_numpy() -> None:
    rng = np.random.default_rng(0)
    for n in (1, 2, 3, 4, 5, 99, 1000):
        for values in (rng.normal(size=n), rng.integers(0, 3, n).astype(float), np.array([1e308, -1e308] * n)):
            with np.errstate(over="ignore"):
                assert encoder.median(values) == np.median(values)
                np.testing.assert_array_equal(encoder.quartiles(values), np.quantile(values, [0.25, 0.5, 0.75]))
