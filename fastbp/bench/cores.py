"""How far apart the cores are: nanoseconds that one cache line takes from one to another, and a word for them.

Two virtual processors of a shared host sit on one die now and on two a minute later. What two threads reach depends on
it, by up to a factor of two, so every timed block is told with what was measured just before and just after it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from fastbp.kernels import probe

# Nanoseconds, one way: on one die it takes less than the first, between dies more than the second.
NEAR, FAR = 60.0, 100.0


def look() -> float | None:
    """Nanoseconds of a line from one core to another, as they are now; None where there is one core, or no telling."""
    found = float(probe.line_nanoseconds())
    return found if math.isfinite(found) else None


def word(nanoseconds: float) -> str:
    """near, far, or between."""
    return "near" if nanoseconds < NEAR else "far" if nanoseconds > FAR else "between"


def state(nanoseconds: Iterable[float | None]) -> str:
    """The word for what was measured, "mixed" where words differ, and nothing where nothing was measured."""
    words = {word(one) for one in nanoseconds if one is not None}
    return "" if not words else words.pop() if len(words) == 1 else "mixed"
