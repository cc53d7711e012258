"""Warnings that cost no result: under ``-W error`` they are shown, not raised."""

from __future__ import annotations

import sys
import warnings


def tell(message: str, category: type[Warning], stacklevel: int = 1) -> None:
    """`warnings.warn`, for what is told beside a result, or while work goes on: an error filter must not take it along.

    What is said before anything has been done, and so loses nothing, is a plain warning.
    """
    try:
        warnings.warn(message, category, stacklevel=stacklevel + 1)
    except category:
        frame = sys._getframe()
        for _ in range(stacklevel):
            frame = frame.f_back or frame
        warnings.showwarning(message, category, frame.f_code.co_filename, frame.f_lineno)
