"""Schedules: each against PyTorch's or its formula, and the compiled steps against steps with those rates by hand."""

from __future__ import annotations

import math
import warnings
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from peers import lr_scheduler, needs, torch

from fastbp import MLP, SGD, Adam, schedules
from fastbp.training.rate_table import Plateau, RateTable

RNG = np.random.default_rng(8)
X = RNG.standard_normal((50, 4))
Y = RNG.integers(0, 3, 50)
STEPS = 5  # an epoch of 50 rows in batches of 10


def torch_rates(make: Any, n: int, **options: Any) -> list[float]:
    """Learning rates of a PyTorch schedule that is stepped n times."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1, **options)
    scheduler = make(optimizer)
    rates = []
    for _ in range(n):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


@needs("torch")
@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (schedules.Step(3, 0.5), lambda o: lr_scheduler.StepLR(o, 3, 0.5)),
        (schedules.MultiStep([2, 5], 0.3), lambda o: lr_scheduler.MultiStepLR(o, [2, 5], 0.3)),
        (schedules.Exponential(0.9), lambda o: lr_scheduler.ExponentialLR(o, 0.9)),
        (schedules.Polynomial(8, 2.0), lambda o: lr_scheduler.PolynomialLR(o, 8, 2.0)),
        (schedules.Cosine(12, end=0.1), lambda o: lr_scheduler.CosineAnnealingLR(o, 12, 0.01)),
        (schedules.Cosine(4, restarts=True), lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 4)),
        (
            schedules.Cosine(2, restarts=True, growth=2),
            lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 2, 2),
        ),
        (schedules.Warmup(4, start=0.25), lambda o: lr_scheduler.LinearLR(o, 0.25, 1.0, 4)),
    ],
    ids=lambda value: repr(value) if isinstance(value, schedules.Schedule) else "",
)
def test_against_pytorch_by_epochs(ours: schedules.Schedule, theirs: Any) -> None:
    np.testing.assert_allclose(0.1 * ours.factors(np.arange(12.0)), torch_rates(theirs, 12), rtol=1e-12, atol=1e-17)


def test_the_cosine_of_a_logarithm() -> None:
    for epochs, per_epoch in ((256, 3), (15, 1), (0.5, 40)):
        steps = np.arange(round(epochs * per_epoch) + 2)
        t = np.minimum(steps / (epochs * per_epoch), 1.0)
        expected = 0.5 - 0.5 * np.cos(2.0 * np.pi * np.log2(1.0 + 15.0 * t))
        found = schedules.CosLog(epochs).factors(steps.astype(float), per_epoch)
        np.testing.assert_allclose(found, expected, atol=1e-12)
        assert found[0] == found[-1] == found[-2] == 0.0
        assert found.max() <= 1.0
    np.testing.assert_array_equal(schedules.CosLog(3, cycles=2).factors(np.array([0.0, 1.0, 3.0])), 0.0)


@needs("torch")
@pytest.mark.parametrize("total", [1, 2, 3, 7, 10, 11, 40, 301])
@pytest.mark.parametrize("anneal", ["cos", "linear"])
@pytest.mark.parametrize("three_phase", [False, True])
@pytest.mark.parametrize("rise", [0.3, 0.45])
def test_one_cycle_is_pytorchs_at_every_step(total: int, anneal: Any, three_phase: bool, rise: float) -> None:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1, momentum=0.9)
    scheduler = lr_scheduler.OneCycleLR(
        optimizer, 0.1, total_steps=total, pct_start=rise, anneal_strategy=anneal, three_phase=three_phase
    )
    rates, momenta = [], []
    for step in range(total):
        rates.append(optimizer.param_groups[0]["lr"])
        momenta.append(optimizer.param_groups[0]["momentum"])
        optimizer.step()
        if step < total - 1:
            scheduler.step()
    for per_epoch in (1, 3, total):  # the same cycle in epochs of so many steps
        ours = schedules.OneCycle(total / per_epoch, rise=rise, anneal=anneal, three_phase=three_phase)
        found, with_momenta = RateTable(ours, 0.1, per_epoch).tables(0, 0, total + 5, 0)
        assert with_momenta is not None
        np.testing.assert_allclose(found[:total], rates, rtol=1e-12, atol=1e-16)
        np.testing.assert_allclose(with_momenta[:total], momenta, rtol=1e-12)
        np.testing.assert_array_equal(found[total:], found[total - 1])  # PyTorch raises there
    assert found[-1] == pytest.approx(0.1 / 25e4)


def test_one_cycle_has_its_peak_where_pytorch_divides_by_zero() -> None:
    found, momenta = RateTable(schedules.OneCycle(4, rise=0.25), 1.0, 1).tables(0, 0, 4, 0)
    assert momenta is not None
    np.testing.assert_allclose(found, [1.0, 0.750001, 0.250003, 4e-6], rtol=1e-6)
    np.testing.assert_allclose(momenta, [0.85, 0.875, 0.925, 0.95])


def test_a_cycle_that_follows_a_warmup_counts_its_own_steps() -> None:
    alone = RateTable(schedules.OneCycle(2), 1.0, STEPS).tables(0, 0, 2 * STEPS, 0)
    after = RateTable(schedules.Warmup(0.6, schedules.OneCycle(2)), 1.0, STEPS).tables(0, 3, 2 * STEPS, 3)
    np.testing.assert_allclose(after, alone, rtol=1e-15)


def rates_of(schedule: schedules.Schedule, per_epoch: int, epochs: int = 20) -> np.ndarray[Any, Any]:
    return RateTable(schedule, 1.0, per_epoch).tables(0, 0, epochs * per_epoch, 0)[0]


@pytest.mark.parametrize("per_epoch", [*range(2, 31), 49, 97, 100])
def test_lengths_that_are_fractions_of_an_epoch(per_epoch: int) -> None:
    """Of k steps each: whatever k / per_epoch is as a float."""
    for k in range(1, per_epoch):
        length, steps = k / per_epoch, np.arange(20 * per_epoch)
        np.testing.assert_array_equal(rates_of(schedules.Step(length, 0.5), per_epoch), 0.5 ** (steps // k))
        cosine = 0.5 * (1.0 + np.cos(np.pi * (steps % k / k)))
        found = rates_of(schedules.Cosine(length, restarts=True), per_epoch)
        np.testing.assert_allclose(found, cosine, rtol=0, atol=1e-13)
        np.testing.assert_array_equal(found == 1.0, steps % k == 0)
        milestones = [length, 3 * length, 7 * length]
        passed = np.searchsorted([k, 3 * k, 7 * k], steps, side="right")
        np.testing.assert_array_equal(rates_of(schedules.MultiStep(milestones, 0.5), per_epoch), 0.5**passed)
        warm = rates_of(schedules.Warmup(length, schedules.Step(length, 0.5), start=0.25), per_epoch)
        rising = 0.25 + 0.75 * (steps / k)
        np.testing.assert_array_equal(warm, np.where(steps < k, rising, 0.5 ** np.maximum(steps // k - 1, 0)))
        grown = rates_of(schedules.Cosine(length, restarts=True, growth=2), per_epoch)
        begins = [k * (2**cycle - 1) for cycle in range(12)]
        assert np.flatnonzero(grown == 1.0).tolist() == [step for step in begins if step < len(grown)]


@pytest.mark.parametrize("per_epoch", [3, 5, 7, 11, 32])
def test_lengths_that_end_within_a_step(per_epoch: int) -> None:
    """Against rational arithmetic; a warm-up of such a length does not move what follows off its steps."""
    for tenths in range(1, 31):
        length = Fraction(tenths, 10) * per_epoch
        expected = [0.5 ** (step // length) for step in range(20 * per_epoch)]
        np.testing.assert_array_equal(rates_of(schedules.Step(tenths / 10, 0.5), per_epoch), expected)
        tenth = Fraction(per_epoch, 10)
        after = [0.5 ** ((step - length) // tenth) for step in range(20 * per_epoch) if step >= length]
        found = rates_of(schedules.Warmup(tenths / 10, schedules.Step(0.1, 0.5)), per_epoch)
        np.testing.assert_array_equal(found[-len(after) :], after)


def test_a_length_that_is_no_simple_fraction() -> None:
    length = math.sqrt(2.0)
    expected = 0.5 ** np.floor(np.arange(60) / (3 * length))
    np.testing.assert_array_equal(rates_of(schedules.Step(length, 0.5), 3), expected)
    third = np.float32(1 / 3)
    assert rates_of(schedules.Step(third, 0.5), 3, 1).tolist() == [1.0, 1.0, 0.5]  # a little more than a third


def test_a_cycle_that_grows_by_a_fraction_begins_on_its_step() -> None:
    found = rates_of(schedules.Cosine(1, restarts=True, growth=1.1), 10, 5)
    assert np.flatnonzero(found == 1.0).tolist() == [0, 10, 21]  # and within the steps after 33.1 and 46.41
    assert np.flatnonzero(np.diff(found) > 0.1).tolist() == [9, 20, 33, 46]


def test_a_warmup_over_one_step_loses_no_step() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        net = MLP([4, 6, 3], seed=0)
        before = net.weights[0]
        history = net.fit(X, Y, epochs=1, batch_size=50, optimizer=SGD(lr=0.1), schedule=schedules.Warmup(1))
    assert history.lr == [0.05]
    assert not np.array_equal(net.weights[0], before)
    assert rates_of(schedules.Warmup(1, schedules.Exponential(0.5)), 1, 4).tolist() == [0.5, 1.0, 0.5, 0.25]
    assert rates_of(schedules.Warmup(0.1), 4, 1).tolist() == [0.5, 1.0, 1.0, 1.0]
    assert rates_of(schedules.Warmup(1, start=0.25), 1, 2).tolist() == [0.25, 1.0]


@pytest.mark.parametrize(("per_epoch", "length", "counted"), [(5, 0.6, 0), (10, 0.7, 0), (5, 1.2, 1), (5, 1.0, 1)])
def test_a_plateau_counts_from_the_first_epoch_that_ends_after_the_warmup(
    per_epoch: int, length: float, counted: int
) -> None:
    recipe = schedules.Warmup(0.1, schedules.Warmup(length - 0.1, schedules.ReduceOnPlateau(0.5, patience=0)))
    plan = RateTable(recipe, 1.0, per_epoch)
    plan.replay([1.0] * counted)
    assert plan.plateau is not None
    assert math.isinf(plan.plateau.best)
    plan.replay([1.0] * (counted + 1))
    assert plan.plateau.best == 1.0


@needs("torch")
def test_reduce_on_plateau_against_pytorch() -> None:
    values = [3.0, 2.0, 2.0, 2.0, 2.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.99995, 0.9, 0.9, 0.9, 0.9]
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    theirs = lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=2, min_lr=0.2)
    ours = Plateau(schedules.ReduceOnPlateau(0.5, 2, min_factor=0.2))
    for value in values:
        theirs.step(value)
        ours.observe(value)
        assert ours.factor == pytest.approx(optimizer.param_groups[0]["lr"])


def test_a_plateau_never_raises_the_rate() -> None:
    with pytest.raises(ValueError, match="min_factor must be at most 1, for the rate is to fall"):
        schedules.ReduceOnPlateau(min_factor=2)
    assert schedules.ReduceOnPlateau(min_factor=1).min_factor == 1.0


def test_a_plateau_of_negative_losses() -> None:
    state = Plateau(schedules.ReduceOnPlateau(0.5, 1))
    for value in (-1.0, -2.0, -3.0):
        state.observe(value)
    assert (state.best, state.factor) == (-3.0, 1.0)


def test_formulas() -> None:
    points = np.array([0.0, 0.5, 3.0])
    np.testing.assert_allclose(schedules.InverseTime(2.0).factors(points), [1, 1 / 2, 1 / 7])
    np.testing.assert_allclose(schedules.InverseSqrt().factors(points), [1, 1.5**-0.5, 1 / 2])
    then = schedules.Warmup(2, schedules.Exponential(0.5))
    np.testing.assert_allclose(then.factors(np.array([0.0, 1.0, 2.0, 4.0])), [0, 0.5, 1, 0.25])


@pytest.mark.parametrize("optimizer", [SGD(lr=0.2, momentum=0.9), Adam(lr=0.02), SGD(lr=0.2, weight_decay=0.01)])
@pytest.mark.parametrize("kind", ["cosine", "one cycle", "callable"])
def test_fit_takes_the_steps_that_the_schedule_says(optimizer: Any, kind: str) -> None:
    """Bit for bit, against single steps whose rates and momenta are set by hand."""
    schedule: Any = {
        "cosine": schedules.Cosine(4), "one cycle": schedules.OneCycle(4), "callable": lambda step: 0.1 / (1 + step)
    }[kind]  # fmt: skip
    net, by_hand = MLP([4, 6, 3], seed=0, dtype="float64"), MLP([4, 6, 3], seed=0, dtype="float64")
    history = net.fit(X, Y, epochs=3, batch_size=10, optimizer=optimizer, schedule=schedule, shuffle=False)
    rates = []
    for step in range(3 * STEPS):
        if kind == "callable":
            lr, momentum = schedule(step), None
        else:
            point = np.array([float(step)])
            lr = optimizer.lr * float(schedule.factors(point, STEPS)[0])
            momenta = schedule.momenta(point, STEPS)
            momentum = None if momenta is None else float(momenta[0])
        rates.append(lr)
        changes: dict[str, Any] = {"lr": lr}
        if momentum is not None and getattr(optimizer, "momentum", 0):
            changes["momentum"] = momentum
        elif momentum is not None and isinstance(optimizer, Adam):
            changes["betas"] = (momentum, optimizer.betas[1])
        rows = slice(step % STEPS * 10, step % STEPS * 10 + 10)
        by_hand.train_step(X[rows], Y[rows], type(optimizer)(**{**vars(optimizer), **changes}))
    for one, other in zip([*net.weights, *net.biases], [*by_hand.weights, *by_hand.biases], strict=True):
        np.testing.assert_array_equal(one, other)
    assert history.lr == pytest.approx(rates[STEPS - 1 :: STEPS], rel=0)


@pytest.mark.parametrize("schedule", [schedules.Cosine(6, restarts=True), schedules.Warmup(2, schedules.Step(1))])
def test_two_fits_are_one_long_fit(schedule: Any) -> None:
    twice, once = MLP([4, 6, 3], seed=0), MLP([4, 6, 3], seed=0)
    losses = [twice.fit(X, Y, epochs=3, batch_size=8, schedule=schedule, threads=threads) for threads in (1, 2)]
    assert losses[0].loss + losses[1].loss == once.fit(X, Y, epochs=6, batch_size=8, schedule=schedule).loss


def test_rates_do_not_depend_on_where_chunks_begin() -> None:
    plan = RateTable(schedules.Cosine(11), 0.1, 7)
    whole = plan.tables(0, 0, 70, 0)[0]
    for cut in range(1, 70):
        parts = [plan.tables(0, 0, cut, 0)[0], plan.tables(cut // 7, cut % 7, 70 - cut, cut)[0]]
        np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_without_a_schedule_nothing_lingers() -> None:
    net, other = MLP([4, 6, 3], seed=0), MLP([4, 6, 3], seed=0)
    for one, schedule in ((net, schedules.Constant()), (other, None)):
        one.fit(X, Y, epochs=2, optimizer=SGD(lr=0.1), schedule=schedule)
    assert net.fit(X, Y, epochs=1, optimizer=SGD(lr=0.1)).loss == other.fit(X, Y, epochs=1, optimizer=SGD(lr=0.1)).loss
    net.fit(X, Y, epochs=1, optimizer=SGD(lr=0.1), schedule=schedules.Exponential(1.0))
    other.fit(X, Y, epochs=1, optimizer=SGD(lr=0.1))
    assert net.train_step(X, Y, SGD(lr=0.1)) == other.train_step(X, Y, SGD(lr=0.1))
    np.testing.assert_array_equal(net.weights[0], other.weights[0])


def test_plateau_in_fit_lowers_the_rate() -> None:
    recipe = schedules.ReduceOnPlateau(0.5, patience=1, threshold=0.9)
    history = MLP([4, 6, 3], seed=0).fit(X, Y, epochs=6, optimizer=SGD(lr=1e-4), schedule=recipe)
    assert history.lr == pytest.approx([1e-4, 1e-4, 1e-4, 5e-5, 5e-5, 2.5e-5])


def test_a_warmup_before_a_plateau() -> None:
    """Its epochs are no part of what the plateau sees: no improvement counts only from the third epoch on."""
    recipe = schedules.Warmup(1.5, schedules.ReduceOnPlateau(0.5, patience=1, threshold=0.9), start=0.5)
    net = MLP([4, 6, 3], seed=0)
    history = net.fit(X, Y, epochs=7, batch_size=10, optimizer=SGD(lr=1e-4), schedule=recipe)
    rising = [0.5 + 0.5 * 0.8 / 1.5, 1.0]  # of the last steps of two epochs
    # The second epoch ends after the warm-up and is the best; the third and fourth are no better.
    factors = [*rising, 1.0, 1.0, 0.5, 0.5, 0.25]
    assert history.lr == pytest.approx([1e-4 * factor for factor in factors])
    again = net.fit(X, Y, epochs=3, batch_size=10, optimizer=SGD(lr=1e-4), schedule=recipe)
    assert again.lr == pytest.approx([1e-4] * 3)  # the warm-up is over, the plateau counts anew


def test_a_warmup_before_a_plateau_is_the_plateau_from_there_on() -> None:
    plateau = schedules.ReduceOnPlateau(0.5, patience=0, threshold=0.3)
    warm, plain = MLP([4, 6, 3], seed=0), MLP([4, 6, 3], seed=0)
    options: dict[str, Any] = {"batch_size": 10, "optimizer": SGD(lr=0.3)}
    history = warm.fit(X, Y, epochs=8, schedule=schedules.Warmup(2, plateau), **options)
    first = plain.fit(X, Y, epochs=2, schedule=schedules.Warmup(2), **options)
    then = plain.fit(X, Y, epochs=6, schedule=plateau, **options)
    assert history.loss == first.loss + then.loss
    assert history.lr == first.lr + then.lr
    assert min(history.lr) < 0.1
    for one, other in zip(warm.weights, plain.weights, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_plateau_after_a_warmup_needs_what_it_watches() -> None:
    recipe = schedules.Warmup(1, schedules.ReduceOnPlateau(monitor="val_loss"))
    with pytest.raises(ValueError, match="needs validation_data"):
        MLP([4, 6, 3], seed=0).fit(X, Y, epochs=1, schedule=recipe)
    with pytest.raises(ValueError, match="steps_per_epoch"):
        MLP([4, 6, 3], seed=0).fit([(X, Y)], None, epochs=2, schedule=recipe, validation_data=(X, Y))


def test_a_warmup_before_a_function() -> None:
    """The function is asked for the steps that it would be asked for alone, and its rates rise to full size."""
    asked: list[int] = []

    def rate(step: int) -> float:
        asked.append(step)
        return 0.1 / (1 + step)

    plan = RateTable(schedules.Warmup(2, rate, start=0.5), 123.0, STEPS)
    parts = [plan.tables(0, 0, 7, 0), plan.tables(1, 2, 8, 7)]
    assert [momenta for _, momenta in parts] == [None, None]
    assert asked == list(range(15))
    ramp = [0.5 + 0.5 * min(step / 10, 1.0) for step in range(15)]
    expected = [0.1 / (1 + step) * ramp[step] for step in range(15)]
    np.testing.assert_allclose(np.concatenate([rates for rates, _ in parts]), expected, rtol=1e-15)
    bad = schedules.Warmup(1, lambda step: -1.0)
    with pytest.raises(ValueError, match=r"schedule\(0\) must be finite and at least 0, got -1.0"):
        MLP([4, 6, 3], seed=0).fit(X, Y, epochs=1, schedule=bad)


def test_a_function_after_a_warmup_is_shown_by_its_name() -> None:
    """By its address, a checkpoint would be refused in another process."""
    shown = repr(schedules.Warmup(1, test_formulas))
    assert shown == "Warmup(epochs=1.0, then=test_formulas, start=0.0)"
    assert repr(schedules.Warmup(1)) == "Warmup(epochs=1.0, then=Constant(), start=0.0)"


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: schedules.Step(0), "size"),
        (lambda: schedules.MultiStep([3, 2]), "milestones"),
        (lambda: schedules.Exponential(-1.0), "gamma"),
        (lambda: schedules.Polynomial(0), "epochs"),
        (lambda: schedules.Cosine(5, growth=0.5), "growth"),
        (lambda: schedules.OneCycle(5, momentum=(0.9, 0.8)), "momentum"),
        (
            lambda: schedules.OneCycle(5, momentum=0.9),
            r"momentum must be None or two rising .* \(0.85, 0.95\), got 0.9",
        ),
        (lambda: schedules.OneCycle(5, momentum=(0.9,)), r"momentum must be None or two rising .*, got \(0.9,\)"),
        (lambda: schedules.OneCycle(5, momentum=("a", "b")), r"momentum\[0\] must be a number in \(0, 1\).*'a'"),
        (lambda: schedules.OneCycle(5, rise=1.0), r"rise must be a number in \(0, 1\), both ends apart, got 1.0"),
        (lambda: schedules.OneCycle(5, rise=0.0), r"rise must be a number in \(0, 1\), both ends apart, got 0.0"),
        (lambda: schedules.OneCycle(5, anneal="line"), "anneal='line' is unknown .*choose from cos, linear"),
        (lambda: schedules.OneCycle(5, three_phase=2), "three_phase must be True or False, got 2"),
        (lambda: schedules.MultiStep(5), r"milestones must list the epochs .* \[30, 60\], got 5"),
        (lambda: schedules.Warmup(5, 0.1), "then must be one of fastbp.schedules, or a function step -> lr, got 0.1"),
        (lambda: schedules.Warmup(5, schedules.Cosine), "then must be"),
        (lambda: schedules.ReduceOnPlateau(1.5), "factor"),
        (lambda: schedules.ReduceOnPlateau(patience=-1), "patience must be an integer of at least 0, got -1"),
        (lambda: schedules.ReduceOnPlateau(patience=None), "patience must be an integer of at least 0, got None"),
        (lambda: schedules.InverseTime(math.nan), "decay"),
    ],
)
def test_bad_settings(make: Any, name: str) -> None:
    with pytest.raises((ValueError, TypeError), match=name):
        make()


def test_a_callable_that_returns_nonsense() -> None:
    with pytest.raises(ValueError, match=r"schedule\(3\) must be finite and at least 0, got -1.0"):
        MLP([4, 6, 3], seed=0).fit(X, Y, epochs=1, batch_size=10, schedule=lambda step: 0.1 if step < 3 else -1.0)
