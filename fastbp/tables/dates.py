"""Dates: in which format they are written, and the numbers that a network learns from."""

from __future__ import annotations

import datetime
import re
from typing import Any

import numpy as np

from fastbp.io.extras import polars
from fastbp.types import Array

_DAYS = (
    *("%Y-%m-%d", "%Y/%m/%d", "%Y.%m.%d", "%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%d-%m-%Y", "%m-%d-%Y"),
    *("%d.%m.%y", "%d/%m/%y", "%m/%d/%y", "%d %b %Y", "%d-%b-%Y", "%d-%b-%y", "%b %d %Y", "%b %d, %Y", "%d %B %Y"),
    *("%B %d, %Y", "%B %d %Y"),
)
_TIMES = ("", " %H:%M", " %H:%M:%S", " %H:%M:%S%.f", " %I:%M %p", " %I:%M:%S %p", "T%H:%M:%S", "T%H:%M", "T%H:%M:%S%.f")
FORMATS = tuple(day + time for day in _DAYS for time in _TIMES)
_SAMPLE = 200
_LIKE = re.compile(r"\d{1,4}[-/. ]\w{1,9}[-/. ]\d{1,4}|[A-Za-z]{3,9} \d{1,2},? \d{4}")


def formats(texts: Any) -> list[str]:
    """The formats that all of these texts fit, and that differ in what they say."""
    present = texts.drop_nulls()
    if not len(present) or not all(map(_LIKE.match, present[:_SAMPLE].to_list())):
        return []
    first = present[0].removesuffix("Z").removesuffix("+00:00")
    found = [one for one in _BY_SIGNS.get(_signs(first), ()) if _fits(first, one)]
    present = present.unique(maintain_order=True)
    found = [one for one in found if _all(present[:_SAMPLE], one)]
    found = [one for one in found if _all(present, one)]
    kept: list[str] = []
    said: list[Any] = []
    for one in found:
        values = parse(present, one)
        if not any(values.equals(other) for other in said):
            kept.append(one)
            said.append(values)
    # 1/2/03 is no year 3, nor is 2003 the year 20 with a tail.
    whole = [one for one in kept if "%Y" in one and parse(present, one).dt.year().min() >= 1000]
    return whole or [one for one in kept if "%Y" not in one]


def _signs(text: str) -> str:
    """What stands between the numbers and words of a date."""
    return re.sub(r"\d+|[^\W\d_]+", lambda found: found.group() if found.group() == "T" else "", text)


def _of_format(form: str) -> str:
    return re.sub(r"%\.?[A-Za-z]", lambda found: "." if "." in found.group() else "", form)


_BY_SIGNS: dict[str, list[str]] = {}
for _one in FORMATS:
    _BY_SIGNS.setdefault(_of_format(_one), []).append(_one)


def _fits(text: str, form: str) -> bool:
    """Whether one text is in a format: Python tells that in microseconds, where Polars is made for many."""
    try:
        datetime.datetime.strptime(text, form.replace("%.f", ".%f"))
    except ValueError:
        return False
    return True


def _all(texts: Any, form: str) -> bool:
    return bool(not parse(texts, form).null_count())


def parse(texts: Any, form: str) -> Any:
    """Time stamps, null where a text is not in the format."""
    pl = polars()
    for ending in ("Z", "+00:00"):
        if form.endswith(("%S", "%M", "%.f")) and len(texts) and (texts[0] or "").endswith(ending):
            texts = texts.str.strip_suffix(ending)
    if "%H" in form or "%I" in form:
        found = texts.str.to_datetime(form, strict=False, time_unit="us")
    else:
        found = texts.str.to_date(form, strict=False).cast(pl.Datetime("us"))
    return plain(found)


def plain(series: Any) -> Any:
    """Time stamps in microseconds without a zone."""
    pl = polars()
    if getattr(series.dtype, "time_zone", None):
        series = series.dt.convert_time_zone("UTC").dt.replace_time_zone(None)
    return series.cast(pl.Datetime("us"))


def days(series: Any) -> Array:
    """Days since 1970, with fractions; NaN where the date is missing."""
    pl = polars()
    found = series.dt.timestamp("us").cast(pl.Float64) / 86_400e6
    values: Array = found.to_numpy()
    return np.where(series.is_null().to_numpy(), np.nan, values) if series.null_count() else values
