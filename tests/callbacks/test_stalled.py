"""`StopStalled`: scikit-learn's rule, at the epoch that the plain formula says, with all epochs in few native calls."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import fastbp
from fastbp import StopStalled


def rows() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    X = rng.standard_normal((60, 3))
    return X, (X[:, 0] > 0).astype(np.int64)


def first_stop(losses: list[float], tol: float, patience: int) -> int | None:
    """The plain formula: the epoch, from 1, after which the rule stops."""
    best, count = math.inf, 0
    for epoch, loss in enumerate(losses, 1):
        count = count + 1 if loss > best - tol else 0
        best = min(best, loss)
        if count > patience:
            return epoch
    return None


@pytest.mark.parametrize(("tol", "patience"), [(1e-2, 3), (5e-3, 10), (1e-2, 1), (0.0, 5)])
def test_it_stops_where_the_formula_says(tol: float, patience: int) -> None:
    X, y = rows()
    free = fastbp.MLP([3, 8, 2], seed=0).fit(X, y, epochs=120)
    rule = StopStalled(tol=tol, patience=patience)
    net = fastbp.MLP([3, 8, 2], seed=0)
    history = net.fit(X, y, epochs=120, callbacks=[rule])
    expected = first_stop(free.loss, tol, patience)
    assert history.loss == free.loss[: expected or 120]
    assert bool(history.stop_reason) == (expected is not None)
    assert net.session.engine.epochs == len(history.loss)


def test_other_callbacks_see_every_epoch_and_it_asks_for_few() -> None:
    X, y = rows()
    seen: list[int] = []

    class Watch:
        def on_epoch_end(self, state: Any) -> None:
            seen.append(state.epoch)

    def stop(*others: Any) -> tuple[int, int]:
        net = fastbp.MLP([3, 8, 2], seed=0)
        calls, call = [], net.session.engine.call
        net.session.engine.call = lambda *a, **k: calls.append(1) or call(*a, **k)  # type: ignore[assignment,method-assign]
        return len(net.fit(X, y, epochs=100, callbacks=[StopStalled(tol=1e-2), *others]).loss), len(calls)

    (epochs, few), (same, many) = stop(), stop(Watch())
    assert epochs == same == len(seen)
    assert many >= epochs > 2 * few


def test_scores_and_infinite_patience() -> None:
    X, y = rows()
    history = fastbp.MLP([3, 8, 2], seed=0).fit(
        X, y, epochs=60, validation_data=(X, y), callbacks=[StopStalled("val_score", tol=1e-3, patience=9)]
    )
    assert len(history.loss) == first_stop([-score for score in history.val_score], 1e-3, 9)
    assert (
        len(
            fastbp.MLP([3, 8, 2], seed=0).fit(X, y, epochs=30, callbacks=[StopStalled(tol=9.0, patience=math.inf)]).loss
        )
        == 30
    )
    with pytest.raises(ValueError, match="patience must be"):
        StopStalled(patience=0)
