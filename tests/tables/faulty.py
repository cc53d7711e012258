"""Small tables with every fault that real ones have, and what `fastbp` must say of each: ``python faulty.py FOLDER``.

A fault that can be mended by an option has that option among its cases too.
"""

from __future__ import annotations

import gzip
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

Row = list[str]
HEAD = ["town", "area", "rooms", "price"]
LEARN = ("--target", "price")


@dataclass(frozen=True)
class Fault:
    """A file, the options of ``fastbp train``, and its words."""

    name: str
    content: bytes
    options: tuple[str, ...]
    says: tuple[str, ...]  # after "fastbp: FILE": all of stderr; where the file is trained on, lines of stdout
    trains: bool = False

    @property
    def file(self) -> str:
        """Its name."""
        return f"{self.name}.csv"


def rows(n: int = 40) -> list[Row]:
    """Towns, areas, rooms and prices."""
    rng = np.random.default_rng(0)
    towns, areas, rooms = rng.integers(3, size=n), rng.uniform(30, 200, n).round(1), rng.integers(1, 6, n)
    prices = (1000 + 3 * areas + 40 * towns + rng.normal(size=n)).round(2)
    names = ("Aix", "Bonn", "Cork")
    return [[names[a], str(b), str(c), str(d)] for a, b, c, d in zip(towns, areas, rooms, prices, strict=True)]


def text(body: list[Row], head: Row = HEAD, delimiter: str = ",", end: str = "\n") -> bytes:
    """As a file has them."""
    return "".join(delimiter.join(row) + end for row in [head, *body]).encode()


def changed(change: Callable[[list[Row]], object]) -> bytes:
    """The table with some cells changed."""
    body = rows()
    change(body)
    return text(body)


def put(row: int, column: str, value: str) -> Callable[[list[Row]], None]:
    """A change of one cell; rows count from 0."""
    return lambda body: body[row].__setitem__(HEAD.index(column), value)


def with_column(name: str, cell: Callable[[int], str]) -> bytes:
    """The table with one column more."""
    return text([[*row, cell(k)] for k, row in enumerate(rows())], [*HEAD, name])


def european() -> bytes:
    """Fractions with a comma, cells apart by semicolons, a letter beyond ASCII."""
    return text([[cell.replace(".", ",") for cell in row] for row in rows()], delimiter=";").replace(
        b"Aix", "Köln".encode()
    )


def faults() -> Iterator[Fault]:
    """All of them."""
    yield from _of_rows()
    yield from _of_files()
    yield from _of_numbers()
    yield from _of_names()
    yield from _of_dates()
    yield from _of_targets()
    yield from _all_at_once()


def _of_rows() -> Iterator[Fault]:
    many, few = "5 cells, but the header names 4 columns", "3 cells, but the header names 4 columns"
    yield Fault("cell-too-many", changed(lambda body: body[3].append("7")), LEARN, (f", line 5: {many}",))
    yield Fault("cell-too-few", changed(lambda body: body[9].pop()), LEARN, (f", line 11: {few}",))
    yield Fault(
        "both", changed(lambda body: (body[3].append("7"), body[9].pop())), LEARN,
        (": 2 faults", f"  line 5: {many}", f"  line 11: {few}"),
    )  # fmt: skip
    table = text([[f'"{k + 1}"', f'"{row[0]}"', *row[1:]] for k, row in enumerate(rows())], ['"town"', *HEAD[1:]], " ")
    yield Fault(
        "write-table", table, LEARN,
        (f", line 2: {many}, and so have all rows: the first cells are names of rows, as R's write.table writes them "
         "without a name of their own; give that column a name, or write the file by write.csv",),
    )  # fmt: skip
    numbered = text([[str(k), *row] for k, row in enumerate(rows())], ["", *HEAD])
    note = "data     the first column has no name and numbers the rows: left out"
    yield Fault("row-numbers", numbered, LEARN, (note,), trains=True)
    quoted = changed(put(2, "town", '"Aix'))
    yield Fault(
        "quote-unclosed", quoted, LEARN, (", line 4: 1 cell, but the header names 4 columns: is a quote missing?",)
    )


