"""Stages: short calls that are like an earlier one write no more than their batch, and run the kernel again.

To copy a small batch to where a job points costs less than to point the job at the caller's arrays, and all else that
a call sets up is as before: of the 32 us of a backpropagation of 16 rows through 4-16-3 the kernel takes 1. A stage
holds the job of its call as bytes, which are put back (0.04 us) if another call has been made since.
"""

from __future__ import annotations

from typing import Any

from fastbp.engine import memory
from fastbp.engine.bindings import AT, Bindings
from fastbp.engine.layout import Layout
from fastbp.kernels import records
from fastbp.kernels.records import JOB
from fastbp.losses import Loss
from fastbp.types import Array

_SCAN, _TIME, _PROFILE = (AT[name] for name in ("scan", "t", "profile"))
# What comes before is set by Python; behind, kernels leave what they have found, and count updates.
_END = 8 * AT["steps_done"]
_RESULTS = "steps_done", "snapshot_step", "bad_row"
assert JOB.names[-len(_RESULTS) :] == _RESULTS  # type: ignore[index]
MOST = 16  # stages of one network

# Backpropagation has four kinds: by targets or by an output gradient, each as in training or without noise.
DELTAS, NOISY = 8, 16


class Stage:
    """Where a call of a kind finds its batch, and leaves what it has found.

    Attributes
    ----------
    X, y, weights : array or None
        Copies of the batch, each of the type and shape that it has in every call of the stage.
    outputs : array or None
        Of an inference.
    inputs : array or None
        dJ/dX of a backpropagation.
    optimizer, scaling : object
        Those of the call: a stage is for these alone.
    plain : bool
        Targets of the same type and shape need no more than to be copied.
    job : bytes
        What the job said.
    layers : array
        The records of the layers.
    bound : tuple
        What the job points at of the batch, and what messages about it are made of.
    """

    __slots__ = (
        "X", "bound", "dtype", "inputs", "job", "kernel", "layers", "optimizer", "outputs", "plain", "scaling",
        "shape", "weights", "y", "y_dtype", "y_shape",
    )  # fmt: skip

    def __init__(
        self, X: Array | None, y: Array | None, weights: Array | None, *, outputs: Array | None, inputs: Array | None,
        optimizer: object, scaling: object, plain: bool,
    ) -> None:  # fmt: skip
        self.X: Any = X
        self.y, self.weights, self.outputs, self.inputs = y, weights, outputs, inputs
        self.shape: Any = None if X is None else X.shape
        self.dtype: Any = None if X is None else X.dtype
        self.y_shape: Any = None if y is None else y.shape
        self.y_dtype: Any = None if y is None else y.dtype
        self.optimizer, self.scaling, self.plain = optimizer, scaling, plain
        self.kernel: Any = None
        self.job, self.bound = b"", tuple[Any, ...]()
        self.layers: Any = None


class Stages(Bindings):
    """The stages of one network. A caller holds the network's lock."""

    def __init__(self, layout: Layout, loss: Loss) -> None:
        super().__init__(layout, loss)
        self._sync = memoryview(self.sync)  # type: ignore[arg-type]
        self._tag = layout.dtype.type(1)
        self._kernel: Any = None
        self._alone = False  # the last call ran on the calling thread

    @property
    def status(self) -> int:
        """Of the last call."""
        return self._sync[16]

    @property
    def loss(self) -> float:
        """J of the first step of the last call."""
        found: float = self.losses.item(0)
        return found

    def stage(
        self, kind: int, X: Array | None, y: Array | None, weights: Array | None = None, *,
        outputs: Array | None = None, inputs: Array | None = None, optimizer: object = None, scaling: object = None,
        plain: bool = False,
    ) -> None:  # fmt: skip
        """After a call on arrays of our own: keep them ready for more of its kind, if it needed no other thread.

        kind: of `records.TRAIN` and its like, with DELTAS and NOISY for a backpropagation.
        """
        if not self._alone or self.buffers is None or self._words[_PROFILE]:
            return
        made = Stage(
            X, y, weights, outputs=outputs, inputs=inputs, optimizer=optimizer, scaling=scaling, plain=plain
        )  # fmt: skip
        made.kernel, made.layers, made.bound = self._kernel, self.buffers.records.copy(), self._bound
        made.job = bytes(self._bytes[:_END])
        if len(self._stages) >= MOST:
            self.forget_stages()
        self._stages[kind, made.shape] = self._current = made

    def call_again(
        self, kind: int, X: Array, y: Array | None, optimizer: object, scaling: object, weights: Array | None = None,
        *, checked: bool = True, scan: bool = False,
    ) -> Stage | None:  # fmt: skip
        """Repeat an earlier call with another batch, if that differed in nothing else; None if there is none such.

        None, too, where a label is wrong: the kernel has changed nothing, and who sets up all of the call will say so.

        checked: X and y are in the kernels' form. Otherwise they are arrays as the user gave them.
        scan: look for NaN and infinity in X; the status tells.
        """
        stage: Stage | None = self._stages.get((kind, X.shape))
        if (
            stage is None
            or stage.optimizer is not optimizer
            or stage.scaling is not scaling
            or stage.dtype is not X.dtype
            or (stage.weights is None) != (weights is None)
            or not (checked or stage.plain)
        ):
            return None
        if stage.y is not None:
            if y is None or y.dtype is not stage.y_dtype:
                return None
            if y.shape == stage.y_shape:
                stage.y[...] = y
            elif stage.y_shape == (*y.shape, 1):  # one output
                stage.y[:, 0] = y
            else:
                return None
        stage.X[...] = X
        if stage.weights is not None:
            stage.weights[...] = weights
        if stage is not self._current:
            self._put_back(stage)
        if scan is not self._scans:
            self._scans = scan
            self._words[_SCAN] = scan
        if stage.outputs is None:
            count = self._state.counters
            self._words[_TIME] = count.steps + self._counted[0] - count.counted  # `steps`, for 0.1 us less
            if stage.inputs is not None:
                self.mirror_inputs()
        sync = self._sync
        sync[8] = sync[16] = sync[24] = 0  # a request to stop that an exception cut off, status, claims
        stage.kernel(self.job, stage.layers, 0, self._tag)
        return None if sync[16] == records.BAD_LABEL else stage

    def update_again(self, optimizer: object, gradient: Array) -> bool:
        """Repeat an update by another gradient, if the last one was by the same optimiser; whether it was."""
        stage = self._stages.get((records.UPDATE, None))
        if stage is None or stage.optimizer is not optimizer:
            return False
        if stage is not self._current:
            self._put_back(stage)
        self._words[_TIME] = self.steps
        self.gradient[...] = gradient  # type: ignore[index]
        sync = self._sync
        sync[8] = sync[16] = sync[24] = 0
        stage.kernel(self.job, stage.layers, 0, self._tag)
        self._input_mirror = self.mark()  # an update keeps all of the transposed copy fresh
        return True

    def _put_back(self, stage: Stage) -> None:
        """Have the job say what it said in a stage's call. Others bind theirs anew."""
        self.forget_bindings()
        self._bound = stage.bound
        self._bytes[:_END] = stage.job
        self._scans = bool(self._words[_SCAN])
        self._current = stage


def room_for_inputs(layout: Layout, rows: int) -> tuple[Array, Array]:
    """Memory for dJ/dX, as kernels write it, and a view of it, ``(rows, n_in)``."""
    n_in = layout.layers[0].n_in
    stride = layout.stride(n_in)
    room = memory.allocate(rows * stride, layout.dtype)
    return room, room.reshape(rows, stride)[:, :n_in]
