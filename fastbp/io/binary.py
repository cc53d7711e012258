"""Parquet and Arrow files, read by Polars; whatever a damaged one sets off there is one error that names the file."""

from __future__ import annotations

import os
import tempfile
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fastbp.io.extras import polars
from fastbp.io.faults import TableError

_stderr = threading.Lock()  # who has it, has turned it aside


def parquet(content: bytes, source: str) -> Any:
    """The frame of a Parquet file."""
    with damages(source), aside():
        return polars().read_parquet(content, use_pyarrow=False)


def arrow(content: bytes, source: str) -> Any:
    """The frame of an Arrow file, which Feather's version 2 is."""
    with damages(source), aside():
        return polars().read_ipc(content, use_pyarrow=False)


@contextmanager
def damages(source: str) -> Iterator[None]:
    """Let what a damaged file sets off be one error that names the file."""
    try:
        yield
    except (polars().exceptions.PolarsError, OSError, EOFError, zlib.error, ValueError) as error:
        said = str(error).strip().splitlines()
        raise TableError(
            source, [f"is damaged, or was cut short: {said[0] if said else type(error).__name__}"]
        ) from error
    except BaseException as error:
        if type(error).__name__ != "PanicException":  # of Rust, which is no Exception
            raise
        raise TableError(source, ["is damaged, or was cut short: Polars cannot read it"]) from None


@contextmanager
def aside() -> Iterator[None]:
    """Keep stderr from native code: a panic of Rust prints its stack there, before Python can catch it.

    What was written by code that then did its work is printed afterwards.
    """
    with _stderr, tempfile.TemporaryFile() as held:
        try:
            kept = os.dup(2)
        except OSError:  # there is none
            yield
            return
        try:
            os.dup2(held.fileno(), 2)
            yield
        except BaseException:
            held.truncate(0)
            raise
        finally:
            os.dup2(kept, 2)
            held.seek(0)
            if written := held.read():
                os.write(kept, written)
            os.close(kept)
