"""The story as one web page that needs nothing else."""

from __future__ import annotations


def write(story: object, path: object, command: str | None) -> None:
    """Write the page."""
    raise NotImplementedError
