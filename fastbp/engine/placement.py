"""Where the work of a step is placed: how many threads, and which layers keep their weights with one of them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple


class Placement(NamedTuple):
    """Who computes what. No bit of a result depends on it.

    By rows, each thread carries its rows of the batch through a layer, and any thread may update any block of weights.
    By columns, the threads fall into parts; the weights of a layer, their moments and a copy of its inputs stay with
    one part. The first layers may be by columns; the layers above are by rows.

    Attributes
    ----------
    threads : int
    layers : int
        Leading layers that are by columns; 0: all are by rows.
    parts : int
        Parts that the threads fall into, a divisor of `threads`; 1 where all layers are by rows.
    """

    threads: int
    layers: int = 0
    parts: int = 1


ALONE = Placement(1)
VARIABLE = "FASTBP_PLACEMENT"


class Forced(NamedTuple):
    """What the environment asks for: layers and parts of a placement; None: as the model proposes."""

    layers: int | None
    parts: int | None


def forced(environment: Mapping[str, str]) -> Forced | None:
    """The placement that FASTBP_PLACEMENT asks for, for reports and tests; None: any."""
    text = environment.get(VARIABLE)
    if not text:
        return None
    if text == "rows":
        return Forced(0, 1)
    # No number is as long as to be refused by Python.
    found = re.fullmatch(r"columns(?::([1-9][0-9]{0,3})(?:/([1-9][0-9]{0,3}))?)?", text, re.ASCII)
    if found is None:
        raise ValueError(
            f"{VARIABLE} must be 'rows', 'columns', 'columns:LAYERS' or 'columns:LAYERS/PARTS' with whole numbers from "
            f"1 to 9999, as 'columns:1/2', got {text[:40]!r}"
        )
    layers, parts = found.groups()
    return Forced(None if layers is None else int(layers), None if parts is None else int(parts))
