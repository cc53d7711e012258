"""Anything array-like as a numeric array: lists, tensors, data frames; and what to say of that which is none."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


def numeric(value: Any, name: str, *, labels: bool = False) -> Array:
    """Anything array-like as a numeric ndarray; a memory map stays one, for ``check_finite`` to know it by."""
    if hasattr(value, "toarray") and hasattr(value, "nnz"):
        raise TypeError(f"{name} is a sparse matrix, which fastbp does not take; pass {name}.toarray()")
    if isinstance(value, np.ma.MaskedArray) and np.ma.is_masked(value):
        raise TypeError(f"{name} is a masked array with masked values; fill them first, e.g. {name}.filled(0)")
    if isinstance(value, np.memmap):
        array: Array = value
    else:
        try:
            array = np.asarray(value)
        except (ValueError, RuntimeError) as error:  # ragged lists; tensors that refuse to become arrays
            reason = "rows differ in length" if "inhomogeneous" in str(error) else str(error)
            raise ValueError(f"{name} cannot be read as an array: {reason}") from error
        if array.dtype.kind not in "fiub":
            array = _from_others(value, array, name, labels)
    check_kind(array, name, labels=labels)
    return array


def check_kind(array: Array, name: str, *, labels: bool = False) -> None:
    """Only booleans, integers and floats pass. `labels` adds how names become class labels."""
    if array.dtype.kind in "fiub":
        return
    if labels and array.dtype.kind in "OSU":
        check_present(array, name)
        hint = f"class labels must be integers: names, {name} = np.unique({name}, return_inverse=True)"
        if array.dtype.kind == "O" and all(isinstance(one, int | np.integer) for one in array.flat):
            hint = f"class labels must be integers: pass {name}.astype('int64')"
    elif array.dtype.kind == "c":
        hint = f"pass {name}.real, or real and imaginary parts as separate columns"
    elif array.dtype.kind in "OSU":
        hint = _first_text(array, name) or f"numbers are needed: pass np.asarray({name}).astype('float64')"
    else:
        hint = "numbers are needed"
    raise TypeError(f"{name} has dtype {array.dtype}; {hint}")


def check_present(labels: Array, name: str) -> None:
    """Refuse labels of which some are missing: NaN, None, and what data frames put in their place."""
    if labels.dtype.kind == "f":
        missing = np.isnan(labels.reshape(len(labels), -1)).any(axis=1)
    elif labels.dtype.kind == "O":
        missing = np.array([any(map(_is_missing, np.ravel(one))) for one in labels.reshape(len(labels), -1)], np.bool_)
    else:
        return
    rows = np.flatnonzero(missing)
    if rows.size:
        shown = ", ".join(map(str, rows[:5].tolist())) + (", ..." if rows.size > 5 else "")
        raise ValueError(
            f"{name} has no label in {rows.size} of {len(labels)} rows (row {shown}): leave such rows out, or give "
            "them a label of their own and loss=CrossEntropy(ignore_index=that label)"
        )


def _is_missing(value: Any) -> bool:
    """None, NaN, and pandas' NA and NaT, of which nothing is known here but their names."""
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return True
    return isinstance(value, float | np.floating) and value != value


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.number | np.bool_)


def _first_text(array: Array, name: str) -> str:
    """Where an array of objects or of text first holds something that is no number."""
    for place, value in np.ndenumerate(array):
        if array.dtype.kind == "O":
            if not _is_number(value):
                return f"{name}{list(map(int, place))} is {value!r}: numbers are needed"
            continue
        try:
            float(value)
        except ValueError:
            return f"{name}{list(map(int, place))} is {str(value)!r}: numbers are needed"
    return ""


def _from_others(value: Any, array: Array, name: str, labels: bool) -> Array:
    """What there is of numbers in that which NumPy took for objects, dates or text; otherwise the array as it is."""
    if array.ndim == 2 and hasattr(value, "columns"):
        return _from_frame(value, array, name, labels)
    if array.ndim == 1 and hasattr(value, "to_numpy"):
        return _from_column(value)
    if labels and array.dtype.kind in "US" and isinstance(value, list | tuple):  # NaN among names has become 'nan'
        check_present(np.array(value, object), name)
    return array


def _from_frame(frame: Any, array: Array, name: str, labels: bool) -> Array:
    """A data frame (pandas, polars) of numeric and boolean columns, which NumPy by itself takes for objects."""
    columns = list(frame.columns)
    each = [frame.iloc[:, k] if hasattr(frame, "iloc") else frame[column] for k, column in enumerate(columns)]
    found = [_from_column(one) for one in each]
    for column, values in zip(columns, found, strict=True):
        if values.dtype.kind not in "fiub" and not labels:
            what = {"M": "dates", "m": "durations", "c": "complex numbers"}.get(values.dtype.kind, "")
            if not what:
                text = next((one for one in values if not _is_number(one)), None)
                what = "objects" if text is None else f"text, such as {str(text)!r}"
            raise TypeError(
                f"{name} has a column {column!r} that holds {what}, but numbers are needed: encode it (for names, "
                f"pandas.get_dummies), or leave it out"
            )
    return array if any(one.dtype.kind not in "fiub" for one in found) else np.stack(found, axis=1)


def _from_column(column: Any) -> Array:
    """One column; a missing value among numbers that know such becomes NaN."""
    values = np.asarray(column)
    if values.dtype.kind == "O" and getattr(column.dtype, "kind", "O") in "fiub":  # pandas' Int64, Float64, boolean
        missing = bool(column.isna().any())
        values = column.to_numpy(np.float64, na_value=np.nan) if missing else column.to_numpy(column.dtype.numpy_dtype)
    return values
