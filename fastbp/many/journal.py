"""The journal of a learning-rate sweep: what its runs depend on, and their records by rate and seed."""

from __future__ import annotations

import inspect
from os import PathLike
from typing import Any

import numpy as np

from fastbp import schedules
from fastbp._version import __version__
from fastbp.engine.precisions import FLOAT32
from fastbp.kernels.targets import TARGET
from fastbp.many.ledger import Ledger, judged
from fastbp.many.lines import Lines
from fastbp.many.run_spec import RunSpec, checksum
from fastbp.network import MLP
from fastbp.types import Array

FORMAT, VERSION = "fastbp sweep journal", 1


def fingerprint(spec: RunSpec) -> dict[str, Any]:
    """What a run depends on, except its rate and seed, as JSON values; arrays are hashed."""
    net, scaling = spec.net, spec.net.scaling
    regularization = net.regularization.as_arguments()
    apart = {"activation", "dtype", "seed", "input_scale", *regularization}
    names = [name for name in inspect.signature(MLP).parameters if name not in apart]
    optimizer = {**vars(spec.optimizer), "name": spec.optimizer.name}
    optimizer.pop("lr")
    if optimizer["lr_scale"] is None:  # journals of before know nothing of it, nor of scales of inputs
        del optimizer["lr_scale"]
    how: dict[str, Any] = (
        {} if spec.precision == FLOAT32 else {"precision": spec.precision}
    )  # unknown to journals of before, too
    how |= {} if spec.class_weight is None else {"class_weight": repr(spec.class_weight)}
    how |= {"callbacks": [repr(one) for one in spec.callbacks]} if spec.callbacks else {}
    how |= (
        {} if spec.metric.function is None else {"metric": [spec.metric.name, spec.metric.larger, spec.first_metric()]}
    )
    scaled = {} if net.input_scale is None else {"input_scale": True}
    plateau = schedules.plateau_of(spec.schedule) is not None
    tables = spec.tables(np.ones(1))
    return {
        "X": checksum(spec.X),
        "y": checksum(spec.y),
        "ignored": None if spec.weights is None else checksum(spec.weights),  # rows whose label the loss ignores
        "validation_data": [checksum(array) for array in spec.held_out or () if array is not None],
        "net": {
            **{name: repr(getattr(net, name)) for name in names},
            **scaled,
            "activations": list(net.activations),
            "regularization": regularization,
            "dtype": net.dtype.name,
            "scaling": [] if scaling is None else [checksum(x) for x in vars(scaling).values() if x is not None],
        },
        "epochs": spec.epochs,
        "batch_size": spec.batch_size,
        **how,
        "optimizer": {name: repr(value) for name, value in sorted(optimizer.items())},
        # Hashed by its values: the name of a function says nothing.
        "schedule": repr(spec.schedule) if plateau else [checksum(table) for table in tables if table is not None],
        "version": __version__,
        "instruction_set": TARGET.name,
    }


def _check_record(record: dict[str, Any], epochs: int) -> None:
    """Refuse a record that this program has not written."""
    done, losses = record["epochs"], record["val_loss"]
    if isinstance(done, bool) or not isinstance(done, int) or not 0 <= done <= epochs:
        raise ValueError(f"epochs is {done!r}")
    if record["status"] == "finished" and (done == 0 or len(losses) < done or None in losses[:done]):
        raise ValueError("a finished run has a validation loss for every epoch")


class Journal(Lines):
    """An open journal; with path None, one that is empty and writes nothing."""

    def __init__(self, path: str | PathLike[str] | None, spec: RunSpec) -> None:
        self.records: dict[tuple[float, int], dict[str, Any]] = {}
        header = {} if path is None else {"format": FORMAT, "version": VERSION, **fingerprint(spec)}
        super().__init__(path, header)

    def keep(self, record: dict[str, Any]) -> None:
        """Take in a record; of one run, the longest counts."""
        key = float(record["lr"]), int(record["seed"])
        Ledger([key[0]], [key[1]], self.header["epochs"]).read(0, record)
        _check_record(record, self.header["epochs"])
        before = self.records.get(key)
        if before is None or before["epochs"] <= record["epochs"]:
            self.records[key] = record

    def read(self, ledger: Ledger) -> None:
        """Copy the runs of the journal into a ledger, except those that an earlier rule gave up."""
        if self.records:
            for i, key in enumerate(zip(ledger.learning_rates.tolist(), ledger.seeds.tolist(), strict=True)):
                if key in self.records and judged(self.records[key]):
                    ledger.read(i, self.records[key])

    def write(self, ledger: Ledger, which: Array) -> None:
        """Append some runs of a ledger, and flush."""
        if self.file is not None:
            for i in which.tolist():
                self.append(ledger.record(i))
