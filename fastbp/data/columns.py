"""Data frames handed to a network: their columns go by name, where it was trained on a frame; arrays go by position."""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Sequence
from typing import Any

_SHOWN = 10


def names_of(X: Any) -> list[str] | None:
    """The names of a data frame's columns; None where X has none, or they are no text.

    Raises
    ------
    ValueError
        Two columns have one name.
    """
    found = getattr(X, "column_names", None)  # PyArrow's, whose `columns` are arrays
    if found is None:
        found = getattr(X, "columns", None)
    if found is None or callable(found):
        return None
    names = list(found)
    if not names or not all(isinstance(name, str) for name in names):
        return None
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the data frame has two columns {twice!r}; column names must differ")
    return names


def by_name(X: Any, names: Sequence[str] | None, argument: str = "X") -> Any:
    """A frame with these columns in this order; what has no names is returned as it is.

    Raises
    ------
    ValueError
        Columns are missing.
    """
    found = None if names is None else names_of(X)
    if found is None or found == list(names or ()):
        return X
    wanted = list(names or ())
    if absent := [name for name in wanted if name not in found]:
        near = difflib.get_close_matches(absent[0], [name for name in found if name not in wanted], n=1)
        hint = f" (is it {near[0]!r}?)" if near else ""
        others = f" and {len(absent) - 1} more" if len(absent) > 1 else ""
        raise ValueError(
            f"{argument} has no column {absent[0]!r}{hint}{others}, which the network was trained on; "
            f"it has {_listed(found)}"
        )
    if extra := [name for name in found if name not in wanted]:
        said = f"columns of {argument} that the network was not trained on are ignored: {_listed(extra)}"
        warnings.warn(said, UserWarning, stacklevel=4)
    return X.select(wanted) if hasattr(X, "select") and not hasattr(X, "iloc") else X[wanted]


def check(names: Any, n_in: int) -> list[str] | None:
    """The names that a file has, if they are one for each input."""
    if names is None:
        return None
    if not isinstance(names, list) or len(names) != n_in or not all(isinstance(one, str) for one in names):
        raise ValueError(f"feature_names must be {n_in} texts, one for each input, got {names!r:.80}")
    if len(set(names)) < n_in:
        raise ValueError("feature_names has a name twice")
    return names


def _listed(names: list[str]) -> str:
    return f"{', '.join(names[:_SHOWN])}{f', ... ({len(names):,} in all)' if len(names) > _SHOWN else ''}"
