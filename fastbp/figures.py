"""Empty pictures of matplotlib's, which is an extra."""

from __future__ import annotations

from typing import Any


def new_figure(width: float, height: float) -> Any:
    """A figure of some inches that belongs to no window.

    Raises
    ------
    ImportError
        matplotlib is not installed (extra `plot`).
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError('a picture needs matplotlib: pip install "fastbp[plot]"') from error
    return Figure(figsize=(width, height), layout="constrained")
