"""What the columns of a table are: numbers, categories, booleans, dates. Text is looked at, and nothing is guessed.

Where two readings are equally likely, the column is a fault that names both, as they are asked for.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from fastbp.io.extras import polars
from fastbp.io.frames import Frame
from fastbp.tables import dates
from fastbp.tables.reading import KINDS as KINDS
from fastbp.tables.reading import MISSING as MISSING
from fastbp.tables.reading import Kind as Kind
from fastbp.tables.reading import Reading as Reading
from fastbp.tables.reading import Typed as Typed
from fastbp.tables.reading import is_number as is_number
from fastbp.tables.reading import typed as typed

_PAIRS = (("false", "true"), ("no", "yes"), ("f", "t"), ("n", "y"))
_DAY, _DAYS = "%Y%m%d", (19000101, 21001231)
_WORDS = re.compile(r"[^\W\d_]\w*([ ,.;:&/-]+[^\W\d_]\w*)*")  # each begins with a letter
_NO_NAMES = frozenset(("inf", "infinity", "nan", *(one for pair in _PAIRS for one in pair)))
_FEW = 20  # as many different numbers, beside text, may be names of categories
_SHOWN = 3
_LONG, _HEAD = 1000, 50  # rows


def decide(frame: Frame, name: str, reading: Reading) -> Typed:
    """What a column is, and its values; `Typed.faults` tells what is wrong."""
    pl, series = polars(), frame.data[name]
    if name in reading.dates:
        return convert(frame, name, Kind("date", reading.dates[name]), reading)
    if name in reading.categorical:
        return convert(frame, name, Kind("category"), reading)
    if series.dtype == pl.String:
        return _unless_days(frame, name, _of_text(frame, name, reading), reading)
    found = convert(frame, name, Kind("number" if name in reading.numeric else _of_type(series.dtype)), reading)
    return _unless_days(frame, name, found, reading)


def _unless_days(frame: Frame, name: str, found: Typed, reading: Reading) -> Typed:
    """Numbers; but where every one is a day of a century around us, written as 20240131, dates."""
    if found.faults or name in reading.numeric or not may_be_days(found):
        return found
    dated = convert(frame, name, Kind("date", _DAY), reading)
    if dated.faults or dated.missing > found.missing:
        return found
    return replace(dated, note="every number is a day, so they are dates, as %Y%m%d")


def may_be_days(found: Typed) -> bool:
    """Whether numbers are as large as days written as 20240131."""
    low = found.values.min() if found.kind == Kind("number") else None
    return low is not None and bool(_DAYS[0] <= low and found.values.max() <= _DAYS[1])


def _of_type(dtype: Any) -> str:
    pl = polars()
    if dtype == pl.Boolean:
        return "boolean"
    if dtype.is_temporal():
        return "date"
    return "number" if dtype.is_numeric() else "category"


def convert(frame: Frame, name: str, kind: Kind, reading: Reading) -> Typed:
    """The values of a column as this kind; a cell that is none is a fault with its place."""
    return {"number": _numbers, "category": _categories, "boolean": _booleans, "date": _dates}[kind.name](
        frame, name, kind, reading
    )


# --- of a kind ----------------------------------------------------------------------------------------------


def without_marks(series: Any, reading: Reading) -> Any:
    """Text without spaces around it, null where it says that a value is missing."""
    pl = polars()
    stripped = series.str.strip_chars()
    return stripped.set(stripped.is_in(list(reading.marks)), None) if len(stripped) else stripped.cast(pl.String)


def _numbers(frame: Frame, name: str, kind: Kind, reading: Reading) -> Typed:
    pl, series = polars(), frame.data[name]
    if series.dtype == pl.String:
        found = to_numbers(series, reading, kind)
        texts = series
    elif series.dtype.is_temporal() or not (series.dtype.is_numeric() or series.dtype == pl.Boolean):
        texts = series.cast(pl.String)
        found = to_numbers(texts, reading, kind)
    else:
        texts, found = series, series.cast(pl.Float64)
        if reading.missing:
            marks = [float(mark) for mark in reading.missing if is_number(mark)]
            found = found.set(found.is_in(marks).fill_null(False), None) if marks else found
    faults = _number_faults(frame, name, texts, found, reading)
    if faults and texts.dtype == pl.String and kind == Kind("number"):  # written by another custom than in training
        marked = without_marks(texts, reading)
        odd = marked.filter(found.is_null() & marked.is_not_null()).unique()
        other, doubt = _with_commas(frame, name, marked, odd, reading)
        if other is not None and not doubt:
            return convert(frame, name, other, reading)
    return Typed(kind, found, faults)


def to_numbers(series: Any, reading: Reading, kind: Kind | None = None) -> Any:
    """Text as float64; null where it is missing or no number."""
    pl = polars()
    kind = kind or reading.number
    plain = kind.decimal == "." and kind.thousands is None
    found = series.cast(pl.Float64, strict=False) if plain else None
    if found is None or found.null_count() > series.null_count():
        cells = series.str.strip_chars()
        if kind.thousands is not None:
            cells = cells.str.replace_all(kind.thousands, "", literal=True)
        if kind.decimal != ".":
            cells = cells.str.replace(kind.decimal, ".", literal=True)
        found = cells.cast(pl.Float64, strict=False)
    numeric_marks = [mark for mark in reading.missing if is_number(mark)]
    if numeric_marks:
        found = found.set(series.str.strip_chars().is_in(numeric_marks).fill_null(False), None)
    return found.fill_nan(None)


def _number_faults(frame: Frame, name: str, texts: Any, found: Any, reading: Reading) -> list[str]:
    """Cells that are no finite number."""
    pl = polars()
    wrong = found.is_infinite().fill_null(False)
    if texts.dtype == pl.String and found.null_count() > texts.null_count():
        wrong = wrong | (found.is_null() & without_marks(texts, reading).is_not_null())
    rows = wrong.arg_true()
    if not len(rows):
        return []
    row = int(rows[0])
    cell = texts[row]
    shown = f"{cell!r:.80}" if isinstance(cell, str) else f"{cell}"
    more = f" ({len(rows):,} such cells)" if len(rows) > 1 else ""
    if found[row] is not None:
        return [f"{frame.place(row)}: column {name!r} is {cell}{more}; fill or drop values that are not finite"]
    shown_cell = f"{cell}".strip()
    said = f"{frame.place(row)}: column {name!r} is {shown}, which is no number{more}"
    if reading.settled:
        return [f"{said}, as the column held in training; correct it, or leave it empty if the value is not known"]
    if isinstance(cell, str) and "," in cell and is_number(cell.replace(",", "")):
        return [f"{said}: say {reading.ask('decimal', ',')} or {reading.ask('thousands', ',')}"]
    return [f"{said}; correct it, or say {reading.ask('missing', shown_cell)} if it means that the value is not known"]


def _categories(frame: Frame, name: str, kind: Kind, reading: Reading) -> Typed:
    return Typed(kind, without_marks(as_text(frame.data[name]), reading))


def as_text(series: Any) -> Any:
    """A column as a CSV would have it: 1.0 and True are 1 and true."""
    pl = polars()
    if series.dtype == pl.Float64:
        whole = series.cast(pl.Int64, strict=False)
        if ((whole.cast(pl.Float64) == series) | series.is_null()).all():
            series = whole
    return series if series.dtype == pl.String else series.cast(pl.String)


def _booleans(frame: Frame, name: str, kind: Kind, reading: Reading) -> Typed:
    pl, series = polars(), frame.data[name]
    if series.dtype == pl.Boolean:
        return Typed(kind, series)
    if series.dtype.is_numeric():
        no, yes = series == 0, series == 1
    else:
        cells = without_marks(as_text(series), reading).str.to_lowercase()
        words = (kind.pair, *_PAIRS, ("0", "1")) if kind.pair else (*_PAIRS, ("0", "1"))
        no, yes = (cells.is_in([pair[k] for pair in words]) for k in (0, 1))
        series = cells
    found = pl.select(pl.when(yes).then(True).when(no).then(False)).to_series().alias(name)
    odd = (
        series.filter(found.is_null() & series.is_not_null()).cast(pl.String).alias("level").value_counts(name="count")
    )
    return Typed(kind, found, unseen=dict(zip(odd["level"].to_list(), odd["count"].to_list(), strict=True)))


def _dates(frame: Frame, name: str, kind: Kind, reading: Reading) -> Typed:
    pl, series = polars(), frame.data[name]
    if series.dtype.is_temporal():
        return Typed(kind, dates.plain(series))
    texts = without_marks(as_text(series), reading)
    form = kind.format
    found = dates.parse(texts, form) if form else None
    if found is None or found.null_count() > texts.null_count():  # of another file, perhaps
        other = [] if name in reading.dates else dates.formats(texts)
        if len(other) == 1:
            found = dates.parse(texts, other[0])
    if found is None:
        found = pl.Series(name, [None] * len(texts), pl.Datetime("us"))
    rows = (found.is_null() & texts.is_not_null()).arg_true()
    faults = []
    if len(rows):
        row = int(rows[0])
        more = f" ({len(rows):,} such cells)" if len(rows) > 1 else ""
        expected = f" as {form}" if form else ""
        faults = [f"{frame.place(row)}: column {name!r} is {texts[row]!r:.80}, which is no date{expected}{more}"]
    return Typed(replace(kind, format=form), found, faults)


# --- text, of which nothing is said -------------------------------------------------------------------------


def _of_text(frame: Frame, name: str, reading: Reading) -> Typed:
    """By the different texts alone, where they are few: looking at each row takes five times as long."""
    pl, series = polars(), frame.data[name]
    if len(series) >= _LONG and not _begins_with_numbers(series, reading):
        texts = series.drop_nulls().unique(maintain_order=True)
        if (found := _of_few(texts, len(series), reading)) is not None:
            numbered = series.cast(pl.Enum(texts))
            same = found.values.dtype == numbered.dtype
            return replace(found, values=numbered if same else found.values.gather(numbered.to_physical()))
    return _of_all_text(frame, name, reading)


def _begins_with_numbers(series: Any, reading: Reading) -> bool:
    """Whether all first values that are not missing are numbers."""
    head = series[:_HEAD].drop_nulls()
    if any(_WORDS.fullmatch(one) and one.lower() not in _NO_NAMES for one in head.to_list()):
        return False  # in a tenth of the time
    return not to_numbers(head, reading).null_count()


def _of_few(texts: Any, n: int, reading: Reading) -> Typed | None:
    """What a column of n rows is that holds these different texts; None if they are many, or a fault needs its line."""
    if 8 * len(texts) > n:
        return None
    if texts.name not in reading.numeric and (found := _of_words_alone(texts, reading)) is not None:
        return found
    found = _of_all_text(Frame(texts.to_frame()), texts.name, reading)
    return None if found.faults else replace(found, values=_as_levels(found.values))


def _of_words_alone(texts: Any, reading: Reading) -> Typed | None:
    """Names or booleans, where the texts can be nothing else: that is told in a microsecond each."""
    cells = texts.to_list()
    if not cells or not all(_WORDS.fullmatch(one) and one not in reading.marks for one in cells):
        return None
    words = [one.lower() for one in cells]
    for pair in _PAIRS:
        if set(words) == set(pair):
            return Typed(Kind("boolean", pair=pair), polars().Series(texts.name, [one == pair[1] for one in words]))
    return None if _NO_NAMES.intersection(words) else Typed(Kind("category"), texts.cast(polars().Enum(texts)))


def _as_levels(values: Any) -> Any:
    """Text of which the same comes often, as numbers of the different ones; other values as they are."""
    pl = polars()
    return (
        values.cast(pl.Enum(values.unique(maintain_order=True).drop_nulls())) if values.dtype == pl.String else values
    )


def _of_all_text(frame: Frame, name: str, reading: Reading) -> Typed:
    series = frame.data[name]
    found = to_numbers(series, reading)
    forced = name in reading.numeric
    if found.null_count() == series.null_count() and not found.is_infinite().any():
        return Typed(reading.number, found) if forced else _unless_codes(series, found, reading)
    texts = without_marks(series, reading)
    odd = texts.filter(found.is_null() & texts.is_not_null())
    if not len(odd) and not found.is_infinite().any():
        if texts.null_count() == len(texts):
            return _empty(series)
        return Typed(Kind("number"), found) if forced else _unless_codes(series, found, reading)
    distinct = odd.unique(maintain_order=True)
    kind, fault = _with_commas(frame, name, texts, distinct, reading)
    if kind is not None:
        typed = convert(frame, name, kind, reading)
        typed.faults += [fault] if fault else []
        return typed
    if forced or not len(odd):
        return Typed(Kind("number"), found, _number_faults(frame, name, series, found, reading))
    return _of_words(frame, name, texts, found, distinct, reading)


def _empty(series: Any) -> Typed:
    pl = polars()
    return Typed(Kind("number"), series.cast(pl.Float64, strict=False))


def _unless_codes(series: Any, found: Any, reading: Reading) -> Typed:
    """Numbers; but what is written with zeros before it, as 007, is a name."""
    if (one := padded(series)) is not None:
        note = f"written as {one}, so they are names, not numbers"
        return Typed(Kind("category"), without_marks(series, reading), [], note)
    return Typed(reading.number, found)


def padded(texts: Any) -> str | None:
    """The first of the texts that is written with a zero before it."""
    found = texts.filter(texts.str.starts_with("0") & (texts.str.len_bytes() > 1))
    found = found.filter(found.str.contains(r"^0\d+$"))
    return found[0] if len(found) else None


def is_padded(text: str) -> bool:
    """Whether an integer is written with a zero before it."""
    return len(text) > 1 and text[0] == "0" and text.isdigit()


def _with_commas(frame: Frame, name: str, texts: Any, distinct: Any, reading: Reading) -> tuple[Kind | None, str]:
    """The kind of numbers whose fractions or thousands have a comma, and a fault where it may be either."""
    pl = polars()
    if reading.decimal is not None or reading.thousands is not None or not len(distinct):
        return None, ""
    if not distinct.str.contains(r"^[+-]?\d*(,\d+)+(\.\d*)?$|^[+-]?\d+(\.\d{3})*,\d+$").all():
        return None, ""
    present = texts.drop_nulls()
    points = present.str.contains(".", literal=True).any()
    commas = present.filter(present.str.contains(",", literal=True))
    grouped = commas.str.contains(r"^[+-]?[1-9]\d{0,2}(,\d{3})+(\.\d*)?$").all()
    single = commas.str.count_matches(",", literal=True).max() == 1
    if grouped and single and not points:  # 1,234 and nothing else
        row = int(texts.str.contains(",", literal=True).fill_null(False).arg_true()[0])
        return Kind("number", decimal=","), (
            f"{frame.place(row)}: column {name!r} is {texts[row]!r:.80}, which may be a fraction or thousands: say "
            f"{reading.ask('decimal', ',')} or {reading.ask('thousands', ',')}"
        )
    if grouped:
        return Kind("number", thousands=","), ""
    if not single:
        return None, ""
    if points and not present.str.contains(r"^[+-]?\d{1,3}(\.\d{3})*(,\d+)?$").all():
        return None, ""
    kind = Kind("number", decimal=",", thousands="." if points else None)
    return (kind, "") if not to_numbers(present, Reading(), kind).cast(pl.Float64).null_count() else (None, "")


def _of_words(frame: Frame, name: str, texts: Any, found: Any, distinct: Any, reading: Reading) -> Typed:
    """Text some of which is no number: booleans, dates, categories, or numbers with a word among them."""
    present = texts.drop_nulls()
    numbers = found.drop_nulls().n_unique()
    if numbers > _FEW and numbers > len(distinct):
        row = int((found.is_null() & texts.is_not_null()).arg_true()[0])
        marks = reading.ask("missing", *distinct[:_SHOWN])
        share = 100 * (len(found) - found.null_count()) / len(present)
        return Typed(Kind("number"), found, [
            f"{frame.place(row)}: column {name!r} is {texts[row]!r:.80}, but {share:.3g} % of its values are numbers: "
            f"say {marks}{' ...' * (len(distinct) > _SHOWN)} if that means a missing value, or "
            f"{reading.ask('categorical', name)} if the column holds names"
        ])  # fmt: skip
    words = set(present.str.to_lowercase().unique().to_list()) if len(distinct) <= 4 else set()
    for pair in _PAIRS:
        if words == set(pair):
            return _booleans(frame, name, Kind("boolean", pair=pair), reading)
    if not numbers:
        possible = dates.formats(present)
        if len(possible) == 1:
            return convert(frame, name, Kind("date", possible[0]), reading)
        if possible:
            row = int(texts.is_not_null().arg_true()[0])
            told = [reading.ask("date" if reading.shell else "dates", f"{name}={one}") for one in possible]
            return Typed(Kind("date", possible[0]), dates.parse(texts, possible[0]), [
                f"{frame.place(row)}: column {name!r} is {texts[row]!r:.80}, which may be day and month or month and "
                f"day: say {' or '.join(told)}"
            ])  # fmt: skip
        if all(_DATED.match(one) for one in distinct.to_list()):
            option = "date" if reading.shell else "dates"
            return _asked(
                frame, name, texts, reading, "looks like a date, but no format fits all of them",
                f"{reading.ask(option, f'{name}=FORMAT')} with the one that does",
            )  # fmt: skip
    if all(_SIGNED.fullmatch(one) and is_number(_SIGNS.sub("", one)) for one in distinct.to_list()):
        signs = {one for text in distinct.to_list() for one in _SIGNS.findall(text)}
        sign = signs.pop() if len(signs) == 1 and reading.thousands is None else ""
        between = sign and all(
            re.fullmatch(rf"[+-]?\d{{1,3}}({re.escape(sign)}\d{{3}})*(\.\d+)?", one) for one in distinct
        )
        mend = reading.ask("thousands", sign) if between else "remove the sign from the file"
        return _asked(frame, name, texts, reading, "is a number with a sign that is not read", mend, say=bool(between))
    return Typed(Kind("category"), texts)


# A day with its year, and what is written beside numbers: currencies, per cent, brackets, spaces, another minus.
_DATED = re.compile(r"\d{4}[-/.]\d{2}[-/.]\d{2}(\D|$)|\d{1,2}[-/.]\d{1,2}[-/.]\d{4}(\D|$)")
_SIGNS = re.compile("[$\u20ac\u00a3\u00a5%(),\\s'\u2019\u2212]")
_SIGNED = re.compile(r"[+-]?\W{0,3}[0-9][0-9.,\s'\u2019]*\W{0,3}")


def _asked(frame: Frame, name: str, texts: Any, reading: Reading, what: str, mend: str, *, say: bool = True) -> Typed:
    """A column whose text may be something else."""
    row = int(texts.is_not_null().arg_true()[0])
    return Typed(Kind("category"), texts, [
        f"{frame.place(row)}: column {name!r} is {texts[row]!r:.80}, which {what}: {'say ' * say}{mend}, or "
        f"{'say ' * (not say)}{reading.ask('categorical', name)} if the column holds names"
    ])  # fmt: skip
