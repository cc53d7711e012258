"""What estimators do with rows: sparse matrices become dense ones, in parts or within the memory that there is."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import numpy as np
from scipy import sparse

from fastbp.types import Array

CHUNK_BYTES = 1 << 25  # of the dense rows that are made at a time


def is_sparse(X: Any) -> bool:
    """Whether a matrix is one of SciPy's sparse ones."""
    return bool(sparse.issparse(X))


def dense(X: Any) -> Array:
    """All rows as a dense array, if that takes less than half of the machine's memory."""
    if not is_sparse(X):
        found: Array = X
        return found
    size = X.shape[0] * X.shape[1] * X.dtype.itemsize
    if size > memory_bytes() // 2:
        raise ValueError(
            f"X is sparse, {X.shape[0]} x {X.shape[1]}, and fastbp trains on dense rows: they would take "
            f"{size / 2**30:.1f} GiB, more than half of the memory; give it to partial_fit in parts, or fewer columns, "
            "e.g. by TruncatedSVD"
        )
    made: Array = X.toarray()
    return made


def chunks(X: Any) -> Iterator[Array]:
    """The rows of a sparse matrix as dense arrays of some megabytes each."""
    by_rows = X.tocsr()
    step = max(1, CHUNK_BYTES // max(1, X.shape[1] * X.dtype.itemsize))
    for start in range(0, max(1, X.shape[0]), step):
        yield by_rows[start : start + step].toarray()


def memory_bytes() -> int:
    """Of the machine; beyond any need where the system does not tell."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return int(np.iinfo(np.int64).max)
