"""The check before the clock: from the same weights and batches, every rival must reach the reference's losses."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from fastbp.bench.result import Setting, Verification
from fastbp.bench.rivals import NumpyRival, Rival, Task

#: Largest relative difference of an epoch's mean loss from the float64 NumPy reference, by the rival's dtype. Measured
#: in float32 over the table: rounding 9e-7, and 4e-6 for the Adam of JAX (0.999**t in float32) and of scikit-learn; a
#: frozen bias 2e-5 (`large`) to 8e-3, a learning rate off by 1 % 4e-4 to 5e-3, a beta2 of 0.99 2e-4 and more.
TOLERANCE = {"float32": 1e-5, "float64": 1e-8}
#: The same where operands of products are rounded to 8 bits: measured 2e-5 to 8e-4.
LOW_TOLERANCE = 1e-2
MIN_EPOCHS = 2
MIN_STEPS = 12  # a full batch takes one step an epoch, and a loss seen before one update says little


def epochs_to_compare(steps_per_epoch: int) -> int:
    """At least two epochs, and at least twelve steps."""
    return max(MIN_EPOCHS, math.ceil(MIN_STEPS / steps_per_epoch))


def expected_losses(task: Task) -> tuple[float, ...]:
    """Mean loss of each epoch of the NumPy reference in float64, rows in stored order."""
    exact = Task(
        replace(task.workload, dtype="float64"),
        task.X.astype(np.float64),
        task.y.astype(np.float64) if task.y.dtype.kind == "f" else task.y,
        [weight.astype(np.float64) for weight in task.weights],
        [bias.astype(np.float64) for bias in task.biases],
    )
    reference = NumpyRival()
    reference.apply(reference.settings(1)[0])  # on a busy machine, BLAS threads wait for each other most of the time
    try:
        reference.setup(exact)
        return tuple(reference.train(epochs_to_compare(task.workload.steps_per_epoch), shuffle=False))
    finally:
        reference.close()


def verify(rival: Rival, task: Task, expected: Sequence[float], settings: Sequence[Setting]) -> Verification:
    """Train the rival, already set up, in each of its settings; the worst of them is the verdict."""
    tolerance = TOLERANCE[task.workload.dtype] if rival.precision == "float32" else LOW_TOLERANCE
    worst: Verification | None = None
    for setting in settings:
        rival.apply(setting)
        try:
            rival.reset()
            losses = [float(loss) for loss in rival.train(len(expected), shuffle=False)]
        finally:
            rival.close()
        difference = largest_difference(losses, expected)
        finite = tuple(loss if math.isfinite(loss) else None for loss in losses)
        passed = difference <= tolerance
        if worst is None or (worst.difference is not None and difference > worst.difference):
            shown = difference if math.isfinite(difference) else None
            worst = Verification(passed, tolerance, shown, setting, finite, tuple(expected))
    assert worst is not None, "a rival has at least one setting"
    return worst


def largest_difference(losses: Sequence[float], expected: Sequence[float]) -> float:
    """Largest relative difference; infinity for a loss that is missing, one too many, or not finite."""
    if len(losses) != len(expected) or not all(map(math.isfinite, losses)):
        return math.inf
    return max(abs(loss - exact) / abs(exact) for loss, exact in zip(losses, expected, strict=True))
