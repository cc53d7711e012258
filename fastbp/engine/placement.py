"""Where the work of a step is placed: how many threads, and which layers keep their weights with one of them."""

from __future__ import annotations

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
