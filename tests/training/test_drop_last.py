"""`fit(drop_last=True)`: whole batches only, and other rows left out in every epoch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastbp
from fastbp import MLP, SGD, Adam, schedules
from fastbp.reference import NumpyMLP

RNG = np.random.default_rng(4)
X = RNG.standard_normal((103, 6))
Y = RNG.integers(0, 3, 103)


def trained(kind: Any = MLP, rows: int = 103, **options: Any) -> Any:
    net = kind([6, 8, 3], seed=5, activation="tanh", dtype="float64")
    net.fit(X[:rows], Y[:rows], **{"epochs": 3, "batch_size": 20, "optimizer": Adam(0.01), **options})
    return net


def assert_same(one: Any, other: Any) -> None:
    for a, b in zip([*one.weights, *one.biases], [*other.weights, *other.biases], strict=True):
        assert a.tobytes() == b.tobytes()


def test_rows_in_order_are_those_of_whole_batches() -> None:
    schedule = schedules.Cosine(3)
    one = trained(drop_last=True, shuffle=False, schedule=schedule)
    other = trained(rows=100, shuffle=False, schedule=schedule)
    assert_same(one, other)
    assert one.history.loss == other.history.loss
    assert one.optimizer_state()["steps"] == 15
    twin = trained(NumpyMLP, drop_last=True, shuffle=False)
    for a, b in zip(trained(drop_last=True, shuffle=False).weights, twin.weights, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-13)


def test_every_epoch_leaves_out_other_rows() -> None:
    """Rows that are unit vectors: what a row has not taught, the weights of its input tell."""
    net = MLP([103, 3], seed=1, dtype="float64")
    missed, before = [], net.weights[0]
    for _ in range(6):
        net.fit(np.eye(103), Y, epochs=1, batch_size=20, optimizer=SGD(0.5), drop_last=True)
        missed.append(np.flatnonzero((net.weights[0] == before).all(axis=1)))
        before = net.weights[0]
    assert [len(one) for one in missed] == [3] * 6
    assert len({tuple(one) for one in missed}) == 6


@pytest.mark.parametrize("threads", [2, 3])
def test_any_number_of_threads_makes_the_same_bits(threads: int) -> None:
    assert_same(trained(drop_last=True, threads=1), trained(drop_last=True, threads=threads))


def test_fewer_rows_than_a_batch_are_one() -> None:
    assert_same(trained(rows=15, drop_last=True), trained(rows=15))


def test_batches_that_fit_are_all() -> None:
    assert_same(trained(rows=100, drop_last=True), trained(rows=100))


def test_a_training_without_rest_after_one_with(tmp_path: Path) -> None:
    """What was left out for one call is there for the next."""
    net, other = MLP([6, 8, 3], seed=5), MLP([6, 8, 3], seed=5)
    net.fit(X, Y, epochs=1, batch_size=20, drop_last=True)
    other.set_weights(net.weights, net.biases)
    other.load_optimizer_state(net.optimizer_state())
    for one in (net, other):
        one.train_step(X, Y, "adam")
        one.fit(X, Y, epochs=2, batch_size=20)
    assert_same(net, other)
    assert net.evaluate(X, Y) == other.evaluate(X, Y)


def test_validation_and_checkpoints(tmp_path: Path) -> None:
    options: dict[str, Any] = {"drop_last": True, "validation_split": 0.2}
    trained(callbacks=[fastbp.Checkpoint(tmp_path)], **options)
    again = trained(callbacks=[fastbp.Checkpoint(tmp_path)], resume=tmp_path, **{**options, "epochs": 7})
    assert_same(again, trained(**{**options, "epochs": 7}))
    with pytest.raises(ValueError, match=r"rows left out of an epoch were 2, now None"):
        trained(resume=tmp_path, validation_split=0.2, epochs=7)


def test_the_loss_of_an_epoch_is_that_of_the_rows_used() -> None:
    net = MLP([6, 8, 3], seed=5, dtype="float64")
    expected = net.evaluate(X[:100], Y[:100])["loss"]
    net.fit(X, Y, epochs=1, batch_size=50, drop_last=True, shuffle=False, optimizer=SGD(0.0))
    assert net.history is not None
    assert net.history.loss[0] == pytest.approx(expected, rel=1e-12)


def test_where_it_means_nothing_it_is_refused() -> None:
    net = MLP([6, 8, 3], seed=5)
    with pytest.raises(ValueError, match="drop_last is for arrays"):
        net.fit([(X, Y)], drop_last=True)
    with pytest.raises(ValueError, match="L-BFGS takes all rows"):
        net.fit(X, Y, optimizer="lbfgs", drop_last=True)
    with pytest.raises(TypeError, match="drop_last must be True or False"):
        net.fit(X, Y, drop_last="yes")  # type: ignore[arg-type]
