"""The norm of the gradient over all rows that a loop trains on."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from fastbp.engine import tuning
from fastbp.engine.session import Session
from fastbp.numerics import norm, quiet
from fastbp.optimizers import Optimizer
from fastbp.spec import Samples
from fastbp.types import Array


class Rows(Protocol):
    """What is asked of a feed."""

    mean_weight: float

    @property
    def samples(self) -> Samples | None: ...
    def all_rows(self) -> Array: ...


@quiet
def gradient_norm(session: Session, feed: Rows, optimizer: Optimizer) -> float:
    """Euclidean norm of dJ/d(parameters) over all training rows, penalties included, block by block."""
    rows, samples, engine = feed.all_rows(), feed.samples, session.engine
    assert samples is not None
    total, mean_weight = np.zeros(session.layout.n_parameters), feed.mean_weight
    for start in range(0, len(rows), tuning.GRADIENT_ROWS):
        block = rows[start : start + tuning.GRADIENT_ROWS]
        weights = None if samples.weights is None else samples.weights[block]
        count = len(block) if weights is None else weights.sum() / mean_weight
        batch = Samples(np.ascontiguousarray(samples.X[block]), np.ascontiguousarray(samples.y[block]), weights)
        with session.lock:
            session.bind(batch)
            engine.backprop(len(block), 1)
            total += engine.need_gradient() * (count / len(rows))
    penalties, parameters = session.spec.regularization, engine.parameters.astype(np.float64)
    if penalties.l1 or penalties.l2:
        slope = penalties.l1 * np.sign(parameters) + 2.0 * penalties.l2 * parameters
        total += session.layout.weight_mask() * slope
    total += optimizer.decays[0] * parameters
    return norm(total)