def _of_files() -> Iterator[Fault]:
    plain, good = text(rows()), ("         2 numbers: area, rooms", "         1 category: town (3)")
    first = ("data     2 numbers: area, rooms", good[1])
    yield Fault("bom-and-crlf", b"\xef\xbb\xbf" + plain.replace(b"\n", b"\r\n"), LEARN, first, trains=True)
    yield Fault("gzipped", gzip.compress(plain), LEARN, first, trains=True)
    yield Fault("tabs", plain.replace(b",", b"\t"), LEARN, first, trains=True)
    comma = "2 numbers: area (decimal comma), rooms"
    yield Fault("utf-16", european().decode().encode("utf-16"), LEARN, (f"data     {comma}",), trains=True)
    latin = european().decode().encode("latin-1")
    note = "data     the text is no UTF-8: read as cp1252, the Western European of Windows (or --encoding NAME)"
    yield Fault("latin-1", latin, LEARN, (note, f"         {comma}"), trains=True)
    yield Fault("latin-1-named", latin, (*LEARN, "--encoding", "latin-1"), (f"data     {comma}",), trains=True)
    said = ": is not utf-8 text; name its encoding by --encoding (encoding=), such as cp1252"
    yield Fault("latin-1-misnamed", latin, (*LEARN, "--encoding", "utf-8"), (said,))
    yield Fault("empty", b"", LEARN, (": is empty; expected a line of column names and a row for each sample",))
    yield Fault("header-alone", text([]), LEARN, (": has no rows below its header",))
    numbers = plain.split(b"\n", 1)[1].replace(b"Aix", b"1").replace(b"Bonn", b"2").replace(b"Cork", b"3")
    yield Fault("no-header", numbers, LEARN, (": the first line holds numbers, but must name the columns",))
    yield Fault("cut-short", gzip.compress(plain)[:-20], LEARN, (
        ": is damaged, or was cut short: Compressed file ended before the end-of-stream marker was reached",
    ))  # fmt: skip
    yield Fault("zeros", changed(put(3, "town", "A\0x")), LEARN,
                (": is no text: it holds zero bytes; expected CSV, Parquet, Feather or NPZ",))  # fmt: skip
    yield Fault(
        "names-twice", text(rows(), ["area", "area", "", "price"]), LEARN,
        (": 2 faults", "  column 3 has no name; name it, or leave it out",
         "  names column 'area' twice; column names must differ"),
    )  # fmt: skip


def _of_numbers() -> Iterator[Fault]:
    yield Fault(
        "one-na", changed(put(5, "area", "NA")), LEARN, ("data     2 numbers: area (1 missing), rooms",), trains=True
    )
    word = changed(put(5, "area", "unknown"))
    yield Fault(
        "one-word", word, LEARN,
        (", line 7: column 'area' is 'unknown', but 97.5 % of its values are numbers: say --missing unknown if that "
         "means a missing value, or --categorical area if the column holds names",),
    )  # fmt: skip
    mended = "data     2 numbers: area (1 missing), rooms"
    yield Fault("one-word-mended", word, (*LEARN, "--missing", "unknown"), (mended,), trains=True)
    yield Fault("infinite", changed(put(5, "area", "inf")), LEARN,
                (", line 7: column 'area' is inf; fill or drop values that are not finite",))  # fmt: skip
    yield Fault("too-large", changed(put(5, "area", "1e400")), LEARN,
                (", line 7: column 'area' is 1e400; fill or drop values that are not finite",))  # fmt: skip
    thousands = with_column("pay", lambda k: f'"{1 + k % 7},{100 + k}"')
    yield Fault(
        "fractions-or-thousands", thousands, LEARN,
        (", line 2: column 'pay' is '1,100', which may be a fraction or thousands: say "
         '--decimal "," or --thousands ","',),
    )  # fmt: skip
    yield Fault(
        "thousands-said",
        thousands,
        (*LEARN, "--thousands", ","),
        ("data     3 numbers: area, rooms, pay",),
        trains=True,
    )
    asks = "which is a number with a sign that is not read"
    for name, cell, mend in (
        ("per-cent", "7.5%", "remove the sign from the file, or say --categorical pay"),
        ("currency", "$7", "remove the sign from the file, or say --categorical pay"),
        ("other-minus", "\u22127", "remove the sign from the file, or say --categorical pay"),
        ("spaced-thousands", "1 007", 'say --thousands " ", or --categorical pay'),
    ):
        said = f", line 2: column 'pay' is '{cell}', {asks}: {mend} if the column holds names"
        yield Fault(name, with_column("pay", lambda k, cell=cell: cell.replace("7", f"{7 + k % 3}")), LEARN, (said,))
    yield Fault("blanks", changed(put(5, "area", "  77.5 ")), LEARN, ("data     2 numbers: area, rooms",), trains=True)


def _of_names() -> Iterator[Fault]:
    codes = with_column("zip", lambda k: f"{7 + k % 5:03d}")
    note = "data     zip: written as 007, so they are names, not numbers (--numeric zip otherwise)"
    yield Fault("leading-zeros", codes, LEARN, (note, "         2 categories: town (3), zip (5)"), trains=True)
    mends = (
        "what identifies rows says nothing of others; say --drop user, --id user to have it beside the predictions, or"
    )
    names = with_column("user", lambda k: f"u{k}")
    yield Fault("identifier", names, LEARN, (
        f": column 'user' has 40 values in 40 rows, as 'u0': {mends} --categorical user to use it all the same",
    ))  # fmt: skip
    yield Fault("identifier-kept", names, (*LEARN, "--id", "user"), ("data     2 numbers: area, rooms",), trains=True)
    numbers = with_column("user", lambda k: str(1000 + 7 * k % 40))
    yield Fault("row-identifier", numbers, LEARN, (
        f": column 'user' has another integer in each of 40 rows, 1000 to 1039: {mends} --numeric user to use it "
        "all the same",
    ))  # fmt: skip
    flags = with_column("sold", lambda k: ("yes", "No", "", "NA")[k % 4])
    yield Fault("booleans", flags, LEARN, ("         1 boolean: sold (20 missing)",), trains=True)
    yield Fault("never-varies", with_column("land", lambda k: "DE"), LEARN,
                ("         left out, since they never vary: land",), trains=True)  # fmt: skip
    yield Fault("all-missing", with_column("note", lambda k: ""), LEARN,
                ("         left out, since they never vary: note",), trains=True)  # fmt: skip


