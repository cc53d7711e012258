"""Memory for kernels: zeroed, aligned, on huge pages where that pays."""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import mmap
from collections.abc import Sequence
from typing import Any

import numpy as np

from fastbp.engine import tuning
from fastbp.types import Array

# What networks that are trained one after the other by the same thread can share, see `Bindings.borrow`.
WORKPLACE = (
    "buffers", "gradient", "row_losses", "losses", "mean_weights", "scratch", "partials", "areas", "snapshot",
    "snapshot_scalars", "pairs",
)  # fmt: skip
ALIGNMENT = 64
PAGE, HUGE_PAGE = 4096, 1 << 21
_places = itertools.count()


def allocate(n: int, dtype: np.dtype[Any]) -> Array:
    """n zeros, aligned to a cache line: every buffer that a kernel touches is made here."""
    return allocate_all([n], dtype)[0] if n else np.zeros(0, dtype)


def allocate_all(counts: Sequence[int], dtype: np.dtype[Any]) -> list[Array]:
    """Arrays of so many zeros, aligned to a cache line, one behind the other.

    Two that are read and written in step and begin at the same place of a page would compete for the same cache sets,
    and loads would wait for stores 4 KiB apart (relu: 0.6 ns an element instead of 0.1), so each array of a page or
    more starts 11 cache lines further into one than the last.
    """
    end, starts = 0, []
    for n in counts:
        size = n * dtype.itemsize
        lead = next(_places) * 11 * ALIGNMENT % PAGE
        starts.append(-(-end // PAGE) * PAGE + lead if size >= PAGE else -(-end // ALIGNMENT) * ALIGNMENT)
        end = starts[-1] + size
    raw = _huge_pages(end) if end >= tuning.HUGE else _aligned(np.zeros(end + ALIGNMENT, np.uint8), ALIGNMENT)
    return [np.ndarray((n,), dtype, raw, start) for start, n in zip(starts, counts, strict=True)]


def _aligned(raw: Array, alignment: int) -> Array:
    """The bytes from the first address on that is a multiple of the alignment."""
    return raw[-address(raw) % alignment :]


def _huge_pages(size: int) -> Array:
    """Zeroed memory from the start of a page of 2 MiB, where the system grants them.

    Columns of wide buffers touch a page a row, more than the first level of address translation holds: the weight
    gradient of 1024 by 1024 weights ran at 72 to 77 instead of 64 to 66 GFLOP/s.
    """
    if not hasattr(mmap, "MADV_HUGEPAGE"):
        return _aligned(np.zeros(size + ALIGNMENT, np.uint8), ALIGNMENT)
    # Private: by default the pages are shared, which are not made huge, and which a forked child would train with us.
    try:
        memory = mmap.mmap(-1, size + HUGE_PAGE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except OSError as error:  # as from NumPy, whichever of the two a buffer comes from
        raise MemoryError(f"{size:,} bytes cannot be had: {error.strerror}") from error
    with contextlib.suppress(OSError):
        memory.madvise(mmap.MADV_HUGEPAGE)
    return _aligned(np.frombuffer(memory, np.uint8), HUGE_PAGE)


def address(array: Array) -> int:
    """Where the first element of an array lies."""
    try:  # 0.3 us instead of 1.0
        return ctypes.addressof(ctypes.c_char.from_buffer(array))  # type: ignore[arg-type]
    except (TypeError, ValueError, BufferError):  # read-only, strided, or empty
        return int(array.__array_interface__["data"][0])


def no_workplace(dtype: np.dtype[Any]) -> dict[str, Any]:
    """What a network works in that has made no call yet."""
    found = dict.fromkeys(WORKPLACE, allocate(0, dtype))
    found |= dict.fromkeys(("losses", "mean_weights"), allocate(0, np.dtype(np.float64)))
    return found | {"buffers": None, "gradient": None, "snapshot_scalars": np.empty((2, 0)), "pairs": ()}
