"""How cells are read where the user says it, and what a column is: the values that the modules of tables share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

KINDS = ("number", "category", "boolean", "date")
# What pandas takes for missing, and the question mark of many public tables.
MISSING = (
    *("", "?", "NA", "N/A", "n/a", "NaN", "nan", "-NaN", "-nan", "NULL", "null", "None", "<NA>", "#N/A", "#NA"),
    *("#N/A N/A", "-1.#IND", "1.#IND", "-1.#QNAN", "1.#QNAN"),
)


@dataclass(frozen=True)
class Reading:
    """How cells are read, where the user says it.

    Attributes
    ----------
    categorical, numeric : tuple of str
        Columns that are categories, or numbers, whatever they look like.
    dates : dict
        Formats of columns of dates, as ``{"day": "%d/%m/%Y"}``.
    missing : tuple of str
        Cells that are missing values, beside those of `MISSING`.
    decimal, thousands : str, optional
        The comma or point of fractions, and what stands between thousands; found if None.
    """

    categorical: tuple[str, ...] = ()
    numeric: tuple[str, ...] = ()
    dates: Mapping[str, str] = field(default_factory=dict)
    missing: tuple[str, ...] = ()
    decimal: str | None = None
    thousands: str | None = None
    shell: bool = False  # errors name options as the command line has them
    settled: bool = False  # the model is trained: how cells are read is no question any more

    def ask(self, option: str, *values: str) -> str:
        """What to say, as it is typed: ``drop=["a"]``, or ``--drop a``."""
        if self.shell:
            return " ".join(f"--{option} {typed(one)}" for one in values)
        if option == "dates":
            return "dates={" + ", ".join("{!r}: {!r}".format(*one.split("=", 1)) for one in values) + "}"
        return f"{option}={values[0]!r}" if option in ("decimal", "thousands") else f"{option}={list(values)!r}"

    def option(self, name: str) -> str:
        """How an option is called where it is typed."""
        return f"--{name.replace('_', '-')}" if self.shell else name

    @property
    def marks(self) -> tuple[str, ...]:
        """What cells say that are missing."""
        return (*MISSING, *self.missing)

    def to_dict(self) -> dict[str, Any]:
        """For a file."""
        return {name: value for name, value in asdict(self).items() if name not in ("shell", "settled")}

    @staticmethod
    def of(found: Mapping[str, Any]) -> Reading:
        """What `to_dict` wrote."""
        return Reading(**{**found, **{name: tuple(found[name]) for name in ("categorical", "numeric", "missing")}})

    @property
    def number(self) -> Kind:
        """How numbers are written, as far as it is said."""
        return Kind("number", decimal=self.decimal or ".", thousands=self.thousands)


@dataclass(frozen=True)
class Kind:
    """What a column is, and how its text is read."""

    name: str  # one of KINDS
    format: str | None = None  # of dates
    decimal: str = "."
    thousands: str | None = None
    pair: tuple[str, str] | None = None  # of booleans: how no and yes are written


@dataclass
class Typed:
    """A column with its kind: float64, text, booleans or time stamps; null where a value is missing."""

    kind: Kind
    values: Any  # a Polars series
    faults: list[str] = field(default_factory=list)
    note: str = ""  # what there is to tell of how it was read
    unseen: dict[str, int] = field(default_factory=dict)  # what is neither yes nor no, and how often it came

    @property
    def missing(self) -> int:
        """How many values are."""
        return int(self.values.null_count())


def is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return "_" not in text


def typed(text: str) -> str:
    """Text as a shell takes it."""
    plain = text and all(letter.isalnum() or letter in "._-+=/%:" for letter in text)
    return text if plain else '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("$", "\\$") + '"'