def _of_dates() -> Iterator[Fault]:
    days = with_column("sold", lambda k: f"{1 + k % 12}/{1 + k % 11}/2020")
    yield Fault("day-or-month", days, LEARN, (
        ", line 2: column 'sold' is '1/1/2020', which may be day and month or month and day: say --date sold=%d/%m/%Y "
        "or --date sold=%m/%d/%Y",
    ))  # fmt: skip
    said = (*LEARN, "--date", "sold=%d/%m/%Y")
    yield Fault("day-and-month", days, said, ("         1 date: sold (%d/%m/%Y)",), trains=True)
    mixed = with_column("sold", lambda k: "2020-01-02" if k % 3 else "2020/01/03")
    yield Fault("dates-of-two-formats", mixed, LEARN, (
        ", line 2: column 'sold' is '2020/01/03', which looks like a date, but no format fits all of them: say --date "
        "sold=FORMAT with the one that does, or --categorical sold if the column holds names",
    ))  # fmt: skip
    yield Fault("no-date", changed(put(4, "town", "soon")), (*LEARN, "--date", "town=%Y-%m-%d"), (
        ", line 2: column 'town' is 'Cork', which is no date as %Y-%m-%d (40 such cells)",
    ))  # fmt: skip
    yield Fault("days-as-numbers", with_column("sold", lambda k: f"2020{1 + k % 12:02d}{1 + k % 28:02d}"), LEARN,
                ("data     sold: every number is a day, so they are dates, as %Y%m%d (--numeric sold otherwise)",
                 "         1 date: sold (%Y%m%d)"), trains=True)  # fmt: skip


def _of_targets() -> Iterator[Fault]:
    points = with_column("points", lambda k: str(k * 7 % 37))
    yield Fault("quantity-or-classes", points, ("--target", "points"), (
        ": target 'points' holds 37 different integers in 40 rows: say --numeric points if they are quantities, "
        "--categorical points if they are classes",
    ))  # fmt: skip
    yield Fault("quantity-said", points, ("--target", "points", "--numeric", "points"),
                ("         points holds quantities: the loss is mse",), trains=True)  # fmt: skip
    yield Fault(
        "target-missing",
        changed(put(5, "price", "")),
        LEARN,
        ("data     1 row without a target left out",),
        trains=True,
    )
    yield Fault("target-misspelt", text(rows()), ("--target", "prise"), (
        ": has no column 'prise' (did you mean 'price'?); it has town, area, rooms, price",
    ))  # fmt: skip
    yield Fault("two-targets", text(rows()), (*LEARN, "--target", "area"),
                ("         price, area hold quantities: the loss is mse",), trains=True)  # fmt: skip
    yield Fault("targets-of-two-kinds", text(rows()), (*LEARN, "--target", "town"), (
        ": the targets price, town are not all quantities, nor all of two values each: train a model a target",
    ))  # fmt: skip
    yield Fault("target-dropped", text(rows()), (*LEARN, "--drop", "price"), (
        ": column 'price' is the target, but also named by --drop: leave one out",
    ))  # fmt: skip
    yield Fault("one-class", with_column("kind", lambda k: "a"), ("--target", "kind"), (
        ": target 'kind' holds a single class, 'a'",
    ))  # fmt: skip
    yield Fault("weights", with_column("w", lambda k: str(k - 1)), (*LEARN, "--weight", "w"), (
        ", line 2: weight 'w' is -1, not at least 0",
    ))  # fmt: skip


def _all_at_once() -> Iterator[Fault]:
    body = [[f"n{k}", *row, str(k * 7 % 37)] for k, row in enumerate(rows())]
    body[4][2], body[8][3], body[11][3] = "inf", "x", "y"
    yield Fault("all-at-once", text(body, ["key", *HEAD, "points"]), ("--target", "points", "--numeric", "rooms"), (
        ": 4 faults",
        "  line 6: column 'area' is inf; fill or drop values that are not finite",
        "  line 10: column 'rooms' is 'x', which is no number (2 such cells); correct it, or say --missing x if it "
        "means that the value is not known",
        "  target 'points' holds 37 different integers in 40 rows: say --numeric points if they are quantities, "
        "--categorical points if they are classes",
        "  column 'key' has 40 values in 40 rows, as 'n0': what identifies rows says nothing of others; say --drop "
        "key, --id key to have it beside the predictions, or --categorical key to use it all the same",
    ))  # fmt: skip


def write(folder: Path) -> None:
    """Write all files."""
    for fault in faults():
        (folder / fault.file).write_bytes(fault.content)


if __name__ == "__main__":
    write(Path(sys.argv[1]))
