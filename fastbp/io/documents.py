"""Strict JSON: the one function that writes it; numbers that are not finite become null."""

from __future__ import annotations

import json
import math
from typing import Any


def plain(value: Any) -> Any:
    """`value` as what JSON can say: arrays as lists, NaN and infinity as None, what it does not know as text."""
    if isinstance(value, dict):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(one) for one in value]
    if hasattr(value, "tolist"):  # NumPy's arrays and scalars
        return plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, bool | int | str) else str(value)


def text(document: Any, indent: int | None = 1) -> str:
    """A document as JSON that every reader takes; indent None: on one line, without blanks."""
    separators = (",", ":") if indent is None else None
    return json.dumps(plain(document), indent=indent, separators=separators, allow_nan=False)
