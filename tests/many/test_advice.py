"""What a sweep advises, on constructed losses whose answer is known: best rate, interval, halving, notes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from test_sweep import made

from fastbp import MLP, lr_sweep
from fastbp.many import statistics, text
from fastbp.many.halving import survivors
from fastbp.many.statistics import compare

QUARTERS = 10.0 ** (np.arange(-12, 1) / 4)  # 0.001 to 1, a quarter of a decade apart


def bowl(rates: Any, at: float, floor: float = 0.1) -> Any:
    """Losses that are lowest at a rate, and ten times as high two decades away."""
    return floor * 10.0 ** (0.25 * np.log10(rates / at) ** 2)


def seeded(means: Any, seeds: int = 5, common: float = 0.3, own: float = 0.02) -> Any:
    """Losses ``(K, S)``: seeds differ by much, which all rates share, and by little of their own."""
    rng = np.random.default_rng(0)
    shared = rng.normal(0.0, common, (1, seeds))
    return means[:, None] * np.exp(shared + rng.normal(0.0, own, (len(means), seeds)))


@pytest.mark.parametrize("freedom", [1, 2, 4, 6, 9, 40])
def test_students_t(freedom: int) -> None:
    """By simulation: nine in ten means of so many are below it."""
    rng = np.random.default_rng(1)
    draws = rng.standard_normal((200_000, freedom + 1))
    t = draws.mean(axis=1) / (draws.std(axis=1, ddof=1) / np.sqrt(freedom + 1))
    assert (t < statistics.student(freedom)).mean() == pytest.approx(0.9, abs=0.003)
    assert statistics.student(0) == np.inf


def test_smoothing_by_hand() -> None:
    rates, known = np.array([1.0, 2.0, 4.0, 40.0, 80.0]), np.ones(5, bool)
    values = np.array([4.0, 8.0, 0.0, 2.0, 6.0])
    assert statistics.smooth(rates, values, known).tolist() == [4.0, 5.0, 0.0, 2.0, 6.0]  # 4 and 40 are far apart
    known[0] = False
    assert statistics.smooth(rates, values, known).tolist() == [4.0, 8.0, 0.0, 2.0, 6.0]
    line = np.arange(5.0)
    assert statistics.smooth(np.ones(5), line, np.ones(5, bool)).tolist() == line.tolist()  # to the ends
    both = np.stack([values, -values], axis=1)
    assert statistics.smooth(rates, both, known)[:, 1].tolist() == [-4.0, -8.0, 0.0, -2.0, -6.0]


def test_a_lucky_isolated_rate_does_not_win() -> None:
    """The curve of the issue: 0.316 between neighbours at 0.436 and 3.34."""
    means = bowl(QUARTERS, 0.0178, 0.061)
    means[9:13] = 0.436, 0.05, 3.34, 5.0  # 0.178, 0.316, 0.562, 1
    losses = seeded(means, 3)
    sweep = made(losses, rates=QUARTERS)
    assert sweep.learning_rates[sweep.lowest_index] == pytest.approx(0.316, rel=0.01)
    assert 0.01 <= sweep.best_lr <= 0.0317
    assert any("0.316 has the lowest mean" in note for note in sweep.notes)
    assert "lowest mean" in str(sweep)


def test_paired_differences_are_relative_and_printed() -> None:
    """Seeds that share their luck say much of differences: 2 % of noise shows what 30 % would hide."""
    losses = seeded(bowl(QUARTERS, 0.0316))
    found = compare(QUARTERS, losses, np.ones(13, bool), 10.0)
    assert found.best == 6
    assert (found.error[np.arange(13) != 6] < 0.03).all()
    assert (found.difference >= 0).all()
    # log of the bowl, smoothed: 0.25 ln 10 (x^2 + d^2 / 2), x decades away, d between neighbours.
    assert found.difference[2] == pytest.approx(0.25 * np.log(10), abs=0.06)
    sweep = made(losses, rates=QUARTERS)
    assert sweep.difference_error.tolist() == pytest.approx(found.error.tolist())
    row = next(line for line in str(sweep).splitlines() if line.lstrip().startswith("0.00316"))
    shown = float(row.split("+")[1].split("%")[0])
    assert shown == pytest.approx(100 * np.expm1(found.difference[2]), rel=0.05)
    assert text.versus(sweep, 6) == ("-", "-")


def test_scale_and_sign_do_not_matter() -> None:
    losses = seeded(bowl(QUARTERS, 0.0316))
    every = np.ones(13, bool)
    one, other = (compare(QUARTERS, c * losses, every, c * 10.0) for c in (1.0, 1e-6))
    np.testing.assert_allclose(one.difference, other.difference, rtol=1e-9, atol=1e-12)
    below = compare(QUARTERS, losses - 5.0, every, 5.0)
    assert below.best == one.best
    assert np.isfinite(below.level).all()
    assert compare(QUARTERS, np.zeros((13, 5)), every, 0.0).near.all()


def test_the_neighbour_of_a_rate_that_fails_is_held_against_it() -> None:
    means = np.array([1.0, 0.5, 0.45, 0.43])
    rates, eligible = np.array([0.01, 0.02, 0.04, 0.08]), np.array([True, True, True, False])
    assert compare(rates, seeded(means), eligible, 20.0).best == 1
    known = np.array([True, True, True, False])  # eliminated: it says nothing
    assert compare(rates, seeded(means), eligible, 20.0, known).best == 2
    assert compare(rates, seeded(means), np.zeros(4, bool), 20.0).best is None


def test_the_interval_is_contiguous_and_wider_with_noise() -> None:
    quiet, noisy = (
        statistics.interval(compare(QUARTERS, seeded(bowl(QUARTERS, 0.0316), own=own), np.ones(13, bool), 9.0))
        for own in (0.005, 0.3)
    )
    assert quiet.sum() == 1
    assert noisy.sum() > quiet.sum()
    assert (np.diff(np.flatnonzero(noisy)) == 1).all()


# --- halving


def curves(rates: Any, epochs: int, ceiling: float, seeds: int = 4) -> Any:
    """Losses ``(K, S, epochs)`` that fall with rate x epochs to a floor that rises with the rate."""
    rng = np.random.default_rng(2)
    steps = rates[:, None] * np.arange(1, epochs + 1)
    means = 0.1 + 0.5 * (rates[:, None] / ceiling) ** 2 + np.exp(-steps / 0.05)
    noise = np.exp(rng.normal(0.0, 0.01, (len(rates), seeds, epochs)) + rng.normal(0.0, 0.2, (1, seeds, 1)))
    return means[:, None, :] * noise


def test_halving_knows_that_early_epochs_favour_large_rates() -> None:
    losses, start = curves(QUARTERS, 32, 0.3), np.full(4, 9.0)
    every = np.ones(13, bool)
    early = int(losses[:, :, 3].mean(axis=1).argmin())
    late = int(losses[:, :, -1].mean(axis=1).argmin())
    assert early >= late + 2  # the best moves down by half a decade
    assert not compare(QUARTERS, losses[:, :, 3], every, 9.0).near[late]  # by its error it would be out
    kept = survivors(QUARTERS, losses[:, :, :4], every, start, 32, every)
    assert kept[late]
    assert kept[early]
    assert kept.sum() <= 8
    assert not kept[-1]  # too large for good
    assert not kept[0]  # too small to arrive in time
    # At the end of the training no time is left, and only the error speaks.
    last = survivors(QUARTERS, losses, every, start, 32, every)
    assert last.tolist() == compare(QUARTERS, losses[:, :, -1], every, 9.0, every).near.tolist()


def test_halving_keeps_a_large_rate_whose_loss_falls_steeply() -> None:
    losses, start, every = curves(QUARTERS, 4, 0.3), np.full(4, 9.0), np.ones(13, bool)
    assert not survivors(QUARTERS, losses, every, start, 32, every)[-1]
    losses[10:] = 100.0 / np.arange(1, 5) ** 3  # still the worst after four epochs, by far
    assert losses[10, 0, -1] > losses[4:10, :, -1].max()
    assert survivors(QUARTERS, losses, every, start, 32, every)[10:].all()
    losses[10:] = losses[10:, :, -1:]
    assert not survivors(QUARTERS, losses, every, start, 32, every)[10:].any()


def test_where_all_are_worse_than_their_start_none_is_eliminated() -> None:
    losses = np.full((13, 2, 2), 5.0)
    alive = np.arange(13) < 9
    assert survivors(QUARTERS, losses, alive, np.ones(2), 9, np.ones(13, bool)).tolist() == alive.tolist()


def test_best_by_epoch_is_over_all_that_were_alive_then() -> None:
    """Of a rate that was eliminated the early losses count; later it says nothing of its neighbours."""
    losses = np.array([[[3.0, 2.0, 1.0]], [[2.0, 1.9, 1.8]], [[1.0, np.nan, np.nan]]])
    found = statistics.best_by_epoch(np.array([1.0, 2.0, 4.0]), losses, np.full(1, 9.0), np.array([0, 0, 1]))
    assert found.tolist() == [4.0, 2.0, 1.0]


# --- words


def by_epoch(best: Any, epochs: int) -> Any:
    """A sweep whose best rate after each epoch is that of these numbers."""
    losses = np.full((5, 5, epochs), 2.0)
    losses += 0.2 * np.abs(np.arange(5)[:, None, None] - np.asarray(best))
    losses *= 1 + 0.01 * np.arange(5)[:, None]
    return made(losses[:, :, -1], rates=QUARTERS[:5], val_loss=losses, train_loss=losses)


@pytest.mark.parametrize(
    ("best", "words"),
    [
        ([3, 2, 2, 2], "the best rate is 0.00316 since epoch 2 of 4 (after the first it was 0.00562)"),
        ([2, 2, 2, 2], "the best rate is 0.00316 since epoch 1 of 4"),
        ([4, 3, 3, 1], "still moves: 0.01 after the first epochs, 0.00562 after 3, 0.00178 after 4; a longer training "
         "may want a smaller one"),
        ([1, 1, 2, 3], "may want a larger one"),
        ([2], "after one epoch"),
    ],
)  # fmt: skip
def test_the_note_says_what_this_sweep_shows(best: list[int], words: str) -> None:
    sweep = by_epoch(best, len(best))
    assert sweep.best_by_epoch.tolist() == QUARTERS[best].tolist()
    assert words in text.horizon(sweep)
    assert not any("favour small" in note for note in sweep.notes)


def test_a_boundary_nearby_is_said() -> None:
    losses = seeded(bowl(QUARTERS, 0.0316))
    losses[8:] = np.nan  # from 0.1 on, two quarters above
    sweep = made(losses, rates=QUARTERS)
    assert sweep.best_lr == QUARTERS[6]
    assert sweep.divergence_distance == pytest.approx(0.5)
    assert "diverges from 0.1 on, not yet at 0.0562; 0.5 decades above the best" in str(sweep)
    assert not any("safer" in note for note in sweep.notes)
    losses[7, 0] = np.nan
    losses[6] *= 0.1
    near = made(losses, rates=QUARTERS, start=1.0)
    assert near.best_lr == QUARTERS[6]
    assert near.divergence_distance == pytest.approx(0.25)
    note = next(note for note in near.notes if "safer" in note)
    assert "0.0562, is diverged (1 of 5): only 0.25 decades above it" in note
    assert made(seeded(bowl(QUARTERS, 0.03)), rates=QUARTERS).divergence_distance is None


# --- trainings


def test_repeated_sweeps_hold_the_truly_best_rate() -> None:
    """Twelve sweeps of five seeds against sixty others, as benchmarks/sweep_truth.py does with more."""
    rng = np.random.default_rng(5)
    X = rng.standard_normal((200, 5))
    y = np.sin(X[:, 0]) + X[:, 1] * X[:, 2] + 0.3 * rng.standard_normal(200)
    net = MLP([5, 16, 1], loss="mse", seed=0)
    net.standardize(X, y)
    rates, every = 10.0 ** (np.arange(-14, 1) / 4), np.ones(15, bool)
    found = lr_sweep(net, X, y, rates, seeds=120, epochs=12, batch_size=16)
    truth = int(np.argmin(found.val_loss[:, 60:, -1].mean(axis=1)))
    assert 3 <= truth <= 12
    held = kept = trained = 0
    for first in range(0, 60, 5):
        losses, start = found.val_loss[:, first : first + 5], found.start_loss[first : first + 5]
        eligible = (losses[:, :, -1] <= start).all(axis=1)
        inside = statistics.interval(compare(rates, losses[:, :, -1], eligible, float(start.mean())))
        alive = survivors(rates, losses[:, :, :4], every, start, 12, every)
        held, kept, trained = held + bool(inside[truth]), kept + bool(alive[truth]), trained + int(alive.sum())
        assert inside.sum() < 8
    assert held >= 10
    assert kept >= 11
    assert trained <= 0.6 * 12 * 15
