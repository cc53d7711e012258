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

    @property
    def weight(self) -> Any:
        """Weights of the rows to train on, as --weight names them; None: all count the same."""
        return None if self.ready is None else self.ready.train.weight


# Options of tables, beside those with the names of arguments, by the words of the command line.
OF_TABLES = {
    "targets": "--target", "features": "--features", "drop": "--drop", "id": "--id", "categorical": "--categorical",
    "numeric": "--numeric", "missing": "--missing", "dates": "--date", "decimal": "--decimal",
    "thousands": "--thousands", "delimiter": "--delimiter", "encoding": "--encoding", "weight": "--weight",
    "group": "--group", "time": "--time", "log_target": "--log-target", "test": "--test", "refit": "--refit",
}  # fmt: skip


def is_table(settings: Any) -> bool:
    """Whether DATA is read as columns with names: all but an NPZ of which nothing is said that tables alone know."""
    if settings.data is None:
        return False
    return not is_npz(settings.data) or any(getattr(settings, name, None) for name in OF_TABLES)


def is_npz(data: str) -> bool:
    """Whether the name of DATA says that it holds arrays."""
    return Path(data).suffix.lower() == ".npz"


def opened(data: str) -> Any:
    """DATA as the library takes it: a path, or what is piped in for `-`."""
    return sys.stdin.buffer if data == "-" else data
