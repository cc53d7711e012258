"""Warnings that cost no result: under ``-W error`` they are shown, not raised."""

from __future__ import annotations

import sys
import warnings


def tell(message: str, category: type[Warning], stacklevel: int = 1) -> None:
    """Warn as `warnings.warn` does, but never raise: an error filter must not cost the result of the work.

    A warning that comes before any work has been done may raise: there, use `warnings.warn` itself.
    """
    try:
        warnings.warn(message, category, stacklevel=stacklevel + 1)
    except category:
        frame = sys._getframe()
        for _ in range(stacklevel):
            frame = frame.f_back or frame
        warnings.showwarning(message, category, frame.f_code.co_filename, frame.f_lineno)
