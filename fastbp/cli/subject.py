"""What a command trains on: DATA read, with its network; and how DATA is named."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastbp.cli.defaults import Hyperparameters

if TYPE_CHECKING:
    from fastbp.data.prepare import PreparedData
    from fastbp.network import MLP
    from fastbp.tables.model import TableModel
    from fastbp.tables.prepared import Prepared


@dataclasses.dataclass
class Subject:
    """What a command trains on, by which network and method."""

    prepared: PreparedData
    net: MLP
    hyper: Hyperparameters
    optimizer: Any
    model: TableModel | None = None  # of a table
    ready: Prepared | None = None


def is_table(data: str | None) -> bool:
    """Whether DATA has columns with names: all but arrays in an NPZ."""
    return data is not None and Path(data).suffix.lower() != ".npz"


def opened(data: str) -> Any:
    """DATA as the library takes it: a path, or what is piped in for `-`."""
    return sys.stdin.buffer if data == "-" else data
